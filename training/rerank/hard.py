"""Groups of pictures that the dual encoder takes for one another: hard negatives, cheaply.

Each step compares all pictures of a group with all texts of it. What the encoder finds alike is
what it is asked to rerank (hard negatives mined by the bi-encoder: Li et al. 2021, "ALBEF",
section 3.2; Karpukhin et al. 2020, section 3.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from xsearch.core.encoder import Float32

    Indices = NDArray[np.int64]

NEAR = 80
"""Neighbours that are remembered of a picture."""
DRAWN = 40
"""Of those that are free, the nearest among which the group is drawn."""
BLOCK = 1024


def neighbours(images: Float32, texts: Float32, owners: Indices) -> Indices:
    """The pictures most easily taken for each one, nearest first: (n, up to `NEAR`).

    `images` (n, d) and `texts` (m, d) are the encoder's vectors, text j is of picture owners[j].
    Pictures that look alike are near, those whose texts are alike, and those that a text of the
    other fits.
    """
    count = len(images)
    means = np.zeros_like(images)
    np.add.at(means, owners, texts)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    near = min(NEAR, count - 1)
    found = np.zeros((count, near), np.int64)
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        alike = means[rows] @ means.T + 0.5 * (images[rows] @ images.T)
        alike += 0.5 * (means[rows] @ images.T + images[rows] @ means.T)
        alike[np.arange(len(alike)), np.arange(start, start + len(alike))] = -np.inf
        best = np.argpartition(-alike, near - 1, axis=1)[:, :near]
        order = np.argsort(-np.take_along_axis(alike, best, axis=1), axis=1, kind="stable")
        found[rows] = np.take_along_axis(best, order, axis=1)
    return found


def groups(near: Indices, claims: Indices, size: int, random: np.random.Generator) -> Indices:
    """All pictures in groups of `size` neighbours, in a new order: (about n / size, size).

    Pictures of one claim (described in the same words) are never in one group. A few are left
    out: those that no group has room for.
    """
    used = np.zeros(len(near), np.bool_)
    made = []
    for first in random.permutation(len(near)).tolist():
        if used[first]:
            continue
        used[first] = True
        free = [row for row in near[first].tolist() if not used[row]][:DRAWN]
        drawn = random.permutation(np.array(free, np.int64)).tolist()
        found = _distinct([first, *drawn], claims, size)
        if len(found) < size:
            others = np.flatnonzero(~used)
            others = others[~np.isin(others, found)]
            found = _distinct([*found, *random.permutation(others).tolist()], claims, size)
        if len(found) == size:
            used[found] = True
            made.append(found)
    order = random.permutation(len(made))
    return np.array(made, np.int64).reshape(-1, size)[order]


def _distinct(rows: list[int], claims: Indices, size: int) -> list[int]:
    """The first rows, `size` at most, whose claim none before has."""
    seen: set[int] = set()
    kept: list[int] = []
    for row in rows:
        if len(kept) == size:
            break
        if int(claims[row]) not in seen:
            seen.add(int(claims[row]))
            kept.append(row)
    return kept
