"""Writes the trained towers as the encoder's folder, and checks the files against torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xsearch.core.errors import EncoderError
from xsearch.retrieval.encoders.clip.network import PixelScaling
from xsearch.retrieval.encoders.languages import EnglishDetector
from xsearch.retrieval.encoders.onnx import OnnxEncoder
from xsearch.retrieval.encoders.runtime import OnnxCpu
from xsearch.retrieval.zero_shot import Labels
from xsearch.training.calibrate import Calibration, calibrations, retaken
from xsearch.training.compress import Precision, compress
from xsearch.training.labels import WORDS, fit_labels
from xsearch.training.towers.builtin import PIXELS
from xsearch.training.tracing import image_graph

from .corpus import Captioned, decode
from .graph import Array
from .model import Images, Texts
from .text_graph import text_graph

IMAGE_PRECISION = Precision.INT16
TEXT_PRECISION = Precision.INT8
"""The coarsest that keep the parity asked for below."""
BATCH = 8
"""Pictures at once: as fast as 16 or 32 on two cores, with 200 MB less memory than 16."""
PARITY = 0.999
INVARIANCE = 0.9999
POLICY = f"upright RGB; {PIXELS}"
LICENCE = "see MODEL_CARD.md: weights Apache-2.0 and MIT, training data for research and education"


@dataclass(frozen=True, slots=True)
class Parts:
    """All that goes into the files. `general` reads every language, `english` English."""

    images: Images
    english: Texts
    general: Texts
    detector: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Lowest cosines to torch in fp32, and alone against in a batch, padded."""

    image: float
    english: float
    general: float
    image_alone: float
    text_alone: float


@torch.inference_mode()
def embed_pictures(images: Images, pictures: Iterable[NDArray[np.uint8]]) -> Array:
    """Vectors (n, d) of prepared pictures, uint8 (S, S, 3), in torch."""
    stacked = list(pictures)
    scaling = PixelScaling(PIXELS)
    found = []
    for start in range(0, len(stacked), 16):
        pixels = torch.from_numpy(np.stack(stacked[start : start + 16]))
        found.append(images(images.tower.backbone.frozen(scaling(pixels)))[0].numpy())
    return np.concatenate(found)


def assemble(
    parts: Parts, samples: Mapping[str, Sequence[str]], val: Captioned, out: Path
) -> tuple[Agreement, dict[str, Calibration]]:
    """Write the encoder's files to `out`, check them, and fit scores and labels on `val`.

    `samples` are training captions, under `english` and `general`: what the rounding of the
    compressed text towers is measured on. Raises EncoderError when a check fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    traced = compress(image_graph(parts.images.joined(parts.english)), IMAGE_PRECISION)
    (out / "image.onnx").write_bytes(traced.SerializeToString(deterministic=True))
    for name, texts in (("english", parts.english), ("general", parts.general)):
        _write_text(texts, out / f"{name}.onnx", list(samples[name]))
        (out / f"{name}-tokenizer.json").write_text(_tokenizer(texts), encoding="utf-8")
    np.save(out / "english.npy", parts.detector)
    description = _description(out, parts)
    plain = {"slope": 1.0, "intercept": 0.0}
    pairs = ("text-image", "image-text", "image-image", "text-text")
    _describe(out, {**description, "calibration": dict.fromkeys(pairs, plain)})
    agreement = verify(out, parts, val, list(samples["general"]))
    encoder = OnnxEncoder(out)
    images = embed_files(encoder, val)
    fitted = _calibrate(encoder, images, val)
    scores = {pair: asdict(found.logistic) for pair, found in fitted.items()}
    labels = fit_labels(Labels.of(encoder, WORDS), images, val.captions)
    fits = {"labels": asdict(labels)} if labels else {}
    _describe(out, {**description, "calibration": scores, **fits, "parity": asdict(agreement)})
    return agreement, fitted


def _write_text(texts: Texts, path: Path, samples: list[str]) -> None:
    """Write a text tower, less what rounding its weights adds to sentence vectors on average."""
    text_graph(texts, TEXT_PRECISION).save(path)
    session = OnnxCpu().open(path, widen=False)
    expected, found = [], []
    for start in range(0, len(samples), 64):
        part = samples[start : start + 64]
        inputs = _padded(texts, part)
        tokens = session.run(["tokens"], inputs)[0]
        total = (tokens * inputs["attention_mask"][:, :, None]).sum(axis=1)
        found.append(total / np.linalg.norm(total, axis=1, keepdims=True))
        with torch.inference_mode():
            expected.append(texts.sentences(part).numpy())
    rounding = (np.concatenate(found) - np.concatenate(expected)).mean(axis=0)
    text_graph(texts, TEXT_PRECISION, rounding.astype(np.float32)).save(path)


def _padded(texts: Texts, part: list[str]) -> dict[str, NDArray[np.int64]]:
    rows = [row.ids for row in texts.tower.tokenizer.encode_batch(part)]
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate(rows)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}


def _tokenizer(texts: Texts) -> str:
    from tokenizers import Tokenizer

    bare = Tokenizer.from_str(texts.tower.tokenizer.to_str())
    bare.no_truncation()
    bare.no_padding()
    content: str = bare.to_str()
    return content


def fingerprint(parts: Parts) -> str:
    """16 hex digits that name the joint space: all fp32 numbers and how inputs are prepared."""
    state = hashlib.sha256(POLICY.encode())
    modules: dict[str, nn.Module] = {
        name: getattr(parts, name) for name in ("images", "english", "general")
    }
    for texts in (parts.english, parts.general):
        state.update(f"{texts.tower.context_length} {_tokenizer(texts)}".encode())
    state.update(parts.detector.tobytes())
    for name, module in sorted(modules.items()):
        for key, value in sorted(module.state_dict().items()):
            state.update(f"{name}.{key} {tuple(value.shape)}".encode())
            state.update(np.ascontiguousarray(value.numpy()).tobytes())
    return state.hexdigest()[:16]


def verify(out: Path, parts: Parts, val: Captioned, general: list[str]) -> Agreement:
    """Compare the files with torch on real photographs and captions, and with themselves."""
    encoder = OnnxEncoder(out)
    pictures = [decode(path, encoder.preprocess) for path in val.files[:200]]
    noise = np.random.default_rng(0).integers(0, 256, (8, *pictures[0].shape), dtype=np.uint8)
    pictures += list(noise)
    images = encoder.embed_images(np.stack(pictures))
    alone = np.concatenate([encoder.embed_images(picture[None]) for picture in pictures[-16:]])
    english = EnglishDetector(parts.detector)
    ours = [text for text in val.texts[:1000] if english.is_english(text)]
    others = [text for text in general if not english.is_english(text)][:1000]
    found = Agreement(
        image=_lowest(images, embed_pictures(parts.images, pictures)),
        english=_lowest(encoder.embed_texts(ours).vectors, parts.english.embed(ours).numpy()),
        general=_lowest(encoder.embed_texts(others).vectors, parts.general.embed(others).numpy()),
        image_alone=_lowest(images[-16:], alone),
        text_alone=min(
            _texts_alone(out / "english.onnx", parts.english, ours[:50]),
            _texts_alone(out / "general.onnx", parts.general, others[:50]),
        ),
    )
    for name, value in asdict(found).items():
        wanted = INVARIANCE if name.endswith("alone") else PARITY
        if not value >= wanted:
            raise EncoderError(f"{name} has a cosine of {value:.5f} only, {wanted} is needed")
    return found


def _texts_alone(path: Path, texts: Texts, sample: list[str]) -> float:
    """Each text alone against all in one batch, padded to a text that fills the context."""
    session = OnnxCpu().open(path, widen=False)
    together = session.run(["embedding"], _padded(texts, [*sample, " ".join(sample)]))[0]
    alone = [session.run(["embedding"], _padded(texts, [text]))[0] for text in sample]
    return _lowest(together[:-1], np.concatenate(alone))


def _lowest(one: Array, other: Array) -> float:
    return float((one * other).sum(axis=1).min())


def _calibrate(encoder: OnnxEncoder, images: Array, val: Captioned) -> dict[str, Calibration]:
    """One logistic for each pair of kinds, on the validation split's English captions."""
    again = [decode(path, lambda image: encoder.preprocess(retaken(image))) for path in val.files]
    texts = encoder.embed_texts(val.texts).vectors
    return calibrations(images, encoder.embed_images(np.stack(again)), texts, val.owners)


def embed_files(encoder: OnnxEncoder, data: Captioned) -> Array:
    """Image vectors (n, d) of a whole set, from the encoder's files."""
    return encoder.embed_images(np.stack([decode(p, encoder.preprocess) for p in data.files]))


def _description(out: Path, parts: Parts) -> dict[str, Any]:
    """The content of `encoder.json`, but for what is measured."""

    def digest(name: str) -> str:
        return hashlib.sha256((out / name).read_bytes()).hexdigest()

    def tower(name: str, texts: Texts) -> dict[str, Any]:
        return {
            "file": f"{name}.onnx",
            "tokenizer": f"{name}-tokenizer.json",
            "context_length": texts.tower.context_length,
            "heads": texts.tower.bert.config.heads,
            "eps": texts.tower.bert.config.eps,
            "sha256": digest(f"{name}.onnx"),
        }

    return {
        "format": 1,
        "name": "builtin",
        "fingerprint": fingerprint(parts),
        "dim": parts.images.weight.shape[1],
        "runtime": "onnxruntime",
        "precision": f"image weights {IMAGE_PRECISION}, text weights {TEXT_PRECISION}, "
        "arithmetic fp32",
        "image": {
            "file": "image.onnx",
            "size": PIXELS.preparation.size,
            "resize": PIXELS.preparation.resize,
            "interpolation": PIXELS.preparation.interpolation,
            "batch": BATCH,
            "features": {
                "temperature": parts.images.tower.temperature,
                "narrow": parts.images.tower.narrow,
            },
            "sha256": digest("image.onnx"),
        },
        "text": {
            **tower("general", parts.general),
            "english": {**tower("english", parts.english), "detector": "english.npy"},
        },
        "licence": LICENCE,
    }


def _describe(out: Path, description: dict[str, Any]) -> None:
    content = json.dumps(description, indent=2) + "\n"
    (out / "encoder.json").write_text(content, encoding="utf-8")
