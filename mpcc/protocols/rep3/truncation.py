"""rep3, truncation: stochastic (2 rounds) and exact (docs/protocols.md, Truncation)."""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.errors import MpccError
from mpcc.ir.core import Op, Value
from mpcc.ir.ops import party
from mpcc.ir.types import bits_bytes
from mpcc.protocols.base import (
    Add3,
    Builder,
    Coin,
    Cost,
    Pair,
    PairBit,
    Public,
    Rep,
    Role,
    Step,
    lanes,
    ring_bits,
    ring_shape,
    secure_type,
)
from mpcc.protocols.rep3.comparison import (
    bit_roles,
    carry,
    carry_rounds,
    compare_cost,
)
from mpcc.protocols.rep3.linear import Secret, lift, sum_or_difference
from mpcc.protocols.rep3.pair import exchange_links, rounds_to_pair, to_pair
from mpcc.protocols.rep3.select import bit_to_ring, bit_to_ring_cost
from mpcc.protocols.rep3.sharing import ROLES

__all__ = ["STEPS", "exact", "rule_truncate", "stochastic"]


# --- costs ---------------------------------------------------------------------------------------


def truncate_cost(
    *, role: Role, lanes: int, ring: int, amount: int, replicated: bool, zero: str = ""
) -> Cost:
    """2 rounds. q0 -> q2: l + f bits; q1 -> q2 and q2 -> q1: f bits, and l more if not replicated.

    Ring elements are sent as words, f-bit values as f bit planes. The party whose summand is known
    to be zero does not send the l more.
    """
    q0, q1, q2 = role
    word, low = lanes * ring // 8, bits_bytes(lanes, amount)
    steps = Cost(2, {(q0, q2): word + low, (q1, q2): low, (q2, q1): low})
    return steps if replicated else steps.beside(Cost(1, exchange_links(role, zero, word)))


def truncate_exact_cost(
    *,
    role: Role,
    lanes: int,
    ring: int,
    amount: int,
    replicated: bool,
    zero: str = "",
    round_bytes: int | None = None,
) -> Cost:
    """The stochastic steps, beside the carry of the low bits and its conversion to the ring.

    Rounds: 2 or 3 for the carry, one more from Add3 unless it has a single block, and 2.
    """
    steps = truncate_cost(
        role=role, lanes=lanes, ring=ring, amount=amount, replicated=replicated, zero=zero
    )
    low = compare_cost(role=role, lanes=lanes, width=amount, sign=False, round_bytes=round_bytes)
    holder = bit_roles(role, amount, lanes, round_bytes)
    bit = bit_to_ring_cost(role=holder, lanes=lanes, ring=ring)
    known = (0, 0) if replicated else (int(role[2] != zero), int(role[1] != zero))
    start = Cost(carry_rounds(amount, lanes, 0, *known, round_bytes) - low.rounds)
    return start.then(low).then(bit).beside(steps)


# --- steps ---------------------------------------------------------------------------------------


def _shared_pair(builder: Builder, x: Rep | Add3, role: Role, offset: int) -> Pair:
    """X + offset as a at q0, b at q1 and q2."""
    pair = to_pair(builder, x, role)
    return Pair(pair.place, builder.add_const(pair.a, offset), pair.b, pair.bits)


def _shift_pair(builder: Builder, role: Role, pair: Pair, amount: int, constant: int) -> Rep:
    """(a >> f) + (b >> f) - 2^(l-f) [a + b >= 2^l] + constant, replicated.

    Needs a + b modulo 2^l below 2^(l-1): then the sum wraps iff one of the top bits is set. The
    wrap bit times 2^(l-f) is needed modulo 2^f only.
    """
    b, (q0, q1, q2) = builder, role
    shape, ring = ring_shape(pair.a), ring_bits(pair.a)
    high = b.shift_right(pair.a, amount)
    y1, r1 = b.draw_ring((q0, q1), shape, ring), b.draw_ring((q0, q1), shape, ring)
    e1, e0 = b.draw_ring((q0, q1), shape, ring), b.draw_ring((q0, q2), shape, ring)

    # Round 1. q0 -> q2: (a >> f) - y1, and msb(a) - r1 modulo 2^f.
    y0 = b.sub(high, y1.at(q0))
    y0_at_q2 = b.send(y0, q2, "high")
    top = b.sub(b.shift_right(pair.a, ring - 1), r1.at(q0))
    top_at_q2 = b.send(b.bit_slice(top, amount), q2, "top")

    # wrap = msb(b) + (1 - msb(b)) msb(a): q1 has msb(b) + (1 - msb(b)) r1, q2 the rest.
    clear = {q: b.invert(b.bit_slice(pair.b[q], 1, ring - 1)) for q in (q1, q2)}
    wrap1 = b.add(b.shift_right(pair.b[q1], ring - 1), b.mask_by(clear[q1], r1.at(q1)))
    wrap2 = b.mask_by(clear[q2], b.from_bits(top_at_q2, pair.b[q2]))

    # Round 2. q1 <-> q2: both under masks that q0 subtracts again.
    wrap = {q1: b.add(wrap1, e1.at(q1)), q2: b.add(wrap2, e0.at(q2))}
    sent = {
        q1: b.send(b.bit_slice(wrap[q2], amount), q1, "wrap"),
        q2: b.send(b.bit_slice(wrap[q1], amount), q2, "wrap"),
    }
    scale = ring - amount
    c12, early = {}, {}
    for q in (q1, q2):
        early[q] = b.add_const(b.shift_right(pair.b[q], amount), constant)
        total = b.add(wrap[q], b.from_bits(sent[q], pair.b[q]))
        c12[q] = b.sub(early[q], b.shift_left(total, scale))
    return Rep.of(
        {
            (q0, q1): b.add(y1.at(q0), b.shift_left(e1.at(q0), scale)),
            (q1, q0): b.add(y1.at(q1), b.shift_left(e1.at(q1), scale)),
            (q0, q2): b.add(y0, b.shift_left(e0.at(q0), scale)),
            (q2, q0): b.add(y0_at_q2, b.shift_left(e0.at(q2), scale)),
            (q1, q2): c12[q1],
            (q2, q1): c12[q2],
        },
        # Modulo 2^(l-f) the wrap term vanishes.
        Pair(q0, high, early, scale),
    )


def stochastic(builder: Builder, x: Rep | Add3, amount: int) -> Rep:
    """floor((x + g) / 2^f) with g = 2^f - 1 - (a mod 2^f)."""
    some = x.own[0] if isinstance(x, Rep) else x.parts[0]
    size, ring, replicated = lanes(some), ring_bits(some), isinstance(x, Rep)
    zero = x.zero if isinstance(x, Add3) else ""

    def cost(role: Role) -> Cost:
        return truncate_cost(
            role=role, lanes=size, ring=ring, amount=amount, replicated=replicated, zero=zero
        )

    def ready(role: Role) -> tuple[int, ...]:
        a, b1, b2 = rounds_to_pair(builder, x, role)
        shares = max(max(a + 1, b2) + 1, b1 + 1)
        # A comparison of the early pair by 2 rounds, and its select from the components.
        sign = max(a + 1, min(b1, b2) + 1, max(b1, b2)) + 1
        return (max(shares, sign), shares, sign)

    role = builder.role("truncate", ROLES, cost, ready)
    builder.charge(cost(role))
    pair = _shared_pair(builder, x, role, (1 << (ring - 2)) - 1)
    builder.coin = Coin(pair.a, amount)
    return _shift_pair(builder, role, pair, amount, 1 - (1 << (ring - 2 - amount)))


def exact(builder: Builder, x: Rep | Add3, amount: int) -> Rep:
    """floor(x / 2^f): the shifted halves plus the carry of the low f bits."""
    some = x.own[0] if isinstance(x, Rep) else x.parts[0]
    size, ring, replicated = lanes(some), ring_bits(some), isinstance(x, Rep)
    zero = x.zero if isinstance(x, Add3) else ""

    def cost(role: Role) -> Cost:
        return truncate_exact_cost(
            role=role,
            lanes=size,
            ring=ring,
            amount=amount,
            replicated=replicated,
            zero=zero,
            round_bytes=builder.round_bytes,
        )

    def ready(role: Role) -> tuple[int, ...]:
        a, b1, b2 = rounds_to_pair(builder, x, role)
        bit = carry_rounds(amount, size, a, b1, b2, builder.round_bytes)
        return (max(bit + 2, max(a + 1, b2) + 1, b1 + 1),)

    role = builder.role("truncate", ROLES, cost, ready)
    builder.charge(cost(role))
    pair = _shared_pair(builder, x, role, 1 << (ring - 2))
    bit = carry(builder, role, pair, amount, sign=False)
    shifted = _shift_pair(builder, role, pair, amount, -(1 << (ring - 2 - amount)))
    holder = bit_roles(role, amount, size, builder.round_bytes)
    low = bit_to_ring(builder, holder, bit, ring_shape(some), ring)
    total = sum_or_difference(builder, party.Add, Rep(shifted.own, shifted.next), low)
    if not isinstance(total, Rep):
        raise TypeError("a sum of replicated values is replicated")
    return total


def _public(builder: Builder, x: Public, amount: int) -> Secret:
    """floor(x / 2^f) of a public value, at every party."""

    def shift(place: str, first: bool, v: Value) -> Value:
        ring = ring_bits(v)
        high = builder.shift_right(builder.add_const(v, 1 << (ring - 1)), amount)
        return builder.add_const(high, -(1 << (ring - 1 - amount)))

    return lift(shift, x)


def rule_truncate(builder: Builder, op: Op, operands: Sequence[Secret]) -> Secret:
    """secure.truncate. Needs |x| < 2^(l-2) and amount <= l - 2."""
    (x,), amount, type_ = operands, op.attrs["amount"], secure_type(op.operands[0])
    if max(type_.width, amount) > type_.ring - 2:
        raise MpccError.of(
            "E-lower-width",
            f"truncation of {type_} by {amount} bits needs widths up to {type_.ring - 2}",
            op.loc,
        )
    random = op.attrs["rounding"] == "stochastic"
    if isinstance(x, Public):
        builder.coin = Coin(None, amount) if random else None
        return _public(builder, x, amount)
    return (stochastic if random else exact)(builder, x, amount)


STEPS = (
    Step("truncate", (Add3,), Rep, truncate_cost),
    Step("truncate replicated", (Rep,), Rep, truncate_cost),
    Step("truncate exact", (Add3,), Rep, truncate_exact_cost),
    Step("bit to ring", (PairBit,), Rep, bit_to_ring_cost),
)
