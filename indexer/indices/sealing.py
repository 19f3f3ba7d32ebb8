"""The file of a segment: what FAISS wrote, which rows it holds, and a seal over both.

FAISS believes what a file says of itself, up to allocating all memory or reading beyond its end.
Each file therefore closes with a seal, which opening verifies: the checksum of all but the bulk of
the codes, so that opening stays cheap however large they are. The bulk has a checksum of its own,
which is `check`'s business; damage there can make hits worse, never harm the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from xsearch.core.values import Kind
from xsearch.indexer.indices.interface import Effort, Structure
from xsearch.indexer.vectors import sync_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A mark; bytes of what FAISS wrote before the codes, of the codes, of the rows' bits and of the
# header; CRC-32 of all but the codes, and of the codes.
_SEAL = struct.Struct("<8sQQQQII")
_MARK = b"xsearch2"
_PIECE = 1 << 22


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment says of itself.

    Attributes:
        structure: its kind of index.
        fingerprint, generation, kind, dim: whose vectors, and of which kind of item.
        first, end: the rows it covers: from, and to before.
        count: how many rows of the kind are among them.
        lists: lists of an inverted file; 0 for other structures.
        effort: how hard a search has to try; None where it is exact.
        wanted: the recall at 10 that the effort was chosen for.
        recall: what was measured then, against exact search; None where it is exact.
        queries: what was asked to measure it, in words.
        sample: CRC-32 of some of the vectors it was made of, by which another library's or a
            restored backup's file is told.
        faiss: the version of FAISS that wrote it.
    """

    structure: Structure
    fingerprint: str
    generation: int
    kind: Kind
    dim: int
    first: int
    end: int
    count: int
    lists: int = 0
    effort: Effort | None = None
    wanted: float = 1.0
    recall: float | None = None
    queries: str = ""
    sample: int = 0
    faiss: str = ""

    def measured(self, effort: Effort, recall: float | None, queries: str) -> Header:
        """The same with what measuring gave."""
        return replace(self, effort=effort, recall=recall, queries=queries)


@dataclass(frozen=True, slots=True)
class Sealed:
    """An opened file whose seal is whole: its header, the rows' bits, and where the codes lie."""

    size: int
    header: Header
    bits: bytes
    codes_start: int
    codes_size: int
    codes_crc: int


def read_sealed(path: Path) -> Sealed | None:
    """What a file says, without its codes; None where it is not as it was written.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - _SEAL.size
        if size < 0:
            return None
        file.seek(size)
        mark, head, codes, bits, text, crc, codes_crc = _SEAL.unpack(file.read())
        if mark != _MARK or head + codes + bits + text != size:
            return None
        file.seek(0)
        found = zlib.crc32(file.read(head))
        file.seek(head + codes)
        rows, described = file.read(bits), file.read(text)
        if zlib.crc32(described, zlib.crc32(rows, found)) != crc:
            return None
        header = _parse(described)
        if header is None:
            return None
        return Sealed(size + _SEAL.size, header, rows, head, codes, codes_crc)


def codes_are_whole(path: Path, sealed: Sealed) -> bool:
    """Whether the codes, too, are the bytes that were written; reads them all."""
    crc, left = 0, sealed.codes_size
    with path.open("rb") as file:
        file.seek(sealed.codes_start)
        while left and (data := file.read(min(left, _PIECE))):
            crc = zlib.crc32(data, crc)
            left -= len(data)
    return not left and crc == sealed.codes_crc


def write_sealed(
    path: Path, header: Header, bits: bytes, data: NDArray[np.uint8] | None, codes_size: int
) -> None:
    """Write a segment; it appears under its name only once it is complete and on the disk.

    `data` is what FAISS wrote, of which the last `codes_size` bytes are the codes. FAISS itself
    reports a full disk by its own exception and cannot flush to the disk.

    Raises:
        OSError: the disk refused; nothing is left of it.
    """
    partial = path.with_suffix(".partial")
    described = json.dumps(asdict(header)).encode()
    whole = memoryview(b"" if data is None else data.data)
    head, codes = whole[: len(whole) - codes_size], whole[len(whole) - codes_size :]
    crc = zlib.crc32(described, zlib.crc32(bits, zlib.crc32(head)))
    seal = _SEAL.pack(
        _MARK, len(head), len(codes), len(bits), len(described), crc, zlib.crc32(codes)
    )
    with _gone_when_refused(partial), partial.open("wb") as file:
        for part in (head, codes, bits, described, seal):
            _write(file, memoryview(part))
        file.flush()
        os.fsync(file.fileno())
        partial.replace(path)
    sync_folder(path.parent)


def _write(file: IO[bytes], data: memoryview) -> None:
    for start in range(0, len(data), _PIECE):
        file.write(data[start : start + _PIECE])


@contextlib.contextmanager
def _gone_when_refused(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _parse(described: bytes) -> Header | None:
    try:
        values: dict[str, Any] = json.loads(described)
        effort = values.pop("effort")
        return Header(**values, effort=None if effort is None else Effort(**effort))
    except (TypeError, ValueError, KeyError, AttributeError):
        return None  # Sealed by another version of this program.
