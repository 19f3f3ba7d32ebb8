"""Labels without training: how probable it is that a picture shows what a label says.

Each label is put into several sentences, whose vectors are averaged and scaled to unit length
again (Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision", 3.1.4).

A cosine alone does not say whether a label fits: some pictures are close to every text. So each
picture is compared with common subjects, too, as in NegLabel (Jiang et al. 2024, "Negative Label
Guided OOD Detection with Pretrained Vision-Language Models"), and a label has to fit better than
those do. With cosines c to a label and b_1 .. b_m to the subjects, and the encoder's scale s,

    background = 2 / s * log(mean(exp(s / 2 * b_j)))
    evidence   = s * (c - background) - margin

is the log of how much likelier the picture is if the label fits than if it does not. Subjects
are weighed with half the scale, so that one that is the label itself does not count against it
much. Priors turn evidence into probabilities: `SHARE` of the pictures are taken to show one of
the labels, each as often, where only one can fit; `PRIOR` of them each label where any may.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.encoder import DualEncoder, LabelEncoder, LabelScale
from xsearch.core.errors import UsageError
from xsearch.core.query import TruncationWarning

from .phrases import SUBJECTS, TEMPLATES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import Float32

SHARE = 0.5
"""Assumed share of pictures that show one of the labels, where only one can fit."""
PRIOR = 0.1
"""Assumed share of pictures that a label fits where any may, as in the scores of a search."""
_SUBJECT = ("a photo of a {}.",)


def class_vectors(
    encoder: DualEncoder, names: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Float32:
    """Unit vectors (c, dim) of classes: the mean over the templates, `{}` being the name.

    Raises UsageError where there is no template, or one has no place for the name.
    """
    return _embed(encoder, names, templates)[0]


def _embed(
    encoder: DualEncoder, names: Sequence[str], templates: Sequence[str]
) -> tuple[Float32, NDArray[np.bool_]]:
    """Unit vectors (c, dim), and which of the names were cut in some sentence, (c,)."""
    for template in templates:
        if "{}" not in template:
            raise UsageError(f"the template {template!r} has no {{}}, the place for a class name")
    if not templates:
        raise UsageError("no templates: one such as 'a photo of a {}.' is needed")
    total = np.zeros((len(names), encoder.dim))
    cut = np.zeros(len(names), np.bool_)
    for template in templates:
        # Not str.format: a class name or template may have other braces.
        found = encoder.embed_texts([template.replace("{}", name) for name in names])
        total += found.vectors
        cut |= found.cut
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.maximum(length, 1e-12)).astype(np.float32), cut


def clean(labels: str | Iterable[str]) -> tuple[str, ...]:
    """Labels without space around them, each once, in their order; a `str` is one label.

    Raises UsageError: there is none, or one is empty.
    """
    given = [labels] if isinstance(labels, str) else labels
    names = [" ".join(label.split()) for label in given]
    if not all(names):
        raise UsageError("a label is empty: leave it out, or say what to look for")
    if not names:
        raise UsageError("no labels: name at least one, such as --labels cat,dog")
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(name.casefold(), name)
    return tuple(found.values())


def label_scale(encoder: DualEncoder) -> LabelScale:
    """What turns an encoder's cosines into evidence: fitted, or else from its scores.

    Scores are fitted on, or derived from, pairs of pictures and whole sentences: their slope is
    near that of labels.
    """
    own = encoder.labels if isinstance(encoder, LabelEncoder) else None
    return own or LabelScale(max(encoder.calibration("text", "image").slope, 1e-3))


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels ready to be compared with pictures.

    `vectors` is (c, dim), `subjects` (m, dim), unit length.
    """

    names: tuple[str, ...]
    vectors: Float32
    subjects: Float32
    scale: LabelScale

    @classmethod
    def of(
        cls,
        encoder: DualEncoder,
        labels: str | Iterable[str],
        templates: Sequence[str] = TEMPLATES,
    ) -> Labels:
        """Embed labels with an encoder; one that is too long is cut, with a warning.

        Raises UsageError: an empty label, none at all, or templates that cannot be used.
        """
        names = clean(labels)
        vectors, cut = _embed(encoder, names, templates)
        for name in np.array(names, dtype=object)[cut]:
            warnings.warn(
                f"the label {name[:40]!r}... is longer than the encoder {encoder.name} reads; its "
                "end was ignored",
                TruncationWarning,
                stacklevel=2,
            )
        return cls(names, vectors, class_vectors(encoder, SUBJECTS, _SUBJECT), label_scale(encoder))

    def evidence(self, images: Float32) -> Float32:
        """Log-odds (n, c) that each label fits rather than not, for unit vectors (n, dim)."""
        scale = np.float32(self.scale.scale)
        others = images @ self.subjects.T * (scale / 2)
        highest = others.max(axis=1, keepdims=True)
        mean = np.exp(others - highest).mean(axis=1, keepdims=True)
        background = 2 * (highest + np.log(mean))
        evidence: Float32 = images @ self.vectors.T * scale - background - self.scale.margin
        return evidence

    def among(self, images: Float32) -> Float32:
        """Probabilities (n, c) where one label fits at most; what is left to 1 is for none."""
        logits = self.evidence(images) + math.log(SHARE / len(self.names))
        none = math.log(1 - SHARE)
        highest = np.maximum(logits.max(axis=1, keepdims=True), none)
        weights = np.exp(logits - highest)
        total = weights.sum(axis=1, keepdims=True) + np.exp(none - highest)
        probabilities: Float32 = (weights / total).astype(np.float32)
        return probabilities

    def each(self, images: Float32) -> Float32:
        """Probabilities (n, c) where each label may fit or not, whatever the others do."""
        logits = self.evidence(images) + math.log(PRIOR / (1 - PRIOR))
        # The logistic function, in a form that cannot overflow.
        probabilities: Float32 = (0.5 + 0.5 * np.tanh(0.5 * logits)).astype(np.float32)
        return probabilities
