"""Secure forms of smooth functions: a series of harmonics, and straight lines beyond its interval.

:func:`evaluate` is for numbers that are certain to be in an interval: one ``secure.fourier``, a
local line, one truncation; no comparison. :func:`tailed` is for numbers of any size: comparisons
with the interval's ends run beside the series, and two selects put the tails in place. Which series
is taken follows from the formats, so it discloses nothing more than they do. docs/numbers.md,
Functions, proves the bounds that :class:`Plan` states.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from mpcc.approximations import FUNCTIONS, Series, entries, series, tail_series
from mpcc.errors import MpccError
from mpcc.ir.core import Op, Value
from mpcc.ir.define import Attributes
from mpcc.ir.harmonics import fourier_error
from mpcc.ir.ops import secure, tensor
from mpcc.ir.ops.secure import MAX_CAST_SLACK, MAX_TRUNCATE_SLACK
from mpcc.ir.types import SecureType
from mpcc.passes.lowerings.base import Lowering, Rule, Rules, secure_type
from mpcc.passes.lowerings.elementwise import add, relu, subtract

__all__ = [
    "RULES",
    "Choice",
    "Cut",
    "Plan",
    "choose",
    "evaluate",
    "inside",
    "plan",
    "selected",
    "tailed",
]

_MOST_PRECISION = 30
_TURN_BITS = 30

_FINEST = 2.0**-24
"""Errors that the table has series for end here."""

_FINEST_EXP = 2.0**-20
"""The rounding of the harmonics of exp, whose coefficients are large, is below half of this."""

# A comparison with one end and a select, per element.
_CUT_BYTES = 44


@dataclass(frozen=True)
class Plan:
    """How a series is computed at given formats.

    Attributes:
        series: the series.
        attrs: of the ``secure.fourier``.
        line: factor of the raw x, with ``2 * precision`` less x's fraction bits; 0 for none.
        line_frac: fraction bits of that factor.
        size: bound of the absolute value of the sum, before its truncation.
        error: bound of the distance of the sum from the function, for x in the interval, before
            the truncation adds less than one unit.
        gain: the sum is multiplied by 2^gain; size and error are of the product.
    """

    series: Series
    attrs: Attributes
    line: int
    line_frac: int
    size: float
    error: float
    gain: int = 0


def _bits(size: float, frac: int) -> int:
    """Width of values of at most this size at a fraction, a unit more included."""
    return max(1, int(math.ldexp(size, frac) + 2).bit_length())


def _planned(
    s: Series, x: SecureType, largest: float, precision: int, ring: int, gain: int
) -> Plan | None:
    """The series at a precision; None where a number would not fit.

    Args:
        s: the series.
        x: the operand's type.
        largest: bound of |x|, wherever it may be.
        precision: fraction bits of both factors.
        ring: of the sum.
        gain: as in :class:`Plan`.
    """
    frac, period = 2 * precision, s.period_exponent + x.frac
    if not 1 <= period <= x.ring or frac < x.frac:
        return None
    pairs = list(zip(s.cos, s.sin, strict=True))
    if any(abs(a) + abs(b) > 1 << (30 + s.frac - precision) for a, b in pairs):
        return None
    scale = 2.0**-s.frac
    radii = sum(math.hypot(a, b) for a, b in pairs) * scale
    line = round(math.ldexp(s.slope, frac - x.frac - s.frac))
    attrs: dict[str, Any] = {
        "cos": s.cos,
        "sin": s.sin,
        "coefficient_frac": s.frac,
        "constant": round(math.ldexp(s.constant, frac - s.frac)),
        "period": period,
        "multiplier": s.multiplier,
        "precision": precision,
        "error": s.error,
        "ring": ring,
    }
    rounding = fourier_error(attrs)
    wave = abs(s.constant) * scale + radii + rounding
    reach = max(abs(s.lo), abs(s.hi))
    # The constant and the factor of the line are rounded at the sum's fraction.
    attrs["error"] += 2.0 ** -(frac + 1) + reach * 2.0 ** -(frac - x.frac + 1)
    size = math.ldexp(wave + abs(line) * 2.0 ** -(frac - x.frac) * largest, gain)
    if _bits(size, frac) > ring - MAX_TRUNCATE_SLACK:
        return None
    attrs["width"] = _bits(wave, frac)
    error = math.ldexp(attrs["error"] + rounding, gain)
    return Plan(s, attrs, line, frac - x.frac, size, error, gain)


def _plans(
    s: Series, x: SecureType, largest: float, frac: int, ring: int, gain: int
) -> Iterator[Plan]:
    """Everything that fits, the cheapest first: a truncation pays 3 bits for every bit dropped."""
    for size in (32, 64) if ring == 32 and x.ring == 32 else (64,):
        for precision in range(frac // 2 + 1, _MOST_PRECISION + 1):
            found = _planned(s, x, largest, precision, size, gain)
            if found is not None:
                yield found


def plan(
    s: Series,
    x: SecureType,
    largest: float,
    frac: int,
    budget: float,
    ring: int = 64,
    gain: int = 0,
) -> Plan | None:
    """The cheapest way to compute a series with at most this error, else the most accurate one.

    Args:
        s: the series.
        x: the operand's type.
        largest: bound of |x|, which may be beyond the interval; results there mean nothing.
        frac: fraction bits of the result, to which the sum is truncated.
        budget: wanted bound of the rounding of the harmonics; the series' own error comes on top.
        ring: in which the result is wanted.
        gain: the sum is multiplied by 2^gain, errors and all; the budget is of the sum itself.

    Returns:
        None if nothing fits the ring.
    """
    best: Plan | None = None
    for found in _plans(s, x, largest, frac, ring, gain):
        if found.error <= math.ldexp(s.error + budget, gain):
            return found
        if best is None or found.error < best.error:
            best = found
    return best


def inside(
    lowering: Lowering, x: Value, chosen: Plan, frac: int, width: int, ring: int, loc: str
) -> Value:
    """The series at x, truncated to ``frac`` fraction bits, in the ring."""
    total = lowering.emit(secure.Fourier, [x], chosen.attrs, loc)
    type_ = secure_type(total)
    whole = _bits(chosen.size, type_.frac)
    if chosen.line:
        if secure_type(x).ring != type_.ring:
            x = lowering.emit(secure.Cast, [x], {"ring": type_.ring}, loc)
        attrs = {"factor": chosen.line, "frac": chosen.line_frac, "width": whole}
        total = add(lowering, total, lowering.emit(secure.Scale, [x], attrs, loc), whole, loc)
    if chosen.gain:
        attrs = {"factor": 1 << chosen.gain, "width": whole}
        total = lowering.emit(secure.Scale, [total], attrs, loc)
    amount = type_.frac - frac
    attrs = {"amount": amount, "width": width}
    if ring < type_.ring and type_.ring - amount >= ring:
        attrs["ring"] = ring
    result = lowering.emit(secure.Truncate, [total], attrs, loc)
    if secure_type(result).ring == ring:
        return result
    return lowering.emit(secure.Cast, [result], {"ring": ring}, loc)


def _widened(x: SecureType, s: Series) -> SecureType:
    """The operand's type in a ring that has room for the period."""
    if s.period_exponent + x.frac <= x.ring or x.width > 32 - MAX_CAST_SLACK:
        return x
    return replace(x, ring=64)


def _wide(lowering: Lowering, x: Value, s: Series, loc: str) -> Value:
    """The operand in that ring."""
    ring = _widened(secure_type(x), s).ring
    if ring == secure_type(x).ring:
        return x
    return lowering.emit(secure.Cast, [x], {"ring": ring}, loc)


def evaluate(
    lowering: Lowering,
    x: Value,
    name: str,
    lo: float,
    hi: float,
    *,
    frac: int,
    error: float,
    loc: str,
) -> Value:
    """f(x) for x that is certain to be within [lo, hi].

    One message of 2 K ring elements and one truncation: 3 rounds.

    Args:
        lowering: the run.
        x: at any fraction.
        name: of the function, see :mod:`mpcc.approximations`.
        lo: least value of x.
        hi: largest value of x.
        frac: fraction bits of the result.
        error: what the series may be wrong by. Its evaluation adds at most half as much (where the
            ring has room for that), and the truncation less than 2^-frac.
        loc: node of the model.

    Raises:
        MpccError: ``E-series-name``, ``E-series-range``, ``E-lower-format`` (no room in the ring).
    """
    s = series(name, lo, hi, error)
    x = _wide(lowering, x, s, loc)
    largest = max(abs(lo), abs(hi))
    chosen = plan(s, secure_type(x), largest, frac, error / 2, lowering.ring)
    if chosen is None:
        raise _no_room(name, loc)
    # The function itself, plus all that may be wrong with it.
    size = FUNCTIONS[name].largest(lo, hi) + chosen.error + 2.0**-frac
    return inside(lowering, x, chosen, frac, _bits(size, frac), lowering.ring, loc)


def _no_room(name: str, loc: str) -> MpccError:
    return MpccError.of("E-lower-format", f"no room in the ring for a series of {name}", loc)


# --- numbers of any size -------------------------------------------------------------------------


def _compared_bytes(width: int) -> float:
    """About what two comparisons and two selects of words of 64 bits cost, per element."""
    return 2 * (5.5 * width / 8 + 32)


@cache
def _whole(name: str, bits: int, error: float) -> Series | None:
    """The series for all |x| < 2^bits, if the table has one that is accurate."""
    try:
        found = series(name, -math.ldexp(1.0, bits), math.ldexp(1.0, bits), error)
    except MpccError:
        return None
    return found if found.error <= error else None


@dataclass(frozen=True)
class Choice:
    """How a function with tails is computed.

    Attributes:
        plan: its series.
        end: the last raw number inside the series' interval; None if the width of x, or its series,
            says that all are.
        clamped: whether x is clamped before the series, since it is too wide for the line.
        error: bound of the result's distance from the function, for every x of its type.
    """

    plan: Plan
    end: int | None
    clamped: bool
    error: float


def choose(name: str, x: SecureType, frac: int, ring: int) -> Choice | None:
    """The cheapest form of a function with tails for numbers of a type; None if there is no room.

    Args:
        name: of the function.
        x: the operand's type.
        frac: fraction bits of the result.
        ring: in which the result is wanted.
    """
    unit, limit = 2.0**-frac, math.ldexp(1.0, x.width - x.frac)
    s = tail_series(name, unit / 2)
    whole = _whole(name, x.width - x.frac, unit / 2)
    if whole is not None and 16 * (whole.terms - s.terms) <= _compared_bytes(x.width):
        found = plan(whole, _widened(x, whole), limit, frac, unit / 4, ring)
        return None if found is None else Choice(found, None, False, found.error + unit)
    end = math.floor(math.ldexp(s.hi, x.frac))
    inner = plan(s, _widened(x, s), s.hi, frac, unit / 4, ring)
    if inner is None:
        return None
    if end >= (1 << x.width) - 1:
        return Choice(inner, None, False, inner.error + unit)
    outer = plan(s, _widened(x, s), limit, frac, unit / 4, ring)
    tails = FUNCTIONS[name].tails
    assert tails is not None
    tail = float(tails.error(np.asarray(math.ldexp(end, -x.frac))))
    if outer is not None and outer.error <= max(s.error + unit / 4, 1.01 * inner.error):
        # Constants of tails are whole numbers.
        return Choice(outer, end, False, max(outer.error + unit, tail))
    # What a tail is off at the end goes on beyond: it has to be closer.
    s = tail_series(name, unit / 4)
    inner = plan(s, _widened(x, s), s.hi, frac, unit / 8, ring)
    if inner is None:
        return None
    end = math.floor(math.ldexp(s.hi, x.frac))
    tail = float(tails.error(np.asarray(math.ldexp(end, -x.frac))))
    return Choice(inner, end, True, inner.error + unit + tail)


def tailed(lowering: Lowering, x: Value, name: str, *, frac: int, loc: str) -> Value:
    """f(x) for a function with tails and any x, within two units of 2^-frac.

    The series and the tails are within half a unit, the evaluation of the series within a quarter,
    and the truncation is off by less than one (docs/numbers.md). Where the width of x says that it
    is inside, or a longer series is cheaper than comparisons: 3 rounds. Else both comparisons run
    beside the series and its truncation, and a select follows: 5 rounds.
    """
    found = choose(name, secure_type(x), frac, lowering.ring)
    if found is None:
        raise _no_room(name, loc)
    chosen, function = found.plan, FUNCTIONS[name]
    s, tails = chosen.series, function.tails
    assert tails is not None
    size = function.largest(s.lo, s.hi) + chosen.error + 2.0**-frac
    if found.clamped and found.end is not None:
        return _clamped(lowering, x, chosen, found.end, size, frac, loc)
    x = _wide(lowering, x, s, loc)
    if found.end is None:
        return inside(lowering, x, chosen, frac, _bits(size, frac), lowering.ring, loc)
    cuts = (Cut(True, -found.end, *tails.left), Cut(False, found.end, *tails.right))
    return selected(lowering, x, chosen, cuts, size, frac, loc)


@dataclass(frozen=True)
class Cut:
    """One end of a series' interval, and the line that a function follows beyond.

    Attributes:
        left: whether it is the lower end.
        raw: the last raw number inside.
        constant: of the line.
        slope: of the line, 0 or 1.
    """

    left: bool
    raw: int
    constant: float
    slope: int


def selected(
    lowering: Lowering,
    x: Value,
    chosen: Plan,
    cuts: Sequence[Cut],
    middle: float,
    frac: int,
    loc: str,
) -> Value:
    """The series v, which any x has, and (line - v) beyond every cut.

    Args:
        lowering: the run.
        x: any number of its width.
        chosen: made for all these numbers.
        cuts: at most one at each end.
        middle: bound of the absolute values inside.
        frac: fraction bits of the result.
        loc: node of the model.
    """
    bits = [_beyond(lowering, x, cut, loc) for cut in cuts]
    v = inside(lowering, x, chosen, frac, _bits(chosen.size, frac), lowering.ring, loc)
    x = _at(lowering, x, frac, loc)
    width, result = _bits(middle, frac), v
    for bit, cut in zip(bits, cuts, strict=True):
        line = _line(lowering, x, cut, frac, loc)
        if line is None:
            # Less v itself.
            attrs = {"width": secure_type(v).width}
            out = lowering.emit(secure.Select, [bit, v], attrs, loc)
            result = subtract(lowering, result, out, loc)
            continue
        more = subtract(lowering, line, v, loc)
        out = lowering.emit(secure.Select, [bit, more], {"width": secure_type(more).width}, loc)
        width = max(width, secure_type(line).width)
        result = add(lowering, result, out, secure_type(more).width + 1, loc)
    return _narrowed(lowering, result, width, loc)


def _beyond(lowering: Lowering, x: Value, cut: Cut, loc: str) -> Value:
    """The bit [x < cut] or [cut < x]."""
    difference = x
    if cut.raw != 0:
        end = lowering.constant(x, cut.raw, secure_type(x).shape, loc)
        pair = (x, end) if cut.left else (end, x)
        difference = subtract(lowering, *pair, loc)
    elif not cut.left:
        attrs = {"factor": -1, "width": secure_type(x).width}
        difference = lowering.emit(secure.Scale, [x], attrs, loc)
    return lowering.emit(secure.Negative, [difference], {}, loc)


def _narrowed(lowering: Lowering, x: Value, width: int, loc: str) -> Value:
    """The same number with the width that it is known to have."""
    if secure_type(x).width <= width:
        return x
    return lowering.emit(secure.ShiftLeft, [x], {"amount": 0, "width": width}, loc)


def _at(lowering: Lowering, x: Value, frac: int, loc: str) -> Value:
    """The number in the ring of the op, at a fraction that is not smaller than its own."""
    x = lowering.cast(x, loc)
    amount = frac - secure_type(x).frac
    if amount == 0:
        return x
    attrs = {"amount": amount, "width": secure_type(x).width + amount}
    return lowering.emit(secure.ShiftLeft, [x], attrs, loc)


def _line(lowering: Lowering, x: Value, cut: Cut, frac: int, loc: str) -> Value | None:
    """The line beyond a cut; None for zero."""
    raw = int(np.rint(math.ldexp(cut.constant, frac)))
    if cut.slope == 0 and raw == 0:
        return None
    if cut.slope == 0:
        return lowering.constant(x, raw, secure_type(x).shape, loc)
    assert (cut.slope, raw) == (1, 0)
    return x


def _clamped(
    lowering: Lowering, x: Value, chosen: Plan, end: int, size: float, frac: int, loc: str
) -> Value:
    """The function of x clamped to the interval, and what a sloping tail adds: two rounds more.

    For an x so wide that the series' line would leave the ring.
    """
    tails = FUNCTIONS[chosen.series.name].tails
    assert tails is not None
    clamp = {"lo": -end, "hi": end, "width": max(1, end.bit_length())}
    near = _wide(lowering, lowering.emit(secure.Clamp, [x], clamp, loc), chosen.series, loc)
    y = inside(lowering, near, chosen, frac, _bits(size, frac), lowering.ring, loc)
    if tails.right[1] == 0:
        return y
    amount = frac - secure_type(x).frac
    x = _at(lowering, x, frac, loc)
    ends = lowering.constant(x, end << amount, secure_type(x).shape, loc)
    excess = relu(lowering, subtract(lowering, x, ends, loc), loc)
    width = max(secure_type(y).width, secure_type(x).width) + 1
    return add(lowering, y, excess, width, loc)


# --- the exponential -----------------------------------------------------------------------------

_LN2_BITS = 96
_LN2 = 0xB17217F7D1CF79ABC9E3B398  # ln 2 with 96 fraction bits, rounded down


def _log_of_two(bits: int, frac: int) -> tuple[int, Fraction]:
    """A raw number c from bits ln 2 on, and exp(c - bits ln 2): computed by whole numbers alone."""
    if bits == 0:
        return 0, Fraction(1)
    exact = Fraction(bits * _LN2, 1 << _LN2_BITS)
    raw = math.ceil(exact * (1 << frac)) + 1
    rest = Fraction(raw, 1 << frac) - exact
    return raw, sum((rest**n / math.factorial(n) for n in range(16)), Fraction(0))


def _scaled(s: Series, factor: Fraction) -> Series:
    """The series times a number a little above 1; every coefficient is rounded again."""

    def times(n: int) -> int:
        return round(n * factor)

    # Of 1, the harmonics, and x.
    rounded = 1 + 2 * s.terms + (abs(s.lo) if s.slope else 0.0)
    error = s.error * float(factor) + rounded * 2.0 ** -(s.frac + 1)
    return replace(
        s,
        cos=tuple(map(times, s.cos)),
        sin=tuple(map(times, s.sin)),
        constant=times(s.constant),
        slope=times(s.slope),
        error=error,
    )


@cache
def _exp_series(lowest: float, error: float) -> tuple[Series, bool]:
    """A series of exp on numbers below 0 and above ``lowest``, and whether it needs a cut.

    Below the cut exp is at most ``error``.
    """
    error = max(error, _FINEST)
    good = [s for s in entries("exp") if s.error <= error]
    whole = min((s for s in good if s.lo <= lowest), key=lambda s: s.terms, default=None)
    cut = min((s for s in good if math.exp(s.lo) <= error), key=lambda s: s.terms)
    if whole is not None and 16 * (whole.terms - cut.terms) <= _CUT_BYTES:
        return whole, False
    return cut, True


def _exp(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """2^B exp(x - B ln 2) for results below 2^B: of numbers that are not positive.

    Where 2^B is too large for the series to be accurate to half a unit, it is the square of
    exp(x / 2), which makes the error a relative one: 3 rounds more.
    """
    (x,), frac, loc = operands, lowering.phi.frac, op.loc
    gain, width = max(0, lowering.result_width(op, 64) - 64), lowering.result_width(op, frac)
    error = math.ldexp(1.0, -(frac + 1))
    if math.ldexp(error, -gain) >= _FINEST_EXP:
        return [_exponential(lowering, x, gain, frac, error, width, lowering.ring, loc)]
    half = (gain + 1) // 2
    inner = min((64 - MAX_TRUNCATE_SLACK - gain) // 2 - 1, frac + half + 3, 64 // 2 - 4)
    attrs = {"factor": 1, "frac": 1, "width": secure_type(x).width}
    x = lowering.emit(secure.Scale, [x], attrs, loc)
    root = _exponential(
        lowering, x, half, inner, math.ldexp(error, -half - 2), half + inner, 64, loc
    )
    whole = 2 * (half + inner)
    square = lowering.emit(secure.Mul, [root, root], {"width": whole}, loc)
    amount = 2 * inner - frac
    attrs = {"amount": amount, "width": width}
    if lowering.ring == 32 and amount <= 32:
        attrs["ring"] = 32
    return [lowering.cast(lowering.emit(secure.Truncate, [square], attrs, loc), loc)]


def _exponential(
    lowering: Lowering,
    x: Value,
    gain: int,
    frac: int,
    error: float,
    width: int,
    ring: int,
    loc: str,
) -> Value:
    """The exponential, below 2^gain; error before truncation, as far as the series have it.

    Below the interval of the series, where the result is smaller than that, it is zero: one
    comparison beside the series, and one select.
    """
    type_ = secure_type(x)
    raw, factor = _log_of_two(gain, type_.frac)
    error = math.ldexp(error, -gain)
    lowest = -math.ldexp((1 << type_.width) + raw, -type_.frac)
    s, cut = _exp_series(lowest, error)
    s = _scaled(s, factor)
    if raw:
        moved = lowering.constant(x, raw, type_.shape, loc)
        x = subtract(lowering, x, moved, loc)
    x = _wide(lowering, x, s, loc)
    chosen = plan(s, secure_type(x), -s.lo, frac, error / 2, ring, gain)
    if chosen is None:
        raise _no_room("exp", loc)
    if not cut:
        return inside(lowering, x, chosen, frac, width, ring, loc)
    end = Cut(True, math.ceil(math.ldexp(s.lo, secure_type(x).frac)), 0.0, 0)
    below = _beyond(lowering, x, end, loc)
    v = inside(lowering, x, chosen, frac, max(width, _bits(chosen.size, frac)), ring, loc)
    return lowering.emit(secure.Select, [below, v], {"invert": True, "width": width}, loc)


# --- functions with an own rule ------------------------------------------------------------------


def _elu(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """exp(x) - 1 between a cut on the left and zero, x on the right: both comparisons at once."""
    (x,), frac, loc = operands, lowering.phi.frac, op.loc
    type_, unit = secure_type(x), 2.0**-frac
    lowest = -math.ldexp(1.0, type_.width - type_.frac)
    s, cut = _exp_series(lowest, unit / 2)
    s = replace(s, constant=s.constant - (1 << s.frac))
    x = _wide(lowering, x, s, loc)
    chosen = plan(s, secure_type(x), -s.lo, frac, unit / 4, lowering.ring)
    if chosen is None:
        raise _no_room("exp", loc)
    cuts = [Cut(False, 0, 0.0, 1)]
    if cut:
        end = math.ceil(math.ldexp(s.lo, secure_type(x).frac))
        cuts.insert(0, Cut(True, end, -1.0, 0))
    return [selected(lowering, x, chosen, cuts, 1.0 + chosen.error + unit, frac, loc)]


def _wave(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """A sine or cosine: one harmonic of any number, the period being a public factor."""
    (x,), frac, loc = operands, lowering.phi.frac, op.loc
    type_ = secure_type(x)
    if type_.ring == 32 and type_.width <= 32 - MAX_CAST_SLACK:
        # More bits of the period: the angle's error grows with x.
        x = lowering.emit(secure.Cast, [x], {"ring": 64}, loc)
        type_ = secure_type(x)
    exponent = min(_TURN_BITS + 3, type_.ring - type_.frac)
    one = 1 << 28
    pair = ((0,), (one,)) if op.definition is tensor.Sin else ((one,), (0,))
    multiplier = math.floor(math.ldexp(1 / (2 * math.pi), exponent) + 0.5)
    # The factor is off by half at most, at numbers of up to 2^bits.
    error = math.pi * math.ldexp(1.0, type_.width - type_.frac - exponent)
    s = Series(op.name, 0.0, 0.0, exponent, multiplier, 28, *pair, 0, 0, error)
    chosen = plan(s, type_, 0.0, frac, 2.0 ** -(frac + 2), lowering.ring)
    if chosen is None:
        raise _no_room(op.name, loc)
    width = _bits(1.0 + chosen.error + 2.0**-frac, frac)
    return [inside(lowering, x, chosen, frac, width, lowering.ring, loc)]


def _atan(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """A series without tails: of numbers whose width keeps them inside."""
    (x,), frac, loc = operands, lowering.phi.frac, op.loc
    type_ = secure_type(x)
    end = math.ldexp(1.0, type_.width - type_.frac)
    try:
        found = evaluate(
            lowering, x, "atan", -end, end, frac=frac, error=2.0 ** -(frac + 1), loc=loc
        )
    except MpccError:
        raise MpccError.of(
            "E-lower-format",
            f"atan is supported of numbers up to 16, not up to {end:g}",
            loc,
            "declare a narrower --input-range, or clip its operand",
        ) from None
    return [found]


def _tailed(name: str) -> Rule:
    """The rule of a function with tails."""

    def rule(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
        return [tailed(lowering, operands[0], name, frac=lowering.phi.frac, loc=op.loc)]

    return rule


def _gelu(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    name = "gelu_tanh" if op.attrs["approximate"] == "tanh" else "gelu"
    return [tailed(lowering, operands[0], name, frac=lowering.phi.frac, loc=op.loc)]


RULES: Rules = {
    tensor.Exp: _exp,
    tensor.Sigmoid: _tailed("sigmoid"),
    tensor.Tanh: _tailed("tanh"),
    tensor.Erf: _tailed("erf"),
    tensor.Gelu: _gelu,
    tensor.Silu: _tailed("silu"),
    tensor.Mish: _tailed("mish"),
    tensor.Softplus: _tailed("softplus"),
    tensor.Elu: _elu,
    tensor.Sin: _wave,
    tensor.Cos: _wave,
    tensor.Atan: _atan,
}
