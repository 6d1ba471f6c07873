"""ONNX comparisons, logic and choice."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from mpcc.frontend.importer import Constant, Operand, type_of
from mpcc.frontend.onnx.indexing import rearranged
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor

__all__ = ["OPERATORS"]


def less(node: Node) -> Operand:
    """Less: a < b."""
    return node.emit(tensor.Less, node.value(0), node.value(1))


def greater(node: Node) -> Operand:
    """Greater: b < a."""
    return node.emit(tensor.Less, node.value(1), node.value(0))


def less_or_equal(node: Node) -> Operand:
    """LessOrEqual: not b < a."""
    return node.emit(tensor.Not, greater(node))


def greater_or_equal(node: Node) -> Operand:
    """GreaterOrEqual: not a < b."""
    return node.emit(tensor.Not, less(node))


def equal(node: Node) -> Operand:
    """Equal: of numbers or of truth values."""
    if node.kind(0) == onnx.TensorProto.BOOL:
        return node.emit(tensor.Not, node.emit(tensor.Xor, node.bit(0), node.bit(1)))
    return node.emit(tensor.Equal, node.value(0), node.value(1))


def not_(node: Node) -> Operand:
    """Not: of truth values."""
    return node.emit(tensor.Not, node.bit(0))


def and_(node: Node) -> Operand:
    """And: of truth values."""
    return node.emit(tensor.And, node.bit(0), node.bit(1))


def or_(node: Node) -> Operand:
    """Or: not (not a and not b)."""
    neither = node.emit(
        tensor.And, node.emit(tensor.Not, node.bit(0)), node.emit(tensor.Not, node.bit(1))
    )
    return node.emit(tensor.Not, neither)


def xor(node: Node) -> Operand:
    """Xor: of truth values."""
    return node.emit(tensor.Xor, node.bit(0), node.bit(1))


def where(node: Node) -> Operand:
    """Where: by a computed condition, or by a constant one, which is public then."""
    condition = node.operand(0)
    if isinstance(condition, Value):
        return node.emit(tensor.Where, node.bit(0), node.value(1), node.value(2))
    if not condition.derived:
        return _chosen(node, condition)
    # A mask of weights: b + mask (a - b), which is exact.
    a, b = node.value(1), node.value(2)
    moved = node.emit(tensor.Mul, node.value(0), node.emit(tensor.Sub, a, b))
    return node.emit(tensor.Add, b, moved)


def _chosen(node: Node, condition: Constant) -> Operand:
    """Elements of a and b by a public mask: they are only moved."""
    node.public_mask(condition)
    a, b = node.value(1), node.value(2)
    sizes = [int(np.prod(type_of(v).shape, dtype=np.int64)) for v in (a, b)]
    node.room(sum(sizes))
    left = np.arange(sizes[0]).reshape(type_of(a).shape)
    right = np.arange(sizes[0], sum(sizes)).reshape(type_of(b).shape)
    flat = [node.emit(tensor.Reshape, v, shape=(n,)) for v, n in zip((a, b), sizes, strict=True)]
    both = node.emit(tensor.Concat, *flat, axis=0)
    return rearranged(node, both, np.where(condition.array, left, right))


OPERATORS: Mapping[str, Operator] = {
    "And": Operator(and_),
    "Equal": Operator(equal),
    "Greater": Operator(greater),
    "GreaterOrEqual": Operator(greater_or_equal),
    "Less": Operator(less),
    "LessOrEqual": Operator(less_or_equal),
    "Not": Operator(not_),
    "Or": Operator(or_),
    "Where": Operator(where),
    "Xor": Operator(xor),
}
"""Operator name -> how it is imported."""
