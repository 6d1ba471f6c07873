"""ONNX reductions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpcc.frontend.importer import Operand, type_of
from mpcc.frontend.onnx.compose import absolute, cut, negative, scaled
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.ir.core import Value
from mpcc.ir.define import Operation
from mpcc.ir.ops import tensor
from mpcc.ir.types import element_count

__all__ = ["OPERATORS", "axes_of", "reduced"]

_AXES_INPUT = 18
"""Opset from which the axes are an input."""


def axes_of(node: Node, since: int = _AXES_INPUT) -> tuple[int, ...] | None:
    """Axes to reduce, rising; None for none at all."""
    rank = len(node.shape(0))
    given, nothing = node.listed("axes", 1, since), node.integer("noop_with_empty_axes", 0)
    if not given:
        # No list and an empty one mean the same.
        return None if nothing else tuple(range(rank))
    return tuple(sorted(node.axes(given, rank)))


def reduced(
    node: Node, definition: type[Operation], x: Value, axes: tuple[int, ...] | None
) -> Value:
    """The reduction, with ``keepdims`` as the node says."""
    keepdims = bool(node.integer("keepdims", 1))
    # A scalar has no axes to reduce.
    if not axes:
        return x
    return node.emit(definition, x, axes=axes, keepdims=keepdims)


def reduce_sum(node: Node) -> Operand:
    """ReduceSum: over any axes."""
    node.wide_integers()
    return reduced(node, tensor.ReduceSum, node.value(0), axes_of(node, since=13))


def reduce_mean(node: Node) -> Operand:
    """ReduceMean: over any axes."""
    node.no_integers()
    x, axes = node.value(0), axes_of(node)
    count = int(np.prod([type_of(x).shape[a] for a in axes or ()], dtype=object))
    return scaled(node, reduced(node, tensor.ReduceSum, x, axes), 1.0 / count)


def reduce_max(node: Node) -> Operand:
    """ReduceMax: over any axes; a tournament."""
    return reduced(node, tensor.ReduceMax, node.value(0), axes_of(node))


def reduce_min(node: Node) -> Operand:
    """ReduceMin: over any axes; a tournament."""
    x = negative(node, node.value(0))
    return negative(node, reduced(node, tensor.ReduceMax, x, axes_of(node)))


def reduce_l1(node: Node) -> Operand:
    """ReduceL1: sums of absolute values."""
    return reduced(node, tensor.ReduceSum, absolute(node, node.value(0)), axes_of(node))


def reduce_sum_square(node: Node) -> Operand:
    """ReduceSumSquare: sums of squares."""
    node.wide_integers()
    x = node.value(0)
    return reduced(node, tensor.ReduceSum, node.emit(tensor.Mul, x, x), axes_of(node))


def reduce_prod(node: Node) -> Operand:
    """ReduceProd: a tree of products; a round of products per doubling."""
    node.wide_integers()
    x, axes, keepdims = node.value(0), axes_of(node), node.integer("keepdims", 1)
    if not axes:
        return x
    shape = type_of(x).shape
    rest = [a for a in range(len(shape)) if a not in axes]
    moved = node.real(node.transpose(x, [*axes, *rest]))
    count = element_count(tuple(shape[a] for a in axes))
    line = node.real(node.reshape(moved, (count, element_count(shape) // count)))
    while count > 1:
        half = count // 2
        pairs = node.emit(
            tensor.Mul, cut(node, line, 0, 0, half), cut(node, line, 0, half, 2 * half)
        )
        if count % 2:
            pairs = node.emit(tensor.Concat, pairs, cut(node, line, 0, count - 1, count), axis=0)
        line, count = pairs, half + count % 2
    if keepdims:
        return node.reshape(line, tuple(1 if a in axes else d for a, d in enumerate(shape)))
    return node.reshape(line, tuple(shape[a] for a in rest))


def hardmax(node: Node) -> Operand:
    """Hardmax: 1 at the first of the largest elements, else 0."""
    x, shape = node.value(0), node.shape(0)
    axis = node.axis(node.integer("axis", 1 if node.opset < 13 else -1), len(shape))
    if node.opset < 13:
        # Everything from the axis on is one row.
        rows = (element_count(shape[:axis]), element_count(shape[axis:]))
        x, axis = node.real(node.reshape(x, rows)), 1
    largest = node.emit(tensor.ReduceMax, x, axes=(axis,), keepdims=True)
    hit = node.emit(tensor.Not, node.emit(tensor.Less, x, largest))
    before = node.emit(
        tensor.CumSum, node.emit(tensor.ToReal, hit), axis=axis, exclusive=True, reverse=False
    )
    first = node.emit(tensor.Less, before, node.public("half", 0.5))
    return node.reshape(node.emit(tensor.ToReal, node.emit(tensor.And, hit, first)), shape)


OPERATORS: Mapping[str, Operator] = {
    "Hardmax": Operator(hardmax),
    "ReduceL1": Operator(reduce_l1),
    "ReduceMax": Operator(reduce_max),
    "ReduceMean": Operator(reduce_mean),
    "ReduceMin": Operator(reduce_min),
    "ReduceProd": Operator(reduce_prod),
    "ReduceSum": Operator(reduce_sum),
    "ReduceSumSquare": Operator(reduce_sum_square),
}
"""Operator name -> how it is imported."""
