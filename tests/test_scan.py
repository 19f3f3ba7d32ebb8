"""Which files a scan finds, and which it leaves out."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import open_colour, write_picture, write_pictures, write_text

import xsearch
from xsearch.indexer.scan import SYSTEM_FOLDERS, Rules, walk


def touch(folder: Path, *names: str) -> None:
    """Make empty files; a scan reads none."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def scan(root: Path, start: str = "", **rules: object) -> list[str]:
    """The pictures that a scan lists, in its order, as paths from the root."""
    return [
        f"{listing.folder}/{entry.name}" if listing.folder else entry.name
        for listing in walk(root, start, Rules(**rules))  # type: ignore[arg-type]
        for entry in listing.images
    ]


def test_pictures_of_every_suffix_and_case_are_found_in_order(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.JPG", "a.png", "sub/z.heic", "sub/c.webp", "s.jpeg", "no.txt", "x.mp4", "jpg"
    )
    assert scan(tmp_path) == ["a.png", "b.JPG", "s.jpeg", "sub/c.webp", "sub/z.heic"]


def test_hidden_files_and_folders_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", ".b.jpg", ".c/d.jpg", "e/.f/g.jpg")
    assert scan(tmp_path) == ["a.jpg"]
    everything = scan(tmp_path, include_hidden=True)
    assert sorted(everything) == [".b.jpg", ".c/d.jpg", "a.jpg", "e/.f/g.jpg"]


@pytest.mark.parametrize("name", sorted(SYSTEM_FOLDERS))
def test_folders_of_systems_and_tools_are_left_out(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.jpg", f"{name}/b.jpg", f"c/{name}/d.jpg")
    assert scan(tmp_path, include_hidden=True) == ["a.jpg"]


def test_excluded_folders_are_named_by_name_glob_or_path(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.jpg", "b/a/x.jpg", "b/c/x.jpg", "old-1/x.jpg", "old-2/x.jpg")
    assert scan(tmp_path, exclude_dirs=("a",)) == ["b/c/x.jpg", "old-1/x.jpg", "old-2/x.jpg"]
    assert scan(tmp_path, exclude_dirs=("old-*", "b/a")) == ["a/x.jpg", "b/c/x.jpg"]
    assert scan(tmp_path, exclude_dirs=("b/",)) == ["a/x.jpg", "old-1/x.jpg", "old-2/x.jpg"]


def test_an_ignore_file_leaves_out_in_gitignore_syntax(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.png", "c.png", "raw/d.jpg", "sub/raw/e.jpg", "sub/top.jpg")
    write_text(tmp_path / ".xsearchignore", "# comment\n*.png\n!c.png\nraw/\n/top.jpg\n")
    assert scan(tmp_path) == ["a.jpg", "c.png", "sub/top.jpg"]


def test_a_nested_ignore_file_adds_to_and_overrules_those_above(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "sub/b.png", "sub/c.jpg", "sub/deep/d.png", "sub/deep/c.jpg")
    write_text(tmp_path / ".xsearchignore", "*.png\n")
    write_text(tmp_path / "sub" / ".xsearchignore", "!b.png\n/c.jpg\n")
    assert scan(tmp_path) == ["sub/b.png", "sub/deep/c.jpg"]
    # The same where a scan begins below.
    assert scan(tmp_path, "sub") == ["sub/b.png", "sub/deep/c.jpg"]
    assert scan(tmp_path, "sub/deep") == ["sub/deep/c.jpg"]


def test_pictures_ignored_later_leave_the_library(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos / "keep", 2)
    write_pictures(photos / "drafts", 2, first=10)
    library.index(photos)
    write_text(photos / ".xsearchignore", "drafts/\n")
    report = library.index(photos)
    assert (report.removed, report.unchanged) == (2, 2)


def test_an_ignore_file_that_is_no_utf8_is_read_all_the_same(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.png")
    write_text(tmp_path / ".xsearchignore", b"# caf\xe9\n*.png\n")
    assert scan(tmp_path) == ["a.jpg"]


def test_an_ignore_file_that_cannot_be_understood_costs_no_run(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 1)
    (photos / ".xsearchignore").mkdir()
    write_pictures(photos / "sub", 1, first=5)
    write_text(photos / "sub" / ".xsearchignore", "!\n[\n**/**/\n")
    assert library.index(photos).added == 2


# Links


@pytest.fixture
def links(tmp_path: Path) -> Path:
    try:
        (tmp_path / "probe").symlink_to(tmp_path)
    except OSError:
        pytest.skip("this system makes no symbolic links")
    (tmp_path / "probe").unlink()
    return tmp_path


def test_loops_of_links_end(links: Path) -> None:
    touch(links, "a.jpg", "sub/b.jpg")
    (links / "sub" / "up").symlink_to(links)
    (links / "self").symlink_to("self")
    (links / "one").symlink_to("two")
    (links / "two").symlink_to("one")
    assert scan(links) == ["a.jpg", "sub/b.jpg"]


def test_a_linked_folder_is_followed_and_counted_once(links: Path) -> None:
    root, outside = links / "root", links / "outside"
    touch(root, "real/a.jpg")
    touch(outside, "b.jpg")
    for name in ("0", "1", "zz"):
        (root / name).symlink_to(outside)
    (root / "also").symlink_to(root / "real")
    # The folder itself rather than a link to it, though the link comes first by name.
    assert scan(root) == ["real/a.jpg", "0/b.jpg"]


def test_a_broken_link_to_a_picture_is_a_listed_failure(
    library: xsearch.Library, links: Path
) -> None:
    write_pictures(links / "p", 1)
    (links / "p" / "gone.jpg").symlink_to(links / "nowhere.jpg")
    (links / "p" / "gone").symlink_to(links / "nowhere")
    report = library.index(links / "p")
    assert (report.added, report.failed) == (1, 1)
    assert report.failures[0].path == links / "p" / "gone.jpg"
    assert "link" in report.failures[0].reason
    write_picture(links / "nowhere.jpg", 9)
    report = library.index(links / "p")
    assert (report.failed, report.embedded) == (0, 1)


def test_a_linked_picture_is_one_item_with_its_target(
    library: xsearch.Library, links: Path
) -> None:
    path = write_picture(links / "p" / "a.jpg", 1)
    (links / "p" / "b.jpg").symlink_to(path)
    report = library.index(links / "p")
    assert (report.added, report.embedded) == (2, 1)


# Libraries, and files of other kinds


def test_a_library_inside_a_root_is_not_entered(tmp_path: Path) -> None:
    write_pictures(tmp_path, 1)
    with open_colour(tmp_path / "library") as library:
        library.index(tmp_path)
        write_picture(library.path / "vectors" / "a.jpg", 1)
        report = library.index(tmp_path, include_hidden=True)
        assert (report.unchanged, report.added, report.skipped) == (1, 0, 0)
    # Nor is the library of someone else.
    shutil.copytree(tmp_path / "library", tmp_path / "other")
    with open_colour(tmp_path / "library") as library:
        assert library.index(tmp_path).added == 0


def test_files_of_other_kinds_are_counted_and_are_no_failures(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 2)
    touch(photos, "a.mp4", "b.pdf", "notes.txt", "t.csv", "sub/c", ".hidden.txt")
    report = library.index(photos)
    assert (report.added, report.failed, report.skipped) == (2, 0, 5)
    report = library.index(photos / "sub")
    assert (report.added, report.skipped, report.warnings) == (0, 1, ())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_regular_file_is_never_opened(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 1)
    os.mkfifo(photos / "pipe.jpg")
    os.mkfifo(photos / "000.txt")
    report = library.index(photos)
    assert (report.added, report.failed) == (1, 0)


# Any tree

_names = st.sampled_from(
    ["a", "b", ".h", "node_modules", "a.jpg", "b.PNG", "c.txt", ".d.jpg", "e.jpg", "-", "é.gif"]
)
_trees = st.recursive(
    st.none(), lambda inner: st.dictionaries(_names, inner, max_size=4), max_leaves=12
).filter(lambda tree: tree is not None)


def _make(folder: Path, tree: dict[str, object]) -> None:
    folder.mkdir(exist_ok=True)
    for name, inner in tree.items():
        if inner is None:
            (folder / name).touch()
        else:
            _make(folder / name, inner)  # type: ignore[arg-type]


def _expected(root: Path, hidden: bool) -> set[str]:
    found = set()
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        left_out = "node_modules" in parts[:-1] or (
            not hidden and any(part.startswith(".") for part in parts)
        )
        if path.is_file() and path.suffix.lower() in {".jpg", ".png", ".gif"} and not left_out:
            found.add("/".join(parts))
    return found


@settings(deadline=None, max_examples=60)
@given(_trees, st.booleans())
def test_a_scan_finds_what_a_plain_search_finds_and_always_in_one_order(
    tree: dict[str, object], hidden: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _make(root, tree)
        found = scan(root, include_hidden=hidden)
        assert len(found) == len(set(found))
        assert set(found) == _expected(root, hidden)
        assert scan(root, include_hidden=hidden) == found
        folders = [listing.folder for listing in walk(root, "", Rules((), hidden))]
        # A folder comes before those inside it, and those in order of their names.
        assert folders == sorted(folders, key=lambda path: path.split("/") if path else [])
