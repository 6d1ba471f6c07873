"""Secure-level operators: fixed-point tensors in Z_2^ring, independent of any protocol.

Every approximation of the compiled program is visible here: formats, truncations, clamps and the
widths at which comparisons work. ``evaluate`` is the exact reference on raw values: int64 arrays
that hold centred representatives modulo 2^ring, boolean arrays for bits. An op's ``width``
attribute is the certified (or, under an observed range policy, assumed) k of its result,
``|raw| < 2^k``; it comes from the format analysis and is not derived here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.ir import linear
from mpcc.ir.define import Attr, Attributes, Dialect, InferenceError, Operation
from mpcc.ir.types import (
    VISIBILITIES,
    BitType,
    SecureType,
    Shape,
    Type,
    element_count,
    join_visibility,
)

__all__ = ["DIALECT", "MAX_TRUNCATE_SLACK", "SecureOperation", "wrap"]

Array = npt.NDArray[Any]

MAX_TRUNCATE_SLACK = 3
"""A stochastic truncation by f takes |raw| < 2^(ring-2) - 2^f, hence widths up to ring - 3."""

ROUNDINGS = ("stochastic", "exact")

_RING = Attr("int", "bits of the ring, 32 or 64", 64)
_WIDTH = Attr("int", "k of the result: |raw| < 2^k")
_SHAPE = Attr("ints", "shape of the result")


def wrap(raw: Array, ring: int) -> Array:
    """Centred representatives modulo 2^ring of an int64 array (which itself wraps at 64 bits)."""
    if ring == 64:
        return np.asarray(raw, np.int64)
    half = np.int64(1 << (ring - 1))
    mask = np.int64((1 << ring) - 1)
    return np.asarray(((raw + half) & mask) - half, np.int64)


def _fail(cls: type[Operation], what: str) -> InferenceError:
    return InferenceError(f"{cls.name}: {what}")


def _secure(cls: type[Operation], type_: Type) -> SecureType:
    if not isinstance(type_, SecureType):
        raise _fail(cls, f"needs a secure tensor, not {type_}")
    return type_


def _alike(cls: type[Operation], types: Sequence[Type], *, shape: bool) -> list[SecureType]:
    """Operands of one ring, and of one shape and fraction too if ``shape`` is set."""
    xs = [_secure(cls, t) for t in types]
    first = xs[0]
    for x in xs[1:]:
        if x.ring != first.ring or (shape and (x.shape, x.frac) != (first.shape, first.frac)):
            raise _fail(cls, f"operands do not fit: {first} and {x}")
    return xs


def _format(
    cls: type[Operation], shape: Shape, ring: int, frac: int, width: int, visibility: str
) -> SecureType:
    if ring not in (32, 64):
        raise _fail(cls, f"rings have 32 or 64 bits, not {ring}")
    if any(d < 0 for d in shape):
        raise _fail(cls, f"negative dimension in {shape}")
    if not 0 <= frac < ring:
        raise _fail(cls, f"{frac} fraction bits do not fit a ring of {ring} bits")
    if not 1 <= width < ring:
        raise _fail(cls, f"width {width} is not between 1 and {ring - 1}")
    if visibility not in VISIBILITIES:
        raise _fail(cls, f"unknown visibility {visibility!r}")
    return SecureType(tuple(shape), ring, frac, width, visibility)


def _fits(cls: type[Operation], raw: int, width: int, what: str) -> None:
    if abs(raw) >= 1 << width:
        raise _fail(cls, f"{what} {raw} does not fit the width {width}")


class SecureOperation(Operation):
    """A secure-level operator with its exact reference on raw values."""

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        """Raw result for raw operands.

        Args:
            attrs: completed attributes.
            operands: operand types.
            result: the result's type; gives ring and shape.
            *args: int64 raw values (bool for bits).
            coins: ``secure.truncate`` with stochastic rounding only: int64 in [0, 2^amount), of
                the operand's shape; None means zero (floor).
        """
        raise NotImplementedError(cls.name)


def _ring_of(type_: Type) -> int:
    if not isinstance(type_, SecureType):
        raise TypeError(f"{type_} has no ring")
    return type_.ring


# --- sources and sinks ---------------------------------------------------------------------------


class Input(SecureOperation):
    """An input of a run: its owner encodes round(x * 2^frac), half to even, and shares it.

    The owner's client refuses values outside [lo, hi] or not finite.
    """

    name = "secure.input"
    attributes = {
        "name": Attr("str", "input name"),
        "owner": Attr("str", "place that provides it: client, model or public"),
        "shape": _SHAPE,
        "ring": _RING,
        "frac": Attr("int", "fraction bits"),
        "width": _WIDTH,
        "lo": Attr("float", "smallest value accepted"),
        "hi": Attr("float", "largest value accepted"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        if not attrs["lo"] <= attrs["hi"]:
            raise _fail(cls, f"empty range [{attrs['lo']}, {attrs['hi']}]")
        bound = max(abs(attrs["lo"]), abs(attrs["hi"]))
        if np.rint(np.ldexp(bound, attrs["frac"])) >= 2.0 ** attrs["width"]:
            raise _fail(cls, f"values up to {bound} do not fit the width {attrs['width']}")
        return (
            _format(
                cls,
                attrs["shape"],
                attrs["ring"],
                attrs["frac"],
                attrs["width"],
                attrs["owner"],
            ),
        )


class Weight(SecureOperation):
    """A fixed-point constant of its owner's file, the same over a session."""

    name = "secure.weight"
    attributes = {
        "name": Attr("str", "name in the weights file"),
        "owner": Attr("str", "model, or public if every party may know it"),
        "shape": _SHAPE,
        "ring": _RING,
        "frac": Attr("int", "fraction bits"),
        "width": _WIDTH,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        return (
            _format(
                cls,
                attrs["shape"],
                attrs["ring"],
                attrs["frac"],
                attrs["width"],
                attrs["owner"],
            ),
        )


class Reveal(SecureOperation):
    """Opens x to its output's owner, who decodes raw / 2^frac; nobody else learns anything."""

    name = "secure.reveal"
    operands = ("x",)
    attributes = {
        "name": Attr("str", "output name"),
        "owner": Attr("str", "place that learns it: client, model or public"),
    }
    side_effect = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        _secure(cls, types[0])
        if attrs["owner"] not in VISIBILITIES or attrs["owner"] == "secret":
            raise _fail(cls, f"unknown owner {attrs['owner']!r}")
        return ()


# --- linear --------------------------------------------------------------------------------------


class Conv(SecureOperation):
    """Convolution of x [N,C,H,W] by w [O,C/groups,kh,kw], as in ONNX; fractions add up."""

    name = "secure.conv"
    operands = ("x", "w")
    attributes = {
        "strides": Attr("ints", "per spatial axis"),
        "pads": Attr("ints", "zeros before every spatial axis, then after every one"),
        "dilations": Attr("ints", "per spatial axis"),
        "groups": Attr("int", "channel groups", 1),
        "width": _WIDTH,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, w = _alike(cls, types, shape=False)
        try:
            shape = linear.conv_output_shape(
                x.shape,
                w.shape,
                attrs["strides"],
                attrs["pads"],
                attrs["dilations"],
                attrs["groups"],
            )
        except ValueError as error:
            raise _fail(cls, str(error)) from None
        visibility = join_visibility(x.visibility, w.visibility)
        return (_format(cls, shape, x.ring, x.frac + w.frac, attrs["width"], visibility),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        geometry = {k: attrs[k] for k in ("strides", "pads", "dilations", "groups")}
        return wrap(linear.conv(args[0], args[1], **geometry), _ring_of(result))


class MatMul(SecureOperation):
    """a [M,K] times b [K,N]; fractions add up."""

    name = "secure.matmul"
    operands = ("a", "b")
    attributes = {"width": _WIDTH}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = _alike(cls, types, shape=False)
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
            raise _fail(cls, f"product of {a} and {b}")
        visibility = join_visibility(a.visibility, b.visibility)
        shape = (a.shape[0], b.shape[1])
        return (_format(cls, shape, a.ring, a.frac + b.frac, attrs["width"], visibility),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        return wrap(args[0] @ args[1], _ring_of(result))


class _Binary(SecureOperation):
    operands = ("a", "b")
    attributes = {"width": _WIDTH}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = _alike(cls, types, shape=True)
        visibility = join_visibility(a.visibility, b.visibility)
        return (_format(cls, a.shape, a.ring, a.frac, attrs["width"], visibility),)


class Add(_Binary):
    """a + b of one shape and one fraction."""

    name = "secure.add"

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        with np.errstate(over="ignore"):
            return wrap(args[0] + args[1], _ring_of(result))


class Sub(_Binary):
    """a - b of one shape and one fraction."""

    name = "secure.sub"

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        with np.errstate(over="ignore"):
            return wrap(args[0] - args[1], _ring_of(result))


class ShiftLeft(SecureOperation):
    """raw * 2^amount at ``amount`` more fraction bits: the value stays the same."""

    name = "secure.shift_left"
    operands = ("x",)
    attributes = {"amount": Attr("int", "bits"), "width": _WIDTH}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _secure(cls, types[0])
        if attrs["amount"] < 0:
            raise _fail(cls, f"negative amount {attrs['amount']}")
        frac = x.frac + attrs["amount"]
        return (_format(cls, x.shape, x.ring, frac, attrs["width"], x.visibility),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        return wrap(np.left_shift(args[0], np.int64(attrs["amount"])), _ring_of(result))


class Truncate(SecureOperation):
    """raw / 2^amount at ``amount`` fewer fraction bits.

    ``stochastic``: floor((raw + g) / 2^amount) with a coin g uniform in [0, 2^amount) per element,
    which the parties know: unbiased, error below one unit. The operand must satisfy
    |raw| < 2^(ring-2) - 2^amount, hence its width is at most ring - 3.
    ``exact``: floor(raw / 2^amount).
    """

    name = "secure.truncate"
    operands = ("x",)
    attributes = {
        "amount": Attr("int", "bits dropped"),
        "rounding": Attr("str", "stochastic or exact", "stochastic"),
        "width": _WIDTH,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _secure(cls, types[0])
        if not 1 <= attrs["amount"] <= x.frac:
            raise _fail(cls, f"cannot drop {attrs['amount']} of {x.frac} fraction bits")
        if attrs["rounding"] not in ROUNDINGS:
            raise _fail(cls, f"unknown rounding {attrs['rounding']!r}")
        if x.width > x.ring - MAX_TRUNCATE_SLACK:
            raise _fail(cls, f"{x} is wider than {x.ring - MAX_TRUNCATE_SLACK} bits")
        frac = x.frac - attrs["amount"]
        return (_format(cls, x.shape, x.ring, frac, attrs["width"], x.visibility),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        (x,) = args
        amount = np.int64(attrs["amount"])
        if coins is None or attrs["rounding"] == "exact":
            return np.asarray(x >> amount, np.int64)
        # floor((x + g) / 2^a) without forming x + g, which could pass 2^63.
        low = x & np.int64((1 << attrs["amount"]) - 1)
        return np.asarray((x >> amount) + ((low + coins) >> amount), np.int64)


# --- comparison and selection --------------------------------------------------------------------


class Negative(SecureOperation):
    """The bit [raw < 0], compared modulo 2^(k+1) for the operand's width k."""

    name = "secure.negative"
    operands = ("x",)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _secure(cls, types[0])
        return (BitType(x.shape, x.visibility),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        return np.asarray(args[0] < 0)


class Select(SecureOperation):
    """x where (bit xor invert) is one, zero elsewhere."""

    name = "secure.select"
    operands = ("bit", "x")
    attributes = {"invert": Attr("bool", "select where the bit is zero", False), "width": _WIDTH}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        bit, x = types[0], _secure(cls, types[1])
        if not isinstance(bit, BitType) or bit.shape != x.shape:
            raise _fail(cls, f"{bit} does not select elements of {x}")
        visibility = join_visibility(bit.visibility, x.visibility)
        return (_format(cls, x.shape, x.ring, x.frac, attrs["width"], visibility),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        bit, x = args
        return np.where(bit != attrs["invert"], x, np.int64(0))


class Clamp(SecureOperation):
    """min(max(raw, lo), hi), compared at the operand's width."""

    name = "secure.clamp"
    operands = ("x",)
    attributes = {
        "lo": Attr("int", "smallest raw value of the result"),
        "hi": Attr("int", "largest raw value of the result"),
        "width": _WIDTH,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _secure(cls, types[0])
        if attrs["lo"] > attrs["hi"]:
            raise _fail(cls, f"empty range [{attrs['lo']}, {attrs['hi']}]")
        _fits(cls, attrs["lo"], attrs["width"], "lower bound")
        _fits(cls, attrs["hi"], attrs["width"], "upper bound")
        return (_format(cls, x.shape, x.ring, x.frac, attrs["width"], x.visibility),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        return np.asarray(np.clip(args[0], np.int64(attrs["lo"]), np.int64(attrs["hi"])), np.int64)


# --- shape ---------------------------------------------------------------------------------------


def _reshaped(x: SecureType, shape: Sequence[int]) -> SecureType:
    return SecureType(tuple(shape), x.ring, x.frac, x.width, x.visibility)


class Broadcast(SecureOperation):
    """x repeated to ``shape``; axis i of x becomes axis dims[i], where its size is equal or 1."""

    name = "secure.broadcast"
    operands = ("x",)
    attributes = {"shape": _SHAPE, "dims": Attr("ints", "result axis of every axis of x")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, shape, dims = _secure(cls, types[0]), attrs["shape"], attrs["dims"]
        if len(dims) != len(x.shape) or sorted(set(dims)) != list(dims):
            raise _fail(cls, f"dims {dims} must rise and have one axis per axis of {x}")
        for size, dim in zip(x.shape, dims, strict=True):
            if not 0 <= dim < len(shape) or size not in (1, shape[dim]):
                raise _fail(cls, f"{x} does not broadcast to {shape} along {dims}")
        return (_reshaped(x, shape),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        view = [1] * len(attrs["shape"])
        for size, dim in zip(args[0].shape, attrs["dims"], strict=True):
            view[dim] = size
        return np.ascontiguousarray(np.broadcast_to(args[0].reshape(view), attrs["shape"]))


class Reshape(SecureOperation):
    """The elements of x, row-major, in another shape."""

    name = "secure.reshape"
    operands = ("x",)
    attributes = {"shape": _SHAPE}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, shape = _secure(cls, types[0]), attrs["shape"]
        if min((*shape, 0)) < 0 or element_count(shape) != element_count(x.shape):
            raise _fail(cls, f"{x} cannot take the shape {shape}")
        return (_reshaped(x, shape),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        return np.reshape(args[0], attrs["shape"])


class Transpose(SecureOperation):
    """Axis i of the result is axis perm[i] of x."""

    name = "secure.transpose"
    operands = ("x",)
    attributes = {"perm": Attr("ints", "permutation of the axes")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, perm = _secure(cls, types[0]), attrs["perm"]
        if sorted(perm) != list(range(len(x.shape))):
            raise _fail(cls, f"{perm} is no permutation of the axes of {x}")
        return (_reshaped(x, [x.shape[p] for p in perm]),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        return np.ascontiguousarray(args[0].transpose(attrs["perm"]))


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
        x, low, high = _secure(cls, types[0]), attrs["low"], attrs["high"]
        if len(low) != len(x.shape) or len(high) != len(x.shape) or min((*low, *high, 0)) < 0:
            raise _fail(cls, f"pads {low}, {high} do not fit {x}")
        _fits(cls, attrs["value"], x.width, "pad value")
        return (_reshaped(x, [a + d + b for a, d, b in zip(low, x.shape, high, strict=True)]),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        return linear.pad_zero(args[0], attrs["low"], attrs["high"], attrs["value"])


class Slice(SecureOperation):
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
        x = _secure(cls, types[0])
        box = (attrs["starts"], attrs["limits"], attrs["strides"])
        if any(len(b) != len(x.shape) for b in box):
            raise _fail(cls, f"starts, limits and strides do not fit {x}")
        shape = []
        for size, start, limit, stride in zip(x.shape, *box, strict=True):
            if not 0 <= start <= limit <= size or stride < 1:
                raise _fail(cls, f"[{start}:{limit}:{stride}] of an axis of {size}")
            shape.append(-(-(limit - start) // stride))
        return (_reshaped(x, shape),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        box = zip(attrs["starts"], attrs["limits"], attrs["strides"], strict=True)
        return np.ascontiguousarray(args[0][tuple(slice(*b) for b in box)])


class Concat(SecureOperation):
    """The operands, of one format, one after another along an axis; the widest width counts."""

    name = "secure.concat"
    operands = ("xs*",)
    attributes = {"axis": Attr("int", "axis, not negative")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        if not types:
            raise _fail(cls, "needs an operand")
        xs = _alike(cls, types, shape=False)
        axis, first = attrs["axis"], xs[0]
        if not 0 <= axis < len(first.shape):
            raise _fail(cls, f"axis {axis} of {first}")
        for x in xs:
            rest = (x.shape[:axis], x.shape[axis + 1 :], x.frac)
            if rest != (first.shape[:axis], first.shape[axis + 1 :], first.frac):
                raise _fail(cls, f"{first} and {x} do not concatenate along {axis}")
        size = sum(x.shape[axis] for x in xs)
        shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
        visibility = join_visibility(*(x.visibility for x in xs))
        width = max(x.width for x in xs)
        return (SecureType(shape, first.ring, first.frac, width, visibility),)

    @classmethod
    def evaluate(
        cls,
        attrs: Attributes,
        operands: Sequence[Type],
        result: Type,
        *args: Array,
        coins: Array | None = None,
    ) -> Array:
        return np.concatenate(args, axis=attrs["axis"])


DIALECT = Dialect.of(
    "secure",
    [
        Input,
        Weight,
        Reveal,
        Conv,
        MatMul,
        Add,
        Sub,
        ShiftLeft,
        Truncate,
        Negative,
        Select,
        Clamp,
        Broadcast,
        Reshape,
        Transpose,
        Pad,
        Slice,
        Concat,
    ],
)
"""All secure-level operators."""
