"""Compares predicted times of runs with measured ones: ``python -m benchmarks.predicted [CASE]``.

Needs ``mpcc bench --calibrate`` on this machine first, and no other load. One row per case and
link: the measured median, the prediction of :func:`mpcc.cost.timeline.timeline` for three parties
that share this machine's cores, and their ratio; then the median of |log ratio|.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.cases import CASES, unknown
from benchmarks.run import LINKS, prepare
from mpcc.cost import PROFILES
from mpcc.cost.speed import Speeds, load
from mpcc.cost.timeline import Workload, timeline
from mpcc.emit.graphdef import parse

__all__ = ["AIM", "Compared", "compare", "main"]

AIM = math.log(1.25)
"""Of the median of |log(predicted / measured)|."""

DEFAULT: tuple[str, ...] = (
    *("A1", "A128", "B1", "B128", "C1", "C128"),
    *("relu1e6", "maxpool112", "matmul1024", "gelu", "softmax", "resnet18", "vgg16"),
)


@dataclass(frozen=True)
class Compared:
    """One case over one link, seconds."""

    case: str
    link: str
    measured: float
    predicted: float

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted / self.measured


def compare(name: str, links: Sequence[str], speeds: Speeds, seconds: float) -> Iterator[Compared]:
    """Compile a case, run it over each link and predict it.

    Raises:
        MpccError: it does not compile or run.
    """
    prepared = prepare(name)
    workload = Workload.of(parse(prepared.compiled.artifact.program))
    cores = len(os.sched_getaffinity(0))
    for link in links:
        row = prepared.session(link, seconds)
        predicted = timeline(workload, speeds, PROFILES[link], cores)
        yield Compared(name, link, row.median, predicted.seconds)


def main(argv: list[str]) -> int:
    """Print the table; the exit code is 1 if the aim is missed."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.predicted")
    made.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    made.add_argument("--link", action="append", choices=LINKS, help="default: all")
    made.add_argument("--seconds", type=float, default=3.0, help="of timed runs, per row")
    options = made.parse_args(argv)
    if wrong := unknown(options.cases):
        made.error(wrong)
    speeds = load()
    print(f"speeds: {speeds.processor}\n")
    print("| case | network | measured | predicted | ratio |\n|---|---|---:|---:|---:|")
    logs = []
    for name in options.cases or DEFAULT:
        for row in compare(name, options.link or LINKS, speeds, options.seconds):
            logs.append(abs(math.log(row.ratio)))
            times = f"{row.measured * 1e3:.4g} ms | {row.predicted * 1e3:.4g} ms"
            print(f"| {row.case} | {row.link} | {times} | {row.ratio:.2f} |", flush=True)
    found = statistics.median(logs)
    print(f"\nmedian factor {math.exp(found):.3f} over {len(logs)} rows, aim {math.exp(AIM):.2f}")
    return 0 if found <= AIM else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
