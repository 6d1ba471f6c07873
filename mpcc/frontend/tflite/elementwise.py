"""TensorFlow Lite's elementwise operators, comparisons and casts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from mpcc.frontend.tflite.layers import activated
from mpcc.frontend.tflite.node import ONNX_KINDS, Handler, Node

__all__ = ["HANDLERS"]

_SAME: Mapping[str, str] = {
    "ABS": "Abs",
    "ADD_N": "Sum",
    "CEIL": "Ceil",
    "COS": "Cos",
    "ELU": "Elu",
    "EQUAL": "Equal",
    "EXP": "Exp",
    "FLOOR": "Floor",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "HARD_SWISH": "HardSwish",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "LOG": "Log",
    "LOGICAL_AND": "And",
    "LOGICAL_NOT": "Not",
    "LOGICAL_OR": "Or",
    "LOGISTIC": "Sigmoid",
    "LOG_SOFTMAX": "LogSoftmax",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "NEG": "Neg",
    "POW": "Pow",
    "PRELU": "PRelu",
    "ROUND": "Round",
    "SELECT_V2": "Where",
    "SIGN": "Sign",
    "SIN": "Sin",
    "SQRT": "Sqrt",
    "TANH": "Tanh",
}
"""Operators that are ONNX's, with the same operands and no options."""


def _same(op: str) -> Handler:
    def run(node: Node) -> str:
        return node.emit(op, *(node.operand(i) for i in range(node.count)))

    return run


def _sum(op: str) -> Callable[[Node], str]:
    """An operator on two operands with an activation behind it."""

    def run(node: Node) -> str:
        return activated(node, node.emit(op, node.operand(0), node.operand(1)))

    return run


def square(node: Node) -> str:
    """SQUARE: x x."""
    return node.emit("Mul", node.operand(0), node.operand(0))


def squared_difference(node: Node) -> str:
    """SQUARED_DIFFERENCE: (a - b)^2."""
    difference = node.emit("Sub", node.operand(0), node.operand(1))
    return node.emit("Mul", difference, difference)


def rsqrt(node: Node) -> str:
    """RSQRT: 1 / sqrt(x), at most 2^10."""
    return node.emit("Reciprocal", node.emit("Sqrt", node.operand(0)))


def not_equal(node: Node) -> str:
    """NOT_EQUAL: of numbers or of truth values."""
    return node.emit("Not", node.emit("Equal", node.operand(0), node.operand(1)))


def floor_div(node: Node) -> str:
    """FLOOR_DIV: rounded down."""
    a, b = node.operand(0), node.operand(1)
    if node.is_real(0):
        return node.emit("Floor", node.emit("Div", a, b))
    # Division of whole numbers rounds toward zero, unless nothing is left to round.
    return node.emit("Div", node.emit("Sub", a, node.emit("Mod", a, b)), b)


def floor_mod(node: Node) -> str:
    """FLOOR_MOD: with the divisor's sign."""
    a, b = node.operand(0), node.operand(1)
    if node.is_real(0):
        whole = node.emit("Floor", node.emit("Div", a, b))
        return node.emit("Sub", a, node.emit("Mul", whole, b))
    return node.emit("Mod", a, b)


def select(node: Node) -> str:
    """SELECT: as SELECT_V2; a list of truth values chooses rows."""
    condition, rows = node.operand(0), len(node.shape(1))
    if len(node.shape(0)) == 1 and rows > 1:
        condition = node.reshape(condition, (-1, *[1] * (rows - 1)))
    return node.emit("Where", condition, node.operand(1), node.operand(2))


def cast(node: Node) -> str:
    """CAST: between real numbers, whole ones (toward zero) and truth values."""
    kind = node.result().kind
    if kind not in ONNX_KINDS:
        node.refuse(f"elements of {kind}")
    return node.cast(node.operand(0), ONNX_KINDS[kind])


def any_(node: Node) -> str:
    """REDUCE_ANY: whether one truth value holds."""
    return node.emit("Greater", _counted(node, "ReduceMax"), node.public(0.5))


def all_(node: Node) -> str:
    """REDUCE_ALL: whether every truth value holds."""
    return node.emit("Greater", _counted(node, "ReduceMin"), node.public(0.5))


def _counted(node: Node, op: str) -> str:
    axes = node.positions(node.integers(1, "the axes"))
    numbers = node.cast(node.operand(0), onnx.TensorProto.FLOAT)
    return node.emit(op, numbers, axes, keepdims=int(node.flag("keep_dims")))


def itself(node: Node) -> str:
    """DEQUANTIZE: of numbers of 16 bits, and of constants."""
    return node.operand(0)


HANDLERS: Mapping[str, Handler] = {
    **{name: _same(op) for name, op in _SAME.items()},
    "ADD": _sum("Add"),
    "CAST": cast,
    "DEQUANTIZE": itself,
    "DIV": _sum("Div"),
    "FLOOR_DIV": floor_div,
    "FLOOR_MOD": floor_mod,
    "MUL": _sum("Mul"),
    "NOT_EQUAL": not_equal,
    "REDUCE_ALL": all_,
    "REDUCE_ANY": any_,
    "RSQRT": rsqrt,
    "SELECT": select,
    "SQUARE": square,
    "SQUARED_DIFFERENCE": squared_difference,
    "SUB": _sum("Sub"),
}
"""Operator -> what writes it."""
