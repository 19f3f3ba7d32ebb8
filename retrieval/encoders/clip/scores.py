"""Scores of a model of open_clip that nobody calibrated on pairs: from its own logits."""

from __future__ import annotations

import math

from xsearch.core.encoder import Logistic

PRIOR = 0.1
"""Assumed share of a library that fits a query, as where scores are fitted on pairs."""
SIGMOID_BATCH = 32_768
"""Pairs in a batch of SigLIP's training: one in so many was true (Zhai et al. 2023, section 4)."""
SOFTMAX_EDGE = 0.22
"""Cosine of score 0.5 where a model has no bias: between the 0.1 to 0.2 that a text has with a
picture it has nothing to do with, and the 0.25 to 0.35 with its own, in models trained on the web.
"""
IMAGES = Logistic(20.0, -15.0)
"""Two pictures, in any of these models: unrelated ones have 0.3 to 0.6, copies above 0.9."""
TEXTS = Logistic(20.0, -16.0)
"""Two texts: likewise, but that all texts lie closer together."""


def default_calibration(scale: float, bias: float | None) -> dict[str, Logistic]:
    """One logistic for each pair of kinds, by the names that `encoder.json` uses.

    A model was trained on `scale * cosine`, plus `bias` where it has one. With a bias its logits
    are those of a probability already (SigLIP), only that far fewer pairs were true in training
    than fit a query in a library: the logits move by the difference of the prior log-odds. Without
    one (a softmax over a batch) they only rank; the score is 0.5 at a cosine that divides well for
    the public models, and half as steep as the softmax, which had to find one picture among tens
    of thousands. Scores fitted on pairs, where there are some, are better than either.
    """
    if bias is None:
        slope = scale / 2
        across = Logistic(slope, -slope * SOFTMAX_EDGE)
    else:
        across = Logistic(scale, bias + _odds(PRIOR) - _odds(1 / SIGMOID_BATCH))
    return {
        "text-image": across,
        "image-text": across,
        "image-image": IMAGES,
        "text-text": TEXTS,
    }


def _odds(share: float) -> float:
    """The log-odds of a probability."""
    return math.log(share / (1 - share))
