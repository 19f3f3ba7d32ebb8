"""Where things stand: boxes that do not touch, of clearly two sizes."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from xsearch.data.scenes.world import Thing

SIDES = {"small": (0.15, 0.175), "big": (0.31, 0.345)}
"""The least and the greatest side of a thing, as a share of the picture's: about 40 and 85 pixels
of 260."""
ASPECTS = {"triangle": 1.1, "star": 1.05, "heart": 1.08, "diamond": 0.72}
"""Width by height, where it is not 1."""
MARGIN, GAP = 0.015, 0.03
_TRIES = 40

Range = tuple[float, float]
Look = tuple[str, str, str]
ANYWHERE: tuple[Range, Range] = ((0, 1), (0, 1))
_LOW, _MIDDLE, _HIGH = (0, 0.29), (0.42, 0.58), (0.71, 1)
_BROAD = (0.25, 0.75)
AREAS: dict[str, tuple[Range, Range]] = {
    "top left": (_LOW, _LOW),
    "top right": (_HIGH, _LOW),
    "bottom left": (_LOW, _HIGH),
    "bottom right": (_HIGH, _HIGH),
    "middle": (_MIDDLE, _MIDDLE),
    "top": (_BROAD, _LOW),
    "bottom": (_BROAD, _HIGH),
    "left side": (_LOW, _BROAD),
    "right side": (_HIGH, _BROAD),
}
"""Where the centre of a thing is that is said to be in a place."""


def arrange(
    looks: Sequence[Look], random: Random, where: str | None = None
) -> tuple[Thing, ...] | None:
    """Give each (shape, colour, size) a free box; None if there was no room. With `where`, the
    first thing is in that place.
    """
    boxes: dict[int, tuple[float, float, float, float]] = {}
    # The big ones first: the small ones still find room between them.
    order = sorted(range(len(looks)), key=lambda at: (where is None or at > 0, looks[at][2]))
    for at in order:
        shape, _, size = looks[at]
        area = AREAS[where] if where is not None and at == 0 else ANYWHERE
        low, high = SIDES[size]
        side = low + (high - low) * random.random()
        slim = (ASPECTS.get(shape, 1.0) * (0.96 + 0.08 * random.random())) ** 0.5
        half = (side * slim / 2, side / slim / 2)
        for _ in range(_TRIES):
            x, y = (
                _between(max(least, part + MARGIN), min(most, 1 - part - MARGIN), random)
                for (least, most), part in zip(area, half, strict=True)
            )
            box = (x - half[0], y - half[1], x + half[0], y + half[1])
            if all(_apart(box, other) for other in boxes.values()):
                boxes[at] = box
                break
        else:
            return None
    return tuple(Thing(*look, boxes[at]) for at, look in enumerate(looks))


def _between(low: float, high: float, random: Random) -> float:
    return low + (high - low) * random.random()


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether there is a gap between two boxes."""
    return (
        one[0] > other[2] + GAP
        or other[0] > one[2] + GAP
        or one[1] > other[3] + GAP
        or other[1] > one[3] + GAP
    )
