"""What is trained when and how fast: parameter groups, freezing, schedules, optimisers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

require("torch", "train", "training")

from torch import nn, optim  # noqa: E402

from .model import Layers  # noqa: E402

OPTIMISERS = ("adam", "adamw", "sgd")
_EPSILON = 1e-6
Groups = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Rates:
    """How one part of a model (`image`, `text` or `head`) learns.

    `rate` is the learning rate of the layer nearest to the output; each layer further down learns
    `decay` times as fast as the one above it (discriminative fine-tuning: Howard and Ruder 2018,
    "Universal Language Model Fine-tuning for Text Classification", section 3.2). The first
    `frozen` layers never change; `locked` freezes all (Zhai et al. 2022, "LiT: Zero-Shot Transfer
    with Locked-image text Tuning").

    Raises UsageError: a value that cannot be.
    """

    rate: float
    decay: float = 1.0
    frozen: int = 0
    locked: bool = False

    def __post_init__(self) -> None:
        if not (self.rate >= 0 and math.isfinite(self.rate)):
            raise UsageError(f"rate = {self.rate}: a learning rate is 0 or more")
        if not 0 < self.decay <= 1:
            raise UsageError(f"decay = {self.decay}: the factor a layer is above 0 and at most 1")
        if self.frozen < 0:
            raise UsageError(f"frozen = {self.frozen}: a count of layers is 0 or more")

    def first(self, count: int) -> int:
        """The first of `count` layers that may learn; `count` when none may."""
        return count if self.locked else min(self.frozen, count)


def unfrozen(epoch: float, per_epoch: float, layers: int) -> int:
    """How many of a tower's `layers`, counted from the output, learn at a time in epochs.

    Gradual unfreezing (Howard and Ruder 2018, section 3.3): at first only the head, then, with
    each epoch, `per_epoch` layers more. 0 an epoch: all from the beginning.
    """
    return min(layers, int(epoch * per_epoch)) if per_epoch else layers


def parameter_groups(
    layers: Layers,
    rates: Mapping[str, Rates],
    *,
    weight_decay: float = 0.0,
    others: Iterable[nn.Parameter] = (),
    others_rate: float = 1e-3,
) -> Groups:
    """Groups for an optimiser, of all parameters that may ever learn, each once.

    `layers` are those of `TrainableEncoder.layers`, `rates` names each of its parts; `others`, a
    loss's own parameters, learn at `others_rate`. Vectors and scalars (biases, gains of norms,
    temperatures) get no weight decay, as in Radford et al. 2021, section 2.5. Each group says its
    full rate as `rate`, from which `set_rates` makes `lr`.

    Raises UsageError: nothing may learn.
    """
    groups: Groups = []
    seen: set[int] = set()

    def add(parameters: Iterable[nn.Parameter], rate: float, name: str) -> None:
        new = [each for each in parameters if id(each) not in seen]
        seen.update(map(id, new))
        for decayed in (True, False):
            chosen = [each for each in new if (each.ndim > 1) == decayed]
            if chosen:
                decay = weight_decay if decayed else 0.0
                settings = {"lr": rate, "rate": rate, "weight_decay": decay, "name": name}
                groups.append({"params": chosen, **settings})

    for part, stack in layers.items():
        how = rates[part]
        for i in range(how.first(len(stack)), len(stack)):
            add(stack[i], how.rate * how.decay ** (len(stack) - 1 - i), f"{part}.{i}")
    add((each for each in others if each.requires_grad), others_rate, "others")
    if not groups:
        raise UsageError("every layer is frozen: unlock a tower, or freeze fewer of its layers")
    return groups


def freeze(
    layers: Layers, rates: Mapping[str, Rates], *, epoch: float = 0.0, per_epoch: float = 0.0
) -> None:
    """Let exactly those parameters learn that do at a time in epochs, see `unfrozen`.

    Optimisers skip the others, which have no gradient. The heads learn from the beginning.
    """
    trained: dict[int, bool] = {}
    for part, stack in layers.items():
        first = rates[part].first(len(stack))
        if part != "head":
            first = len(stack) - unfrozen(epoch, per_epoch, len(stack) - first)
        for i, layer in enumerate(stack):
            for parameter in layer:
                trained[id(parameter)] = trained.get(id(parameter), False) or i >= first
    for layer in (layer for stack in layers.values() for layer in stack):
        for parameter in layer:
            parameter.requires_grad_(trained[id(parameter)])
            if not parameter.requires_grad:
                parameter.grad = None


def settle_frozen(model: nn.Module) -> None:
    """Put the modules whose parameters are all frozen into evaluation mode, dropout included.

    To be called after `model.train()`: a frozen batch norm would go on following the data.
    """
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def rate_factor(step: int, steps: int, *, warmup: int = 0, floor: float = 0.0) -> float:
    """What the learning rates are multiplied with at a step (0 to steps - 1) of a training.

    It rises linearly to 1 over `warmup` steps, then falls along half a cosine to `floor`
    (Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts).
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    passed = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * (1 + math.cos(math.pi * passed)) / 2


def set_rates(optimiser: optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to a factor of its full one."""
    for group in optimiser.param_groups:
        group["lr"] = group["rate"] * factor


def build_optimiser(
    kind: str,
    groups: Groups,
    *,
    betas: tuple[float, float] = (0.9, 0.98),
    momentum: float = 0.9,
) -> optim.Optimizer:
    """An optimiser of a kind in `OPTIMISERS`.

    `betas` are those of `adam` and `adamw`; the defaults and their epsilon, 1e-6, are what CLIP's
    vision transformers were trained with (Radford et al. 2021, table 18). `momentum` is that of
    `sgd`. `adam` and `sgd` add weight decay to the gradient, `adamw` takes it from the weights
    (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization").

    Raises UsageError: the kind is unknown, or a value cannot be.
    """
    for name, value in zip(("beta", "beta", "momentum"), (*betas, momentum), strict=True):
        if not 0 <= value < 1:
            raise UsageError(f"{name} = {value}: it is from 0 to below 1")
    if kind == "sgd":
        return optim.SGD(groups, lr=0.0, momentum=momentum)
    if kind == "adam":
        return optim.Adam(groups, betas=betas, eps=_EPSILON)
    if kind == "adamw":
        return optim.AdamW(groups, betas=betas, eps=_EPSILON)
    raise UsageError(f"optimiser {kind!r} is not known: one of {', '.join(OPTIMISERS)}")
