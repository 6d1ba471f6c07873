"""Secure forms of operators along axes: sums without messages, tournaments, sorting networks.

``argmax`` and ``topk`` compare *keys* 2^b raw + i, where i < 2^b is an element's position, or its
distance from the end where the first of equal ones wins. Keys are never equal, so that ties need no
care, and a key moves by one select where a value and its position would need two: 4 ring elements
saved for b more bits in the comparison, about 11 bits each. The value and the position of a winner
are told apart by one exact truncation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpcc.ir.core import Op, Value
from mpcc.ir.ops import secure, tensor
from mpcc.ir.types import Shape, element_count
from mpcc.passes.lowerings import networks
from mpcc.passes.lowerings.base import Lowering, Rules, secure_type, tensor_type
from mpcc.passes.lowerings.elementwise import add, maximum, relu, subtract

__all__ = ["RULES", "Rows"]


@dataclass(frozen=True)
class Rows:
    """Values whose first axis is worked along."""

    lowering: Lowering
    loc: str

    def first(self, x: Value, axes: Sequence[int]) -> Value:
        """The axes, merged, in front."""
        shape = secure_type(x).shape
        rest = [i for i in range(len(shape)) if i not in axes]
        perm = (*axes, *rest)
        if perm != tuple(range(len(shape))):
            x = self.lowering.emit(secure.Transpose, [x], {"perm": perm}, self.loc)
        if len(axes) == 1:
            return x
        return self.reshape(x, (-1, *(shape[i] for i in rest)))

    def reshape(self, x: Value, shape: Shape) -> Value:
        """The value in another shape, of which the first dimension may be -1."""
        have = secure_type(x).shape
        if shape[:1] == (-1,):
            size = element_count(have) // element_count(shape[1:])
            shape = (size, *shape[1:])
        if have == shape:
            return x
        return self.lowering.emit(secure.Reshape, [x], {"shape": shape}, self.loc)

    def part(self, x: Value, start: int, limit: int) -> Value:
        """Rows from start to limit."""
        shape = secure_type(x).shape
        if (start, limit) == (0, shape[0]):
            return x
        zeros = (0,) * (len(shape) - 1)
        attrs = {
            "starts": (start, *zeros),
            "limits": (limit, *shape[1:]),
            "strides": (1,) * len(shape),
        }
        return self.lowering.emit(secure.Slice, [x], attrs, self.loc)

    def pad(self, x: Value, low: int, high: int) -> Value:
        """Rows of zeros before and after."""
        zeros = (0,) * (len(secure_type(x).shape) - 1)
        attrs = {"low": (low, *zeros), "high": (high, *zeros)}
        return self.lowering.emit(secure.Pad, [x], attrs, self.loc)

    def join(self, parts: Sequence[Value]) -> Value:
        """Rows of all parts."""
        if len(parts) == 1:
            return parts[0]
        return self.lowering.emit(secure.Concat, parts, {"axis": 0}, self.loc)

    def gather(self, x: Value, indices: Sequence[int]) -> Value:
        """Some rows."""
        if list(indices) == list(range(secure_type(x).shape[0])):
            return x
        attrs = {"axis": 0, "indices": tuple(indices)}
        return self.lowering.emit(secure.Gather, [x], attrs, self.loc)

    def back(self, x: Value, axis: int) -> Value:
        """The first axis put where it was."""
        rank = len(secure_type(x).shape)
        perm = (*range(1, axis + 1), 0, *range(axis + 1, rank))
        if axis == 0:
            return x
        return self.lowering.emit(secure.Transpose, [x], {"perm": perm}, self.loc)

    def tournament(self, x: Value, better: Callable[[Value, Value], Value]) -> Value:
        """The best row, [1, ...]: in every round the first half meets the second."""
        while (count := secure_type(x).shape[0]) > 1:
            half = count // 2
            winners = better(self.part(x, 0, half), self.part(x, half, 2 * half))
            odd = [self.part(x, 2 * half, count)] if count % 2 else []
            x = self.join([winners, *odd])
        return x


# --- sums ----------------------------------------------------------------------------------------


def _reduce_sum(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """Local; no truncation."""
    (x,) = operands
    attrs = {"axes": op.attrs["axes"], "width": lowering.result_width(op, secure_type(x).frac)}
    total = lowering.emit(secure.ReduceSum, [x], attrs, op.loc)
    return [Rows(lowering, op.loc).reshape(total, tensor_type(op.result).shape)]


def _cumsum(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """Sums of 1, 2, 4, ... neighbours, added with a shift: ceil(log2 n) local additions.

    A product with a triangle of ones would take n / log2(n) times as many.
    """
    rows, axis = Rows(lowering, op.loc), op.attrs["axis"]
    x = rows.first(operands[0], [axis])
    count, width = secure_type(x).shape[0], lowering.result_width(op, secure_type(x).frac)

    def shifted(y: Value, step: int) -> Value:
        if op.attrs["reverse"]:
            return rows.pad(rows.part(y, step, count), 0, step)
        return rows.pad(rows.part(y, 0, count - step), step, 0)

    if op.attrs["exclusive"]:
        if count == 1:
            return [rows.back(subtract(lowering, x, x, op.loc, width), axis)]
        x = shifted(x, 1)
    step = 1
    while step < count:
        x = add(lowering, x, shifted(x, step), width, op.loc)
        step *= 2
    return [rows.back(x, axis)]


# --- maxima --------------------------------------------------------------------------------------


def _reduce_max(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """A tournament: n - 1 comparisons per result in ceil(log2 n) steps."""
    (x,), rows, axes = operands, Rows(lowering, op.loc), op.attrs["axes"]
    if axes:
        x = rows.first(x, axes)
        x = rows.tournament(x, lambda a, b: maximum(lowering, a, b, op.loc, coarse=True))
    return [rows.reshape(x, tensor_type(op.result).shape)]


@dataclass(frozen=True)
class _Keys:
    """Keys of elements along the first axis.

    Attributes:
        bits: b.
        last: position of the last element.
        reverse: whether the lower part is the distance from the end.
        sign: 1, or -1 if the value is negated.
    """

    rows: Rows
    bits: int
    last: int
    reverse: bool
    sign: int

    def make(self, x: Value) -> Value:
        """Keys, b bits wider than the values."""
        lowering, loc, type_ = self.rows.lowering, self.rows.loc, secure_type(x)
        width = type_.width + self.bits
        if self.sign < 0:
            x = lowering.emit(secure.Scale, [x], {"factor": -1, "width": type_.width}, loc)
        x = lowering.emit(secure.ShiftLeft, [x], {"amount": self.bits, "width": width}, loc)
        column = (self.last + 1, *[1] * (len(type_.shape) - 1))
        numbers = lowering.spread(self._numbers(x, column), type_.shape, loc)
        return add(lowering, x, numbers, width, loc)

    def _numbers(self, like: Value, column: Shape) -> Value:
        """The lower parts 0, 1, ..., last or their reverse: doubled until they are enough."""
        rows, lowering, loc = self.rows, self.rows.lowering, self.rows.loc
        numbers = lowering.constant(like, 0, (1,), loc)
        width, step = secure_type(like).width, 1
        while step <= self.last:
            offset = lowering.constant(like, step, (step,), loc)
            more = add(lowering, numbers, offset, width, loc)
            numbers = rows.join([more, numbers] if self.reverse else [numbers, more])
            step *= 2
        if self.reverse:
            numbers = rows.part(numbers, step - 1 - self.last, step)
        else:
            numbers = rows.part(numbers, 0, self.last + 1)
        return rows.reshape(numbers, column)

    def value(self, key: Value) -> Value:
        """The values of keys, negated if they were."""
        width = max(1, secure_type(key).width - self.bits)
        attrs = {"amount": self.bits, "rounding": "exact", "width": width}
        return self.rows.lowering.emit(secure.Truncate, [key], attrs, self.rows.loc)

    def signed(self, value: Value) -> Value:
        """The value as the operand had it."""
        if self.sign > 0:
            return value
        attrs = {"factor": -1, "width": secure_type(value).width}
        return self.rows.lowering.emit(secure.Scale, [value], attrs, self.rows.loc)

    def position(self, key: Value, value: Value) -> Value:
        """The positions of keys with these values, as whole numbers."""
        lowering, loc, type_ = self.rows.lowering, self.rows.loc, secure_type(key)
        attrs = {"amount": self.bits, "width": type_.width}
        high = lowering.emit(secure.ShiftLeft, [value], attrs, loc)
        low = subtract(lowering, key, high, loc, self.bits)
        width = self.bits + type_.frac
        # A raw word i at this fraction is i units; the factor makes it i.
        factor = (-1 if self.reverse else 1) << type_.frac
        number = lowering.emit(secure.Scale, [low], {"factor": factor, "width": width}, loc)
        if not self.reverse:
            return number
        end = lowering.constant(number, self.last << type_.frac, type_.shape, loc)
        return add(lowering, end, number, width, loc)


def _keys(rows: Rows, x: Value, *, reverse: bool, sign: int) -> _Keys:
    last = secure_type(x).shape[0] - 1
    return _Keys(rows, last.bit_length(), last, reverse, sign)


def _argmax(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """A tournament of keys; of two elements, one comparison."""
    rows, axis, shape = Rows(lowering, op.loc), op.attrs["axis"], tensor_type(op.result).shape
    x = rows.first(operands[0], [axis])
    count = secure_type(x).shape[0]
    if count == 1:
        zero = lowering.constant(x, 0, shape, op.loc)
        return [zero]
    if count == 2:
        position = _second(rows, x, last=op.attrs["select_last"])
        return [rows.reshape(position, shape)]
    keys = _keys(rows, x, reverse=not op.attrs["select_last"], sign=1)
    winner = rows.tournament(keys.make(x), lambda a, b: maximum(lowering, a, b, op.loc))
    return [rows.reshape(keys.position(winner, keys.value(winner)), shape)]


def _second(rows: Rows, x: Value, *, last: bool) -> Value:
    """Whether the second of two elements wins, as a word: [a < b], or not [b < a]."""
    lowering, loc = rows.lowering, rows.loc
    a, b = rows.part(x, 0, 1), rows.part(x, 1, 2)
    if last:
        a, b = b, a
    difference = subtract(lowering, a, b, loc)
    word = lowering.word(lowering.emit(secure.Negative, [difference], {}, loc), loc)
    if not last:
        return word
    one = lowering.constant(word, 1, secure_type(word).shape, loc)
    return subtract(lowering, one, word, loc, 1)


def _topk(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """The tournaments of k maxima that keep the losers, or a sorting network cut to k results.

    Whichever has fewer comparisons: (n - 1) + ... + (n - k), or about n log2(n)^2 / 4.
    """
    rows, axis, k = Rows(lowering, op.loc), op.attrs["axis"], op.attrs["k"]
    x = rows.first(operands[0], [axis])
    count = secure_type(x).shape[0]
    if count == 1:
        zero = lowering.constant(x, 0, tensor_type(op.results[1]).shape, op.loc)
        return [operands[0], zero]
    keys = _keys(rows, x, reverse=True, sign=1 if op.attrs["largest"] else -1)
    winners = _select(rows, keys.make(x), networks.best(count, k), k)
    values = keys.value(winners)
    results = [keys.signed(values), keys.position(winners, values)]
    return [rows.back(r, axis) for r in results]


def _select(rows: Rows, x: Value, network: networks.Network, k: int) -> Value:
    """The first k rows after a network of compare-exchanges."""
    lowering, loc = rows.lowering, rows.loc
    have = list(range(secure_type(x).shape[0]))
    needed = [*networks.wires(network, k)[1:], list(range(k))]
    width = secure_type(x).width
    for layer, wires in zip(network, needed, strict=True):
        where = {wire: row for row, wire in enumerate(have)}
        a = rows.gather(x, [where[i] for i, _ in layer])
        b = rows.gather(x, [where[j] for _, j in layer])
        more = relu(lowering, subtract(lowering, a, b, loc), loc)
        parts = [add(lowering, b, more, width, loc)]
        losers = [j for _, j in layer]
        if not set(losers).isdisjoint(wires):
            parts.append(subtract(lowering, a, more, loc, width))
        # Where every wire now lies in (larger, smaller, untouched).
        now = {wire: len(parts) * len(layer) + row for row, wire in enumerate(have)}
        now.update({i: row for row, (i, _) in enumerate(layer)})
        if len(parts) == 2:
            now.update({j: len(layer) + row for row, j in enumerate(losers)})
        untouched = set(wires) - {w for pair in layer for w in pair}
        moved = rows.join([*parts, x] if untouched else parts)
        x = rows.gather(moved, [now[w] for w in wires])
        have = wires
    return x


RULES: Rules = {
    tensor.ReduceSum: _reduce_sum,
    tensor.ReduceMax: _reduce_max,
    tensor.ArgMax: _argmax,
    tensor.TopK: _topk,
    tensor.CumSum: _cumsum,
}
