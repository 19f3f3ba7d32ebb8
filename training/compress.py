"""Stores the weights of an ONNX graph small, while its arithmetic stays fp32."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.floating[Any]]

SMALLEST = 1024
"""Weights with fewer numbers stay as they are: there is nothing to gain."""

LARGEST = 2**31 - 2**20
"""Bytes of weights that a graph holds itself, a little below protobuf's limit of 2 GiB."""


class Precision(StrEnum):
    """How a weight is stored; arithmetic is fp32 always."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT16 = "int16"
    INT8 = "int8"


_INTEGERS: dict[Precision, type[np.signedinteger[Any]]] = {
    Precision.INT16: np.int16,
    Precision.INT8: np.int8,
}


def quantise(
    weight: Array, axis: int, precision: Precision
) -> tuple[NDArray[np.signedinteger[Any]], Array]:
    """Round a weight to integers, symmetric, with one scale for each index along `axis`.

    Returns the integers, in the weight's shape, and the scales, shaped to broadcast against it.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
    kind = _INTEGERS[precision]
    limit = np.iinfo(kind).max
    peak = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(peak > 0, peak / limit, 1).astype(np.float32)
    return np.rint(weight / scale).astype(kind), scale


def quantise_matrix(
    weight: Array, precision: Precision
) -> tuple[Array, NDArray[np.signedinteger[Any]], Array]:
    """Split a matrix (i, o) into diag(r) Q diag(s).

    Returns r (i,) for the way in, Q, and s (1, o) for the way out.
    Rows of the weight, its columns brought to one size, share one scale each: the smallest error
    measured, of powers of maximum and of root mean square. Only a bare conversion of Q is left to
    be done at every call.
    """
    sizes = np.sqrt(np.square(weight).mean(axis=0))
    columns = weight / np.where(sizes > 0, sizes, 1)
    before = np.sqrt(np.square(columns).mean(axis=1))
    before = np.where(before > 0, before, 1).astype(np.float32)
    integers, after = quantise(weight / before[:, None], 1, precision)
    return before, integers, after


def compress(model: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    """The same graph with the weights of its products, convolutions and lookups stored small.

    A weight that anything else reads stays in fp32. FP32 gives the graph unchanged.
    """
    if precision is Precision.FP32:
        return model
    work = _Compression(model, precision)
    work.run()
    if weight_bytes(model) < LARGEST:
        onnx.checker.check_model(model, full_check=True)
    return model


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all weights of a graph."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


@dataclass(frozen=True, slots=True)
class _Use:
    """A node that reads a weight, at which of its inputs."""

    node: onnx.NodeProto
    place: int


class _Compression:
    """One pass over one model, which it changes."""

    def __init__(self, model: onnx.ModelProto, precision: Precision) -> None:
        self._graph = model.graph
        self._precision = precision
        self._first: list[onnx.NodeProto] = []
        """Conversions of weights. onnxruntime runs nodes in the order of the file, and with each
        conversion beside its use it gets new memory from the system for each."""
        self._around: dict[int, tuple[list[onnx.NodeProto], list[onnx.NodeProto]]] = {}
        """By the node's identity: what goes before it and after it."""

    def run(self) -> None:
        uses: dict[str, list[_Use]] = defaultdict(list)
        nodes = list(self._graph.node)
        for node in nodes:
            for place, name in enumerate(node.input):
                uses[name].append(_Use(node, place))
        for tensor in list(self._graph.initializer):
            found = uses[tensor.name]
            large = tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= SMALLEST
            axes = {_axis(use, len(tensor.dims)) for use in found}
            if large and len(axes) == 1 and None not in axes:
                self._store(tensor, found)
        ordered = list(self._first)
        for node in nodes:
            before, after = self._around.get(id(node), ([], []))
            ordered += [*before, node, *after]
        del self._graph.node[:]
        self._graph.node.extend(ordered)

    def _store(self, tensor: onnx.TensorProto, uses: list[_Use]) -> None:
        weight = numpy_helper.to_array(tensor)
        kind = uses[0].node.op_type
        self._graph.initializer.remove(tensor)
        name = tensor.name
        if self._precision is Precision.FP16:
            stored = self._constant(f"{name}.half", weight.astype(np.float16))
            for use in uses:
                if kind == "Gather":
                    self._gather(use.node, stored, None)
                else:
                    use.node.input[use.place] = self._cast(stored, f"{name}.wide")
        elif kind == "Gather":
            integers, scale = quantise(weight, 0, self._precision)
            stored = self._constant(f"{name}.whole", integers)
            scales = self._constant(f"{name}.scale", scale)
            for use in uses:
                self._gather(use.node, stored, scales)
        elif kind == "MatMul":
            self._matmul(name, weight, uses)
        else:
            axis = _axis(uses[0], weight.ndim)
            assert axis is not None
            integers, scale = quantise(weight, axis, self._precision)
            wide = self._cast(self._constant(f"{name}.whole", integers), f"{name}.bare")
            scales = self._constant(f"{name}.scale", scale)
            self._first.append(helper.make_node("Mul", [wide, scales], [f"{name}.wide"]))
            for use in uses:
                use.node.input[use.place] = f"{name}.wide"

    def _matmul(self, name: str, weight: Array, uses: list[_Use]) -> None:
        before, integers, after = quantise_matrix(weight, self._precision)
        wide = self._cast(self._constant(f"{name}.whole", integers), f"{name}.bare")
        rows = self._constant(f"{name}.before", before)
        columns = self._constant(f"{name}.after", after[0])
        for use in uses:
            node = use.node
            result = node.output[0]
            scaled, product = f"{result}.scaled", f"{result}.product"
            first = helper.make_node("Mul", [node.input[0], rows], [scaled])
            last = helper.make_node("Mul", [product, columns], [result])
            node.input[0], node.input[1], node.output[0] = scaled, wide, product
            self._around[id(node)] = ([first], [last])

    def _gather(self, node: onnx.NodeProto, stored: str, scales: str | None) -> None:
        """Look rows up first and widen only those that are asked for."""
        result, rows = node.output[0], node.input[1]
        node.input[0], node.output[0] = stored, f"{result}.stored"
        wide = result if scales is None else f"{result}.bare"
        after = [helper.make_node("Cast", [node.output[0]], [wide], to=TensorProto.FLOAT)]
        if scales is not None:
            found = f"{result}.scales"
            after.append(helper.make_node("Gather", [scales, rows], [found], axis=0))
            after.append(helper.make_node("Mul", [wide, found], [result]))
        self._around[id(node)] = ([], after)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _cast(self, stored: str, name: str) -> str:
        if not any(name in node.output for node in self._first):
            self._first.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
        return name


def _axis(use: _Use, dimensions: int) -> int | None:
    """The axis of a weight whose indices get scales of their own; None: not to be compressed."""
    node, place = use.node, use.place
    if node.op_type == "Conv" and place == 1:
        return 0
    if node.op_type == "MatMul" and place == 1 and dimensions == 2:
        return 1
    if node.op_type == "Gemm" and place == 1:
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    if node.op_type == "Gather" and place == 0 and dimensions == 2:
        rows = not any(a.name == "axis" and a.i for a in node.attribute)
        return 0 if rows else None
    return None
