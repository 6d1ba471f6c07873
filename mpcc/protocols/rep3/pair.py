"""rep3, any secret as a pair: a at q0, b at q1 and q2 (docs/protocols.md, Truncation)."""

from __future__ import annotations

from mpcc.ir.core import Value
from mpcc.ir.types import COMPUTE_PLACES
from mpcc.protocols.base import Add3, Builder, Pair, Rep, Role, ring_bits, ring_shape
from mpcc.protocols.rep3.comparison import pair_of, pair_rounds

__all__ = ["exchange_links", "rounds_to_pair", "to_pair"]


def exchange_links(role: Role, zero: str, nbytes: int) -> dict[tuple[str, str], int]:
    """Bytes of the messages that make an additive value a pair.

    q1 and q2 send to each other; a party that is known to have zero sends nothing.
    """
    _, q1, q2 = role
    return {(p, q): nbytes for p, q in ((q1, q2), (q2, q1)) if p != zero}


def to_pair(builder: Builder, x: Rep | Add3, role: Role, bits: int = 0) -> Pair:
    """X modulo 2^bits as a pair, of whose words the higher bits mean nothing; 0 for all bits.

    From Rep it is local. From Add3, q1 and q2 exchange their summands masked by r01 (key of q0 and
    q1) and r02 (key of q0 and q2), which q0 subtracts. A summand that is known to be zero is
    neither masked nor sent.
    """
    if isinstance(x, Rep):
        return pair_of(builder, x, role)
    b, (q0, q1, q2) = builder, role
    part = dict(zip(COMPUTE_PLACES, x.parts, strict=True))
    shape, ring = ring_shape(part[q0]), ring_bits(part[q0])
    a, masked = part[q0], {}
    for q in (q1, q2):
        if q != x.zero:
            r = b.draw_ring((q0, q), shape, ring)
            a, masked[q] = b.sub(a, r.at(q0)), b.add(part[q], r.at(q))

    def known(own: str, other: str) -> Value:
        if other not in masked:
            return masked[own]
        if not bits:
            received = b.send(masked[other], own, "exchange")
        else:
            sent = b.send(b.bit_slice(masked[other], bits), own, "exchange")
            received = b.from_bits(sent, part[own])
        return b.add(masked[own], received) if own in masked else received

    return Pair(q0, a, {q1: known(q1, q2), q2: known(q2, q1)}, bits or ring)


def rounds_to_pair(builder: Builder, x: Rep | Add3, role: Role) -> tuple[int, int, int]:
    """Rounds until :func:`to_pair` has a at q0, b at q1 and b at q2."""
    if isinstance(x, Rep):
        return pair_rounds(builder, x, role)
    c0, c1, c2 = (builder.rounds(x.parts[COMPUTE_PLACES.index(q)]) for q in role)
    at_q1 = c1 if role[2] == x.zero else max(c1, c2 + 1)
    return c0, at_q1, c2 if role[1] == x.zero else max(c2, c1 + 1)
