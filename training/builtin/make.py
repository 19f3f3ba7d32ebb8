"""The whole making of the built-in encoder, step by step."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from xsearch.retrieval.encoders.onnx import OnnxEncoder
from xsearch.training.calibrate import Calibration, calibrations
from xsearch.training.evaluation.metrics import Recalls, recall

from .alignment import Alignment, ImageFeatures, Settings, fit
from .card import Figures, write_card
from .corpus import Captioned, read_captioned, read_flickr8k
from .features import (
    BATCH,
    Reference,
    View,
    compressed_sentences,
    crop,
    half,
    mirror,
    pad,
    pixels,
    retaken,
    squash,
)
from .graph import Array, Precision
from .image_graph import image_graph
from .text_graph import text_graph
from .towers import CONTEXT_LENGTH, IMAGE_MEAN, IMAGE_SCALE, IMAGE_SIZE, text_tokenizer
from .verify import check_graphs, verify

CLASS_PROMPT = "a {}"
IMAGE_PRECISION = Precision.INT16
TEXT_PRECISION = Precision.INT8
"""The coarsest that keep the parity which `verify` asks for."""
ROUNDING_STEP = 15
"""Every which training caption measures the rounding of the text tower: 2,000 of them."""
POLICY = f"upright RGB; squash to {IMAGE_SIZE} bicubic antialiased; first {CONTEXT_LENGTH} tokens"
LICENCE = "see MODEL_CARD.md: weights Apache-2.0, alignment for research and education"


def make(flickr8k: Path, other_val: Path, out: Path, cache: Path | None) -> None:
    """Fit on the training split, write the files to `out`, check and measure them.

    Prints the figures. The test split is read only for the last of them. Raises xsearch.Error
    when data or packages are missing or a check fails.
    """
    train, val, test = (read_flickr8k(flickr8k, split) for split in ("train", "val", "test"))
    other = read_captioned(other_val)
    reference = Reference(cache)
    alignment = _fit(reference, train)
    check_graphs(reference, alignment)
    fitted = _calibrate(reference, alignment, val)
    out.mkdir(parents=True, exist_ok=True)
    image_graph(reference.image, alignment, IMAGE_PRECISION).save(out / "image.onnx")
    rounding = _rounding(out, reference, alignment, train)
    text_graph(reference.text, alignment, TEXT_PRECISION, rounding).save(out / "text.onnx")
    tokenizer = text_tokenizer()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    description = _description(out, fingerprint(reference, alignment), fitted)
    _write(out, description)

    agreement = verify(out, reference, alignment, val)
    description["parity"] = asdict(agreement)
    _write(out, description)
    views = squash, crop, half, pad
    encoder = OnnxEncoder(out)
    figures = Figures(
        reference={d.name: _reference(reference, alignment, d, squash) for d in (val, other)},
        shipped={d.name: _shipped(encoder, d) for d in (val, other, test)},
        views={v.__name__: _reference(reference, alignment, other, v) for v in views},
        agreement=agreement,
        calibrations=fitted,
        sizes={path.name: path.stat().st_size for path in sorted(out.glob("*.*"))},
    )
    write_card(out / "MODEL_CARD.md", figures, alignment.settings)
    print(figures)


def _fit(reference: Reference, train: Captioned) -> Alignment:
    """Fit on the training photographs and their mirror images."""
    images = ImageFeatures.concatenate(*(reference.images(train, v) for v in (squash, mirror)))
    listing = Path(__file__).with_name("imagenet_classes.txt")
    names = listing.read_text(encoding="utf-8").splitlines()
    classes = reference.sentences("classes", [CLASS_PROMPT.format(name) for name in names])
    captions = reference.sentences(f"{train.name}-captions", train.texts)
    grouped = captions.reshape(len(train.files), -1, captions.shape[1])
    return fit(Settings(), images, classes, np.concatenate([grouped, grouped]))


def _rounding(out: Path, reference: Reference, alignment: Alignment, train: Captioned) -> Array:
    """Mean error (d,) of the compressed tower's sentence vectors, on some training captions."""
    path = out / "text.onnx"
    text_graph(reference.text, alignment, TEXT_PRECISION).save(path)
    expected = reference.sentences(f"{train.name}-captions", train.texts)[::ROUNDING_STEP]
    texts = train.texts[::ROUNDING_STEP]
    found = compressed_sentences(path, texts)
    error: Array = (found - expected).mean(axis=0).astype(np.float32)
    return error


def fingerprint(reference: Reference, alignment: Alignment) -> str:
    """16 hex digits that name the joint space: all fp32 numbers and how inputs are prepared."""
    state = hashlib.sha256()
    state.update(f"{POLICY}; ({IMAGE_MEAN}, {IMAGE_SCALE}); {alignment.settings}".encode())
    state.update(text_tokenizer().to_str().encode())
    towers = {"image": reference.image, "text": reference.text}
    parameters = {
        f"{name}.{key}": value.numpy()
        for name, tower in towers.items()
        for key, value in tower.state_dict().items()
    }
    for name, value in sorted({**parameters, **alignment.parameters()}.items()):
        state.update(f"{name} {value.dtype} {value.shape}".encode())
        state.update(np.ascontiguousarray(value).tobytes())
    return state.hexdigest()[:16]


def _calibrate(
    reference: Reference, alignment: Alignment, val: Captioned
) -> dict[str, Calibration]:
    """One logistic for each pair of kinds, on the validation split."""
    images = alignment.images(reference.images(val))
    again = alignment.images(reference.images(val, retaken))
    texts = alignment.texts(reference.sentences(f"{val.name}-captions", val.texts))
    return calibrations(images, again, texts, val.owners)


def _reference(reference: Reference, alignment: Alignment, data: Captioned, view: View) -> Recalls:
    images = alignment.images(reference.images(data, view))
    texts = alignment.texts(reference.sentences(f"{data.name}-captions", data.texts))
    return recall(images, texts, data.owners)


def _shipped(encoder: OnnxEncoder, data: Captioned) -> Recalls:
    images = np.concatenate([encoder.embed_images(batch) for batch in pixels(data.files, squash)])
    return recall(images, encoder.embed_texts(data.texts).vectors, data.owners)


def _description(out: Path, identity: str, fitted: dict[str, Calibration]) -> dict[str, object]:
    """The content of `encoder.json`."""

    def digest(name: str) -> str:
        return hashlib.sha256((out / name).read_bytes()).hexdigest()

    return {
        "format": 1,
        "name": "builtin",
        "fingerprint": identity,
        "dim": 384,
        "runtime": "onnxruntime",
        "precision": f"image weights {IMAGE_PRECISION}, text weights {TEXT_PRECISION}, "
        "arithmetic fp32",
        "image": {
            "file": "image.onnx",
            "size": IMAGE_SIZE,
            "resize": "squash",
            "interpolation": "bicubic",
            "batch": BATCH,
            "sha256": digest("image.onnx"),
        },
        "text": {
            "file": "text.onnx",
            "tokenizer": "tokenizer.json",
            "context_length": CONTEXT_LENGTH,
            "sha256": digest("text.onnx"),
        },
        "calibration": {pair: asdict(found.logistic) for pair, found in fitted.items()},
        "licence": LICENCE,
    }


def _write(out: Path, description: dict[str, object]) -> None:
    text = json.dumps(description, indent=2) + "\n"
    (out / "encoder.json").write_text(text, encoding="utf-8")
