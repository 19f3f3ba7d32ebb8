"""Decisions about an order of hits, as functions of numbers: fusing, cutting, spreading out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]
    Float64 = NDArray[np.float64]

SMOOTHING = 60
"""The constant of reciprocal rank fusion, as published: how little the very first ranks count."""

_FEW_TERMS = 2
_SURE = 0.25


def fuse(
    rankings: Iterable[Sequence[int]],
    weights: Sequence[float] | None = None,
    smoothing: int = SMOOTHING,
) -> list[int]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): ids by the sum of w / (c + rank).

    Ranks count from 1; an id that a ranking lacks gets nothing from it. Among equals, the id that
    stands higher in the earlier ranking comes first.
    """
    gained: dict[int, float] = {}
    for at, ranking in enumerate(rankings):
        weight = 1.0 if weights is None else weights[at]
        for rank, id_ in enumerate(ranking, 1):
            gained[id_] = gained.get(id_, 0.0) + weight / (smoothing + rank)
    return sorted(gained, key=lambda id_: -gained[id_])


def words_weight(terms: int, surest: float, *, exact: bool = False) -> float:
    """What a rank among the items with all of a query's words counts, where meaning counts 1.

    As much for a query of one or two words, and for one that quotes a phrase or names a file
    (`exact`): whoever wrote them meant them. Of a longer one another picture's caption may have
    every word: there, words count where no picture fits by what it shows, `surest` being the best
    score. Chosen on Flickr8k's validation split, see `benchmarks/recall.py --hybrid` and
    `benchmarks/composed.py`.
    """
    if exact or terms <= _FEW_TERMS:
        return 1.0
    return max(0.0, 1 - surest / _SURE)


def good_matches(scores: Float64, least: float) -> int:
    """How many of some probabilities of fitting (n,), best first, to show.

    As many as make the expected F1 largest, that is 2 E[fitting among those shown] / (shown +
    E[fitting at all]), as in Ye, Chai, Lee and Chieu 2012, "Optimizing F-Measures: A Tale of Two
    Approaches", section 3; none where the best is below `least`.
    """
    if not len(scores) or scores[0] < least:
        return 0
    shown = np.arange(1, len(scores) + 1)
    expected = 2 * np.cumsum(scores) / (shown + scores.sum())
    return int(np.argmax(expected)) + 1


def diversify(relevance: Float32, vectors: Float32, k: int, diversity: float) -> list[int]:
    """Which k of n candidates to show, in order, so that they are not all alike.

    Maximal marginal relevance (Carbonell and Goldstein 1998): one after another, the candidate
    with the largest (1 - diversity) x relevance - diversity x similarity to the nearest one that
    was chosen before. Relevance (n,) is scaled to 0 to 1, `vectors` (n, dim) are of unit length.
    """
    if not len(relevance):
        return []
    span = float(np.ptp(relevance)) or 1.0
    worth = (1 - diversity) * (relevance - relevance.min()) / span
    chosen: list[int] = []
    nearest = np.zeros(len(relevance), np.float32)
    left = np.ones(len(relevance), np.bool_)
    for _ in range(min(k, len(relevance))):
        marginal = np.where(left, worth - diversity * nearest, -np.inf)
        best = int(np.argmax(marginal))
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return chosen
