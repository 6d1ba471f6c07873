"""ONNX pooling."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpcc.frontend.importer import Array, Operand, type_of
from mpcc.frontend.onnx.compose import absolute, power, scaled
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.frontend.onnx.normal import real_power
from mpcc.frontend.onnx.windows import Windows
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor

__all__ = ["OPERATORS"]


def maxpool(node: Node) -> Operand:
    """MaxPool: one to three spatial axes, all pads, dilations and ceil_mode."""
    node.only_first_output("Indices")
    windows = Windows.of(node)
    return node.emit(
        tensor.MaxPool,
        node.value(0),
        kernel=windows.kernel,
        strides=windows.strides,
        pads=windows.all_pads,
        dilations=windows.dilations if max(windows.dilations) > 1 else (),
    )


def average_pool(node: Node) -> Operand:
    """AveragePool: one to three spatial axes, all pads, dilations and ceil_mode."""
    windows = Windows.of(node)
    total = _sum_pool(node, node.value(0), windows)
    counts = _counts(node, windows, padding=bool(node.integer("count_include_pad", 0)))
    if (counts == counts.flat[0]).all():
        return scaled(node, total, 1.0 / float(counts.flat[0]))
    return node.emit(tensor.Mul, total, node.public("one_over_count", 1.0 / counts))


def _counts(node: Node, windows: Windows, *, padding: bool) -> Array:
    """Elements that the windows average: [1, 1, *windows]; those of the padding too, or not."""
    total = np.ones((1, 1))
    for i in range(windows.rank):
        begin, end = windows.pads[i], windows.pads[windows.rank + i]
        node.room(begin + windows.size[i] + end + windows.extra[i])
        node.room(windows.counts[i], windows.kernel[i])
        node.room(total.size, windows.counts[i])
        inside = np.zeros(begin + windows.size[i] + end + windows.extra[i])
        if padding:
            inside[: begin + windows.size[i] + end] = 1
        else:
            inside[begin : begin + windows.size[i]] = 1
        starts = np.arange(windows.counts[i]) * windows.strides[i]
        steps = np.arange(windows.kernel[i]) * windows.dilations[i]
        along = inside[starts[:, None] + steps].sum(axis=1)
        total = total[..., None] * along
    # A window in the padding alone has a sum of zero.
    return np.maximum(total, 1.0)


def _sum_pool(node: Node, x: Value, windows: Windows) -> Value:
    return node.emit(
        tensor.SumPool,
        x,
        kernel=windows.kernel,
        strides=windows.strides,
        pads=windows.all_pads,
        dilations=windows.dilations,
    )


def lp_pool(node: Node) -> Operand:
    """LpPool: roots of sums of powers; of absolute values for p = 1."""
    return _rooted(node, _sum_pool(node, _powers(node), Windows.of(node)))


_MOST_P = 8


def _powers(node: Node) -> Value:
    """Powers of absolute values."""
    p, x = node.integer("p", 2), node.value(0)
    if not 1 <= p <= _MOST_P:
        node.refuse(f"p = {p}", f"p from 1 to {_MOST_P} is supported")
    return power(node, absolute(node, x) if p % 2 else x, p)


def _rooted(node: Node, total: Value) -> Value:
    """The p-th root of a sum."""
    return real_power(node, total, 1.0 / node.integer("p", 2))


def _spatial_axes(node: Node) -> tuple[int, ...]:
    rank = len(node.shape(0))
    if rank < 3:
        node.refuse(f"data of shape {list(node.shape(0))} has no spatial axes")
    return tuple(range(2, rank))


def global_average_pool(node: Node) -> Operand:
    """GlobalAveragePool: any number of spatial axes."""
    axes, x = _spatial_axes(node), node.value(0)
    count = int(np.prod([type_of(x).shape[a] for a in axes], dtype=object))
    return scaled(node, node.emit(tensor.ReduceSum, x, axes=axes, keepdims=True), 1.0 / count)


def global_max_pool(node: Node) -> Operand:
    """GlobalMaxPool: any number of spatial axes."""
    return node.emit(tensor.ReduceMax, node.value(0), axes=_spatial_axes(node), keepdims=True)


def global_lp_pool(node: Node) -> Operand:
    """GlobalLpPool: roots of sums of powers; of absolute values for p = 1."""
    axes = _spatial_axes(node)
    total = node.emit(tensor.ReduceSum, _powers(node), axes=axes, keepdims=True)
    return _rooted(node, total)


OPERATORS: Mapping[str, Operator] = {
    "AveragePool": Operator(average_pool, "more than three spatial axes"),
    "GlobalAveragePool": Operator(global_average_pool),
    "GlobalLpPool": Operator(global_lp_pool, f"p other than 1 to {_MOST_P}"),
    "GlobalMaxPool": Operator(global_max_pool),
    "LpPool": Operator(lp_pool, f"p other than 1 to {_MOST_P}; more than three spatial axes"),
    "MaxPool": Operator(
        maxpool, "the output Indices; more than three spatial axes", "storage_order"
    ),
}
"""Operator name -> how it is imported."""
