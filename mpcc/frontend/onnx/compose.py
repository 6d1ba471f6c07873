"""Small compositions of tensor ops that several operators are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from mpcc.frontend.importer import type_of
from mpcc.frontend.onnx.node import Node
from mpcc.ir.core import Op, Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape

__all__ = [
    "absolute",
    "ceil",
    "chain",
    "cut",
    "maximum",
    "minimum",
    "negative",
    "power",
    "scaled",
    "spread",
    "square",
]

_MOVES = (tensor.Reshape, tensor.Transpose)
_MOST_MOVES = 8


def scaled(node: Node, x: Value, factor: float) -> Value:
    """The product factor * x; small integers cost nothing."""
    return x if factor == 1.0 else node.emit(tensor.Scale, x, factor=float(factor))


def negative(node: Node, x: Value) -> Value:
    """-x."""
    return scaled(node, x, -1.0)


def absolute(node: Node, x: Value) -> Value:
    """|x|: one comparison."""
    return node.emit(tensor.Abs, x)


def ceil(node: Node, x: Value) -> Value:
    """-floor(-x)."""
    return negative(node, node.emit(tensor.Floor, negative(node, x)))


def maximum(node: Node, a: Value, b: Value) -> Value:
    """max(a, b), broadcasting."""
    return node.emit(tensor.Maximum, a, b)


def minimum(node: Node, a: Value, b: Value) -> Value:
    """-max(-a, -b), broadcasting."""
    return negative(node, maximum(node, negative(node, a), negative(node, b)))


def chain(items: Sequence[Value], combine: Callable[[Value, Value], Value]) -> Value:
    """Combine two at a time, as a balanced tree: few rounds where ``combine`` has messages."""
    if len(items) == 1:
        return items[0]
    half = len(items) // 2
    return combine(chain(items[:half], combine), chain(items[half:], combine))


def square(node: Node, x: Value) -> Value:
    """The product x x; of a root, moved or not, what it is the root of.

    Magnitudes of spectra are squared again in this way. Where the number below the root is
    negative, the model has no result.
    """
    moves: list[Op] = []
    inner = x.op
    while inner is not None and inner.definition in _MOVES and len(moves) < _MOST_MOVES:
        moves.append(inner)
        inner = inner.operands[0].op
    if inner is None or inner.definition is not tensor.Sqrt:
        return node.emit(tensor.Mul, x, x)
    found = inner.operands[0]
    for move in reversed(moves):
        found = node.emit(move.definition, found, **move.attrs)
    return found


def power(node: Node, x: Value, exponent: int) -> Value:
    """A positive integer power of x, by squaring."""
    factors = []
    while exponent:
        if exponent & 1:
            factors.append(x)
        exponent >>= 1
        if exponent:
            x = square(node, x)
    return reduce(lambda a, b: node.emit(tensor.Mul, a, b), factors)


def cut(node: Node, x: Value, axis: int, start: int, limit: int, stride: int = 1) -> Value:
    """Elements start, start + stride, ... below limit of one axis."""
    shape = type_of(x).shape
    if (start, limit, stride) == (0, shape[axis], 1):
        return x
    starts, limits, strides = [0] * len(shape), list(shape), [1] * len(shape)
    starts[axis], limits[axis], strides[axis] = start, limit, stride
    return node.emit(
        tensor.Slice, x, starts=tuple(starts), limits=tuple(limits), strides=tuple(strides)
    )


def spread(node: Node, x: Value, shape: Shape) -> Value:
    """The value x, repeated to a shape that it broadcasts to."""
    return x if type_of(x).shape == shape else node.emit(tensor.Broadcast, x, shape=shape)
