"""ONNX elementwise arithmetic and rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

import numpy as np
import onnx

from mpcc.frontend.importer import Constant, Operand, type_of
from mpcc.frontend.onnx.compose import (
    absolute,
    ceil,
    chain,
    maximum,
    minimum,
    negative,
    scaled,
    square,
)
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor

__all__ = ["OPERATORS"]

_REALS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
"""Computed alike, with more digits than the narrowest has."""


# --- arithmetic ----------------------------------------------------------------------------------


def add(node: Node) -> Operand:
    """Add: numpy broadcasting."""
    node.wide_integers()
    return node.emit(tensor.Add, node.value(0), node.value(1))


def sub(node: Node) -> Operand:
    """Sub: numpy broadcasting."""
    node.wide_integers()
    return node.emit(tensor.Sub, node.value(0), node.value(1))


def mul(node: Node) -> Operand:
    """Mul: numpy broadcasting; of two values, or of a value and a constant."""
    node.wide_integers()
    a, b = node.value(0), node.value(1)
    return square(node, a) if a is b else node.emit(tensor.Mul, a, b)


def sum_(node: Node) -> Operand:
    """Sum: of any number of operands, numpy broadcasting."""
    items = [node.value(i) for i in range(len(node.operands))]
    return reduce(lambda a, b: node.emit(tensor.Add, a, b), items)


def mean(node: Node) -> Operand:
    """Mean: of any number of operands, numpy broadcasting."""
    items = [node.value(i) for i in range(len(node.operands))]
    total = reduce(lambda a, b: node.emit(tensor.Add, a, b), items)
    return scaled(node, total, 1.0 / len(items))


def neg(node: Node) -> Operand:
    """Neg: -x."""
    return negative(node, node.value(0))


def abs_(node: Node) -> Operand:
    """Abs: |x|."""
    return absolute(node, node.value(0))


def sign(node: Node) -> Operand:
    """Sign: -1, 0 or 1."""
    x, zero = node.value(0), node.public("zero", 0.0)
    above = node.emit(tensor.ToReal, node.emit(tensor.Less, zero, x))
    below = node.emit(tensor.ToReal, node.emit(tensor.Less, x, zero))
    return node.emit(tensor.Sub, above, below)


def max_(node: Node) -> Operand:
    """Max: of any number of operands, numpy broadcasting."""
    items = [node.value(i) for i in range(len(node.operands))]
    return chain(items, lambda a, b: maximum(node, a, b))


def min_(node: Node) -> Operand:
    """Min: of any number of operands, numpy broadcasting."""
    items = [node.value(i) for i in range(len(node.operands))]
    return chain(items, lambda a, b: minimum(node, a, b))


# --- activations ---------------------------------------------------------------------------------


def relu(node: Node) -> Operand:
    """Relu: max(x, 0)."""
    return node.emit(tensor.Relu, node.value(0))


def leaky_relu(node: Node) -> Operand:
    """LeakyRelu: alpha x + (1 - alpha) max(x, 0)."""
    x, alpha = node.value(0), node.number("alpha", 0.01)
    positive = node.emit(tensor.Relu, x)
    return node.emit(tensor.Add, scaled(node, x, alpha), scaled(node, positive, 1.0 - alpha))


def prelu(node: Node) -> Operand:
    """PRelu: max(x, 0) + slope min(x, 0), the slope broadcast to x."""
    x, slope = node.value(0), node.value(1)
    shape, slopes = type_of(x).shape, type_of(slope).shape
    if len(slopes) == 1 < len(shape) and slopes[0] == shape[1] and slopes[0] not in (1, shape[-1]):
        # A slope per channel, as before opset 7; converters leave it so.
        slope = node.real(node.reshape(slope, (*slopes, *[1] * (len(shape) - 2))))
    positive = node.emit(tensor.Relu, x)
    return node.emit(
        tensor.Add, positive, node.emit(tensor.Mul, slope, node.emit(tensor.Sub, x, positive))
    )


def thresholded_relu(node: Node) -> Operand:
    """ThresholdedRelu: x where it is larger than alpha, else 0."""
    x, alpha = node.value(0), node.public("alpha", node.number("alpha", 1.0))
    return node.emit(tensor.Where, node.emit(tensor.Less, alpha, x), x, node.public("zero", 0.0))


def clip(node: Node) -> Operand:
    """Clip: between public bounds, or between computed ones."""
    x = node.value(0)
    if node.opset < 11:
        lo, hi = node.number("min", -math.inf), node.number("max", math.inf)
        return _clip(node, x, lo, hi)
    bounds: list[float] = []
    for index, (what, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        bound = node.optional(index)
        if isinstance(bound, Value) or (
            isinstance(bound, Constant) and bound.derived and not bound.restated
        ):
            # Secret bounds; ONNX takes the upper one last.
            value = node.value(index)
            x = maximum(node, x, value) if index == 1 else minimum(node, x, value)
            bounds.append(default)
        else:
            bounds.append(node.parameter(index, what, default))
            if index == 1 and isinstance(node.optional(2), Value):
                x, bounds[0] = _clip(node, x, bounds[0], math.inf), -math.inf
    return _clip(node, x, *bounds)


def _clip(node: Node, x: Value, lo: float, hi: float) -> Value:
    if math.isnan(lo) or math.isnan(hi) or lo == math.inf or hi == -math.inf:
        node.refuse(f"bounds {lo} and {hi}")
    if lo == -math.inf and hi == math.inf:
        return x
    if lo == 0.0 and hi == math.inf:
        return node.emit(tensor.Relu, x)
    # Where the bounds cross, ONNX gives the upper one.
    return node.emit(tensor.Clip, x, lo=min(lo, hi), hi=hi)


def hard_sigmoid(node: Node) -> Operand:
    """HardSigmoid: alpha x + beta between 0 and 1."""
    return _hard_sigmoid(node, node.value(0), node.number("alpha", 0.2), node.number("beta", 0.5))


def hard_swish(node: Node) -> Operand:
    """HardSwish: x times its HardSigmoid of slope 1/6."""
    x = node.value(0)
    return node.emit(tensor.Mul, x, _hard_sigmoid(node, x, 1.0 / 6.0, 0.5))


def _hard_sigmoid(node: Node, x: Value, alpha: float, beta: float) -> Value:
    line = node.emit(tensor.Add, scaled(node, x, alpha), node.public("beta", beta))
    return _clip(node, line, 0.0, 1.0)


def shrink(node: Node) -> Operand:
    """Shrink: x + bias below -lambd, x - bias above lambd, else 0."""
    node.no_integers()
    x, lambd, bias = node.value(0), node.number("lambd", 0.5), node.number("bias", 0.0)
    if lambd < 0:
        node.refuse(f"lambd {lambd} is negative")
    zero, offset = node.public("zero", 0.0), node.public("bias", bias)
    above = node.emit(tensor.Less, node.public("lambd", lambd), x)
    below = node.emit(tensor.Less, x, node.public("minus_lambd", -lambd))
    high = node.emit(tensor.Where, above, node.emit(tensor.Sub, x, offset), zero)
    low = node.emit(tensor.Where, below, node.emit(tensor.Add, x, offset), zero)
    return node.emit(tensor.Add, high, low)


# --- rounding ------------------------------------------------------------------------------------


def floor(node: Node) -> Operand:
    """Floor: the largest integer that is not above x."""
    return node.emit(tensor.Floor, node.value(0))


def ceil_(node: Node) -> Operand:
    """Ceil: the smallest integer that is not below x."""
    return ceil(node, node.value(0))


def round_(node: Node) -> Operand:
    """Round: to the nearest integer, halves to the even one."""
    x, half = node.value(0), node.public("half", 0.5)
    up = node.emit(tensor.Floor, node.emit(tensor.Add, x, half))
    down = ceil(node, node.emit(tensor.Sub, x, half))
    # They differ at halves only; there the one to take is down + (down mod 2).
    halved = node.emit(tensor.Floor, scaled(node, down, 0.5))
    odd = node.emit(tensor.Sub, down, scaled(node, halved, 2.0))
    return node.emit(tensor.Add, down, node.emit(tensor.Mul, odd, node.emit(tensor.Sub, up, down)))


def cast(node: Node) -> Operand:
    """Cast: between real numbers, integers (toward zero) and truth values."""
    return _cast(node, node.integer("to"))


def cast_like(node: Node) -> Operand:
    """CastLike: as Cast, to the type of the second operand."""
    return _cast(node, node.kind(1))


def _cast(node: Node, kind: int) -> Operand:
    if isinstance(constant := node.operand(0), Constant):
        # Only CastLike has one here: its second operand is computed.
        return _cast_constant(node, constant, kind)
    value = constant
    if kind == node.kind(0):
        return value
    if kind in _REALS:
        return node.real(value)
    if kind == onnx.TensorProto.BOOL:
        equal = node.emit(tensor.Equal, node.real(value), node.public("zero", 0.0))
        return node.emit(tensor.Not, equal)
    name = onnx.TensorProto.DataType.Name(kind)
    if kind not in (onnx.TensorProto.INT32, onnx.TensorProto.INT64):
        node.refuse(
            f"to {name}, which keeps fewer digits than the program",
            "cast to float, double, float16, int32, int64 or bool",
        )
    if type_of(value).dtype == "i64":
        return value
    if node.is_integer(0) or node.kind(0) == onnx.TensorProto.BOOL:
        return node.real(value)
    # Toward zero: floor(max(x, 0)) - floor(max(-x, 0)).
    positive = node.emit(tensor.Relu, value)
    floors = [
        node.emit(tensor.Floor, part) for part in (positive, node.emit(tensor.Sub, positive, value))
    ]
    return node.emit(tensor.Sub, *floors)


def _cast_constant(node: Node, constant: Constant, kind: int) -> Constant:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    with np.errstate(all="ignore"):
        array = constant.array.astype(dtype)
    result = Constant(array, node.output, constant.owner, constant.derived or constant.is_float)
    restated = result.is_float and constant.is_float and (constant.restated or not constant.derived)
    return replace(result, restated=restated)


OPERATORS: Mapping[str, Operator] = {
    "Abs": Operator(abs_),
    "Add": Operator(add),
    "Cast": Operator(
        cast, "to types of 8 or 16 bits other than float16, to strings", "saturate round_mode"
    ),
    "CastLike": Operator(
        cast_like, "to types of 8 or 16 bits other than float16, to strings", "saturate round_mode"
    ),
    "Ceil": Operator(ceil_),
    "Clip": Operator(clip),
    "Floor": Operator(floor),
    "HardSigmoid": Operator(hard_sigmoid),
    "HardSwish": Operator(hard_swish),
    "LeakyRelu": Operator(leaky_relu),
    "Max": Operator(max_),
    "Mean": Operator(mean),
    "Min": Operator(min_),
    "Mul": Operator(mul),
    "Neg": Operator(neg),
    "PRelu": Operator(prelu),
    "Relu": Operator(relu),
    "Round": Operator(round_),
    "Shrink": Operator(shrink),
    "Sign": Operator(sign),
    "Sub": Operator(sub),
    "Sum": Operator(sum_),
    "ThresholdedRelu": Operator(thresholded_relu),
}
"""Operator name -> how it is imported."""
