"""ONNX structure: Constant, Flatten, Identity, Pad, Reshape, Shape, Transpose."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpcc.frontend.importer import Constant, Operand
from mpcc.frontend.onnx.node import Handler, Node
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape, element_count

__all__ = ["OPERATORS", "constant"]


def constant(node: Node) -> Constant:
    """Constant: a float one is a weight like an initialiser."""
    if node.has("value"):
        array = node.array("value")
    elif node.has("value_int"):
        array = np.asarray(node.integer("value_int"), np.int64)
    elif node.has("value_ints"):
        array = np.asarray(node.ints("value_ints"), np.int64)
    elif node.has("value_float"):
        array = np.asarray(node.number("value_float"), np.float32)
    elif node.has("value_floats"):
        array = np.asarray(node.numbers("value_floats"), np.float32)
    else:
        node.refuse("only dense tensors and numbers are supported, no strings, no sparse tensors")
    return Constant(array, node.output)


def identity(node: Node) -> Operand:
    """Identity: the operand itself."""
    return node.operand(0)


def _axis(node: Node, axis: int, rank: int, *, end: bool = False) -> int:
    if not -rank <= axis < rank + end:
        node.refuse(f"axis {axis} of data with {rank} axes")
    return axis + rank if axis < 0 else axis


def flatten(node: Node) -> Operand:
    """Flatten: to a matrix: the axes before ``axis`` are rows, the rest columns."""
    shape = node.shape(0)
    axis = _axis(node, node.integer("axis", 1), len(shape), end=True)
    return node.reshape(node.value(0), (element_count(shape[:axis]), element_count(shape[axis:])))


def reshape(node: Node) -> Operand:
    """Reshape: by a constant, where 0 keeps the axis (unless allowzero), one -1 takes the rest."""
    shape = node.shape(0)
    wanted = list(node.integers(1, "the shape"))
    if not node.integer("allowzero", 0):
        for i, size in enumerate(wanted):
            if size == 0:
                if i >= len(shape):
                    node.refuse(f"shape {wanted} keeps axis {i} of {list(shape)}")
                wanted[i] = shape[i]
    if wanted.count(-1) == 1:
        rest = element_count(tuple(d for d in wanted if d != -1))
        if rest < 1 or element_count(shape) % rest:
            node.refuse(f"{list(shape)} does not reshape to {wanted}")
        wanted[wanted.index(-1)] = element_count(shape) // rest
    # Even an unchanged shape stays an op: a pass removes it.
    return node.emit(tensor.Reshape, node.value(0), shape=tuple(wanted))


def shape_of(node: Node) -> Operand:
    """Shape: a public constant, since all shapes are static."""
    shape: Shape = node.shape(0)
    start, end = node.integer("start", 0), node.integer("end", len(shape))
    return Constant(np.asarray(shape[start:end], np.int64), node.output, "public")


def transpose(node: Node) -> Operand:
    """Transpose: without ``perm`` the axes are reversed."""
    rank = len(node.shape(0))
    perm = node.ints("perm", range(rank - 1, -1, -1))
    return node.emit(tensor.Transpose, node.value(0), perm=perm)


def pad(node: Node) -> Operand:
    """Pad: with a constant; pads are an attribute before opset 11, an input since."""
    mode = node.text("mode", "constant")
    if mode != "constant":
        node.refuse(f"mode {mode}", "only constant padding is supported")
    rank = len(node.shape(0))
    if node.opset < 11:
        pads, value = node.ints("pads"), node.number("value", 0.0)
    else:
        pads, value = node.integers(1, "the padding"), node.parameter(2, "value", 0.0)
    axes = tuple(range(rank))
    if node.optional(3) is not None:
        axes = tuple(_axis(node, a, rank) for a in node.integers(3, "the list of axes"))
    if len(set(axes)) != len(axes) or len(pads) != 2 * len(axes):
        node.refuse(f"pads {list(pads)} do not fit the axes {list(axes)}")
    if min(pads, default=0) < 0:
        node.refuse("negative pads (cropping)")
    if not np.isfinite(value):
        node.refuse(
            f"padding with {value}", "fixed-point numbers are finite: pad inside MaxPool instead"
        )
    low, high = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        low[axis], high[axis] = pads[i], pads[len(axes) + i]
    return node.emit(tensor.Pad, node.value(0), low=tuple(low), high=tuple(high), value=value)


OPERATORS: Mapping[str, Handler] = {
    "Constant": constant,
    "Flatten": flatten,
    "Identity": identity,
    "Pad": pad,
    "Reshape": reshape,
    "Shape": shape_of,
    "Transpose": transpose,
}
"""Operator name -> import function."""
