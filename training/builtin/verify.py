"""Checks that the compressed towers stay true to the reference and ignore their batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from xsearch.core.errors import EncoderError
from xsearch.retrieval.encoders.onnx import OnnxEncoder
from xsearch.retrieval.encoders.runtime import OnnxCpu

from .alignment import Alignment, unit
from .corpus import Captioned
from .features import Pixels, Reference, pixels, squash
from .graph import Array, Precision
from .image_graph import image_graph
from .text_graph import text_graph
from .towers import CONTEXT_LENGTH, IMAGE_SIZE, image_features, text_tokenizer

PARITY = 0.999
INVARIANCE = 0.9999
EXACT = 1e-3
"""Largest gap between the fp32 graphs and torch: rounding of sums in another order."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Lowest cosines found, and the sizes at which they were looked for."""

    image: float
    image_mean: float
    text: float
    text_mean: float
    image_alone: float
    text_alone: float


def verify(folder: Path, reference: Reference, alignment: Alignment, data: Captioned) -> Agreement:
    """Compare an encoder's folder with the reference, on real photographs and captions.

    Raises EncoderError when a promise is broken.
    """
    encoder = OnnxEncoder(folder)
    first = next(pixels(data.files, squash, 8))
    expected = alignment.images(reference.images(data))
    images = np.concatenate([encoder.embed_images(b) for b in pixels(data.files, squash)])
    image = (images * expected).sum(axis=1)
    sentences = reference.sentences(f"{data.name}-captions", data.texts)
    text = (encoder.embed_texts(data.texts).vectors * alignment.texts(sentences)).sum(axis=1)
    found = Agreement(
        image=float(image.min()),
        image_mean=float(image.mean()),
        text=float(text.min()),
        text_mean=float(text.mean()),
        image_alone=_images_alone(encoder, np.concatenate([first, _noise(8)])),
        text_alone=_texts_alone(folder, data.texts[:100]),
    )
    _require("image parity", found.image, PARITY)
    _require("text parity", found.text, PARITY)
    _require("image batch invariance", found.image_alone, INVARIANCE)
    _require("text batch invariance", found.text_alone, INVARIANCE)
    return found


def check_graphs(reference: Reference, alignment: Alignment) -> None:
    """The graphs in fp32 equal torch, on noise of several batch sizes and lengths."""
    graph = image_graph(reference.image, alignment, Precision.FP32)
    session = onnxruntime.InferenceSession(graph.model().SerializeToString())
    for count in (1, 3):
        noise = _noise(count)
        maps, features = image_features(reference.image, torch.from_numpy(noise))
        regions = maps.flatten(2).transpose(1, 2).numpy()
        expected = alignment.images(features), regions
        _equal("image", session.run(["embedding", "regions"], {"image": noise}), expected)
        _equal("features", [reference.features(noise).logits], [features.logits])
    graph = text_graph(reference.text, alignment, Precision.FP32)
    session = onnxruntime.InferenceSession(graph.model().SerializeToString())
    random = np.random.default_rng(0)
    for count, length in (1, 3), (4, 9), (2, 64), (1, CONTEXT_LENGTH):
        ids = random.integers(1000, 30000, (count, length))
        mask = np.arange(length) < random.integers(1, length + 1, (count, 1))
        with torch.inference_mode():
            tokens = reference.text(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        expected = alignment.texts(unit((tokens * mask[:, :, None]).sum(axis=1))), tokens
        inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        _equal("text", session.run(["embedding", "tokens"], inputs), expected)


def _equal(what: str, found: Sequence[Array], expected: Sequence[Array]) -> None:
    for one, other in zip(found, expected, strict=True):
        gap = float(np.abs(one - other).max())
        if not gap <= EXACT:
            raise EncoderError(f"the fp32 {what} graph differs from torch by {gap:.2g}")


def _images_alone(encoder: OnnxEncoder, batch: Pixels) -> float:
    together = encoder.embed_images(batch)
    alone = np.concatenate([encoder.embed_images(batch[i : i + 1]) for i in range(len(batch))])
    return float((together * alone).sum(axis=1).min())


def _texts_alone(folder: Path, texts: list[str]) -> float:
    """Each text alone against all in one batch, padded to one that fills the context.

    On the graph itself: the encoder would sort the long one into a batch of its own.
    """
    session = OnnxCpu().open(folder / "text.onnx", widen=False)

    def embed(together: list[str]) -> Array:
        encoded = text_tokenizer().encode_batch(together)
        inputs = {
            "input_ids": np.array([e.ids for e in encoded]),
            "attention_mask": np.array([e.attention_mask for e in encoded]),
        }
        return session.run(["embedding"], inputs)[0]

    alone = np.concatenate([embed([text]) for text in texts])
    return float((embed([*texts, " ".join(texts)])[:-1] * alone).sum(axis=1).min())


def _noise(count: int) -> Pixels:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)


def _require(what: str, found: float, wanted: float) -> None:
    if not found >= wanted:
        raise EncoderError(f"{what} is {found:.5f}, less than {wanted}")
