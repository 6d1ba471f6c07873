"""Models of the benchmarks with functions of secrets: single functions, softmax, a BERT layer.

Sizes and inputs are those of the figures published for SPU: 128×128 numbers, and an encoder layer
of BERT-base (768 wide, 12 heads, 3072 inside) on 128 tokens. Weights are seeded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.models import IR_VERSION

__all__ = ["FUNCTIONS", "INPUT_NAME", "Function", "bert_inputs", "bert_layer", "function_model"]

FloatArray = npt.NDArray[np.float32]

INPUT_NAME = "x"

OPSET = 20
"""The first with Gelu."""

SHAPE = (128, 128)

TOKENS, WIDTH, HEADS, INNER = 128, 768, 12, 3072

EPSILON = 1e-5


@dataclass(frozen=True)
class Function:
    """One operator on 128×128 numbers.

    Attributes:
        title: for tables.
        op: ONNX operator.
        attributes: its attributes.
        normal: standard deviation of the inputs, 0 if they are uniform.
        bounds: of the inputs, which the client enforces.
    """

    title: str
    op: str
    attributes: Mapping[str, int | str]
    normal: float
    bounds: tuple[float, float]

    def inputs(self, seed: int) -> FloatArray:
        """Seeded inputs."""
        generator = np.random.default_rng(seed)
        if self.normal:
            x = generator.standard_normal(SHAPE) * self.normal
            return np.clip(x, *self.bounds).astype(np.float32)
        return generator.uniform(*self.bounds, SHAPE).astype(np.float32)


FUNCTIONS: dict[str, Function] = {
    "exp": Function("exp", "Exp", {}, 0, (-5, 2)),
    "reciprocal": Function("reciprocal", "Reciprocal", {}, 0, (0.5, 20)),
    "sqrt": Function("square root", "Sqrt", {}, 0, (0.1, 50)),
    "sigmoid": Function("sigmoid", "Sigmoid", {}, 3, (-16, 16)),
    "tanh": Function("tanh", "Tanh", {}, 1.5, (-16, 16)),
    "erf": Function("erf", "Erf", {}, 1.5, (-16, 16)),
    "gelu": Function("GELU (erf)", "Gelu", {}, 2, (-16, 16)),
    "gelutanh": Function("GELU (tanh)", "Gelu", {"approximate": "tanh"}, 2, (-16, 16)),
    "softmax": Function("softmax", "Softmax", {"axis": -1}, 2, (-16, 16)),
}
"""By name of the case."""


def _finished(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def function_model(function: Function) -> bytes:
    """A model of one node."""
    node = helper.make_node(function.op, [INPUT_NAME], ["y"], name=function.op.lower())
    node.attribute.extend(helper.make_attribute(k, v) for k, v in function.attributes.items())
    x = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, SHAPE)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)
    return _finished(helper.make_graph([node], function.op.lower(), [x], [y]))


def bert_inputs(count: int, seed: int) -> FloatArray:
    """Normalised token embeddings, [count, 1, 128, 768], cut at four standard deviations."""
    x = np.random.default_rng(seed).standard_normal((count, 1, TOKENS, WIDTH))
    return np.clip(x, -4, 4).astype(np.float32)


class _Layer:
    """Collects nodes and weights."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(1)

    def node(self, op: str, *operands: str, **attributes: Any) -> str:
        """Append a node; its result's name."""
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, operands, [name], name=name, **attributes))
        return name

    def constant(self, name: str, array: npt.NDArray[np.generic]) -> str:
        """Add an initialiser; its name."""
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, name: str, scale: float, *shape: int) -> str:
        """A random weight."""
        values = self._random.standard_normal(shape) * scale
        return self.constant(name, values.astype(np.float32))

    def dense(self, x: str, name: str, inputs: int, outputs: int) -> str:
        """A dense layer."""
        weight = self.normal(f"{name}.weight", inputs**-0.5, inputs, outputs)
        bias = self.normal(f"{name}.bias", 0.02, outputs)
        return self.node("Add", self.node("MatMul", x, weight), bias)

    def norm(self, x: str, name: str) -> str:
        """Layer normalisation over the last axis."""
        scale = self.constant(f"{name}.weight", np.ones(WIDTH, np.float32))
        bias = self.constant(f"{name}.bias", np.zeros(WIDTH, np.float32))
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPSILON)


def bert_layer() -> bytes:
    """An encoder layer: attention, norm, feed-forward with GELU, norm; 7.1 M weights."""
    net = _Layer()
    split = net.constant("heads", np.array([1, TOKENS, HEADS, WIDTH // HEADS], np.int64))
    join = net.constant("joined", np.array([1, TOKENS, WIDTH], np.int64))
    half = net.constant("scale", np.float32((WIDTH // HEADS) ** -0.5).reshape(1))

    def heads(name: str, *perm: int) -> str:
        x = net.node("Reshape", net.dense(INPUT_NAME, name, WIDTH, WIDTH), split)
        return net.node("Transpose", x, perm=perm)

    query, key = heads("query", 0, 2, 1, 3), heads("key", 0, 2, 3, 1)
    value = heads("value", 0, 2, 1, 3)
    scores = net.node("Mul", net.node("MatMul", query, key), half)
    weighted = net.node("MatMul", net.node("Softmax", scores, axis=-1), value)
    context = net.node("Reshape", net.node("Transpose", weighted, perm=[0, 2, 1, 3]), join)
    x = net.node("Add", INPUT_NAME, net.dense(context, "output", WIDTH, WIDTH))
    x = net.norm(x, "norm1")
    inside = net.node("Gelu", net.dense(x, "inner", WIDTH, INNER))
    x = net.norm(net.node("Add", x, net.dense(inside, "outer", INNER, WIDTH)), "norm2")
    shape = (1, TOKENS, WIDTH)
    graph = helper.make_graph(
        net.nodes,
        "bert_layer",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
        net.weights,
    )
    return _finished(graph)
