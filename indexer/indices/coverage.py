"""Which rows of a range a segment holds, a bit each: a row of the range may be another kind's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Coverage:
    """The rows of a segment among those from `first` to before `end`.

    Inside a segment rows are counted from its first one, so that its bits start there too.
    """

    def __init__(self, first: int, end: int, mask: NDArray[np.bool_]) -> None:
        self.first = first
        self.end = end
        self._mask = mask
        self._left: tuple[NDArray[np.int64] | None, Selection] | None = None

    @classmethod
    def of(cls, first: int, end: int, rows: NDArray[np.int64]) -> Coverage:
        """The coverage of some row numbers within the range."""
        mask = np.zeros(end - first, np.bool_)
        mask[rows - first] = True
        return cls(first, end, mask)

    @classmethod
    def unpack(cls, first: int, end: int, data: bytes) -> Coverage:
        """From what `pack` gave."""
        bits = np.frombuffer(data, np.uint8)
        mask = np.unpackbits(bits, count=end - first, bitorder="little").view(np.bool_)
        return cls(first, end, mask)

    def pack(self) -> bytes:
        """The bits, the first row's lowest."""
        return np.packbits(self._mask, bitorder="little").tobytes()

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row numbers, ascending."""
        return np.flatnonzero(self._mask) + self.first

    def select(
        self, excluded: NDArray[np.int64] | None, allowed: NDArray[np.int64] | None
    ) -> Selection:
        """The rows that a search may return.

        What is excluded is the same for all searches of a snapshot, and worked out once.
        """
        known = self._left
        if known is None or known[0] is not excluded:
            mask = self._mask
            if excluded is not None and len(excluded):
                mask = mask.copy()
                mask[self._inside(excluded)] = False
            known = self._left = (excluded, Selection(self.first, mask))
        if allowed is None:
            return known[1]
        chosen = np.zeros(len(self._mask), np.bool_)
        chosen[self._inside(allowed)] = True
        return Selection(self.first, chosen & known[1].mask)

    def _inside(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows[(rows >= self.first) & (rows < self.end)] - self.first


class Selection:
    """Rows of a segment, as numpy and FAISS take them; `mask` has a bool for each of its range."""

    def __init__(self, first: int, mask: NDArray[np.bool_]) -> None:
        self.mask = mask
        self.count = int(np.count_nonzero(mask))
        self._first = first
        self._bits: NDArray[np.uint8] | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row numbers, ascending."""
        return np.flatnonzero(self.mask) + self._first

    def selector(self) -> Any:
        """A FAISS selector of rows counted from the segment's first; valid while this lives.

        It refuses whatever lies outside the range, so that ids of a damaged file do no harm.
        """
        import faiss

        if self._bits is None:
            self._bits = np.packbits(self.mask, bitorder="little")
        return faiss.IDSelectorBitmap(len(self._bits), faiss.swig_ptr(self._bits))
