"""Which roots a run scans: paths as the user gives them, mapped onto the library's roots."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xsearch.core.errors import SourceError, UsageError
from xsearch.core.formats import is_image_name
from xsearch.core.paths import absolute, displayable
from xsearch.indexer.catalog import Catalog, RootRow
from xsearch.indexer.scan import Rules, is_ignored
from xsearch.indexer.sources import is_text_name

_SAME = 0.8


@dataclass(frozen=True, slots=True)
class Scope:
    """What to scan of a root: the folder `start` and all below it, or one file `name` in it."""

    root: RootRow
    start: str = ""
    name: str = ""
    relocated: bool = False


@dataclass(frozen=True, slots=True)
class RuleChange:
    """What the user said about what to leave out; None where nothing was said."""

    exclude_dirs: tuple[str, ...] | None = None
    include_hidden: bool | None = None


def plan(catalog: Catalog, paths: Sequence[Path | str], change: RuleChange) -> list[Scope]:
    """The scopes for the given paths; new roots are added to the catalog.

    Raises:
        SourceError: a path that does not exist or is neither a folder, a picture nor a text.
    """
    given = sorted({absolute(path) for path in paths}, key=lambda path: (len(path.parts), path))
    for path in given:
        _refuse(catalog, path)
    scopes: list[Scope] = []
    for path in given:
        scope = _folder(catalog, path, change) if path.is_dir() else _file(catalog, path)
        if not any(_contains(other, scope) for other in scopes):
            scopes.append(scope)
    return scopes


def all_scopes(catalog: Catalog, change: RuleChange) -> list[Scope]:
    """Every root of the library, whole, with new rules for the folders where any are given."""
    return [
        Scope(root if root.name else _with_rules(catalog, root, change), name=root.name)
        for root in catalog.roots()
    ]


def rules_for(root: RootRow, roots: Iterable[RootRow], library: Path) -> Rules:
    """What a scan of `root` leaves out: its own rules, the library, roots that lie inside it."""
    skip = {str(library)}
    skip |= {str(other.path / other.name) for other in roots if other.id != root.id}
    return Rules(root.exclude_dirs, root.include_hidden, frozenset(skip))


def _refuse(catalog: Catalog, path: Path) -> None:
    shown = displayable(path)
    if path.is_dir():
        return
    if not path.exists():
        held = any(path.is_relative_to(root.path / root.name) for root in catalog.roots())
        stays = " What the library holds of it stays until `xsearch remove`." if held else ""
        raise SourceError(f"{shown}: no such file or folder.{stays}")
    if not (path.is_file() and (is_image_name(path.name) or is_text_name(path.name))):
        raise SourceError(
            f"{shown}: neither a folder, nor a picture, nor a text file (.txt, .csv, .jsonl)."
        )


def _folder(catalog: Catalog, path: Path, change: RuleChange) -> Scope:
    roots = [root for root in catalog.roots() if not root.name]
    for root in roots:
        if root.path == path:
            return Scope(_with_rules(catalog, root, change))
        if _reaches(root, path):
            if change != RuleChange():
                raise UsageError(
                    f"{displayable(path)} is part of {displayable(root.path)}, and what to leave "
                    "out is remembered for that as a whole: give that path with these options"
                )
            return Scope(root, path.relative_to(root.path).as_posix())
    exclude_dirs = change.exclude_dirs or ()
    include_hidden = bool(change.include_hidden)
    moved = _relocated(catalog, roots, path)
    if moved is not None:
        catalog.relocate_root(moved, path)
        there = RootRow(moved.id, path, "", moved.exclude_dirs, moved.include_hidden)
        return Scope(_with_rules(catalog, there, change), relocated=True)
    outer = RootRow(0, path, "", exclude_dirs, include_hidden)
    # A folder with rules of its own stays a root inside the new one.
    inside = [
        root
        for root in catalog.roots()
        if (is_image_name(root.name) if root.name else _only_removals(root, include_hidden))
        and _reaches(outer, root.path / root.name)
    ]
    exclude_dirs += _removals_inside(path, inside)
    return Scope(catalog.add_root(path, "", exclude_dirs, include_hidden, inside))


def _removals_inside(path: Path, inside: list[RootRow]) -> tuple[str, ...]:
    """Folders taken out of roots inside `path` by `remove`, as patterns from `path` itself.

    One that was named again since, and so is a root of its own, is not among them.
    """
    folders = [root for root in inside if not root.name]
    places = {f"/{glob.escape(root.path.relative_to(path).as_posix())}": root for root in folders}
    patterns = (place + pattern for place, root in places.items() for pattern in root.exclude_dirs)
    return tuple(pattern for pattern in patterns if pattern not in places)


def _only_removals(root: RootRow, include_hidden: bool) -> bool:
    """Whether a folder's rules are the new root's but for folders taken out by `remove`."""
    anchored = all(pattern.startswith("/") for pattern in root.exclude_dirs)
    return anchored and root.include_hidden == include_hidden


def _with_rules(catalog: Catalog, root: RootRow, change: RuleChange) -> RootRow:
    exclude_dirs = root.exclude_dirs
    if change.exclude_dirs is not None:
        # Folders taken out by `remove` stay out; naming one as a path brings it back.
        removed = tuple(pattern for pattern in root.exclude_dirs if pattern.startswith("/"))
        exclude_dirs = tuple(dict.fromkeys((*removed, *change.exclude_dirs)))
    include_hidden = root.include_hidden if change.include_hidden is None else change.include_hidden
    if (exclude_dirs, include_hidden) != (root.exclude_dirs, root.include_hidden):
        catalog.set_rules(root, exclude_dirs, include_hidden)
    return RootRow(root.id, root.path, root.name, exclude_dirs, include_hidden)


def _file(catalog: Catalog, path: Path) -> Scope:
    roots = catalog.roots()
    for root in roots:
        if root.path == path.parent and root.name == path.name:
            return Scope(root, name=root.name)
    if is_image_name(path.name):
        for root in roots:
            if not root.name and _reaches(root, path):
                folder = path.parent.relative_to(root.path).as_posix()
                return Scope(root, "" if folder == "." else folder, path.name)
    return Scope(catalog.add_root(path.parent, path.name, (), False), name=path.name)


def _reaches(root: RootRow, path: Path) -> bool:
    """Whether a scan of a folder root comes to a path inside it.

    What a scan leaves out and the user names by hand is a root of its own.
    """
    try:
        parts = path.relative_to(root.path).parts
    except ValueError:
        return False
    rules = Rules(root.exclude_dirs, root.include_hidden)
    left_out = any(
        rules.leaves_out_folder(part, "/".join(parts[: at + 1])) for at, part in enumerate(parts)
    )
    return bool(parts) and not left_out and not is_ignored(root.path, path)


def _relocated(catalog: Catalog, roots: list[RootRow], path: Path) -> RootRow | None:
    """The root that was moved to `path`: gone from its place, and all its files found here.

    Some may have changed. Where one is missing it may be a copy, given while the drive of the
    original is away: that is a root of its own, so that nothing counts as deleted.
    """
    for root in roots:
        if root.path.exists():
            continue
        known = catalog.known_files(root.id)
        found = [_found(path / name, size, mtime) for name, size, mtime in known]
        if known and None not in found and found.count(True) >= _SAME * len(known):
            return root
    return None


def _found(path: Path, size: int, mtime_ns: int) -> bool | None:
    """Whether a file is as it was; None where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) == (size, mtime_ns)


def _contains(outer: Scope, inner: Scope) -> bool:
    if outer.root.id != inner.root.id or outer.name:
        return outer.root.id == inner.root.id and outer == inner
    return not outer.start or f"{inner.start}/".startswith(f"{outer.start}/")
