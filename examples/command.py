"""Calls ``mpcc`` as a user would, with the Python that runs this."""

from __future__ import annotations

import shlex
import subprocess
import sys

__all__ = ["CommandError", "mpcc"]


class CommandError(RuntimeError):
    """``mpcc`` ended with another exit code than 0; the text has what it said, if that was kept."""


def mpcc(*arguments: str, show: bool = True) -> None:
    """Runs ``mpcc`` with these arguments.

    Args:
        arguments: as on a command line.
        show: print the line that does the same by hand, and let mpcc write to the terminal.
            Otherwise its words appear only in an error.

    Raises:
        CommandError: it failed.
    """
    line = "mpcc " + shlex.join(arguments)
    if show:
        print(f"$ {line}", flush=True)
    start = "from mpcc.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", start, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=None if show else subprocess.PIPE,
        stderr=None if show else subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        said = "" if show else f":\n{result.stdout.strip()}"
        raise CommandError(f"`{line}` ended with exit code {result.returncode}{said}")
