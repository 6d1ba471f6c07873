"""Worst errors of all ONNX operators: proved and measured (``mpcc ops --accuracy``).

Nothing is written down here. The probe of every operator (:mod:`mpcc.operators`) is imported and
lowered with ``FRACTION`` fraction bits in the ring of 64 bits, and run in the simulator with random
coins on inputs that the format has exactly. Half of them are uniform in the probe's interval, half
are near its middle, and its ends, zero and one unit to both sides of it are among them.

* *measured*: the largest distance of a result from the operator's own, in binary64;
* *proved*: the largest distance that the range rules of the tensor operators allow for these
  inputs. A range rule encloses what the fixed-point program may give for operands within bounds;
  here the bounds of the inputs are the inputs themselves.

Where a probe makes its operands by other nodes first, their errors are in both figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from rich.table import Table

from mpcc.accuracy import FRACTION, Accuracy
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.ir.analysis.ranges import Intervals
from mpcc.ir.core import Module, Op
from mpcc.ir.interp import fixed, real
from mpcc.ir.intervals import Enclosure, Interval
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions
from mpcc.operators import PROBES, Probe, probe_model
from mpcc.passes import pipeline
from mpcc.passes.base import Manager
from mpcc.passes.declared_formats import declared_phi
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights

__all__ = ["INTERVAL", "INTERVALS", "error_of", "errors", "table", "to_json"]

Array = npt.NDArray[Any]

INTERVAL = (-4.0, 4.0)
"""Of the inputs of probes without an entry in :data:`INTERVALS`."""

INTERVALS: Mapping[str, tuple[float, float]] = {
    # Elsewhere they are steep or not defined.
    **dict.fromkeys(("Div", "Log", "Reciprocal", "ReduceLogSum"), (0.25, 8.0)),
    "Acosh": (1.25, 4.0),
    **dict.fromkeys(("Asin", "Acos", "Atanh"), (-0.75, 0.75)),
    "ReduceProd": (0.875, 1.125),
    "Tan": (-1.0, 1.0),
    "Sqrt": (0.0, 8.0),
    # Numbers of rows, of positions.
    "Gather": (0.0, 63.0),
    "OneHot": (0.0, 7.0),
}
"""Of the inputs of some operators."""

_WEIGHTS, _VALUES = 2.0**10, 2.0**13
"""Declared ranges of the constants and of all values in a probe."""

_WHOLE = frozenset(("Gather", "OneHot"))
"""Those whose inputs are whole numbers."""


class _Points(Intervals):
    """Enclosures of what a fixed-point program gives for single inputs."""

    def __init__(
        self, module: Module, constants: Mapping[str, Array], inputs: Mapping[str, Array]
    ) -> None:
        super().__init__(module, constants, FRACTION, FRACTION, {})
        self.points = inputs

    def _enclose(self, op: Op) -> Enclosure:
        if op.definition is tensor.Input:
            exact = np.asarray(self.points[op.attrs["name"]], np.float64)
            return Enclosure((Interval(exact, exact),))
        return super()._enclose(op)


def error_of(op: str, probe: Probe) -> Accuracy | None:
    """Lower, enclose and simulate a probe; None if its results are no real numbers.

    Raises:
        MpccError: the operator cannot be imported or lowered.
    """
    if probe.kind != onnx.TensorProto.FLOAT:
        return None
    imported = import_onnx(probe_model(op, probe, after=False))
    module = Manager(pipeline.TENSOR).run(imported.module)
    constants = imported.constants
    lo, hi = INTERVALS.get(op, INTERVAL)
    inputs = {
        port.name: _inputs(i, port.shape, lo, hi, op in _WHOLE)
        for i, port in enumerate(imported.inputs)
    }
    options = FormatOptions(
        disclose="none",
        fraction_bits=FRACTION,
        value_range=_VALUES,
        weight_range=_WEIGHTS,
        input_ranges=dict.fromkeys(inputs, (lo, hi)),
        ring=64,
    )
    secure = build_secure(module, declared_phi(module, options), options)
    name = imported.outputs[0].name
    want = real.run(module, constants, inputs)[name]
    weights = encode_weights(constants, secure)
    run = fixed.simulate(secure, weights, inputs, "random", seed=0, check_ranges=False)
    have = run.raw_outputs[name] * 2.0 ** -_frac(secure, name)
    points = _Points(module, constants, inputs)
    for step in module.main.ops:
        points.step(step)
        if step.definition is tensor.Output and step.attrs["name"] == name:
            found = points.values[step.operands[0]]
    # One unit for a result that is truncated at the output only.
    away = np.maximum(found.hi - want, want - found.lo).max(initial=0.0) + 2.0**-FRACTION
    return Accuracy(float(away), float(np.abs(have - want).max(initial=0.0)))


def _frac(module: Module, name: str) -> int:
    for op in module.main.walk("secure.reveal"):
        if op.attrs["name"] == name:
            frac: int = getattr(op.operands[0].type, "frac", 0)
            return frac
    raise KeyError(name)


def _inputs(seed: int, shape: tuple[int, ...], lo: float, hi: float, whole: bool) -> Array:
    """Numbers of the format: wide, near the middle, and the edges."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    if whole:
        return rng.integers(int(lo), int(hi), shape, endpoint=True).astype(np.float64)
    middle = (lo + hi) / 2
    near = np.clip(rng.normal(middle, (hi - lo) / 32, count), lo, hi)
    x = np.where(rng.random(count) < 0.5, rng.uniform(lo, hi, count), near)
    x = np.round(x * 2.0**FRACTION) * 2.0**-FRACTION
    unit = 2.0**-FRACTION
    edges = np.array([v for v in (0.0, unit, -unit, lo, hi, hi - unit) if lo <= v <= hi])
    places = rng.permutation(count)[: len(edges)]
    x[places] = edges[: len(places)]
    return np.asarray(x.reshape(shape))


def errors() -> dict[str, Accuracy]:
    """Of all operators that have a probe and give real numbers, by name.

    Raises:
        MpccError: a probe cannot be lowered.
    """
    found = {op: error_of(op, probe) for op, probe in PROBES.items()}
    return {op: error for op, error in found.items() if error is not None}


def to_json() -> dict[str, dict[str, Any]]:
    """Errors as JSON values, real units."""
    return {
        op: dataclasses.asdict(error)
        | {"fraction_bits": FRACTION, "interval": list(INTERVALS.get(op, INTERVAL))}
        for op, error in sorted(errors().items())
    }


def table() -> Table:
    """Errors in units of the format, for people."""
    shown = Table(
        "ONNX operator",
        "case",
        "inputs",
        "proved",
        "measured",
        title=f"worst errors in units of 2^-{FRACTION}",
    )
    for op, error in sorted(errors().items()):
        lo, hi = INTERVALS.get(op, INTERVAL)
        units = (e * 2.0**FRACTION for e in (error.proved, error.measured))
        shown.add_row(op, PROBES[op].what, f"{lo:g} .. {hi:g}", *(f"{e:.3g}" for e in units))
    return shown
