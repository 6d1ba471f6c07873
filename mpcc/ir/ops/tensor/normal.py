"""Tensor-level functions of values that may be large or small by orders of magnitude.

Quotients, roots and logarithms, and the layers that are made of them: softmax and normalisation.
A layer is one operator because its rule knows what the parts do not: behind the subtraction of the
maximum an exponent is not positive, a sum of such exponentials is at least one, and no element is
larger than the norm of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mpcc.ir import shapes
from mpcc.ir.define import Attr, Attributes, fail
from mpcc.ir.intervals import Enclosure, Interval, Rounding
from mpcc.ir.ops.tensor.base import Array, Kind, TensorOperation, real, reals, result
from mpcc.ir.types import Shape, Type

__all__ = [
    "LOG_BITS",
    "QUOTIENT_BITS",
    "Div",
    "Log",
    "LogSoftmax",
    "Normalize",
    "Quotient",
    "Reciprocal",
    "Rsqrt",
    "Softmax",
    "Sqrt",
    "quotient",
    "softmax_digits",
]

QUOTIENT_BITS = 10
"""Reciprocals and inverse roots are at most 2^10: nearer to zero, operands count as that far."""

LOG_BITS = 34
"""Logarithms are of 2^-34 at least, -102 dB: whatever is below, or negative, counts as that."""

_MOST_DIGITS = 23
"""Of exponentials: series of the exponential end at 24."""

_RELATIVE = 2.0**-16
_UNITS = 2.0
"""The fixed-point form of a function is within two units of the result, and relatively within the
larger of 2^-16 and a quarter of a unit."""

_TRUNCATED = 61
"""Bits of what a ring of 64 bits truncates."""

_NORMALISED_BITS = 56
"""Operands of this many bits are normalised as they are; of wider ones, low bits are dropped."""


def _loosened(
    lo: Array, hi: Array, rounding: Rounding, units: float = _UNITS, relative: float = _RELATIVE
) -> Interval:
    """Bounds that hold for the fixed-point form too."""
    relative = max(relative, rounding.unit / 4) if relative else 0.0
    slack = [units * rounding.unit + relative * np.abs(end) for end in (lo, hi)]
    return Interval(np.asarray(lo - slack[0]), np.asarray(hi + slack[1]))


class _Normalised(TensorOperation):
    """What finds the order of magnitude of every element of its last operand."""

    @classmethod
    def extra_bits(cls, attrs: Attributes, shape: Shape) -> int:
        return _TRUNCATED - _NORMALISED_BITS


class _Function(_Normalised):
    """An elementwise function of one operand."""

    operands = ("x",)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(x.shape, x),)


def _inverse(x: Interval, function: Callable[[Array], Array], unit: float) -> tuple[Array, Array]:
    """Bounds of a falling positive function of positive numbers, which is kept below its largest.

    Operands below one unit count as some positive number below it, depending on their fraction.
    """
    most = 2.0**QUOTIENT_BITS
    lo = function(np.maximum(x.hi, unit))
    hi = np.where(x.lo < unit, most, function(np.maximum(x.lo, unit)))
    return np.minimum(lo, most), np.minimum(hi, most)


# --- quotients -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quotient:
    """How a / b is computed so that it is as near to the quotient as the range rules say.

    With |b| = m 4^i 2^low for a mantissa m in [1, 4) and buckets i = 0 .. B - 1, a / |b| is
    a f(m) 4^(B - 1 - i) 2^-top for f(m) = 1 / m and top = low + 2 (B - 1).

    Attributes:
        digits: good bits of f(m) behind the point; it has 2 more.
        kept: fraction bits of 1 / |b|, which then multiplies a. None: a multiplies f(m) before the
            power does, since 1 / |b| would lose digits that a wide a or b needs.
        first: then, fraction bits that a f(m) is truncated to.
        second: fraction bits of that times 2^(B - 1 - i), which is multiplied by this power again.
            None: one multiplication by 4^(B - 1 - i) does.
    """

    digits: int
    kept: int | None = None
    first: int = 0
    second: int | None = None


def quotient(frac: int, a: int, b: int, result: int) -> Quotient | int:
    """The cheapest way to divide numbers of ``frac`` fraction bits.

    Before its last truncation the quotient is off by at most half a unit 2^-frac and, relatively,
    9 / 64 of a unit or 2^-18: docs/numbers.md, Limits of quotients.

    Args:
        frac: fraction bits.
        a: dividends are below 2^a in absolute value.
        b: divisors are below 2^b.
        result: results are below 2^result.

    Returns:
        How; or, where nothing fits, by how many bits the results are too large at least.
    """
    digits, low, buckets = _mantissas(frac, b)
    top, a = low + 2 * (buckets - 1), max(a, 1 - frac)
    # An inverse with all of its digits but one is off by 2 2^-digits of the quotient.
    most = digits + 1 + top
    kept = min(most, _TRUNCATED - frac - result, _TRUNCATED + low - 1)
    if 2 * buckets + digits + 6 <= _TRUNCATED and kept >= max(0, min(most, a + frac + 1)):
        return Quotient(digits, kept=kept)
    whole = frac + digits + 2
    missing = a + whole + 1 - _TRUNCATED
    if missing > 0:
        return missing
    # Of a f(m) one digit may go too; or it is a quarter of a unit, magnified.
    enough = min(whole - 1, frac + 2 - low)
    room = _TRUNCATED - result - 1 - max(top, 0)
    first = min(whole - 1, room)
    if first >= enough:
        return Quotient(digits, first=first)
    first = min(whole - 1, _TRUNCATED - (a + 1) - buckets)
    second = min(first - 1, room)
    missing = max(enough - first, frac + 1 + buckets - top - second, -second)
    return missing if missing > 0 else Quotient(digits, first=first, second=second)


def _mantissas(frac: int, b: int) -> tuple[int, int, int]:
    """Digits, low and B for divisors below 2^b, as their normalisation has them."""
    start = max(0, frac - QUOTIENT_BITS)
    buckets = max(1, -(-(max(1, b + frac) - start) // 2))
    return max(6, min(frac + 6, 22)), start - frac, buckets


def _bits(x: Interval) -> int:
    """The smallest b with |x| < 2^b."""
    return math.frexp(x.magnitude)[1]


class Reciprocal(_Function):
    """1 / x; at most 2^10, with the sign of x, where x is near zero."""

    name = "tensor.reciprocal"
    kind = Kind.FUNCTION

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(1 / args[0]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        return Enclosure((_loosened(*_reciprocal(operands[0], rounding.unit), rounding),))


def _reciprocal(x: Interval, unit: float) -> tuple[Array, Array]:
    """Bounds of 1 / x."""
    low, high = _inverse(x, np.reciprocal, unit)
    below, above = _inverse(Interval(-x.hi, -x.lo), np.reciprocal, unit)
    most = 2.0**QUOTIENT_BITS
    lo = np.where(x.lo > 0, low, np.where(x.hi < 0, -above, -most))
    hi = np.where(x.lo > 0, high, np.where(x.hi < 0, -below, most))
    return lo, hi


class Div(_Normalised):
    """a / b, with numpy broadcasting; b nearer to zero than 2^-10 counts as that far from it."""

    name = "tensor.div"
    kind = Kind.FUNCTION
    operands = ("a", "b")

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = reals(cls, types)
        return (result(shapes.broadcast(cls, a, b), a, b),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(args[0] / args[1]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        a, inverse = operands[0], _reciprocal(operands[1], rounding.unit)
        corners = [np.asarray(x * y) for x in (a.lo, a.hi) for y in inverse]
        found = _loosened(np.minimum.reduce(corners), np.maximum.reduce(corners), rounding)
        frac, inner = round(-math.log2(rounding.unit)), 0.0
        way = quotient(frac, _bits(a), _bits(operands[1]), _bits(found))
        if isinstance(way, int):
            # Nothing that this large fits, so that operands are clamped, or named as too wide.
            inner = math.ldexp(0.75, max(_bits(found), _TRUNCATED - frac) + way)
        return Enclosure((found,), inner)


class Rsqrt(_Function):
    """1 / sqrt(x + epsilon); at most 2^10 where the sum is near zero or below."""

    name = "tensor.rsqrt"
    kind = Kind.FUNCTION
    fine = True
    attributes = {"epsilon": Attr("float", "public, not negative", 0.0)}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        _check_epsilon(cls, attrs)
        return super().infer(types, attrs)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        (x,) = args
        with np.errstate(all="ignore"):
            return (np.asarray(1 / np.sqrt(x + x.dtype.type(attrs["epsilon"]))),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        epsilon, unit = attrs["epsilon"], rounding.unit
        # What is added is rounded to the operand's fraction, an activation's or a product's.
        off = 0.0 if (epsilon / unit).is_integer() else min(unit / 2, epsilon)
        x = Interval(operands[0].lo + (epsilon - off), operands[0].hi + (epsilon + off))
        lo, hi = _inverse(x, lambda y: 1 / np.sqrt(y), rounding.unit)
        return Enclosure((_loosened(lo, hi, rounding),))


def _check_epsilon(cls: type[TensorOperation], attrs: Attributes) -> None:
    if not 0.0 <= attrs["epsilon"] < math.inf:
        raise fail(cls, f"epsilon must not be negative, but finite, not {attrs['epsilon']}")


class Sqrt(_Function):
    """The square root of x; 0 where x is negative."""

    name = "tensor.sqrt"
    kind = Kind.NONLINEAR
    fine = True

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.sqrt(args[0]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,) = operands
        # Below one unit of the operand, the result is zero.
        lo = np.sqrt(np.where(x.lo < rounding.unit, 0.0, x.lo))
        return Enclosure((_loosened(lo, np.sqrt(np.maximum(x.hi, 0.0)), rounding),))


class Log(_Function):
    """The natural logarithm of x; that of 2^-34 where x is smaller or negative."""

    name = "tensor.log"
    kind = Kind.NONLINEAR
    fine = True

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.log(args[0]),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,), least = operands, 2.0**-LOG_BITS
        # What is below one unit of the operand counts as a unit.
        hi = np.log(np.maximum(x.hi, np.maximum(least, rounding.unit)))
        return Enclosure((_loosened(np.log(np.maximum(x.lo, least)), hi, rounding),))


# --- softmax -------------------------------------------------------------------------------------


class _Softmax(TensorOperation):
    kind = Kind.NONLINEAR
    operands = ("x",)
    attributes = {"axis": Attr("int", "not negative")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        if not 0 <= attrs["axis"] < len(x.shape):
            raise fail(cls, f"axis {attrs['axis']} of {x}")
        if x.shape[attrs["axis"]] < 1:
            raise fail(cls, f"{x} has no elements along axis {attrs['axis']}")
        return (result(x.shape, x),)


def _others(own: Array, others: Array, axis: int) -> Array:
    """For every element: log(1 + the sum over the others along an axis of exp(others - own)).

    The largest one's part is left out of its own sum before it is added up: subtracted again, it
    would take those with it that are far smaller.
    """
    first = np.argmax(others, axis=axis, keepdims=True)
    most = np.take_along_axis(others, first, axis)
    parts = np.exp(others - most)
    without = others.copy()
    np.put_along_axis(without, first, -np.inf, axis)
    second = without.max(axis=axis, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Every other sum has the largest one's part, which is 1.
        sums = most + np.log(np.maximum(parts.sum(axis=axis, keepdims=True) - parts, 1.0))
        beside = np.where(np.isfinite(second), np.exp(without - second), 0.0)
        least = second + np.log(beside.sum(axis=axis, keepdims=True))
    np.put_along_axis(sums, first, np.where(np.isfinite(second), least, -np.inf), axis)
    return np.asarray(np.logaddexp(0.0, sums - own))


def softmax_digits(frac: int, count: int, *, log: bool = False) -> int:
    """Good bits of the exponentials of a softmax, and binary logarithm of where they are cut off.

    Every one of ``count`` elements may be off by 2.1 times 2^-digits, of a sum above 0.6. Half the
    bits of the count are added, all for a logarithm, where the error does not shrink with the
    result; more would lengthen the series for sums that hardly occur.
    """
    bits = (count - 1).bit_length()
    return min(frac + 2 + (bits if log else (bits + 1) // 2), _MOST_DIGITS)


def _missing(count: int, rounding: Rounding, *, log: bool) -> float:
    """How much, relatively, the sum of the exponentials of so many may be off."""
    return 3.5 * count * 2.0 ** -softmax_digits(round(-math.log2(rounding.unit)), count, log=log)


class Softmax(_Softmax):
    """exp(x) over its sum along an axis."""

    name = "tensor.softmax"

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        (x,), axis = args, attrs["axis"]
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return (np.asarray(e / e.sum(axis=axis, keepdims=True)),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,), axis = operands, attrs["axis"]
        lo = np.exp(-_others(x.lo, x.hi, axis))
        hi = np.exp(-_others(x.hi, x.lo, axis))
        missing = max(_RELATIVE, _missing(x.lo.shape[axis], rounding, log=False))
        return Enclosure((_loosened(lo, hi, rounding, relative=missing),))

    @classmethod
    def sum_error(cls, attrs: Attributes, shape: Shape, rounding: Rounding) -> float | None:
        if attrs["axis"] != len(shape) - 1:
            return None
        count, unit = shape[-1], rounding.unit
        relative = max(_RELATIVE, unit / 4, _missing(count, rounding, log=False))
        return count * _UNITS * unit + relative


class LogSoftmax(_Softmax):
    """x minus the logarithm of the sum of exp(x) along an axis."""

    name = "tensor.log_softmax"

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        (x,), axis = args, attrs["axis"]
        less = x - x.max(axis=axis, keepdims=True)
        return (np.asarray(less - np.log(np.exp(less).sum(axis=axis, keepdims=True))),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,), axis = operands, attrs["axis"]
        lo, hi = -_others(x.lo, x.hi, axis), -_others(x.hi, x.lo, axis)
        units = 3.0 + _missing(x.lo.shape[axis], rounding, log=True) / rounding.unit
        return Enclosure((_loosened(lo, hi, rounding, units, 0.0),))


# --- normalisation -------------------------------------------------------------------------------


class Normalize(TensorOperation):
    """2^exponent c / sqrt(sum of c^2 + epsilon), sums over axes; c is x, or x less its mean.

    Layer normalisation of n elements is this with epsilon n times the layer's, times
    sqrt(n) / 2^exponent; the power of two nearest to sqrt(n) keeps the digits. Zeros, without an
    epsilon, stay zeros. No result is larger than 2^exponent.
    """

    name = "tensor.normalize"
    kind = Kind.NONLINEAR
    operands = ("x",)
    attributes = {
        "axes": Attr("ints", "summed axes, rising, not negative"),
        "center": Attr("bool", "subtract the mean over these axes"),
        "epsilon": Attr("float", "public, not negative; added to the sum of squares"),
        "exponent": Attr("int", "of the power of two that the result is multiplied by, 0 to 15", 0),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        shapes.reduce(cls, x, attrs["axes"])
        if any(x.shape[axis] < 1 for axis in attrs["axes"]):
            raise fail(cls, f"{x} has no elements along axes {attrs['axes']}")
        if not 0 <= attrs["exponent"] <= 15:
            raise fail(cls, f"exponent {attrs['exponent']} is not 0 to 15")
        _check_epsilon(cls, attrs)
        return (result(x.shape, x),)

    @classmethod
    def extra_bits(cls, attrs: Attributes, shape: Shape) -> int:
        """So that c = n x - sum of x times the power has room, which is as large as the norm."""
        bits = (math.prod(shape[axis] for axis in attrs["axes"]) - 1).bit_length()
        return (bits + 1 if attrs["center"] else 0) + (bits + 1) // 2 + 4

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        (x,), axes = args, attrs["axes"]
        c = x - x.mean(axis=axes, keepdims=True) if attrs["center"] else x
        norm = np.sqrt((c * c).sum(axis=axes, keepdims=True) + x.dtype.type(attrs["epsilon"]))
        return (np.asarray(c * (2.0 ** attrs["exponent"] / np.where(norm > 0, norm, np.inf))),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        (x,), axes, factor = operands, attrs["axes"], 2.0 ** attrs["exponent"]
        count = math.prod(x.lo.shape[axis] for axis in axes)
        lo, hi = x.lo, x.hi
        if attrs["center"]:
            lo, hi = (
                own - (other.sum(axis=axes, keepdims=True) + (own - other)) / count
                for own, other in ((x.lo, x.hi), (x.hi, x.lo))
            )
        far = np.maximum(np.abs(lo), np.abs(hi))
        near = np.where((lo < 0) & (hi > 0), 0.0, np.minimum(np.abs(lo), np.abs(hi)))

        def norm(ends: Array) -> Array:
            return np.asarray(np.sqrt((ends**2).sum(axis=axes, keepdims=True) + attrs["epsilon"]))

        # The squares are of numbers with fewer digits, see the lowering: by so much in every one.
        digits = (_SQUARE_BITS - _log2(count)) // 2 - _log2(x.magnitude) - _LOOSE
        least = np.maximum(norm(near), 2.0**-60)
        blur = math.sqrt(count) * max(2.0**-digits, rounding.unit) / least
        ends = []
        for end, sign in ((lo, -1), (hi, 1)):
            outward = np.where(sign * end > 0, least, np.maximum(norm(far), 2.0**-60))
            ratio = np.clip(end / outward, -1.0, 1.0)
            ends.append(ratio + sign * np.minimum(np.abs(ratio) * blur, 2.0))
        most = math.sqrt(2.0)
        ends = [factor * np.clip(end, -most, most) for end in ends]
        return Enclosure((_loosened(ends[0], ends[1], rounding),))


_SQUARE_BITS = 61
_LOOSE = 10
"""Bits by which a range in Phi may exceed the one that is known here, and the centring."""


def _log2(x: float) -> int:
    """The smallest integer b >= 0 with x <= 2^b."""
    return max(0, math.ceil(math.log2(x))) if x > 0 else 0


ELEMENTWISE = (Reciprocal, Div, Rsqrt, Sqrt, Log)
"""Operators whose results depend on one element of each operand."""

OPERATIONS = (*ELEMENTWISE, Softmax, LogSoftmax, Normalize)
"""In the order of the dialect."""
