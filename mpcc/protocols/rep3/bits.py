"""rep3, moving bits: structural ops on shares of bits (docs/protocols.md, Bits)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from mpcc.ir.core import Op, Value
from mpcc.ir.types import COMPUTE_PLACES, Shape, bits_bytes, element_count
from mpcc.protocols.base import Builder, Cost, PairBit, Role, Step, bit_type
from mpcc.protocols.rep3.linear import SHAPES, Secret, rule_shape
from mpcc.protocols.rep3.sharing import ROLES

__all__ = ["STEPS", "rule_structural", "turn", "turn_cost"]


def turn_cost(*, role: Role, lanes: int) -> Cost:
    """1 round. q0 -> q1: one bit."""
    return Cost(1, {(role[0], role[1]): bits_bytes(lanes, 1)})


def turn(builder: Builder, role: Role, bit: PairBit, shape: Shape) -> PairBit:
    """The bit with u at q1 instead of q0.

    q0 and q2 draw s, which q1 does not know; q0 sends u xor s, q1 adds its v. The caller chooses
    the role (q0 holds u) and charges.
    """
    b, (q0, q1, q2) = builder, role
    s = b.draw_bits((q0, q2), element_count(shape), 1)
    sent = b.send(b.xor(bit.u, s.at(q0)), q1, "turn")
    return PairBit(q1, b.xor(bit.v[q1], sent), {q: s.at(q) for q in (q0, q2)})


def _role(place: str, to: str) -> Role:
    """Who turns a bit from one holder of u to another."""
    (other,) = (p for p in COMPUTE_PLACES if p not in (place, to))
    return (place, to, other)


def _at_one_place(
    builder: Builder, bits: Sequence[PairBit], shapes: Sequence[Shape]
) -> list[PairBit]:
    """The bits with u at one place: where most of them have it already."""
    if len({bit.place for bit in bits}) == 1:
        return list(bits)

    def cost(role: Role) -> Cost:
        turns = [
            turn_cost(role=_role(bit.place, role[0]), lanes=element_count(shape))
            for bit, shape in zip(bits, shapes, strict=True)
            if bit.place != role[0]
        ]
        return reduce(Cost.beside, turns, Cost())

    candidates = [r for r in ROLES if r[0] in {bit.place for bit in bits} and r[1] < r[2]]
    least = min(cost(r).total_bytes for r in candidates)
    role = builder.role("turn", [r for r in candidates if cost(r).total_bytes == least], cost)
    builder.charge(cost(role))
    return [
        bit if bit.place == role[0] else turn(builder, _role(bit.place, role[0]), bit, shape)
        for bit, shape in zip(bits, shapes, strict=True)
    ]


def rule_structural(
    builder: Builder, op: Op, operands: Sequence[PairBit | Secret]
) -> PairBit | Secret:
    """Shape ops on numbers, or on bits: as words 0 and 1 at every holder.

    Local but for a concatenation of bits whose u are at different parties.
    """
    bits = [x for x in operands if isinstance(x, PairBit)]
    if not bits:
        return rule_shape(builder, op, [x for x in operands if not isinstance(x, PairBit)])
    shapes = [bit_type(v).shape for v in op.operands]
    bits = _at_one_place(builder, bits, shapes)
    definition = SHAPES[op.name]
    attrs = {k: op.attrs[k] for k in definition.attributes}

    def moved(values: Sequence[Value]) -> Value:
        return builder.move_bits(definition, values, shapes, **attrs)

    place = bits[0].place
    v = {q: moved([bit.v[q] for bit in bits]) for q in COMPUTE_PLACES if q != place}
    return PairBit(place, moved([bit.u for bit in bits]), v)


STEPS = (Step("turn", (PairBit,), PairBit, turn_cost),)
