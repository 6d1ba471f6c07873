"""Formats that disclose nothing: made from the architecture and declared ranges alone.

For ``--disclose none``. :func:`declared_phi` has no argument through which a weight or a sample
could come in, and the leak checker calls it again to see that an artifact which claims to disclose
nothing has the formats that it gives. :func:`analyse_declared` runs at the model owner: it checks
that the weights and data keep what was declared, and measures the error; all that it can do is to
refuse. See docs/numbers.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.analysis.forms import forms
from mpcc.ir.analysis.ranges import Intervals, Observed, observe
from mpcc.ir.analysis.rings import Rings
from mpcc.ir.core import Module
from mpcc.ir.ops import tensor
from mpcc.ir.phi import BITS_MIN, DECLARED, DEFAULT_WEIGHT_RANGE, RINGS, FormatOptions, Phi
from mpcc.passes.analyse import Analysis, blamed, contract_samples, owner_report
from mpcc.passes.analysis.contract import Contract
from mpcc.passes.analysis.decisions import Program
from mpcc.passes.analysis.inputs import Inputs, fewest_frac, input_ranges
from mpcc.passes.analysis.layers import Facts
from mpcc.passes.analysis.ranges import NoFitError, Ranges
from mpcc.passes.analysis.rings_choice import RingChoice
from mpcc.passes.analysis.search import SAFETY, larger_ring
from mpcc.passes.analysis.uniform import UniformIntervals
from mpcc.passes.lower_tensor_to_secure import range_bits

__all__ = ["analyse_declared", "declared_phi"]

Array = npt.NDArray[Any]
Samples = Sequence[Mapping[str, Array]]

_MOST = 16
"""Fraction bits that are tried first where none are declared."""

_CHECKED = 8
"""Samples on which the error is measured."""


def _bits(bound: float) -> int:
    """Smallest b with x < 2^b for every x < bound."""
    mantissa, exponent = math.frexp(bound)
    return exponent - 1 if mantissa == 0.5 else exponent


class _Declared(Ranges):
    """Formats at given fraction bits, from declared ranges."""

    def __init__(
        self, module: Module, options: FormatOptions, inputs: Inputs, rings: Rings
    ) -> None:
        self.weight_range = options.weight_range or DEFAULT_WEIGHT_RANGE
        bits = max(_bits(self.weight_range), BITS_MIN)
        super().__init__(module, {}, options, "proved", inputs, None, bits, rings)

    def intervals(self, frac: int, weight_frac: int) -> Intervals:
        bounds = self.inputs.ranges
        made = UniformIntervals(self.module, frac, weight_frac, bounds, self.weight_range)
        return self.keep(made, frac, weight_frac)

    def formats(self, frac: int, weight_frac: int, coarse: int = 0) -> Phi:
        if self.options.value_range is None:
            return super().formats(frac, weight_frac, coarse)
        promised = max(_bits(self.options.value_range), BITS_MIN)
        intervals = self.intervals(frac, weight_frac)
        ranged = {i for i, _ in self.ranged()}
        ranges: dict[int, int] = {}
        for i, op in enumerate(self.ops):
            size = intervals.step(op)
            if i not in ranged:
                continue
            ranges[i] = max(range_bits(size), BITS_MIN)
            if op.definition is not tensor.Input and ranges[i] > promised:
                ranges[i] = promised
                intervals.clip(op, promised)
        self.check_fit(ranges, {}, frac, weight_frac)
        table = tuple(sorted(ranges.items()))
        others = tuple(sorted(self.rings.others))
        bits = self.weight_bits
        return Phi(DECLARED, self.rings.main, frac, weight_frac, bits, (), table, (), others)


def _declare(
    module: Module, options: FormatOptions, rings: Rings | None
) -> tuple[Phi, Inputs, RingChoice | None]:
    """Formats; and, where ``rings`` are None, what chose the rings."""
    forms(module.main)  # refuses operators without a secure form
    inputs = input_ranges(module, None, options, "proved")
    choice = RingChoice(module, options, lambda r: _Declared(module, options, inputs, r))
    if rings is not None:
        return _most_digits(choice, rings, options), inputs, None
    widest = _most_digits(choice, Rings(max(RINGS)), options)
    frac = widest.frac
    # Rings of products do not depend on what rounds are worth beside bytes: programs of several
    # batch sizes share weights.
    small = choice.formats(Rings(min(RINGS)), frac, frac)
    if isinstance(small, Phi) and choice.is_shorter(small, widest):
        return small, inputs, choice
    mixed = (choice.formats(rings, frac, frac) for rings in choice.between(frac, frac))
    found = [widest, *(phi for phi in mixed if isinstance(phi, Phi))]
    return choice.cheapest(found) or widest, inputs, choice


def _most_digits(choice: RingChoice, rings: Rings, options: FormatOptions) -> Phi:
    """Formats in given rings, with the declared fraction or the longest that fits."""
    wanted = options.fraction_bits
    failure: NoFitError | None = None
    fewest = fewest_frac(rings)
    for frac in range(_MOST, fewest - 1, -1) if wanted is None else (wanted,):
        found = choice.formats(rings, frac, frac)
        if isinstance(found, Phi):
            return found
        failure = found
    assert failure is not None
    fix = (
        "declare a narrower --value-range, --weight-range or --input-range, or fewer "
        "--fraction-bits" + larger_ring(rings)
    )
    raise MpccError(*failure.diagnostics(fix))


def declared_phi(module: Module, options: FormatOptions, rings: Rings | None = None) -> Phi:
    """The formats of a tensor module, from its architecture and the options alone.

    Args:
        module: a verified tensor module; it holds no weights.
        options: with ``disclose`` none; the declared ranges.
        rings: of the ops, as the user asked for them; None: those that the options name, or, if
            they leave it open, those that are cheapest.

    Raises:
        MpccError: ``E-range-fit`` (an op's range does not fit the ring; names it),
            ``E-range-name`` (a range of an input that the model does not have), ``E-range-size``
            (sums over too many elements), ``E-lower-op``.
    """
    return _declare(module, options, rings or _asked(module, options))[0]


def _asked(module: Module, options: FormatOptions) -> Rings | None:
    return None if options.chooses_rings else Rings.chosen(module, options)


# --- the owner's part ----------------------------------------------------------------------------


def _check_weights(module: Module, constants: Mapping[str, Array], phi: Phi) -> None:
    problems = []
    # Encoding may round up by so much, and must stay below the end.
    room = 2.0 ** -(min(phi.frac, phi.weight_frac) + 1)
    for op in module.main.walk(tensor.Weight.name):
        name = op.attrs["name"]
        array = np.asarray(constants[name], np.float64)
        # Not (size >= limit), which would let NaN through.
        if not float(np.abs(array).max(initial=0.0)) + room < 2.0**phi.weight_bits:
            problems.append(
                Diagnostic(
                    "E-range-weights",
                    f"weight {name} is not within the declared range of {2.0**phi.weight_bits:g}",
                    op.loc or name,
                    f"declare a wider one, such as --weight-range {2.0 ** (phi.weight_bits + 1):g}",
                )
            )
    collect(problems)


def _check_samples(samples: Samples, inputs: Inputs) -> None:
    """Refuse calibration data that the client would refuse."""
    collect(
        Diagnostic(
            "E-range-input",
            f"calibration data of {name} leave the declared range [{lo}, {hi}]",
            "--input-range",
            "widen the range, or scale the data",
        )
        for name, (lo, hi) in inputs.ranges.items()
        if any(
            float(np.abs(sample[name]).max(initial=0.0)) > max(abs(lo), abs(hi))
            for sample in samples
        )
    )


def _check_promise(module: Module, phi: Phi, observed: Observed) -> None:
    """Refuse samples that leave a range which the owner promised."""
    ops = module.main.ops
    collect(
        Diagnostic(
            "E-range-values",
            f"{ops[i].name} leaves the promised range of {2.0**bits:g}",
            ops[i].loc or f"op {i}",
            "promise a wider --value-range",
        )
        for i, bits in phi.ranges
        if not observed.magnitude[i] < 2.0**bits
    )


def _measure(
    module: Module,
    constants: Mapping[str, Array],
    phi: Phi,
    options: FormatOptions,
    samples: Samples,
    observed: Observed,
    contract: Contract,
) -> tuple[dict[str, float], bool]:
    """Largest error of every output against the float model; whether all keep the budget."""
    program = Program(module, constants, phi, options)
    measured: dict[str, float] = {}
    good = True
    step = math.ceil(len(samples) / _CHECKED)
    for n in range(0, len(samples), step):
        # The last one takes down the errors of the layers.
        followed = n + step >= len(samples)
        run = contract.follow(phi, program, n) if followed else program.run(samples[n], n)
        contract.saw(phi, n, run.outputs)
        decided = program.reference(samples[n], run) if program.decides else observed.outputs[n]
        for name, reference in decided.items():
            error = float(np.abs(run.outputs[name] - reference).max(initial=0.0))
            scale = float(np.abs(reference).max(initial=0.0))
            measured[name] = max(error, measured.get(name, 0.0))
            # As in the search: beyond 2^8 an absolute budget is finer than binary32.
            good = good and error * SAFETY <= options.max_error * max(1.0, scale / 256)
        good = good and program.compared_error * SAFETY <= 1
    return measured, good


def analyse_declared(
    module: Module,
    constants: Mapping[str, Array],
    calibration: Samples = (),
    options: FormatOptions | None = None,
    min_agreement: float | None = None,
    batch: int = 1,
) -> Analysis:
    """Declared formats, after checking at the owner that weights and data keep the declaration.

    Args:
        module: a verified tensor module.
        constants: its weights by name.
        calibration: input dicts, one per sample; without them the checks use random inputs.
        options: with ``disclose`` none.
        min_agreement: as of :func:`mpcc.passes.analyse.analyse`.
        batch: size of the batch.

    Raises:
        MpccError: as :func:`declared_phi`; ``E-range-weights`` (weights outside the declared
            range, all of them), ``E-range-input``, ``E-range-values`` (values outside the promised
            range, all ops), ``E-range-error`` (the measured error exceeds the budget),
            ``E-range-agreement`` (too many decisions differ), ``E-option-agreement``.
    """
    chosen = options or FormatOptions(disclose="none")
    phi, inputs, choice = _declare(module, chosen, _asked(module, chosen))
    _check_weights(module, constants, phi)
    samples = list(calibration) or contract_samples(module, inputs, min_agreement)
    _check_samples(samples, inputs)
    observed = observe(module, constants, samples)
    if phi.policy == DECLARED:
        _check_promise(module, phi, observed)
    contract = Contract(
        module,
        constants,
        samples,
        inputs.ranges,
        observed.outputs,
        min_agreement,
        bool(calibration),
        batch,
    )
    measured, good = _measure(module, constants, phi, chosen, samples, observed, contract)
    if not good:
        problem = Diagnostic(
            "E-range-error",
            f"the declared formats do not keep every output within {chosen.max_error:g}",
            "--disclose none",
            "declare narrower ranges (--input-range, --weight-range, --value-range) or more "
            "--fraction-bits, or allow a larger error with --max-error",
        )
        raise MpccError(problem, *blamed(contract, phi, chosen))
    contract.require(phi, Program(module, constants, phi, chosen))
    declared = _Declared(module, chosen, inputs, Rings.of_phi(phi))
    declared.formats(phi.frac, phi.weight_frac)
    facts = Facts(observed, declared.proved_ends(phi), chosen)
    report = {
        **owner_report(contract, phi, facts, measured),
        **({} if choice is None else {"rings": choice.report(phi)}),
    }
    notes = (*_notes(chosen, phi, bool(calibration)), *inputs.notes)
    return Analysis(phi, notes, report, observed if calibration else None)


def _notes(options: FormatOptions, phi: Phi, calibrated: bool) -> list[str]:
    given = "" if options.weight_range is not None else " (--weight-range changes it)"
    notes = [f"weights: declared to be within {2.0**phi.weight_bits:g}{given}"]
    if phi.policy == DECLARED:
        how = "the calibration data" if calibrated else "random inputs only"
        notes.append(
            f"ranges: promised to be within {options.value_range:g}, checked on {how}; what "
            "happens beyond is undefined"
        )
    else:
        notes.append(
            "ranges: proved for all inputs and weights in their declared range "
            "(--value-range X makes the program cheaper)"
        )
    if phi.clamps:
        notes.append(f"{len(phi.clamps)} clamps were inserted")
    return notes
