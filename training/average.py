"""The moving average of a model's weights, which usually does better than the last ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402


class MovingAverage:
    """Exponential moving average of a model's weights and floating-point buffers::

        a <- d a + (1 - d) w        d = min(decay, (1 + t) / (10 + t)) at update t = 1, 2, ...

    Tarvainen and Valpola 2017, "Mean teachers are better role models", section 2. The smaller d at
    the start forgets the first weights in time. Integer buffers are the model's latest. Averages
    are kept in fp32 at least.

    Raises UsageError: the decay is not from 0 to below 1.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise UsageError(f"decay = {decay}: that of a moving average is from 0 to below 1")
        self._decay = decay
        self._updates = 0
        self._average = {name: _kept(value) for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's weights; once after each step of the optimiser."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for name, value in model.state_dict().items():
            average = self._average[name]
            if value.is_floating_point():
                average.lerp_(value.to(average.dtype), 1 - decay)
            else:
                average.copy_(value)

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Within the context the model has the averaged weights, after it its own again."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self._average)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on exactly here: tensors and a count."""
        return {"updates": self._updates, "average": dict(self._average)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of `state_dict`.

        Raises UsageError: the state is of another model.
        """
        average: dict[str, Tensor] = state["average"]
        shapes = {name: value.shape for name, value in average.items()}
        if shapes != {name: value.shape for name, value in self._average.items()}:
            raise UsageError("the saved moving average is of another model: start without it")
        self._updates = int(state["updates"])
        for name, value in average.items():
            self._average[name].copy_(value)


def _kept(value: Tensor) -> Tensor:
    kept = value.detach().clone()
    low = kept.is_floating_point() and kept.element_size() < 4
    return kept.float() if low else kept
