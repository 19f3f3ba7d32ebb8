"""FAISS indices: immutable files derived from the vector store, and the interface to search them.

An index file holds the rows of one kind of item below a row number that its name tells:
`<fingerprint>.<generation>.<kind>.<rows>.flat.faiss`. Rows from there on are searched exactly
beside it until it is rebuilt. A file that is absent, stale or damaged is never an error.

FAISS believes what a file says of itself, up to allocating all memory or reading beyond its end.
Each file therefore closes with a seal, which opening verifies: the checksum of all but the codes
(those are `check`'s business), so that opening stays cheap however large they are.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from xsearch.indexer.disk import delete_others
from xsearch.indexer.vectors import chunks, sync_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.values import Kind

    Found = tuple[NDArray[np.float32], NDArray[np.int64]]

FOLDER = "indices"
_SMALL = 20_000
# A mark, bytes before the codes, bytes of the codes, CRC-32 of what surrounds them.
_SEAL = struct.Struct("<8sQQI")
_MARK = b"xsearch1"


class VectorIndex(Protocol):
    """What searching needs of an index, whatever its kind."""

    @property
    def kind(self) -> str:
        """The structure, such as `flat`."""

    @property
    def rows(self) -> int:
        """It covers every row of its kind of item below this number."""

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        excluded: NDArray[np.int64] | None = None,
        allowed: NDArray[np.int64] | None = None,
    ) -> Found:
        """The k rows nearest to each query (n, dim): cosines (n, k) and row numbers (n, k).

        Where fewer than k rows qualify, the rest is row -1. `allowed` restricts the search to
        those rows and `excluded` leaves rows out; k qualifying rows come back whenever k exist.
        """

    def holds(self, vectors: NDArray[np.float16], rows: NDArray[np.int64]) -> bool:
        """Whether it is what building it from these rows of the store would give."""


class FlatIndex:
    """Exact inner products over memory-mapped float16 codes.

    The codes are the vector store's own bits, so that they are the same wherever it is built.
    """

    kind = "flat"

    def __init__(self, path: Path, rows: int) -> None:
        import faiss

        self.rows = rows
        # Any: FAISS' own annotations leave out most of what its Python wrapper offers.
        self._index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        excluded: NDArray[np.int64] | None = None,
        allowed: NDArray[np.int64] | None = None,
    ) -> Found:
        """See `VectorIndex.search`."""
        import faiss

        k = min(k, self._index.ntotal)
        if k == 0:
            return _nothing(len(queries))
        selector = _selector(excluded, allowed)
        search_parameters: Any = faiss.SearchParameters
        parameters = None if selector is None else search_parameters(sel=selector)
        with _threads_for(len(queries)):
            similarities, rows = self._index.search(queries, k, params=parameters)
        return similarities, rows

    def holds(self, vectors: NDArray[np.float16], rows: NDArray[np.int64]) -> bool:
        """See `VectorIndex.holds`."""
        import faiss

        if self._index.ntotal != len(rows):
            return False
        flat: Any = faiss.downcast_index(self._index.index)
        codes = flat.codes
        stored = faiss.rev_swig_ptr(codes.data(), codes.size()).view("<f2")
        stored = stored.reshape(len(rows), vectors.shape[1])
        ids = faiss.vector_to_array(self._index.id_map)
        return bool(np.array_equal(ids, rows)) and all(
            np.array_equal(stored[start : start + len(piece)], vectors[piece])
            for start, piece in chunks(rows)
        )


@contextlib.contextmanager
def _threads_for(queries: int) -> Iterator[None]:
    """One thread for one query: FAISS divides flat searches by query, so that waking a pool of
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


def _selector(excluded: NDArray[np.int64] | None, allowed: NDArray[np.int64] | None) -> Any | None:
    import faiss

    selectors: list[Any] = []
    if allowed is not None:
        selectors.append(faiss.IDSelectorBatch(allowed))
    if excluded is not None and len(excluded):
        selectors.append(faiss.IDSelectorNot(faiss.IDSelectorBatch(excluded)))
    if len(selectors) == 2:
        return faiss.IDSelectorAnd(*selectors)
    return selectors[0] if selectors else None


def exact_search(
    vectors: NDArray[np.float16],
    rows: NDArray[np.int64],
    queries: NDArray[np.float32],
    k: int,
) -> Found:
    """The k nearest among some rows (ascending) of the vector store, by computing all cosines."""
    if len(rows) == 0:
        return _nothing(len(queries))
    parts = []
    for start, piece in chunks(rows):
        cosines = queries @ vectors[piece].astype(np.float32).T
        best = _largest(cosines, k)
        parts.append((np.take_along_axis(cosines, best, 1), rows[best + start]))
    return merge(parts, k)


def merge(parts: list[Found], k: int) -> Found:
    """The k best of several results for the same queries; equal cosines keep the lower row."""
    similarities = np.concatenate([part[0] for part in parts], axis=1)
    rows = np.concatenate([part[1] for part in parts], axis=1)
    similarities = np.where(rows < 0, -np.inf, similarities)
    order = np.lexsort((rows, -similarities), axis=1)[:, :k]
    return np.take_along_axis(similarities, order, 1), np.take_along_axis(rows, order, 1)


def _largest(values: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    if k >= values.shape[1]:
        return np.argsort(-values, axis=1, kind="stable")
    return np.argpartition(-values, k - 1, axis=1)[:, :k]


def _nothing(queries: int) -> Found:
    return np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)


def worth_rebuilding(covered: int, total: int) -> bool:
    """Whether rows below `total`, of which those below `covered` are indexed, want a new index.

    Small ones are always brought up to date; of large ones a fifth must be new, so that the
    bytes written stay a small multiple of the bytes indexed.
    """
    return total > covered and (total <= _SMALL or total - covered > covered // 5)


def find_index(
    library: Path, fingerprint: str, generation: int, kind: Kind, rows: int
) -> tuple[Path, int] | None:
    """The index file that covers most of the first `rows` rows, and how many it covers."""
    prefix = f"{fingerprint}.{generation}.{kind}."
    best: tuple[Path, int] | None = None
    with contextlib.suppress(OSError):
        for path in (library / FOLDER).iterdir():
            covered = _covered(path.name, prefix)
            if covered is not None and covered <= rows and (best is None or covered > best[1]):
                best = path, covered
    return best


def _covered(name: str, prefix: str) -> int | None:
    if not name.startswith(prefix):
        return None
    count, _, rest = name.removeprefix(prefix).partition(".")
    return int(count) if rest == "flat.faiss" and count.isdigit() else None


def open_index(
    library: Path, fingerprint: str, generation: int, kind: Kind, rows: int
) -> VectorIndex | None:
    """Open the best index there is; None where there is none or it cannot be read."""
    found = find_index(library, fingerprint, generation, kind, rows)
    if found is None:
        return None
    try:
        return FlatIndex(*found) if _is_sealed(found[0]) else None
    except (OSError, RuntimeError):
        return None  # Just deleted by a writer: search the rows themselves.


def _is_sealed(path: Path) -> bool:
    """Whether a file has the size and, but for its codes, the bytes that were written."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - _SEAL.size
        if size < 0:
            return False
        file.seek(size)
        mark, head, codes, crc = _SEAL.unpack(file.read())
        if mark != _MARK or head + codes > size:
            return False
        file.seek(0)
        start = zlib.crc32(file.read(head))
        file.seek(head + codes)
        return bool(zlib.crc32(file.read(size - head - codes), start) == crc)


def _seal(data: NDArray[np.uint8], count: int, code_bytes: int) -> bytes:
    """The seal of a serialized flat index: its codes come before `count` ids and their number."""
    codes = count * code_bytes
    after = len(data) - 8 * (count + 1)
    head = after - codes
    crc = zlib.crc32(data[after:].tobytes(), zlib.crc32(data[:head].tobytes()))
    return _SEAL.pack(_MARK, head, codes, crc)


def build_index(
    library: Path,
    fingerprint: str,
    generation: int,
    kind: Kind,
    vectors: NDArray[np.float16],
    rows: NDArray[np.int64],
    covered: int,
) -> Path:
    """Write the index over `rows` of `vectors` (float16 (n, dim)); all of `kind` below `covered`.

    The file appears under its name only once it is complete and on the disk.
    """
    import faiss

    flat = faiss.IndexScalarQuantizer(
        vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index = faiss.IndexIDMap(flat)
    for _, piece in chunks(rows):
        index.add_with_ids(vectors[piece].astype(np.float32), piece)
    folder = library / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{fingerprint}.{generation}.{kind}.{covered}.flat.faiss"
    partial = path.with_suffix(".partial")
    # Written here rather than by FAISS, which reports a full disk by its own exception and
    # cannot flush to the disk.
    data = faiss.serialize_index(index)
    try:
        with partial.open("wb") as file:
            file.write(data.data)
            file.write(_seal(data, len(rows), 2 * vectors.shape[1]))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_folder(folder)
    return path


def drop_stale(library: Path, keep: set[Path]) -> list[Path]:
    """Delete index files other than `keep`."""
    return delete_others(library / FOLDER, keep)
