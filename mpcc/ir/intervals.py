"""Interval arithmetic for the range rules that tensor operators declare.

The bounds hold for the fixed-point program, not only for the real one: constants are widened by
their encoding error, results by one unit of a truncation, and every sum in binary64 by a bound of
its own rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Enclosure", "Interval", "Rounding", "bilinear", "largest", "widen"]

Array = npt.NDArray[Any]

# Relative slack for binary64 sums: covers 2^13 terms of relative error 2^-53 each.
_SLACK = 2.0**-40


@dataclass(frozen=True)
class Interval:
    """Elementwise bounds, float64 arrays of the value's shape."""

    lo: Array
    hi: Array

    @property
    def magnitude(self) -> float:
        """Largest absolute value that the bounds allow."""
        return float(max(-self.lo.min(initial=0.0), self.hi.max(initial=0.0)))

    def clip(self, bound: float) -> Interval:
        """The interval after clamping to [-bound, bound]."""
        return Interval(np.clip(self.lo, -bound, bound), np.clip(self.hi, -bound, bound))

    def map(self, move: Callable[[Array], Array]) -> Interval:
        """Both bounds moved alike, such as by a reshape."""
        return Interval(move(self.lo), move(self.hi))


@dataclass(frozen=True)
class Rounding:
    """What fixed point adds to every value, in real units.

    Attributes:
        unit: one unit of the activations' format, 2^-frac: bound of a truncation's error.
        constant_error: bound of the encoding error of a constant.
        coarse: how far below the larger of two numbers their maximum may be, where comparisons
            leave out low bits.
    """

    unit: float
    constant_error: float
    coarse: float = 0.0


@dataclass(frozen=True)
class Enclosure:
    """What an operator's range rule gives.

    Attributes:
        results: bounds of every result.
        inner: bound of the absolute values of all that is computed on the way and that must fit
            the results' range too, such as a convolution before its bias.
    """

    results: tuple[Interval, ...]
    inner: float = 0.0


def widen(x: Interval, error: float | Array) -> Interval:
    """Bounds of values that differ from x by ``error`` and by the rounding of a binary64 sum."""
    slack = error + _SLACK * np.maximum(np.abs(x.lo), np.abs(x.hi))
    return Interval(x.lo - slack, x.hi + slack)


def bilinear(a: Interval, b: Interval, multiply: Callable[[Array, Array], Array]) -> Interval:
    """Bounds of a bilinear map such as a convolution, by midpoint and radius."""
    mid_a, rad_a = (a.lo + a.hi) / 2, (a.hi - a.lo) / 2
    mid_b, rad_b = (b.lo + b.hi) / 2, (b.hi - b.lo) / 2
    # The midpoints are rounded; the slack on the full magnitudes covers that too.
    all_b = (np.abs(mid_b) + rad_b) * (1 + _SLACK)
    middle = multiply(mid_a, mid_b)
    radius = multiply(rad_a, all_b) + multiply(np.abs(mid_a), rad_b + _SLACK * all_b)
    radius *= 1 + _SLACK
    return Interval(middle - radius, middle + radius)


def largest(operands: Sequence[Interval]) -> float:
    """Largest absolute value in any of the operands."""
    return max((x.magnitude for x in operands), default=0.0)
