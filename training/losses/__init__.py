"""Losses of contrastive training, one file each.

`infonce`, `sigmoid` and `triplet` are called with images (n, d), texts (n, d) and, optionally,
owners (n,); the others as their classes say. All return a scalar in fp32.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

require("torch", "train", "training")

from torch import nn  # noqa: E402

from .batch import average_gradients, gather, processes  # noqa: E402
from .classification import ConceptClassification  # noqa: E402
from .distillation import AnchorDistillation, SimilarityDistillation  # noqa: E402
from .infonce import InfoNCE  # noqa: E402
from .sigmoid import Sigmoid  # noqa: E402
from .temperature import Temperature  # noqa: E402
from .triplet import Triplet  # noqa: E402

CONTRASTIVE: Mapping[str, type[nn.Module]] = {
    "infonce": InfoNCE,
    "sigmoid": Sigmoid,
    "triplet": Triplet,
}
LOSSES: Mapping[str, type[nn.Module]] = {
    **CONTRASTIVE,
    "concepts": ConceptClassification,
    "similarities": SimilarityDistillation,
    "anchor": AnchorDistillation,
}

__all__ = [
    "CONTRASTIVE",
    "LOSSES",
    "AnchorDistillation",
    "ConceptClassification",
    "InfoNCE",
    "Sigmoid",
    "SimilarityDistillation",
    "Temperature",
    "Triplet",
    "average_gradients",
    "build_loss",
    "gather",
    "processes",
]


def build_loss(
    kind: str, settings: Mapping[str, Any], dim: int, *, frequencies: Sequence[float] = ()
) -> nn.Module:
    """The loss of a kind in `LOSSES`, with its own settings as a config file has them.

    `dim` is that of the joint space; `frequencies`, those of the concepts in the training set,
    are for the kind `concepts`.

    Raises UsageError: the kind or a setting is unknown, or a value cannot be.
    """
    if kind not in LOSSES:
        raise UsageError(f"loss {kind!r} is not known: one of {', '.join(LOSSES)}")
    if kind == "concepts":
        _refuse_unknown(kind, settings, ())
        return ConceptClassification(dim, frequencies)
    made = LOSSES[kind]
    parameters = inspect.signature(made).parameters.values()
    known = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    _refuse_unknown(kind, settings, known)
    return made(**settings)


def _refuse_unknown(kind: str, settings: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in settings:
        if name not in known:
            has = ", ".join(known) or "none"
            raise UsageError(f"loss {kind!r} has no setting {name!r}: it has {has}")
