"""Pretrained models to attack, in the formats that the compiler chooses for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.campaign_runs import Subject, formatted
from benchmarks.real_models import RealModel, float_runs
from mpcc.frontend import import_model
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions
from mpcc.passes import pipeline
from mpcc.passes.analyse import analyse
from mpcc.passes.base import Checkpoint, Manager
from mpcc.passes.recognise import recognised

__all__ = ["pretrained"]

Array = npt.NDArray[Any]

BEYOND = 4.0
"""Under ``guarded`` inputs are let in that are so many times larger than those of its kind."""


def pretrained(real: RealModel, policy: str) -> tuple[Subject, list[Mapping[str, Array]]]:
    """A model in the formats that are chosen for it, in Z_2^64, and inputs of its kind.

    Under ``proved`` inputs keep to the ranges of the data; some calibrate under ``guarded``.

    Raises:
        FetchError: the model cannot be had.
        MpccError, NoFitError: no formats fit it.
    """
    data = real.model()
    runs = float_runs(real, real.reference(data))
    imported = import_model(data, shapes=real.shapes)
    checkpoint = Checkpoint(DIALECTS)
    patterns = recognised(imported.module, imported.constants)
    passes = pipeline.to_tensor([found.row for found in patterns])
    module = Manager(passes, checkpoint).run(imported.module)
    constants = checkpoint.constants(imported.constants)
    guarded = policy == "guarded"
    limits: dict[str, tuple[float, float]] = {}
    for op in module.main.walk(tensor.Input.name):
        port = op.attrs["name"]
        seen = max(float(np.abs(run[port]).max()) for run in runs)
        limits[port] = real.ranges.get(port, (-seen, seen))
        if tensor.input_range(module.main, op) is not None:
            del limits[port]  # the model gives it one
        elif guarded:
            lo, hi = limits[port]
            limits[port] = BEYOND * lo, BEYOND * hi
    samples = [{n: np.asarray(x) for n, x in run.items()} for run in runs]
    calibration = samples[: real.calibrated] if guarded else []
    options = FormatOptions(policy=policy, input_ranges=limits, ring=64, max_error=real.bound)
    phi = analyse(module, constants, calibration, options, explain=False).phi
    made = formatted(
        module, constants, limits, phi.frac, phi.weight_frac, policy, calibration, phi.coarse
    )
    return made, [{n: on_grid(x, made.frac) for n, x in run.items()} for run in samples]


def on_grid(x: Array, frac: int) -> Array:
    """Multiples of a unit 2^-frac, as inputs of the program are."""
    return x if x.dtype.kind in "iub" else np.ldexp(np.rint(np.ldexp(x, frac)), -frac)
