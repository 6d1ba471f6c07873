"""Party-level elementwise ring operators, and those between rings and bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir.bitslice import from_words, to_words
from mpcc.ir.define import Attr, Attributes
from mpcc.ir.ops.party_base import (
    RING_ATTR,
    SHAPE_ATTR,
    Array,
    PartyOperation,
    bits_result,
    bits_type,
    check_lanes,
    fail,
    ring_pairs,
    ring_result,
    ring_type,
    same_types,
    word_dtype,
)
from mpcc.ir.types import PartyType, Type, element_count

__all__ = [
    "Add",
    "AddConst",
    "BitSlice",
    "Cast",
    "FromBits",
    "LowBits",
    "MaskBy",
    "Mul",
    "MulConst",
    "Neg",
    "NegateIf",
    "ShiftLeft",
    "ShiftRight",
    "Sub",
]

# --- ring, elementwise ---------------------------------------------------------------------------


class _RingBinary(PartyOperation):
    operands = ("a", "b")
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        same_types(cls, types)
        return (ring_type(cls, types[0]),)


class Add(_RingBinary):
    """a + b."""

    name = "party.add"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] + args[1]


class Sub(_RingBinary):
    """a - b."""

    name = "party.sub"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] - args[1]


class Mul(PartyOperation):
    """Sum over operand pairs of a * b, elementwise."""

    name = "party.mul"
    operands = ("ab*",)
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = ring_pairs(cls, types)[0]
        same_types(cls, (a, b))
        return (a,)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        total = args[0] * args[1]
        for a, b in zip(args[2::2], args[3::2], strict=True):
            total = total + a * b
        return np.asarray(total)


class _RingUnary(PartyOperation):
    operands = ("x",)
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        for key in ("amount", "count"):
            if key in attrs and not 0 <= attrs[key] <= x.ring - (key == "amount"):
                raise fail(cls, f"{key} {attrs[key]} does not fit {x.ring} bits")
        if "value" in attrs and not -(2 ** (x.ring - 1)) <= attrs["value"] < 2 ** (x.ring - 1):
            raise fail(cls, f"constant {attrs['value']} does not fit {x.ring} signed bits")
        return (x,)


class Neg(_RingUnary):
    """-x."""

    name = "party.neg"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return np.zeros_like(args[0]) - args[0]


class AddConst(_RingUnary):
    """x + value."""

    name = "party.add_const"
    attributes = {"value": Attr("int", "public constant, as a signed word")}

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = args[0]
        return x + x.dtype.type(attrs["value"] % 2 ** (8 * x.dtype.itemsize))


class MulConst(_RingUnary):
    """x * value."""

    name = "party.mul_const"
    attributes = {"value": Attr("int", "public constant, as a signed word")}

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = args[0]
        return x * x.dtype.type(attrs["value"] % 2 ** (8 * x.dtype.itemsize))


class ShiftLeft(_RingUnary):
    """x * 2^amount."""

    name = "party.shift_left"
    attributes = {"amount": Attr("int", "bits, below the ring's")}

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] << args[0].dtype.type(attrs["amount"])


class ShiftRight(_RingUnary):
    """Logical shift: floor(x / 2^amount) of the unsigned word."""

    name = "party.shift_right"
    attributes = {"amount": Attr("int", "bits, below the ring's")}

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] >> args[0].dtype.type(attrs["amount"])


class LowBits(_RingUnary):
    """x mod 2^count."""

    name = "party.low_bits"
    attributes = {"count": Attr("int", "bits kept")}

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] & args[0].dtype.type(2 ** attrs["count"] - 1)


class Cast(PartyOperation):
    """x modulo 2^ring: its low bits in a smaller ring, zeros above them in a larger one."""

    name = "party.cast"
    operands = ("x",)
    attributes = {"ring": RING_ATTR}
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        return (ring_result(cls, x.shape, attrs["ring"], x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0].astype(word_dtype(attrs["ring"]))


# --- ring and bits -------------------------------------------------------------------------------


class _BitByRing(PartyOperation):
    operands = ("bit", "x")
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        bit, x = bits_type(cls, types[0]), ring_type(cls, types[1])
        if bit.planes != 1:
            raise fail(cls, f"needs one plane, not {bit.planes}")
        check_lanes(cls, bit, x)
        return (x,)

    @classmethod
    def flags(cls, operands: Sequence[Type], bit: Array, x: Array) -> Array:
        """The bit of every element of x, as words 0 or 1."""
        lanes = bits_type(cls, operands[0]).lanes
        return to_words(bit, lanes, 1, x.dtype).reshape(x.shape)


class MaskBy(_BitByRing):
    """bit ? x : 0, without a branch."""

    name = "party.mask_by"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return cls.flags(operands, *args) * args[1]


class NegateIf(_BitByRing):
    """bit ? -x : x, without a branch."""

    name = "party.negate_if"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        flags = cls.flags(operands, *args)
        return (args[1] ^ (np.zeros_like(flags) - flags)) + flags


class FromBits(PartyOperation):
    """The unsigned integer of the planes (plane 0 lowest) as a ring word."""

    name = "party.from_bits"
    operands = ("x",)
    attributes = {"shape": SHAPE_ATTR, "ring": RING_ATTR}
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = bits_type(cls, types[0])
        ring = ring_result(cls, attrs["shape"], attrs["ring"], x.place)
        check_lanes(cls, x, ring)
        if x.planes > ring.ring:
            raise fail(cls, f"{x.planes} planes do not fit {ring.ring} bits")
        return (ring,)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = bits_type(cls, operands[0])
        return to_words(args[0], x.lanes, x.planes, word_dtype(attrs["ring"])).reshape(
            attrs["shape"]
        )


class BitSlice(PartyOperation):
    """Planes ``shift`` .. ``shift + planes - 1`` of ring words; padding bits are zero."""

    name = "party.bit_slice"
    operands = ("x",)
    attributes = {
        "planes": Attr("int", "bits taken"),
        "shift": Attr("int", "lowest bit taken", 0),
    }
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        if attrs["planes"] < 1 or attrs["shift"] < 0 or attrs["planes"] + attrs["shift"] > x.ring:
            raise fail(cls, f"bits {attrs['shift']} + {attrs['planes']} of {x.ring}")
        return (bits_result(cls, element_count(x.shape), attrs["planes"], x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return from_words(args[0].reshape(-1), attrs["planes"], attrs["shift"])
