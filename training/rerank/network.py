"""The reranker's network: text tokens attend to one another and to image regions."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

STEP = 127 / 5
"""Whole numbers to a unit of a picture's memory, which is normalised: int8 holds 5 deviations."""


@dataclass(frozen=True, slots=True)
class RerankerShape:
    """What a reranker reads, and how large it is.

    grid: rows and columns of regions. channels, token_channels: numbers of a region and of a
    token. width: of all layers. text_layers look at the text alone, cross_layers at both; `hidden`
    is the width inside their feed-forward parts.
    """

    grid: tuple[int, int]
    channels: int
    token_channels: int
    width: int = 256
    heads: int = 8
    text_layers: int = 1
    cross_layers: int = 2
    hidden: int = 256

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UsageError(
                f"width = {self.width} cannot be shared by {self.heads} heads: take a multiple"
            )
        if min(self.grid) < 1 or self.cross_layers < 1:
            raise UsageError("a reranker needs regions and at least one cross layer")

    def config(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


class Attention(nn.Module):
    """Multi-head attention, softmax(QK^T / sqrt(d)) V (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """Of x (..., T, W) over a source (..., S, W): (..., T, W).

        `mask`, bool (..., S), says what of the source is there.
        """
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for part in (self.query(x), self.key(source), self.value(source))
        )
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if mask is not None:
            logits = logits.masked_fill(~mask[..., None, None, :], -1e4)
        weights = torch.softmax(logits, -1)
        return cast(Tensor, self.out((weights @ v).transpose(-2, -3).flatten(-2)))


class Layer(nn.Module):
    """A pre-norm transformer layer; with `cross` it attends to another source first."""

    def __init__(
        self, shape: RerankerShape, dropout: float, *, cross: bool, within: bool = True
    ) -> None:
        super().__init__()
        width = shape.width
        self.across = Attention(width, shape.heads) if cross else None
        self.across_norm = nn.LayerNorm(width) if cross else None
        self.within = Attention(width, shape.heads) if within else None
        self.within_norm = nn.LayerNorm(width) if within else None
        self.forward_norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, shape.hidden)
        self.narrow = nn.Linear(shape.hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, source: Tensor | None = None) -> Tensor:
        """x (n, k, T, W), with a source (n, R, W) for all k; n may be 1 in either."""
        if self.across is not None and self.across_norm is not None and source is not None:
            found = self.across(self.across_norm(x).flatten(1, 2), source, None)
            x = x + self.dropout(found.unflatten(1, x.shape[1:3]))
        if self.within is not None and self.within_norm is not None:
            x = x + self.dropout(self.within(normed := self.within_norm(x), normed, mask))
        inner = functional.gelu(self.wide(self.forward_norm(x)))
        return cast(Tensor, x + self.dropout(self.narrow(inner)))


@dataclass(frozen=True, slots=True)
class Understood:
    """What becomes of texts (n, k, T) by themselves.

    words (n, k, T, W): directions that are compared with regions. weights (n, k, T): what each
    word counts, summing to 1. context (n, k, T, W): what cross layers start from. mask (n, k, T).
    """

    words: Tensor
    weights: Tensor
    context: Tensor | None
    mask: Tensor

    def repeated(self, times: int) -> Understood:
        """Each row so many times, one after the other."""
        parts = [self.words, self.weights, self.context, self.mask]
        words, weights, context, mask = (
            part if part is None else part.repeat_interleave(times, 0) for part in parts
        )
        assert words is not None and weights is not None and mask is not None
        return Understood(words, weights, context, mask)


@dataclass(frozen=True, slots=True)
class Matched:
    """What the network says of pairs (n, k).

    log_odds (n, k); each token's part in them, contributions (n, k, T); attention (n, k, T, R).
    """

    log_odds: Tensor
    contributions: Tensor
    attention: Tensor


class Reranker(nn.Module):
    """Does a text describe a picture? A dual encoder's tokens over its regions.

    Only text tokens are updated by what they see (regions are keys and values), so that a
    picture's part, its memory, is computed once and kept. The log-odds are a sum over tokens of

    - how well the token agrees with what it attends to: the cosine of the two, as in stacked
      cross attention (Lee et al. 2018, "SCAN", section 3.1, text to image), weighted by the word;
    - what cross-attention layers make of it (Li et al. 2021, "ALBEF", section 3.1).

    The first has few weights, and generalises from few pictures; the second knows which word
    belongs to which.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: RerankerShape, dropout: float = 0.1) -> None:
        super().__init__()
        self.shape = shape
        width, count = shape.width, shape.grid[0] * shape.grid[1]
        self.register_buffer("mean", torch.zeros(shape.channels))
        self.register_buffer("deviation", torch.ones(shape.channels))
        self.see = nn.Linear(shape.channels, width)
        self.place = nn.Parameter(torch.randn(count, width) * 0.02)
        self.memory_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.word = nn.Linear(shape.token_channels, width)
        self.weigh = nn.Linear(shape.token_channels, 1)
        self.sharpness = nn.Parameter(torch.tensor(math.log(9.0)))
        self.scale = nn.Parameter(torch.tensor(math.log(15.0)))
        self.read = nn.Linear(shape.token_channels, width)
        self.text_layers = nn.ModuleList(
            Layer(shape, dropout, cross=False) for _ in range(shape.text_layers)
        )
        self.cross_layers = nn.ModuleList(
            Layer(shape, dropout, cross=True, within=number > 0)
            for number in range(shape.cross_layers)
        )
        self.head_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)
        self.bias = nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.zero_()

    def remember(self, regions: Tensor) -> Tensor:
        """Memories (n, R, W) of regions (n, R, C), each region's of mean 0 and deviation 1."""
        x = (regions - self.mean) / self.deviation
        if self.training and self.dropout.p:
            # Whole channels of a picture: what a few say must not be relied upon.
            x = x * (torch.rand(len(x), 1, x.shape[2], device=x.device) >= self.dropout.p)
        return cast(Tensor, self.memory_norm(self.see(x) + self.place))

    def understand(self, tokens: Tensor, mask: Tensor, *, deep: bool = True) -> Understood:
        """Texts by themselves, of token features (n, k, T, C) and mask (n, k, T)."""
        words = functional.normalize(self.word(self.dropout(tokens)), dim=-1)
        # [CLS]-like tokens count as well: nothing else is left of an empty text.
        weights = torch.softmax(self.weigh(tokens)[..., 0].masked_fill(~mask, -1e4), -1)
        if not deep:
            return Understood(words, weights, None, mask)
        x = self.read(self.dropout(tokens))
        for layer in self.text_layers:
            x = layer(x, mask)
        return Understood(words, weights, x, mask)

    def match(self, texts: Understood, memories: Tensor) -> Matched:
        """Texts (n, k, T) with memories (n, R, W); either n may be 1.

        Without their context by the agreement of words alone: what is learnt first, being quick.
        """
        agreement, attention = self._agreement(texts.words, memories)
        parts = self.scale.exp() * texts.weights * agreement
        if texts.context is not None:
            x = texts.context
            for layer in self.cross_layers:
                x = layer(x, texts.mask, memories)
            parts = parts + self.head(self.head_norm(x))[..., 0] * texts.mask
        return Matched(parts.sum(-1) + self.bias, parts, attention)

    def _agreement(self, words: Tensor, memories: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines (n, k, T) of words with what they attend to, and attention (n, k, T, R)."""
        # A memory has the length sqrt(W).
        seen = memories / math.sqrt(memories.shape[-1])
        near = words.flatten(1, 2) @ seen.transpose(-1, -2)
        attention = torch.softmax(self.sharpness.exp() * near, -1)
        # The length of what is attended to, from the regions' products with one another: for many
        # texts that is less work than to mix the regions themselves.
        length = ((attention @ (seen @ seen.transpose(-1, -2))) * attention).sum(-1)
        cosines = (attention * near).sum(-1) / length.clamp_min(1e-12).sqrt()
        sizes = words.shape[1:3]
        return cosines.unflatten(1, sizes), attention.unflatten(1, sizes)  # type: ignore[no-untyped-call]

    def forward(self, regions: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Log-odds (n, k) of k texts for each of n pictures."""
        return self.match(self.understand(tokens, mask), self.remember(regions)).log_odds
