"""Reads the built-in encoder's ONNX files back into torch, so that it can be trained further."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

import xsearch.data
from xsearch.core.errors import EncoderError

from .bert import Bert, BertConfig
from .builtin import BuiltinImage, BuiltinText
from .parts import TwoTowers

NAMES = {"builtin": "english", "builtin:multilingual": "general"}
"""The text tower that each name trains, beside the image tower."""
FOLDER = Path(xsearch.data.__path__[0]) / "builtin"
IMAGE, IMAGE_HEAD = "encoder.image.", "encoder.image_head."
"""What the graph's constants are called before what the modules call them."""

SCALE = 20.0
"""What cosines were multiplied with while the towers were trained, about."""

Constants = Mapping[str, NDArray[Any]]


def load_shipped(name: str, folder: Path = FOLDER) -> TwoTowers:
    """The image tower and the text tower of a name, from `folder`, in fp32.

    The numbers are those of the files: integers times their scales. Raises EncoderError where a
    file is missing or is no such encoder's.
    """
    try:
        content = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        text = content["text"]["english"] if NAMES[name] == "english" else content["text"]
        tower, text_head = _text(folder, text)
        image, image_head = _image(_constants(folder / content["image"]["file"]), content["image"])
        made = TwoTowers("builtin", image, tower, content["dim"], "linear")
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise EncoderError(f"{folder} cannot be read as the built-in encoder: {error}") from error
    for head, (weight, bias) in ((made.image_head, image_head), (made.text_head, text_head)):
        with torch.no_grad():
            cast(Tensor, head.weight).copy_(weight)
            cast(Tensor, head.bias).copy_(bias)
    made.scale = SCALE
    return made


def _image(constants: Constants, described: Mapping[str, Any]) -> tuple[BuiltinImage, Any]:
    names = {
        name.removesuffix(".whole").removesuffix(".before").removesuffix(".after")
        for name in constants
    }
    names = {name.removesuffix(".scale") for name in names}
    state = {
        name.removeprefix(IMAGE): _wide(constants, name) for name in names if name.startswith(IMAGE)
    }
    config = {"dim": len(state["conse_mean"]), **described["features"]}
    tower = BuiltinImage.restore(config)
    tower.load_state_dict(state)
    head = tuple(_wide(constants, f"{IMAGE_HEAD}{part}") for part in ("weight", "bias"))
    return tower, head


def _text(folder: Path, described: Mapping[str, Any]) -> tuple[BuiltinText, Any]:
    from tokenizers import Tokenizer

    constants = _constants(folder / described["file"])
    state: dict[str, Tensor] = {}
    layers = 0
    while f"layers.{layers}.norm1.weight" in constants:
        state |= _layer(constants, f"layers.{layers}", described["heads"])
        layers += 1
    for name in ("norm.weight", "norm.bias", "positions.weight"):
        state[name] = _wide(constants, name)
    state["words.weight"] = _wide(constants, "words.weight")
    words, width = state["words.weight"].shape
    # The only type of a text is part of the positions.
    state["types.weight"] = torch.zeros(1, width)
    bert = Bert(
        BertConfig(
            words=words,
            width=width,
            inner=len(state["layers.0.up.bias"]),
            layers=layers,
            positions=len(state["positions.weight"]),
            types=1,
            heads=described["heads"],
            eps=described["eps"],
        )
    )
    bert.load_state_dict(state)
    tokenizer = Tokenizer.from_file(str(folder / described["tokenizer"]))
    tower = BuiltinText(bert, tokenizer, described["context_length"])
    # unit((sentence - rounding - mean) @ weight + bias)
    weight = _wide(constants, "head.weight")
    shift = _wide(constants, "rounding") + _wide(constants, "head.mean")
    return tower, (weight.T, _wide(constants, "head.bias") - shift @ weight)


def _layer(constants: Constants, name: str, heads: int) -> dict[str, Tensor]:
    """A layer's parameters; queries, keys and values are one matrix in the file."""
    state = {}
    for part in ("norm1", "norm2", "out", "up", "down"):
        weight = _wide(constants, f"{name}.{part}.weight")
        state[f"{name}.{part}.weight"] = weight if weight.ndim == 1 else weight.T
        state[f"{name}.{part}.bias"] = _wide(constants, f"{name}.{part}.bias")
    weight, bias = (_wide(constants, f"{name}.joint.{part}") for part in ("weight", "bias"))
    weights, biases = weight.T.chunk(3), bias.chunk(3)
    # The scores' division by the root of a head's size is folded into the queries.
    sizes = (weight.shape[0] / heads) ** 0.5, 1.0, 1.0
    for part, size, matrix, shift in zip(
        ("query", "key", "value"), sizes, weights, biases, strict=True
    ):
        state[f"{name}.{part}.weight"] = matrix * size
        state[f"{name}.{part}.bias"] = shift * size
    return state


def _constants(path: Path) -> Constants:
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own classes share no base with onnx's
        raise EncoderError(f"{path} cannot be read, it is missing or damaged") from error
    return {found.name: onnx.numpy_helper.to_array(found) for found in model.graph.initializer}


def _wide(constants: Constants, name: str) -> Tensor:
    """A weight in fp32, from what `training.compress` made of it."""
    if f"{name}.before" in constants:
        rows, columns = constants[f"{name}.before"], constants[f"{name}.after"]
        value = rows[:, None] * constants[f"{name}.whole"].astype(np.float32) * columns
    elif f"{name}.whole" in constants:
        value = constants[f"{name}.whole"].astype(np.float32) * constants[f"{name}.scale"]
    else:
        value = constants[name].astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(value))
