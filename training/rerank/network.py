"""The reranker's network: text tokens attend to one another and to image regions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from xsearch.core.extras import require

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from .agreement import Agreement, Background, Words  # noqa: E402

STEP = 127 / 5
"""Whole numbers to a unit of a picture's memory, which is normalised: int8 holds 5 deviations."""
GUIDED = 2
"""Heads of each cross layer that learn to look where the things are that words name."""


@dataclass(frozen=True, slots=True)
class RerankerShape:
    """What a reranker reads, and how large it is.

    grid: rows and columns of regions. channels, token_channels: numbers of a region and of a
    token. width: of a memory, and of what is compared with it; `nearby`: inside the part of it in
    which a region is seen with those around it. text_layers look at the text alone, cross_layers
    at both; `deep` is the width of these layers, shared by `heads`, and `hidden` that inside their
    feed-forward parts.
    """

    grid: tuple[int, int]
    channels: int
    token_channels: int
    width: int = 256
    nearby: int = 512
    deep: int = 128
    heads: int = 8
    text_layers: int = 1
    cross_layers: int = 2
    hidden: int = 256


def whole(memories: Tensor) -> Tensor:
    """Memories as int8 will hold them: whole numbers, `STEP` to a unit."""
    return (memories * STEP).round().clamp(-127, 127)


def coordinates(grid: tuple[int, int], width: int) -> Tensor:
    """Where each region of a grid (rows, columns) is: (R, width), sines and cosines of its row in
    one half and of its column in the other (Vaswani et al. 2017, section 3.5), slow ones first.
    """
    sides = []
    for count, size in zip(grid, (width // 2, width - width // 2), strict=True):
        at = (torch.arange(count) + 0.5) / count - 0.5
        # From a quarter of a turn over the whole picture to half a turn a region.
        turns = torch.logspace(math.log10(0.25), math.log10(max(count / 2, 0.5)), (size + 1) // 2)
        angles = 2 * math.pi * at[:, None] * turns
        sides.append(torch.cat([angles.sin(), angles.cos()], 1)[:, :size])
    rows, columns = sides
    shown = rows[:, None].expand(-1, grid[1], -1), columns[None].expand(grid[0], -1, -1)
    return torch.cat(shown, -1).flatten(0, 1).clone()


class Attention(nn.Module):
    """Multi-head attention, softmax(QK^T / sqrt(d)) V (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of x (..., T, D) over a source (..., S, D): (..., T, D), and weights (..., heads, T, S).

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
        return cast(Tensor, self.out((weights @ v).transpose(-2, -3).flatten(-2))), weights


class See(nn.Module):
    """What regions are compared by: each seen by itself, and with the eight around it.

    The latter through a wide layer and a convolution of each of its channels by itself, as in
    inverted bottlenecks (Sandler et al. 2018, "MobileNetV2", section 3.3). It begins by
    adding nothing.
    """

    def __init__(self, shape: RerankerShape) -> None:
        super().__init__()
        self.grid = shape.grid
        self.alone = nn.Linear(shape.channels, shape.width)
        self.wide = nn.Linear(shape.channels, shape.nearby)
        self.around = nn.Conv2d(shape.nearby, shape.nearby, 3, padding=1, groups=shape.nearby)
        self.narrow = nn.Linear(shape.nearby, shape.width)
        with torch.no_grad():
            self.narrow.weight.zero_()
            self.narrow.bias.zero_()

    def forward(self, regions: Tensor) -> Tensor:
        """From regions (n, R, C) to (n, R, W)."""
        x = self.wide(regions)
        maps = x.transpose(1, 2).unflatten(2, self.grid)
        x = functional.gelu(x + self.around(maps).flatten(2).transpose(1, 2))
        return cast(Tensor, self.alone(regions) + self.narrow(x))


class Layer(nn.Module):
    """A pre-norm transformer layer; with `cross` it attends to another source first."""

    def __init__(self, shape: RerankerShape, dropout: float, *, cross: bool) -> None:
        super().__init__()
        width = shape.deep
        self.across = Attention(width, shape.heads) if cross else None
        self.across_norm = nn.LayerNorm(width) if cross else None
        self.within = Attention(width, shape.heads)
        self.within_norm = nn.LayerNorm(width)
        self.forward_norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, shape.hidden)
        self.narrow = nn.Linear(shape.hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None, source: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """x (n, k, T, D), with a source (n, R, D) for all k; n may be 1 in either.

        Returns x as it became, and where its tokens looked in the source, (n, k, T, heads, R).
        """
        looked = None
        if self.across is not None and self.across_norm is not None and source is not None:
            found, weights = self.across(self.across_norm(x).flatten(1, 2), source, None)
            x = x + self.dropout(found.unflatten(1, x.shape[1:3]))
            looked = weights.transpose(1, 2).unflatten(1, x.shape[1:3])
        x = x + self.dropout(self.within(normed := self.within_norm(x), normed, mask)[0])
        inner = functional.gelu(self.wide(self.forward_norm(x)))
        return x + self.dropout(self.narrow(inner)), looked


@dataclass(frozen=True, slots=True)
class Understood:
    """What becomes of texts (n, k, T) by themselves.

    words: what is compared with regions. context (n, k, T, D): what cross layers start from.
    """

    words: Words
    context: Tensor | None

    def repeated(self, times: int) -> Understood:
        """Each row so many times, one after the other."""
        parts = [self.words.directions, self.words.weights, self.words.mask]
        words = Words(*(part.repeat_interleave(times, 0) for part in parts))
        context = None if self.context is None else self.context.repeat_interleave(times, 0)
        return Understood(words, context)


@dataclass(frozen=True, slots=True)
class Matched:
    """What the network says of pairs (n, k).

    log_odds (n, k), before a picture's offset is taken off; each token's part in them,
    contributions (n, k, T); where each token looks, attention (n, k, T, R), and where each cross
    layer's guided heads do, one (n, k, T, R) a layer.
    """

    log_odds: Tensor
    contributions: Tensor
    attention: Tensor
    guided: tuple[Tensor, ...] = ()


class Reranker(nn.Module):
    """Does a text describe a picture? A dual encoder's tokens over its regions.

    Only text tokens are updated by what they see (regions are keys and values), so that a
    picture's part, its memory, is computed once and kept. The log-odds are a sum over tokens of

    - how well words and regions agree, see `Agreement`, which generalises from few pictures;
    - what cross-attention layers make of it (Li et al. 2021, "ALBEF", section 3.1), which know
      which word belongs to which. How far they are to be trusted is for the picture to say (a gate,
      as between experts: Jacobs et al. 1991): drawings they know better than photographs.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: RerankerShape, dropout: float = 0.1) -> None:
        super().__init__()
        self.shape = shape
        width, deep, count = shape.width, shape.deep, shape.grid[0] * shape.grid[1]
        self.register_buffer("mean", torch.zeros(shape.channels))
        self.register_buffer("deviation", torch.ones(shape.channels))
        self.see = See(shape)
        self.place = nn.Parameter(torch.randn(count, width) * 0.02)
        self.memory_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.agreement = Agreement(width, shape.token_channels)
        self.read = nn.Linear(shape.token_channels, deep)
        self.look = nn.Linear(width, deep)
        self.where = nn.Parameter(coordinates(shape.grid, deep))
        self.text_layers = nn.ModuleList(
            Layer(shape, dropout, cross=False) for _ in range(shape.text_layers)
        )
        self.cross_layers = nn.ModuleList(
            Layer(shape, dropout, cross=True) for _ in range(shape.cross_layers)
        )
        self.head_norm = nn.LayerNorm(deep)
        self.head = nn.Linear(deep, 1)
        self.gate = nn.Linear(width, 1)
        self.bias = nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(dropout)
        self.background: Background | None = None
        self.guidance: tuple[float, float] | None = None
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.zero_()
            self.gate.weight.zero_()
            self.gate.bias.fill_(2)

    def remember(self, regions: Tensor) -> Tensor:
        """Memories (n, R, W) of regions (n, R, C), each region's of mean 0 and deviation 1."""
        x = (regions - self.mean) / self.deviation
        if self.training and self.dropout.p:
            # Whole channels of a picture: what a few say must not be relied upon.
            x = x * (torch.rand(len(x), 1, x.shape[2], device=x.device) >= self.dropout.p)
        return cast(Tensor, self.memory_norm(self.see(x) + self.place))

    def offset(self, memories: Tensor) -> Tensor:
        """What is taken off the log-odds of pictures (n,), by the background where there is one."""
        if self.background is None:
            return torch.zeros(len(memories), device=memories.device)
        return cast(Tensor, self.background(self.agreement, memories))

    def trust(self, memories: Tensor) -> Tensor:
        """How far the cross layers are to be trusted about pictures (n,): log-odds, by the gate."""
        return cast(Tensor, self.gate(memories.mean(-2))[:, 0])

    def guided_share(self, memories: Tensor) -> Tensor:
        """How far pictures (n,) are drawings, in which guided heads learnt where to look: 0 to 1.

        `guidance` holds what the gate says between photographs and drawings, and how steeply one
        goes over into the other.
        """
        assert self.guidance is not None
        middle, slope = self.guidance
        return torch.sigmoid(slope * (self.trust(memories) - middle))

    def understand(self, tokens: Tensor, mask: Tensor, *, deep: bool = True) -> Understood:
        """Texts by themselves, of token features (n, k, T, C) and mask (n, k, T)."""
        dropped = self.dropout(tokens)
        words = self.agreement.words(tokens, mask, dropped)
        if not deep:
            return Understood(words, None)
        x = self.read(dropped)
        for layer in self.text_layers:
            x, _ = layer(x, mask)
        return Understood(words, x)

    def match(self, texts: Understood, memories: Tensor) -> Matched:
        """Texts (n, k, T) with memories (n, R, W); either n may be 1.

        Without their context by the agreement of words alone: what is learnt first, being quick.
        """
        parts, attention = self.agreement(texts.words, memories)
        guided = []
        if texts.context is not None:
            x, source = texts.context, self.look(memories) + self.where
            for layer in self.cross_layers:
                x, looked = layer(x, texts.words.mask, source)
                guided.append(looked[..., :GUIDED, :].mean(-2))
            trust = torch.sigmoid(self.trust(memories))[:, None, None]
            parts = parts + trust * self.head(self.head_norm(x))[..., 0] * texts.words.mask
        return Matched(parts.sum(-1) + self.bias, parts, attention, tuple(guided))
