"""What this installation can do and how fast: `mpcc ops`, `bench`, `doctor`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from mpcc.cli.console import err, out, status

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
) -> None:
    """List all ONNX operators with what is supported, the protocols, and the IR's operators."""
    from mpcc import api

    if as_json:
        sys.stdout.write(api.ops_json(accuracy))
        return
    for table in api.ops_tables(accuracy):
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
) -> None:
    """Show how fast this machine is taken to be in predicted times, or measure it."""
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
