"""Integer cosines, sines and their multiples: the arithmetic of ``fourier``, at every level.

A number x stands for the angle theta = 2 pi ((multiplier x) mod 2^period) / 2^period. Everything
here is a fixed sequence of integer operations that the native engine repeats bit for bit: no table
is read at an index that depends on x, nothing branches on it, and every product is one of two
32-bit signed words.

1. The angle becomes a 32-bit *phase*, rounded if the period has more bits.
2. The phase is cut into a quadrant and a rest t in [-1, 1), the angle pi/4 t; cos and sin of that
   are polynomials in u = t^2 of degree 4, sin with a factor t. The quadrant swaps and negates.
   All have 30 fraction bits.
3. z_k = cos(k theta) + i sin(k theta) by complex products: z_2k = z_k^2, z_2k+1 = z_k z_k+1.

Every shift rounds to nearest. docs/protocols.md proves the errors that :func:`modulus_errors` and
:func:`fourier_error` return.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.ir.define import Attributes

__all__ = [
    "BASE_ERROR",
    "COS",
    "FRACTION",
    "SIN",
    "coefficients",
    "fourier",
    "fourier_error",
    "harmonics",
    "modulus_errors",
    "phase",
    "size",
    "slope",
    "turns",
]

Array = npt.NDArray[Any]

FRACTION = 30
"""Fraction bits of every cosine and sine."""

COS = (-1324675872, 68093819, -1399910, 15167)
"""cos(pi/4 t) = 1 + u (a_0 + a_1 u + a_2 u^2 + a_3 u^3), a_i with 32 fraction bits."""

SIN = (1686629713, -693598665, 21392309, -314147, 2651)
"""sin(pi/4 t) = t (s_0 + u (s_1 + s_2 u + s_3 u^2 + s_4 u^3)); s_0 with 31 fraction bits, the
others with 33."""

BASE_ERROR = 1.55 * 2.0**-FRACTION
"""Largest |z_1 - exp(i angle of the phase)|, from steps 1 and 2 without the phase's rounding."""


def _shifted(x: Array, bits: int) -> Array:
    """The nearest integer to x / 2^bits, halves up."""
    if bits == 0:
        return x
    return np.asarray((x + np.int64(1 << (bits - 1))) >> np.int64(bits))


def phase(x: Array, period: int, multiplier: int) -> Array:
    """The angle in units of 2^-32 turns, int64 in [0, 2^32).

    Args:
        x: integers of any dtype; only their low ``period`` bits matter.
        period: 1 to 64.
        multiplier: any integer.
    """
    with np.errstate(over="ignore"):
        y = x.astype(np.uint64) * np.uint64(multiplier % (1 << 64))
        if period <= 32:
            y = y << np.uint64(32 - period)
        else:
            y = (y + np.uint64(1 << (period - 33))) >> np.uint64(period - 32)
    return (y & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _base(turn: Array) -> tuple[Array, Array]:
    """Cosine and sine of a phase."""
    quadrant = (turn + np.int64(1 << 29)) >> np.int64(30)
    t = (turn - (quadrant << np.int64(30))) << np.int64(1)
    u = _shifted(t * t, 30)
    inner = np.full_like(u, COS[3])
    for a in (COS[2], COS[1], COS[0]):
        inner = _shifted(u * inner, 30) + np.int64(a)
    c = _shifted(u * inner, 32) + np.int64(1 << FRACTION)
    inner = np.full_like(u, SIN[4])
    for a in (SIN[3], SIN[2], SIN[1]):
        inner = _shifted(u * inner, 30) + np.int64(a)
    s = _shifted(t * (_shifted(u * inner, 32) + np.int64(SIN[0])), 31)
    # Masks of all ones or zeros: which of both, and whether it is negated.
    swap = -(quadrant & 1)
    down = -(((quadrant + 1) >> np.int64(1)) & 1)
    left = -((quadrant >> np.int64(1)) & 1)
    both = (c ^ s) & swap
    return ((c ^ both) ^ down) - down, ((s ^ both) ^ left) - left


def turns(x: Array, count: int, period: int, multiplier: int) -> tuple[list[Array], list[Array]]:
    """cos(k theta) and sin(k theta) for k = 1 .. count, int64 with 30 fraction bits."""
    c, s = _base(phase(x, period, multiplier))
    cs, ss = [c], [s]
    for k in range(2, count + 1):
        i, j = k // 2 - 1, k - k // 2 - 1
        cs.append(_shifted(cs[i] * cs[j] - ss[i] * ss[j], FRACTION))
        ss.append(_shifted(cs[i] * ss[j] + ss[i] * cs[j], FRACTION))
    return cs, ss


def harmonics(x: Array, count: int, period: int, multiplier: int, precision: int) -> Array:
    """U: cos(theta), sin(theta), cos(2 theta), ... with ``precision`` fraction bits.

    Returns:
        int64 of shape (2 count, *x.shape).
    """
    cs, ss = turns(x, count, period, multiplier)
    rows = [_shifted(z, FRACTION - precision) for pair in zip(cs, ss, strict=True) for z in pair]
    return np.stack(rows)


def coefficients(
    x: Array,
    cos: Sequence[int],
    sin: Sequence[int],
    coefficient_frac: int,
    period: int,
    multiplier: int,
    precision: int,
) -> Array:
    """V: what the rows of U at another angle are multiplied by, ``precision`` fraction bits.

    For k = 1, 2, ..., with a = cos[k-1] and b = sin[k-1], which have ``coefficient_frac`` fraction
    bits: a cos(k theta) + b sin(k theta), then b cos(k theta) - a sin(k theta).

    Returns:
        int64 of shape (2 len(cos), *x.shape).
    """
    shift = FRACTION + coefficient_frac - precision
    rows = []
    for a, b, c, s in zip(cos, sin, *turns(x, len(cos), period, multiplier), strict=True):
        rows.append(_shifted(np.int64(a) * c + np.int64(b) * s, shift))
        rows.append(_shifted(np.int64(b) * c - np.int64(a) * s, shift))
    return np.stack(rows)


def fourier(m: Array, x: Array, attrs: Attributes) -> Array:
    """The sum of the rows of m times those of V(x), modulo 2^64.

    Args:
        m: integers of shape (2 K, *x.shape).
        x: integers.
        attrs: ``cos``, ``sin``, ``coefficient_frac``, ``period``, ``multiplier``, ``precision``.

    Returns:
        uint64 of the shape of x.
    """
    v = coefficients(
        x,
        attrs["cos"],
        attrs["sin"],
        attrs["coefficient_frac"],
        attrs["period"],
        attrs["multiplier"],
        attrs["precision"],
    )
    with np.errstate(over="ignore"):
        return np.asarray((m.astype(np.uint64) * v.astype(np.uint64)).sum(axis=0, dtype=np.uint64))


# --- errors --------------------------------------------------------------------------------------


def modulus_errors(count: int, period: int) -> list[float]:
    """Bounds of |z_k - exp(i k theta)| for k = 1 .. count."""
    # A phase is rounded by up to half a unit of 2^-32 turns.
    first = BASE_ERROR + (math.pi * 2.0**-32 if period > 32 else 0.0)
    rounding = math.sqrt(0.5) * 2.0**-FRACTION
    errors = [first]
    for k in range(2, count + 1):
        a, b = errors[k // 2 - 1], errors[k - k // 2 - 1]
        errors.append(a + b + a * b + rounding)
    return errors


def _radii(attrs: Attributes) -> list[float]:
    """|(alpha_k, beta_k)| in real units."""
    unit = 2.0 ** -attrs["coefficient_frac"]
    return [math.hypot(a, b) * unit for a, b in zip(attrs["cos"], attrs["sin"], strict=True)]


def fourier_error(attrs: Attributes) -> float:
    """How far ``secure.fourier`` may be from the real value of its series, for every coin.

    In real units. The series is that of the attributes' rounded coefficients, at the raw number x
    itself: what x stands for and where the coefficients come from is not part of it.
    """
    # Both rows of U, and of V, are rounded to the nearest multiple of 2^-precision.
    rounded = math.sqrt(0.5) * 2.0 ** -attrs["precision"]
    total = 0.0
    for radius, error in zip(
        _radii(attrs), modulus_errors(len(attrs["cos"]), attrs["period"]), strict=True
    ):
        u, v = error + rounded, radius * error + rounded
        # |<U, V> - <u, v>| <= |U - u| |v| + |U| |V - v|
        total += u * radius + (1 + u) * v
    return total * (1 + 2.0**-40)


def size(attrs: Attributes) -> float:
    """Bound of the absolute value of ``secure.fourier``'s result, in real units."""
    constant = abs(attrs["constant"]) * 2.0 ** (-2 * attrs["precision"])
    return constant + sum(_radii(attrs)) + fourier_error(attrs)


def slope(attrs: Attributes) -> float:
    """Bound of the series' change per unit of the raw number x, in real units."""
    turn = 2 * math.pi * abs(attrs["multiplier"]) * 2.0 ** -attrs["period"]
    return turn * sum(k * r for k, r in enumerate(_radii(attrs), 1))
