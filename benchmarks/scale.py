"""Throughput with several tasks per party, and where the next bottleneck is.

``python -m benchmarks.scale A128 --tasks 1 2 4`` runs a case with as many triples of processes on
this machine at the same time and prints rows per second. ``--rate 1000`` adds what so many rows per
second need of each party beyond this machine, from the processor time of a run here, the bytes
that the program sends and the time of a run that `mpcc cost` predicts for a network.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import mpcc
from benchmarks.cases import unknown
from benchmarks.run import DEADLINE, Prepared, prepare
from mpcc import cost as costs
from mpcc.emit.graphdef import parse

__all__ = ["Need", "main", "need"]

_REPEAT = 10


@dataclass(frozen=True)
class Need:
    """What a rate of rows needs.

    Attributes:
        cores: of each party, all busy.
        gigabits: per second on the busiest link, in one direction.
        triples: that are waiting or computing at once: tasks per party.
    """

    cores: float
    gigabits: float
    triples: int


def need(rate: float, rows: int, cpu_seconds: float, link_bytes: int, run_seconds: float) -> Need:
    """What ``rate`` rows per second need.

    Args:
        rate: rows per second.
        rows: of one run.
        cpu_seconds: of one run, all three parties together.
        link_bytes: of one run, on the busiest link.
        run_seconds: from the start of a run to its end; a triple does one run at a time.
    """
    runs = rate / rows
    return Need(runs * cpu_seconds / 3, runs * link_bytes * 8 / 1e9, math.ceil(runs * run_seconds))


def _throughput(prepared: Prepared, inputs: Mapping[str, Any], tasks: int) -> float:
    """Rows per second in the fastest of some runs."""
    given = {name: np.concatenate([array] * tasks) for name, array in inputs.items()}
    result = mpcc.run_local(
        prepared.compiled.artifact,
        prepared.compiled.weights,
        given,
        repeat=_REPEAT,
        tasks_per_party=tasks,
        deadline=DEADLINE,
        require_verified=False,  # it was compiled a moment ago
    )
    rows = next(iter(given.values())).shape[0]
    return float(rows / min(result.stats["online_seconds"][1:]))


def _needs(prepared: Prepared, rows: int, rate: float) -> None:
    row = prepared.session("none", 4.0)
    busy = row.cpu_seconds
    if busy is None:
        raise ValueError("the session has no processor time")
    counted = costs.count(parse(prepared.compiled.artifact.program))
    for network in ("lan", "wan"):
        # Waiting for the network, and computing with one core.
        seconds = counted.seconds(costs.profile(network)).online + busy / 3
        found = need(rate, rows, busy, max(row.links.values()), seconds)
        print(
            f"{prepared.case}, {rate:g} rows/s over {network}: {found.cores:.1f} cores and "
            f"{found.triples} tasks per party, {found.gigabits:.2f} Gbit/s on the busiest link "
            f"(a run: {busy / 3 * 1e3:.2f} ms of a core per party, "
            f"{max(row.links.values()) / 1e6:.3f} MB, {seconds * 1e3:.1f} ms)"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line per number of tasks, and with ``--rate`` one per network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="+", metavar="CASE")
    parser.add_argument("--tasks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rate", type=float, help="rows per second")
    parsed = parser.parse_args(arguments)
    if wrong := unknown(parsed.cases):
        parser.error(wrong)
    for name in parsed.cases:
        prepared = prepare(name)
        inputs = dict(prepared.inputs)
        rows = next(iter(inputs.values())).shape[0]
        for tasks in parsed.tasks:
            rate = _throughput(prepared, inputs, tasks)
            print(f"{name}, {tasks} tasks per party: {rate:.1f} rows/s", flush=True)
        if parsed.rate:
            _needs(prepared, rows, parsed.rate)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
