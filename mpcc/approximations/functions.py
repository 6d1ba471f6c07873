"""The functions that have approximations: what they are, and what proofs need to know of them.

``curvature`` bounds |f''| wherever the function is approximated, which is within 20. With it an
error that is known on a grid is known between its points too. The bounds follow from the
derivatives given beside them; a test proves them by interval arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mpcc.ir import elementary
from mpcc.ir.elementary import Array, Unary

__all__ = ["FUNCTIONS", "Function", "Tails"]


@dataclass(frozen=True)
class Tails:
    """What a function tends to on both sides: straight lines.

    Attributes:
        left: (constant, slope) of the line on the left.
        right: the same on the right.
        error: bound of the distance from these lines beyond [-r, r], as a function of r that falls.
    """

    left: tuple[float, int]
    right: tuple[float, int]
    error: Unary


@dataclass(frozen=True)
class Function:
    """One function.

    Attributes:
        value: the function.
        curvature: bound of |f''|.
        symmetry: ``odd`` if f - f(0) is, ``even`` if f - x/2 is; ``none``.
        slope: of a line that the approximation may have beside its harmonics: ``free``, ``half``
            (exactly x/2), or ``none``.
        lo, hi: where it is defined.
        tails: what it tends to, if it does.
        turn: where a function that is not monotone has its only minimum; it rises elsewhere to the
            right of it and falls to the left.
    """

    value: Unary
    curvature: float
    symmetry: str = "none"
    slope: str = "free"
    lo: float = -math.inf
    hi: float = math.inf
    tails: Tails | None = None
    turn: float | None = None

    def largest(self, lo: float, hi: float) -> float:
        """The largest |f| on an interval."""
        points = [lo, hi]
        if self.turn is not None and lo < self.turn < hi:
            points.append(self.turn)
        return float(np.max(np.abs(self.value(np.array(points)))))


def _exponential(scale: float) -> Unary:
    return lambda r: np.asarray(scale * np.exp(-r))


def _ramp(error: Unary) -> Tails:
    """0 on the left, x on the right."""
    return Tails((0.0, 0), (0.0, 1), error)


def _gauss_tail(r: Array) -> Array:
    """By x (1 - Phi(x)) < phi(x), the density, which falls."""
    return np.asarray(np.exp(-r * r / 2) / math.sqrt(2 * math.pi))


def _gelu_tanh_tail(r: Array) -> Array:
    """By x (1 - tanh u) / 2 < x exp(-2u), which falls from x = 1 on."""
    u = math.sqrt(2 / math.pi) * (r + 0.044715 * r**3)
    return np.asarray(r * np.exp(-2 * u))


FUNCTIONS: Mapping[str, Function] = {
    # s'' = s (1 - s) (1 - 2 s)
    "sigmoid": Function(
        elementary.sigmoid, 0.1, "odd", tails=Tails((0.0, 0), (1.0, 0), _exponential(1.0))
    ),
    # -2 t (1 - t^2)
    "tanh": Function(
        np.tanh, 0.8, "odd", tails=Tails((-1.0, 0), (1.0, 0), lambda r: 2 * np.exp(-2 * r))
    ),
    # -4 / sqrt(pi) x exp(-x^2); 1 - erf(x) < exp(-x^2)
    "erf": Function(
        elementary.erf, 1.0, "odd", tails=Tails((-1.0, 0), (1.0, 0), lambda r: np.exp(-r * r))
    ),
    # phi(x) (2 - x^2)
    "gelu": Function(
        elementary.gelu, 0.8, "even", "half", tails=_ramp(_gauss_tail), turn=-0.7517915246935645
    ),
    "gelu_tanh": Function(
        elementary.gelu_tanh,
        0.9,
        "even",
        "half",
        tails=_ramp(_gelu_tanh_tail),
        turn=-0.7524614220710162,
    ),
    # s' (2 + x (1 - 2 s)); x exp(-x) falls from x = 1 on
    "silu": Function(
        elementary.silu,
        0.51,
        "even",
        "half",
        tails=_ramp(lambda r: r * np.exp(-r)),
        turn=-1.2784645427610738,
    ),
    # s (1 - s); log(1 + exp(-r)) < exp(-r)
    "softplus": Function(elementary.softplus, 0.26, "even", "half", tails=_ramp(_exponential(1.0))),
    # On the right x (1 - tanh(log(1 + e^x))) < 2 x e^-2x, on the left |x| e^x
    "mish": Function(
        elementary.mish,
        0.7,
        "none",
        tails=_ramp(lambda r: r * np.exp(-r)),
        turn=-1.1924312145154135,
    ),
    # Defined here up to 0; the tail on the left is 0.
    "exp": Function(np.exp, 1.01, slope="none", hi=0.0),
    # -2 x / (1 + x^2)^2
    "atan": Function(np.arctan, 0.66, "odd"),
    # Of a number between 1 and 2, or 1 and 4.
    # Without a line: normalised numbers have too many fraction bits for a product with a slope.
    "log": Function(np.log, 1.01, slope="none", lo=1.0),
    "reciprocal": Function(lambda x: 1.0 / x, 2.01, slope="none", lo=1.0),
    "rsqrt": Function(lambda x: 1.0 / np.sqrt(x), 0.76, slope="none", lo=1.0),
    "sqrt": Function(np.sqrt, 0.26, slope="none", lo=1.0),
}
"""By the name that :func:`mpcc.approximations.series` takes."""
