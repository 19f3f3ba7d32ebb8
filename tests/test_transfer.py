"""Importing vectors that clip-retrieval and rclip made: what is taken, and what is refused."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from children import Nursery, Say, nursery
from foreign import (
    CountingEncoder,
    float16,
    stored_vectors,
    vectors_for,
    write_clip_retrieval,
    write_rclip,
)
from PIL import Image
from support import age, open_colour, write_picture, write_pictures, write_text
from test_cli import Shell, rows

import xsearch
from xsearch.indexer.imports import model_name, open_source, recorded_model
from xsearch.indexer.imports.folders import common_folders
from xsearch.indexer.imports.take import SAMPLE
from xsearch.transfer import encoder_for_import

COUNT = 40


@pytest.fixture
def pictures(photos: Path) -> list[Path]:
    return write_pictures(photos, COUNT)


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[tuple[xsearch.Library, CountingEncoder]]:
    """An empty library, and its encoder, which counts."""
    encoder = CountingEncoder()
    with xsearch.open(tmp_path / "library", encoder=encoder) as opened:
        yield opened, encoder


def foreign(folder: Path, pictures: list[Path], vectors: np.ndarray | None = None) -> Path:
    """clip-retrieval's folder for pictures, named by absolute paths, in one shard."""
    made = vectors_for(pictures) if vectors is None else vectors
    return write_clip_retrieval(folder, [([str(path) for path in pictures], made)])


def is_empty(library: xsearch.Library) -> bool:
    status = library.status()
    return not status.items["image"] and not status.roots and status.encoder is None


# What is taken


def test_pictures_get_the_vectors_of_clip_retrieval_and_are_not_embedded(
    tmp_path: Path, pictures: list[Path], counting: tuple[xsearch.Library, CountingEncoder]
) -> None:
    library, encoder = counting
    vectors = vectors_for(pictures)
    names = [str(path) for path in pictures]
    shards = [(names[:15], vectors[:15]), (names[15:], vectors[15:])]
    source = write_clip_retrieval(tmp_path / "emb", shards, digits=2)
    write_text(pictures[3].with_suffix(".txt"), "a text beside it")

    report = library.import_embeddings("clip-retrieval", source)

    assert (report.added, report.imported, report.embedded) == (COUNT, COUNT, 1)
    assert report.texts == 1
    assert encoder.embedded == SAMPLE
    assert stored_vectors(library) == dict(
        zip([path.name for path in pictures], float16(vectors), strict=True)
    )
    assert library.search(xsearch.Image(pictures[7]), k=1)[0].path == pictures[7]
    assert library.status().last_run["command"] == "import"
    assert library.check().ok


def test_importing_again_reads_nothing(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    source = foreign(tmp_path / "emb", pictures)
    library.import_embeddings("clip-retrieval", source)
    report = library.import_embeddings("clip-retrieval", source)
    assert (report.unchanged, report.decoded, report.imported) == (COUNT, 0, 0)


def test_a_picture_without_a_vector_is_embedded(
    tmp_path: Path, pictures: list[Path], counting: tuple[xsearch.Library, CountingEncoder]
) -> None:
    library, encoder = counting
    report = library.import_embeddings(
        "clip-retrieval", foreign(tmp_path / "emb", pictures[: COUNT - 5])
    )
    assert (report.added, report.imported, report.embedded) == (COUNT, COUNT - 5, 5)
    assert encoder.embedded == SAMPLE + 5


def test_pictures_that_are_gone_cost_nothing(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    source = foreign(tmp_path / "emb", pictures)
    for path in pictures[::4]:
        path.unlink()
    report = library.import_embeddings("clip-retrieval", source)
    assert (report.added, report.imported, report.failed) == (30, 30, 0)


def test_the_same_content_twice_has_one_vector(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    twin = pictures[0].with_name("zz.jpg")
    shutil.copy2(pictures[0], twin)
    report = library.import_embeddings("clip-retrieval", foreign(tmp_path / "emb", pictures))
    assert (report.added, report.imported, report.embedded) == (COUNT + 1, COUNT, 0)


def test_only_the_paths_asked_for_are_indexed(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    source = foreign(tmp_path / "emb", pictures)
    report = library.import_embeddings("clip-retrieval", source, pictures[:3])
    assert (report.added, report.imported) == (3, 3)
    assert len(library.status().roots) == 3


def test_relative_paths_start_where_clip_retrieval_was_run(
    tmp_path: Path,
    pictures: list[Path],
    library: xsearch.Library,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"photos/{path.name}" for path in pictures]
    source = write_clip_retrieval(tmp_path / "emb", [(names, vectors_for(pictures))])
    with pytest.raises(xsearch.SourceError, match="--images"):
        library.import_embeddings("clip-retrieval", source)
    monkeypatch.chdir(tmp_path)
    assert library.import_embeddings("clip-retrieval", source).imported == COUNT


def test_odd_paths_are_only_not_found(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    odd = ["", "/", "x" * 5_000, "a\0b.jpg", "/dev/zero", "https://example.org/a.jpg", "."]
    names = [*odd, *map(str, pictures)]
    vectors = np.concatenate([np.ones((len(odd), 48)), vectors_for(pictures)])
    source = write_clip_retrieval(tmp_path / "emb", [(names, vectors)])
    assert library.import_embeddings("clip-retrieval", source).imported == COUNT
    assert [root.path for root in library.status().roots] == [pictures[0].parent]
    with pytest.raises(xsearch.SourceError, match="there is no such folder"):
        library.import_embeddings("clip-retrieval", source, images=tmp_path / "nowhere")


@pytest.mark.parametrize("recorded", ["photos/{}", "/data/on/another/{}", "D:\\photos\\{}", "{}"])
def test_images_says_where_the_pictures_are_now(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library, recorded: str
) -> None:
    names = [recorded.format(path.name) for path in pictures]
    source = write_clip_retrieval(tmp_path / "emb", [(names, vectors_for(pictures))])
    report = library.import_embeddings("clip-retrieval", source, images=pictures[0].parent)
    assert (report.imported, report.embedded) == (COUNT, 0)


def test_names_out_of_tar_files_stand_for_pictures_of_any_suffix(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    source = write_clip_retrieval(
        tmp_path / "emb", [([path.stem for path in pictures], vectors_for(pictures))]
    )
    report = library.import_embeddings("clip-retrieval", source, images=pictures[0].parent)
    assert (report.imported, report.embedded) == (COUNT, 0)


def test_vectors_of_any_length_are_scaled(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    vectors = vectors_for(pictures)
    library.import_embeddings("clip-retrieval", foreign(tmp_path / "emb", pictures, vectors * 7))
    for path, row in stored_vectors(library).items():
        found = np.frombuffer(row, "<f2").astype(np.float32)
        assert abs(np.linalg.norm(found) - 1) < 1e-3, path


def test_zero_and_infinite_vectors_are_made_anew_and_counted(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    vectors = vectors_for(pictures)
    vectors[0], vectors[1, 5], vectors[2, 7] = 0, np.nan, np.inf
    report = library.import_embeddings(
        "clip-retrieval", foreign(tmp_path / "emb", pictures, vectors)
    )
    assert (report.imported, report.embedded) == (COUNT - 3, 3)
    assert report.warnings == (
        "3 of the vectors of clip-retrieval not taken: zero or not finite; their pictures were "
        "embedded",
    )
    assert len(stored_vectors(library)) == COUNT


def test_a_picture_on_its_side_is_embedded_upright(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = [write_picture(pictures[0].with_name(f"t{at}.jpg"), at, exif=exif) for at in (90, 91)]
    everything = pictures + turned
    report = library.import_embeddings("clip-retrieval", foreign(tmp_path / "emb", everything))
    assert (report.imported, report.embedded) == (COUNT, 2)
    assert any("lying on their side" in warning for warning in report.warnings)


# The model


def test_vectors_of_another_model_are_refused_before_anything_is_written(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    vectors = np.random.default_rng(0).normal(size=(COUNT, 48))
    source = foreign(tmp_path / "emb", pictures, vectors)
    with pytest.raises(xsearch.EncoderMismatchError, match=r"colour.*median cosine of -?0\.\d+"):
        library.import_embeddings("clip-retrieval", source)
    assert is_empty(library)


def test_vectors_of_pictures_decoded_in_another_way_are_recognised(
    tmp_path: Path, shared_data: Path, photos: Path
) -> None:
    builtin = xsearch.open(tmp_path / "library", encoder="builtin")
    names = sorted((shared_data / "photos").rglob("*.jpg"))[:SAMPLE]
    large = []
    for path in names:
        # Large enough for JPEG to be decoded at a reduced scale.
        with Image.open(path) as image:
            size = (image.width * 4, image.height * 4)
            image.convert("RGB").resize(size).save(photos / path.name)
        large.append(photos / path.name)
    vectors = vectors_for(large, builtin.encoder)
    with builtin:
        with pytest.raises(xsearch.EncoderMismatchError):
            builtin.import_embeddings(
                "clip-retrieval", foreign(tmp_path / "other", large, vectors[::-1])
            )
        report = builtin.import_embeddings(
            "clip-retrieval", foreign(tmp_path / "emb", large, vectors)
        )
    assert (report.imported, report.embedded) == (SAMPLE, 0)


def test_vectors_in_another_order_than_the_pictures_are_refused(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    source = foreign(tmp_path / "emb", pictures, np.roll(vectors_for(pictures), 1, axis=0))
    with pytest.raises(xsearch.EncoderMismatchError):
        library.import_embeddings("clip-retrieval", source)


def test_vectors_of_two_models_mixed_are_refused(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    vectors = vectors_for(pictures)
    vectors[:16] = np.random.default_rng(0).normal(size=(16, 48))
    with pytest.raises(xsearch.EncoderMismatchError, match=r"a quarter -?0\."):
        library.import_embeddings("clip-retrieval", foreign(tmp_path / "emb", pictures, vectors))


def test_a_wrong_number_of_dimensions_is_refused(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    source = foreign(tmp_path / "emb", pictures, np.ones((COUNT, 512)))
    with pytest.raises(xsearch.EncoderMismatchError, match="512 dimensions, colour makes 48"):
        library.import_embeddings("clip-retrieval", source)
    assert is_empty(library)


def test_a_library_of_another_encoder_stays_as_it_is(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    library.index(pictures[:2])
    with (
        xsearch.open(library.path, encoder="builtin") as other,
        pytest.raises(xsearch.EncoderMismatchError, match=r"xsearch reindex.*--library"),
    ):
        other.import_embeddings("clip-retrieval", foreign(tmp_path / "emb", pictures))
    assert library.status().items["image"] == 2


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("ViT-B/32", "ViT-B-32-quickgelu/openai"),
        ("ViT-L/14@336px", "ViT-L-14-336-quickgelu/openai"),
        ("open_clip:ViT-H-14/laion2b_s32b_b79k", "ViT-H-14/laion2b_s32b_b79k"),
        ("ViT-B-32/openai", "ViT-B-32/openai"),
        ("tiny", "tiny"),
    ],
)
def test_models_go_by_the_names_that_clip_retrieval_gives_them(theirs: str, ours: str) -> None:
    assert model_name(theirs) == ours


# Damage


def cut_short(source: Path) -> None:
    path = source / "img_emb" / "img_emb_0.npy"
    path.write_bytes(path.read_bytes()[:1_000])


def empty(source: Path) -> None:
    (source / "img_emb" / "img_emb_0.npy").write_bytes(b"")


def pickled(source: Path) -> None:
    path = source / "img_emb" / "img_emb_0.npy"
    path.write_bytes(pickle.dumps(_Trap()))


def objects(source: Path) -> None:
    traps = np.array([[_Trap()]] * COUNT, dtype=object)
    np.save(source / "img_emb" / "img_emb_0.npy", traps, allow_pickle=True)


def flat(source: Path) -> None:
    np.save(source / "img_emb" / "img_emb_0.npy", np.ones(COUNT, np.float16))


def too_few(source: Path) -> None:
    np.save(source / "img_emb" / "img_emb_0.npy", np.ones((COUNT - 1, 48), np.float16))


def other_dimension(source: Path) -> None:
    np.save(source / "img_emb" / "img_emb_1.npy", np.ones((1, 64), np.float16))
    table = pa.table({"image_path": ["a.jpg"]})
    pq.write_table(table, source / "metadata" / "metadata_1.parquet")


def without_paths(source: Path) -> None:
    table = pa.table({"caption": ["a caption"] * COUNT})
    pq.write_table(table, source / "metadata" / "metadata_0.parquet")


def no_parquet(source: Path) -> None:
    (source / "metadata" / "metadata_0.parquet").write_bytes(b"PAR1" + bytes(500))


def half_a_parquet(source: Path) -> None:
    """Pages are damaged, though the footer is not."""
    path = source / "metadata" / "metadata_0.parquet"
    raw = bytearray(path.read_bytes())
    raw[4:200] = os.urandom(196)
    path.write_bytes(raw)


def without_metadata(source: Path) -> None:
    (source / "metadata" / "metadata_0.parquet").unlink()


def without_vectors(source: Path) -> None:
    shutil.rmtree(source / "img_emb")


class _Trap:
    """Loading its pickle makes a file."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open, ("pickle-was-loaded", "w")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (cut_short, "img_emb_0.npy"),
        (empty, "img_emb_0.npy"),
        (pickled, "img_emb_0.npy"),
        (objects, "img_emb_0.npy"),
        (flat, "img_emb_0.npy"),
        (too_few, "40 rows for the 39 vectors of img_emb_0.npy"),
        (other_dimension, "img_emb_1.npy: 64 dimensions"),
        (without_paths, "metadata_0.parquet: has no column image_path"),
        (no_parquet, "metadata_0.parquet"),
        (half_a_parquet, "metadata_0.parquet"),
        (without_metadata, "img_emb_0.npy"),
        (without_vectors, "no .npy file"),
    ],
)
def test_damage_is_told_by_file_and_nothing_is_written(
    tmp_path: Path,
    pictures: list[Path],
    library: xsearch.Library,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    source = foreign(tmp_path / "emb", pictures)
    damage(source)
    with pytest.raises(xsearch.SourceError, match=named):
        library.import_embeddings("clip-retrieval", source)
    assert is_empty(library)
    assert not Path("pickle-was-loaded").exists()


def test_without_pyarrow_the_message_has_the_pip_line(
    tmp_path: Path,
    pictures: list[Path],
    library: xsearch.Library,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = foreign(tmp_path / "emb", pictures)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(xsearch.MissingExtraError, match=r"pip install 'xsearch-engine\[parquet\]'"):
        library.import_embeddings("clip-retrieval", source)


# Killed


def job_import(say: Say, library: str, source: str, tell: int | None = None) -> dict[str, Any]:
    """Import; says when `tell` files were read."""

    def progress(now: xsearch.Progress) -> None:
        if now.stage == "embed" and now.done == tell:
            say("read", now.done)

    from xsearch.indexer import run

    # A commit after every few pictures.
    run._MAX_OUTCOMES = 5
    with open_colour(Path(library)) as opened:
        return opened.import_embeddings(
            "clip-retrieval", source, workers=2, progress=progress
        ).to_dict()


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_an_import_that_is_killed_goes_on_where_it_was(
    children: Nursery, tmp_path: Path, pictures: list[Path]
) -> None:
    source = foreign(tmp_path / "emb", pictures)
    folder = tmp_path / "library"
    arguments = {"library": folder, "source": source}
    child = children.start("test_transfer.job_import", **arguments, tell=COUNT // 2)
    child.until("read")
    child.kill()
    report = children.start("test_transfer.job_import", **arguments).result()
    assert 0 < report["imported"] < COUNT
    assert report["unchanged"] + report["added"] == COUNT
    assert report["embedded"] == 0
    with open_colour(folder) as library:
        assert list(stored_vectors(library).values()) == float16(vectors_for(pictures))
        assert library.check().ok


# rclip


def test_pictures_get_the_vectors_of_rclip_and_are_not_embedded(
    tmp_path: Path, pictures: list[Path], counting: tuple[xsearch.Library, CountingEncoder]
) -> None:
    library, encoder = counting
    vectors = vectors_for(pictures)
    database = write_rclip(tmp_path / "rclip" / "db.sqlite3", pictures, vectors)
    before = database.read_bytes()
    report = library.import_embeddings("rclip", database)
    assert (report.added, report.imported, report.embedded) == (COUNT, COUNT, 0)
    assert encoder.embedded == SAMPLE
    assert list(stored_vectors(library).values()) == float16(vectors)
    assert database.read_bytes() == before


def test_a_picture_changed_since_rclip_saw_it_is_embedded(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    database = write_rclip(tmp_path / "db.sqlite3", pictures, vectors_for(pictures))
    age(pictures[0], 60)
    write_picture(pictures[1], 77)
    report = library.import_embeddings("rclip", database)
    assert (report.imported, report.embedded) == (COUNT - 2, 2)
    assert any("changed since" in warning for warning in report.warnings)
    fresh = vectors_for([pictures[1]])
    assert stored_vectors(library)[pictures[1].name] == float16(fresh)[0]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_folder_given_by_a_link_is_the_folder_that_rclip_saw(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    database = write_rclip(tmp_path / "db.sqlite3", pictures, vectors_for(pictures))
    link = tmp_path / "link"
    link.symlink_to(pictures[0].parent)
    report = library.import_embeddings("rclip", database, link)
    assert (report.imported, report.embedded) == (COUNT, 0)
    assert library.status().roots[0].path == link


def test_what_rclip_marks_as_gone_or_left_damaged_is_embedded(
    tmp_path: Path, pictures: list[Path], library: xsearch.Library
) -> None:
    database = write_rclip(tmp_path / "db.sqlite3", pictures, vectors_for(pictures))
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE images SET deleted = 1 WHERE id = 1")
        connection.execute("UPDATE images SET vector = x'00112233' WHERE id = 2")
        connection.execute("UPDATE images SET vector = 'text' WHERE id = 3")
        connection.execute("UPDATE images SET modified_at = 'never' WHERE id = 4")
    report = library.import_embeddings("rclip", database)
    assert (report.imported, report.embedded) == (COUNT - 4, 4)


@pytest.mark.parametrize(
    ("version", "model"),
    [
        (1, "ViT-B-32-quickgelu/openai"),
        (2, "ViT-B-32-quickgelu/openai"),
        (3, "ViT-B-32-256/datacomp_s34b_b86k"),
        (4, "ViT-B-32-256/datacomp_s34b_b86k"),
        (99, None),
    ],
)
def test_the_version_of_rclip_says_which_model_it_used(
    tmp_path: Path, pictures: list[Path], version: int, model: str | None
) -> None:
    vectors = np.ones((COUNT, 512))
    database = write_rclip(tmp_path / "db.sqlite3", pictures, vectors, version)
    assert recorded_model("rclip", database) == model
    assert encoder_for_import("rclip", database, "ViT-B/32") == "ViT-B-32-quickgelu/openai"
    with open_source("rclip", database) as source:
        assert (source.count, source.dim) == (COUNT, 512)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the place on Linux")
def test_rclips_database_is_found_where_it_keeps_it(
    tmp_path: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RCLIP_DATADIR", raising=False)
    with pytest.raises(xsearch.SourceError, match="no database of rclip"):
        open_source("rclip", None)
    vectors = vectors_for(pictures)
    snap = tmp_path / "snap/rclip/current/.local/share/rclip"
    for folder in (snap, tmp_path / ".local/share/rclip", tmp_path / "chosen"):
        if folder.name == "chosen":
            monkeypatch.setenv("RCLIP_DATADIR", str(folder))
        database = write_rclip(folder / "db.sqlite3", pictures, vectors)
        with open_source("rclip", None) as source:
            assert source.place == database


@pytest.mark.parametrize("content", [b"", b"no database" * 100, None])
def test_what_is_no_database_of_rclip_is_refused(
    tmp_path: Path, library: xsearch.Library, content: bytes | None
) -> None:
    path = tmp_path / "db.sqlite3"
    if content is None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE images (id INTEGER, vector BLOB)")
    else:
        path.write_bytes(content)
    with pytest.raises(xsearch.SourceError, match=r"db\.sqlite3"):
        library.import_embeddings("rclip", path)
    with pytest.raises(xsearch.SourceError, match="no such database"):
        library.import_embeddings("rclip", tmp_path / "elsewhere")


def test_arguments_that_a_kind_has_no_use_for_are_refused(
    tmp_path: Path, library: xsearch.Library
) -> None:
    with pytest.raises(xsearch.UsageError, match="no use for a folder of images"):
        library.import_embeddings("rclip", tmp_path, images=tmp_path)
    with pytest.raises(xsearch.UsageError, match="name the folder"):
        library.import_embeddings("clip-retrieval")
    with pytest.raises(xsearch.UsageError, match="clip-retrieval, rclip"):
        library.import_embeddings("immich", tmp_path)  # type: ignore[arg-type]


# Which folders


def test_the_common_folder_is_found_and_none_too_wide(tmp_path: Path) -> None:
    home = tmp_path / "home" / "u"
    folders = ("Pictures/2020/a", "Pictures/2021", "Downloads")
    for folder in folders:
        write_picture(home / folder / "x.jpg", 3)
    loose = write_picture(home / "loose.jpg", 1)
    write_picture(home / "not-listed.jpg", 2)
    other = write_picture(tmp_path / "drive" / "photos" / "x.jpg", 4).parent
    there = [str(home / folder / "x.jpg") for folder in folders]

    assert common_folders(there[:2], home) == [home / "Pictures"]
    assert common_folders(there[:1], home) == [home / "Pictures/2020/a"]
    assert common_folders(there, home) == [home / "Downloads", home / "Pictures"]
    assert common_folders([*there, str(loose)], home) == [
        home / "Downloads",
        home / "Pictures",
        loose,
    ]
    gone = str(tmp_path / "gone" / "x.jpg")
    assert common_folders([gone, there[2], str(other / "x.jpg")], home) == [
        other,
        home / "Downloads",
    ]
    assert common_folders([gone, str(home / "Documents" / "x.jpg")], home) == []
    # A folder that is there, but not the picture, is none of the pictures' folders.
    (home / "Documents").mkdir()
    assert common_folders([there[2], str(home / "Documents" / "x.jpg")], home) == [
        home / "Downloads"
    ]


# The command line


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home", tmp_path / "here")


def test_the_command_imports_from_rclip(shell: Shell, tmp_path: Path) -> None:
    shell.run("demo", "./photos")
    pictures = sorted((shell.here / "photos").iterdir())
    with xsearch.open(tmp_path / "made") as made:
        made.index(shell.here / "photos")
        vectors = [np.frombuffer(row, "<f2") for row in stored_vectors(made).values()]
    names = list(stored_vectors(made))
    database = write_rclip(
        shell.home / ".local/share/rclip/db.sqlite3",
        [shell.here / "photos" / name for name in names],
        np.array(vectors),
    )
    words = ("import", "rclip", "--encoder", "builtin")
    line = shell.fail("import", "rclip", shell.here / "photos")
    assert "there is no such database of rclip" in line
    report = rows(shell.run(*words, database, "--json"))[0]
    assert report["imported"] == len(pictures) == len(names)
    assert report["embedded"] == 0
    hit = rows(shell.run("query", "--json", "cat"))[0]
    assert Path(str(hit["path"])).stem == "chelsea"


def test_the_command_imports_what_was_exported_and_knows_the_model(shell: Shell) -> None:
    shell.run("demo", "./photos")
    shell.run("index", "./photos", "-l", "one")
    done = shell.run("export", "out", "--format", "clip-retrieval", "-l", "one")
    assert done.stdout.startswith("out: ")
    done = shell.run("import", "clip-retrieval", "out", "-l", "two")
    assert "imported, 0 made" in done.stdout
    assert "clip-retrieval" in shell.run("import", "-h").stdout
    assert shell.run("export", "out", code=2).stdout == ""
