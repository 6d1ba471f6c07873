"""ONNX matrix products: Gemm and MatMul."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpcc.frontend.importer import Constant, Operand, type_of
from mpcc.frontend.onnx.compose import scaled
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.ir.ops import tensor

__all__ = ["OPERATORS", "product"]


def _times(node: Node, operand: Constant, factor: float) -> Constant:
    return node.builder.derive(
        operand, f"scaled_{factor!r}", lambda a: np.asarray(a.astype(np.float64) * factor)
    )


def _transposed(node: Node, operand: Operand, flag: str) -> Operand:
    if not node.integer(flag, 0):
        return operand
    if len(type_of(operand).shape) != 2:
        node.refuse(f"{flag} of an operand that is not a matrix")
    if isinstance(operand, Constant):
        return node.builder.derive(operand, "transposed", lambda a: np.asarray(a.T))
    return node.transpose(operand, (1, 0))


def gemm(node: Node) -> Operand:
    """Gemm: alpha op(A) op(B) + beta C; factors and transposition go into constants."""
    node.wide_integers()
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    a = _transposed(node, node.operand(0), "transA")
    b = _transposed(node, node.operand(1), "transB")
    rest = 1.0
    if alpha != 1.0:
        if isinstance(b, Constant):
            b = _times(node, b, alpha)
        elif isinstance(a, Constant):
            a = _times(node, a, alpha)
        else:
            rest = alpha
    result = scaled(node, node.emit(tensor.MatMul, a, b), rest)
    c = node.optional(2)
    if c is None or beta == 0.0:
        return result
    if isinstance(c, Constant):
        c = _times(node, c, beta) if beta != 1.0 else c
    else:
        c = scaled(node, node.real(c), beta)
    return node.emit(tensor.Add, result, c)


def matmul(node: Node) -> Operand:
    """MatMul: as in numpy, with batches and broadcasting."""
    node.wide_integers()
    return product(node, node.operand(0), node.operand(1))


def product(node: Node, a: Operand, b: Operand) -> Operand:
    """numpy.matmul of two operands."""
    left, right = type_of(a).shape, type_of(b).shape
    if not left or not right:
        node.refuse("an operand is a scalar")
    rows, columns = left[-2:-1], right[-1:] if len(right) > 1 else ()
    inner = right[-2] if len(right) > 1 else right[0]
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    a = node.reshape(a, (*left[:-2], *(rows or (1,)), left[-1]))
    b = node.reshape(b, (*right[:-2], inner, *(columns or (1,))))
    if np.prod(right[:-2], dtype=object) == 1:
        # One matrix on the right: the batch's rows are rows of a single product.
        height = int(np.prod(left[:-1], dtype=object))
        a = node.reshape(a, (height, left[-1]))
        b = node.reshape(b, type_of(b).shape[-2:])
    return node.reshape(node.emit(tensor.MatMul, a, b), (*batch, *rows, *columns))


OPERATORS: Mapping[str, Operator] = {
    "Gemm": Operator(gemm),
    "MatMul": Operator(matmul),
}
"""Operator name -> how it is imported."""
