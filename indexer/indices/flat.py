"""The exact index: every vector is compared, in the vector file itself.

Its own file holds only which rows are of its kind of item, so that opening a library asks the
catalog for none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.indexer.indices.coverage import Coverage
from xsearch.indexer.indices.exact import nothing, threads_for, view
from xsearch.indexer.indices.interface import Structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.indices.interface import Found
    from xsearch.indexer.indices.rows import StoredRows


class FlatIndex:
    """Exact inner products over the vector store's own float16 rows."""

    kind: Structure = "flat"

    def __init__(self, rows: StoredRows, coverage: Coverage) -> None:
        self.first, self.end = coverage.first, coverage.end
        self._rows = rows
        self._coverage = coverage
        self._index = view(rows.vectors[self.first : self.end])

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        excluded: NDArray[np.int64] | None = None,
        allowed: NDArray[np.int64] | None = None,
        certain: int | None = None,
    ) -> Found:
        """See `VectorIndex.search`."""
        del certain  # Every row is compared.
        import faiss

        chosen = self._coverage.select(excluded, allowed)
        k = min(k, chosen.count)
        if k == 0:
            return nothing(len(queries))
        make: Any = faiss.SearchParameters
        selector = None if chosen.count == len(chosen.mask) else chosen.selector()
        with threads_for(len(queries)):
            similarities, found = self._index.search(queries, k, params=make(sel=selector))
        self._rows.release()
        return similarities, np.where(found < 0, -1, found + self.first)
