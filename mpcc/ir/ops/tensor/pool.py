"""Tensor-level pooling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir import linear, shapes
from mpcc.ir.define import Attr, Attributes, fail
from mpcc.ir.intervals import Enclosure, Interval, Rounding
from mpcc.ir.ops.tensor.base import (
    PADS_ATTR,
    STRIDES_ATTR,
    Array,
    Kind,
    Largest,
    TensorOperation,
    real,
    result,
)
from mpcc.ir.types import Type

__all__ = ["MaxPool", "SumPool"]

_SLACK = 2.0**-40
"""Relative to the sum of absolute values: covers the rounding of a sum in binary64."""

_WINDOWS = {
    "kernel": Attr("ints", "window per spatial axis"),
    "strides": STRIDES_ATTR,
    "pads": PADS_ATTR,
    "dilations": Attr("ints", "step inside a window per spatial axis; none: all 1", ()),
}


class MaxPool(Largest):
    """Maximum over windows of x [N,C,*spatial]; padding never wins, and no window has nothing else.

    Axis of size d gives floor((d + begin + end - span) / stride) + 1 elements, where a window spans
    dilation * (kernel - 1) + 1.
    """

    name = "tensor.maxpool"
    kind = Kind.NONLINEAR
    operands = ("x",)
    attributes = _WINDOWS

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        shape = shapes.pool(cls, x, **attrs)
        kernel, strides, pads, dilations = (attrs[key] for key in _WINDOWS)
        for i, k in enumerate(kernel):
            step, end = dilations[i] if dilations else 1, pads[len(kernel) + i]
            if not shapes.windows_reach_data(x.shape[2 + i], k, strides[i], pads[i], end, step):
                raise fail(cls, f"pads {pads} leave a window of {kernel} with padding alone")
        return (result(shape, x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (linear.max_pool(args[0], **attrs),)

    @classmethod
    def steps(cls, attrs: Attributes, operands: Sequence[Interval]) -> int:
        # Along one axis after the other; an odd one out waits for a further step, and windows that
        # are put together of shared blocks take one more.
        return sum(int(k).bit_length() + 1 for k in attrs["kernel"])


class SumPool(TensorOperation):
    """Sum over windows of x [N,C,*spatial], with zeros outside; sizes as of maxpool."""

    name = "tensor.sum_pool"
    kind = Kind.SUM
    operands = ("x",)
    attributes = _WINDOWS

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(shapes.pool(cls, x, **attrs), x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (linear.sum_pool(args[0], **attrs),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,) = operands
        sums = x.map(lambda a: linear.sum_pool(a, **attrs))
        size = linear.sum_pool(np.maximum(np.abs(x.lo), np.abs(x.hi)), **attrs)
        slack = rounding.unit + _SLACK * size
        return Enclosure((Interval(sums.lo - slack, sums.hi + slack),))


OPERATIONS = (MaxPool, SumPool)
"""In the order of the dialect."""
