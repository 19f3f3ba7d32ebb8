"""SigLIP's loss: each pair of an image and a text is judged on its own, match or not."""

from __future__ import annotations

from xsearch.core.extras import require

from .batch import pairs, similarities
from .temperature import Temperature

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402


class Sigmoid(nn.Module):
    """Logistic loss over all pairs of images x and texts y, unit length::

        L = -1/n sum_i sum_j log sigmoid(z_ij (t x_i . y_j + b))

    with z_ij = 1 where text j has the owner of image i, else -1; scale t and bias b are learnt.
    Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", section 3.2; t = 10 and
    b = -10 at the start, as there. The scale has no upper bound: published SigLIP models have
    learnt more than 100.

    Columns are those of all processes, see `batch`. A batch of one is a match without others.
    """

    def __init__(
        self, *, scale: float = 10.0, bias: float = -10.0, learn_scale: bool = True
    ) -> None:
        super().__init__()
        self.temperature = Temperature(scale, learn=learn_scale)
        self.bias = nn.Parameter(torch.tensor(float(bias)), requires_grad=learn_scale)

    def forward(self, images: Tensor, texts: Tensor, owners: Tensor | None = None) -> Tensor:
        """The loss, a scalar, of images (n, d), texts (n, d) and owners, integers (n,).

        Raises UsageError: no rows, or shapes that do not match.
        """
        batch = pairs(images, texts, owners)
        signs = 2 * batch.positives.float() - 1
        logits = self.temperature() * similarities(batch.images, batch.all_texts) + self.bias
        return -batch.weight * functional.logsigmoid(signs * logits).sum(dim=1).mean()
