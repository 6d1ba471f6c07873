"""Reference convolution and window slicing in numpy, for float, signed and ring arrays alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["conv", "conv_output_shape", "pad_zero"]

Array = npt.NDArray[Any]


def conv_output_shape(
    x: Sequence[int],
    w: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> tuple[int, ...]:
    """Shape of a convolution of x [N, C, *spatial] by w [O, C/groups, *kernel].

    Args:
        pads: begin of every spatial axis, then end of every axis, as in ONNX.

    Raises:
        ValueError: the shapes or attributes do not fit together; the text says what.
    """
    rank = len(x) - 2
    if rank < 1 or len(w) != rank + 2:
        raise ValueError(f"convolution of rank-{len(x)} data by rank-{len(w)} weights")
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise ValueError(f"strides, dilations and pads must have {rank}, {rank}, {2 * rank} items")
    if min([*strides, *dilations, groups]) < 1 or min(pads) < 0:
        raise ValueError("strides, dilations and groups must be positive, pads not negative")
    if x[1] != w[1] * groups or w[0] % groups:
        raise ValueError(
            f"{x[1]} input and {w[0]} output channels do not split into {groups} groups "
            f"of {w[1]} input channels"
        )
    out = []
    for i in range(rank):
        span = dilations[i] * (w[2 + i] - 1) + 1
        room = x[2 + i] + pads[i] + pads[rank + i] - span
        if room < 0:
            raise ValueError(f"kernel of span {span} is larger than the padded axis {i}")
        out.append(room // strides[i] + 1)
    return (x[0], w[0], *out)


def pad_zero(x: Array, low: Sequence[int], high: Sequence[int], value: Any = 0) -> Array:
    """X padded with a constant; low and high count the added elements per axis."""
    return np.pad(x, list(zip(low, high, strict=True)), constant_values=x.dtype.type(value))


def conv(
    x: Array,
    w: Array,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Array:
    """Convolution (cross-correlation, as in ONNX) in the arithmetic of the arrays' dtype.

    Args:
        x: [N, C, *spatial]; w: [O, C/groups, *kernel]; same dtype. Unsigned integers wrap.

    Returns:
        [N, O, *out].

    Raises:
        ValueError: see :func:`conv_output_shape`.
    """
    out = conv_output_shape(x.shape, w.shape, strides, pads, dilations, groups)
    rank = len(out) - 2
    x = pad_zero(x, (0, 0, *pads[:rank]), (0, 0, *pads[rank:]))
    n, per_group = x.shape[0], w.shape[1]
    pixels = int(np.prod(out[2:], dtype=np.int64))
    result = np.zeros((n, groups, w.shape[0] // groups, pixels), x.dtype)
    wg = w.reshape(groups, w.shape[0] // groups, per_group, *w.shape[2:])
    for tap in np.ndindex(*w.shape[2:]):
        window = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s)
            for t, d, o, s in zip(tap, dilations, out[2:], strides, strict=True)
        )
        pixels_of_tap = (slice(None), slice(None), *window)
        weights_of_tap = (slice(None), slice(None), slice(None), *tap)
        xs = x[pixels_of_tap].reshape(n, groups, per_group, pixels)
        ws = wg[weights_of_tap]
        result += ws[None, :, :, 0, None] * xs[:, :, :1] if per_group == 1 else ws[None] @ xs
    return result.reshape(out)
