"""Party-level structural and linear operators on ring tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir import linear
from mpcc.ir.define import Attr, Attributes, Operation
from mpcc.ir.limits import MAX_CONV_SIZE, MAX_ELEMENTS
from mpcc.ir.ops.party_base import (
    SHAPE_ATTR,
    Array,
    PartyOperation,
    checked_shape,
    fail,
    ring_result,
    ring_type,
    same_types,
)
from mpcc.ir.types import PartyType, RingType, Type, element_count

__all__ = ["Broadcast", "Concat", "Conv", "MatMul", "Pad", "Reshape", "Slice", "Transpose"]


class Reshape(PartyOperation):
    """The same elements in another shape."""

    name = "party.reshape"
    operands = ("x",)
    attributes = {"shape": SHAPE_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        shape = checked_shape(cls, attrs["shape"])
        if element_count(shape) != element_count(x.shape):
            raise fail(cls, f"{x} has not the elements of {shape}")
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
        if sorted(attrs["perm"]) != list(range(len(x.shape))):
            raise fail(cls, f"{attrs['perm']} is no permutation of the axes of {x}")
        return (ring_result(cls, tuple(x.shape[p] for p in attrs["perm"]), x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return np.ascontiguousarray(args[0].transpose(attrs["perm"]))


class Broadcast(PartyOperation):
    """x repeated to ``shape``; axis i of x becomes axis dims[i], where its size is equal or 1."""

    name = "party.broadcast"
    operands = ("x",)
    attributes = {"shape": SHAPE_ATTR, "dims": Attr("ints", "result axis of every axis of x")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        shape, dims = checked_shape(cls, attrs["shape"]), attrs["dims"]
        if len(dims) != len(x.shape) or sorted(set(dims)) != list(dims):
            raise fail(cls, f"dims {dims} must rise and have one axis per axis of {x}")
        for size, dim in zip(x.shape, dims, strict=True):
            if not 0 <= dim < len(shape) or size not in (1, shape[dim]):
                raise fail(cls, f"{x} does not broadcast to {shape} along {dims}")
        return (ring_result(cls, shape, x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        view = [1] * len(attrs["shape"])
        for size, dim in zip(args[0].shape, attrs["dims"], strict=True):
            view[dim] = size
        return np.ascontiguousarray(np.broadcast_to(args[0].reshape(view), attrs["shape"]))


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
        low, high = attrs["low"], attrs["high"]
        if len(low) != len(x.shape) or len(high) != len(x.shape) or min((*low, *high, 0)) < 0:
            raise fail(cls, f"pads {low}, {high} do not fit {x}")
        if not -(2 ** (x.ring - 1)) <= attrs["value"] < 2 ** (x.ring - 1):
            raise fail(cls, f"constant {attrs['value']} does not fit {x.ring} signed bits")
        shape = tuple(a + d + b for a, d, b in zip(low, x.shape, high, strict=True))
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
        box = (attrs["starts"], attrs["limits"], attrs["strides"])
        if any(len(b) != len(x.shape) for b in box):
            raise fail(cls, f"starts, limits and strides do not fit {x}")
        shape = []
        for size, start, limit, stride in zip(x.shape, *box, strict=True):
            if not (0 <= start <= limit <= size and 1 <= stride <= MAX_ELEMENTS):
                raise fail(cls, f"[{start}:{limit}:{stride}] of an axis of {size}")
            shape.append(-(-(limit - start) // stride))
        return (ring_result(cls, tuple(shape), x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        box = zip(attrs["starts"], attrs["limits"], attrs["strides"], strict=True)
        return np.ascontiguousarray(args[0][tuple(slice(*b) for b in box)])


class Concat(PartyOperation):
    """The operands one after another along an axis."""

    name = "party.concat"
    operands = ("xs*",)
    attributes = {"axis": Attr("int", "axis, not negative")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        if not types:
            raise fail(cls, "needs an operand")
        xs = [ring_type(cls, t) for t in types]
        axis, first = attrs["axis"], xs[0]
        if not 0 <= axis < len(first.shape):
            raise fail(cls, f"axis {axis} of {first}")
        for x in xs:
            rest = (x.shape[:axis], x.shape[axis + 1 :], x.ring, x.place)
            if rest != (first.shape[:axis], first.shape[axis + 1 :], first.ring, first.place):
                raise fail(cls, f"{first} and {x} do not concatenate along {axis}")
        size = sum(x.shape[axis] for x in xs)
        shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
        return (ring_result(cls, shape, first.ring, first.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return np.concatenate(args, axis=attrs["axis"])


def _pairs(cls: type[Operation], types: Sequence[Type]) -> list[tuple[RingType, RingType]]:
    xs = [ring_type(cls, t) for t in types]
    if not xs or len(xs) % 2 or len({(x.ring, x.place) for x in xs}) != 1:
        raise fail(cls, "needs pairs of ring tensors of one ring at one place")
    pairs = list(zip(xs[0::2], xs[1::2], strict=True))
    same_types(cls, [a for a, _ in pairs])
    same_types(cls, [b for _, b in pairs])
    return pairs


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
        x, w = _pairs(cls, types)[0]
        sizes = (*x.shape, *w.shape, attrs["groups"])
        sizes += (*attrs["strides"], *attrs["pads"], *attrs["dilations"])
        if max(sizes) > MAX_CONV_SIZE:
            raise fail(cls, f"sizes of a convolution are at most {MAX_CONV_SIZE}, not {max(sizes)}")
        try:
            shape = linear.conv_output_shape(x.shape, w.shape, **attrs)
        except ValueError as error:
            raise fail(cls, str(error)) from None
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
    """Sum over operand pairs of a [M,K] times b [K,N]."""

    name = "party.matmul"
    operands = ("ab*",)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = _pairs(cls, types)[0]
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
            raise fail(cls, f"product of {a} and {b}")
        return (ring_result(cls, (a.shape[0], b.shape[1]), a.ring, a.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        total = args[0] @ args[1]
        for a, b in zip(args[2::2], args[3::2], strict=True):
            total += a @ b
        return total
