"""Percentile bootstrap confidence intervals over pictures (Efron and Tibshirani 1993, chapter 13).

What is resampled is the picture, with all its captions: captions of one picture succeed and fail
together, and drawing them one by one would make intervals too narrow. The candidates stay as
they are, so an interval says how much a figure depends on which queries were asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and its 95 % interval where one was asked for."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, float]:
        """JSON-ready: `value`, and `low` and `high` where they are known."""
        if self.low is None or self.high is None:
            return {"value": self.value}
        return {"value": self.value, "low": self.low, "high": self.high}


def estimates(
    statistic: Callable[[Int64], Float64], groups: NDArray[Any], *, samples: int, seed: int = 0
) -> list[Estimate]:
    """Estimate the s figures that `statistic` makes of weights (q,), how often each query counts.

    groups (q,) says which queries are drawn together. `samples` is the number of resamplings, 0
    for none. The same seed and the same groups draw the same samples, so that two encoders on
    one data set are compared on equal terms.
    """
    values = statistic(np.ones(len(groups), np.int64))
    if not samples:
        return [Estimate(float(value)) for value in values]
    _, members = np.unique(groups, return_inverse=True)
    count = int(members.max()) + 1
    random = np.random.default_rng(seed)
    drawn = np.empty((samples, len(values)))
    for row in range(samples):
        weights = np.bincount(random.integers(count, size=count), minlength=count)
        drawn[row] = statistic(weights[members].astype(np.int64))
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [edge, 1 - edge], axis=0)
    return [Estimate(*map(float, row)) for row in zip(values, low, high, strict=True)]


def weighted_median(ordered: NDArray[Any], weights: Int64) -> float:
    """The median of ascending values, each repeated as often as its weight says."""
    reached = np.cumsum(weights)
    total = int(reached[-1])
    middle = np.searchsorted(reached, [(total - 1) // 2, total // 2], side="right")
    return float(ordered[middle].mean())
