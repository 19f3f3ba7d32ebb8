"""Fits how a dual encoder's score and a reranker's log-odds become one score."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xsearch.core.extras import require
from xsearch.retrieval.rerank.manifest import Blend

from .check import CUTS, compare, recalls

require("torch", "train", "training")

if TYPE_CHECKING:
    import torch

    from .features import Encoder
    from .material import Captioned
    from .network import Reranker

    Float64 = NDArray[np.float64]

SHARES = np.concatenate([[0.0], np.geomspace(0.02, 3, 22)])
"""What a log-odds of the reranker counts beside one of the dual encoder: those that are tried."""
LOWS, HIGHS = (2.0, 0.0, None), (4.0, None)
"""Limits of the reranker's log-odds that are tried, see `Blend`; the most cautious first."""
TOLERANCE = 0.2
"""Percentage points of recall, less than chance makes, that are given up for a cautious blend."""
CANDIDATES = 50
MOST = 2000
"""Queries of a direction that are measured."""
PAIRS = (("text-image", "text_to_image", True), ("image-text", "image_to_text", False))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Blends by pair of kinds, and the recalls on what they were fitted on."""

    blend: Mapping[str, Blend]
    figures: Mapping[str, float]


def fit(network: Reranker, measured: Captioned, encoder: Encoder, device: torch.device) -> Fitted:
    """Choose the weight by the mean recall at 1, 5 and 10 of reranked candidates, and calibrate.

    `measured` are pictures and captions that nothing was learnt from.
    """
    blends, figures = {}, {}
    for pair, name, from_text in PAIRS:
        found = compare(
            network,
            measured,
            candidates=CANDIDATES,
            queries=MOST,
            from_text=from_text,
            device=device,
        )
        scale = encoder.calibration(*pair.split("-"))
        dual = scale.slope * found.cosines.astype(np.float64) + scale.intercept
        match, right = found.log_odds.astype(np.float64), found.right
        blends[pair] = best_blend(dual, match, right)
        plain, blended = recalls(dual, right), recalls(blends[pair].log_odds(dual, match), right)
        for cut in CUTS:
            figures[f"{name}@{cut}"], figures[f"{name}_without@{cut}"] = blended[cut], plain[cut]
    return Fitted(blends, figures)


def best_blend(dual: Float64, match: Float64, right: NDArray[np.bool_]) -> Blend:
    """The best share and limits of the reranker, then slope and intercept of the blended log-odds.

    Log-odds of candidates (q, n), the dual encoder's and the reranker's, and which are right. What
    is best here is so for queries like these; of blends that are as good but for `TOLERANCE`, the
    one is taken that would harm others least: with the highest floor, then the lowest ceiling, then
    the least share (after the one-standard-error rule, Hastie et al. 2009, section 7.10).
    """
    # The most cautious first.
    tried = [
        Blend(1.0, float(share), 0.0, low, high)
        for low, high, share in itertools.product(LOWS, HIGHS, SHARES)
    ]
    worth = [np.mean([*recalls(each.log_odds(dual, match), right).values()]) for each in tried]
    enough = max(worth) - TOLERANCE
    best = next(each for each, own in zip(tried, worth, strict=True) if own >= enough)
    slope, intercept = logistic(best.log_odds(dual, match), right, dual)
    share = round(slope * best.match, 4)
    return Blend(round(slope, 4), share, round(intercept, 4), best.low, best.high)


def logistic(blended: Float64, right: NDArray[np.bool_], dual: Float64) -> tuple[float, float]:
    """Slope and intercept from blended log-odds to calibrated ones, by maximum likelihood.

    The dual encoder's own log-odds are calibrated, whatever share of the candidates is right; so
    the mean probability of candidates is kept as it is, the right ones being weighted to that
    share, and a cut-off means the same with and without reranking.
    """
    share = float((1 / (1 + np.exp(-dual))).mean())
    true, other = blended[right], blended[~right]
    if not len(true) or not len(other):
        return 1.0, 0.0
    weight_true, weight_other = share / len(true), (1 - share) / len(other)
    slope, shift = 1.0, 0.0
    for _ in range(50):
        p_true, p_other = (_sigmoid(slope * part + shift) for part in (true, other))
        gradient = np.array(
            [
                weight_true * ((1 - p_true) * true).sum() - weight_other * (p_other * other).sum(),
                weight_true * (1 - p_true).sum() - weight_other * p_other.sum(),
            ]
        )
        curve_true = weight_true * p_true * (1 - p_true)
        curve_other = weight_other * p_other * (1 - p_other)
        cross = (curve_true * true).sum() + (curve_other * other).sum()
        curvature = np.array(
            [
                [(curve_true * true**2).sum() + (curve_other * other**2).sum(), cross],
                [cross, curve_true.sum() + curve_other.sum()],
            ]
        )
        move = np.linalg.lstsq(curvature, gradient)[0]
        move *= min(1.0, 2.0 / max(float(np.abs(move).max()), 1e-9))
        slope, shift = slope + move[0], shift + move[1]
        if np.abs(move).max() < 1e-7:
            break
    return max(float(slope), 0.05), float(shift)


def _sigmoid(values: Float64) -> Float64:
    found: Float64 = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
    return found
