"""The image tower as an ONNX graph: EfficientNet-Lite, ConSE and the ridge map behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto
from torch import Tensor

from .alignment import Alignment
from .graph import Array, Graph, Precision
from .towers import IMAGE_MEAN, IMAGE_SCALE, IMAGE_SIZE


@dataclass(frozen=True, slots=True)
class _Features:
    """Names of the tower's results in a graph under construction."""

    maps: str
    pooled: str
    narrow: str
    logits: str
    cells: int


def image_graph(tower: Any, alignment: Alignment, precision: Precision) -> Graph:
    """Build the graph: uint8 `image` (n, S, S, 3) to `embedding` (n, d), `regions` (n, R, C)."""
    g = Graph("image")
    found = _tower(g, tower, precision)
    embedding = _align(g, alignment, found)
    g.output(embedding, "embedding", ["n", alignment.text_mean.shape[0]])
    rows = g.op("Reshape", found.maps, g.integers(0, 0, found.cells))
    g.output(g.op("Transpose", rows, perm=[0, 2, 1]), "regions", ["n", found.cells, 1280])
    return g


def features_graph(tower: Any) -> Graph:
    """Build the tower alone in fp32: `image` to the fields of `ImageFeatures`.

    onnxruntime runs it several times faster than torch on a CPU, which fitting profits from.
    """
    g = Graph("features")
    found = _tower(g, tower, Precision.FP32)
    g.output(found.pooled, "pooled", ["n", 1280])
    g.output(found.narrow, "narrow", ["n", 352])
    g.output(found.logits, "logits", ["n", 1000])
    return g


def _tower(g: Graph, tower: Any, precision: Precision) -> _Features:
    """All layers of EfficientNet-Lite on the uint8 input `image`."""
    image = g.input("image", TensorProto.UINT8, ["n", IMAGE_SIZE, IMAGE_SIZE, 3])
    planes = g.cast(g.op("Transpose", image, perm=[0, 3, 1, 2]))
    # Padding follows centring, so only the division can move into the first weights.
    x = g.op("Sub", planes, g.floats(IMAGE_MEAN))
    net = _Convolutions(g, precision)
    last = net.blocks(tower, x)
    maps = net.conv(last, tower._conv_head, tower._bn1)
    narrow, pooled = (g.op("ReduceMean", m, g.integers(2, 3), keepdims=0) for m in (last, maps))
    classifier = tower._fc
    weight = g.weight(_array(classifier.weight).T, precision, 1)
    logits = g.op("Gemm", pooled, weight, g.constant(_array(classifier.bias)))
    return _Features(maps, pooled, narrow, logits, net.size**2)


class _Convolutions:
    """Adds convolutions with their batch norms folded in, and tracks the size of the map."""

    def __init__(self, graph: Graph, precision: Precision) -> None:
        self._graph = graph
        self._precision = precision
        self.size = IMAGE_SIZE

    def blocks(self, model: Any, x: str) -> str:
        """Stem and blocks, up to the last block's output (n, 352, S/32, S/32)."""
        x = self.conv(x, model._conv_stem, model._bn0, divide=IMAGE_SCALE)
        for block in model._blocks:
            start = x
            if hasattr(block, "_expand_conv"):
                x = self.conv(x, block._expand_conv, block._bn0)
            x = self.conv(x, block._depthwise_conv, block._bn1)
            x = self.conv(x, block._project_conv, block._bn2, clip=False)
            args = block._block_args
            if args.id_skip and args.stride == 1 and args.input_filters == args.output_filters:
                x = self._graph.op("Add", x, start)
        return x

    def conv(self, x: str, conv: Any, norm: Any, *, clip: bool = True, divide: float = 1.0) -> str:
        """One convolution with TensorFlow's SAME padding; `clip` for ReLU6."""
        g = self._graph
        gain = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
        weight = _array(conv.weight) * gain[:, None, None, None] / np.float32(divide)
        bias = _array(norm.bias) - _array(norm.running_mean) * gain
        kernel, stride = int(conv.kernel_size[0]), int(conv.stride[0])
        before, after, self.size = same_padding(self.size, kernel, stride)
        result = g.op(
            "Conv",
            x,
            g.weight(weight, self._precision, 0),
            g.constant(bias.astype(np.float32)),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            group=conv.groups,
            pads=[before, before, after, after],
        )
        return g.op("Clip", result, g.floats(0.0), g.floats(6.0)) if clip else result


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """TensorFlow's SAME: pixels added before and after (the odd one after), and the new size."""
    result = -(-size // stride)
    total = max((result - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2, result


def _align(g: Graph, alignment: Alignment, found: _Features) -> str:
    """`Alignment.images` as nodes: unit vectors (n, d)."""
    settings = alignment.settings
    scaled = g.op("Mul", found.logits, g.floats(1 / settings.temperature))
    weights = g.op("Softmax", scaled, axis=-1)
    named = g.unit(g.op("MatMul", weights, g.half(alignment.class_vectors, "class_vectors")))
    centred = g.op("Sub", named, g.constant(alignment.conse_mean, "conse_mean"))
    moved = g.op("MatMul", centred, g.half(alignment.text_weight, "text_weight"))
    narrow = g.op("Mul", g.unit(found.narrow), g.floats(settings.narrow))
    parts = g.unit(g.op("Sqrt", found.pooled)), narrow, g.unit(moved)
    features = g.op("Concat", *parts, axis=-1)
    bias = g.constant(alignment.bias, "bias")
    return g.unit(g.op("Gemm", features, g.half(alignment.weight, "weight"), bias))


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().numpy().astype(np.float32)
    return array
