"""The search for the cheapest fraction bits whose measured error meets the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.analysis.forms import kind_of
from mpcc.ir.analysis.ranges import Observed
from mpcc.ir.analysis.rings import Rings
from mpcc.ir.core import Module
from mpcc.ir.interp.fixed import Simulation
from mpcc.ir.ops import tensor
from mpcc.ir.ops.tensor import Kind
from mpcc.ir.phi import MAX_COARSE, RINGS, FormatOptions, Phi
from mpcc.passes.analysis.contract import Contract
from mpcc.passes.analysis.decisions import Program, clamped_reference
from mpcc.passes.analysis.inputs import Inputs, fewest_frac
from mpcc.passes.analysis.ranges import NoFitError, Ranges
from mpcc.passes.analysis.rings_choice import RingChoice

__all__ = ["SAFETY", "Attempt", "Search", "larger_ring"]

Array = npt.NDArray[Any]

_FIRST_FRAC, _PROBES = 16, (6, 3, 1)
_MOST = 28

_FEWEST_UNASKED = 8
"""Fraction bits are no fewer in a small ring that nobody asked for, unless the budget is large."""

_FRAC_COST, _WEIGHT_FRAC_COST = 11, 3
"""Bits over all links per element and fraction bit: a comparison grows by about 11 bits with every
bit of its width, a truncation by 3 with every bit that it drops (docs/numbers.md)."""

_LEAST = 2.0**-30
"""Of the errors that are predicted: much below all that is measured."""

SAFETY = 2.0
"""The measured error times this must stay within the budget: other inputs err more."""

_COARSE_OPS = (tensor.Relu, tensor.Maximum, tensor.MaxPool, tensor.ReduceMax)
"""Those whose results differ little where a comparison of nearly equal numbers goes wrong."""

_LARGER_NODE = "compute it in the larger ring (--ring NODE=64), or allow a larger --max-error"

_SEARCH_SAMPLES = 2
_CHECK_SAMPLES = 8


@dataclass(frozen=True)
class Attempt:
    """Formats that were measured, on all samples that the search takes.

    Attributes:
        phi: the formats.
        error: what can be promised of them: the measured error with the safety factor.
    """

    phi: Phi
    error: float

    @property
    def rings(self) -> str:
        """The ring, or both."""
        return "32 and 64 bits" if self.phi.others else f"{self.phi.ring} bits"

    def json(self) -> dict[str, Any]:
        """For the owner's report."""
        phi = self.phi
        return {
            "rings": self.rings,
            "frac": phi.frac,
            "weight_frac": phi.weight_frac,
            "coarse": phi.coarse,
            "error": self.error,
        }


class Search:
    """One search.

    Args:
        module: the tensor module.
        constants: its weights by name.
        options: see :class:`FormatOptions`.
        ranges_of: what finds formats at given fraction bits, in given rings.
        inputs: enforced ranges.
        samples: input dicts on which errors are measured.
        observed: what the float model did on these samples; None if it has not run.
        contract: the decisions that must be kept beside the error budget; None for none.

    Attributes:
        measured: largest error of every output, over the samples last measured.
        attempts: what was measured, in order.
    """

    def __init__(
        self,
        module: Module,
        constants: Mapping[str, Array],
        options: FormatOptions,
        ranges_of: Callable[[Rings], Ranges],
        inputs: Inputs,
        samples: Sequence[Mapping[str, Array]],
        observed: Observed | None,
        contract: Contract | None = None,
    ) -> None:
        self.contract = contract
        self.module = module
        self.constants = constants
        self.options = options
        rings = Rings.chosen(module, options)
        self.choice = RingChoice(module, options, ranges_of) if options.chooses_rings else None
        self.ranges = self.choice.ranges(rings) if self.choice is not None else ranges_of(rings)
        self.inputs = inputs
        self.samples = samples
        self.observed = observed
        self.measured: dict[str, float] = {}
        self.attempts: list[Attempt] = []
        self._fewest = fewest_frac(self.ranges.rings)
        # In 64 bits what has no room for these has none for the digits of a sensible budget.
        self._probes = _PROBES if larger_ring(self.ranges.rings) else _PROBES[:1]
        self._fitting: dict[tuple[int, int, int], Phi | NoFitError] = {}
        self._unfit: NoFitError | None = None
        self._slopes = (1.0, 1.0)
        ops = module.main.ops
        self._any_coarse = any(op.definition in _COARSE_OPS for op in ops)
        paying = [op for op in ops if kind_of(op) in (Kind.NONLINEAR, Kind.FUNCTION)]
        self._only_coarse = self._any_coarse and all(op.definition in _COARSE_OPS for op in paying)
        self._clamped: dict[tuple[int, tuple[tuple[int, int], ...]], dict[str, Array]] = {}

    def _reference(self, program: Program, n: int, run: Simulation) -> dict[str, Array]:
        """Float outputs of sample n, with the clamps of Phi and the program's open decisions."""
        if program.decides:
            return program.reference(self.samples[n], run)
        if not program.clamps and self.observed is not None:
            return self.observed.outputs[n]
        key = (n, tuple(program.clamps.items()))
        if key not in self._clamped:
            self._clamped[key] = clamped_reference(
                self.module, self.constants, self.samples[n], program.clamps
            )
        return self._clamped[key]

    def _error(self, phi: Phi, count: int, whole: bool = False) -> float:
        """Largest measured error over the budget, times the safety factor; <= 1 is good.

        With ``whole`` also those samples are run that come behind one beyond the budget.
        """
        program = Program(self.module, self.constants, phi, self.options)
        worst = 0.0
        self.measured = {}
        available = len(self.samples) if self.observed else min(len(self.samples), _CHECK_SAMPLES)
        chosen = _spread(available, count)
        for n in chosen:
            sample = {k: np.clip(v, *self.inputs.ranges[k]) for k, v in self.samples[n].items()}
            if self.contract is not None and count == _CHECK_SAMPLES and n == chosen[-1]:
                # All others are good: these formats will do, and the owner asks where they lose.
                run = self.contract.follow(phi, program, n)
            else:
                run = program.run(sample, n)
            references = self._reference(program, n, run)
            if self.contract is not None:
                if not program.decides and not program.clamps:
                    self.contract.know(n, references)
                self.contract.saw(phi, n, run.outputs)
            for name, reference in references.items():
                error = float(np.abs(run.outputs[name] - reference).max(initial=0.0))
                scale = float(np.abs(reference).max(initial=0.0))
                self.measured[name] = max(error, self.measured.get(name, 0.0))
                # Beyond 2^8, binary32 models are themselves less exact than an absolute budget.
                budget = self.options.max_error * max(1.0, scale / 256)
                worst = max(worst, error * SAFETY / budget)
            worst = max(worst, program.compared_error * SAFETY)
            if worst > 1 and count == _CHECK_SAMPLES and not whole:
                break
        if self.contract is not None and worst <= 1 and count == _CHECK_SAMPLES:
            worst = max(worst, self.contract.strain(phi, program))
        if count == _CHECK_SAMPLES:
            self.attempts.append(Attempt(phi, worst * self.options.max_error))
        return worst

    def _fit(self, frac: int, weight_frac: int, coarse: int = 0) -> Phi | NoFitError:
        """Phi at these fraction bits, or what does not fit; computed once."""
        key = (frac, weight_frac, coarse)
        if key not in self._fitting:
            try:
                self._fitting[key] = self.ranges.formats(frac, weight_frac, coarse)
            except NoFitError as failure:
                self._fitting[key] = failure
        return self._fitting[key]

    def _first(self) -> tuple[int, int, Phi, Phi]:
        """Two pairs that fit: at f and f + d fraction bits of activations and of weights, (f, d).

        Raises:
            MpccError: ``E-range-fit``: there are none.
        """
        # A product of two activations has twice their fraction, so that either may fit alone.
        for probe in self._probes:
            for start in range(_FIRST_FRAC, self._fewest - 1, -1):
                low, high = self._fit(start, start + probe), self._fit(start + probe, start)
                if isinstance(low, Phi) and isinstance(high, Phi):
                    return start, probe, low, high
        raise self._no_room()

    def run(self) -> Phi:
        """The cheapest formats whose measured error meets the budget.

        Raises:
            MpccError: ``E-range-error`` or ``E-range-fit``: there are none.
        """
        phi = self._finest_needed()
        if self._any_coarse:
            phi = self._coarsest(phi)
        return phi

    def report(self, phi: Phi) -> dict[str, Any]:
        """What the search knows of its choices, for the owner's report."""
        found: dict[str, Any] = {"tried": [attempt.json() for attempt in self.attempts]}
        if self.choice is not None:
            found["rings"] = self.choice.report(phi)
        return found

    @property
    def reached(self) -> float:
        """The error that the formats tried last can promise; infinite if none were."""
        return self.attempts[-1].error if self.attempts else math.inf

    def _coarsest(self, phi: Phi) -> Phi:
        """The same with comparisons that leave out the bits that the budget has room for.

        What one such comparison may get wrong must stay within half of the budget by itself: it
        happens too rarely to be seen on few samples. A fraction bit more costs a truncation 3 bits
        and is one more to leave out, so that the next fraction is tried too.
        """
        best, measured, gain = phi, self.measured, 1
        for more in (0, 1):
            frac = phi.frac + more
            coarse = self._coarse(frac)
            if coarse - more <= gain:
                continue
            found = self._fit(frac, phi.weight_frac, coarse)
            if isinstance(found, Phi) and self._error(found, _CHECK_SAMPLES) <= 1:
                best, measured, gain = found, self.measured, coarse - more
        self.measured = measured
        return best

    def _finest_needed(self) -> Phi:
        """The cheapest formats whose measured error meets the budget.

        The error is close to a * 2^-frac + b * 2^-weight_frac, whatever the ring. Two simulations
        give a and b; the cheapest formats that this predicts to be good are then measured on more
        samples, and the prediction is corrected until measurement agrees.
        """
        a, b = self._slopes = self._sensitivity()
        corrections: dict[Rings, float] = {}
        while True:
            phi = self._offered(a, b, corrections)
            if phi is None:
                phi = self._unpredicted()
                if phi is None:
                    raise self._no_precision(self._unfit)
                return phi
            error = self._error(phi, _CHECK_SAMPLES)
            if error <= 1:
                if self.choice is not None:
                    self._settle(phi)
                return phi
            predicted = a * 2.0**-phi.frac + b * 2.0**-phi.weight_frac
            rings = Rings.of_phi(phi)
            more = error / predicted if predicted > 0 else math.inf
            corrections[rings] = max(corrections.get(rings, 1.0), more)

    def _sensitivity(self) -> tuple[float, float]:
        """How the error grows with a unit of activations (a) and of weights (b)."""
        start, probe, low, high = self._first()
        e1, e2 = self._error(low, _SEARCH_SAMPLES), self._error(high, _SEARCH_SAMPLES)
        ratio = 2.0**-probe
        a = max(e1 - ratio * e2, 0.0) / (1 - ratio**2) * 2.0**start
        b = max(e2 - ratio * e1, 0.0) / (1 - ratio**2) * 2.0**start
        # Outputs of few elements may hide a term by luck; then only the other would be refined.
        # What only decides may hide both: a prediction of nothing could never be corrected.
        return max(a, b / 64, _LEAST), max(b, a / 64, _LEAST)

    def _offered(self, a: float, b: float, corrections: Mapping[Rings, float]) -> Phi | None:
        """The cheapest formats that are predicted to do; None if there are none."""
        # Samples without close decisions do not show digits: a unit is half the budget or less.
        least = min(math.ceil(-math.log2(self.options.max_error)) + 1, _FEWEST_UNASKED)
        least = least if self.choice is not None else 0

        def good(rings: Rings) -> Iterator[tuple[int, int]]:
            fewest = max(fewest_frac(rings), least)
            return self._pairs(fewest, a, b, corrections.get(rings, 1.0))

        if self.choice is None:
            return self._cheapest_pair(good(self.ranges.rings), self._fit)
        choice, wide = self.choice, self.ranges.rings
        worst = max(corrections.values(), default=1.0)
        first = next(self._pairs(max(least, fewest_frac(Rings(min(RINGS)))), a, b, worst), None)
        if first is None:
            return None
        found: list[Phi] = []
        for rings in choice.candidates(*first):
            fit = self._fit if rings == wide else partial(choice.formats, rings)
            phi = self._cheapest_pair(good(rings), fit)
            if phi is not None:
                found.append(phi)
        # What they will cost: comparisons leave out what the budget has room for.
        priced = {replace(phi, coarse=self._coarse(phi.frac)): phi for phi in found}
        best = choice.cheapest(priced)
        return None if best is None else priced[best]

    def _pairs(
        self, fewest: int, a: float, b: float, correction: float
    ) -> Iterator[tuple[int, int]]:
        """Fraction bits of activations and weights that are predicted to do, the cheapest first."""
        tried = range(fewest, _MOST + 1)
        costs = {f: self._frac_cost(f) for f in tried}
        pairs = [(f, w) for f in tried for w in tried]
        pairs.sort(key=lambda p: (costs[p[0]] + _WEIGHT_FRAC_COST * p[1], p))
        for frac, weight_frac in pairs:
            if (a * 2.0**-frac + b * 2.0**-weight_frac) * correction <= 1:
                yield frac, weight_frac

    def _frac_cost(self, frac: int) -> int:
        """What fraction bits of activations cost, in bits per element."""
        if not self._only_coarse:
            return _FRAC_COST * frac
        # All that compares leaves the bit out again which is one more.
        return _FRAC_COST * (frac - max(self._coarse(frac) - 1, 0)) + frac

    def _coarse(self, frac: int) -> int:
        """Bits that comparisons may leave out at these fraction bits, by the budget."""
        if not self._any_coarse:
            return 0
        room = math.floor(math.log2(self.options.max_error / 2)) + frac
        return min(room, MAX_COARSE) if room > 1 else 0

    def _cheapest_pair(
        self, pairs: Iterator[tuple[int, int]], fit: Callable[[int, int], Phi | NoFitError]
    ) -> Phi | None:
        """The first pair that fits."""
        unfit: list[tuple[int, int]] = []
        for frac, weight_frac in pairs:
            if any(f <= frac and w <= weight_frac for f, w in unfit):
                continue
            found = fit(frac, weight_frac)
            if isinstance(found, Phi):
                return found
            if found.misfits:
                unfit.append((frac, weight_frac))
            self._unfit = self._unfit or found
        return None

    def _settle(self, phi: Phi) -> None:
        """Go on in the rings of these formats."""
        assert self.choice is not None
        rings = Rings.of_phi(phi)
        if rings != self.ranges.rings:
            self.ranges = self.choice.ranges(rings)
            self._fitting = {}

    def _no_precision(self, unfit: NoFitError | None) -> MpccError:
        """Why no pair will do; ``unfit``: what the cheapest one fine enough does not fit."""
        # All samples are run: before, the first one beyond the budget ended that.
        self._error(self._finest(), _CHECK_SAMPLES, whole=True)
        finest = self.attempts[-1]
        formats = f"{finest.phi.frac} + {finest.phi.weight_frac} fraction bits, the most that fit"
        failures = [v for v in self._fitting.values() if isinstance(v, NoFitError)]
        op = next((v.misfits[0].op for v in reversed(failures) if v.misfits), None)
        worst = "" if op is None else op.loc or op.name
        first = Diagnostic(
            "E-range-error",
            f"no format keeps every output within {self.options.max_error:g}; about "
            f"{finest.error:.2g} can be promised, with {formats} {finest.rings}",
            worst and f"the widest range is that of {worst}",
            "give --calibrate DATA.npz or a narrower --input-range, or allow a larger error "
            "with --max-error" + larger_ring(self.ranges.rings),
        )
        if unfit is None or not larger_ring(self.ranges.rings):
            return MpccError(first)
        return MpccError(first, *unfit.diagnostics(_LARGER_NODE))

    def _unpredicted(self) -> Phi | None:
        """Formats that meet the budget though none were predicted to; None if there are none.

        An error that falls faster than a unit does (of a logarithm of values that are few units
        large) makes the corrections too large. So the finest formats are measured, and then those
        on the way to them, halving it.
        """
        way = self._finer()
        first, last = 0, len(way) - 1
        if self._error(way[last], _CHECK_SAMPLES) > 1:
            return None
        while first < last:
            middle = (first + last) // 2
            if self._error(way[middle], _CHECK_SAMPLES) <= 1:
                last = middle
            else:
                first = middle + 1
        if self.attempts[-1].phi != way[last]:
            self._error(way[last], _CHECK_SAMPLES)  # what is known of outputs is of these
        return way[last]

    def _finest(self) -> Phi:
        """The formats of most digits that fit."""
        return self._finer()[-1]

    def _finer(self) -> list[Phi]:
        """From those that fit to those of most digits, one by turns where it is worth most."""
        fitting = [v for v in self._fitting.values() if isinstance(v, Phi)]
        way = [max(fitting, key=lambda phi: phi.frac + phi.weight_frac)]
        a, b = self._slopes
        while True:
            frac, weight_frac = way[-1].frac, way[-1].weight_frac
            steps = [(frac + 1, weight_frac), (frac, weight_frac + 1)]
            steps.sort(key=lambda p: a * 2.0 ** -p[0] + b * 2.0 ** -p[1])
            found = (self._fit(*p) for p in steps if max(p) <= _MOST)
            more = next((phi for phi in found if isinstance(phi, Phi)), None)
            if more is None:
                return way
            way.append(more)

    def _no_room(self) -> MpccError:
        # The first search ended with the fewest bits of all, one of which did not fit.
        few, more = self._fewest, self._fewest + self._probes[-1]
        found = [self._fit(few, more), self._fit(more, few)]
        failure = next(f for f in found if isinstance(f, NoFitError))
        fix = "give --calibrate DATA.npz, or a narrower --input-range"
        return MpccError(*failure.diagnostics(fix + larger_ring(self.ranges.rings)))


def larger_ring(rings: Rings) -> str:
    """What else would help against widths that do not fit, for an error's advice."""
    if not rings.others and rings.main == max(RINGS):
        return ""
    return ", or compute such nodes in the larger ring: --ring NODE=64, or --ring 64 for all"


def _spread(total: int, count: int) -> list[int]:
    """Up to ``count`` of ``total`` indices, evenly spread."""
    count = min(count, total)
    return sorted({round(i * (total - 1) / max(count - 1, 1)) for i in range(count)})
