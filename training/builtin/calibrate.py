"""Fits the logistic that turns a cosine into a score from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsearch.core.encoder import Logistic

from .graph import Array

PRIOR = 0.1
"""Assumed share of a library that fits a query. A score is then the probability of fitting."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted logistic, and what a cut-off at score 0.5 does on the pairs it was fitted on."""

    logistic: Logistic
    kept: float
    """Share of the true pairs that reach 0.5."""
    passed: float
    """Share of the random pairs that reach 0.5."""

    @property
    def cosine(self) -> float:
        """The cosine whose score is 0.5."""
        return -self.logistic.intercept / self.logistic.slope


def calibrate(positives: Array, negatives: Array, prior: float = PRIOR) -> Calibration:
    """Fit to cosines of true pairs and of random ones, weighted as if `prior` were true.

    Maximum likelihood by Newton's method (Platt 1999), which converges in a few steps.
    """
    cosines = np.concatenate([positives, negatives]).astype(np.float64)
    labels = np.repeat([1.0, 0.0], [len(positives), len(negatives)])
    shares = np.repeat(
        [prior / len(positives), (1 - prior) / len(negatives)], [len(positives), len(negatives)]
    )
    design = np.stack([cosines, np.ones_like(cosines)], axis=1)

    def loss(line: NDArray[np.float64]) -> float:
        logits = design @ line
        return float(shares @ (np.logaddexp(0, logits) - labels * logits))

    found = np.array([0.0, np.log(prior / (1 - prior))])
    for _ in range(100):
        scores = np.exp(-np.logaddexp(0, -design @ found))
        gradient = design.T @ (shares * (labels - scores))
        curvature = (design * (shares * scores * (1 - scores))[:, None]).T @ design
        step = np.linalg.solve(curvature, gradient)
        # A full step can overshoot where the two kinds of pairs hardly overlap.
        while loss(found + step) > loss(found) and np.abs(step).max() > 1e-9:
            step /= 2
        found += step
        if np.abs(step).max() < 1e-6:
            break
    slope, intercept = (round(float(value), 4) for value in found)
    edge = -intercept / slope
    return Calibration(
        Logistic(slope, intercept),
        kept=float((positives >= edge).mean()),
        passed=float((negatives >= edge).mean()),
    )
