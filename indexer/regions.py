"""The region cache of a library: what a reranker reads of pictures, kept beside their vectors.

`regions/` is derived and may be absent: `regions.json` says which reranker it is of and which files
count, `<reranker>.<generation>.memories` holds int8 records of one size, one after the other, and
`.keys` for each the hash of the picture's content with a checksum of both. Since a record is found
by what a picture is, not by its number, one of another library can do no harm. A record is on the
disk before its key is, both only grow, and a rewritten cache gets the next generation: readers
never wait, and see whole records only. What is torn or damaged counts as absent.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xsearch.core.hashing import DIGEST_BYTES
from xsearch.indexer.disk import delete_others, refused
from xsearch.indexer.vectors import sync_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int8 = NDArray[np.int8]
    Int64 = NDArray[np.int64]

FOLDER = "regions"
DESCRIPTION = "regions.json"
FORMAT = 1
_KEY = np.dtype([("head", "<u8"), ("rest", f"V{DIGEST_BYTES - 8}"), ("crc", "<u4")])
_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_PIECE = 256
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Described:
    """What a cache says of itself.

    Attributes:
        reranker, fingerprint: the reranker's name, and what names its memories.
        encoder: the fingerprint of the encoder whose regions it reads.
        source: the reranker's folder; None for that in the encoder's own folder.
        shape: of a picture's memory: regions and width.
        generation: which files count.
    """

    reranker: str
    fingerprint: str
    encoder: str
    source: str | None
    shape: tuple[int, int]
    generation: int = 0

    @property
    def size(self) -> int:
        """Bytes of a record."""
        return self.shape[0] * self.shape[1]

    def files(self, library: Path) -> tuple[Path, Path]:
        """The file of keys and that of memories."""
        stem = f"{self.fingerprint}.{self.generation}"
        folder = library / FOLDER
        return folder / f"{stem}.keys", folder / f"{stem}.memories"


def described(library: Path) -> Described | None:
    """What the region cache of a library says of itself; None where it has none that counts."""
    try:
        content = json.loads((library / FOLDER / DESCRIPTION).read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            return None
        rows, width = content["shape"]
        found = Described(**{**content, "shape": (int(rows), int(width))})
        named = (found.fingerprint, found.encoder, found.reranker, found.source or "")
        plain = all(isinstance(name, str) for name in named)
        inside = Path(found.fingerprint).name == found.fingerprint
        whole = isinstance(found.generation, int) and min(found.shape) > 0
    except _UNREADABLE:
        return None
    return found if plain and inside and whole else None


class Regions:
    """An opened region cache: as much of it as was there; its memories are memory-mapped."""

    def __init__(self, library: Path, about: Described) -> None:
        """Raises OSError: a file is missing (a writer may just have replaced it)."""
        self.about = about
        keys, memories = about.files(library)
        # Keys first: their records were there before them.
        count = min(keys.stat().st_size // _KEY.itemsize, memories.stat().st_size // about.size)
        self._keys = np.fromfile(keys, _KEY, count)
        count = len(self._keys)
        self._memories: Int8 = (
            np.memmap(memories, np.int8, "r", shape=(count, *about.shape))
            if count
            else np.zeros((0, *about.shape), np.int8)
        )
        self._order = np.argsort(self._keys["head"], kind="stable")
        self.heads = self._keys["head"][self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, digests: Iterable[bytes]) -> dict[bytes, Int8]:
        """The memories (R, width) of contents, by hash; those without a whole one are left out."""
        found: dict[bytes, Int8] = {}
        for digest in digests:
            head = np.frombuffer(digest[:8], "<u8")
            (first,), (end,) = (np.searchsorted(self.heads, head, side) for side in _SIDES)
            for row in self._order[first:end].tolist():
                if self._digest(row) == digest and self.is_whole(row):
                    found[digest] = self._memories[row]
                    break
        return found

    def count(self, digests: Sequence[bytes]) -> int:
        """How many of some contents have a record; the records are not read."""
        return int(_holds(self.heads, digests).sum())

    def kept(self, digests: Iterable[bytes]) -> list[int]:
        """The whole records of some contents, one each: their numbers, ascending."""
        wanted, rows = set(digests), list[int]()
        for row in range(len(self)):
            digest = self._digest(row)
            if digest in wanted and self.is_whole(row):
                wanted.remove(digest)
                rows.append(row)
        return rows

    def damaged(self) -> int:
        """How many records are not what was written; reads them all."""
        return sum(not self.is_whole(row) for row in range(len(self)))

    def is_whole(self, row: int) -> bool:
        """Whether a record is what was written."""
        return bool(_checksum(self._digest(row), self._memories[row]) == self._keys["crc"][row])

    def piece(self, rows: Sequence[int]) -> tuple[list[bytes], Int8]:
        """Hashes and memories (n, R, width) of some records."""
        return [self._digest(row) for row in rows], np.asarray(self._memories[list(rows)])

    def _digest(self, row: int) -> bytes:
        return bytes(self._keys[row].tobytes()[:DIGEST_BYTES])


def open_regions(library: Path, fingerprint: str) -> Regions | None:
    """The region cache of a reranker; None where a library has none, or one of another."""
    about = described(library)
    if about is None or about.fingerprint != fingerprint:
        return None
    try:
        return Regions(library, about)
    except OSError:
        return None


def state_of(library: Path) -> tuple[int, ...]:
    """Numbers that change whenever there is something new in a region cache."""
    about = described(library)
    if about is None:
        return ()
    try:
        return about.generation, *(path.stat().st_size for path in about.files(library))
    except OSError:
        return ()


class RegionWriter:
    """Appends to a library's region cache, and makes it; the caller holds the writer's lock.

    Opening it cuts off what a run that died left behind, and drops the cache of another reranker.

    Raises:
        StorageError, LibraryReadOnlyError: the disk refused a write; also from `append`.
    """

    def __init__(self, library: Path, about: Described) -> None:
        self._library = library
        known = open_regions(library, about.fingerprint)
        if known is not None and known.about.shape != about.shape:
            known = None
        self._heads = np.empty(0, "<u8") if known is None else known.heads
        self._added: set[bytes] = set()
        generation = _unused(library) if known is None else known.about.generation
        self._about = replace(about, generation=generation)
        self._files: list[Any] = []
        try:
            if known is None:
                (library / FOLDER).mkdir(exist_ok=True)
                for path in self._about.files(library):
                    path.touch()
            self._open(0 if known is None else len(known))
            # Last, since readers believe it; the reranker may lie elsewhere by now.
            if described(library) != self._about:
                _describe(library, self._about)
        except OSError as error:
            self.close()
            raise refused(library, error) from error
        if known is None:
            _drop_others(library, self._about)

    def _open(self, count: int) -> None:
        for path, size in zip(
            self._about.files(self._library), (_KEY.itemsize, self._about.size), strict=True
        ):
            # Unbuffered: what a full disk refused must not be tried again by closing the file.
            file = path.open("r+b", buffering=0)
            self._files.append(file)
            # Windows does not cut a file that somebody has mapped, and seldom is there a need.
            if file.seek(0, os.SEEK_END) != count * size:
                file.truncate(count * size)
                file.seek(0, os.SEEK_END)

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """The places of those contents that have no record."""
        held = _holds(self._heads, digests)
        return [at for at, one in enumerate(digests) if not held[at] and one not in self._added]

    def append(self, digests: Sequence[bytes], memories: Int8) -> None:
        """Write the memories int8 (n, R, width) of contents, and flush them to the disk."""
        if not len(digests):
            return
        keys = np.frombuffer(
            b"".join(
                digest + int(_checksum(digest, memory)).to_bytes(4, "little")
                for digest, memory in zip(digests, memories, strict=True)
            ),
            np.uint8,
        )
        try:
            for file, data in zip(reversed(self._files), (memories, keys), strict=True):
                _write(file, np.ascontiguousarray(data).tobytes())
        except OSError as error:
            raise refused(self._library, error) from error
        self._added.update(digests)

    def close(self) -> None:
        """Close the files; what was appended stays."""
        for file in self._files:
            file.close()

    def __enter__(self) -> RegionWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_regions(library: Path) -> None:
    """Delete a library's region cache, if there is one; the caller holds the writer's lock."""
    with contextlib.suppress(OSError):
        (library / FOLDER / DESCRIPTION).unlink()
    shutil.rmtree(library / FOLDER, ignore_errors=True)


def damaged_regions(library: Path) -> int:
    """How many records of a library's region cache are not what was written; reads them all."""
    opened = _opened(library)
    return 0 if opened is None else opened.damaged()


def compact_regions(library: Path, encoders: Iterable[str], digests: Iterable[bytes]) -> None:
    """Drop what is of no use any more: records of other contents, and damaged ones.

    A cache that is for none of the `encoders` goes altogether.

    Raises:
        StorageError: the disk is full; the cache stays as it was.
    """
    opened = _opened(library)
    if opened is None or opened.about.encoder not in set(encoders):
        remove_regions(library)
        return
    rows = opened.kept(digests)
    if len(rows) == len(opened):
        _drop_others(library, opened.about)
        return
    about = replace(opened.about, generation=_unused(library))
    files = about.files(library)
    try:
        with files[1].open("xb") as memories, files[0].open("xb") as keys:
            for start in range(0, len(rows), _PIECE):
                part, found = opened.piece(rows[start : start + _PIECE])
                memories.write(found.tobytes())
                for digest, memory in zip(part, found, strict=True):
                    keys.write(digest + int(_checksum(digest, memory)).to_bytes(4, "little"))
            for file in (memories, keys):
                file.flush()
                os.fsync(file.fileno())
        _describe(library, about)
    except OSError as error:
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink()
        raise refused(library, error) from error
    _drop_others(library, about)


def _opened(library: Path) -> Regions | None:
    about = described(library)
    return None if about is None else open_regions(library, about.fingerprint)


def _holds(heads: NDArray[np.uint64], digests: Sequence[bytes]) -> NDArray[np.bool_]:
    """Which of some contents are among those whose hashes begin with `heads`, ascending."""
    if not len(heads) or not len(digests):
        return np.zeros(len(digests), np.bool_)
    wanted = np.frombuffer(b"".join(digest[:8] for digest in digests), "<u8")
    found: NDArray[np.bool_] = heads[np.searchsorted(heads[:-1], wanted)] == wanted
    return found


def _checksum(digest: bytes, memory: Int8) -> int:
    return zlib.crc32(memory.tobytes(), zlib.crc32(digest))


def _write(file: Any, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def _unused(library: Path) -> int:
    """A generation of which nothing is left on the disk."""
    names = [path.name.split(".") for path in (library / FOLDER).glob("*.*.*")]
    return 1 + max((int(name[-2]) for name in names if name[-2].isdigit()), default=0)


def _describe(library: Path, about: Described) -> None:
    """Say which files count, in one step."""
    path = library / FOLDER / DESCRIPTION
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **asdict(about)}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def _drop_others(library: Path, about: Described) -> None:
    delete_others(library / FOLDER, {library / FOLDER / DESCRIPTION, *about.files(library)})
