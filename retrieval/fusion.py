"""Fusion: an image vector and a text vector of one joint space become one vector of it."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from xsearch.core.errors import EncoderError, UsageError
from xsearch.core.paths import displayable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import DualEncoder

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
        check_dim(images, len(self.bias))
        return unit(np.concatenate([images, texts], axis=1) @ self.weight.T + self.bias)


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """A weighted sum, and a learnt change of it that depends on both vectors together.

    image + `share` x text + `outer` max(0, `inner` [image, text] + `inner_bias`) + `outer_bias`,
    scaled to unit length: `inner` (h, 2 dim), `inner_bias` (h,), `outer` (dim, h), `outer_bias`
    (dim,). The residual of Vo et al. 2019, "Composing Text and Image for Image Retrieval", on
    pooled vectors and without its gate.

    `xsearch.training.fusion` learns it.

    Raises UsageError: shapes that do not match, or values that are not finite.
    """

    share: Float32
    inner: Float32
    inner_bias: Float32
    outer: Float32
    outer_bias: Float32

    def __post_init__(self) -> None:
        shapes = [getattr(self, field.name).shape for field in fields(self)]
        dim, hidden = len(np.atleast_1d(self.outer_bias)), len(np.atleast_1d(self.inner_bias))
        if shapes != [(), (hidden, 2 * dim), (hidden,), (dim, hidden), (dim,)]:
            raise UsageError(
                "a fusion's arrays are (), (h, 2 dim), (h,), (dim, h) and (dim,), not "
                f"{', '.join(map(str, shapes))}"
            )
        if not all(np.isfinite(getattr(self, field.name)).all() for field in fields(self)):
            raise UsageError("a fusion's values must be finite")

    def __call__(self, images: Float32, texts: Float32) -> Float32:
        """See `Fusion`."""
        check(images, texts)
        check_dim(images, len(self.outer_bias))
        both = np.concatenate([images, texts], axis=1)
        hidden = np.maximum(both @ self.inner.T + self.inner_bias, 0)
        change = hidden @ self.outer.T + self.outer_bias
        return unit(images + self.share * texts + change)


Learnt = Concatenation | Residual


def check(images: Float32, texts: Float32) -> None:
    """Raise UsageError unless both are (n, dim)."""
    if images.ndim != 2 or images.shape != texts.shape:
        raise UsageError(
            f"fusion takes as many image as text vectors of one length, got {images.shape} and "
            f"{texts.shape}"
        )


def check_dim(images: Float32, dim: int) -> None:
    """Raise UsageError unless vectors are of a learnt fusion's dimension."""
    if images.shape[1] != dim:
        raise UsageError(
            f"a fusion of {dim} dimensions was given {images.shape[1]}: it belongs to another "
            "encoder"
        )


def unit(vectors: Float32) -> Float32:
    """Scale rows to unit length, in float32; a row of zeros stays so."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = vectors / np.where(lengths > 0, lengths, 1)
    return scaled.astype(np.float32)


def save_fusion(fusion: Learnt, path: Path, fingerprint: str = "") -> None:
    """Write a learnt fusion as `.npz`, whole or not at all; `fingerprint` names its encoder."""
    partial = path.with_name(path.name + ".partial")
    arrays: dict[str, Any] = {one.name: getattr(fusion, one.name) for one in fields(fusion)}
    with partial.open("wb") as stream:
        np.savez(stream, format=FORMAT, fingerprint=fingerprint, **arrays)
    partial.replace(path)


def load_fusion(path: Path) -> Learnt:
    """Read what `save_fusion` wrote. Nothing in the file is run: arrays only, no pickles.

    Raises EncoderError: the file is missing, damaged, or of another version.
    """
    return _load(path)[0]


def fusion_for(encoder: DualEncoder) -> Learnt | None:
    """What was learnt to join a picture and words in an encoder's space, if it ships with xsearch.

    Raises EncoderError: the file is damaged.
    """
    place = _shipped()
    if not place.is_file():
        return None
    fusion, fingerprint = _read_shipped(place)
    return fusion if fingerprint == encoder.fingerprint else None


def _shipped() -> Path:
    import xsearch.data

    return Path(xsearch.data.__path__[0]) / "builtin" / FILE


@cache
def _read_shipped(place: Path) -> tuple[Learnt, str]:
    return _load(place)


def _load(path: Path) -> tuple[Learnt, str]:
    """A fusion, and the fingerprint of its encoder."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if int(arrays["format"]) != FORMAT:
                raise EncoderError(
                    f"{displayable(path)}: a fusion of format {arrays['format']}, this version "
                    f"reads {FORMAT}. Update xsearch."
                )
            kind: type[Learnt] = Residual if "inner" in arrays else Concatenation
            values = {one.name: arrays[one.name].astype(np.float32) for one in fields(kind)}
            fingerprint = str(arrays["fingerprint"])
        return kind(**values), fingerprint
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise EncoderError(
            f"{displayable(path)}: not a fusion that can be read ({error}). Train it again."
        ) from error
    except UsageError as error:
        raise EncoderError(f"{displayable(path)}: {error}. Train it again.") from error
