"""What this installation can do and how fast: `mpcc ops`, `bench`, `doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from mpcc.cli.common import check_outputs
from mpcc.cli.console import err, out, status
from mpcc.errors import MpccError

__all__ = ["bench", "doctor", "ops"]


def ops(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the table of ONNX operators as JSON.")
    ] = False,
    accuracy: Annotated[
        bool,
        typer.Option(
            "--accuracy", help="Print the worst errors of all operators, proved and measured."
        ),
    ] = False,
    tensorflow: Annotated[
        bool, typer.Option("--tensorflow", help="Print the table of TensorFlow operators instead.")
    ] = False,
) -> None:
    """List all ONNX operators with what is supported, the protocols, and the IR's operators."""
    from mpcc import api

    if as_json:
        sys.stdout.write(api.ops_json(accuracy, tensorflow))
        return
    for table in api.ops_tables(accuracy, tensorflow):
        out.print(table)


def bench(
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Run small programs for a minute or two and keep what work takes on this "
            "processor, for predicted times. The machine should have nothing else to do.",
        ),
    ] = False,
    network: Annotated[
        Path | None,
        typer.Option(
            metavar="CLUSTER.json",
            help="Measure the network between the three parties of this cluster file instead. "
            "Every party runs it, each with its own --index.",
        ),
    ] = None,
    index: Annotated[
        int | None, typer.Option(min=0, help="This party's endpoint in the cluster file.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.toml", help="Write the network here, for `mpcc cost`."
        ),
    ] = None,
) -> None:
    """Show how fast this machine is taken to be in predicted times, or measure it.

    With --network: measure latency and bandwidth between the parties, over TLS.
    """
    if network is not None:
        _measure_network(network, index, output)
        return
    for option, value in (("--index", index), ("--output", output)):
        if value is not None:
            raise MpccError.of(
                "E-option-bench", f"{option} goes with --network", option, "leave it out"
            )
    from mpcc import calibration
    from mpcc.cost import UNITS
    from mpcc.cost.speed import load

    if calibrate:
        with status("calibrating") as spinner:
            speeds, path = calibration.calibrate(lambda step: spinner.update(step))
        err.print(f"wrote {path}", soft_wrap=True)
    else:
        speeds = load()
    table = Table("unit of work", "takes", title=f"processor: {speeds.processor}")
    for unit, seconds in speeds.seconds.items():
        table.add_row(UNITS[unit], f"{seconds * 1e9:.3g} ns")
    out.print(table)


def _measure_network(cluster: Path, index: int | None, output: Path | None) -> None:
    from mpcc import api
    from mpcc.files import atomic_write

    if index is None:
        raise MpccError.of(
            "E-option-bench", "which party is this?", "--index", "add --index 0, 1 or 2"
        )
    check_outputs({"--output": output})
    with status("measuring"):
        profile = api.measure_network(cluster, index)
    table = Table("from, to", "one way", "bandwidth")
    for name, link in profile.links.items():
        speed = f"{link.bandwidth / 1e6:.4g} Mbit/s"
        table.add_row(name, f"{link.latency * 1e3:.3g} ms", speed)
    out.print(table)
    if output is not None:
        comment = "Measured by `mpcc bench --network`.\nOther links are taken as the slowest."
        with atomic_write(output) as file:
            file.write(profile.to_toml(comment).encode())
        err.print(f"wrote {output}", soft_wrap=True)


def doctor() -> None:
    """Check this installation: native engine, instruction sets, TLS, optional packages."""
    from mpcc import api

    table = Table("check", "result", "")
    healthy = True
    for check in api.doctor():
        healthy &= check.ok or not check.required
        mark = (
            Text("ok", "green")
            if check.ok
            else Text("missing", "red")
            if check.required
            else Text("absent")
        )
        table.add_row(check.name, mark, check.detail)
    out.print(table)
    if not healthy:
        raise typer.Exit(1)
