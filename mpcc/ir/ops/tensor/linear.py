"""Tensor-level products: convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir import linear, shapes
from mpcc.ir.define import Attr, Attributes, Operation, fail
from mpcc.ir.intervals import Enclosure, Interval, Rounding, bilinear, largest, widen
from mpcc.ir.ops.tensor.base import (
    PADS_ATTR,
    STRIDES_ATTR,
    Array,
    Kind,
    TensorOperation,
    reals,
    result,
)
from mpcc.ir.types import Shape, TensorType, Type

__all__ = ["Conv", "ConvTranspose", "MatMul"]


class Conv(TensorOperation):
    """Convolution (cross-correlation) of x [N,C,*spatial] by w [O,C/groups,*kernel], plus bias [O].

    One to three spatial axes.
    """

    name = "tensor.conv"
    kind = Kind.PRODUCT
    operands = ("x", "w", "bias?")
    attributes = {
        "strides": STRIDES_ATTR,
        "pads": PADS_ATTR,
        "dilations": Attr("ints", "kernel step per spatial axis"),
        "groups": Attr("int", "channel groups", 1),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        tensors = reals(cls, types)
        _check_layer(cls, tensors[0])
        shape = shapes.conv(cls, tensors[0], tensors[1], **attrs)
        _check_bias(cls, tensors, shape)
        return (result(shape, *tensors),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (_biased(linear.conv(args[0], args[1], **attrs), args),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        product = bilinear(operands[0], operands[1], lambda a, b: linear.conv(a, b, **attrs))
        return _enclose_layer(product, operands, rounding)


class ConvTranspose(TensorOperation):
    """The transpose of a convolution: of x [N,C,*spatial] by w [C,O/groups,*kernel], plus bias [O].

    Element i of x, times the kernel, is added from stride * i - begin on. An axis of size d gives
    stride * (d - 1) + dilation * (kernel - 1) + 1 + output_padding - begin - end elements.
    """

    name = "tensor.conv_transpose"
    kind = Kind.PRODUCT
    operands = ("x", "w", "bias?")
    attributes = {
        "strides": Attr("ints", "distance of neighbours in the result, per spatial axis"),
        "pads": Attr("ints", "elements cut off before every spatial axis, then after every one"),
        "dilations": Attr("ints", "kernel step per spatial axis"),
        "groups": Attr("int", "channel groups", 1),
        "output_padding": Attr("ints", "elements added after every spatial axis"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        tensors = reals(cls, types)
        _check_layer(cls, tensors[0])
        shape = shapes.conv_transpose(cls, tensors[0], tensors[1], **attrs)
        _check_bias(cls, tensors, shape)
        return (result(shape, *tensors),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (_biased(linear.conv_transpose(args[0], args[1], **attrs), args),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        x, w = operands[:2]
        product = bilinear(x, w, lambda a, b: linear.conv_transpose(a, b, **attrs))
        return _enclose_layer(product, operands, rounding)


def _check_layer(cls: type[Operation], x: TensorType) -> None:
    if not 3 <= len(x.shape) <= 5:
        raise fail(cls, f"needs one to three spatial axes, not {x}")


def _check_bias(cls: type[Operation], tensors: Sequence[TensorType], shape: Shape) -> None:
    if len(tensors) == 3 and tensors[2].shape != (shape[1],):
        raise fail(cls, f"bias {tensors[2]} for {shape[1]} output channels")


def _biased(product: Array, args: Sequence[Array]) -> Array:
    if len(args) == 3:
        product += _per_channel(args[2], product.ndim)
    return product


def _enclose_layer(
    product: Interval, operands: Sequence[Interval], rounding: Rounding
) -> Enclosure:
    if len(operands) == 2:
        return Enclosure((widen(product, rounding.unit),), product.magnitude)
    bias = operands[2].map(lambda b: _per_channel(b, product.lo.ndim))
    total = Interval(product.lo + bias.lo, product.hi + bias.hi)
    # The bias is broadcast and added as a value of its own.
    return Enclosure((widen(total, rounding.unit),), largest((product, bias)))


def _per_channel(bias: Array, rank: int) -> Array:
    return bias.reshape(-1, *[1] * (rank - 2))


class MatMul(TensorOperation):
    """Products of a [...,M,K] and b [...,K,N]; leading axes broadcast by numpy's rules."""

    name = "tensor.matmul"
    kind = Kind.PRODUCT
    operands = ("a", "b")

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = reals(cls, types)
        return (result(shapes.matmul(cls, a, b), a, b),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (np.asarray(args[0] @ args[1]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        a, b = operands
        product = bilinear(a, b, lambda x, y: np.asarray(x @ y))
        return Enclosure((widen(product, rounding.unit),))


OPERATIONS = (Conv, ConvTranspose, MatMul)
"""In the order of the dialect."""
