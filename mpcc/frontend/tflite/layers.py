"""TensorFlow Lite's convolutions, pools, dense layers, recurrent layers and resampling.

Data are [N, H, W, C]; passes of the tensor level remove the pairs of transposes in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mpcc.frontend.tflite.node import Handler, Node

__all__ = ["HANDLERS", "activated"]

_PADDING = ("SAME_UPPER", "VALID")

_ACTIVATIONS: Mapping[int, str] = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH"}

_FIRST = (0, 3, 1, 2)
_LAST = (0, 2, 3, 1)


# --- activations ---------------------------------------------------------------------------------


def clipped(node: Node, x: str, lo: float, hi: float) -> str:
    """Numbers, cut off at both ends."""
    return node.emit("Clip", x, node.public(lo), node.public(hi))


def activation(node: Node, kind: str, x: str) -> str:
    """An activation by its name in TensorFlow Lite."""
    if kind == "RELU":
        return node.emit("Relu", x)
    if kind == "TANH":
        return node.emit("Tanh", x)
    ends = {"RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0), "RELU_0_TO_1": (0.0, 1.0)}
    return clipped(node, x, *ends[kind])


def activated(node: Node, x: str) -> str:
    """The result of an operator behind the activation that is a part of it."""
    number = node.option("activation")
    if number == 0:
        return x
    if number not in _ACTIVATIONS:
        node.refuse(f"its activation number {number}")
    return activation(node, _ACTIVATIONS[number], x)


def _single(kind: str) -> Handler:
    def run(node: Node) -> str:
        return activation(node, kind, node.operand(0))

    return run


def leaky_relu(node: Node) -> str:
    """LEAKY_RELU: with a public slope."""
    return node.emit("LeakyRelu", node.operand(0), alpha=node.number("alpha"))


def softmax(node: Node) -> str:
    """SOFTMAX: along the last axis."""
    x, beta = node.operand(0), node.number("beta")
    if beta != 1.0:
        x = node.emit("Mul", x, node.public(beta))
    return node.emit("Softmax", x, axis=-1)


def gelu(node: Node) -> str:
    """GELU: both forms."""
    how = "tanh" if node.flag("approximate") else "none"
    return node.emit("Gelu", node.operand(0), approximate=how)


# --- convolutions --------------------------------------------------------------------------------


def _padding(node: Node) -> str:
    number = node.option("padding")
    if number not in (0, 1):
        node.refuse(f"padding number {number}")
    return _PADDING[number]


def _strides(node: Node) -> list[int]:
    return [node.option("stride_h"), node.option("stride_w")]


def _dilations(node: Node) -> list[int]:
    return [node.option("dilation_h"), node.option("dilation_w")]


def _four(node: Node, index: int) -> tuple[int, ...]:
    shape = node.shape(index)
    if len(shape) != 4:
        node.refuse(f"an operand {index} of {len(shape)} axes, not 4")
    return shape


def _bias(node: Node, index: int) -> list[str]:
    return [node.operand(index)] if node.has(index) else []


def conv(node: Node) -> str:
    """CONV_2D: both paddings, groups and dilations."""
    _four(node, 0)
    kernel = _four(node, 1)
    channels = node.sized(0, -1)
    if channels % max(node.sized(1, 3), 1):
        node.refuse(f"a kernel {list(kernel)} of data {list(node.shape(0))}")
    made = node.emit(
        "Conv",
        node.transpose(node.operand(0), _FIRST),
        node.transpose(node.operand(1), _FIRST),
        *_bias(node, 2),
        strides=_strides(node),
        dilations=_dilations(node),
        auto_pad=_padding(node),
        group=channels // node.sized(1, 3),
    )
    return activated(node, node.transpose(made, _LAST))


def depthwise(node: Node) -> str:
    """DEPTHWISE_CONV_2D: every channel by kernels of its own."""
    _four(node, 0)
    _four(node, 1)
    made = node.emit(
        "Conv",
        node.transpose(node.operand(0), _FIRST),
        node.transpose(node.operand(1), (3, 0, 1, 2)),
        *_bias(node, 2),
        strides=_strides(node),
        dilations=_dilations(node),
        auto_pad=_padding(node),
        group=node.sized(0, -1),
    )
    return activated(node, node.transpose(made, _LAST))


def conv_transpose(node: Node) -> str:
    """TRANSPOSE_CONV: transposed convolution; the size of its result must be known."""
    _four(node, 1)
    _four(node, 2)
    wanted = node.result().shape
    if wanted is None or len(wanted) != 4 or min(wanted[1:3]) < 1:
        # The file knows it if the operand is a constant.
        wanted = node.integers(0, "the shape of its result")
    if len(wanted) != 4:
        node.refuse(f"a result of shape {list(wanted)}")
    same = _padding(node) != "VALID"
    begins, ends, added = [], [], []
    for i, stride in enumerate(_strides(node)):
        have, kernel, size = node.sized(2, 1 + i), node.sized(1, 1 + i), wanted[1 + i]
        if stride < 1:
            node.refuse(f"a stride of {stride}")
        full = stride * (have - 1) + kernel
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0) if same else 0
        begins.append(total // 2)
        ends.append(total - total // 2)
        added.append(size - (full - total))
    if min(added) < 0:
        node.refuse(f"a result of shape {list(wanted)} of data {list(node.shape(2))}")
    made = node.emit(
        "ConvTranspose",
        node.transpose(node.operand(2), _FIRST),
        node.transpose(node.operand(1), (3, 0, 1, 2)),
        *_bias(node, 3),
        strides=_strides(node),
        pads=[*begins, *ends],
        output_padding=added,
    )
    return activated(node, node.transpose(made, _LAST))


def conv_3d(node: Node) -> str:
    """CONV_3D: both paddings and dilations."""
    if len(node.shape(0)) != 5 or len(node.shape(1)) != 5:
        node.refuse("operands that have not 5 axes")
    made = node.emit(
        "Conv",
        node.transpose(node.operand(0), (0, 4, 1, 2, 3)),
        node.transpose(node.operand(1), (4, 3, 0, 1, 2)),
        *_bias(node, 2),
        strides=[node.option("stride_d"), *_strides(node)],
        dilations=[node.option("dilation_d"), *_dilations(node)],
        auto_pad=_padding(node),
        group=max(node.sized(0, -1) // node.sized(1, 3), 1),
    )
    return activated(node, node.transpose(made, (0, 2, 3, 4, 1)))


# --- pools ---------------------------------------------------------------------------------------


def _pool(op: str) -> Callable[[Node], str]:
    def run(node: Node) -> str:
        made = node.emit(
            op,
            node.transpose(node.operand(0), _FIRST),
            kernel_shape=[node.option("filter_h"), node.option("filter_w")],
            strides=_strides(node),
            auto_pad=_padding(node),
        )
        return activated(node, node.transpose(made, _LAST))

    return run


# --- dense layers --------------------------------------------------------------------------------


def fully_connected(node: Node) -> str:
    """FULLY_CONNECTED: rows of data by a matrix [outputs, inputs], with a bias or without."""
    if node.option("weights_format"):
        node.refuse("weights in an order of its own", "convert the model again for the reference")
    if len(node.shape(1)) != 2:
        node.refuse(f"a matrix of shape {list(node.shape(1))}")
    x = node.operand(0)
    if not node.flag("keep_dims") and len(node.shape(0)) != 2:
        x = node.reshape(x, (-1, node.sized(1, 1)))
    made = node.emit("MatMul", x, node.transpose(node.operand(1), (1, 0)))
    if node.has(2):
        made = node.emit("Add", made, node.operand(2))
    return activated(node, made)


def batch_matmul(node: Node) -> str:
    """BATCH_MATMUL: operands transposed or not, batches broadcast."""
    operands = []
    for index, flag in enumerate(("adj_x", "adj_y")):
        operand = node.operand(index)
        if node.flag(flag):
            rank = len(node.shape(index))
            operand = node.transpose(operand, (*range(rank - 2), rank - 1, rank - 2))
        operands.append(operand)
    return node.emit("MatMul", *operands)


# --- recurrent layers ----------------------------------------------------------------------------

_GATES = (0, 3, 1, 2)
"""ONNX's order (input, output, forget, cell) among that of TensorFlow Lite: i, f, c, o."""


def lstm(node: Node) -> str:
    """UNIDIRECTIONAL_SEQUENCE_LSTM: as Keras has it, from a state of zeros."""
    if any(node.has(i) for i in (9, 10, 11, 16, 17, 20, 21, 22, 23)):
        node.refuse("an LSTM with peepholes, a projection or norms")
    if not node.has(1):
        node.refuse("an LSTM whose input gate is that of the forget gate")
    if node.option("activation") != 4:
        node.refuse("an LSTM with another activation than tanh")
    if node.number("cell_clip") or node.number("projection_clip") or node.flag("diagonal"):
        node.refuse("an LSTM whose cells are cut off, or with diagonal matrices")
    units = node.sized(1, 0)
    weights = node.emit("Concat", *(node.operand(1 + g) for g in _GATES), axis=0)
    states = node.emit("Concat", *(node.operand(5 + g) for g in _GATES), axis=0)
    given = [node.operand(12 + g) for g in _GATES]
    biases = node.emit("Concat", *given, node.public([0.0] * 4 * units), axis=0)
    first = node.positions([0])
    x = node.operand(0)
    if not node.flag("time_major"):
        x = node.transpose(x, (1, 0, 2))
    made = node.emit(
        "LSTM",
        x,
        *(node.emit("Unsqueeze", w, first) for w in (weights, states, biases)),
        hidden_size=units,
    )
    steps = node.emit("Squeeze", made, node.positions([1]))
    return steps if node.flag("time_major") else node.transpose(steps, (1, 0, 2))


# --- norms and resampling ------------------------------------------------------------------------


def l2_normalization(node: Node) -> str:
    """L2_NORMALIZATION: along the last axis."""
    return activated(node, node.emit("LpNormalization", node.operand(0), axis=-1, p=2))


def lrn(node: Node) -> str:
    """LOCAL_RESPONSE_NORMALIZATION: over neighbouring channels."""
    size = 2 * node.option("radius") + 1
    made = node.emit(
        "LRN",
        node.transpose(node.operand(0), _FIRST),
        size=size,
        alpha=node.number("alpha") * size,
        beta=node.number("beta"),
        bias=node.number("bias"),
    )
    return node.transpose(made, _LAST)


def resize(node: Node) -> str:
    """RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR: all conventions for corners."""
    align, half = node.flag("align_corners"), node.flag("half_pixel_centers")
    where = "align_corners" if align else "half_pixel" if half else "asymmetric"
    how: dict[str, str] = {"mode": "linear"}
    if node.op == "RESIZE_NEAREST_NEIGHBOR":
        # TensorFlow rounds halves up, and takes the lower neighbour where corners are not aligned.
        how = {"mode": "nearest", "nearest_mode": "round_prefer_ceil" if align else "floor"}
        if half and not align:
            where = "tf_half_pixel_for_nn"
    sizes = node.integers(1, "the size")
    if len(sizes) != 2:
        node.refuse(f"a size of {len(sizes)} numbers")
    made = node.emit(
        "Resize",
        node.transpose(node.operand(0), _FIRST),
        "",
        "",
        node.positions(sizes),
        axes=[2, 3],
        coordinate_transformation_mode=where,
        **how,
    )
    return node.transpose(made, _LAST)


HANDLERS: Mapping[str, Handler] = {
    "AVERAGE_POOL_2D": _pool("AveragePool"),
    "BATCH_MATMUL": batch_matmul,
    "CONV_2D": conv,
    "CONV_3D": conv_3d,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": fully_connected,
    "GELU": gelu,
    "L2_NORMALIZATION": l2_normalization,
    "LEAKY_RELU": leaky_relu,
    "LOCAL_RESPONSE_NORMALIZATION": lrn,
    "MAX_POOL_2D": _pool("MaxPool"),
    "RELU": _single("RELU"),
    "RELU6": _single("RELU6"),
    "RELU_0_TO_1": _single("RELU_0_TO_1"),
    "RELU_N1_TO_1": _single("RELU_N1_TO_1"),
    "RESIZE_BILINEAR": resize,
    "RESIZE_NEAREST_NEIGHBOR": resize,
    "SOFTMAX": softmax,
    "TRANSPOSE_CONV": conv_transpose,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": lstm,
}
"""Operator -> what writes it."""
