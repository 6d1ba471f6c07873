"""Tensor-level operators that only move elements or add public constants around them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mpcc.ir import linear, shapes
from mpcc.ir.define import Attr, Attributes, fail
from mpcc.ir.intervals import Enclosure, Interval, Rounding
from mpcc.ir.ops.tensor.base import (
    SHAPE_ATTR,
    Array,
    Kind,
    Monotone,
    TensorOperation,
    positive_shape,
    real,
    reals,
    result,
)
from mpcc.ir.types import Type, element_count

__all__ = ["Broadcast", "Concat", "Gather", "Pad", "Reshape", "Slice", "Take", "Transpose"]


class Pad(TensorOperation):
    """x with ``value`` added low[i] times before and high[i] times after axis i."""

    name = "tensor.pad"
    kind = Kind.STRUCTURAL
    operands = ("x",)
    attributes = {
        "low": Attr("ints", "elements before, per axis"),
        "high": Attr("ints", "elements after, per axis"),
        "value": Attr("float", "public constant", 0.0),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        shape = shapes.pad(cls, x, attrs["low"], attrs["high"])
        if not math.isfinite(attrs["value"]):
            raise fail(cls, f"the constant must be finite, not {attrs['value']}")
        return (result(shape, x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (linear.pad_zero(args[0], attrs["low"], attrs["high"], attrs["value"]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,) = operands
        low, high, value = attrs["low"], attrs["high"], attrs["value"]
        error = rounding.unit if value else 0.0
        lows = linear.pad_zero(x.lo, low, high, value - error)
        return Enclosure((Interval(lows, linear.pad_zero(x.hi, low, high, value + error)),))


class Reshape(Monotone):
    """The same elements in another shape, row-major."""

    name = "tensor.reshape"
    kind = Kind.STRUCTURAL
    operands = ("x",)
    attributes = {"shape": SHAPE_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(shapes.reshape(cls, x, positive_shape(cls, attrs["shape"])), x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (args[0].reshape(attrs["shape"]),)


class Transpose(Monotone):
    """Axis i of the result is axis perm[i] of x."""

    name = "tensor.transpose"
    kind = Kind.STRUCTURAL
    operands = ("x",)
    attributes = {"perm": Attr("ints", "permutation of the axes")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(shapes.transpose(cls, x, attrs["perm"]), x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (args[0].transpose(attrs["perm"]),)


class Broadcast(Monotone):
    """x repeated to a shape, by numpy's rules."""

    name = "tensor.broadcast"
    kind = Kind.STRUCTURAL
    operands = ("x",)
    attributes = {"shape": SHAPE_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, shape = real(cls, types[0]), positive_shape(cls, attrs["shape"])
        new = len(shape) - len(x.shape)
        return (result(shapes.broadcast_along(cls, x, shape, range(new, len(shape))), x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.broadcast_to(args[0], attrs["shape"]),)


class Slice(Monotone):
    """Elements starts[i] <= index < limits[i] in steps of strides[i] along axis i."""

    name = "tensor.slice"
    kind = Kind.STRUCTURAL
    operands = ("x",)
    attributes = {
        "starts": Attr("ints", "first index, per axis"),
        "limits": Attr("ints", "end (exclusive), per axis"),
        "strides": Attr("ints", "step, per axis, positive"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(positive_shape(cls, shapes.slice_box(cls, x, **attrs)), x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (linear.slice_box(args[0], **attrs),)


class Concat(Monotone):
    """The operands one after another along an axis."""

    name = "tensor.concat"
    kind = Kind.STRUCTURAL
    operands = ("xs*",)
    attributes = {"axis": Attr("int", "axis, not negative")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        xs = reals(cls, types)
        return (result(shapes.concat(cls, xs, attrs["axis"]), *xs),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.concatenate(args, axis=attrs["axis"]),)


class Gather(Monotone):
    """Entry i along an axis is entry indices[i] of x; an index may repeat."""

    name = "tensor.gather"
    kind = Kind.STRUCTURAL
    operands = ("x",)
    attributes = {
        "axis": Attr("int", "axis, not negative"),
        "indices": Attr("ints", "public entries of the axis, not negative"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(positive_shape(cls, shapes.gather(cls, x, **attrs)), x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.take(args[0], attrs["indices"], attrs["axis"]),)


class Take(Monotone):
    """Elements of x by their row-major positions, in a shape; a position may repeat."""

    name = "tensor.take"
    kind = Kind.STRUCTURAL
    operands = ("x",)
    attributes = {
        "indices": Attr("ints", "public positions in x, not negative; one per element"),
        "shape": SHAPE_ATTR,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, shape = real(cls, types[0]), positive_shape(cls, attrs["shape"])
        flat = result((element_count(x.shape),), x)
        taken = result(shapes.gather(cls, flat, 0, attrs["indices"]), x)
        return (result(shapes.reshape(cls, taken, shape), x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.take(args[0], attrs["indices"]).reshape(attrs["shape"]),)


OPERATIONS = (Pad, Reshape, Transpose, Broadcast, Slice, Concat, Gather, Take)
"""In the order of the dialect."""
