"""How far words and regions agree: stacked cross attention, the cheap part of a reranker."""

from __future__ import annotations

import math
from dataclasses import dataclass

from xsearch.core.extras import require

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

SOFTNESS = 2.0
"""Divides log-odds of a background: between their mean and the largest of them."""


@dataclass(frozen=True, slots=True)
class Words:
    """Of texts (n, k, T): their tokens' directions (n, k, T, W), what each counts, weights
    (n, k, T) that sum to 1, and mask (n, k, T).
    """

    directions: Tensor
    weights: Tensor
    mask: Tensor

    def heaviest(self, count: int) -> Words:
        """Only the `count` tokens of each text that count most."""
        count = min(count, self.weights.shape[-1])
        weights, at = self.weights.topk(count, -1)
        columns = at[..., None].expand(-1, -1, -1, self.directions.shape[-1])
        directions = self.directions.gather(2, columns)
        return Words(directions, weights / weights.sum(-1, keepdim=True), self.mask.gather(2, at))


class Background(nn.Module):
    """What texts in general say of a picture: how well it fits anything, whatever is asked.

    Pictures with many things in them fit more texts than others do, and would be found too often:
    hubs (Radovanovic et al. 2010). Their match is told from the mean match of some captions of
    other pictures, as inverted softmax and its kin do with similarities (Smith et al. 2017,
    section 2.3; Bogolin et al. 2022, "Querybank Normalisation").

    Args:
        words: of texts (1, k, T).
        share: of what they say that is taken off.
    """

    whole: Tensor
    weights: Tensor
    mask: Tensor

    def __init__(self, words: Words, share: float) -> None:
        super().__init__()
        self.share = share
        self.unit = float(words.directions.abs().max()) / 127
        whole = (words.directions / self.unit).round().to(torch.int8)
        self.register_buffer("whole", whole)  # int8: it is the larger part of what is stored
        self.register_buffer("weights", words.weights)
        self.register_buffer("mask", words.mask)

    def forward(self, agreement: Agreement, memories: Tensor) -> Tensor:
        """What is taken off the log-odds of pictures, (n,), of their memories (n, R, W)."""
        words = Words(self.whole.float() * self.unit, self.weights, self.mask)
        parts, _ = agreement(words, memories)
        log_odds = parts.sum(-1)
        mean = torch.logsumexp(log_odds / SOFTNESS, -1) - math.log(log_odds.shape[-1])
        return self.share * SOFTNESS * mean


class Agreement(nn.Module):
    """Stacked cross attention (Lee et al. 2018, "SCAN", section 3.1), in both directions.

    Each word is compared with the mean of the regions that are like it, and each region with the
    mean of the words that are like it: cosines, of which a weighted mean is taken. It has few
    weights, and generalises from few pictures.
    """

    def __init__(self, width: int, token_channels: int) -> None:
        super().__init__()
        self.word = nn.Linear(token_channels, width)
        self.weigh_word = nn.Linear(token_channels, 1)
        self.weigh_region = nn.Linear(width, 1)
        self.sharpness = nn.Parameter(torch.full((2,), math.log(9.0)))
        self.scale = nn.Parameter(torch.tensor([15.0, 10.0]).log())

    def words(self, tokens: Tensor, mask: Tensor, dropped: Tensor) -> Words:
        """Of token features (n, k, T, C) and their mask; `dropped` are the features after
        dropout.
        """
        # [CLS]-like tokens count as well: nothing else is left of an empty text.
        logits = self.weigh_word(tokens)[..., 0].masked_fill(~mask, -1e4)
        directions = functional.normalize(self.word(dropped), dim=-1)
        return Words(directions, torch.softmax(logits, -1), mask)

    def forward(self, words: Words, memories: Tensor) -> tuple[Tensor, Tensor]:
        """Each token's part in the log-odds (n, k, T), and where it looks (n, k, T, R).

        Of memories (n, R, W), of length sqrt(W) each; n may be 1 in either.
        """
        seen = memories / math.sqrt(memories.shape[-1])
        sizes = words.directions.shape[1:3]
        near = words.directions.flatten(1, 2) @ seen.transpose(-1, -2)
        found, attention = self._words_to_regions(near, seen)
        parts = self.scale[0].exp() * words.weights * found.unflatten(1, sizes)  # type: ignore[no-untyped-call]
        near = near.unflatten(1, sizes)  # type: ignore[no-untyped-call]
        counts = torch.softmax(self.weigh_region(memories)[..., 0], -1)
        parts = parts + self.scale[1].exp() * self._regions_to_words(near, words, counts)
        return parts, attention.unflatten(1, sizes)  # type: ignore[no-untyped-call]

    def _words_to_regions(self, near: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines (n, kT) of words with what they attend to, and attention (n, kT, R)."""
        attention = torch.softmax(self.sharpness[0].exp() * near, -1)
        # The length of what is attended to, from the regions' products with one another: for many
        # texts that is less work than to mix the regions themselves.
        length = ((attention @ (seen @ seen.transpose(-1, -2))) * attention).sum(-1)
        return (attention * near).sum(-1) / length.clamp_min(1e-12).sqrt(), attention

    def _regions_to_words(self, near: Tensor, words: Words, counts: Tensor) -> Tensor:
        """The weighted mean of the cosines of regions with what they attend to, shared out to the
        words that are attended to: (n, k, T). `counts` (n, R) are the weights.
        """
        logits = (self.sharpness[1].exp() * near).masked_fill(~words.mask[..., None], -1e4)
        attention = torch.softmax(logits, 2)
        products = words.directions @ words.directions.transpose(-1, -2)
        length = ((products @ attention) * attention).sum(2)
        cosines = (attention * near).sum(2) / length.clamp_min(1e-12).sqrt()
        return (attention * (cosines * counts[:, None])[:, :, None]).sum(-1)
