"""Fusion: an image vector and a text vector of one joint space become one vector of it."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from xsearch.core.errors import EncoderError, UsageError
from xsearch.core.paths import displayable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]

FILE = "fusion.npz"
FORMAT = 1


class Fusion(Protocol):
    """Makes one vector of an image's and a text's: an item of both, or a query of both."""

    def __call__(self, images: Float32, texts: Float32) -> Float32:
        """Fused vectors (n, dim), unit length, of unit vectors (n, dim) and (n, dim).

        A pair that cancels out, leaving no direction, becomes 0, which is like nothing.

        Raises UsageError: shapes that do not match.
        """


@dataclass(frozen=True, slots=True)
class WeightedAverage:
    """`weight` x image + (1 - `weight`) x text, scaled to unit length.

    Raises UsageError: the weight is not from 0 to 1.
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise UsageError(f"weight = {self.weight}: the image's share is from 0 to 1")

    def __call__(self, images: Float32, texts: Float32) -> Float32:
        """See `Fusion`."""
        check(images, texts)
        return unit(self.weight * images + (1 - self.weight) * texts)


@dataclass(frozen=True, slots=True)
class Product:
    """Element-wise product, scaled to unit length: what image and text agree on, without its sign.

    It compares with other products, not with image or text vectors.
    """

    def __call__(self, images: Float32, texts: Float32) -> Float32:
        """See `Fusion`."""
        check(images, texts)
        return unit(images * texts)


@dataclass(frozen=True, slots=True, eq=False)
class Concatenation:
    """A learnt map of both vectors, one after the other: `weight` (dim, 2 dim) and `bias` (dim,).

    `xsearch.training.fusion` learns it.

    Raises UsageError: shapes that do not match, or values that are not finite.
    """

    weight: Float32
    bias: Float32

    def __post_init__(self) -> None:
        if self.bias.ndim != 1 or self.weight.shape != (len(self.bias), 2 * len(self.bias)):
            raise UsageError(
                f"a fusion's weight is (dim, 2 dim) and its bias (dim,), not {self.weight.shape} "
                f"and {self.bias.shape}"
            )
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise UsageError("a fusion's weight and bias must be finite")

    def __call__(self, images: Float32, texts: Float32) -> Float32:
        """See `Fusion`."""
        check(images, texts)
        if images.shape[1] != len(self.bias):
            raise UsageError(
                f"a fusion of {len(self.bias)} dimensions was given {images.shape[1]}: it belongs "
                "to another encoder"
            )
        return unit(np.concatenate([images, texts], axis=1) @ self.weight.T + self.bias)


def check(images: Float32, texts: Float32) -> None:
    """Raise UsageError unless both are (n, dim)."""
    if images.ndim != 2 or images.shape != texts.shape:
        raise UsageError(
            f"fusion takes as many image as text vectors of one length, got {images.shape} and "
            f"{texts.shape}"
        )


def unit(vectors: Float32) -> Float32:
    """Scale rows to unit length, in float32; a row of zeros stays so."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = vectors / np.where(lengths > 0, lengths, 1)
    return scaled.astype(np.float32)


def save_fusion(fusion: Concatenation, path: Path) -> None:
    """Write a learnt fusion as `.npz`, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as stream:
        np.savez(stream, format=FORMAT, weight=fusion.weight, bias=fusion.bias)
    partial.replace(path)


def load_fusion(path: Path) -> Concatenation:
    """Read what `save_fusion` wrote. Nothing in the file is run: arrays only, no pickles.

    Raises EncoderError: the file is missing, damaged, or of another version.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if int(arrays["format"]) != FORMAT:
                raise EncoderError(
                    f"{displayable(path)}: a fusion of format {arrays['format']}, this version "
                    f"reads {FORMAT}. Update xsearch."
                )
            weight, bias = (arrays[name].astype(np.float32) for name in ("weight", "bias"))
        return Concatenation(weight, bias)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise EncoderError(
            f"{displayable(path)}: not a fusion that can be read ({error}). Train it again."
        ) from error
    except UsageError as error:
        raise EncoderError(f"{displayable(path)}: {error}. Train it again.") from error
