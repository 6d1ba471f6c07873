"""ONNX layers: Conv, ConvTranspose, BatchNormalization, Dropout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mpcc.frontend.importer import Array, Constant, Operand
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.frontend.onnx.windows import (
    Windows,
    divided,
    explicit_pads,
    positive,
    spans,
    spatial,
)
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape

__all__ = ["OPERATORS"]


def conv(node: Node) -> Operand:
    """Conv: one to three spatial axes, all pads, groups and dilations."""
    windows = Windows.of(node, _kernel(node))
    return node.emit(
        tensor.Conv,
        *_layer_operands(node),
        strides=windows.strides,
        pads=windows.pads,
        dilations=windows.dilations,
        groups=node.integer("group", 1),
    )


def _kernel(node: Node) -> Shape:
    rank, kernel = len(spatial(node)), node.shape(1)[2:]
    if len(kernel) != rank:
        node.refuse(f"a kernel {list(node.shape(1))} of data {list(node.shape(0))}")
    return kernel


def _layer_operands(node: Node) -> list[Value]:
    operands = [node.value(0), node.value(1)]
    if node.optional(2) is not None:
        operands.append(node.value(2))
    return operands


def conv_transpose(node: Node) -> Operand:
    """ConvTranspose: one to three spatial axes, all pads, groups and dilations."""
    size, kernel = spatial(node), _kernel(node)
    count = len(size)
    if node.has("kernel_shape") and node.ints("kernel_shape") != kernel:
        node.refuse(f"kernel_shape {list(node.ints('kernel_shape'))} of a kernel {list(kernel)}")
    strides = positive(node, "strides", count, 1)
    dilations = positive(node, "dilations", count, 1)
    added = list(node.ints("output_padding", (0,) * count))
    if len(added) != count or min(added) < 0:
        node.refuse(f"output_padding {added}")
    mode = node.text("auto_pad", "NOTSET")
    full = [
        s * (d - 1) + k for s, d, k in zip(strides, size, spans(kernel, dilations), strict=True)
    ]
    wanted: Sequence[int] | None = None
    if node.has("output_shape"):
        # Some exporters give the whole shape, ONNX only the spatial axes.
        wanted = node.ints("output_shape")[-count:]
    elif mode not in ("NOTSET", "VALID"):
        wanted = [d * s for d, s in zip(size, strides, strict=True)]
    if wanted is None:
        pads = (0,) * 2 * count if mode == "VALID" else explicit_pads(node, count)
    else:
        if len(wanted) != count:
            node.refuse(f"output_shape {list(wanted)}")
        totals = [f + a - w for f, a, w in zip(full, added, wanted, strict=True)]
        # Larger than all that the kernel reaches: the rest has the bias alone.
        added = [a + max(-t, 0) for a, t in zip(added, totals, strict=True)]
        totals = [max(t, 0) for t in totals]
        pads = divided(node, "SAME_UPPER" if mode == "SAME_UPPER" else "SAME_LOWER", totals)
    return node.emit(
        tensor.ConvTranspose,
        *_layer_operands(node),
        strides=strides,
        pads=pads,
        dilations=dilations,
        groups=node.integer("group", 1),
        output_padding=tuple(added),
    )


def batch_normalization(node: Node) -> Operand:
    """BatchNormalization: of inference; with a constant variance."""
    training = "export the model for inference (in PyTorch: model.eval())"
    if node.integer("training_mode", 0):
        node.refuse("training mode", training)
    if any(node.used[1:]):
        node.refuse("its statistics are used, as in training", training)
    if node.opset < 9 and not node.integer("spatial", 1):
        node.refuse("statistics per element (spatial = 0)")
    shape, epsilon = node.shape(0), node.number("epsilon", 1e-5)
    channels = (shape[1] if len(shape) > 1 else 1, *[1] * (len(shape) - 2))
    scale, bias, mean, variance = (node.operand(i) for i in range(1, 5))
    if not isinstance(variance, Constant):
        node.refuse("a computed variance", "export the model with its statistics as constants")
    if isinstance(scale, Constant) and isinstance(bias, Constant) and isinstance(mean, Constant):

        def factor(arrays: Sequence[Array]) -> Array:
            s, _, _, v = (a.astype(np.float64) for a in arrays)
            return np.asarray(s / np.sqrt(v + epsilon)).reshape(channels)

        def offset(arrays: Sequence[Array]) -> Array:
            s, b, m, v = (a.astype(np.float64) for a in arrays)
            return np.asarray(b - m * s / np.sqrt(v + epsilon)).reshape(channels)

        sources = [scale, bias, mean, variance]
        a = node.builder.combine(f"{node.output}.factor", sources, factor)
        b = node.builder.combine(f"{node.output}.offset", sources, offset)
        return node.emit(tensor.Add, node.emit(tensor.Mul, node.value(0), a), b)
    inverse = node.builder.combine(
        f"{node.output}.inverse_deviation",
        [variance],
        lambda a: np.asarray(1.0 / np.sqrt(a[0].astype(np.float64) + epsilon)).reshape(channels),
    )
    centred = node.emit(tensor.Sub, node.value(0), node.reshape(mean, channels))
    unit = node.emit(tensor.Mul, centred, inverse)
    scaled = node.emit(tensor.Mul, unit, node.reshape(scale, channels))
    return node.emit(tensor.Add, scaled, node.reshape(bias, channels))


def dropout(node: Node) -> Operand:
    """Dropout: the operand itself, as at inference."""
    node.only_first_output("mask")
    training, ratio = node.optional(2), node.optional(1)
    kept = isinstance(ratio, Constant) and not ratio.derived and not ratio.array.any()
    if training is not None and not (
        isinstance(training, Constant)
        and not training.derived
        and (kept or not training.array.any())
    ):
        node.refuse("training mode", "export the model for inference (in PyTorch: model.eval())")
    return node.operand(0)


OPERATORS: Mapping[str, Operator] = {
    "BatchNormalization": Operator(
        batch_normalization, "training mode; a computed variance; spatial = 0", "momentum"
    ),
    "Conv": Operator(conv, "more than three spatial axes"),
    "ConvTranspose": Operator(conv_transpose, "more than three spatial axes", "pads"),
    "Dropout": Operator(dropout, "training mode; the mask", "ratio seed"),
}
"""Operator name -> how it is imported."""
