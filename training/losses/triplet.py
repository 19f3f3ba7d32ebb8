"""Triplet losses: a pair must be more similar, by a margin, than a chosen negative."""

from __future__ import annotations

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

from .batch import Pairs, pairs, similarities

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

NEGATIVES = ("hardest", "semi-hard")


class Triplet(nn.Module):
    """Hinge over one negative a row, for images to texts and texts to images, added::

        L = mean over i of max(0, m - x_i . y_i + x_i . y_n)  +  the same of texts to images

    The negative n has another owner than i. `hardest` takes the most similar one: Faghri et al.
    2018, "VSE++: Improving Visual-Semantic Embeddings with Hard Negatives", equation 6 (a mean
    here, not a sum, so that rates do not depend on the batch). `semi-hard` takes the most similar
    one that is less similar than the pair itself: Schroff et al. 2015, "FaceNet", section 3.2,
    for cosines (on unit vectors their squared distance is 2 - 2 cos, so this margin m is half of
    theirs); where every negative is more similar than the pair, the least similar one.

    Columns are those of all processes, see `batch`. A row without negatives counts 0.
    """

    def __init__(self, *, margin: float = 0.2, negatives: str = "hardest") -> None:
        super().__init__()
        if not 0 < margin <= 2:
            raise UsageError(f"margin = {margin}: a margin of cosines is above 0 and at most 2")
        if negatives not in NEGATIVES:
            raise UsageError(f"negatives = {negatives!r}: one of {', '.join(NEGATIVES)}")
        self._margin = margin
        self._semi_hard = negatives == "semi-hard"

    def forward(self, images: Tensor, texts: Tensor, owners: Tensor | None = None) -> Tensor:
        """The loss, a scalar, of images (n, d), texts (n, d) and owners, integers (n,).

        Raises UsageError: no rows, or shapes that do not match.
        """
        batch = pairs(images, texts, owners)
        both = [self._hinge(rows, columns, batch) for rows, columns in batch.directions]
        return batch.weight * (both[0] + both[1])

    def _hinge(self, rows: Tensor, columns: Tensor, batch: Pairs) -> Tensor:
        scores = similarities(rows, columns)
        own = scores.gather(1, batch.own[:, None])
        chosen = self._choose(scores.detach(), own.detach(), batch.positives)
        violations = (self._margin - own + scores.gather(1, chosen)).clamp(min=0)
        any_negative = ~batch.positives.all(dim=1, keepdim=True)
        return (violations * any_negative).mean()

    def _choose(self, scores: Tensor, own: Tensor, positives: Tensor) -> Tensor:
        """The column of each row's negative, (n, 1)."""
        hardest = scores.masked_fill(positives, -torch.inf).argmax(dim=1, keepdim=True)
        if not self._semi_hard:
            return hardest
        candidates = scores.masked_fill(positives | (scores >= own), -torch.inf)
        easiest = scores.masked_fill(positives, torch.inf).argmin(dim=1, keepdim=True)
        none = candidates.isneginf().all(dim=1, keepdim=True)
        return torch.where(none, easiest, candidates.argmax(dim=1, keepdim=True))
