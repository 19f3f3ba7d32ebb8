"""The text tower as an ONNX graph: BERT, mean pooling and the shift into the joint space."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import Tensor, nn

from .alignment import Alignment
from .graph import Array, Graph, Precision
from .towers import CONTEXT_LENGTH, Bert, BertLayer


def text_graph(
    tower: Bert, alignment: Alignment, precision: Precision, rounding: Array | None = None
) -> Graph:
    """Build the graph: int64 `input_ids` and `attention_mask` (n, t) to `embedding`, `tokens`.

    `rounding` (d,) is what compressed weights add to sentence vectors on average; it is taken off.
    Captions lie close to their mean, and a constant error counts for much after centring.
    """
    g = Graph("text")
    ids = g.input("input_ids", TensorProto.INT64, ["n", "t"])
    mask = g.input("attention_mask", TensorProto.INT64, ["n", "t"])
    width = tower.words.weight.shape[1]

    weights = g.cast(mask)
    hidden = g.op("Sub", g.floats(1.0), weights)
    bias = g.op("Mul", hidden, g.floats(float(np.finfo(np.float32).min)))
    bias = g.op("Unsqueeze", bias, g.integers(1, 2))
    # Rows of all texts in one matrix: one large product for each weight, its bias added inside.
    x = g.op("Reshape", _embed(g, tower, ids, precision), g.integers(-1, width))
    shape = g.op("Concat", g.op("Shape", ids), g.integers(-1), axis=0)
    for layer in tower.layers:
        assert isinstance(layer, BertLayer)
        x = _layer(g, layer, x, bias, shape, precision)
    tokens = g.op("Reshape", x, shape)

    # Averaging over the mask; the division by its length is left to the scaling to unit length.
    total = g.op("MatMul", g.op("Unsqueeze", weights, g.integers(1)), tokens)
    sentence = g.unit(g.op("Squeeze", total, g.integers(1)))
    if rounding is not None:
        sentence = g.op("Sub", sentence, g.constant(rounding, "rounding"))
    centred = g.op("Sub", sentence, g.constant(alignment.text_mean, "text_mean"))
    moved = g.op("MatMul", centred, g.half(alignment.text_weight, "text_weight"))
    g.output(g.unit(moved), "embedding", ["n", width])
    g.output(tokens, "tokens", ["n", "t", width])
    return g


def _embed(g: Graph, tower: Bert, ids: str, precision: Precision) -> str:
    """Sum of word, position and type vectors, normalised: (n, t, width)."""
    words = g.rows(_array(tower.words.weight), precision, ids)
    places = _array(tower.positions.weight)[:CONTEXT_LENGTH] + _array(tower.types.weight)[0]
    length = g.op("Shape", ids, start=1, end=2)
    places_used = g.op("Slice", g.constant(places), g.integers(0), length, g.integers(0))
    return _norm(g, tower.norm, g.op("Add", words, places_used))


def _layer(g: Graph, layer: BertLayer, x: str, bias: str, shape: str, precision: Precision) -> str:
    """One transformer layer on rows (n*t, width)."""
    heads = layer.heads
    width = layer.query.weight.shape[0]
    size = width // heads
    # The scores' division by the root of the head size is folded into the queries.
    scale = size**-0.5
    projections = (layer.query, scale), (layer.key, 1.0), (layer.value, 1.0)
    weight = np.concatenate([_array(p.weight) * s for p, s in projections])
    shift = np.concatenate([_array(p.bias) * s for p, s in projections])
    joint = g.linear(x, weight.T, shift, precision)
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
    x = _norm(g, layer.norm1, g.op("Add", x, _module(g, mixed, layer.out, precision)))
    inner = g.op("Gelu", _module(g, x, layer.up, precision))
    return _norm(g, layer.norm2, g.op("Add", x, _module(g, inner, layer.down, precision)))


def _module(g: Graph, x: str, linear: nn.Linear, precision: Precision) -> str:
    return g.linear(x, _array(linear.weight).T, _array(linear.bias), precision)


def _norm(g: Graph, norm: nn.LayerNorm, x: str) -> str:
    scale, shift = g.constant(_array(norm.weight)), g.constant(_array(norm.bias))
    return g.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=norm.eps)


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().numpy().astype(np.float32)
    return array
