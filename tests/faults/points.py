"""Random points of a session at which something goes wrong; the same ones for the same seed.

Strata: every kind of fault in the handshake, in the setup (weights), online (input shares and the
protocol's messages) and in the output (what parties send to the owner at the end of a run).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.faults.relay import ENDPOINTS, HANDSHAKE, ONLINE, SETUP, Fault, Link
from tests.faults.scenario import DEADLINE, Inside

__all__ = ["INSIDE_KINDS", "KINDS", "OUTPUT", "STRATA", "inside", "on_the_wire", "stratum"]

OUTPUT = "output"
STRATA = (HANDSHAKE, SETUP, ONLINE, OUTPUT)

KINDS = (
    "kill", "stop", "resume", "cut", "delay", "slow", "corrupt", "truncate", "duplicate", "swap",
)  # fmt: skip
"""On the wire."""

INSIDE_KINDS = (
    "corrupt", "truncate", "duplicate", "replay", "reorder", "drop", "stall", "delay",
    "lie-run", "lie-depth", "lie-size", "lie-session", "lie-message",
)  # fmt: skip
"""Inside TLS: a peer with a bug."""

PARTIES = ENDPOINTS[:3]
_OWNER = ENDPOINTS[3]
# Two empty control frames, `ready` and `go`, in a TLS record each, lie before a party's outputs.
_BEFORE_OUTPUTS = 2 * (64 + 22)
# TLS may cut its records a little differently from session to session.
_REACHED = 0.95

Seen = Mapping[str, Mapping[Link, int]]


def stratum(fault: Fault) -> str:
    """Which of :data:`STRATA` a fault belongs to."""
    to_owner = fault.phase == ONLINE and fault.link[1] == _OWNER
    return OUTPUT if to_owner else fault.phase


def _links(layer: str) -> list[Link]:
    everywhere = [(a, b) for a in ENDPOINTS for b in ENDPOINTS if a != b]
    if layer == OUTPUT:
        return [link for link in everywhere if link[1] == _OWNER]
    if layer == ONLINE:
        return [link for link in everywhere if link[1] != _OWNER]
    if layer == SETUP:  # nearly all bytes are those of the weights
        return everywhere + 3 * [link for link in everywhere if link[0] == _OWNER]
    return everywhere


def on_the_wire(seed: int, seen: Seen, strata: Sequence[str], rounds: int) -> list[Fault]:
    """``rounds`` faults of each kind in each stratum.

    Args:
        seed: of the choice.
        seen: bytes by phase and direction in an undisturbed session.
        strata: some of :data:`STRATA`.
        rounds: of them, odd ones are mild (slow, delay) and even ones are not.
    """
    random = np.random.default_rng(seed)
    found = []
    for number in range(rounds):
        for at, layer in enumerate(strata):
            for kind in KINDS:
                phase = ONLINE if layer == OUTPUT else layer
                links = _links(layer)
                link = links[random.integers(len(links))]
                first = _BEFORE_OUTPUTS if layer == OUTPUT else 0
                offset = int(
                    random.integers(first, max(first + 1, int(_REACHED * seen[phase][link])))
                )
                mild = (number + at) % 2 == 1
                victim = ""
                if kind in ("kill", "stop", "resume"):
                    victim = ENDPOINTS[random.integers(4)]
                amount = _amount(kind, random, mild, seen)
                found.append(Fault(kind, phase, link, offset, amount, victim))
    return found


def _amount(kind: str, random: np.random.Generator, mild: bool, seen: Seen) -> float:
    match kind:
        case "resume":
            return round(float(random.uniform(0.1, 0.5 * DEADLINE)), 2)
        case "delay":
            longest = 0.5 * DEADLINE if mild else 2.5 * DEADLINE
            return round(float(random.uniform(0.5, 1) * longest), 2)
        case "slow":
            # At the mild rate the busiest direction of a session takes some seconds.
            busiest = max(max(of.values()) for of in seen.values())
            return float(busiest // 4 if mild else 100)
        case "cut":
            return float(random.integers(2))
        case "corrupt":
            return float(random.integers(8))
        case "truncate" | "duplicate" | "swap":
            return float(random.integers(1, 65))
    return 0.0


def inside(seed: int, messages: Sequence[tuple[Any, ...]], layers: Sequence[str]) -> list[Inside]:
    """One fault inside TLS of each kind in each layer.

    Args:
        seed: of the choice.
        messages: of the program: (id, op, from, to, bytes, depth, phase), as the engine lists them.
        layers: ``online`` (between parties), ``output`` (to the owner), or both.
    """
    random = np.random.default_rng(seed)
    sizes: dict[Link, list[int]] = {}
    for _, _, sender, receiver, size, *_ in messages:
        owner_for = {"client": _OWNER, "model": _OWNER}
        link = (owner_for.get(sender, sender), owner_for.get(receiver, receiver))
        if link[0] != _OWNER:
            sizes.setdefault(link, []).append(size)
    found = []
    for layer in layers:
        links = sorted(link for link in sizes if (link[1] == _OWNER) == (layer == OUTPUT))
        for kind in INSIDE_KINDS:
            link = links[random.integers(len(links))]
            # A replay needs a frame before it.
            several = [link for link in links if len(sizes[link]) > 1]
            if kind == "replay" and not several:
                continue
            if kind == "replay":
                link = several[random.integers(len(several))]
            message = int(random.integers(kind == "replay", len(sizes[link])))
            frame = 64 + sizes[link][message]
            offset = int(random.integers(1, frame)) if kind in ("corrupt", "truncate") else 0
            amount = round(float(random.uniform(0.1, 0.5 * DEADLINE)), 2) if kind == "delay" else 0
            found.append(Inside(kind, link, message, layer, offset, amount))
    return found
