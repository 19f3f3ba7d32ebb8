"""Classification of images by the concepts that their captions name."""

from __future__ import annotations

from collections.abc import Sequence

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402


class ConceptClassification(nn.Module):
    """Binary cross-entropy of every concept, from a linear head on the image vectors x::

        l_ic = sqrt(d) w_c . x_i + b_c
        L    = -sum_ic [y_ic log sigmoid(l_ic) + (1 - y_ic) log sigmoid(-l_ic)] / sum_ic y_ic

    with y_ic = 1 where a caption of image i names concept c (see `training.concepts`). Words of
    captions as labels: Joulin et al. 2016, "Learning Visual Features from Large Weakly Supervised
    Data". Dividing by the count of positives, and starting the biases at each
    concept's `frequencies`, so that the many absent concepts do not drown the few present ones:
    Lin et al. 2017, "Focal Loss for Dense Object Detection", sections 3.3 and 4.1. sqrt(d) gives
    the coordinates of unit vectors a variance of 1.

    A batch without any positive is divided by 1. Each process averages over its own images.
    """

    def __init__(self, dim: int, frequencies: Sequence[float]) -> None:
        super().__init__()
        if not frequencies or not all(0 < frequency < 1 for frequency in frequencies):
            raise UsageError("a classification needs concepts with frequencies between 0 and 1")
        self.head = nn.Linear(dim, len(frequencies))
        nn.init.normal_(self.head.weight, std=0.01)
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor(frequencies).logit())

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """The loss, a scalar, of images (n, d) and targets (n, concepts), 0 or 1.

        Raises UsageError: no rows, or shapes that do not match.
        """
        expected = (len(images), self.head.out_features)
        if targets.shape != expected or images.shape != (len(images), self.head.in_features):
            raise UsageError(
                f"concepts of images {tuple(images.shape)} need targets {expected}, got "
                f"{tuple(targets.shape)}"
            )
        if not len(images):
            raise UsageError("concepts of no images: a batch holds at least one")
        wanted = targets.to(images.device).float()
        with torch.autocast(images.device.type, enabled=False):
            logits = self.head(images.float() * images.shape[1] ** 0.5)
        total = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        return total / wanted.sum().clamp(min=1)
