"""The table of worst errors of operators: ``python -m benchmarks.accuracy [--docs]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mpcc.accuracy import FRACTION
from mpcc.operator_errors import INTERVAL, INTERVALS, errors
from mpcc.operators import PROBES

__all__ = ["main", "table", "write_docs"]

DOCS = Path(__file__).resolve().parent.parent / "docs" / "accuracy.md"
_START, _END = "<!-- operator errors: begin -->", "<!-- operator errors: end -->"


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


def write_docs(text: str, path: Path = DOCS) -> None:
    """Put the table in its place in the documentation.

    Raises:
        ValueError: the place is missing.
    """
    before, start, rest = path.read_text("utf-8").partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise ValueError(f"{path.name} has no place for the table")
    path.write_text(f"{before}{start}\n{text}\n{end}{after}", "utf-8")


def main() -> None:
    """Print the table, or write it to the documentation."""
    parser = argparse.ArgumentParser(description="Worst errors of operators.")
    parser.add_argument("--docs", action="store_true", help="write it to docs/accuracy.md")
    text = table()
    if parser.parse_args().docs:
        write_docs(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
