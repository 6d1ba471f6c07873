"""ONNX operators of quantised models, on the same fixed-point numbers as all others.

Integers are whole numbers here. What an operator rounds to integers is rounded, and what it
saturates is clamped: results are the integers of the model, but for numbers that are closer to the
middle of two integers than their error. Scales and zero points are weights. See docs/onnx.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from mpcc.frontend.importer import Array, Constant, Operand, type_of
from mpcc.frontend.onnx.compose import minimum, negative, scaled
from mpcc.frontend.onnx.linear import product
from mpcc.frontend.onnx.nn import conv
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor

__all__ = ["OPERATORS"]

_RANGES: Mapping[int, tuple[int, int]] = {
    getattr(onnx.TensorProto, f"{sign}INT{bits}"): (
        (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )
    for sign in ("", "U")
    for bits in (4, 8, 16)
}
"""Element type -> smallest and largest integer."""

_UINT8 = int(onnx.TensorProto.UINT8)


def _range(node: Node, kind: int) -> tuple[int, int]:
    if kind not in _RANGES:
        name = onnx.TensorProto.DataType.Name(kind)
        node.refuse(f"quantised numbers of type {name}", "integers of 4, 8 and 16 bits are known")
    return _RANGES[kind]


def _along(node: Node, operand: Operand, rank: int, axis: int) -> Operand:
    """A number, or one for each place of an axis, in a shape that broadcasts to data of a rank."""
    shape = type_of(operand).shape
    if int(np.prod(shape, dtype=np.int64)) == 1:
        return node.reshape(operand, ())
    if len(shape) != 1:
        node.refuse(f"scales or zero points of shape {list(shape)}", "one, or one for each channel")
    wide = [1] * rank
    wide[axis] = shape[0]
    return node.reshape(operand, tuple(wide))


def _centred(node: Node, x: Operand, zero: int, axis: int) -> Operand:
    """Operand x less the zero point that is input ``zero``, if there is one."""
    point = node.optional(zero)
    if point is None:
        return x
    point = _along(node, point, len(type_of(x).shape), axis)
    if isinstance(x, Constant) and isinstance(point, Constant):
        name = f"{x.name}.less.{point.name}"
        both = [x, point]
        return node.builder.combine(name, both, lambda a: a[0].astype(np.float64) - a[1])
    return node.emit(tensor.Sub, node.real(x), node.real(point))


def _factor(node: Node, *indices: int, over: int, shape: tuple[int, int]) -> Constant:
    """The product of scales over another one, which are all constants; ``shape``: rank and axis."""
    scales = [node.operand(i) for i in (*indices, over)]
    constants = [s for s in scales if isinstance(s, Constant)]
    if len(constants) != len(scales):
        node.refuse("a scale that is computed", "use DequantizeLinear and QuantizeLinear instead")

    def factor(arrays: list[Array]) -> Array:
        numbers = [np.asarray(a, np.float64).reshape(-1) for a in arrays]
        found = np.asarray(np.prod(np.broadcast_arrays(*numbers[:-1]), axis=0) / numbers[-1])
        return found.reshape(()) if found.size == 1 else found

    name = ".".join(s.name for s in constants) + ".factor"
    made = node.builder.combine(name, constants, lambda a: factor(list(a)))
    rank, axis = shape
    count = made.array.size
    wide = tuple(count if i == axis else 1 for i in range(rank)) if count > 1 else ()
    return node.builder.derive(made, f"along_{axis}_of_{rank}", lambda a: a.reshape(wide))


def _times(node: Node, x: Operand, factor: Constant) -> Operand:
    if not isinstance(x, Constant):
        return node.emit(tensor.Mul, x, factor)
    name = f"{x.name}.times.{factor.name}"
    return node.builder.combine(name, [x, factor], lambda a: a[0].astype(np.float64) * a[1])


def _rounded(node: Node, x: Value, point: Operand | None, ends: tuple[int, int]) -> Value:
    """The whole number nearest to x, plus a zero point, within the ends."""
    y = node.emit(tensor.Floor, node.emit(tensor.Add, x, node.public("half", 0.5)))
    if point is not None:
        y = node.emit(tensor.Add, y, node.real(point))
    return node.emit(tensor.Clip, y, lo=float(ends[0]), hi=float(ends[1]))


# --- to integers and back ------------------------------------------------------------------------


def _axis(node: Node) -> tuple[int, int]:
    """Rank of the data, and the axis of scales that are several."""
    if node.integer("block_size", 0):
        node.refuse("scales of blocks", "quantise with one scale for each channel")
    rank = len(node.shape(0))
    axis = node.integer("axis", 1)
    return rank, axis % rank if rank else 0


def quantize(node: Node) -> Operand:
    """QuantizeLinear: rounded to whole numbers, halves up, and saturated."""
    rank, axis = _axis(node)
    given = node.optional(2)
    kind = node.kind(2) if given is not None else node.integer("output_dtype", 0) or _UINT8
    scale, x = _along(node, node.operand(1), rank, axis), node.value(0)
    if isinstance(scale, Constant):
        inverse = node.builder.derive(scale, "reciprocal", lambda a: 1 / a.astype(np.float64))
        x = node.emit(tensor.Mul, x, inverse)
    else:
        x = node.emit(tensor.Div, x, scale)
    point = None if given is None else _along(node, given, rank, axis)
    return _rounded(node, x, point, _range(node, kind))


def dequantize(node: Node) -> Operand:
    """DequantizeLinear: of constants at their owner, of others a product; exact."""
    rank, axis = _axis(node)
    x = _centred(node, node.operand(0), 2, axis)
    return node.emit(tensor.Mul, node.real(x), _along(node, node.operand(1), rank, axis))


def dynamic_quantize(node: Node) -> tuple[Operand, Operand, Operand]:
    """DynamicQuantizeLinear: by the secret range of all elements, which may not be below 2^-10."""
    x = node.value(0)
    axes = tuple(range(len(node.shape(0))))
    zero = node.builder.value(node.public("zero", 0.0))
    low = negative(node, node.emit(tensor.ReduceMax, negative(node, x), axes=axes, keepdims=False))
    high = node.emit(tensor.ReduceMax, x, axes=axes, keepdims=False)
    low, high = minimum(node, low, zero), node.emit(tensor.Maximum, high, zero)
    span = node.emit(tensor.Sub, high, low)
    steps = scaled(node, node.emit(tensor.Div, negative(node, low), span), 255.0)
    point = _rounded(node, steps, None, (0, 255))
    y = scaled(node, node.emit(tensor.Div, x, span), 255.0)
    return _rounded(node, y, point, (0, 255)), scaled(node, span, 1 / 255), point


# --- products ------------------------------------------------------------------------------------


def matmul_integer(node: Node) -> Operand:
    """MatMulInteger: exact, of numbers less their zero points."""
    a, b = _factors(node, 0, 2, 1, 3)
    return product(node, a, b)


def _factors(node: Node, a: int, a_zero: int, b: int, b_zero: int) -> tuple[Operand, Operand]:
    """Both factors of a matrix product, less their zero points: of rows, and of columns."""
    rank_a, rank_b = len(node.shape(a)), len(node.shape(b))
    left = _centred(node, node.operand(a), a_zero, max(rank_a - 2, 0))
    return left, _centred(node, node.operand(b), b_zero, rank_b - 1)


def qlinear_matmul(node: Node) -> Operand:
    """QLinearMatMul: a product, rounded to whole numbers, halves up, and saturated."""
    a, b = _factors(node, 0, 2, 3, 5)
    rank = len(type_of(b).shape)
    b = _times(node, b, _factor(node, 1, 4, over=6, shape=(rank, rank - 1)))
    y = product(node, a, b)
    return _rounded(node, node.real(y), node.operand(7), _range(node, node.kind(7)))


_CONV = "group pads strides dilations kernel_shape auto_pad"


def _convolved(node: Node, *operands: Operand) -> Value:
    """A convolution with the node's attributes."""
    inner = Node(node.builder, node.proto, node.opset, operands, node.used, {})
    return node.real(conv(inner))


def conv_integer(node: Node) -> Operand:
    """ConvInteger: exact, of numbers less their zero points."""
    x, w = _centred(node, node.operand(0), 2, 1), _centred(node, node.operand(1), 3, 0)
    return _convolved(node, x, w)


def qlinear_conv(node: Node) -> Operand:
    """QLinearConv: a convolution, rounded to whole numbers, halves up, and saturated."""
    x, w = _centred(node, node.operand(0), 2, 1), _centred(node, node.operand(3), 5, 0)
    operands = [x, _times(node, w, _factor(node, 1, 4, over=6, shape=(len(node.shape(3)), 0)))]
    bias = node.optional(8)
    if bias is not None:
        operands.append(_times(node, bias, _factor(node, 1, 4, over=6, shape=(1, 0))))
    y = _convolved(node, *operands)
    return _rounded(node, y, node.operand(7), _range(node, node.kind(7)))


OPERATORS: Mapping[str, Operator] = {
    "ConvInteger": Operator(conv_integer, ignored=_CONV),
    "DequantizeLinear": Operator(dequantize, "scales of blocks", "output_dtype"),
    "DynamicQuantizeLinear": Operator(dynamic_quantize),
    "MatMulInteger": Operator(matmul_integer),
    "QLinearConv": Operator(qlinear_conv, "computed scales", _CONV),
    "QLinearMatMul": Operator(qlinear_matmul, "computed scales"),
    "QuantizeLinear": Operator(
        quantize, "scales of blocks, types of floats", "saturate precision output_dtype"
    ),
}
"""Operator name -> how it is imported."""
