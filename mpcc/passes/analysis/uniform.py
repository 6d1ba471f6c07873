"""Interval propagation that knows one interval per value: all elements of a value alike.

For declared formats (``--disclose none``), which the leak checker makes again from a file that is
not trusted: time and memory must follow the number of ops, not the shapes that the file claims. An
interval is held as arrays of one element, of the value's rank; the few rules that count elements
see no more of a shape than they depend on, within a budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpcc.errors import MpccError
from mpcc.ir.analysis.forms import declaration
from mpcc.ir.analysis.ranges import Intervals
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.define import Attributes
from mpcc.ir.intervals import Enclosure, Interval, widen
from mpcc.ir.ops import tensor
from mpcc.ir.ops.tensor.base import Monotone
from mpcc.ir.ops.tensor.compare import OPERATIONS as COMPARISONS
from mpcc.ir.ops.tensor.elementwise import OPERATIONS as ELEMENTWISE
from mpcc.ir.ops.tensor.functions import OPERATIONS as FUNCTIONS
from mpcc.ir.ops.tensor.normal import ELEMENTWISE as NORMAL
from mpcc.ir.types import Shape, TensorType, element_count

__all__ = ["BUDGET", "UniformIntervals"]

_TABLES = (tensor.Lookup, tensor.Branch, tensor.Forest)
"""Operators whose rules take one row of a table for all."""

BUDGET = 1 << 26
"""Elements of all values on which rules that count elements are evaluated, at one format."""

_SLACK = 1 + 2.0**-40
"""Covers binary64 rounding of a bound."""


def _shape(value: Value) -> Shape:
    type_ = value.type
    assert isinstance(type_, TensorType)
    return type_.shape


def _one(lo: float, hi: float, rank: int) -> Interval:
    return Interval(np.full((1,) * rank, lo), np.full((1,) * rank, hi))


def _even(x: Interval) -> Interval:
    """The interval that covers those of all elements."""
    return _one(float(x.lo.min()), float(x.hi.max()), x.lo.ndim)


class UniformIntervals(Intervals):
    """Bounds that the architecture gives.

    Args:
        module: a tensor module.
        frac: fraction bits of the activations.
        weight_frac: fraction bits of the weights.
        inputs: enforced (lo, hi) of every input by name.
        weight_range: bound of the absolute values of all weights.
    """

    def __init__(
        self,
        module: Module,
        frac: int,
        weight_frac: int,
        inputs: Mapping[str, tuple[float, float]],
        weight_range: float,
    ) -> None:
        super().__init__(module, {}, frac, weight_frac, inputs)
        self.weight_range = weight_range
        # Forms tell elements apart.
        self.affine = None
        self._spent = 0

    def _enclose(self, op: Op) -> Enclosure:
        kind = op.definition
        rank = len(_shape(op.results[0]))
        if kind is tensor.Weight:
            bound = self.weight_range + self.rounding.constant_error
            return Enclosure((_one(-bound, bound, rank),))
        if kind is tensor.Input:
            lo, hi = self.inputs[op.attrs["name"]]
            return Enclosure((widen(_one(float(lo), float(hi), rank), self.rounding.unit),))
        if kind in (tensor.Conv, tensor.MatMul):
            return self._product(op, rank)
        operands = [self.values[v] for v in op.operands]
        if kind not in (*ELEMENTWISE, *FUNCTIONS, *NORMAL, *COMPARISONS, *_TABLES):
            if issubclass(kind, Monotone):
                # Moved elements and maxima of some of them.
                lo = min(float(x.lo.min()) for x in operands)
                return Enclosure((_one(lo, max(float(x.hi.max()) for x in operands), rank),))
            return self._counted(op, operands)
        found = declaration(op).interval(op.attrs, operands, self.rounding)
        return Enclosure(tuple(map(_even, found.results)), found.inner)

    def _product(self, op: Op, rank: int) -> Enclosure:
        """By the number of terms of a sum.

        The general rule would give little more, for far more time: it convolves whole arrays.
        """
        sizes = [self.values[v].magnitude for v in op.operands]
        if op.definition is tensor.Conv:
            terms = element_count(_shape(op.operands[1])[1:])
        else:
            terms = _shape(op.operands[0])[-1]
        product = terms * sizes[0] * sizes[1] * _SLACK
        added = sizes[2] if len(sizes) == 3 else 0.0
        bound = (product + added + self.rounding.unit) * _SLACK
        return Enclosure((_one(-bound, bound, rank),), max(product, added))

    def _counted(self, op: Op, operands: Sequence[Interval]) -> Enclosure:
        """By the operator's own rule, on no more elements than its bounds depend on."""
        shapes, attrs, work = _relevant(op)
        self._spent += work
        if self._spent > BUDGET:
            raise MpccError.of(
                "E-range-size",
                f"bounds of {op.name} are computed over {work} elements; all ops together may "
                f"take {BUDGET}",
                op.loc or op.name,
                "declared formats cannot be made of a model with so large sums; leave out "
                "--disclose none",
            )
        full = [
            x.map(lambda a, s=shape: np.broadcast_to(a.reshape(()), s))  # type: ignore[misc]
            for x, shape in zip(operands, shapes, strict=True)
        ]
        found = declaration(op).interval(attrs, full, self.rounding)
        ranks = [len(_shape(r)) for r in op.results]
        results = zip(map(_even, found.results), ranks, strict=True)
        return Enclosure(
            tuple(_one(x.lo.item(), x.hi.item(), rank) for x, rank in results), found.inner
        )


def _relevant(op: Op) -> tuple[list[Shape], Attributes, int]:
    """Shapes of operands, and attributes, that give an op the same bounds; the elements they take.

    Only axes that the op sums over or chooses from matter, and of its groups and channels one.
    """
    attrs: dict[str, Any] = dict(op.attrs)
    shapes = [_shape(v) for v in op.operands]
    x = shapes[0]
    if op.definition is tensor.Pad:
        # One element beside the data is like many.
        attrs["low"], attrs["high"] = (tuple(min(p, 1) for p in attrs[k]) for k in ("low", "high"))
        return [(1,) * len(x)], attrs, 3 ** len(x)
    if op.definition is tensor.ConvTranspose:
        w, groups = shapes[1], attrs["groups"]
        attrs["groups"] = 1
        shapes = [
            (1, x[1] // groups, *x[2:]),
            (w[0] // groups, 1, *w[2:]),
            *[(1,)] * len(shapes[2:]),
        ]
        positions = element_count(_shape(op.result)[2:])
        columns = element_count(x[2:]) * element_count(w[2:])
        return shapes, attrs, sum(map(element_count, shapes)) + columns + positions
    if op.definition is tensor.SumPool:
        rank, pads = len(x) - 2, attrs["pads"]
        padded = [d + pads[i] + pads[rank + i] for i, d in enumerate(x[2:])]
        windows = element_count(_shape(op.result)[2:]) * element_count(attrs["kernel"])
        return [(1, 1, *x[2:])], attrs, element_count(tuple(padded)) + windows
    along = attrs["axes"] if "axes" in attrs else (attrs["axis"],)
    shapes = [tuple(d if i in along else 1 for i, d in enumerate(shape)) for shape in shapes]
    return shapes, attrs, sum(map(element_count, shapes))
