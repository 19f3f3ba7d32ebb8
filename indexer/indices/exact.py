"""Exact cosines over the stored float16 rows, computed by FAISS without a copy of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.indexer.vectors import chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.indices.interface import Found
    from xsearch.indexer.indices.rows import StoredRows

# From so many queries on, multiplying matrices pays for turning float16 into float32 first.
_MANY = 16
_CHUNK = 32_768


def nothing(queries: int) -> Found:
    """No hits, for so many queries."""
    return np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)


def merge(parts: list[Found], k: int) -> Found:
    """The k best of several results for the same queries; equal cosines keep the lower row."""
    similarities = np.concatenate([part[0] for part in parts], axis=1)
    rows = np.concatenate([part[1] for part in parts], axis=1)
    similarities = np.where(rows < 0, -np.inf, similarities)
    order = np.lexsort((rows, -similarities), axis=1)[:, :k]
    return np.take_along_axis(similarities, order, 1), np.take_along_axis(rows, order, 1)


def exact_search(
    vectors: NDArray[np.float16] | StoredRows,
    rows: NDArray[np.int64],
    queries: NDArray[np.float32],
    k: int,
) -> Found:
    """The k nearest among some rows (ascending) of the vector store, by computing all cosines."""
    if len(rows) == 0 or k == 0:
        return nothing(len(queries))
    search = _by_matrix if len(queries) >= _MANY else _by_scan
    best = nothing(len(queries))
    for start, piece in chunks(rows, _CHUNK):
        similarities, found = search(np.asarray(vectors[piece]), queries, min(k, len(piece)))
        # -1 where a vector that is not finite was compared.
        numbers = np.where(found < 0, -1, rows[found + start])
        best = merge([best, (similarities, numbers)], k)
    return best


def _by_scan(codes: NDArray[np.float16], queries: NDArray[np.float32], k: int) -> Found:
    with threads_for(len(queries)):
        found: Found = view(codes).search(queries, k)
    return found


def _by_matrix(codes: NDArray[np.float16], queries: NDArray[np.float32], k: int) -> Found:
    # FAISS turns float16 into float32 several times as fast as numpy.
    vectors = view(codes).sa_decode(codes.view(np.uint8))
    cosines = queries @ vectors.T
    best = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    return np.take_along_axis(cosines, best, 1), best.astype(np.int64)


def view(vectors: NDArray[np.float16]) -> Any:
    """A FAISS index of inner products over rows (n, dim) where they lie, copied nowhere.

    It is valid as long as `vectors`, which it keeps.
    """
    import faiss

    # Any: FAISS' own annotations leave out most of what its Python wrapper offers.
    wrapper: Any = faiss
    index: Any = faiss.IndexScalarQuantizer(
        vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    data = np.ascontiguousarray(vectors).view(np.uint8).reshape(-1)
    if len(data):
        # What `create_view` does, which cannot be called from Python.
        codes = wrapper.MaybeOwnedVectorUInt8()
        start = faiss.swig_ptr(data)
        codes.is_owned = False
        codes.view_data, codes.view_size = start, data.size
        codes.c_ptr, codes.c_size = start, data.size
        index.codes = codes
        index.ntotal = len(vectors)
    wrapper.add_to_referenced_objects(index, data)
    return index


@contextlib.contextmanager
def threads_for(queries: int) -> Iterator[None]:
    """One thread for one query: FAISS divides searches by query, so that waking a pool of
    threads is of no use to a single one, and costs milliseconds beside onnxruntime's.

    The setting is OpenMP's for the calling thread; it is put back.
    """
    import faiss

    before = faiss.omp_get_max_threads()
    if queries == 1 < before:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        if queries == 1 < before:
            faiss.omp_set_num_threads(before)
