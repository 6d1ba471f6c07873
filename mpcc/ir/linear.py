"""Reference operations in numpy that levels share, for float, signed and ring arrays alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.ir.shapes import conv_output_shape

__all__ = [
    "broadcast_along",
    "conv",
    "conv_transpose",
    "gather",
    "max_pool",
    "pad_zero",
    "slice_box",
    "sum_pool",
]

Array = npt.NDArray[Any]


def pad_zero(x: Array, low: Sequence[int], high: Sequence[int], value: Any = 0) -> Array:
    """X padded with a constant; low and high count the added elements per axis."""
    return np.pad(x, list(zip(low, high, strict=True)), constant_values=x.dtype.type(value))


def slice_box(
    x: Array, starts: Sequence[int], limits: Sequence[int], strides: Sequence[int]
) -> Array:
    """Elements starts[i] <= index < limits[i] in steps of strides[i] along axis i, copied."""
    box = zip(starts, limits, strides, strict=True)
    return np.array(x[tuple(slice(*b) for b in box)], order="C")


def gather(x: Array, axis: int, indices: Sequence[int]) -> Array:
    """Entries ``indices`` of x along an axis, copied."""
    return np.take(x, np.asarray(indices, np.int64), axis=axis)


def broadcast_along(x: Array, shape: Sequence[int], dims: Sequence[int]) -> Array:
    """X repeated to ``shape``; axis i of x becomes axis dims[i]."""
    view = [1] * len(shape)
    for size, dim in zip(x.shape, dims, strict=True):
        view[dim] = size
    return np.array(np.broadcast_to(x.reshape(view), shape), order="C")


def max_pool(
    x: Array,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int] = (),
) -> Array:
    """Maximum over windows of float data x [N, C, *spatial]; padding never wins."""
    return _pool(x, kernel, strides, pads, dilations, -math.inf, np.maximum)


def sum_pool(
    x: Array,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int] = (),
) -> Array:
    """Sum over windows of x [N, C, *spatial], with zeros outside."""
    return _pool(x, kernel, strides, pads, dilations, 0, np.add)


def _pool(
    x: Array,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    outside: float,
    combine: np.ufunc,
) -> Array:
    rank = len(kernel)
    # A box is taken axis by axis.
    for i in range(rank):
        axis, step = 2 + i, dilations[i] if dilations else 1
        width = [(0, 0)] * x.ndim
        width[axis] = (pads[i], pads[rank + i])
        padded = np.pad(x, width, constant_values=outside)
        count = (padded.shape[axis] - step * (kernel[i] - 1) - 1) // strides[i] + 1
        box = [slice(None)] * x.ndim
        for t in range(kernel[i]):
            first = t * step
            box[axis] = slice(first, first + (count - 1) * strides[i] + 1, strides[i])
            part = padded[tuple(box)]
            x = part.copy() if t == 0 else combine(x, part, out=x)
    return x


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
        ValueError: see :func:`mpcc.ir.shapes.conv_output_shape`.
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


def conv_transpose(
    x: Array,
    w: Array,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    output_padding: Sequence[int],
) -> Array:
    """The transpose of a convolution, as in ONNX, in the arithmetic of the arrays' dtype.

    Args:
        x: [N, C, *spatial]; w: [C, O/groups, *kernel]; same dtype.

    Returns:
        [N, O, *out]: every element of x, times the kernel, is added where the kernel lies for it.
    """
    rank, n, per = x.ndim - 2, x.shape[0], w.shape[1]
    sizes, kernel = x.shape[2:], w.shape[2:]
    full = [
        s * (d - 1) + dilation * (k - 1) + 1 + extra
        for s, d, dilation, k, extra in zip(
            strides, sizes, dilations, kernel, output_padding, strict=True
        )
    ]
    xs = x.reshape(n, groups, x.shape[1] // groups, -1)
    ws = w.reshape(groups, w.shape[0] // groups, per, *kernel)
    y = np.zeros((n, groups, per, *full), x.dtype)
    for tap in np.ndindex(*kernel):
        box = tuple(
            slice(t * d, t * d + (size - 1) * s + 1, s)
            for t, d, size, s in zip(tap, dilations, sizes, strides, strict=True)
        )
        weights_of_tap = (slice(None), slice(None), slice(None), *tap)
        pixels_of_tap = (slice(None), slice(None), slice(None), *box)
        product = ws[weights_of_tap].transpose(0, 2, 1)[None] @ xs
        y[pixels_of_tap] += product.reshape(n, groups, per, *sizes)
    y = y.reshape(n, groups * per, *full)
    cut = (slice(pads[i], full[i] - pads[rank + i]) for i in range(rank))
    inside = (slice(None), slice(None), *cut)
    return np.array(y[inside], order="C")
