"""The vector store: append-only files of unit-length float16 rows, one for each generation."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.errors import LibraryError
from xsearch.indexer.disk import refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "vectors"
_DERIVED = ("indices", "backgrounds")
_CHUNK_ROWS = 65_536
_SAMPLED = 32


def vector_path(library: Path, fingerprint: str, generation: int) -> Path:
    """Where the rows of one encoder and generation lie."""
    return library / FOLDER / f"{fingerprint}.{generation}.f16"


def unused_generation(library: Path, fingerprint: str) -> int:
    """A generation of which nothing is left on the disk, neither vectors nor what is derived.

    What an encoder left that was in the library before must not be taken for the new one's.
    """
    found = (library.glob(f"{folder}/{fingerprint}.*") for folder in (FOLDER, *_DERIVED))
    used = [path.name.split(".")[1] for paths in found for path in paths]
    return 1 + max((int(number) for number in used if number.isdigit()), default=0)


def sample_checksum(path: Path, first: int, end: int, dim: int) -> int:
    """CRC-32 of some of the rows from `first` to before `end` of a vector file, the last included.

    Raises:
        OSError: it cannot be read.
    """
    width, crc = dim * 2, 0
    with path.open("rb") as file:
        for step in range(1, _SAMPLED + 1):
            row = first + step * (end - first) // _SAMPLED - 1
            file.seek(max(row, first) * width)
            crc = zlib.crc32(file.read(width), crc)
    return crc


def to_rows(vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    """Stored form, float16 (n, dim), of float32 vectors (n, dim) that are scaled to unit length.

    Raises:
        ValueError: a vector is not finite or has no direction.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(np.isfinite(norms)) or np.any(norms == 0):
        raise ValueError("an embedding is not finite or has length zero")
    # Little-endian whatever the machine: a library can be carried to any other.
    rows: NDArray[np.float16] = (vectors / norms).astype("<f2")
    return rows


def checksums(rows: NDArray[np.float16]) -> list[int]:
    """CRC-32 of each row's bytes, float16 (n, dim)."""
    return [zlib.crc32(row) for row in np.ascontiguousarray(rows)]


def open_rows(path: Path, rows: int, dim: int) -> NDArray[np.float16]:
    """The first `rows` rows of a vector file, memory-mapped: float16 (rows, dim).

    Rows beyond those the catalog names are left out: they belong to no committed change.

    Raises:
        FileNotFoundError: no such file (a compaction may just have replaced it).
        LibraryError: the file is shorter than the catalog says.
    """
    if rows == 0:
        return np.empty((0, dim), dtype="<f2")
    if path.stat().st_size < rows * dim * 2:
        raise LibraryError(
            f"{path}: shorter than the catalog says. Run `xsearch check`: what is lost is "
            "embedded again by the next `xsearch index`."
        )
    return np.memmap(path, dtype="<f2", mode="r", shape=(rows, dim))


def current_rows(path: Path, rows: int, dim: int) -> NDArray[np.float16]:
    """`open_rows` for the writer, which no compaction can surprise.

    Raises:
        LibraryError: the file is missing or too short.
    """
    try:
        return open_rows(path, rows, dim)
    except FileNotFoundError as error:
        raise LibraryError(
            f"{path}: the vectors are missing. Run `xsearch check`, then `xsearch index`: what "
            "is lost is embedded again."
        ) from error


def chunks(
    rows: NDArray[np.int64], size: int = _CHUNK_ROWS
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Pieces of a long list of row numbers, each with where it starts in the list."""
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]


class VectorWriter:
    """Appends rows to one vector file; the caller holds the writer's lock.

    Opening it cuts off rows that no committed change names: the rest of a run that died.

    Raises:
        LibraryError: the file is shorter than the catalog says.
        StorageError, LibraryReadOnlyError: the disk refused a write; also from `append`.
    """

    def __init__(self, path: Path, rows: int, dim: int) -> None:
        self._library = path.parent.parent
        self._dim = dim
        self.rows = rows
        try:
            path.parent.mkdir(exist_ok=True)
            new = not path.exists()
            # Unbuffered: what a full disk refused must not be tried again by closing the file.
            self._file = path.open("r+b" if not new else "w+b", buffering=0)
            self._cut(path, rows * dim * 2)
            if new:
                sync_folder(path.parent)
        except OSError as error:
            raise refused(self._library, error) from error

    def _cut(self, path: Path, size: int) -> None:
        if self._file.seek(0, os.SEEK_END) < size:
            self._file.close()
            raise LibraryError(
                f"{path}: shorter than the catalog says. Run `xsearch check` first, then "
                "`xsearch index`: what is lost is embedded again."
            )
        self._file.truncate(size)

    def append(self, rows: NDArray[np.float16]) -> int:
        """Write rows float16 (n, dim) and flush them to the disk; returns the first's number."""
        first = self.rows
        data = memoryview(np.ascontiguousarray(rows).tobytes())
        try:
            self._file.seek(first * self._dim * 2)
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise refused(self._library, error) from error
        self.rows += len(rows)
        return first

    def close(self) -> None:
        """Close the file; what was appended but not committed is cut off by the next writer."""
        self._file.close()

    def __enter__(self) -> VectorWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sync_folder(folder: Path) -> None:
    """Make a new file's name in its folder survive a power cut, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
