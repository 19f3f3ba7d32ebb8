"""The factor that cosines are multiplied with before a softmax or a logistic function."""

from __future__ import annotations

import math

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402


class Temperature(nn.Module):
    """A scale, 1 / temperature, kept as its logarithm (Radford et al. 2021, section 2.5).

    It stays between 1 and `limit`; CLIP's is 100, "to prevent scaling the logits by more than
    100". None: no bound above.
    """

    def __init__(self, scale: float, *, learn: bool = True, limit: float | None = None) -> None:
        super().__init__()
        if not 1 <= scale <= (limit or math.inf) or math.isinf(scale):
            most = "" if limit is None else f" to {limit:g}"
            raise UsageError(f"scale = {scale}: a loss scales cosines by 1{most}")
        self._limit = None if limit is None else math.log(limit)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learn)

    def forward(self) -> Tensor:
        """The scale, a scalar."""
        # Clamping the value itself, not the function of it: beyond the bound the gradient of a
        # clamped function is 0, and the scale could never come back.
        with torch.no_grad():
            self.log_scale.clamp_(min=0, max=self._limit)
        return self.log_scale.exp()
