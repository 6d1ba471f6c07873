"""Secure-level comparison, selection and clamping."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir.define import Attr, Attributes, fail
from mpcc.ir.ops.secure.base import (
    RING_ATTR,
    WIDTH_ATTR,
    Array,
    Context,
    SecureOperation,
    check_fits,
    secure,
    secure_format,
)
from mpcc.ir.types import BitType, Type, join_visibility

__all__ = ["Clamp", "FromBit", "Negative", "Select"]


class Negative(SecureOperation):
    """The bit [raw < 0], compared modulo 2^(k+1) for the operand's width k.

    With c coarse bits it is [raw < r] for a random r in [0, 2^c), compared modulo 2^(k-c+2): the
    lowest bits are left out, and there is room for raw - r. With the coin g, r = 2^c - 1 - g.
    """

    name = "secure.negative"
    operands = ("x",)
    attributes = {"coarse": Attr("int", "lowest bits left out of the comparison", 0)}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = secure(cls, types[0])
        coarse = attrs["coarse"]
        if coarse and not (0 < coarse <= x.width <= x.ring - 2):
            raise fail(cls, f"{coarse} coarse bits of {x}")
        return (BitType(x.shape, x.visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        (x,), top = args, (1 << attrs["coarse"]) - 1
        coins = np.int64(0) if context.coins is None else context.coins
        return np.asarray(x < np.int64(top) - coins)


class Select(SecureOperation):
    """x where (bit xor invert) is one, zero elsewhere."""

    name = "secure.select"
    operands = ("bit", "x")
    attributes = {
        "invert": Attr("bool", "select where the bit is zero", False),
        "width": WIDTH_ATTR,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        bit, x = types[0], secure(cls, types[1])
        if not isinstance(bit, BitType) or bit.shape != x.shape:
            raise fail(cls, f"{bit} does not select elements of {x}")
        visibility = join_visibility(bit.visibility, x.visibility)
        return (secure_format(cls, x.shape, x.ring, x.frac, attrs["width"], visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        bit, x = args
        return np.where(bit != attrs["invert"], x, np.int64(0))


class FromBit(SecureOperation):
    """The bit as the number 0 or 1, without fraction bits."""

    name = "secure.from_bit"
    operands = ("bit",)
    attributes = {"ring": RING_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        (bit,) = types
        if not isinstance(bit, BitType):
            raise fail(cls, f"needs bits, not {bit}")
        return (secure_format(cls, bit.shape, attrs["ring"], 0, 1, bit.visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return args[0].astype(np.int64)


class Clamp(SecureOperation):
    """min(max(raw, lo), hi), compared at the operand's width."""

    name = "secure.clamp"
    operands = ("x",)
    attributes = {
        "lo": Attr("int", "smallest raw value of the result"),
        "hi": Attr("int", "largest raw value of the result"),
        "width": WIDTH_ATTR,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = secure(cls, types[0])
        if attrs["lo"] > attrs["hi"]:
            raise fail(cls, f"empty range [{attrs['lo']}, {attrs['hi']}]")
        check_fits(cls, attrs["lo"], attrs["width"], "lower bound")
        check_fits(cls, attrs["hi"], attrs["width"], "upper bound")
        return (secure_format(cls, x.shape, x.ring, x.frac, attrs["width"], x.visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return np.asarray(np.clip(args[0], np.int64(attrs["lo"]), np.int64(attrs["hi"])), np.int64)


OPERATIONS = (Negative, Select, FromBit, Clamp)
"""In the order of the dialect."""
