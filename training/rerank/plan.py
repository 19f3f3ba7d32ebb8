"""What a reranker learns in which step: three stages, their epochs, and the rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from .hard import groups

if TYPE_CHECKING:
    from .config import RerankConfig

    Indices = NDArray[np.int64]

Stage = Literal["align", "compose", "match"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """Steps of one stage, from `first` until `end`, after which all is saved. `number` is from 0;
    `begun` and `done` are the first step of the stage, and the step after its last.
    """

    number: int
    stage: Stage
    first: int
    end: int
    begun: int
    done: int

    @property
    def deep(self) -> bool:
        """Whether cross layers take part in what pictures and scenes are matched by."""
        return self.stage != "align"


class Plan:
    """Which pictures are in which step: the same ones for a seed and an epoch.

    Of `align` (see `config.AlignConfig`) groups are as large as a step; `compose` takes made-up
    scenes alone, and is left out where there are none; `match` takes groups of neighbours.

    Args:
        config: the settings.
        near: the pictures most like each one, (n, k), nearest first.
        claims: what each picture is said to show, (n,): equal ones are never in one group.
        scenes: whether there are made-up scenes.
    """

    def __init__(
        self, config: RerankConfig, near: Indices, claims: Indices, *, scenes: bool
    ) -> None:
        self._config, self._near, self._claims = config, near, claims
        size = min(config.batch.pictures, len(near))
        self.steps = max(len(near) // size - 1, 1)
        """Steps of an epoch of pictures, at least; what is left over is left out."""
        compose = config.compose
        stages: list[tuple[Stage, int, int]] = [
            ("align", config.align.epochs, self.steps),
            ("compose", compose.epochs if scenes else 0, compose.steps),
            ("match", config.schedule.epochs, self.steps),
        ]
        self.epochs: list[Epoch] = []
        begun = 0
        for stage, count, steps in stages:
            for at in range(count):
                first, number = begun + at * steps, len(self.epochs)
                done = begun + count * steps
                self.epochs.append(Epoch(number, stage, first, first + steps, begun, done))
            begun += count * steps
        self.total = begun
        """Steps of all."""

    def at(self, step: int) -> Epoch:
        """The epoch of a step, which counts from 0."""
        return next(epoch for epoch in self.epochs if step < epoch.end)

    def groups(self, epoch: Epoch) -> list[Indices | None]:
        """Of each step of an epoch its groups of pictures, (n, group); None: scenes alone."""
        if epoch.stage == "compose":
            return [None] * (epoch.end - epoch.first)
        random = np.random.default_rng([self._config.seed, epoch.number])
        batch = self._config.batch
        pictures = min(batch.pictures, len(self._near))
        size = pictures if epoch.stage == "align" else min(batch.group, pictures)
        # No group is larger than there are claims, of which it holds one each.
        size = min(size, len(np.unique(self._claims)))
        each = pictures // size
        found = groups(self._near, self._claims, size, random)
        while len(found) < each * self.steps:  # where many pictures share few claims
            found = np.concatenate([found, groups(self._near, self._claims, size, random)])
        return [found[at * each : (at + 1) * each] for at in range(self.steps)]

    def rate(self, step: int) -> float:
        """The rate of a step: in each stage a linear warm-up, then half a cosine."""
        config, epoch = self._config, self.at(step)
        rates = {
            "align": config.align.rate,
            "compose": config.compose.rate,
            "match": config.optimiser.rate,
        }
        rate, steps, at = rates[epoch.stage], epoch.done - epoch.begun, step - epoch.begun
        warm = max(1.0, config.schedule.warmup * steps)
        if at < warm:
            return rate * (at + 1) / warm
        done = (at - warm) / max(steps - warm, 1)
        share = (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return rate * (config.schedule.floor + (1 - config.schedule.floor) * share)
