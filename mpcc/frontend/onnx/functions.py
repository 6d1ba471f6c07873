"""ONNX smooth functions of single numbers: activations, exponentials, angles."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mpcc.frontend.importer import Operand
from mpcc.frontend.onnx.compose import absolute, negative, scaled
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor

__all__ = ["OPERATORS"]


def exp(node: Node) -> Operand:
    """Exp: e^x."""
    return node.emit(tensor.Exp, node.value(0))


def sinh(node: Node) -> Operand:
    """Sinh: (e^x - e^-x) / 2."""
    return scaled(node, node.emit(tensor.Sub, *_both(node)), 0.5)


def cosh(node: Node) -> Operand:
    """Cosh: (e^x + e^-x) / 2."""
    return scaled(node, node.emit(tensor.Add, *_both(node)), 0.5)


def _both(node: Node) -> tuple[Value, Value]:
    x = node.value(0)
    return node.emit(tensor.Exp, x), node.emit(tensor.Exp, negative(node, x))


def asinh(node: Node) -> Operand:
    """Asinh: log(|x| + sqrt(x^2 + 1)), with the sign of x."""
    x = node.value(0)
    larger = node.emit(tensor.Add, absolute(node, x), _root(node, x, 1.0))
    size = node.emit(tensor.Log, larger)
    below = node.emit(tensor.Less, x, node.public("zero", 0.0))
    return node.emit(tensor.Where, below, negative(node, size), size)


def acosh(node: Node) -> Operand:
    """Acosh: log(x + sqrt(x^2 - 1))."""
    x = node.value(0)
    return node.emit(tensor.Log, node.emit(tensor.Add, x, _root(node, x, -1.0)))


def _root(node: Node, x: Value, offset: float) -> Value:
    square = node.emit(tensor.Mul, x, x)
    return node.emit(tensor.Sqrt, node.emit(tensor.Add, square, node.public("offset", offset)))


def atanh(node: Node) -> Operand:
    """Atanh: (log(1 + x) - log(1 - x)) / 2."""
    x, one = node.value(0), node.public("one", 1.0)
    ends = (node.emit(tensor.Add, one, x), node.emit(tensor.Sub, one, x))
    return scaled(node, node.emit(tensor.Sub, *(node.emit(tensor.Log, e) for e in ends)), 0.5)


def sin(node: Node) -> Operand:
    """Sin: of an angle in radians."""
    return node.emit(tensor.Sin, node.value(0))


def cos(node: Node) -> Operand:
    """Cos: of an angle in radians."""
    return node.emit(tensor.Cos, node.value(0))


def atan(node: Node) -> Operand:
    """Atan: of numbers that are known to be within 16."""
    return node.emit(tensor.Atan, node.value(0))


def asin(node: Node) -> Operand:
    """Asin: of numbers from -1 to 1."""
    return _asin(node, node.value(0))


def acos(node: Node) -> Operand:
    """Acos: of numbers from -1 to 1."""
    angle = _asin(node, node.value(0))
    return node.emit(tensor.Sub, node.public("right_angle", math.pi / 2), angle)


def _asin(node: Node, x: Value) -> Value:
    """2 atan(x / (1 + sqrt(1 - x^2))), whose divisor is from 1 to 2, and its quotient within 1."""
    one = node.public("one", 1.0)
    ends = (node.emit(tensor.Sub, one, x), node.emit(tensor.Add, one, x))
    root = node.emit(tensor.Sqrt, node.emit(tensor.Mul, *ends))
    quotient = node.emit(tensor.Div, x, node.emit(tensor.Add, root, one))
    # Intervals do not know that numerator and divisor belong together.
    quotient = node.emit(tensor.Clip, quotient, lo=-1.0, hi=1.0)
    return scaled(node, node.emit(tensor.Atan, quotient), 2.0)


def sigmoid(node: Node) -> Operand:
    """Sigmoid: 1 / (1 + e^-x)."""
    return node.emit(tensor.Sigmoid, node.value(0))


def tanh(node: Node) -> Operand:
    """Tanh: the hyperbolic tangent."""
    return node.emit(tensor.Tanh, node.value(0))


def erf(node: Node) -> Operand:
    """Erf: the error function."""
    return node.emit(tensor.Erf, node.value(0))


def gelu(node: Node) -> Operand:
    """Gelu: x times the normal distribution at x, exactly or by a tanh."""
    approximate = node.text("approximate", "none")
    if approximate not in ("none", "tanh"):
        node.refuse(f"approximate {approximate!r}")
    return node.emit(tensor.Gelu, node.value(0), approximate=approximate)


def swish(node: Node) -> Operand:
    """Swish: x sigmoid(alpha x)."""
    return _swish(node, node.value(0), node.number("alpha", 1.0))


def swiglu(node: Node) -> Operand:
    """SwiGLU: the Swish of one operand times the other."""
    return node.emit(
        tensor.Mul, _swish(node, node.value(0), node.number("alpha", 1.0)), node.value(1)
    )


def _swish(node: Node, x: Value, alpha: float) -> Value:
    if alpha == 0.0:
        return scaled(node, x, 0.5)
    return scaled(node, node.emit(tensor.Silu, scaled(node, x, alpha)), 1.0 / alpha)


def mish(node: Node) -> Operand:
    """Mish: x tanh(log(1 + e^x))."""
    return node.emit(tensor.Mish, node.value(0))


def softplus(node: Node) -> Operand:
    """Softplus: log(1 + e^x)."""
    return node.emit(tensor.Softplus, node.value(0))


def elu(node: Node) -> Operand:
    """Elu: x above zero, alpha (e^x - 1) below."""
    return _elu(node, node.value(0), node.number("alpha", 1.0), 1.0)


def selu(node: Node) -> Operand:
    """Selu: gamma times the Elu of alpha."""
    # ONNX's defaults, in binary32.
    alpha = node.number("alpha", 1.67326319217681884765625)
    gamma = node.number("gamma", 1.05070102214813232421875)
    return _elu(node, node.value(0), alpha, gamma)


def _elu(node: Node, x: Value, alpha: float, gamma: float) -> Value:
    """The sum gamma (alpha elu(x) + (1 - alpha) max(x, 0)), as elu(x) = x above zero."""
    lower = scaled(node, node.emit(tensor.Elu, x), gamma * alpha)
    if alpha == 1.0:
        return lower
    upper = scaled(node, node.emit(tensor.Relu, x), gamma * (1.0 - alpha))
    return node.emit(tensor.Add, lower, upper)


def celu(node: Node) -> Operand:
    """Celu: x above zero, alpha (e^(x / alpha) - 1) below."""
    alpha = node.number("alpha", 1.0)
    if not alpha > 0.0:
        node.refuse(f"alpha {alpha}, which is not positive")
    inner = scaled(node, node.value(0), 1.0 / alpha)
    return scaled(node, node.emit(tensor.Elu, inner), alpha)


OPERATORS: Mapping[str, Operator] = {
    "Acos": Operator(acos),
    "Acosh": Operator(acosh),
    "Asin": Operator(asin),
    "Asinh": Operator(asinh),
    "Atan": Operator(atan, "numbers beyond 16"),
    "Atanh": Operator(atanh),
    "Celu": Operator(celu, "alpha that is not positive"),
    "Cos": Operator(cos),
    "Cosh": Operator(cosh),
    "Elu": Operator(elu),
    "Erf": Operator(erf),
    "Exp": Operator(exp),
    "Gelu": Operator(gelu),
    "Mish": Operator(mish),
    "Selu": Operator(selu),
    "Sigmoid": Operator(sigmoid),
    "Sin": Operator(sin),
    "Sinh": Operator(sinh),
    "Softplus": Operator(softplus),
    "SwiGLU": Operator(swiglu),
    "Swish": Operator(swish),
    "Tanh": Operator(tanh),
}
"""Operator name -> how it is imported."""
