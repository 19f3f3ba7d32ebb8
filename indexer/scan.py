"""Walking folders: which files belong to a library, in a stable order, without reading them."""

from __future__ import annotations

import fnmatch
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.formats import is_image_name

if TYPE_CHECKING:
    import pathspec

IGNORE_NAME = ".xsearchignore"

# Folders that systems and tools make for themselves; never a user's pictures.
SYSTEM_FOLDERS = frozenset(
    {
        "@eaDir",
        "@Recycle",
        "@Recently-Snapshot",
        "#recycle",
        "#snapshot",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
        "node_modules",
        "__pycache__",
        "__MACOSX",
        ".git",
        ".hg",
        ".svn",
        ".Trash",
        ".Trashes",
        ".thumbnails",
        ".xsearch",
    }
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a scan leaves out, beside system folders and `.xsearchignore`.

    `exclude_dirs` are names or glob patterns; one with a slash is matched with the path from
    the root. `skip` are absolute paths that are not entered (other roots, the library itself).
    """

    exclude_dirs: tuple[str, ...] = ()
    include_hidden: bool = False
    skip: frozenset[str] = frozenset()

    def leaves_out_folder(self, name: str, relative: str) -> bool:
        """Whether a folder is not entered; `relative` is its path from the root."""
        if name in SYSTEM_FOLDERS or (name.startswith(".") and not self.include_hidden):
            return True
        return any(
            fnmatch.fnmatchcase(relative if "/" in pattern else name, pattern.strip("/"))
            for pattern in self.exclude_dirs
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as its folder lists it; `error` where not even its size could be had."""

    name: str
    size: int
    mtime_ns: int
    error: str | None = None


@dataclass(slots=True)
class Listing:
    """One folder: pictures and sidecar texts in order of name, and how many files are neither.

    `folder` is relative to the root, '' for the root itself. `sidecars` maps the name of a
    text to the names of its pictures. With `error` the folder could not be read.
    """

    folder: str
    images: list[Entry] = field(default_factory=list)
    texts: list[Entry] = field(default_factory=list)
    sidecars: dict[str, list[str]] = field(default_factory=dict)
    others: int = 0
    error: str | None = None


def walk(root: Path, start: str, rules: Rules) -> Iterator[Listing]:
    """List `start` (relative to `root`) and every folder below it.

    Linked folders come after all real ones, and no folder is listed twice, so that loops end
    and a link to a folder that is listed anyway adds nothing.
    """
    walker = _Walker(root, rules)
    yield from walker.run(start)


def is_ignored(root: Path, path: Path) -> bool:
    """Whether `.xsearchignore` files keep a scan of `root` from coming to a path inside it."""
    walker = _Walker(root, Rules())
    parts = path.relative_to(root).parts
    for depth in range(len(parts)):
        walker.read_ignore_file("/".join(parts[:depth]))
        slash = "/" if depth < len(parts) - 1 or path.is_dir() else ""
        if walker.ignores("/".join(parts[: depth + 1]) + slash):
            return True
    return False


class _Walker:
    def __init__(self, root: Path, rules: Rules) -> None:
        self._root = root
        self._rules = rules
        self._seen: set[tuple[int, int] | str] = set()
        self._links: list[str] = []
        self._specs: dict[str, pathspec.GitIgnoreSpec] = {}

    def run(self, start: str) -> Iterator[Listing]:
        self._read_ignore_files_above(start)
        yield from self._below(start)
        while self._links:
            yield from self._below(self._links.pop(0))

    def _below(self, start: str) -> Iterator[Listing]:
        stack = [start]
        while stack:
            folder = stack.pop()
            path = self._root / folder
            try:
                if not self._first_visit(path):
                    continue
                with os.scandir(path) as scan:
                    entries = sorted(scan, key=lambda entry: entry.name)
                if _is_library(entries) and folder != start:
                    continue
                listing, folders = self._list(folder, entries)
            except OSError as error:
                yield Listing(folder, error=error.strerror or str(error))
                continue
            yield listing
            stack.extend(reversed(folders))

    def _first_visit(self, path: Path) -> bool:
        status = path.stat()
        key = (status.st_dev, status.st_ino) if status.st_ino else str(path.resolve())
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _list(self, folder: str, entries: list[os.DirEntry[str]]) -> tuple[Listing, list[str]]:
        listing = Listing(folder)
        folders: list[str] = []
        if any(entry.name == IGNORE_NAME and entry.is_file() for entry in entries):
            self.read_ignore_file(folder)
        for entry in entries:
            relative = f"{folder}/{entry.name}" if folder else entry.name
            if _is_folder(entry):
                if self._enters(entry, relative):
                    (self._links if entry.is_symlink() else folders).append(relative)
            elif not self.ignores(relative) and self._shown(entry):
                self._add(listing, entry)
        listing.sidecars = _sidecars(listing)
        kept = set(listing.sidecars)
        listing.others += sum(text.name not in kept for text in listing.texts)
        listing.texts = [text for text in listing.texts if text.name in kept]
        return listing, folders

    def _enters(self, entry: os.DirEntry[str], relative: str) -> bool:
        return not (
            self._rules.leaves_out_folder(entry.name, relative)
            or entry.path in self._rules.skip
            or self.ignores(relative + "/")
            or (not self._rules.include_hidden and _hidden_attribute(entry))
        )

    def _shown(self, entry: os.DirEntry[str]) -> bool:
        if entry.path in self._rules.skip:
            return False
        return self._rules.include_hidden or not (
            entry.name.startswith(".") or _hidden_attribute(entry)
        )

    def _add(self, listing: Listing, entry: os.DirEntry[str]) -> None:
        if is_image_name(entry.name):
            into = listing.images
        elif entry.name[-4:].lower() == ".txt":
            into = listing.texts
        else:
            listing.others += 1
            return
        try:
            status = entry.stat()
        except OSError as error:
            broken = entry.is_symlink() and isinstance(error, FileNotFoundError)
            reason = "a link to a file that is gone" if broken else error.strerror or str(error)
            into.append(Entry(entry.name, 0, 0, reason))
            return
        if stat.S_ISREG(status.st_mode):
            into.append(Entry(entry.name, status.st_size, status.st_mtime_ns))
        else:
            listing.others += 1

    def ignores(self, relative: str) -> bool:
        """Whether the ignore files read so far leave out a path; a folder's ends in a slash."""
        if not self._specs:
            return False
        # The nearest file that has an opinion decides, as in git.
        folder = relative.rstrip("/").rpartition("/")[0]
        while True:
            spec = self._specs.get(folder)
            if spec is not None:
                below = relative[len(folder) + 1 :] if folder else relative
                opinion = spec.check_file(below).include
                if opinion is not None:
                    return opinion
            if not folder:
                return False
            folder = folder.rpartition("/")[0]

    def _read_ignore_files_above(self, start: str) -> None:
        while start:
            start = start.rpartition("/")[0]
            self.read_ignore_file(start)

    def read_ignore_file(self, folder: str) -> None:
        """Take in the ignore file of a folder, if it has one."""
        path = self._root / folder / IGNORE_NAME
        if path.is_file():
            lines = path.read_text("utf-8", "surrogateescape").splitlines()
            self._specs[folder] = _ignore_spec(lines)


def _ignore_spec(lines: list[str]) -> pathspec.GitIgnoreSpec:
    """What the lines of an ignore file mean; one that means nothing is left out, as in git."""
    import pathspec

    try:
        return pathspec.GitIgnoreSpec.from_lines(lines)
    except ValueError:
        if len(lines) == 1:
            return pathspec.GitIgnoreSpec([])
    patterns = [pattern for line in lines for pattern in _ignore_spec([line]).patterns]
    return pathspec.GitIgnoreSpec(patterns)


def _sidecars(listing: Listing) -> dict[str, list[str]]:
    """`photo.txt` and `photo.jpg.txt` belong to `photo.jpg`, whatever the suffix's case."""
    if not listing.texts:
        return {}
    owners: dict[str, list[str]] = {}
    for image in listing.images:
        for stem in dict.fromkeys((image.name, image.name.rpartition(".")[0])):
            owners.setdefault(stem, []).append(image.name)
    found = {text.name: owners.get(text.name[:-4]) for text in listing.texts}
    return {name: images for name, images in found.items() if images}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_library(entries: list[os.DirEntry[str]]) -> bool:
    names = {entry.name for entry in entries}
    return "catalog.db" in names and "vectors" in names


def _hidden_attribute(entry: os.DirEntry[str]) -> bool:
    if sys.platform != "win32":
        return False
    try:
        attributes = entry.stat(follow_symlinks=False).st_file_attributes
    except OSError:
        return False
    return bool(attributes & stat.FILE_ATTRIBUTE_HIDDEN)
