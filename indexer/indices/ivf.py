"""Inverted files of one-bit codes, whose best candidates are compared exactly.

A vector's code is RaBitQ's (Gao and Long, SIGMOD 2024, arXiv:2405.12497): a bit a dimension of
what is left of it after the centroid of its list, and two numbers that make the estimate of the
cosine unbiased. With a single list, whose centroid is the mean, it is a scan of all codes that
needs no training. Candidates are compared exactly, with the stored float16 rows.

The codes are memory-mapped: opening reads the centroids alone. (FAISS' fast-scan variant is not
faster than four-bit queries here, and reads the whole file when it is opened.)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.indexer.indices.choice import query_seconds
from xsearch.indexer.indices.coverage import Coverage, Selection
from xsearch.indexer.indices.exact import exact_search, nothing, threads_for
from xsearch.indexer.indices.interface import TUNED_K, Effort, Structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.indices.interface import Found
    from xsearch.indexer.indices.rows import StoredRows

# Bits of a query's coordinates: 2 lose recall, 8 cost time, 4 do neither.
_QUERY_BITS = 4
# So few rows are compared exactly: a search with a selector takes no less.
_FEW = 5_000
# At least so many candidates for each hit.
_CANDIDATES = 10
_TRIED = (50, 100, 200, 400, 800, 1_600, 3_200)
# Training: points for each centroid, and rounds of k-means.
_POINTS = 40
_ROUNDS = 8
_ID_BYTES = 8


def compared_exactly(count: int) -> bool:
    """Whether so few rows are better compared one by one than searched with a selector."""
    return count <= _FEW


class IvfIndex:
    """Approximate candidates from an inverted file, refined with the vector store's rows.

    `index` is FAISS' and counts rows from the segment's first.
    """

    def __init__(self, index: Any, rows: StoredRows, coverage: Coverage, effort: Effort) -> None:
        self.kind: Structure = "rabitq" if index.nlist == 1 else "ivf"
        self.first, self.end = coverage.first, coverage.end
        self.effort = effort
        self.lists: int = index.nlist
        self._index = index
        self._rows = rows
        self._coverage = coverage

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
        # Rows that a filter leaves may lie anywhere, and far ones count where many are wanted.
        share = chosen.count / max(self._index.ntotal, 1)
        sought = min(k, certain or k)
        harder = max(math.sqrt(sought / TUNED_K), 1) / share
        effort = Effort(
            min(math.ceil(self.effort.probes * harder), self.lists),
            max(self.effort.candidates, _CANDIDATES * sought, k),
        )
        if compared_exactly(chosen.count) or chosen.count <= effort.candidates:
            return exact_search(self._rows, chosen.rows, queries, k)
        candidates = self._candidates(queries, k, effort, chosen)
        found = [
            self._refine(query, k, rows, chosen)
            for query, rows in zip(queries, candidates, strict=True)
        ]
        return np.stack([part[0] for part in found]), np.stack([part[1] for part in found])

    def _candidates(
        self, queries: NDArray[np.float32], k: int, effort: Effort, chosen: Selection
    ) -> NDArray[np.int64]:
        """Rows (n, candidates), counted from the segment's first; -1 where there are no more.

        Ever more lists are scanned until each query has k.
        """
        import faiss

        parameters: Any = faiss.IVFRaBitQSearchParameters
        probes = effort.probes
        while True:
            given = parameters(nprobe=probes, qb=_QUERY_BITS, sel=chosen.selector())
            with threads_for(len(queries)):
                _, found = self._index.search(queries, effort.candidates, params=given)
            if probes == self.lists or np.all(found[:, k - 1] >= 0):
                rows: NDArray[np.int64] = found
                return rows
            probes = min(4 * probes, self.lists)

    def _refine(
        self, query: NDArray[np.float32], k: int, candidates: NDArray[np.int64], chosen: Selection
    ) -> Found:
        """The k best candidates, with their exact cosines: two arrays (k,)."""
        # Once each: a damaged file may have one under several codes.
        rows = np.unique(candidates[candidates >= 0]) + self.first
        if len(rows) < k:
            # Codes that a damaged file has under wrong ids.
            rows = chosen.rows
        similarities, found = exact_search(self._rows, rows, query[None], k)
        return similarities[0], found[0]


def build(rows: StoredRows, coverage: Coverage, lists: int) -> Any:
    """FAISS' inverted file over a segment's rows.

    Training is repeatable: the same rows give the same file.
    """
    import faiss

    from xsearch.indexer.indices.gpu import train

    dim = rows.vectors.shape[1]
    centroids: Any = faiss.IndexFlatIP(dim)
    index: Any = faiss.IndexIVFRaBitQ(centroids, dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.qb = _QUERY_BITS
    index.cp.niter = _ROUNDS
    numbers = coverage.rows
    sample = np.random.default_rng(0).choice(
        numbers, min(len(numbers), max(_POINTS * lists, 10_000)), replace=False
    )
    train(index, rows[np.sort(sample)].astype(np.float32))
    for piece, vectors in rows.pieces(numbers):
        index.add_with_ids(vectors, piece - coverage.first)
    return index


def codes_size(index: Any) -> int:
    """How many of the bytes that FAISS writes, at their end, are the codes and their ids."""
    return int(index.ntotal) * (int(index.code_size) + _ID_BYTES)


def efforts(lists: int, count: int, dim: int) -> list[Effort]:
    """All efforts worth a try, the cheapest first."""
    probes = {lists}
    probes |= {2**power for power in range(int(math.log2(lists)) + 1) if 2**power >= lists // 128}
    found = [Effort(probe, min(candidates, count)) for probe in probes for candidates in _TRIED]
    return sorted(
        dict.fromkeys(found),
        key=lambda effort: query_seconds(lists, count, dim, effort.probes, effort.candidates),
    )
