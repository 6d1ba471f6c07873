"""Secure forms of elementwise operators."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mpcc.ir.core import Op, Value
from mpcc.ir.define import Operation
from mpcc.ir.ops import secure, tensor
from mpcc.passes.lowerings.base import Lowering, Rule, Rules, secure_type, tensor_type

__all__ = ["RULES", "add", "maximum", "relu", "subtract"]


_LEAST_COARSE = 2
"""With one bit a comparison without its lowest bits is as wide as it was."""


def _sum(definition: type[Operation]) -> Rule:
    """The rule of a sum that has a secure op of its own."""

    def rule(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
        width = lowering.result_width(op, secure_type(operands[0]).frac)
        return [lowering.emit(definition, operands, {"width": width}, op.loc)]

    return rule


def add(lowering: Lowering, a: Value, b: Value, width: int, loc: str) -> Value:
    """The sum a + b of one shape and fraction."""
    return lowering.emit(secure.Add, [a, b], {"width": width}, loc)


def subtract(lowering: Lowering, a: Value, b: Value, loc: str, width: int | None = None) -> Value:
    """The difference a - b of one shape and fraction; by default a bit wider than the wider one."""
    if width is None:
        width = max(secure_type(a).width, secure_type(b).width) + 1
    return lowering.emit(secure.Sub, [a, b], {"width": width}, loc)


def relu(lowering: Lowering, x: Value, loc: str, *, coarse: bool = False) -> Value:
    """max(x, 0): x where it is not negative.

    Where it may be ``coarse``, small positive numbers may count as negative, as Phi says.
    """
    type_ = secure_type(x)
    left_out = min(lowering.phi.coarse, type_.width - 1) if coarse else 0
    if left_out < _LEAST_COARSE or type_.width > type_.ring - 2:
        left_out = 0
    bit = lowering.emit(secure.Negative, [x], {"coarse": left_out}, loc)
    attrs = {"invert": True, "width": secure_type(x).width}
    return lowering.emit(secure.Select, [bit, x], attrs, loc)


def maximum(lowering: Lowering, a: Value, b: Value, loc: str, *, coarse: bool = False) -> Value:
    """max(a, b) = b + relu(a - b) of one shape and fraction; ``coarse`` as in :func:`relu`."""
    width = max(secure_type(a).width, secure_type(b).width)
    more = relu(lowering, subtract(lowering, a, b, loc), loc, coarse=coarse)
    return add(lowering, b, more, width, loc)


def _relu(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    return [relu(lowering, operands[0], op.loc, coarse=True)]


def _abs(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """X - 2 s, where s is x if that is negative, and zero else."""
    (x,) = operands
    attrs = {"width": secure_type(x).width}
    bit = lowering.emit(secure.Negative, [x], {}, op.loc)
    s = lowering.emit(secure.Select, [bit, x], attrs, op.loc)
    positive = lowering.emit(secure.Sub, [x, s], attrs, op.loc)
    return [lowering.emit(secure.Sub, [positive, s], attrs, op.loc)]


def _mul(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """The product, whose fraction is the sum of both."""
    shape, frac = tensor_type(op.result).shape, sum(secure_type(x).frac for x in operands)
    spread = [lowering.spread(x, shape, op.loc) for x in operands]
    width = lowering.result_width(op, frac)
    return [lowering.emit(secure.Mul, spread, {"width": width}, op.loc)]


def _scale(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """Local: the factor is public. A whole one has no fraction."""
    (x,), factor = operands, op.attrs["factor"]
    frac = 0
    if not tensor.Scale.whole(factor):
        frac = tensor.Scale.made_fraction(op.attrs, lowering.phi.weight_frac)
    raw = round(math.ldexp(factor, frac))
    width = lowering.result_width(op, secure_type(x).frac + frac)
    return [lowering.emit(secure.Scale, [x], {"factor": raw, "frac": frac, "width": width}, op.loc)]


def _maximum(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    shape = tensor_type(op.result).shape
    a, b = (lowering.spread(x, shape, op.loc) for x in operands)
    return [maximum(lowering, a, b, op.loc, coarse=True)]


def _floor(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """The fraction is dropped exactly, and put back as zeros."""
    (x,) = operands
    frac = secure_type(x).frac
    # Of x > -2^k the floor may be -2^k, and of x > -1 it is -1.
    whole = max(secure_type(x).width - frac, 0) + 1
    attrs = {"amount": frac, "rounding": "exact", "width": whole}
    x = lowering.emit(secure.Truncate, [x], attrs, op.loc)
    return [lowering.emit(secure.ShiftLeft, [x], {"amount": frac, "width": whole + frac}, op.loc)]


def _clip(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """Both bounds: two comparisons in the same rounds. One bound: one comparison.

    A bound that the operand's width excludes is none.
    """
    (x,), loc = operands, op.loc
    type_ = secure_type(x)
    top = (1 << type_.width) - 1
    lo, hi = (_raw(op.attrs[end], type_.frac) for end in ("lo", "hi"))
    if -top < lo and hi < top:
        width = max(1, int(lo).bit_length(), int(hi).bit_length())
        return [lowering.emit(secure.Clamp, [x], {"lo": lo, "hi": hi, "width": width}, loc)]
    if lo == 0:
        return [relu(lowering, x, loc)]
    if -top < lo:
        bound = lowering.constant(x, int(lo), type_.shape, loc)
        return [maximum(lowering, x, bound, loc)]
    if hi < top:
        bound = lowering.constant(x, int(hi), type_.shape, loc)
        excess = relu(lowering, subtract(lowering, x, bound, loc), loc)
        width = max(type_.width, secure_type(bound).width)
        return [subtract(lowering, x, excess, loc, width)]
    return [x]


def _raw(bound: float, frac: int) -> float:
    """round(bound * 2^frac), half to even, as the exact number or an infinity."""
    return int(np.rint(scaled)) if math.isfinite(scaled := bound * 2.0**frac) else scaled


RULES: Rules = {
    tensor.Add: _sum(secure.Add),
    tensor.Sub: _sum(secure.Sub),
    tensor.Mul: _mul,
    tensor.Scale: _scale,
    tensor.Maximum: _maximum,
    tensor.Relu: _relu,
    tensor.Abs: _abs,
    tensor.Floor: _floor,
    tensor.Clip: _clip,
}
