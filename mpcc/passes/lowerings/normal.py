"""Secure forms of quotients, roots and logarithms, of softmax and of normalisation.

All of them normalise a positive number (:mod:`mpcc.passes.lowerings.normalise`), of which a layer
has one per row only: there rounds count, not bytes. What is computed on the way has as many digits
as the ring of 64 bits allows; results are truncated once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mpcc.approximations import series
from mpcc.errors import MpccError
from mpcc.ir.core import Op, Value
from mpcc.ir.ops import secure, tensor
from mpcc.ir.ops.secure import MAX_TRUNCATE_SLACK
from mpcc.ir.ops.tensor.normal import LOG_BITS, QUOTIENT_BITS, quotient, softmax_digits
from mpcc.ir.types import Shape, element_count
from mpcc.passes.lowerings.base import Lowering, Rules, secure_type, tensor_type
from mpcc.passes.lowerings.elementwise import add, maximum, relu, subtract
from mpcc.passes.lowerings.functions import evaluate, inside, plan
from mpcc.passes.lowerings.normalise import (
    FINEST,
    RING,
    WIDEST,
    Normal,
    absolute,
    fitted,
    narrowed,
    normal,
    retagged,
    signed,
)
from mpcc.passes.lowerings.reduce import Rows

__all__ = ["RULES", "not_negative"]

_ROOM = RING - MAX_TRUNCATE_SLACK
"""Bits of what is truncated."""

_GUARD = 4
"""Digits of a factor beyond the activations'."""


# --- signs ---------------------------------------------------------------------------------------

# Not those that a series computes: rounding may bring their smallest results below zero.
_POSITIVE = (tensor.Relu, tensor.Abs, tensor.Sqrt, tensor.Rsqrt)
_KEEPING = (
    tensor.Reshape,
    tensor.Transpose,
    tensor.Broadcast,
    tensor.Slice,
    tensor.Concat,
    tensor.Gather,
    tensor.Take,
    tensor.ReduceSum,
    tensor.ReduceMax,
    tensor.CumSum,
    tensor.SumPool,
    tensor.MaxPool,
    tensor.Floor,
    tensor.Add,
    tensor.Mul,
)
_DEEP = 24


def not_negative(value: Value) -> bool:
    """Whether the architecture says that a value is not negative, but for rounding.

    It is a square, an absolute or rectified number, a probability, or a sum, product or maximum of
    such ones. Nothing is looked at beyond 24 ops before.
    """
    return _holds(value, {}, _DEEP)


def _holds(value: Value, known: dict[Value, bool], depth: int) -> bool:
    op = value.op
    if op is None or depth == 0:
        return False
    if value not in known:

        def all_of(values: Sequence[Value]) -> bool:
            return all(_holds(v, known, depth - 1) for v in values)

        if op.definition is tensor.Scale:
            holds = op.attrs["factor"] >= 0 and all_of(op.operands)
        elif op.definition is tensor.Clip:
            holds = op.attrs["lo"] >= 0
        else:
            square = op.definition is tensor.Mul and op.operands[0] is op.operands[1]
            keeps = op.definition in _KEEPING and all_of(op.operands)
            holds = op.definition in _POSITIVE or square or keeps
        known[value] = holds
    return known[value]


# --- elementwise ---------------------------------------------------------------------------------


def _digits(lowering: Lowering) -> int:
    """Good bits that a factor needs."""
    return lowering.phi.frac + _GUARD


def _magnitude(lowering: Lowering, value: Value, x: Value, loc: str) -> tuple[Value, Value | None]:
    """|x| in the ring of normalisation, and the bit [x < 0] where x may be negative."""
    x = lowering.cast(x, loc)
    if not_negative(value):
        return x, None
    found, bit = absolute(lowering, x, loc)
    return found, bit


def _unnarrowed(x: Value, loc: str, most: int = WIDEST - 1) -> Value:
    """The number, if normalising it drops none of the activations' bits.

    Ranges leave that room (``extra_bits`` of the declarations), except where many values share one.
    """
    if secure_type(x).width > most:
        raise MpccError.of(
            "E-lower-format",
            f"an operand of {secure_type(x).width} bits is too wide to be normalised, which "
            f"{most} bits are not",
            loc,
            "narrow it with an --input-range or a Clip, or take fewer fraction bits",
        )
    return x


def _reciprocal(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """Of |x|, with the sign put back."""
    loc, frac, ring = op.loc, lowering.phi.frac, lowering.ring
    width = lowering.result_width(op, frac)
    with lowering.within(RING):
        x = _exact(lowering, operands[0], loc)
        x, bit = _magnitude(lowering, op.operands[0], x, loc)
        least = min(QUOTIENT_BITS, width - frac)
        norm = normal(lowering, _unnarrowed(x, loc), loc, least=-least, even=False)
        f = norm.function("reciprocal", _digits(lowering) + 2)
        if _frac(f) + 2 * norm.buckets + 4 <= _ROOM:
            y, _ = norm.scaled(f, "reciprocal")
        else:
            # With half of the power first, there is room for all digits.
            top, power = norm.low + 2 * (norm.buckets - 1), norm.falling(1)
            y = _times(lowering, f, power, _frac(f) + 1 + norm.buckets, loc)
            kept = min(_frac(f) - 1, _ROOM - least - 1 - top)
            y = fitted(lowering, y, kept, kept + norm.buckets + 1, loc)
            y = _times(lowering, y, power, kept + top + least + 1, loc)
            y = retagged(lowering, y, top, kept + top + least + 1, loc)
        if bit is not None:
            y = signed(lowering, y, bit, loc)
        return [fitted(lowering, y, frac, _saturated(width, frac), loc, ring)]


def _saturated(width: int, frac: int) -> int:
    """With room for the error of results that end at their range."""
    return width + 1 if width - frac <= QUOTIENT_BITS else width


def _exact(lowering: Lowering, x: Value, loc: str) -> Value:
    """In the ring of normalisation, at the activations' fraction at least."""
    x, amount = lowering.cast(x, loc), lowering.phi.frac - _frac(x)
    if amount <= 0:
        return x
    attrs = {"amount": amount, "width": secure_type(x).width + amount}
    return lowering.emit(secure.ShiftLeft, [x], attrs, loc)


def _times(lowering: Lowering, x: Value, y: Value, width: int, loc: str) -> Value:
    return lowering.emit(secure.Mul, [x, y], {"width": width}, loc)


def _div(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """The product of a and 1/|b|; or, where a or b is wide, of a, the mantissa's and the power."""
    loc, frac, ring, shape = op.loc, lowering.phi.frac, lowering.ring, tensor_type(op.result).shape
    width = lowering.result_width(op, frac)
    with lowering.within(RING):
        a, b = (_exact(lowering, x, loc) for x in operands)
        how = quotient(frac, _reach(a), _reach(b), width - frac)
        if isinstance(how, int):
            raise MpccError.of(
                "E-lower-format",
                f"numbers below 2^{_reach(a)} divided by numbers below 2^{_reach(b)}, at {frac} "
                f"fraction bits, exceed the ring by {how} bits",
                loc,
                "narrow them with an --input-range or a Clip, or take fewer fraction bits",
            )
        b, bit = _magnitude(lowering, op.operands[1], b, loc)
        norm = normal(lowering, _unnarrowed(b, loc), loc, least=-QUOTIENT_BITS, even=False)
        f = norm.function("reciprocal", how.digits)
        if how.kept is not None:
            inverse, bits = norm.scaled(f, "reciprocal")
            if bit is not None:
                inverse = signed(lowering, inverse, bit, loc)
            inverse = fitted(lowering, inverse, how.kept, how.kept + bits, loc)
            a, inverse = (lowering.spread(v, shape, loc) for v in (a, inverse))
            y = _times(lowering, a, inverse, width + how.kept, loc)
            return [fitted(lowering, y, frac, width, loc, ring)]
        if bit is not None:
            # It is known before f(m) is.
            if secure_type(a).shape == secure_type(b).shape:
                a = signed(lowering, a, bit, loc)
            else:
                f = signed(lowering, f, bit, loc)
        power, reach = norm.falling(2 if how.second is None else 1), _reach(a)
        top = norm.low + 2 * (norm.buckets - 1)
        a, f, power = (lowering.spread(v, shape, loc) for v in (a, f, power))
        y = _times(lowering, a, f, reach + _frac(a) + _frac(f) + 1, loc)
        y = fitted(lowering, y, how.first, max(1, reach + 1 + how.first), loc)
        if how.second is not None:
            y = _times(lowering, y, power, reach + 1 + how.first + norm.buckets, loc)
            y = fitted(lowering, y, how.second, reach + 1 + how.second + norm.buckets, loc)
        wide = width - frac + 1 + max(top, 0) + _frac(y)
        y = retagged(lowering, _times(lowering, y, power, wide, loc), top, wide, loc)
        return [fitted(lowering, y, frac, width, loc, ring)]


def _rectified(lowering: Lowering, value: Value, x: Value, loc: str) -> Value:
    """max(x, 0) in the ring of normalisation."""
    x = lowering.cast(x, loc)
    return x if not_negative(value) else relu(lowering, x, loc)


def _rsqrt(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    loc, frac, ring = op.loc, lowering.phi.frac, lowering.ring
    width = lowering.result_width(op, frac)
    with lowering.within(RING):
        x = _rectified(lowering, op.operands[0], operands[0], loc)
        x, some = _plus(lowering, narrowed(lowering, x, loc, 3), op.attrs["epsilon"], loc)
        least = -2 * min(QUOTIENT_BITS, width - frac)
        norm = normal(lowering, x, loc, least=least, below=some < 1 << max(0, least + _frac(x)))
        y, _ = norm.scaled(norm.function("rsqrt", _digits(lowering) + 1), "rsqrt")
        return [fitted(lowering, y, frac, _saturated(width, frac), loc, ring)]


def _frac(x: Value) -> int:
    return secure_type(x).frac


def _plus(
    lowering: Lowering, x: Value, epsilon: float, loc: str, least: int = 0
) -> tuple[Value, int]:
    """The sum of x and a public number, of at least ``least`` units; and its raw value."""
    raw = max(least, round(math.ldexp(epsilon, _frac(x))))
    if raw == 0:
        return x, 0
    width = max(secure_type(x).width, raw.bit_length()) + 1
    added = lowering.constant(x, raw, secure_type(x).shape, loc)
    return add(lowering, x, added, width, loc), raw


def _sqrt(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    loc, frac, ring = op.loc, lowering.phi.frac, lowering.ring
    with lowering.within(RING):
        x = _rectified(lowering, op.operands[0], operands[0], loc)
        norm = normal(lowering, x, loc, least=-2 * frac)
        value = norm.function("sqrt", _digits(lowering) + max(0, _reach(x) // 2))
        y, bits = norm.scaled(value, "sqrt")
        return [fitted(lowering, y, frac, max(1, frac + bits), loc, ring)]


def _truncated(x: Value) -> int:
    """Fraction bits after a truncation, which is cheaper than resharing all copies of a product."""
    return _frac(x) - 1


def _reach(x: Value) -> int:
    """The b with x < 2^b in real units."""
    return secure_type(x).width - _frac(x)


def _log(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    loc, frac, ring = op.loc, lowering.phi.frac, lowering.ring
    with lowering.within(RING):
        x = _rectified(lowering, op.operands[0], operands[0], loc)
        norm = normal(lowering, x, loc, least=-LOG_BITS, even=False)
        y = _logarithm(norm, _digits(lowering))
        return [fitted(lowering, y, frac, frac + _log_bits(norm), loc, ring)]


def _log_bits(norm: Normal) -> int:
    """The b such that logarithms are below 2^b."""
    ends = (norm.low, norm.low + 2 * norm.buckets)
    return math.ceil(math.log2(max(abs(end) for end in ends) * math.log(2) + 2.0**-4))


def _logarithm(norm: Normal, digits: int) -> Value:
    """log(mantissa) + (low + 2 i) log 2."""
    lowering, loc = norm.lowering, norm.loc
    y = norm.function("log", digits)
    frac, width = _frac(y), _frac(y) + _log_bits(norm)
    step = round(math.ldexp(2 * math.log(2), frac))
    attrs = {"factor": step, "frac": frac, "width": width + 1}
    steps = lowering.emit(secure.Scale, [norm.index()], attrs, loc)
    start = round(math.ldexp(norm.low * math.log(2), frac))
    first = lowering.constant(y, start, norm.shape, loc)
    y = add(lowering, y, first, width, loc)
    return add(lowering, y, steps, width, loc)


# --- softmax -------------------------------------------------------------------------------------

_COARSE = 2
"""Fraction bits in which the maximum of a row is looked for: any number near it will do."""

_SMALL = 32
_SMALL_ROOM = 28


class _Softmax:
    """The exponentials of a row's elements less about their maximum, and their sum.

    With c = x rounded to quarters and M the maximum of c, x - M is below 1/4. Where c - M is below
    -R, the exponential is taken to be zero; elsewhere x - M - 1/4 is between -R - 1/2 and 0. So the
    sum is at least exp(-1/2) less errors, and the number by which the elements were moved cancels
    out, up to the part of M that matters to ``log_softmax``.

    Attributes:
        moved: x - M - 1/4, rows first.
        terms: the exponentials.
        total: their sum over rows, [1, ...].
        error: exponentials are within this.
    """

    def __init__(self, lowering: Lowering, op: Op, x: Value) -> None:
        self.lowering, self.loc = lowering, op.loc
        self.rows = Rows(lowering, op.loc)
        loc, axis = op.loc, op.attrs["axis"]
        self.axis = axis
        x = self.rows.first(x, [axis])
        self.count = secure_type(x).shape[0]
        frac = _frac(x)
        log = op.definition is tensor.LogSoftmax
        digits = softmax_digits(frac, self.count, log=log)
        self.frac = digits + 2
        coarse = self._coarse(x)
        steps = _frac(coarse)
        most = self.rows.tournament(coarse, lambda a, b: maximum(lowering, a, b, loc))
        shape = secure_type(x).shape
        lowest = math.floor((digits * math.log(2) - 0.5) * 2**steps)
        limit = lowering.constant(most, lowest, secure_type(most).shape, loc)
        ends = subtract(lowering, most, limit, loc)
        less = subtract(lowering, coarse, lowering.spread(ends, shape, loc), loc)
        below = lowering.emit(secure.Negative, [less], {}, loc)
        with lowering.within(RING):
            x = lowering.cast(x, loc)
            most = lowering.cast(most, loc)
            # Above x - M < 2^-steps.
            one = lowering.constant(most, 1, secure_type(most).shape, loc)
            most = add(lowering, most, one, secure_type(most).width + 1, loc)
            most = fitted(lowering, most, frac, secure_type(most).width + frac - steps, loc)
            self.moved = subtract(lowering, x, lowering.spread(most, shape, loc), loc)
            lo = -(lowest + 2) * 2.0**-steps
            self.terms = self._exponentials(below, lo, 2.0**-digits)
            width = self.frac + 1 + (self.count - 1).bit_length()
            attrs = {"axes": (0,), "width": width}
            total = lowering.emit(secure.ReduceSum, [self.terms], attrs, loc)
            self.total = self.rows.reshape(total, (1, *shape[1:]))

    def _exponentials(self, below: Value, lo: float, error: float) -> Value:
        """The exponentials: what was moved is between lo and 0 where it is not ``below``; there 0.

        The comparison runs beside the series, if that has room for numbers of any size; else these
        are cut off before.
        """
        lowering, loc, type_ = self.lowering, self.loc, secure_type(self.moved)
        s = series("exp", lo, 0.0, error)
        largest = math.ldexp(1.0, type_.width - type_.frac)
        chosen = plan(s, type_, largest, self.frac, error / 2, RING)
        attrs = {"invert": True, "width": self.frac + 1}
        if chosen is not None and chosen.error <= s.error + error / 2:
            width = int(math.ldexp(chosen.size, self.frac) + 2).bit_length()
            y = inside(lowering, self.moved, chosen, self.frac, width, RING, loc)
        else:
            near = max(1, int(math.ldexp(-lo, type_.frac)).bit_length())
            attrs_near = {"invert": True, "width": near}
            x = lowering.emit(secure.Select, [below, self.moved], attrs_near, loc)
            y = evaluate(lowering, x, "exp", lo, 0.0, frac=self.frac, error=error, loc=loc)
        return lowering.emit(secure.Select, [below, y], attrs, loc)

    def _coarse(self, x: Value) -> Value:
        """Rounded to few fraction bits, in the small ring if it fits: for comparisons."""
        type_ = secure_type(x)
        amount = type_.frac - _COARSE
        if amount <= 0:
            return x
        width = max(1, type_.width - amount) + 1
        attrs = {"amount": amount, "width": width}
        if type_.ring == RING and width <= _SMALL_ROOM and RING - amount >= _SMALL:
            attrs["ring"] = _SMALL
        return self.lowering.emit(secure.Truncate, [x], attrs, self.loc)

    def normal(self) -> Normal:
        """The sum, normalised: it is above 1/2."""
        return normal(self.lowering, self.total, self.loc, least=-1, below=False, even=False)

    def back(self, x: Value) -> Value:
        """Rows where the axis was."""
        return self.rows.back(x, self.axis)


def _softmax(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    loc, frac, ring = op.loc, lowering.phi.frac, lowering.ring
    own = _Softmax(lowering, op, operands[0])
    with lowering.within(RING):
        norm = own.normal()
        digits = min(_digits(lowering) + 2, 22)
        inverse, bits = norm.scaled(norm.function("reciprocal", digits), "reciprocal")
        kept = min(_truncated(inverse), _ROOM - own.frac - 2, frac + _GUARD)
        inverse = fitted(lowering, inverse, kept, kept + bits, loc)
        shape = secure_type(own.terms).shape
        pair = [own.terms, lowering.spread(inverse, shape, loc)]
        y = lowering.emit(secure.Mul, pair, {"width": own.frac + kept + 1}, loc)
        return [own.back(fitted(lowering, y, frac, frac + 1, loc, ring))]


def _log_softmax(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    loc, frac, ring = op.loc, lowering.phi.frac, lowering.ring
    own = _Softmax(lowering, op, operands[0])
    with lowering.within(RING):
        norm = own.normal()
        y = _logarithm(norm, _digits(lowering))
        y = fitted(lowering, y, frac, frac + _log_bits(norm), loc)
        shape = secure_type(own.moved).shape
        y = subtract(lowering, own.moved, lowering.spread(y, shape, loc), loc)
        return [own.back(fitted(lowering, y, frac, secure_type(y).width, loc, ring))]


# --- normalisation -------------------------------------------------------------------------------


def _normalize(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """With c = n x - sum of x, over the next power of two: c / sqrt(sum of c^2 + epsilon).

    That is exact, without a message, and its factor of n over a power of two cancels out. Squares
    are of c with as many bits as leave room for their sum in the ring; c itself keeps all.
    """
    loc, frac, ring, attrs = op.loc, lowering.phi.frac, lowering.ring, op.attrs
    axes: tuple[int, ...] = attrs["axes"]
    shape = tensor_type(op.result).shape
    short: Shape = tuple(1 if i in axes else d for i, d in enumerate(shape))
    count = element_count(tuple(shape[i] for i in axes))
    sum_bits = (count - 1).bit_length()

    def sums(y: Value, width: int) -> Value:
        total = lowering.emit(secure.ReduceSum, [y], {"axes": axes, "width": width}, loc)
        return lowering.emit(secure.Reshape, [total], {"shape": short}, loc)

    with lowering.within(RING):
        c = lowering.cast(operands[0], loc)
        ratio = 1.0
        if attrs["center"]:
            excess = secure_type(c).width + sum_bits + 1 - _ROOM
            if excess > 0:
                width = secure_type(c).width - excess
                c = fitted(lowering, c, _frac(c) - excess - 1, width, loc)
            wide = secure_type(c).width + sum_bits
            mean = sums(c, wide)
            c = lowering.emit(secure.Scale, [c], {"factor": count, "width": wide}, loc)
            c = subtract(lowering, c, lowering.spread(mean, shape, loc), loc, wide + 1)
            c = retagged(lowering, c, sum_bits, wide + 1, loc)
            ratio = math.ldexp(count, -sum_bits)
        # Rounded, numbers may need a bit more.
        excess = 2 * (secure_type(c).width + 1) + sum_bits + 1 - (WIDEST - 1)
        amount = max(-(-excess // 2), _frac(c) - FINEST // 2)
        if amount > _frac(c):
            # As many fraction bits as are to be dropped; the quotient does not depend on a factor.
            more = amount - _frac(c)
            c, ratio = retagged(lowering, c, more, secure_type(c).width, loc), ratio * 2.0**-more
        squared = c
        if amount > 0:
            width = max(1, secure_type(c).width - amount) + 1
            squared = fitted(lowering, c, _frac(c) - amount, width, loc)
        width = 2 * secure_type(squared).width
        total = lowering.emit(secure.Mul, [squared, squared], {"width": width}, loc)
        total = sums(total, width + sum_bits)
        total, raw = _plus(lowering, total, ratio**2 * attrs["epsilon"], loc, 1)
        least = raw.bit_length() - 1 - _frac(total)
        norm = normal(lowering, total, loc, least=least, below=False)
        f = norm.function("rsqrt", _digits(lowering) + 1)
        half, most = _half(norm), attrs["exponent"] + 1
        # The quotient is below 2^most, c below 2^reach, and the inverse below 2^(most - low / 2).
        # It is to be as good as f is, or off by a quarter of a unit in the result.
        enough = min(_frac(f) + max(half, 0) - 1, frac + 2 + max(0, _reach(c)))
        if enough > _ROOM - max(_frac(c) + most, most - norm.low // 2):
            return [_of_any_size(lowering, norm, c, f, op, ring)]
        inverse, bits = norm.scaled(f, "rsqrt")
        inverse = retagged(
            lowering,
            inverse,
            -attrs["exponent"],
            secure_type(inverse).width + attrs["exponent"],
            loc,
        )
        bits += attrs["exponent"]
        kept = min(_truncated(inverse), enough)
        inverse = fitted(lowering, inverse, kept, kept + bits, loc)
        pair = [c, lowering.spread(inverse, shape, loc)]
        y = lowering.emit(secure.Mul, pair, {"width": _frac(c) + kept + most}, loc)
        return [fitted(lowering, y, frac, frac + most, loc, ring)]


def _half(norm: Normal) -> int:
    """The binary logarithm of the root of the largest bucket's start."""
    return (norm.low + 2 * (norm.buckets - 1)) // 2


def _of_any_size(lowering: Lowering, norm: Normal, c: Value, f: Value, op: Op, ring: int) -> Value:
    """Quotients c / sqrt(total) where the inverse has no room for the digits that a wide c needs.

    c times the power is exact and of the size of the result: no element is larger than the norm,
    whose squares were rounded to at least half of what they were.
    """
    loc, frac, exponent = op.loc, lowering.phi.frac, op.attrs["exponent"]
    half, shape = _half(norm), secure_type(c).shape
    width = max(half, 0) + 2 + _frac(c)
    if width > _ROOM:
        raise MpccError.of(
            "E-lower-format",
            f"a row of numbers of {secure_type(c).width} bits is too wide to be normalised",
            loc,
            "narrow them with an --input-range or a Clip, or take fewer fraction bits",
        )
    power = lowering.spread(norm.falling(1), shape, loc)
    y = _times(lowering, c, power, width, loc)
    y = retagged(lowering, y, half - exponent, width + max(0, exponent - max(half, 0)), loc)
    kept = min(frac + 3, _ROOM - 2 - exponent - _frac(f))
    y = fitted(lowering, y, kept, kept + 2 + exponent, loc)
    f = lowering.spread(f, shape, loc)
    y = _times(lowering, y, f, kept + 2 + exponent + _frac(f), loc)
    return fitted(lowering, y, frac, frac + exponent + 1, loc, ring)


RULES: Rules = {
    tensor.Reciprocal: _reciprocal,
    tensor.Div: _div,
    tensor.Rsqrt: _rsqrt,
    tensor.Sqrt: _sqrt,
    tensor.Log: _log,
    tensor.Softmax: _softmax,
    tensor.LogSoftmax: _log_softmax,
    tensor.Normalize: _normalize,
}
"""Declaration -> rule."""
