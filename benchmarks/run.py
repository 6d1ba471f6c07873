"""Times cases among three processes on this machine.

``python -m benchmarks.run A128 relu1e6 --link lan`` prints one line per case and link. Without
cases it takes all; ``--json`` writes everything, for ``python -m benchmarks.table``. TLS is on,
weights and inputs are secret. Online time starts with inputs and weights shared and ends with the
output opened. ``lan`` is 10 Gbit/s and 0.1 ms one way per link, ``wan`` 352 Mbit/s and 20 ms;
``none`` is loopback as it is. Each case runs as often as fits into ``--seconds``, three times at
least.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import mpcc
from benchmarks import environment, peaks, table
from benchmarks.cases import CASES, Material, unknown
from benchmarks.results import OURS, Results, Row
from examples.real_inputs import FetchError
from mpcc.errors import MpccError
from mpcc.ir.types import SecureType

__all__ = ["LINKS", "Prepared", "main", "measure", "prepare", "widths"]

LINKS = ("none", "lan", "wan")

FEWEST, MOST = 3, 30
"""Timed runs of a session."""

DEADLINE = 120.0
"""Seconds that one message may take: a loaded machine is no failure here."""

_COMPARISONS = ("secure.negative",)

_PARTY_LINKS = tuple(f"{i}->{j}" for i in range(3) for j in range(3) if i != j)


class Prepared:
    """A case that is compiled; sessions of it can be timed as often as wanted.

    Attributes:
        case: its name.
        setting: variant, see :class:`benchmarks.results.Row`.
        compiled: program and weights.
        inputs: that are timed.
    """

    def __init__(self, case: str, setting: str, material: Material) -> None:
        self.case = case
        self.setting = setting
        self.inputs = material.inputs
        start = time.perf_counter()
        self.compiled = mpcc.compile(
            material.model,
            options=mpcc.CompileOptions(formats=material.formats),
            calibration=material.calibration or None,
        )
        self._compile_seconds = time.perf_counter() - start
        self._plain = _plain(material)
        self._work = peaks.work_of(self.compiled.artifact)
        self._widths = widths(self.compiled)

    def session(
        self,
        link: str,
        seconds: float,
        rates: peaks.Peaks | None = None,
        threads: int = 1,
    ) -> Row:
        """Time one session.

        Args:
            link: of :data:`LINKS`.
            seconds: of timed runs, about; at least three are made.
            rates: of the machine, for the bounds.
            threads: compute threads of each party.

        Raises:
            MpccError: a run failed.
        """
        artifact, inputs = self.compiled.artifact, dict(self.inputs)
        start = time.perf_counter()
        with mpcc.Session(
            artifact, self.compiled.weights, network=link, threads=threads, deadline=DEADLINE
        ) as session:
            started = time.perf_counter() - start
            # Not counted: it touches memory for the first time, and may pack the weights.
            runs = [session.run(inputs)]
            cpu, begin = _cpu_seconds(session), time.perf_counter()
            while len(runs) <= FEWEST or (
                len(runs) <= MOST and time.perf_counter() - begin < seconds
            ):
                runs.append(session.run(inputs))
            cpu = (_cpu_seconds(session) - cpu) / (len(runs) - 1)
            stats = session.statistics(runs)
        deviation, magnitude = self._deviation(runs[-1].outputs)
        found = peaks.bounds(self._work, rates) if rates else None
        threaded = f"threads={threads}" if threads > 1 else ""
        sent: dict[str, int] = stats["bytes_sent"]
        return Row(
            system=OURS,
            case=self.case,
            link=link,
            setting=" ".join(filter(None, [self.setting, threaded])),
            online_seconds=stats["online_seconds"][1:],
            first_seconds=stats["online_seconds"][0],
            start_seconds=started,
            setup_seconds=stats["setup_seconds"],
            compile_seconds=self._compile_seconds,
            links={name: sent.get(name, 0) for name in _PARTY_LINKS},
            total_bytes=sum(sent.values()),
            rounds=stats["rounds"],
            peak_bytes=max(stats["peak_rss_bytes"]),
            deviation=deviation,
            magnitude=magnitude,
            widths=self._widths,
            bounds={"multiplying": found.multiplying, "sending": found.sending} if found else {},
            cpu_seconds=cpu,
        )

    def _deviation(self, outputs: dict[str, Any]) -> tuple[float, float]:
        deviation = magnitude = 0.0
        for name, value in self._plain.items():
            plain = np.asarray(value, np.float64)
            deviation = max(deviation, float(np.abs(plain - outputs[name]).max()))
            magnitude = max(magnitude, float(np.abs(plain).max()))
        return deviation, magnitude


def _cpu_seconds(session: mpcc.Session) -> float:
    """Processor seconds of the three party processes so far."""
    ticks = 0
    for party in session.parties:
        fields = Path(f"/proc/{party.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def widths(compiled: mpcc.Compiled) -> list[int]:
    """Smallest and largest k of the values |x| < 2^k that a program compares; empty if none.

    A maximum compares a difference, which is one bit wider than what it is taken of.
    """
    found = []
    for name in _COMPARISONS:
        for op in compiled.artifact.secure_module.main.walk(name):
            type_ = op.operands[0].type
            assert isinstance(type_, SecureType)
            found.append(type_.width)
    return [min(found), max(found)] if found else []


def _plain(material: Material) -> dict[str, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(material.model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(material.inputs)), strict=True))


def prepare(name: str, bits: int | None = None, ring: int | None = None) -> Prepared:
    """Make and compile a case.

    Raises:
        MpccError: it does not compile.
        FetchError: a file that it needs cannot be fetched.
    """
    material = CASES[name].make()
    settings = []
    if bits is not None:
        material = material.with_bits(bits)
        settings.append(f"bits={bits}")
    if ring is not None:
        material = material.with_ring(ring)
        settings.append(f"ring={ring}")
    return Prepared(name, " ".join(settings), material)


def measure(
    name: str,
    links: Sequence[str] = ("none",),
    *,
    bits: int | None = None,
    ring: int | None = None,
    threads: int = 1,
    seconds: float = 8.0,
    rates: peaks.Peaks | None = None,
) -> Iterator[Row]:
    """Compile a case once and time it over each link.

    Raises:
        MpccError: compiling or running failed.
        FetchError: a file that the case needs cannot be fetched.
    """
    prepared = prepare(name, bits, ring)
    for link in links:
        yield prepared.session(link, seconds, rates, threads)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=(__doc__ or "").splitlines()[0]
    )
    made.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    made.add_argument("--link", action="append", choices=LINKS, help="default: none")
    made.add_argument("--threads", type=int, default=1, help="of each party")
    made.add_argument(
        "--bits",
        type=int,
        help="compare all values with this many bits, 16 of them fraction, instead of the "
        "formats that the compiler chooses; 31 is MP-SPDZ's setting",
    )
    made.add_argument(
        "--ring",
        type=int,
        choices=(32, 64),
        help="this ring, with the fraction bits that fit, instead of what the compiler chooses",
    )
    made.add_argument("--seconds", type=float, default=8.0, help="of timed runs, per row")
    made.add_argument("--json", type=Path, help="write all figures here")
    made.add_argument("--no-bounds", action="store_true", help="do not measure the machine first")
    return made


def main(argv: list[str]) -> int:
    """Print the rows; returns the exit code: 1 if a case failed."""
    made = parser()
    options = made.parse_args(argv)
    if wrong := unknown(options.cases):
        made.error(wrong)
    if options.bits is not None and not 24 <= options.bits <= 44:
        made.error("--bits takes 24 to 44")
    if options.bits is not None and options.ring is not None:
        made.error("--bits and --ring exclude each other")
    if options.json is not None and not os.access(options.json.absolute().parent, os.W_OK):
        made.error(f"{options.json} cannot be written")
    rates = None if options.no_bounds else peaks.measure()
    rows: list[Row] = []
    failures: list[str] = []
    printer = table.Printer()
    facts, measured = environment.facts(), asdict(rates) if rates else {}

    def write() -> None:
        if options.json is not None:
            Results(facts, measured, rows, failures).write(options.json)

    for name in options.cases or CASES:
        try:
            for row in measure(
                name,
                options.link or ["none"],
                bits=options.bits,
                ring=options.ring,
                threads=options.threads,
                seconds=options.seconds,
                rates=rates,
            ):
                rows.append(row)
                printer.show(row)
                # At once: the rest may take hours.
                write()
        except (MpccError, FetchError) as error:
            failures.append(f"{OURS} {name}: {error}")
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    write()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
