"""Secure-level functions of one secret that are no comparison and no product."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir import harmonics
from mpcc.ir.define import Attr, Attributes, Operation, fail
from mpcc.ir.limits import MAX_HARMONICS
from mpcc.ir.ops.secure.base import (
    RING_ATTR,
    WIDTH_ATTR,
    Array,
    Context,
    SecureOperation,
    check_fits,
    secure,
    secure_format,
    wrap,
)
from mpcc.ir.types import Type

__all__ = ["Fourier"]

_CHUNK = 1 << 13
"""Elements of which all harmonics stay in a processor's cache."""


class Fourier(SecureOperation):
    """A trigonometric polynomial of the raw number x, at ``2 * precision`` fraction bits.

    With t = 2 pi ((multiplier * x) mod 2^period) / 2^period, the value is constant plus the sum
    over k = 1, 2, ... of cos_k cos(k t) + sin_k sin(k t): a function of period 2^period, where x
    wraps without harm. The parties evaluate it on a sum x = a + b whose summand a is uniform, and
    round both factors of each term (:mod:`mpcc.ir.harmonics`); the coin g says a modulo 2^period,
    as 2^period - 1 - g. For every coin the result is within ``harmonics.fourier_error`` of the real
    value, in real units; ``error`` is how far the series itself is from the function that it stands
    for, wherever x may be and the result is used.
    """

    name = "secure.fourier"
    operands = ("x",)
    attributes = {
        "cos": Attr("ints", "coefficients of cos(k t), k = 1, 2, ..."),
        "sin": Attr("ints", "coefficients of sin(k t), as many"),
        "coefficient_frac": Attr("int", "fraction bits of these coefficients"),
        "constant": Attr("int", "raw number added; it has 2 * precision fraction bits", 0),
        "period": Attr("int", "the period is 2^period units of x"),
        "multiplier": Attr("int", "public integer factor of the angle", 1),
        "precision": Attr("int", "fraction bits of every rounded factor"),
        "error": Attr("float", "certified distance of the series from what it stands for", 0.0),
        "ring": RING_ATTR,
        "width": WIDTH_ATTR,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = secure(cls, types[0])
        check_series(cls, attrs, x.ring)
        check_fits(cls, attrs["constant"], attrs["width"], "constant")
        frac = 2 * attrs["precision"]
        if not 0.0 <= attrs["error"] < float("inf"):
            raise fail(cls, f"an error is not negative and finite, which {attrs['error']} is not")
        return (secure_format(cls, x.shape, attrs["ring"], frac, attrs["width"], x.visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        (x,) = args
        coins = np.zeros(x.shape, np.int64) if context.coins is None else context.coins
        a = ~coins.reshape(-1)  # -1 - g, which is 2^period - 1 - g modulo 2^period
        count, angle = len(attrs["cos"]), [attrs[k] for k in ("period", "multiplier", "precision")]
        raw = np.empty(x.size, np.int64)
        with np.errstate(over="ignore"):
            b = x.reshape(-1) - a
            for start in range(0, x.size, _CHUNK):
                part = slice(start, start + _CHUNK)
                u = harmonics.harmonics(a[part], count, *angle)
                raw[part] = harmonics.fourier(u, b[part], attrs).astype(np.int64)
            return wrap(raw.reshape(x.shape) + np.int64(attrs["constant"]), context.ring)


def check_series(cls: type[Operation], attrs: Attributes, ring: int) -> None:
    """Refuse what the integer arithmetic of the harmonics cannot hold.

    Raises:
        InferenceError: the text says which attribute and why.
    """
    count, frac, precision = len(attrs["cos"]), attrs["coefficient_frac"], attrs["precision"]
    check_angle(cls, attrs, ring)
    if not 1 <= count <= MAX_HARMONICS:
        raise fail(cls, f"1 to {MAX_HARMONICS} harmonics are offered, not {count}")
    if len(attrs["sin"]) != count:
        raise fail(cls, f"{count} coefficients of cosines, but {len(attrs['sin'])} of sines")
    if not 0 <= frac <= precision + 32 or harmonics.FRACTION + frac - precision < 1:
        raise fail(cls, f"{frac} fraction bits of coefficients do not suit {precision} of factors")
    most = 1 << (harmonics.FRACTION + frac - precision)
    for a, b in zip(attrs["cos"], attrs["sin"], strict=True):
        if max(abs(a), abs(b)) >= 1 << 31 or abs(a) + abs(b) > most:
            raise fail(cls, f"coefficients {a}, {b} with {frac} fraction bits are too large")


def check_angle(cls: type[Operation], attrs: Attributes, ring: int) -> None:
    """Refuse an angle or a precision that is not offered."""
    if not 1 <= attrs["period"] <= ring:
        raise fail(cls, f"a period of {attrs['period']} bits does not suit a ring of {ring}")
    check_fits(cls, attrs["multiplier"], 31, "multiplier")
    if not 1 <= attrs["precision"] <= harmonics.FRACTION:
        raise fail(cls, f"{attrs['precision']} fraction bits are not 1 to {harmonics.FRACTION}")


OPERATIONS = (Fourier,)
"""In the order of the dialect."""
