"""Image and text towers that can be trained, built by name; torch is imported when one is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .spec import HEADS, EncoderSpec

if TYPE_CHECKING:
    from xsearch.training.model import TrainableEncoder

__all__ = ["HEADS", "SAVED", "EncoderSpec", "build_encoder", "load_trainable", "save_trainable"]

CONFIG, WEIGHTS, TOKENIZER = SAVED = ("model.json", "model.safetensors", "tokenizer.json")
"""The files that `save_trainable` writes."""


def build_encoder(spec: EncoderSpec) -> TrainableEncoder:
    """Build what the specification names, in fp32 on the CPU.

    Raises UsageError for a name of no known form, EncoderError where files are missing or do not
    fit, MissingExtraError where a package is missing.
    """
    from .registry import build

    return build(spec)


def load_trainable(folder: Path) -> TrainableEncoder:
    """Build the model again that `save_trainable` wrote, to train it further. Raises EncoderError.

    Every folder that `training.export` writes is one. Nothing but this folder is read.
    """
    from .registry import load

    return load(folder)


def save_trainable(encoder: TrainableEncoder, folder: Path) -> None:
    """Write weights (`model.safetensors`), `model.json` and tokenizer into an existing folder.

    Raises StorageError where the disk refuses.
    """
    from .registry import save

    save(encoder, folder)
