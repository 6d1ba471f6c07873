"""The static schedule of a party program: phases, depths, messages, and every place's order.

One computation that cost figures, the emitter, the native engine (its table is compared with this
one) and the interpreter share.

* *Phase* of an op: ``online`` if an operand is online, or if it is an input of a run or a draw from
  a run's key; else ``setup``. A session runs the setup phase once and keeps its values.
* *Depth* of a value: the longest chain of messages behind it within its phase. Sources have 0, a
  message adds 1, setup values count 0 in the online phase. Rounds are the largest depth.
* *Message id*: position among the ``party.transfer`` ops of ``@main``.
* *Order of a place*: its ops by (setup first, depth, position). A transfer stands in the order of
  its receiver; its sender posts it as soon as the operand is ready. Whoever follows the order
  cannot deadlock: an op of depth d waits only for messages whose senders are done with depth d - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.calls import inline
from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.types import PLACES, nbytes_of, place_of

__all__ = ["ONLINE", "SETUP", "Message", "Schedule", "Step", "link_name", "schedule"]

SETUP = "setup"
ONLINE = "online"


@dataclass(frozen=True)
class Step:
    """One op of ``@main`` in time and space.

    Attributes:
        index: position in ``@main``.
        place: where it runs; a transfer's receiver.
        phase: ``setup`` or ``online``.
        depth: messages in the longest chain up to and including this op, within the phase.
    """

    index: int
    op: Op
    place: str
    phase: str
    depth: int


@dataclass(frozen=True)
class Message:
    """One ``party.transfer``.

    Attributes:
        id: position among the transfers.
        index: position in ``@main``.
        source: sending place.
        to: receiving place.
        nbytes: payload bytes.
        depth: rounds of the phase that are over when it has arrived.
        step: name of the protocol step.
        loc: where the op comes from.
    """

    id: int
    index: int
    source: str
    to: str
    nbytes: int
    depth: int
    phase: str
    step: str
    loc: str

    @property
    def link(self) -> str:
        """Directed link, such as ``0->1`` or ``client->0``."""
        return link_name(self.source, self.to)


@dataclass(frozen=True)
class Schedule:
    """Steps by op index, messages by id, and the order of every place as op indices."""

    steps: tuple[Step, ...]
    messages: tuple[Message, ...]
    places: dict[str, tuple[int, ...]]

    def rounds(self, phase: str) -> int:
        """The longest chain of dependent messages of a phase."""
        return max((m.depth for m in self.messages if m.phase == phase), default=0)


def link_name(source: str, to: str) -> str:
    """Name of a directed link in reports: compute places go by their index.

    >>> link_name("P0", "P2"), link_name("client", "P1")
    ('0->2', 'client->1')
    """
    return f"{source.removeprefix('P')}->{to.removeprefix('P')}"


def _draws(function: Function) -> list[str]:
    """Phases of the draws of a body."""
    return [op.attrs["phase"] for op in function.ops if "phase" in op.attrs]


def _own_phases(op: Op) -> Sequence[str]:
    """Phases that the op itself names, operands aside."""
    if op.name == "party.input":
        return [ONLINE]
    if op.body is not None:
        return _draws(op.body)
    return [op.attrs["phase"]] if "phase" in op.attrs else []


class _Streams:
    """The draws seen so far: a (key, phase, stream) has one type and is drawn once per place.

    Every draw takes its stream from block 0. Were one drawn as two types, or twice at a place, a
    mask would be used twice, and the difference of two messages would show what they hide.
    """

    def __init__(self) -> None:
        self._types: dict[tuple[str, str, int], str] = {}
        self._places: set[tuple[str, str, int, str]] = set()

    def claim(self, op: Op) -> str:
        """What is wrong with this draw beside the earlier ones; empty if nothing."""
        key = (op.attrs["key"], op.attrs["phase"], op.attrs["stream"])
        place = op.attrs["place"]
        what = str(op.result.type).removesuffix(place)
        name = f"stream {key[2]} of key {key[0]} ({key[1]})"
        if self._types.setdefault(key, what) != what:
            return f"{name} is drawn as two types"
        if (*key, place) in self._places:
            return f"{name} is drawn twice at {place}"
        self._places.add((*key, place))
        return ""


def schedule(module: Module) -> Schedule:
    """The schedule of a verified party module, with its calls written out; O(ops + operands).

    Raises:
        MpccError: all ops that have no place or mix places, regions that run online but draw from
            a key of the setup, and draws that use a stream again.
    """
    if module.level != "party":
        raise MpccError.of("E-ir-level", f"a schedule needs a party module, not {module.level}")
    module = inline(module).module
    problems: list[Diagnostic] = []
    at: dict[Value, tuple[str, int]] = {}
    steps: list[Step] = []
    messages: list[Message] = []
    streams = _Streams()
    for index, op in enumerate(module.main.ops):
        where = f"@main, op {index} {op.name}" + (f" (from {op.loc})" if op.loc else "")
        for draw in [op] if op.body is None else op.body.ops:
            if "stream" in draw.attrs and (what := streams.claim(draw)):
                problems.append(Diagnostic("E-schedule-stream", what, where))
        own = _own_phases(op)
        online = ONLINE in own or any(at[v][0] == ONLINE for v in op.operands)
        phase = ONLINE if online else SETUP
        if any(p != phase for p in own):
            # An engine holds the keys of one phase at a time.
            what = "a region that runs online draws from a key of the setup"
            problems.append(Diagnostic("E-schedule-phase", what, where))
        depth = max((at[v][1] for v in op.operands if at[v][0] == phase), default=0)
        sources = {place_of(v.type) for v in op.operands}
        places = {place_of(r.type) for r in op.results} or sources
        transfer = op.name == "party.transfer"
        if not transfer and op.body is not None:
            places |= {place_of(r.type) for inner in op.body.ops for r in inner.results}
        if len(places) != 1 or len(sources) > 1 or (not transfer and not sources <= places):
            found = ", ".join(sorted(places | sources))
            what = f"must be at one place, not: {found or 'none'}"
            problems.append(Diagnostic("E-schedule-place", what, where))
            places = {""}  # reported above; the rest of the program is still looked at
        place = next(iter(places))
        depth += transfer
        if transfer:
            messages.append(
                Message(
                    id=len(messages),
                    index=index,
                    source=next(iter(sources), ""),
                    to=place,
                    nbytes=nbytes_of(op.result.type),
                    depth=depth,
                    phase=phase,
                    step=op.attrs["step"],
                    loc=op.loc,
                )
            )
        steps.append(Step(index, op, place, phase, depth))
        for result in op.results:
            at[result] = (phase, depth)
    collect(problems)
    ordered = sorted(steps, key=lambda s: (s.phase == ONLINE, s.depth, s.index))
    orders = {p: tuple(s.index for s in ordered if s.place == p) for p in PLACES}
    return Schedule(tuple(steps), tuple(messages), {p: o for p, o in orders.items() if o})
