"""Affine forms of small values: what intervals lose where a value meets itself again.

A form writes a value as c + sum over bases of A b, give or take r elementwise: b is an earlier
value whose interval is known, A a matrix. Sums, constant products and moved elements are exact in
it, so that in x - mean(x), or in a residual sum, parts of x cancel out. A ReLU is the line that
halves the area between its bounds, give or take half of their distance (zonotopes: Singh et al.,
"Fast and Effective Robustness Certification", NeurIPS 2018). The bounds hold for the fixed-point
program: users take a result before or after its one truncation, which r counts by a unit.

Cost is bounded by :data:`MOST_SYMBOLS`, :data:`MOST_ENTRIES` and :data:`BUDGET`; beyond them there
are no forms, and intervals stand alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.ir.core import Op, Value
from mpcc.ir.intervals import Interval, Rounding
from mpcc.ir.ops import tensor

__all__ = ["BUDGET", "MOST_ENTRIES", "MOST_SYMBOLS", "AffineForms"]

Array = npt.NDArray[Any]

MOST_SYMBOLS = 256
"""Elements of a base at most."""

MOST_ENTRIES = 1 << 17
"""Coefficients of one value, over all of its bases."""

BUDGET = 1 << 22
"""Coefficients of all values of a model."""

_SLACK = 2.0**-40
"""Relative: covers the rounding of sums in binary64."""

_MOVES = (
    tensor.Reshape,
    tensor.Transpose,
    tensor.Broadcast,
    tensor.Slice,
    tensor.Gather,
    tensor.Take,
)


@dataclass(frozen=True)
class _Form:
    """Constant part, radius, and per base the coefficients [size of the base, *shape].

    Attributes:
        middle: c.
        radius: r; the rounding of c and of the coefficients is in it.
        reach: bound of |c| + r + the sum of |A| |b|, whatever cancels out.
        parts: A by base.
    """

    middle: Array
    radius: Array
    reach: Array
    parts: Mapping[Value, Array]

    @property
    def entries(self) -> int:
        """Coefficients."""
        return sum(a.size for a in self.parts.values())


class AffineForms:
    """Forms of the values of a function, one op at a time.

    Args:
        rounding: of the program.
    """

    def __init__(self, rounding: Rounding) -> None:
        self.rounding = rounding
        self._forms: dict[Value, _Form] = {}
        self._bases: dict[Value, Interval] = {}
        self._spent = 0

    def forget(self, value: Value) -> None:
        """The value is clamped: it is no longer what its form says."""
        self._forms.pop(value, None)

    def refine(self, op: Op, values: Mapping[Value, Interval], own: Interval) -> Interval:
        """The op's bounds, narrowed by its form if there is one.

        Args:
            op: with one result.
            values: bounds of its operands.
            own: bounds of the result.
        """
        rule = _RULES.get(op.definition)
        if rule is None or not op.operands or self._spent > BUDGET:
            return own
        operands = []
        for value in op.operands:
            form = self._form(value, values[value])
            if form is None:
                return own
            operands.append(form)
        size = max(own.lo.size, 1)
        entries = sum(
            a.shape[0] * size for a in {b: a for f in operands for b, a in f.parts.items()}.values()
        )
        if not entries or entries > MOST_ENTRIES or self._spent + entries > BUDGET:
            return own
        bounds = [values[v] for v in op.operands]
        found = rule(op, operands, bounds, self.rounding)
        if found is None:
            return own
        self._spent += entries
        self._forms[op.result] = found
        near = self._bounds(found)
        lo, hi = np.maximum(own.lo, near.lo), np.minimum(own.hi, near.hi)
        # Both hold, so that they meet.
        return Interval(np.where(lo <= hi, lo, own.lo), np.where(lo <= hi, hi, own.hi))

    def _form(self, value: Value, bounds: Interval) -> _Form | None:
        """The value's form; that of a base for one without, of a constant for a constant."""
        if value in self._forms:
            return self._forms[value]
        shape = bounds.lo.shape
        op = value.op
        if op is not None and op.definition is tensor.Weight:
            middle = (bounds.lo + bounds.hi) / 2
            radius = (bounds.hi - bounds.lo) / 2 + _SLACK * np.abs(middle)
            found = _Form(middle, radius, np.abs(middle) + radius, {})
        elif bounds.lo.size > MOST_SYMBOLS or self._spent > BUDGET:
            return None
        else:
            size = bounds.lo.size
            part = np.eye(size).reshape(size, *shape)
            # Users may take it before a truncation or after.
            radius = np.full(shape, self.rounding.unit)
            found = _Form(np.zeros(shape), radius, _far(bounds) + radius, {value: part})
            self._bases[value] = bounds
            self._spent += part.size
        self._forms[value] = found
        return found

    def _bounds(self, form: _Form) -> Interval:
        middle, radius = form.middle, form.radius * (1 + _SLACK)
        for base, a in form.parts.items():
            x = self._bases[base]
            flat = a.reshape(a.shape[0], -1)
            mid, rad = ((x.lo + x.hi) / 2).reshape(-1), ((x.hi - x.lo) / 2).reshape(-1)
            far = np.abs(mid) + rad
            middle = middle + (mid @ flat).reshape(form.middle.shape)
            wide = (rad * (1 + _SLACK) + _SLACK * far) @ np.abs(flat)
            radius = radius + wide.reshape(form.middle.shape) * (1 + _SLACK)
        radius = radius + _SLACK * form.reach
        return Interval(np.asarray(middle - radius), np.asarray(middle + radius))


# --- rules ---------------------------------------------------------------------------------------

_Linear = Callable[[Array], Array]


def _mapped(x: _Form, move: _Linear, most: _Linear, more: Array | float) -> _Form:
    """A linear map of a form.

    Args:
        x: the form.
        move: the map.
        most: of absolute values, one that bounds it.
        more: what the result may be off by itself.
    """
    parts = {b: np.stack([move(row) for row in a]) for b, a in x.parts.items()}
    reach = most(x.reach)
    # All that is rounded, the new coefficients too, is so relative to the reach.
    radius = most(x.radius) + more + _SLACK * reach
    return _Form(np.asarray(move(x.middle)), radius, reach + radius, parts)


def _far(x: Interval) -> Array:
    return np.asarray(np.maximum(np.abs(x.lo), np.abs(x.hi)))


def _evaluate(op: Op, *arrays: Array) -> Array:
    definition = op.definition
    assert issubclass(definition, tensor.TensorOperation)
    return np.array(definition.evaluate(op.attrs, *arrays)[0])


def _moved(op: Op, xs: list[_Form], bounds: list[Interval], rounding: Rounding) -> _Form:
    return _mapped(xs[0], lambda a: _evaluate(op, a), lambda a: _evaluate(op, a), 0.0)


def _reduced(op: Op, xs: list[_Form], bounds: list[Interval], rounding: Rounding) -> _Form:
    return _mapped(xs[0], lambda a: _evaluate(op, a), lambda a: _evaluate(op, a), rounding.unit)


def _scaled(op: Op, xs: list[_Form], bounds: list[Interval], rounding: Rounding) -> _Form:
    factor = op.attrs["factor"]
    off = 0.0 if tensor.Scale.whole(factor) else rounding.constant_error
    more = off * _far(bounds[0]) + rounding.unit
    return _mapped(xs[0], lambda a: a * factor, lambda a: a * abs(factor), more)


def _summed(op: Op, xs: list[_Form], bounds: list[Interval], rounding: Rounding) -> _Form:
    sign = 1.0 if op.definition is tensor.Add else -1.0
    shape = np.broadcast_shapes(bounds[0].lo.shape, bounds[1].lo.shape)
    parts: dict[Value, Array] = {}
    for x, factor in zip(xs, (1.0, sign), strict=True):
        for base, a in x.parts.items():
            # Axes in front of a lower rank stand behind the base's.
            a = a.reshape(a.shape[0], *[1] * (len(shape) - a.ndim + 1), *a.shape[1:])
            a = factor * np.broadcast_to(a, (a.shape[0], *shape))
            parts[base] = parts[base] + a if base in parts else a
    reach = np.broadcast_to(xs[0].reach + xs[1].reach, shape)
    radius = xs[0].radius + xs[1].radius + rounding.unit + _SLACK * reach
    middle = np.broadcast_to(xs[0].middle + sign * xs[1].middle, shape)
    return _Form(middle, radius, reach + radius, parts)


def _product(op: Op, xs: list[_Form], bounds: list[Interval], rounding: Rounding) -> _Form | None:
    """A matrix product or a convolution with constants."""
    if any(x.parts for x in xs[1:]):
        return None
    w, rest = xs[1], xs[2:]
    size = np.abs(w.middle) + w.radius
    more = _evaluate(op, _far(bounds[0]), w.radius) + rounding.unit
    found = _mapped(
        xs[0], lambda a: _evaluate(op, a, w.middle), lambda a: _evaluate(op, a, size), more
    )
    if not rest:
        return found
    channels = (-1, *[1] * (found.middle.ndim - 2))
    middle, off, reach = (
        a.reshape(channels) for a in (rest[0].middle, rest[0].radius, rest[0].reach)
    )
    radius = found.radius + off + _SLACK * reach
    return _Form(found.middle + middle, radius, found.reach + reach + radius, found.parts)


def _rectified(op: Op, xs: list[_Form], bounds: list[Interval], rounding: Rounding) -> _Form:
    """max(x, 0) = s x + m, give or take m, for s = hi / (hi - lo) and m = -s lo / 2."""
    (x,), lo, hi = xs, bounds[0].lo, bounds[0].hi
    open_ = (lo < 0) & (hi > 0)
    slope = np.where(open_, hi / np.where(open_, hi - lo, 1.0), (lo >= 0).astype(np.float64))
    middle = np.where(open_, -slope * lo / 2, 0.0)
    # A coarse comparison may keep or drop what is that near to zero.
    more = middle * (1 + _SLACK) + rounding.coarse + rounding.unit
    found = _mapped(x, lambda a: slope * a, lambda a: slope * a, more)
    return _Form(found.middle + middle, found.radius, found.reach + middle, found.parts)


_Rule = Callable[[Op, "list[_Form]", "list[Interval]", Rounding], "_Form | None"]

_RULES: Mapping[Any, _Rule] = {
    **dict.fromkeys(_MOVES, _moved),
    tensor.ReduceSum: _reduced,
    tensor.SumPool: _reduced,
    tensor.Scale: _scaled,
    tensor.Add: _summed,
    tensor.Sub: _summed,
    tensor.MatMul: _product,
    tensor.Conv: _product,
    tensor.Relu: _rectified,
}
