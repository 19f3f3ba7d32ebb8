"""What the rows of a library are near to anyhow: what the cosines of a query are measured against.

All of it is derived and immutable like the files of an index. For each encoder and generation one
file has samples of the library's pictures and texts, how near each row is to the reference texts
and to the sampled pictures, and what reference queries find on average; another, for the encoder,
has the vectors of the reference texts. A file that is absent, stale or damaged is never an error:
cosines are then scored by the encoder's logistic.

`backgrounds/<fingerprint>.<generation>.<end>.<checksum>.background`, `backgrounds/<fingerprint>.
<digest>.bank`: a mark, a header in JSON with its checksum, then the arrays one after the other. A
name never gets other content: others may have the file mapped.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.core.scoring import DIRECTIONS, FEW, NEIGHBOURS, SAME_SCENE, Direction
from xsearch.core.values import KINDS, Kind
from xsearch.indexer.disk import delete_others
from xsearch.indexer.vectors import chunks, sample_checksum, sync_folder, vector_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float16 = NDArray[np.float16]
    Float32 = NDArray[np.float32]
    Int64 = NDArray[np.int64]
    # The rows of live items of a kind, in an order that has nothing to do with what they show.
    Shuffled = Callable[[Kind, int], Int64]

FOLDER = "backgrounds"
SAMPLED = 2_048
"""At most so many pictures, and texts, are what others are compared with."""
MEASURED = 512
"""Of these, so many tell how far a query's cosines spread."""
_GROWTH = 2
_PIECE = 4_096
_MARK = b"xsbackg1"
_START = struct.Struct("<8sIII")  # mark, bytes of the header, its CRC-32, that of the arrays
_ALIGNED = 64
_TYPES = ("<f2", "<i8")
_NAME = re.compile(
    r"(?P<fingerprint>.+)\.(?P<generation>\d+)\.(?P<end>\d+)\.[0-9a-f]{8}\.background"
)
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
)
# A smaller deviation is that of rounding: all that is there is alike.
_LEAST_SPREAD = 1e-3
_NAMED_BY = 16


@dataclass(frozen=True, slots=True)
class Header:
    """What a background says of itself.

    Attributes:
        fingerprint, generation, dim: whose vectors.
        end: the rows below this one are covered.
        digest: which reference texts: a hash of them.
        held: how many pictures and texts the library held when it was sampled.
        moments: mean and deviation of corrected cosines for reference queries, by
            `query-target`.
        sample: CRC-32 of some of the vectors, by which another library's file is told.
    """

    fingerprint: str
    generation: int
    dim: int
    end: int
    digest: str
    held: dict[str, int]
    moments: dict[str, tuple[float, float]]
    sample: int


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """An opened file; its arrays are memory-mapped.

    `samples` are float16 vectors (n, dim), by kind, `rows` the rows that they were taken from.
    `near` is float16 (end, 2): how near each row is to the reference texts, and to the pictures.
    """

    path: Path
    header: Header
    samples: dict[Kind, Float16]
    rows: dict[Kind, Int64]
    near: Float16
    _measured: dict[tuple[Kind, Direction], tuple[Float32, Float32]] = field(default_factory=dict)
    _typical: dict[tuple[Kind, Direction], float] = field(default_factory=dict)

    def measured(self, kind: Kind, direction: Direction) -> tuple[Float32, Float32]:
        """Vectors (n, dim) that tell how a query's cosines spread, and what is taken off theirs."""
        key = (kind, direction)
        if key not in self._measured:
            rows = self.rows[kind][:MEASURED]
            vectors = self.samples[kind][:MEASURED].astype(np.float32)
            whole = np.isfinite(vectors).all(axis=1)
            self._measured[key] = vectors[whole], self.bias(direction, kind, rows)[whole]
        return self._measured[key]

    def bias(self, direction: Direction, kind: Kind, rows: Int64) -> Float32:
        """What is taken off the cosines of some rows of a kind, float32 (n,).

        Where that is not known it is the average: of rows that came later, of pictures that are
        like all others, and where the file is damaged inside, which `check` alone finds.
        """
        biases = np.full(len(rows), np.nan, np.float32)
        covered = rows < self.header.end
        biases[covered] = self._taken(direction, rows[covered])
        unknown = ~np.isfinite(biases)
        if unknown.any():
            biases[unknown] = self.typical(direction, kind)
        return biases

    def typical(self, direction: Direction, kind: Kind) -> float:
        """What is taken off the cosines of a kind on average."""
        key = (kind, direction)
        if key not in self._typical:
            self._typical[key] = _mean(self._taken(direction, self.rows[kind]))
        return self._typical[key]

    def _taken(self, direction: Direction, rows: Int64) -> Float32:
        return _weighed(direction, self.near[rows], self.header.held["image"])


def _weighed(direction: Direction, near: NDArray[Any], pictures: int) -> Float32:
    """What is taken off the cosines of rows that are so near to texts and pictures, (n, 2).

    Among a few pictures the nearest ones say little of a row: the one that it fits is of them.
    """
    own = direction.own * pictures / (pictures + FEW)
    weighed: Float32 = near.astype(np.float32) @ np.array([direction.bank, own], np.float32)
    return weighed


def open_background(
    library: Path, fingerprint: str, generation: int, rows: int, dim: int
) -> Background | None:
    """The background of the first `rows` rows of an encoder's vectors; None where there is none."""
    found = [
        (int(match["end"]), path)
        for path in _files(library)
        if (match := _NAME.fullmatch(path.name))
        and (match["fingerprint"], int(match["generation"])) == (fingerprint, generation)
        and int(match["end"]) <= rows
    ]
    for _, path in sorted(found, reverse=True):
        with contextlib.suppress(*_UNREADABLE):
            opened = _background(path)
            header = opened.header
            vectors = vector_path(library, fingerprint, generation)
            if header.dim == dim and header.sample == sample_checksum(vectors, 0, header.end, dim):
                return opened
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """The reference texts by an encoder: a hash of them, and their vectors, float16 (m, dim).

    `path` is the file of a library that they were read from; None for new ones.
    """

    digest: str
    vectors: Float16
    path: Path | None = None


def open_bank(library: Path, fingerprint: str) -> Bank | None:
    """The reference texts that a library has by an encoder; None where it has none, or damaged."""
    for path in _files(library):
        if path.name.startswith(f"{fingerprint}.") and path.suffix == ".bank":
            with contextlib.suppress(*_UNREADABLE):
                header, arrays = _open(path)
                vectors = arrays["vectors"]
                if vectors.ndim == 2 and _is_whole(path):
                    return Bank(str(header["digest"]), np.array(vectors), path)
    return None


def keep_bank(library: Path, fingerprint: str, bank: Bank) -> Path:
    """Write the reference texts by an encoder, where they are not there yet.

    Raises:
        OSError: the disk refused; nothing is left of it.
    """
    if bank.path is not None:
        return bank.path
    path = library / FOLDER / f"{fingerprint}.{bank.digest[:_NAMED_BY]}.bank"
    _write(path, {"digest": bank.digest}, {"vectors": bank.vectors.astype("<f2")})
    return path


def damaged_backgrounds(library: Path) -> list[Path]:
    """Files whose bytes are not those that were written; reads them all."""
    return [path for path in _files(library) if not _is_whole(path)]


def drop_stale_backgrounds(library: Path, keep: set[Path]) -> list[Path]:
    """Delete the files other than `keep`."""
    return delete_others(library / FOLDER, keep)


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            mark, length, crc, data_crc = _START.unpack(file.read(_START.size))
            if mark != _MARK or zlib.crc32(file.read(length)) != crc:
                return False
            found = 0
            while data := file.read(1 << 22):
                found = zlib.crc32(data, found)
            return bool(found == data_crc)
    except (OSError, struct.error):
        return False


def update_background(
    library: Path,
    place: tuple[str, int, int],
    vectors: Float16,
    held: dict[Kind, int],
    shuffled: Shuffled,
    bank: Bank,
    before: Background | None,
) -> Path:
    """Write the background of an encoder's rows, unless the one before covers them.

    Args:
        library: its folder.
        place: fingerprint, generation and dimension.
        vectors: all rows, float16 (n, dim).
        held: how many live items of each kind there are.
        shuffled: gives up to so many rows of live items of a kind.
        bank: the reference texts by the encoder.
        before: the file that is there, whose rows need not be compared again while the library
            has not doubled.

    Raises:
        OSError: the disk refused; nothing is left of it.
    """
    fingerprint, generation, dim = place
    end = len(vectors)
    if before is not None and before.header.digest != bank.digest:
        before = None
    if before is not None and any(_outgrown(before.header.held[kind], held[kind]) for kind in held):
        before = None
    if before is not None and before.header.end == end:
        return before.path
    if before is None:
        rows = {kind: shuffled(kind, SAMPLED) for kind in KINDS}
        samples = {kind: np.asarray(vectors[rows[kind]]) for kind in KINDS}
        near, held_then = np.empty((0, 2), np.float16), dict(held)
    else:
        rows, samples, near = before.rows, before.samples, before.near
        held_then = {kind: before.header.held[kind] for kind in held}
    wide = bank.vectors.astype(np.float32), samples["image"].astype(np.float32)
    parts = [near]
    for _, piece in chunks(np.arange(len(near), end), _PIECE):
        parts.append(_near(np.asarray(vectors[piece]).astype(np.float32), *wide))
    near = np.concatenate(parts).astype("<f2")
    arrays = {
        "near": near,
        **{f"{kind}s": samples[kind].astype("<f2") for kind in KINDS},
        **{f"{kind}_rows": rows[kind].astype("<i8") for kind in KINDS},
    }
    header = Header(
        fingerprint,
        generation,
        dim,
        end,
        bank.digest,
        {str(kind): count for kind, count in held_then.items()},
        _moments(wide[0], samples, rows, near, held_then["image"]),
        sample_checksum(vector_path(library, fingerprint, generation), 0, end, dim),
    )
    described = asdict(header)
    mark = zlib.crc32(near.tobytes(), zlib.crc32(json.dumps(described).encode()))
    path = library / FOLDER / f"{fingerprint}.{generation}.{end}.{mark:08x}.background"
    _write(path, described, arrays)
    return path


def _outgrown(then: int, now: int) -> bool:
    """Whether a sample taken of so many is worth another one now."""
    return now > max(_GROWTH * then, then + NEIGHBOURS) or then == 0 < now


def _near(rows: Float32, bank: Float32, pictures: Float32) -> Float16:
    """How near rows (n, dim) are to the bank and to the pictures: float16 (n, 2)."""
    near = np.full((len(rows), 2), np.nan, np.float16)
    near[:, 0] = _nearest(rows @ bank.T)
    cosines = rows @ pictures.T
    cosines[cosines > SAME_SCENE] = -np.inf
    near[:, 1] = _nearest(cosines)
    return near


def _nearest(cosines: Float32) -> Float32:
    """Means (n,) of the largest cosines of each row (n, m), of those that are finite; NaN: none."""
    count = min(NEIGHBOURS, cosines.shape[1])
    if not count:
        return np.full(len(cosines), np.nan, np.float32)
    largest = np.partition(cosines, -count, axis=1)[:, -count:]
    usable = np.isfinite(largest)
    total = np.where(usable, largest, 0).sum(axis=1)
    means: Float32 = np.where(usable.any(axis=1), total, np.nan) / np.maximum(usable.sum(axis=1), 1)
    return means.astype(np.float32)


def _moments(
    bank: Float32,
    samples: dict[Kind, Float16],
    rows: dict[Kind, Int64],
    near: Float16,
    pictures: int,
) -> dict[str, tuple[float, float]]:
    """Mean and deviation of what reference queries find, see `Direction`."""
    found = {}
    asked = {"text": bank, "image": samples["image"][:MEASURED].astype(np.float32)}
    for (query, target), direction in DIRECTIONS.items():
        targets = samples[target][:MEASURED].astype(np.float32)
        if len(targets) < 2 or not len(asked[query]):
            continue
        taken = _weighed(direction, near[rows[target][:MEASURED]], pictures)
        corrected = asked[query] @ targets.T - np.nan_to_num(taken, nan=_mean(taken))
        deviation = float(corrected.std(axis=1).mean())
        if deviation >= _LEAST_SPREAD:
            found[f"{query}-{target}"] = (float(corrected.mean()), deviation)
    return found


def _mean(values: Float32) -> float:
    """The mean of the finite ones; 0 without any."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else 0.0


def _files(library: Path) -> list[Path]:
    try:
        return sorted(path for path in (library / FOLDER).iterdir() if path.suffix != ".partial")
    except OSError:
        return []


def _background(path: Path) -> Background:
    """Raises one of `_UNREADABLE`: it cannot be read, or is not what it should be."""
    described, arrays = _open(path)
    moments = {}
    for name, (mean, deviation) in described["moments"].items():
        if not (math.isfinite(mean) and math.isfinite(deviation) and deviation >= _LEAST_SPREAD):
            raise ValueError("moments that cannot be")
        moments[str(name)] = (float(mean), float(deviation))
    held = {str(kind): int(described["held"][kind]) for kind in KINDS}
    header = Header(**{**described, "moments": moments, "held": held})
    rows: dict[Kind, Any] = {kind: arrays[f"{kind}_rows"] for kind in KINDS}
    samples: dict[Kind, Any] = {kind: arrays[f"{kind}s"] for kind in KINDS}
    near: Any = arrays["near"]
    fits = near.shape == (header.end, 2) and near.dtype == np.float16
    for kind in KINDS:
        fits &= rows[kind].dtype == np.int64 and rows[kind].ndim == 1
        fits &= samples[kind].dtype == np.float16
        fits &= samples[kind].shape == (len(rows[kind]), header.dim)
        fits &= not len(rows[kind]) or 0 <= rows[kind].min() <= rows[kind].max() < header.end
    if not fits:
        raise ValueError("arrays that do not fit together")
    return Background(path, header, samples, rows, near)


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A file's header and arrays.

    Raises one of `_UNREADABLE`: it cannot be read, or is not what it should be.
    """
    with path.open("rb") as file:
        start = file.read(_START.size)
        if len(start) < _START.size:
            raise ValueError("too short")
        mark, length, crc, _ = _START.unpack(start)
        described = file.read(length)
        if mark != _MARK or zlib.crc32(described) != crc:
            raise ValueError("another kind of file")
        size = file.seek(0, os.SEEK_END)
    header: dict[str, Any] = json.loads(described)
    offset, arrays = _aligned(_START.size + length), {}
    for name, kind, shape in header.pop("arrays"):
        if kind not in _TYPES or any(side < 0 for side in shape):
            raise ValueError("an array of another type")
        count = int(np.prod(shape)) * np.dtype(kind).itemsize
        if offset + count > size:
            raise ValueError("cut off")
        arrays[name] = (
            np.memmap(path, dtype=kind, mode="r", offset=offset, shape=tuple(shape))
            if count
            else np.empty(shape, kind)
        )
        offset = _aligned(offset + count)
    return header, arrays


def _write(path: Path, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """The file appears under its name only once it is complete and on the disk."""
    path.parent.mkdir(exist_ok=True)
    listed = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    described = json.dumps({**header, "arrays": listed}).encode()
    start = _START.size + len(described)
    data = bytearray(_aligned(start) - start)
    for array in arrays.values():
        data += np.ascontiguousarray(array).tobytes()
        data += bytes(_aligned(start + len(data)) - start - len(data))
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            crcs = zlib.crc32(described), zlib.crc32(data)
            file.write(_START.pack(_MARK, len(described), *crcs) + described)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNED) * _ALIGNED
