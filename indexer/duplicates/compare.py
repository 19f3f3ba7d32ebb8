"""Compares pairs of files by what they show: in threads, each file read once, bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from xsearch.core.errors import ImageError
from xsearch.core.images import quiet_pillow
from xsearch.core.ordered import map_in_order
from xsearch.indexer.duplicates.pixels import Thumbnail, same_picture, thumbnail
from xsearch.indexer.duplicates.rule import Likeness

Pair = tuple[Path, Path, int, Likeness]

# 16 KiB each.
_KEPT = 4_096
_WINDOW = 64


class Comparer:
    """Compares files; what it has read lately is not read again."""

    def __init__(self, workers: int | None, max_pixels: int) -> None:
        self._workers = workers
        self._max_pixels = max_pixels
        self._thumbnail = lru_cache(_KEPT)(self._read)

    def compare(self, pairs: Sequence[Pair]) -> Iterator[bool | None]:
        """Whether the second file is the first one turned so, or a part of it, in order; each
        pair says how alike they must be.

        None where one of them cannot be read.
        """
        with quiet_pillow():
            found = map_in_order(self._same, pairs, workers=self._workers, window=_WINDOW)
            for _, same in found:
                yield same

    def _same(self, pair: Pair) -> bool | None:
        one, other, turn, alike = pair
        first, second = self._thumbnail(one), self._thumbnail(other)
        if first is None or second is None:
            return None
        return same_picture(first, second, turn, alike)

    def _read(self, path: Path) -> Thumbnail | None:
        try:
            return thumbnail(path, self._max_pixels)
        except ImageError:
            return None
