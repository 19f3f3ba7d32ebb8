"""Recall at 1, 5 and 10 in both directions, the measure of Hodosh, Young, Hockenmaier (2013)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .graph import Array

CUTS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Recalls:
    """Percentages at 1, 5 and 10."""

    text_to_image: tuple[float, ...]
    image_to_text: tuple[float, ...]

    def __str__(self) -> str:
        forward, back = (
            " / ".join(f"{value:.1f}" for value in values)
            for values in (self.text_to_image, self.image_to_text)
        )
        return f"{forward} | {back}"


def recall(images: Array, texts: Array, owners: NDArray[np.int64]) -> Recalls:
    """Recall of image vectors (n, d) and text vectors (m, d); text j belongs to image owners[j].

    A caption is found when its image is among the first k of all images; an image when any of
    its captions is among the first k of all captions. A tie counts against.
    """
    images, texts = (kept(vectors) for vectors in (images, texts))
    scores = texts @ images.T
    own = scores[np.arange(len(texts)), owners]
    others_above = (scores >= own[:, None]).sum(axis=1) - 1
    best_own = np.full(len(images), -np.inf, np.float32)
    np.maximum.at(best_own, owners, own)
    foreign = owners[:, None] != np.arange(len(images))
    texts_above = ((scores >= best_own) & foreign).sum(axis=0)
    forward, back = (
        tuple(float((above < k).mean() * 100) for k in CUTS)
        for above in (others_above, texts_above)
    )
    return Recalls(forward, back)


def kept(vectors: Array) -> Array:
    """The vectors as the vector store keeps them: rounded to float16."""
    return vectors.astype(np.float16).astype(np.float32)
