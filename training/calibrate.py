"""Fits the logistics that turn cosines into scores from 0 to 1."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from xsearch.core.encoder import Logistic
from xsearch.core.errors import EncoderError

Array = NDArray[np.floating[Any]]

PRIOR = 0.1
"""Assumed share of a library that fits a query. A score is then the probability of fitting."""
FLATTEST = 0.1
"""Least slope: a higher cosine never scores lower, whatever a poor encoder says."""
OTHERS = 1_000_000
"""Random pairs that are looked at, about."""


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

    Maximum likelihood by Newton's method, which converges in a few steps, with targets drawn in
    from 0 and 1 (Platt 1999, section 2.2), so that a few well separated pairs have a fit, too.
    Raises EncoderError without pairs of both kinds.
    """
    if not len(positives) or not len(negatives):
        raise EncoderError("scores need at least two pictures with texts to be calibrated on")
    cosines = np.concatenate([positives, negatives]).astype(np.float64)
    targets = (len(positives) + 1) / (len(positives) + 2), 1 / (len(negatives) + 2)
    labels = np.repeat(targets, [len(positives), len(negatives)])
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
        # Least squares: cosines that are all the same determine no slope.
        step = np.linalg.lstsq(curvature, gradient)[0]
        # A full step can overshoot where the two kinds of pairs hardly overlap.
        while loss(found + step) > loss(found) and np.abs(step).max() > 1e-9:
            step /= 2
        found += step
        if np.abs(step).max() < 1e-6:
            break
    slope, intercept = (round(float(value), 4) for value in found)
    if slope < FLATTEST:
        slope, intercept = FLATTEST, round(float(np.log(prior / (1 - prior))), 4)
    edge = -intercept / slope
    return Calibration(
        Logistic(slope, intercept),
        kept=float((positives >= edge).mean()),
        passed=float((negatives >= edge).mean()),
    )


def calibrations(
    images: Array,
    again: Array,
    texts: Array,
    owners: NDArray[np.int64],
    reworded: Array | None = None,
) -> dict[str, Calibration]:
    """One logistic for each pair of kinds, by the names that `encoder.json` uses.

    Unit vectors of n pictures, of the same pictures taken once more (see `retaken`), and of m
    texts; text j belongs to picture owners[j]. Texts of one picture are true pairs of texts; where
    no picture has two, texts and their `reworded` forms are.
    """
    own = owners[:, None] == np.arange(len(images))
    across = calibrate(*_pairs(texts @ images.T, own))
    looks = calibrate(*_pairs(again @ images.T, np.eye(len(images), dtype=bool)))
    later = np.triu(np.ones((len(texts), len(texts)), dtype=bool), 1)
    same = owners[:, None] == owners
    if (same & later).any() or reworded is None:
        words = calibrate(*_pairs((texts @ texts.T)[later], same[later]))
    else:
        words = calibrate(*_pairs(reworded @ texts.T, np.eye(len(texts), dtype=bool)))
    return {
        "text-image": across,
        "image-text": across,
        "image-image": looks,
        "text-text": words,
    }


def _pairs(cosines: Array, true: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Cosines of the true pairs, and of about a million others."""
    others = cosines[~true]
    return cosines[true], others[:: max(1, len(others) // OTHERS)]


def retaken(image: Image.Image) -> Image.Image:
    """Nearly the same picture once more: mirrored, brighter, a part of 70 to 100 % of each side.

    The part depends on the pixels alone, so that a run can be repeated.
    """
    seed = hashlib.sha256(image.tobytes()).digest()
    random = np.random.default_rng(list(seed[:8]))
    width, height = (max(1, round(side * random.uniform(0.7, 1.0))) for side in image.size)
    left = round((image.width - width) * random.uniform())
    top = round((image.height - height) * random.uniform())
    part = image.crop((left, top, left + width, top + height))
    return ImageOps.mirror(ImageEnhance.Brightness(part).enhance(random.uniform(0.8, 1.25)))


def reworded(text: str) -> str:
    """Nearly the same text once more: without its last word, if it has three."""
    words = text.split()
    return " ".join(words[:-1]) if len(words) > 2 else text.upper()
