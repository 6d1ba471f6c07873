"""Tensor-level comparisons, logic and choice.

A comparison gives a tensor of dtype ``bool``. It is discontinuous: where two operands are closer
than their errors, it may come out either way (docs/numbers.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir import shapes
from mpcc.ir.define import Attributes, Operation, fail
from mpcc.ir.intervals import Enclosure, Interval, Rounding
from mpcc.ir.ops.tensor.base import Array, Kind, TensorOperation, reals, result
from mpcc.ir.types import TensorType, Type

__all__ = ["And", "Equal", "Less", "Not", "ToReal", "Where", "Xor"]


def _bits(cls: type[Operation], type_: Type) -> TensorType:
    if not isinstance(type_, TensorType) or type_.dtype != "bool":
        raise fail(cls, f"needs truth values, not {type_}")
    return type_


def _interval(lo: Array, hi: Array) -> Enclosure:
    """Bounds of bits: where they are certain, both are the same."""
    return Enclosure((Interval(np.asarray(lo, np.float64), np.asarray(hi, np.float64)),))


class _Comparison(TensorOperation):
    kind = Kind.NONLINEAR
    discontinuous = True
    operands = ("a", "b")

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = reals(cls, types)
        return (result(shapes.broadcast(cls, a, b), a, b, dtype="bool"),)

    @classmethod
    def allows(
        cls, attrs: Attributes, operands: Sequence[Array], jumps: Array, tolerance: float
    ) -> Array:
        a, b = operands
        # Both operands move.
        either = np.abs(a - b) <= 2 * tolerance
        return np.asarray(either | (jumps == cls.evaluate(attrs, a, b)[0]))


class Less(_Comparison):
    """The bit a < b, with numpy broadcasting."""

    name = "tensor.less"

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.asarray(args[0] < args[1]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        a, b = operands
        return _interval(a.hi < b.lo, a.lo < b.hi)


class Equal(_Comparison):
    """The bit a = b, with numpy broadcasting: of fixed-point numbers, so without a tolerance."""

    name = "tensor.equal"

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.asarray(args[0] == args[1]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        a, b = operands
        return _interval((a.hi <= b.lo) & (b.hi <= a.lo), (a.lo <= b.hi) & (b.lo <= a.hi))


class Not(TensorOperation):
    """The other bit."""

    name = "tensor.not"
    kind = Kind.NONLINEAR
    operands = ("c",)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        return (_bits(cls, types[0]),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.logical_not(args[0]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (c,) = operands
        return _interval(1 - c.hi, 1 - c.lo)


class _Logic(TensorOperation):
    kind = Kind.NONLINEAR
    operands = ("c", "d")

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        c, d = (_bits(cls, t) for t in types)
        return (result(shapes.broadcast(cls, c, d), c, d),)


class And(_Logic):
    """Both bits, with numpy broadcasting."""

    name = "tensor.and"

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.logical_and(args[0], args[1]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        c, d = operands
        return _interval(c.lo * d.lo, c.hi * d.hi)


class Xor(_Logic):
    """One of the bits and not both, with numpy broadcasting."""

    name = "tensor.xor"

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.logical_xor(args[0], args[1]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        c, d = operands
        certain = (c.lo == c.hi) & (d.lo == d.hi)
        one = c.lo != d.lo
        return _interval(certain & one, ~certain | one)


class Where(TensorOperation):
    """a where the bit is one, b elsewhere, with numpy broadcasting."""

    name = "tensor.where"
    kind = Kind.NONLINEAR
    operands = ("c", "a", "b")

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        c = _bits(cls, types[0])
        a, b = reals(cls, types[1:])
        return (result(shapes.broadcast(cls, c, a, b), c, a, b, dtype=a.dtype),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.where(args[0] != 0, args[1], args[2]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        c, a, b = operands
        lo, hi = np.minimum(a.lo, b.lo), np.maximum(a.hi, b.hi)
        yes, no = c.lo > 0, c.hi < 1
        low = np.where(yes, a.lo, np.where(no, b.lo, lo))
        return Enclosure((Interval(low, np.where(yes, a.hi, np.where(no, b.hi, hi))),))


class ToReal(TensorOperation):
    """Truth values as 0 and 1, or positions (of ``argmax``, ``topk``) as numbers."""

    name = "tensor.to_real"
    kind = Kind.NONLINEAR
    operands = ("c",)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        (c,) = types
        if not isinstance(c, TensorType) or c.dtype not in ("bool", "i64"):
            raise fail(cls, f"needs truth values or positions, not {c}")
        return (TensorType(c.shape, "f32", c.visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (args[0].astype(np.float64),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        return Enclosure((operands[0],))


OPERATIONS = (Less, Equal, Not, And, Xor, Where, ToReal)
"""In the order of the dialect."""
