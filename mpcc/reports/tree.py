"""The cost of a program as a tree: whole program, groups of layers, layers, steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpcc.cost import LayerCost, Report, Timeline

__all__ = ["SORTS", "Row", "tree"]


@dataclass(frozen=True)
class Row:
    """One node of the tree; figures of a group are sums over what is below it.

    Attributes:
        name: of a group, layer or step.
        kind: ``program``, ``group``, ``layer`` or ``step``.
        layer: the layer's label in the program; empty for groups.
        seconds: per network, the part of a run's predicted time that is its own: what the run's
            end waits for, so that parts add up to the whole. Empty without predicted times.
        computing: seconds of local work, at the party that has most; also what nobody waits for.
        sent: online bytes over all links.
        rounds: of a layer or group the longest chain of its own messages, added up over layers; of
            a step the number of rounds in which it sends.
        messages: online.
        setup: bytes sent once.
        products: ring multiplications of a party.
        below: its parts, in the order of the program.
    """

    name: str
    kind: str
    layer: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    computing: float = 0.0
    sent: int = 0
    rounds: int = 0
    messages: int = 0
    setup: int = 0
    products: int = 0
    below: tuple[Row, ...] = ()

    def walk(self, depth: int | None = None, level: int = 0) -> Iterator[tuple[int, Row]]:
        """(level, row) of this row and all below down to a level, in order."""
        yield level, self
        if depth is None or level < depth:
            for row in self.below:
                yield from row.walk(depth, level + 1)

    def sorted(self, by: str, network: str) -> Row:
        """The same tree with every row's parts in another order.

        Args:
            by: of :data:`SORTS`.
            network: whose times count.
        """
        key = SORTS[by]
        if key is None:
            return self
        parts = [row.sorted(by, network) for row in self.below]
        parts.sort(key=lambda row: key(row, network))
        return self._with(tuple(parts))

    def _with(self, below: tuple[Row, ...]) -> Row:
        fields: dict[str, Any] = {**self.__dict__, "below": below}
        return Row(**fields)


SORTS: Mapping[str, Callable[[Row, str], Any] | None] = {
    "program": None,
    "time": lambda row, network: (-row.seconds.get(network, 0.0), -row.computing),
    "bytes": lambda row, network: -row.sent,
    "rounds": lambda row, network: (-row.rounds, -row.sent),
    "name": lambda row, network: row.name,
}
"""Orders by name; ``program`` is that of the program."""

_DEEPEST = 16
"""Levels of groups at most, whatever a model names its nodes."""


def _parts(times: Timeline) -> dict[str, dict[str, float]]:
    """Per layer, seconds of the run by step."""
    found: dict[str, dict[str, float]] = {}
    for (layer, step), seconds in times.path.items():
        found.setdefault(layer, {})[step] = seconds
    return found


def _steps(layer: LayerCost, parts: Mapping[str, Mapping[str, float]]) -> Iterator[Row]:
    """The steps of a layer, and its local work; ``parts`` are its times per network and step."""
    kinds = dict.fromkeys((*layer.steps, *(step for found in parts.values() for step in found)))
    for kind in kinds:
        yield Row(
            kind,
            "step",
            layer.name,
            {name: found.get(kind, 0.0) for name, found in parts.items()},
            sent=layer.steps.get(kind, 0),
            rounds=layer.step_rounds.get(kind, 0),
        )


def _layer(
    layer: LayerCost, name: str, parts: Mapping[str, Mapping[str, float]], computing: float
) -> Row:
    return Row(
        name,
        "layer",
        layer.name,
        {network: sum(found.values()) for network, found in parts.items()},
        computing,
        layer.online.total_bytes,
        layer.online.rounds,
        layer.online.messages,
        layer.setup.total_bytes,
        layer.macs,
        tuple(_steps(layer, parts)),
    )


def _sum(name: str, rows: Sequence[Row]) -> Row:
    networks = rows[0].seconds if rows else {}
    return Row(
        name,
        "group",
        "",
        {n: sum(row.seconds[n] for row in rows) for n in networks},
        sum(row.computing for row in rows),
        sum(row.sent for row in rows),
        sum(row.rounds for row in rows),
        sum(row.messages for row in rows),
        sum(row.setup for row in rows),
        sum(row.products for row in rows),
        tuple(rows),
    )


def _grouped(rows: Sequence[tuple[tuple[str, ...], Row]], depth: int = 0) -> tuple[Row, ...]:
    """Rows under the groups that their paths name; a group of one row is no group."""
    groups: dict[str, list[tuple[tuple[str, ...], Row]]] = {}
    for index, (path, row) in enumerate(rows):
        # A space is in no part of a path that was split there.
        key = path[depth] if depth < len(path) else f" {index}"
        groups.setdefault(key, []).append((path, row))
    found = []
    for key, members in groups.items():
        if len(members) == 1:
            found.append(members[0][1])
        elif len(groups) == 1:
            return _grouped(members, depth + 1)
        else:
            found.append(_sum(key, _grouped(members, depth + 1)))
    return tuple(found)


def tree(report: Report, nodes: Mapping[str, str] | None = None) -> Row:
    """The tree of a prediction.

    Args:
        report: the prediction.
        nodes: the source model's nodes by layer. Their names make the groups: ``a/b/Conv`` is in
            ``b``, which is in ``a``. Without them all layers stand side by side.
    """
    chosen = report.times.get(report.profile.name)
    computing: Mapping[str, float] = {} if chosen is None else chosen.layers
    times = {network: _parts(found) for network, found in report.times.items()}
    rows = []
    for layer in report.cost.layers:
        node = (nodes or {}).get(layer.name, "")
        path = tuple(part.strip() for part in node.split("/") if part.strip())[:-1][:_DEEPEST]
        name = f"{layer.name} ({node})" if node and node != layer.name else layer.name
        parts = {network: found.get(layer.name, {}) for network, found in times.items()}
        rows.append((path, _layer(layer, name, parts, computing.get(layer.name, 0.0))))
    online, setup = report.cost.online, report.cost.setup
    return Row(
        "whole program",
        "program",
        "",
        {name: t.seconds for name, t in report.times.items()},
        0.0 if chosen is None else max(chosen.busy.values()),
        online.total_bytes,
        online.rounds,
        online.messages,
        setup.total_bytes,
        sum(layer.macs for layer in report.cost.layers),
        _grouped(rows),
    )
