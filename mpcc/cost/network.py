"""Network profiles: latency and bandwidth of every directed link."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.phi import MAX_ROUND_BYTES
from mpcc.ir.schedule import link_name
from mpcc.ir.types import COMPUTE_PLACES, OWNER_PLACES, PLACES

__all__ = ["PROFILES", "Link", "Profile", "profile"]

_MAX_FILE = 1 << 20
_LINKS = frozenset(link_name(a, b) for a in PLACES for b in PLACES if a != b)


@dataclass(frozen=True)
class Link:
    """One direction of a pair of endpoints.

    Attributes:
        latency: seconds, one way.
        bandwidth: bits per second; infinite if it does not matter.
    """

    latency: float
    bandwidth: float

    def seconds(self, nbytes: int) -> float:
        """Time from the first byte leaving to the last byte arriving."""
        return self.latency + 8 * nbytes / self.bandwidth


@dataclass(frozen=True)
class Profile:
    """A network: one kind of link for all pairs, with exceptions. Links are full duplex.

    Attributes:
        name: that of a built-in one, or the file's.
        default: every directed link that is not in ``links``.
        links: exceptions, by link name such as ``0->1`` or ``client->0``.
    """

    name: str
    default: Link
    links: Mapping[str, Link] = field(default_factory=dict)

    def link(self, name: str) -> Link:
        """The directed link of this name."""
        return self.links.get(name, self.default)

    @property
    def round_bytes(self) -> int:
        """What a link between parties carries in the time of a round, to two digits.

        Of links that differ, the longest way and the slowest link count. 0: rounds, or bytes, cost
        no time.
        """
        names = [link_name(a, b) for a in COMPUTE_PLACES for b in COMPUTE_PLACES if a != b]
        links = [self.link(name) for name in names]
        carried = max(x.latency for x in links) * min(x.bandwidth for x in links) / 8
        if not math.isfinite(carried) or carried < 1:
            return 0
        unit = 10 ** max(int(math.log10(carried)) - 1, 0)
        return min(round(carried / unit) * unit, MAX_ROUND_BYTES)

    def to_toml(self, comment: str = "") -> str:
        """The file that :func:`profile` reads; ValueError if a bandwidth is unlimited.

        Args:
            comment: lines for its head.
        """

        def rows(link: Link) -> list[str]:
            if not math.isfinite(link.bandwidth):
                raise ValueError(f"{self.name} has links without a limit")
            return [
                f"latency_ms = {link.latency * 1e3:.6g}",
                f"bandwidth_mbit = {link.bandwidth / 1e6:.6g}",
            ]

        lines = [f"# {line}" for line in comment.splitlines()] + rows(self.default)
        for name, link in sorted(self.links.items()):
            lines += ["", f'[links."{name}"]', *rows(link)]
        return "\n".join(lines) + "\n"

    def describe(self) -> str:
        """One line for reports."""
        if not math.isfinite(self.default.bandwidth):
            speed = "unlimited bandwidth"
        else:
            speed = f"{self.default.bandwidth / 1e6:g} Mbit/s"
        more = f", {len(self.links)} links differ" if self.links else ""
        return f"{speed} and {self.default.latency * 1e3:g} ms one way per link{more}"


_UPLINK = Link(15e-3, 20e6)
_DOWNLINK = Link(15e-3, 100e6)

PROFILES: Mapping[str, Profile] = {
    "lan": Profile("lan", Link(0.1e-3, 10e9)),
    "wan": Profile("wan", Link(20e-3, 352e6)),
    # Parties in data centres of one region, owners behind an access line that is slower upwards.
    "edge": Profile(
        "edge",
        Link(5e-3, 1e9),
        {
            link_name(*ends): link
            for owner in OWNER_PLACES
            for party in COMPUTE_PLACES
            for ends, link in (((owner, party), _UPLINK), ((party, owner), _DOWNLINK))
        },
    ),
    "none": Profile("none", Link(0.0, math.inf)),
}
"""Built-in profiles; ``none`` is a network that costs nothing."""


def profile(name: str) -> Profile:
    """A built-in profile, or one from a TOML file.

    ::

        latency_ms = 5          # one way
        bandwidth_mbit = 1000
        [links."0->1"]          # optional exceptions, per direction
        latency_ms = 30

    Raises:
        MpccError: ``E-network-profile``; all mistakes in the file at once.
    """
    if name in PROFILES:
        return PROFILES[name]
    if not name.endswith(".toml"):
        raise MpccError.of(
            "E-network-profile",
            f"unknown network {name!r}",
            fix=f"use {', '.join(PROFILES)} or a file that ends in .toml",
        )
    table = _read(Path(name))
    problems: list[Diagnostic] = []

    def number(source: Mapping[str, Any], key: str, fallback: float | None, where: str) -> float:
        value = source.get(key, fallback)
        # No network is so fast; and an integer may be too long for a float.
        usable = type(value) in (int, float) and 0 <= value < 2.0**64
        # No latency is a network; no bandwidth is none.
        if usable and (value > 0 or key == "latency_ms"):
            return float(value)
        problems.append(Diagnostic("E-network-profile", f"{key} must be a positive number", where))
        return 1.0

    def link(source: Mapping[str, Any], where: str, fallback: Link | None) -> Link:
        unknown = sorted(set(source) - {"latency_ms", "bandwidth_mbit", "links"})
        problems.extend(Diagnostic("E-network-profile", f"unknown key {k}", where) for k in unknown)
        base = (fallback.latency * 1e3, fallback.bandwidth / 1e6) if fallback else (None, None)
        latency = number(source, "latency_ms", base[0], where)
        bandwidth = number(source, "bandwidth_mbit", base[1], where)
        return Link(latency / 1e3, bandwidth * 1e6)

    default = link(table, name, None)
    links: dict[str, Link] = {}
    exceptions = table.get("links", {})
    for key, value in exceptions.items() if isinstance(exceptions, dict) else [("links", None)]:
        if key not in _LINKS or not isinstance(value, dict):
            problems.append(
                Diagnostic(
                    "E-network-profile", f"{key!r} is not a link", name, 'write [links."0->1"]'
                )
            )
            continue
        links[key] = link(value, f"{name}, links.{key}", default)
    collect(problems)
    return Profile(Path(name).name, default, links)


def _read(path: Path) -> dict[str, Any]:
    """The table of a TOML file."""
    try:
        parser = importlib.import_module("tomllib")
    except ModuleNotFoundError:  # Python 3.10
        try:
            parser = importlib.import_module("tomli")
        except ModuleNotFoundError:
            raise MpccError.of(
                "E-network-profile",
                "this Python cannot read TOML",
                str(path),
                "install the package tomli, or use Python 3.11",
            ) from None
    try:
        if path.stat().st_size > _MAX_FILE:
            raise MpccError.of("E-network-profile", "the file is too large", str(path))
        table: dict[str, Any] = parser.loads(path.read_text())
    except OSError as error:
        raise MpccError.of(
            "E-network-profile", f"cannot read: {error.strerror or error}", str(path)
        ) from None
    except ValueError as error:  # not UTF-8, or not TOML
        raise MpccError.of("E-network-profile", f"not TOML: {error}", str(path)) from None
    return table
