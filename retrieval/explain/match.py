"""Explains why a text and a picture match, word by word.

With a reranker from its own graph: what each token attends to, and its part in the log-odds, which
are a sum over tokens. Without one, by an encoder that can say where its vector comes from
(`AttributingEncoder`): a word's part is what the similarity loses without it (erasure: Li et al.
2016, "Understanding Neural Networks through Representation Erasure", section 3), and its map is
that of the word as a text of its own. The map of the difference which it makes to the text would be
empty where other words imply it, as "square" does what a "red square" is.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from xsearch.core.encoder import AttributingEncoder, FramingEncoder, RegionEncoder, SpanEncoder
from xsearch.core.errors import EncoderError, UsageError
from xsearch.core.explained import MatchExplanation, WordRelevance
from xsearch.core.extras import require
from xsearch.core.paths import absolute
from xsearch.core.query import TruncationWarning, is_url

from ..encoders.names import is_open_clip
from ..encoders.texts import readable
from ..query import read_picture
from ..rerank.find import FOLDER, encoder_folder, find_reranker
from ..rerank.manifest import FILE as DESCRIPTION
from .places import WHOLE, over_picture
from .words import Word, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image as PILImage

    from xsearch.core.encoder import DualEncoder, Float32, UInt8
    from xsearch.core.query import Image

    from ..rerank.manifest import RerankerInfo
    from ..rerank.model import Explained

SHOWN = 720
"""Pixels of the shorter side that a picture is kept with, to be looked at."""
ATTENTION = "cross-attention"


class Explaining(Protocol):
    """The parts of a reranker that are needed here; see `OnnxReranker`."""

    @property
    def info(self) -> RerankerInfo:
        """What its folder says of it."""

    def memories(self, regions: Float32) -> NDArray[np.int8]:
        """What is kept of pictures' regions."""

    def explain(
        self, tokens: Float32, mask: NDArray[np.bool_], memory: NDArray[np.int8]
    ) -> Explained:
        """Why one text and one picture match."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """Log-odds, how they were found, and of each word its part and map (n, rows, columns)."""

    log_odds: float
    method: str
    contributions: Sequence[float]
    maps: Float32


def explain_match(
    image: Image, text: str, encoder: DualEncoder, reranker: Explaining | Path | None = None
) -> MatchExplanation:
    """Which words of a text fit a picture, and where.

    By the reranker, given or in a folder; by default the encoder's own, where it has one. What the
    encoder does not read of a long text is left out, with a TruncationWarning.

    Raises:
        UsageError: there is no text, or none that the encoder reads.
        SourceError, ImageError: the picture cannot be read.
        EncoderError: the reranker is another encoder's, or there is none, and the encoder cannot
            say where its vector comes from.
        MissingExtraError: for that the encoder has to run in torch.
    """
    text = readable(text).strip()
    if not text:
        raise UsageError('there is no text: say what the picture may show, as in "cat on grass"')
    if reranker is None or isinstance(reranker, Path):
        reranker = _reranker(encoder, reranker)
    if reranker is None:
        encoder = _attributing(encoder)
    elif reranker.info.encoder != encoder.fingerprint:
        raise EncoderError(f"the reranker {reranker.info.name} is not for {encoder.name}")
    if not isinstance(encoder, SpanEncoder):
        raise EncoderError(
            f"the encoder {encoder.name} cannot say which words its tokens are: it has no `spans`"
        )
    seen, shown = read_picture(image, encoder.image_size, SHOWN)
    pixels = encoder.preprocess(seen)
    words = words_of(text, encoder.spans([text])[0])
    if not words:
        raise UsageError(f"the encoder {encoder.name} reads no word of {text!r}")
    embedded = encoder.embed_texts([text])
    if embedded.cut[0]:
        warnings.warn(
            f"the text is longer than the encoder {encoder.name} reads; its end was ignored",
            TruncationWarning,
            stacklevel=2,
        )
    similarity = float(embedded.vectors[0] @ encoder.embed_images(pixels[None])[0])
    logistic = encoder.calibration("text", "image")
    plain = logistic.slope * similarity + logistic.intercept
    if reranker is not None:
        parts = _by_reranker(text, words, pixels, plain, encoder, reranker)
    else:
        parts = _by_encoder(text, words, pixels, plain, embedded.vectors[0], encoder)
    return MatchExplanation(
        text=text,
        score=0.5 + 0.5 * math.tanh(0.5 * parts.log_odds),  # the logistic, without overflow
        log_odds=parts.log_odds,
        similarity=similarity,
        words=tuple(_relevances(text, words, parts, _frame(encoder, seen))),
        method=parts.method,
        picture=_reduced(shown),
        path=_file(image),
    )


def _by_reranker(
    text: str,
    words: Sequence[Word],
    pixels: UInt8,
    plain: float,
    encoder: DualEncoder,
    reranker: Explaining,
) -> _Parts:
    """Each word's tokens together: the sum of their parts, the mean of what they attend to."""
    if not isinstance(encoder, RegionEncoder):
        raise EncoderError(f"the encoder {encoder.name} has no regions for a reranker to look at")
    memory = reranker.memories(encoder.regions(pixels[None]))
    found = reranker.explain(*encoder.tokens([text]), memory)
    blend = reranker.info.blend["text-image"]
    return _Parts(
        log_odds=float(blend.log_odds(plain, found.log_odds)),
        method=ATTENTION,
        contributions=[
            blend.match * float(found.contributions[list(word.tokens)].sum()) for word in words
        ],
        maps=np.array([found.attention[list(word.tokens)].mean(axis=0) for word in words]),
    )


def _by_encoder(
    text: str,
    words: Sequence[Word],
    pixels: UInt8,
    plain: float,
    vector: Float32,
    encoder: DualEncoder,
) -> _Parts:
    """What the similarity loses without each word, and where in the picture the word is seen."""
    without = [" ".join((text[: word.start] + text[word.end :]).split()) for word in words]
    alone = [text[word.start : word.end] for word in words]
    vectors = encoder.embed_texts(without + alone).vectors
    slope = encoder.calibration("text", "image").slope
    picture = encoder.embed_images(pixels[None])[0]
    lost = slope * ((vector - vectors[: len(words)]) @ picture)
    maps, method = cast(AttributingEncoder, encoder).attribute(pixels, vectors[len(words) :])
    return _Parts(plain, method, [float(part) for part in lost], maps)


def _relevances(
    text: str, words: Sequence[Word], parts: _Parts, frame: tuple[float, float, float, float]
) -> list[WordRelevance]:
    found = []
    for word, contribution, map_ in zip(words, parts.contributions, parts.maps, strict=True):
        relevance, peak = over_picture(map_, frame)
        said = text[word.start : word.end]
        place = (word.start, word.end, word.is_content, contribution)
        found.append(WordRelevance(said, *place, relevance, peak))
    return found


def _file(image: Image) -> Path | None:
    """The file of a picture; None where it comes from elsewhere."""
    source = image.source
    if isinstance(source, str) and is_url(source):
        parts = urlsplit(source)
        return Path(url2pathname(parts.path)) if parts.scheme == "file" else None
    return absolute(source) if isinstance(source, str | os.PathLike) else None


def _reduced(picture: PILImage.Image) -> PILImage.Image:
    """A picture whose shorter side is at most `SHOWN` pixels."""
    share = SHOWN / min(picture.size)
    if share < 1:
        picture.thumbnail((round(picture.width * share), round(picture.height * share)))
    return picture


def _frame(encoder: DualEncoder, picture: PILImage.Image) -> tuple[float, float, float, float]:
    return encoder.frame(*picture.size) if isinstance(encoder, FramingEncoder) else WHOLE


def _reranker(encoder: DualEncoder, folder: Path | None) -> Explaining | None:
    """The reranker to explain by; None where there is none, and none is needed.

    Raises EncoderError where one is needed.
    """
    if folder is None and (isinstance(encoder, AttributingEncoder) or _of_open_clip(encoder)):
        own = encoder_folder(encoder.info)
        if own is None or not (own / FOLDER / DESCRIPTION).is_file():
            return None
    return find_reranker(encoder, folder)


def _attributing(encoder: DualEncoder) -> DualEncoder:
    """The encoder as it can say where its vectors come from: an exported one in torch."""
    if isinstance(encoder, AttributingEncoder) or not _of_open_clip(encoder):
        return encoder
    require("torch", "clip", f"explaining by {encoder.name}, which has no reranker,")
    from ..encoders.clip.encoder import TorchEncoder

    return TorchEncoder(encoder.info.source, device="cpu")


def _of_open_clip(encoder: DualEncoder) -> bool:
    return is_open_clip(encoder.info.source)
