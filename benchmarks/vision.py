"""Graphs in the shape of well known vision models, with seeded random weights.

MobileNetV2 (Sandler et al. 2018, table 2), ResNet-18 and -50 (He et al. 2015, table 1), VGG-16
(Simonyan and Zisserman 2015, configuration D) and U-Net (Ronneberger et al. 2015, figure 1), as an
exporter writes them: batch normalisation as its own node, relu6 as Clip, global pooling before the
classifier. Depth, channels and strides are those of the papers, but where a function says that it
is the variant for pictures of 32 x 32; ``width`` scales the channels and the resolution is free, so
that a test can take a small one. Weights are He-initialised, not trained; every normalisation holds
the statistics of its own input on seeded images, as training leaves it, so that values keep their
size in any depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.models import IR_VERSION, FloatArray

__all__ = [
    "INPUT_NAME",
    "OUTPUT_NAME",
    "VISION",
    "images",
    "mobilenet_v2",
    "resnet18",
    "resnet18_small",
    "resnet50",
    "unet",
    "vgg16_small",
]

OPSET = 17
INPUT_NAME = "image"
OUTPUT_NAME = "logits"

_STATISTICS_IMAGES = 16


def images(count: int, size: int, seed: int = 1) -> FloatArray:
    """Smooth coloured pictures ``[count, 3, size, size]`` in [-1, 1], each of another contrast."""
    generator = np.random.default_rng(seed)
    grid = np.linspace(0.0, 1.0, size)
    result = np.zeros((count, 3, size, size))
    for _ in range(6):
        frequency = generator.uniform(-3, 3, (2, count, 3, 1, 1))
        phase = generator.uniform(0, 1, (count, 3, 1, 1))
        wave = frequency[0] * grid[:, None] + frequency[1] * grid + phase
        result += generator.normal(0, 1, (count, 3, 1, 1)) * np.sin(2 * np.pi * wave)
    contrast = generator.uniform(0.3, 1.0, (count, 1, 1, 1))
    return (contrast * result / np.abs(result).max(axis=(1, 2, 3), keepdims=True)).astype(
        np.float32
    )


class _Graph:
    """Nodes over named values; knows the channels of each value and its values on some images."""

    def __init__(
        self, batch: int, size: int, seed: int, statistics_images: int = _STATISTICS_IMAGES
    ) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape = (batch, 3, size, size)
        self.channels = {INPUT_NAME: 3}
        self.values: dict[str, FloatArray] = {INPUT_NAME: images(statistics_images, size, seed)}

    def constant(self, values: npt.ArrayLike) -> str:
        """A float32 initialiser."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def node(self, op: str, *operands: str, channels: int, **attributes: Any) -> str:
        """Append a node and compute it on the images."""
        name = f"{op.lower()}_{len(self.nodes)}"
        node = helper.make_node(op, operands, [name], name=name, **attributes)
        self.nodes.append(node)
        self.channels[name] = channels
        self.values[name] = self._evaluate(node)
        return name

    def _evaluate(self, node: onnx.NodeProto) -> FloatArray:
        import onnxruntime

        data = [n for n in dict.fromkeys(node.input) if n in self.values]
        weights = [w for w in self.weights if w.name in node.input]
        inputs = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, self.values[n].shape) for n in data
        ]
        output = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        graph = helper.make_graph([node], "one", inputs, [output], weights)
        session = onnxruntime.InferenceSession(
            _model(graph).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (result,) = session.run(None, {n: self.values[n] for n in data})
        return np.asarray(result, np.float32)

    def conv(self, x: str, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        """Convolution without bias that keeps the size up to its stride."""
        per_group = self.channels[x] // groups
        shape = (channels, per_group, kernel, kernel)
        fan_in = per_group * kernel * kernel
        weight = self.constant(self.generator.normal(0, np.sqrt(2 / fan_in), shape))
        pad = kernel // 2
        return self.node(
            "Conv", x, weight, channels=channels, kernel_shape=[kernel] * 2,
            strides=[stride] * 2, pads=[pad] * 4, group=groups,
        )  # fmt: skip

    def up(self, x: str, channels: int) -> str:
        """Transposed convolution 2x2 with stride 2, and a bias."""
        shape = (self.channels[x], channels, 2, 2)
        weight = self.constant(self.generator.normal(0, np.sqrt(1 / self.channels[x]), shape))
        bias = self.constant(self.generator.uniform(-0.1, 0.1, channels))
        return self.node(
            "ConvTranspose", x, weight, bias, channels=channels, kernel_shape=[2, 2], strides=[2, 2]
        )

    def norm(self, x: str) -> str:
        """Batch normalisation with the statistics of x, and a random scale and shift."""
        channels = self.channels[x]
        values = self.values[x].astype(np.float64)
        parameters = (
            self.generator.uniform(0.5, 1.5, channels),
            self.generator.normal(0, 0.3, channels),
            values.mean(axis=(0, 2, 3)),
            values.var(axis=(0, 2, 3)) + 1e-3,
        )
        names = [self.constant(p) for p in parameters]
        return self.node("BatchNormalization", x, *names, channels=channels, epsilon=1e-5)

    def same(self, op: str, *operands: str, **attributes: Any) -> str:
        """A node whose result has its first operand's channels."""
        return self.node(op, *operands, channels=self.channels[operands[0]], **attributes)

    def relu(self, x: str) -> str:
        """Relu."""
        return self.same("Relu", x)

    def relu6(self, x: str) -> str:
        """Relu that saturates at 6."""
        if not any(w.name == "six" for w in self.weights):
            self.weights.append(numpy_helper.from_array(np.float32(0), "zero"))
            self.weights.append(numpy_helper.from_array(np.float32(6), "six"))
        return self.same("Clip", x, "zero", "six")

    def classifier(self, x: str, classes: int) -> str:
        """Global average, then a dense layer whose scores differ by a few units, no class ahead."""
        pooled = self.same("GlobalAveragePool", x)
        return self.scores(self.same("Flatten", pooled, axis=1), classes)

    def scores(self, flat: str, classes: int) -> str:
        """The dense layer of :meth:`classifier`."""
        values = self.values[flat].astype(np.float64)
        middle = values.mean(axis=0)
        scores = self.generator.normal(0, 1, (classes, values.shape[1]))
        scores *= 3 / ((values - middle) @ scores.T).std()
        names = (self.constant(scores), self.constant(-scores @ middle))
        return self.node("Gemm", flat, *names, channels=classes, transB=1)

    def dense(self, flat: str, outputs: int) -> str:
        """A dense layer with a bias."""
        inputs = self.values[flat].shape[1]
        weight = self.constant(self.generator.normal(0, np.sqrt(2 / inputs), (outputs, inputs)))
        bias = self.constant(self.generator.uniform(-0.1, 0.1, outputs))
        return self.node("Gemm", flat, weight, bias, channels=outputs, transB=1)

    def pixel_classifier(self, x: str, classes: int) -> str:
        """The same for every pixel: a convolution 1x1 with a bias."""
        values = self.values[x].astype(np.float64)
        middle = values.mean(axis=(0, 2, 3))
        scores = self.generator.normal(0, 1, (classes, self.channels[x]))
        scores *= 3 / np.einsum("nchw,kc->nkhw", values - middle[:, None, None], scores).std()
        names = (self.constant(scores[:, :, None, None]), self.constant(-scores @ middle))
        return self.node("Conv", x, *names, channels=classes, kernel_shape=[1, 1])

    def finish(self, name: str, result: str) -> onnx.ModelProto:
        """The model whose output is ``result``."""
        shape = (self.shape[0], *self.values[result].shape[1:])
        self.nodes.append(helper.make_node("Identity", [result], [OUTPUT_NAME], name="end"))
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, shape)],
            self.weights,
        )
        model = _model(graph)
        onnx.checker.check_model(model, full_check=True)
        return model


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    model.producer_name = "mpcc-benchmarks"
    return model


#: Expansion, channels, repeats, stride of the first: table 2 of the paper.
_MOBILENET: Sequence[tuple[int, int, int, int]] = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    size: int = 224, width: float = 1.0, classes: int = 1000, batch: int = 1, seed: int = 1
) -> onnx.ModelProto:
    """Inverted residuals with depthwise convolutions and relu6 on ``[batch, 3, size, size]``."""
    g = _Graph(batch, size, seed)

    def scaled(channels: int) -> int:
        return max(8, int(channels * width + 4) // 8 * 8)

    x = g.relu6(g.norm(g.conv(INPUT_NAME, scaled(32), 3, 2)))
    for expansion, channels, repeats, first_stride in _MOBILENET:
        for i in range(repeats):
            stride = first_stride if i == 0 else 1
            hidden = g.channels[x] * expansion
            y = x
            if expansion > 1:
                y = g.relu6(g.norm(g.conv(y, hidden, 1)))
            y = g.relu6(g.norm(g.conv(y, hidden, 3, stride, groups=hidden)))
            y = g.norm(g.conv(y, scaled(channels), 1))
            joined = stride == 1 and g.channels[x] == g.channels[y]
            x = g.same("Add", x, y) if joined else y
    x = g.relu6(g.norm(g.conv(x, scaled(1280), 1)))
    return g.finish("mobilenet_v2", g.classifier(x, classes))


def _basic_blocks(g: _Graph, x: str, width: float) -> str:
    """Four stages of two basic blocks each, with shortcuts."""
    for stage in range(4):
        channels = round(64 * width) * 2**stage
        for i in range(2):
            stride = 2 if stage > 0 and i == 0 else 1
            y = g.relu(g.norm(g.conv(x, channels, 3, stride)))
            y = g.norm(g.conv(y, channels, 3))
            if stride > 1 or g.channels[x] != channels:
                x = g.norm(g.conv(x, channels, 1, stride))
            x = g.relu(g.same("Add", y, x))
    return x


def resnet18(
    size: int = 224, width: float = 1.0, classes: int = 1000, batch: int = 1, seed: int = 1
) -> onnx.ModelProto:
    """Eight basic blocks with shortcuts on ``[batch, 3, size, size]``."""
    g = _Graph(batch, size, seed)
    x = g.relu(g.norm(g.conv(INPUT_NAME, round(64 * width), 7, 2)))
    x = g.same("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    return g.finish("resnet18", g.classifier(_basic_blocks(g, x, width), classes))


def resnet18_small(
    size: int = 32, width: float = 1.0, classes: int = 10, batch: int = 1, seed: int = 1
) -> onnx.ModelProto:
    """ResNet-18 as it is used for pictures of 32 x 32: begins with 3x3, stride 1, no pooling."""
    g = _Graph(batch, size, seed)
    x = g.relu(g.norm(g.conv(INPUT_NAME, round(64 * width), 3)))
    return g.finish("resnet18_small", g.classifier(_basic_blocks(g, x, width), classes))


_BOTTLENECKS = (3, 4, 6, 3)
"""Blocks per stage of ResNet-50."""


def resnet50(
    size: int = 224, width: float = 1.0, classes: int = 1000, batch: int = 1, seed: int = 1
) -> onnx.ModelProto:
    """Sixteen bottleneck blocks on ``[batch, 3, size, size]``; strides in the 3x3 convolutions."""
    g = _Graph(batch, size, seed, statistics_images=4)
    x = g.relu(g.norm(g.conv(INPUT_NAME, round(64 * width), 7, 2)))
    x = g.same("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, blocks in enumerate(_BOTTLENECKS):
        inner = round(64 * width) * 2**stage
        for i in range(blocks):
            stride = 2 if stage > 0 and i == 0 else 1
            y = g.relu(g.norm(g.conv(x, inner, 1)))
            y = g.relu(g.norm(g.conv(y, inner, 3, stride)))
            y = g.norm(g.conv(y, 4 * inner, 1))
            if i == 0:
                x = g.norm(g.conv(x, 4 * inner, 1, stride))
            x = g.relu(g.same("Add", y, x))
    return g.finish("resnet50", g.classifier(x, classes))


def vgg16_small(
    size: int = 32, width: float = 1.0, classes: int = 10, batch: int = 1, seed: int = 1
) -> onnx.ModelProto:
    """VGG-16 as it is used for pictures of 32 x 32: dense layers of 256, batch normalisation.

    The size is a multiple of 32; the dense layers are those of Wagh et al. 2021 (Falcon).
    """
    g = _Graph(batch, size, seed)
    x = INPUT_NAME
    for channels, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            x = g.relu(g.norm(g.conv(x, round(channels * width), 3)))
        x = g.same("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.same("Flatten", x, axis=1)
    for _ in range(2):
        x = g.relu(g.dense(x, round(256 * width)))
    return g.finish("vgg16_small", g.scores(x, classes))


def unet(
    size: int = 256, width: float = 1.0, classes: int = 2, batch: int = 1, seed: int = 1
) -> onnx.ModelProto:
    """Four levels down and up with skip connections; class scores per pixel.

    On ``[batch, 3, size, size]`` with a size that 16 divides. Convolutions are padded, so that the
    answer has the size of the picture; the paper's are not.
    """
    g = _Graph(batch, size, seed)

    def twice(x: str, channels: int) -> str:
        for _ in range(2):
            x = g.relu(g.norm(g.conv(x, channels, 3)))
        return x

    skips: list[str] = []
    x = INPUT_NAME
    channels = round(64 * width)
    for _ in range(4):
        x = twice(x, channels)
        skips.append(x)
        x = g.same("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        channels *= 2
    x = twice(x, channels)
    for skip in reversed(skips):
        channels //= 2
        joined = g.node("Concat", skip, g.up(x, channels), channels=2 * channels, axis=1)
        x = twice(joined, channels)
    return g.finish("unet", g.pixel_classifier(x, classes))


VISION: dict[str, Callable[..., onnx.ModelProto]] = {
    "mobilenet-v2": mobilenet_v2,
    "resnet-18": resnet18,
    "unet": unet,
}
"""By name; each takes ``size``, ``width``, ``classes``, ``batch`` and ``seed``."""
