"""Writes a trained encoder as a folder that searches: ONNX towers, checked against torch."""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xsearch.core.errors import EncoderError, StorageError
from xsearch.retrieval.encoders.clip.identity import fingerprint
from xsearch.retrieval.encoders.manifest import FILE
from xsearch.retrieval.encoders.onnx import OnnxEncoder

from .calibrate import Calibration, calibrations, retaken, reworded
from .card import Card, Exported, card_text
from .compress import Precision, compress
from .encoder_files import (
    BATCH,
    Picture,
    check,
    describe,
    description,
    frozen_copy,
    save_graph,
)
from .model import TrainableEncoder
from .towers import SAVED, save_trainable
from .tracing import image_graph, text_graph

__all__ = ["Card", "Exported", "Pairs", "export_encoder", "fingerprint"]

COMPARED = 64
"""Pictures, and as many texts, whose vectors are compared with torch's."""
CALIBRATED = 1000
"""Pictures at most that scores are calibrated on, with all their texts."""

CARD = "MODEL_CARD.md"
FILES = {FILE, "image.onnx", "text.onnx", CARD, *SAVED}
"""What an export replaces; all else in its folder belongs to somebody else."""


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
    reference = frozen_copy(encoder)
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
    save_graph(compress(image_graph(reference), image), place / "image.onnx")
    save_graph(compress(text_graph(reference), text), place / "text.onnx")
    save_trainable(reference, place)
    content = description(reference, place, name, precisions)
    identity = str(content["fingerprint"])
    describe(place, content, None)
    compared = pairs.first(COMPARED)
    agreement = check(reference, place, compared.pictures, compared.texts[:COMPARED])
    fitted = calibrate_on(OnnxEncoder(place), pairs)
    content |= {"parity": asdict(agreement), "licence": card.licence if card else "not stated"}
    describe(place, content, {pair: found.logistic for pair, found in fitted.items()})
    made = Exported(place, identity, agreement, fitted, _sizes(place))
    if card:
        (place / CARD).write_text(card_text(name, card, made), encoding="utf-8")
    return replace(made, sizes=_sizes(place))


def _sizes(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(place.iterdir())}


def calibrate_on(encoder: OnnxEncoder, pairs: Pairs) -> dict[str, Calibration]:
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
