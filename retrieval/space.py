"""What one commit of a library holds of one encoder, opened for searching for one kind of item."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.indexer.background import Background, open_background
from xsearch.indexer.found import ids_at
from xsearch.indexer.ids import union
from xsearch.indexer.indices.exact import exact_search, merge
from xsearch.indexer.indices.interface import VectorIndex
from xsearch.indexer.indices.store import Place, open_segments
from xsearch.indexer.reader import EncoderRow, Snapshot
from xsearch.indexer.vectors import open_rows, vector_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.values import Kind
    from xsearch.indexer.indices.gpu import Cards

    Float32 = NDArray[np.float32]
    Int64 = NDArray[np.int64]

# So few rows are looked up one by one.
_FEW = 1_000


class Space:
    """Vectors, index and background; `tail` are the rows that no segment of the index covers.

    Its row numbers are those of the encoder's generation. What is not needed by every query is
    read when it is.
    """

    def __init__(
        self,
        folder: Path,
        snapshot: Snapshot,
        encoder: EncoderRow,
        target: Kind,
        cards: Cards | None,
    ) -> None:
        place = (folder, encoder.fingerprint, encoder.generation)
        self.encoder = encoder
        self.vectors = open_rows(vector_path(*place), encoder.rows, encoder.dim)
        which = Place(*place, target, encoder.dim)
        self._segments: list[VectorIndex]
        self._segments, covered = open_segments(which, encoder.rows, self.vectors, cards)
        self._deleted = np.array(snapshot.deleted_rows(encoder.id), dtype=np.int64)
        tail = np.array(snapshot.rows_of(encoder.id, target, covered), dtype=np.int64)
        if len(self._deleted) and len(tail):
            tail = tail[~np.isin(tail, self._deleted)]
        self._tail = tail
        self.background: Background | None = open_background(*place, encoder.rows, encoder.dim)
        self._rows: Int64 | None = None

    def nearest(
        self,
        query: Float32,
        k: int,
        allowed: Int64 | None = None,
        *,
        left_out: Int64 | None = None,
        certain: int | None = None,
    ) -> tuple[Float32, Int64]:
        """The nearest rows to a query (dim,): cosines (n,) and rows (n,), best first, n <= k.

        Only rows of the target's kind; of `allowed` ones, if given, and never `left_out` ones (both
        ascending). An approximate index does its best for the first `certain`.
        """
        queries = query[None, :].astype(np.float32)
        tail, gone = self._tail, self._deleted
        if left_out is not None and len(left_out):
            gone = union([gone, left_out])
            tail = np.setdiff1d(tail, left_out, assume_unique=True)
        if allowed is not None and len(tail):
            tail = np.intersect1d(tail, allowed, assume_unique=True)
        parts = [exact_search(self.vectors, tail, queries, k)]
        parts += [
            part.search(queries, k, excluded=gone, allowed=allowed, certain=certain)
            for part in self._segments
        ]
        cosines, rows = (found[0] for found in merge(parts, k))
        return cosines[rows >= 0], rows[rows >= 0]

    def cosines(self, query: Float32, rows: Int64) -> Float32:
        """The cosines (n,) of a query (dim,) to some rows."""
        found: Float32 = self.vectors[rows].astype(np.float32) @ query
        return found

    def rows_of(self, snapshot: Snapshot, ids: Int64) -> Int64:
        """The rows (n,) of items, -1 for those that have none."""
        if self._rows is None:
            if len(ids) <= _FEW:
                found = snapshot.rows_at(self.encoder.id, ids.tolist())
                return np.array([found.get(id_, -1) for id_ in ids.tolist()], np.int64)
            self._rows = snapshot.rows_by_item(self.encoder.id)
        rows = np.full(len(ids), -1, np.int64)
        inside = ids < len(self._rows)
        rows[inside] = self._rows[ids[inside]]
        return rows

    def allowed(self, snapshot: Snapshot, ids: Int64) -> Int64:
        """The rows of items, ascending, without those that have none."""
        rows = np.sort(self.rows_of(snapshot, ids))
        return rows[np.searchsorted(rows, 0) :]

    def ids_of(self, snapshot: Snapshot, rows: Int64) -> Int64:
        """The items (n,) at some rows; -1 where a damaged index names rows of none."""
        found = ids_at(snapshot, self.encoder.id, rows.tolist())
        return np.array([found.get(row, -1) for row in rows.tolist()], np.int64)
