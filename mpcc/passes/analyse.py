"""analyse: chooses ranges and fixed-point formats at the model owner; the result is Phi.

Sees the weights and the calibration data. What leaves the owner is Phi alone; exact ranges and
errors go into the private report. See docs/numbers.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import MpccError
from mpcc.ir.analysis.forms import CONST, PRODUCT, forms, fractions
from mpcc.ir.analysis.ranges import Intervals, Observed, observe
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.interp.fixed import simulate
from mpcc.ir.ops import tensor
from mpcc.ir.ops.secure import MAX_TRUNCATE_SLACK
from mpcc.ir.phi import BITS_MAX, BITS_MIN, DEFAULT_RANGE, FormatOptions, Phi
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights, range_bits

__all__ = ["Analysis", "analyse"]

Array = npt.NDArray[Any]
Samples = Sequence[Mapping[str, Array]]

_RING = 64
_RANGED = (tensor.Input, tensor.Conv, tensor.MatMul, tensor.Add, tensor.Sub)
_SHAPE_OPS = (tensor.Pad, tensor.Reshape, tensor.Transpose)

_FIRST_FRAC, _PROBE = 16, 6
_FEWEST, _MOST = 8, 28
_FRAC_COST, _WEIGHT_FRAC_COST = 11, 3
"""Bits over all links per element and fraction bit: a comparison grows by about 11 bits with every
bit of its width, a truncation by 3 with every bit that it drops (docs/numbers.md)."""

_GUARD_SLACK = 8
"""Under guarded, a value may be proved this many bits wider than wanted before it is clamped."""

_SAFETY = 2.0
"""The measured error times this must stay within the budget: other inputs err more."""

_SEARCH_SAMPLES = 2
_CHECK_SAMPLES = 8
_RANDOM_SAMPLES = 2


_THIN = 4.0
"""How many times larger than the calibration data inputs may be before the user is warned."""


@dataclass(frozen=True)
class Analysis:
    """Phi and what stays with the model owner.

    Attributes:
        phi: the formats; all that the artifact discloses about weights and data.
        notes: sentences for the user that hold nothing private (assumed ranges, policies).
        private: exact ranges and measured errors, plain data for JSON.
    """

    phi: Phi
    notes: tuple[str, ...]
    private: dict[str, Any] = field(repr=False)


def analyse(
    module: Module,
    constants: Mapping[str, Array],
    calibration: Samples = (),
    options: FormatOptions | None = None,
) -> Analysis:
    """Choose the formats of a tensor module.

    Args:
        module: a verified tensor module.
        constants: its weights by name.
        calibration: input dicts, one per sample; may be empty.
        options: see :class:`FormatOptions`.

    Raises:
        MpccError: ``E-range-calibrate`` (the policy needs data), ``E-range-fit`` (a layer's range
            does not fit the ring; names it), ``E-range-error`` (no format meets the error budget),
            ``E-range-input`` (calibration data outside the declared input range).
    """
    return _Analysis(module, constants, calibration, options or FormatOptions()).run()


class _NoFitError(Exception):
    """At these fraction bits some layer does not fit the ring."""

    def __init__(self, op: Op, bits: int, room: int) -> None:
        self.op, self.bits, self.room = op, bits, room
        super().__init__(op.name)


class _Analysis:
    def __init__(
        self,
        module: Module,
        constants: Mapping[str, Array],
        calibration: Samples,
        options: FormatOptions,
    ) -> None:
        self.module = module
        self.ops = module.main.ops
        self.index = {op.result: i for i, op in enumerate(self.ops) if op.results}
        self.constants = constants
        self.options = options
        self.calibrated = bool(calibration)
        self.policy = options.policy or ("observed" if calibration else "proved")
        self.notes: list[str] = []
        if self.policy != "proved" and not calibration:
            raise MpccError.of(
                "E-range-calibrate",
                f"the range policy {self.policy} needs calibration data",
                "--range",
                "give --calibrate DATA.npz, or use --range proved",
            )
        forms(module.main)  # refuses operators without a secure form before anything runs
        self.observed: Observed | None = None
        if calibration:
            self.observed = observe(module, constants, calibration)
        self.inputs, self.input_bits = self._input_ranges()
        self.samples = list(calibration) or self._random_samples()
        self.weight_bits = self._weight_bits()
        self.fitting: dict[tuple[int, int], Phi | None] = {}
        self.failure: _NoFitError | None = None
        self.narrowed: tuple[int, int, dict[int, int]] | None = None
        self.measured: dict[str, float] = {}
        self.references: dict[tuple[tuple[int, int], ...], list[dict[str, Array]]] = {}

    # --- inputs and weights ---

    def _input_ranges(self) -> tuple[dict[str, tuple[float, float]], dict[int, int]]:
        ranges: dict[str, tuple[float, float]] = {}
        bits: dict[int, int] = {}
        for i, op in enumerate(self.ops):
            if op.definition is not tensor.Input:
                continue
            name = op.attrs["name"]
            seen = self.observed.inputs[name] if self.observed is not None else None
            if name in self.options.input_ranges:
                lo, hi = self.options.input_ranges[name]
                if seen is not None and seen > max(abs(lo), abs(hi)):
                    raise MpccError.of(
                        "E-range-input",
                        f"calibration data of {name} leave the declared range [{lo}, {hi}]",
                        "--input-range",
                        "widen the range, or scale the data",
                    )
                ranges[name] = (lo, hi)
                self._warn_of_thin_data(name, max(abs(lo), abs(hi)), seen)
            elif seen is not None:
                # One bit of room: other inputs of the same kind are a little larger.
                b = min(max(math.ceil(math.log2(seen)) + 1 if seen > 0 else 0, BITS_MIN), BITS_MAX)
                bits[i] = b
                ranges[name] = (-(2.0**b), 2.0**b)
                self.notes.append(
                    f"input {name}: the client refuses values outside [{-(2.0**b):g}, {2.0**b:g}] "
                    "(from calibration; --input-range changes it)"
                )
            else:
                ranges[name] = DEFAULT_RANGE
                self.notes.append(
                    f"input {name}: taken as [{DEFAULT_RANGE[0]:g}, {DEFAULT_RANGE[1]:g}], which "
                    "the client enforces (--input-range or --calibrate changes it)"
                )
        unknown = set(self.options.input_ranges) - set(ranges)
        if unknown:
            raise MpccError.of(
                "E-range-name",
                f"the model has no input {', '.join(sorted(unknown))}",
                "--input-range",
                f"its inputs are {', '.join(ranges)}",
            )
        return ranges, bits

    def _warn_of_thin_data(self, name: str, bound: float, seen: float | None) -> None:
        """Say so where the client admits inputs that the calibration data says nothing about."""
        if self.policy == "observed" and seen is not None and bound > _THIN * seen:
            self.notes.append(
                f"warning: input {name} may reach {bound:g}, the calibration data only {seen:.3g}; "
                "answers beyond the data may be wrong without notice: calibrate with larger ones, "
                "or use --range proved or --range guarded"
            )

    def _random_samples(self) -> list[dict[str, Array]]:
        generator = np.random.default_rng(0)
        samples: list[dict[str, Array]] = []
        for _ in range(_RANDOM_SAMPLES):
            sample: dict[str, Array] = {}
            for op in self.module.main.walk(tensor.Input.name):
                lo, hi = self.inputs[op.attrs["name"]]
                values: Array = np.asarray(generator.uniform(lo, hi, op.attrs["shape"]))
                sample[op.attrs["name"]] = values
            samples.append(sample)
        return samples

    def _weight_bits(self) -> int:
        bits = BITS_MIN
        for op in self.module.main.walk(tensor.Weight.name):
            array = np.asarray(self.constants[op.attrs["name"]], np.float64)
            size = float(np.abs(array).max(initial=0.0))
            if not math.isfinite(size) or range_bits(size * (1 + 2.0**-12)) > BITS_MAX:
                raise MpccError.of(
                    "E-range-weights",
                    "a weight is infinite, not a number, or too large for fixed point",
                    op.loc or op.attrs["name"],
                )
            # A hair of room, so that rounding up does not reach 2^bits.
            bits = max(bits, range_bits(size * (1 + 2.0**-12)))
        return bits

    # --- ranges for given fraction bits ---

    def _formats(self, frac: int, weight_frac: int) -> Phi:
        """Phi at these fraction bits; _NoFitError if a layer does not fit."""
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
        self._check_fit(ranges, clamps, frac, weight_frac)
        return Phi(
            self.policy,
            _RING,
            frac,
            weight_frac,
            self.weight_bits,
            tuple(sorted(self.input_bits.items())),
            tuple(sorted(ranges.items())),
            tuple(sorted(clamps.items())),
        )

    def _ranged(self) -> list[tuple[int, Op]]:
        """Ops that have a range in Phi: those that compute, on something that is no constant."""
        form = forms(self.module.main).form
        return [
            (i, op)
            for i, op in enumerate(self.ops)
            if op.definition in _RANGED and form[op.result] != CONST
        ]

    def _input_bits_of(self, op: Op) -> int:
        lo, hi = self.inputs[op.attrs["name"]]
        # Encoding rounds: 0.9999 becomes 1 at few fraction bits, which are not chosen yet. With
        # this room at least four of them suffice; secure.input checks the exact condition.
        return range_bits(max(abs(lo), abs(hi)) * (1 + 2.0**-4))

    def _observed_bits(self) -> dict[int, int]:
        """Observed ranges plus headroom; inputs are enforced and need none."""
        assert self.observed is not None
        bits: dict[int, int] = {}
        for i, op in self._ranged():
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
        intervals = Intervals(self.module, self.constants, floor, floor, self.inputs)
        bits: dict[int, int] = {}
        for i, op in enumerate(self.ops):
            size = intervals.step(op)
            if i in wanted:
                bits[i] = min(wanted[i], max(range_bits(size), BITS_MIN))
                limited = intervals.values[op.result].clip(2.0 ** wanted[i])
                intervals.values[op.result] = limited
        self.narrowed = (floor, floor, bits)
        return dict(bits)

    def _rooms(self, clamps: Mapping[int, int], frac: int, weight_frac: int) -> dict[Value, int]:
        """Per value, the range bits that its fraction leaves in the ring."""
        main = self.module.main
        table = fractions(main, forms(main, clamps), frac, weight_frac)
        return {v: min(_RING - MAX_TRUNCATE_SLACK - f, BITS_MAX) for v, f in table.items()}

    def _guarded(self, frac: int, weight_frac: int) -> tuple[dict[int, int], dict[int, int]]:
        """Observed ranges, made certain: a clamp behind every truncation that may exceed them."""
        wanted = self._observed_bits()
        found = forms(self.module.main)
        intervals = Intervals(self.module, self.constants, frac, weight_frac, self.inputs)
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
                    intervals.values[value] = intervals.values[value].clip(2.0 ** wanted[i])
            else:
                bits[i] = max(proved, BITS_MIN)
        return bits, clamps

    def _proved(self, frac: int, weight_frac: int) -> tuple[dict[int, int], dict[int, int]]:
        """Proved ranges; where one does not fit, what feeds it is clamped, as late as possible."""
        intervals = Intervals(self.module, self.constants, frac, weight_frac, self.inputs)
        ranged = {i for i, _ in self._ranged()}
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
                intervals.values[op.result] = intervals.values[op.result].clip(2.0 ** clamps[i])
            i += 1
        return bits, clamps

    def _clamp_before(
        self, op: Op, intervals: Intervals, clamps: dict[int, int], bits: int, room: int
    ) -> int:
        """Clamp what feeds ``op``; the index of the first op to propagate again."""
        again = len(self.ops)
        for value in op.operands:
            source = value
            while source.op is not None and source.op.definition in _SHAPE_OPS:
                source = source.op.operands[0]
            i = self.index[source]
            if source.op is None or source.op.definition in (tensor.Input, tensor.Weight):
                continue
            bound = self._clamp_bits(i)
            if i not in clamps and intervals.values[source].magnitude > 2.0**bound:
                clamps[i] = bound
                again = min(again, i)
        if again == len(self.ops):
            raise _NoFitError(op, bits, room)
        return again

    def _clamp_bits(self, i: int) -> int:
        if self.observed is None:
            return self.options.clamp_bits
        seen = range_bits(self.observed.magnitude[i])
        return min(max(seen, BITS_MIN) + self.options.headroom, BITS_MAX)

    def _check_fit(
        self, ranges: Mapping[int, int], clamps: Mapping[int, int], frac: int, weight_frac: int
    ) -> None:
        rooms = self._rooms(clamps, frac, weight_frac)
        for i, bits in ranges.items():
            op = self.ops[i]
            room = rooms[op.result]
            if max(bits, self.weight_bits) > room:
                raise _NoFitError(op, max(bits, self.weight_bits), room)

    # --- errors ---

    def _references(self, phi: Phi) -> list[dict[str, Array]]:
        """Float outputs of the samples, with the clamps of Phi applied."""
        if not phi.clamps and self.observed is not None:
            return self.observed.outputs
        if phi.clamps not in self.references:
            self.references[phi.clamps] = [
                _clamped_reference(self.module, self.constants, s, dict(phi.clamps))
                for s in self.samples[:_CHECK_SAMPLES]
            ]
        return self.references[phi.clamps]

    def _error(self, phi: Phi, count: int) -> float:
        """Largest measured error over the budget, times the safety factor; <= 1 is good."""
        secure = build_secure(self.module, phi, self.options)
        weights = encode_weights(self.constants, secure)
        references = self._references(phi)
        worst = 0.0
        self.measured = {}
        for n in _spread(len(references), count):
            sample = {k: np.clip(v, *self.inputs[k]) for k, v in self.samples[n].items()}
            result = simulate(secure, weights, sample, "random", seed=n, check_ranges=False)
            for name, reference in references[n].items():
                error = float(np.abs(result.outputs[name] - reference).max(initial=0.0))
                scale = float(np.abs(reference).max(initial=0.0))
                self.measured[name] = max(error, self.measured.get(name, 0.0))
                # Beyond 2^8, binary32 models are themselves less exact than an absolute budget.
                budget = self.options.max_error * max(1.0, scale / 256)
                worst = max(worst, error * _SAFETY / budget)
            if worst > 1 and count == _CHECK_SAMPLES:
                break
        return worst

    # --- search ---

    def _fit(self, frac: int, weight_frac: int) -> Phi | None:
        """Phi at these fraction bits, None if a layer does not fit; computed once."""
        key = (frac, weight_frac)
        if key not in self.fitting:
            try:
                self.fitting[key] = self._formats(frac, weight_frac)
            except _NoFitError as failure:
                self.failure = failure
                self.fitting[key] = None
        return self.fitting[key]

    def _search(self) -> Phi:
        """The cheapest pair of fraction bits whose measured error meets the budget.

        The error is close to a * 2^-frac + b * 2^-weight_frac. Two simulations give a and b; the
        cheapest pair that this predicts to be good is then measured on more samples, and a and b
        are corrected until measurement agrees.
        """
        start = _FIRST_FRAC
        while (low := self._fit(start, start + _PROBE)) is None:
            start -= 1
            if start < _FEWEST:
                raise self._no_room()
        high = self._fit(start + _PROBE, start)
        if high is None:
            raise self._no_room()
        e1, e2 = self._error(low, _SEARCH_SAMPLES), self._error(high, _SEARCH_SAMPLES)
        ratio = 2.0**-_PROBE
        a = max(e1 - ratio * e2, 0.0) / (1 - ratio**2) * 2.0**start
        b = max(e2 - ratio * e1, 0.0) / (1 - ratio**2) * 2.0**start
        pairs = [(f, w) for f in range(_FEWEST, _MOST + 1) for w in range(_FEWEST, _MOST + 1)]
        pairs.sort(key=lambda p: (_FRAC_COST * p[0] + _WEIGHT_FRAC_COST * p[1], p))
        correction, reached = 1.0, math.inf
        for frac, weight_frac in pairs:
            predicted = a * 2.0**-frac + b * 2.0**-weight_frac
            if predicted * correction > 1:
                continue
            phi = self._fit(frac, weight_frac)
            if phi is None:
                continue
            error = self._error(phi, _CHECK_SAMPLES)
            reached = min(reached, error)
            if error <= 1:
                return phi
            if predicted > 0:
                correction = max(correction, error / predicted)
        raise self._no_precision(reached)

    def _no_precision(self, reached: float) -> MpccError:
        # Without a pair that was predicted to do, the finest one tells how far it goes.
        if not math.isfinite(reached):
            finest = max((k for k, v in self.fitting.items() if v is not None), key=sum)
            phi = self.fitting[finest]
            assert phi is not None
            reached = self._error(phi, _SEARCH_SAMPLES)
        worst = "" if self.failure is None else self.failure.op.loc or self.failure.op.name
        return MpccError.of(
            "E-range-error",
            f"no format keeps every output within {self.options.max_error:g}; about "
            f"{reached * self.options.max_error:.2g} can be promised",
            worst and f"the widest range is that of {worst}",
            "give --calibrate DATA.npz or a narrower --input-range, or allow a larger error: "
            "FormatOptions(max_error=...) in the Python API",
        )

    def _no_room(self) -> MpccError:
        assert self.failure is not None
        op, failure = self.failure.op, self.failure
        return MpccError.of(
            "E-range-fit",
            f"the range of {op.name} does not fit the ring: it takes {failure.bits} bits where "
            f"{failure.room} are left beside the fraction",
            op.loc or f"op {self.index[op.result]}",
            "give --calibrate DATA.npz, or a narrower --input-range",
        )

    def run(self) -> Analysis:
        """Search, and gather the reports."""
        phi = self._search()
        self.notes.insert(0, _POLICY_NOTES[self.policy])
        if phi.clamps:
            self.notes.append(f"{len(phi.clamps)} clamps were inserted")
        report: dict[str, Any] = {
            "policy": self.policy,
            "samples": len(self.samples) if self.calibrated else 0,
            "frac": phi.frac,
            "weight_frac": phi.weight_frac,
            "measured_error": dict(self.measured),
            "max_error": self.options.max_error,
            "safety": _SAFETY,
            "layers": [
                {
                    "op": i,
                    "name": self.ops[i].name,
                    "node": self.ops[i].loc,
                    "bits": b,
                    "observed": self.observed.magnitude.get(i) if self.observed else None,
                    "clamp": dict(phi.clamps).get(i),
                }
                for i, b in phi.ranges
            ],
        }
        return Analysis(phi, tuple(self.notes), report)


_POLICY_NOTES = {
    "observed": (
        "ranges: observed on calibration data with headroom; what happens beyond them is undefined"
    ),
    "guarded": "ranges: proved, starting again at clamps set from the calibration data",
    "proved": "ranges: proved for all inputs in their enforced range",
}


def _spread(total: int, count: int) -> list[int]:
    """Up to ``count`` of ``total`` indices, evenly spread."""
    count = min(count, total)
    return sorted({round(i * (total - 1) / max(count - 1, 1)) for i in range(count)})


def _clamped_reference(
    module: Module,
    constants: Mapping[str, Array],
    sample: Mapping[str, Array],
    clamps: Mapping[int, int],
) -> dict[str, Array]:
    """The float model with clamps behind some ops."""
    values: dict[Value, Array] = {}
    outputs: dict[str, Array] = {}
    for i, op in enumerate(module.main.ops):
        operands = [values[v] for v in op.operands]
        if op.definition is tensor.Output:
            outputs[op.attrs["name"]] = operands[0]
            continue
        if op.definition is tensor.Input:
            result = np.asarray(sample[op.attrs["name"]], np.float64)
        elif op.definition is tensor.Weight:
            result = np.asarray(constants[op.attrs["name"]], np.float64)
        else:
            assert issubclass(op.definition, tensor.TensorOperation)
            result = op.definition.evaluate(op.attrs, *operands)
        if i in clamps:
            result = np.clip(result, -(2.0 ** clamps[i]), 2.0 ** clamps[i])
        values[op.result] = result
    return outputs
