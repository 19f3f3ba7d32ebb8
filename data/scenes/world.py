"""What there is in the made-up world: shapes, colours, sizes, and which of them never meet in
training.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "ring", "diamond")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "white")
SIZES = ("small", "big")

OPPOSITE = {
    "left": "right",
    "right": "left",
    "above": "below",
    "below": "above",
    "bigger": "smaller",
    "smaller": "bigger",
}
"""The relations of one thing to another, each with its converse."""

HELD_OUT_PAIRS: frozenset[tuple[str, str]] = frozenset(
    (COLOURS[(3 * row + shift) % 8], SHAPES[row])
    for row, shift in [*product(range(8), [1]), *product(range(0, 8, 2), [4])]
)
"""(colour, shape) that only the test split holds: 12 of 64. One Latin square's diagonal (shape i
with colour 3i + 1, modulo 8), and half of another's (3i + 4, i even), so that each shape and each
colour has one or two, and is trained with six or seven others."""


def _held_out_relations() -> frozenset[tuple[str, str, str]]:
    around = [(i, (i + 1) % 8) for i in range(8)]
    met = {
        "left": around[::2],
        "above": around[1::2],
        "bigger": [(i, i + 4) for i in range(4)],
    }
    return frozenset(
        (relation, SHAPES[one], SHAPES[other])
        for direction, pairs in met.items()
        for pair in pairs
        for relation in (direction, OPPOSITE[direction])
        for one, other in (pair, pair[::-1])
    )


HELD_OUT_RELATIONS: frozenset[tuple[str, str, str]] = _held_out_relations()
"""(relation, shape, shape) that only the test split's captions hold: for each of the three kinds
of relation (beside, above or below, bigger or smaller) a perfect matching of the shapes, 4 of the
28 pairs of different shapes. They are held out in both orders and with the converse: were `a
circle left of a square` trained and its reverse not, the reverse could never be a wrong caption."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing in a picture. Its box is the tight (x0, y0, x1, y1), as shares 0 to 1 of the
    width and height.
    """

    shape: str
    colour: str
    size: str
    box: tuple[float, float, float, float]

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box, as shares of width and height."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def extent(self) -> float:
        """The square root of the box's area: what bigger and smaller compare."""
        x0, y0, x1, y1 = self.box
        return float(((x1 - x0) * (y1 - y0)) ** 0.5)
