"""A reranker of colours, small and real: ONNX graphs made on the spot, for the encoder of colours.

A word that names a colour attends to the fields of a picture that have it, and contributes about +2
where there is one, and -6 where there is none; other words contribute nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from support import ColourEncoder

HUES = {
    "red": (1.0, -1.0, -1.0),
    "green": (-1.0, 1.0, -1.0),
    "blue": (-1.0, -1.0, 1.0),
    "yellow": (1.0, 1.0, -1.0),
}
"""Colours by their names: red, green and blue, -1 to 1."""


class SeeingEncoder(ColourEncoder):
    """The encoder of colours with regions, 4 x 4 fields, and tokens, one a word and two marks."""

    def regions(self, batch: np.ndarray) -> np.ndarray:
        cells = batch.astype(np.float32).reshape(len(batch), 4, 8, 4, 8, 3).mean((2, 4))
        return (cells / 127.5 - 1).reshape(len(batch), 16, 3)

    def tokens(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        spans = self.spans(texts)
        longest = max(map(len, spans), default=0)
        features = np.zeros((len(texts), longest, 3), np.float32)
        mask = np.arange(longest) < np.array([[len(found)] for found in spans])
        for row, text in enumerate(texts):
            for at, (start, end) in enumerate(spans[row]):
                features[row, at] = HUES.get(text[start:end].lower(), (0, 0, 0))
        return features, mask

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        words = ([found.span() for found in re.finditer(r"\w+|[^\w\s]", text)] for text in texts)
        return [[(0, 0), *found, (0, 0)] for found in words]


def write_reranker(folder: Path, encoder: str = "c010", **changes: object) -> Path:
    """Write the reranker for the encoder of a fingerprint; `changes` replace what is described."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def save(name: str, inputs: dict[str, object], nodes: list[object], outputs: list[str]) -> None:
        kinds = {"memory": TensorProto.INT8, "mask": TensorProto.BOOL}
        made = helper.make_graph(
            nodes,
            name,
            [
                helper.make_tensor_value_info(key, kinds.get(key, TensorProto.FLOAT), shape)
                for key, shape in inputs.items()
            ],
            [
                helper.make_tensor_value_info(key, kinds.get(key, TensorProto.FLOAT), None)
                for key in outputs
            ],
            [
                numpy_helper.from_array(value, key)
                for key, value in {
                    "hundred": np.float32(100),
                    "share": np.float32(0.01),
                    "sharp": np.float32(5),
                    "enough": np.float32(0.667),
                    "weight": np.float32(2),
                    "bias": np.float32(-1),
                    "last": np.array([-1]),
                }.items()
            ],
        )
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(made, opset_imports=opset, ir_version=8), folder / name)

    node = helper.make_node
    folder.mkdir(parents=True, exist_ok=True)
    save(
        "regions.onnx",
        {"regions": ["n", 16, 3]},
        [
            node("Mul", ["regions", "hundred"], ["scaled"]),
            node("Round", ["scaled"], ["whole"]),
            node("Cast", ["whole"], ["memory"], to=TensorProto.INT8),
        ],
        ["memory"],
    )
    save(
        "match.onnx",
        {"tokens": ["q", "t", 3], "mask": ["q", "t"], "memory": ["m", 16, 3]},
        [
            node("Cast", ["memory"], ["small"], to=TensorProto.FLOAT),
            node("Mul", ["small", "share"], ["seen"]),
            node("Transpose", ["seen"], ["turned"], perm=[0, 2, 1]),
            node("MatMul", ["tokens", "turned"], ["logits"]),
            node("Mul", ["logits", "sharp"], ["sharpened"]),
            node("Softmax", ["sharpened"], ["attention"], axis=-1),
            node("Mul", ["attention", "logits"], ["products"]),
            node("ReduceSum", ["products", "last"], ["found"], keepdims=0),
            node("Mul", ["tokens", "tokens"], ["squares"]),
            node("ReduceSum", ["squares", "last"], ["lengths"], keepdims=0),
            node("Mul", ["lengths", "enough"], ["wanted"]),
            node("Sub", ["found", "wanted"], ["above"]),
            node("Mul", ["above", "weight"], ["weighed"]),
            node("Cast", ["mask"], ["there"], to=TensorProto.FLOAT),
            node("Mul", ["weighed", "there"], ["contributions"]),
            node("ReduceSum", ["contributions", "last"], ["sums"], keepdims=0),
            node("Add", ["sums", "bias"], ["log_odds"]),
        ],
        ["log_odds", "contributions", "attention"],
    )
    described = {
        "format": 1,
        "name": "colours",
        "fingerprint": "a9e7",
        "encoder": encoder,
        "grid": [4, 4],
        "channels": 3,
        "width": 3,
        "regions": "regions.onnx",
        "match": "match.onnx",
        "blend": {
            "text-image": {"score": 0.5, "match": 1.5, "intercept": 0.25},
            "image-text": {"score": 0.5, "match": 1.5, "intercept": 0.25},
        },
    }
    (folder / "reranker.json").write_text(json.dumps(described | changes))
    return folder
