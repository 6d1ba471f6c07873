"""What enters a model: enforced input ranges, the size of its weights, random inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import MpccError
from mpcc.ir.analysis.ranges import Observed
from mpcc.ir.analysis.rings import Rings
from mpcc.ir.core import Module
from mpcc.ir.ops import tensor
from mpcc.ir.phi import BITS_MAX, BITS_MIN, DEFAULT_RANGE, FormatOptions
from mpcc.passes.lower_tensor_to_secure import range_bits

__all__ = ["Inputs", "fewest_frac", "input_ranges", "random_samples", "weight_bits"]

Array = npt.NDArray[Any]

_FEWEST_FRAC = {64: 8, 32: 4}
"""By the smallest ring of a program: fraction bits of activations and weights are no fewer."""

_RANDOM_SAMPLES = 2

_THIN = 4.0
"""How many times larger than the calibration data inputs may be before the user is warned."""


def fewest_frac(rings: Rings) -> int:
    """Fewest fraction bits of activations and weights that are tried."""
    return _FEWEST_FRAC[32 if rings.others else rings.main]


@dataclass(frozen=True)
class Inputs:
    """Ranges that clients enforce.

    Attributes:
        ranges: (lo, hi) by name.
        bits: by op index, b of a range [-2^b, 2^b] that comes from calibration data.
        notes: sentences for the user.
    """

    ranges: dict[str, tuple[float, float]]
    bits: dict[int, int]
    notes: list[str]


def input_ranges(
    module: Module, observed: Observed | None, options: FormatOptions, policy: str
) -> Inputs:
    """The range of every input: declared, from calibration data, or the default.

    Raises:
        MpccError: ``E-range-input``: data outside a declared range; ``E-range-name``: a range for
            an input that the model does not have.
    """
    found = Inputs({}, {}, [])
    for i, op in enumerate(module.main.ops):
        if op.definition is not tensor.Input:
            continue
        name = op.attrs["name"]
        seen = observed.inputs[name] if observed is not None else None
        own = tensor.input_range(module.main, op)
        if own is not None:
            # Of these the client's library accepts nothing else, whatever was declared.
            found.ranges[name] = own
            if seen is not None and seen > max(abs(own[0]), abs(own[1])):
                raise MpccError.of(
                    "E-range-input",
                    f"calibration data of {name} leave [{own[0]:g}, {own[1]:g}], the range that "
                    "the model gives it",
                    "--calibrate",
                    "check the data: these are truth values, or numbers of a table's rows",
                )
        elif name in options.input_ranges:
            lo, hi = options.input_ranges[name]
            if seen is not None and seen > max(abs(lo), abs(hi)):
                raise MpccError.of(
                    "E-range-input",
                    f"calibration data of {name} leave the declared range [{lo}, {hi}]",
                    "--input-range",
                    "widen the range, or scale the data",
                )
            found.ranges[name] = (lo, hi)
            if policy == "observed":
                _warn_of_thin_data(found.notes, name, max(abs(lo), abs(hi)), seen)
        elif seen is not None:
            # One bit of room: other inputs of the same kind are a little larger.
            b = min(max(math.ceil(math.log2(seen)) + 1 if seen > 0 else 0, BITS_MIN), BITS_MAX)
            found.bits[i] = b
            found.ranges[name] = (-(2.0**b), 2.0**b)
            found.notes.append(
                f"input {name}: the client refuses values outside [{-(2.0**b):g}, {2.0**b:g}] "
                "(from calibration; --input-range changes it)"
            )
        else:
            found.ranges[name] = DEFAULT_RANGE
            found.notes.append(
                f"input {name}: taken as [{DEFAULT_RANGE[0]:g}, {DEFAULT_RANGE[1]:g}], which "
                "the client enforces (--input-range or --calibrate changes it)"
            )
    unknown = set(options.input_ranges) - set(found.ranges)
    if unknown:
        raise MpccError.of(
            "E-range-name",
            f"the model has no input {', '.join(sorted(unknown))}",
            "--input-range",
            f"its inputs are {', '.join(found.ranges)}",
        )
    return found


def _warn_of_thin_data(notes: list[str], name: str, bound: float, seen: float | None) -> None:
    """Say so where the client admits inputs that the calibration data says nothing about."""
    if seen is not None and bound > _THIN * seen:
        notes.append(
            f"warning: input {name} may reach {bound:g}, the calibration data only {seen:.3g}; "
            "answers beyond the data may be wrong without notice: calibrate with larger ones, "
            "or use --range proved or --range guarded"
        )


def random_samples(
    module: Module, ranges: Mapping[str, tuple[float, float]], count: int = _RANDOM_SAMPLES
) -> list[dict[str, Array]]:
    """Uniform inputs in the enforced ranges, for a model without calibration data.

    Those of whole numbers are whole.
    """
    generator = np.random.default_rng(0)
    samples: list[dict[str, Array]] = []
    for _ in range(count):
        sample: dict[str, Array] = {}
        for op in module.main.walk(tensor.Input.name):
            lo, hi = ranges[op.attrs["name"]]
            shape = op.attrs["shape"]
            values: Array = np.asarray(generator.uniform(lo, hi, shape))
            if op.attrs["whole"] or tensor.input_range(module.main, op) is not None:
                ends = math.ceil(lo), math.floor(hi)
                values = np.asarray(generator.integers(*ends, shape, endpoint=True), np.float64)
            sample[op.attrs["name"]] = values
        samples.append(sample)
    return samples


def weight_bits(module: Module, constants: Mapping[str, Array], fewest: int) -> int:
    """Smallest b with |w| < 2^b for every weight, also as encoded with ``fewest`` fraction bits.

    Raises:
        MpccError: ``E-range-weights``: a weight is not finite, or too large.
    """
    bits = BITS_MIN
    for op in module.main.walk(tensor.Weight.name):
        array = np.asarray(constants[op.attrs["name"]], np.float64)
        size = float(np.abs(array).max(initial=0.0))
        # Room for rounding up to 2^bits, at the fewest fraction bits.
        needed = range_bits(size + 2.0 ** -(fewest + 1)) if math.isfinite(size) else BITS_MAX + 1
        if needed > BITS_MAX:
            raise MpccError.of(
                "E-range-weights",
                "a weight is infinite, not a number, or too large for fixed point",
                op.loc or op.attrs["name"],
            )
        bits = max(bits, needed)
    return bits
