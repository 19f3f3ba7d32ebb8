"""Two towers and their heads, joined into one encoder that can be trained."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from xsearch.core.errors import UsageError
from xsearch.retrieval.encoders.clip.network import Pixels, PixelScaling, unit
from xsearch.training.model import Layers, TextBatch, TrainableEncoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Groups = list[list[nn.Parameter]]

_BLOCK = re.compile(r"^(?:.*?\.)??(_?\w*?(?:layers?|blocks|stages)\d*\.\d+)\.")
_LAST = re.compile(r"proj\b|projection|pool|ln_post|ln_final|final|head")


class ImageTower(nn.Module, ABC):
    """Scaled pixels to features; `width` counts the channels of the pooled ones."""

    width: int
    pixels: Pixels

    @abstractmethod
    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (n, width) and regions (n, R, C) of float planes (n, 3, S, S)."""

    def groups(self) -> Groups:
        """Its parameters from input to output."""
        return by_depth(self.named_parameters())

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What builds it again, without weights."""


class TextTower(nn.Module, ABC):
    """Token ids to features; `width` counts the channels of the pooled ones."""

    width: int
    tokenizer: Tokenizer
    context_length: int

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (n, width) and token features (n, t, C) of ids and mask, (n, t)."""

    def groups(self) -> Groups:
        """Its parameters from input to output."""
        return by_depth(self.named_parameters())

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What builds it again, without weights and tokenizer."""


class TwoTowers(TrainableEncoder):
    """An image tower and a text tower, each with a head into the joint space."""

    def __init__(self, name: str, image: ImageTower, text: TextTower, dim: int, head: str) -> None:
        super().__init__()
        self.name = name
        self.dim = dim
        self.head = head
        self.preparation = image.pixels.preparation
        self.tokenizer = text.tokenizer
        self.context_length = text.context_length
        self.scaling = PixelScaling(image.pixels)
        self.image = image
        self.text = text
        self.image_head = make_head(head, image.width, dim)
        self.text_head = make_head(head, text.width, dim)

    def image_outputs(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See `TrainableEncoder`."""
        pooled, regions = self.image(self.scaling(pixels))
        return unit(self.image_head(pooled)), regions

    def text_outputs(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        """See `TrainableEncoder`."""
        pooled, tokens = self.text(batch.ids, batch.mask)
        return unit(self.text_head(pooled)), tokens

    def layers(self) -> Layers:
        """See `TrainableEncoder`."""
        heads = [list(head.parameters()) for head in (self.image_head, self.text_head)]
        return {
            "image": self.image.groups(),
            "text": self.text.groups(),
            "head": [group for group in heads if group],
        }

    def config(self) -> dict[str, Any]:
        """See `TrainableEncoder`."""
        return {
            "kind": "two-towers",
            "name": self.name,
            "image": self.image.config(),
            "text": self.text.config(),
            "dim": self.dim,
            "head": self.head,
        }


def make_head(kind: str, width: int, dim: int) -> nn.Module:
    """The map from a tower's features (n, width) into the joint space (n, dim)."""
    if kind == "linear":
        return nn.Linear(width, dim)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim))
    if width != dim:
        raise UsageError(
            f"head `none` needs towers of {dim} outputs, one has {width}; use `linear`"
        )
    return nn.Identity()


def by_depth(named: Iterable[tuple[str, nn.Parameter]]) -> Groups:
    """Group parameters by the numbered block in their names: stem, each block, what follows.

    A parameter outside of blocks belongs to the stem if it is declared before them and is not
    called after an output; every part of a model that is listed by number counts as a block.
    """
    stem: list[nn.Parameter] = []
    blocks: dict[str, list[nn.Parameter]] = {}
    rest: list[nn.Parameter] = []
    for name, parameter in named:
        block = _BLOCK.match(name)
        if block:
            blocks.setdefault(block[1], []).append(parameter)
        else:
            (rest if blocks or _LAST.search(name) else stem).append(parameter)
    return [group for group in (stem, *blocks.values(), rest) if group]
