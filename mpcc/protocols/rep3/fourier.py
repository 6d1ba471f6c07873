"""rep3, functions by harmonics (docs/protocols.md, Functions by harmonics).

A pair x = a + b puts every term of a trigonometric polynomial into the form <U(a), V(b)>: one
message of public length, whatever the function.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.core import Op, Value
from mpcc.ir.define import Attributes
from mpcc.ir.ops import party
from mpcc.ir.types import COMPUTE_PLACES, bits_bytes
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
    ring_shape,
)
from mpcc.protocols.rep3.cast import resize
from mpcc.protocols.rep3.comparison import pair_rounds
from mpcc.protocols.rep3.linear import Secret, lift
from mpcc.protocols.rep3.pair import exchange_links, rounds_to_pair, to_pair

__all__ = ["STEPS", "fourier", "fourier_cost", "rule_fourier"]

_ROLES: tuple[Role, ...] = (
    ("P0", "P1", "P2"),
    ("P1", "P2", "P0"),
    ("P2", "P0", "P1"),
)
"""q1 and q2 do the same, so it matters only who is q0."""

_PER_FACTOR = ("period", "multiplier", "precision")
_PER_SERIES = ("cos", "sin", "coefficient_frac", *_PER_FACTOR)


def fourier_cost(
    *,
    role: Role,
    lanes: int,
    ring: int,
    count: int,
    period: int,
    replicated: bool,
    zero: str = "",
) -> Cost:
    """1 round. q0 -> q1, q0 -> q2: count words each; q1 <-> q2: period bits if not replicated.

    The party whose summand of the operand is known to be zero does not send it.
    """
    q0, q1, q2 = role
    words = count * lanes * ring // 8
    steps = Cost(1, {(q0, q1): words, (q0, q2): words})
    if replicated:
        return steps
    return steps.beside(Cost(1, exchange_links(role, zero, bits_bytes(lanes, period))))


def _masked(builder: Builder, attrs: Attributes, pair: Pair, role: Role) -> dict[str, list[Value]]:
    """Additive shares of U(a) at q1 and q2: of the first half of its rows, then of the second.

    The first half is masked by a draw of q0 and q1 and sent to q2, the second by one of q0 and q2
    and sent to q1.
    """
    b, (q0, q1, q2) = builder, role
    count, ring = len(attrs["cos"]), attrs["ring"]
    factors = {k: attrs[k] for k in _PER_FACTOR}
    held: dict[str, list[Value]] = {q1: [], q2: []}
    for half, (mate, other) in enumerate(((q1, q2), (q2, q1))):
        rows = {"first": half * count, "rows": count, "ring": ring}
        u = b.emit(party.Harmonics, (pair.a,), **rows, **factors)
        r = b.draw_ring((q0, mate), ring_shape(u), ring)
        held[mate].append(r.at(mate))
        held[other].append(b.send(b.sub(u, r.at(q0)), other, "harmonics"))
    return held


def fourier(builder: Builder, attrs: Attributes, x: Rep | Add3) -> Add3:
    """The series at x as additive shares of q1 and q2; that of q0 is zero.

    With the q0 of an early pair that is valid modulo the period, that pair is taken instead of the
    components. The message of q0 depends on a alone, so from Add3 it leaves with the exchange that
    makes b.
    """
    b, count, period = builder, len(attrs["cos"]), attrs["period"]
    if isinstance(x, Add3):
        x = b.cache.get(("rep", x), x)
    some = x.own[0] if isinstance(x, Rep) else x.parts[0]
    size, replicated = lanes(some), isinstance(x, Rep)

    def early(role: Role) -> Pair | None:
        pair = x.early if isinstance(x, Rep) else None
        return pair if pair and pair.place == role[0] and pair.bits >= period else None

    def cost(role: Role) -> Cost:
        return fourier_cost(
            role=role,
            lanes=size,
            ring=attrs["ring"],
            count=count,
            period=period,
            replicated=replicated,
            zero=x.zero if isinstance(x, Add3) else "",
        )

    def ready(role: Role) -> tuple[int, ...]:
        pair = early(role)
        found = pair_rounds(b, pair, role) if pair else rounds_to_pair(b, x, role)
        at_q0, at_q1, at_q2 = found
        return (max(at_q0 + 1, at_q1, at_q2),)

    role = b.role("fourier", _ROLES, cost, ready)
    b.charge(cost(role))
    q0, q1, _ = role
    pair = early(role) or to_pair(b, x, role, period)
    b.coin = Coin(pair.a, period)
    held = _masked(b, attrs, pair, role)
    series = {k: attrs[k] for k in _PER_SERIES}
    parts = {q0: resize(b, b.sub(pair.a, pair.a), attrs["ring"])}
    for q, rows in held.items():
        parts[q] = b.emit(party.Fourier, (pair.b[q], *rows), **series)
    parts[q1] = b.add_const(parts[q1], attrs["constant"])
    found = [parts[p] for p in COMPUTE_PLACES]
    return Add3((found[0], found[1], found[2]), zero=q0)


def _public(builder: Builder, attrs: Attributes, x: Public) -> Secret:
    """A public value, at every party, as the sum of -1 and x + 1: the coins are zero."""
    factors = {k: attrs[k] for k in _PER_FACTOR}
    rows = {"first": 0, "rows": 2 * len(attrs["cos"]), "ring": attrs["ring"]}
    series = {k: attrs[k] for k in _PER_SERIES}

    def at(place: str, first: bool, v: Value) -> Value:
        a = builder.add_const(builder.sub(v, v), -1)
        u = builder.emit(party.Harmonics, (a,), **rows, **factors)
        y = builder.emit(party.Fourier, (builder.add_const(v, 1), u), **series)
        return builder.add_const(y, attrs["constant"])

    return lift(at, x)


def rule_fourier(builder: Builder, op: Op, operands: Sequence[Secret]) -> Secret:
    """secure.fourier."""
    (x,) = operands
    if isinstance(x, Public):
        builder.coin = Coin(None, op.attrs["period"])
        return _public(builder, op.attrs, x)
    return fourier(builder, op.attrs, x)


STEPS = (
    Step("fourier", (Rep,), Add3, fourier_cost),
    Step("fourier early", (Pair,), Add3, fourier_cost),
    Step("fourier additive", (Add3,), Add3, fourier_cost),
)
