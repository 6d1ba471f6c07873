"""analyse: chooses ranges and fixed-point formats at the model owner; the result is Phi.

Sees the weights and the calibration data. What leaves the owner is Phi alone; exact ranges and
errors go into the private report. See docs/numbers.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.analysis.forms import forms
from mpcc.ir.analysis.ranges import Observed, observe
from mpcc.ir.analysis.rings import Rings
from mpcc.ir.calls import inline
from mpcc.ir.core import Module
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.passes.analysis.contract import RANDOM_SAMPLES, Contract, check_share
from mpcc.passes.analysis.inputs import (
    Inputs,
    fewest_frac,
    input_ranges,
    random_samples,
    weight_bits,
)
from mpcc.passes.analysis.layers import Facts, blame, layer_rows
from mpcc.passes.analysis.ranges import Ranges
from mpcc.passes.analysis.repair import advised
from mpcc.passes.analysis.search import SAFETY, Search

__all__ = ["Analysis", "analyse", "blamed", "contract_samples", "owner_report"]

Array = npt.NDArray[Any]
Samples = Sequence[Mapping[str, Array]]

_POLICY_NOTES = {
    "observed": (
        "ranges: observed on calibration data with headroom; what happens beyond them is undefined"
    ),
    "guarded": "ranges: proved, starting again at clamps set from the calibration data",
    "proved": "ranges: proved for all inputs in their enforced range",
}


@dataclass(frozen=True)
class Analysis:
    """Phi and what stays with the model owner.

    Attributes:
        phi: the formats; all that the artifact discloses about weights and data.
        notes: sentences for the user that hold nothing private (assumed ranges, policies).
        private: exact ranges and measured errors, plain data for JSON.
        observed: what the float model did on the calibration data, or None; private too.
    """

    phi: Phi
    notes: tuple[str, ...]
    private: dict[str, Any] = field(repr=False)
    observed: Observed | None = field(default=None, repr=False)


def analyse(
    module: Module,
    constants: Mapping[str, Array],
    calibration: Samples = (),
    options: FormatOptions | None = None,
    min_agreement: float | None = None,
    batch: int = 1,
    explain: bool = True,
) -> Analysis:
    """Choose the formats of a tensor module.

    Args:
        module: a verified tensor module.
        constants: its weights by name.
        calibration: input dicts, one per sample; may be empty.
        options: see :class:`FormatOptions`.
        min_agreement: share of decisions on every output that must be the float model's, see
            :mod:`mpcc.passes.analysis.contract`; None asks for nothing.
        batch: size of the batch.
        explain: whether to find out, where no formats do, what would help.

    Raises:
        MpccError: ``E-range-calibrate`` (the policy needs data), ``E-range-fit`` (a layer's range
            does not fit the ring; names all that do not), ``E-range-error`` (no format meets the
            error budget), ``E-range-agreement`` (some do, but too many decisions differ),
            ``E-option-agreement`` (no share), ``E-range-input`` (calibration data outside the
            declared input range),
            ``E-option-ring`` (a ring for a node that the model does not have).
    """
    chosen = options or FormatOptions()
    policy = chosen.policy or ("observed" if calibration else "proved")
    if policy != "proved" and not calibration:
        raise MpccError.of(
            "E-range-calibrate",
            f"the range policy {policy} needs calibration data",
            "--range",
            "give --calibrate DATA.npz, or use --range proved",
        )
    flat = inline(module).module
    forms(flat.main)  # refuses operators without a secure form before anything runs
    observed = observe(flat, constants, calibration) if calibration else None
    inputs = input_ranges(flat, observed, chosen, policy)
    samples = list(calibration) or contract_samples(flat, inputs, min_agreement)
    contract = Contract(
        module,
        constants,
        samples,
        inputs.ranges,
        None if observed is None else observed.outputs,
        min_agreement,
        bool(calibration),
        batch,
    )

    def ranges_of(rings: Rings) -> Ranges:
        bits = weight_bits(flat, constants, fewest_frac(rings))
        return Ranges(module, constants, chosen, policy, inputs, observed, bits, rings)

    search = Search(module, constants, chosen, ranges_of, inputs, samples, observed, contract)
    try:
        phi = agreed(search.run, contract, chosen) if explain else search.run()
    except MpccError as error:

        def trial(changed: FormatOptions, data: Samples) -> float:
            kept = analyse(module, constants, data, changed, min_agreement, batch, explain=False)
            return promised(kept)

        if not explain:
            raise
        raise advised(error, module, chosen, calibration, search.reached, trial) from None
    notes = [_POLICY_NOTES[policy], *inputs.notes]
    if phi.clamps:
        notes.append(f"{len(phi.clamps)} clamps were inserted")
    facts = Facts(observed, search.ranges.proved_ends(phi), chosen)
    report = {
        **owner_report(contract, phi, facts, search.measured),
        **search.report(phi),
    }
    return Analysis(phi, tuple(notes), report, observed)


def promised(analysis: Analysis) -> float:
    """The error that formats promise: the largest one measured, with the safety factor."""
    phi = analysis.phi
    own = (phi.frac, phi.weight_frac, phi.coarse)
    rows = analysis.private["tried"]
    keys = ("frac", "weight_frac", "coarse")
    found: float = next(r["error"] for r in reversed(rows) if tuple(r[k] for k in keys) == own)
    return found


def contract_samples(
    module: Module, inputs: Inputs, min_agreement: float | None
) -> list[dict[str, Array]]:
    """Random inputs, more of them where an agreement is to be measured."""
    if min_agreement is None:
        return random_samples(module, inputs.ranges)
    check_share(min_agreement)
    return random_samples(module, inputs.ranges, RANDOM_SAMPLES)


def agreed(search: Callable[[], Phi], contract: Contract, options: FormatOptions) -> Phi:
    """What a search finds; where it fails, an error that names the layers that lose most.

    And the decisions that differ, where the error itself would do.

    Raises:
        MpccError: as the search, or ``E-range-agreement``.
    """
    try:
        return search()
    except MpccError as error:
        if error.code != "E-range-error" or contract.last is None:
            raise
        problems = contract.failure().diagnostics if contract.failed else error.diagnostics
        raise MpccError(*problems, *blamed(contract, contract.last, options)) from None


def blamed(contract: Contract, phi: Phi, options: FormatOptions) -> list[Diagnostic]:
    """The layers that lose most in formats that do not do, for the user."""
    found = blame(contract.losses(phi, options, options.max_error / SAFETY), phi)
    return [] if found is None else [found]


def owner_report(
    contract: Contract, phi: Phi, facts: Facts, measured: Mapping[str, float]
) -> dict[str, Any]:
    """What the model owner's private report says of formats that do."""
    options = facts.options
    losses = contract.losses(phi, options, options.max_error / SAFETY)
    return {
        "policy": phi.policy,
        "samples": len(contract.samples) if contract.calibrated else 0,
        "frac": phi.frac,
        "weight_frac": phi.weight_frac,
        "measured_error": dict(measured),
        "max_error": options.max_error,
        "safety": SAFETY,
        "agreement": contract.report(phi),
        "layers": layer_rows(losses, phi, facts),
    }
