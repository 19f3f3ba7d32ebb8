"""Finds what builds a model: from the name a user gave, or from what was saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from xsearch.core.errors import EncoderError, StorageError, UsageError
from xsearch.retrieval.encoders.runtime import first_line
from xsearch.training.model import TrainableEncoder

from . import CONFIG, TOKENIZER, WEIGHTS, image, text
from .clip import SCHEMES, OpenClip
from .parts import TwoTowers
from .shipped import NAMES, load_shipped
from .spec import EncoderSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FORMAT = 1


def build(spec: EncoderSpec) -> TrainableEncoder:
    """See `training.towers.build_encoder`."""
    if spec.encoder is None:
        pictures, texts = image.build(spec), text.build(spec)
        return TwoTowers(f"{spec.image}+{spec.text}", pictures, texts, spec.dim, spec.head)
    if spec.encoder.startswith(SCHEMES):
        return OpenClip.from_spec(spec)
    if spec.image_size or spec.resize or spec.context_length:
        raise UsageError(
            f"{spec.encoder} has its own image size, resize and context length; leave them"
        )
    if spec.encoder in NAMES:
        return load_shipped(spec.encoder)
    folder = Path(spec.encoder)
    if not (folder / CONFIG).is_file():
        raise UsageError(
            f"no encoder {spec.encoder!r} to train: give {', '.join(NAMES)}, a folder made by "
            "training, open_clip:ARCH/PRETRAINED, local-dir:FOLDER or hf-hub:OWNER/NAME"
        )
    return load(folder)


def save(encoder: TrainableEncoder, folder: Path) -> None:
    """See `training.towers.save_trainable`."""
    content = {"format": FORMAT, **encoder.config()}
    try:
        (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        encoder.save_tokenizer(folder / TOKENIZER)
        save_model(encoder, str(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"the model cannot be written to {folder}: {first_line(error)}"
        ) from error


def load(folder: Path) -> TrainableEncoder:
    """See `training.towers.load_trainable`."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.get("format") != FORMAT or config.get("kind") not in KINDS:
            raise EncoderError(f"{path} is of a form this version of xsearch does not know")
        encoder = KINDS[config["kind"]](config, folder)
        load_model(encoder, str(folder / WEIGHTS))
    except EncoderError:
        raise
    except Exception as error:  # a damaged file makes libraries raise nearly anything
        raise EncoderError(f"{folder} cannot be trained further: {first_line(error)}") from error
    return encoder


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer saved beside a model."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / TOKENIZER))


def _two_towers(config: dict[str, Any], folder: Path) -> TrainableEncoder:
    pictures = image.restore(config["image"])
    texts = text.restore(config["text"], read_tokenizer(folder))
    return TwoTowers(config["name"], pictures, texts, config["dim"], config["head"])


def _open_clip(config: dict[str, Any], folder: Path) -> TrainableEncoder:
    return OpenClip.from_config(config, read_tokenizer(folder))


KINDS: dict[str, Callable[[dict[str, Any], Path], TrainableEncoder]] = {
    "two-towers": _two_towers,
    "open_clip": _open_clip,
}
"""By the `kind` of a saved config: what builds the model, from the config and its folder."""
