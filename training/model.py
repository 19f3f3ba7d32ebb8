"""What the trainer, the losses and the export need of a model: the `TrainableEncoder`."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xsearch.core.extras import require
from xsearch.retrieval.encoders.pictures import Preparation

if TYPE_CHECKING:
    from PIL import Image
    from tokenizers import Tokenizer

    from xsearch.core.encoder import UInt8

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

Layers = Mapping[str, list[list[nn.Parameter]]]
"""`image`, `text` and `head`: parameter groups, from input to output."""


@dataclass(frozen=True, slots=True, eq=False)
class TextBatch:
    """Tokenised texts, padded to the longest: `ids` and `mask`, int64 (n, t); the mask is 1 or 0.

    `towers`, int64 (n,), numbers the text tower of each row where an encoder has several.
    """

    ids: Tensor
    mask: Tensor
    towers: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | Tensor) -> TextBatch:
        """Some of the texts, padding unchanged: a slice, or a tensor of row numbers."""
        towers = None if self.towers is None else self.towers[rows]
        return TextBatch(self.ids[rows], self.mask[rows], towers)

    def to(self, device: torch.device | str) -> TextBatch:
        """The same texts on a device."""
        towers = None if self.towers is None else self.towers.to(device)
        return TextBatch(self.ids.to(device), self.mask.to(device), towers)


class TrainableEncoder(nn.Module, ABC):
    """A dual encoder in torch, see `xsearch.core.encoder.DualEncoder` for one that only answers.

    Attributes: `name` is for people; `dim` counts the dimensions of the joint space; `preparation`
    says how a picture becomes pixels; `tokenizer`, which cuts to `context_length` tokens (see
    `cutting`), how a text becomes ids; `scale` and `bias` are what a pretrained model multiplies
    its cosines with and adds to them, or None: a good start for a loss. `training.export` writes
    it as an encoder folder, `training.towers` builds it and loads it back.
    """

    name: str
    dim: int
    preparation: Preparation
    tokenizer: Tokenizer
    context_length: int
    scale: float | None = None
    bias: float | None = None

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.preparation.size

    @property
    def resize(self) -> str:
        """How a picture is made square: `squash` or `crop`."""
        return self.preparation.resize

    @property
    def interpolation(self) -> str:
        """`bicubic` or `bilinear`."""
        return self.preparation.interpolation

    def preprocess(self, image: Image.Image) -> UInt8:
        """Turn an upright picture into uint8 (S, S, 3), without augmentation."""
        return self.preparation.apply(image)

    def tokenize(self, texts: Sequence[str]) -> TextBatch:
        """Token ids of texts, cut to the context length, padded with 0 to the longest."""
        rows = [found.ids for found in self.tokenizer.encode_batch(list(texts))]
        longest = max(map(len, rows), default=0)
        ids = torch.zeros(len(rows), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return TextBatch(ids, mask)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Image vectors (n, dim), unit length, of uint8 pixels (n, S, S, 3)."""
        return self.image_outputs(pixels)[0]

    def encode_texts(self, batch: TextBatch) -> Tensor:
        """Text vectors (n, dim), unit length."""
        return self.text_outputs(batch)[0]

    @abstractmethod
    def image_outputs(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (n, dim) and regions (n, R, C), row-major, of uint8 pixels (n, S, S, 3)."""

    @abstractmethod
    def text_outputs(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        """Vectors (n, dim) and token features (n, t, C)."""

    def save_tokenizer(self, path: Path) -> None:
        """Write the tokenizer as `retrieval.encoders` reads it, without cutting."""
        from tokenizers import Tokenizer

        bare = Tokenizer.from_str(self.tokenizer.to_str())
        bare.no_truncation()
        path.write_text(quickly_read(bare.to_str()), encoding="utf-8")

    @abstractmethod
    def layers(self) -> Layers:
        """Parameter groups from input to output under `image` and `text`, those of the maps into
        the joint space under `head`: for freezing, layer-wise rates, gradual unfreezing.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What builds this model again, without weights and tokenizer: JSON-ready, with a `kind`
        that `training.towers.load_trainable` knows.
        """


def quickly_read(tokenizer: str) -> str:
    """The JSON of a tokenizer in the form that the library reads fastest: it says the same.

    Pairs to merge that are written as one text each are read in half the time of lists.
    """
    content = json.loads(tokenizer)
    merges = content["model"].get("merges")
    if merges and not any(" " in part for pair in merges for part in pair):
        content["model"]["merges"] = [" ".join(pair) for pair in merges]
    return json.dumps(content, ensure_ascii=False)
