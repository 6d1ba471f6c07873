"""Approximations by trigonometric polynomials, each with a proved error.

A series is

    f(x) ~ constant + slope x + sum_{k=1..K} cos_k cos(k t x) + sin_k sin(k t x),  t = 2 pi m / 2^e

on an interval [lo, hi]. Where the period 2^e / m is longer than the interval, what the sum is
outside does not matter, which leaves the coefficients free to make it accurate inside (a Fourier
extension); the line takes off what no periodic function can follow.

All numbers are integers over powers of two and stand in ``table.json``, which
``python -m mpcc.approximations.generate`` makes. So every machine has the same series, and
``error`` is what was proved of exactly these coefficients.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from mpcc.approximations.functions import FUNCTIONS
from mpcc.errors import MpccError
from mpcc.ir.elementary import Array

__all__ = ["Series", "certify", "entries", "series", "tail_series"]

_SLACK = 2.0**-46
"""Of the function's value and of the argument in binary64."""


@dataclass(frozen=True)
class Series:
    """An approximation of one function on one interval.

    Attributes:
        name: of the function, see :data:`mpcc.approximations.functions.FUNCTIONS`.
        lo, hi: the interval.
        period_exponent: e; the period is 2^e / multiplier.
        multiplier: m, odd.
        frac: fraction bits of all coefficients.
        cos, sin: K coefficients each.
        constant: coefficient of 1.
        slope: coefficient of x.
        error: bound of the distance from the function on the interval; proved by :func:`certify`.
    """

    name: str
    lo: float
    hi: float
    period_exponent: int
    multiplier: int
    frac: int
    cos: tuple[int, ...]
    sin: tuple[int, ...]
    constant: int
    slope: int
    error: float

    @property
    def terms(self) -> int:
        """K."""
        return len(self.cos)

    @property
    def period(self) -> float:
        """In real units."""
        return math.ldexp(1.0, self.period_exponent) / self.multiplier

    def evaluate(self, x: Array) -> Array:
        """The sum at real points, in binary64."""
        x = np.asarray(x, np.float64)
        scale = 2.0**-self.frac
        turns = (2 * math.pi / self.period) * x
        total = self.constant * scale + (self.slope * scale) * x
        first = np.exp(1j * turns)
        power = first.copy()
        for c, s in zip(self.cos, self.sin, strict=True):
            total += (power * complex(c * scale, -s * scale)).real
            power *= first
        return np.asarray(total)


def certify(found: Series) -> float:
    """A bound of |series - f| on the interval, proved.

    The error e is computed on a grid of distance h. Between two points it leaves the larger of both
    by at most h^2 / 8 max |e''| (linear interpolation), and |e''| is at most the function's
    curvature plus sum (k t)^2 |coefficients|. The grid is so fine that this is below 2^-30, or a
    sixteenth of the largest error on it. Binary64 rounding is covered too: the k-th power of
    exp(i t x) is off by less than k 2^-51.
    """
    function = FUNCTIONS[found.name]
    t, scale = 2 * math.pi / found.period, 2.0**-found.frac
    bend = function.curvature + sum(
        (k * t) ** 2 * (abs(c) + abs(s)) * scale
        for k, (c, s) in enumerate(zip(found.cos, found.sin, strict=True), start=1)
    )
    rounding = _SLACK + 2.0**-51 * sum(
        k * (abs(c) + abs(s)) * scale
        for k, (c, s) in enumerate(zip(found.cos, found.sin, strict=True), start=1)
    )
    width, largest, count = found.hi - found.lo, 0.0, 1 << 9
    while True:
        for first in range(0, count, _CHUNK):
            points = np.arange(first, min(first + _CHUNK, count) + 1, dtype=np.float64)
            x = np.minimum(found.lo + points * (width / count), found.hi)
            error = np.abs(found.evaluate(x) - function.value(x))
            largest = max(largest, float(error.max()))
        between = (width / count) ** 2 / 8 * bend
        enough = max(2.0**-30, largest / 16)
        if between <= enough:
            return largest + between + rounding
        count = math.ceil(1.01 * width * math.sqrt(bend / 8 / enough))


_CHUNK = 1 << 12
"""Points at a time: arrays that stay in the cache."""


def _unpack(name: str, row: dict[str, Any]) -> Series:
    terms = max(len(row["cos"]), len(row["sin"]))
    cos, sin = (tuple(row[key]) or (0,) * terms for key in ("cos", "sin"))
    e, m = row["period"]
    return Series(
        name,
        row["lo"],
        row["hi"],
        e,
        m,
        row["frac"],
        cos,
        sin,
        row["constant"],
        row["slope"],
        # Units of 2^-32, rounded up.
        row["error"] * 2.0**-32,
    )


@cache
def entries(name: str) -> tuple[Series, ...]:
    """All series of a function."""
    if name not in FUNCTIONS:
        raise MpccError.of("E-series-name", f"no approximation of {name!r}")
    return tuple(_unpack(name, row) for row in _table()[name])


@cache
def _table() -> dict[str, list[dict[str, Any]]]:
    text = resources.files("mpcc.approximations").joinpath("table.json").read_text("utf-8")
    table: dict[str, list[dict[str, Any]]] = json.loads(text)
    return table


def _cheapest(found: Sequence[Series]) -> Series:
    return min(found, key=lambda s: (s.terms, s.error, s.hi - s.lo))


@cache
def series(name: str, lo: float, hi: float, error: float) -> Series:
    """The cheapest series of a function on [lo, hi] with at most this error.

    Where no series is that accurate, the most accurate one.

    Raises:
        MpccError: ``E-series-name``, ``E-series-range`` (no series for this interval).
    """
    covering = [s for s in entries(name) if s.lo <= lo and hi <= s.hi]
    if not covering:
        raise MpccError.of("E-series-range", f"no approximation of {name} on [{lo}, {hi}]")
    good = [s for s in covering if s.error <= error]
    return _cheapest(good) if good else min(covering, key=lambda s: (s.error, s.terms))


@cache
def tail_series(name: str, error: float) -> Series:
    """The cheapest series beyond whose interval the function's tails are as accurate as it.

    Both errors are at most ``error``, or as small as the table has them.

    Raises:
        MpccError: ``E-series-name``, ``E-series-range`` (a function without tails).
    """
    tails = FUNCTIONS[name].tails
    if tails is None:
        raise MpccError.of("E-series-range", f"{name} has no tails")
    symmetric = [s for s in entries(name) if s.lo == -s.hi]

    def both(s: Series) -> float:
        return max(s.error, float(tails.error(np.asarray(s.hi))))

    good = [s for s in symmetric if both(s) <= error]
    return _cheapest(good) if good else min(symmetric, key=lambda s: (both(s), s.terms))
