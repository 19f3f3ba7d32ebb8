"""`check`: what is derived is repaired, what is lost is named and then embedded again."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from children import Nursery, Say, nursery
from support import open_colour, paths_of, write_pictures, write_text
from test_crash import content

import xsearch

COUNT = 30
WIDTH = 48 * 2


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos`, some with sidecars, and the `library` of them."""
    base = tmp_path_factory.mktemp("made")
    for at, path in enumerate(write_pictures(base / "photos", COUNT)):
        if at % 3 == 0:
            write_text(path.with_suffix(".txt"), f"a sidecar of picture {at}")
    with open_colour(base / "library") as library:
        library.index(base / "photos")
        assert library.check().ok
    return base


@pytest.fixture
def library(made: Path, tmp_path: Path) -> Iterator[xsearch.Library]:
    shutil.copytree(made / "library", tmp_path / "library")
    with open_colour(tmp_path / "library") as opened:
        yield opened


def vectors_of(library: xsearch.Library) -> Path:
    (path,) = (library.path / "vectors").iterdir()
    return path


def index_of(library: xsearch.Library, kind: str = "image") -> Path:
    (path,) = (library.path / "indices").glob(f"*.{kind}.*.faiss")
    return path


def execute(library: xsearch.Library, sql: str) -> int:
    with closing(sqlite3.connect(library.path / "catalog.db")) as catalog, catalog:
        changed = catalog.execute(sql).rowcount
        catalog.execute("UPDATE library SET revision = revision + 1")
        return changed


def every_picture_finds_itself(library: xsearch.Library, photos: Path) -> bool:
    paths = sorted(photos.glob("*.jpg"))
    return all(paths_of(library.search(xsearch.Image(path), k=1)) == [path] for path in paths)


def test_a_sound_library_is_left_as_it_is(library: xsearch.Library, made: Path) -> None:
    report = library.check()
    assert report.ok
    assert (report.lost, report.repaired, report.problems) == (0, (), ())
    assert (report.files, report.items, report.vectors) == (COUNT, COUNT + 10, COUNT + 10)
    assert content(library.path) == content(made / "library")


def test_an_empty_library_is_sound(tmp_path: Path) -> None:
    with open_colour(tmp_path / "library") as library:
        assert library.check().ok


def test_rows_of_an_unfinished_run_are_cut_off(library: xsearch.Library, made: Path) -> None:
    with vectors_of(library).open("ab") as file:
        file.write(bytes(WIDTH * 3 + 17))
    assert every_picture_finds_itself(library, made / "photos")
    report = library.check()
    assert report.ok
    assert "4 rows" in report.repaired[0]
    assert library.check().repaired == ()
    assert content(library.path) == content(made / "library")


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def cut_in_half(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x40
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [garbage, cut_in_half, flip_last_byte, empty, delete])
def test_a_harmed_index_is_built_again(
    library: xsearch.Library, made: Path, harm: Callable[[Path], None]
) -> None:
    before = index_of(library).read_bytes()
    harm(index_of(library))
    report = library.check()
    assert report.ok
    assert report.repaired
    assert index_of(library).read_bytes() == before
    assert library.check().repaired == ()
    assert every_picture_finds_itself(library, made / "photos")


def job_search(say: Say, library: str, photos: str) -> int:
    with open_colour(Path(library)) as opened:
        hits = opened.search(xsearch.Image(Path(photos) / "003.jpg"), k=5)
        opened.search("anything", k=100, target="text")
        return len(hits)


@pytest.mark.parametrize("harm", [cut_in_half, empty, delete, "header", "ids", "short"])
def test_a_harmed_index_never_ends_the_process_and_the_answer_is_right(
    children: Nursery, library: xsearch.Library, made: Path, harm: str | Callable[[Path], None]
) -> None:
    path = index_of(library)
    data = bytearray(path.read_bytes())
    if harm == "header":
        data[:64] = bytes(64)
        path.write_bytes(data)
    elif harm == "ids":
        data[-9 * COUNT :] = bytes([0x7F] * 9 * COUNT)
        path.write_bytes(data)
    elif harm == "short":
        path.write_bytes(data[:-1])
    else:
        harm(path)
    child = children.start("test_check.job_search", library=library.path, photos=made / "photos")
    found = child.result()
    assert found == 5


@pytest.mark.parametrize("seed", range(3))
def test_garbage_in_the_head_of_an_index_never_ends_the_process(
    children: Nursery, library: xsearch.Library, made: Path, seed: int
) -> None:
    chance = random.Random(seed)
    path = index_of(library)
    whole = path.read_bytes()
    for _ in range(10):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(120)] = chance.randrange(256)
        path.write_bytes(data)
        child = children.start(
            "test_check.job_search", library=library.path, photos=made / "photos"
        )
        assert child.result() == 5
    path.write_bytes(data)
    assert library.check().ok
    assert index_of(library).read_bytes() == whole


def test_a_flipped_byte_among_the_vectors_is_found_and_embedded_again(
    library: xsearch.Library, made: Path
) -> None:
    path = vectors_of(library)
    data = bytearray(path.read_bytes())
    for row in (2, 17):
        data[row * WIDTH + 5] ^= 0x10
    path.write_bytes(data)
    report = library.check()
    assert not report.ok
    assert report.lost == 2
    assert any("2 vectors are damaged" in what for what in report.repaired)
    # What is lost is not found, the rest is.
    assert len(library.search("anything", k=100)) == COUNT - 2
    assert not library.check().ok
    again = library.index(made / "photos")
    assert again.embedded == 2
    assert again.failed == 0
    assert library.check().ok
    assert content(library.path)["items"] == content(made / "library")["items"]
    assert every_picture_finds_itself(library, made / "photos")


@pytest.mark.parametrize("left", [0, 1, WIDTH * 7, WIDTH * 7 + 50, None])
def test_a_truncated_or_missing_file_of_vectors_is_embedded_again(
    library: xsearch.Library, made: Path, left: int | None
) -> None:
    path = vectors_of(library)
    if left is None:
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.truncate(left)
    library.close()
    with pytest.raises(xsearch.LibraryError, match="xsearch check"):
        library.search("anything")
    report = library.check()
    assert report.lost == COUNT + 10 - (left or 0) // WIDTH
    assert len(library.search("anything", k=100)) == min((left or 0) // WIDTH, COUNT)
    again = library.index(made / "photos")
    assert again.embedded == report.lost
    assert library.check().ok
    assert content(library.path)["items"] == content(made / "library")["items"]
    assert every_picture_finds_itself(library, made / "photos")


def test_an_index_over_rows_that_were_lost_is_not_used_for_those_that_take_their_place(
    library: xsearch.Library, made: Path
) -> None:
    old = index_of(library)
    kept = old.read_bytes()
    vectors_of(library).unlink()
    library.check()
    assert not old.exists()
    assert kept


@pytest.mark.parametrize(
    "tampering",
    [
        "DELETE FROM embeddings WHERE row IN (3, 4)",
        "UPDATE embeddings SET crc = crc + 1 WHERE row IN (3, 4)",
        "UPDATE embeddings SET row = row + 1000 WHERE row IN (3, 4)",
    ],
)
def test_a_catalog_that_was_tampered_with_is_mended_by_the_next_run(
    library: xsearch.Library, made: Path, tampering: str
) -> None:
    assert execute(library, tampering) == 2
    report = library.check()
    assert not report.ok
    library.search("anything", k=100)
    assert library.index(made / "photos").embedded == 2
    assert library.check().ok
    assert content(library.path)["items"] == content(made / "library")["items"]
    assert every_picture_finds_itself(library, made / "photos")


def test_rows_that_name_what_is_not_there_are_a_problem(library: xsearch.Library) -> None:
    execute(library, "DELETE FROM items WHERE id = 1")
    report = library.check()
    assert not report.ok
    assert any("items" in what for what in report.problems)
    library.search("anything", k=100)


def test_swapped_rows_are_found(library: xsearch.Library, made: Path) -> None:
    execute(library, "UPDATE embeddings SET row = -1 WHERE row = 3")
    execute(library, "UPDATE embeddings SET row = 3 WHERE row = 4")
    execute(library, "UPDATE embeddings SET row = 4 WHERE row = -1")
    assert library.check().lost == 2
    library.index(made / "photos")
    assert library.check().ok
    assert every_picture_finds_itself(library, made / "photos")
