"""Ranges of the values of a tensor module: proved by intervals, or observed on data.

Both run at the model owner, since they see the weights. Proved ranges hold for the fixed-point
program, not only for the real one: every constant is widened by its encoding error, every result by
one unit of a truncation, and every float operation by a bound of its own rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.ir.analysis.affine import AffineForms
from mpcc.ir.analysis.forms import declaration, factors, is_real, kind_of
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.interp import real
from mpcc.ir.intervals import Enclosure, Interval, Rounding, largest, widen
from mpcc.ir.ops import tensor

__all__ = ["Intervals", "Observed", "observe"]

Array = npt.NDArray[Any]


class Intervals:
    """Interval propagation over @main, one op at a time so that a caller may clamp in between.

    Args:
        module: a tensor module.
        constants: its weights.
        frac: fraction bits of the activations.
        weight_frac: fraction bits of the weights.
        inputs: enforced (lo, hi) of every input by name.
        coarse: low bits that comparisons of maxima leave out.

    Attributes:
        values: bounds of every value.
        ends: least and largest bound of an op's first result, before anything was clipped.
    """

    def __init__(
        self,
        module: Module,
        constants: Mapping[str, Array],
        frac: int,
        weight_frac: int,
        inputs: Mapping[str, tuple[float, float]],
        coarse: int = 0,
    ) -> None:
        self.constants = constants
        unit = 2.0**-frac
        encoding = 2.0 ** -(min(frac, weight_frac) + 1)
        self.rounding = Rounding(unit, encoding, ((1 << coarse) - 1) * unit)
        self.inputs = inputs
        self.values: dict[Value, Interval] = {}
        self.ends: dict[Op, tuple[float, float]] = {}
        self.affine: AffineForms | None = AffineForms(self.rounding)
        self._clipped: set[Value] = set()

    def step(self, op: Op) -> float:
        """Propagate through one op.

        Returns:
            Bound of everything that the op computes on its way, such as a convolution before its
            bias; 0 for an output.
        """
        if op.definition is tensor.Output:
            return 0.0
        found = self._enclose(op)
        results = found.results
        if len(results) == 1 and is_real(op.result):
            (own,) = results
            own = self._averaged(op, own)
            if self.affine is not None:
                self.affine.forget(op.result)
                own = self.affine.refine(op, self.values, own)
            results = (own,)
        self.values.update(zip(op.results, results, strict=True))
        first = results[0]
        if first.lo.size:
            self.ends[op] = float(first.lo.min()), float(first.hi.max())
        return max(found.inner, largest(results))

    def clip(self, op: Op, bits: int) -> None:
        """The op's results are clamped to, or assumed within, [-2^bits, 2^bits] from here on."""
        for value in op.results:
            if is_real(value):
                self.values[value] = self.values[value].clip(2.0**bits)
                self._clipped.add(value)
                if self.affine is not None:
                    self.affine.forget(value)

    def _averaged(self, op: Op, own: Interval) -> Interval:
        """Bounds of weighted means, as of an attention's values: no mean is beyond the extremes."""
        if op.definition is not tensor.MatMul:
            return own
        weights, values = op.operands
        maker, averaged = weights.op, self.values[values]
        if maker is None or weights in self._clipped or averaged.lo.ndim < 2:
            return own
        shape = weights.type.shape  # type: ignore[union-attr]
        off = declaration(maker).sum_error(maker.attrs, shape, self.rounding)
        if off is None:
            return own
        lo, hi = averaged.lo.min(axis=-2, keepdims=True), averaged.hi.max(axis=-2, keepdims=True)
        far = np.maximum(np.abs(lo), np.abs(hi))
        mean = widen(Interval(lo, hi), off * far + self.rounding.unit)
        return Interval(np.maximum(own.lo, mean.lo), np.minimum(own.hi, mean.hi))

    def _enclose(self, op: Op) -> Enclosure:
        attrs = op.attrs
        if op.definition is tensor.Input:
            lo, hi = self.inputs[attrs["name"]]
            shape = attrs["shape"]
            result = Interval(np.full(shape, float(lo)), np.full(shape, float(hi)))
            return Enclosure((widen(result, self.rounding.unit),))
        if op.definition is tensor.Weight:
            array = np.asarray(self.constants[attrs["name"]], np.float64)
            return Enclosure((widen(Interval(array, array), self.rounding.constant_error),))
        operands = [self.values[v] for v in op.operands]
        return declaration(op).interval(attrs, operands, self.rounding)


@dataclass
class Observed:
    """What the float model did on the calibration samples.

    Attributes:
        magnitude: per op index, largest absolute value of its results and of what it computes on
            the way (a product before constants are added to it).
        inputs: per input name, largest absolute value.
        outputs: the float outputs of every sample.
        output_scale: largest absolute value per output name.
        ends: per op index, least and largest value of its results.
    """

    magnitude: dict[int, float]
    inputs: dict[str, float]
    outputs: list[dict[str, Array]]
    output_scale: dict[str, float]
    ends: dict[int, tuple[float, float]] = field(default_factory=dict)


def observe(
    module: Module, constants: Mapping[str, Array], samples: Sequence[Mapping[str, Array]]
) -> Observed:
    """Run the float model on all samples and keep the magnitudes of all values."""
    index = {op: i for i, op in enumerate(module.main.ops)}
    found = Observed({}, {}, [], {})

    def look(op: Op, array: Array) -> None:
        size = 0.0
        if array.size:
            ends = float(array.min()), float(array.max())
            size = max(-ends[0], ends[1])
            low, high = found.ends.get(index[op], ends)
            found.ends[index[op]] = min(low, ends[0]), max(high, ends[1])
        # Before a constant is added, a product is at most this much larger.
        if kind_of(op) is tensor.Kind.PRODUCT:
            for value in op.operands[len(factors(op)) :]:
                if value.op is not None and value.op.definition is tensor.Weight:
                    added = constants[value.op.attrs["name"]]
                    size += float(np.abs(added).max(initial=0.0))
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
