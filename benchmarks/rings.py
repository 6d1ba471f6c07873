"""Networks in rings of 32 and 64 bits: ``python -m benchmarks.rings [A|B|C ...]``.

Prints, for every network and choice of rings, the formats found, the error measured by the
analysis, bytes between the parties and rounds of one run, and the shortest online time. The
variants run in turn, so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np

import mpcc
from benchmarks import models
from mpcc.compiler import phi_of
from mpcc.errors import MpccError
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions

RINGS: Mapping[str, Mapping[str, Any]] = {
    "auto": {},
    "64": {"ring": 64},
    "32": {"ring": 32},
    "64, pools in 32": {"ring": 64, "rings": {"maxpool*": 32}},
    "32, products in 64": {"ring": 32, "rings": {"conv*": 64, "gemm*": 64}},
}
"""Options of the formats by name of the variant."""

MAX_ERROR = 1 / 16
"""With this all of the networks fit 32 bits; with the compiler's default, 2^-7, none does."""

SAMPLES = 1


def compare(name: str, batch: int, repeat: int, max_error: float) -> None:
    """Print the rows of one network; what no format fits is left out."""
    model = models.NETWORKS[name](batch)
    samples = models.sample_inputs(model, SAMPLES)
    data = {n: np.stack([s[n] for s in samples]) for n in samples[0]}
    open_: dict[str, tuple[mpcc.Compiled, mpcc.Session]] = {}
    runs: dict[str, list[Any]] = {}
    try:
        for variant, rings in RINGS.items():
            if name == "A" and "rings" in rings:
                continue  # its nodes have other names
            formats = FormatOptions(max_error=max_error, **rings)
            options = CompileOptions(formats=formats)
            try:
                compiled = mpcc.compile(model.serialized(), options=options, calibration=data)
            except MpccError:
                continue
            session = mpcc.Session(compiled.artifact, compiled.weights)
            open_[variant] = compiled, session.__enter__()
        for _ in range(repeat):
            for variant, (_, session) in open_.items():
                runs.setdefault(variant, []).append(session.run(samples[0]))
        for variant, (compiled, session) in open_.items():
            stats = session.statistics(runs[variant])
            sent = sum(n for link, n in stats["bytes_sent"].items() if link[0] + link[-1] in PARTY)
            phi = phi_of(compiled.artifact)
            if variant == "auto":
                others = f", {len(phi.others)} ops in {96 - phi.ring}" if phi.others else ""
                variant = f"auto: {phi.ring}{others}"
            error = max(compiled.private["measured_error"].values())
            print(
                f"| {name}, {batch} | {variant} | {phi.frac} + {phi.weight_frac} "
                f"| {error:.3f} | {sent / 1e6:.3f} | {stats['rounds']} "
                f"| {min(stats['online_seconds']):.4f} |",
                flush=True,
            )
    finally:
        for _, session in open_.values():
            session.__exit__(None, None, None)


PARTY = frozenset(f"{i}{j}" for i in range(3) for j in range(3) if i != j)
"""First and last character of the links between parties."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=["A", "B", "C"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--max-error", type=float, default=MAX_ERROR)
    options = parser.parse_args()
    print("| network, batch | ring | fraction bits | error | MB | rounds | online s |")
    print("|---|---|---|---|---|---|---|")
    for name in options.networks:
        compare(name, options.batch, options.repeat, options.max_error)


if __name__ == "__main__":
    main()
