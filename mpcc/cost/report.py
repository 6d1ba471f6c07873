"""Faces of a prediction: terminal table, JSON, and one self-contained HTML page."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpcc.cost.network import PROFILES, Profile
from mpcc.cost.predict import Cost, count
from mpcc.cost.speed import Speeds, load
from mpcc.cost.timeline import Timeline, Workload, timeline
from mpcc.errors import MpccError, printable
from mpcc.ir.calls import inline
from mpcc.ir.core import Module

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Report", "format_bytes", "format_seconds", "predict"]

_TEMPLATE = Path(__file__).parent / "report.html.j2"


def format_bytes(count: float) -> str:
    """Bytes for people, in powers of 1000.

    >>> format_bytes(999), format_bytes(1536), format_bytes(2_500_000)
    ('999 B', '1.54 kB', '2.5 MB')
    """
    units = iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while count >= 999.5 and unit != "TB":
        count, unit = count / 1000, next(units)
    return f"{count:.3g} {unit}"


def format_seconds(seconds: float) -> str:
    """A duration for people.

    >>> format_seconds(0), format_seconds(0.00012), format_seconds(2.5)
    ('0 s', '0.12 ms', '2.5 s')
    """
    if 0 < seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s"


@dataclass(frozen=True)
class Report:
    """A prediction under one network, and what its readers want to see with it.

    Attributes:
        cost: the counted figures.
        profile: the network that the times are for.
        manifest: the artifact's manifest, for the part on who learns what; empty without one.
        threat_model: whom the protocol protects against, in its own words.
        speeds: of the parties' processors.
        workload: what the program makes the parties do; None: no times are predicted.
    """

    cost: Cost
    profile: Profile
    manifest: Mapping[str, Any] = field(default_factory=dict)
    threat_model: str = ""
    speeds: Speeds = field(default_factory=load, repr=False)
    workload: Workload | None = field(default=None, repr=False)

    def _profiles(self) -> Iterable[Profile]:
        built_in = {name: PROFILES[name] for name in ("lan", "wan")}
        return {**built_in, self.profile.name: self.profile}.values()

    @cached_property
    def times(self) -> Mapping[str, Timeline]:
        """Per profile, the predicted course of a run; each party on a machine of its own."""
        if self.workload is None or not self.speeds.seconds:
            return {}
        return {p.name: timeline(self.workload, self.speeds, p) for p in self._profiles()}

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values: :meth:`mpcc.cost.Cost.to_json` for LAN, WAN and this one.

        With predicted times: ``processor``, ``seconds`` of a run per profile, and per layer
        ``local_seconds``.
        """
        found = self.cost.to_json(self._profiles())
        if self.times:
            found["processor"] = self.speeds.processor
            found["seconds"] = {name: t.seconds for name, t in self.times.items()}
            local = self.times[self.profile.name].layers
            for layer in found["ops"]:
                layer["local_seconds"] = local.get(layer["name"], 0.0)
        return found

    def json(self) -> str:
        """``cost.json``."""
        return json.dumps(self.to_json(), indent=1) + "\n"

    def headline(self) -> list[tuple[str, str]]:
        """The few figures that matter most, as (label, text)."""
        cost, seconds = self.cost, self.cost.seconds(self.profile)
        time = self.times.get(self.profile.name)
        total = []
        if time is not None:
            share = f"{format_seconds(max(time.busy.values()))} of it computing"
            text = f"{format_seconds(time.seconds)} per run, {share} (one core per party, "
            total = [(f"time ({self.profile.name})", text + f"{self.speeds.processor})")]
        return [
            *total,
            ("rounds", f"{cost.online.rounds} per run"),
            (
                "bytes",
                f"{format_bytes(cost.online.total_bytes)} per run over all links, "
                f"{format_bytes(cost.setup.total_bytes)} once for the weights",
            ),
            (
                f"network time ({self.profile.name})",
                f"{format_seconds(seconds.online)} per run, local computation not counted "
                f"({self.profile.describe()})",
            ),
        ]

    def table(self) -> Table:
        """A table per layer for the terminal."""
        from rich.table import Table

        cost = self.cost
        caption = "\n".join(f"{label}: {text}" for label, text in self.headline())
        table = Table(caption=caption, caption_justify="left")
        table.add_column("layer")
        for name in ("rounds", "sent", "share", "messages", "sent in setup", "products"):
            table.add_column(name, justify="right")
        time = self.times.get(self.profile.name)
        if time is not None:
            table.add_column("computing", justify="right")
        total = cost.online.total_bytes
        for layer in cost.layers:
            sent = layer.online.total_bytes
            table.add_row(
                printable(layer.name),
                str(layer.online.rounds),
                format_bytes(sent),
                f"{100 * sent / total:.1f} %" if total else "",
                str(layer.online.messages),
                format_bytes(layer.setup.total_bytes),
                f"{layer.macs:,}" if layer.macs else "",
                *([] if time is None else [format_seconds(time.layers.get(layer.name, 0.0))]),
            )
        table.add_section()
        table.add_row(
            "whole program",
            str(cost.online.rounds),
            format_bytes(total),
            "",
            str(cost.online.messages),
            format_bytes(cost.setup.total_bytes),
            f"{sum(layer.macs for layer in cost.layers):,}",
            *([] if time is None else [format_seconds(max(time.busy.values()))]),
        )
        return table

    def html(
        self,
        measured: Mapping[str, Any] | None = None,
        accuracy: Mapping[str, str] | None = None,
        picture: str = "",
        disclosed_bits: int | None = None,
    ) -> str:
        """A page that loads nothing from elsewhere.

        Args:
            measured: statistics of a run (``stats.json``), shown beside the prediction.
            accuracy: lines for the part on accuracy, label to text.
            picture: a ``data:image/...`` URI that is shown at the top.
            disclosed_bits: size of Phi.

        Raises:
            MpccError: the picture is not an embedded image.
        """
        import jinja2

        if picture and not picture.startswith("data:image/"):
            raise MpccError.of("E-report-picture", "the picture is not a data:image/ URI")
        environment = jinja2.Environment(
            autoescape=True,
            finalize=_shown,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["bytes"] = format_bytes
        environment.filters["seconds"] = format_seconds
        template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
        cost = self.cost
        return template.render(
            cost=cost,
            profile=self.profile,
            profiles=[(p, cost.seconds(p)) for p in self._profiles()],
            manifest=self.manifest,
            disclosed=list(self.manifest.get("disclosed", ())),
            phi=[(k, _compact(v)) for k, v in self.manifest.get("phi", {}).items()],
            disclosed_bits=disclosed_bits,
            threat_model=self.threat_model,
            kinds=_kinds(cost),
            largest_layer=max((x.online.total_bytes for x in cost.layers), default=0) or 1,
            largest_link=max(cost.online.bytes_sent.values(), default=0) or 1,
            comparison=_comparison(self, measured) if measured else [],
            accuracy=accuracy or {},
            picture=picture,
            times=self.times,
            local=self.times[self.profile.name].layers if self.times else {},
            processor=self.speeds.processor,
        )


def _shown(value: Any) -> Any:
    """Text without control characters; what the page's own macros made is as it should be."""
    return printable(value) if type(value) is str else value


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _kinds(cost: Cost) -> list[tuple[str, int]]:
    """Online bytes per kind of secure op, largest first."""
    kinds: dict[str, int] = {}
    for layer in cost.layers:
        for kind, sent in layer.steps.items():
            kinds[kind] = kinds.get(kind, 0) + sent
    return sorted(kinds.items(), key=lambda item: (-item[1], item[0]))


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


def predict(
    module: Module,
    profile: Profile = PROFILES["lan"],
    manifest: Mapping[str, Any] | None = None,
    threat_model: str = "",
) -> Report:
    """Count a verified party module, calls written out, and report it under a network.

    Args:
        module: the party level.
        profile: the network of the predicted times.
        manifest: the artifact's, for the HTML page.
        threat_model: the protocol's, for the HTML page.

    Raises:
        MpccError: the module is not of party level, or its ops have no clear place.
    """
    module = inline(module).module
    workload = Workload.of(module)
    return Report(count(module), profile, manifest or {}, threat_model, workload=workload)
