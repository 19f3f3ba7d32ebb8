"""Several at once: one writer at a time, and readers that always answer."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from children import Nursery, Say, await_file, nursery
from support import ColourEncoder, open_colour, paths_of, write_picture, write_pictures

import xsearch
from xsearch.indexer.lock import writer_lock
from xsearch.indexer.reader import Reader
from xsearch.retrieval.search import Ask, Searcher, Wanted

COUNT = 40


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


# Writers


def job_hold(say: Say, library: str, go_on: str) -> None:
    with writer_lock(Path(library), "xsearch index", wait=0):
        say("held")
        await_file(Path(go_on))


def job_index(
    say: Say, library: str, photos: str, wait: float = 30.0, go_on: str | None = None
) -> int:
    with open_colour(Path(library)) as opened:
        say("opened")
        if go_on:
            await_file(Path(go_on))
        return opened.index(photos, wait=wait, commit_seconds=0, batch_size=4).added


def test_a_second_writer_says_who_holds_the_library(
    children: Nursery, library: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    write_pictures(photos, 3)
    child = children.start("test_writers.job_hold", library=library.path, go_on=tmp_path / "go")
    child.until("held")
    for write in (
        lambda: library.index(photos, wait=0),
        lambda: library.remove(photos, wait=0),
        lambda: library.compact(wait=0),
        lambda: library.check(wait=0),
    ):
        with pytest.raises(xsearch.LibraryLockedError, match="xsearch index") as error:
            write()
        assert str(child.pid) in str(error.value)
    assert library.search("anything") == []
    (tmp_path / "go").touch()
    child.result()
    assert library.index(photos, wait=0).added == 3


def test_a_second_writer_waits_and_then_does_its_work(
    children: Nursery, library: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    write_pictures(photos, 5)
    holder = children.start("test_writers.job_hold", library=library.path, go_on=tmp_path / "go")
    holder.until("held")
    waiter = children.start("test_writers.job_index", library=library.path, photos=photos)
    waiter.until("opened")
    assert library.status().items["image"] == 0
    (tmp_path / "go").touch()
    assert waiter.result() == 5
    assert len(library.search("anything")) == 5


def test_two_processes_that_index_at_once_both_succeed(children: Nursery, tmp_path: Path) -> None:
    both = []
    for at in range(2):
        write_pictures(tmp_path / f"photos{at}", 30, first=at * 30)
        # Neither library exists yet: they race to make it, too.
        both.append(
            children.start(
                "test_writers.job_index",
                library=tmp_path / "library",
                photos=tmp_path / f"photos{at}",
            )
        )
    assert [child.result() for child in both] == [30, 30]
    with open_colour(tmp_path / "library") as library:
        assert len(library.search("anything", k=100)) == 60
        assert library.check().ok


def test_two_threads_exclude_each_other_like_two_processes(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 8)
    held, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        held.set()
        go_on.wait()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(library.index, photos, progress=hold)
        held.wait()
        with pytest.raises(xsearch.LibraryLockedError, match=str(os.getpid())):
            library.index(photos, wait=0)
        assert library.search("anything") == []
        go_on.set()
        assert first.result().added == 8
    assert library.index(photos, wait=0).unchanged == 8


def test_threads_index_at_once_by_waiting(library: xsearch.Library, tmp_path: Path) -> None:
    for at in range(4):
        write_pictures(tmp_path / f"photos{at}", 5, first=at * 5)
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(library.index, [tmp_path / f"photos{at}" for at in range(4)]))
    assert [report.added for report in reports] == [5] * 4
    assert len(library.search("anything", k=100)) == 20


def test_threads_make_libraries_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for library in pool.map(open_colour, [tmp_path / str(at // 2) for at in range(8)]):
            assert library.search("anything") == []
            library.close()


# Readers


def job_read(say: Say, library: str, first: str, stop: str) -> int:
    """Search for one picture again and again; it must always be the first hit."""
    answers = 0
    with open_colour(Path(library)) as opened:
        while not Path(stop).exists():
            hits = opened.search(xsearch.Image(first), k=5)
            assert len(hits) == 5
            assert paths_of(hits)[0] == Path(first)
            assert hits[0].similarity > 0.999
            assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
            opened.status()
            answers += 1
            if answers == 1:
                say("answering")
    return answers


def test_readers_answer_during_indexing_deletion_and_compaction(
    children: Nursery, library: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    paths = write_pictures(photos, COUNT)
    library.index(photos)
    stop = tmp_path / "stop"
    readers = [
        children.start("test_writers.job_read", library=library.path, first=paths[0], stop=stop)
        for _ in range(2)
    ]
    for reader in readers:
        reader.until("answering")
    for round_ in range(6):
        write_pictures(photos, 10, first=100 + round_ * 10)
        assert library.index(photos, commit_seconds=0, batch_size=2).added == 10
        for at in range(100 + round_ * 10, 105 + round_ * 10):
            (photos / f"{at}.jpg").unlink()
        library.index(photos)
        assert library.compact().vectors_dropped == 5
        library.check()
    stop.touch()
    assert all(reader.result() > 1 for reader in readers)


def test_a_library_held_open_sees_every_commit_across_compactions(
    children: Nursery, library: xsearch.Library, photos: Path
) -> None:
    paths = write_pictures(photos, COUNT)
    with open_colour(library.path) as held:
        assert held.search("anything") == []
        library.index(photos)
        for at in range(8):
            assert held.search(xsearch.Image(paths[at]), k=1)[0].path == paths[at]
            library.remove(paths[at])
            assert paths_of(held.search(xsearch.Image(paths[at + 1]), k=1)) == [paths[at + 1]]
            library.compact()
            found = paths_of(held.search(xsearch.Image(paths[at]), k=COUNT))
            assert sorted(found) == paths[at + 1 :]
        assert held.status().generation == library.status().generation == 9


def test_a_snapshot_stays_as_it_was_while_others_write(
    library: xsearch.Library, photos: Path
) -> None:
    paths = write_pictures(photos, 10)
    library.index(photos)
    reader = Reader(library.path)
    with reader.snapshot() as snapshot:
        encoder, revision = snapshot.encoder(), snapshot.revision()
        rows = snapshot.rows_of(encoder.id, "image")
        write_pictures(photos, 5, first=20)
        paths[0].unlink()
        library.index(photos)
        library.compact()
        assert snapshot.revision() == revision
        assert snapshot.rows_of(encoder.id, "image") == rows
        assert [
            place.path
            for item in snapshot.items_at(encoder.id, rows).values()
            for place in item.files
        ] == paths
    with reader.snapshot() as snapshot:
        assert len(snapshot.rows_of(encoder.id, "image")) == 14
    reader.close()


def test_a_search_that_meets_a_generation_switch_looks_again(
    library: xsearch.Library, photos: Path
) -> None:
    paths = write_pictures(photos, 10)
    library.index(photos)
    query = ColourEncoder().embed_images(ColourEncoder().preprocess(xsearch_image(paths[3]))[None])[
        0
    ]
    compacted = threading.Event()

    class Slow(Reader):
        """A reader between whose snapshot and search a compaction takes place."""

        def snapshot(self):
            return _Compacting(super().snapshot(), library, compacted)

    reader = Slow(library.path)
    searcher = Searcher(reader)
    logistic = ColourEncoder().calibration("image", "image")
    hits = searcher.search([Ask(query, "image", logistic, "c010")], Wanted(k=3, target="image"))
    assert compacted.is_set()
    assert hits[0].path == paths[3]
    assert len(hits) == 3
    reader.close()


class _Compacting:
    def __init__(self, inner, library: xsearch.Library, done: threading.Event) -> None:
        self._inner, self._library, self._done = inner, library, done

    def __enter__(self):
        snapshot = self._inner.__enter__()
        snapshot.encoder()
        if not self._done.is_set():
            self._done.set()
            self._library.compact()
        return snapshot

    def __exit__(self, *error: object):
        return self._inner.__exit__(*error)


def xsearch_image(path: Path):
    from PIL import Image

    return Image.open(path).convert("RGB")


def test_a_deleted_item_is_gone_for_every_reader_at_once(
    library: xsearch.Library, photos: Path
) -> None:
    paths = write_pictures(photos, 6)
    library.index(photos)
    with open_colour(library.path) as other:
        assert len(other.search("anything")) == 6
        library.remove(paths[2])
        assert paths[2] not in paths_of(other.search("anything"))
        assert len(other.search("anything", k=5)) == 5


def test_searching_from_many_threads_gives_what_one_gives(
    library: xsearch.Library, photos: Path
) -> None:
    paths = write_pictures(photos, 12)
    library.index(photos)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda path: library.search(xsearch.Image(path), k=3), paths * 5))
    expected = [library.search(xsearch.Image(path), k=3) for path in paths]
    assert found == expected * 5


def test_a_library_whose_folder_is_replaced_is_read_anew_once_opened_again(
    tmp_path: Path, photos: Path
) -> None:
    write_picture(photos / "a.png", 1)
    with open_colour(tmp_path / "library") as library:
        library.index(photos)
    shutil.copytree(tmp_path / "library", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "library")
    with open_colour(tmp_path / "elsewhere") as library:
        assert len(library.search("anything")) == 1
        assert library.check().ok
