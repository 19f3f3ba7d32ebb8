"""A model, its loss and its optimiser: one step at a time, and all of it as a state to save."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.core.errors import TrainingError
from xsearch.core.extras import require

from .average import MovingAverage
from .distributed import Processes, average_buffers, mean_of, same_everywhere
from .gradcache import cached_backward
from .losses import average_gradients
from .model import TextBatch, TrainableEncoder
from .objective import Encoded, Objective, Start
from .optimise import (
    Rates,
    build_optimiser,
    freeze,
    parameter_groups,
    rate_factor,
    set_rates,
    settle_frozen,
    unfrozen,
)

if TYPE_CHECKING:
    from .batches import Batch
    from .config import TrainConfig
    from .teacher import Teacher

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

Concepts = Callable[[np.ndarray[Any, np.dtype[np.int64]]], Tensor]
"""Numbers of records (n,) to what their captions name, (n, concepts), 0 or 1."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step was like: the loss, the norm of the gradient before clipping, the rate."""

    loss: float
    norm: float
    rate: float


class DivergedError(Exception):
    """The loss or the gradient is not a finite number; nothing was changed."""


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """What the terms of the loss know of records: their owners, a teacher, their concepts."""

    owners: Sequence[int]
    teacher: Teacher | None = None
    concepts: Concepts | None = None
    frequencies: Sequence[float] = ()


class Learner:
    """Takes the steps of a training; `steps` is how many there will be in all.

    A step's random numbers follow from seed, step and process, so that a run which goes on from
    a saved state draws what it would have drawn.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: TrainableEncoder,
        sources: Sources,
        device: torch.device,
        processes: Processes,
        steps: int,
    ) -> None:
        self.config = config
        self.device = device
        self.steps = steps
        self._processes = processes
        self._sources = sources
        self._owners = torch.tensor(sources.owners, dtype=torch.int64)
        self.start = Start(model).to(device) if config.loss.anchor else None
        self.model = _placed(model, device, config.run.channels_last)
        self.objective = Objective(config.loss, model, sources.frequencies).to(device)
        same_everywhere(self.model)
        same_everywhere(self.objective)
        self._layers = model.layers()
        self._rates = _rates(config)
        self.optimiser = build_optimiser(
            config.optimiser.name,
            parameter_groups(
                self._layers,
                self._rates,
                weight_decay=config.optimiser.weight_decay,
                others=self.objective.parameters(),
                others_rate=config.optimiser.loss_rate,
            ),
            betas=config.optimiser.betas,
            momentum=config.optimiser.momentum,
        )
        self.average = MovingAverage(model, config.ema.decay) if config.ema.decay else None
        self._type = _autocast_type(config.run.precision, device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._type is torch.float16)
        self._learning: tuple[int, ...] | None = None

    def step(self, step: int, batches: Sequence[Batch]) -> Taken:
        """Take step number `step`, from 0.

        Raises DivergedError where loss or gradient is not finite.
        """
        torch.manual_seed(_mixed(self.config.seed, step, self._processes.rank))
        factor = self._factor(step)
        set_rates(self.optimiser, factor)
        self._thaw(step)
        self.optimiser.zero_grad(set_to_none=True)
        losses = [self._backward(batch, len(batches)) for batch in batches]
        average_gradients([*self.model.parameters(), *self.objective.parameters()])
        loss = mean_of(torch.stack(losses).sum())
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss}")
        self._scaler.unscale_(self.optimiser)
        learning = [each for each in self._parameters() if each.grad is not None]
        limit = self.config.optimiser.clip or math.inf
        norm = float(nn.utils.clip_grad_norm_(learning, limit))
        # Scaled gradients overflow now and then; the scaler leaves such a step out.
        if not math.isfinite(norm) and not self._scaler.is_enabled():
            raise DivergedError(f"the norm of the gradient is {norm}")
        self._scaler.step(self.optimiser)
        self._scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        return Taken(loss, norm, self.config.optimiser.rate * factor)

    @contextmanager
    def kept_weights(self) -> Iterator[TrainableEncoder]:
        """The model with the weights that are measured and kept: the average, if there is one."""
        if not self.config.freezing.statistics:
            average_buffers(self.model)
        if self.average is None:
            yield self.model
        else:
            with self.average.swapped(self.model):
                yield self.model

    def is_finite(self) -> bool:
        """Whether the weights have finite norms: a step can spoil them whose loss was finite."""
        with torch.no_grad():
            return all(math.isfinite(float(each.norm())) for each in self._parameters())

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on exactly here."""
        return {
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; rates and the like are those of the settings.

        Raises TrainingError where it is of another model or other settings.
        """
        settings = [_settings(group) for group in self.optimiser.param_groups]
        try:
            self.model.load_state_dict(state["model"])
            self.objective.load_state_dict(state["objective"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self._scaler.is_enabled() and state["scaler"]:
                self._scaler.load_state_dict(state["scaler"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            first = str(error).strip().partition("\n")[0]
            raise TrainingError(f"the checkpoint is of another model: {first}") from error
        for group, kept in zip(self.optimiser.param_groups, settings, strict=True):
            group.update(kept)

    def _parameters(self) -> Iterator[nn.Parameter]:
        for group in self.optimiser.param_groups:
            yield from group["params"]

    def _factor(self, step: int) -> float:
        schedule = self.config.schedule
        warmup = round(schedule.warmup * self.steps)
        return rate_factor(step, self.steps, warmup=warmup, floor=schedule.floor)

    def _thaw(self, step: int) -> None:
        """Let learn what does at this step; the rest of the modules just answers."""
        epoch = step / self.steps * self.config.schedule.epochs
        pace = self.config.freezing.unfreeze
        counts = tuple(unfrozen(epoch, pace, len(stack)) for stack in self._layers.values())
        if counts == self._learning and self.model.training:
            return
        self._learning = counts
        freeze(self._layers, self._rates, epoch=epoch, per_epoch=pace)
        self.model.train()
        settle_frozen(self.model)
        if self.config.freezing.statistics:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _backward(self, batch: Batch, parts: int) -> Tensor:
        """Add a batch's gradients, divided by how many batches the step has; its loss, likewise."""
        pixels = torch.from_numpy(batch.pixels).to(self.device)
        texts = self.model.tokenize(batch.texts).to(self.device)
        known = self._known(batch, pixels, texts)
        size = self.config.batch.chunk or len(pixels)
        chunks = [
            (pixels[at : at + size], texts[at : at + size]) for at in range(0, len(pixels), size)
        ]

        def loss(images: Tensor, captions: Tensor) -> Tensor:
            value: Tensor = self.objective(images, captions, known) / parts
            plain.append(value.detach())
            return self._scaler.scale(value)

        plain: list[Tensor] = []
        if len(chunks) == 1:
            loss(*self._encode(chunks[0])).backward()  # type: ignore[no-untyped-call]
        else:
            cached_backward(self._encode, chunks, loss)
        return plain[0]

    def _encode(self, chunk: tuple[Tensor, TextBatch]) -> tuple[Tensor, Tensor]:
        with self._autocast():
            images = self.model.encode_images(chunk[0])
            texts = self.model.encode_texts(chunk[1])
        return images.float(), texts.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._type, enabled=self._type is not None)

    def _known(self, batch: Batch, pixels: Tensor, texts: TextBatch) -> Encoded:
        """What the terms of the loss need of a batch."""
        anchors = taught = concepts = None
        if self.start is not None:
            with self._autocast():
                anchors = self.start.vectors(pixels, texts)
        if self._sources.teacher is not None:
            teacher = self._sources.teacher
            found = teacher.images(batch.records), teacher.texts(batch.texts)
            taught = torch.from_numpy(found[0]), torch.from_numpy(found[1])
        if self._sources.concepts is not None:
            concepts = self._sources.concepts(batch.records)
        owners = self._owners[torch.from_numpy(batch.records)].to(self.device)
        return Encoded(owners, anchors, taught, concepts)


def device_of(name: str, processes: Processes) -> torch.device:
    """The device that the settings name; `auto` is the fastest there is.

    Raises TrainingError where it is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            name = f"cuda:{processes.local_rank}"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).strip().partition("\n")[0]
        raise TrainingError(f"the device {name!r} cannot be used: {first}") from error
    return device


def _placed(model: TrainableEncoder, device: torch.device, channels_last: bool) -> TrainableEncoder:
    placed = model.to(device)
    return placed.to(memory_format=torch.channels_last) if channels_last else placed


def _rates(config: TrainConfig) -> dict[str, Rates]:
    optimiser, freezing = config.optimiser, config.freezing
    rate, decay = optimiser.rate, optimiser.layer_decay

    def locked(tower: str) -> bool:
        return freezing.lock in (tower, "both")

    def given(value: float | None) -> float:
        return rate if value is None else value

    return {
        "image": Rates(rate, decay, freezing.image, locked("image")),
        "text": Rates(given(optimiser.text_rate), decay, freezing.text, locked("text")),
        "head": Rates(given(optimiser.head_rate)),
    }


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The number format of matrix products; None for fp32.

    bf16 was slower than fp32 on CPUs without units for it, so only a GPU takes it by itself.
    """
    if precision == "auto":
        on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if on_gpu else None
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _mixed(seed: int, step: int, rank: int) -> int:
    """One 63-bit seed of three numbers."""
    state = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]
    return int(state) >> 1
