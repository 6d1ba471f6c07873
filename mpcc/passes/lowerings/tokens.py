"""Secure form of a look-up: a product of one-hot rows with the table.

The rows come from the owner of the numbers, who shares them instead of the numbers, or from
comparisons: of a number x with 0.5, 1.5, ... V - 1.5 at once. The bits rise once, and their
differences are the row.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.core import Op, Value
from mpcc.ir.ops import secure, tensor
from mpcc.ir.types import element_count
from mpcc.passes.lowerings.base import Lowering, Rules, secure_type, tensor_type
from mpcc.passes.lowerings.elementwise import add, subtract

__all__ = ["RULES"]


def _lookup(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    ids, table = operands
    loc, shape = op.loc, tensor_type(op.operands[0]).shape
    height, width = secure_type(table).shape
    count = element_count(shape)
    if secure_type(ids).shape == shape:
        ids = _one_hot(lowering, ids, count, height, loc)
    else:
        ids = lowering.emit(secure.Reshape, [ids], {"shape": (count, height)}, loc)
    frac = secure_type(ids).frac + secure_type(table).frac
    attrs = {"width": lowering.result_width(op, frac)}
    rows = lowering.emit(secure.MatMul, [ids, table], attrs, loc)
    return [lowering.emit(secure.Reshape, [rows], {"shape": (*shape, width)}, loc)]


def _one_hot(lowering: Lowering, x: Value, count: int, height: int, loc: str) -> Value:
    """Rows [count, height] with a one where x says, at the activations' fraction."""
    frac = secure_type(x).frac
    column = lowering.emit(secure.Reshape, [x], {"shape": (count, 1)}, loc)
    column = _wrapped(lowering, column, height, loc)
    if height > 1:
        places = lowering.spread(_places(lowering, column, height, loc), (count, height - 1), loc)
        line = lowering.spread(column, (count, height - 1), loc)
        below = lowering.emit(secure.Negative, [subtract(lowering, line, places, loc)], {}, loc)
        words = lowering.word(below, loc)
        # 0, [x < 0.5], [x < 1.5], ..., 1: the row is what one has more than the one before.
        one = lowering.constant(words, 1, (count, 1), loc)
        zero = lowering.constant(words, 0, (count, 1), loc)
        upper = lowering.emit(secure.Concat, [words, one], {"axis": 1}, loc)
        lower = lowering.emit(secure.Concat, [zero, words], {"axis": 1}, loc)
        row = subtract(lowering, upper, lower, loc, 1)
    else:
        word = lowering.word(lowering.emit(secure.Negative, [column], {}, loc), loc)
        row = lowering.constant(word, 1, (count, 1), loc)
    attrs = {"amount": frac, "width": frac + 1}
    return lowering.emit(secure.ShiftLeft, [row], attrs, loc)


def _wrapped(lowering: Lowering, x: Value, height: int, loc: str) -> Value:
    """The number x, or x + height where it is negative."""
    type_ = secure_type(x)
    word = lowering.word(lowering.emit(secure.Negative, [x], {}, loc), loc)
    raw = height << type_.frac
    width = max(raw.bit_length(), type_.width)
    more = lowering.emit(secure.Scale, [word], {"factor": height, "width": width}, loc)
    if type_.frac:
        attrs = {"amount": type_.frac, "width": raw.bit_length()}
        more = lowering.emit(secure.ShiftLeft, [more], attrs, loc)
    return add(lowering, x, more, width + 1, loc)


def _places(lowering: Lowering, like: Value, height: int, loc: str) -> Value:
    """0.5, 1.5, ..., height - 1.5: a number that is nearly whole is on its own side of them."""
    frac = secure_type(like).frac
    unit = 1 << frac
    numbers = lowering.constant(like, unit - unit // 2, (1,), loc)
    width = (height << frac).bit_length()
    if secure_type(numbers).width < width:
        numbers = lowering.emit(secure.ShiftLeft, [numbers], {"amount": 0, "width": width}, loc)
    step = 1
    while step < height - 1:
        offset = lowering.constant(like, step << frac, (step,), loc)
        more = add(lowering, numbers, offset, width, loc)
        numbers = lowering.emit(secure.Concat, [numbers, more], {"axis": 0}, loc)
        step *= 2
    if step > height - 1:
        cut = {"starts": (0,), "limits": (height - 1,), "strides": (1,)}
        numbers = lowering.emit(secure.Slice, [numbers], cut, loc)
    return numbers


RULES: Rules = {tensor.Lookup: _lookup}
