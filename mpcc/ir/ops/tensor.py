"""Tensor-level operators: the model as real-valued arrays, with an owner for every value.

Shapes are static, layouts are ONNX's (NCHW data, OIHW kernels). The visibility of a result is the
join of its operands': ``public``, one owner, or ``secret`` once owners mix. Values of weights are
never in the IR: ``tensor.weight`` names an array that its owner keeps beside the module.

``evaluate`` is the numpy reference. It computes in the dtype of the arrays that it is given; the
float interpreter gives it binary64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.ir import linear
from mpcc.ir.define import Attr, Attributes, Dialect, InferenceError, Operation
from mpcc.ir.types import (
    OWNER_PLACES,
    Shape,
    TensorType,
    Type,
    element_count,
    join_visibility,
)

__all__ = [
    "DIALECT",
    "Add",
    "Conv",
    "Input",
    "MatMul",
    "MaxPool",
    "Output",
    "Pad",
    "Relu",
    "Reshape",
    "Sub",
    "TensorOperation",
    "Transpose",
    "Weight",
]

Array = npt.NDArray[Any]

_SHAPE = Attr("ints", "shape of the result")
_STRIDES = Attr("ints", "step per spatial axis")
_PADS = Attr("ints", "elements before every spatial axis, then after every one")


def _fail(cls: type[Operation], what: str) -> InferenceError:
    return InferenceError(f"{cls.name}: {what}")


def _tensor(cls: type[Operation], type_: Type) -> TensorType:
    if not isinstance(type_, TensorType):
        raise _fail(cls, f"needs a tensor, not {type_}")
    if type_.dtype not in ("f32", "f64"):
        raise _fail(cls, f"needs real numbers, not {type_}")
    return type_


def _operands(cls: type[Operation], types: Sequence[Type]) -> list[TensorType]:
    tensors = [_tensor(cls, t) for t in types]
    if any(t.dtype != tensors[0].dtype for t in tensors):
        raise _fail(cls, f"operands of different dtypes: {', '.join(map(str, types))}")
    return tensors


def _result(shape: Shape, *operands: TensorType) -> tuple[Type, ...]:
    visibility = join_visibility(*(t.visibility for t in operands))
    return (TensorType(shape, operands[0].dtype, visibility),)


def _check_shape(cls: type[Operation], shape: Shape) -> Shape:
    if any(d < 1 for d in shape):
        raise _fail(cls, f"dimensions must be positive, not {shape}")
    return shape


def _check_owner(cls: type[Operation], owner: str, *, public: bool) -> str:
    allowed = (*OWNER_PLACES, "public") if public else OWNER_PLACES
    if owner not in allowed:
        raise _fail(cls, f"owner must be {' or '.join(allowed)}, not {owner!r}")
    return owner


class TensorOperation(Operation):
    """A tensor-level operator with its numpy reference."""

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> Array:
        """The result for operand arrays of the inferred shapes; sources and sinks have none."""
        raise NotImplementedError(cls.name)


# --- sources and sinks ---------------------------------------------------------------------------


class Input(TensorOperation):
    """A graph input that its owner provides for every run."""

    name = "tensor.input"
    attributes = {
        "name": Attr("str", "input name"),
        "shape": _SHAPE,
        "dtype": Attr("str", "f32 or f64", "f32"),
        "owner": Attr("str", "client, model or public", "client"),
    }
    # Inputs are the program's interface: they stay even where the model ignores them.
    side_effect = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        owner = _check_owner(cls, attrs["owner"], public=True)
        type_ = TensorType(_check_shape(cls, attrs["shape"]), attrs["dtype"], owner)
        return (_tensor(cls, type_),)


class Weight(TensorOperation):
    """A constant of the model, kept by its owner under ``name``."""

    name = "tensor.weight"
    attributes = {
        "name": Attr("str", "name in the owner's constants"),
        "shape": _SHAPE,
        "owner": Attr("str", "model or public", "model"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        if attrs["owner"] not in ("model", "public"):
            raise _fail(cls, f"owner must be model or public, not {attrs['owner']!r}")
        return (TensorType(_check_shape(cls, attrs["shape"]), "f32", attrs["owner"]),)


class Output(TensorOperation):
    """Hands a value to its owner under ``name``: the only place where something is revealed."""

    name = "tensor.output"
    operands = ("x",)
    attributes = {
        "name": Attr("str", "output name"),
        "owner": Attr("str", "client or model", "client"),
    }
    side_effect = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        _tensor(cls, types[0])
        _check_owner(cls, attrs["owner"], public=False)
        return ()


# --- linear --------------------------------------------------------------------------------------


class Conv(TensorOperation):
    """Convolution (cross-correlation) of x [N,C,H,W] by w [O,C/groups,kh,kw], plus bias [O]."""

    name = "tensor.conv"
    operands = ("x", "w", "bias?")
    attributes = {
        "strides": _STRIDES,
        "pads": _PADS,
        "dilations": Attr("ints", "kernel step per spatial axis"),
        "groups": Attr("int", "channel groups", 1),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        tensors = _operands(cls, types)
        try:
            shape = linear.conv_output_shape(tensors[0].shape, tensors[1].shape, **attrs)
        except ValueError as error:
            raise _fail(cls, str(error)) from None
        if len(tensors) == 3 and tensors[2].shape != (shape[1],):
            raise _fail(cls, f"bias {tensors[2]} for {shape[1]} output channels")
        return _result(shape, *tensors)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> Array:
        result = linear.conv(args[0], args[1], **attrs)
        if len(args) == 3:
            result += args[2].reshape(-1, *[1] * (result.ndim - 2))
        return result


class MatMul(TensorOperation):
    """Product of a [M,K] and b [K,N]."""

    name = "tensor.matmul"
    operands = ("a", "b")

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = _operands(cls, types)
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
            raise _fail(cls, f"product of {a} and {b}")
        return _result((a.shape[0], b.shape[1]), a, b)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> Array:
        product: Array = args[0] @ args[1]
        return product


class _Broadcasting(TensorOperation):
    operands = ("a", "b")

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = _operands(cls, types)
        try:
            shape = np.broadcast_shapes(a.shape, b.shape)
        except (ValueError, OverflowError):
            raise _fail(cls, f"{a} and {b} do not broadcast") from None
        return _result(tuple(shape), a, b)


class Add(_Broadcasting):
    """a + b, with numpy broadcasting."""

    name = "tensor.add"

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> Array:
        return np.asarray(args[0] + args[1])


class Sub(_Broadcasting):
    """a - b, with numpy broadcasting."""

    name = "tensor.sub"

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> Array:
        return np.asarray(args[0] - args[1])


# --- not linear ----------------------------------------------------------------------------------


class Relu(TensorOperation):
    """max(x, 0), elementwise."""

    name = "tensor.relu"
    operands = ("x",)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _tensor(cls, types[0])
        return _result(x.shape, x)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> Array:
        return np.maximum(args[0], args[0].dtype.type(0))


class MaxPool(TensorOperation):
    """Maximum over windows of x [N,C,H,W]; padding never wins, so it is narrower than the window.

    Axis of size d gives floor((d + begin + end - kernel) / stride) + 1 elements.
    """

    name = "tensor.maxpool"
    operands = ("x",)
    attributes = {
        "kernel": Attr("ints", "window per spatial axis"),
        "strides": _STRIDES,
        "pads": _PADS,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _tensor(cls, types[0])
        kernel, strides, pads = attrs["kernel"], attrs["strides"], attrs["pads"]
        rank = len(x.shape) - 2
        if rank < 1 or (len(kernel), len(strides), len(pads)) != (rank, rank, 2 * rank):
            raise _fail(cls, f"kernel {kernel}, strides {strides}, pads {pads} do not fit {x}")
        if min((*kernel, *strides)) < 1 or min(pads) < 0:
            raise _fail(cls, "kernel and strides must be positive, pads not negative")
        out = []
        for i in range(rank):
            if max(pads[i], pads[rank + i]) >= kernel[i]:
                raise _fail(cls, f"pads {pads} are not narrower than the kernel {kernel}")
            room = x.shape[2 + i] + pads[i] + pads[rank + i] - kernel[i]
            if room < 0:
                raise _fail(cls, f"kernel {kernel} is larger than the padded {x}")
            out.append(room // strides[i] + 1)
        return _result((*x.shape[:2], *out), x)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> Array:
        x, kernel, strides, pads = args[0], attrs["kernel"], attrs["strides"], attrs["pads"]
        rank = len(kernel)
        # The maximum over a box is taken axis by axis.
        for i in range(rank):
            low, high, axis = pads[i], pads[rank + i], 2 + i
            width = [(0, 0)] * x.ndim
            width[axis] = (low, high)
            padded = np.pad(x, width, constant_values=-math.inf)
            count = (padded.shape[axis] - kernel[i]) // strides[i] + 1
            box = [slice(None)] * x.ndim
            result: Array | None = None
            for t in range(kernel[i]):
                box[axis] = slice(t, t + (count - 1) * strides[i] + 1, strides[i])
                part = padded[tuple(box)]
                result = part.copy() if result is None else np.maximum(result, part, out=result)
            x = x if result is None else result
        return x


# --- structural ----------------------------------------------------------------------------------


class Pad(TensorOperation):
    """x with ``value`` added low[i] times before and high[i] times after axis i."""

    name = "tensor.pad"
    operands = ("x",)
    attributes = {
        "low": Attr("ints", "elements before, per axis"),
        "high": Attr("ints", "elements after, per axis"),
        "value": Attr("float", "public constant", 0.0),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _tensor(cls, types[0])
        low, high = attrs["low"], attrs["high"]
        if len(low) != len(x.shape) or len(high) != len(x.shape) or min((*low, *high, 0)) < 0:
            raise _fail(cls, f"pads {low}, {high} do not fit {x}")
        if not math.isfinite(attrs["value"]):
            raise _fail(cls, f"the constant must be finite, not {attrs['value']}")
        return _result(tuple(a + d + b for a, d, b in zip(low, x.shape, high, strict=True)), x)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> Array:
        return linear.pad_zero(args[0], attrs["low"], attrs["high"], attrs["value"])


class Reshape(TensorOperation):
    """The same elements in another shape, row-major."""

    name = "tensor.reshape"
    operands = ("x",)
    attributes = {"shape": _SHAPE}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _tensor(cls, types[0])
        shape = _check_shape(cls, attrs["shape"])
        if element_count(shape) != element_count(x.shape):
            raise _fail(cls, f"{x} has not the {element_count(shape)} elements of {shape}")
        return _result(shape, x)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> Array:
        return args[0].reshape(attrs["shape"])


class Transpose(TensorOperation):
    """Axis i of the result is axis perm[i] of x."""

    name = "tensor.transpose"
    operands = ("x",)
    attributes = {"perm": Attr("ints", "permutation of the axes")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _tensor(cls, types[0])
        if sorted(attrs["perm"]) != list(range(len(x.shape))):
            raise _fail(cls, f"{attrs['perm']} is no permutation of the axes of {x}")
        return _result(tuple(x.shape[p] for p in attrs["perm"]), x)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> Array:
        return args[0].transpose(attrs["perm"])


DIALECT = Dialect.of(
    "tensor",
    [
        Input,
        Weight,
        Conv,
        MatMul,
        Add,
        Sub,
        Relu,
        MaxPool,
        Pad,
        Reshape,
        Transpose,
        Output,
    ],
)
"""All tensor-level operators."""
