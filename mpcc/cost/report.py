"""A prediction under a network: its figures for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mpcc.cost.network import PROFILES, Profile
from mpcc.cost.predict import Cost, count
from mpcc.cost.speed import Speeds, load
from mpcc.cost.timeline import Timeline, Workload, timeline
from mpcc.ir.calls import inline
from mpcc.ir.core import Module

__all__ = ["Report", "format_bytes", "format_seconds", "predict"]


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

    def profiles(self) -> Iterable[Profile]:
        """LAN, WAN and this one."""
        built_in = {name: PROFILES[name] for name in ("lan", "wan")}
        return {**built_in, self.profile.name: self.profile}.values()

    @cached_property
    def times(self) -> Mapping[str, Timeline]:
        """Per profile, the predicted course of a run; each party on a machine of its own."""
        if self.workload is None or not self.speeds.seconds:
            return {}
        return {p.name: timeline(self.workload, self.speeds, p) for p in self.profiles()}

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values: :meth:`mpcc.cost.Cost.to_json` for LAN, WAN and this one.

        Per layer also ``step_rounds``. With predicted times: ``processor``, ``seconds`` of a run
        per profile, and per layer ``local_seconds`` and ``seconds``, its part of the chain that
        the run's end waits for.
        """
        found = self.cost.to_json(self.profiles())
        for row, layer in zip(found["ops"], self.cost.layers, strict=True):
            row["step_rounds"] = dict(layer.step_rounds)
        if self.times:
            found["processor"] = self.speeds.processor
            found["seconds"] = {name: t.seconds for name, t in self.times.items()}
            local = self.times[self.profile.name].layers
            on_path = {name: t.on_path for name, t in self.times.items()}
            for row in found["ops"]:
                row["local_seconds"] = local.get(row["name"], 0.0)
                row["seconds"] = {n: part.get(row["name"], 0.0) for n, part in on_path.items()}
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
