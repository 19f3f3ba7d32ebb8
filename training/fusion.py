"""Learns a fusion by concatenation, see `xsearch.retrieval.fusion`, and its term of the loss."""

from __future__ import annotations

from xsearch.core.extras import require
from xsearch.retrieval.fusion import Concatenation

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from xsearch.retrieval.encoders.clip.network import unit  # noqa: E402

from .losses.batch import check  # noqa: E402
from .losses.infonce import InfoNCE  # noqa: E402


class TrainableFusion(nn.Module):
    """A linear map of image and text vector, concatenated, back into the joint space.

    It starts as their sum, a fusion without any training.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(2 * dim, dim)
        with torch.no_grad():
            self.projection.weight.copy_(torch.cat([torch.eye(dim), torch.eye(dim)], dim=1))
            self.projection.bias.zero_()

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Fused vectors (n, dim), unit length, of images (n, dim) and texts (n, dim).

        Raises UsageError: no rows, or shapes that do not match.
        """
        check(images, texts)
        with torch.autocast(images.device.type, enabled=False):
            return unit(self.projection(torch.cat([images.float(), texts.float()], dim=1)))

    def export(self) -> Concatenation:
        """The same fusion in numpy, for queries."""
        weight, bias = (
            parameter.detach().float().cpu().numpy().copy()
            for parameter in (self.projection.weight, self.projection.bias)
        )
        return Concatenation(weight, bias)


class FusionLoss(nn.Module):
    """InfoNCE of an image fused with one caption against another caption of the image.

    It asks of the fused vector what a search asks of it: to lie near to what describes the same
    picture in other words. Fusing for retrieval by a learnt map of the concatenation: a baseline
    of Vo et al. 2019, "Composing Text and Image for Image Retrieval".
    """

    def __init__(self, fusion: TrainableFusion, contrast: InfoNCE) -> None:
        super().__init__()
        self.fusion = fusion
        self.contrast = contrast

    def forward(
        self, images: Tensor, texts: Tensor, others: Tensor, owners: Tensor | None = None
    ) -> Tensor:
        """The loss, a scalar: image i (n, dim) with text i against text i of the others.

        `owners` as in `InfoNCE`. Raises UsageError: no rows, or shapes that do not match.
        """
        loss: Tensor = self.contrast(self.fusion(images, texts), others, owners)
        return loss
