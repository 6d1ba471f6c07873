"""What every protocol is made of: share kinds, exact costs, and the recording builder.

A protocol is written once, over :class:`Builder`: running it records party ops. It takes one secure
op at a time with its operands as *shares* (dataclasses of party values, one class per share kind)
and gives the result as shares. Conversions between kinds are explicit steps with a cost.

Places and components. Parties are P0, P1, P2. Component x_i of a replicated value is held by P_i
and P_{i-1}; every two parties share exactly one component, so lowerings name components by their
two holders and work for every assignment of parties to roles.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np

from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.define import AttrValue, Operation
from mpcc.ir.ops import party
from mpcc.ir.schedule import link_name
from mpcc.ir.types import (
    COMPUTE_PLACES,
    PLACES,
    BitType,
    RingType,
    SecureType,
    Shape,
    element_count,
)

__all__ = [
    "Add3",
    "Builder",
    "Coin",
    "Cost",
    "Draw",
    "OwnerClear",
    "Pair",
    "PairBit",
    "Protocol",
    "Public",
    "Ready",
    "Rep",
    "Role",
    "Share",
    "Step",
    "bit_type",
    "component",
    "key_name",
    "ring_shape",
    "secure_type",
]

Role: TypeAlias = tuple[str, str, str]
"""The parties that play q0, q1 and q2 of a step."""


def component(p: str, q: str) -> int:
    """Index of the component that two different parties share.

    >>> component("P0", "P2"), component("P0", "P1"), component("P2", "P1")
    (0, 1, 2)
    """
    low, high = sorted((COMPUTE_PLACES.index(p), COMPUTE_PLACES.index(q)))
    return high if high - low == 1 else 0


def key_name(*holders: str) -> str:
    """Name of the key that these places hold, in the order of PLACES."""
    return "+".join(p for p in PLACES if p in holders)


# --- share kinds ---------------------------------------------------------------------------------


class Share:
    """Base of the share kinds: dataclasses of party values, compared by identity."""

    def values(self) -> list[Value]:
        """All party values of the share."""
        found: list[Value] = []
        for item in vars(self).values():
            if isinstance(item, Value):
                found.append(item)
            elif isinstance(item, Share | Mapping):
                found += item.values()
            elif isinstance(item, tuple):
                found += item
        return found

    def moved(self, move: Callable[[Value], Value]) -> Share:
        """The same share of other values: ``move`` of each one, in the order of :meth:`values`."""
        changed: dict[str, Any] = {}
        for name, item in vars(self).items():
            if isinstance(item, Value):
                changed[name] = move(item)
            elif isinstance(item, Share):
                changed[name] = item.moved(move)
            elif isinstance(item, Mapping):
                changed[name] = {key: move(value) for key, value in item.items()}
            elif isinstance(item, tuple):
                changed[name] = tuple(move(value) for value in item)
        return type(self)(**{**vars(self), **changed})


@dataclass(frozen=True, eq=False)
class Pair(Share):
    """a at one party, b at the two others; the value is a + b modulo 2^bits.

    Attributes:
        place: the party that has ``a``.
        a: ring words at ``place``.
        b: ring words by place, equal at both.
        bits: number of low bits that are valid.
    """

    place: str
    a: Value
    b: Mapping[str, Value]
    bits: int


@dataclass(frozen=True, eq=False)
class Rep(Share):
    """Replicated: x = x_0 + x_1 + x_2, where P_i holds own[i] = x_i and next[i] = x_{i+1}.

    Attributes:
        own: x_i at P_i.
        next: x_{i+1} at P_i.
        early: the same value as a pair that is known some rounds before the components are
            (a truncation's result, docs/protocols.md), for a comparison to start from.
    """

    own: tuple[Value, Value, Value]
    next: tuple[Value, Value, Value]
    early: Pair | None = None

    def at(self, place: str, index: int) -> Value:
        """Component ``index`` at one of its two holders.

        Raises:
            KeyError: ``place`` does not hold the component.
        """
        i = COMPUTE_PLACES.index(place)
        if index == i:
            return self.own[i]
        if index == (i + 1) % 3:
            return self.next[i]
        raise KeyError(f"{place} does not hold component {index}")

    def shared(self, place: str, other: str) -> Value:
        """At ``place``, the component that it shares with ``other``."""
        return self.at(place, component(place, other))

    @classmethod
    def of(cls, held: Mapping[tuple[str, str], Value], early: Pair | None = None) -> Rep:
        """From the values of :meth:`shared` by (place, other), all six."""
        parties = COMPUTE_PLACES
        own = tuple(held[p, parties[(i + 2) % 3]] for i, p in enumerate(parties))
        after = tuple(held[p, parties[(i + 1) % 3]] for i, p in enumerate(parties))
        return cls((own[0], own[1], own[2]), (after[0], after[1], after[2]), early)


@dataclass(frozen=True, eq=False)
class Add3(Share):
    """Additive: x = c_0 + c_1 + c_2 with c_i at P_i alone.

    Attributes:
        parts: c_i at P_i.
        zero: the party whose summand is zero, if a step left it so; no later step need keep this.
    """

    parts: tuple[Value, Value, Value]
    zero: str = ""


@dataclass(frozen=True, eq=False)
class Public(Share):
    """The same value at all three parties."""

    parts: tuple[Value, Value, Value]


@dataclass(frozen=True, eq=False)
class PairBit(Share):
    """A bit per lane, u xor v: u at one party, v at the two others.

    Attributes:
        place: holder of u.
        u: one plane at ``place``.
        v: one plane by place, equal at both.
    """

    place: str
    u: Value
    v: Mapping[str, Value]


@dataclass(frozen=True, eq=False)
class OwnerClear(Share):
    """A value (ring words) in the clear at its owner."""

    owner: str
    value: Value


# --- costs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Exact cost of a step or op.

    Attributes:
        rounds: longest chain of its own messages, operands taken as present.
        links: payload bytes by (sender, receiver).
    """

    rounds: int = 0
    links: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def then(self, other: Cost) -> Cost:
        """This step, then one that needs its result."""
        return Cost(self.rounds + other.rounds, self._sum(other))

    def beside(self, other: Cost) -> Cost:
        """This step and one that runs at the same time."""
        return Cost(max(self.rounds, other.rounds), self._sum(other))

    def _sum(self, other: Cost) -> dict[tuple[str, str], int]:
        links = dict(self.links)
        for link, nbytes in other.links.items():
            links[link] = links.get(link, 0) + nbytes
        return links

    @property
    def bytes_sent(self) -> dict[str, int]:
        """Bytes by link name, such as ``0->1``; links without bytes are left out."""
        return {link_name(*link): n for link, n in sorted(self.links.items()) if n}

    @property
    def total_bytes(self) -> int:
        """Bytes over all links."""
        return sum(self.links.values())


class CostFormula(typing.Protocol):
    """Keyword arguments (role, lanes, ring, ...) to an exact cost."""

    def __call__(self, *args: Any, **kwargs: Any) -> Cost:
        """The cost for these arguments."""


@dataclass(frozen=True)
class Step:
    """Declaration of one protocol step, for documentation and tests.

    Attributes:
        name: name of the step, as in docs/protocols.md.
        takes: share kinds of the operands.
        gives: share kind of the result.
        cost: the formula that the lowering charges.
    """

    name: str
    takes: tuple[type[Share], ...]
    gives: type[Share]
    cost: CostFormula


@dataclass(frozen=True)
class Coin:
    """The coins of an op: g = 2^amount - 1 - (value mod 2^amount) per element.

    ``value`` is a ring tensor at one party, None if every coin is zero (plain floor).
    """

    value: Value | None
    amount: int

    def read(self, values: Mapping[Value, Any], shape: Shape) -> Any:
        """The coins as int64 of the given shape, from an interpreter run that kept ``value``."""
        if self.value is None:
            return np.zeros(shape, np.int64)
        mask = np.uint64((1 << self.amount) - 1)
        low = values[self.value].astype(np.uint64) & mask
        return (mask - low).astype(np.int64).reshape(shape)


# --- the builder ---------------------------------------------------------------------------------


class Draw:
    """One static draw from a shared key; its op appears at each place that asks for it, once."""

    def __init__(
        self, builder: Builder, definition: type[Operation], attrs: dict[str, AttrValue]
    ) -> None:
        self._builder = builder
        self._definition = definition
        self._attrs = attrs
        self._at: dict[str, Value] = {}

    def at(self, place: str) -> Value:
        """The drawn value at one of the key's holders."""
        if place not in self._at:
            self._at[place] = self._builder.emit(self._definition, (), place=place, **self._attrs)
        return self._at[place]


RoleCost: TypeAlias = Callable[[Role], Cost]
Ready: TypeAlias = Callable[[Role], tuple[int, ...]]
"""Rounds of the run until a step's results are there, most important first."""


class Balancer(typing.Protocol):
    """Chooses who plays which role (mpcc.protocols.roles).

    Attributes:
        times: how often a step runs that is chosen for now: of a function's, once in every call.
    """

    times: int

    def choose(
        self,
        phase: str,
        candidates: Sequence[Role],
        cost: RoleCost,
        ready: Ready | None = None,
    ) -> Role:
        """One of the candidates; its cost is added to the loads so far."""


class Builder:
    """Records party ops into a function; the protocol's only way to make them.

    Stream ids count up per (key, phase): no two draws of a program share a stream.

    Attributes:
        label: origin of the ops being recorded; their ``loc``.
        step_prefix: prefix of step names.
        phase: phase of draws that do not say otherwise.
        cost: cost charged for the current secure op.
        coin: coin source noted by the current secure op, if any.
        roles: chosen roles, one text per choice.
        cache: what a protocol remembers of a share, such as its conversion, by (what, share).
        round_bytes: what a link carries in the time of a round on the network that the program is
            for; None: no network in particular.
    """

    def __init__(
        self, function: Function, balancer: Balancer, round_bytes: int | None = None
    ) -> None:
        self._function = function
        self._balancer = balancer
        self.round_bytes = round_bytes
        self._streams: dict[tuple[str, str], int] = {}
        self._rounds: dict[Value, int] = {}
        self.label = ""
        self.step_prefix = ""
        self.phase = "online"
        self.cost = Cost()
        self.coin: Coin | None = None
        self.roles: list[str] = []
        self.cache: dict[tuple[str, Share], Any] = {}

    def begin(self, label: str, step_prefix: str) -> None:
        """Start the next secure op."""
        self.label = label
        self.step_prefix = step_prefix
        self.cost = Cost()
        self.coin = None

    def emit(self, definition: type[Operation], operands: Sequence[Value], **attrs: Any) -> Value:
        """Record an op with one result."""
        result = self._function.append(definition, operands, attrs, self.label).result
        if self.phase == "online":
            rounds = self.rounds(*operands) + (definition is party.Transfer)
            if rounds:
                self._rounds[result] = rounds
        return result

    def rounds(self, *values: Value) -> int:
        """Rounds of the run after which all the values are there, each at its place."""
        return max((self._rounds.get(v, 0) for v in values), default=0)

    def effect(self, definition: type[Operation], operands: Sequence[Value], **attrs: Any) -> None:
        """Record an op without result."""
        self._function.append(definition, operands, attrs, self.label)

    def charge(self, cost: Cost) -> None:
        """Add the exact cost of the step being recorded, which follows those charged before."""
        self.cost = self.cost.then(cost)

    def role(
        self,
        step: str,
        candidates: Sequence[Role],
        cost: RoleCost,
        ready: Ready | None = None,
    ) -> Role:
        """Choose the role of a step, few rounds and balanced links; the caller charges its cost."""
        role = self._balancer.choose(self.phase, candidates, cost, ready)
        self.roles.append(f"{self.step_prefix}{step}={','.join(role)}")
        return role

    # messages and draws

    def send(self, value: Value, to: str, step: str) -> Value:
        """A message to another place; the value there."""
        return self.emit(party.Transfer, (value,), to=to, step=self.step_prefix + step)

    def _stream(self, key: str) -> int:
        stream = self._streams.get((key, self.phase), 0)
        self._streams[key, self.phase] = stream + 1
        return stream

    def draw_ring(self, holders: Sequence[str], shape: Shape, ring: int) -> Draw:
        """Fresh uniform ring words from the key of ``holders``."""
        key = key_name(*holders)
        attrs = {"key": key, "stream": self._stream(key), "phase": self.phase}
        return Draw(self, party.DrawRing, {**attrs, "shape": shape, "ring": ring})

    def draw_bits(self, holders: Sequence[str], lanes: int, planes: int) -> Draw:
        """Fresh uniform bits from the key of ``holders``."""
        key = key_name(*holders)
        attrs = {"key": key, "stream": self._stream(key), "phase": self.phase}
        return Draw(self, party.DrawBits, {**attrs, "lanes": lanes, "planes": planes})

    # ring

    def add(self, *values: Value) -> Value:
        """Sum of one or more values at one place."""
        total = values[0]
        for value in values[1:]:
            total = self.emit(party.Add, (total, value))
        return total

    def sub(self, a: Value, b: Value) -> Value:
        """A - b."""
        return self.emit(party.Sub, (a, b))

    def mul(self, *pairs: Value) -> Value:
        """Sum over pairs of values of a * b, elementwise."""
        return self.emit(party.Mul, pairs)

    def neg(self, x: Value) -> Value:
        """-x."""
        return self.emit(party.Neg, (x,))

    def add_const(self, x: Value, value: int) -> Value:
        """X + value, reduced to a signed word; x itself for zero."""
        bits = ring_bits(x)
        value = (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
        return x if value == 0 else self.emit(party.AddConst, (x,), value=value)

    def shift_left(self, x: Value, amount: int) -> Value:
        """X * 2^amount."""
        return x if amount == 0 else self.emit(party.ShiftLeft, (x,), amount=amount)

    def shift_right(self, x: Value, amount: int) -> Value:
        """Logical shift of the unsigned word."""
        return self.emit(party.ShiftRight, (x,), amount=amount)

    def cast(self, x: Value, ring: int) -> Value:
        """The unsigned word modulo 2^ring, in a ring of so many bits."""
        return self.emit(party.Cast, (x,), ring=ring)

    def reshape(self, x: Value, shape: Shape) -> Value:
        """The same elements in another shape; x itself if it has that shape."""
        return x if ring_shape(x) == shape else self.emit(party.Reshape, (x,), shape=shape)

    # ring and bits

    def mask_by(self, bit: Value, x: Value) -> Value:
        """Bit ? x : 0."""
        return self.emit(party.MaskBy, (bit, x))

    def negate_if(self, bit: Value, x: Value) -> Value:
        """Bit ? -x : x."""
        return self.emit(party.NegateIf, (bit, x))

    def bit_slice(self, x: Value, planes: int, shift: int = 0) -> Value:
        """Bits shift .. shift + planes - 1 of every word."""
        return self.emit(party.BitSlice, (x,), planes=planes, shift=shift)

    def move_bits(
        self,
        definition: type[Operation],
        bits: Sequence[Value],
        shapes: Sequence[Shape],
        **attrs: Any,
    ) -> Value:
        """A structural ring op on single planes, whose lanes have these shapes, as words 0 and 1.

        A reshape moves no lane.
        """
        if definition is party.Reshape:
            return bits[0]
        words = [
            self.emit(party.FromBits, (x,), shape=shape, ring=32)
            for x, shape in zip(bits, shapes, strict=True)
        ]
        return self.bit_slice(self.emit(definition, words, **attrs), 1)

    def from_bits(self, x: Value, like: Value) -> Value:
        """Planes as words of the shape and ring of ``like``."""
        return self.from_bits_of(x, ring_shape(like), ring_bits(like))

    def from_bits_of(self, x: Value, shape: Shape, ring: int) -> Value:
        """Planes as words of a shape and a ring."""
        return self.emit(party.FromBits, (x,), shape=shape, ring=ring)

    # bits

    def xor(self, *values: Value) -> Value:
        """Xor of one or more values at one place."""
        total = values[0]
        for value in values[1:]:
            total = self.emit(party.Xor, (total, value))
        return total

    def invert(self, x: Value) -> Value:
        """Complement of every bit."""
        return self.emit(party.Not, (x,))

    def planes(self, x: Value, indices: Sequence[int]) -> Value:
        """The planes of the given indices."""
        total: Any = x.type
        if tuple(indices) == tuple(range(total.planes)):
            return x
        return self.emit(party.Planes, (x,), indices=tuple(indices))

    def join(self, *values: Value) -> Value:
        """All planes of the values, first lowest."""
        return values[0] if len(values) == 1 else self.emit(party.Join, values)


def ring_bits(x: Value) -> int:
    """Ring of a ring value."""
    if not isinstance(x.type, RingType):
        raise TypeError(f"{x.type} is no ring tensor")
    return x.type.ring


def ring_shape(x: Value) -> Shape:
    """Shape of a ring value."""
    if not isinstance(x.type, RingType):
        raise TypeError(f"{x.type} is no ring tensor")
    return x.type.shape


def lanes(x: Value) -> int:
    """Number of elements of a ring value."""
    return element_count(ring_shape(x))


def bit_type(value: Value) -> BitType:
    """Type of secret bits; TypeError for a number."""
    if not isinstance(value.type, BitType):
        raise TypeError(f"{value.type} is no tensor of bits")
    return value.type


def secure_type(value: Value) -> SecureType:
    """Type of a secure tensor; TypeError for a bit."""
    if not isinstance(value.type, SecureType):
        raise TypeError(f"{value.type} is no secure tensor")
    return value.type


# --- the interface -------------------------------------------------------------------------------


class Protocol:
    """One protocol. Stateless: all state of a lowering is in the builder.

    Attributes:
        name: name in options and artifacts.
        summary: one line for reports.
        threat_model: whom it protects against, for reports.
        steps: declarations of its steps with their cost formulas.
        rules: secure op name -> function(builder, op, operand shares) -> result share (None for
            an op without result). An op that is absent is not offered.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    threat_model: ClassVar[str]
    steps: ClassVar[tuple[Step, ...]] = ()
    rules: ClassVar[Mapping[str, Callable[[Builder, Op, Sequence[Any]], Share | None]]] = {}

    def border(self, builder: Builder, share: Any) -> Share:
        """The share in the one kind that functions take and give; what it costs is charged."""
        found: Share = share
        return found


def new_party_module(protocol: str) -> Module:
    """An empty party module of a protocol."""
    return Module("party", {"protocol": protocol})
