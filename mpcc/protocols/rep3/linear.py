"""rep3, local steps: sums, products, shape ops, and conversions of kinds that need no message.

Every function takes shares of any mix of Public, Rep and Add3 and keeps the cheapest kind: Public
with anything keeps the other's kind; Rep with Add3 gives Add3 (free); a product of two replicated
values is Add3 and stays so until a step needs replication.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from mpcc.ir.core import Op, Value
from mpcc.ir.define import Operation
from mpcc.ir.ops import party
from mpcc.ir.types import COMPUTE_PLACES
from mpcc.protocols.base import Add3, Builder, Pair, Public, Rep, secure_type

__all__ = [
    "SHAPES",
    "Secret",
    "add_constant",
    "combine",
    "lift",
    "product",
    "rule_linear",
    "rule_product",
    "rule_shape",
    "sum_or_difference",
    "to_add3",
    "to_local_rep",
]

Secret: TypeAlias = Rep | Add3 | Public
Local: TypeAlias = Callable[..., Value]
"""(place, carries constants?, values of the operands there) -> value, at one place."""


def lift(f: Local, *xs: Secret) -> Secret:
    """Apply a local linear map to every component of shares of one kind.

    ``f(place, first, *values)`` gets one value per share; ``first`` is true for the component that
    carries public constants (component 0; the a of an early pair; every copy of a Public). A
    summand that is zero in all shares stays zero: another carries the constants.
    """
    x = xs[0]
    if isinstance(x, Rep):
        reps = [r for r in xs if isinstance(r, Rep)]
        own = [f(p, i == 0, *(r.own[i] for r in reps)) for i, p in enumerate(COMPUTE_PLACES)]
        after = [f(p, i == 2, *(r.next[i] for r in reps)) for i, p in enumerate(COMPUTE_PLACES)]
        pairs = [r.early for r in reps if r.early is not None]
        early = None
        if len(pairs) == len(reps) and len({p.place for p in pairs}) == 1:
            place = pairs[0].place
            b = {q: f(q, False, *(p.b[q] for p in pairs)) for q in pairs[0].b}
            bits = min(p.bits for p in pairs)
            early = Pair(place, f(place, True, *(p.a for p in pairs)), b, bits)
        return Rep((own[0], own[1], own[2]), (after[0], after[1], after[2]), early)
    public = isinstance(x, Public)
    zeros = {s.zero for s in xs if isinstance(s, Add3)}
    zero = zeros.pop() if len(zeros) == 1 else ""
    carrier = next(p for p in COMPUTE_PLACES if p != zero)
    tables = [s.parts for s in xs if isinstance(s, Add3 | Public)]
    parts = [
        f(p, public or p == carrier, *(t[i] for t in tables)) for i, p in enumerate(COMPUTE_PLACES)
    ]
    found = (parts[0], parts[1], parts[2])
    return Public(found) if public else Add3(found, zero)


def _cached(builder: Builder, what: str, x: Secret, make: Callable[[], Any]) -> Any:
    key = (what, x)
    if key not in builder.cache:
        builder.cache[key] = make()
    return builder.cache[key]


def to_local_rep(builder: Builder, x: Rep | Public) -> Rep:
    """A Public as the replicated (x, 0, 0); a Rep as it is."""
    if isinstance(x, Rep):
        return x

    def make() -> Rep:
        zero = [builder.sub(v, v) for v in x.parts]
        return Rep((x.parts[0], zero[1], zero[2]), (zero[0], zero[1], x.parts[2]))

    result: Rep = _cached(builder, "rep", x, make)
    return result


def to_add3(builder: Builder, x: Secret, zero: str = "") -> Add3:
    """Additive shares of anything, without a message.

    Every component is known to two parties, so that of a party ``zero`` may be zero.
    """
    if isinstance(x, Public):
        x = to_local_rep(builder, x)
    if isinstance(x, Add3):
        return x
    if not zero:
        return Add3(x.own)
    one, other = (p for p in COMPUTE_PLACES if p != zero)
    mine = x.shared(zero, one)
    parts = {
        zero: builder.sub(mine, mine),
        one: builder.add(x.shared(one, zero), x.shared(one, other)),
        other: x.shared(other, zero),
    }
    found = [parts[p] for p in COMPUTE_PLACES]
    return Add3((found[0], found[1], found[2]), zero)


def combine(builder: Builder, xs: Sequence[Secret]) -> list[Secret]:
    """The shares converted, without messages, to one common kind."""
    if all(isinstance(x, Public) for x in xs):
        return list(xs)
    zeros = {x.zero for x in xs if isinstance(x, Add3)}
    if zeros:
        zero = zeros.pop() if len(zeros) == 1 else ""
        return [to_add3(builder, x, zero) for x in xs]
    return [to_local_rep(builder, x) for x in xs if not isinstance(x, Add3)]


def sum_or_difference(
    builder: Builder, definition: type[Operation], x: Secret, y: Secret
) -> Secret:
    """X + y or x - y (definition: party.Add or party.Sub)."""

    def apply(a: Value, b: Value) -> Value:
        return builder.emit(definition, (a, b))

    if isinstance(y, Public) and not isinstance(x, Public):
        known = dict(zip(COMPUTE_PLACES, y.parts, strict=True))
        return lift(lambda p, first, v: apply(v, known[p]) if first else v, x)
    if isinstance(x, Public) and not isinstance(y, Public):
        known = dict(zip(COMPUTE_PLACES, x.parts, strict=True))
        negate = definition is party.Sub

        def fold(p: str, first: bool, v: Value) -> Value:
            if first:
                return apply(known[p], v)
            return builder.neg(v) if negate else v

        return lift(fold, y)
    return lift(lambda p, first, a, b: apply(a, b), *combine(builder, (x, y)))


def add_constant(builder: Builder, x: Secret, value: int) -> Secret:
    """X + a public integer."""
    return lift(lambda p, first, v: builder.add_const(v, value) if first else v, x)


def _neighbour_sum(builder: Builder, x: Rep, i: int) -> Value:
    """x_i + x_{i+1} at P_i; made once per value, so in setup for weights."""
    result: Value = _cached(builder, f"sum{i}", x, lambda: builder.add(x.own[i], x.next[i]))
    return result


def product(
    builder: Builder,
    definition: type[Operation],
    attrs: dict[str, Any],
    x: Rep | Public,
    y: Rep | Public,
    sum_left: bool,
) -> Secret:
    """A bilinear op (party.Conv, party.MatMul, party.Mul) of two shares.

    The nine products of components are shared out so that five products do: P0 computes
    (x0 + x1)(y0 + y1), P1 computes x1 y2 + x2 (y1 + y2), P2 computes x2 y0 + x0 y2; with
    ``sum_left`` P1 computes (x1 + x2) y2 + x2 y1. Two products are one op over two operand pairs.
    Four cannot do: they would be a decomposition of rank 4 (docs/protocols.md, products).
    A public factor multiplies every component and keeps the other's kind.
    """

    def apply(*values: Value) -> Value:
        return builder.emit(definition, values, **attrs)

    if isinstance(y, Public):
        if isinstance(x, Public):
            return lift(lambda p, first, a, b: apply(a, b), x, y)
        known = dict(zip(COMPUTE_PLACES, y.parts, strict=True))
        return lift(lambda p, first, v: apply(v, known[p]), Rep(x.own, x.next))
    if isinstance(x, Public):
        known = dict(zip(COMPUTE_PLACES, x.parts, strict=True))
        return lift(lambda p, first, v: apply(known[p], v), Rep(y.own, y.next))
    z0 = apply(_neighbour_sum(builder, x, 0), _neighbour_sum(builder, y, 0))
    if sum_left:
        z1 = apply(_neighbour_sum(builder, x, 1), y.next[1], x.next[1], y.own[1])
    else:
        z1 = apply(x.own[1], y.next[1], x.next[1], _neighbour_sum(builder, y, 1))
    z2 = apply(x.own[2], y.next[2], x.next[2], y.own[2])
    return Add3((z0, z1, z2))


# --- rules ---------------------------------------------------------------------------------------

_PRODUCTS: dict[str, type[Operation]] = {
    "secure.conv": party.Conv,
    "secure.matmul": party.MatMul,
    "secure.mul": party.Mul,
}
_SUMS: dict[str, type[Operation]] = {"secure.add": party.Add, "secure.sub": party.Sub}
SHAPES: dict[str, type[Operation]] = {
    "secure.reshape": party.Reshape,
    "secure.transpose": party.Transpose,
    "secure.broadcast": party.Broadcast,
    "secure.slice": party.Slice,
    "secure.pad": party.Pad,
    "secure.gather": party.Gather,
    "secure.concat": party.Concat,
}


def rule_product(builder: Builder, op: Op, operands: Sequence[Rep | Public]) -> Secret:
    """secure.conv, secure.matmul, secure.mul of replicated or public operands."""
    x, y = operands
    definition = _PRODUCTS[op.name]
    attrs = {k: op.attrs[k] for k in definition.attributes}
    left, right = (secure_type(v).visibility for v in op.operands)
    return product(builder, definition, attrs, x, y, left == "model" != right)


def rule_linear(builder: Builder, op: Op, operands: Sequence[Secret]) -> Secret:
    """secure.add, secure.sub, secure.shift_left, secure.scale, secure.reduce_sum: no message."""
    attrs = op.attrs
    if op.name in _SUMS:
        return sum_or_difference(builder, _SUMS[op.name], operands[0], operands[1])
    if op.name == "secure.shift_left":
        return lift(lambda p, first, v: builder.shift_left(v, attrs["amount"]), operands[0])
    if op.name == "secure.scale":
        factor = {"value": attrs["factor"]}
        return lift(lambda p, first, v: builder.emit(party.MulConst, (v,), **factor), operands[0])
    axes = {"axes": attrs["axes"]}
    return lift(lambda p, first, v: builder.emit(party.ReduceSum, (v,), **axes), operands[0])


def rule_shape(builder: Builder, op: Op, operands: Sequence[Secret]) -> Secret:
    """Shape ops, component by component; a pad value stands on the first component only."""
    definition = SHAPES[op.name]
    attrs = {k: op.attrs[k] for k in definition.attributes}

    def apply(place: str, first: bool, *values: Value) -> Value:
        if "value" in attrs and not first:
            return builder.emit(definition, values, **{**attrs, "value": 0})
        return builder.emit(definition, values, **attrs)

    return lift(apply, *combine(builder, operands))
