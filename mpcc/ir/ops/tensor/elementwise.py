"""Tensor-level elementwise operators, with numpy broadcasting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mpcc.ir import shapes
from mpcc.ir.define import Attr, Attributes, fail
from mpcc.ir.intervals import Enclosure, Interval, Rounding, largest, widen
from mpcc.ir.ops.tensor.base import (
    Array,
    Kind,
    Largest,
    Monotone,
    TensorOperation,
    real,
    reals,
    result,
)
from mpcc.ir.types import Type

__all__ = ["Abs", "Add", "Clip", "Floor", "Maximum", "Mul", "Relu", "Scale", "Sub"]

_WHOLE = 1 << 16
"""Whole factors below this multiply raw words: the result keeps the operand's fraction."""


class _Sum(TensorOperation):
    kind = Kind.SUM
    operands = ("a", "b")

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = reals(cls, types)
        return (result(shapes.broadcast(cls, a, b), a, b),)


class Add(_Sum):
    """a + b, with numpy broadcasting."""

    name = "tensor.add"

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.asarray(args[0] + args[1]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        a, b = operands
        total = Interval(np.asarray(a.lo + b.lo), np.asarray(a.hi + b.hi))
        return Enclosure((widen(total, rounding.unit),), largest(operands))


class Sub(_Sum):
    """a - b, with numpy broadcasting."""

    name = "tensor.sub"

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.asarray(args[0] - args[1]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        a, b = operands
        total = Interval(np.asarray(a.lo - b.hi), np.asarray(a.hi - b.lo))
        return Enclosure((widen(total, rounding.unit),), largest(operands))


class Mul(TensorOperation):
    """a * b, with numpy broadcasting."""

    name = "tensor.mul"
    kind = Kind.PRODUCT
    operands = ("a", "b")

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = reals(cls, types)
        return (result(shapes.broadcast(cls, a, b), a, b),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.asarray(args[0] * args[1]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        a, b = operands
        corners = [np.asarray(x * y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
        product = Interval(np.minimum.reduce(corners), np.maximum.reduce(corners))
        return Enclosure((widen(product, rounding.unit),))


class Scale(TensorOperation):
    """factor * x.

    A whole factor below 2^16 multiplies raw words, exactly and without a truncation. Any other one
    is encoded with as many fraction bits as it has, at most the weights'.
    """

    name = "tensor.scale"
    kind = Kind.PRODUCT
    factors = 1
    operands = ("x",)
    attributes = {"factor": Attr("float", "public and finite")}

    @classmethod
    def kind_of(cls, attrs: Attributes) -> Kind:
        return Kind.SUM if cls.whole(attrs["factor"]) else Kind.PRODUCT

    @classmethod
    def made_fraction(cls, attrs: Attributes, weight_frac: int) -> int:
        # Numerator over a power of two.
        bits = float(attrs["factor"]).as_integer_ratio()[1].bit_length() - 1
        return min(bits, weight_frac)

    @staticmethod
    def whole(factor: float) -> bool:
        """Whether this factor multiplies raw words."""
        return float(factor).is_integer() and abs(factor) < _WHOLE

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        if not math.isfinite(attrs["factor"]):
            raise fail(cls, f"the factor must be finite, not {attrs['factor']}")
        return (result(x.shape, x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.asarray(args[0] * args[0].dtype.type(attrs["factor"])),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,), factor = operands, attrs["factor"]
        error = 0.0 if cls.whole(factor) else rounding.constant_error
        corners = [end * f for end in (x.lo, x.hi) for f in (factor - error, factor + error)]
        product = Interval(np.minimum.reduce(corners), np.maximum.reduce(corners))
        return Enclosure((widen(product, rounding.unit),))


class Maximum(Largest):
    """max(a, b), with numpy broadcasting."""

    name = "tensor.maximum"
    kind = Kind.NONLINEAR
    operands = ("a", "b")

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = reals(cls, types)
        return (result(shapes.broadcast(cls, a, b), a, b),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.maximum(args[0], args[1]),)

    @classmethod
    def steps(cls, attrs: Attributes, operands: Sequence[Interval]) -> int:
        return 1


class _Unary(Monotone):
    kind = Kind.NONLINEAR
    operands = ("x",)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(x.shape, x),)


class Relu(_Unary):
    """max(x, 0), elementwise."""

    name = "tensor.relu"

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.maximum(args[0], args[0].dtype.type(0)),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        """A number that is so near to zero that a coarse comparison takes it for less is zero."""
        (y,) = super().interval(attrs, operands, rounding).results
        return Enclosure((Interval(np.where(y.lo <= rounding.coarse, 0.0, y.lo), y.hi),))


class Floor(_Unary):
    """The largest integer that is not above x; in fixed point exactly that of the operand."""

    name = "tensor.floor"
    discontinuous = True

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.floor(args[0]),)

    @classmethod
    def allows(
        cls, attrs: Attributes, operands: Sequence[Array], jumps: Array, tolerance: float
    ) -> Array:
        (x,) = operands
        return np.asarray((jumps <= x + tolerance) & (x - tolerance < jumps + 1))


class Abs(TensorOperation):
    """|x|, elementwise."""

    name = "tensor.abs"
    kind = Kind.NONLINEAR
    operands = ("x",)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(x.shape, x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.abs(args[0]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,) = operands
        low = np.maximum(np.maximum(x.lo, -x.hi), 0)
        return Enclosure((Interval(low, np.maximum(-x.lo, x.hi)),))


class Clip(TensorOperation):
    """min(max(x, lo), hi); a side without a bound costs nothing."""

    name = "tensor.clip"
    kind = Kind.NONLINEAR
    operands = ("x",)
    attributes = {
        "lo": Attr("float", "public; -inf for none"),
        "hi": Attr("float", "public; inf for none"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, lo, hi = real(cls, types[0]), attrs["lo"], attrs["hi"]
        if not lo <= hi or lo == math.inf or hi == -math.inf:
            raise fail(cls, f"no values between {lo} and {hi}")
        return (result(x.shape, x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.clip(args[0], attrs["lo"], attrs["hi"]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,), lo, hi = operands, attrs["lo"], attrs["hi"]

        def error(bound: float) -> float:
            """Of the bound's encoding; numbers with few digits have none."""
            whole = math.isfinite(bound) and not (bound / rounding.unit).is_integer()
            return rounding.unit if whole else 0.0

        down, up = lo - error(lo), hi + error(hi)
        # Either bound, once encoded, may lie on either side of the real one.
        least = np.clip(x.lo, down, hi - error(hi))
        most = np.clip(x.hi, lo + error(lo), up)
        return Enclosure((Interval(np.minimum(least, most), np.maximum(least, most)),))


OPERATIONS = (Add, Sub, Mul, Scale, Maximum, Relu, Abs, Floor, Clip)
"""In the order of the dialect."""
