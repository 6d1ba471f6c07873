"""Secure forms of comparisons, logic and choice.

A comparison's result stays a bit as long as it only selects; what needs numbers converts it to
words 0 and 1. ``tensor.not`` emits nothing: its result is its operand's, and whoever uses it counts
the inversions.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.core import Op, Value
from mpcc.ir.limits import MAX_RANK
from mpcc.ir.ops import secure, tensor
from mpcc.ir.types import BitType, element_count
from mpcc.passes.lowerings.base import Lowering, Rules, secure_type, tensor_type
from mpcc.passes.lowerings.elementwise import add, subtract

__all__ = ["RULES", "truth"]


def _inverted(value: Value) -> bool:
    """Whether a value of the tensor level is the other bit of what it was lowered to."""
    found = False
    while value.op is not None and value.op.definition is tensor.Not:
        (value,), found = value.op.operands, not found
    return found


def truth(lowering: Lowering, value: Value, lowered: Value, loc: str) -> Value:
    """Truth values, with their inversions, as words 0 and 1 of no fraction."""
    word = lowering.word(lowered, loc)
    if not _inverted(value):
        return word
    one = lowering.constant(word, 1, secure_type(word).shape, loc)
    return subtract(lowering, one, word, loc, 1)


def _less(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """The bit [a - b < 0]."""
    shape = tensor_type(op.result).shape
    a, b = (lowering.spread(x, shape, op.loc) for x in operands)
    difference = subtract(lowering, a, b, op.loc)
    return [lowering.emit(secure.Negative, [difference], {}, op.loc)]


def _equal(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """1 - [a < b] - [b < a], as words; both comparisons are one of twice the lanes."""
    shape, loc = tensor_type(op.result).shape, op.loc
    a, b = (lowering.spread(x, shape, loc) for x in operands)
    # There may be no axis left for the two.
    row = (1, *shape) if len(shape) < MAX_RANK else (1, element_count(shape))
    both = [
        lowering.emit(secure.Reshape, [subtract(lowering, x, y, loc)], {"shape": row}, loc)
        for x, y in ((a, b), (b, a))
    ]
    bits = lowering.emit(
        secure.Negative, [lowering.emit(secure.Concat, both, {"axis": 0}, loc)], {}, loc
    )
    # At most one of the two is set.
    attrs = {"axes": (0,), "width": 1}
    other = lowering.emit(secure.ReduceSum, [lowering.word(bits, loc)], attrs, loc)
    if len(shape) == MAX_RANK:
        other = lowering.emit(secure.Reshape, [other], {"shape": shape}, loc)
    one = lowering.constant(other, 1, shape, loc)
    return [subtract(lowering, one, other, loc, 1)]


def _not(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    return list(operands)


def _words(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """Both operands as words of the result's shape."""
    shape = tensor_type(op.result).shape
    words = [
        truth(lowering, value, lowered, op.loc)
        for value, lowered in zip(op.operands, operands, strict=True)
    ]
    return [lowering.spread(w, shape, op.loc) for w in words]


def _and(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """The product of words."""
    words = _words(lowering, op, operands)
    return [lowering.emit(secure.Mul, words, {"width": 1}, op.loc)]


def _xor(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """Of words: c + d - 2 c d."""
    (c, d), loc = _words(lowering, op, operands), op.loc
    both = lowering.emit(secure.Mul, [c, d], {"width": 1}, loc)
    twice = lowering.emit(secure.Scale, [both], {"factor": 2, "width": 2}, loc)
    return [subtract(lowering, add(lowering, c, d, 2, loc), twice, loc, 1)]


def _where(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """One select of a bit, or one product with a word: b + c (a - b).

    A condition that is broadcast is converted before, since a product costs less per element than
    a select.
    """
    condition, *values = operands
    shape, loc = tensor_type(op.result).shape, op.loc
    if _inverted(op.operands[0]):
        values.reverse()
    a, b = (lowering.spread(x, shape, loc) for x in values)
    width = max(secure_type(a).width, secure_type(b).width)
    difference = subtract(lowering, a, b, loc)
    wide = {"width": width + 1}
    if isinstance(condition.type, BitType) and condition.type.shape == shape:
        chosen = lowering.emit(secure.Select, [condition, difference], wide, loc)
    else:
        word = lowering.spread(lowering.word(condition, loc), shape, loc)
        chosen = lowering.emit(secure.Mul, [word, difference], wide, loc)
    return [add(lowering, b, chosen, width, loc)]


def _to_real(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """Words and positions at the activations' fraction."""
    (x,), loc, frac = operands, op.loc, lowering.phi.frac
    if tensor_type(op.operands[0]).dtype == "bool":
        x = truth(lowering, op.operands[0], x, loc)
    type_ = secure_type(x)
    if type_.frac > frac:
        amount = type_.frac - frac
        attrs = {"amount": amount, "rounding": "exact", "width": max(1, type_.width - amount)}
        return [lowering.emit(secure.Truncate, [x], attrs, loc)]
    amount = frac - type_.frac
    attrs = {"amount": amount, "width": type_.width + amount}
    return [lowering.emit(secure.ShiftLeft, [x], attrs, loc)]


RULES: Rules = {
    tensor.Less: _less,
    tensor.Equal: _equal,
    tensor.Not: _not,
    tensor.And: _and,
    tensor.Xor: _xor,
    tensor.Where: _where,
    tensor.ToReal: _to_real,
}
