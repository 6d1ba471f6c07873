"""The search for the cheapest fraction bits whose measured error meets the budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.analysis.ranges import Observed
from mpcc.ir.analysis.rings import Rings
from mpcc.ir.calls import numbered
from mpcc.ir.core import Module
from mpcc.ir.interp.fixed import Simulation
from mpcc.ir.ops import tensor
from mpcc.ir.phi import MAX_COARSE, RINGS, FormatOptions, Phi
from mpcc.passes.analysis.decisions import Program, clamped_reference
from mpcc.passes.analysis.inputs import Inputs, fewest_frac
from mpcc.passes.analysis.ranges import NoFitError, Ranges

__all__ = ["SAFETY", "Search", "larger_ring"]

Array = npt.NDArray[Any]

_FIRST_FRAC, _PROBES = 16, (6, 3, 1)
_MOST = 28
_FRAC_COST, _WEIGHT_FRAC_COST = 11, 3
"""Bits over all links per element and fraction bit: a comparison grows by about 11 bits with every
bit of its width, a truncation by 3 with every bit that it drops (docs/numbers.md)."""

SAFETY = 2.0
"""The measured error times this must stay within the budget: other inputs err more."""

_COARSE_OPS = (tensor.Relu, tensor.Maximum, tensor.MaxPool, tensor.ReduceMax)
"""Those whose results differ little where a comparison of nearly equal numbers goes wrong."""

_LARGER_NODE = "compute it in the larger ring (--ring NODE=64), or allow a larger --max-error"

_SEARCH_SAMPLES = 2
_CHECK_SAMPLES = 8


class Search:
    """One search.

    Args:
        module: the tensor module.
        constants: its weights by name.
        options: see :class:`FormatOptions`.
        ranges: formats at given fraction bits.
        inputs: enforced ranges.
        samples: input dicts on which errors are measured.
        observed: what the float model did on these samples; None if it has not run.

    Attributes:
        measured: largest error of every output, over the samples last measured.
    """

    def __init__(
        self,
        module: Module,
        constants: Mapping[str, Array],
        options: FormatOptions,
        ranges: Ranges,
        inputs: Inputs,
        samples: Sequence[Mapping[str, Array]],
        observed: Observed | None,
    ) -> None:
        self.module = module
        self.constants = constants
        self.options = options
        self.ranges = ranges
        self.inputs = inputs
        self.samples = samples
        self.observed = observed
        self.measured: dict[str, float] = {}
        self._fewest = fewest_frac(ranges.rings)
        # In 64 bits what has no room for these has none for the digits of a sensible budget.
        self._probes = _PROBES if larger_ring(ranges.rings) else _PROBES[:1]
        self._fitting: dict[tuple[int, int, int], Phi | NoFitError] = {}
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
                program.module, self.constants, self.samples[n], program.clamps
            )
        return self._clamped[key]

    def _error(self, phi: Phi, count: int) -> float:
        """Largest measured error over the budget, times the safety factor; <= 1 is good."""
        program = Program(self.module, self.constants, phi, self.options)
        worst = 0.0
        self.measured = {}
        available = len(self.samples) if self.observed else min(len(self.samples), _CHECK_SAMPLES)
        for n in _spread(available, count):
            sample = {k: np.clip(v, *self.inputs.ranges[k]) for k, v in self.samples[n].items()}
            run = program.run(sample, n)
            for name, reference in self._reference(program, n, run).items():
                error = float(np.abs(run.outputs[name] - reference).max(initial=0.0))
                scale = float(np.abs(reference).max(initial=0.0))
                self.measured[name] = max(error, self.measured.get(name, 0.0))
                # Beyond 2^8, binary32 models are themselves less exact than an absolute budget.
                budget = self.options.max_error * max(1.0, scale / 256)
                worst = max(worst, error * SAFETY / budget)
            worst = max(worst, program.compared_error * SAFETY)
            if worst > 1 and count == _CHECK_SAMPLES:
                break
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
        if any(op.definition in _COARSE_OPS for op in numbered(self.module)):
            phi = self._coarsest(phi)
        return phi

    def _coarsest(self, phi: Phi) -> Phi:
        """The same with comparisons that leave out the bits that the budget has room for.

        What one such comparison may get wrong must stay within half of the budget by itself: it
        happens too rarely to be seen on few samples. A fraction bit more costs a truncation 3 bits
        and is one more to leave out, so that the next fraction is tried too.
        """
        best, measured, gain = phi, self.measured, 1
        for more in (0, 1):
            frac = phi.frac + more
            coarse = min(math.floor(math.log2(self.options.max_error / 2)) + frac, MAX_COARSE)
            if coarse - more <= gain:
                continue
            found = self._fit(frac, phi.weight_frac, coarse)
            if isinstance(found, Phi) and self._error(found, _CHECK_SAMPLES) <= 1:
                best, measured, gain = found, self.measured, coarse - more
        self.measured = measured
        return best

    def _finest_needed(self) -> Phi:
        """The cheapest pair of fraction bits whose measured error meets the budget.

        The error is close to a * 2^-frac + b * 2^-weight_frac. Two simulations give a and b; the
        cheapest pair that this predicts to be good is then measured on more samples, and a and b
        are corrected until measurement agrees.
        """
        start, probe, low, high = self._first()
        e1, e2 = self._error(low, _SEARCH_SAMPLES), self._error(high, _SEARCH_SAMPLES)
        ratio = 2.0**-probe
        a = max(e1 - ratio * e2, 0.0) / (1 - ratio**2) * 2.0**start
        b = max(e2 - ratio * e1, 0.0) / (1 - ratio**2) * 2.0**start
        # Outputs of few elements may hide a term by luck; then only the other would be refined.
        a, b = max(a, b / 64), max(b, a / 64)
        tried = range(self._fewest, _MOST + 1)
        pairs = [(f, w) for f in tried for w in tried]
        pairs.sort(key=lambda p: (_FRAC_COST * p[0] + _WEIGHT_FRAC_COST * p[1], p))
        correction, reached = 1.0, math.inf
        unfit: NoFitError | None = None
        for frac, weight_frac in pairs:
            predicted = a * 2.0**-frac + b * 2.0**-weight_frac
            if predicted * correction > 1:
                continue
            phi = self._fit(frac, weight_frac)
            if isinstance(phi, NoFitError):
                unfit = unfit or phi
                continue
            error = self._error(phi, _CHECK_SAMPLES)
            reached = min(reached, error)
            if error <= 1:
                return phi
            if predicted > 0:
                correction = max(correction, error / predicted)
        raise self._no_precision(reached, unfit)

    def _no_precision(self, reached: float, unfit: NoFitError | None) -> MpccError:
        """Why no pair will do; ``unfit``: what the cheapest one fine enough does not fit."""
        # Without a pair that was predicted to do, the finest one tells how far it goes.
        if not math.isfinite(reached):
            fitting = [v for v in self._fitting.values() if isinstance(v, Phi)]
            finest = max(fitting, key=lambda phi: phi.frac + phi.weight_frac)
            reached = self._error(finest, _SEARCH_SAMPLES)
        failures = [v for v in self._fitting.values() if isinstance(v, NoFitError)]
        op = failures[-1].misfits[0].op if failures else None
        worst = "" if op is None else op.loc or op.name
        first = Diagnostic(
            "E-range-error",
            f"no format keeps every output within {self.options.max_error:g}; about "
            f"{reached * self.options.max_error:.2g} can be promised",
            worst and f"the widest range is that of {worst}",
            "give --calibrate DATA.npz or a narrower --input-range, or allow a larger error "
            "with --max-error" + larger_ring(self.ranges.rings),
        )
        if unfit is None or not larger_ring(self.ranges.rings):
            return MpccError(first)
        return MpccError(first, *unfit.diagnostics(_LARGER_NODE))

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
