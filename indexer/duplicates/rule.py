"""When two pictures are copies, as far as their hashes and vectors tell.

Measured on Flickr8k's training and validation photographs and on others with nothing in common
(`benchmarks/duplicates.py`). Resized, recompressed, brighter or turned copies have hashes that are
close, whatever the encoder thinks of them; cropped ones have vectors that are close. Photographs
that only look alike have close vectors, and hashes as unlike as by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bits = NDArray[np.uint8]

NO, CROP, ASK, SURE = range(4)
"""Verdicts: no copies; perhaps one a part of the other, or perhaps copies, which the files must
tell; copies."""
UNKNOWN = 64
"""The distance to a hash that says nothing: a flat picture's, or none."""

# So many pictures make a mean cosine that is the encoder's, not that of what they show.
_MANY = 1_000
_SAMPLE = 4_096
# All pictures may be of one thing: no encoder has its cone narrower than this.
_CONE = 0.6
# Of pictures whose hashes say nothing.
_BLIND = 0.97


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two files must show themselves.

    `correlation` is the least one of their greys, laid over one another, and `differing` the
    largest share of their details that differ.
    """

    correlation: float
    differing: float


@dataclass(frozen=True, slots=True)
class Rule:
    """How alike copies must be. Distances are bits of 64, closeness goes up to 1.

    Pictures whose hashes differ, turned as fits best, by at most `sure` bits and `sure_slope`
    more at a closeness of 1 are copies. Those within `ask` and `ask_slope`, or that differ by at
    most `crop` bits at a closeness of `crop_from`, and 1 bit less for every hundredth below, may
    be: their files must be `alike`. Those of sure copies may differ more, `alike_if_sure`.
    """

    sure: float
    sure_slope: float
    ask: float
    ask_slope: float
    crop: float
    crop_from: float
    alike: Likeness
    alike_if_sure: Likeness


_CLOSE, _MEDIUM, _FAR = Likeness(0.97, 0.15), Likeness(0.93, 0.34), Likeness(0.86, 0.52)
RULES = {
    "strict": Rule(2, 6, 2, 6, -1, 1.0, _CLOSE, _CLOSE),
    "normal": Rule(4, 8, 8, 6, 28, 0.95, _MEDIUM, _FAR),
    "loose": Rule(4, 8, 8, 8, 30, 0.93, _FAR, _FAR),
}
REACH = 10
"""Hashes that differ by more bits are looked for among close vectors alone."""
NEAR = 0.5
"""The least closeness of vectors for that."""


def judge(rule: Rule, straight: Bits, turned: Bits, closeness: Floats) -> NDArray[np.uint8]:
    """The verdicts on pairs: each (n,).

    Args:
        rule: which.
        straight: bits by which the two hashes differ.
        turned: the same, with one of them turned as fits best.
        closeness: of the vectors, see `closeness`.
    """
    near = np.clip(closeness, 0, 1)
    sure = turned <= rule.sure + rule.sure_slope * near
    ask = turned <= rule.ask + rule.ask_slope * near
    crop = straight <= rule.crop - 100 * np.maximum(0, rule.crop_from - near)
    crop |= (straight == UNKNOWN) & (near >= _BLIND) & (rule.crop > 0)
    return np.select([sure, ask, crop], [SURE, ASK, CROP], NO).astype(np.uint8)


def mean_cosine(vectors: NDArray[np.float16], rows: NDArray[np.int64]) -> float:
    """The mean cosine of two pictures of a library; 0 where it is too small to tell.

    Some encoders have all pictures in a narrow cone, so that a cosine means nothing by itself.
    """
    if len(rows) < _MANY:
        return 0.0
    sample = vectors[rows[:: -(-len(rows) // _SAMPLE)]].astype(np.float32)
    return min(float(np.square(sample.mean(0)).sum()), _CONE)


def closeness(cosines: Floats, mean: float) -> Floats:
    """Cosines as what they have beyond the mean of the library: 1 at most, about 0 by chance."""
    scaled: Floats = (cosines - mean) / (1 - mean)
    return scaled
