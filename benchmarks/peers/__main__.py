"""Times other systems on the same cases: ``python -m benchmarks.peers spu B128 relu1e6``.

Sets up the peer's environment first (``--setup`` does only that). Without peers it takes all,
without cases all that a peer has. With ``--ours`` this system runs before and after each peer's
session of a case, so that a machine that grows slower meets both; quote ratios from such a run.
Peers talk over loopback without TLS, mpcc with it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import environment, peaks, run, table
from benchmarks.cases import CASES, unknown
from benchmarks.peers.environments import PEERS, Peer, PeerError, ensure, measure
from benchmarks.results import OURS, Results, Row
from examples.real_inputs import FetchError
from mpcc.errors import MpccError

__all__ = ["main"]


class _Bench:
    """Rows and failures so far; prints both, and keeps a file of them."""

    def __init__(self, seconds: float, rates: peaks.Peaks | None, path: Path | None) -> None:
        self.seconds = seconds
        self._path = path
        self._facts = environment.facts()
        self.rates = rates
        self.rows: list[Row] = []
        self.failures: list[str] = []
        self._printer = table.Printer()
        self._prepared: dict[str, run.Prepared] = {}

    def add(self, row: Row) -> None:
        """Take a row, together with those of the same measurement; print it."""
        key = (row.system, row.case, row.setting)
        for i, known in enumerate(self.rows):
            if (known.system, known.case, known.setting) == key:
                self.rows[i] = row = known.joined(row)
                break
        else:
            self.rows.append(row)
        self._printer.show(row)
        self.write()

    def write(self) -> None:
        """Write the file; after every row, since the rest may take hours."""
        if self._path is not None:
            measured = asdict(self.rates) if self.rates else {}
            Results(self._facts, measured, self.rows, self.failures).write(self._path)

    def fail(self, what: str, error: Exception) -> None:
        """Note that something did not run; the others go on."""
        self.failures.append(f"{what}: {error}")
        print(f"{what}: {error}", file=sys.stderr, flush=True)

    def ours(self, case: str) -> None:
        """A session of this system, compiled once per case."""
        try:
            if case not in self._prepared:
                self._prepared[case] = run.prepare(case)
            self.add(self._prepared[case].session("none", self.seconds, self.rates))
        except (MpccError, FetchError) as error:
            self.fail(f"{OURS} {case}", error)

    def case(self, name: str, peers: Sequence[Peer], with_ours: bool, rounds: int) -> None:
        """All sessions of one case, systems in alternation."""
        for _ in range(rounds):
            if with_ours:
                self.ours(name)
            for peer in peers:
                for variant in (name, f"{name}:tuned"):
                    if variant not in peer.cases:
                        continue
                    if any(f.startswith(f"{peer.name} {variant}:") for f in self.failures):
                        continue
                    try:
                        self.add(measure(peer, variant, self.seconds))
                    except PeerError as error:
                        self.fail(f"{peer.name} {variant}", error)
        if with_ours:
            self.ours(name)


def main(argv: list[str]) -> int:
    """Print the rows; returns the exit code: 1 if anything failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="PEER|CASE", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--setup", action="store_true", help="only set up the environments")
    parser.add_argument("--ours", action="store_true", help="time mpcc in alternation")
    parser.add_argument("--rounds", type=int, default=1, help="sessions of each system per case")
    parser.add_argument("--seconds", type=float, default=8.0, help="of timed runs, per session")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args(argv)
    chosen = [PEERS[n] for n in dict.fromkeys(options.names) if n in PEERS] or [*PEERS.values()]
    cases = [n for n in options.names if n not in PEERS]
    if wrong := unknown(cases):
        parser.error(f"{wrong}; peers are {', '.join(PEERS)}")
    rates = peaks.measure() if options.ours and not options.setup else None
    bench = _Bench(options.seconds, rates, options.json)
    ready = []
    for peer in chosen:
        try:
            ensure(peer, lambda text: print(text, file=sys.stderr, flush=True))
            ready.append(peer)
        except PeerError as error:
            bench.fail(peer.name, error)
    if not options.setup:
        # ResNet-50 takes a peer minutes: only when asked for.
        for case in cases or [c for c in CASES if c != "resnet50"]:
            if any(case in peer.cases for peer in ready):
                bench.case(case, ready, options.ours, options.rounds)
    bench.write()
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
