"""Propagated error bounds of a secure module: how far a run may be from the float model.

Sound for every coin, and therefore loose: see docs/numbers.md for how loose. Everything here is in
real units (raw / 2^frac), elementwise, and holds while no value leaves its declared width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import MpccError
from mpcc.ir import harmonics, linear
from mpcc.ir.calls import inline
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.ops import secure
from mpcc.ir.types import SecureType

__all__ = ["Bound", "bound", "error_bounds"]

Array = npt.NDArray[Any]

# Covers binary64 rounding of the sums below.
_SLACK = 1 + 2.0**-36


@dataclass(frozen=True)
class Bound:
    """Bounds for one output, largest over its elements.

    Attributes:
        error: distance from the float model (with the program's clamps applied to it): encoding of
            inputs and weights, every rounding, and the output's conversion to binary32.
        spread: distance between two runs on the same input with different coins. A decision made
            on the output is the same in all runs wherever its margin exceeds this.
    """

    error: float
    spread: float


@dataclass(frozen=True)
class _Known:
    """What is known of a value, elementwise.

    Of a number: its size in any run, its distance from the float model's, and the distance between
    runs. Of a bit: 1, whether (0 or 1) the float model's may be another, and another run's.
    """

    size: Array
    error: Array
    spread: Array


def bound(
    module: Module, weights: Mapping[str, Array], raw: Mapping[int, Array] | None = None
) -> dict[str, Bound]:
    """Error bounds of all outputs by name.

    Args:
        module: a verified secure module.
        weights: raw int64 weights by name.
        raw: raw results by op index of one run (``simulate(..., keep_raw=True).raw``): the bound
            then holds for that input and is far tighter. None: for all inputs in their ranges.

    Raises:
        MpccError: an op without an error rule.
    """
    module = inline(module).module
    known: dict[Value, _Known] = {}
    index: dict[Value, int] = {}
    outputs: dict[str, Bound] = {}
    for i, op in enumerate(module.main.ops):
        operands = [known[v] for v in op.operands if v in known]
        if op.definition is secure.Reveal:
            (x,) = operands
            size = float(x.size.max(initial=0.0))
            spread = float(x.spread.max(initial=0.0)) * _SLACK
            error = float(x.error.max(initial=0.0)) * _SLACK
            outputs[op.attrs["name"]] = Bound(error + size * 2.0**-24, spread)
            continue
        type_ = op.result.type
        if op.definition is secure.Negative:
            (x,), (value,) = operands, op.operands
            here = None if raw is None else _here(value, raw[index[value]])
            found = _sign(x, here, _coarse(op))
        else:
            found = _rule(op, operands, weights, known)
        index[op.result] = i
        if raw is not None and isinstance(type_, SecureType):
            # Another run may be larger than this one by the spread.
            size_here = np.minimum(np.abs(_here(op.result, raw[i])) + found.spread, found.size)
            found = _Known(size_here, found.error, found.spread)
        known[op.result] = found
    return outputs


def error_bounds(module: Module, weights: Mapping[str, Array]) -> dict[Value, float]:
    """Distance from the float model of every number, largest over its elements, for all inputs.

    Values behind an op without an error rule have no bound and are left out.

    Args:
        module: a verified secure module.
        weights: raw int64 weights by name.
    """
    known: dict[Value, _Known] = {}
    for op in module.main.ops:
        if op.definition is secure.Reveal or any(v not in known for v in op.operands):
            continue
        operands = [known[v] for v in op.operands]
        if op.definition is secure.Negative:
            known[op.result] = _sign(operands[0], None, _coarse(op))
            continue
        with contextlib.suppress(MpccError):
            known[op.result] = _rule(op, operands, weights, known)
    return {
        value: float(found.error.max(initial=0.0)) * _SLACK
        for value, found in known.items()
        if isinstance(value.type, SecureType)
    }


def _here(value: Value, raw: Array) -> Array:
    """Real numbers of raw words."""
    type_ = value.type
    assert isinstance(type_, SecureType)
    return np.ldexp(raw.astype(np.float64), -type_.frac)


def _coarse(bit: Op | None) -> float:
    """How far above zero a number may be and still count as negative, in real units."""
    if bit is None or bit.definition is not secure.Negative:
        return 0.0
    type_ = bit.operands[0].type
    assert isinstance(type_, SecureType)
    coarse: int = bit.attrs["coarse"]
    return float(((1 << coarse) - 1) * 2.0**-type_.frac)


def _sign(x: _Known, here: Array | None, coarse: float) -> _Known:
    """[x < 0]: it may differ where x is as near to zero as x may move; anywhere without a run."""
    size = 0.0 if here is None else np.abs(here)

    def differs(own: Array) -> Array:
        move = own + coarse
        return ((move > 0) & (size <= move * _SLACK)).astype(np.float64)

    return _Known(np.ones_like(x.error), differs(x.error), differs(x.spread))


def _times(factor: float, x: Array) -> Array:
    """A multiple; zero times what has no bound is zero, since the factor is known."""
    return factor * x if factor else np.zeros_like(x)


def _product(op: Op, a: _Known, b: _Known) -> _Known:
    definition = op.definition
    assert issubclass(definition, secure.Product)
    product = definition

    def times(x: Array, y: Array) -> Array:
        # Where a factor has no bound the product has none, even if the other is zero.
        with np.errstate(invalid="ignore", over="ignore"):
            found = product.multiply(op.attrs, x, y)
        return np.where(np.isnan(found), np.inf, found)

    size = times(a.size, b.size)
    # |a'b' - ab| <= |a'| |b' - b| + |a' - a| (|b'| + |b' - b|)
    error = times(a.size, b.error) + times(a.error, b.size + b.error)
    spread = times(a.size, b.spread) if b.spread.any() else np.zeros_like(size)
    spread = spread + times(a.spread, b.size + b.spread)
    return _Known(size * _SLACK, error * _SLACK, spread * _SLACK)


def _rule(
    op: Op, operands: list[_Known], weights: Mapping[str, Array], known: Mapping[Value, _Known]
) -> _Known:
    definition, attrs = op.definition, op.attrs
    type_ = op.result.type
    if issubclass(definition, secure.Structural):
        moves, context = definition, secure.Context.of(type_)
        return _Known(
            *(moves.evaluate(attrs, context, *(getattr(o, f) for o in operands)) for f in _FIELDS)
        )
    assert isinstance(type_, SecureType)
    unit = 2.0**-type_.frac
    if definition is secure.Input:
        size = np.full(type_.shape, max(abs(attrs["lo"]), abs(attrs["hi"])) + unit)
        half = 0.0 if attrs["rows"] else unit / 2
        return _Known(size, np.full(type_.shape, half), np.zeros(type_.shape))
    if definition is secure.Weight:
        size = np.abs(weights[attrs["name"]].astype(np.float64)) * unit
        return _Known(size, np.full(type_.shape, unit / 2), np.zeros(type_.shape))
    if issubclass(definition, secure.Product):
        return _product(op, operands[0], operands[1])
    if definition in (secure.Add, secure.Sub):
        pair = _extreme(op)
        if pair is not None:
            a, b = (known[v] for v in pair)
            more = op.operands[1].op
            assert more is not None
            jump = _coarse(more.operands[0].op)
            size, error, spread = (np.maximum(getattr(a, f), getattr(b, f)) for f in _FIELDS)
            return _Known(size, error + jump, spread + jump)
        a, b = operands
        return _Known(a.size + b.size, a.error + b.error, a.spread + b.spread)
    (*_, x) = operands
    if definition in (secure.ShiftLeft, secure.Clamp, secure.FromBit, secure.Cast):
        return x
    if definition is secure.Truncate:
        # Each run is within one unit of the quotient. Equal operands round to neighbours.
        exact = attrs["rounding"] == "exact"
        moved = unit if exact else 2 * unit
        still = 0.0 if exact else unit
        spread = np.where(x.spread > 0, x.spread + moved, still)
        return _Known(x.size + unit, x.error + unit, spread)
    if definition is secure.Fourier:
        return _function(op, x)
    if definition is secure.Select:
        bit, value = op.operands
        if attrs["invert"] and bit.op is not None and bit.op.operands == [value]:
            # max(x, 0) moves by no more than x, or is a zero instead of something small
            jump = _coarse(bit.op)
            return _Known(x.size, x.error + jump, x.spread + jump)
        choice = known[bit]
        error = np.where(choice.error > 0, x.size, 0.0) + x.error
        return _Known(x.size, error, np.where(choice.spread > 0, x.size, 0.0) + x.spread)
    if definition is secure.Scale:
        factor = abs(attrs["factor"]) * 2.0 ** -attrs["frac"]
        # An encoded factor is within half a unit of the model's.
        off = 2.0 ** -(attrs["frac"] + 1) if attrs["frac"] else 0.0
        error = _times(factor, x.error) + _times(off, x.size + x.error)
        return _Known(_times(factor, x.size), error * _SLACK, _times(factor, x.spread))
    if definition is secure.ReduceSum:
        return _Known(*(getattr(x, f).sum(axis=attrs["axes"]) * _SLACK for f in _FIELDS))
    if definition is secure.Pad:
        low, high = attrs["low"], attrs["high"]
        size = linear.pad_zero(x.size, low, high, abs(attrs["value"]) * unit)
        error = linear.pad_zero(x.error, low, high, unit / 2 if attrs["value"] else 0.0)
        return _Known(size, error, linear.pad_zero(x.spread, low, high))
    raise MpccError.of("E-bound-op", f"{op.name} has no error rule", op.loc)


def _function(op: Op, x: _Known) -> _Known:
    """A function moves by its slope times the operand's move, and has an error of its own."""
    type_ = op.operands[0].type
    assert isinstance(type_, SecureType)
    slope, size = harmonics.slope(op.attrs) * 2.0**type_.frac, harmonics.size(op.attrs)
    own = harmonics.fourier_error(op.attrs)

    def moved(move: Array) -> Array:
        return np.minimum(slope * move * _SLACK, 2 * size)

    error = moved(x.error) + (own + op.attrs["error"])
    return _Known(np.full(x.size.shape, size), error, moved(x.spread) + 2 * own)


_FIELDS = ("size", "error", "spread")


def _extreme(op: Op) -> tuple[Value, Value] | None:
    """The two operands if op is the last of max(a, b) = b + relu(a - b), or min(a, b) = a - it."""
    if op.definition not in (secure.Add, secure.Sub):
        return None
    kept, more = op.operands
    if more.op is None or more.op.definition is not secure.Select or not more.op.attrs["invert"]:
        return None
    bit, difference = more.op.operands
    if bit.op is None or bit.op.operands != [difference]:
        return None
    sub = difference.op
    if sub is None or sub.definition is not secure.Sub:
        return None
    a, b = sub.operands
    return (a, b) if kept is (b if op.definition is secure.Add else a) else None
