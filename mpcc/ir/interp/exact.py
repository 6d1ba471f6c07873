"""Products of int64 tensors, exact modulo 2^64, on the float64 matrix unit.

numpy has no fast integer matmul. A sum of products that stays below 2^53 is exact in binary64, so
the left operand is cut into signed limbs short enough for that; the limbs' results are added with
wrapping int64 arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["product"]

Array = npt.NDArray[Any]

_EXACT_BITS = 53
_SHORTEST_LIMB = 6


def product(
    x: Array, w: Array, weight_sum: int, multiply: Callable[[Array, Array], Array]
) -> Array:
    """multiply(x, w) modulo 2^64 for a bilinear ``multiply`` such as a convolution.

    Args:
        x: int64.
        w: int64.
        weight_sum: upper bound, over the outputs, of the sum of the |w| that one output takes.
        multiply: bilinear; every output is a sum of products of elements of x and w, each element
            of w at most once.

    Returns:
        int64, wrapped.
    """
    weight_bits = max(int(weight_sum), 1).bit_length()
    limb = _EXACT_BITS - weight_bits + 1  # |low| <= 2^(limb-1), so sums stay within 2^53
    if limb < _SHORTEST_LIMB:
        return multiply(x, w)
    wf = w.astype(np.float64)
    total: Array | None = None
    shift = 0
    rest = x
    while True:
        size = max(abs(int(rest.max(initial=0))), abs(int(rest.min(initial=0))))
        last = size <= 1 << (limb - 1)
        if last:
            low = rest
        else:
            half = np.int64(1 << (limb - 1))
            # Wraps only for values within half of 2^63, and then consistently.
            low = ((rest + half) & np.int64((1 << limb) - 1)) - half
        part = multiply(low.astype(np.float64), wf).astype(np.int64)
        total = part if total is None else total + (part << np.int64(shift))
        shift += limb
        if last or shift >= 64:
            return total
        rest = (rest >> np.int64(limb)) + (low < 0)
