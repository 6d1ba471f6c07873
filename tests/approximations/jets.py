"""Second derivatives by interval arithmetic: what proves the curvatures that certificates use.

Every formula is evaluated on all cells [lo, hi] of a partition at once. An operation gives bounds
that hold for all of its operands' values; each is widened by 2^-44 of its size for
binary64 rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_SLACK = 2.0**-44


@dataclass(frozen=True)
class Cells:
    """Bounds on every cell."""

    lo: np.ndarray
    hi: np.ndarray

    def __add__(self, other: Cells | float) -> Cells:
        b = other if isinstance(other, Cells) else Cells(np.asarray(other), np.asarray(other))
        return wide(self.lo + b.lo, self.hi + b.hi)

    def __sub__(self, other: Cells | float) -> Cells:
        return self + -1.0 * other

    def __rsub__(self, other: float) -> Cells:
        return -1.0 * self + other

    def __mul__(self, other: Cells | float) -> Cells:
        b = other if isinstance(other, Cells) else Cells(np.asarray(other), np.asarray(other))
        corners = [self.lo * b.lo, self.lo * b.hi, self.hi * b.lo, self.hi * b.hi]
        return wide(np.minimum.reduce(corners), np.maximum.reduce(corners))

    __radd__ = __add__
    __rmul__ = __mul__

    def square(self) -> Cells:
        ends = [self.lo**2, self.hi**2]
        inside = (self.lo < 0) & (self.hi > 0)
        return wide(np.where(inside, 0.0, np.minimum(*ends)), np.maximum(*ends))

    def rising(self, f: Callable[[np.ndarray], np.ndarray]) -> Cells:
        """A function that never falls."""
        return wide(f(self.lo), f(self.hi))

    def falling(self, f: Callable[[np.ndarray], np.ndarray]) -> Cells:
        """A function that never rises."""
        return wide(f(self.hi), f(self.lo))

    def largest(self) -> float:
        return float(np.maximum(np.abs(self.lo), np.abs(self.hi)).max())


def wide(lo: np.ndarray, hi: np.ndarray) -> Cells:
    slack = _SLACK * np.maximum(np.abs(lo), np.abs(hi)) + 2.0**-1000
    return Cells(np.asarray(lo - slack), np.asarray(hi + slack))


def _logistic(x: Cells) -> Cells:
    return x.rising(lambda v: 1 / (1 + np.exp(-v)))


def sigmoid(x: Cells) -> Cells:
    s = _logistic(x)
    return s * (1 - s) * (1 - 2.0 * s)


def tanh(x: Cells) -> Cells:
    t = x.rising(np.tanh)
    return -2.0 * t * (1 - t.square())


def erf(x: Cells) -> Cells:
    return -4 / math.sqrt(math.pi) * x * x.square().falling(lambda v: np.exp(-v))


def gelu(x: Cells) -> Cells:
    density = x.square().falling(lambda v: np.exp(-v / 2) / math.sqrt(2 * math.pi))
    return density * (2 - x.square())


def gelu_tanh(x: Cells) -> Cells:
    """With f = x / 2 (1 + tanh u): f'' = sech^2 u (u' + x / 2 (u'' - 2 u'^2 tanh u))."""
    a, c = math.sqrt(2 / math.pi), 0.044715
    u = a * x + a * c * x * x.square()
    first, second = a + 3 * a * c * x.square(), 6 * a * c * x
    t = u.rising(np.tanh)
    bend = second - 2.0 * first.square() * t
    return (1 - t.square()) * (first + 0.5 * x * bend)


def silu(x: Cells) -> Cells:
    s = _logistic(x)
    return s * (1 - s) * (2 + x * (1 - 2.0 * s))


def softplus(x: Cells) -> Cells:
    s = _logistic(x)
    return s * (1 - s)


def mish(x: Cells) -> Cells:
    """With f = x t, t = tanh log(1 + e^x): t' = d s, t'' = d s (1 - s - 2 t s), d = 1 - t^2."""
    s = _logistic(x)
    t = x.rising(lambda v: np.tanh(np.logaddexp(0, v)))
    slope = (1 - t.square()) * s
    return 2.0 * slope + x * slope * (1 - s - 2.0 * t * s)


def exp(x: Cells) -> Cells:
    return x.rising(np.exp)


def atan(x: Cells) -> Cells:
    return -2.0 * x * x.square().falling(lambda v: (1 + v) ** -2.0)


def log(x: Cells) -> Cells:
    return -1.0 * x.falling(lambda v: v**-2.0)


def reciprocal(x: Cells) -> Cells:
    return 2.0 * x.falling(lambda v: v**-3.0)


def rsqrt(x: Cells) -> Cells:
    return 0.75 * x.falling(lambda v: v**-2.5)


def sqrt(x: Cells) -> Cells:
    return -0.25 * x.falling(lambda v: v**-1.5)


def _proof(second: Callable[[Cells], Cells]) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda lo, hi: second(Cells(lo, hi)).largest()


CURVATURES = {
    f.__name__: _proof(f)
    for f in (
        sigmoid, tanh, erf, gelu, gelu_tanh, silu, softplus, mish, exp, atan, log, reciprocal,
        rsqrt, sqrt,
    )
}  # fmt: skip
"""By function: a bound of |f''| over cells."""
