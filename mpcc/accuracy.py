"""How far the fixed-point forms of smooth functions are from the functions: proved, and measured.

Nothing is written down here: a program of one function is lowered at ``FRACTION`` fraction bits,
its bound is added up from what its operations state, and it is simulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpcc.ir.core import Module
from mpcc.ir.harmonics import fourier_error
from mpcc.ir.interp import fixed, real
from mpcc.ir.ops import secure, tensor
from mpcc.ir.phi import FormatOptions
from mpcc.passes.declared_formats import declared_phi
from mpcc.passes.lower_tensor_to_secure import build_secure

__all__ = ["FRACTION", "FUNCTIONS", "RANGE", "Accuracy", "accuracies", "accuracy"]

FRACTION = 16
"""Fraction bits of all numbers."""

RANGE = 60.0
"""Operands are within this, but for the exponential, whose are not positive."""

_SAMPLES = 1 << 13
_ATAN = 15.0


@dataclass(frozen=True)
class Accuracy:
    """Of one function.

    Attributes:
        proved: no result is farther from the function of the rounded operand.
        measured: the largest distance that was seen, with random coins.
    """

    proved: float
    measured: float


def _case(definition: type[tensor.TensorOperation], **attrs: Any) -> tuple[Any, ...]:
    lo, hi = -RANGE, RANGE
    if definition is tensor.Exp:
        hi = 0.0
    elif definition is tensor.Atan:
        lo, hi = -_ATAN, _ATAN
    return definition, attrs, lo, hi


FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    "Atan": _case(tensor.Atan),
    "Celu": _case(tensor.Elu),
    "Cos": _case(tensor.Cos),
    "Elu": _case(tensor.Elu),
    "Erf": _case(tensor.Erf),
    "Exp": _case(tensor.Exp),
    "Gelu": _case(tensor.Gelu, approximate="none"),
    "Mish": _case(tensor.Mish),
    "Sigmoid": _case(tensor.Sigmoid),
    "Sin": _case(tensor.Sin),
    "Softplus": _case(tensor.Softplus),
    "Swish": _case(tensor.Silu),
    "Tanh": _case(tensor.Tanh),
}
"""ONNX operator -> (tensor op, attributes, least operand, largest operand)."""


def _module(
    definition: type[tensor.TensorOperation], attrs: Mapping[str, Any], count: int
) -> Module:
    module = Module("tensor")
    source = {"name": "x", "shape": (count,), "owner": "client"}
    x = module.main.append(tensor.Input, [], source).result
    y = module.main.append(definition, [x], dict(attrs)).result
    module.main.append(tensor.Output, [y], {"name": "y", "owner": "client"})
    return module


def _proved(module: Module) -> float:
    """Of a program with one series: its error, its rounding, and a truncation's unit.

    A series that is multiplied by a whole number has that factor's error. Beyond cuts, lines are
    closer to the function than this.
    """
    (series,) = module.main.walk(secure.Fourier.name)
    error: float = series.attrs["error"] + fourier_error(series.attrs)
    for op in module.main.walk(secure.Scale.name):
        if op.operands[0] is series.result and op.attrs["frac"] == 0:
            error *= op.attrs["factor"]
    units = [2.0 ** -_frac(op) for op in module.main.walk(secure.Truncate.name)]
    return error + sum(units)


def _frac(op: Any) -> int:
    frac: int = op.result.type.frac
    return frac


def accuracy(
    definition: type[tensor.TensorOperation], attrs: Mapping[str, Any], lo: float, hi: float
) -> Accuracy:
    """Lower and simulate one function.

    Args:
        definition: of the tensor level, of one operand.
        attrs: its attributes.
        lo: least operand.
        hi: largest operand.
    """
    module = _module(definition, attrs, _SAMPLES)
    options = FormatOptions(
        disclose="none",
        fraction_bits=FRACTION,
        value_range=64.0,
        input_ranges={"x": (lo, hi)},
        ring=64,
    )
    made = build_secure(module, declared_phi(module, options), options)
    # Half of the operands where functions bend.
    rng = np.random.default_rng(0)
    wide = rng.uniform(lo, hi, _SAMPLES // 2)
    near = np.clip(rng.normal(0.0, 3.0, _SAMPLES // 2), lo, hi)
    x = np.round(np.concatenate([wide, near]) * 2.0**FRACTION) * 2.0**-FRACTION
    want = real.run(module, {}, {"x": x})["y"]
    have = fixed.simulate(made, {}, {"x": x}, "random", seed=0).raw_outputs["y"]
    measured = float(np.abs(have * 2.0**-FRACTION - want).max())
    return Accuracy(_proved(made), measured)


def accuracies() -> dict[str, Accuracy]:
    """Of all functions, by the name of the ONNX operator."""
    return {name: accuracy(*case) for name, case in FUNCTIONS.items()}
