"""Programs under attack: does any value leave its width, or any result its stated bound?

A :class:`Subject` is a tensor module at given fraction bits and under a range policy. One run of
the simulator keeps every raw value. Each operator is then held against its own declaration: its
result must lie within the bounds that the range rule gives for exactly the operands that it had. So
what is checked is what the proof of ranges is made of, wherever the operator stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.ir.analysis.forms import CONST, declaration, forms
from mpcc.ir.analysis.ranges import observe
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.interp import fixed
from mpcc.ir.intervals import Interval, Rounding, widen
from mpcc.ir.ops import secure, tensor
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.types import BitType, SecureType
from mpcc.passes.analysis.inputs import input_ranges, weight_bits
from mpcc.passes.analysis.ranges import Ranges
from mpcc.passes.lower_tensor_to_secure import encode_weights
from mpcc.passes.lowerings import RULES, Lowering

__all__ = ["ROUNDINGS", "Found", "Subject", "climbed", "drawn", "formatted", "lanes_of"]

Array = npt.NDArray[Any]
Limits = Mapping[str, tuple[float, float]]
Inputs = Mapping[str, Array]

ROUNDINGS = ("floor", "worst", "random")

_RING = 64
_SLACK = 2.0**-36
"""Relative: covers the rounding of a reference in binary64."""


@dataclass
class Found:
    """What runs have shown so far.

    Attributes:
        inputs: numbers that were fed in.
        overflows: values outside their declared widths, where the policy says that there are none.
        outside: results outside the bounds of their operators.
        error: the largest distance of a result from the float operator of the operands that it
            had, in units of the activations' format.
        share: the largest such distance as a part of what is allowed there.
        used: the largest absolute value as a part of what its width allows.
        where: the first ops that failed.
    """

    inputs: int = 0
    overflows: int = 0
    outside: int = 0
    error: float = 0.0
    share: float = 0.0
    used: float = 0.0
    where: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing failed."""
        return not self.overflows and not self.outside


def formatted(
    module: Module,
    constants: Mapping[str, Array],
    limits: Limits,
    frac: int,
    weight_frac: int,
    policy: str = "proved",
    samples: Sequence[Mapping[str, Array]] = (),
    coarse: int = 0,
) -> Subject:
    """A module in formats of so many fraction bits.

    Args:
        module: as for :class:`Subject`.
        constants: its weights.
        limits: enforced range of every input.
        frac: fraction bits of the activations.
        weight_frac: of the weights.
        policy: ``proved``, or ``guarded`` with samples.
        samples: calibration data.
        coarse: bits that comparisons leave out.

    Raises:
        MpccError, NoFitError: the formats do not fit.
    """
    options = FormatOptions(policy=policy, input_ranges=limits, ring=_RING)
    observed = observe(module, constants, samples) if samples else None
    inputs = input_ranges(module, observed, options, policy)
    bits = weight_bits(module, constants, 4)
    ranges = Ranges(module, constants, options, policy, inputs, observed, bits)
    phi = ranges.formats(frac, weight_frac, coarse)
    return Subject(module, constants, inputs.ranges, phi, options, ranges.proved_ends(phi))


class Subject:
    """A module in formats.

    Args:
        module: a tensor module; inputs have one lane per row of their first axis.
        constants: its weights.
        limits: enforced range of every input.
        phi: the formats.
        options: what they were chosen by.
        ends: least and largest value of ops, as proved.
    """

    def __init__(
        self,
        module: Module,
        constants: Mapping[str, Array],
        limits: Limits,
        phi: Phi,
        options: FormatOptions,
        ends: Mapping[Op, tuple[float, float]],
    ) -> None:
        self.module, self.constants = module, constants
        self.limits, self.frac, self.phi = limits, phi.frac, phi
        lowering = Lowering(module, self.phi, options, RULES)
        self.secure = lowering.run()
        self.weights = encode_weights(constants, self.secure)
        unit = 2.0**-phi.frac
        encoding = 2.0 ** -(min(phi.frac, phi.weight_frac) + 1)
        self.rounding = Rounding(unit, encoding, ((1 << phi.coarse) - 1) * unit)
        self._index = {r: i for i, op in enumerate(self.secure.main.ops) for r in op.results}
        self._places: dict[Value, Value] = {}
        self._exact: dict[Value, Interval] = {}
        self._clamped = self._clamps(lowering)
        self._unsure = _before_clamps(self.secure) if phi.policy == "guarded" else frozenset()
        form = forms(module.main).form
        for op in module.main.ops:
            for value in op.results:
                if form[value] == CONST:
                    self._exact[value] = self._constant(op, value)
                else:
                    self._places[value] = lowering.lowered(value)
        self._ranges = dict(self.phi.ranges)
        self._reach = {
            v: 2.0 ** (p.type.width - p.type.frac)
            for v, p in self._places.items()
            if isinstance(p.type, SecureType)
        }
        self._reach |= {v: 2.0 ** self._clamp_bits(v) for v in self._clamped}
        self._ops = [op for op in module.main.ops if self._is_checked(op)]
        self._ends = {op: ends[op] for op in self._ops if op in ends and self._is_sure(op)}

    def _clamp_bits(self, value: Value) -> int:
        """The clamp of a value."""
        assert value.op is not None
        return dict(self.phi.clamps)[self.module.main.ops.index(value.op)]

    def _clamps(self, lowering: Lowering) -> dict[Value, Value]:
        """What users take of a clamped value."""
        found: dict[Value, Value] = {}
        for i in dict(self.phi.clamps):
            for value in self.module.main.ops[i].results:
                near = {lowering.lowered(value)}
                for op in self.secure.main.ops:
                    if op.operands and op.operands[0] in near:
                        if op.definition is secure.Clamp:
                            found[value] = op.result
                            break
                        if op.definition in (secure.Truncate, secure.Cast):
                            near.add(op.result)
        return found

    def _constant(self, op: Op, value: Value) -> Interval:
        if op.definition is tensor.Weight:
            array = np.asarray(self.constants[op.attrs["name"]], np.float64)
            return widen(Interval(array, array), self.rounding.constant_error)
        operands = [self._exact[v] for v in op.operands]
        results = declaration(op).interval(op.attrs, operands, self.rounding).results
        return results[list(op.results).index(value)]

    def _is_checked(self, op: Op) -> bool:
        if op.definition in (tensor.Input, tensor.Output) or op.results[0] in self._exact:
            return False
        # A product that is clamped behind its truncation may be anything.
        return not (self._unsure and op.results[0] in self._clamped)

    def _is_sure(self, op: Op) -> bool:
        """Whether no clamp is needed to keep the op's result in its range."""
        return all(self._index[self._places[v]] not in self._unsure for v in op.results)

    def _value(self, value: Value, raw: Mapping[int, Array]) -> Array:
        """What a value of the model became, as real numbers."""
        op = value.op
        if op is not None and op.definition is tensor.Not:
            # Users take the bit itself, and do the opposite.
            return np.asarray(1 - self._value(op.operands[0], raw))
        return self._number(self._places[value], raw)

    def _number(self, place: Value, raw: Mapping[int, Array]) -> Array:
        array, type_ = raw[self._index[place]], place.type
        if isinstance(type_, SecureType):
            return np.ldexp(array.astype(np.float64), -type_.frac)
        assert isinstance(type_, BitType)
        return array.astype(np.float64)

    def _operand(self, value: Value, raw: Mapping[int, Array], inputs: Inputs) -> Interval:
        if value in self._exact:
            return self._exact[value]
        if value.op is not None and value.op.definition is tensor.Input:
            # These are multiples of a unit; of whole numbers the program may have one-hot rows.
            x = np.asarray(inputs[value.op.attrs["name"]], np.float64)
            return Interval(x, x)
        if value in self._clamped:
            x = self._number(self._clamped[value], raw)
            return Interval(x, x)
        x, type_ = self._value(value, raw), self._places[value].type
        # Where it is taken as an activation, it is truncated before.
        cut = isinstance(type_, SecureType) and type_.frac > self.frac
        slack = self.rounding.unit if cut else 0.0
        return Interval(x - slack, x + slack)

    def run(
        self, inputs: Mapping[str, Array], rounding: str, seed: int, found: Found
    ) -> tuple[Array, Array]:
        """One run, whose findings are added to ``found``.

        Returns:
            Per lane, the largest share of an allowed error, and of a width.
        """
        done = fixed.simulate(self.secure, self.weights, inputs, rounding, seed, keep_raw=True)
        lanes = lanes_of({n: x.shape for n, x in inputs.items()})
        share, used = np.zeros(lanes), np.zeros(lanes)
        found.inputs += sum(x.size for x in inputs.values())
        for overflow in done.overflows:
            if overflow.op not in self._unsure:
                found.overflows += overflow.count
                self._note(found, f"overflow of {overflow.reached} bits in {overflow.loc}")
        for i, op in enumerate(self.secure.main.ops):
            if i in done.raw and i not in self._unsure and isinstance(op.result.type, SecureType):
                part = np.abs(np.ldexp(done.raw[i].astype(np.float64), -op.result.type.width))
                found.used = max(found.used, float(part.max(initial=0.0)))
                _raise(used, part)
        for op in self._ops:
            self._check(op, done.raw, inputs, found, share)
        for op, (lo, hi) in self._ends.items():
            have = self._value(op.results[0], done.raw)
            if have.size and not (lo <= have.min() and have.max() <= hi):
                found.outside += 1
                self._note(found, f"beyond what is proved of {op.name} {op.loc}")
        return share, used

    def values(self, inputs: Inputs, rounding: str, seed: int) -> dict[Value, Array]:
        """What every value that is no constant became, as real numbers."""
        done = fixed.simulate(self.secure, self.weights, inputs, rounding, seed, keep_raw=True)
        return {value: self._value(value, done.raw) for value in self._places}

    def _bounds(self, op: Op, operands: Sequence[Interval]) -> Sequence[Interval]:
        """What the range rule says of these operands.

        Where it depends on the largest of all elements, a lane of all that may occur comes first.
        """
        if op.definition not in (tensor.Exp, tensor.Normalize):
            return declaration(op).interval(op.attrs, operands, self.rounding).results
        (x,) = operands
        if op.definition is tensor.Exp:
            most = self._ranges[self.module.main.ops.index(op)] * math.log(2)
        else:
            most = max(self._reach[op.operands[0]], x.magnitude)
        lo = np.concatenate([np.full_like(x.lo[:1], -most), x.lo])
        hi = np.concatenate([np.full_like(x.hi[:1], most), x.hi])
        results = declaration(op).interval(op.attrs, [Interval(lo, hi)], self.rounding).results
        return [r.map(lambda end: end[1:]) for r in results]

    def _check(
        self, op: Op, raw: Mapping[int, Array], inputs: Inputs, found: Found, share: Array
    ) -> None:
        operands = [self._operand(v, raw, inputs) for v in op.operands]
        bounds = self._bounds(op, operands)
        with np.errstate(all="ignore"):
            floats = declaration(op).evaluate(op.attrs, *((x.lo + x.hi) / 2 for x in operands))
        for value, bound, wanted in zip(op.results, bounds, floats, strict=True):
            have = self._value(value, raw)
            slack = _SLACK * np.maximum(np.abs(bound.lo), np.abs(bound.hi))
            outside = (have < bound.lo - slack) | (have > bound.hi + slack)
            count = int(outside.sum())
            if count:
                found.outside += count
                self._note(found, f"{count} results outside in {op.name} {op.loc}")
            error = np.abs(have - np.clip(wanted, bound.lo, bound.hi))
            error = np.where(np.isfinite(error), error, 0.0)
            found.error = max(found.error, float(error.max(initial=0.0)) / self.rounding.unit)
            middle, half = (bound.lo + bound.hi) / 2, (bound.hi - bound.lo) / 2 + slack
            with np.errstate(all="ignore"):
                part = np.where(half > 0, np.abs(have - middle) / half, 0.0)
            found.share = max(found.share, float(part.max(initial=0.0)))
            _raise(share, part)

    def _note(self, found: Found, what: str) -> None:
        if len(found.where) < 4 and what not in found.where:
            found.where.append(what)

    def cuts(self) -> Array:
        """Numbers near which something is decided: all public constants of the program."""
        found = {0.0}
        for op in self.secure.main.walk(secure.Pad.name):
            type_ = op.result.type
            assert isinstance(type_, SecureType)
            found.add(float(np.ldexp(float(op.attrs["value"]), -type_.frac)))
        return np.array(sorted(found | {-x for x in found}))


def lanes_of(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Rows of a batch that inputs of these shapes are; 1 where they are one input together."""
    first = {s[0] if s else 1 for s in shapes.values()}
    return first.pop() if len(first) == 1 else 1


def _raise(most: Array, part: Array) -> None:
    """Keep the largest of every lane, of arrays that have the lanes first."""
    if len(most) == 1:
        most[0] = max(most[0], part.max(initial=0.0))
    elif part.ndim and part.shape[0] == len(most):
        np.maximum(most, part.reshape(len(most), -1).max(axis=1, initial=0.0), out=most)


def _before_clamps(module: Module) -> frozenset[int]:
    """Ops whose values may be anything under ``guarded``: up to a truncation that is clamped."""
    index = {r: i for i, op in enumerate(module.main.ops) for r in op.results}
    free: set[int] = set()
    for clamp in module.main.walk(secure.Clamp.name):
        waiting = []
        cut = clamp.operands[0].op
        if cut is not None and cut.definition is secure.Truncate:
            waiting = [cut.operands[0]]
        while waiting:
            op = waiting.pop().op
            if op is None or index[op.result] in free or op.definition is secure.Truncate:
                continue
            if op.definition in (secure.Input, secure.Weight, secure.Select, secure.Clamp):
                continue
            free.add(index[op.result])
            waiting += op.operands
    return frozenset(free)


# --- inputs --------------------------------------------------------------------------------------


def _snapped(x: Array, lo: float, hi: float, unit: float) -> Array:
    """Multiples of a unit inside the range."""
    return np.clip(np.rint(x / unit), np.ceil(lo / unit), np.floor(hi / unit)) * unit


def drawn(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    limits: tuple[float, float],
    frac: int,
    cuts: Array,
) -> Array:
    """Random and hostile numbers, multiples of a unit 2^-frac; lanes are the first axis.

    A third are uniform, a third of all orders of magnitude, the rest ends of the range, powers of
    two and ``cuts``, each also a unit or two off. Some lanes are zero or alike, have one element
    that is not, only ends, or ends as masks between small numbers.
    """
    (lo, hi), unit = limits, 2.0**-frac
    most = max(abs(lo), abs(hi), unit)
    powers = np.exp2(np.arange(-frac, np.ceil(np.log2(most)) + 1))
    special = np.concatenate([cuts, powers, -powers, [lo, hi, 0.0]])
    special = special[(special >= lo) & (special <= hi)] if lo <= 0 <= hi else np.array([lo, hi])
    size = int(np.prod(shape))
    x = rng.uniform(lo, hi, size)
    orders = np.exp2(rng.uniform(-frac, np.log2(most), size)) * rng.choice([-1, 1], size)
    near = rng.choice(special, size) + rng.integers(-2, 3, size) * unit
    x = np.choose(rng.integers(0, 3, size), [x, orders, near])
    x = _snapped(x, lo, hi, unit).reshape(shape)
    if len(shape) > 1:
        x = _patterned(rng, x, lo, hi, unit)
    return np.asarray(x)


def _patterned(rng: np.random.Generator, x: Array, lo: float, hi: float, unit: float) -> Array:
    lanes, rest = x.shape[0], x.reshape(x.shape[0], -1)
    kind, row = np.asarray(rng.integers(0, 12, lanes)), np.arange(lanes)
    zero = float(np.clip(0.0, np.ceil(lo / unit), np.floor(hi / unit)) * unit)
    rest[kind == 0] = zero
    rest[kind == 1] = rest[kind == 1, :1]
    one = kind == 2
    rest[one] = rest[one, :1]
    at = np.asarray(rng.integers(0, rest.shape[1], lanes))
    value = np.asarray(rng.choice([lo, hi, zero + unit, zero - unit], lanes))
    rest[row[one], at[one]] = value[one]
    ends = rng.choice([lo, hi], rest.shape)
    rest[kind == 3] = ends[kind == 3]
    small = _snapped(rest * 2.0**-8, lo, hi, unit)
    rest[kind == 4] = small[kind == 4]
    masks = np.where(rng.random(rest.shape) < 0.5, lo, small)
    rest[kind == 5] = masks[kind == 5]
    shifted = _snapped(hi - np.abs(small), lo, hi, unit)
    rest[kind == 6] = shifted[kind == 6]
    return _snapped(rest, lo, hi, unit).reshape(x.shape)


def climbed(
    rng: np.random.Generator, parents: Array, count: int, limits: tuple[float, float], frac: int
) -> Array:
    """``count`` lanes near some that were good: elements moved by steps of all sizes."""
    lo, hi = limits
    unit = 2.0**-frac
    x = parents[rng.integers(0, len(parents), count)].copy()
    reach = max(1.0, np.log2(max(hi - lo, unit) / unit))
    step = np.exp2(rng.uniform(0, reach, x.shape)) * unit * rng.choice([-1, 1], x.shape)
    moved = rng.random(x.shape) < rng.choice([0.05, 0.3, 1.0], (count, *[1] * (x.ndim - 1)))
    return _snapped(np.where(moved, x + step, x), lo, hi, unit)
