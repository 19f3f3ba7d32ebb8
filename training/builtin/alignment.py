"""The closed-form map that joins the two towers: ConSE plus ridge regression, nothing iterated."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from .graph import Array


@dataclass(frozen=True, slots=True)
class Settings:
    """What was chosen by hand on Flickr8k's validation split and `other_val` together."""

    temperature: float = 2.0
    """Divides the class logits before the softmax."""
    conse: float = 0.2
    """Weight of the ConSE vector beside the ridge map."""
    ridge: float = 3.0
    """Penalty of the ridge regression; every feature row has a length of about 1.5."""
    narrow: float = 0.7
    """Weight of the last block's channels among the regression features."""
    whitening: float = 0.3
    """Power of the captions' inverse covariance root: 0 leaves texts alone, 1 whitens fully."""
    floor: float = 1e-4
    """Added to the covariance's eigenvalues, so that empty directions are not blown up."""


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the image tower says of n images, before the alignment."""

    pooled: Array
    """Mean of the last map, (n, 1280)."""
    narrow: Array
    """Mean of the last block's output, before the head widens it, (n, 352)."""
    logits: Array
    """ImageNet class scores, (n, 1000)."""

    @classmethod
    def concatenate(cls, *parts: ImageFeatures) -> ImageFeatures:
        """Join feature rows in order."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, slots=True)
class Alignment:
    """The fitted numbers; d is the dimension of the joint space, 384.

    Shapes: `class_vectors` (1000, d) unit length; `conse_mean`, `text_mean`, `bias` (d,);
    `text_weight` (d, d); `weight` (1280 + 352 + d, d), the direct ConSE part included.
    """

    settings: Settings
    class_vectors: Array
    conse_mean: Array
    text_mean: Array
    text_weight: Array
    weight: Array
    bias: Array

    def features(self, images: ImageFeatures) -> Array:
        """Regression features (n, 1280 + 352 + d)."""
        named = conse(images.logits, self.class_vectors, self.settings) - self.conse_mean
        narrow = self.settings.narrow * unit(images.narrow)
        return np.hstack([unit(np.sqrt(images.pooled)), narrow, unit(named @ self.text_weight)])

    def images(self, images: ImageFeatures) -> Array:
        """Image vectors (n, d), unit length."""
        return unit(self.features(images) @ self.weight + self.bias)

    def texts(self, vectors: Array) -> Array:
        """Sentence vectors (..., d) to text vectors of the joint space, unit length."""
        return unit((vectors - self.text_mean) @ self.text_weight)


def unit(vectors: Array) -> Array:
    """Scale rows to unit length."""
    scaled: Array = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


def conse(logits: Array, class_vectors: Array, settings: Settings) -> Array:
    """ConSE (Norouzi et al. 2014, section 3): class names' vectors, averaged by probability.

    Takes logits (n, classes), returns unit vectors (n, d). Unlike the paper, all classes take part
    and not the best few: recall is the same, and no rounding error moves a class across an edge
    (measured with the best 50: cosines down to 0.997 from errors of 1e-7).
    """
    scaled = logits / settings.temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return unit(weights @ class_vectors)


def whiten(vectors: Array, power: float, floor: float) -> Array:
    """Partial whitening of centred vectors (n, d): C^(-power/2), (d, d), largest gain 1.

    Captions of photographs crowd into few directions (a man, a dog, standing); damping those lets
    the rarer words decide. Full whitening is the text half of CCA (Hardoon et al. 2004).
    """
    values, axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors / len(vectors))
    gains = (values + floor) ** (-power / 2)
    matrix: Array = ((axes * (gains / gains.max())) @ axes.T).astype(np.float32)
    return matrix


def fit(
    settings: Settings, images: ImageFeatures, class_vectors: Array, captions: Array
) -> Alignment:
    """Fit on n training images and their captions' sentence vectors (n, c, d), unit length.

    Ridge regression from the features to the mean of an image's aligned captions.
    """
    text_mean = captions.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    flat = (captions - text_mean).reshape(-1, len(text_mean))
    text_weight = whiten(flat, settings.whitening, settings.floor)
    conse_mean = conse(images.logits, class_vectors, settings).mean(axis=0)
    nothing = np.zeros((0, 0), np.float32)
    start = Alignment(settings, class_vectors, conse_mean, text_mean, text_weight, nothing, nothing)
    targets = start.texts(captions).mean(axis=1).astype(np.float64)
    features = start.features(images).astype(np.float64)
    middle, target_middle = features.mean(axis=0), targets.mean(axis=0)
    features -= middle
    gram = features.T @ features + settings.ridge * np.eye(features.shape[1])
    weight = np.linalg.solve(gram, features.T @ (targets - target_middle))
    bias = target_middle - middle @ weight
    weight[-len(text_mean) :] += settings.conse * np.eye(len(text_mean))
    return Alignment(
        settings,
        class_vectors,
        conse_mean,
        text_mean,
        text_weight,
        weight.astype(np.float32),
        bias.astype(np.float32),
    )
