"""Exporting a library: what other programs find, and what happens when it goes wrong."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from children import Nursery, Say, nursery
from foreign import CountingEncoder, stored_vectors
from PIL import Image
from support import ColourEncoder, age, open_colour, write_picture, write_pictures, write_text

import xsearch
from xsearch.core.reports import Progress
from xsearch.indexer import export, export_formats
from xsearch.indexer.imports.take import SAMPLE

try:
    import resource
except ImportError:
    resource = None

COUNT = 11


@pytest.fixture
def filled(library: xsearch.Library, photos: Path) -> xsearch.Library:
    """A library with pictures, a copy of one in a folder, and texts of another."""
    write_pictures(photos, COUNT)
    write_picture(photos / "copies" / "again.jpg", 3)
    write_text(photos / "004.txt", "a first text\na second one")
    library.index(photos)
    return library


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of vectors hold four pictures each, written two at a time."""
    monkeypatch.setattr(export, "PIECE", 2)
    monkeypatch.setattr(export_formats, "SHARD", 4)


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refused(folder: Path, why: str, library: xsearch.Library) -> None:
    before = everything(folder) if folder.is_dir() else folder.read_bytes()
    with pytest.raises(xsearch.SourceError, match=why):
        library.export(folder, "parquet")
    assert (everything(folder) if folder.is_dir() else folder.read_bytes()) == before


# clip-retrieval's layout


def test_clip_retrieval_finds_vectors_and_paths_in_the_same_order(
    filled: xsearch.Library, tmp_path: Path
) -> None:
    report = filled.export(tmp_path / "out", "clip-retrieval")
    assert everything(tmp_path / "out") == [
        "img_emb/img_emb_0.npy",
        "metadata/metadata_0.parquet",
    ]
    assert (report.pictures, report.files) == (COUNT, 2)
    vectors = np.load(tmp_path / "out/img_emb/img_emb_0.npy", allow_pickle=False)
    assert vectors.dtype == np.float16
    assert vectors.shape == (COUNT, 48)
    table = pq.read_table(tmp_path / "out/metadata/metadata_0.parquet")
    assert table.column_names == ["image_path", "other_paths"]
    names = [Path(path).name for path in table["image_path"].to_pylist()]
    assert {
        name: row.tobytes() for name, row in zip(names, vectors, strict=True)
    } == stored_vectors(filled)


def test_captions_are_written_when_asked_for(filled: xsearch.Library, tmp_path: Path) -> None:
    filled.export(tmp_path / "out", "clip-retrieval", captions=True)
    table = pq.read_table(tmp_path / "out/metadata/metadata_0.parquet").to_pylist()
    texts = {Path(row["image_path"]).name: row["caption"] for row in table}
    assert texts["004.jpg"] == "a first text\na second one"
    assert texts["005.jpg"] == ""


def test_many_pictures_go_into_several_files(
    filled: xsearch.Library, tmp_path: Path, small_files: None
) -> None:
    told: list[Progress] = []
    report = filled.export(tmp_path / "out", "clip-retrieval", progress=told.append)
    assert (report.pictures, report.files) == (COUNT, 6)
    arrays = [np.load(path) for path in sorted((tmp_path / "out/img_emb").iterdir())]
    tables = [pq.read_table(path) for path in sorted((tmp_path / "out/metadata").iterdir())]
    assert [len(array) for array in arrays] == [len(table) for table in tables] == [4, 4, 3]
    names = [Path(path).name for table in tables for path in table["image_path"].to_pylist()]
    rows = [row.tobytes() for array in arrays for row in array]
    assert dict(zip(names, rows, strict=True)) == stored_vectors(filled)
    assert [now.done for now in told] == [2, 4, 6, 8, 10, 11]
    assert {now.total for now in told} == {COUNT}


def test_files_are_numbered_so_that_their_names_sort(
    library: xsearch.Library, photos: Path, tmp_path: Path, small_files: None
) -> None:
    library.index(write_pictures(photos, 41))
    library.export(tmp_path / "out", "clip-retrieval")
    names = sorted(path.name for path in (tmp_path / "out/img_emb").iterdir())
    assert names[0] == "img_emb_00.npy"
    assert names[-1] == "img_emb_10.npy"
    assert len(names) == 11


@pytest.mark.parametrize("several", [False, True])
def test_a_library_made_from_an_export_has_the_same_vectors_and_embeds_nothing(
    filled: xsearch.Library,
    photos: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    several: bool,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    write_picture(photos / "turned.jpg", 50, exif=exif)
    filled.index()
    if several:
        request.getfixturevalue("small_files")
    filled.export(tmp_path / "out", "clip-retrieval")
    encoder = CountingEncoder()
    with xsearch.open(tmp_path / "second", encoder=encoder) as second:
        report = second.import_embeddings("clip-retrieval", tmp_path / "out")
        assert (report.added, report.imported) == (COUNT + 2, COUNT + 1)
        assert report.embedded == 2  # the two texts
        assert encoder.embedded == COUNT + 2 < SAMPLE  # every file, to compare
        assert stored_vectors(second) == stored_vectors(filled)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are no UTF-8")
def test_names_that_are_no_utf8_survive(
    library: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    odd = Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.jpg"))
    write_picture(photos / "plain.jpg", 1).rename(odd)
    write_picture(photos / "plain.jpg", 2)
    library.index(photos)
    library.export(tmp_path / "out", "clip-retrieval")
    library.export(tmp_path / "table", "parquet")
    with open_colour(tmp_path / "second") as second:
        report = second.import_embeddings("clip-retrieval", tmp_path / "out")
        assert (report.imported, report.embedded) == (2, 0)
        assert odd.name in stored_vectors(second)


# Parquet


def test_the_table_has_a_row_a_picture_with_all_that_is_known(
    library: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model 1"
    exif.get_ifd(0x8769)[0x9003] = "2021:02:03 04:05:06"
    exif.get_ifd(0x8769)[0x9011] = "+02:00"
    place = exif.get_ifd(0x8825)
    place[1], place[2], place[3], place[4] = "N", (48.0, 30.0, 0.0), "W", (9.0, 15.0, 0.0)
    first = write_picture(photos / "a.jpg", 1, (64, 48), exif)
    age(first)
    (photos / "b").mkdir()
    second = photos / "b" / "a.jpg"
    second.write_bytes(first.read_bytes())
    write_picture(photos / "c.png", 2, (30, 50))
    write_text(photos / "a.txt", "one\ntwo")
    library.index(photos)

    report = library.export(tmp_path / "out", "parquet", captions=True)

    assert everything(tmp_path / "out") == ["pictures.parquet"]
    assert (report.pictures, report.files) == (2, 1)
    table = pq.read_table(tmp_path / "out/pictures.parquet")
    row, plain = table.to_pylist()
    vector = np.array(row.pop("embedding"), np.float32)
    assert vector.astype("<f2").tobytes() == stored_vectors(library)["a.jpg"]
    assert row == {
        "id": row["id"],
        "path": str(first),
        "other_paths": [str(second)],
        "content_hash": row["content_hash"],
        "width": 64,
        "height": 48,
        "taken_at": datetime(2021, 2, 3, 4, 5, 6),
        "taken_offset": 120,
        "camera": row["camera"],
        "latitude": 48.5,
        "longitude": -9.25,
        "captions": ["one", "two"],
    }
    assert "Model 1" in row["camera"]
    assert len(bytes.fromhex(row["content_hash"])) == 20
    hits = {hit.path: hit.id for hit in library.search("anything", k=2)}
    assert (row["id"], plain["id"]) == (hits[first], hits[photos / "c.png"])
    assert (plain["taken_at"], plain["captions"], plain["width"]) == (None, [], 30)
    made = json.loads(table.schema.metadata[b"xsearch"])
    assert (made["name"], made["fingerprint"], made["dim"]) == ("colour", "c010", 48)


def test_without_captions_the_table_has_no_column_for_them(
    filled: xsearch.Library, tmp_path: Path
) -> None:
    filled.export(tmp_path / "out", "parquet")
    assert "captions" not in pq.read_schema(tmp_path / "out/pictures.parquet").names


def test_what_was_deleted_is_not_exported(
    filled: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    (photos / "000.jpg").unlink()
    (photos / "003.jpg").unlink()  # its copy is there
    filled.index()
    filled.export(tmp_path / "out", "parquet")
    table = pq.read_table(tmp_path / "out/pictures.parquet")
    names = [Path(path).name for path in table["path"].to_pylist()]
    assert len(names) == COUNT - 1
    assert "000.jpg" not in names
    assert "again.jpg" in names


def test_the_vectors_of_a_second_encoder_are_exported_by_its_name(
    filled: xsearch.Library, tmp_path: Path
) -> None:
    class Mirrored(ColourEncoder):
        def __init__(self) -> None:
            super().__init__("c0de")

        def embed_images(self, batch: np.ndarray) -> np.ndarray:
            return super().embed_images(batch[:, :, ::-1])

    filled.reindex(Mirrored(), switch=False)
    own, other = tmp_path / "own", tmp_path / "other"
    filled.export(own, "clip-retrieval")
    filled.export(other, "clip-retrieval", encoder="c0de")
    place = Path("img_emb", "img_emb_0.npy")
    assert not np.array_equal(np.load(own / place), np.load(other / place))
    with pytest.raises(xsearch.UsageError, match="no encoder nothing"):
        filled.export(tmp_path / "none", "clip-retrieval", encoder="nothing")
    assert not (tmp_path / "none").exists()


# Its place


def test_a_folder_that_holds_something_else_is_left_alone(
    filled: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    refused(photos, "holds something that is no export", filled)
    refused(photos / "000.jpg", "holds something", filled)
    filled.export(tmp_path / "out", "clip-retrieval")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    refused(tmp_path / "out", "holds something", filled)
    # What clip-retrieval itself wrote says nothing of xsearch.
    (tmp_path / "out" / "notes.txt").unlink()
    path = tmp_path / "out/metadata/metadata_0.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    refused(tmp_path / "out", "holds something", filled)


def test_an_earlier_export_is_replaced(
    filled: xsearch.Library, photos: Path, tmp_path: Path, small_files: None
) -> None:
    (tmp_path / "out").mkdir()
    filled.export(tmp_path / "out", "clip-retrieval")
    for at in range(4, COUNT):
        (photos / f"{at:03}.jpg").unlink()
    filled.index()
    filled.export(tmp_path / "out", "clip-retrieval")
    assert len(everything(tmp_path / "out")) == 2
    filled.export(tmp_path / "out", "parquet")
    assert everything(tmp_path / "out") == ["pictures.parquet"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_nothing_indexed_and_unknown_formats_are_told(
    library: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(xsearch.SourceError, match="nothing was indexed yet"):
        library.export(tmp_path / "out", "parquet")
    library.index(write_text(tmp_path / "notes.txt", "a line"))
    with pytest.raises(xsearch.SourceError, match="no pictures"):
        library.export(tmp_path / "out", "parquet")
    with pytest.raises(xsearch.UsageError, match="clip-retrieval, parquet"):
        library.export(tmp_path / "out", "csv")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_without_pyarrow_the_message_has_the_pip_line(
    filled: xsearch.Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(xsearch.MissingExtraError, match=r"pip install 'xsearch-engine\[parquet\]'"):
        filled.export(tmp_path / "out", "parquet")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["clip-retrieval", "parquet"])
def test_ctrl_c_leaves_an_earlier_export_as_it_was(
    filled: xsearch.Library, tmp_path: Path, small_files: None, form: export.Format
) -> None:
    filled.export(tmp_path / "out", form)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in everything(tmp_path / "out")}

    def interrupt(now: Progress) -> None:
        if now.done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled.export(tmp_path / "out", form, progress=interrupt)
    after = {name: (tmp_path / "out" / name).read_bytes() for name in everything(tmp_path / "out")}
    assert after == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


# Killed, and out of space


def job_export(say: Say, library: str, folder: str, form: export.Format) -> int:
    """Export two pictures at a time; says when half of them are written, and waits there."""

    def progress(now: Progress) -> None:
        if now.done > COUNT // 2:
            say("half")
            threading.Event().wait()

    export.PIECE, export_formats.SHARD = 2, 4  # type: ignore[misc]
    with open_colour(Path(library)) as opened:
        return opened.export(folder, form, progress=progress).pictures


def job_without_space(say: Say, library: str, folder: str, form: export.Format) -> list[str]:
    """Export where no file may grow beyond a kilobyte."""
    with open_colour(Path(library)) as opened:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, most))
        try:
            opened.export(folder, form)
        except xsearch.StorageError as error:
            say("refused", str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    return [path.name for path in Path(folder).parent.iterdir()]


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("form", ["clip-retrieval", "parquet"])
def test_an_export_that_is_killed_leaves_nothing_half_and_the_next_one_cleans_up(
    children: Nursery, filled: xsearch.Library, tmp_path: Path, form: export.Format
) -> None:
    place = tmp_path / "exports"
    child = children.start(
        "test_export_library.job_export", library=filled.path, folder=place / "out", form=form
    )
    child.until("half")
    child.kill()
    assert not (place / "out").exists()
    assert filled.export(place / "out", form).pictures == COUNT
    assert [path.name for path in place.iterdir()] == ["out"]


@pytest.mark.skipif(resource is None, reason="limits on the size of files need POSIX")
@pytest.mark.parametrize("form", ["clip-retrieval", "parquet"])
def test_a_disk_that_refuses_is_told_and_nothing_is_left(
    children: Nursery, filled: xsearch.Library, tmp_path: Path, form: export.Format
) -> None:
    place = tmp_path / "exports"
    place.mkdir()
    child = children.start(
        "test_export_library.job_without_space",
        library=filled.path,
        folder=place / "out",
        form=form,
    )
    assert child.result() == []
    (message,) = child.said("refused")
    assert message.startswith(f"{place / 'out'}: the disk refused a write (File too large)")
