"""Makes ``table.json``: ``python -m mpcc.approximations.generate [function ...]``.

For every function, interval and number of harmonics K the period is searched that gives the
smallest error. For one period the coefficients are a least-squares fit at Chebyshev points with
a small penalty on large coefficients, since those of a Fourier extension are far from unique.
Lawson's weights then level the error out. The penalty grows until the rounding of the harmonics,
which large coefficients amplify, is no more than half of what is asked for. The coefficients are
rounded, the error is proved (:func:`mpcc.approximations.series.certify`), and a series is kept
where no shorter one of the interval is as accurate as a level asks for.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mpcc.approximations.functions import FUNCTIONS, Function
from mpcc.approximations.series import Series, certify
from mpcc.ir.elementary import Array
from mpcc.ir.harmonics import fourier_error

__all__ = ["LEVELS", "generate", "intervals", "main", "of_interval"]

LEVELS = tuple(range(7, 25))
"""Errors 2^-level that series are made for."""

_MOST_TERMS = 64
_LEAST_NOISE = 2.0**-21.5
"""Rounded harmonics are not held to be better than this."""

_ROUNDS = 24
_ROWS = 12

# Up to here times the interval, a longer series is cheaper than a comparison with its ends.
_WORTH = 2.0

# Half-widths of intervals about zero that the width of a value gives.
_POWERS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def intervals(name: str) -> list[tuple[float, float, tuple[int, ...]]]:
    """(lo, hi, levels) of all intervals that a function has series for."""
    function = FUNCTIONS[name]
    if function.lo == 1.0:
        return [(1.0, 2.0, LEVELS), (1.0, 4.0, LEVELS)]
    if name == "exp":
        # Below the interval the function is taken to be zero.
        lows = {level: -math.ceil(8 * level * math.log(2)) / 8 for level in LEVELS}
        powers: list[tuple[float, float, tuple[int, ...]]] = [
            (-p, 0.0, LEVELS) for p in (1.0, 2.0, 4.0, 8.0)
        ]
        return powers + [(low, 0.0, (level,)) for level, low in lows.items()]
    found = [(-p, p, LEVELS) for p in _POWERS]
    if function.tails is not None:
        found += [(-_end(function, n), _end(function, n), (n,)) for n in LEVELS]
    return [(lo, hi, _useful(function, hi, levels)) for lo, hi, levels in found]


def _useful(function: Function, hi: float, levels: tuple[int, ...]) -> tuple[int, ...]:
    """Without the levels for which the tails are close enough far before the end."""
    if function.tails is None or len(levels) == 1:
        return levels
    return tuple(n for n in levels if _WORTH * _end(function, n) >= hi)


def _end(function: Function, level: int) -> float:
    """The first multiple of 1/8 beyond which tails are within half of 2^-level."""
    assert function.tails is not None
    r = 1.0
    while float(function.tails.error(np.asarray(r))) > 2.0 ** -(level + 1):
        r += 0.125
    return r


# --- fitting -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Basis:
    """Which columns a fit has."""

    function: Function
    lo: float
    hi: float
    terms: int
    exponent: int
    multiplier: int

    @property
    def symmetric(self) -> str:
        return self.function.symmetry if self.lo == -self.hi else "none"

    def columns(self, x: Array) -> list[Array]:
        angle = (2 * math.pi * self.multiplier * 2.0**-self.exponent) * x
        found = []
        if self.symmetric != "even":
            found += [np.sin(k * angle) for k in range(1, self.terms + 1)]
        if self.symmetric != "odd":
            found += [np.cos(k * angle) for k in range(1, self.terms + 1)]
        if self.function.slope == "free":
            found.append(x / max(abs(self.lo), abs(self.hi)))
        if self.symmetric != "odd":
            found.append(np.ones_like(x))
        return found

    def target(self, x: Array) -> Array:
        y = self.function.value(x)
        if self.symmetric == "odd":
            y = y - self.function.value(np.zeros(1))[0]
        return np.asarray(y - x / 2 if self.function.slope == "half" else y)

    def points(self, count: int) -> Array:
        """Chebyshev points; of a symmetric interval the right half."""
        at = (np.arange(count) + 0.5) * (math.pi / count)
        if self.symmetric != "none":
            return np.asarray(self.hi * np.cos(at / 2))
        return np.asarray((self.lo + self.hi) / 2 + (self.hi - self.lo) / 2 * np.cos(at))

    def series(self, name: str, solution: Array, frac: int) -> Series:
        """The rounded series of a solution."""
        raw = [int(v) for v in np.rint(np.ldexp(solution, frac))]
        zeros = (0,) * self.terms
        sin = cos = zeros
        at = 0
        if self.symmetric != "even":
            sin, at = tuple(raw[at : at + self.terms]), at + self.terms
        if self.symmetric != "odd":
            cos, at = tuple(raw[at : at + self.terms]), at + self.terms
        slope = 1 << (frac - 1) if self.function.slope == "half" else 0
        if self.function.slope == "free":
            slope = round(solution[at] / max(abs(self.lo), abs(self.hi)) * 2.0**frac)
            at += 1
        if self.symmetric == "odd":
            constant = round(float(self.function.value(np.zeros(1))[0]) * 2.0**frac)
        else:
            constant = raw[at]
        return Series(
            name, self.lo, self.hi, self.exponent, self.multiplier, frac, cos, sin, constant,
            slope, 0.0,
        )  # fmt: skip


def _solve(basis: _Basis, penalty: float, rounds: int) -> tuple[float, Array]:
    """Coefficients, and the largest error at the points."""
    columns = 2 * basis.terms + 2
    x = basis.points(_ROWS * columns)
    a, y = np.stack(basis.columns(x), axis=1), basis.target(x)
    weight = np.full(len(x), 1.0 / len(x))
    best = (math.inf, np.zeros(a.shape[1]))
    for _ in range(rounds):
        root = np.sqrt(weight)[:, None]
        left = np.concatenate([a * root, penalty * np.eye(a.shape[1])])
        right = np.concatenate([y * root[:, 0], np.zeros(a.shape[1])])
        solution = np.linalg.lstsq(left, right, rcond=None)[0]
        error = np.abs(a @ solution - y)
        largest = float(error.max())
        if largest < best[0]:
            best = (largest, solution)
        weight = weight * (error + largest * 1e-3)
        weight /= weight.sum()
    return best


def _periods(width: float) -> list[tuple[int, int]]:
    """(exponent, multiplier) of periods from 0.74 to 4.4 times an interval's width."""
    found = set()
    for step in range(31):
        period = 0.74 * width * 1.06**step
        exponent = math.ceil(math.log2(period)) + 6
        multiplier = round(2.0**exponent / period)
        while multiplier % 2 == 0:
            multiplier, exponent = multiplier // 2, exponent - 1
        found.add((exponent, multiplier))
    return sorted(found, key=lambda p: p[1] * 2.0 ** -p[0])


def _fitted(name: str, lo: float, hi: float, terms: int, level: int) -> Series | None:
    """The best series of this many harmonics for a level; None if that is clearly not enough."""
    function = FUNCTIONS[name]
    bases = [_Basis(function, lo, hi, terms, *p) for p in _periods(hi - lo)]
    for more in (5, 2, -1):
        penalty = 2.0 ** -(level + more)
        rough = sorted((_solve(basis, penalty, 1)[0], i) for i, basis in enumerate(bases))
        if rough[0][0] > 8 * 2.0**-level:
            return None
        fits = [(_solve(bases[i], penalty, _ROUNDS), i) for _, i in rough[:3]]
        (_, solution), best = min(fits, key=lambda fit: (fit[0][0], fit[1]))
        made = bases[best].series(name, solution, _fraction(solution, level))
        if _noise(made) <= max(2.0 ** -(level + 1), _LEAST_NOISE):
            return replace(made, error=math.ceil(certify(made) * 2.0**32) * 2.0**-32)
    return None


def _noise(s: Series) -> float:
    """The least error that rounded harmonics have with these coefficients."""
    largest = max(abs(a) + abs(b) for a, b in zip(s.cos, s.sin, strict=True))
    # V has 30 bits.
    precision = min(30, 30 + s.frac - max(largest - 1, 1).bit_length())
    return fourier_error(
        {
            "cos": s.cos,
            "sin": s.sin,
            "coefficient_frac": s.frac,
            "period": 40,
            "multiplier": s.multiplier,
            "precision": precision,
        }
    )


def _fraction(solution: Array, level: int) -> int:
    """Fraction bits of coefficients: their rounding shall not matter, and they fit 31 bits."""
    largest = float(np.abs(solution).max())
    return min(level + 7, 30 - math.frexp(largest)[1])


def of_interval(name: str, lo: float, hi: float, levels: Sequence[int]) -> Iterator[Series]:
    """The shortest series for every level; one that serves several levels comes once."""
    terms, last = 1, math.inf
    for level in levels:
        if last <= 2.0**-level:
            continue
        while terms <= _MOST_TERMS:
            found = _fitted(name, lo, hi, terms, level)
            if found is not None and found.error <= 2.0**-level:
                last = found.error
                yield found
                break
            terms += 1


def generate(name: str) -> list[dict[str, Any]]:
    """The rows of one function, in the order of its intervals and levels."""
    return [
        _row(s) for lo, hi, levels in intervals(name) for s in of_interval(name, lo, hi, levels)
    ]


def _row(s: Series) -> dict[str, Any]:
    """JSON values; no list for coefficients that are all zero."""
    return {
        "lo": s.lo,
        "hi": s.hi,
        "period": [s.period_exponent, s.multiplier],
        "frac": s.frac,
        "constant": s.constant,
        "slope": s.slope,
        "error": int(s.error * 2.0**32),
        "cos": list(s.cos) if any(s.cos) else [],
        "sin": list(s.sin) if any(s.sin) else [],
    }


def main(names: Sequence[str]) -> None:
    """Write the table; rows of functions that are not named stay as they are."""
    path = Path(__file__).with_name("table.json")
    table = json.loads(path.read_text("utf-8")) if names else {}
    table.update({name: generate(name) for name in names or FUNCTIONS})
    lines = []
    for name in sorted(table):
        rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in table[name])
        lines.append(f"{json.dumps(name)}:[\n{rows}]")
    path.write_text("{" + ",\n".join(lines) + "}\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
