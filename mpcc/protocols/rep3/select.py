"""rep3, a bit times a value: select, bit to ring, clamp (docs/protocols.md, Select)."""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.core import Op
from mpcc.ir.ops import party
from mpcc.ir.types import Shape, element_count
from mpcc.protocols.base import (
    Builder,
    Cost,
    PairBit,
    Rep,
    Role,
    Step,
    bit_type,
    lanes,
    ring_bits,
    ring_shape,
    secure_type,
)
from mpcc.protocols.rep3.comparison import negative
from mpcc.protocols.rep3.linear import Secret, add_constant, lift, sum_or_difference
from mpcc.protocols.rep3.sharing import ROLES, to_rep

__all__ = [
    "STEPS",
    "bit_to_ring",
    "bit_to_ring_cost",
    "rule_clamp",
    "rule_from_bit",
    "rule_select",
    "select",
    "select_cost",
]


def select_cost(*, role: Role, lanes: int, ring: int) -> Cost:
    """2 rounds. q0 -> q2: two ring elements; q1 -> q2 and q2 -> q1: one each."""
    q0, q1, q2 = role
    word = lanes * ring // 8
    return Cost(2, {(q0, q2): 2 * word, (q1, q2): word, (q2, q1): word})


def bit_to_ring_cost(*, role: Role, lanes: int, ring: int) -> Cost:
    """2 rounds. q0 -> q2, q1 -> q2 and q2 -> q1: one ring element each."""
    q0, q1, q2 = role
    word = lanes * ring // 8
    return Cost(2, {(q0, q2): word, (q1, q2): word, (q2, q1): word})


def _bit_roles(bit: PairBit) -> list[Role]:
    return [r for r in ROLES if r[0] == bit.place]


def select(builder: Builder, bit: PairBit, x: Rep) -> Rep:
    """(u xor v) * x, replicated.

    (u xor v) x = v x + s w + u t with s = 1 - 2v, t = s c12 (known to q1, q2) and
    w = u (c01 + c02) (known to q0).
    """
    b, shape, ring = builder, ring_shape(x.own[0]), ring_bits(x.own[0])
    size = lanes(x.own[0])

    def cost(role: Role) -> Cost:
        return select_cost(role=role, lanes=size, ring=ring)

    def ready(role: Role) -> tuple[int, ...]:
        q0, q1, q2 = role
        at_q0 = b.rounds(bit.u, x.shared(q0, q1), x.shared(q0, q2))
        at_q1 = b.rounds(bit.v[q1], x.shared(q1, q0), x.shared(q1, q2))
        at_q2 = b.rounds(bit.v[q2], x.shared(q2, q0), x.shared(q2, q1))
        return (max(at_q0 + 1, at_q1 + 1, at_q2) + 1,)

    role = b.role("select", _bit_roles(bit), cost, ready)
    b.charge(cost(role))
    q0, q1, q2 = role
    r, r1 = b.draw_ring((q0, q1), shape, ring), b.draw_ring((q0, q1), shape, ring)
    y1, y0 = b.draw_ring((q0, q1), shape, ring), b.draw_ring((q0, q2), shape, ring)
    t = {q: b.negate_if(bit.v[q], x.shared(q, p)) for q, p in ((q1, q2), (q2, q1))}

    # Round 1. q0 -> q2: w - r and u - r1. q1 -> q2: its summand less y1.
    w = b.mask_by(bit.u, b.add(x.shared(q0, q1), x.shared(q0, q2)))
    m1 = b.send(b.sub(w, r.at(q0)), q2, "value")
    m2 = b.send(b.sub(b.from_bits(bit.u, w), r1.at(q0)), q2, "bit")
    c1 = b.add(
        b.mask_by(bit.v[q1], b.add(x.shared(q1, q0), x.shared(q1, q2))),
        b.negate_if(bit.v[q1], r.at(q1)),
        b.mul(t[q1], r1.at(q1)),
    )
    left1 = b.sub(c1, y1.at(q1))
    left = b.send(left1, q2, "left")

    # Round 2. q2 -> q1: its summand less y0.
    c2 = b.add(
        b.mask_by(bit.v[q2], x.shared(q2, q0)),
        b.negate_if(bit.v[q2], m1),
        b.mul(t[q2], m2),
    )
    right2 = b.sub(c2, y0.at(q2))
    right = b.send(right2, q1, "right")
    return Rep.of(
        {
            (q0, q1): y1.at(q0),
            (q1, q0): y1.at(q1),
            (q0, q2): y0.at(q0),
            (q2, q0): y0.at(q2),
            (q1, q2): b.add(left1, right),
            (q2, q1): b.add(left, right2),
        }
    )


def bit_to_ring(builder: Builder, role: Role, bit: PairBit, shape: Shape, ring: int) -> Rep:
    """The bit as a ring value 0 or 1, replicated.

    u xor v = v + s u with s = 1 - 2v. The caller chooses the role (q0 holds u) and charges.
    """
    b, (q0, q1, q2) = builder, role
    r, y1 = b.draw_ring((q0, q1), shape, ring), b.draw_ring((q0, q1), shape, ring)
    y0 = b.draw_ring((q0, q2), shape, ring)
    m = b.send(b.sub(b.from_bits(bit.u, r.at(q0)), r.at(q0)), q2, "bit")
    c1 = b.add(b.from_bits(bit.v[q1], r.at(q1)), b.negate_if(bit.v[q1], r.at(q1)))
    left1 = b.sub(c1, y1.at(q1))
    left = b.send(left1, q2, "left")
    right2 = b.sub(b.negate_if(bit.v[q2], m), y0.at(q2))
    right = b.send(right2, q1, "right")
    return Rep.of(
        {
            (q0, q1): y1.at(q0),
            (q1, q0): y1.at(q1),
            (q0, q2): y0.at(q0),
            (q2, q0): y0.at(q2),
            (q1, q2): b.add(left1, right),
            (q2, q1): b.add(left, right2),
        }
    )


# --- rules ---------------------------------------------------------------------------------------


def _inverted(builder: Builder, bit: PairBit) -> PairBit:
    return PairBit(bit.place, bit.u, {q: builder.invert(v) for q, v in bit.v.items()})


def rule_select(builder: Builder, op: Op, operands: Sequence[PairBit | Secret]) -> Rep:
    """secure.select; inversion flips v locally."""
    bit, x = operands
    if not isinstance(bit, PairBit) or isinstance(x, PairBit):
        raise TypeError("select takes a bit and a number")
    if op.attrs["invert"]:
        bit = _inverted(builder, bit)
    return select(builder, bit, to_rep(builder, x))


def rule_from_bit(builder: Builder, op: Op, operands: Sequence[PairBit]) -> Rep:
    """secure.from_bit."""
    (bit,), shape, ring = operands, bit_type(op.operands[0]).shape, op.attrs["ring"]

    def cost(role: Role) -> Cost:
        return bit_to_ring_cost(role=role, lanes=element_count(shape), ring=ring)

    def ready(role: Role) -> tuple[int, ...]:
        at = [builder.rounds(bit.u), *(builder.rounds(bit.v[q]) for q in role[1:])]
        return (max(at[0] + 1, at[1] + 1, at[2]) + 1,)

    role = builder.role("bit", _bit_roles(bit), cost, ready)
    builder.charge(cost(role))
    return bit_to_ring(builder, role, bit, shape, ring)


def rule_clamp(builder: Builder, op: Op, operands: Sequence[Secret]) -> Secret:
    """secure.clamp: x + [x < lo] (lo - x) + [hi < x] (hi - x).

    Both comparisons are one of twice the lanes, and so are both selects: 4 or 5 rounds. They work
    at the width that x - lo and hi - x need, which is at most one more than the operand's for
    bounds inside its range.
    """
    (x,), b, lo, hi = operands, builder, op.attrs["lo"], op.attrs["hi"]
    x = to_rep(b, x)
    type_ = secure_type(op.operands[0])
    size = lanes(x.own[0])
    width = ((1 << type_.width) + max(abs(lo), abs(hi))).bit_length()
    # |x - lo| <= 2^k + |lo| < 2^width

    flat = lift(lambda p, first, v: b.reshape(v, (size,)), x)
    negated = lift(lambda p, first, v: b.neg(v), flat)
    to_lo, to_hi = add_constant(b, negated, lo), add_constant(b, negated, hi)

    def both(left: Secret, right: Secret) -> Secret:
        return lift(lambda p, first, a, c: b.emit(party.Concat, (a, c), axis=0), left, right)

    # x - lo < 0 and hi - x < 0
    below = lift(lambda p, first, v: b.neg(v), to_lo)
    bit = negative(b, both(below, to_hi), width)
    gaps = select(b, bit, to_rep(b, both(to_lo, to_hi)))

    def half(start: int) -> Secret:
        box = {"starts": (start,), "limits": (start + size,), "strides": (1,)}
        return lift(lambda p, first, v: b.emit(party.Slice, (v,), **box), gaps)

    total = sum_or_difference(b, party.Add, flat, half(0))
    total = sum_or_difference(b, party.Add, total, half(size))
    return lift(lambda p, first, v: b.reshape(v, type_.shape), total)


STEPS = (Step("select", (PairBit, Rep), Rep, select_cost),)
