"""Finds the picture files that a data set's rows name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from xsearch.core.formats import is_image_name
from xsearch.core.paths import displayable

# Where data sets keep pictures beside the file that describes them; the second is spelt so.
_BESIDE = ("", "images", "Images", "Flicker8k_Dataset", "flickr30k-images", "flickr30k_images")
# Folders that hold descriptions only: the pictures lie beside them.
_DESCRIPTIONS = frozenset({"annotations", "captions", "text", "flickr8k_text", "questions"})
_DEPTH = 2
"""Folders below a data set's own that a bare file name is looked for in."""


class Pictures:
    """Looks for pictures beside what describes them, or only below `images` where that is given."""

    def __init__(self, base: Path, images: Path | None = None) -> None:
        bases = [images or base]
        if images is None and base.name.lower() in _DESCRIPTIONS:
            bases.append(base.parent)
        self._bases = bases
        self._roots = [os.path.join(each, inner) for each in bases for inner in _BESIDE]  # noqa: PTH118
        self._known: dict[str, tuple[Path | None, str]] = {}
        self._by_name: dict[str, str | None] | None = None

    def find(self, names: Sequence[str]) -> tuple[Path | None, str]:
        """The path of the first of some names that there is, else None and the reason.

        Names are paths (absolute, or relative to the data set), or bare file names that only one
        picture has. A name with a folder is never matched by its last part alone: `cats/1.jpg`
        must not become `dogs/1.jpg`.
        """
        known = self._known.get(names[0])
        if known is None:
            known = self._known[names[0]] = self._find(names)
        return known

    def _find(self, names: Sequence[str]) -> tuple[Path | None, str]:
        # Strings, not paths: data sets have 100,000s of rows.
        for name in names:
            for root in self._roots:
                path = os.path.join(root, name)  # noqa: PTH118
                if name and os.path.isfile(path):  # noqa: PTH113
                    return Path(path), ""
        for name in names:
            bare = name and "/" not in name and "\\" not in name
            if bare and name in (index := self._index()):
                found = index[name]
                if found is None:
                    return None, f"several pictures are named {displayable(name)}"
                return Path(found), ""
        return None, f"there is no picture {displayable(names[0])}"

    def _index(self) -> dict[str, str | None]:
        """Pictures by bare name; None for names that several have."""
        if self._by_name is None:
            self._by_name = {}
            for base in self._bases:
                for path in _pictures_below(str(base), _DEPTH):
                    name = os.path.basename(path)  # noqa: PTH119
                    self._by_name[name] = None if name in self._by_name else path
        return self._by_name


def _pictures_below(folder: str, depth: int) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir():
            if depth and not entry.name.startswith("."):
                yield from _pictures_below(entry.path, depth - 1)
        elif is_image_name(entry.name):
            yield entry.path
