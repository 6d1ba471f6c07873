"""ONNX arithmetic: Add, Sub, Gemm, MatMul."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpcc.frontend.importer import Constant, Operand, type_of
from mpcc.frontend.onnx.node import Handler, Node
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape, element_count

__all__ = ["OPERATORS"]


def add(node: Node) -> Operand:
    """Add: numpy broadcasting."""
    return node.emit(tensor.Add, node.value(0), node.value(1))


def sub(node: Node) -> Operand:
    """Sub: numpy broadcasting."""
    return node.emit(tensor.Sub, node.value(0), node.value(1))


def _scaled(node: Node, operand: Constant, factor: float) -> Operand:
    if factor == 1.0:
        return operand
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
    return node.emit(tensor.Transpose, operand, perm=(1, 0))


def gemm(node: Node) -> Operand:
    """Gemm: alpha * op(A) @ op(B) + beta * C; factors and transposition go into the weights."""
    a = _transposed(node, node.operand(0), "transA")
    b = _transposed(node, node.operand(1), "transB")
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    if isinstance(b, Constant):
        b = _scaled(node, b, alpha)
    elif isinstance(a, Constant):
        a = _scaled(node, a, alpha)
    elif alpha != 1.0:
        node.refuse(f"alpha {alpha} of a product of two computed matrices")
    product = node.emit(tensor.MatMul, a, b)
    c = node.optional(2)
    if c is None or beta == 0.0:
        return product
    if isinstance(c, Constant):
        c = _scaled(node, c, beta)
    elif beta != 1.0:
        node.refuse(f"beta {beta} of a computed matrix")
    return node.emit(tensor.Add, product, c)


def matmul(node: Node) -> Operand:
    """MatMul: as in numpy; leading axes of A are rows of one product; B has at most one matrix."""
    a, b = node.operand(0), node.operand(1)
    left, right = type_of(a).shape, type_of(b).shape
    if not left or not right:
        node.refuse("an operand is a scalar")
    rows: Shape = left[:-1]
    columns: Shape = right[-1:] if len(right) > 1 else ()
    if element_count(right[:-2]) != 1:
        node.refuse(
            f"a batch of matrices {list(right)} on the right",
            "only products by a single matrix are supported",
        )
    inner = right[-2] if len(right) > 1 else right[0]
    a2 = node.reshape(a, (element_count(rows), left[-1]))
    b2 = node.reshape(b, (inner, element_count(columns)))
    batch = np.broadcast_shapes(rows[:-1], right[:-2])
    product = node.emit(tensor.MatMul, a2, b2)
    return node.reshape(product, (*batch, *rows[-1:], *columns))


OPERATORS: Mapping[str, Handler] = {
    "Add": add,
    "Gemm": gemm,
    "MatMul": matmul,
    "Sub": sub,
}
"""Operator name -> import function."""
