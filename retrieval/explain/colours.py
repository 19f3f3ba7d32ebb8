"""The colours of explanations: heat over a picture, and words for or against a match."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colour = tuple[int, int, int]

# Of equal perceived steps, and readable with any kind of colour vision: "inferno" (van der Walt
# and Smith 2015), which is in the public domain, at eleven places.
_HEAT = np.array(
    [
        *((0, 0, 4), (22, 11, 57), (66, 10, 104), (106, 23, 110), (147, 38, 103), (188, 55, 84)),
        *((221, 81, 58), (243, 120, 25), (252, 165, 10), (246, 215, 70), (252, 255, 164)),
    ],
    np.float32,
)
# Blue and orange: told apart with every common kind of colour blindness.
FOR, AGAINST = (33, 102, 172), (217, 95, 2)
PAPER, INK, PALE = (255, 255, 255), (28, 28, 28), (110, 110, 110)


def heat(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Colours float32 (..., 3), 0 to 255, of values 0 to 1."""
    places = values * (len(_HEAT) - 1)
    steps = np.arange(len(_HEAT))
    bands = [np.interp(places, steps, _HEAT[:, band]) for band in range(3)]
    return np.stack(bands, axis=-1).astype(np.float32)


def diverging(share: float) -> Colour:
    """The colour of a share, -1 to 1: orange, white at 0, blue."""
    towards = FOR if share > 0 else AGAINST
    red, green, blue = (
        round(paper + min(abs(share), 1.0) * (full - paper))
        for paper, full in zip(PAPER, towards, strict=True)
    )
    return red, green, blue


def ink_on(colour: Colour) -> Colour:
    """Dark or white letters, whichever can be read on a colour (by ITU-R BT.601's luma)."""
    red, green, blue = colour
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER
