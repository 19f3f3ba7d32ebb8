"""What a reranker's training tells when it is done. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xsearch.core.paths import displayable


@dataclass(frozen=True, slots=True)
class RerankReport:
    """What a run did. `encoder` is the one that the reranker is for.

    `images` and `captions` were learnt from, `validation` pictures measured on. `figures` are
    recalls in percent on validation after `best_epoch` epochs, whose weights were kept, such as
    `text_to_image@1` with the reranker and `text_to_image_without@1` without; empty without
    validation. `loss` is the mean of the last epoch. `broken` are lines about pictures that
    were left out, being unreadable.
    """

    out: Path
    encoder: str
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
    problems: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {**asdict(self), "out": displayable(self.out), "figures": dict(self.figures)}
