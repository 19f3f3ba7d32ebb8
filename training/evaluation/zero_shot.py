"""Classification without training: a picture gets the class whose name fits it best.

Where classes lie is `xsearch.retrieval.zero_shot`'s matter. As in retrieval, vectors are rounded
to float16 and ties count against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.core.errors import UsageError
from xsearch.retrieval.phrases import TEMPLATES

from .bootstrap import Estimate, estimates
from .metrics import Array, Float64, Int64, similarities_to_all

CUTS = (1, 5)

Truth = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class: how many pictures have it, and shares in percent."""

    name: str
    pictures: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Classification:
    """How well pictures were put into classes; figures in percent.

    figures: `accuracy@k` (a true class is among the k best), and `precision`, `recall` and `f1`,
        each the plain mean over the classes that some picture has (macro average).
    classes: all classes a picture could be put in, those without a picture included.
    """

    pictures: int
    templates: tuple[str, ...]
    figures: Mapping[str, Estimate]
    classes: tuple[ClassFigures, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "pictures": self.pictures,
            "templates": list(self.templates),
            "figures": {name: estimate.to_dict() for name, estimate in self.figures.items()},
            "classes": [asdict(found) for found in self.classes],
        }


def classify(
    images: Array,
    classes: Array,
    truth: Truth,
    names: Sequence[str],
    *,
    templates: Sequence[str] = TEMPLATES,
    samples: int = 0,
    seed: int = 0,
) -> Classification:
    """Put images (n, d) into classes (c, d); truth (n, c) says which classes each one has.

    A picture of several classes is given as many as it has, the best ones, for precision,
    recall and F1; with one class each this is plain classification. A class that was never given
    has a precision of 0. Raises UsageError where shapes do not fit or a picture has no class.
    """
    if truth.shape != (len(images), len(classes)) or len(names) != len(classes):
        raise UsageError(f"{len(images)} images and {len(classes)} classes: truth {truth.shape}")
    wanted = truth.sum(axis=1)
    if not len(images) or wanted.min() == 0:
        raise UsageError("nothing to classify: every picture needs a class")
    first, given = _predict(images, classes, truth, wanted)
    hits = np.stack([(first <= k) * 100.0 for k in CUTS], axis=1)
    counts = _Counts.of(given, truth)

    def statistic(weights: Int64) -> Float64:
        per_class, pictures = counts.figures(weights)
        # A class without a picture in this sample has no recall to speak of.
        macro = per_class[:, pictures > 0].mean(axis=1)
        return np.append(weights @ hits / weights.sum(), macro)

    found = estimates(statistic, np.arange(len(images)), samples=samples, seed=seed)
    labels = [*(f"accuracy@{k}" for k in CUTS), "precision", "recall", "f1"]
    per_class, pictures = counts.figures(np.ones(len(images), np.int64))
    return Classification(
        len(images),
        tuple(templates),
        dict(zip(labels, found, strict=True)),
        tuple(
            ClassFigures(name, int(count), *map(float, row))
            for name, count, row in zip(names, pictures, per_class.T, strict=True)
        ),
    )


def _predict(
    images: Array, classes: Array, truth: Truth, wanted: Int64
) -> tuple[Int64, NDArray[np.bool_]]:
    """Rank of the best true class, (n,), and the classes given, as many as wanted, (n, c)."""
    first = np.empty(len(images), np.int64)
    given = np.zeros(truth.shape, np.bool_)
    for rows, scores in similarities_to_all(images, classes):
        # Best first; among equals the false ones, since a tie counts against.
        order = np.lexsort((truth[rows], -scores), axis=1)
        first[rows] = np.take_along_axis(truth[rows], order, axis=1).argmax(axis=1) + 1
        chosen = np.arange(truth.shape[1]) < wanted[rows][:, None]
        np.put_along_axis(given[rows], order, chosen, axis=1)
    return first, given


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Which pictures count for which class: pairs of rows and columns of the set bits of masks.

    Pairs rather than masks: a thousand resamplings over a thousand classes take seconds.
    """

    right: tuple[Int64, ...]
    given: tuple[Int64, ...]
    true: tuple[Int64, ...]
    classes: int

    @classmethod
    def of(cls, given: Truth, truth: Truth) -> _Counts:
        right, told, true = (np.nonzero(mask) for mask in (given & truth, given, truth))
        return cls(right, told, true, truth.shape[1])

    def figures(self, weights: Int64) -> tuple[Float64, Float64]:
        """Precision, recall and F1 of each class in percent (3, c), and its pictures (c,).

        Pictures count as often as their weights (n,) say.
        """
        right, given, true = (
            np.bincount(columns, weights[rows], self.classes).astype(np.float64)
            for rows, columns in (self.right, self.given, self.true)
        )
        precision = right / np.maximum(given, 1)
        recall = right / np.maximum(true, 1)
        f1 = 2 * right / np.maximum(given + true, 1)
        return np.stack([precision, recall, f1]) * 100, true
