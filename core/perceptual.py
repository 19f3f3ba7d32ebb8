"""A fingerprint of how a picture looks, to find copies that were resized or saved again."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

_SIDE, _KEPT = 32, 8
_BITS = (1 << 64) - 1
TURNS = (
    None,
    "mirrored",
    "mirrored, turned 180°",
    "turned 180°",
    "mirrored, turned 270°",
    "turned 90°",
    "turned 270°",
    "mirrored, turned 90°",
)
"""The ways to turn a picture by right angles: mirrored left and right, then clockwise. The number
of each says how: 4, rows become columns; 2, then the top the bottom; 1, the left the right."""


def perceptual_hash(image: Image.Image) -> int:
    """64-bit pHash, as a signed integer so that any SQL integer column holds it.

    The picture as 32 x 32 greys, its DCT-II, the 8 x 8 lowest frequencies but for the constant
    row and column, each above the median or not (Zauner 2010, "Implementation and Benchmarking
    of Perceptual Image Hash Functions", section 3.2.1). A flat picture gives 0.
    """
    import numpy as np
    from PIL import Image

    # The box filter over a picture already reduced: as good here as a finer one, and faster.
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    basis = _dct_basis()
    low = basis @ np.asarray(small, dtype=np.float64) @ basis.T
    low[np.abs(low) < 1e-6] = 0.0  # rounding noise would be random bits of a flat picture
    bits = np.packbits(low.ravel() > np.median(low))
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def hamming(first: int, second: int) -> int:
    """How many of the 64 bits of two hashes differ (0: alike; 32: as unlike as by chance)."""
    return ((first ^ second) & _BITS).bit_count()


def turned_hashes(hashes: NDArray[np.int64]) -> NDArray[np.int64]:
    """About what the hashes, int64 (n,), would be of the pictures turned: int64 (8, n), by `TURNS`.

    Mirroring a picture changes the sign of every odd frequency in that direction, and mirroring
    it at its diagonal exchanges the two directions. The median that divides the bits changes a
    little, too, so that some bits (4 of 64, median of photographs) come out otherwise.
    """
    import numpy as np

    big_endian = np.ascontiguousarray(hashes, dtype=">i8").view(np.uint8)
    bits = np.unpackbits(big_endian).reshape(-1, _KEPT, _KEPT)
    odd = np.arange(1, _KEPT + 1, dtype=np.uint8) % 2
    turned = np.empty((len(TURNS), len(bits), 8), np.uint8)
    for turn in range(len(TURNS)):
        flipped = bits.transpose(0, 2, 1) if turn & 4 else bits
        if turn & 2:
            flipped = flipped ^ odd[:, None]
        if turn & 1:
            flipped = flipped ^ odd
        turned[turn] = np.packbits(flipped.reshape(-1, 64), axis=1)
    whole: NDArray[np.int64] = turned.view(">i8")[:, :, 0].astype(np.int64)
    return whole


def distances(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.uint8]:
    """`hamming` of many pairs: int64 of one shape, uint8 of that shape."""
    import numpy as np

    differing = np.ascontiguousarray(first ^ second).view(np.uint64)
    counted: NDArray[np.uint8]
    if hasattr(np, "bitwise_count"):  # From numpy 2.0 on, and ten times as fast.
        counted = np.bitwise_count(differing)
    else:
        parts = _ones()[differing.view(np.uint16)].reshape(*differing.shape, 4)
        counted = parts.sum(-1, dtype=np.uint8)
    return counted


@cache
def _ones() -> NDArray[np.uint8]:
    """How many bits are set in every number of 16 bits."""
    import numpy as np

    ones: NDArray[np.uint8] = np.unpackbits(
        np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1
    ).sum(1, dtype=np.uint8)
    return ones


@cache
def _dct_basis() -> NDArray[np.float64]:
    """Rows 1 to 8 of the orthonormal DCT-II of 32 points: float64 (8, 32)."""
    import numpy as np

    frequency = np.arange(1, _KEPT + 1)[:, None]
    point = np.arange(_SIDE)[None, :] + 0.5
    return math.sqrt(2 / _SIDE) * np.cos(np.pi / _SIDE * frequency * point)
