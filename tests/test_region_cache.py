"""The region cache: filled with the vectors, kept up, never an error, and no decoding with it."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ALL, write_picture, write_pictures
from test_rerank import open_seeing, refuse
from tiny_reranker import SeeingEncoder, write_reranker

import xsearch
from xsearch.indexer import regions, remember
from xsearch.indexer.regions import Described, RegionWriter, compact_regions, open_regions
from xsearch.retrieval.rerank import memories

SIZE = 16 * 3
"""Bytes of a picture's memory for the reranker of colours."""


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reranker(tmp_path_factory.mktemp("model") / "reranker")


@pytest.fixture
def seeing(tmp_path: Path, reranker: Path) -> Iterator[xsearch.Library]:
    with open_seeing(tmp_path / "library", reranker) as opened:
        yield opened


def found(library: xsearch.Library, query: str = "red") -> list[tuple[int, float]]:
    """Ids and scores of everything, from a library that was just opened."""
    library.close()
    hits = library.search(query, ALL, mode="meaning", rerank=ALL)
    return [(hit.id, hit.score) for hit in hits]


def cached(library: xsearch.Library) -> int:
    """How many pictures have a record."""
    about = library.status().regions
    return 0 if about is None else about.pictures


def files(library: xsearch.Library) -> set[str]:
    return {path.name for path in (library.path / "regions").glob("*")}


def harm(path: Path, at: int, data: bytes) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:at] + data + content[at + len(data) :])


# Filling


def test_with_a_cache_no_picture_is_read(
    seeing: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(photos, 12)
    assert seeing.index(photos).regions == 0
    assert (cached(seeing), files(seeing)) == (0, set())
    expected = found(seeing)
    report = seeing.index(region_cache=True)
    assert (report.regions, report.embedded, report.warnings) == (12, 0, ())
    assert cached(seeing) == 12
    monkeypatch.setattr(memories, "read_picture", refuse)
    assert found(seeing) == expected
    assert found(seeing, "green") != expected


def test_regions_are_read_in_the_same_pass_as_vectors(
    seeing: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(photos, 12)
    shutil.copy(photos / "003.jpg", photos / "copy.jpg")
    monkeypatch.setattr(remember, "read_picture", refuse)
    assert seeing.index(photos, region_cache=True, batch_size=5).regions == 12
    # It is remembered.
    write_pictures(photos, 3, first=12)
    assert seeing.index().regions == 3
    assert seeing.index().regions == 0
    assert cached(seeing) == 15
    expected = found(seeing)
    assert seeing.index(region_cache=False).regions == 0
    assert not (seeing.path / "regions").exists()
    assert seeing.status().regions is None
    assert found(seeing) == expected
    write_pictures(photos, 1, first=20)
    assert seeing.index().regions == 0


def test_an_encoder_that_gives_both_at_once_is_asked_once(
    tmp_path: Path, photos: Path, reranker: Path
) -> None:
    class Joint(SeeingEncoder):
        calls = 0

        def embed_with_regions(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            Joint.calls += 1
            return SeeingEncoder().embed_images(batch), SeeingEncoder().regions(batch)

        def embed_images(self, batch: np.ndarray) -> np.ndarray:
            raise AssertionError("asked twice")

        regions = embed_images

    write_pictures(photos, 5)
    with xsearch.open(tmp_path / "joint", encoder=Joint(), reranker=reranker) as library:
        assert library.index(photos, region_cache=True).regions == 5
    assert Joint.calls == 1
    with open_seeing(tmp_path / "joint", reranker) as library:
        assert len(found(library)) == 5


def test_status_tells_of_the_cache(seeing: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 10)
    seeing.index(photos, region_cache=True)
    write_pictures(photos, 4, first=10)
    seeing.index()
    about = seeing.status().regions
    assert about is not None
    assert (about.reranker, about.fingerprint, about.used) == ("colours", "a9e7", True)
    assert (about.pictures, about.of, about.bytes_each) == (14, 14, SIZE)
    assert seeing.status().bytes_on_disk["regions"] >= 14 * SIZE
    assert seeing.status().to_dict()["regions"]["pictures"] == 14


def test_ctrl_c_keeps_what_was_read_and_the_next_run_goes_on(
    seeing: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(photos, 12)
    seeing.index(photos)
    make, calls = memories.Memories.memories, []

    def impatient(self: memories.Memories, pixels: np.ndarray) -> np.ndarray:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(pixels))
        return make(self, pixels)

    monkeypatch.setattr(memories.Memories, "memories", impatient)
    with pytest.raises(KeyboardInterrupt):
        seeing.index(region_cache=True, batch_size=4)
    assert calls == [4, 4]
    assert cached(seeing) == 8
    assert seeing.status().last_run["state"] == "interrupted"
    monkeypatch.undo()
    assert seeing.index().regions == 4
    assert cached(seeing) == 12


def test_pictures_that_cannot_be_read_now_are_left_for_the_next_run(
    seeing: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    write_pictures(photos, 6)
    other = write_picture(tmp_path / "other" / "x.jpg", 50)
    seeing.index([photos, other.parent])
    photos.rename(tmp_path / "elsewhere")
    report = seeing.index(other.parent, region_cache=True)
    assert report.regions == 1
    assert any("6 pictures cannot be opened now" in warning for warning in report.warnings)
    (tmp_path / "elsewhere").rename(photos)
    assert seeing.index().regions == 6


def test_pictures_on_a_drive_that_is_away_are_reranked_from_the_cache(
    seeing: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 6)
    seeing.index(photos, region_cache=True)
    expected = found(seeing)
    photos.rename(photos.with_name("elsewhere"))
    assert found(seeing) == expected


def test_a_full_disk_ends_the_run_and_loses_nothing(
    seeing: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(photos, 6)
    seeing.index(photos, region_cache=True)
    expected = found(seeing)
    write_pictures(photos, 2, first=6)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(regions, "_write", full)
    with pytest.raises(xsearch.StorageError, match="No space left"):
        seeing.index()
    monkeypatch.undo()
    assert len(found(seeing)) == 8
    assert [one for one in found(seeing) if one[0] in dict(expected)] == expected
    assert seeing.index().regions == 2


# The reranker


def test_a_cache_needs_a_reranker(tmp_path: Path, photos: Path) -> None:
    write_pictures(photos, 2)
    with open_seeing(tmp_path / "library", None) as library:
        with pytest.raises(xsearch.EncoderError, match="has no reranker"):
            library.index(photos, region_cache=True)
        assert library.status().files == 0


def test_the_cache_remembers_its_reranker(
    seeing: xsearch.Library, photos: Path, reranker: Path, tmp_path: Path
) -> None:
    write_pictures(photos, 3)
    own = tmp_path / "own"
    shutil.copytree(reranker, own)
    with open_seeing(seeing.path, own) as library:
        library.index(photos, region_cache=True)
    write_pictures(photos, 2, first=3)
    with open_seeing(seeing.path, None) as library:
        assert library.index().regions == 2
        shutil.rmtree(own)
        write_pictures(photos, 2, first=5)
        report = library.index()
    assert (report.added, report.regions) == (2, 0)
    assert any("not kept up" in line and "--no-region-cache" in line for line in report.warnings)
    assert cached(seeing) == 5
    assert seeing.index().regions == 2


def test_another_reranker_makes_its_own_cache(
    seeing: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    write_pictures(photos, 4)
    seeing.index(photos, region_cache=True)
    other = write_reranker(tmp_path / "other", fingerprint="b00b")
    with open_seeing(seeing.path, other) as library:
        assert len(found(library)) == 4
        assert library.index().regions == 4
        assert files(library) == {"regions.json", "b00b.2.keys", "b00b.2.memories"}


def test_a_reranker_that_fails_does_not_stop_indexing(
    seeing: xsearch.Library, photos: Path, reranker: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(reranker, broken)
    (broken / "regions.onnx").write_bytes(b"no graph")
    write_pictures(photos, 4)
    with open_seeing(seeing.path, broken) as library:
        report = library.index(photos, region_cache=True)
    assert (report.added, report.embedded, report.regions) == (4, 4, 0)
    assert any("the region cache is not kept up" in warning for warning in report.warnings)
    assert seeing.index().regions == 4


def test_a_cache_of_another_encoder_is_said_and_goes_with_compaction(
    seeing: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 4)
    seeing.index(photos, region_cache=True)
    other = SeeingEncoder("c020", "other", grid=2)
    with xsearch.open(seeing.path) as library:
        library.reindex(other)
        about = library.status().regions
        assert about is not None
        assert not about.used
    with xsearch.open(seeing.path, encoder=other) as library:
        assert any("not kept up" in warning for warning in library.index().warnings)
        library.compact()
        assert library.status().regions is None


# Never an error


@pytest.mark.parametrize(
    "what",
    ["folder", "description", "keys", "memories", "json", "format", "outside", "shape", "empty"],
)
def test_a_cache_that_is_absent_or_damaged_is_never_an_error(
    seeing: xsearch.Library, photos: Path, what: str
) -> None:
    write_pictures(photos, 8)
    seeing.index(photos, region_cache=True)
    expected = found(seeing)
    seeing.close()
    folder = seeing.path / "regions"
    description = folder / "regions.json"
    content = json.loads(description.read_text())
    changed: dict[str, Any] = {
        "format": content | {"format": 99},
        "outside": content | {"fingerprint": "../../x"},
        "shape": content | {"shape": [4, 0]},
    }
    if what == "folder":
        shutil.rmtree(folder)
    elif what in ("keys", "memories"):
        (folder / f"a9e7.1.{what}").unlink()
    elif what == "description":
        description.unlink()
    elif what == "empty":
        (folder / "a9e7.1.keys").write_bytes(b"")
    else:
        description.write_text(json.dumps(changed[what]) if what in changed else "{")
    assert found(seeing) == expected
    assert seeing.check().ok
    assert seeing.index(region_cache=True).regions == 8
    assert cached(seeing) == 8
    assert found(seeing) == expected


@pytest.mark.parametrize("place", ["digest", "crc", "memory"])
def test_a_damaged_record_is_made_again(
    seeing: xsearch.Library,
    photos: Path,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_pictures(photos, 8)
    seeing.index(photos, region_cache=True)
    expected = found(seeing)
    keys, data = (seeing.path / "regions" / f"a9e7.1.{kind}" for kind in ("keys", "memories"))
    if place == "memory":
        harm(data, 3 * SIZE + 5, b"\x55\x55\x55")
    else:
        harm(keys, 3 * 24 + (20 if place == "crc" else 9), b"\x55\x55")
    read, calls = memories.read_picture, []

    def count(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return read(*args, **options)

    monkeypatch.setattr(memories, "read_picture", count)
    assert found(seeing) == expected
    assert len(calls) == 1
    report = seeing.check()
    assert report.ok
    assert any("1 records are damaged" in line for line in report.repaired)
    assert not seeing.check().repaired
    assert cached(seeing) == 7
    assert seeing.index().regions == 1
    assert found(seeing) == expected
    assert len(calls) == 1


@pytest.mark.parametrize(("keys", "data"), [(5, 0), (0, 7), (24, 0), (0, SIZE), (30, 100), (72, 3)])
def test_a_torn_tail_is_ignored_and_cut_by_the_next_writer(
    seeing: xsearch.Library, photos: Path, keys: int, data: int
) -> None:
    write_pictures(photos, 8)
    seeing.index(photos, region_cache=True)
    expected = found(seeing)
    seeing.close()
    folder = seeing.path / "regions"
    # What a run that died appended, and what was cut off before it.
    for path, more in ((folder / "a9e7.1.keys", keys), (folder / "a9e7.1.memories", data)):
        path.write_bytes(path.read_bytes() + b"\x11" * more)
    assert found(seeing) == expected
    write_pictures(photos, 1, first=8)
    seeing.index()
    assert len(found(seeing)) == 9
    assert cached(seeing) == 9
    assert (folder / "a9e7.1.keys").stat().st_size % 24 == 0
    assert (folder / "a9e7.1.memories").stat().st_size % SIZE == 0
    for path, less in ((folder / "a9e7.1.keys", keys), (folder / "a9e7.1.memories", data)):
        path.write_bytes(path.read_bytes()[: -less or None])
    assert len(found(seeing)) == 9
    seeing.index()
    assert cached(seeing) == 9


def test_the_cache_of_another_library_does_no_harm(
    seeing: xsearch.Library, photos: Path, tmp_path: Path, reranker: Path
) -> None:
    write_pictures(tmp_path / "foreign photos", 8, first=100)
    with open_seeing(tmp_path / "foreign", reranker) as foreign:
        foreign.index(tmp_path / "foreign photos", region_cache=True)
    write_pictures(photos, 8)
    seeing.index(photos, region_cache=True)
    expected = found(seeing)
    seeing.close()
    shutil.rmtree(seeing.path / "regions")
    shutil.copytree(tmp_path / "foreign" / "regions", seeing.path / "regions")
    assert cached(seeing) == 0
    assert found(seeing) == expected
    assert seeing.index().regions == 8
    assert found(seeing) == expected


# Compaction, and readers beside a writer


def test_compaction_drops_what_is_of_no_use(
    seeing: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(photos, 10)
    seeing.index(photos, region_cache=True)
    for at in range(4):
        (photos / f"{at:03}.jpg").unlink()
    seeing.index()
    expected = found(seeing)
    assert (seeing.path / "regions" / "a9e7.1.memories").stat().st_size == 10 * SIZE
    seeing.compact()
    assert files(seeing) == {"regions.json", "a9e7.2.keys", "a9e7.2.memories"}
    assert (seeing.path / "regions" / "a9e7.2.memories").stat().st_size == 6 * SIZE
    monkeypatch.setattr(memories, "read_picture", refuse)
    # The library that was open goes over to the new files by itself.
    hits = seeing.search("red", ALL, mode="meaning", rerank=ALL)
    assert {hit.id for hit in hits} == {id_ for id_, _ in expected}
    # What scores are measured against was made anew.
    assert found(seeing) == [(hit.id, hit.score) for hit in hits]
    seeing.compact()
    assert files(seeing) == {"regions.json", "a9e7.2.keys", "a9e7.2.memories"}


def test_readers_see_whole_records_while_a_writer_appends(tmp_path: Path) -> None:
    about = Described("colours", "a9e7", "c010", None, (16, 3))
    made = {bytes([at, *([at % 7] * 19)]): np.full((16, 3), at - 60, np.int8) for at in range(120)}
    with RegionWriter(tmp_path, about):
        pass
    stop, wrong = threading.Event(), []
    seen: set[int] = set()

    def read() -> None:
        while not stop.is_set():
            opened = open_regions(tmp_path, "a9e7")
            if opened is None:
                wrong.append("no cache")
                return
            records = opened.find(made)
            seen.add(len(records))
            wrong.extend(
                digest for digest, one in records.items() if not np.array_equal(one, made[digest])
            )
            if len(records) != len(opened):
                wrong.append("a key without its record")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    items = list(made.items())
    with RegionWriter(tmp_path, about) as writer:
        for start in range(0, 120, 8):
            part = items[start : start + 8]
            writer.append([digest for digest, _ in part], np.stack([one for _, one in part]))
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert len(open_regions(tmp_path, "a9e7") or ()) == 120


def test_searches_go_on_while_pictures_are_added(
    seeing: xsearch.Library, photos: Path, reranker: Path
) -> None:
    write_pictures(photos, 5)
    seeing.index(photos, region_cache=True)
    before = dict(found(seeing))
    stop, failed, counts = threading.Event(), list[Exception](), set[int]()

    def ask() -> None:
        with open_seeing(seeing.path, reranker) as library:
            while not stop.is_set():
                try:
                    hits = library.search("red", ALL, mode="meaning", rerank=ALL)
                    counts.add(len(hits))
                    assert {hit.id for hit in hits} >= set(before)
                except Exception as error:
                    failed.append(error)
                    return

    asking = threading.Thread(target=ask)
    asking.start()
    for at in range(5, 20, 5):
        write_pictures(photos, 5, first=at)
        seeing.index(commit_seconds=0)
    seeing.compact()
    stop.set()
    asking.join()
    assert not failed
    assert cached(seeing) == 20


# The files themselves


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200)), max_size=6, unique=True),
        max_size=5,
    ),
    st.data(),
)
def test_what_was_written_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    runs: Sequence[Sequence[tuple[int, int]]],
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("regions")
    about = Described("any", "f.1", "e", None, (2, 3))

    def digest(one: tuple[int, int]) -> bytes:
        # Some begin alike.
        return bytes([one[0]] * 8 + [one[1]] * 12)

    def memory(one: tuple[int, int]) -> np.ndarray:
        return np.full((2, 3), sum(one) % 100, np.int8)

    held: set[tuple[int, int]] = set()
    for run in runs:
        with RegionWriter(folder, about) as writer:
            writer.append([digest(one) for one in run], np.array([memory(one) for one in run]))
        held |= set(run)
    kept = {one for one in sorted(held) if data.draw(st.booleans())}
    if held:
        compact_regions(folder, ["e"], map(digest, kept))
        opened = open_regions(folder, "f.1")
        assert opened is not None
        assert len(opened) == len(kept)
        records = opened.find(map(digest, held))
        assert set(records) == {digest(one) for one in kept}
        assert all(np.array_equal(records[digest(one)], memory(one)) for one in kept)
        assert opened.damaged() == 0
