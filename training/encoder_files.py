"""The files of an encoder's folder: ONNX towers, what describes them, the checks they pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xsearch.core.errors import EncoderError
from xsearch.core.extras import require
from xsearch.retrieval.encoders.clip.identity import fingerprint
from xsearch.retrieval.encoders.manifest import FILE, FORMAT, PAIRS
from xsearch.retrieval.encoders.onnx import OnnxEncoder
from xsearch.retrieval.encoders.runtime import OnnxCpu
from xsearch.retrieval.encoders.store import Files

from .card import Agreement
from .model import TrainableEncoder

if TYPE_CHECKING:
    from PIL import Image

    from xsearch.core.encoder import Logistic

onnx = require("onnx", "train", "exporting an encoder")

import torch  # noqa: E402

from .compress import LARGEST, Precision, weight_bytes  # noqa: E402

BATCH = 8
"""Pictures at once, as the built-in encoder takes them."""
PARITY = 0.999
INVARIANCE = 0.9999
PLAIN = Files()
MAPPED = 1024
"""Bytes of a weight from which on it may lie beside its graph."""


class Picture(Protocol):
    """Where a picture comes from, such as a `data.records.ImageFile`."""

    def open(self, side: int | None = None) -> Image.Image:
        """The upright RGB picture, each side at least `side` pixels if the file has as many."""


def frozen(encoder: TrainableEncoder) -> TrainableEncoder:
    """The encoder to trace: on the CPU, in fp32, as it answers. Raises EncoderError."""
    made = encoder.cpu().float().eval()
    for parameter in made.parameters():
        parameter.requires_grad_(False)
        if not bool(torch.isfinite(parameter).all()):
            raise EncoderError("the encoder has weights that are not finite; it was not exported")
    return made


def frozen_copy(encoder: TrainableEncoder) -> TrainableEncoder:
    """The same of a copy, for an encoder that goes on learning."""
    return frozen(deepcopy(encoder))


def save_graph(model: Any, path: Path) -> None:
    """Write a graph into one file. Raises EncoderError where it is too large for that."""
    if weight_bytes(model) >= LARGEST:
        raise EncoderError(f"{path.name} would be over 2 GiB; store it as fp16 or int8")
    path.write_bytes(model.SerializeToString(deterministic=True))


def save_mapped(model: Any, path: Path) -> Path:
    """Write a graph and, into a file beside it, its weights; returns the latter.

    onnxruntime maps such a file into memory: a process reads what it uses of it, and nothing is
    copied. A ViT-B-32's text tower loads in a tenth of the time (see `benchmarks/encoders.py`),
    and there is no limit to the size. The graph's weights leave the memory.
    """
    weights = _beside(path)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=weights.name,
        size_threshold=MAPPED,
    )
    # onnx makes it readable by its owner alone.
    weights.chmod(path.stat().st_mode & 0o777)
    onnx.checker.check_model(str(path), full_check=True)
    return weights


def description(
    encoder: TrainableEncoder,
    place: Path,
    name: str,
    precisions: tuple[Precision, Precision],
    files: Files = PLAIN,
) -> dict[str, Any]:
    """The content of `encoder.json` for files that are there, but for what is measured."""
    return {
        "format": FORMAT,
        "name": name,
        "fingerprint": fingerprint(encoder),
        "dim": encoder.dim,
        "runtime": "onnxruntime",
        "precision": precision_text(*precisions),
        "image": {
            "file": files.image,
            **asdict(encoder.preparation),
            "batch": BATCH,
            **_digests(place / files.image),
        },
        "text": {
            "file": files.text,
            "tokenizer": files.tokenizer,
            "context_length": encoder.context_length,
            **_digests(place / files.text),
        },
    }


def _digests(graph: Path) -> dict[str, str]:
    """The SHA-256 of a graph, and of its weights where they lie beside it."""
    weights = _beside(graph)
    found = {"sha256": digest(graph)}
    if weights.exists():
        found |= {"weights": weights.name, "weights_sha256": digest(weights)}
    return found


def _beside(graph: Path) -> Path:
    return graph.with_name(f"{graph.name}.data")


def precision_text(image: Precision, text: Precision) -> str:
    """How weights are stored, in words that `encoder.json` keeps."""
    return f"image weights {image}, text weights {text}, arithmetic fp32"


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(
    place: Path, content: Mapping[str, Any], logistics: Mapping[str, Logistic] | None
) -> None:
    """Write `encoder.json`; before there are logistics with stand-ins that nobody gets to see."""
    plain = {"slope": 1.0, "intercept": 0.0}
    scores = {pair: asdict(logistics[pair]) if logistics else plain for pair in PAIRS}
    text = json.dumps({**content, "calibration": scores}, indent=2) + "\n"
    (place / FILE).write_text(text, encoding="utf-8")


def check(
    reference: TrainableEncoder,
    place: Path,
    pictures: Sequence[Picture],
    texts: Sequence[str],
    files: Files = PLAIN,
) -> Agreement:
    """Compare the written towers with torch, and with themselves. Raises EncoderError."""
    encoder = OnnxEncoder(place)
    texts = [*texts, "a", "", " ".join(texts)]
    batches = [*pixels(encoder, pictures), _noise(reference.image_size)]
    with torch.inference_mode():
        images = [reference.encode_images(torch.from_numpy(batch)).numpy() for batch in batches]
        vectors = reference.encode_texts(reference.tokenize(texts)).numpy()
    written = [encoder.embed_images(batch) for batch in batches]
    alone = [encoder.embed_images(picture[None]) for batch in batches[-2:] for picture in batch]
    batch = reference.tokenize(texts)
    inputs = {"input_ids": batch.ids.numpy(), "attention_mask": batch.mask.numpy()}
    # On the graph itself: the encoder would sort the long text into a batch of its own.
    padded = OnnxCpu().open(place / files.text, widen=False).run(["embedding"], inputs)[0]
    found = Agreement(
        image=_lowest(np.concatenate(written), np.concatenate(images)),
        text=_lowest(encoder.embed_texts(texts).vectors, vectors),
        image_alone=_lowest(np.concatenate(written[-2:]), np.concatenate(alone)),
        text_alone=_lowest(
            padded, np.concatenate([encoder.embed_texts([text]).vectors for text in texts])
        ),
    )
    for name, value in asdict(found).items():
        wanted = INVARIANCE if name.endswith("alone") else PARITY
        if not value >= wanted:
            against = "alone and in a batch" if name.endswith("alone") else "written and in torch"
            raise EncoderError(
                f"{name.partition('_')[0]} vectors {against} have a cosine of {value:.5f} only, "
                f"{wanted} is needed; the folder was not changed: try a finer precision"
            )
    return found


def pixels(encoder: OnnxEncoder, pictures: Sequence[Picture]) -> Iterator[NDArray[np.uint8]]:
    """Prepared pictures, a batch at a time."""
    for start in range(0, len(pictures), BATCH):
        part = [p.open(encoder.image_size) for p in pictures[start : start + BATCH]]
        yield np.stack([encoder.preprocess(picture) for picture in part])


def _noise(side: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8)


def _lowest(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float((one * other).sum(axis=1).min())
