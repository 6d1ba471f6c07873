"""rep3, messages between owners and parties, and resharing (docs/protocols.md, Sharing)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from mpcc.errors import MpccError
from mpcc.ir.core import Op, Value
from mpcc.ir.ops import party
from mpcc.ir.types import COMPUTE_PLACES, OWNER_PLACES
from mpcc.protocols.base import (
    Add3,
    Builder,
    Cost,
    OwnerClear,
    Public,
    Rep,
    Role,
    Step,
    component,
    lanes,
    ring_bits,
    ring_shape,
    secure_type,
)
from mpcc.protocols.rep3.linear import Secret, to_local_rep

__all__ = [
    "ROLES",
    "STEPS",
    "open_to",
    "reshare",
    "rule_input",
    "rule_reveal",
    "rule_weight",
    "share",
    "to_rep",
]

ROLES: tuple[Role, ...] = tuple((p, q, r) for p, q, r in permutations(COMPUTE_PLACES))
"""All assignments of the parties to q0, q1, q2."""

_SHARE_ROLES: tuple[Role, ...] = (
    ("P0", "P1", "P2"),
    ("P1", "P2", "P0"),
    ("P2", "P0", "P1"),
)


# --- costs ---------------------------------------------------------------------------------------


def share_cost(*, owner: str, role: Role, lanes: int, ring: int) -> Cost:
    """Owner -> q1, q2: one ring element each; 1 round."""
    word = lanes * ring // 8
    return Cost(1, {(owner, role[1]): word, (owner, role[2]): word})


def publish_cost(*, owner: str, lanes: int, ring: int) -> Cost:
    """Owner -> every party: one ring element each; 1 round."""
    return Cost(1, {(owner, p): lanes * ring // 8 for p in COMPUTE_PLACES})


def reshare_cost(*, lanes: int, ring: int) -> Cost:
    """P_i -> P_{i-1}: one ring element each; 1 round."""
    word = lanes * ring // 8
    return Cost(1, {(p, COMPUTE_PLACES[i - 1]): word for i, p in enumerate(COMPUTE_PLACES)})


def reveal_rep_cost(*, owner: str, role: Role, lanes: int, ring: int) -> Cost:
    """q0, q1 -> owner: one ring element each; 1 round."""
    word = lanes * ring // 8
    return Cost(1, {(role[0], owner): word, (role[1], owner): word})


def reveal_add3_cost(*, owner: str, lanes: int, ring: int) -> Cost:
    """Every party -> owner: one ring element each; 1 round."""
    return Cost(1, {(p, owner): lanes * ring // 8 for p in COMPUTE_PLACES})


def reveal_public_cost(*, owner: str, role: Role, lanes: int, ring: int) -> Cost:
    """q0 -> owner: one ring element; 1 round."""
    return Cost(1, {(role[0], owner): lanes * ring // 8})


# --- sharing -------------------------------------------------------------------------------------


def share(builder: Builder, x: OwnerClear) -> Rep:
    """Replicated shares of an owner's value.

    The two components that q0 holds are drawn from the keys of the owner with q0 and q1, and with
    q0 and q2; the third, x minus both, goes to q1 and q2. q1 sees the third component masked by the
    draw that it does not know, and so does q2; q0 sees nothing.
    """
    shape, ring, owner = ring_shape(x.value), ring_bits(x.value), x.owner
    size = lanes(x.value)

    def cost(role: Role) -> Cost:
        return share_cost(owner=owner, role=role, lanes=size, ring=ring)

    role = builder.role("share", _SHARE_ROLES, cost)
    builder.charge(cost(role))
    q0, q1, q2 = role
    c01 = builder.draw_ring((q0, q1, owner), shape, ring)
    c02 = builder.draw_ring((q0, q2, owner), shape, ring)
    c12 = builder.sub(builder.sub(x.value, c01.at(owner)), c02.at(owner))
    return Rep.of(
        {
            (q0, q1): c01.at(q0),
            (q1, q0): c01.at(q1),
            (q0, q2): c02.at(q0),
            (q2, q0): c02.at(q2),
            (q1, q2): builder.send(c12, q1, "share"),
            (q2, q1): builder.send(c12, q2, "share"),
        }
    )


def publish(builder: Builder, x: OwnerClear) -> Public:
    """A public value, sent by its owner to every party."""
    builder.charge(publish_cost(owner=x.owner, lanes=lanes(x.value), ring=ring_bits(x.value)))
    parts = [builder.send(x.value, p, "publish") for p in COMPUTE_PLACES]
    return Public((parts[0], parts[1], parts[2]))


def _place(owner: str, default: str) -> str:
    return owner if owner in OWNER_PLACES else default


def rule_input(builder: Builder, op: Op, operands: Sequence[Secret]) -> Rep | Public:
    """secure.input: encoded at its owner (the client if public), then shared or published."""
    attrs = op.attrs
    owner = _place(attrs["owner"], "client")
    clear = builder.emit(party.Input, (), name=attrs["name"], shape=attrs["shape"], place=owner)
    raw = builder.emit(
        party.Encode,
        (clear,),
        frac=attrs["frac"],
        lo=attrs["lo"],
        hi=attrs["hi"],
        ring=attrs["ring"],
    )
    x = OwnerClear(owner, raw)
    return publish(builder, x) if attrs["owner"] == "public" else share(builder, x)


def rule_weight(builder: Builder, op: Op, operands: Sequence[Secret]) -> Rep | Public:
    """secure.weight, in the setup phase: shared, or published if public."""
    attrs = op.attrs
    owner = _place(attrs["owner"], "model")
    builder.phase = "setup"
    try:
        raw = builder.emit(
            party.Weight,
            (),
            name=attrs["name"],
            shape=attrs["shape"],
            ring=attrs["ring"],
            place=owner,
        )
        x = OwnerClear(owner, raw)
        return publish(builder, x) if attrs["owner"] == "public" else share(builder, x)
    finally:
        builder.phase = "online"


# --- resharing -----------------------------------------------------------------------------------


def reshare(builder: Builder, x: Add3) -> Rep:
    """Additive to replicated.

    With s_i from the key of P_i and P_{i+1}, P_i sends c_i + s_i - s_{i-1} to P_{i-1}, which does
    not know s_i (Araki et al., CCS 2016).
    """
    shape, ring = ring_shape(x.parts[0]), ring_bits(x.parts[0])
    builder.charge(reshare_cost(lanes=lanes(x.parts[0]), ring=ring))
    own = [builder.add(m, x.parts[i]) for i, m in enumerate(_zero_shares(builder, shape, ring))]
    after: list[Value] = []
    for i, p in enumerate(COMPUTE_PLACES):
        after.append(builder.send(own[(i + 1) % 3], p, "reshare"))
    return Rep((own[0], own[1], own[2]), (after[0], after[1], after[2]))


def _zero_shares(builder: Builder, shape: tuple[int, ...], ring: int) -> list[Value]:
    """s_i - s_{i-1} at P_i: they sum to zero."""
    draws = [
        builder.draw_ring((p, COMPUTE_PLACES[(i + 1) % 3]), shape, ring)
        for i, p in enumerate(COMPUTE_PLACES)
    ]
    return [builder.sub(draws[i].at(p), draws[i - 1].at(p)) for i, p in enumerate(COMPUTE_PLACES)]


def to_rep(builder: Builder, x: Secret) -> Rep:
    """Replicated shares of anything; an Add3 is reshared once and remembered."""
    if not isinstance(x, Add3):
        return to_local_rep(builder, x)
    key = ("rep", x)
    if key not in builder.cache:
        builder.cache[key] = reshare(builder, x)
    result: Rep = builder.cache[key]
    return result


# --- reveal --------------------------------------------------------------------------------------


def open_to(builder: Builder, x: Secret, owner: str) -> Value:
    """The value at ``owner``, as the sum of re-masked summands.

    From Rep: q0 sends c01 + c02 + r and q1 sends c12 - r, r from the key of q0 and q1. From Add3:
    P_i sends c_i plus its share of zero. The owner holds none of these keys, so it learns the sum
    and nothing about the components.
    """
    if isinstance(x, Add3):
        shape, ring = ring_shape(x.parts[0]), ring_bits(x.parts[0])
        builder.charge(reveal_add3_cost(owner=owner, lanes=lanes(x.parts[0]), ring=ring))
        masks = _zero_shares(builder, shape, ring)
        sent = [
            builder.send(builder.add(m, c), owner, "reveal")
            for m, c in zip(masks, x.parts, strict=True)
        ]
        return builder.add(*sent)
    some = x.own[0] if isinstance(x, Rep) else x.parts[0]
    size, ring = lanes(some), ring_bits(some)
    if isinstance(x, Public):

        def public_cost(role: Role) -> Cost:
            return reveal_public_cost(owner=owner, role=role, lanes=size, ring=ring)

        role = builder.role("reveal", _SHARE_ROLES, public_cost)
        builder.charge(public_cost(role))
        return builder.send(x.parts[COMPUTE_PLACES.index(role[0])], owner, "reveal")

    def cost(role: Role) -> Cost:
        return reveal_rep_cost(owner=owner, role=role, lanes=size, ring=ring)

    def ready(role: Role) -> tuple[int, ...]:
        q0, q1, q2 = role
        return (1 + builder.rounds(x.shared(q0, q1), x.shared(q0, q2), x.shared(q1, q2)),)

    role = builder.role("reveal", ROLES, cost, ready)
    builder.charge(cost(role))
    q0, q1, q2 = role
    r = builder.draw_ring((q0, q1), ring_shape(some), ring)
    at_q0 = builder.add(x.shared(q0, q1), x.shared(q0, q2), r.at(q0))
    at_q1 = builder.sub(x.at(q1, component(q1, q2)), r.at(q1))
    return builder.add(builder.send(at_q0, owner, "reveal"), builder.send(at_q1, owner, "reveal"))


def rule_reveal(builder: Builder, op: Op, operands: Sequence[Secret]) -> None:
    """secure.reveal: opened to the owner (the client if public), decoded and handed over."""
    owner = _place(op.attrs["owner"], "client")
    if not isinstance(operands[0], Rep | Add3 | Public):
        raise MpccError.of("E-lower-kind", "only numbers are revealed", op.loc)
    raw = open_to(builder, operands[0], owner)
    clear = builder.emit(party.Decode, (raw,), frac=secure_type(op.operands[0]).frac)
    builder.effect(party.Output, (clear,), name=op.attrs["name"])


STEPS = (
    Step("share", (OwnerClear,), Rep, share_cost),
    Step("publish", (OwnerClear,), Public, publish_cost),
    Step("reshare", (Add3,), Rep, reshare_cost),
    Step("reveal", (Rep,), OwnerClear, reveal_rep_cost),
    Step("reveal additive", (Add3,), OwnerClear, reveal_add3_cost),
    Step("reveal public", (Public,), OwnerClear, reveal_public_cost),
)
