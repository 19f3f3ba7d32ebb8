"""The encoder contract: what any dual encoder offers to indexing and search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Float32 = NDArray[np.float32]
    UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TextEmbeddings:
    """Text vectors, and which of the texts were longer than the encoder reads.

    `vectors` is float32 (n, dim), unit length; `cut` is bool (n,).
    """

    vectors: Float32
    cut: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Logistic:
    """score = 1 / (1 + exp(-(slope * similarity + intercept)))."""

    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class LabelScale:
    """How cosines of pictures and labels become probabilities, see `retrieval/zero_shot.py`.

    `scale` is how much a cosine counts: for encoders trained with a softmax or sigmoid of scaled
    cosines, that scale. `margin` is how much more than the background, in units of log-odds, a
    label has to fit; by default about as much as was fitted for the built-in encoder.
    """

    scale: float
    margin: float = 1.1


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What a library records of an encoder; `source` (a name or a folder) loads it again."""

    name: str
    source: str
    fingerprint: str
    dim: int
    runtime: str
    precision: str


@runtime_checkable
class DualEncoder(Protocol):
    """One image tower and one text tower into one joint space, with its preprocessing.

    An embedding never depends on what else is in its batch, nor on padding: alone against in
    a batch, the cosine is at least 0.9999.
    """

    @property
    def info(self) -> EncoderInfo:
        """Name, fingerprint, dimension, runtime and precision."""

    @property
    def name(self) -> str:
        """The name that people use for it, such as `builtin`."""

    @property
    def fingerprint(self) -> str:
        """Names the joint space: vectors of different fingerprints are never compared."""

    @property
    def dim(self) -> int:
        """Dimensions of the joint space."""

    @property
    def image_size(self) -> int:
        """Pixels of a side that decoding should aim for, at least that of the square input."""

    def preprocess(self, image: Image.Image) -> UInt8:
        """Turn an upright RGB picture into uint8 (S, S, 3). Runs in decode threads."""

    def embed_images(self, batch: UInt8) -> Float32:
        """Embed uint8 (n, S, S, 3) into float32 (n, dim), unit length."""

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Embed texts into float32 (n, dim), unit length; says which were cut."""

    def calibration(self, query: str, target: str) -> Logistic:
        """The logistic from cosine to score for a pair of kinds (`image`, `text`)."""


@runtime_checkable
class RegionEncoder(Protocol):
    """Optional: the towers' parts before pooling, for reranking and explanation."""

    def regions(self, batch: UInt8) -> Float32:
        """Region features of uint8 (n, S, S, 3): float32 (n, R, C), row-major over the picture."""

    def tokens(self, texts: Sequence[str]) -> tuple[Float32, NDArray[np.bool_]]:
        """Token features float32 (n, T, C) and their mask, bool (n, T)."""


@runtime_checkable
class JointEncoder(Protocol):
    """Optional: an encoder that gives pictures' vectors and regions for the price of one."""

    def embed_with_regions(self, batch: UInt8) -> tuple[Float32, Float32]:
        """What `embed_images` and `regions` give of uint8 (n, S, S, 3)."""


def embed_and_look(encoder: DualEncoder, batch: UInt8) -> tuple[Float32, Float32]:
    """Vectors and regions of uint8 (n, S, S, 3), in one run where the encoder is a `JointEncoder`.

    It has to be a `RegionEncoder` otherwise.
    """
    if isinstance(encoder, JointEncoder):
        return encoder.embed_with_regions(batch)
    assert isinstance(encoder, RegionEncoder)
    return encoder.embed_images(batch), encoder.regions(batch)


@runtime_checkable
class LabelEncoder(Protocol):
    """Optional: an encoder that knows how sharp the probabilities of labels are."""

    @property
    def labels(self) -> LabelScale | None:
        """As fitted, or as the encoder was trained; None where neither is known."""


@runtime_checkable
class SpanEncoder(Protocol):
    """Optional: an encoder that says which characters its tokens stand for."""

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each text the characters [start, end) of each token that `RegionEncoder.tokens`
        gives, in order; (0, 0) for tokens that stand for none.
        """


@runtime_checkable
class FramingEncoder(Protocol):
    """Optional: an encoder that does not read every picture whole."""

    def frame(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a picture of so many pixels that its square input shows.

        Left, top, right and bottom as shares of the picture's width and height; below 0 or above 1
        where the square goes beyond the picture.
        """


@runtime_checkable
class AttributingEncoder(Protocol):
    """Optional: an encoder that says where in a picture its vector comes from."""

    def attribute(self, pixels: UInt8, vectors: Float32) -> tuple[Float32, str]:
        """Where the products of a picture's unit vector with others come from.

        For uint8 (S, S, 3) and float32 (n, dim): float32 (n, rows, columns) over the square,
        negative where a place speaks against; and the method's name.
        """
