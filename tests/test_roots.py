"""Roots out of reach or inside one another, odd names, failures, removing and compacting."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from support import (
    ColourEncoder,
    age,
    ids,
    like,
    nearest,
    open_colour,
    write_picture,
    write_pictures,
    write_text,
)

import xsearch

# Out of reach


def test_a_missing_root_loses_nothing(library: xsearch.Library, tmp_path: Path) -> None:
    write_pictures(tmp_path / "drive", 3)
    library.index(tmp_path / "drive")
    (tmp_path / "drive").rename(tmp_path / "elsewhere")
    report = library.index()
    assert report.removed == 0
    assert len(report.warnings) == 1
    assert str(tmp_path / "drive") in report.warnings[0]
    hits = like(library, 1)
    assert len(hits) == 3
    assert all(hit.missing for hit in hits)
    assert library.status().warnings

    (tmp_path / "elsewhere").rename(tmp_path / "drive")
    report = library.index()
    assert (report.unchanged, report.decoded, report.warnings) == (3, 0, ())
    assert not nearest(library, 1).missing


def test_an_empty_root_loses_nothing(library: xsearch.Library, tmp_path: Path) -> None:
    write_pictures(tmp_path / "drive", 3)
    library.index(tmp_path / "drive")
    (tmp_path / "drive").rename(tmp_path / "elsewhere")
    (tmp_path / "drive").mkdir()
    report = library.index(tmp_path / "drive")
    assert report.removed == 0
    assert "empty" in report.warnings[0]
    assert [hit.missing for hit in like(library, 1)] == [True] * 3


def test_an_unmounted_root_beside_others_does_not_lose_files_that_are_found_elsewhere(
    library: xsearch.Library, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "drive", 3)
    library.index(tmp_path / "drive")
    shutil.copytree(tmp_path / "drive", tmp_path / "copy")
    (tmp_path / "drive").rename(tmp_path / "unmounted")
    (tmp_path / "drive").mkdir()
    library.index(tmp_path / "copy")
    (tmp_path / "drive").rmdir()
    (tmp_path / "unmounted").rename(tmp_path / "drive")
    report = library.index()
    assert (report.unchanged, report.added, report.embedded) == (6, 0, 0)


def test_a_path_that_does_not_exist_is_an_error_that_changes_nothing(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 1)
    with pytest.raises(xsearch.SourceError, match="no such file or folder"):
        library.index([photos, photos / "nope"])
    assert library.status().roots == ()


def _without_overriding_permissions() -> None:
    """Let root, too, be refused what a file's mode refuses (Linux: prctl's PR_CAPBSET_DROP)."""
    prctl = ctypes.CDLL(None).prctl
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        prctl(24, capability, 0, 0, 0)


@pytest.mark.skipif(os.name != "posix", reason="folders cannot be made unreadable here")
def test_an_unreadable_folder_loses_nothing(tmp_path: Path) -> None:
    photos, folder = tmp_path / "photos", tmp_path / "library"
    write_pictures(photos, 1)
    write_pictures(photos / "private", 2, first=10)
    with open_colour(folder) as library:
        library.index(photos)
    script = (
        "import os, sys; from pathlib import Path; from support import open_colour\n"
        "if os.access(Path(sys.argv[2]) / 'private', os.R_OK): sys.exit('readable')\n"
        "with open_colour(Path(sys.argv[1])) as library: report = library.index(sys.argv[2])\n"
        "print(report.removed, report.unchanged, *report.warnings)"
    )
    (photos / "private").chmod(0)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, folder, photos],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            },
            preexec_fn=_without_overriding_permissions if sys.platform == "linux" else None,
        )
    finally:
        (photos / "private").chmod(0o755)
    if done.stderr.strip() == "readable":
        pytest.skip("this user reads everything")
    assert done.returncode == 0, done.stderr
    removed, unchanged, warning = done.stdout.split(maxsplit=2)
    assert (removed, unchanged) == ("0", "1")
    assert "private could not be read" in warning
    with open_colour(folder) as library:
        assert len(like(library, 10)) == 3


# Roots


def test_an_outer_root_takes_over_an_inner_one(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos / "inner" / "deep", 3)
    write_picture(photos / "inner" / "top.jpg", 10)
    library.index(photos / "inner")
    before = ids(library)
    write_picture(photos / "out.jpg", 11)
    report = library.index(photos)
    assert (report.added, report.unchanged, report.embedded) == (1, 4, 1)
    assert [root.path for root in library.status().roots] == [photos]
    after = ids(library)
    assert {name: after[name] for name in before} == before
    assert nearest(library, 1).path == photos / "inner" / "deep" / "001.jpg"
    (photos / "inner" / "top.jpg").unlink()
    assert library.index().removed == 1


def test_an_inner_folder_is_part_of_its_outer_root(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos / "inner", 3)
    write_picture(photos / "out.jpg", 11)
    library.index(photos)
    write_picture(photos / "inner" / "new.jpg", 12)
    write_picture(photos / "new.jpg", 13)
    (photos / "out.jpg").unlink()
    report = library.index(photos / "inner")
    # Only what was named is looked at.
    assert (report.added, report.unchanged, report.removed) == (1, 3, 0)
    assert [root.path for root in library.status().roots] == [photos]


def test_a_single_picture_becomes_part_of_a_root_that_holds_it(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 2)
    library.index(photos / "001.jpg")
    before = nearest(library, 1)
    report = library.index(photos)
    assert (report.added, report.unchanged, report.embedded) == (1, 1, 1)
    assert [root.path for root in library.status().roots] == [photos]
    assert nearest(library, 1).id == before.id
    report = library.index([photos / "001.jpg", photos / "000.jpg"])
    assert (report.unchanged, report.added) == (2, 0)
    assert [root.path for root in library.status().roots] == [photos]


def test_paths_given_twice_or_inside_one_another_are_scanned_once(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos / "inner", 2)
    report = library.index(
        [photos, photos / "inner", photos, f"{photos}/", photos / "inner" / "000.jpg"]
    )
    assert (report.added, report.unchanged) == (2, 0)
    assert [root.path for root in library.status().roots] == [photos]
    assert library.status().files == 2


def test_a_root_inside_a_hidden_folder_is_indexed_when_named(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 1)
    write_pictures(photos / ".hidden" / "trip", 2, first=10)
    library.index(photos)
    assert library.status().files == 1
    report = library.index(photos / ".hidden" / "trip")
    assert (report.added, report.removed) == (2, 0)
    report = library.index()
    assert (report.unchanged, report.removed) == (3, 0)
    assert nearest(library, 11).path == photos / ".hidden" / "trip" / "011.jpg"


def test_excluded_folders_are_remembered_and_leave_the_library(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos / "keep", 2)
    write_pictures(photos / "drafts", 2, first=10)
    library.index(photos, exclude_dirs=["drafts"])
    assert library.index(photos).unchanged == 2
    report = library.index(photos, exclude_dirs=[])
    assert (report.added, report.unchanged) == (2, 2)
    report = library.index(photos, exclude_dirs=["drafts"])
    assert (report.removed, report.unchanged) == (2, 2)
    assert library.index().unchanged == 2
    assert library.status().files == 2


def test_hidden_files_are_indexed_when_asked_for_and_that_is_remembered(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 1)
    write_picture(photos / ".secret" / "a.jpg", 10)
    write_picture(photos / ".b.jpg", 11)
    assert library.index(photos).added == 1
    assert library.index(photos, include_hidden=True).added == 2
    assert library.index().unchanged == 3
    assert library.index(photos, include_hidden=False).removed == 2


# Names


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are no UTF-8")
def test_a_name_that_is_not_utf8_is_indexed_found_and_shown(
    library: xsearch.Library, photos: Path
) -> None:
    odd = Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9/\xff.jpg"))
    odd.parent.mkdir()
    write_picture(odd, 1)
    write_picture(photos / "plain.jpg", 2)
    report = library.index(photos)
    assert (report.added, report.failed) == (2, 0)
    hit = nearest(library, 1)
    assert hit.path == odd
    assert hit.path is not None
    with PILImage.open(hit.path) as opened:
        assert opened.size == (64, 48)
    shown = json.dumps(hit.to_dict(), ensure_ascii=False).encode()
    assert json.loads(shown)["path"].endswith("caf\\xe9/\\xff.jpg")
    assert library.index(photos).unchanged == 2
    odd.rename(odd.parent / "b.jpg")
    assert library.index(photos).moved == 1
    assert library.remove(odd.parent).files == 1


# Failures


def test_a_damaged_file_is_listed_and_read_again_only_when_it_changes(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 1)
    bad = write_picture(photos / "bad.jpg", 5)
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    age(bad)
    report = library.index(photos)
    assert (report.added, report.failed, report.decoded) == (1, 1, 2)
    assert report.failures[0].path == bad
    assert report.failures[0].reason

    report = library.index(photos)
    assert (report.unchanged, report.failed, report.decoded) == (1, 1, 0)
    age(bad, 30)
    report = library.index(photos)
    assert (report.failed, report.decoded) == (1, 0)
    assert library.failures() == list(report.failures)
    assert library.status().failed == 1

    bad.write_bytes(whole)
    age(bad, 60)
    report = library.index(photos)
    assert (report.failed, report.embedded) == (0, 1)
    assert nearest(library, 5).path == bad
    assert library.failures() == []


def test_a_failed_file_that_is_deleted_is_no_longer_listed(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 1)
    write_text(photos / "bad.jpg", "this is no picture")
    library.index(photos)
    (photos / "bad.jpg").unlink()
    report = library.index(photos)
    assert (report.failed, report.removed) == (0, 1)
    assert library.failures() == []


def test_a_picture_over_the_pixel_limit_is_indexed_when_the_limit_is_raised(
    library: xsearch.Library, photos: Path
) -> None:
    write_picture(photos / "large.jpg", 1, size=(300, 200))
    for _ in range(2):
        report = library.index(photos, max_pixels=50_000)
        assert (report.failed, report.decoded) == (1, 0)
        assert "limit" in report.failures[0].reason
    report = library.index(photos, max_pixels=60_000)
    assert (report.failed, report.embedded) == (0, 1)


def test_one_bad_file_among_many_costs_one_row(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 20)
    write_text(photos / "010.jpg", "this is no picture")
    write_text(photos / "015.jpg", b"")
    report = library.index(photos)
    assert (report.added, report.failed) == (18, 2)
    assert [failed.path.name for failed in report.failures] == ["010.jpg", "015.jpg"]


# Removing and compacting


def test_a_removed_file_comes_back_with_the_next_index_of_its_root(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 3)
    library.index(photos)
    before = nearest(library, 1)
    report = library.remove(photos / "001.jpg")
    assert (report.files, report.items) == (1, 1)
    assert len(like(library, 1)) == 2
    assert (photos / "001.jpg").exists()
    report = library.index(photos)
    assert (report.added, report.embedded) == (1, 0)
    assert nearest(library, 1).id == before.id


def test_a_removed_folder_takes_only_its_own_files_along(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos / "trip", 2)
    write_pictures(photos / "trip2", 2, first=10)
    write_pictures(photos / "tri_", 1, first=20)
    library.index(photos)
    assert library.remove(photos / "trip").files == 2
    assert {hit.path.parent.name for hit in like(library, 0) if hit.path} == {"trip2", "tri_"}


def test_a_removed_root_is_forgotten(library: xsearch.Library, tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", 2)
    write_pictures(tmp_path / "b", 2, first=10)
    library.index([tmp_path / "a", tmp_path / "b"])
    report = library.remove(tmp_path / "a")
    assert (report.files, report.items) == (2, 2)
    assert [root.path for root in library.status().roots] == [tmp_path / "b"]
    assert library.index().added == 0
    assert len(like(library, 0)) == 2
    assert library.check().ok


def test_removing_what_is_not_there_is_an_error(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 1)
    library.index(photos)
    for path in (photos / "nope.jpg", photos.parent / "elsewhere"):
        with pytest.raises(xsearch.SourceError, match="holds nothing from there"):
            library.remove(path)


def test_removing_something_twice_is_an_error(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 2)
    library.index(photos)
    library.remove(photos / "001.jpg")
    with pytest.raises(xsearch.SourceError):
        library.remove(photos / "001.jpg")


def test_compaction_keeps_ids_and_results_and_gives_space_back(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 200)
    library.index(photos)
    for at in range(0, 200, 2):
        (photos / f"{at:03}.jpg").unlink()
    library.index(photos)
    before = like(library, 7)
    sizes = library.status().bytes_on_disk
    report = library.compact()
    assert (report.vectors_kept, report.vectors_dropped) == (100, 100)
    assert report.bytes_after < report.bytes_before
    assert like(library, 7) == before
    status = library.status()
    assert (status.vectors, status.deleted_vectors) == (100, 0)
    assert status.bytes_on_disk["vectors"] == sizes["vectors"] // 2
    assert library.check() == xsearch.CheckReport(files=100, items=100, vectors=100, lost=0)
    assert library.index().unchanged == 100


def test_a_compacted_library_can_be_compacted_again_and_grow(
    library: xsearch.Library, photos: Path
) -> None:
    library.compact()
    write_pictures(photos, 3)
    library.index(photos)
    library.remove(photos)
    assert library.compact().vectors_kept == 0
    assert like(library, 1) == []
    report = library.index(photos)
    assert (report.added, report.embedded) == (3, 3)
    assert library.compact().vectors_kept == 3
    assert nearest(library, 1).path == photos / "001.jpg"


def test_stored_vectors_are_those_of_the_encoder(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 3)
    library.index(photos)
    encoder = ColourEncoder()
    for at in range(3):
        with PILImage.open(photos / f"{at:03}.jpg") as opened:
            expected = encoder.embed_images(encoder.preprocess(opened)[None])[0]
        hit = library.search(xsearch.Image(photos / f"{at:03}.jpg"), k=1)[0]
        assert hit.similarity == pytest.approx(float(np.dot(expected, expected)), abs=2e-3)
        assert hit.path == photos / f"{at:03}.jpg"


def test_a_picture_named_by_hand_stays_although_its_root_ignores_it(
    tmp_path: Path, library: xsearch.Library
) -> None:
    photos = tmp_path / "photos"
    write_pictures(photos, 2)
    named = write_picture(photos / "drafts" / "draft.jpg", 50)
    (photos / ".xsearchignore").write_text("drafts/\n")
    library.index(photos)

    assert library.index(named).added == 1
    again = library.index()

    assert (again.unchanged, again.removed) == (3, 0)
    assert named in {hit.path for hit in library.search(xsearch.Image(named))}


def test_an_outer_root_takes_over_inner_ones_that_held_the_same_place(
    tmp_path: Path, library: xsearch.Library
) -> None:
    inner = tmp_path / "top" / "p"
    write_pictures(inner / "a", 2)
    write_picture(inner / "b.png", 9)
    library.index(inner)
    library.remove(inner / "a")
    library.index(inner / "a")

    report = library.index(tmp_path / "top")

    assert (report.unchanged, report.removed, report.embedded) == (3, 0, 0)


def test_a_copy_indexed_while_the_original_is_away_loses_nothing(
    tmp_path: Path, library: xsearch.Library
) -> None:
    original, copy = tmp_path / "usb", tmp_path / "backup"
    write_pictures(original, 10)
    library.index(original)
    shutil.copytree(original, copy)
    (copy / "003.jpg").unlink()
    original.rename(tmp_path / "unplugged")

    report = library.index(copy)
    (tmp_path / "unplugged").rename(original)

    assert (report.removed, report.embedded) == (0, 0)
    assert library.index().unchanged == 19
    assert len(like(library, 1)) == 10


def test_a_removed_folder_stays_out_of_an_outer_root_too(
    tmp_path: Path, library: xsearch.Library
) -> None:
    inner = tmp_path / "top" / "p"
    write_pictures(inner, 2)
    secret = write_picture(inner / "secret" / "s.jpg", 30)
    library.index(inner)
    library.remove(inner / "secret")

    assert library.index(tmp_path / "top").added == 0
    assert secret not in {hit.path for hit in like(library, 30)}


def test_rules_for_a_part_of_a_root_are_refused_and_without_a_path_are_for_all(
    tmp_path: Path, library: xsearch.Library
) -> None:
    photos = tmp_path / "photos"
    write_pictures(photos / "a" / "raw", 2)
    write_picture(photos / "b.jpg", 9)
    library.index(photos)

    with pytest.raises(xsearch.UsageError, match="part of"):
        library.index(photos / "a", exclude_dirs="raw")
    assert library.index(exclude_dirs="raw").removed == 2


def test_excluding_all_that_a_root_holds_takes_it_out(
    tmp_path: Path, library: xsearch.Library
) -> None:
    photos = tmp_path / "photos"
    write_pictures(photos / "raw", 2)
    library.index(photos)

    report = library.index(photos, exclude_dirs=["raw"])

    assert (report.removed, report.warnings) == (2, ())


def test_a_sidecar_follows_its_picture_though_the_picture_was_indexed_alone(
    tmp_path: Path, library: xsearch.Library
) -> None:
    photos = tmp_path / "photos"
    edited = write_picture(photos / "a.jpg", 1)
    write_text(photos / "a.txt", "a green field")
    library.index(photos)
    write_picture(edited, 2)
    os.utime(edited, ns=(1_600_000_000_000_000_000, 1_600_000_000_000_000_000))

    library.index(edited)
    library.index(photos)

    (hit,) = library.search("a green field", target="text")
    assert hit.path == edited


def test_a_text_of_a_file_is_found_when_the_picture_it_names_is_gone(
    tmp_path: Path, library: xsearch.Library
) -> None:
    picture_file = write_picture(tmp_path / "p" / "a.jpg", 1)
    write_picture(tmp_path / "p" / "b.jpg", 2)
    rows = write_text(tmp_path / "rows.csv", "text,image\nrow text,p/a.jpg\n")
    library.index([picture_file.parent, rows])
    assert library.search("row text", target="text")[0].path == picture_file

    picture_file.unlink()

    assert library.search("row text", target="text")[0].path == rows


def test_missing_vectors_are_a_clear_error_of_every_writer(
    tmp_path: Path, library: xsearch.Library
) -> None:
    write_pictures(tmp_path / "p", 2)
    library.index(tmp_path / "p")
    for path in (library.path / "vectors").iterdir():
        path.unlink()

    with pytest.raises(xsearch.LibraryError, match="xsearch check"):
        library.compact()
    assert library.check().lost == 2
    assert library.index().embedded == 2
    assert library.check().ok
