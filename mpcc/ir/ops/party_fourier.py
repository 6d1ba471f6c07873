"""Party-level trigonometric functions of local words (:mod:`mpcc.ir.harmonics`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir import harmonics
from mpcc.ir.define import Attr, Attributes
from mpcc.ir.limits import MAX_HARMONICS
from mpcc.ir.ops.party_base import (
    RING_ATTR,
    Array,
    PartyOperation,
    fail,
    ring_result,
    ring_type,
    word_dtype,
)
from mpcc.ir.ops.secure.function import check_angle, check_series
from mpcc.ir.types import PartyType, Type

__all__ = ["Fourier", "Harmonics"]

_PERIOD = Attr("int", "the period is 2^period units of x")
_MULTIPLIER = Attr("int", "public integer factor of the angle", 1)
_PRECISION = Attr("int", "fraction bits of every factor")


class Harmonics(PartyOperation):
    """Rows of cos(t), sin(t), cos(2 t), ... at t = 2 pi (multiplier * x mod 2^period) / 2^period.

    The result has one axis more, the first: its entry j is row first + j.
    """

    name = "party.harmonics"
    operands = ("x",)
    attributes = {
        "first": Attr("int", "first row", 0),
        "rows": Attr("int", "number of rows; 2 for every harmonic"),
        "period": _PERIOD,
        "multiplier": _MULTIPLIER,
        "precision": _PRECISION,
        "ring": RING_ATTR,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        first, rows = attrs["first"], attrs["rows"]
        if first < 0 or rows < 1 or first + rows > 2 * MAX_HARMONICS:
            raise fail(cls, f"rows {first} to {first + rows} are not in 0 to {2 * MAX_HARMONICS}")
        check_angle(cls, attrs, x.ring)
        return (ring_result(cls, (rows, *x.shape), attrs["ring"], x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        first, end = attrs["first"], attrs["first"] + attrs["rows"]
        found = harmonics.harmonics(
            args[0], (end + 1) // 2, attrs["period"], attrs["multiplier"], attrs["precision"]
        )
        return found[first:end].astype(word_dtype(attrs["ring"]))


class Fourier(PartyOperation):
    """The sum over rows j of m[j] times what stands beside row j of the other summand's angle.

    m is the operands ms one after another. For m = party.harmonics(y) the result is the sum over
    k = 1, 2, ... of cos_k cos(k t) + sin_k sin(k t) at the angle t of x + y, with twice
    ``precision`` fraction bits; for additive shares of such an m, additive shares of it.
    """

    name = "party.fourier"
    operands = ("x", "ms*")
    attributes = {
        "cos": Attr("ints", "coefficients of cos(k t), k = 1, 2, ..."),
        "sin": Attr("ints", "coefficients of sin(k t), as many"),
        "coefficient_frac": Attr("int", "fraction bits of these coefficients"),
        "period": _PERIOD,
        "multiplier": _MULTIPLIER,
        "precision": _PRECISION,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, *ms = (ring_type(cls, t) for t in types)
        check_series(cls, attrs, x.ring)
        if not ms or len({m.ring for m in ms}) != 1:
            raise fail(cls, "needs rows of one ring")
        for m in ms:
            if m.place != x.place or not m.shape or m.shape[1:] != x.shape:
                raise fail(cls, f"{m} does not hold rows for {x}")
        rows = sum(m.shape[0] for m in ms)
        if rows != 2 * len(attrs["cos"]):
            raise fail(cls, f"{rows} rows for {len(attrs['cos'])} harmonics")
        return (ring_result(cls, x.shape, ms[0].ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x, *ms = args
        found = harmonics.fourier(np.concatenate(ms), x, attrs)
        return np.asarray(found.astype(ms[0].dtype))
