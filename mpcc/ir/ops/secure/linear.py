"""Secure-level operators that are linear in each operand, and changes of the fraction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir import linear, shapes
from mpcc.ir.define import Attr, Attributes, fail
from mpcc.ir.ops.secure.base import (
    MAX_CAST_SLACK,
    MAX_TRUNCATE_SLACK,
    ROUNDINGS,
    WIDTH_ATTR,
    Array,
    Context,
    Product,
    SecureOperation,
    alike,
    check_fits,
    secure,
    secure_format,
    wrap,
)
from mpcc.ir.types import Type, join_visibility

__all__ = [
    "Add",
    "Cast",
    "Conv",
    "MatMul",
    "Mul",
    "ReduceSum",
    "Scale",
    "ShiftLeft",
    "Sub",
    "Truncate",
]


def _geometry(attrs: Attributes) -> Attributes:
    return {k: attrs[k] for k in ("strides", "pads", "dilations", "groups")}


class Conv(Product):
    """Convolution of x [N,C,H,W] by w [O,C/groups,kh,kw], as in ONNX; fractions add up."""

    name = "secure.conv"
    operands = ("x", "w")
    attributes = {
        "strides": Attr("ints", "per spatial axis"),
        "pads": Attr("ints", "zeros before every spatial axis, then after every one"),
        "dilations": Attr("ints", "per spatial axis"),
        "groups": Attr("int", "channel groups", 1),
        "width": WIDTH_ATTR,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, w = alike(cls, types, shape=False)
        shape = shapes.conv(cls, x, w, **_geometry(attrs))
        visibility = join_visibility(x.visibility, w.visibility)
        return (secure_format(cls, shape, x.ring, x.frac + w.frac, attrs["width"], visibility),)

    @classmethod
    def multiply(cls, attrs: Attributes, a: Array, b: Array) -> Array:
        return linear.conv(a, b, **_geometry(attrs))

    @classmethod
    def summed(cls, rank: int) -> tuple[int, ...]:
        return tuple(range(1, rank))


class MatMul(Product):
    """a [...,M,K] times b [...,K,N], matrix by matrix, or times one b [K,N]; fractions add up."""

    name = "secure.matmul"
    operands = ("a", "b")
    attributes = {"width": WIDTH_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = alike(cls, types, shape=False)
        visibility = join_visibility(a.visibility, b.visibility)
        shape = shapes.matmul_stack(cls, a, b)
        return (secure_format(cls, shape, a.ring, a.frac + b.frac, attrs["width"], visibility),)

    @classmethod
    def multiply(cls, attrs: Attributes, a: Array, b: Array) -> Array:
        return np.asarray(a @ b)

    @classmethod
    def summed(cls, rank: int) -> tuple[int, ...]:
        return (rank - 2,)


class Mul(Product):
    """a * b of one shape; fractions add up."""

    name = "secure.mul"
    operands = ("a", "b")
    attributes = {"width": WIDTH_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = alike(cls, types, shape=False)
        if a.shape != b.shape:
            raise fail(cls, f"operands do not fit: {a} and {b}")
        visibility = join_visibility(a.visibility, b.visibility)
        return (secure_format(cls, a.shape, a.ring, a.frac + b.frac, attrs["width"], visibility),)

    @classmethod
    def multiply(cls, attrs: Attributes, a: Array, b: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(a * b)

    @classmethod
    def summed(cls, rank: int) -> tuple[int, ...]:
        return ()


class _Binary(SecureOperation):
    operands = ("a", "b")
    attributes = {"width": WIDTH_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = alike(cls, types, shape=True)
        visibility = join_visibility(a.visibility, b.visibility)
        return (secure_format(cls, a.shape, a.ring, a.frac, attrs["width"], visibility),)


class Add(_Binary):
    """a + b of one shape and one fraction."""

    name = "secure.add"

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        with np.errstate(over="ignore"):
            return wrap(args[0] + args[1], context.ring)


class Sub(_Binary):
    """a - b of one shape and one fraction."""

    name = "secure.sub"

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        with np.errstate(over="ignore"):
            return wrap(args[0] - args[1], context.ring)


class ShiftLeft(SecureOperation):
    """raw * 2^amount at ``amount`` more fraction bits: the value stays the same."""

    name = "secure.shift_left"
    operands = ("x",)
    attributes = {"amount": Attr("int", "bits"), "width": WIDTH_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = secure(cls, types[0])
        if attrs["amount"] < 0:
            raise fail(cls, f"negative amount {attrs['amount']}")
        frac = x.frac + attrs["amount"]
        return (secure_format(cls, x.shape, x.ring, frac, attrs["width"], x.visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return wrap(np.left_shift(args[0], np.int64(attrs["amount"])), context.ring)


class Scale(SecureOperation):
    """raw * factor at ``frac`` more fraction bits: the value times factor / 2^frac.

    With ``frac`` zero the factor is exact; otherwise it stands for a real number that it is within
    half a unit of.
    """

    name = "secure.scale"
    operands = ("x",)
    attributes = {
        "factor": Attr("int", "public factor of the raw words; a signed word of the ring"),
        "frac": Attr("int", "fraction bits of the factor", 0),
        "width": WIDTH_ATTR,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = secure(cls, types[0])
        check_fits(cls, attrs["factor"], x.ring - 1, "factor")
        if attrs["frac"] < 0:
            raise fail(cls, f"negative fraction {attrs['frac']}")
        frac = x.frac + attrs["frac"]
        return (secure_format(cls, x.shape, x.ring, frac, attrs["width"], x.visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        with np.errstate(over="ignore"):
            return wrap(args[0] * np.int64(attrs["factor"]), context.ring)


class ReduceSum(SecureOperation):
    """The sum over ``axes``, which the result has no more; zero where an axis is empty."""

    name = "secure.reduce_sum"
    operands = ("x",)
    attributes = {"axes": Attr("ints", "axes summed, rising"), "width": WIDTH_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = secure(cls, types[0])
        shape = shapes.reduce(cls, x, attrs["axes"])
        return (secure_format(cls, shape, x.ring, x.frac, attrs["width"], x.visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return wrap(np.asarray(args[0].sum(axis=attrs["axes"])), context.ring)


class Truncate(SecureOperation):
    """raw / 2^amount at ``amount`` fewer fraction bits.

    ``stochastic``: floor((raw + g) / 2^amount) with a coin g uniform in [0, 2^amount) per element,
    which the parties know: unbiased, error below one unit. The operand must satisfy
    |raw| < 2^(ring-2) - 2^amount, hence its width is at most ring - 3.
    ``exact``: floor(raw / 2^amount).

    Into a smaller ring at once (``ring``), the bits dropped and those kept must fit the larger one.
    """

    name = "secure.truncate"
    operands = ("x",)
    attributes = {
        "amount": Attr("int", "bits dropped"),
        "rounding": Attr("str", "stochastic or exact", "stochastic"),
        "ring": Attr("int", "bits of the result's ring, if it is a smaller one", 0),
        "width": WIDTH_ATTR,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = secure(cls, types[0])
        if not 1 <= attrs["amount"] <= x.frac:
            raise fail(cls, f"cannot drop {attrs['amount']} of {x.frac} fraction bits")
        if attrs["rounding"] not in ROUNDINGS:
            raise fail(cls, f"unknown rounding {attrs['rounding']!r}")
        if x.width > x.ring - MAX_TRUNCATE_SLACK:
            raise fail(cls, f"{x} is wider than {x.ring - MAX_TRUNCATE_SLACK} bits")
        ring = attrs["ring"] or x.ring
        if attrs["ring"] and not ring <= x.ring - attrs["amount"]:
            raise fail(cls, f"{attrs['amount']} bits less leave too few of {x} for {ring} bits")
        frac = x.frac - attrs["amount"]
        return (secure_format(cls, x.shape, ring, frac, attrs["width"], x.visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        (x,) = args
        amount = np.int64(attrs["amount"])
        if context.coins is None or attrs["rounding"] == "exact":
            return wrap(x >> amount, context.ring)
        # floor((x + g) / 2^a) without forming x + g, which could pass 2^63.
        low = x & np.int64((1 << attrs["amount"]) - 1)
        return wrap((x >> amount) + ((low + context.coins) >> amount), context.ring)


class Cast(SecureOperation):
    """The same raw number in a ring of other size.

    The operand must satisfy |raw| < 2^(ring-2) for the smaller ring of both.
    """

    name = "secure.cast"
    operands = ("x",)
    attributes = {"ring": Attr("int", "bits of the result's ring, 32 or 64")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = secure(cls, types[0])
        most = min(x.ring, attrs["ring"]) - MAX_CAST_SLACK
        if x.width > most:
            raise fail(cls, f"{x} is wider than {most} bits")
        return (secure_format(cls, x.shape, attrs["ring"], x.frac, x.width, x.visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return wrap(args[0], context.ring)


OPERATIONS = (Conv, MatMul, Mul, Add, Sub, Scale, ShiftLeft, ReduceSum, Truncate, Cast)
"""In the order of the dialect."""
