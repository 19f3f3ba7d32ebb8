"""Losses of a reranker: pictures and texts compared pair by pair."""

from __future__ import annotations

from xsearch.core.extras import require

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional  # noqa: E402


def group_contrast(log_odds: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """InfoNCE both ways within groups: log_odds (n, g, g) of g pictures and their g texts.

    Text i is picture i's (van den Oord et al. 2018, section 2.3, in both directions).
    """
    size = log_odds.shape[-1]
    target = torch.arange(size, device=log_odds.device).repeat(len(log_odds))
    from_text, from_image = (
        functional.cross_entropy(side.reshape(-1, size), target, label_smoothing=smoothing)
        for side in (log_odds.transpose(1, 2), log_odds)
    )
    return (from_text + from_image) / 2


def own_first(log_odds: Tensor, wrong: Tensor) -> Tensor:
    """Cross-entropy of pictures' own texts against wrong ones.

    log_odds (n, g, g) as of `group_contrast`; `wrong` (n * g, w) of texts that are false of the
    picture, such as its caption with two nouns swapped; -inf where there is none (hard negatives
    of Yuksekgonul et al. 2023, "NegCLIP", section 4). They are apart from the others of the group:
    among many, the subtle one would hardly count.
    """
    own = log_odds.diagonal(dim1=1, dim2=2).reshape(-1, 1)
    return _first(torch.cat([own, wrong], dim=1))


def first_of(log_odds: Tensor, there: Tensor) -> Tensor:
    """Cross-entropy of the first of several texts (n, s) of which some are `there`, bool (n, s)."""
    return _first(log_odds.masked_fill(~there, float("-inf")))


def match(log_odds: Tensor) -> Tensor:
    """Image-text matching: binary cross-entropy of each pair of groups (n, g, g).

    True pairs count as much as the others together (Li et al. 2021, "ALBEF", section 3.2).
    """
    own = torch.eye(log_odds.shape[-1], device=log_odds.device).expand_as(log_odds)
    weight = torch.tensor(float(log_odds.shape[-1] - 1), device=log_odds.device)
    return functional.binary_cross_entropy_with_logits(log_odds, own, pos_weight=weight)


def grounding(attention: Tensor, inside: Tensor) -> Tensor:
    """How little of tokens' attention (n, R) lies where the thing is: -log of its share.

    `inside` (n, R) is the share of each region that the box of what the token names covers.
    """
    return -(attention * inside).sum(-1).clamp_min(1e-6).log().mean()


def _first(log_odds: Tensor) -> Tensor:
    """Cross-entropy of the first column; rows without any other column count nothing."""
    target = torch.zeros(len(log_odds), dtype=torch.int64, device=log_odds.device)
    return functional.cross_entropy(log_odds, target)
