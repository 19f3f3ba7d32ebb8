"""Writes a trained encoder as a folder that searches: ONNX towers, checked against torch."""

from __future__ import annotations

import errno
import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xsearch.core.errors import EncoderError, StorageError
from xsearch.retrieval.encoders.manifest import FILE, FORMAT
from xsearch.retrieval.encoders.onnx import OnnxEncoder
from xsearch.retrieval.encoders.runtime import OnnxCpu

from .calibrate import Calibration, calibrations, retaken, reworded
from .card import Agreement, Card, Exported, card_text
from .extras import require
from .model import TrainableEncoder
from .towers import SAVED, save_trainable

if TYPE_CHECKING:
    import onnx
    from PIL import Image

require("onnx", "train", "exporting an encoder")

import torch  # noqa: E402

from .compress import Precision, compress  # noqa: E402
from .tracing import image_graph, text_graph  # noqa: E402

BATCH = 8
"""Pictures at once, as the built-in encoder takes them."""
PARITY = 0.999
INVARIANCE = 0.9999
COMPARED = 64
"""Pictures, and as many texts, whose vectors are compared with torch's."""
CALIBRATED = 1000
"""Pictures at most that scores are calibrated on, with all their texts."""

CARD = "MODEL_CARD.md"
FILES = {FILE, "image.onnx", "text.onnx", CARD, *SAVED}
"""What an export replaces; all else in its folder belongs to somebody else."""


class Picture(Protocol):
    """Where a picture comes from, such as a `data.records.ImageFile`."""

    def open(self, side: int | None = None) -> Image.Image:
        """The upright RGB picture, each side at least `side` pixels if the file has as many."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Validation pictures and texts; text j belongs to pictures[owners[j]], int64 (m,)."""

    pictures: Sequence[Picture]
    texts: Sequence[str]
    owners: NDArray[np.int64]

    def first(self, count: int) -> Pairs:
        """The first pictures with their texts."""
        kept = np.flatnonzero(self.owners < count)
        texts = [self.texts[int(row)] for row in kept]
        return Pairs(self.pictures[:count], texts, self.owners[kept])


def export_encoder(
    encoder: TrainableEncoder,
    folder: Path,
    pairs: Pairs,
    *,
    precision: Precision = Precision.FP32,
    text_precision: Precision | None = None,
    card: Card | None = None,
) -> Exported:
    """Write a folder that `load_encoder` opens and that `load_trainable` trains further.

    `precision` is how weights are stored, for the text tower `text_precision` if given. `pairs`
    are for the checks and for the scores, and were not trained on. The folder is made beside its
    place and moved there once it has passed: an older one stays as it was until then, and what
    else lies in it moves along. Raises EncoderError when a check fails, StorageError when the disk
    refuses.
    """
    pairs = pairs.first(CALIBRATED)
    text_precision = text_precision or precision
    reference = _reference(encoder)
    folder = folder.resolve()
    place = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file")
        place.mkdir(parents=True)
    except OSError as error:
        raise _refused(folder, error) from error
    try:
        made = _write(reference, place, folder.name, pairs, (precision, text_precision), card)
        _move(place, folder)
    except OSError as error:
        raise _refused(folder, error) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return replace(made, folder=folder)


def fingerprint(encoder: TrainableEncoder) -> str:
    """16 hex digits that name the joint space: fp32 numbers, preparation and tokenizer.

    Names of people's choice, folders and versions of libraries do not count.
    """
    state = hashlib.sha256()
    policy = f"upright RGB; {encoder.preparation}; first {encoder.context_length} tokens"
    state.update(policy.encode())
    state.update(encoder.tokenizer.to_str().encode())
    # Buffers as well: running statistics, and the mean and deviation of pixels.
    tensors = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
    for name, tensor in sorted(tensors.items()):
        if tensor.is_floating_point():
            value = tensor.detach().cpu().float().contiguous().numpy()
            state.update(f"{name} {value.shape}".encode())
            state.update(value.tobytes())
    return state.hexdigest()[:16]


def _reference(encoder: TrainableEncoder) -> TrainableEncoder:
    """A copy to trace: on the CPU, in fp32, as it answers."""
    copied = deepcopy(encoder).cpu().float().eval()
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
        if not bool(torch.isfinite(parameter).all()):
            raise EncoderError("the encoder has weights that are not finite; it was not exported")
    return copied


def _write(
    reference: TrainableEncoder,
    place: Path,
    name: str,
    pairs: Pairs,
    precisions: tuple[Precision, Precision],
    card: Card | None,
) -> Exported:
    """Fill the temporary folder, checking as it goes."""
    image, text = precisions
    _save(compress(image_graph(reference), image), place / "image.onnx")
    _save(compress(text_graph(reference), text), place / "text.onnx")
    save_trainable(reference, place)
    description = _description(reference, place, name, precisions)
    identity = str(description["fingerprint"])
    _describe(place, description, {})
    agreement = _check(reference, place, pairs.first(COMPARED))
    fitted = _calibrate(OnnxEncoder(place), pairs)
    description |= {"parity": asdict(agreement), "licence": card.licence if card else "not stated"}
    _describe(place, description, fitted)
    made = Exported(place, identity, agreement, fitted, _sizes(place))
    if card:
        content = card_text(name, card, made)
        (place / CARD).write_text(content, encoding="utf-8")
    return replace(made, sizes=_sizes(place))


def _sizes(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(place.iterdir())}


def _save(model: onnx.ModelProto, path: Path) -> None:
    try:
        content = model.SerializeToString(deterministic=True)
    except ValueError as error:  # protobuf's limit of 2 GiB
        raise EncoderError(f"{path.name} would be over 2 GiB; store it as fp16 or int8") from error
    path.write_bytes(content)


def _description(
    encoder: TrainableEncoder, place: Path, name: str, precisions: tuple[Precision, Precision]
) -> dict[str, Any]:
    """The content of `encoder.json`, but for what is measured."""

    def digest(file: str) -> str:
        return hashlib.sha256((place / file).read_bytes()).hexdigest()

    prepared = asdict(encoder.preparation)
    return {
        "format": FORMAT,
        "name": name,
        "fingerprint": fingerprint(encoder),
        "dim": encoder.dim,
        "runtime": "onnxruntime",
        "precision": f"image weights {precisions[0]}, text weights {precisions[1]}, "
        "arithmetic fp32",
        "image": {"file": "image.onnx", **prepared, "batch": BATCH, "sha256": digest("image.onnx")},
        "text": {
            "file": "text.onnx",
            "tokenizer": "tokenizer.json",
            "context_length": encoder.context_length,
            "sha256": digest("text.onnx"),
        },
    }


def _describe(place: Path, description: dict[str, Any], fitted: dict[str, Calibration]) -> None:
    """Write `encoder.json`; before scores are fitted with a stand-in that nobody gets to see."""
    names = ("text-image", "image-text", "image-image", "text-text")
    plain = {"slope": 1.0, "intercept": 0.0}
    logistics = {n: asdict(fitted[n].logistic) if n in fitted else plain for n in names}
    content = json.dumps({**description, "calibration": logistics}, indent=2) + "\n"
    (place / FILE).write_text(content, encoding="utf-8")


def _check(reference: TrainableEncoder, place: Path, pairs: Pairs) -> Agreement:
    """Compare the written towers with torch, and with themselves. Raises EncoderError."""
    encoder = OnnxEncoder(place)
    texts = [*pairs.texts[:COMPARED], "a", "", " ".join(pairs.texts[:COMPARED])]
    batches = [*_pixels(encoder, pairs.pictures), _noise(reference.image_size)]
    with torch.inference_mode():
        images = [reference.encode_images(torch.from_numpy(batch)).numpy() for batch in batches]
        vectors = reference.encode_texts(reference.tokenize(texts)).numpy()
    written = [encoder.embed_images(batch) for batch in batches]
    alone = [encoder.embed_images(picture[None]) for batch in batches[-2:] for picture in batch]
    batch = reference.tokenize(texts)
    inputs = {"input_ids": batch.ids.numpy(), "attention_mask": batch.mask.numpy()}
    # On the graph itself: the encoder would sort the long text into a batch of its own.
    padded = OnnxCpu().open(place / "text.onnx", widen=False).run(["embedding"], inputs)[0]
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


def _pixels(encoder: OnnxEncoder, pictures: Sequence[Picture]) -> Iterator[NDArray[np.uint8]]:
    """Prepared pictures, a batch at a time."""
    for start in range(0, len(pictures), BATCH):
        part = [p.open(encoder.image_size) for p in pictures[start : start + BATCH]]
        yield np.stack([encoder.preprocess(picture) for picture in part])


def _noise(side: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8)


def _lowest(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float((one * other).sum(axis=1).min())


def _calibrate(encoder: OnnxEncoder, pairs: Pairs) -> dict[str, Calibration]:
    """Fit the scores on the vectors of the written towers."""
    images: list[NDArray[np.float32]] = []
    again: list[NDArray[np.float32]] = []
    for start in range(0, len(pairs.pictures), BATCH):
        part = [p.open(encoder.image_size) for p in pairs.pictures[start : start + BATCH]]
        for views, kept in ((part, images), ([retaken(picture) for picture in part], again)):
            kept.append(encoder.embed_images(np.stack([encoder.preprocess(v) for v in views])))
    if not images or not pairs.texts:
        raise EncoderError("scores need at least two pictures with texts to be calibrated on")
    texts = encoder.embed_texts(pairs.texts).vectors
    changed = None
    if len(set(pairs.owners.tolist())) == len(pairs.owners):
        changed = encoder.embed_texts([reworded(text) for text in pairs.texts]).vectors
    return calibrations(np.concatenate(images), np.concatenate(again), texts, pairs.owners, changed)


def _move(place: Path, folder: Path) -> None:
    """Put the finished folder into its place; whatever fails, one of the two is there."""
    if not folder.exists():
        place.rename(folder)
        return
    aside = place.with_name(f"{place.name}-before")
    folder.rename(aside)
    try:
        place.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    for entry in list(aside.iterdir()):
        if entry.name not in FILES:
            entry.rename(folder / entry.name)
    shutil.rmtree(aside, ignore_errors=True)


def _refused(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"the encoder cannot be written to {folder}: {error.strerror or error}")
