"""Tensor-level look-up of rows by secret whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir.core import Function, Op
from mpcc.ir.define import Attributes, fail
from mpcc.ir.intervals import Enclosure, Interval, Rounding, largest, widen
from mpcc.ir.ops.tensor.base import Array, Kind, TensorOperation, reals, result
from mpcc.ir.ops.tensor.io import Input
from mpcc.ir.types import TensorType, Type

__all__ = ["Lookup", "input_range", "looked_up"]


class Lookup(TensorOperation):
    """Rows of a table [V, H] by whole numbers, which are secret as the table is.

    A number from -V to -1 counts from the end; there is no row but zeros beyond. It is a product of
    the table with one-hot rows of the numbers. Of an input that nothing else uses, its owner makes
    these rows; of others, comparisons do.
    """

    name = "tensor.lookup"
    kind = Kind.PRODUCT
    operands = ("ids", "table")

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        ids, table = reals(cls, types)
        if len(table.shape) != 2:
            raise fail(cls, f"needs a table [V, H], not {table}")
        return (result((*ids.shape, table.shape[1]), ids, table),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        ids, table = args
        height = len(table)
        places = np.rint(ids).astype(np.int64)
        wrapped = np.where(places < 0, places + height, places)
        inside = (wrapped >= 0) & (wrapped < height)
        rows = table[np.where(inside, wrapped, 0)]
        return (np.where(inside[..., None], rows, np.zeros_like(rows)),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        """Of the row that is certain, or of any: a one-hot row takes one as it is; or zeros.

        The bounds of a table may be given as one row, which stands for all.
        """
        ids, table = operands
        height = table.lo.shape[0]
        lo = np.broadcast_to(table.lo.min(axis=0), (*ids.lo.shape, table.lo.shape[1])).copy()
        hi = np.broadcast_to(table.hi.max(axis=0), lo.shape).copy()
        first, last = np.rint(ids.lo), np.rint(ids.hi)
        beyond = (first < -height) | (last >= height)
        lo[beyond], hi[beyond] = np.minimum(lo[beyond], 0), np.maximum(hi[beyond], 0)
        known = (first == last) & ~beyond
        lo[known] = cls.evaluate(attrs, first[known], table.lo)[0]
        hi[known] = cls.evaluate(attrs, first[known], table.hi)[0]
        rows = Interval(lo, hi)
        return Enclosure((widen(rows, rounding.unit),), largest((rows,)))


def looked_up(function: Function, op: Op) -> int:
    """Rows of the tables in which every use of an input looks up; 0 if there is another use.

    Args:
        function: @main of a tensor module.
        op: a ``tensor.input`` of it.
    """
    heights, others = _heights(function, op)
    return heights.pop() if len(heights) == 1 and not others else 0


def _heights(function: Function, op: Op) -> tuple[set[int], bool]:
    """Rows of tables in which an input looks up, and whether it has another use."""
    heights: set[int] = set()
    others = False
    for user in function.ops:
        if op.result not in user.operands:
            continue
        if user.definition is not Lookup or user.operands[1] is op.result:
            others = True
            continue
        type_ = user.operands[1].type
        assert isinstance(type_, TensorType)
        heights.add(type_.shape[0])
    return heights, others


def input_range(function: Function, op: Op) -> tuple[float, float] | None:
    """The range that the model itself gives an input, of truth values or of rows of a table."""
    if op.definition is not Input:
        return None
    if op.attrs["bounds"]:
        lo, hi = op.attrs["bounds"]
        return float(lo), float(hi)
    heights, _ = _heights(function, op)
    return (float(-min(heights)), float(min(heights) - 1)) if heights else None


OPERATIONS = (Lookup,)
"""In the order of the dialect."""
