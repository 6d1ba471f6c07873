"""rep3, changes of the ring (docs/protocols.md, Casts).

Narrowing is local, a truncation into a smaller ring takes 1 round, widening 2.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.errors import MpccError
from mpcc.ir.core import Op, Value
from mpcc.ir.types import bits_bytes
from mpcc.protocols.base import (
    Add3,
    Builder,
    Coin,
    Cost,
    Pair,
    Public,
    Rep,
    Role,
    Step,
    lanes,
    ring_bits,
    ring_shape,
    secure_type,
)
from mpcc.protocols.rep3 import truncation
from mpcc.protocols.rep3.comparison import pair_of, pair_rounds
from mpcc.protocols.rep3.linear import Secret, lift
from mpcc.protocols.rep3.pair import exchange_links, rounds_to_pair, to_pair
from mpcc.protocols.rep3.sharing import ROLES, to_rep

__all__ = [
    "STEPS",
    "narrow",
    "resize",
    "rule_cast",
    "rule_truncate",
    "truncate_into",
    "truncate_into_cost",
    "widen",
    "widen_cost",
]


def truncate_into_cost(
    *, role: Role, lanes: int, to: int, amount: int, replicated: bool, zero: str = ""
) -> Cost:
    """1 round. q0 -> q2: to bits; q1 -> q2 and q2 -> q1: to + f bits if not replicated.

    The party whose summand is known to be zero does not send the latter.
    """
    q0, _, q2 = role
    low = 0 if replicated else bits_bytes(lanes, to + amount)
    exchange = Cost(1, exchange_links(role, zero, low))
    return exchange.beside(Cost(1, {(q0, q2): lanes * to // 8}))


def widen_cost(*, role: Role, lanes: int, ring: int, to: int) -> Cost:
    """2 rounds. q0 -> q2: to + (to - ring) bits; q1 -> q2 and q2 -> q1: to - ring bits each."""
    q0, q1, q2 = role
    word, high = lanes * to // 8, lanes * (to - ring) // 8
    return Cost(2, {(q0, q2): word + high, (q1, q2): high, (q2, q1): high})


def resize(builder: Builder, x: Value, ring: int) -> Value:
    """The unsigned word as one of another ring: its low bits, or zeros above it; local."""
    return x if ring_bits(x) == ring else builder.cast(x, ring)


def narrow(builder: Builder, x: Secret, ring: int) -> Secret:
    """Components modulo 2^ring: their sum is x modulo 2^ring. Local."""
    found = lift(lambda p, first, v: resize(builder, v, ring), x)
    if isinstance(found, Rep) and found.early is not None:
        pair = found.early
        early = Pair(pair.place, pair.a, pair.b, min(pair.bits, ring))
        return Rep(found.own, found.next, early)
    return found


def widen(builder: Builder, x: Rep, ring: int) -> Rep:
    """The same value in a ring of more bits, for |x| < 2^(l-2) in its own of l bits.

    With the offset 2^(l-2) the value is below 2^(l-1), so that a + b wraps as integers iff one of
    the top bits is set. The wrap bit times 2^l is needed modulo 2^(ring-l).
    """
    b, own, size = builder, ring_bits(x.own[0]), lanes(x.own[0])
    shape, high = ring_shape(x.own[0]), ring - own

    def cost(role: Role) -> Cost:
        return widen_cost(role=role, lanes=size, ring=own, to=ring)

    def ready(role: Role) -> tuple[int, ...]:
        at_q0, at_q1, at_q2 = pair_rounds(b, x, role)
        return (max(max(at_q0 + 1, at_q2) + 1, at_q1 + 1),)

    role = b.role("widen", ROLES, cost, ready)
    b.charge(cost(role))
    q0, q1, q2 = role
    pair = pair_of(b, x, role)
    a = b.add_const(pair.a, 1 << (own - 2))
    y1, r1 = b.draw_ring((q0, q1), shape, ring), b.draw_ring((q0, q1), shape, high)
    e1, e0 = b.draw_ring((q0, q1), shape, high), b.draw_ring((q0, q2), shape, high)

    # Round 1. q0 -> q2: a - y1, and msb(a) - r1 modulo 2^(ring-l).
    y0 = b.sub(resize(b, a, ring), y1.at(q0))
    y0_at_q2 = b.send(y0, q2, "low")
    top = b.from_bits_of(b.bit_slice(a, 1, own - 1), shape, high)
    top_at_q2 = b.send(b.sub(top, r1.at(q0)), q2, "top")

    # wrap = msb(b) + (1 - msb(b)) msb(a): q1 has msb(b) + (1 - msb(b)) r1, q2 the rest.
    set_ = {q: b.bit_slice(pair.b[q], 1, own - 1) for q in (q1, q2)}
    wrap1 = b.add(b.from_bits_of(set_[q1], shape, high), b.mask_by(b.invert(set_[q1]), r1.at(q1)))
    wrap2 = b.mask_by(b.invert(set_[q2]), top_at_q2)

    # Round 2. q1 <-> q2: both under masks that q0 subtracts again.
    wrap = {q1: b.add(wrap1, e1.at(q1)), q2: b.add(wrap2, e0.at(q2))}
    sent = {q1: b.send(wrap[q2], q1, "wrap"), q2: b.send(wrap[q1], q2, "wrap")}

    def lifted(v: Value) -> Value:
        return b.shift_left(resize(b, v, ring), own)

    c12 = {
        q: b.sub(
            b.add_const(resize(b, pair.b[q], ring), -(1 << (own - 2))),
            lifted(b.add(wrap[q], sent[q])),
        )
        for q in (q1, q2)
    }
    return Rep.of(
        {
            (q0, q1): b.add(y1.at(q0), lifted(e1.at(q0))),
            (q1, q0): b.add(y1.at(q1), lifted(e1.at(q1))),
            (q0, q2): b.add(y0, lifted(e0.at(q0))),
            (q2, q0): b.add(y0_at_q2, lifted(e0.at(q2))),
            (q1, q2): c12[q1],
            (q2, q1): c12[q2],
        }
    )


def truncate_into(builder: Builder, x: Rep | Add3, amount: int, ring: int) -> Rep:
    """floor((x + g) / 2^f) in a ring of m bits, f + m of which x has at least.

    With x as a pair, (a >> f) + (b >> f) is the result modulo 2^(l-f), up to a constant: what a
    truncation inside the ring corrects is a multiple of that, hence zero modulo 2^m.
    """
    b, some = builder, x.own[0] if isinstance(x, Rep) else x.parts[0]
    size, shape, own, replicated = (
        lanes(some),
        ring_shape(some),
        ring_bits(some),
        isinstance(x, Rep),
    )

    def cost(role: Role) -> Cost:
        return truncate_into_cost(
            role=role,
            lanes=size,
            to=ring,
            amount=amount,
            replicated=replicated,
            zero=x.zero if isinstance(x, Add3) else "",
        )

    def ready(role: Role) -> tuple[int, ...]:
        at_q0, at_q1, at_q2 = rounds_to_pair(b, x, role)
        return (max(at_q0 + 1, at_q1, at_q2),)

    role = b.role("truncate", ROLES, cost, ready)
    b.charge(cost(role))
    q0, q1, q2 = role
    pair = to_pair(b, x, role, ring + amount)
    # The same offset and constant, hence the same coin, as in a truncation inside the ring.
    a = b.add_const(pair.a, (1 << (own - 2)) - 1)
    b.coin = Coin(a, amount)
    high = resize(b, b.shift_right(a, amount), ring)
    y1 = b.draw_ring((q0, q1), shape, ring)
    y0 = b.sub(high, y1.at(q0))
    constant = 1 - (1 << (own - 2 - amount))
    c12 = {
        q: b.add_const(resize(b, b.shift_right(pair.b[q], amount), ring), constant)
        for q in (q1, q2)
    }
    return Rep.of(
        {
            (q0, q1): y1.at(q0),
            (q1, q0): y1.at(q1),
            (q0, q2): y0,
            (q2, q0): b.send(y0, q2, "high"),
            (q1, q2): c12[q1],
            (q2, q1): c12[q2],
        }
    )


def _widen_public(builder: Builder, x: Public, ring: int) -> Secret:
    """The top bit repeated, at every party."""

    def extend(place: str, first: bool, v: Value) -> Value:
        half = 1 << (ring_bits(v) - 1)
        return builder.add_const(resize(builder, builder.add_const(v, half), ring), -half)

    return lift(extend, x)


def rule_cast(builder: Builder, op: Op, operands: Sequence[Secret]) -> Secret:
    """secure.cast. To a larger ring it needs |x| < 2^(l-2) in the smaller one of l bits."""
    (x,), ring, type_ = operands, op.attrs["ring"], secure_type(op.operands[0])
    if ring <= type_.ring:
        return narrow(builder, x, ring)
    if type_.width > type_.ring - 2:
        raise MpccError.of(
            "E-lower-width", f"{type_} is too wide for a cast to {ring} bits", op.loc
        )
    if isinstance(x, Public):
        return _widen_public(builder, x, ring)
    return widen(builder, to_rep(builder, x), ring)


def rule_truncate(builder: Builder, op: Op, operands: Sequence[Secret]) -> Secret:
    """secure.truncate, inside a ring or into a smaller one."""
    (x,), amount, ring = operands, op.attrs["amount"], op.attrs["ring"]
    if not ring:
        return truncation.rule_truncate(builder, op, operands)
    if isinstance(x, Public) or op.attrs["rounding"] == "exact":
        return narrow(builder, truncation.rule_truncate(builder, op, operands), ring)
    return truncate_into(builder, x, amount, ring)


STEPS = (
    Step("widen", (Rep,), Rep, widen_cost),
    Step("truncate into", (Add3,), Rep, truncate_into_cost),
    Step("truncate into replicated", (Rep,), Rep, truncate_into_cost),
)
