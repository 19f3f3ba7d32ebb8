"""Writes ONNX graphs node by node, with weights stored compressed and computed in fp32.

Written by hand rather than traced: which weights are stored how, and what onnxruntime has to do
at load, is the point of these files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from xsearch.training.compress import Array, Precision, quantise, quantise_matrix

__all__ = ["Array", "Graph", "Precision"]

OPSET = 20
IR_VERSION = 9
"""Both known to onnxruntime 1.17 and later."""


class Graph:
    """A graph under construction; methods add nodes and return the names of their results."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def _fresh(self, stem: str) -> str:
        return f"{stem}_{len(self._nodes) + len(self._constants)}"

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        """Declare an input of the graph; a string in its shape is a free size."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, result: str, name: str, shape: Sequence[int | str]) -> None:
        """Declare a float32 result as an output of the graph."""
        self._nodes.append(helper.make_node("Identity", [result], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result."""
        return self.split(kind, 1, *inputs, **attributes)[0]

    def split(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with `count` results."""
        stem = self._fresh(kind)
        results = [f"{stem}.{i}" for i in range(count)]
        self._nodes.append(helper.make_node(kind, inputs, results, **attributes))
        return results

    def constant(self, value: NDArray[np.generic], name: str = "") -> str:
        """Store an array as it is; under a name of its own where others look for it."""
        name = name or self._fresh("const")
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def floats(self, *values: float) -> str:
        """Store float32 numbers: one as a scalar, several as a vector."""
        return self.constant(np.array(values if len(values) > 1 else values[0], np.float32))

    def integers(self, *values: int) -> str:
        """Store an int64 vector: shapes, axes, slices."""
        return self.constant(np.array(values, np.int64))

    def linear(self, x: str, weight: Array, bias: Array, precision: Precision, name: str) -> str:
        """Rows (m, i) times a weight (i, o), plus a bias (o,): (m, o).

        Its constants are stored under `name` as `training.compress` names them: `.weight.whole`,
        `.before` and `.after`, or `.weight` alone, and `.bias`.

        As integers the weight is diag(r) Q diag(s): r on the way in and s on the way out leave only
        a bare conversion of Q, which is cheap enough to be done at every call. A short query then
        pays for no preparation of weights at load, and memory holds the integers alone.
        """
        shift = self.constant(bias, f"{name}.bias")
        if precision is Precision.FP32:
            return self.op("Gemm", x, self.constant(weight, f"{name}.weight"), shift)
        before, integers, after = quantise_matrix(weight, precision)
        scaled = self.op("Mul", x, self.constant(before, f"{name}.weight.before"))
        whole = self.constant(integers, f"{name}.weight.whole")
        product = self.op("MatMul", scaled, self.cast(whole))
        product = self.op("Mul", product, self.constant(after[0], f"{name}.weight.after"))
        return self.op("Add", product, shift)

    def rows(self, table: Array, precision: Precision, indices: str, name: str) -> str:
        """Look rows up in a stored table (v, d), widening only those that are asked for.

        It is stored under `name`, compressed as `.whole` and `.scale`.
        """
        table = table.astype(np.float32)
        if precision is Precision.FP32:
            return self.op("Gather", self.constant(table, name), indices)
        integers, scale = quantise(table, 0, precision)
        whole, scales = self.constant(integers, f"{name}.whole"), f"{name}.scale"
        found = self.cast(self.op("Gather", whole, indices))
        return self.op("Mul", found, self.op("Gather", self.constant(scale, scales), indices))

    def half(self, value: Array, name: str) -> str:
        """Store a named weight in fp16."""
        return self.cast(self.constant(value.astype(np.float16), name))

    def cast(self, value: str) -> str:
        """Convert to float32."""
        return self.op("Cast", value, to=TensorProto.FLOAT)

    def unit(self, value: str) -> str:
        """Scale vectors along the last axis to unit length."""
        return self.op("LpNormalization", value, axis=-1, p=2)

    def model(self) -> onnx.ModelProto:
        """Finish: the checked model."""
        # Conversions of weights come first. onnxruntime runs nodes in the order of the file, and
        # with a conversion beside its use it gets new memory from the system for each: a first
        # query took 25 ms that way, and takes 6 ms this way.
        stored = {tensor.name for tensor in self._constants}
        nodes = sorted(self._nodes, key=lambda node: not stored.issuperset(node.input))
        graph = helper.make_graph(nodes, self._name, self._inputs, self._outputs, self._constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="xsearch"
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def save(self, path: Path) -> None:
        """Write the finished model to a file."""
        path.write_bytes(self.model().SerializeToString(deterministic=True))
