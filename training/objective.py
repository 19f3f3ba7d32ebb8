"""What training makes small: a contrastive loss and the terms that the settings add to it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xsearch.core.extras import require

from .losses import CONTRASTIVE, build_loss
from .model import TextBatch, TrainableEncoder

if TYPE_CHECKING:
    from .config import LossConfig

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What the terms need of a batch besides its vectors.

    `owners` int64 (n,); `anchors` the start model's vectors, `taught` the teacher's, of images
    and texts, (n, d) each; `concepts` (n, concepts), 0 or 1. None where no term needs them.
    """

    owners: Tensor
    anchors: tuple[Tensor, Tensor] | None = None
    taught: tuple[Tensor, Tensor] | None = None
    concepts: Tensor | None = None


class Objective(nn.Module):
    """The loss of a batch's vectors: contrastive + anchor + distillation + concepts, weighted."""

    def __init__(
        self, config: LossConfig, model: TrainableEncoder, frequencies: Sequence[float] = ()
    ) -> None:
        super().__init__()
        self.config = config
        self.contrastive = build_loss(config.name, _settings(config, model), model.dim)
        self.anchor = build_loss("anchor", {}, model.dim) if config.anchor else None
        distillation = config.distillation
        self.distillation = (
            build_loss(
                "similarities",
                {
                    "compared": distillation.compared,
                    "scale": distillation.scale,
                    "teacher_scale": distillation.teacher_scale,
                },
                model.dim,
            )
            if distillation.weight
            else None
        )
        self.concepts = (
            build_loss("concepts", {}, model.dim, frequencies=frequencies)
            if config.concepts
            else None
        )

    def forward(self, images: Tensor, texts: Tensor, batch: Encoded) -> Tensor:
        """The loss, a scalar, of images (n, d) and texts (n, d)."""
        total: Tensor = self.contrastive(images, texts, batch.owners)
        if self.anchor is not None and batch.anchors is not None:
            pairs = zip((images, texts), batch.anchors, strict=True)
            terms = [self.anchor(vectors, anchors) for vectors, anchors in pairs]
            total = total + self.config.anchor * torch.stack(terms).mean()
        if self.distillation is not None and batch.taught is not None:
            term = self.distillation(images, texts, *batch.taught)
            total = total + self.config.distillation.weight * term
        if self.concepts is not None and batch.concepts is not None:
            total = total + self.config.concepts * self.concepts(images, batch.concepts)
        return total

    def scale(self) -> float | None:
        """What cosines are multiplied with now; None for a loss without it."""
        temperature = getattr(self.contrastive, "temperature", None)
        if temperature is None:
            return None
        with torch.no_grad():
            return float(temperature())


class Start(nn.Module):
    """The model as it was before training, to stay near to."""

    def __init__(self, model: TrainableEncoder) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def vectors(self, pixels: Tensor, texts: TextBatch) -> tuple[Tensor, Tensor]:
        """Image and text vectors (n, dim) of a batch."""
        return self.model.encode_images(pixels), self.model.encode_texts(texts)


def _settings(config: LossConfig, model: TrainableEncoder) -> dict[str, Any]:
    """Those settings that the chosen loss has; its own defaults stand where none is given."""
    own = model.scale
    if own is not None and config.name == "infonce":
        own = min(own, config.max_scale)  # CLIP's learnt scale may be 100 and a rounding error
    offered = {
        "scale": config.scale if config.scale is not None else own,
        "bias": config.bias if config.bias is not None else model.bias,
        "learn_scale": config.learn_scale,
        "max_scale": config.max_scale,
        "smoothing": config.smoothing,
        "margin": config.margin,
        "negatives": config.negatives,
    }
    known = inspect.signature(CONTRASTIVE[config.name]).parameters
    found = {name: offered[name] for name in offered if name in known}
    return {name: value for name, value in found.items() if value is not None}
