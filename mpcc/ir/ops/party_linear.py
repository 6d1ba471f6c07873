"""Party-level structural and linear operators on ring tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir import linear, shapes
from mpcc.ir.define import Attr, Attributes
from mpcc.ir.limits import MAX_CONV_SIZE, MAX_ELEMENTS
from mpcc.ir.ops.party_base import (
    SHAPE_ATTR,
    Array,
    PartyOperation,
    checked_shape,
    fail,
    ring_pairs,
    ring_result,
    ring_type,
)
from mpcc.ir.types import PartyType, Type

__all__ = [
    "Broadcast",
    "Concat",
    "Conv",
    "Gather",
    "MatMul",
    "Pad",
    "ReduceSum",
    "Reshape",
    "Slice",
    "Transpose",
]


class Reshape(PartyOperation):
    """The same elements in another shape."""

    name = "party.reshape"
    operands = ("x",)
    attributes = {"shape": SHAPE_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        shape = shapes.reshape(cls, x, checked_shape(cls, attrs["shape"]))
        return (ring_result(cls, shape, x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0].reshape(attrs["shape"])


class Transpose(PartyOperation):
    """Axis i of the result is axis perm[i] of x."""

    name = "party.transpose"
    operands = ("x",)
    attributes = {"perm": Attr("ints", "permutation of the axes")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        shape = shapes.transpose(cls, x, attrs["perm"])
        return (ring_result(cls, shape, x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0].transpose(attrs["perm"]).copy()


class Broadcast(PartyOperation):
    """x repeated to ``shape``; axis i of x becomes axis dims[i], where its size is equal or 1."""

    name = "party.broadcast"
    operands = ("x",)
    attributes = {"shape": SHAPE_ATTR, "dims": Attr("ints", "result axis of every axis of x")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        wanted = checked_shape(cls, attrs["shape"])
        shape = shapes.broadcast_along(cls, x, wanted, attrs["dims"])
        return (ring_result(cls, shape, x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return linear.broadcast_along(args[0], attrs["shape"], attrs["dims"])


class Pad(PartyOperation):
    """x with ``value`` added low[i] times before and high[i] times after axis i."""

    name = "party.pad"
    operands = ("x",)
    attributes = {
        "low": Attr("ints", "elements before, per axis"),
        "high": Attr("ints", "elements after, per axis"),
        "value": Attr("int", "public constant, as a signed word", 0),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        shape = shapes.pad(cls, x, attrs["low"], attrs["high"])
        if not -(2 ** (x.ring - 1)) <= attrs["value"] < 2 ** (x.ring - 1):
            raise fail(cls, f"constant {attrs['value']} does not fit {x.ring} signed bits")
        return (ring_result(cls, shape, x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        value = attrs["value"] % 2 ** (8 * args[0].dtype.itemsize)
        return linear.pad_zero(args[0], attrs["low"], attrs["high"], value)


class Slice(PartyOperation):
    """Elements starts[i] <= index < limits[i] in steps of strides[i] along axis i."""

    name = "party.slice"
    operands = ("x",)
    attributes = {
        "starts": Attr("ints", "first index, per axis"),
        "limits": Attr("ints", "end (exclusive), per axis"),
        "strides": Attr("ints", "step, per axis, positive"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        shape = shapes.slice_box(cls, x, **attrs, most=MAX_ELEMENTS)
        return (ring_result(cls, shape, x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return linear.slice_box(args[0], **attrs)


class Gather(PartyOperation):
    """Entry i along ``axis`` of the result is entry indices[i] of x; an index may repeat."""

    name = "party.gather"
    operands = ("x",)
    attributes = {
        "axis": Attr("int", "axis, not negative"),
        "indices": Attr("ints", "public entries of the axis, not negative"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        return (ring_result(cls, shapes.gather(cls, x, **attrs), x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return linear.gather(args[0], **attrs)


class Concat(PartyOperation):
    """The operands one after another along an axis."""

    name = "party.concat"
    operands = ("xs*",)
    attributes = {"axis": Attr("int", "axis, not negative")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        xs = [ring_type(cls, t) for t in types]
        shape = shapes.concat(cls, xs, attrs["axis"])
        first = xs[0]
        for x in xs:
            if (x.ring, x.place) != (first.ring, first.place):
                raise fail(cls, f"{first} and {x} differ in ring or place")
        return (ring_result(cls, shape, first.ring, first.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return np.concatenate(args, axis=attrs["axis"])


class ReduceSum(PartyOperation):
    """The sum over ``axes``, which the result has no more; zero where an axis is empty."""

    name = "party.reduce_sum"
    operands = ("x",)
    attributes = {"axes": Attr("ints", "axes summed, rising")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        return (ring_result(cls, shapes.reduce(cls, x, attrs["axes"]), x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        (x,) = args
        return np.asarray(x.sum(axis=attrs["axes"], dtype=x.dtype))


class Conv(PartyOperation):
    """Sum over operand pairs of the convolution of x [N,C,H,W] by w [O,C/groups,kh,kw]."""

    name = "party.conv"
    operands = ("xw*",)
    attributes = {
        "strides": Attr("ints", "per spatial axis"),
        "pads": Attr("ints", "zeros before every spatial axis, then after every one"),
        "dilations": Attr("ints", "per spatial axis"),
        "groups": Attr("int", "channel groups", 1),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, w = ring_pairs(cls, types)[0]
        sizes = (*x.shape, *w.shape, attrs["groups"])
        sizes += (*attrs["strides"], *attrs["pads"], *attrs["dilations"])
        if max(sizes) > MAX_CONV_SIZE:
            raise fail(cls, f"sizes of a convolution are at most {MAX_CONV_SIZE}, not {max(sizes)}")
        shape = shapes.conv(cls, x, w, **attrs)
        return (ring_result(cls, shape, x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        total = linear.conv(args[0], args[1], **attrs)
        for x, w in zip(args[2::2], args[3::2], strict=True):
            total += linear.conv(x, w, **attrs)
        return total


class MatMul(PartyOperation):
    """Sum over operand pairs of a [...,M,K] times b [...,K,N], matrix by matrix, or one b [K,N]."""

    name = "party.matmul"
    operands = ("ab*",)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = ring_pairs(cls, types)[0]
        return (ring_result(cls, shapes.matmul_stack(cls, a, b), a.ring, a.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        total = args[0] @ args[1]
        for a, b in zip(args[2::2], args[3::2], strict=True):
            total += a @ b
        return total
