"""Programs that are made for a network, beside those for a local one: ``python -m benchmarks.far``.

Every case is compiled for each network, and again without it. Rounds and bytes are exact; times are
predicted with the built-in speeds, a core for each party. They need no run and do not depend on
the machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.cases import CASES, unknown
from mpcc import api
from mpcc.artifact import Artifact
from mpcc.compiler import phi_of
from mpcc.cost import (
    BUILT_IN,
    PROFILES,
    Profile,
    Workload,
    count,
    format_bytes,
    format_seconds,
    timeline,
)
from mpcc.options import CompileOptions
from mpcc.passes import pipeline
from mpcc.passes.base import Manager
from mpcc.protocols import Rep3, lower_program

__all__ = ["NETWORKS", "Compared", "compare", "main"]

NETWORKS = ("edge", "wan")

DEFAULT = ("A1", "B1", "C1", "C128", "resnet18")


@dataclass(frozen=True)
class Program:
    """A program under a network: rounds and payload bytes of a run, and its predicted seconds."""

    rounds: int
    bytes_sent: int
    seconds: float


@dataclass(frozen=True)
class Compared:
    """A case under a network.

    Attributes:
        case: its name.
        network: of :data:`NETWORKS`.
        near: the program for a local network.
        far: the one whose rounds are priced as the network's.
        chosen: the one that is compiled for the network.
    """

    case: str
    network: str
    near: Program
    far: Program
    chosen: Program


def _predicted(artifact: Artifact, round_bytes: int | None, profile: Profile) -> Program:
    """The program of the same model and formats that is made for ``round_bytes``."""
    options = replace(artifact.formats, round_bytes=round_bytes)
    secure = Manager(pipeline.to_secure(phi_of(artifact), options)).run(artifact.tensor_module)
    to_party = pipeline.to_party(lambda level: lower_program(level, Rep3()).party)
    module = Manager(to_party).run(secure)
    cost = count(module).online
    time = timeline(Workload.of(module), BUILT_IN, profile)
    return Program(cost.rounds, cost.total_bytes, time.seconds)


def compare(name: str, networks: Sequence[str] = NETWORKS) -> Iterator[Compared]:
    """Compile a case for every network.

    Raises:
        MpccError: it does not compile.
    """
    material = CASES[name].make()
    options = CompileOptions(formats=material.formats)
    for network in networks:
        made = api.compile(
            material.model,
            options=options,
            calibration=material.calibration or None,
            network=network,
        )
        profile = PROFILES[network]
        near = _predicted(made.artifact, None, profile)
        far = _predicted(made.artifact, profile.round_bytes, profile)
        chosen = far if made.artifact.formats.round_bytes is not None else near
        yield Compared(name, network, near, far, chosen)


def main(argv: list[str]) -> int:
    """Print the table; the exit code is 1 if a chosen program is slower than another."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.far")
    made.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    options = made.parse_args(argv)
    if wrong := unknown(options.cases):
        made.error(wrong)
    print("| case | network | rounds | bytes | predicted | times faster |")
    print("|---|---|---|---|---|---:|")
    slower = 0
    for name in options.cases or DEFAULT:
        for row in compare(name):
            near, chosen = row.near, row.chosen
            slower += chosen.seconds > min(near.seconds, row.far.seconds)
            cells = [
                f"{near.rounds} → {chosen.rounds}",
                f"{format_bytes(near.bytes_sent)} → {format_bytes(chosen.bytes_sent)}",
                f"{format_seconds(near.seconds)} → {format_seconds(chosen.seconds)}",
                f"{near.seconds / chosen.seconds:.2f}",
            ]
            print(f"| {name} | `{row.network}` | {' | '.join(cells)} |", flush=True)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
