"""Shared parts of the secure-level declarations: type checks and the operator base classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.ir.define import Attr, Attributes, Operation, fail
from mpcc.ir.types import VISIBILITIES, BitType, SecureType, Shape, Type

__all__ = [
    "MAX_CAST_SLACK",
    "MAX_TRUNCATE_SLACK",
    "RING_ATTR",
    "ROUNDINGS",
    "SHAPE_ATTR",
    "WIDTH_ATTR",
    "Array",
    "Context",
    "Product",
    "SecureOperation",
    "Structural",
    "alike",
    "bits_or_numbers",
    "check_fits",
    "moved",
    "secure",
    "secure_format",
    "wrap",
]

Array = npt.NDArray[Any]

MAX_TRUNCATE_SLACK = 3
"""A stochastic truncation by f takes |raw| < 2^(ring-2) - 2^f, hence widths up to ring - 3."""

MAX_CAST_SLACK = 2
"""A cast takes |raw| < 2^(ring-2) for the smaller ring of both: the top bit of the sum with
2^(ring-2) is known to be zero."""

ROUNDINGS = ("stochastic", "exact")

RING_ATTR = Attr("int", "bits of the ring, 32 or 64", 64)
WIDTH_ATTR = Attr("int", "k of the result: |raw| < 2^k")
SHAPE_ATTR = Attr("ints", "shape of the result")


def wrap(raw: Array, ring: int) -> Array:
    """Centred representatives modulo 2^ring of an int64 array (which itself wraps at 64 bits)."""
    if ring == 64:
        return np.asarray(raw, np.int64)
    half = np.int64(1 << (ring - 1))
    mask = np.int64((1 << ring) - 1)
    return np.asarray(((raw + half) & mask) - half, np.int64)


def secure(cls: type[Operation], type_: Type) -> SecureType:
    """The type, if it is a secure tensor."""
    if not isinstance(type_, SecureType):
        raise fail(cls, f"needs a secure tensor, not {type_}")
    return type_


def alike(cls: type[Operation], types: Sequence[Type], *, shape: bool) -> list[SecureType]:
    """Operands of one ring, and of one shape and fraction too if ``shape`` is set."""
    xs = [secure(cls, t) for t in types]
    first = xs[0]
    for x in xs[1:]:
        if x.ring != first.ring or (shape and (x.shape, x.frac) != (first.shape, first.frac)):
            raise fail(cls, f"operands do not fit: {first} and {x}")
    return xs


def bits_or_numbers(cls: type[Operation], type_: Type) -> SecureType | BitType:
    """The type, if it is a secure tensor or a tensor of bits."""
    if not isinstance(type_, SecureType | BitType):
        raise fail(cls, f"needs a secure tensor or bits, not {type_}")
    return type_


def moved(x: SecureType | BitType, shape: Shape) -> SecureType | BitType:
    """The type of elements of x in another shape."""
    return dataclasses.replace(x, shape=tuple(shape))


def secure_format(
    cls: type[Operation], shape: Shape, ring: int, frac: int, width: int, visibility: str
) -> SecureType:
    """A result type; refused where ring, fraction, width or visibility make no sense."""
    if ring not in (32, 64):
        raise fail(cls, f"rings have 32 or 64 bits, not {ring}")
    if any(d < 0 for d in shape):
        raise fail(cls, f"negative dimension in {shape}")
    if not 0 <= frac < ring:
        raise fail(cls, f"{frac} fraction bits do not fit a ring of {ring} bits")
    if not 1 <= width < ring:
        raise fail(cls, f"width {width} is not between 1 and {ring - 1}")
    if visibility not in VISIBILITIES:
        raise fail(cls, f"unknown visibility {visibility!r}")
    return SecureType(tuple(shape), ring, frac, width, visibility)


def check_fits(cls: type[Operation], raw: int, width: int, what: str) -> None:
    """Refuse a public raw value outside a width."""
    if abs(raw) >= 1 << width:
        raise fail(cls, f"{what} {raw} does not fit the width {width}")


@dataclass(frozen=True)
class Context:
    """What a reference needs besides attributes and operands.

    Attributes:
        ring: bits of the ring in which results wrap.
        coins: of a stochastic truncation: int64 in [0, 2^amount), of the operand's shape; None
            means zero (floor).
    """

    ring: int = 64
    coins: Array | None = None

    @classmethod
    def of(cls, result: Type, coins: Array | None = None) -> Context:
        """The context of an op with this result type; bits have no ring, and need none."""
        return cls(result.ring if isinstance(result, SecureType) else 64, coins)


class SecureOperation(Operation):
    """A secure-level operator with its exact reference on raw values."""

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        """Raw result for raw operands: int64 centred representatives, bool for bits."""
        raise NotImplementedError(cls.name)


class Product(SecureOperation):
    """A bilinear operator; fractions add up."""

    @classmethod
    def multiply(cls, attrs: Attributes, a: Array, b: Array) -> Array:
        """The bilinear map in the arithmetic of the arrays' dtype."""
        raise NotImplementedError(cls.name)

    @classmethod
    def summed(cls, rank: int) -> tuple[int, ...]:
        """Axes of b, which has ``rank`` of them, over which one element of the result sums."""
        raise NotImplementedError(cls.name)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return wrap(cls.multiply(attrs, args[0], args[1]), context.ring)


class Structural(SecureOperation):
    """An operator that only moves elements, numbers or bits: its reference takes any dtype."""
