"""A small trainer of feed-forward networks in numpy, and their ONNX form.

Enough for the networks of the tests: valid convolutions, relu, 2x2 pooling, dense layers; softmax
cross-entropy; Adam (Kingma and Ba 2015). Everything is seeded.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.models import IR_VERSION

Array = npt.NDArray[Any]

INPUT_NAME = "image"
OUTPUT_NAME = "logits"
OPSET = 17


class Layer:
    """One layer: parameters, both directions, and its ONNX node."""

    op = ""

    def __init__(self) -> None:
        self.parameters: list[Array] = []
        self.gradients: list[Array] = []

    def forward(self, x: Array) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        raise NotImplementedError

    def attributes(self) -> dict[str, Any]:
        return {}


class Dense(Layer):
    op = "Gemm"

    def __init__(self, inputs: int, outputs: int, generator: np.random.Generator) -> None:
        super().__init__()
        w = generator.normal(0, np.sqrt(2 / inputs), (outputs, inputs)).astype(np.float32)
        self.parameters = [w, np.zeros(outputs, np.float32)]

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(x @ self.parameters[0].T + self.parameters[1])

    def backward(self, dy: Array) -> Array:
        self.gradients = [dy.T @ self.x, dy.sum(axis=0)]
        return np.asarray(dy @ self.parameters[0])

    def attributes(self) -> dict[str, Any]:
        return {"transB": 1}


class Conv(Layer):
    """A convolution without padding, as one product with the unfolded picture."""

    op = "Conv"

    def __init__(
        self, inputs: int, outputs: int, kernel: int, generator: np.random.Generator
    ) -> None:
        super().__init__()
        fan_in = inputs * kernel * kernel
        shape = (outputs, inputs, kernel, kernel)
        w = generator.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        self.parameters = [w, np.zeros(outputs, np.float32)]

    def forward(self, x: Array) -> Array:
        w, b = self.parameters
        k = w.shape[2]
        self.shape = x.shape
        windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))
        # [N, H, W, C, k, k], so that each output pixel is a row.
        self.rows = np.ascontiguousarray(windows.transpose(0, 2, 3, 1, 4, 5)).reshape(-1, w[0].size)
        n, _, h, v = windows.shape[:4]
        y = self.rows @ w.reshape(len(w), -1).T + b
        return y.reshape(n, h, v, len(w)).transpose(0, 3, 1, 2)

    def backward(self, dy: Array) -> Array:
        w, _ = self.parameters
        k = w.shape[2]
        n, outputs, h, v = dy.shape
        rows = dy.transpose(0, 2, 3, 1).reshape(-1, outputs)
        self.gradients = [(rows.T @ self.rows).reshape(w.shape), rows.sum(axis=0)]
        columns = (rows @ w.reshape(outputs, -1)).reshape(n, h, v, w.shape[1], k, k)
        dx = np.zeros(self.shape, dy.dtype)
        for i, j in np.ndindex(k, k):
            dx[:, :, i : i + h, j : j + v] += columns[..., i, j].transpose(0, 3, 1, 2)
        return dx

    def attributes(self) -> dict[str, Any]:
        return {"kernel_shape": list(self.parameters[0].shape[2:])}


class Relu(Layer):
    op = "Relu"

    def forward(self, x: Array) -> Array:
        self.positive = x > 0
        return np.where(self.positive, x, 0)

    def backward(self, dy: Array) -> Array:
        return np.where(self.positive, dy, 0)


class MaxPool(Layer):
    """Windows 2x2 with stride 2 over even sizes; equal values share the gradient."""

    op = "MaxPool"

    def forward(self, x: Array) -> Array:
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
        y = blocks.max(axis=(3, 5))
        chosen = blocks == y[:, :, :, None, :, None]
        self.share = chosen / chosen.sum(axis=(3, 5), keepdims=True, dtype=x.dtype)
        return np.asarray(y)

    def backward(self, dy: Array) -> Array:
        n, c, h, w = dy.shape
        dx = self.share * dy[:, :, :, None, :, None]
        return np.asarray(dx.reshape(n, c, 2 * h, 2 * w), dy.dtype)

    def attributes(self) -> dict[str, Any]:
        return {"kernel_shape": [2, 2], "strides": [2, 2]}


class Flatten(Layer):
    op = "Flatten"

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(self.shape)


@dataclass
class Sequential:
    """Layers one after the other."""

    layers: Sequence[Layer]

    def forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def fit(
        self, x: Array, labels: Array, epochs: int, batch: int = 64, rate: float = 2e-3
    ) -> None:
        """Train on x [N, ...] float32 and labels [N] with Adam and a rate that falls to zero."""
        generator = np.random.default_rng(1)
        adam = Adam([p for layer in self.layers for p in layer.parameters])
        steps = epochs * (len(x) // batch)
        step = 0
        for _ in range(epochs):
            order = generator.permutation(len(x))
            for start in range(0, len(x) - batch + 1, batch):
                chosen = order[start : start + batch]
                gradient = cross_entropy_gradient(self.forward(x[chosen]), labels[chosen])
                for layer in reversed(self.layers):
                    gradient = layer.backward(gradient)
                gradients = [g for layer in self.layers for g in layer.gradients]
                adam.update(gradients, rate * (1 - step / steps))
                step += 1

    def predict(self, x: Array) -> Array:
        """Classes [N]."""
        return np.concatenate([self.forward(x[i : i + 500]) for i in range(0, len(x), 500)]).argmax(
            1
        )

    def to_onnx(self, input_shape: Sequence[int], outputs: int) -> bytes:
        """An ONNX file for inputs of this shape, the batch first."""
        nodes, weights, value = [], [], INPUT_NAME
        for i, layer in enumerate(self.layers):
            name = OUTPUT_NAME if i == len(self.layers) - 1 else f"{layer.op.lower()}_{i}"
            operands = [value]
            for j, parameter in enumerate(layer.parameters):
                operands.append(f"w{i}_{j}")
                weights.append(numpy_helper.from_array(parameter, operands[-1]))
            nodes.append(
                helper.make_node(layer.op, operands, [name], name=name, **layer.attributes())
            )
            value = name
        return export(nodes, weights, input_shape, outputs)


def export(
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    input_shape: Sequence[int],
    outputs: int,
) -> bytes:
    """A checked model from ``image`` of this shape to ``logits`` [batch, outputs]."""
    shape = [input_shape[0], outputs]
    graph = helper.make_graph(
        nodes,
        "trained",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def cross_entropy_gradient(logits: Array, labels: Array) -> Array:
    """Gradient of the mean softmax cross-entropy with respect to the logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    gradient = shifted / shifted.sum(axis=1, keepdims=True)
    gradient[np.arange(len(labels)), labels] -= 1
    return gradient / np.float32(len(labels))


@dataclass
class Adam:
    """Changes parameters in place."""

    parameters: list[Array]
    step: int = 0
    first: list[Array] = field(default_factory=list)
    second: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.first = [np.zeros_like(p) for p in self.parameters]
        self.second = [np.zeros_like(p) for p in self.parameters]

    def update(self, gradients: Sequence[Array], rate: float) -> None:
        self.step += 1
        scale = np.float32(rate * np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step))
        for p, m, v, g in zip(self.parameters, self.first, self.second, gradients, strict=True):
            m += np.float32(0.1) * (g - m)
            v += np.float32(0.001) * (g * g - v)
            p -= scale * m / (np.sqrt(v) + np.float32(1e-7))


def mlp(sizes: Sequence[int], seed: int = 1) -> Sequential:
    """Dense layers with relu between them."""
    generator = np.random.default_rng(seed)
    layers: list[Layer] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [Dense(inputs, outputs, generator), Relu()]
    return Sequential(layers[:-1])


def cnn(
    size: int, channels: Sequence[int], kernel: int, hidden: int, pools: int = 2, seed: int = 1
) -> Sequential:
    """LeNet's shape: convolutions with relu, the first ``pools`` with pooling, two dense layers."""
    generator = np.random.default_rng(seed)
    layers: list[Layer] = []
    inputs = 1
    for i, outputs in enumerate(channels):
        layers += [Conv(inputs, outputs, kernel, generator), Relu()]
        inputs, size = outputs, size - kernel + 1
        if i < pools:
            layers.append(MaxPool())
            size //= 2
    layers += [Flatten(), Dense(inputs * size * size, hidden, generator), Relu()]
    return Sequential([*layers, Dense(hidden, 10, generator)])
