"""Shape rules, once for all levels: a tensor-level reshape has the shape of a party-level one.

Every rule takes the declaration that asks (for the text of a refusal) and its operand types; it
gives the shape of the result, or raises InferenceError. What only one level demands, such as
positive dimensions or a limit of elements, is checked there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mpcc.ir.define import Operation, fail
from mpcc.ir.limits import MAX_LIST
from mpcc.ir.types import Shape, element_count

__all__ = [
    "Shaped",
    "broadcast",
    "broadcast_along",
    "concat",
    "conv",
    "conv_output_shape",
    "conv_transpose",
    "gather",
    "matmul",
    "matmul_stack",
    "pad",
    "pool",
    "reduce",
    "reshape",
    "slice_box",
    "transpose",
    "windows_reach_data",
]


class Shaped(Protocol):
    """Any type of a tensor; its text stands in refusals."""

    @property
    def shape(self) -> Shape:
        """Static shape."""


# --- moving elements -----------------------------------------------------------------------------


def reshape(cls: type[Operation], x: Shaped, shape: Shape) -> Shape:
    """``shape``, if it holds the elements of x."""
    if min((*shape, 0)) < 0:
        raise fail(cls, f"negative dimension in {shape}")
    if element_count(shape) != element_count(x.shape):
        raise fail(cls, f"{x} has not the {element_count(shape)} elements of {shape}")
    return tuple(shape)


def transpose(cls: type[Operation], x: Shaped, perm: Sequence[int]) -> Shape:
    """Axis i of the result is axis perm[i] of x."""
    if sorted(perm) != list(range(len(x.shape))):
        raise fail(cls, f"{perm} is no permutation of the axes of {x}")
    return tuple(x.shape[p] for p in perm)


def pad(cls: type[Operation], x: Shaped, low: Sequence[int], high: Sequence[int]) -> Shape:
    """Axis i grows by low[i] elements before and high[i] after it; neither is negative."""
    if len(low) != len(x.shape) or len(high) != len(x.shape) or min((*low, *high, 0)) < 0:
        raise fail(cls, f"pads {low}, {high} do not fit {x}")
    return tuple(a + d + b for a, d, b in zip(low, x.shape, high, strict=True))


def slice_box(
    cls: type[Operation],
    x: Shaped,
    starts: Sequence[int],
    limits: Sequence[int],
    strides: Sequence[int],
    most: int | None = None,
) -> Shape:
    """Elements starts[i] <= index < limits[i] in steps of 1 <= strides[i] <= most along axis i."""
    if any(len(b) != len(x.shape) for b in (starts, limits, strides)):
        raise fail(cls, f"starts, limits and strides do not fit {x}")
    shape = []
    for size, start, limit, stride in zip(x.shape, starts, limits, strides, strict=True):
        if not 0 <= start <= limit <= size or stride < 1 or (most is not None and stride > most):
            raise fail(cls, f"[{start}:{limit}:{stride}] of an axis of {size}")
        shape.append(-(-(limit - start) // stride))
    return tuple(shape)


def concat(cls: type[Operation], xs: Sequence[Shaped], axis: int) -> Shape:
    """The operands, at least one, one after another along ``axis`` (not negative)."""
    if not xs:
        raise fail(cls, "needs an operand")
    first = xs[0]
    if not 0 <= axis < len(first.shape):
        raise fail(cls, f"axis {axis} of {first}")
    head, tail = first.shape[:axis], first.shape[axis + 1 :]
    for x in xs:
        if (x.shape[:axis], x.shape[axis + 1 :]) != (head, tail):
            raise fail(cls, f"{first} and {x} do not concatenate along {axis}")
    return (*head, sum(x.shape[axis] for x in xs), *tail)


def gather(cls: type[Operation], x: Shaped, axis: int, indices: Sequence[int]) -> Shape:
    """Entries ``indices``, which may repeat, of an axis; none is negative."""
    if not 0 <= axis < len(x.shape):
        raise fail(cls, f"axis {axis} of {x}")
    if len(indices) > MAX_LIST:
        raise fail(cls, f"at most {MAX_LIST} indices, not {len(indices)}")
    size = x.shape[axis]
    if indices and not 0 <= min(indices) <= max(indices) < size:
        raise fail(cls, f"indices {min(indices)} to {max(indices)} of an axis of {size}")
    return (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])


def reduce(cls: type[Operation], x: Shaped, axes: Sequence[int]) -> Shape:
    """The shape without the axes, which rise."""
    if sorted(set(axes)) != list(axes) or any(not 0 <= a < len(x.shape) for a in axes):
        raise fail(cls, f"axes {axes} of {x} must rise and exist")
    return tuple(d for i, d in enumerate(x.shape) if i not in axes)


# --- broadcasting --------------------------------------------------------------------------------


def broadcast(cls: type[Operation], *xs: Shaped) -> Shape:
    """The common shape under numpy's rules."""
    try:
        return tuple(np.broadcast_shapes(*(x.shape for x in xs)))
    except (ValueError, OverflowError):
        raise fail(cls, f"{' and '.join(map(str, xs))} do not broadcast") from None


def broadcast_along(cls: type[Operation], x: Shaped, shape: Shape, dims: Sequence[int]) -> Shape:
    """``shape``, if axis i of x may become its axis dims[i]: of equal size, or 1."""
    if len(dims) != len(x.shape) or sorted(set(dims)) != list(dims):
        raise fail(cls, f"dims {dims} must rise and have one axis per axis of {x}")
    for size, dim in zip(x.shape, dims, strict=True):
        if not 0 <= dim < len(shape) or size not in (1, shape[dim]):
            raise fail(cls, f"{x} does not broadcast to {shape} along {dims}")
    return tuple(shape)


# --- products and windows ------------------------------------------------------------------------


def matmul(cls: type[Operation], a: Shaped, b: Shaped) -> Shape:
    """[...,M,K] times [...,K,N]; the leading axes broadcast by numpy's rules."""
    if min(len(a.shape), len(b.shape)) < 2 or a.shape[-1] != b.shape[-2]:
        raise fail(cls, f"product of {a} and {b}")
    try:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except (ValueError, OverflowError):
        raise fail(cls, f"product of {a} and {b}: leading axes do not broadcast") from None
    return (*lead, a.shape[-2], b.shape[-1])


def matmul_stack(cls: type[Operation], a: Shaped, b: Shaped) -> Shape:
    """[...,M,K] times [...,K,N], the leading axes equal, or times one [K,N] for all."""
    lead = a.shape[:-2]
    if min(len(a.shape), len(b.shape)) < 2 or a.shape[-1] != b.shape[-2]:
        raise fail(cls, f"product of {a} and {b}")
    if b.shape[:-2] not in ((), lead):
        raise fail(cls, f"product of {a} and {b}: leading axes differ")
    return (*lead, a.shape[-2], b.shape[-1])


def conv(
    cls: type[Operation],
    x: Shaped,
    w: Shaped,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Shape:
    """As :func:`conv_output_shape`, with an InferenceError."""
    try:
        return conv_output_shape(x.shape, w.shape, strides, pads, dilations, groups)
    except ValueError as error:
        raise fail(cls, str(error)) from None


def conv_output_shape(
    x: Sequence[int],
    w: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Shape:
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
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, w[2:], strict=True)]
    out = _windows(x[2:], spans, strides, pads)
    for i, count in enumerate(out):
        if count < 1:
            raise ValueError(f"kernel of span {spans[i]} is larger than the padded axis {i}")
    return (x[0], w[0], *out)


def conv_transpose(
    cls: type[Operation],
    x: Shaped,
    w: Shaped,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    output_padding: Sequence[int],
) -> Shape:
    """The transpose of a convolution of [N, O, ...] by w [C, O/groups, *kernel], for x [N, C, ...].

    Axis of size d gives stride * (d - 1) + span + output_padding - begin - end elements.
    """
    rank = len(x.shape) - 2
    if rank < 1 or len(w.shape) != rank + 2:
        raise fail(cls, f"{x} by the kernel {w}")
    if any(len(a) != rank for a in (strides, dilations, output_padding)) or len(pads) != 2 * rank:
        raise fail(
            cls,
            f"strides {strides}, pads {pads}, dilations {dilations} and output_padding "
            f"{output_padding} do not fit {x}",
        )
    if min((*strides, *dilations, *w.shape, groups)) < 1 or min((*pads, *output_padding)) < 0:
        raise fail(
            cls, "kernel, strides, dilations and groups must be positive, padding not negative"
        )
    if x.shape[1] != w.shape[0] or x.shape[1] % groups:
        raise fail(cls, f"channels of {x} and of the kernel {w} in {groups} groups")
    out = []
    for i, (size, k) in enumerate(zip(x.shape[2:], w.shape[2:], strict=True)):
        full = strides[i] * (size - 1) + dilations[i] * (k - 1) + 1 + output_padding[i]
        out.append(full - pads[i] - pads[rank + i])
    if min(out) < 1:
        raise fail(cls, f"pads {pads} leave nothing of {x}")
    return (x.shape[0], w.shape[1] * groups, *out)


def pool(
    cls: type[Operation],
    x: Shaped,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int] = (),
) -> Shape:
    """Windows over x [N, C, *spatial], as in ONNX; no dilations are all 1."""
    rank = len(x.shape) - 2
    dilations = dilations or (1,) * rank
    if rank < 1 or (len(kernel), len(strides), len(pads)) != (rank, rank, 2 * rank):
        raise fail(cls, f"kernel {kernel}, strides {strides}, pads {pads} do not fit {x}")
    if len(dilations) != rank or min((*kernel, *strides, *dilations)) < 1 or min(pads) < 0:
        raise fail(cls, "kernel, strides and dilations must be positive, pads not negative")
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    out = _windows(x.shape[2:], spans, strides, pads)
    if min(out) < 1:
        raise fail(cls, f"kernel {kernel} is larger than the padded {x}")
    return (*x.shape[:2], *out)


def windows_reach_data(
    size: int, kernel: int, stride: int, begin: int, end: int, dilation: int
) -> bool:
    """Whether every window over an axis has an element that is no padding."""
    last = (size + begin + end - dilation * (kernel - 1) - 1) // stride * stride - begin
    if last >= size or begin > dilation * (kernel - 1):
        return False
    # A window that starts before the data reaches it, unless it steps over it.
    return size >= dilation or all(
        first % dilation < size for first in range(-begin, min(last + 1, 0), stride)
    )


def _windows(
    sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> list[int]:
    """Number of windows per spatial axis; below 1 where a window is larger than its axis."""
    rank = len(sizes)
    return [(sizes[i] + pads[i] + pads[rank + i] - spans[i]) // strides[i] + 1 for i in range(rank)]
