"""Normalisation of positive secrets: which power of four a number is near, and what is left of it.

A function of numbers of any size, such as 1/x, is one of numbers in [1, 4) and a power of two that
follows from the place of the leading bits. :class:`Normal` finds both for all elements at once:

1. The bits b_i = [x < 2^least 4^i], i = 1 .. B - 1, are one comparison of B - 1 times the lanes.
2. x lies in bucket i where b_i+1 - b_i = 1, with b_0 = 0 and b_B = 1. The mantissa x / 4^i, times
   4^(B - 1), is the sum over the buckets of (b_i+1 - b_i) 4^(B - 1 - i) x
   = x + 3 sum_i 4^(B - 1 - i) b_i x: selects of the same x by all bits, in the same rounds. It is
   exact, whatever its fraction.
3. The same bits as words give every table that is needed, t_i in bucket i, as
   t_B-1 + sum_i b_i (t_i-1 - t_i): local. For t_i = 2^(p (B - 1 - i)) that is
   1 + (2^p - 1) sum_i 2^(p (B - 1 - i)) b_i, exact too; for t_i = i a mere sum.

Steps 1 to 3 take the rounds of a comparison and 2; the powers of two never cost a message. See
docs/numbers.md, Normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpcc.ir.core import Value
from mpcc.ir.ops import secure
from mpcc.ir.types import Shape
from mpcc.passes.lowerings.base import Lowering, secure_type
from mpcc.passes.lowerings.elementwise import add, subtract
from mpcc.passes.lowerings.functions import evaluate

__all__ = [
    "FINEST",
    "RING",
    "WIDEST",
    "Normal",
    "absolute",
    "fitted",
    "normal",
    "retagged",
    "signed",
]

RING = 64
"""Mantissas and tables are as wide as this ring allows, whatever the ring of the program."""

_STEP = 2
"""Bits from bucket to bucket."""

FINEST = 50
"""Fraction bits of a mantissa: the angle of a series takes some bits above them."""

WIDEST = 59
"""Bits of a number that is normalised: a mantissa takes up to two more, and one to make it even."""

_DIGITS = 24
"""Fraction bits that a mantissa's function is computed with at most."""


def part(lowering: Lowering, x: Value, start: int, limit: int, stride: int, loc: str) -> Value:
    """Rows start, start + stride, ... below limit; of numbers or bits."""
    shape = _shape(x)
    if (start, limit, stride) == (0, shape[0], 1):
        return x
    zeros, ones = (0,) * (len(shape) - 1), (1,) * (len(shape) - 1)
    attrs = {
        "starts": (start, *zeros),
        "limits": (limit, *shape[1:]),
        "strides": (stride, *ones),
    }
    return lowering.emit(secure.Slice, [x], attrs, loc)


def _shape(x: Value) -> Shape:
    shape: Shape = x.type.shape  # type: ignore[union-attr]
    return shape


def _scale(lowering: Lowering, x: Value, factor: int, width: int, loc: str) -> Value:
    """The product of raw words; a factor of one only sets the width."""
    if factor == 1:
        return _as_wide(lowering, x, width, loc)
    return lowering.emit(secure.Scale, [x], {"factor": factor, "width": width}, loc)


def _as_wide(lowering: Lowering, x: Value, width: int, loc: str) -> Value:
    if secure_type(x).width == width:
        return x
    return lowering.emit(secure.ShiftLeft, [x], {"amount": 0, "width": width}, loc)


def retagged(lowering: Lowering, x: Value, frac: int, width: int, loc: str) -> Value:
    """The value times 2^-frac, with ``width`` for its width: the raw words stay, if frac >= 0."""
    if frac == 0:
        return _as_wide(lowering, x, width, loc)
    attrs = {"factor": 1 << max(-frac, 0), "frac": max(frac, 0), "width": width}
    return lowering.emit(secure.Scale, [x], attrs, loc)


def fitted(
    lowering: Lowering, x: Value, frac: int, width: int, loc: str, ring: int = RING
) -> Value:
    """The value at a fraction and a width that it is known to have, in a ring that is no larger."""
    type_ = secure_type(x)
    amount = type_.frac - frac
    if amount <= 0:
        whole = width if ring == type_.ring else min(width, ring - secure.MAX_CAST_SLACK)
        if amount:
            x = lowering.emit(secure.ShiftLeft, [x], {"amount": -amount, "width": whole}, loc)
        x = _as_wide(lowering, x, whole, loc)
        if ring != type_.ring:
            x = lowering.emit(secure.Cast, [x], {"ring": ring}, loc)
        return x
    attrs: dict[str, int] = {"amount": amount, "width": width}
    if ring != type_.ring:
        if type_.ring - amount < ring:
            x = lowering.emit(secure.Truncate, [x], attrs, loc)
            return lowering.emit(secure.Cast, [x], {"ring": ring}, loc)
        attrs["ring"] = ring
    return lowering.emit(secure.Truncate, [x], attrs, loc)


def geometric(lowering: Lowering, rows: Value, bits: int, width: int, loc: str) -> Value:
    """The sum over rows i of 2^(bits (n - 1 - i)) row_i, without messages.

    Neighbours are added up first: 4 ops for every doubling of n.

    Args:
        lowering: the run.
        rows: numbers [n, ...].
        bits: of the ratio.
        width: of the sum, and of all partial ones.
        loc: node of the model.
    """
    count = _shape(rows)[0]
    rest = _shape(rows)[1:]
    while count > 1:
        if count % 2:
            zeros = (0,) * len(rest)
            rows = lowering.emit(secure.Pad, [rows], {"low": (1, *zeros), "high": (0, *zeros)}, loc)
            count += 1
        high = part(lowering, rows, 0, count, 2, loc)
        low = part(lowering, rows, 1, count, 2, loc)
        high = _scale(lowering, high, 1 << bits, width, loc)
        rows = add(lowering, high, low, width, loc)
        count, bits = count // 2, 2 * bits
    return lowering.emit(secure.Reshape, [rows], {"shape": rest}, loc)


@dataclass(frozen=True)
class Normal:
    """A positive secret as a mantissa and a power of four.

    In real units x = mantissa * 4^i * 2^low, i = 0 .. buckets - 1.

    Attributes:
        lowering: the run.
        mantissa: in [1, 4).
        words: b_1 .. b_{B-1} as words, [B - 1, ...]; None for a single bucket.
        below: b_0 as a word, where x may be below 2^low.
        buckets: B.
        low: exponent of the smallest number that is told apart; what is below counts as that.
        shape: of x.
        loc: node of the model.
    """

    lowering: Lowering
    mantissa: Value
    words: Value | None
    below: Value | None
    buckets: int
    low: int
    shape: Shape
    loc: str

    def function(self, name: str, digits: int) -> Value:
        """f(mantissa) with at least ``digits`` good bits, as far as series go, and 2 more."""
        digits = max(6, min(digits, _DIGITS - 2))
        return evaluate(
            self.lowering,
            self.mantissa,
            name,
            1.0,
            4.0,
            frac=digits + 2,
            error=2.0**-digits,
            loc=self.loc,
        )

    def falling(self, bits: int) -> Value:
        """2^(bits (B - 1 - i)) in bucket i, a raw word of no fraction."""
        width, loc = bits * (self.buckets - 1) + 1, self.loc
        if self.words is None:
            return self.lowering.constant(self._unit(), 1, self.shape, loc)
        total = geometric(self.lowering, self.words, bits, width, loc)
        total = _scale(self.lowering, total, (1 << bits) - 1, width, loc)
        one = self.lowering.constant(total, 1, self.shape, loc)
        return add(self.lowering, total, one, width, loc)

    def rising(self) -> Value:
        """2^i in bucket i, a raw word of no fraction; 0 for what is below."""
        lowering, width, loc = self.lowering, self.buckets, self.loc
        like = self._unit()
        total = lowering.constant(like, 1 << (self.buckets - 1), self.shape, loc)
        if self.words is not None:
            rows = tuple(reversed(range(self.buckets - 1)))
            flipped = lowering.emit(secure.Gather, [self.words], {"axis": 0, "indices": rows}, loc)
            total = subtract(
                lowering, total, geometric(lowering, flipped, 1, width, loc), loc, width
            )
        if self.below is not None:
            total = subtract(lowering, total, self.below, loc, width)
        return total

    def index(self) -> Value:
        """i, a raw word of no fraction."""
        lowering, width, loc = self.lowering, self.buckets.bit_length(), self.loc
        total = lowering.constant(self._unit(), self.buckets - 1, self.shape, loc)
        if self.words is None:
            return total
        smaller = lowering.emit(secure.ReduceSum, [self.words], {"axes": (0,), "width": width}, loc)
        return subtract(lowering, total, smaller, loc, width)

    def _unit(self) -> Value:
        """A word without a fraction, for constants."""
        if self.words is not None:
            return part(self.lowering, self.words, 0, 1, 1, self.loc)
        if self.below is not None:
            return self.below
        type_ = secure_type(self.mantissa)
        # One bucket and nothing below: a bit that is as good as any other.
        bit = self.lowering.emit(secure.Negative, [self.mantissa], {}, self.loc)
        return self.lowering.emit(secure.FromBit, [bit], {"ring": type_.ring}, self.loc)

    def scaled(self, value: Value, name: str) -> tuple[Value, int]:
        """f(mantissa) times what makes it f(x): of ``reciprocal``, ``rsqrt`` or ``sqrt``.

        Returns:
            The product, untruncated; an exponent e such that it is below 2^e.
        """
        top = self.low + _STEP * (self.buckets - 1)
        if name == "sqrt":
            table, frac, most = self.rising(), -self.low // 2, (top + _STEP) // 2
        elif name == "rsqrt":
            table, frac, most = self.falling(1), top // 2, -self.low // 2
        else:
            table, frac, most = self.falling(_STEP), top, -self.low
        type_ = secure_type(value)
        wide = retagged(self.lowering, table, frac, self._room(table, frac), self.loc)
        # Rounded, a function of [1, 4) may exceed its largest value by a little.
        width = type_.frac + secure_type(wide).frac + most + 1
        found = self.lowering.emit(secure.Mul, [value, wide], {"width": width}, self.loc)
        return found, most + 1

    def _room(self, table: Value, frac: int) -> int:
        return secure_type(table).width + max(-frac, 0)


def normal(
    lowering: Lowering,
    x: Value,
    loc: str,
    *,
    least: int,
    below: bool = True,
    even: bool = True,
) -> Normal:
    """Normalise a secret.

    Args:
        lowering: the run, inside ``within(RING)``.
        x: numbers of that ring that are not negative (by more than a rounding); what is below
            2^low counts as 2^low.
        loc: node of the model.
        least: numbers from 2^least on are told apart, as far as x has fraction bits.
        below: x may be smaller than that.
        even: low is even, as roots need it.
    """
    fine, x = x, narrowed(lowering, x, loc)
    below = below or x is not fine
    if even and least + secure_type(x).frac <= 0 and secure_type(x).frac % 2:
        # A bucket starts at one unit, which must be an even power of two.
        attrs = {"amount": 1, "width": secure_type(x).width + 1}
        x = lowering.emit(secure.ShiftLeft, [x], attrs, loc)
    type_ = secure_type(x)
    width, frac, shape = type_.width, type_.frac, type_.shape
    first = max(0, least + frac)
    if even and (first - frac) % 2:
        first -= 1
    buckets = max(1, -(-(width - first) // _STEP))
    rows = list(range(0 if below else 1, buckets))
    selected: Value | None = None
    words: Value | None = None
    under: Value | None = None
    mantissa = x
    top = first + _STEP * buckets
    if rows:
        limits = _powers(lowering, x, first + _STEP * rows[0], len(rows), loc)
        tall = (len(rows), *shape)
        spread = lowering.spread(_row(lowering, x, loc), tall, loc)
        limits = lowering.spread(limits, tall, loc)
        # Positive numbers differ by less than the larger.
        room = max(width, first + _STEP * rows[-1] + 1)
        less = subtract(lowering, spread, limits, loc, room)
        bits = lowering.emit(secure.Negative, [less], {}, loc)
        every = lowering.emit(secure.FromBit, [bits], {"ring": RING}, loc)
        if below:
            # In the first row what is missing up to 2^first.
            missing = part(lowering, less, 0, 1, 1, loc)
            more = [missing]
            if len(rows) > 1:
                more.append(part(lowering, spread, 1, len(rows), 1, loc))
            spread = (
                lowering.emit(secure.Concat, more, {"axis": 0}, loc) if len(more) > 1 else more[0]
            )
        attrs = {"width": secure_type(spread).width}
        selected = lowering.emit(secure.Select, [bits, spread], attrs, loc)
        if below:
            under = _flat(lowering, part(lowering, every, 0, 1, 1, loc), shape, loc)
        if buckets > 1:
            words = part(lowering, every, int(below), len(rows), 1, loc)
        mantissa = _mantissa(lowering, x, selected, below, buckets, top, loc)
    # Whatever fraction x has, the mantissa's raw words are at 2^(top - 2).
    mantissa = _tagged(lowering, mantissa, top, loc)
    return Normal(lowering, mantissa, words, under, buckets, first - frac, shape, loc)


def narrowed(lowering: Lowering, x: Value, loc: str, room: int = 1) -> Value:
    """The value with as many bits as a mantissa may have, and ``room`` more to be used."""
    type_ = secure_type(x)
    amount = min(max(type_.frac - FINEST, type_.width + room - WIDEST), type_.frac)
    if amount <= 0:
        return x
    # Rounded up, it may be a bit wider.
    width = max(1, type_.width - amount) + 1
    return fitted(lowering, x, type_.frac - amount, width, loc)


def _row(lowering: Lowering, x: Value, loc: str) -> Value:
    return lowering.emit(secure.Reshape, [x], {"shape": (1, *_shape(x))}, loc)


def _flat(lowering: Lowering, x: Value, shape: Shape, loc: str) -> Value:
    return lowering.emit(secure.Reshape, [x], {"shape": shape}, loc)


def _powers(lowering: Lowering, like: Value, first: int, count: int, loc: str) -> Value:
    """2^first, 4 2^first, 16 2^first, ... as raw constants [count, 1, ...]: doubled in number."""
    powers = lowering.constant(like, 1 << first, (1,), loc)
    made = 1
    while made < count:
        keep = min(made, count - made)
        width = first + _STEP * (made + keep - 1) + 1
        head = part(lowering, powers, 0, keep, 1, loc)
        more = _scale(lowering, head, 1 << (_STEP * made), width, loc)
        powers = lowering.emit(
            secure.Concat, [_as_wide(lowering, powers, width, loc), more], {"axis": 0}, loc
        )
        made += keep
    return _flat(lowering, powers, (count, *[1] * len(_shape(like))), loc)


def _mantissa(
    lowering: Lowering,
    x: Value,
    selected: Value,
    below: bool,
    buckets: int,
    top: int,
    loc: str,
) -> Value:
    """The sum of step 2, less what numbers below the first bucket lack of it."""
    width = min(top + 1, RING - 1)
    count = _shape(selected)[0]
    total = _as_wide(lowering, x, width, loc)
    if buckets > 1:
        rows = part(lowering, selected, int(below), count, 1, loc)
        rows = geometric(lowering, rows, _STEP, width, loc)
        rows = _scale(lowering, rows, (1 << _STEP) - 1, width, loc)
        total = add(lowering, total, rows, width, loc)
    if below:
        missing = _flat(lowering, part(lowering, selected, 0, 1, 1, loc), _shape(x), loc)
        factor = 1 << (_STEP * (buckets - 1))
        missing = _scale(lowering, missing, factor, RING - 1, loc)
        total = subtract(lowering, total, missing, loc, width)
    return total


def _tagged(lowering: Lowering, mantissa: Value, top: int, loc: str) -> Value:
    """The mantissa as a number in [1, 4), with as many fraction bits as a series takes."""
    have, want = secure_type(mantissa).frac, top - _STEP
    if want < have:
        # Fewer bits than the fraction: zeros below.
        mantissa = _scale(lowering, mantissa, 1 << (have - want), have + _STEP, loc)
        want = have
    else:
        mantissa = retagged(lowering, mantissa, want - have, want + _STEP, loc)
    if want > FINEST:
        mantissa = fitted(lowering, mantissa, FINEST, FINEST + _STEP + 1, loc)
    return mantissa


def absolute(lowering: Lowering, x: Value, loc: str) -> tuple[Value, Value]:
    """|x|, and the bit [x < 0]."""
    bit = lowering.emit(secure.Negative, [x], {}, loc)
    return signed(lowering, x, bit, loc), bit


def signed(lowering: Lowering, x: Value, bit: Value, loc: str) -> Value:
    """x, or -x where the bit is set."""
    width = secure_type(x).width
    negative = lowering.emit(secure.Select, [bit, x], {"width": width}, loc)
    twice = _scale(lowering, negative, 2, min(width + 1, RING - 1), loc)
    return subtract(lowering, x, twice, loc, width)
