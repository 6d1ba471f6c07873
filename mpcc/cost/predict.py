"""Exact bytes, messages and rounds of a party program, and the time that a network needs for them.

Bytes are message payloads; framing and TLS come on top and are measured, not predicted. The model
of time and its limits are in ``docs/cost.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpcc.cost.network import Profile
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.schedule import ONLINE, SETUP, Message, Schedule, schedule
from mpcc.ir.types import OWNER_PLACES, RingType, element_count

__all__ = [
    "Cost",
    "LayerCost",
    "PhaseCost",
    "Seconds",
    "count",
    "layer_of",
    "op_layer",
    "step_kind",
]

_FORMAT = 1
_UNLABELLED = "(no layer)"


@dataclass(frozen=True)
class PhaseCost:
    """Messages of one phase, of a layer or in total.

    Attributes:
        rounds: longest chain of dependent messages; of a layer, among its own messages.
        messages: number of messages.
        bytes_sent: payload bytes per directed link; links that carry nothing are left out.
    """

    rounds: int = 0
    messages: int = 0
    bytes_sent: Mapping[str, int] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """Payload bytes over all links."""
        return sum(self.bytes_sent.values())

    def to_json(self) -> dict[str, Any]:
        """Keys as in ``stats.json``."""
        return {
            "rounds": self.rounds,
            "messages": self.messages,
            "bytes_sent": dict(self.bytes_sent),
        }


@dataclass(frozen=True)
class LayerCost:
    """Cost of everything that one node of the model became.

    Attributes:
        name: its label.
        online: per run.
        setup: once per session.
        macs: multiplications of the largest share of one party, in convolutions and products.
        steps: online bytes over all links per secure op kind, such as ``truncate``.
        step_rounds: per kind, the number of the program's rounds in which it sends.
    """

    name: str
    online: PhaseCost
    setup: PhaseCost
    macs: int
    steps: Mapping[str, int]
    step_rounds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Seconds:
    """Predicted network time; local computation is not part of it.

    Attributes:
        online: from inputs and weights shared to outputs opened.
        sharing: for the input owners' messages of a run, before ``online``.
        setup: once per session.
    """

    online: float
    sharing: float
    setup: float


@dataclass(frozen=True)
class Cost:
    """The prediction for a program.

    Attributes:
        layers: in order of first appearance.
        traffic: per phase, per round from 1 on: bytes per link, owners' messages in a table of
            their own (``sharing``).
    """

    online: PhaseCost
    setup: PhaseCost
    layers: tuple[LayerCost, ...]
    traffic: Mapping[str, tuple[Mapping[str, int], ...]]

    def seconds(self, profile: Profile) -> Seconds:
        """Per round the slowest link's latency plus its bytes over its bandwidth, summed up."""
        return Seconds(*(self._time(key, profile) for key in (ONLINE, "sharing", SETUP)))

    def _time(self, key: str, profile: Profile) -> float:
        rounds = self.traffic[key]
        return sum(
            max((profile.link(name).seconds(n) for name, n in links.items()), default=0.0)
            for links in rounds
        )

    def to_json(self, profiles: Iterable[Profile]) -> dict[str, Any]:
        """``cost.json``: ``rounds`` and ``bytes_sent`` of a run as in ``stats.json``, and more."""
        return {
            "format": _FORMAT,
            **self.online.to_json(),
            "setup": self.setup.to_json(),
            "network_seconds": {
                p.name: {
                    "online": self.seconds(p).online,
                    "sharing": self.seconds(p).sharing,
                    "setup": self.seconds(p).setup,
                }
                for p in profiles
            },
            "ops": [
                {
                    "name": layer.name,
                    **layer.online.to_json(),
                    "setup": layer.setup.to_json(),
                    "macs": layer.macs,
                    "steps": dict(layer.steps),
                }
                for layer in self.layers
            ],
        }


def _by_link(messages: Iterable[Message]) -> dict[str, int]:
    """Bytes per link, in order of the link names."""
    links: dict[str, int] = {}
    for message in messages:
        links[message.link] = links.get(message.link, 0) + message.nbytes
    return {name: links[name] for name in sorted(links) if links[name]}


def layer_of(loc: str, step: str = "") -> str:
    """The layer of an op or message: its label, or where it has none the start of its step."""
    return loc or step.partition("/")[0] or _UNLABELLED


def op_layer(op: Op) -> str:
    """The layer that an op of the party level counts for; a fused region for that of its end."""
    end = op.body.ops[-1] if op.body is not None and op.body.ops else op
    return layer_of(end.loc, str(end.attrs.get("step", "")))


def _own_rounds(plan: Schedule) -> dict[tuple[str, str], int]:
    """Per (layer, phase), the longest chain of its own messages; other layers' values count 0."""
    made: dict[Value, tuple[tuple[str, str], int]] = {}
    rounds: dict[tuple[str, str], int] = {}
    transfers = {m.index: m for m in plan.messages}

    def visit(op: Op, phase: str, message: Message | None) -> None:
        key = (layer_of(op.loc, message.step if message else ""), phase)
        found = (made[v] for v in op.operands)
        depth = max((d for k, d in found if k == key), default=0) + (message is not None)
        rounds[key] = max(rounds.get(key, 0), depth)
        for value in op.results:
            made[value] = (key, depth)

    for step in plan.steps:
        body = step.op.body
        if body is None:
            visit(step.op, step.phase, transfers.get(step.index))
            continue
        # Inside a region every op counts for its own layer, as it would outside.
        for argument, value in zip(body.args, step.op.operands, strict=True):
            made[argument] = made[value]
        for op in body.ops:
            visit(op, step.phase, None)
        for result, value in zip(step.op.results, body.returns, strict=True):
            made[result] = made[value]
    return rounds


def _products(op: Op) -> int:
    """Ring multiplications of a convolution or matrix product."""
    types = [v.type for v in op.operands]
    results = [r.type for r in op.results]
    if op.name not in ("party.conv", "party.matmul") or not isinstance(results[0], RingType):
        return 0
    left, right = types[0], types[1]
    if not isinstance(left, RingType) or not isinstance(right, RingType):
        return 0
    inner = element_count(right.shape[1:]) if op.name == "party.conv" else left.shape[-1]
    return len(types) // 2 * element_count(results[0].shape) * inner


def _macs(plan: Schedule) -> dict[str, int]:
    """Per layer, the multiplications of the party that has most."""
    per_place: dict[str, dict[str, int]] = {}
    for step in plan.steps:
        count = _products(step.op)
        if count:
            places = per_place.setdefault(layer_of(step.op.loc), {})
            places[step.place] = places.get(step.place, 0) + count
    return {layer: max(places.values()) for layer, places in per_place.items()}


def _layer_names(plan: Schedule) -> list[str]:
    """Labels in order of first appearance; ops without one only if they are messages."""
    names: dict[str, None] = {}
    transfers = {m.index: m for m in plan.messages}
    for step in plan.steps:
        inner = step.op.body.ops if step.op.body is not None else [step.op]
        for op in inner:
            if op.loc:
                names.setdefault(op.loc)
        message = transfers.get(step.index)
        if message is not None:
            names.setdefault(layer_of(message.loc, message.step))
    return list(names)


def step_kind(message: Message) -> str:
    """What a message is for: ``truncate`` of the step ``conv_3/truncate/open``.

    The step itself if it has no kind.
    """
    rest = message.step.removeprefix(message.loc + "/") if message.loc else message.step
    return rest.partition("/")[0]


def _phase(messages: Sequence[Message], rounds: int) -> PhaseCost:
    return PhaseCost(rounds, len(messages), _by_link(messages))


def _rounds(messages: Sequence[Message], rounds: int) -> tuple[Mapping[str, int], ...]:
    by_depth: list[list[Message]] = [[] for _ in range(rounds)]
    for message in messages:
        by_depth[message.depth - 1].append(message)
    return tuple(_by_link(group) for group in by_depth)


def count(module: Module) -> Cost:
    """Count what a verified party module sends.

    Raises:
        MpccError: the module is not of party level, or its ops have no clear place.
    """
    plan = schedule(module)
    of_phase = {p: [m for m in plan.messages if m.phase == p] for p in (ONLINE, SETUP)}
    groups: dict[tuple[str, str], list[Message]] = {}
    for message in plan.messages:
        key = (layer_of(message.loc, message.step), message.phase)
        groups.setdefault(key, []).append(message)
    own_rounds = _own_rounds(plan)
    macs = _macs(plan)
    layers = []
    for name in _layer_names(plan):
        phases = {}
        for phase in (ONLINE, SETUP):
            found = groups.get((name, phase), [])
            phases[phase] = _phase(found, own_rounds.get((name, phase), 0))
        steps: dict[str, int] = {}
        depths: dict[str, set[int]] = {}
        for message in groups.get((name, ONLINE), []):
            kind = step_kind(message)
            steps[kind] = steps.get(kind, 0) + message.nbytes
            depths.setdefault(kind, set()).add(message.depth)
        layers.append(
            LayerCost(
                name,
                phases[ONLINE],
                phases[SETUP],
                macs.get(name, 0),
                steps,
                {kind: len(found) for kind, found in depths.items()},
            )
        )
    shared = [m for m in of_phase[ONLINE] if m.source in OWNER_PLACES]
    computed = [m for m in of_phase[ONLINE] if m.source not in OWNER_PLACES]
    rounds = plan.rounds(ONLINE)
    return Cost(
        online=_phase(of_phase[ONLINE], rounds),
        setup=_phase(of_phase[SETUP], plan.rounds(SETUP)),
        layers=tuple(layers),
        traffic={
            ONLINE: _rounds(computed, rounds),
            "sharing": _rounds(shared, rounds),
            SETUP: _rounds(of_phase[SETUP], plan.rounds(SETUP)),
        },
    )
