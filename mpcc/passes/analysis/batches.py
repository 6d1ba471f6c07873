"""Formats of one batch size, kept for another one, so that programs of both share their weights.

A model that treats the rows of a batch alike and apart has the same ranges whatever their number.
Whether this model does is not taken on trust: its ranges are found again at every batch size, and
all of them must be within those of the size that was analysed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import MpccError
from mpcc.ir.analysis.forms import CONST, forms, kind_of
from mpcc.ir.analysis.ranges import Observed, observe
from mpcc.ir.analysis.rings import Rings
from mpcc.ir.core import Module, Op
from mpcc.ir.ops.tensor import Kind
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.passes.analysis.decisions import Program, clamped_reference
from mpcc.passes.analysis.inputs import input_ranges, random_samples
from mpcc.passes.analysis.ranges import NoFitError, Ranges
from mpcc.passes.declared_formats import declared_phi

__all__ = ["Batch", "formats_of_batch", "measure_batch"]

Array = npt.NDArray[Any]
Samples = Sequence[Mapping[str, Array]]

_ROUNDING = 2.0**-20
"""Relative difference of two sums of the same floats in another order."""

_NOISE = 2.0**-30
"""Magnitudes of rounding errors around zero: finer than any fixed-point format."""


class Batch:
    """A model at one batch size.

    Args:
        size: the batch.
        module: its tensor module, as the analysis takes it.
        constants: its weights by name.
        samples: calibration data, one dict of whole batches per sample; may be empty.
    """

    def __init__(
        self, size: int, module: Module, constants: Mapping[str, Array], samples: Samples
    ) -> None:
        self.size = size
        self.module = module
        self.constants = constants
        self.samples = samples

    def computing(self) -> list[int]:
        """Numbers of the ops that Phi may say something of; passes may move data otherwise."""
        form = forms(self.module.main).form
        return [
            i
            for i, op in enumerate(self.module.main.ops)
            if kind_of(op) not in (Kind.STRUCTURAL, Kind.OUTPUT)
            and any(form[v] != CONST for v in op.results)
        ]


def formats_of_batch(
    base: Batch, phi: Phi, observed: Observed | None, other: Batch, options: FormatOptions
) -> Phi:
    """The formats of ``base``, for ``other``: the same numbers, at the ops that correspond.

    Args:
        base: what was analysed.
        phi: its formats.
        observed: what the float model did there on the calibration data; None without any.
        other: the model at another batch size.
        options: of the analysis.

    Raises:
        MpccError: ``E-batch-model``: the two have not the same ops; ``E-batch-range``: an op's
            values grow with the batch, or take formats that do not fit; names the first such op.
    """
    same = _corresponding(base, other)
    table = {same[i]: bits for i, bits in phi.ranges}
    clamps = {same[i]: bits for i, bits in phi.clamps}
    seen = None
    if observed is not None:
        found = observe(other.module, other.constants, other.samples)
        _check_magnitudes(base, other, observed, found, same)
        # Not what was found: sums in another order could round across a power of two.
        known = {same[i]: observed.magnitude[i] for i in same}
        seen = replace(found, magnitude={**found.magnitude, **known}, inputs=observed.inputs)
    try:
        own = _own_formats(other, phi, seen, same, options)
    except NoFitError as error:
        raise _grown(base, other, str(error)) from None
    ops = other.module.main.ops
    wider = [i for i, bits in own.ranges if bits > table[i]]
    # A clamp more or less changes what is proved of everything behind it.
    moved = [i for i, _ in sorted(set(own.clamps) ^ set(clamps.items()))]
    for i in [*wider, *moved][:1]:
        raise _grown(base, other, ops[i].name, ops[i].loc)
    return replace(
        own,
        inputs=tuple(sorted((same[i], bits) for i, bits in phi.inputs)),
        ranges=tuple(sorted(table.items())),
        clamps=tuple(sorted(clamps.items())),
    )


def _own_formats(
    batch: Batch,
    phi: Phi,
    observed: Observed | None,
    same: Mapping[int, int],
    options: FormatOptions,
) -> Phi:
    """What the analysis finds for this batch alone at the fraction bits of ``phi``.

    Raises:
        NoFitError: that, or what ``phi`` says of the ops that correspond, does not fit the ring.
    """
    if options.disclose == "none":
        return declared_phi(batch.module, options)
    inputs = input_ranges(batch.module, observed, options, phi.policy)
    known = Rings.of_phi(phi)
    rings = Rings.of_ops(batch.module, known.main, {k: known.of(i) for i, k in same.items()})
    ranges = Ranges(
        batch.module, batch.constants, options, phi.policy, inputs, observed, phi.weight_bits, rings
    )
    table, clamps = ({same[i]: b for i, b in rows} for rows in (phi.ranges, phi.clamps))
    ranges.check_fit(table, clamps, phi.frac, phi.weight_frac)
    return ranges.formats(phi.frac, phi.weight_frac, phi.coarse)


def _corresponding(base: Batch, other: Batch) -> dict[int, int]:
    """Numbers of the computing ops of ``base`` -> those of ``other``."""
    ours, theirs = base.computing(), other.computing()
    ops, others = base.module.main.ops, other.module.main.ops
    for i, k in zip_longest(ours, theirs):
        op = None if i is None else ops[i]
        twin = None if k is None else others[k]
        if op is None or twin is None or (op.definition, op.loc) != (twin.definition, twin.loc):
            raise MpccError.of(
                "E-batch-model",
                f"in a batch of {other.size} the model has other operators than in one of "
                f"{base.size}: {_told(twin)} instead of {_told(op)}",
                _place(twin) or _place(op),
                "compile every batch alone",
            )
    return dict(zip(ours, theirs, strict=True))


def _told(op: Op | None) -> str:
    return "nothing" if op is None else f"{op.name} of {op.loc}" if op.loc else op.name


def _place(op: Op | None) -> str:
    return "" if op is None else op.loc or op.name


def _check_magnitudes(
    base: Batch, other: Batch, observed: Observed, found: Observed, same: Mapping[int, int]
) -> None:
    """Refuse a model whose values are larger in a larger batch of the same rows."""
    ops = other.module.main.ops
    for i, k in same.items():
        if found.magnitude[k] > observed.magnitude[i] * (1 + _ROUNDING) + _NOISE:
            raise _grown(base, other, ops[k].name, ops[k].loc)


def _grown(base: Batch, other: Batch, op: str, loc: str = "") -> MpccError:
    return MpccError.of(
        "E-batch-range",
        f"the values of {op} are larger in a batch of {other.size} than in one of {base.size}, so "
        "that the formats differ",
        loc or op,
        "the model computes across the rows of a batch (a sum, an order); compile every batch "
        "alone, with weights of its own",
    )


def measure_batch(batch: Batch, phi: Phi, options: FormatOptions) -> dict[str, float]:
    """Largest error of every output against the float model, on one batch.

    Without calibration data it is random.

    Raises:
        MpccError: ``E-batch-error``: an error exceeds the budget.
    """
    samples = batch.samples
    if not samples:
        ranges = input_ranges(batch.module, None, options, "proved").ranges
        samples = random_samples(batch.module, ranges)
    program = Program(batch.module, batch.constants, phi, options)
    run = program.run(samples[0], 0)
    if program.decides:
        expected = program.reference(samples[0], run)
    else:
        expected = clamped_reference(batch.module, batch.constants, samples[0], program.clamps)
    if program.compared_error > 1:
        raise _inexact(batch, "what is compared", options)
    measured: dict[str, float] = {}
    for name, reference in expected.items():
        error = float(np.abs(run.outputs[name] - reference).max(initial=0.0))
        scale = float(np.abs(reference).max(initial=0.0))
        measured[name] = error
        # As in the search: beyond 2^8 an absolute budget is finer than binary32.
        if error > options.max_error * max(1.0, scale / 256):
            raise _inexact(batch, name, options)
    return measured


def _inexact(batch: Batch, what: str, options: FormatOptions) -> MpccError:
    return MpccError.of(
        "E-batch-error",
        f"in a batch of {batch.size} the error of {what} is not within {options.max_error:g}",
        "--batch",
        "compile this batch alone, or allow a larger error with --max-error",
    )
