"""The cost of a program as one self-contained HTML page."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpcc.cost import Cost, Report, Timeline, format_seconds
from mpcc.cost.predict import layer_of
from mpcc.cost.timeline import STARTING
from mpcc.errors import MpccError
from mpcc.ir.schedule import ONLINE
from mpcc.reports.decisions import Decision
from mpcc.reports.html import page
from mpcc.reports.private import Owner
from mpcc.reports.tree import Row, tree

__all__ = ["cost_page"]

_SHOWN = 400
"""Layers with bars and steps; of more, those that cost least stand in a plain table."""
_BLOCKS = 500
"""Blocks of a picture of rounds."""


def cost_page(
    report: Report,
    *,
    measured: Mapping[str, Any] | None = None,
    traced: Mapping[str, float] | None = None,
    accuracy: Mapping[str, str] | None = None,
    picture: str = "",
    disclosed_bits: int | None = None,
    decisions: Sequence[Decision] = (),
    owner: Owner | None = None,
) -> str:
    """A page that loads nothing from elsewhere.

    Args:
        report: the prediction.
        measured: statistics of a run (``stats.json``), shown beside the prediction.
        traced: per layer, measured seconds of local work of the party that has most.
        accuracy: lines for the part on accuracy, label to text.
        picture: a ``data:image/...`` URI that is shown at the top.
        disclosed_bits: size of Phi.
        decisions: the public ones.
        owner: from the private report; the page is private with it.

    Raises:
        MpccError: the picture is not an embedded image.
    """
    if picture and not picture.startswith("data:image/"):
        raise MpccError.of("E-report-picture", "the picture is not a data:image/ URI")
    cost = report.cost
    root = tree(report, None if owner is None else owner.nodes)
    rows = [row for _, row in root.walk() if row.kind == "layer"]
    shown, rest = _important(rows, report.profile.name)
    errors = dict(owner.errors) if owner else {}
    reasons = list(decisions)
    if owner is not None:
        reasons += [Decision(k, *pair) for k, pairs in owner.reasons.items() for pair in pairs]
        found = {f"error of {name}": f"{error:.3g}" for name, error in owner.measured.items()}
        accuracy = {**found, **(accuracy or {})}
    blocks = _rounds(report)
    return page(
        "cost.html.j2",
        "page.css",
        "cost.js",
        root=root,
        groups=[(n, row) for n, row in root.walk() if row.kind == "group"],
        layers=shown,
        rest=rest,
        networks=list(report.times),
        largest=_largest(rows, list(report.times)),
        errors=errors,
        largest_error=max(errors.values(), default=0.0),
        traced=dict(traced or {}),
        decisions=reasons,
        lines=[_line(name, t, blocks) for name, t in report.times.items()],
        rounds=[_round_row(block, report) for block in blocks],
        merged=len(blocks) < cost.online.rounds,
        starting=STARTING,
        owner=owner,
        cost=cost,
        profiles=[(p, cost.seconds(p)) for p in report.profiles()],
        manifest=report.manifest,
        disclosed=list(report.manifest.get("disclosed", ())),
        phi=[(k, _compact(v)) for k, v in report.manifest.get("phi", {}).items()],
        disclosed_bits=disclosed_bits,
        threat_model=report.threat_model,
        kinds=_kinds(cost),
        largest_link=max(cost.online.bytes_sent.values(), default=0) or 1,
        comparison=_comparison(report, measured) if measured else [],
        accuracy=accuracy or {},
        picture=picture,
        times=report.times,
        processor=report.speeds.processor,
    )


# --- layers --------------------------------------------------------------------------------------


def _important(rows: Sequence[Row], network: str) -> tuple[list[Row], list[Row]]:
    """The rows that cost most, and the others; both in the program's order."""

    def weight(index: int) -> tuple[float, int]:
        row = rows[index]
        return row.seconds.get(network, 0.0), row.sent + row.setup

    order = sorted(range(len(rows)), key=weight, reverse=True)
    chosen = set(order[:_SHOWN])
    return (
        [row for i, row in enumerate(rows) if i in chosen],
        [row for i, row in enumerate(rows) if i not in chosen],
    )


def _largest(rows: Sequence[Row], networks: Sequence[str]) -> Row:
    """The largest figure of each kind; bars of time have one scale for each network."""
    return Row(
        "",
        "layer",
        seconds={n: max((row.seconds[n] for row in rows), default=0.0) for n in networks},
        sent=max((row.sent for row in rows), default=0),
        rounds=max((row.rounds for row in rows), default=0),
    )


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _kinds(cost: Cost) -> list[tuple[str, int]]:
    """Online bytes per kind of secure op, largest first."""
    kinds: dict[str, int] = {}
    for layer in cost.layers:
        for kind, sent in layer.steps.items():
            kinds[kind] = kinds.get(kind, 0) + sent
    return sorted(kinds.items(), key=lambda item: (-item[1], item[0]))


# --- rounds --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rounds:
    """Neighbouring rounds, from ``first`` to ``last``, counted from 1."""

    first: int
    last: int
    sent: int
    layers: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    @property
    def text(self) -> str:
        more = f" and {len(self.layers) - 3} more" if len(self.layers) > 3 else ""
        return ", ".join(self.layers[:3]) + more


def _rounds(report: Report) -> list[_Rounds]:
    """All rounds of a run, so many together that a picture can show them."""
    count = report.cost.online.rounds
    if report.workload is None or not count:
        return []
    sent = [0] * (count + 1)
    layers: list[dict[str, None]] = [{} for _ in range(count + 1)]
    for message in report.workload.plan.messages:
        if message.phase == ONLINE:
            sent[message.depth] += message.nbytes
            layers[message.depth].setdefault(layer_of(message.loc, message.step))
    step = math.ceil(count / _BLOCKS)
    found = []
    for first in range(1, count + 1, step):
        last = min(first + step - 1, count)
        names = {name: None for group in layers[first : last + 1] for name in group}
        found.append(_Rounds(first, last, sum(sent[first : last + 1]), tuple(names)))
    return found


def _line(name: str, times: Timeline, blocks: Sequence[_Rounds]) -> dict[str, Any]:
    """One picture: blocks from 0 to 1000 across, 0 to 100 high."""
    scale = 1000 / times.seconds if times.seconds else 0.0
    top = math.log1p(max((block.sent for block in blocks), default=0)) or 1.0
    found = []
    start = 0.0
    for block in blocks:
        # Rounds of other chains may end before this one.
        end = max(start, *times.rounds[block.first - 1 : block.last])
        found.append(
            {
                "x": start * scale,
                "width": (end - start) * scale,
                "height": 5 + 95 * math.log1p(block.sent) / top,
                "text": f"round {block.name}: {block.sent:,} bytes, "
                f"{format_seconds(end - start)}, {block.text}",
            }
        )
        start = end
    return {"network": name, "seconds": times.seconds, "blocks": found}


def _round_row(block: _Rounds, report: Report) -> dict[str, Any]:
    ends = [max(t.rounds[block.first - 1 : block.last]) for t in report.times.values()]
    return {"name": block.name, "layers": block.text, "sent": block.sent, "ends": ends}


# --- measured ------------------------------------------------------------------------------------
def _comparison(report: Report, measured: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(figure, predicted, measured) for what the statistics have."""
    online, seconds = report.cost.online, report.cost.seconds(report.profile)
    rows: list[tuple[str, str, str]] = []
    if "rounds" in measured:
        rows.append(("rounds", str(online.rounds), str(measured["rounds"])))
    sent = measured.get("bytes_sent")
    if isinstance(sent, Mapping):
        for link in sorted({*online.bytes_sent, *sent}):
            rows.append(
                (f"bytes {link}", f"{online.bytes_sent.get(link, 0):,}", f"{sent.get(link, 0):,}")
            )
        rows.append(("bytes, all links", f"{online.total_bytes:,}", f"{sum(sent.values()):,}"))
    times = measured.get("online_seconds")
    if times:
        name = report.profile.name
        predicted = report.times.get(name)
        what = f"network {name} alone" if predicted is None else f"network {name}, one core each"
        online_seconds = seconds.online if predicted is None else predicted.seconds
        rows.append(
            (
                f"seconds per run (predicted: {what})",
                format_seconds(online_seconds),
                f"{format_seconds(statistics.median(times))} (median of {len(times)}, "
                f"network {measured.get('network', 'unknown')})",
            )
        )
    if measured.get("setup_seconds") is not None:
        rows.append(
            (
                "seconds of setup",
                format_seconds(seconds.setup),
                format_seconds(measured["setup_seconds"]),
            )
        )
    if measured.get("max_deviation") is not None:
        rows.append(
            ("largest deviation from the plain model", "", f"{measured['max_deviation']:.3g}")
        )
    return rows
