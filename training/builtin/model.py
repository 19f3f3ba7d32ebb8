"""What is trained: the image tower with its head, and text towers with theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xsearch.training.towers.bert import Bert
from xsearch.training.towers.builtin import Backbone, BuiltinImage, BuiltinText
from xsearch.training.towers.parts import TwoTowers

from .towers import CONTEXT_LENGTH

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from .alignment import Alignment


class TextHead(nn.Module):
    """From sentence vectors (n, d) into the joint space: unit((v - mean) @ weight + bias)."""

    def __init__(self, mean: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.mean = nn.Parameter(mean.clone())
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(bias.clone())

    def forward(self, sentences: Tensor) -> Tensor:
        """Vectors (n, d), unit length."""
        return functional.normalize((sentences - self.mean) @ self.weight + self.bias, dim=1)


class Texts(nn.Module):
    """A text tower with its head: whole texts to vectors."""

    def __init__(self, tower: BuiltinText, head: TextHead) -> None:
        super().__init__()
        self.tower = tower
        self.head = head

    def forward(self, texts: list[str]) -> Tensor:
        """Vectors (n, d), unit length, of texts cut to the context length."""
        return cast(Tensor, self.head(self.sentences(texts)))

    def learning(self, texts: list[str]) -> Tensor:
        """As `forward`, for training: the tower in bfloat16, which takes half the time."""
        with torch.autocast("cpu", torch.bfloat16):
            found = self.sentences(texts)
        return cast(Tensor, self.head(found.float()))

    def sentences(self, texts: list[str]) -> Tensor:
        """The tower's own vectors (n, d), unit length."""
        rows = self.tower.tokenizer.encode_batch(texts)
        ids = torch.zeros(len(rows), max(len(row.ids) for row in rows), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
            mask[number, : len(row.ids)] = 1
        return cast(Tensor, self.tower(ids, mask)[0])

    @torch.inference_mode()
    def embed(self, texts: list[str], batch: int = 128) -> Tensor:
        """Vectors (n, d) of many texts, in batches of similar length."""
        return cast(Tensor, self.head(self.embed_sentences(texts, batch)))

    @torch.inference_mode()
    def embed_sentences(self, texts: list[str], batch: int = 128) -> Tensor:
        """The tower's own vectors (n, d) of many texts, before the head."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found = torch.zeros(len(texts), self.tower.width)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            found[rows] = self.sentences([texts[row] for row in rows])
        return found


class Images(nn.Module):
    """The image tower with its head; `weight` (width, d), `bias` (d,)."""

    def __init__(self, tower: BuiltinImage, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(bias.clone())

    def forward(self, x: Tensor, drop: float = 0.0, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """Vectors (n, d) and class scores (n, 1000) of `Backbone.frozen`'s output."""
        features, logits, _ = self.tower.tail(x.contiguous(memory_format=torch.channels_last), drop)
        features = functional.dropout(features, dropout, training=bool(dropout))
        return functional.normalize(features @ self.weight + self.bias, dim=1), logits

    def joined(self, texts: Texts) -> TwoTowers:
        """An encoder of whole pictures and the given text tower, for export."""
        made = TwoTowers("builtin", self.tower, texts.tower, self.weight.shape[1], "linear")
        with torch.no_grad():
            cast(Tensor, made.image_head.weight).copy_(self.weight.T)
            cast(Tensor, made.image_head.bias).copy_(self.bias)
        return made.eval()


def aligned(backbone: Backbone, alignment: Alignment) -> Images:
    """The image tower as the closed form has it."""
    settings = alignment.settings
    dim = alignment.weight.shape[1]
    tower = BuiltinImage(backbone, dim, settings.temperature, settings.narrow)
    for name in ("class_vectors", "conse_mean", "text_weight"):
        getattr(tower, name).copy_(torch.from_numpy(getattr(alignment, name)))
    return Images(tower, torch.from_numpy(alignment.weight), torch.from_numpy(alignment.bias))


def english(bert: Bert, tokenizer: Tokenizer, head: TextHead) -> Texts:
    """The English tower: MiniLM, cut where it was trained to read."""
    return Texts(BuiltinText(bert, tokenizer, CONTEXT_LENGTH), head)
