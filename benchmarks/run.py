"""Times networks A, C and BlazeFace among three processes on this machine.

``python -m benchmarks.run`` (or ``make bench``) prints for every network and every link the median
online time, the set-up time, rounds, bytes over all links, the peak memory of a party, and, beside
the time, the largest deviation from onnxruntime. Online time starts with input and weights shared
and ends with the output opened. TLS is on, weights are secret. ``lan`` is 10 Gbit/s and 0.1 ms one
way per link, ``wan`` 352 Mbit/s and 20 ms; ``none`` is loopback as it is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.models import NETWORKS, sample_inputs
from examples.blazeface.prepare import prepare
from examples.command import CommandError, mpcc

__all__ = ["CASES", "REPEATS", "Case", "Row", "build_case", "main", "measure", "table"]

Arrays = Mapping[str, npt.NDArray[Any]]

#: Runs per link; a wide-area run takes seconds and hardly varies.
REPEATS = {"none": 30, "lan": 30, "wan": 3}

#: (network, batch) by the name on the command line.
CASES = {"A": ("A", 1), "A128": ("A", 128), "C": ("C", 1), "BlazeFace": ("BlazeFace", 1)}
DEFAULT_CASES = ("A", "C", "BlazeFace")


@dataclass(frozen=True)
class Case:
    """Files of one benchmark.

    Attributes:
        name: of the case.
        model: ONNX.
        inputs: .npz with the timed input.
        calibration: .npz with other inputs.
        input_range: for ``mpcc compile --input-range``.
    """

    name: str
    model: Path
    inputs: Path
    calibration: Path
    input_range: str


@dataclass(frozen=True)
class Row:
    """One line of the result.

    Attributes:
        case: name of the case.
        link: ``none``, ``lan`` or ``wan``.
        compile_seconds: of ``mpcc compile``, start of Python included.
        online_seconds: one per run.
        setup_seconds: sharing the weights and all else before the runs.
        rounds: longest chain of dependent messages.
        megabytes: payload of one run over all links.
        peak_megabytes: of the largest party.
        deviation: largest absolute difference from onnxruntime, in units of the output.
        engine: what ran.
        threads: per party.
    """

    case: str
    link: str
    compile_seconds: float
    online_seconds: list[float]
    setup_seconds: float
    rounds: int
    megabytes: float
    peak_megabytes: float
    deviation: float
    engine: str
    threads: int


def _save(path: Path, arrays: Arrays) -> Path:
    contents: dict[str, Any] = dict(arrays)
    np.savez(path, **contents)
    return path


def build_case(name: str, folder: Path) -> Case:
    """Writes the model and the inputs of a case into a folder.

    Raises:
        FetchError: BlazeFace cannot be fetched.
    """
    network_name, batch = CASES[name]
    if network_name == "BlazeFace":
        files = prepare(folder / name)
        return Case(name, files.model, files.image, files.calibration, "input:0=-1:1")
    network = NETWORKS[network_name](batch)
    model = folder / f"{name}.onnx"
    model.write_bytes(network.serialized())
    (timed,) = sample_inputs(network, 1, seed=1)
    others = sample_inputs(network, 8, seed=2)
    stacked = {key: np.stack([sample[key] for sample in others]) for key in timed}
    return Case(
        name,
        model,
        _save(folder / f"{name}.npz", timed),
        _save(folder / f"{name}-calibration.npz", stacked),
        "image=0:1",
    )


def _plain(case: Case) -> dict[str, npt.NDArray[Any]]:
    session = onnxruntime.InferenceSession(str(case.model), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    with np.load(case.inputs) as inputs:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _deviation(plain: Arrays, secure: Arrays) -> float:
    return float(
        max(
            np.abs(np.asarray(value, np.float64) - secure[name]).max()
            for name, value in plain.items()
        )
    )


def measure(case: Case, links: list[str], folder: Path, threads: int = 1) -> Iterator[Row]:
    """Compiles a case once and runs it over each link.

    Raises:
        CommandError: compiling or running failed.
    """
    artifact = folder / f"{case.name}.mpcc"
    start = time.perf_counter()
    mpcc(
        *("compile", str(case.model), "--calibrate", str(case.calibration)),
        *("--input-range", case.input_range, "-o", str(artifact)),
        show=False,
    )
    compile_seconds = time.perf_counter() - start
    plain = _plain(case)
    for link in links:
        answer, stats_path = folder / "secure.npz", folder / "stats.json"
        mpcc(
            *("run", str(artifact), "--input", str(case.inputs), "--output", str(answer)),
            *("--network", link, "--repeat", str(REPEATS[link])),
            *("--threads", str(threads), "--json", str(stats_path)),
            show=False,
        )
        stats = json.loads(stats_path.read_text())
        with np.load(answer) as secure:
            deviation = _deviation(plain, dict(secure))
        yield Row(
            case=case.name,
            link=link,
            compile_seconds=compile_seconds,
            online_seconds=stats["online_seconds"],
            setup_seconds=stats["setup_seconds"],
            rounds=stats["rounds"],
            megabytes=sum(stats["bytes_sent"].values()) / 1e6,
            peak_megabytes=max(stats["peak_rss_bytes"]) / 1e6,
            deviation=deviation,
            engine=stats["engine"],
            threads=threads,
        )


HEADINGS = ("case", "link", "online ms", "min", "setup s", "rounds", "MB", "peak MB", "deviation")
WIDTHS = (10, 5, 10, 10, 8, 7, 9, 8, 10)


def table(rows: list[Row]) -> str:
    """The result for a terminal; times are medians."""
    lines = [HEADINGS]
    lines += [
        (
            row.case,
            row.link,
            f"{statistics.median(row.online_seconds) * 1e3:.2f}",
            f"{min(row.online_seconds) * 1e3:.2f}",
            f"{row.setup_seconds:.3f}",
            str(row.rounds),
            f"{row.megabytes:.3f}",
            f"{row.peak_megabytes:.0f}",
            f"{row.deviation:.1e}",
        )
        for row in rows
    ]
    return "\n".join(
        " ".join(f"{cell:>{width}}" for cell, width in zip(line, WIDTHS, strict=True))
        for line in lines
    )


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--link", action="append", choices=sorted(REPEATS), help="default: none")
    parser.add_argument("--threads", type=int, default=1, help="of each party")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args(argv)
    unknown = sorted(set(options.cases) - CASES.keys())
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in options.cases or DEFAULT_CASES:
            try:
                case = build_case(name, folder)
                for row in measure(case, options.link or ["none"], folder, options.threads):
                    rows.append(row)
                    # Each line as soon as it is known, the headings with the first.
                    new = table(rows).splitlines()[0 if len(rows) == 1 else -1 :]
                    print("\n".join(new), flush=True)
            except CommandError as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 1
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
