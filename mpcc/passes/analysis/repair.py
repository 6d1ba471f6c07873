"""What would help where no formats keep the budget: tried, not guessed.

The search itself goes through fraction bits and, where rings are left open, through rings before it
gives up. What is left is the user's to change: the ring that was asked for, the ranges of inputs,
calibration data, the budget. Each change is tried by a search of its own, and the error names those
that do, with the values to give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.core import Module
from mpcc.ir.ops import tensor
from mpcc.ir.phi import DEFAULT_RANGE, FormatOptions
from mpcc.ir.types import TensorType, element_count
from mpcc.passes.analysis.inputs import random_samples

__all__ = ["CODES", "Trial", "advised"]

Array = npt.NDArray[Any]
Samples = Sequence[Mapping[str, Array]]

Trial: TypeAlias = Callable[[FormatOptions, Samples], float]
"""(options, calibration) -> the error that can be promised; MpccError where a search fails."""

CODES = frozenset({"E-range-error", "E-range-fit"})
"""Errors that a change of the options may mend."""

_NARROWER = (2, 4, 6)
"""Ranges of inputs are divided by two to the power of these."""

_SMALL = 1 << 20
"""Elements computed by a model for which several ranges of its inputs are tried."""


@dataclass(frozen=True)
class _Change:
    """Something that the user can do.

    Attributes:
        title: the option and its value.
        options: with it.
        samples: with it.
        note: on what the result stands.
    """

    title: str
    options: FormatOptions
    samples: Samples
    note: str = ""


def _narrower(
    module: Module, options: FormatOptions, exponent: int
) -> dict[str, tuple[float, float]]:
    """Ranges of inputs whose user chooses them."""
    found = dict(options.input_ranges)
    for op in module.main.walk(tensor.Input.name):
        name = op.attrs["name"]
        if not op.attrs["whole"] and tensor.input_range(module.main, op) is None:
            lo, hi = options.input_ranges.get(name, DEFAULT_RANGE)
            found[name] = math.ldexp(lo, -exponent), math.ldexp(hi, -exponent)
    return found


def _changes(
    module: Module, options: FormatOptions, samples: Samples, reached: float
) -> Iterator[list[_Change]]:
    """Groups of changes; of each, the first one that does is enough."""
    if math.isfinite(reached) and reached > 0:
        budgets = [_rounded_up(reached * factor) for factor in (1, 2)]
        yield [
            _Change(f"--max-error {x:g}", replace(options, max_error=x), samples) for x in budgets
        ]
    if not options.chooses_rings:
        open_ = replace(options, ring=None, rings={})
        yield [_Change("--ring auto", open_, samples)]
    if samples:
        return  # inputs like these are to be computed
    given = {
        name: ends
        for name, ends in _narrower(module, options, 0).items()
        if name not in options.input_ranges
    }
    known = replace(options, input_ranges={**given, **options.input_ranges})
    if options.policy is None:
        like = random_samples(module, {**known.input_ranges, **_own_ranges(module)})
        note = "with random inputs as data"
        yield [_Change("--calibrate DATA.npz", known, like, note)]
    size = sum(
        element_count(v.type.shape)
        for op in module.main.ops
        for v in op.results
        if isinstance(v.type, TensorType)
    )
    if size > _SMALL:
        return
    narrower = []
    for exponent in _NARROWER:
        ranges = _narrower(module, options, exponent)
        told = " ".join(f"--input-range {n}={lo:.10g}:{hi:.10g}" for n, (lo, hi) in ranges.items())
        narrower.append(_Change(told, replace(options, input_ranges=ranges), ()))
    if ranges:
        yield narrower


def _own_ranges(module: Module) -> dict[str, tuple[float, float]]:
    """Ranges of inputs that the model itself gives."""
    return {
        op.attrs["name"]: own
        for op in module.main.walk(tensor.Input.name)
        if (own := tensor.input_range(module.main, op)) is not None
    }


def _rounded_up(error: float) -> float:
    """To two digits."""
    exponent = math.floor(math.log10(error)) - 1
    return float(f"{math.ceil(error / 10.0**exponent)}e{exponent}")


def advised(
    error: MpccError,
    module: Module,
    options: FormatOptions,
    samples: Samples,
    reached: float,
    trial: Trial,
) -> MpccError:
    """The same error with what would help instead of what might.

    Args:
        error: of a search.
        module: the tensor module.
        options: of that search.
        samples: its calibration data; may be empty.
        reached: error that its best formats promise; infinite if there are none.
        trial: runs another one.
    """
    first = error.diagnostics[0]
    if first.code not in CODES:
        return error
    good: list[str] = []
    bad: list[str] = []
    for group in _changes(module, options, samples, reached):
        for change in group:
            try:
                found = trial(change.options, change.samples)
            except MpccError:
                continue
            stands = f"{found:.2g} can be promised" + (change.note and f", {change.note}")
            own = change.options.max_error != options.max_error
            good.append(change.title if own else f"{change.title} ({stands})")
            break
        else:
            bad.append(group[-1].title)
    if not good and not bad:
        return error
    fix = "any of these does, as trials show: " + "; ".join(good) if good else ""
    if bad:
        fix += ("; " if good else "") + f"tried, but not enough: {', '.join(bad)}"
    mended = Diagnostic(first.code, first.what, first.where, fix)
    return MpccError(mended, *error.diagnostics[1:])
