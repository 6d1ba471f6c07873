"""Tensor-level smooth functions, elementwise.

In fixed point each is within two units of the activations' format, or within 2^-19 of the result's
range where that is more (docs/numbers.md, Functions).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mpcc.ir import elementary
from mpcc.ir.define import Attr, Attributes, fail
from mpcc.ir.elementary import Unary
from mpcc.ir.intervals import Enclosure, Interval, Rounding, widen
from mpcc.ir.ops.tensor.base import Array, Kind, TensorOperation, real, result
from mpcc.ir.types import Type

__all__ = [
    "Atan",
    "Cos",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "Mish",
    "Sigmoid",
    "Silu",
    "Sin",
    "Softplus",
    "Tanh",
]

_FINEST = 2.0**-19
"""No approximation is promised to be better than this, relative to the results' size."""


_TURN = 1.01 * np.pi * 2.0**-33
"""How far a unit of an angle may be off: 1 / 2 pi is a factor of that many fraction bits."""

_HUGE = 2.0**900
"""Larger bounds say no more: nothing fits them."""


def _error(rounding: Rounding, size: Array | float = 1.0) -> Array:
    """Bound of a function's error in fixed point, of results up to a size."""
    return np.asarray(rounding.unit + np.maximum(rounding.unit, _FINEST * np.maximum(size, 1.0)))


class _Function(TensorOperation):
    """One operand, a smooth function of every element."""

    kind = Kind.NONLINEAR
    operands = ("x",)
    turns: ClassVar[Sequence[float]] = ()
    """Where a function has extremes."""

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        """The function."""
        raise NotImplementedError(cls.name)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(x.shape, x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.asarray(cls.function(attrs)(args[0]), args[0].dtype),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,), f = operands, cls.function(attrs)
        with np.errstate(over="ignore"):
            ends = [np.asarray(np.minimum(f(end), _HUGE)) for end in (x.lo, x.hi)]
        for turn in cls.turns:
            inside = (x.lo < turn) & (turn < x.hi)
            ends.append(np.where(inside, f(np.array(turn)), ends[0]))
        image = Interval(np.minimum.reduce(ends), np.maximum.reduce(ends))
        return Enclosure((widen(image, cls.error(image, rounding)),))

    @classmethod
    def error(cls, image: Interval, rounding: Rounding) -> Array:
        """Bound of the error of results within bounds."""
        return _error(rounding, np.maximum(np.abs(image.lo), np.abs(image.hi)))


class Exp(_Function):
    """exp(x)."""

    name = "tensor.exp"
    kind = Kind.FUNCTION

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return elementary.exp

    @classmethod
    def error(cls, image: Interval, rounding: Rounding) -> Array:
        """Of a square of exp(x / 2), whose error is one of the largest result of all elements.

        That is below 2^B, at most twice the bound, and its root is off by 2^(B/2 - 20).
        """
        most = 2.0 * max(float(image.hi.max(initial=0.0)), 1.0)
        own = np.maximum(image.hi, 0.0)
        root = np.sqrt(2.0 * most) * _FINEST / 2
        error = root * (2 * np.sqrt(own) + root)
        return np.asarray(rounding.unit + np.maximum(rounding.unit, error))


class Sigmoid(_Function):
    """1 / (1 + exp(-x))."""

    name = "tensor.sigmoid"

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return elementary.sigmoid


class Tanh(_Function):
    """The hyperbolic tangent."""

    name = "tensor.tanh"

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return np.tanh


class Erf(_Function):
    """The error function."""

    name = "tensor.erf"

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return elementary.erf


class Gelu(_Function):
    """x times the normal distribution function at x, or its approximation by a tanh."""

    name = "tensor.gelu"
    attributes = {"approximate": Attr("str", "none or tanh", "none")}
    turns = (-0.7517915246935645, -0.7524614220710162)

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return elementary.gelu_tanh if attrs["approximate"] == "tanh" else elementary.gelu

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        if attrs["approximate"] not in ("none", "tanh"):
            raise fail(cls, f"unknown approximation {attrs['approximate']!r}")
        return super().infer(types, attrs)


class Silu(_Function):
    """x / (1 + exp(-x)), also called swish."""

    name = "tensor.silu"
    turns = (-1.2784645427610738,)

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return elementary.silu


class Mish(_Function):
    """x tanh(log(1 + exp(x)))."""

    name = "tensor.mish"
    turns = (-1.1924312145154135,)

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return elementary.mish


class Softplus(_Function):
    """log(1 + exp(x))."""

    name = "tensor.softplus"

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return elementary.softplus


class Elu(_Function):
    """x where it is positive, exp(x) - 1 elsewhere."""

    name = "tensor.elu"

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return elementary.elu


class _Wave(_Function):
    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        """Ends, and the extremes between them; wide intervals have both."""
        (x,), f = operands, cls.function(attrs)
        lo, hi = np.minimum(f(x.lo), f(x.hi)), np.maximum(f(x.lo), f(x.hi))
        # A quarter turn more and sin is cos; maxima of cos are at whole turns.
        start, end = ((v - cls.top) / (2 * np.pi) for v in (x.lo, x.hi))
        hi = np.where(np.floor(end) > np.floor(start), 1.0, hi)
        lo = np.where(np.floor(end - 0.5) > np.floor(start - 0.5), -1.0, lo)
        # The angle is rounded too, which far out counts.
        far = np.maximum(np.abs(x.lo), np.abs(x.hi)) * _TURN
        image = widen(Interval(np.asarray(lo), np.asarray(hi)), _error(rounding) + far)
        return Enclosure((image,))

    top: ClassVar[float]
    """Where the function is 1."""


class Sin(_Wave):
    """The sine of an angle in radians."""

    name = "tensor.sin"
    top = np.pi / 2

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return np.sin


class Cos(_Wave):
    """The cosine of an angle in radians."""

    name = "tensor.cos"
    top = 0.0

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return np.cos


class Atan(_Function):
    """The angle between -pi/2 and pi/2 whose tangent is x; for |x| up to 16."""

    name = "tensor.atan"

    @classmethod
    def function(cls, attrs: Attributes) -> Unary:
        return np.arctan


OPERATIONS = (
    Exp,
    Sigmoid,
    Tanh,
    Erf,
    Gelu,
    Silu,
    Mish,
    Softplus,
    Elu,
    Sin,
    Cos,
    Atan,
)
"""In the order of the dialect."""
