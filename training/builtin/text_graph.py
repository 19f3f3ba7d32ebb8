"""The text tower as an ONNX graph: BERT, mean pooling and the shift into the joint space."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import Tensor, nn

from xsearch.training.towers.bert import Bert, BertLayer

from .graph import Array, Graph, Precision
from .model import Texts


def text_graph(texts: Texts, precision: Precision, rounding: Array | None = None) -> Graph:
    """Build the graph: int64 `input_ids` and `attention_mask` (n, t) to `embedding`, `tokens`.

    `rounding` (d,) is what compressed weights add to sentence vectors on average; it is taken off.
    Captions lie close to their mean, and a constant error counts for much after centring.
    """
    tower, head = texts.tower.bert, texts.head
    g = Graph("text")
    ids = g.input("input_ids", TensorProto.INT64, ["n", "t"])
    mask = g.input("attention_mask", TensorProto.INT64, ["n", "t"])
    width = tower.words.weight.shape[1]

    weights = g.cast(mask)
    hidden = g.op("Sub", g.floats(1.0), weights)
    bias = g.op("Mul", hidden, g.floats(float(np.finfo(np.float32).min)))
    bias = g.op("Unsqueeze", bias, g.integers(1, 2))
    # Rows of all texts in one matrix: one large product for each weight, its bias added inside.
    x = g.op(
        "Reshape",
        _embed(g, tower, ids, precision, texts.tower.context_length),
        g.integers(-1, width),
    )
    shape = g.op("Concat", g.op("Shape", ids), g.integers(-1), axis=0)
    for number, layer in enumerate(tower.layers):
        assert isinstance(layer, BertLayer)
        x = _layer(g, layer, x, bias, shape, precision, f"layers.{number}")
    tokens = g.op("Reshape", x, shape)

    # Averaging over the mask; the division by its length is left to the scaling to unit length.
    total = g.op("MatMul", g.op("Unsqueeze", weights, g.integers(1)), tokens)
    sentence = g.unit(g.op("Squeeze", total, g.integers(1)))
    if rounding is not None:
        sentence = g.op("Sub", sentence, g.constant(rounding, "rounding"))
    centred = g.op("Sub", sentence, g.constant(_array(head.mean), "head.mean"))
    moved = g.op("MatMul", centred, g.half(_array(head.weight), "head.weight"))
    moved = g.op("Add", moved, g.constant(_array(head.bias), "head.bias"))
    g.output(g.unit(moved), "embedding", ["n", head.weight.shape[1]])
    g.output(tokens, "tokens", ["n", "t", width])
    return g


def _embed(g: Graph, tower: Bert, ids: str, precision: Precision, context_length: int) -> str:
    """Sum of word, position and type vectors, normalised: (n, t, width)."""
    words = g.rows(_array(tower.words.weight), precision, ids, "words.weight")
    places = _array(tower.positions.weight)[:context_length] + _array(tower.types.weight)[0]
    length = g.op("Shape", ids, start=1, end=2)
    places_used = g.op(
        "Slice", g.constant(places, "positions.weight"), g.integers(0), length, g.integers(0)
    )
    return _norm(g, tower.norm, "norm", g.op("Add", words, places_used))


def _layer(
    g: Graph, layer: BertLayer, x: str, bias: str, shape: str, precision: Precision, name: str
) -> str:
    """One transformer layer on rows (n*t, width)."""
    heads = layer.heads
    width = layer.query.weight.shape[0]
    size = width // heads
    # The scores' division by the root of the head size is folded into the queries.
    scale = size**-0.5
    projections = (layer.query, scale), (layer.key, 1.0), (layer.value, 1.0)
    weight = np.concatenate([_array(p.weight) * s for p, s in projections])
    shift = np.concatenate([_array(p.bias) * s for p, s in projections])
    joint = g.linear(x, weight.T, shift, precision, f"{name}.joint")
    # (n*t, 3*width) -> (n, t, 3, heads, size) -> q, k, v
    split = g.op(
        "Concat",
        g.op("Slice", shape, g.integers(0), g.integers(2)),
        g.integers(3, heads, size),
        axis=0,
    )
    joint = g.op("Reshape", joint, split)
    joint = g.op("Transpose", joint, perm=[2, 0, 3, 1, 4])
    q, k, v = (
        g.op("Squeeze", part, g.integers(0))
        for part in g.split("Split", 3, joint, axis=0, num_outputs=3)
    )
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]))
    attention = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
    mixed = g.op("Transpose", g.op("MatMul", attention, v), perm=[0, 2, 1, 3])
    mixed = g.op("Reshape", mixed, g.integers(-1, width))

    def module(x: str, part: str) -> str:
        linear: nn.Linear = getattr(layer, part)
        weight, bias = _array(linear.weight).T, _array(linear.bias)
        return g.linear(x, weight, bias, precision, f"{name}.{part}")

    x = _norm(g, layer.norm1, f"{name}.norm1", g.op("Add", x, module(mixed, "out")))
    inner = g.op("Gelu", module(x, "up"))
    return _norm(g, layer.norm2, f"{name}.norm2", g.op("Add", x, module(inner, "down")))


def _norm(g: Graph, norm: nn.LayerNorm, name: str, x: str) -> str:
    scale = g.constant(_array(norm.weight), f"{name}.weight")
    shift = g.constant(_array(norm.bias), f"{name}.bias")
    return g.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=norm.eps)


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().numpy().astype(np.float32)
    return array
