"""TensorFlow's elementwise operators, comparisons, and casts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mpcc.frontend.importer import Array, Constant, Operand, type_of
from mpcc.frontend.onnx.compose import scaled
from mpcc.frontend.tensorflow.node import Item, Node, Operator
from mpcc.frontend.tensorflow.norms import spelled_norm, spelled_rms_norm
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor

__all__ = ["OPERATORS"]

_SAME: Mapping[str, str] = {
    "Abs": "Abs",
    "Acosh": "Acosh",
    "AddN": "Sum",
    "Asinh": "Asinh",
    "Atan": "Atan",
    "Atanh": "Atanh",
    "Ceil": "Ceil",
    "Cos": "Cos",
    "Cosh": "Cosh",
    "Div": "Div",
    "Elu": "Elu",
    "Equal": "Equal",
    "Erf": "Erf",
    "Exp": "Exp",
    "Floor": "Floor",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Inv": "Reciprocal",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
    "Log": "Log",
    "LogicalAnd": "And",
    "LogicalNot": "Not",
    "LogicalOr": "Or",
    "Maximum": "Max",
    "Minimum": "Min",
    "Neg": "Neg",
    "Pow": "Pow",
    "RealDiv": "Div",
    "Reciprocal": "Reciprocal",
    "Relu": "Relu",
    "Rint": "Round",
    "Round": "Round",
    "Selu": "Selu",
    "SelectV2": "Where",
    "Sigmoid": "Sigmoid",
    "Sign": "Sign",
    "Sin": "Sin",
    "Sinh": "Sinh",
    "Softplus": "Softplus",
    "Softsign": "Softsign",
    "Sqrt": "Sqrt",
    "Sub": "Sub",
    "Tan": "Tan",
    "Tanh": "Tanh",
}
"""Operators that are ONNX's, with the same operands and no attributes."""


def _same(op: str) -> Callable[[Node], Item]:
    """The import function of an operator that is ONNX's ``op``."""

    def run(node: Node) -> Item:
        return node.onnx(op, *(node.operand(i) for i in range(node.count)))

    return run


def add(node: Node) -> Operand:
    """Add: numpy broadcasting; a layer normalisation that is spelled out is found."""
    if not node.is_real():
        return node.onnx("Add", node.operand(0), node.operand(1))
    a, b = node.value(0), node.value(1)
    found = spelled_norm(node, a, b)
    return node.emit(tensor.Add, a, b) if found is None else found


def mul(node: Node) -> Operand:
    """Mul: numpy broadcasting; a normalisation by the mean square is found."""
    if not node.is_real():
        return node.onnx("Mul", node.operand(0), node.operand(1))
    a, b = node.value(0), node.value(1)
    found = spelled_rms_norm(node, a, b)
    return node.emit(tensor.Mul, a, b) if found is None else found


def square(node: Node) -> Operand:
    """Square: x x."""
    x = node.value(0)
    return node.emit(tensor.Mul, x, x)


def squared_difference(node: Node) -> Operand:
    """SquaredDifference: (a - b)^2."""
    difference = node.emit(tensor.Sub, node.value(0), node.value(1))
    return node.emit(tensor.Mul, difference, difference)


def rsqrt(node: Node) -> Operand:
    """Rsqrt: 1 / sqrt(x), at most 2^10."""
    return node.emit(tensor.Rsqrt, node.value(0))


def erfc(node: Node) -> Operand:
    """Erfc: 1 + erf(-x)."""
    turned = node.emit(tensor.Scale, node.value(0), factor=-1.0)
    return node.emit(tensor.Add, node.emit(tensor.Erf, turned), node.public("one", 1.0))


def expm1(node: Node) -> Operand:
    """Expm1: e^x - 1."""
    return node.emit(tensor.Sub, node.emit(tensor.Exp, node.value(0)), node.public("one", 1.0))


def log1p(node: Node) -> Operand:
    """Log1p: log(1 + x)."""
    return node.emit(tensor.Log, node.emit(tensor.Add, node.value(0), node.public("one", 1.0)))


def not_equal(node: Node) -> Operand:
    """NotEqual: of numbers or of truth values."""
    return node.emit(tensor.Not, node.onnx("Equal", node.operand(0), node.operand(1)))


def div_no_nan(node: Node) -> Operand:
    """DivNoNan: a / b, and 0 where b is 0."""
    divisor = node.operand(1)
    if isinstance(divisor, Constant):

        def inverse(array: Array) -> Array:
            wide = array.astype(np.float64)
            return np.where(wide == 0, 0.0, 1.0 / np.where(wide == 0, 1.0, wide))

        return node.emit(tensor.Mul, node.value(0), node.derive(divisor, "inverse_or_0", inverse))
    quotient = node.onnx("Div", node.operand(0), divisor)
    zero = node.public("zero", 0.0)
    none = node.emit(tensor.Equal, node.real(divisor), zero)
    return node.emit(tensor.Where, none, zero, quotient)


def floor_div(node: Node) -> Operand:
    """FloorDiv: by a public constant."""
    return node.emit(tensor.Floor, node.real(_quotient(node)))


def floor_mod(node: Node) -> Operand:
    """FloorMod: by a public constant, with its sign."""
    whole = node.emit(tensor.Floor, node.real(_quotient(node)))
    back = node.emit(tensor.Mul, whole, node.operand(1))
    return node.emit(tensor.Sub, node.value(0), back)


def _quotient(node: Node) -> Operand:
    divisor = node.known(1, "its divisor")
    inverse = node.derive(divisor, "reciprocal", lambda a: 1.0 / a.astype(np.float64))
    if isinstance(node.operand(0), Value) and divisor.array.dtype.kind in "iu":
        node.refuse("integers that are computed from an input", "cast them to float before")
    return node.emit(tensor.Mul, node.value(0), inverse)


def cast(node: Node) -> Operand:
    """Cast: between real numbers, integers (toward zero) and truth values."""
    return node.onnx("Cast", node.operand(0), to=node.dtype("DstT"))


def select(node: Node) -> Operand:
    """Select: as SelectV2; a list of truth values chooses rows."""
    condition, rows = node.operand(0), len(node.shape(1))
    shape = type_of(condition).shape
    if len(shape) == 1 and rows > 1:
        wide = (shape[0], *[1] * (rows - 1))
        if isinstance(condition, Value) and type_of(condition).dtype == "bool":
            condition = node.real(condition)
        condition = node.reshape(condition, wide)
    return node.onnx("Where", condition, node.operand(1), node.operand(2))


def half(node: Node) -> Operand:
    """The half of a sum of squares (L2Loss)."""
    x = node.value(0)
    axes = tuple(range(len(type_of(x).shape)))
    squares = node.emit(tensor.Mul, x, x)
    total = node.emit(tensor.ReduceSum, squares, axes=axes, keepdims=False) if axes else squares
    return scaled(node.inner(), total, 0.5)


OPERATORS: Mapping[str, Operator] = {
    **{name: Operator(_same(op)) for name, op in _SAME.items()},
    "Add": Operator(add),
    "AddV2": Operator(add),
    "Cast": Operator(cast),
    "DivNoNan": Operator(div_no_nan),
    "Erfc": Operator(erfc),
    "Expm1": Operator(expm1),
    "FloorDiv": Operator(floor_div),
    "FloorMod": Operator(floor_mod),
    "L2Loss": Operator(half),
    "Log1p": Operator(log1p),
    "Mul": Operator(mul),
    "NotEqual": Operator(not_equal),
    "Rsqrt": Operator(rsqrt),
    "Select": Operator(select),
    "Square": Operator(square),
    "SquaredDifference": Operator(squared_difference),
}
"""Operator name -> how it is imported."""
