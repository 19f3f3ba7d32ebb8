"""Lays maps of an encoder's square input over the picture that it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import Float32

    Frame = tuple[float, float, float, float]

WHOLE: Frame = (0.0, 0.0, 1.0, 1.0)
_FINEST = 256
"""Rows or columns of a picture's map: a long panorama of which little is seen has no more."""


def over_picture(found: Float32, frame: Frame) -> tuple[Float32, tuple[float, float]]:
    """A map (rows, columns) of the part of a picture that a square input shows, over the whole.

    `frame` is that part, see `FramingEncoder`. The result, float32 (rows, columns) with cells of
    about the same size, is not negative and adds up to 1, with 0 where the encoder sees nothing;
    besides, the highest place, (x, y) as shares of width and height. Where nothing is above zero,
    what is least below counts.
    """
    left, top, right, bottom = frame
    rows, columns = found.shape
    down, across = _cells(rows, top, bottom), _cells(columns, left, right)
    inside = np.outer(down >= 0, across >= 0)
    best = np.argmax(np.where(inside, found, -np.inf))
    row, column = np.unravel_index(best, found.shape)
    peak = float(across[column]), float(down[row])
    positive = np.maximum(found, 0) * inside
    if not positive.any():
        positive = (found - found[inside].min()) * inside
    if not positive.any():
        positive = inside.astype(np.float32)
    spread = _shares(rows, top, bottom) @ positive @ _shares(columns, left, right).T
    return (spread / spread.sum()).astype(np.float32), peak


def _cells(count: int, first: float, last: float) -> NDArray[np.float64]:
    """The middles, inside the picture, of cells between two shares; -1 for cells outside."""
    edges = np.linspace(first, last, count + 1).clip(0, 1)
    return np.where(edges[1:] > edges[:-1], (edges[1:] + edges[:-1]) / 2, -1)


def _shares(count: int, first: float, last: float) -> NDArray[np.float64]:
    """How much of each of `count` cells between two shares lies in each cell of the whole."""
    edges = np.linspace(first, last, count + 1)
    wanted = min(max(round(count / (last - first)), 1), _FINEST)
    whole = np.linspace(0, 1, wanted + 1)
    starts = np.maximum(edges[None, :-1], whole[:-1, None])
    ends = np.minimum(edges[None, 1:], whole[1:, None])
    overlap: NDArray[np.float64] = np.maximum(ends - starts, 0) * count / (last - first)
    return overlap
