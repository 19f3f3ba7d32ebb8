"""What `index` makes of files that are added, changed, moved, removed or equal."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import (
    ColourEncoder,
    age,
    ids,
    like,
    nearest,
    open_colour,
    paths_of,
    picture,
    write_picture,
    write_pictures,
    write_text,
)

import xsearch

# Nothing changed


def test_a_second_index_of_an_unchanged_folder_reads_nothing(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 12)
    first = library.index(photos)
    assert (first.added, first.decoded, first.embedded) == (12, 12, 12)
    second = library.index(photos)
    assert (second.added, second.unchanged) == (0, 12)
    assert (second.decoded, second.embedded) == (0, 0)
    assert second.rates == xsearch.Rates()


def test_index_without_paths_looks_at_everything_indexed_before(
    library: xsearch.Library, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "a", 2)
    write_pictures(tmp_path / "b", 2, first=10)
    library.index([tmp_path / "a", tmp_path / "b"])
    write_picture(tmp_path / "b" / "new.jpg", 20)
    report = library.index()
    assert (report.added, report.unchanged) == (1, 4)


def test_a_touched_file_is_unchanged_and_not_decoded(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 3)
    library.index(photos)
    age(photos / "001.jpg", seconds=60)
    report = library.index(photos)
    assert (report.unchanged, report.updated, report.decoded) == (3, 0, 0)


def test_progress_is_told_for_every_file(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 5)
    write_text(photos / "000.txt", "caption\n")
    told: list[xsearch.Progress] = []
    library.index(photos, progress=told.append)
    embedding = [progress for progress in told if progress.stage == "embed"]
    assert [progress.done for progress in embedding] == [1, 2, 3, 4, 5, 6]
    assert {progress.total for progress in embedding} == {6}
    assert str(photos / "004.jpg") in {progress.path for progress in embedding}
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert stages == ["scan", "embed", "index"]


def test_what_was_committed_before_an_error_stays(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 10)

    def fail(progress: xsearch.Progress) -> None:
        if progress.done == 7 and progress.stage == "embed":
            raise RuntimeError("of the program that shows the progress")

    with pytest.raises(RuntimeError, match="of the program"):
        library.index(photos, progress=fail, commit_seconds=0.0)
    assert library.status().files == 6
    run = library.status().last_run
    assert run is not None
    assert run["state"] == "failed"
    assert len(like(library, 3)) == 6
    report = library.index(photos)
    assert (report.unchanged, report.added, report.embedded) == (6, 4, 4)
    assert library.check().ok


def test_two_threads_may_index_at_once(library: xsearch.Library, tmp_path: Path) -> None:
    folders = [tmp_path / str(at) for at in range(4)]
    for at, folder in enumerate(folders):
        write_pictures(folder, 3, first=10 * at)
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda folder: library.index(folder, wait=60.0), folders))
    assert [report.added for report in reports] == [3] * 4
    assert len(like(library, 0)) == 12


# Moved


def test_a_renamed_file_is_not_embedded_again(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 3)
    library.index(photos)
    before = nearest(library, 1)
    (photos / "001.jpg").rename(photos / "holiday.jpg")
    report = library.index(photos)
    assert (report.moved, report.added, report.removed) == (1, 0, 0)
    assert (report.decoded, report.embedded) == (0, 0)
    after = nearest(library, 1)
    assert (after.id, after.path) == (before.id, photos / "holiday.jpg")
    assert len(like(library, 1)) == 3


@pytest.mark.parametrize("to", ["z/later", "a/earlier"])
def test_a_file_moved_to_another_folder_is_not_embedded_again(
    library: xsearch.Library, photos: Path, to: str
) -> None:
    write_pictures(photos / "m", 3)
    library.index(photos)
    before = nearest(library, 1)
    (photos / to).mkdir(parents=True)
    (photos / "m" / "001.jpg").rename(photos / to / "001.jpg")
    report = library.index(photos)
    assert (report.moved, report.added, report.removed, report.embedded) == (1, 0, 0, 0)
    after = nearest(library, 1)
    assert (after.id, after.path) == (before.id, photos / to / "001.jpg")


def test_a_file_moved_to_another_root_keeps_its_id(
    library: xsearch.Library, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "a", 3)
    write_pictures(tmp_path / "b", 3, first=10)
    library.index([tmp_path / "a", tmp_path / "b"])
    before = nearest(library, 11)
    (tmp_path / "b" / "011.jpg").rename(tmp_path / "a" / "011.jpg")
    report = library.index()
    assert (report.moved, report.added, report.removed, report.embedded) == (1, 0, 0, 0)
    after = nearest(library, 11)
    assert (after.id, after.path) == (before.id, tmp_path / "a" / "011.jpg")


def test_two_files_that_swap_names_keep_their_ids(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 2)
    age(photos / "001.jpg", 60)
    library.index(photos)
    before = ids(library)
    (photos / "000.jpg").rename(photos / "x")
    (photos / "001.jpg").rename(photos / "000.jpg")
    (photos / "x").rename(photos / "001.jpg")
    report = library.index(photos)
    assert (report.embedded, report.removed) == (0, 0)
    assert ids(library) == {"000.jpg": before["001.jpg"], "001.jpg": before["000.jpg"]}


def test_a_name_that_changes_only_by_case_is_a_move(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 2)
    library.index(photos)
    before = nearest(library, 1)
    (photos / "001.jpg").rename(photos / "001.JPG")
    report = library.index(photos)
    assert (report.moved, report.added, report.removed, report.embedded) == (1, 0, 0, 0)
    after = nearest(library, 1)
    assert (after.id, after.path) == (before.id, photos / "001.JPG")


def test_a_moved_root_changes_paths_and_nothing_else(
    library: xsearch.Library, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "old" / "sub", 10)
    library.index(tmp_path / "old")
    before = ids(library)
    (tmp_path / "old").rename(tmp_path / "new")
    report = library.index(tmp_path / "new")
    assert (report.moved, report.added, report.removed) == (10, 0, 0)
    assert (report.decoded, report.embedded) == (0, 0)
    assert ids(library) == before
    assert nearest(library, 3).path == tmp_path / "new" / "sub" / "003.jpg"
    assert [root.path for root in library.status().roots] == [tmp_path / "new"]


def test_a_moved_root_may_have_changed_a_little(library: xsearch.Library, tmp_path: Path) -> None:
    write_pictures(tmp_path / "old", 10)
    library.index(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    write_picture(tmp_path / "new" / "000.jpg", 100)
    write_picture(tmp_path / "new" / "more.jpg", 101)
    report = library.index(tmp_path / "new")
    assert (report.moved, report.updated, report.added, report.embedded) == (9, 1, 1, 2)


def test_a_folder_half_like_a_missing_root_is_a_root_of_its_own(
    library: xsearch.Library, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "old", 10)
    library.index(tmp_path / "old")
    before = ids(library)
    (tmp_path / "old").rename(tmp_path / "new")
    for at in range(5):
        write_picture(tmp_path / "new" / f"{at:03}.jpg", 100 + at)
    report = library.index(tmp_path / "new")
    # Equal content is the same item wherever it lies.
    assert (report.added, report.removed, report.embedded) == (10, 0, 5)
    assert {root.path for root in library.status().roots} == {tmp_path / "old", tmp_path / "new"}
    kept = nearest(library, 7)
    assert (kept.id, kept.path) == (before["007.jpg"], tmp_path / "new" / "007.jpg")
    away = nearest(library, 2)
    assert away.missing
    assert away.path == tmp_path / "old" / "002.jpg"


# Edited


def test_an_edited_file_is_found_as_it_is_now(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 3)
    library.index(photos)
    before = nearest(library, 1)
    write_picture(photos / "001.jpg", 50)
    age(photos / "001.jpg", 60)
    report = library.index(photos)
    assert (report.updated, report.unchanged, report.embedded) == (1, 2, 1)
    after = nearest(library, 50)
    assert after.path == photos / "001.jpg"
    assert after.id != before.id
    assert before.id not in {hit.id for hit in like(library, 1)}


def test_a_rewrite_with_equal_size_and_time_within_two_seconds_is_noticed(
    library: xsearch.Library, photos: Path
) -> None:
    path = photos / "a.bmp"  # equal sizes whatever the colours
    picture(1).save(path)
    write_picture(photos / "other.jpg", 9)
    before = path.stat()
    library.index(photos)
    picture(2).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    report = library.index(photos)
    assert (report.updated, report.unchanged) == (1, 1)
    assert nearest(library, 2).path == path


def test_a_picture_replaced_by_a_damaged_one_leaves_the_results(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 2)
    library.index(photos)
    (photos / "001.jpg").write_bytes((photos / "001.jpg").read_bytes()[:200])
    age(photos / "001.jpg", 60)
    report = library.index(photos)
    assert (report.failed, report.unchanged) == (1, 1)
    assert paths_of(like(library, 1)) == [photos / "000.jpg"]
    assert [failed.path for failed in library.failures()] == [photos / "001.jpg"]


class _Rewriting(ColourEncoder):
    """While it preprocesses, a file that is being read is written to, as by a slow copy."""

    def __init__(self, path: Path, times: int) -> None:
        super().__init__()
        self._path = path
        self._times = times

    def rewrite(self) -> None:
        if self._times:
            self._times -= 1
            write_picture(self._path, 200 + self._times)
            age(self._path, 100 + self._times)


def _index_while_rewriting(
    folder: Path, photos: Path, path: Path, times: int
) -> xsearch.IndexReport:
    """Index with a hasher that lets another program write between hashing and decoding."""
    from xsearch.indexer import reading

    encoder = _Rewriting(path, times)
    decode = reading.decode

    def decode_while_written(file: object, **options: object) -> object:
        decoded = decode(file, **options)  # type: ignore[arg-type]
        if Path(file.name) == path:  # type: ignore[attr-defined]
            encoder.rewrite()
        return decoded

    with pytest.MonkeyPatch.context() as patch, xsearch.open(folder, encoder=encoder) as library:
        patch.setattr(reading, "decode", decode_while_written)
        return library.index(photos, workers=1)


def test_a_file_that_changes_while_it_is_read_is_read_once_more(
    tmp_path: Path, photos: Path
) -> None:
    write_pictures(photos, 3)
    report = _index_while_rewriting(tmp_path / "lib", photos, photos / "001.jpg", 1)
    assert (report.added, report.failed) == (3, 0)
    with open_colour(tmp_path / "lib") as library:
        assert nearest(library, 200).path == photos / "001.jpg"


def test_a_file_that_keeps_changing_fails_and_is_indexed_the_next_time(
    tmp_path: Path, photos: Path
) -> None:
    write_pictures(photos, 3)
    report = _index_while_rewriting(tmp_path / "lib", photos, photos / "001.jpg", 2)
    assert (report.added, report.failed) == (2, 1)
    assert report.failures[0].path == photos / "001.jpg"
    assert "written to while it was read" in report.failures[0].reason
    with open_colour(tmp_path / "lib") as library:
        again = library.index(photos)
        assert (again.failed, again.unchanged, again.decoded) == (0, 2, 1)
        assert nearest(library, 200).path == photos / "001.jpg"
        assert library.failures() == []


# Deleted, and back


def test_a_deleted_file_leaves_the_results_even_before_the_next_index(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 4)
    library.index(photos)
    (photos / "002.jpg").unlink()
    assert len(like(library, 2)) == 3
    # As many as were asked for come back whenever there are as many.
    assert len(like(library, 2, k=3)) == 3
    report = library.index(photos)
    assert (report.removed, report.unchanged) == (1, 3)
    assert photos / "002.jpg" not in paths_of(like(library, 2))
    assert library.status().items["image"] == 3


def test_a_deleted_folder_leaves_the_results(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos / "keep", 2)
    write_pictures(photos / "drop" / "deep", 3, first=10)
    library.index(photos)
    shutil.rmtree(photos / "drop")
    assert library.index(photos).removed == 3
    assert library.status().files == 2


def test_a_deleted_file_that_comes_back_keeps_its_id_and_is_not_embedded_again(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 3)
    library.index(photos)
    before = nearest(library, 1)
    data = (photos / "001.jpg").read_bytes()
    (photos / "001.jpg").unlink()
    library.index(photos)
    (photos / "001.jpg").write_bytes(data)
    age(photos / "001.jpg", 60)
    report = library.index(photos)
    assert (report.added, report.embedded) == (1, 0)
    assert nearest(library, 1).id == before.id


def test_without_pruning_what_is_gone_stays_in_the_library(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 3)
    library.index(photos)
    (photos / "001.jpg").unlink()
    assert library.index(photos, prune=False).removed == 0
    assert library.status().items["image"] == 3
    assert library.index(photos).removed == 1
    assert library.status().items["image"] == 2


# Equal content


def test_equal_content_under_two_names_is_one_item(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 2)
    shutil.copy2(photos / "001.jpg", photos / "copy.jpg")
    report = library.index(photos)
    assert (report.added, report.embedded) == (3, 2)
    hits = like(library, 1)
    assert len(hits) == 2
    assert hits[0].path == photos / "001.jpg"
    assert hits[0].other_paths == (photos / "copy.jpg",)

    (photos / "001.jpg").unlink()
    found = nearest(library, 1)
    assert (found.path, found.other_paths) == (photos / "copy.jpg", ())
    report = library.index(photos)
    assert (report.removed, report.unchanged) == (1, 2)
    found = nearest(library, 1)
    assert (found.id, found.path, found.other_paths) == (hits[0].id, photos / "copy.jpg", ())


@pytest.mark.parametrize("commit_seconds", [0.0, 60.0])
def test_equal_content_is_embedded_once_whenever_it_is_committed(
    library: xsearch.Library, photos: Path, commit_seconds: float
) -> None:
    write_picture(photos / "a.jpg", 1)
    for at in range(40):
        shutil.copy2(photos / "a.jpg", photos / f"copy{at}.jpg")
    report = library.index(photos, commit_seconds=commit_seconds, workers=4, batch_size=2)
    assert (report.added, report.embedded) == (41, 1)
    (hit,) = like(library, 1)
    assert len(hit.other_paths) == 40
