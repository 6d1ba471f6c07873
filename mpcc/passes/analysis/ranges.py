"""Ranges by policy: how large every value may become at given fraction bits, and where to clamp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.analysis.forms import (
    CONST,
    PRODUCT,
    Forms,
    declaration,
    forms,
    fractions,
    is_real,
    kind_of,
)
from mpcc.ir.analysis.ranges import Intervals, Observed
from mpcc.ir.analysis.rings import Rings
from mpcc.ir.calls import inline
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.ops import tensor
from mpcc.ir.ops.secure import MAX_TRUNCATE_SLACK
from mpcc.ir.ops.tensor import Kind
from mpcc.ir.phi import BITS_MAX, BITS_MIN, FormatOptions, Phi
from mpcc.ir.types import TensorType
from mpcc.passes.analysis.inputs import Inputs
from mpcc.passes.lower_tensor_to_secure import build_secure, range_bits

__all__ = ["Misfit", "NoFitError", "NoFormError", "Ranges"]

Array = npt.NDArray[Any]

_GUARD_SLACK = 8
"""Under guarded, a value may be proved this many bits wider than wanted before it is clamped."""


@dataclass(frozen=True)
class Room:
    """What is left for the range of a value.

    Attributes:
        bits: of the range.
        frac: fraction bits beside it.
        ring: bits of the ring, the value's or one that it goes on to.
    """

    bits: int
    frac: int
    ring: int


@dataclass(frozen=True)
class Misfit:
    """An op whose range does not fit.

    Attributes:
        op: the op.
        bits: of its range, or of the weights'.
        room: what is left for it.
    """

    op: Op
    bits: int
    room: Room

    def diagnostic(self, fix: str) -> Diagnostic:
        """What is wrong, and how many fraction bits would fit."""
        name, room = self.op.name, self.room
        fits = room.frac - (self.bits - room.bits)
        would = f"{fits} would fit" if fits >= 0 else "none would fit"
        what = (
            f"the range of {name} does not fit the ring of {room.ring} bits: it takes {self.bits} "
            f"bits where {max(room.bits, 0)} are left beside {room.frac} fraction bits, of which "
            f"{would}"
        )
        return Diagnostic("E-range-fit", what, self.op.loc or name, fix)


class NoFitError(Exception):
    """At these fraction bits some ops do not fit their ring.

    Attributes:
        misfits: all of them, in the order of the program.
    """

    def __init__(self, misfits: Sequence[Misfit]) -> None:
        self.misfits = tuple(misfits)
        super().__init__(misfits[0].op.name)

    def diagnostics(self, fix: str) -> list[Diagnostic]:
        """One for every op."""
        return [misfit.diagnostic(fix) for misfit in self.misfits]


class NoFormError(NoFitError):
    """At these fraction bits all ranges fit, but an operator's fixed-point form does not.

    Attributes:
        error: what its lowering says.
    """

    def __init__(self, error: MpccError) -> None:
        self.misfits = ()
        self.error = error
        Exception.__init__(self, str(error))

    def diagnostics(self, fix: str) -> list[Diagnostic]:
        """What the lowering says, which knows a way out of its own."""
        return list(self.error.diagnostics)


class Ranges:
    """Formats of a module at given fraction bits, under one range policy.

    Args:
        module: a tensor module whose ops all have a secure form.
        constants: its weights by name.
        options: see :class:`FormatOptions`.
        policy: ``proved``, ``guarded`` or ``observed``; the latter two need ``observed``.
        inputs: enforced ranges.
        observed: what the float model did on the calibration data; None without any.
        weight_bits: every weight is below 2^weight_bits.
        rings: of all ops; None: those that the options ask for.

    Attributes:
        module: with its calls written out; all numbers of ops are of this one.
        rows: per op, its number in Phi: ops of one number are calls of one op of a function, and
            have the same range and clamp.
    """

    def __init__(
        self,
        module: Module,
        constants: Mapping[str, Array],
        options: FormatOptions,
        policy: str,
        inputs: Inputs,
        observed: Observed | None,
        weight_bits: int,
        rings: Rings | None = None,
    ) -> None:
        self._source = module
        written = inline(module)
        self.module, self.rows = written.module, written.rows
        self.ops = self.module.main.ops
        self.index = {r: i for i, op in enumerate(self.ops) for r in op.results}
        self.constants = constants
        self.options = options
        self.policy = policy
        self.inputs = inputs
        self.observed = observed
        self.weight_bits = weight_bits
        self.rings = Rings.chosen(module, options) if rings is None else rings
        self._ring = self.rings.table(self.ops)
        self._crossings = self.rings.crossings(self.module.main)
        self._extra = _extra_bits(self.ops)
        self._passed = _passed_rings(self.ops, self.rings)
        self._same: dict[int, list[int]] = {}
        for i, row in enumerate(self.rows):
            self._same.setdefault(row, []).append(i)
        self.coarse = 0
        self._proofs: dict[tuple[int, int, int], Mapping[Op, tuple[float, float]]] = {}
        self._narrowed_by: tuple[int, int, int] | None = None
        self.narrowed: tuple[int, int, float, dict[int, int]] | None = None

    def formats(self, frac: int, weight_frac: int, coarse: int = 0) -> Phi:
        """Phi at these fraction bits and with so many coarse ones.

        Raises:
            NoFitError: a layer does not fit.
        """
        self.coarse = coarse
        given: dict[int, int] = {}
        while True:
            ranges, clamps = self._chosen(frac, weight_frac, given)
            ranges, clamps, before = self._joined(ranges), self._joined(clamps), clamps
            if clamps == before:
                break
            given = clamps  # a clamp of one call is one of all
        if self.options.disclose == "per-model":
            ranges = dict.fromkeys(ranges, max(ranges.values()))
            clamps = dict.fromkeys(clamps, max(clamps.values(), default=0))
        self.check_fit(ranges, clamps, frac, weight_frac)
        phi = Phi(
            self.policy,
            self.rings.main,
            frac,
            weight_frac,
            self.weight_bits,
            self._table(self.inputs.bits),
            self._table(ranges),
            self._table(clamps),
            tuple(sorted(self.rings.others)),
            coarse=coarse,
        )
        self.check_forms(phi)
        return phi

    def check_forms(self, phi: Phi) -> None:
        """NoFormError if an operator that is approximated has no room for its digits."""
        if not any(kind_of(op).activates for op in self.ops):
            return
        try:
            build_secure(self._source, phi, self.options)
        except MpccError as error:
            if error.code != "E-lower-format":
                raise
            raise NoFormError(error) from None

    def _table(self, bits: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
        """A row of Phi for every number."""
        return tuple(sorted({self.rows[i]: b for i, b in bits.items()}.items()))

    def _joined(self, bits: Mapping[int, int]) -> dict[int, int]:
        """The largest of all calls for each of them."""
        largest: dict[int, int] = {}
        for i, b in bits.items():
            row = self.rows[i]
            largest[row] = max(b, largest.get(row, b))
        return {i: b for row, b in largest.items() for i in self._same[row]}

    def _chosen(
        self, frac: int, weight_frac: int, given: Mapping[int, int]
    ) -> tuple[dict[int, int], dict[int, int]]:
        """Ranges and clamps, with those given and more."""
        if self.policy == "observed":
            return self._observed_or_proved(frac, weight_frac), {}
        if self.policy == "guarded":
            return self._guarded(frac, weight_frac, given)
        return self._proved(frac, weight_frac, given)

    def forms(self, clamps: Mapping[int, int]) -> Forms:
        """Forms of all values with these clamps; what crosses to another ring is truncated."""
        return forms(self.module.main, {*clamps, *self._crossings})

    def intervals(self, frac: int, weight_frac: int) -> Intervals:
        """What proves ranges, at given fraction bits."""
        bounds, constants = self.inputs.ranges, self.constants
        made = Intervals(self.module, constants, frac, weight_frac, bounds, self.coarse)
        return self.keep(made, frac, weight_frac)

    def keep(self, made: Intervals, frac: int, weight_frac: int) -> Intervals:
        """Remember where what they prove stands, for :meth:`proved_ends`."""
        self._proofs[frac, weight_frac, self.coarse] = made.ends
        return made

    def proved_ends(self, phi: Phi) -> Mapping[int, tuple[float, float]]:
        """Per op, ends of its result, as proved for formats that were made here."""
        key = phi.frac, phi.weight_frac, phi.coarse
        if self.policy == "observed" and self._narrowed_by is not None:
            key = self._narrowed_by
        ends = self._proofs.get(key, {})
        return {i: ends[op] for i, op in enumerate(self.ops) if op in ends}

    def ranged(self) -> list[tuple[int, Op]]:
        """Ops that have a range in Phi: those that compute, on something that is no constant."""
        form = forms(self.module.main).form
        return [
            (i, op)
            for i, op in enumerate(self.ops)
            if kind_of(op).ranged and any(form[v] != CONST for v in op.results)
        ]

    def _input_bits_of(self, op: Op) -> int:
        lo, hi = self.inputs.ranges[op.attrs["name"]]
        # Encoding rounds: 0.9999 becomes 1 at few fraction bits, which are not chosen yet. With
        # this room at least four of them suffice; secure.input checks the exact condition.
        return range_bits(max(abs(lo), abs(hi)) * (1 + 2.0**-4))

    def _observed_bits(self) -> dict[int, int]:
        """Observed ranges plus headroom; inputs are enforced and need none."""
        assert self.observed is not None
        bits: dict[int, int] = {}
        for i, op in self.ranged():
            if op.definition is tensor.Input:
                bits[i] = self._input_bits_of(op)
            else:
                seen = range_bits(self.observed.magnitude[i])
                bits[i] = min(max(seen, BITS_MIN) + self.options.headroom, BITS_MAX)
        return bits

    def _lower(self, frac: int) -> float:
        """How far below the larger of two numbers their maximum may be."""
        return ((1 << self.coarse) - 1) * 2.0**-frac

    def _observed_or_proved(self, frac: int, weight_frac: int) -> dict[int, int]:
        """The observed range with headroom, or the proved one where that is smaller.

        A proof goes through values that are only observed as if they were certain: beyond them
        everything is undefined anyway. Coarser formats give wider proofs, so one made for fewer
        fraction bits is used again.
        """
        if self.narrowed is not None:
            known_frac, known_weight_frac, known_lower, ranges = self.narrowed
            wider = known_frac <= frac and known_weight_frac <= weight_frac
            if wider and known_lower >= self._lower(frac):
                return dict(ranges)
        wanted = self._observed_bits()
        floor = min(frac, weight_frac)
        intervals = self.intervals(floor, floor)
        bits: dict[int, int] = {}
        for i, op in enumerate(self.ops):
            size = intervals.step(op)
            if i in wanted:
                bits[i] = min(wanted[i], max(range_bits(size), BITS_MIN))
                intervals.clip(op, wanted[i])
        self.narrowed = (floor, floor, self._lower(floor), bits)
        self._narrowed_by = floor, floor, self.coarse
        return dict(bits)

    def _rooms(self, clamps: Mapping[int, int], frac: int, weight_frac: int) -> dict[Value, Room]:
        """Per value, the range bits that its fraction leaves in the ring."""
        table = fractions(self.module.main, self.forms(clamps), frac, weight_frac)
        rooms: dict[Value, Room] = {}
        for v, f in table.items():
            own = Room(min(self._ring[v] - MAX_TRUNCATE_SLACK - f, BITS_MAX), f, self._ring[v])
            # As an activation it may go on to a smaller ring, and some ops need more bits.
            ring = self._passed.get(v, self._ring[v])
            act = Room(ring - MAX_TRUNCATE_SLACK - frac - self._extra.get(v, 0), frac, ring)
            rooms[v] = min(own, act, key=lambda room: room.bits)
        return rooms

    def _guarded(
        self, frac: int, weight_frac: int, given: Mapping[int, int]
    ) -> tuple[dict[int, int], dict[int, int]]:
        """Observed ranges, made certain: a clamp behind every truncation that may exceed them.

        Where an op does not fit whose own result cannot be clamped, such as a quotient, products
        that feed it are clamped though they fit.
        """
        forced: set[int] = set()
        while True:
            bits, clamps, more = self._guard(frac, weight_frac, given, forced)
            if not more:
                return bits, clamps
            forced |= more

    def _guard(
        self, frac: int, weight_frac: int, given: Mapping[int, int], forced: set[int]
    ) -> tuple[dict[int, int], dict[int, int], set[int]]:
        """Ranges and clamps with clamps on ``forced``; further products that should have one."""
        wanted = self._observed_bits()
        found = self.forms({})
        # Operators that take products as they are must not get any that wrapped.
        taken = {v for op in self.ops if declaration(op).fine for v in _sources(op)}
        intervals = self.intervals(frac, weight_frac)
        rooms = self._rooms({}, frac, weight_frac)
        bits: dict[int, int] = {}
        clamps: dict[int, int] = {}
        for i, op in enumerate(self.ops):
            size = intervals.step(op)
            if i not in wanted:
                continue
            value = op.result
            proved, room = range_bits(size), rooms[value].bits
            product = found.form[value] == PRODUCT
            if proved <= min(wanted[i] + _GUARD_SLACK, room) and i not in forced:
                # A comparison on some more bits is cheaper than a clamp.
                bits[i] = max(proved, BITS_MIN)
            elif product:
                # Until it is truncated a product may wrap; the clamp behind the truncation takes
                # whatever comes out.
                bits[i] = wanted[i]
                if value in found.demanded or value in taken:
                    clamps[i] = wanted[i]
                    intervals.clip(op, wanted[i])
            else:
                bits[i] = max(proved, BITS_MIN)
                feeding = {self.index[v] for v in _sources(op) if found.form[v] == PRODUCT}
                more = (feeding & wanted.keys()) - clamps.keys() - forced
                if proved > room and more:
                    return bits, clamps, more
            if i in given:
                clamps[i] = given[i]
                intervals.clip(op, given[i])
        return bits, clamps, set()

    def _proved(
        self, frac: int, weight_frac: int, given: Mapping[int, int]
    ) -> tuple[dict[int, int], dict[int, int]]:
        """Proved ranges; where one does not fit, what feeds it is clamped, as late as possible."""
        intervals = self.intervals(frac, weight_frac)
        ranged = {i for i, _ in self.ranged()}
        bits: dict[int, int] = {}
        clamps = dict(given)
        rooms = self._rooms(clamps, frac, weight_frac)
        i = 0
        while i < len(self.ops):
            op = self.ops[i]
            size = intervals.step(op)
            if i in ranged:
                b = max(range_bits(size), BITS_MIN)
                if b > rooms[op.result].bits:
                    again = self._clamp_before(op, intervals, clamps)
                    if again is not None:
                        i = again
                        rooms = self._rooms(clamps, frac, weight_frac)
                        continue
                    # Nothing is left to clamp: a misfit. What follows may be one by itself.
                    intervals.clip(op, max(rooms[op.result].bits, BITS_MIN))
                bits[i] = b
            if i in clamps:
                intervals.clip(op, clamps[i])
            i += 1
        return bits, clamps

    def _clamp_before(self, op: Op, intervals: Intervals, clamps: dict[int, int]) -> int | None:
        """Clamp what feeds ``op``; the first op to propagate again, None if nothing would help."""
        again = len(self.ops)
        for source in _sources(op):
            i = self.index[source]
            bound = self._clamp_bits(i)
            if i not in clamps and intervals.values[source].magnitude > 2.0**bound:
                clamps[i] = bound
                again = min(again, i)
        return None if again == len(self.ops) else again

    def _clamp_bits(self, i: int) -> int:
        if self.observed is None:
            return self.options.clamp_bits
        seen = range_bits(self.observed.magnitude[i])
        return min(max(seen, BITS_MIN) + self.options.headroom, BITS_MAX)

    def check_fit(
        self, ranges: Mapping[int, int], clamps: Mapping[int, int], frac: int, weight_frac: int
    ) -> None:
        """NoFitError if ranges, or that of the weights, do not fit beside the fraction."""
        rooms = self._rooms(clamps, frac, weight_frac)
        misfits = [
            Misfit(self.ops[i], needed, rooms[value])
            for i, bits in sorted(ranges.items())
            for value in self.ops[i].results
            if (needed := max(bits, self.weight_bits)) > rooms[value].bits
        ]
        if misfits:
            raise NoFitError(misfits)


def _extra_bits(ops: Sequence[Op]) -> dict[Value, int]:
    """Bits that users of a value need beside it, looked at through what has no range of its own."""
    needed: dict[Value, int] = {}
    for op in reversed(ops):
        # A range of its own makes room for what uses the op, not for what the op uses.
        passed = () if kind_of(op).ranged else op.results
        below = max((needed.get(r, 0) for r in passed), default=0)
        for value in op.operands:
            type_ = value.type
            assert isinstance(type_, TensorType)
            own = declaration(op).extra_bits(op.attrs, type_.shape)
            needed[value] = max(needed.get(value, 0), below, own)
    return needed


def _passed_rings(ops: Sequence[Op], rings: Rings) -> dict[Value, int]:
    """The smallest ring that a value, or what becomes of it without a range of its own, goes to.

    Only of values that leave their ring.
    """
    if not rings.others:
        return {}
    smallest: dict[Value, int] = {}
    for i, op in reversed(list(enumerate(ops))):
        here = rings.of(i)
        if not kind_of(op).ranged:
            here = min([here, *(smallest.get(r, here) for r in op.results)])
        for value in op.operands:
            smallest[value] = min(smallest.get(value, here), here)
    made = rings.table(ops)
    return {v: ring for v, ring in smallest.items() if ring < made[v]}


def _sources(op: Op) -> list[Value]:
    """What feeds an op and can be clamped: its operands, looked at through structural ops."""
    found: list[Value] = []
    waiting = list(op.operands)
    while waiting:
        value = waiting.pop(0)
        if value.op is None or kind_of(value.op) is Kind.SOURCE:
            continue
        if kind_of(value.op) is Kind.STRUCTURAL:
            waiting = [*value.op.operands, *waiting]
        elif is_real(value):
            found.append(value)
    return found
