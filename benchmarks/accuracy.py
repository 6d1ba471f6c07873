"""The table of worst errors of operators: ``python -m benchmarks.accuracy [--docs]``."""

from __future__ import annotations

import argparse

from benchmarks.pages import DOCS, rewrite
from mpcc.accuracy import FRACTION
from mpcc.operator_errors import INTERVAL, INTERVALS, errors
from mpcc.operators import PROBES

__all__ = ["PAGE", "main", "table"]

PAGE = DOCS / "accuracy.md"


def table() -> str:
    """All operators as Markdown."""
    lines = ["| operator | case | inputs | proved | measured |", "|---|---|---|---|---|"]
    for op, error in sorted(errors().items()):
        lo, hi = INTERVALS.get(op, INTERVAL)
        proved, measured = (e * 2.0**FRACTION for e in (error.proved, error.measured))
        lines.append(
            f"| {op} | {PROBES[op].what} | {lo:g} to {hi:g} | {proved:.3g} | {measured:.3g} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table, or write it to the documentation."""
    parser = argparse.ArgumentParser(description="Worst errors of operators.")
    parser.add_argument("--docs", action="store_true", help="write it to docs/accuracy.md")
    text = table()
    if parser.parse_args().docs:
        rewrite(PAGE, "operator errors", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
