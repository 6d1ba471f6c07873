"""The command line: a thin face of :mod:`mpcc.api`.

A command is a function of one of the modules beside this one, by what it is for, and a line of
`COMMANDS` here. Modules import what takes time inside their commands.

Exit codes: 0 success; 1 the program ran and disagrees with what it promises; 2 a user error, shown
with code, place and way out; 3 a party or the network failed; 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from mpcc.cli import compiling, installation, running, showing
from mpcc.cli.console import err, out
from mpcc.errors import MpccError

__all__ = ["app", "main"]

app = typer.Typer(
    name="mpcc",
    help="Compile a neural network into a program that three parties run on secret shares.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

#: In the order of `mpcc --help`.
COMMANDS = (
    compiling.compile,
    running.simulate,
    running.run,
    showing.inspect,
    showing.cost,
    showing.report,
    showing.verify,
    installation.ops,
    showing.diff,
    installation.bench,
    installation.doctor,
)
for _command in COMMANDS:
    app.command()(_command)

_INTERRUPTED = 130
"""Exit code that typer gives to Ctrl-C."""


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from mpcc.version import VERSION

        out.print(f"mpcc {VERSION}")
        raise typer.Exit


def main() -> None:
    """Entry point: user errors become one readable message and an exit code."""
    # So that a terminated command ends its parties and removes its files, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        app()
    except MpccError as error:
        for diagnostic in error.diagnostics:
            err.print("error", style="bold red", end="")
            err.print(f" {diagnostic.code}: {diagnostic.what}", soft_wrap=True)
            for label, text in (("where", diagnostic.where), ("fix", diagnostic.fix)):
                if text:
                    err.print(f"  {label}: {text}", soft_wrap=True)
        failed = error.code.startswith(("E-net-", "E-party-"))
        raise SystemExit(3 if failed else 2) from None
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            err.print("interrupted")
        raise
