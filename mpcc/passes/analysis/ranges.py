"""Ranges by policy: how large every value may become at given fraction bits, and where to clamp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from mpcc.ir.analysis.forms import CONST, PRODUCT, declaration, forms, fractions, is_real, kind_of
from mpcc.ir.analysis.ranges import Intervals, Observed
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.ops import tensor
from mpcc.ir.ops.secure import MAX_TRUNCATE_SLACK
from mpcc.ir.ops.tensor import Kind
from mpcc.ir.phi import BITS_MAX, BITS_MIN, FormatOptions, Phi
from mpcc.ir.types import TensorType
from mpcc.passes.analysis.inputs import Inputs
from mpcc.passes.lower_tensor_to_secure import range_bits

__all__ = ["NoFitError", "Ranges"]

Array = npt.NDArray[Any]

_RING = 64

_GUARD_SLACK = 8
"""Under guarded, a value may be proved this many bits wider than wanted before it is clamped."""


class NoFitError(Exception):
    """At these fraction bits some layer does not fit the ring."""

    def __init__(self, op: Op, bits: int, room: int) -> None:
        self.op, self.bits, self.room = op, bits, room
        super().__init__(op.name)


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
    ) -> None:
        self.module = module
        self.ops = module.main.ops
        self.index = {r: i for i, op in enumerate(self.ops) for r in op.results}
        self.constants = constants
        self.options = options
        self.policy = policy
        self.inputs = inputs
        self.observed = observed
        self.weight_bits = weight_bits
        self._extra = _extra_bits(self.ops)
        self.narrowed: tuple[int, int, dict[int, int]] | None = None

    def formats(self, frac: int, weight_frac: int) -> Phi:
        """Phi at these fraction bits; NoFitError if a layer does not fit."""
        clamps: dict[int, int] = {}
        if self.policy == "observed":
            ranges = self._observed_or_proved(frac, weight_frac)
        elif self.policy == "guarded":
            ranges, clamps = self._guarded(frac, weight_frac)
        else:
            ranges, clamps = self._proved(frac, weight_frac)
        if self.options.disclose == "per-model":
            ranges = dict.fromkeys(ranges, max(ranges.values()))
            clamps = dict.fromkeys(clamps, max(clamps.values(), default=0))
        self.check_fit(ranges, clamps, frac, weight_frac)
        return Phi(
            self.policy,
            _RING,
            frac,
            weight_frac,
            self.weight_bits,
            tuple(sorted(self.inputs.bits.items())),
            tuple(sorted(ranges.items())),
            tuple(sorted(clamps.items())),
        )

    def intervals(self, frac: int, weight_frac: int) -> Intervals:
        """What proves ranges, at given fraction bits."""
        return Intervals(self.module, self.constants, frac, weight_frac, self.inputs.ranges)

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

    def _observed_or_proved(self, frac: int, weight_frac: int) -> dict[int, int]:
        """The observed range with headroom, or the proved one where that is smaller.

        A proof goes through values that are only observed as if they were certain: beyond them
        everything is undefined anyway. Coarser formats give wider proofs, so one made for fewer
        fraction bits is used again.
        """
        if self.narrowed is not None:
            known_frac, known_weight_frac, ranges = self.narrowed
            if known_frac <= frac and known_weight_frac <= weight_frac:
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
        self.narrowed = (floor, floor, bits)
        return dict(bits)

    def _rooms(self, clamps: Mapping[int, int], frac: int, weight_frac: int) -> dict[Value, int]:
        """Per value, the range bits that its fraction leaves in the ring."""
        main = self.module.main
        table = fractions(main, forms(main, clamps), frac, weight_frac)
        most = _RING - MAX_TRUNCATE_SLACK
        return {
            v: min(most - f, most - frac - self._extra.get(v, 0), BITS_MAX)
            for v, f in table.items()
        }

    def _guarded(self, frac: int, weight_frac: int) -> tuple[dict[int, int], dict[int, int]]:
        """Observed ranges, made certain: a clamp behind every truncation that may exceed them."""
        wanted = self._observed_bits()
        found = forms(self.module.main)
        intervals = self.intervals(frac, weight_frac)
        rooms = self._rooms({}, frac, weight_frac)
        bits: dict[int, int] = {}
        clamps: dict[int, int] = {}
        for i, op in enumerate(self.ops):
            size = intervals.step(op)
            if i not in wanted:
                continue
            value = op.result
            proved = range_bits(size)
            if proved <= min(wanted[i] + _GUARD_SLACK, rooms[value]):
                # A comparison on some more bits is cheaper than a clamp.
                bits[i] = max(proved, BITS_MIN)
            elif found.form[value] == PRODUCT:
                # Until it is truncated a product may wrap; the clamp behind the truncation takes
                # whatever comes out.
                bits[i] = wanted[i]
                if value in found.demanded:
                    clamps[i] = wanted[i]
                    intervals.clip(op, wanted[i])
            else:
                bits[i] = max(proved, BITS_MIN)
        return bits, clamps

    def _proved(self, frac: int, weight_frac: int) -> tuple[dict[int, int], dict[int, int]]:
        """Proved ranges; where one does not fit, what feeds it is clamped, as late as possible."""
        intervals = self.intervals(frac, weight_frac)
        ranged = {i for i, _ in self.ranged()}
        bits: dict[int, int] = {}
        clamps: dict[int, int] = {}
        rooms = self._rooms(clamps, frac, weight_frac)
        i = 0
        while i < len(self.ops):
            op = self.ops[i]
            size = intervals.step(op)
            if i in ranged:
                b = max(range_bits(size), BITS_MIN)
                if b > rooms[op.result]:
                    i = self._clamp_before(op, intervals, clamps, b, rooms[op.result])
                    rooms = self._rooms(clamps, frac, weight_frac)
                    continue
                bits[i] = b
            if i in clamps:
                intervals.clip(op, clamps[i])
            i += 1
        return bits, clamps

    def _clamp_before(
        self, op: Op, intervals: Intervals, clamps: dict[int, int], bits: int, room: int
    ) -> int:
        """Clamp what feeds ``op``; the index of the first op to propagate again."""
        again = len(self.ops)
        for source in _sources(op):
            i = self.index[source]
            bound = self._clamp_bits(i)
            if i not in clamps and intervals.values[source].magnitude > 2.0**bound:
                clamps[i] = bound
                again = min(again, i)
        if again == len(self.ops):
            raise NoFitError(op, bits, room)
        return again

    def _clamp_bits(self, i: int) -> int:
        if self.observed is None:
            return self.options.clamp_bits
        seen = range_bits(self.observed.magnitude[i])
        return min(max(seen, BITS_MIN) + self.options.headroom, BITS_MAX)

    def check_fit(
        self, ranges: Mapping[int, int], clamps: Mapping[int, int], frac: int, weight_frac: int
    ) -> None:
        """NoFitError if a range, or that of the weights, does not fit beside the fraction."""
        rooms = self._rooms(clamps, frac, weight_frac)
        for i, bits in ranges.items():
            op = self.ops[i]
            room = rooms[op.result]
            if max(bits, self.weight_bits) > room:
                raise NoFitError(op, max(bits, self.weight_bits), room)


def _extra_bits(ops: Sequence[Op]) -> dict[Value, int]:
    """Bits that users of a value need beside it, looked at through what has no range of its own."""
    needed: dict[Value, int] = {}
    for op in reversed(ops):
        if kind_of(op).ranged:
            continue
        below = max((needed.get(r, 0) for r in op.results), default=0)
        for value in op.operands:
            type_ = value.type
            assert isinstance(type_, TensorType)
            own = declaration(op).extra_bits(op.attrs, type_.shape)
            needed[value] = max(needed.get(value, 0), below, own)
    return needed


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
