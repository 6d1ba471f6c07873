"""Runs passes on the text of a module: ``python -m mpcc.passes fold-transposes FILE``.

Several passes are separated by commas outside of braces; ``-`` reads from standard input. The
result goes to standard output, notes to standard error.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mpcc.errors import MpccError
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from mpcc.passes import PASSES
from mpcc.passes.base import Checkpoint, Event, Manager, make_pass

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Exit code: 0, or 2 for a user error."""
    if len(arguments) != 2:
        sys.stderr.write(f"usage: python -m mpcc.passes PASS[,PASS...] FILE\n{', '.join(PASSES)}\n")
        return 2
    checkpoint = Checkpoint(DIALECTS)

    def hook(event: Event) -> None:
        checkpoint(event)
        for note in event.result.notes:
            sys.stderr.write(f"{event.pass_name}: {note}\n")

    try:
        passes = [make_pass(p, PASSES) for p in re.split(r",(?![^{]*\})", arguments[0])]
        text = sys.stdin.read() if arguments[1] == "-" else Path(arguments[1]).read_text()
        module = parse_module(text, DIALECTS, arguments[1])
        verify(module, DIALECTS[module.level])
        sys.stdout.write(print_module(Manager(passes, hook).run(module)))
    except (MpccError, OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
