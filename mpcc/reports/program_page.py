"""The program at its three levels as one self-contained HTML page with graphs to walk through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpcc.cost import Report, format_bytes, format_seconds
from mpcc.cost.predict import op_layer
from mpcc.cost.work import work_of
from mpcc.errors import printable
from mpcc.ir.calls import inline, numbered
from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.schedule import Message
from mpcc.ir.text import format_attr
from mpcc.ir.types import BitType, SecureType, Type
from mpcc.reports.html import page
from mpcc.reports.layout import layered
from mpcc.reports.private import Owner
from mpcc.reports.tree import Row, tree

__all__ = ["Level", "program_page"]

_LONGEST = 400
"""Letters of an attribute that are shown."""


@dataclass(frozen=True)
class Level:
    """One level of a program.

    Attributes:
        name: ``tensor``, ``secure`` or ``party``.
        module: the program.
    """

    name: str
    module: Module


class _Strings:
    """Texts that stand once in the page, and are named by their number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(printable(text), len(self.numbers))


def _width(type_: Type) -> str:
    """What the type says of a value's bits; empty if nothing."""
    if isinstance(type_, SecureType):
        return (
            f"{type_.width} bits of a ring of {type_.ring}, {type_.frac} of them fraction bits: "
            f"below 2^{type_.width - type_.frac} in size"
        )
    return "1 bit" if isinstance(type_, BitType) else ""


def _cost(row: Row) -> list[tuple[str, str]]:
    """Figures of a layer or step for people."""
    found = [(f"time ({n})", format_seconds(s)) for n, s in row.seconds.items()]
    if row.kind == "layer":
        found.append(("computing", format_seconds(row.computing)))
    found += [("sent", format_bytes(row.sent)), ("rounds", str(row.rounds))]
    if row.setup:
        found.append(("sent in setup", format_bytes(row.setup)))
    return found


class _Graph:
    """What the page knows of one level."""

    def __init__(
        self,
        name: str,
        function: Function,
        messages: Mapping[Op, Sequence[Message]],
        report: Report,
        rows: Mapping[str, Row],
        owner: Owner,
        order: Mapping[str, int],
    ) -> None:
        self._texts = _Strings()
        self._rows = rows
        self._report = report
        ops = function.ops
        self._messages = messages
        made: dict[Value, int] = {v: i for i, op in enumerate(ops) for v in op.results}
        uses = [[made[v] for v in op.operands if v in made] for op in ops]
        members: dict[str, list[int]] = {}
        for index, op in enumerate(ops):
            members.setdefault(op_layer(op), []).append(index)
        # As the level above has them: the party level prepares weights of all layers at its start.
        last = len(order)
        members = dict(
            sorted(members.items(), key=lambda item: (order.get(item[0], last), item[1][-1]))
        )
        of = {index: n for n, group in enumerate(members.values()) for index in group}
        between = ((of[s], of[i]) for i, found in enumerate(uses) for s in found if of[s] != of[i])
        edges = list(dict.fromkeys(between))
        places = layered(len(members), edges)
        inner: list[tuple[int, int]] = [(0, 0)] * len(ops)
        for group in members.values():
            number = {index: n for n, index in enumerate(group)}
            own = ((number[s], number[i]) for i in group for s in uses[i] if s in number)
            for index, place in zip(group, layered(len(group), own), strict=True):
                inner[index] = place
        self.json: dict[str, Any] = {
            "name": printable(name),
            "layers": [
                self._layer(name, group, place, owner)
                for (name, group), place in zip(members.items(), places, strict=True)
            ],
            "edges": edges,
            "ops": [
                self._op(index, op, of[index], inner[index], uses[index])
                for index, op in enumerate(ops)
            ],
            "texts": list(self._texts.numbers),
        }

    def _layer(
        self, name: str, group: Sequence[int], place: tuple[int, int], owner: Owner
    ) -> dict[str, Any]:
        row = self._rows.get(name)
        sent = self._report.cost.online.total_bytes
        return {
            "name": printable(name),
            "source": printable(owner.nodes.get(name, "")),
            "at": place,
            "ops": group,
            "heat": 0.0 if row is None or not sent else round(row.sent / sent, 4),
            "cost": [] if row is None else _cost(row),
        }

    def _op(
        self, index: int, op: Op, layer: int, place: tuple[int, int], uses: Sequence[int]
    ) -> list[Any]:
        """[name, layer, x, y, operands, types, attributes, widths, cost], texts by number."""
        return [
            self._texts(op.name.partition(".")[2]),
            layer,
            *place,
            uses,
            self._texts(", ".join(str(r.type) for r in op.results)),
            self._texts(_attributes(op)),
            self._texts("; ".join(filter(None, (_width(r.type) for r in op.results)))),
            self._texts(self._own_cost(op)),
        ]

    def _own_cost(self, op: Op) -> str:
        """What is known of the op itself; else what its layer's step of that kind costs."""
        messages = self._messages.get(op, ())
        if messages:
            message = messages[0]
            text = f"{message.nbytes:,} bytes {message.link}, "
            if len(messages) > 1:
                return f"{text}in each of {len(messages)} calls"
            return f"{text}{message.phase}, round {message.depth}"
        kind = op.name.partition(".")[2]
        if op.name.startswith("party."):
            seconds = self._report.speeds.time(work_of(op)) if self._report.times else 0.0
            return f"{format_seconds(seconds)} of computing" if seconds else ""
        row = self._rows.get(op.loc)
        steps = () if row is None else row.below
        found = next((s for s in steps if s.name == kind), None)
        if found is None:
            return ""
        text = ", ".join(f"{label} {value}" for label, value in _cost(found))
        return f"all of this kind in the layer: {text}"


def _messages(module: Module, report: Report) -> dict[Op, list[Message]]:
    """What each op of a party program sends: an op of a function in every call."""
    found: dict[Op, list[Message]] = {}
    if report.workload is not None:
        ops, rows = numbered(module), inline(module).rows
        for message in report.workload.plan.messages:
            found.setdefault(ops[rows[message.index]], []).append(message)
    return found


def _attributes(op: Op) -> str:
    found = ", ".join(f"{key} = {format_attr(value)}" for key, value in op.attrs.items())
    if op.body is not None:
        found += "; ".join(["", *(inner.name.partition(".")[2] for inner in op.body.ops)])
    return found if len(found) <= _LONGEST else found[:_LONGEST] + " …"


def program_page(
    levels: Iterable[Level], report: Report, first: str = "secure", owner: Owner | None = None
) -> str:
    """A page with the graph of every level, collapsed to layers.

    Functions beside ``@main`` have graphs of their own, behind that of their level.

    Args:
        levels: of one program, from the tensor level on.
        report: its cost.
        first: the level that is shown first.
        owner: from the private report, for the nodes of the source model; the page is private
            with it.
    """
    root = tree(report)
    rows = {row.layer: row for _, row in root.walk() if row.kind == "layer"}
    graphs: list[dict[str, Any]] = []
    orders: dict[str, dict[str, int]] = {}
    for level in levels:
        messages = _messages(level.module, report) if level.name == "party" else {}
        for name, function in level.module.functions.items():
            shown = level.name if name == "main" else f"{level.name} @{name}"
            order = orders.get(name, {})
            graph = _Graph(shown, function, messages, report, rows, owner or Owner(), order).json
            orders[name] = {layer["name"]: place for place, layer in enumerate(graph["layers"])}
            graphs.append(graph)
    return page(
        "program.html.j2",
        "program.css",
        "program.js",
        graphs=graphs,
        first=first,
        manifest=report.manifest,
        owner=owner,
        cost=report.cost,
    )
