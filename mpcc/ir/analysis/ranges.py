"""Ranges of the values of a tensor module: proved by intervals, or observed on data.

Both run at the model owner, since they see the weights. Proved ranges hold for the fixed-point
program, not only for the real one: every constant is widened by its encoding error, every result by
one unit of a truncation, and every float operation by a bound of its own rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import MpccError
from mpcc.ir import linear
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.interp import real
from mpcc.ir.ops import tensor

__all__ = ["Interval", "Intervals", "Observed", "observe"]

Array = npt.NDArray[Any]

# Relative slack for binary64 sums: covers 2^13 terms of relative error 2^-53 each.
_SLACK = 2.0**-40


@dataclass(frozen=True)
class Interval:
    """Elementwise bounds, float64 arrays of the value's shape."""

    lo: Array
    hi: Array

    @property
    def magnitude(self) -> float:
        """Largest absolute value that the bounds allow."""
        return float(max(-self.lo.min(initial=0.0), self.hi.max(initial=0.0)))

    def clip(self, bound: float) -> Interval:
        """The interval after clamping to [-bound, bound]."""
        return Interval(np.clip(self.lo, -bound, bound), np.clip(self.hi, -bound, bound))


class Intervals:
    """Interval propagation over @main, one op at a time so that a caller may clamp in between.

    Args:
        module: a tensor module.
        constants: its weights.
        frac: fraction bits of the activations.
        weight_frac: fraction bits of the weights.
        inputs: enforced (lo, hi) of every input by name.
    """

    def __init__(
        self,
        module: Module,
        constants: Mapping[str, Array],
        frac: int,
        weight_frac: int,
        inputs: Mapping[str, tuple[float, float]],
    ) -> None:
        self.constants = constants
        self.unit = 2.0**-frac
        self.constant_error = 2.0 ** -(min(frac, weight_frac) + 1)
        self.inputs = inputs
        self.values: dict[Value, Interval] = {}

    def step(self, op: Op) -> float:
        """Propagate through one op.

        Returns:
            Bound of everything that the op computes on its way, such as a convolution before its
            bias; 0 for an output.
        """
        if op.definition is tensor.Output:
            return 0.0
        operands = [self.values[v] for v in op.operands]
        result, inner = self._apply(op, operands)
        self.values[op.result] = result
        return max(inner, result.magnitude)

    def _apply(self, op: Op, operands: Sequence[Interval]) -> tuple[Interval, float]:
        attrs, definition = op.attrs, op.definition
        if definition is tensor.Input:
            lo, hi = self.inputs[attrs["name"]]
            shape = attrs["shape"]
            result = Interval(np.full(shape, float(lo)), np.full(shape, float(hi)))
            return self._widen(result, self.unit), 0.0
        if definition is tensor.Weight:
            array = np.asarray(self.constants[attrs["name"]], np.float64)
            return self._widen(Interval(array, array), self.constant_error), 0.0
        if definition is tensor.Conv:
            inner = _product(operands[0], operands[1], lambda a, b: linear.conv(a, b, **attrs))
            result = inner
            if len(operands) == 3:
                ones = [1] * (inner.lo.ndim - 2)
                bias = Interval(*(a.reshape(-1, *ones) for a in (operands[2].lo, operands[2].hi)))
                result = Interval(inner.lo + bias.lo, inner.hi + bias.hi)
                # The bias is broadcast and added as a value of its own.
                size = max(inner.magnitude, bias.magnitude)
            else:
                size = inner.magnitude
            return self._widen(result, self.unit), size
        if definition is tensor.MatMul:
            result = _product(operands[0], operands[1], lambda a, b: np.asarray(a @ b))
            return self._widen(result, self.unit), 0.0
        if definition is tensor.Add:
            a, b = operands
            return self._widen(Interval(a.lo + b.lo, a.hi + b.hi), self.unit), _size(operands)
        if definition is tensor.Sub:
            a, b = operands
            return self._widen(Interval(a.lo - b.hi, a.hi - b.lo), self.unit), _size(operands)
        if definition in (tensor.Relu, tensor.MaxPool, tensor.Reshape, tensor.Transpose):
            assert issubclass(definition, tensor.TensorOperation)
            (x,) = operands
            return Interval(
                np.array(definition.evaluate(attrs, x.lo)),
                np.array(definition.evaluate(attrs, x.hi)),
            ), 0.0
        if definition is tensor.Pad:
            (x,) = operands
            low, high, value = attrs["low"], attrs["high"], attrs["value"]
            error = self.unit if value else 0.0
            return Interval(
                linear.pad_zero(x.lo, low, high, value - error),
                linear.pad_zero(x.hi, low, high, value + error),
            ), 0.0
        raise MpccError.of("E-lower-op", f"{op.name} has no range rule", op.loc)

    def _widen(self, x: Interval, error: float) -> Interval:
        slack = error + _SLACK * np.maximum(np.abs(x.lo), np.abs(x.hi))
        return Interval(x.lo - slack, x.hi + slack)


def _size(operands: Iterable[Interval]) -> float:
    return max(x.magnitude for x in operands)


def _product(a: Interval, b: Interval, multiply: Any) -> Interval:
    """Bounds of a bilinear map, by midpoint and radius."""
    mid_a, rad_a = (a.lo + a.hi) / 2, (a.hi - a.lo) / 2
    mid_b, rad_b = (b.lo + b.hi) / 2, (b.hi - b.lo) / 2
    # The midpoints are rounded; the slack on the full magnitudes covers that too.
    all_b = (np.abs(mid_b) + rad_b) * (1 + _SLACK)
    middle = multiply(mid_a, mid_b)
    radius = multiply(rad_a, all_b) + multiply(np.abs(mid_a), rad_b + _SLACK * all_b)
    radius *= 1 + _SLACK
    return Interval(middle - radius, middle + radius)


@dataclass
class Observed:
    """What the float model did on the calibration samples.

    Attributes:
        magnitude: per op index, largest absolute value of its result and of what it computes on
            the way (a convolution before its bias).
        inputs: per input name, largest absolute value.
        outputs: the float outputs of every sample.
        output_scale: largest absolute value per output name.
    """

    magnitude: dict[int, float]
    inputs: dict[str, float]
    outputs: list[dict[str, Array]]
    output_scale: dict[str, float]


def observe(
    module: Module, constants: Mapping[str, Array], samples: Sequence[Mapping[str, Array]]
) -> Observed:
    """Run the float model on all samples and keep the magnitudes of all values."""
    index = {op: i for i, op in enumerate(module.main.ops)}
    found = Observed({}, {}, [], {})

    def look(op: Op, array: Array) -> None:
        size = float(np.abs(array).max(initial=0.0))
        if op.definition is tensor.Conv and len(op.operands) == 3:
            # Before its bias, the convolution is at most this large.
            bias = op.operands[2].op
            if bias is not None and bias.definition is tensor.Weight:
                size += float(np.abs(constants[bias.attrs["name"]]).max(initial=0.0))
        found.magnitude[index[op]] = max(size, found.magnitude.get(index[op], 0.0))

    for sample in samples:
        for name, array in sample.items():
            size = float(np.abs(array).max(initial=0.0))
            found.inputs[name] = max(size, found.inputs.get(name, 0.0))
        outputs = real.run(module, constants, sample, look)
        for name, array in outputs.items():
            size = float(np.abs(array).max(initial=0.0))
            found.output_scale[name] = max(size, found.output_scale.get(name, 0.0))
        found.outputs.append(outputs)
    return found
