"""Secure-level operators that only move elements or add public constants around them.

Those that only move elements take bits as well as numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir import linear, shapes
from mpcc.ir.define import Attr, Attributes, fail
from mpcc.ir.ops.secure.base import (
    SHAPE_ATTR,
    Array,
    Context,
    SecureOperation,
    Structural,
    alike,
    bits_or_numbers,
    check_fits,
    moved,
    secure,
)
from mpcc.ir.types import BitType, SecureType, Type, join_visibility

__all__ = ["Broadcast", "Concat", "Gather", "Pad", "Reshape", "Slice", "Transpose"]


class Broadcast(Structural):
    """x repeated to ``shape``; axis i of x becomes axis dims[i], where its size is equal or 1."""

    name = "secure.broadcast"
    operands = ("x",)
    attributes = {"shape": SHAPE_ATTR, "dims": Attr("ints", "result axis of every axis of x")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = bits_or_numbers(cls, types[0])
        return (moved(x, shapes.broadcast_along(cls, x, attrs["shape"], attrs["dims"])),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return linear.broadcast_along(args[0], attrs["shape"], attrs["dims"])


class Reshape(Structural):
    """The elements of x, row-major, in another shape."""

    name = "secure.reshape"
    operands = ("x",)
    attributes = {"shape": SHAPE_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = bits_or_numbers(cls, types[0])
        return (moved(x, shapes.reshape(cls, x, attrs["shape"])),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return np.reshape(args[0], attrs["shape"])


class Transpose(Structural):
    """Axis i of the result is axis perm[i] of x."""

    name = "secure.transpose"
    operands = ("x",)
    attributes = {"perm": Attr("ints", "permutation of the axes")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = bits_or_numbers(cls, types[0])
        return (moved(x, shapes.transpose(cls, x, attrs["perm"])),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return args[0].transpose(attrs["perm"]).copy()


class Pad(SecureOperation):
    """x with the public raw ``value`` added low[i] times before and high[i] times after axis i."""

    name = "secure.pad"
    operands = ("x",)
    attributes = {
        "low": Attr("ints", "elements before, per axis"),
        "high": Attr("ints", "elements after, per axis"),
        "value": Attr("int", "public raw value; fits the operand's width", 0),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = secure(cls, types[0])
        shape = shapes.pad(cls, x, attrs["low"], attrs["high"])
        check_fits(cls, attrs["value"], x.width, "pad value")
        return (moved(x, shape),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return linear.pad_zero(args[0], attrs["low"], attrs["high"], attrs["value"])


class Slice(Structural):
    """Elements starts[i] <= index < limits[i] in steps of strides[i] along axis i."""

    name = "secure.slice"
    operands = ("x",)
    attributes = {
        "starts": Attr("ints", "first index, per axis"),
        "limits": Attr("ints", "end (exclusive), per axis"),
        "strides": Attr("ints", "step, per axis, positive"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = bits_or_numbers(cls, types[0])
        return (moved(x, shapes.slice_box(cls, x, **attrs)),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return linear.slice_box(args[0], **attrs)


class Gather(Structural):
    """Entry i along ``axis`` of the result is entry indices[i] of x; an index may repeat."""

    name = "secure.gather"
    operands = ("x",)
    attributes = {
        "axis": Attr("int", "axis, not negative"),
        "indices": Attr("ints", "public entries of the axis, not negative"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = bits_or_numbers(cls, types[0])
        return (moved(x, shapes.gather(cls, x, **attrs)),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return linear.gather(args[0], **attrs)


class Concat(Structural):
    """The operands, all bits or all of one format, one after another along an axis.

    The widest width counts.
    """

    name = "secure.concat"
    operands = ("xs*",)
    attributes = {"axis": Attr("int", "axis, not negative")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        xs = [bits_or_numbers(cls, t) for t in types]
        shape = shapes.concat(cls, xs, attrs["axis"])
        visibility = join_visibility(*(x.visibility for x in xs))
        if all(isinstance(x, BitType) for x in xs):
            return (BitType(shape, visibility),)
        numbers = alike(cls, types, shape=False)
        first = numbers[0]
        for x in numbers:
            if x.frac != first.frac:
                raise fail(cls, f"{first} and {x} do not concatenate: their fractions differ")
        width = max(x.width for x in numbers)
        return (SecureType(shape, first.ring, first.frac, width, visibility),)

    @classmethod
    def evaluate(cls, attrs: Attributes, context: Context, *args: Array) -> Array:
        return np.concatenate(args, axis=attrs["axis"])


OPERATIONS = (Broadcast, Reshape, Transpose, Pad, Slice, Gather, Concat)
"""In the order of the dialect."""
