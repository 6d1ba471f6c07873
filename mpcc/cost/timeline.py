"""The predicted course of one run: every place's work, every message, event by event.

A place works through its schedule on one thread, as the engine does (docs/engine.md): messages are
handed over as soon as their value is there, what depends on no input is put off until its first
use, and a place waits where a message that it needs next has not come. A connection encrypts,
sends and decrypts beside that, one message after the other.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from mpcc.cost.network import Profile
from mpcc.cost.predict import layer_of, op_layer, step_kind
from mpcc.cost.speed import Speeds
from mpcc.cost.work import Work, parts_of, work_of
from mpcc.ir.calls import inline
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.schedule import ONLINE, Message, Schedule, link_name, schedule
from mpcc.ir.types import COMPUTE_PLACES, OWNER_PLACES

__all__ = ["COMPUTING", "STARTING", "Timeline", "Workload", "timeline"]

COMPUTING = "computing"
"""Step of local work in :attr:`Timeline.path`."""
STARTING = ("", "starting")
"""Key of :attr:`Timeline.path` for the word that starts the clock."""

_INLINE = 32 << 10
"""Messages up to this many bytes are encrypted by the thread that hands them over
(runtime_native/net/tls_transport.cc)."""


@dataclass(frozen=True)
class Timeline:
    """One run, as predicted.

    Attributes:
        seconds: from inputs and weights shared to outputs opened.
        busy: per party, seconds of computing and of handing messages over.
        layers: per layer, seconds of local work of the party that has most there.
        rounds: seconds at which the last message of each round has arrived.
        path: the chain of work and messages that the run's end waited for: per (layer, step)
            its seconds, which add up to the run's. A step is ``computing`` or what a message is
            for, such as ``truncate``; where a message waits for a link, the messages before it
            stand for it.
    """

    seconds: float
    busy: Mapping[str, float]
    layers: Mapping[str, float]
    rounds: Sequence[float] = field(repr=False)
    path: Mapping[tuple[str, str], float] = field(default_factory=dict, repr=False)

    @property
    def on_path(self) -> Mapping[str, float]:
        """Per layer, the seconds of the run that are its own; the start of the run left out."""
        found: dict[str, float] = {}
        for key, seconds in self.path.items():
            if key != STARTING:
                found[key[0]] = found.get(key[0], 0.0) + seconds
        return found


@dataclass(frozen=True)
class Workload:
    """What a program makes its places do, whatever the machines and the network are.

    Attributes:
        ops: of ``@main``.
        plan: their schedule.
        works: of every op.
    """

    ops: Sequence[Op]
    plan: Schedule
    works: Sequence[Work]

    @classmethod
    def of(cls, module: Module) -> Workload:
        """Of a verified party module, its calls written out.

        Raises:
            MpccError: the module is not of party level, or its ops have no clear place.
        """
        module = inline(module).module
        ops = tuple(module.main.ops)
        return cls(ops, schedule(module), [work_of(op) for op in ops])


class _Cores:
    """Cores that all places share; without a number every thread has one of its own."""

    def __init__(self, count: int | None) -> None:
        self._free = None if count is None else [0.0] * count

    def take(self, ready: float, duration: float) -> float:
        """When work ends that is ready at a time, not before that of the call before."""
        if self._free is None or duration <= 0:
            return ready + duration
        start = max(ready, heapq.heappop(self._free))
        heapq.heappush(self._free, start + duration)
        return start + duration


class _Cause(NamedTuple):
    """Why something happens when it does: what took until then, and what that had waited for."""

    time: float
    label: tuple[str, str]
    before: _Cause | None


class _Run:
    """The state of one simulation: events in order of time."""

    def __init__(
        self, workload: Workload, speeds: Speeds, profile: Profile, cores: int | None
    ) -> None:
        self.ops, self.plan = workload.ops, workload.plan
        plan = workload.plan
        self._seconds = [speeds.time(work) for work in workload.works]
        self._layers = [op_layer(op) for op in workload.ops]
        self.speeds = speeds
        self.profile = profile
        self.cores = _Cores(cores)
        self.busy = dict.fromkeys(COMPUTE_PLACES, 0.0)
        self.rounds = [0.0] * plan.rounds(ONLINE)
        self.last: _Cause | None = None
        self._now: _Cause | None = None
        self._events: list[tuple[float, int, Callable[[float], None], _Cause | None]] = []
        self._count = 0
        self._messages = {m.index: m for m in plan.messages}
        self._outgoing: dict[Value, list[Message]] = {}
        for m in plan.messages:
            if m.phase == ONLINE:
                self._outgoing.setdefault(self.ops[m.index].operands[0], []).append(m)
        self._made = {v: i for i, op in enumerate(self.ops) for v in op.results}
        self._lazy = self._without_inputs()
        self._queues = {p: list(self._queue(p)) for p in COMPUTE_PLACES}
        self._at = dict.fromkeys(COMPUTE_PLACES, 0)
        # Inputs are shared before the clock starts.
        self._arrived = {m.index for m in plan.messages if m.source in OWNER_PLACES}
        self._waiting: dict[int, str] = {}
        self._encrypted: dict[str, _Cause] = {}
        self._carried: dict[str, _Cause] = {}

    def _queue(self, place: str) -> Iterator[int]:
        for i in self.plan.places.get(place, ()):
            if self.plan.steps[i].phase == ONLINE and i not in self._lazy:
                yield i

    def _without_inputs(self) -> set[int]:
        """Ops that depend on no input of the run and on no message, and whose results stay."""
        lazy: set[int] = set()
        for step in self.plan.steps:
            if step.phase != ONLINE:
                continue
            sources = {self._made[v] for v in step.op.operands}
            online = {i for i in sources if self.plan.steps[i].phase == ONLINE}
            sent = step.index in self._messages or any(v in self._outgoing for v in step.op.results)
            if not sent and step.op.name != "party.input" and lazy.issuperset(online):
                lazy.add(step.index)
        return lazy

    def run(self) -> None:
        """From the start to the last event."""
        for place in COMPUTE_PLACES:
            self._later(0.0, partial(self._step, place))
        while self._events:
            time, _, action, self._now = heapq.heappop(self._events)
            if self._now is not None and (self.last is None or time > self.last.time):
                self.last = self._now
            action(time)

    def _later(
        self, time: float, action: Callable[[float], None], label: tuple[str, str] | None = None
    ) -> None:
        """Do something at a time; until then passes what the label names."""
        self._count += 1
        cause = None if label is None else _Cause(time, label, self._now)
        heapq.heappush(self._events, (time, self._count, action, cause))

    @property
    def end(self) -> float:
        """When the last event was."""
        return 0.0 if self.last is None else self.last.time

    def path(self) -> dict[tuple[str, str], float]:
        """Seconds per label of the chain that ends last."""
        found: dict[tuple[str, str], float] = {}
        cause = self.last
        while cause is not None:
            start = 0.0 if cause.before is None else cause.before.time
            found[cause.label] = found.get(cause.label, 0.0) + cause.time - start
            cause = cause.before
        return found

    def _step(self, place: str, time: float) -> None:
        """The next op of a place, or its wait for a message."""
        queue, at = self._queues[place], self._at[place]
        if at == len(queue):
            return
        index = queue[at]
        if index in self._messages and index not in self._arrived:
            self._waiting[index] = place
            return
        self._at[place] = at + 1
        seconds = self._work(index)
        sent = [m for v in self.ops[index].results for m in self._outgoing.get(v, ())]
        for message in sent:
            seconds += self.speeds.time({"message": 1})
            if message.nbytes <= _INLINE:
                seconds += self.speeds.time({"payload": message.nbytes})
        self.busy[place] += seconds
        end = self.cores.take(time, seconds)
        label = (self._layers[index], COMPUTING)
        for message in sent:
            action = self._carry if message.nbytes <= _INLINE else self._encrypt
            self._later(end, partial(action, message), label)
        self._later(end, partial(self._step, place), label)

    def _work(self, index: int) -> float:
        """Seconds of an op and of what it needs that was put off until now."""
        seconds = self._seconds[index]
        if index in self._messages:
            return seconds
        for value in self.ops[index].operands:
            source = self._made[value]
            if source in self._lazy:
                self._lazy.discard(source)
                seconds += self._work(source)
        return seconds

    def _after(self, queue: Mapping[str, _Cause], link: str, time: float) -> float:
        """When it is a message's turn; if it waits, that is why what follows is late."""
        before = queue.get(link)
        if before is None or before.time <= time:
            return time
        self._now = before
        return before.time

    def _encrypt(self, message: Message, time: float) -> None:
        """On the connection's own thread, one message after the other."""
        seconds = self.speeds.time({"payload": message.nbytes})
        start = self._after(self._encrypted, message.link, time)
        end = self.cores.take(start, seconds)
        self._encrypted[message.link] = _Cause(end, _label(message), self._now)
        self._later(end, partial(self._carry, message), _label(message))

    def _carry(self, message: Message, time: float) -> None:
        """Over the network, one message after the other."""
        link = self.profile.link(message.link)
        end = self._after(self._carried, message.link, time)
        end += 8 * message.nbytes / link.bandwidth
        self._now = self._carried[message.link] = _Cause(end, _label(message), self._now)
        there = end + link.latency + self.speeds.time({"wake": 1})
        self._later(there, partial(self._receive, message), _label(message))

    def _receive(self, message: Message, time: float) -> None:
        seconds = self.speeds.time({"message": 1, "payload": message.nbytes})
        end = self.cores.take(time, seconds)
        self._later(end, partial(self._take, message), _label(message))

    def _take(self, message: Message, time: float) -> None:
        self._arrived.add(message.index)
        self.rounds[message.depth - 1] = time
        if message.index in self._waiting:
            self._step(self._waiting.pop(message.index), time)


def _label(message: Message) -> tuple[str, str]:
    return layer_of(message.loc, message.step), step_kind(message)


def _layers(workload: Workload, speeds: Speeds) -> dict[str, float]:
    """Per layer the local work of the party that has most; a region's ops count for their own."""
    found: dict[str, dict[str, float]] = {}
    for step in workload.plan.steps:
        if step.phase == ONLINE and step.place not in OWNER_PLACES:
            for layer, work in parts_of(step.op):
                places = found.setdefault(layer, {})
                places[step.place] = places.get(step.place, 0.0) + speeds.time(work)
    return {layer: max(places.values()) for layer, places in found.items()}


def timeline(
    workload: Workload, speeds: Speeds, profile: Profile, cores: int | None = None
) -> Timeline:
    """Predict one run.

    Args:
        workload: of the program.
        speeds: of every party's processor; one compute thread each.
        profile: the network.
        cores: if all parties are on one machine, its number of cores; None: each on its own.
    """
    run = _Run(workload, speeds, profile, cores)
    run.run()
    # The word that starts the clock goes one way to the parties before they begin.
    latencies = [profile.link(link_name("client", p)).latency for p in COMPUTE_PLACES]
    start = max(latencies) + speeds.time({"message": 2, "wake": 1})
    rounds = [start + time for time in run.rounds]
    path = {STARTING: start, **run.path()}
    return Timeline(start + run.end, run.busy, _layers(workload, speeds), rounds, path)
