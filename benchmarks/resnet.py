"""Networks of the shape of ResNet-50 (He et al. 2015), in the operators that programs have.

Batch normalisation is folded into the convolutions before it, as deployed models have it; the
global average is a depthwise convolution with 7x7 weights of 1/49. Only the shape matters here:
weights are one repeated pattern, since compiling with declared formats and checking never look at
them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["DEPTHS", "INPUT_NAME", "resnet"]

INPUT_NAME = "image"
DEPTHS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Bottleneck blocks per stage, by the number of layers."""


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, *operands: str, **attributes: Any) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(operands), [name], name=name, **attributes))
        return name

    def weight(self, *shape: int, value: float | None = None) -> str:
        name = f"w{len(self.weights)}"
        count = int(np.prod(shape))
        flat = np.resize(np.array([0.01, -0.02, 0.03], np.float32), count)
        array = flat if value is None else np.full(count, value, np.float32)
        self.weights.append(numpy_helper.from_array(array.reshape(shape), name))
        return name

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> str:
        weight, bias = self.weight(outputs, inputs, kernel, kernel), self.weight(outputs)
        return self.node(
            "Conv",
            *(x, weight, bias),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )

    def block(self, x: str, inputs: int, inner: int, stride: int) -> str:
        """A bottleneck: 1x1, 3x3, 1x1, and the way around it."""
        y = self.node("Relu", self.conv(x, inputs, inner, 1))
        y = self.node("Relu", self.conv(y, inner, inner, 3, stride))
        y = self.conv(y, inner, 4 * inner, 1)
        if inputs != 4 * inner or stride != 1:
            x = self.conv(x, inputs, 4 * inner, 1, stride)
        return self.node("Relu", self.node("Add", y, x))


def resnet(layers: int = 50, size: int = 224) -> bytes:
    """An ONNX file with one input ``image`` of 1 x 3 x size x size and 1000 outputs.

    Args:
        layers: a key of :data:`DEPTHS`.
        size: a multiple of 32.
    """
    build = _Builder()
    x = build.node("Relu", build.conv(INPUT_NAME, 3, 64, 7, 2))
    x = build.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, blocks in enumerate(DEPTHS[layers]):
        inner = 64 << stage
        for block in range(blocks):
            x = build.block(x, channels, inner, 2 if stage and not block else 1)
            channels = 4 * inner
    edge = size // 32
    mean = build.weight(channels, 1, edge, edge, value=1 / edge**2)
    x = build.node("Conv", x, mean, kernel_shape=[edge, edge], group=channels)
    x = build.node("Flatten", x)
    x = build.node("MatMul", x, build.weight(channels, 1000))
    x = build.node("Add", x, build.weight(1000))
    build.nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        build.nodes,
        f"resnet{layers}",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])],
        build.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return bytes(model.SerializeToString())
