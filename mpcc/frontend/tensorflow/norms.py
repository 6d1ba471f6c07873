"""Normalisations that TensorFlow spells in arithmetic, found where their last sum or product is.

Keras writes a layer normalisation as x m + (b - mean m), with m = scale / sqrt(variance + epsilon).
Whether an expression is one follows from the graph alone; epsilon is disclosed, as that of an
operator of its own is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpcc.frontend.importer import Constant, Disclosed, Operand, type_of
from mpcc.frontend.tensorflow.node import Node
from mpcc.ir.core import Op, Value
from mpcc.ir.define import Operation
from mpcc.ir.ops import tensor
from mpcc.ir.types import element_count

__all__ = ["spelled_norm", "spelled_rms_norm"]


def _made_by(value: Value, definition: type[Operation]) -> Op | None:
    """The op that makes a value, if it is of this kind."""
    op = value.op
    return op if op is not None and op.definition is definition else None


def _pairs(op: Op | None) -> list[tuple[Value, Value]]:
    """The operands of a sum or product in both orders."""
    if op is None or len(op.operands) != 2:
        return []
    a, b = op.operands
    return [(a, b), (b, a)]


def _mean(value: Value) -> tuple[Value, tuple[int, ...]] | None:
    """What a value is the mean of, and over which axes, if it is one that keeps its axes."""
    scale = _made_by(value, tensor.Scale)
    total = _made_by(scale.operands[0], tensor.ReduceSum) if scale is not None else None
    if scale is None or total is None or not total.attrs["keepdims"]:
        return None
    x, axes = total.operands[0], tuple(total.attrs["axes"])
    count = element_count(tuple(type_of(x).shape[a] for a in axes))
    return (x, axes) if scale.attrs["factor"] == 1.0 / count else None


@dataclass(frozen=True)
class _Root:
    """A value 1 / sqrt(mean of squares + epsilon)."""

    square: Op
    axes: tuple[int, ...]
    epsilon: float


def _root(node: Node, value: Value) -> _Root | None:
    """The root that a value is the reciprocal of, if it is one of a mean square."""
    op = _made_by(value, tensor.Rsqrt)
    if op is None:
        return None
    for variance, number in _pairs(_made_by(op.operands[0], tensor.Add)):
        found, weight = _mean(variance), _made_by(number, tensor.Weight)
        if found is None or weight is None or element_count(type_of(number).shape) != 1:
            continue
        name = weight.attrs["name"]
        square = _made_by(found[0], tensor.Mul)
        if square is None or name in node.builder.computed:
            continue
        epsilon = float(node.builder.constants[name].reshape(-1)[0])
        rank = len(type_of(found[0]).shape)
        if epsilon < 0 or found[1] != tuple(range(found[1][0], rank)):
            continue  # LayerNormalization is of the last axes
        if square.operands[0] is square.operands[1]:
            return _Root(square, found[1], epsilon)
    return None


def _factor(node: Node, value: Value) -> tuple[_Root, Value | None] | None:
    """A root, and the scale that it is multiplied with, if there is one."""
    root = _root(node, value)
    if root is not None:
        return root, None
    for part, scale in _pairs(_made_by(value, tensor.Mul)):
        root = _root(node, part)
        if root is not None:
            return root, scale
    return None


def _owned(node: Node, value: Value | None) -> Operand:
    """A weight as the constant that its owner has; other values as they are; 1 if there is none."""
    if value is None:
        return node.public("scale", np.ones(1))
    weight = _made_by(value, tensor.Weight)
    if weight is None:
        return value
    name = weight.attrs["name"]
    return Constant(node.builder.constants[name], name, weight.attrs["owner"], True)


def _subtracted(value: Value, factor: Value) -> tuple[Value, Value | None] | None:
    """(mean, bias) of bias - mean factor, or of -mean factor."""
    for turned, other in _pairs(_made_by(value, tensor.Mul)):
        negative = _made_by(turned, tensor.Scale)
        if other is factor and negative is not None and negative.attrs["factor"] == -1.0:
            return negative.operands[0], None
    for part, bias in _pairs(_made_by(value, tensor.Add)):
        found = _subtracted(part, factor)
        if found is not None and found[1] is None:
            return found[0], bias
    difference = _made_by(value, tensor.Sub)
    if difference is not None:
        bias, part = difference.operands
        for mean, other in _pairs(_made_by(part, tensor.Mul)):
            if other is factor:
                return mean, bias
    return None


def spelled_norm(node: Node, a: Value, b: Value) -> Operand | None:
    """The layer normalisation that the sum of two values is; None if it is none."""
    for product, rest in ((a, b), (b, a)):
        for x, factor in _pairs(_made_by(product, tensor.Mul)):
            found = _factor(node, factor)
            shift = _subtracted(rest, factor)
            if found is None or shift is None:
                continue
            root, scale = found
            mean, bias = shift
            centred = _made_by(root.square.operands[0], tensor.Sub)
            if centred is None or centred.operands[0] is not x:
                continue
            if _mean(mean) != (x, root.axes) or _mean(centred.operands[1]) != (x, root.axes):
                continue
            node.builder.disclose(Disclosed(node.op, node.label, "epsilon", root.epsilon))
            return node.onnx(
                "LayerNormalization",
                x,
                _owned(node, scale),
                None if bias is None else _owned(node, bias),
                axis=root.axes[0],
                epsilon=root.epsilon,
            )
    return None


def spelled_rms_norm(node: Node, a: Value, b: Value) -> Operand | None:
    """The normalisation by the root of the mean square that a product is; None if it is none."""
    for x, factor in ((a, b), (b, a)):
        root = _root(node, factor)
        if root is not None and root.square.operands[0] is x:
            node.builder.disclose(Disclosed(node.op, node.label, "epsilon", root.epsilon))
            return node.onnx(
                "RMSNormalization",
                x,
                _owned(node, None),
                axis=root.axes[0],
                epsilon=root.epsilon,
            )
    return None
