"""How much of a cosine is no evidence, and what the rest is worth, by what is asked and found.

Some pictures and texts are near to everything. `Direction` says how much of that is taken off
before hits are put in order, and turns the rest into a probability. The numbers are free of any
encoder's own scale: `benchmarks/scores.py --fit` fits them on Flickr8k's validation split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .values import Kind


@dataclass(frozen=True, slots=True)
class Direction:
    """Weights for one kind of query and one kind of target.

    A row's corrected cosine is c = cosine - bank x (how near it is to the reference texts) -
    own x (how near it is to the library's pictures): nearest neighbour normalisation (Chowdhury
    et al. 2024, "Nearest Neighbor Normalization Improves Multimodal Retrieval", section 3). With
    m and s the mean and the deviation of c over the library for reference queries, and d its
    deviation for the query at hand, the log-odds that a row fits are

        slope x (c - m) / s + spread x (d / s - 1) + intercept + CROWD x log(1,000 / items)

    In a large library a smaller share of the items is what is meant.
    """

    bank: float
    own: float
    slope: float
    spread: float
    intercept: float


CROWD = 0.6
LARGEST = 100_000
"""Libraries beyond this size are taken to be as large."""
FEW = 30
"""Among so many items, what they say of one another counts by half."""
NEIGHBOURS = 8
"""How many of the nearest reference texts, or pictures of the library, count."""
SAME_SCENE = 0.9
"""Pictures nearer to one another than this are shots of one scene: that is no fault of theirs."""

DIRECTIONS: Mapping[tuple[Kind, Kind], Direction] = {
    ("text", "image"): Direction(0.2, 0.15, 1.276, -3.297, -5.666),
    ("image", "text"): Direction(0.0, 0.75, 2.578, -1.122, -9.203),
    ("text", "text"): Direction(0.2, 0.2, 1.542, -1.165, -9.082),
}
"""By the kinds of query and target. Look-alikes of a picture are left as they are."""
