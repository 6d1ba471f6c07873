"""The demo: a face is found on a photograph that none of the three computing processes has seen.

``python -m examples.blazeface.demo`` compiles the network, runs it among three parties on this
machine, and holds the result against onnxruntime's. Everything it writes lies in ``out/``. The
exit code is 0 only if the same faces come out (same number and order, overlap of boxes at least
0.99) and no output is further than 1e-2 from onnxruntime's.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from examples.blazeface import reference
from examples.blazeface.model import (
    INPUT_NAME,
    OUTPUT_NAMES,
    Agreement,
    compare,
    detect,
    preprocess,
)
from examples.blazeface.photographs import astronaut
from examples.blazeface.picture import draw
from examples.blazeface.prepare import prepare
from examples.command import CommandError, mpcc
from mpcc import api as mpcc_api

__all__ = ["MAX_DEVIATION", "Outcome", "judge", "main", "write_report"]

#: Largest absolute difference from onnxruntime that is accepted in any output.
MAX_DEVIATION = 1e-2

Outputs = Mapping[str, npt.NDArray[Any]]

#: What the processes are, by the engine that the statistics name.
LEVELS = {
    "native": "three processes over TLS 1.3 on this machine, in C++",
    "party-interpreter": "all parties inside one process: the protocol's messages, but no network",
}


@dataclass(frozen=True)
class Outcome:
    """How the secure result compares with onnxruntime's.

    Attributes:
        agreement: of the detected faces.
        deviation: largest absolute difference over all outputs, in the outputs' own units.
    """

    agreement: Agreement
    deviation: float

    @property
    def good(self) -> bool:
        """Same faces, at least one, and no output off by more than ``MAX_DEVIATION``."""
        found = self.agreement.counts[0] > 0
        return found and self.agreement.same and self.deviation <= MAX_DEVIATION


def judge(plain: Outputs, secure: Outputs) -> Outcome:
    """Compares the four outputs and the faces that they mean.

    Raises:
        ValueError: an output is missing or has another shape.
    """
    agreement = compare(detect(plain), detect(secure))
    differences = [
        np.abs(np.asarray(plain[name], np.float64) - secure[name]).max() for name in OUTPUT_NAMES
    ]
    return Outcome(agreement, float(max(differences)))


def summary(outcome: Outcome, stats: Mapping[str, Any]) -> str:
    """What the run showed, in lines for a terminal."""
    count_plain, count_secure = outcome.agreement.counts
    overlaps = ", ".join(f"{value:.5f}" for value in outcome.agreement.ious) or "none"
    engine = stats["engine"]
    sent = sum(stats["bytes_sent"].values())
    seconds = statistics.median(stats["online_seconds"])
    rows = [
        ("ran as", LEVELS.get(engine, engine)),
        ("faces", f"{count_secure} on shares, {count_plain} by onnxruntime; IoU {overlaps}"),
        ("largest deviation", f"{outcome.deviation:.2e} (accepted: {MAX_DEVIATION:g})"),
        ("online time", f"{seconds:.3f} s (median of {len(stats['online_seconds'])})"),
        ("set-up time", f"{stats['setup_seconds']:.3f} s"),
        ("rounds", str(stats["rounds"])),
        ("bytes sent", f"{sent / 1e6:.2f} MB over all links"),
        ("result", "same answer" if outcome.good else "DIFFERENT ANSWER"),
    ]
    return "\n".join(f"  {name:<18} {text}" for name, text in rows)


def write_report(
    artifact: Path, report: Path, stats: Mapping[str, Any], outcome: Outcome, picture: Path
) -> None:
    """The cost page with what this run measured, how it compares, and the picture."""
    program = mpcc_api.Artifact.load(artifact)
    cost = mpcc_api.cost(program, "lan")
    accuracy = {
        "largest deviation from onnxruntime": f"{outcome.deviation:.2e}",
        "faces found": f"{outcome.agreement.counts[1]} (onnxruntime {outcome.agreement.counts[0]})",
        "overlap of boxes (IoU)": ", ".join(f"{v:.5f}" for v in outcome.agreement.ious) or "none",
    }
    embedded = base64.b64encode(picture.read_bytes()).decode()
    page = mpcc_api.cost_page(program, cost, stats, accuracy, f"data:image/png;base64,{embedded}")
    report.write_text(page, encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("out"), help="where files go")
    parser.add_argument("--engine", choices=sorted(LEVELS), default="native")
    parser.add_argument("--network", choices=("none", "lan", "wan"), default="none")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args(argv)
    folder: Path = options.folder

    files = prepare(folder)
    artifact, answer = folder / "blazeface.mpcc", folder / "secure.npz"
    stats_path, report = folder / "stats.json", folder / "report.html"
    try:
        mpcc(
            *("compile", str(files.model), "--calibrate", str(files.calibration)),
            *("--input-range", f"{INPUT_NAME}=-1:1", "-o", str(artifact)),
        )
        mpcc(
            *("run", str(artifact), "--input", str(files.image), "--output", str(answer)),
            *("--engine", options.engine, "--network", options.network),
            *("--repeat", str(options.repeat), "--json", str(stats_path)),
        )
    except CommandError as error:
        print(f"the demo stops here: {error}")
        return 1

    photograph = astronaut()
    image, frame = preprocess(photograph)
    plain = reference.run(image)
    with np.load(answer) as loaded:
        secure = {name: loaded[name] for name in loaded.files}
    outcome = judge(plain, secure)
    stats = json.loads(stats_path.read_text())
    picture = folder / "astronaut.png"
    draw(photograph, frame, detect(plain), detect(secure)).save(picture)
    write_report(artifact, report, stats, outcome, picture)
    print()
    print(summary(outcome, stats))
    print(f"  picture            {picture}")
    print(f"  cost per layer     {report}")
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
