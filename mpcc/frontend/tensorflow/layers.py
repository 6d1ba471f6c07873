"""TensorFlow's convolutions, pools, normalisations and resampling.

Data [N, H, W, C] are transposed to ONNX's order before such an operator and back behind it; passes
of the tensor level remove the pairs in between.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpcc.frontend.importer import Constant, Operand, type_of
from mpcc.frontend.tensorflow.node import Node, Operator
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape

__all__ = ["OPERATORS", "channels_first", "channels_last"]

_SAME = {"SAME": "SAME_UPPER", "VALID": "VALID", "EXPLICIT": "NOTSET"}


# --- the order of axes ---------------------------------------------------------------------------


def _is_last(node: Node) -> bool:
    """Whether the data's channels are the last axis."""
    given = node.text("data_format", "NHWC")
    if given not in ("NHWC", "NDHWC", "NCHW", "NCDHW"):
        node.refuse(f"data_format {given}")
    return given.endswith("C")


def channels_first(node: Node, x: Operand) -> Operand:
    """Data in ONNX's order of axes."""
    rank = len(type_of(x).shape)
    if rank < 3:
        node.refuse(f"data of shape {list(type_of(x).shape)} has no spatial axes")
    return node.transpose(x, (0, rank - 1, *range(1, rank - 1))) if _is_last(node) else x


def channels_last(node: Node, x: Operand) -> Operand:
    """A result in the node's own order of axes."""
    rank = len(type_of(x).shape)
    return node.transpose(x, (0, *range(2, rank), 1)) if _is_last(node) else x


def _spatial(node: Node, numbers: tuple[int, ...], what: str) -> list[int]:
    """The spatial ones of numbers per axis of the data; the others must be 1."""
    last = _is_last(node)
    rank = len(numbers) - 2
    inner = numbers[1:-1] if last else numbers[2:]
    outer = (numbers[0], numbers[-1]) if last else numbers[:2]
    if rank < 1 or outer != (1, 1):
        node.refuse(f"{what} {list(numbers)}, which are not of spatial axes alone")
    return list(inner)


def _padding(node: Node) -> dict[str, object]:
    """The padding as attributes of ONNX."""
    mode = node.text("padding")
    if mode not in _SAME:
        node.refuse(f"padding {mode}")
    if mode != "EXPLICIT":
        return {"auto_pad": _SAME[mode]}
    given = np.asarray(node.ints("explicit_paddings")).reshape(-1, 2)
    inner = given[1:-1] if _is_last(node) else given[2:]
    return {"pads": [*inner[:, 0].tolist(), *inner[:, 1].tolist()]}


# --- convolutions --------------------------------------------------------------------------------


def conv(node: Node) -> Operand:
    """Conv2D, Conv3D: all paddings, groups and dilations."""
    x = channels_first(node, node.operand(0))
    shape, kernel = type_of(x).shape, node.shape(1)
    rank = len(shape)
    if len(kernel) != rank or shape[1] % kernel[-2]:
        node.refuse(f"a kernel {list(kernel)} of data {list(node.shape(0))}")
    weights = node.transpose(node.operand(1), (rank - 1, rank - 2, *range(rank - 2)))
    made = node.onnx(
        "Conv",
        x,
        weights,
        strides=_spatial(node, node.ints("strides"), "strides"),
        dilations=_dilations(node, rank),
        group=shape[1] // kernel[-2],
        **_padding(node),
    )
    return channels_last(node, made)


def _dilations(node: Node, rank: int) -> list[int]:
    return _spatial(node, node.ints("dilations") or (1,) * rank, "dilations")


def depthwise(node: Node) -> Operand:
    """DepthwiseConv2dNative: every channel by kernels of its own."""
    x = channels_first(node, node.operand(0))
    channels, kernel = type_of(x).shape[1], node.shape(1)
    if len(kernel) != 4 or kernel[2] != channels:
        node.refuse(f"a kernel {list(kernel)} of data {list(node.shape(0))}")
    height, width, _, times = kernel
    turned = node.transpose(node.operand(1), (2, 3, 0, 1))
    made = node.onnx(
        "Conv",
        x,
        node.reshape(turned, (channels * times, 1, height, width)),
        strides=_spatial(node, node.ints("strides"), "strides"),
        dilations=_dilations(node, 4),
        group=channels,
        **_padding(node),
    )
    return channels_last(node, made)


def conv_transpose(node: Node) -> Operand:
    """Conv2DBackpropInput, Conv3DBackpropInputV2: transposed convolutions."""
    x = channels_first(node, node.operand(2))
    wanted = node.integers(0, "the shape of its result")
    rank = len(type_of(x).shape)
    if len(wanted) not in (rank, rank - 2):
        node.refuse(f"a result {list(wanted)} of data {list(node.shape(2))}")
    sizes = wanted if len(wanted) == rank - 2 else wanted[1:-1] if _is_last(node) else wanted[2:]
    kernel = node.shape(1)
    strides = _spatial(node, node.ints("strides"), "strides")
    dilations = _dilations(node, rank)
    have = type_of(x).shape[2:]
    begins, ends, added = [], [], []
    explicit = _padding(node).get("pads")
    for i, size in enumerate(sizes):
        span = dilations[i] * (kernel[i] - 1) + 1
        full = strides[i] * (have[i] - 1) + span
        total = 0
        if node.text("padding") == "SAME":
            total = max((-(-size // strides[i]) - 1) * strides[i] + span - size, 0)
        begin = total // 2
        end = total - begin
        if isinstance(explicit, list):
            begin, end = explicit[i], explicit[len(sizes) + i]
        begins.append(begin)
        ends.append(end)
        added.append(size - (full - begin - end))
    if min(added) < 0:
        node.refuse(f"a result {list(wanted)} of data {list(node.shape(2))}")
    weights = node.transpose(node.operand(1), (rank - 1, rank - 2, *range(rank - 2)))
    made = node.onnx(
        "ConvTranspose",
        x,
        weights,
        strides=strides,
        dilations=dilations,
        pads=[*begins, *ends],
        output_padding=added,
    )
    return channels_last(node, made)


def bias_add(node: Node) -> Operand:
    """BiasAdd: a number per channel."""
    bias = node.operand(1)
    if not _is_last(node):
        size = type_of(bias).shape[0]
        bias = node.reshape(bias, (size, *[1] * (len(node.shape(0)) - 2)))
    return node.onnx("Add", node.operand(0), bias)


# --- pools ---------------------------------------------------------------------------------------


def _pool(node: Node, op: str) -> Operand:
    kernel, strides = node.ints("ksize"), node.ints("strides")
    if node.op == "MaxPoolV2":
        kernel = node.integers(1, "the window")
        strides = node.integers(2, "the strides")
    made = node.onnx(
        op,
        channels_first(node, node.operand(0)),
        kernel_shape=_spatial(node, kernel, "windows"),
        strides=_spatial(node, strides, "strides"),
        **_padding(node),
    )
    return channels_last(node, made)


def max_pool(node: Node) -> Operand:
    """MaxPool, MaxPool3D: maxima over windows."""
    return _pool(node, "MaxPool")


def average_pool(node: Node) -> Operand:
    """AvgPool, AvgPool3D: means over windows, of what is not padding."""
    return _pool(node, "AveragePool")


# --- normalisation -------------------------------------------------------------------------------


def batch_norm(node: Node) -> Operand:
    """FusedBatchNorm: with constant statistics, or over every channel of the data."""
    x = channels_first(node, node.operand(0))
    epsilon = node.number("epsilon", 1e-4)
    if not node.flag("is_training", True):
        made = node.onnx(
            "BatchNormalization", x, *(node.operand(i) for i in range(1, 5)), epsilon=epsilon
        )
        return channels_last(node, made)
    shape = type_of(x).shape
    if node.number("exponential_avg_factor", 1.0) != 1.0:
        node.refuse("training mode", "export the model for inference (training=False)")
    # Layer normalisations of Keras 2 are spelled so.
    rank = len(shape)
    turned = node.transpose(x, (1, 0, *range(2, rank)))
    ones = node.public("ones", np.ones([d for i, d in enumerate(shape) if i != 1]))
    unit = node.onnx("LayerNormalization", turned, ones, axis=1, epsilon=epsilon)
    moved = node.transpose(unit, (1, 0, *range(2, rank)))
    channels = (shape[1], *[1] * (rank - 2))
    scaled = node.onnx("Mul", moved, node.reshape(node.operand(1), channels))
    return channels_last(node, node.onnx("Add", scaled, node.reshape(node.operand(2), channels)))


def lrn(node: Node) -> Operand:
    """LRN: over neighbouring channels."""
    size = 2 * node.integer("depth_radius", 5) + 1
    x = node.transpose(node.operand(0), (0, 3, 1, 2))
    made = node.onnx(
        "LRN",
        x,
        size=size,
        alpha=node.number("alpha", 1.0) * size,
        beta=node.number("beta", 0.5),
        bias=node.number("bias", 1.0),
    )
    return node.transpose(made, (0, 2, 3, 1))


# --- resampling ----------------------------------------------------------------------------------


def resize(node: Node) -> Operand:
    """ResizeBilinear, ResizeNearestNeighbor, ResizeBicubic: all conventions for corners."""
    align, half = node.flag("align_corners"), node.flag("half_pixel_centers")
    coordinates = "align_corners" if align else "half_pixel" if half else "asymmetric"
    attrs: dict[str, object] = {"coordinate_transformation_mode": coordinates}
    if node.op == "ResizeNearestNeighbor":
        # TensorFlow rounds halves up, and takes the lower neighbour where corners are not aligned.
        attrs |= {"mode": "nearest", "nearest_mode": "round_prefer_ceil" if align else "floor"}
        if half and not align:
            attrs["coordinate_transformation_mode"] = "tf_half_pixel_for_nn"
    elif node.op == "ResizeBilinear":
        attrs["mode"] = "linear"
    else:
        attrs |= {"mode": "cubic", "cubic_coeff_a": -0.5 if half else -0.75}
        attrs["exclude_outside"] = int(half)
    sizes = node.integers(1, "the size")
    x = node.transpose(node.operand(0), (0, 3, 1, 2))
    shape: Shape = type_of(x).shape
    wanted = node.positions([*shape[:2], *sizes])
    return node.transpose(node.onnx("Resize", x, None, None, wanted, **attrs), (0, 2, 3, 1))


# --- products ------------------------------------------------------------------------------------


def matmul(node: Node) -> Operand:
    """MatMul, BatchMatMul: operands transposed or not, batches broadcast."""
    pair = ("transpose_a", "transpose_b") if node.op == "MatMul" else ("adj_x", "adj_y")
    operands = []
    for index, flag in enumerate(pair):
        operand = node.operand(index)
        rank = len(type_of(operand).shape)
        if node.flag(flag):
            operand = node.transpose(operand, (*range(rank - 2), rank - 1, rank - 2))
        operands.append(operand)
    return node.onnx("MatMul", *operands)


def einsum(node: Node) -> Operand:
    """Einsum: all equations."""
    operands = [node.operand(i) for i in range(node.count)]
    return node.onnx("Einsum", *operands, equation=node.text("equation"))


def softmax(node: Node) -> Operand:
    """Softmax, LogSoftmax: along the last axis."""
    return node.onnx(node.op, node.operand(0), axis=-1)


def relu6(node: Node) -> Operand:
    """Relu6: min(max(x, 0), 6)."""
    return node.emit(tensor.Clip, node.value(0), lo=0.0, hi=6.0)


def leaky_relu(node: Node) -> Operand:
    """LeakyRelu: alpha x below zero."""
    return node.onnx("LeakyRelu", node.operand(0), alpha=node.number("alpha", 0.2))


def clip(node: Node) -> Operand:
    """ClipByValue: between public bounds, or computed ones."""
    bounds: list[Operand] = []
    for i in (1, 2):
        bound = node.operand(i)
        if isinstance(bound, Constant) and bound.array.size == 1:
            bound = node.reshape(bound, ()) if not bound.is_float else bound
        bounds.append(bound)
    return node.onnx("Clip", node.operand(0), *bounds)


OPERATORS: Mapping[str, Operator] = {
    "AvgPool": Operator(average_pool),
    "AvgPool3D": Operator(average_pool),
    "BatchMatMul": Operator(matmul),
    "BatchMatMulV2": Operator(matmul),
    "BatchMatMulV3": Operator(matmul),
    "BiasAdd": Operator(bias_add),
    "ClipByValue": Operator(clip),
    "Conv2D": Operator(conv),
    "Conv2DBackpropInput": Operator(conv_transpose),
    "Conv3D": Operator(conv),
    "Conv3DBackpropInputV2": Operator(conv_transpose),
    "DepthwiseConv2dNative": Operator(depthwise),
    "Einsum": Operator(einsum),
    "FusedBatchNorm": Operator(batch_norm),
    "FusedBatchNormV2": Operator(batch_norm),
    "FusedBatchNormV3": Operator(batch_norm),
    "LRN": Operator(lrn),
    "LeakyRelu": Operator(leaky_relu),
    "LogSoftmax": Operator(softmax),
    "MatMul": Operator(matmul),
    "MaxPool": Operator(max_pool),
    "MaxPool3D": Operator(max_pool),
    "MaxPoolV2": Operator(max_pool),
    "Relu6": Operator(relu6),
    "ResizeBicubic": Operator(resize),
    "ResizeBilinear": Operator(resize),
    "ResizeNearestNeighbor": Operator(resize),
    "Softmax": Operator(softmax),
}
"""Operator name -> how it is imported."""
