"""Changing a library's encoder: nothing is lost, searches go on, a crash costs seconds."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import Nursery, Say, nursery
from support import (
    ALL,
    ColourEncoder,
    age,
    open_colour,
    picture,
    write_picture,
    write_pictures,
    write_text,
)
from test_cli import Shell, rows

import xsearch
import xsearch.data
from xsearch.core.reports import Progress
from xsearch.indexer.lock import writer_lock
from xsearch.retrieval.rank import fuse

KILLS = 24
TEXTS = ["one line", "two lines", "three lines"]


def coarse() -> ColourEncoder:
    """Another encoder than the library's: of 2 x 2 fields."""
    return ColourEncoder("f14e", "coarse", 2)


def open_coarse(folder: Path) -> xsearch.Library:
    return xsearch.open(folder, encoder=coarse())


@pytest.fixture
def filled(library: xsearch.Library, photos: Path) -> xsearch.Library:
    """A library of twelve pictures and three texts."""
    write_pictures(photos, 12)
    write_text(photos / "lines.txt", "\n".join(TEXTS))
    library.index([photos, photos / "lines.txt"])
    return library


def states(library: xsearch.Library) -> dict[str, tuple[str, int, int]]:
    """State, vectors and missing ones of each encoder."""
    return {one.name: (one.state, one.vectors, one.missing) for one in library.status().encoders}


def cosine(library: xsearch.Library, encoder: ColourEncoder, seed: int, other: int) -> float:
    """The cosine that a library gives for two seeds, from the hit that is `other`."""
    hits = library.search(xsearch.Image(picture(seed)), k=ALL)
    return next(hit.similarity for hit in hits if hit.path and hit.path.name == f"{other:03}.jpg")


def expected(encoder: ColourEncoder, seed: int, other: int) -> float:
    """The same from the encoder alone."""
    vectors = encoder.embed_images(
        np.stack([encoder.preprocess(picture(number)) for number in (seed, other)])
    )
    return float(vectors[0] @ vectors[1])


def test_every_item_gets_a_vector_and_searches_use_them(
    filled: xsearch.Library, tmp_path: Path
) -> None:
    assert cosine(filled, ColourEncoder(), 1, 2) == pytest.approx(
        expected(ColourEncoder(), 1, 2), abs=0.02
    )
    report = filled.reindex(coarse())
    assert (report.images, report.texts, report.stale) == (12, 3, 0)
    assert report.complete and report.switched
    assert states(filled) == {"colour": ("retired", 15, 0), "coarse": ("own", 15, 0)}
    with open_coarse(filled.path) as library:
        assert cosine(library, coarse(), 1, 2) == pytest.approx(expected(coarse(), 1, 2), abs=0.02)
        assert len(library.search("one line", k=ALL, target="text")) == 3
        assert library.search("one line", k=1, target="text")[0].text == "one line"
        assert library.status().index_rows == 15
        assert library.check().ok


def test_ids_and_files_stay_as_they_were(filled: xsearch.Library) -> None:
    before = {hit.path: hit.id for hit in filled.search("x", k=ALL)}
    filled.reindex(coarse())
    with open_coarse(filled.path) as library:
        assert {hit.path: hit.id for hit in library.search("x", k=ALL)} == before
        report = library.index()
        assert (report.unchanged, report.added, report.embedded) == (13, 0, 0)


def test_searches_use_the_old_vectors_until_all_new_ones_are_there(
    filled: xsearch.Library,
) -> None:
    seen = []

    def look(_: Progress) -> None:
        with open_colour(filled.path) as other:
            seen.append(round(cosine(other, ColourEncoder(), 1, 2), 3))

    before = round(cosine(filled, ColourEncoder(), 1, 2), 3)
    filled.reindex(coarse(), batch_size=2, progress=look)
    assert len(seen) > 5
    assert set(seen) == {before}


def test_what_is_indexed_meanwhile_is_there_after_the_change(
    filled: xsearch.Library, photos: Path
) -> None:
    written = []

    def add(now: Progress) -> None:
        if len(written) < 3:
            written.append(write_picture(photos / f"{90 + len(written):03}.jpg", 90 + len(written)))
            with open_colour(filled.path) as other:
                other.index()

    filled.reindex(coarse(), batch_size=2, progress=add)
    assert states(filled)["coarse"] == ("own", 18, 0)
    with open_coarse(filled.path) as library:
        found = {hit.path for hit in library.search("x", k=ALL)}
    assert set(written) <= found


def test_what_is_removed_meanwhile_does_no_harm(filled: xsearch.Library, photos: Path) -> None:
    def remove(now: Progress) -> None:
        if now.done == 3:
            (photos / "004.jpg").unlink(missing_ok=True)
            with open_colour(filled.path) as other:
                other.index()
                other.compact()

    filled.reindex(coarse(), batch_size=2, progress=remove)
    with open_coarse(filled.path) as library:
        assert len(library.search("x", k=ALL)) == 11
        assert library.check().ok


def test_an_interrupted_change_goes_on_where_it_was(filled: xsearch.Library) -> None:
    def stop(now: Progress) -> None:
        if now.done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled.reindex(coarse(), batch_size=2, progress=stop)
    state, vectors, missing = states(filled)["coarse"]
    assert state == "building"
    assert vectors >= 4 and vectors + missing == 15
    assert filled.status().encoder == "colour"
    assert len(filled.search("x", k=ALL)) == 12
    report = filled.reindex(coarse())
    assert report.images + report.texts == missing
    assert states(filled)["coarse"] == ("own", 15, 0)


# Kill -9


def job_reindex(say: Say, library: str, keep: bool) -> dict[str, Any]:
    def progress(now: Progress) -> None:
        say("at", now.done)

    with open_colour(Path(library)) as opened:
        return opened.reindex(coarse(), keep=keep, batch_size=2, progress=progress).to_dict()


def job_compact(say: Say, library: str) -> int:
    with xsearch.open(Path(library), encoder=[coarse()]) as opened:
        say("at", 0)
        return opened.compact().vectors_kept


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


def vectors_of(folder: Path, fingerprint: str) -> dict[bytes, bytes]:
    """Every live item's vector, by content."""
    with closing(sqlite3.connect(f"file:{folder / 'catalog.db'}?mode=rw", uri=True)) as catalog:
        generation, dim = catalog.execute(
            "SELECT generation, dim FROM encoders WHERE fingerprint = ?", (fingerprint,)
        ).fetchone()
        stored = np.fromfile(folder / "vectors" / f"{fingerprint}.{generation}.f16", "<f2")
        rows = stored[: len(stored) // dim * dim].reshape(-1, dim)
        return {
            digest: rows[row].tobytes()
            for digest, row in catalog.execute(
                "SELECT i.content_hash, e.row FROM embeddings e JOIN items i ON i.id = e.item_id"
                " JOIN encoders n ON n.id = e.encoder_id WHERE n.fingerprint = ?",
                (fingerprint,),
            )
        }


@pytest.mark.parametrize("keep", [False, True])
def test_killed_at_any_moment_the_library_is_as_before_or_changed(
    filled: xsearch.Library, tmp_path: Path, children: Nursery, keep: bool
) -> None:
    filled.close()
    whole = tmp_path / "whole"
    shutil.copytree(filled.path, whole)
    with open_colour(whole) as library:
        library.reindex(coarse(), keep=keep)
    old, new = vectors_of(whole, "c010"), vectors_of(whole, "f14e")
    random.seed(7)
    unfinished = 0
    for _ in range(KILLS // 2):
        folder = tmp_path / "killed"
        shutil.copytree(filled.path, folder)
        child = children.start("test_reindex.job_reindex", library=folder, keep=keep)
        # Nothing is slept for: after so many signs of life, and a moment that differs.
        for _ in range(random.randrange(4)):
            child.until("at")
        threading.Event().wait(random.random() * 0.05)
        child.kill()
        with xsearch.open(folder, encoder=[ColourEncoder(), coarse()]) as library:
            own = library.status().encoder
            unfinished += own == "colour"
        with xsearch.open(
            folder, encoder=[ColourEncoder() if own == "colour" else coarse()]
        ) as one:
            assert len(one.search("x", k=ALL)) == 12
            assert len(one.search("x", k=ALL, target="text")) == 3
            if own == "colour":
                one.reindex(coarse(), keep=keep)
        assert vectors_of(folder, "c010") == old
        assert vectors_of(folder, "f14e") == new
        with open_coarse(folder) as library:
            assert library.check().ok
            assert states(library) == states(open_colour(whole) if keep else open_coarse(whole))
        shutil.rmtree(folder)
    assert unfinished > 2


def test_a_compaction_of_two_encoders_may_be_killed(
    filled: xsearch.Library, tmp_path: Path, children: Nursery, photos: Path
) -> None:
    filled.reindex(coarse(), keep=True)
    (photos / "003.jpg").unlink()
    both = [ColourEncoder(), coarse()]
    with xsearch.open(filled.path, encoder=both) as library:
        library.index()
    filled.close()
    random.seed(3)
    for _ in range(8):
        folder = tmp_path / "killed"
        shutil.copytree(filled.path, folder)
        child = children.start("test_reindex.job_compact", library=folder)
        child.until("at")
        threading.Event().wait(random.random() * 0.03)
        child.kill()
        for encoder in both:
            with xsearch.open(folder, encoder=encoder) as library:
                assert len(library.search("x", k=ALL)) == 11
                assert library.check().ok
        shutil.rmtree(folder)


# What cannot be read


def test_a_drive_that_is_away_keeps_the_library_as_it_is(
    filled: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    more = tmp_path / "drive"
    write_pictures(more, 3, first=50)
    filled.index(more)
    more.rename(tmp_path / "away")
    report = filled.reindex(coarse())
    assert not report.complete and not report.switched
    assert {file.path for file in report.failures} == {more / f"{n:03}.jpg" for n in (50, 51, 52)}
    assert filled.status().encoder == "colour"
    assert len(filled.search("x", k=ALL)) == 15
    (tmp_path / "away").rename(more)
    again = filled.reindex(coarse())
    assert (again.images, again.texts, again.complete) == (3, 0, True)


def test_a_partial_change_is_completed_by_the_index_that_finds_the_rest(
    filled: xsearch.Library, tmp_path: Path
) -> None:
    more = tmp_path / "drive"
    write_pictures(more, 3, first=50)
    filled.index(more)
    more.rename(tmp_path / "away")
    assert filled.reindex(coarse(), partial=True).switched
    with open_coarse(filled.path) as library:
        assert len(library.search("x", k=ALL)) == 12
        report = library.index()
        assert "3 items have no vector of coarse" in report.warnings[-1]
        (tmp_path / "away").rename(more)
        assert library.index().embedded == 3
        assert len(library.search("x", k=ALL)) == 15
        assert library.check().ok


def test_pictures_that_are_gone_or_edited_do_not_stop_the_change(
    filled: xsearch.Library, photos: Path
) -> None:
    (photos / "003.jpg").unlink()
    age(write_picture(photos / "004.jpg", 77), 5)
    (photos / "005.jpg").write_bytes(b"no picture")
    report = filled.reindex(coarse())
    assert (report.images, report.stale, report.switched) == (9, 3, True)
    with open_coarse(filled.path) as library:
        report = library.index()
        assert (report.removed, report.updated, report.failed) == (1, 1, 1)
        assert len(library.search("x", k=ALL)) == 10
        assert library.status().encoders[1].missing == 0


def test_a_second_file_of_the_same_content_serves(filled: xsearch.Library, photos: Path) -> None:
    shutil.copyfile(photos / "002.jpg", age(photos / "002.jpg").with_name("zcopy.jpg"))
    filled.index()
    age(write_picture(photos / "002.jpg", 88), 5)
    report = filled.reindex(coarse())
    assert (report.images, report.stale) == (12, 0)


# Several encoders


def test_a_kept_encoder_answers_when_it_is_asked(filled: xsearch.Library) -> None:
    report = filled.reindex(coarse(), switch=False)
    assert report.complete and not report.switched
    assert states(filled) == {"colour": ("own", 15, 0), "coarse": ("kept", 15, 0)}
    for encoder in (ColourEncoder(), coarse()):
        with xsearch.open(filled.path, encoder=encoder) as library:
            assert cosine(library, encoder, 1, 2) == pytest.approx(
                expected(encoder, 1, 2), abs=0.02
            )


def test_indexing_keeps_every_encoder_up_to_date(filled: xsearch.Library, photos: Path) -> None:
    filled.reindex(coarse(), keep=True)
    write_picture(photos / "new.jpg", 60)
    write_text(photos / "lines.txt", "\n".join([*TEXTS, "four"]))
    age(photos / "lines.txt", 9)
    with xsearch.open(filled.path, encoder=[coarse(), ColourEncoder()]) as library:
        assert library.index().embedded == 4
        assert states(library) == {"colour": ("kept", 17, 0), "coarse": ("own", 17, 0)}


def test_two_encoders_together_are_fused_by_rank(filled: xsearch.Library) -> None:
    filled.reindex(coarse(), keep=True)
    lists = []
    for encoder in (ColourEncoder(), coarse()):
        with xsearch.open(filled.path, encoder=encoder) as library:
            lists.append([hit.id for hit in library.search(xsearch.Image(picture(1)), k=ALL)])
    assert lists[0] != lists[1]
    with xsearch.open(filled.path, encoder=[ColourEncoder(), coarse()]) as library:
        hits = library.search(xsearch.Image(picture(1)), k=5)
        sums: dict[int, float] = {}
        for found in lists:
            for rank, id_ in enumerate(found, 1):
                sums[id_] = sums.get(id_, 0) + 1 / (60 + rank)
        assert [sums[hit.id] for hit in hits] == sorted(sums.values(), reverse=True)[:5]
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
        first = hits[1]
        number = int(first.path.stem) if first.path else -1
        mean = np.mean([expected(one, 1, number) for one in (ColourEncoder(), coarse())])
        assert first.similarity == pytest.approx(mean, abs=0.02)
        assert library.search("one line", k=1, target="text")[0].text == "one line"
        assert library.search("one line", k=0) == []


def test_ranks_are_fused_as_published() -> None:
    assert fuse([[1, 2, 3], [3, 1]]) == [1, 3, 2]
    assert fuse([[5], [6]]) == [5, 6]
    assert fuse([[], [4]]) == [4]
    assert fuse([[1, 2], [2, 1]], smoothing=0) == [1, 2]


def test_a_switch_back_embeds_nothing_again(filled: xsearch.Library) -> None:
    filled.reindex(coarse())
    report = open_coarse(filled.path).reindex(ColourEncoder())
    assert (report.images, report.texts, report.switched) == (0, 0, True)
    assert states(filled)["colour"][0] == "own"


def test_compaction_drops_what_was_retired(filled: xsearch.Library) -> None:
    filled.reindex(coarse())
    with open_coarse(filled.path) as library:
        report = library.compact()
        assert (report.vectors_kept, report.vectors_dropped) == (15, 15)
        assert list(states(library)) == ["coarse"]
        assert len(library.search("x", k=ALL)) == 12
    names = [path.name for path in (filled.path / "vectors").iterdir()]
    assert names == ["f14e.1.f16"]
    with pytest.raises(xsearch.EncoderMismatchError, match="xsearch reindex --encoder colour"):
        open_colour(filled.path).search("x")


def test_a_kept_encoder_can_be_retired_and_the_own_one_cannot(filled: xsearch.Library) -> None:
    filled.reindex(coarse(), keep=True)
    with open_coarse(filled.path) as library:
        with pytest.raises(xsearch.UsageError, match="searched with"):
            library.retire("coarse")
        with pytest.raises(xsearch.UsageError, match=r"it has: colour \(c010\), coarse"):
            library.retire("unknown")
        library.retire("colour")
        assert states(library)["colour"][0] == "retired"
        with pytest.raises(xsearch.UsageError, match="no vectors of colour"):
            library.retire("colour")


def test_damage_in_a_kept_encoders_vectors_is_repaired(filled: xsearch.Library) -> None:
    filled.reindex(coarse(), keep=True)
    path = filled.path / "vectors" / "c010.1.f16"
    data = bytearray(path.read_bytes())
    data[100] ^= 0xFF
    path.write_bytes(data)
    with xsearch.open(filled.path, encoder=[coarse(), ColourEncoder()]) as library:
        report = library.check()
        assert report.lost == 1
        assert library.index().embedded == 1
        assert library.check().ok
        assert states(library)["colour"] == ("kept", 15, 0)


# Asking with the wrong one


def test_an_encoder_without_vectors_is_refused_with_what_to_run(filled: xsearch.Library) -> None:
    with pytest.raises(xsearch.EncoderMismatchError, match="xsearch reindex --encoder coarse"):
        open_coarse(filled.path).search("x")
    with pytest.raises(xsearch.EncoderMismatchError, match="xsearch reindex --encoder coarse"):
        open_coarse(filled.path).index()


def test_an_unfinished_or_retired_encoder_is_refused(filled: xsearch.Library) -> None:
    def stop(now: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled.reindex(coarse(), progress=stop)
    with pytest.raises(xsearch.EncoderMismatchError, match="not complete"):
        open_coarse(filled.path).search("x")
    filled.reindex(coarse())
    with pytest.raises(xsearch.EncoderMismatchError, match="out of date"):
        open_colour(filled.path).search("x")


def test_a_new_version_of_an_encoder_says_so_and_reindex_brings_it(
    filled: xsearch.Library,
) -> None:
    newer = ColourEncoder("c011", grid=8)
    with xsearch.open(filled.path, encoder=newer) as library:
        with pytest.raises(
            xsearch.EncoderMismatchError, match=r"another version of colour.*reindex$"
        ):
            library.search("x")
        library.reindex(newer)
        assert len(library.search("x", k=ALL)) == 12


def test_an_empty_library_takes_the_encoder(tmp_path: Path, photos: Path) -> None:
    with xsearch.open(tmp_path / "empty") as library:
        assert library.reindex(coarse()).switched
    with open_coarse(tmp_path / "empty") as library:
        write_pictures(photos, 2)
        assert library.index(photos).added == 2


def test_two_names_of_one_encoder_are_no_ensemble(filled: xsearch.Library) -> None:
    for given in ("builtin+builtin", "+builtin", "builtin+"):
        with pytest.raises(xsearch.UsageError, match="different encoders"):
            xsearch.open(filled.path, encoder=given).search("x")
    with pytest.raises(xsearch.UsageError, match="empty"):
        xsearch.open(filled.path, encoder=[]).search("x")


# With encoders that have names: the built-in one, and folders of its files as other versions


def version(folder: Path, fingerprint: str) -> Path:
    """A folder with the built-in encoder's files under another fingerprint."""
    source = Path(xsearch.data.__path__[0]) / "builtin"
    folder.mkdir()
    for path in source.iterdir():
        if path.name != "encoder.json":
            (folder / path.name).symlink_to(path)
    content = json.loads((source / "encoder.json").read_text())
    content |= {"fingerprint": fingerprint, "name": folder.name}
    (folder / "encoder.json").write_text(json.dumps(content))
    return folder


def test_an_open_library_follows_a_change_by_others(tmp_path: Path, photos: Path) -> None:
    write_pictures(photos, 3)
    other = version(tmp_path / "other", "0123456789abcdef")
    with xsearch.open(tmp_path / "library") as library, xsearch.open(tmp_path / "library") as same:
        library.index(photos)
        assert same.encoder.name == "builtin"
        library.reindex(other)
        assert same.encoder.name == "other"
        assert len(same.search("a red square")) == 3
        library.reindex("builtin")
        assert same.encoder.name == "builtin"


def test_a_kept_encoder_that_is_gone_is_named_with_what_helps(tmp_path: Path, photos: Path) -> None:
    write_pictures(photos, 3)
    other = version(tmp_path / "other", "0123456789abcdef")
    with xsearch.open(tmp_path / "library") as library:
        library.index(photos)
        library.reindex(other, switch=False)
    (other / "encoder.json").rename(tmp_path / "aside.json")
    with xsearch.open(tmp_path / "library") as library:
        assert len(library.search("a red square")) == 3
        with pytest.raises(xsearch.EncoderError, match="--retire 0123456789abcdef"):
            library.index()
        library.retire("0123456789abcdef")
        assert library.index().unchanged == 3


def test_the_commands_change_keep_and_retire_an_encoder(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home", tmp_path / "here")
    write_pictures(shell.here / "photos", 4)
    other = version(tmp_path / "my other+1", "0123456789abcdef")
    shell.run("index", "photos")
    complaint = shell.fail("query", "red", "--encoder", other)
    assert f"xsearch reindex --encoder '{other}'" in complaint
    done = shell.run("reindex", "--encoder", other, "--keep")
    assert "4 pictures, 0 texts" in done.stdout and "searches use it now" in done.stdout
    status = shell.run("status").stdout
    assert "my other+1 (0123456789abcdef), 384 dimensions" in status
    assert "kept, 4 vectors" in status
    plain = other.rename(tmp_path / "other")
    other.symlink_to(plain)
    alone, both = (
        rows(shell.run("query", "red", "--json", "--encoder", name))
        for name in ("builtin", f"builtin+{plain}")
    )
    assert len(both) == 4
    assert both == alone  # the same weights twice
    shell.run("reindex", "--retire", "builtin")
    assert "retired" in shell.run("status").stdout
    shell.run("compact")
    assert "retired" not in shell.run("status").stdout
    assert shell.run("reindex", "--retire", "x", "--keep", code=2).stdout == ""
    assert json.loads(shell.run("reindex", "--encoder", "builtin", "--json").stdout)["switched"]


# What a review found


def test_an_encoder_that_comes_back_never_meets_what_it_left_behind(
    filled: xsearch.Library,
) -> None:
    filled.reindex(coarse(), keep=True)
    left = {path: path.read_bytes() for path in (filled.path / "indices").glob("c010.*")}
    with open_coarse(filled.path) as library:
        library.retire("colour")
        assert not list((filled.path / "indices").glob("c010.*"))
        library.compact()
        for path, data in left.items():  # as a kill in the middle of the compaction leaves it
            path.write_bytes(data)
        library.reindex(ColourEncoder())
    assert cosine(filled, ColourEncoder(), 5, 5) > 0.99
    assert all(hit.kind == "image" for hit in filled.search("x", k=ALL))


def test_going_back_to_a_retired_encoder_drops_its_damaged_vectors(
    filled: xsearch.Library,
) -> None:
    filled.reindex(coarse())
    path = filled.path / "vectors" / "c010.1.f16"
    data = bytearray(path.read_bytes())
    data[100] ^= 0xFF
    path.write_bytes(data)
    with open_coarse(filled.path) as library:
        report = library.reindex(ColourEncoder())
    assert report.images + report.texts == 1
    assert filled.check().ok


def test_an_unchanged_picture_that_cannot_be_decoded_now_is_named_and_stops_the_change(
    filled: xsearch.Library,
) -> None:
    report = filled.reindex(coarse(), max_pixels=100)
    assert (report.unreadable, report.stale, report.switched) == (12, 0, False)
    assert "over the limit" in report.failures[0].reason
    assert filled.status().encoder == "colour"
    assert filled.reindex(coarse()).switched


class Broken(ColourEncoder):
    """Gives one picture a vector that is no number."""

    def __init__(self) -> None:
        super().__init__("b0b0", "broken", 2)

    def embed_images(self, batch: np.ndarray) -> np.ndarray:
        vectors = super().embed_images(batch)
        bad = self.preprocess(picture(3))
        for row, pixels in enumerate(batch):
            if np.abs(pixels.astype(int) - bad).mean() < 5:
                vectors[row] = np.nan
        return vectors


def test_a_vector_that_is_no_number_costs_its_item_alone(filled: xsearch.Library) -> None:
    report = filled.reindex(Broken())
    assert (report.images, report.unreadable, report.switched) == (11, 1, False)
    assert "not finite" in report.failures[0].reason
    assert filled.reindex(Broken(), partial=True).switched


def test_a_folder_that_cannot_be_read_is_no_end_of_the_change(
    filled: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = photos / "004.jpg"
    before = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> Any:
        # As root, which tests may run as, no permission is ever missing.
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return before(path, follow_symlinks=follow_symlinks)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stat)
        patch.setattr(Path, "open", _closed(closed))
        report = filled.reindex(coarse())
    assert (report.images, report.unreadable, report.switched) == (11, 1, False)


def _closed(closed: Path) -> Any:
    before = Path.open

    def open_(path: Path, *args: Any, **options: Any) -> Any:
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return before(path, *args, **options)

    return open_


def test_ctrl_c_does_not_wait_for_another_writer(filled: xsearch.Library, tmp_path: Path) -> None:
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with writer_lock(filled.path, "xsearch index", wait=10):
            held.set()
            go.wait(60)

    other = threading.Thread(target=hold)

    def stop(now: Progress) -> None:
        if now.done == 5:
            other.start()
            assert held.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled.reindex(coarse(), batch_size=2, progress=stop)
    assert not go.is_set() and other.is_alive()
    go.set()
    other.join()
    assert filled.reindex(coarse()).switched


def test_an_encoder_taken_out_meanwhile_ends_the_change_clearly(
    filled: xsearch.Library,
) -> None:
    def take_out(now: Progress) -> None:
        if now.done == 15:
            filled.retire("coarse")
            filled.compact()

    with pytest.raises(xsearch.EncoderMismatchError, match="taken out"):
        filled.reindex(coarse(), progress=take_out)
    assert len(filled.search("x", k=ALL)) == 12


def test_an_edited_and_indexed_picture_still_in_flight_confuses_nothing(
    filled: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 300, first=12)
    filled.index()

    def edit(now: Progress) -> None:
        if now.done == 200:
            age(write_picture(photos / "250.jpg", 999), 5)
            with open_colour(filled.path) as other:
                other.index()

    assert filled.reindex(coarse(), progress=edit).switched
    with open_coarse(filled.path) as library:
        assert library.index().embedded == 0
        assert states(library)["coarse"] == ("own", 315, 0)


def test_a_moved_encoder_folder_is_recorded_by_reindex(tmp_path: Path, photos: Path) -> None:
    write_pictures(photos, 2)
    first = version(tmp_path / "first", "0123456789abcdef")
    with xsearch.open(tmp_path / "library", encoder=first) as library:
        library.index(photos)
    first.rename(tmp_path / "moved")
    with xsearch.open(tmp_path / "library") as library:
        with pytest.raises(xsearch.EncoderError, match="reindex --encoder PLACE"):
            library.search("red")
        library.reindex(tmp_path / "moved")
        assert len(library.search("red")) == 2


def test_an_open_library_notices_another_encoder_in_the_same_folder(
    tmp_path: Path, photos: Path
) -> None:
    write_pictures(photos, 2)
    folder = version(tmp_path / "mine", "0123456789abcdef")
    with xsearch.open(tmp_path / "library", encoder=folder) as library:
        library.index(photos)
        shutil.rmtree(folder)
        version(folder, "fedcba9876543210")
        with xsearch.open(tmp_path / "library") as other:
            assert other.reindex(folder).switched
        assert len(library.search("red")) == 2
        assert library.index().unchanged == 2


def test_a_new_library_begins_with_one_encoder(tmp_path: Path, photos: Path) -> None:
    library = xsearch.open(tmp_path / "new", encoder=[ColourEncoder(), coarse()])
    with library, pytest.raises(xsearch.UsageError, match="begins with one"):
        library.index(photos)


def test_a_name_means_the_encoder_that_can_be_meant(filled: xsearch.Library) -> None:
    newer = ColourEncoder("c011", "colour", 2)
    filled.reindex(newer, keep=True)
    with xsearch.open(filled.path, encoder=newer) as library:
        library.retire("colour")
        found = {one.fingerprint: one.state for one in library.status().encoders}
    assert found == {"c010": "retired", "c011": "own"}


def test_an_encoder_in_a_folder_that_onnxruntime_cannot_name_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"enc\xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    folder.rmdir()
    version(folder, "0123456789abcdef")
    with xsearch.open(tmp_path / "library") as library:
        with pytest.raises(xsearch.EncoderError, match=r"enc\\xff: .*plain name"):
            library.reindex(folder)
        assert library.status().encoders == ()
