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


@cache
def _dct_basis() -> NDArray[np.float64]:
    """Rows 1 to 8 of the orthonormal DCT-II of 32 points: float64 (8, 32)."""
    import numpy as np

    frequency = np.arange(1, _KEPT + 1)[:, None]
    point = np.arange(_SIDE)[None, :] + 0.5
    return math.sqrt(2 / _SIDE) * np.cos(np.pi / _SIDE * frequency * point)
