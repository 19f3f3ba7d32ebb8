"""Graphs of near neighbours (HNSW; Malkov and Yashunin, TPAMI 2018, arXiv:1603.09320).

Quick where much recall is wanted of a library that hardly changes, and dear: a second copy of the
vectors, a graph beside it, and building takes minutes. Only made when it is asked for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.indexer.indices.coverage import Coverage, Selection
from xsearch.indexer.indices.exact import exact_search, nothing, threads_for
from xsearch.indexer.indices.interface import Effort, Structure
from xsearch.indexer.indices.ivf import compared_exactly

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.indices.interface import Found
    from xsearch.indexer.indices.rows import StoredRows

# Neighbours of each node, and nodes in view while it is built.
_NEIGHBOURS = 16
_BUILDING = 80
# With more nodes in view, comparing every row is as quick.
_MOST = 8_192


class HnswIndex:
    """A graph over a segment's rows, which its nodes number from 0."""

    kind: Structure = "hnsw"

    def __init__(self, index: Any, rows: StoredRows, coverage: Coverage, effort: Effort) -> None:
        self.first, self.end = coverage.first, coverage.end
        self.effort = effort
        self._index = index
        self._rows = rows
        self._coverage = coverage
        self._numbers = coverage.rows
        self._nodes: tuple[Selection, NDArray[np.uint8]] | None = None

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
        chosen = self._coverage.select(excluded, allowed)
        k = min(k, chosen.count)
        if k == 0:
            return nothing(len(queries))
        view = max(self.effort.probes, 2 * min(k, certain or k), k)
        # Of the nodes in view, those that a filter takes are no hits.
        view = math.ceil(view * len(self._numbers) / chosen.count)
        while view <= _MOST and not compared_exactly(chosen.count):
            nodes = self._walk(queries, k, chosen, view)
            if np.all(nodes >= 0):
                # By the vector store's rows: the graph's own are not verified when it is opened.
                rows = np.sort(self._numbers[nodes])
                found = [
                    exact_search(self._rows, mine, query[None], k)
                    for mine, query in zip(rows, queries, strict=True)
                ]
                return np.concatenate([one[0] for one in found]), np.concatenate(
                    [one[1] for one in found]
                )
            view *= 4
        return exact_search(self._rows, chosen.rows, queries, k)

    def _walk(
        self, queries: NDArray[np.float32], k: int, chosen: Selection, view: int
    ) -> NDArray[np.int64]:
        """The nodes (n, k) nearest to each query; -1 where no more were met."""
        import faiss

        known = self._nodes
        if known is None or known[0] is not chosen:
            bits = np.packbits(chosen.mask[self._numbers - self.first], bitorder="little")
            known = self._nodes = (chosen, bits)
        wrapper: Any = faiss
        selector = faiss.IDSelectorBitmap(len(known[1]), faiss.swig_ptr(known[1]))
        with threads_for(len(queries)):
            _, found = self._index.search(
                queries, k, params=wrapper.SearchParametersHNSW(efSearch=view, sel=selector)
            )
        nodes: NDArray[np.int64] = found
        return nodes


def efforts() -> list[Effort]:
    """All efforts worth a try, the cheapest first."""
    return [Effort(2**power, 0) for power in range(4, 11)]


def build(rows: StoredRows, coverage: Coverage) -> Any:
    """FAISS' graph of a segment's rows."""
    import faiss

    kind: Any = faiss.IndexHNSWSQ
    half = faiss.ScalarQuantizer.QT_fp16
    index = kind(rows.vectors.shape[1], half, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _BUILDING
    for _, vectors in rows.pieces(coverage.rows):
        index.add(vectors)
    return index


def codes_size(index: Any) -> int:
    """How many of the bytes that FAISS writes, at their end, are the vectors."""
    return int(index.ntotal) * int(index.d) * 2
