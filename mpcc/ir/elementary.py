"""Elementary functions of real arrays, as accurate as binary64 allows: what fixed point is held to.

Arrays of binary32 give binary32; everything is computed in binary64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Unary",
    "elu",
    "erf",
    "exp",
    "gelu",
    "gelu_tanh",
    "mish",
    "sigmoid",
    "silu",
    "softplus",
]

Array = npt.NDArray[Any]
Unary: TypeAlias = Callable[[Array], Array]

_ERF = np.frompyfunc(math.erf, 1, 1)


def _double(x: Array) -> Array:
    return np.asarray(x, np.float64)


def _back(y: Array, x: Array) -> Array:
    """In the dtype of the operand."""
    return np.asarray(y, np.asarray(x).dtype)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow on either side."""
    d = _double(x)
    small = np.exp(-np.abs(d))
    return _back(np.where(d >= 0, 1.0, small) / (1.0 + small), x)


def exp(x: Array) -> Array:
    """e^x; infinite where that is too large."""
    with np.errstate(over="ignore"):
        return _back(np.exp(_double(x)), x)


def erf(x: Array) -> Array:
    """The error function."""
    return _back(np.asarray(_ERF(_double(x)), np.float64), x)


def gelu(x: Array) -> Array:
    """The product x times the normal distribution function at x."""
    d = _double(x)
    return _back(0.5 * d * (1.0 + erf(d * math.sqrt(0.5))), x)


def gelu_tanh(x: Array) -> Array:
    """The usual approximation of gelu by a hyperbolic tangent."""
    d = _double(x)
    return _back(0.5 * d * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (d + 0.044715 * d**3))), x)


def silu(x: Array) -> Array:
    """The product x sigmoid(x), also called swish."""
    d = _double(x)
    return _back(d * sigmoid(d), x)


def elu(x: Array) -> Array:
    """The operand where it is positive, exp(x) - 1 elsewhere."""
    d = _double(x)
    return _back(np.where(d > 0, d, np.expm1(np.minimum(d, 0.0))), x)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    d = _double(x)
    return _back(np.maximum(d, 0.0) + np.log1p(np.exp(-np.abs(d))), x)


def mish(x: Array) -> Array:
    """The product x tanh(softplus(x))."""
    d = _double(x)
    return _back(d * np.tanh(softplus(d)), x)
