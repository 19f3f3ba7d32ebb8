"""Which folders to index for a list of pictures: few, and none too wide."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from xsearch.indexer.imports.source import picture_at


def common_folders(paths: Iterable[str], home: Path | None = None) -> list[Path]:
    """The common folder of those pictures that exist, of many absolute paths.

    Where that would be the whole file system or somebody's whole home, it is several, one level
    further down; pictures that lie there themselves are named one by one.
    """
    home = Path.home() if home is None else home
    missing: set[str] = set()
    wide: set[str] = set()
    pictures: dict[str, list[str]] = {}
    for path in paths:
        folder = os.path.dirname(path)  # noqa: PTH120 - a string, not a Path, in a hot loop
        if folder in missing or (folder in pictures and folder not in wide):
            continue
        if folder not in pictures and not os.path.isdir(folder):  # noqa: PTH112 - never raises
            missing.add(folder)
            continue
        picture = picture_at(path)
        if picture is None:
            continue
        named = pictures.setdefault(folder, [])
        # Names count only where the folder is too wide to be indexed whole.
        if _too_wide(folder, home):
            wide.add(folder)
            named.append(str(picture))
    return sorted(_covering(pictures, home))


def _covering(pictures: dict[str, list[str]], home: Path) -> list[Path]:
    groups: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for folder, named in pictures.items():
        groups[Path(folder).anchor][folder] = named
    found: list[Path] = []
    while groups:
        _, group = groups.popitem()
        common = Path(os.path.commonpath(group))
        inside: dict[str, dict[str, list[str]]] = defaultdict(dict)
        for folder, named in group.items():
            if Path(folder) != common:
                child = common / Path(folder).relative_to(common).parts[0]
                inside[str(child)][folder] = named
        # A folder of drives, such as /mnt, is no folder of pictures.
        drives = str(common) not in group and any(Path(child).is_mount() for child in inside)
        if drives or _too_wide(str(common), home):
            found += [Path(path) for path in group.get(str(common), ())]
            groups |= inside
        else:
            found.append(common)
    return found


def _too_wide(folder: str, home: Path) -> bool:
    """Whether a folder is the file system's root, or is or holds the user's home."""
    return folder == Path(folder).anchor or home.is_relative_to(folder)
