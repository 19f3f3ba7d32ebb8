"""InfoNCE in both directions, CLIP's loss, with label smoothing and several positives."""

from __future__ import annotations

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

from .batch import pairs, similarities
from .temperature import Temperature

require("torch", "train", "training")

from torch import Tensor, nn  # noqa: E402


class InfoNCE(nn.Module):
    """Cross-entropy of each image over all texts and of each text over all images.

    For images x, texts y, unit length, and a scale s, learnt and at most `max_scale`::

        p_ij = softmax over j of s x_i . y_j
        q_ij = (1 - e) [j in P(i)] / |P(i)| + e / N
        L    = mean over i of -sum_j q_ij log p_ij, for x to y and y to x; their mean

    P(i) are the columns with the owner of row i: the pair itself and, for example, other
    captions of the same image in the batch. With one positive a row and e = 0 this is Radford et
    al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", figure 3;
    several positives as L_out of Khosla et al. 2020, "Supervised Contrastive Learning", equation
    2; smoothing e as Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7.

    Columns are those of all processes, see `batch`. A batch of one gives 0.
    """

    def __init__(
        self,
        *,
        scale: float = 1 / 0.07,
        learn_scale: bool = True,
        max_scale: float = 100.0,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise UsageError(f"smoothing = {smoothing}: label smoothing is from 0 to below 1")
        self._smoothing = smoothing
        self.temperature = Temperature(scale, learn=learn_scale, limit=max_scale)

    def forward(self, images: Tensor, texts: Tensor, owners: Tensor | None = None) -> Tensor:
        """The loss, a scalar, of images (n, d), texts (n, d) and owners, integers (n,).

        Raises UsageError: no rows, or shapes that do not match.
        """
        batch = pairs(images, texts, owners)
        positives = batch.positives.float()
        targets = positives / positives.sum(dim=1, keepdim=True)
        targets = (1 - self._smoothing) * targets + self._smoothing / targets.shape[1]
        scale: Tensor = self.temperature()
        both: list[Tensor] = [
            -(targets * (scale * similarities(rows, columns)).log_softmax(dim=1)).sum(dim=1).mean()
            for rows, columns in batch.directions
        ]
        return batch.weight * (both[0] + both[1]) / 2
