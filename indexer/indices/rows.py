"""Scattered rows of the vector store, without letting the whole file pile up in memory."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.indexer.vectors import chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Larger files are read, not mapped, where rows are scattered: the system maps the whole
# neighbourhood of each row that is touched, which is all of the file after a few queries.
_MAPPED = 256 << 20
# From so many rows on, mapping them and giving the memory back is quicker than a read for each.
_SCATTERED = 20_000
_PIECE = 16_384


class StoredRows:
    """Rows of a store's vectors, float16 (rows, dim), which are memory-mapped.

    `rows[numbers]` copies some of them: float16 (n, dim).

    Raises:
        FileNotFoundError: a compaction has just replaced the file.
    """

    def __init__(self, vectors: NDArray[np.float16]) -> None:
        self.vectors = vectors
        self.large = vectors.nbytes > _MAPPED
        self._handle: int | None = None
        name = getattr(vectors, "filename", None)
        if self.large and name is not None and hasattr(os, "pread"):
            self._handle = os.open(name, os.O_RDONLY)
            weakref.finalize(self, os.close, self._handle)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        if self._handle is None or len(rows) > _SCATTERED:
            found = np.asarray(self.vectors[rows])
            self.release()
            return found
        read, handle = os.pread, self._handle
        width = self.vectors.shape[1] * 2
        data = b"".join([read(handle, width, row * width) for row in rows.tolist()])
        return np.frombuffer(data, "<f2").reshape(len(rows), -1)

    def pieces(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Many rows, ascending, a piece at a time: their numbers and float32 (n, dim)."""
        for _, piece in chunks(rows, _PIECE):
            yield piece, self.vectors[piece].astype(np.float32)
            self.release()

    def release(self) -> None:
        """Give back what a large file's mapping holds; the system's own cache of it stays."""
        base: Any = self.vectors
        while isinstance(base, np.ndarray):
            base = base.base
        if self.large and hasattr(base, "madvise"):
            import mmap

            base.madvise(mmap.MADV_DONTNEED)
