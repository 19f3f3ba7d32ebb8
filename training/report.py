"""What a training run tells when it is done. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xsearch.core.paths import displayable


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a run did. `out` is the encoder's folder, `fingerprint` names its space.

    `images` and `captions` were learnt from, `validation` pictures measured on. `figures` are the
    percentages of the weights that were kept, those after `best_epoch` epochs; empty without
    validation. `loss` is the mean of the last epoch, `seconds` the time of this process alone.
    `broken` lists pictures that could not be read, `leaks` counts those left out because they
    are in what is held out, `problems` are further lines for people.
    """

    out: Path
    fingerprint: str
    epochs: int
    steps: int
    images: int
    captions: int
    validation: int
    loss: float
    best_epoch: int
    figures: Mapping[str, float]
    seconds: float
    leaks: int = 0
    broken: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {**asdict(self), "out": displayable(self.out), "figures": dict(self.figures)}
