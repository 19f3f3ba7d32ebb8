"""Finds pictures that are to be learnt from and are in what is held out as well.

Figures on pictures that were learnt from say nothing. The same bytes are the same picture, and so
are two that look alike: saved again, resized, brightened, or with a thin edge cut off.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xsearch.core.errors import ImageError, UsageError
from xsearch.core.hashing import DIGEST_BYTES
from xsearch.core.images import decode, quiet_pillow
from xsearch.core.paths import displayable
from xsearch.core.perceptual import perceptual_hash
from xsearch.core.reports import Progress, ProgressCallback

from .records import Dataset, Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

DISTANCE = 10
"""Bits of two 64-bit perceptual hashes that may differ.

Of 300 photographs of Flickr8k, practically all are within it that were halved, saved again at
quality 30, made brighter or of more contrast by a third, or cut by 2 % on each side.
"""
CORRELATION = 0.85
"""What the greys of two such pictures must correlate with, or else they are two pictures.

Hashes alone are not enough: among the 32 million pairs of Flickr8k 10 are within `DISTANCE` by
chance, with correlations up to 0.61.
"""

_SIDE = 16
_DECODED_SIDE = 64
_ROWS = 2048


@dataclass(frozen=True, slots=True)
class Leak:
    """A training picture that is held out as well: `distance` bits apart, or equal to the byte."""

    train: Record
    held_out: Record
    distance: int
    equal: bool

    def __str__(self) -> str:
        how = "is the same file as" if self.equal else "looks the same as"
        return f"{displayable(self.train.key)}, which {how} {displayable(self.held_out.key)}"


def find_leaks(
    train: Dataset,
    *held_out: Dataset,
    distance: int = DISTANCE,
    progress: ProgressCallback | None = None,
) -> list[Leak]:
    """The pictures of `train` that are in `held_out`, each once, with the picture nearest to it.

    `distance` (0 to 63) is of perceptual hashes. Every picture is decoded once, small. Those that
    cannot be read are passed over, and flat ones count only if they are equal to the byte.
    """
    if not 0 <= distance <= 63:
        raise UsageError(f"a distance of {distance}: of 64 bits, 0 to 63 may differ")
    others = [record for dataset in held_out for record in dataset.records]
    if not others or not train.records:
        return []
    with quiet_pillow():
        looks = _looks([*train.records, *others], progress)
    count = len(train.records)
    own, theirs = looks[:count], looks[count:]
    # Of the columns of a row the nearest, the first of those; equal bytes are nearer than all.
    found = {row: (-1, column) for row, column in _equal(own, theirs)}
    for row, column, apart in _alike(own, theirs, distance):
        found[row] = min((apart, column), found.get(row, (64, 0)))
    return [
        Leak(train.records[row], others[column], max(apart, 0), equal=apart < 0)
        for row, (apart, column) in sorted(found.items())
    ]


def without_leaks(
    train: Dataset,
    *held_out: Dataset,
    distance: int = DISTANCE,
    progress: ProgressCallback | None = None,
) -> tuple[Dataset, list[Leak]]:
    """`train` without the pictures that are in `held_out`, and these: see `find_leaks`."""
    leaks = find_leaks(train, *held_out, distance=distance, progress=progress)
    gone = {leak.train.key for leak in leaks}
    kept = tuple(record for record in train.records if record.key not in gone)
    return replace(train, records=kept), leaks


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """A picture's content hash; its perceptual hash and greys uint8 (16 * 16,), None if flat."""

    digest: bytes
    hash: int | None
    greys: NDArray[np.uint8]


def _looks(records: Sequence[Record], progress: ProgressCallback | None) -> list[_Look | None]:
    """How each picture looks; None for one that cannot be read."""
    found: list[_Look | None] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, look in enumerate(pool.map(_look, records), 1):
            found.append(look)
            if progress is not None:
                progress(Progress("pictures", done, len(records)))
    return found


def _look(record: Record) -> _Look | None:
    import numpy as np
    from PIL import Image

    try:
        raw = record.image.read()
        image: Image.Image = decode(io.BytesIO(raw), min_side=_DECODED_SIDE).image
    except ImageError:
        return None
    greys = image.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    digest = hashlib.blake2b(raw, digest_size=DIGEST_BYTES).digest()
    # A flat picture's hash is 0; an all but flat one's is noise.
    return _Look(digest, perceptual_hash(image) or None, np.asarray(greys).ravel())


def _equal(
    own: Sequence[_Look | None], theirs: Sequence[_Look | None]
) -> Iterator[tuple[int, int]]:
    """Rows and columns of pictures that are equal to the byte, each row once."""
    columns: dict[bytes, int] = {}
    for column, look in enumerate(theirs):
        if look is not None:
            columns.setdefault(look.digest, column)
    for row, look in enumerate(own):
        if look is not None and look.digest in columns:
            yield row, columns[look.digest]


def _alike(
    own: Sequence[_Look | None], theirs: Sequence[_Look | None], distance: int
) -> Iterator[tuple[int, int, int]]:
    """Rows, columns and distances of pictures that look alike."""
    import numpy as np

    rows, row_bits, row_greys = _arrays(own)
    columns, column_bits, column_greys = _arrays(theirs)
    if not len(rows) or not len(columns):
        return
    for start in range(0, len(rows), _ROWS):
        # Signs agree in 64 - d places and differ in d: their product is 64 - 2 d.
        apart = (64 - row_bits[start : start + _ROWS] @ column_bits.T) / 2
        for at, column in np.argwhere(apart < distance + 0.5):
            if row_greys[start + at] @ column_greys[column] >= CORRELATION:
                yield int(rows[start + at]), int(columns[column]), round(float(apart[at, column]))


def _arrays(
    looks: Sequence[_Look | None],
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Of the k pictures that have a hash: their numbers (k,), its bits as signs (k, 64), and
    their greys, centred and of unit length (k, 256).
    """
    import numpy as np

    there = [(at, each) for at, each in enumerate(looks) if each is not None and each.hash]
    numbers = np.array([at for at, _ in there], np.int64)
    raw = np.array([each.hash for _, each in there], ">i8").view(np.uint8).reshape(-1, 8)
    bits = np.unpackbits(raw, axis=1).astype(np.float32) * 2 - 1
    greys = np.array([each.greys for _, each in there], np.float32).reshape(-1, _SIDE * _SIDE)
    greys -= greys.mean(axis=1, keepdims=True)
    greys /= np.maximum(np.linalg.norm(greys, axis=1, keepdims=True), 1e-6)
    return numbers, bits, greys
