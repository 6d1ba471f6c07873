"""analyse: chooses ranges and fixed-point formats at the model owner; the result is Phi.

Sees the weights and the calibration data. What leaves the owner is Phi alone; exact ranges and
errors go into the private report. See docs/numbers.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from mpcc.errors import MpccError
from mpcc.ir.analysis.forms import forms
from mpcc.ir.analysis.ranges import Observed, observe
from mpcc.ir.analysis.rings import Rings
from mpcc.ir.calls import inline, numbered
from mpcc.ir.core import Module
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.passes.analysis.inputs import fewest_frac, input_ranges, random_samples, weight_bits
from mpcc.passes.analysis.ranges import Ranges
from mpcc.passes.analysis.search import SAFETY, Search
from mpcc.passes.strip_names import labels

__all__ = ["Analysis", "analyse", "layers"]

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
) -> Analysis:
    """Choose the formats of a tensor module.

    Args:
        module: a verified tensor module.
        constants: its weights by name.
        calibration: input dicts, one per sample; may be empty.
        options: see :class:`FormatOptions`.

    Raises:
        MpccError: ``E-range-calibrate`` (the policy needs data), ``E-range-fit`` (a layer's range
            does not fit the ring; names all that do not), ``E-range-error`` (no format meets the
            error budget), ``E-range-input`` (calibration data outside the declared input range),
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
    written = inline(module)
    flat = written.module
    forms(flat.main)  # refuses operators without a secure form before anything runs
    observed = observe(flat, constants, calibration) if calibration else None
    inputs = input_ranges(flat, observed, chosen, policy)
    samples = list(calibration) or random_samples(flat, inputs.ranges)
    rings = Rings.chosen(flat, chosen)
    bits = weight_bits(flat, constants, fewest_frac(rings))
    ranges = Ranges(flat, constants, chosen, policy, inputs, observed, bits, rings, written.rows)
    search = Search(module, constants, chosen, ranges, inputs, samples, observed)
    phi = search.run()
    notes = [_POLICY_NOTES[policy], *inputs.notes]
    if phi.clamps:
        notes.append(f"{len(phi.clamps)} clamps were inserted")
    report = {
        "policy": policy,
        "samples": len(calibration),
        "frac": phi.frac,
        "weight_frac": phi.weight_frac,
        "measured_error": dict(search.measured),
        "max_error": chosen.max_error,
        "safety": SAFETY,
        "layers": layers(module, phi, _joined(observed, written.rows)),
    }
    return Analysis(phi, tuple(notes), report, observed)


def _joined(observed: Observed | None, rows: Sequence[int]) -> Observed | None:
    """By numbers of Phi, the largest magnitude of all calls."""
    if observed is None:
        return None
    magnitude: dict[int, float] = {}
    for i, size in observed.magnitude.items():
        magnitude[rows[i]] = max(size, magnitude.get(rows[i], 0.0))
    return replace(observed, magnitude=magnitude)


def layers(module: Module, phi: Phi, observed: Observed | None) -> list[dict[str, Any]]:
    """Range, observed magnitude and clamp of every op that has a range: for the private report.

    ``layer`` is what the artifact and its cost report call the op, ``node`` what the model does.
    """
    names = {id(op): label for op, label in labels(module)}
    ops, clamps = numbered(module), dict(phi.clamps)
    return [
        {
            "op": i,
            "layer": names[id(ops[i])],
            "name": ops[i].name,
            "node": ops[i].loc,
            "bits": bits,
            "observed": observed.magnitude.get(i) if observed else None,
            "clamp": clamps.get(i),
        }
        for i, bits in phi.ranges
    ]
