"""Tensor-level operators along axes: sums, maxima and their positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpcc.ir import shapes
from mpcc.ir.define import Attr, Attributes, Operation, fail
from mpcc.ir.intervals import Enclosure, Interval, Rounding
from mpcc.ir.ops.tensor.base import Array, Kind, Largest, TensorOperation, real, result
from mpcc.ir.types import Shape, TensorType, Type

__all__ = ["ArgMax", "CumSum", "ReduceMax", "ReduceSum", "TopK"]

_SLACK = 2.0**-40
"""Relative to the sum of absolute values: covers the rounding of a sum in binary64."""

_AXES = {
    "axes": Attr("ints", "reduced axes, rising, not negative"),
    "keepdims": Attr("bool", "keep them, with size 1"),
}


def _reduced(cls: type[Operation], x: TensorType, axes: Sequence[int], keepdims: bool) -> Shape:
    shape = shapes.reduce(cls, x, axes)
    return tuple(1 if i in axes else d for i, d in enumerate(x.shape)) if keepdims else shape


def _axis(cls: type[Operation], x: TensorType, axis: int) -> int:
    if not 0 <= axis < len(x.shape):
        raise fail(cls, f"axis {axis} of {x}")
    return axis


class ReduceSum(TensorOperation):
    """Sums over axes."""

    name = "tensor.reduce_sum"
    kind = Kind.SUM
    operands = ("x",)
    attributes = _AXES

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(_reduced(cls, x, attrs["axes"], attrs["keepdims"]), x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.asarray(args[0].sum(axis=attrs["axes"], keepdims=attrs["keepdims"])),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,) = operands

        def total(a: Array) -> Array:
            return cls.evaluate(attrs, a)[0]

        slack = rounding.unit + _SLACK * total(np.maximum(np.abs(x.lo), np.abs(x.hi)))
        return Enclosure((Interval(total(x.lo) - slack, total(x.hi) + slack),))


class ReduceMax(Largest):
    """Maxima over axes."""

    name = "tensor.reduce_max"
    kind = Kind.NONLINEAR
    operands = ("x",)
    attributes = _AXES

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(_reduced(cls, x, attrs["axes"], attrs["keepdims"]), x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.asarray(args[0].max(axis=attrs["axes"], keepdims=attrs["keepdims"])),)

    @classmethod
    def steps(cls, attrs: Attributes, operands: Sequence[Interval]) -> int:
        shape = operands[0].lo.shape
        return math.prod(shape[axis] for axis in attrs["axes"]).bit_length()


def _key_bits(count: int) -> int:
    """A position among so many takes these bits beside its element."""
    return (count - 1).bit_length()


def _near(x: Array, there: Array, best: Array, axis: int, tolerance: float) -> Array:
    """Whether the elements at whole positions of an axis are as good as the best ones."""
    inside = (there >= 0) & (there < x.shape[axis]) & (there == np.rint(there))
    found = np.take_along_axis(x, np.where(inside, there, 0).astype(np.int64), axis)
    # Both the element and the best one move.
    return np.asarray(inside & (np.abs(found - best) <= 2 * tolerance))


def _positions(cls: type[Operation], shape: Shape, x: TensorType) -> TensorType:
    return result(shape, x, dtype="i64")


class ArgMax(TensorOperation):
    """Positions of the maxima along an axis: of equal ones, the first or the last."""

    name = "tensor.argmax"
    kind = Kind.NONLINEAR
    discontinuous = True
    operands = ("x",)
    attributes = {
        "axis": Attr("int", "not negative"),
        "keepdims": Attr("bool", "keep the axis, with size 1"),
        "select_last": Attr("bool", "of equal ones, the last", False),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        shape = _reduced(cls, x, (_axis(cls, x, attrs["axis"]),), attrs["keepdims"])
        return (_positions(cls, shape, x),)

    @classmethod
    def extra_bits(cls, attrs: Attributes, shape: Shape) -> int:
        return _key_bits(shape[attrs["axis"]])

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        (x,), axis, keep = args, attrs["axis"], attrs["keepdims"]
        if not attrs["select_last"]:
            return (np.asarray(np.argmax(x, axis, keepdims=keep), np.int64),)
        back = np.argmax(np.flip(x, axis), axis, keepdims=keep)
        return (np.asarray(x.shape[axis] - 1 - back, np.int64),)

    @classmethod
    def allows(
        cls, attrs: Attributes, operands: Sequence[Array], jumps: Array, tolerance: float
    ) -> Array:
        (x,), axis = operands, attrs["axis"]
        there = jumps if attrs["keepdims"] else np.expand_dims(jumps, axis)
        near = _near(x, there, x.max(axis=axis, keepdims=True), axis, tolerance)
        return near if attrs["keepdims"] else near.squeeze(axis)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,), axis = operands, attrs["axis"]
        lo, hi = np.moveaxis(x.lo, axis, 0), np.moveaxis(x.hi, axis, 0)
        if attrs["select_last"]:
            lo, hi = lo[::-1], hi[::-1]
        # The one that wins is above all before it, and not below any after it.
        highest = np.maximum.accumulate(lo, 0)
        possible = hi >= highest[-1:]
        possible[1:] &= hi[1:] > highest[:-1]
        if attrs["select_last"]:
            possible = possible[::-1]
        possible = np.moveaxis(possible, 0, axis)
        ends = [
            cls.evaluate({**attrs, "select_last": last}, possible)[0].astype(np.float64)
            for last in (False, True)
        ]
        return Enclosure((Interval(*ends),))


class TopK(TensorOperation):
    """The k largest or smallest along an axis and their positions, best first.

    Of equal ones the first comes first.
    """

    name = "tensor.topk"
    kind = Kind.NONLINEAR
    discontinuous = True
    operands = ("x",)
    attributes = {
        "k": Attr("int", "how many"),
        "axis": Attr("int", "not negative"),
        "largest": Attr("bool", "the largest rather than the smallest", True),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, k = real(cls, types[0]), attrs["k"]
        axis = _axis(cls, x, attrs["axis"])
        if not 1 <= k <= x.shape[axis]:
            raise fail(cls, f"{k} of the {x.shape[axis]} elements of axis {axis}")
        shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
        return (result(shape, x), _positions(cls, shape, x))

    @classmethod
    def extra_bits(cls, attrs: Attributes, shape: Shape) -> int:
        return _key_bits(shape[attrs["axis"]])

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        (x,), axis = args, attrs["axis"]
        signed = -x if attrs["largest"] else x
        order = np.argsort(signed, axis=axis, kind="stable")
        first = order.take(np.arange(attrs["k"]), axis)
        return (np.take_along_axis(x, first, axis), first.astype(np.int64))

    @classmethod
    def allows(
        cls, attrs: Attributes, operands: Sequence[Array], jumps: Array, tolerance: float
    ) -> Array:
        (x,) = operands
        return _near(x, jumps, cls.evaluate(attrs, x)[0], attrs["axis"], tolerance)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,), axis, k = operands, attrs["axis"], attrs["k"]
        # Every rank's value rises with the elements.
        values = Interval(*(cls.evaluate(attrs, end)[0] for end in (x.lo, x.hi)))
        lo, hi = (x.lo, x.hi) if attrs["largest"] else (-x.hi, -x.lo)
        lo, hi = np.moveaxis(lo, axis, -1), np.moveaxis(hi, axis, -1)
        # A position is certain where all before it are above, and all after it below. Equal ones
        # are in order if all are known exactly.
        known = (lo == hi).all(axis=-1, keepdims=True)
        order = np.argsort(-(lo + hi), axis=-1, kind="stable")
        lo, hi = np.take_along_axis(lo, order, -1), np.take_along_axis(hi, order, -1)
        above = np.minimum.accumulate(lo, -1)[..., :-1]
        below = np.flip(np.maximum.accumulate(np.flip(hi, -1), -1), -1)[..., 1:]
        edge: Any = np.ones((*order.shape[:-1], 1), bool)
        apart = np.concatenate([edge, (above > below) | (known & (above == below)), edge], -1)
        certain = (apart[..., :-1] & apart[..., 1:])[..., :k]
        last = order.shape[-1] - 1
        ends = [np.where(certain, order[..., :k], end).astype(np.float64) for end in (0, last)]
        return Enclosure((values, Interval(*(np.moveaxis(e, -1, axis) for e in ends))))


class CumSum(TensorOperation):
    """Sums of all elements up to each one along an axis."""

    name = "tensor.cumsum"
    kind = Kind.SUM
    operands = ("x",)
    attributes = {
        "axis": Attr("int", "not negative"),
        "exclusive": Attr("bool", "without the element itself", False),
        "reverse": Attr("bool", "from the end", False),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        _axis(cls, x, attrs["axis"])
        return (result(x.shape, x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        (x,), axis = args, attrs["axis"]
        x = np.flip(x, axis) if attrs["reverse"] else x
        total = np.cumsum(x, axis, dtype=x.dtype)
        if attrs["exclusive"]:
            total = np.roll(total, 1, axis)
            total[(slice(None),) * axis + (slice(0, 1),)] = 0
        return (np.flip(total, axis) if attrs["reverse"] else total,)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,) = operands

        def total(a: Array) -> Array:
            return cls.evaluate(attrs, a)[0]

        sizes = np.maximum(np.abs(x.lo), np.abs(x.hi))
        slack = rounding.unit + _SLACK * total(sizes)
        found = Interval(total(x.lo) - slack, total(x.hi) + slack)
        return Enclosure((found,), _windows(x, attrs["axis"]))


def _windows(x: Interval, axis: int) -> float:
    """Bound of the sums of 1, 2, 4, ... neighbours, of which cumulative sums are made."""
    lo, hi = np.moveaxis(x.lo, axis, 0), np.moveaxis(x.hi, axis, 0)
    found, step = x.magnitude, 1
    while 2 * step <= len(lo):
        lo = lo[:-step] + lo[step:]
        hi = hi[:-step] + hi[step:]
        step *= 2
        found = max(found, Interval(lo, hi).magnitude)
    return found * (1 + _SLACK)


OPERATIONS = (ReduceSum, ReduceMax, ArgMax, TopK, CumSum)
"""In the order of the dialect."""
