"""Tables and a plot from results: ``python -m benchmarks.table results.json peers.json``.

Prints for the terminal; ``--markdown`` prints Markdown instead, ``--plot FILE.svg`` draws how many
times slower the peers are, ``--docs`` writes both into ``docs/benchmarks.md`` and
``docs/benchmarks.svg``, and a summary into the README. Of several files, a later one replaces rows
of the earlier ones; the machine is described by the first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import compare
from benchmarks.cases import BATCHES, CASES
from benchmarks.compare import TITLES, ours, seconds_text
from benchmarks.models import NETWORKS
from benchmarks.pages import DOCS, README, PageError, rewrite
from benchmarks.plots import plot
from benchmarks.results import OURS, ResultError, Results, Row

__all__ = ["PART", "Printer", "main", "markdown", "summary", "terminal"]

PART = "measured"
"""Of the pages that this command writes."""

Column = tuple[str, int]

_COLUMNS: tuple[Column, ...] = (
    ("system", 12),
    ("case", 11),
    ("link", 5),
    ("online ms", 10),
    ("min", 9),
    ("cpu ms", 9),
    ("×bound", 7),
    ("bound ms ×", 10),
    ("bytes", 8),
    ("start s", 8),
    ("rounds", 7),
    ("MB", 9),
    ("link max", 9),
    ("mean", 9),
    ("above", 6),
    ("peak MB", 8),
    ("error", 8),
    ("k", 6),
    ("setting", 8),
)


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return "-" if value is None else format(value * factor, form)


def _widths(row: Row) -> str:
    return "-".join(map(str, dict.fromkeys(row.widths)))


def _cells(row: Row) -> list[str]:
    busiest = max(row.links.values()) if row.links else None
    mean = sum(row.links.values()) / len(row.links) if row.links else None
    return [
        row.system,
        row.case,
        row.link,
        _number(row.median, ".2f", 1e3),
        _number(min(row.online_seconds), ".2f", 1e3),
        _number(row.cpu_seconds, ".1f", 1e3),
        _number(row.median / row.bound if row.bound else None, ".2f"),
        _number(row.bounds.get("multiplying"), ".2f", 1e3),
        _number(row.bounds.get("sending"), ".2f", 1e3),
        _number(row.start_seconds, ".2f"),
        "-" if row.rounds is None else str(row.rounds),
        _number(row.total_bytes, ".3f", 1e-6),
        _number(busiest, ".3f", 1e-6),
        _number(mean, ".3f", 1e-6),
        _number(row.imbalance, ".1%"),
        _number(row.peak_bytes, ".0f", 1e-6),
        _number(row.deviation, ".1e"),
        _widths(row) or "-",
        row.setting or "-",
    ]


def _line(cells: Iterable[str]) -> str:
    return " ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True))


class Printer:
    """Prints rows as they are measured, the headings with the first."""

    def __init__(self) -> None:
        self._begun = False

    def show(self, row: Row) -> None:
        """One line."""
        if not self._begun:
            print(_line(name for name, _ in _COLUMNS))
            self._begun = True
        print(_line(_cells(row)), flush=True)


def _order(row: Row) -> tuple[int, str, int, str]:
    """By case, then the peers behind ours, then link."""
    cases = list(CASES)
    place = cases.index(row.case) if row.case in cases else len(cases)
    systems = [OURS, *TITLES]
    system = systems.index(row.system) if row.system in systems else len(systems)
    return place, row.setting, system, row.link


def terminal(results: Results) -> str:
    """All rows, and the aims."""
    lines = [_line(name for name, _ in _COLUMNS)]
    lines += [_line(_cells(row)) for row in sorted(results.rows, key=_order)]
    lines.append("")
    for v in compare.verdicts(results):
        lines.append(f"{'met    ' if v.met else 'NOT MET'} {v.case}: {v.aim}: {v.found}")
    lines += [f"failed: {failure.splitlines()[0]}" for failure in results.failures]
    return "\n".join(lines)


# --- Markdown ------------------------------------------------------------------------------------


def _md(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heading) + " |"]
    lines.append("|" + "|".join(["---", *["---:"] * (len(heading) - 1)]) + "|")
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join(lines)


def _title(case: str) -> str:
    return CASES[case].title if case in CASES else case


def _bound(row: Row, which: str) -> str:
    seconds = row.bounds.get(which)
    return seconds_text(seconds) if seconds else ""


def _own_table(rows: Sequence[Row]) -> str:
    heading = (
        *(
            "case",
            "online",
            "fastest",
            "processor",
            "multiplying",
            "sending",
            "over the bound",
            "rounds",
        ),
        *("MB", "busiest link", "start", "memory", "error", "k"),
    )
    lines = []
    for row in rows:
        setting = f" ({row.setting})" if row.setting else ""
        times = row.median / row.bound if row.bound else None
        lines.append(
            (
                _title(row.case) + setting,
                seconds_text(row.median),
                seconds_text(min(row.online_seconds)),
                "" if row.cpu_seconds is None else seconds_text(row.cpu_seconds),
                *(_bound(row, which) for which in ("multiplying", "sending")),
                "" if times is None else f"{times:.2f}",
                "" if row.rounds is None else str(row.rounds),
                _number(row.total_bytes, ".3g", 1e-6),
                "" if row.imbalance is None else f"+{row.imbalance:.1%}",
                "" if row.start_seconds is None else f"{row.start_seconds:.2f} s",
                _number(row.peak_bytes, ".0f", 1e-6) + " MB",
                _number(row.deviation, ".1e"),
                _widths(row),
            )
        )
    return _md(heading, lines)


def _links_table(results: Results) -> str:
    lines = []
    for case in CASES:
        found = [ours(results, case, link) for link in ("none", "lan", "wan")]
        if found[1] is None and found[2] is None:
            continue
        rounds = next(str(row.rounds) for row in found if row is not None)
        times = [seconds_text(row.median) if row is not None else "" for row in found]
        lines.append((_title(case), rounds, *times))
    return _md(("case", "rounds", "loopback", "lan", "wan"), lines) if lines else ""


def _peer_table(results: Results) -> str:
    lines = []
    for case in CASES:
        row = ours(results, case)
        figures = compare.figures(results, case)
        if row is None or not figures:
            continue
        cells = []
        for peer in TITLES:
            figure = figures.get(peer)
            if figure is None:
                cells.append("")
            else:
                cells.append(f"{figure.text()} ({figure.seconds / row.median:.3g}×)")
        lines.append((_title(case), seconds_text(row.median), *cells))
    return _md(("case", OURS, *TITLES.values()), lines) if lines else ""


def _batches_table(results: Results) -> str:
    """Time and payload of one input, by the size of the batch."""
    lines = []
    for net in NETWORKS:
        rows = [(n, ours(results, f"{net}{n}")) for n in BATCHES]
        known = [(n, row) for n, row in rows if row is not None]
        if len(known) < 3:
            continue
        cells = {n: seconds_text(row.median / n) for n, row in known}
        lines.append((f"{net}, time", *(cells.get(n, "") for n in BATCHES)))
        sizes = {n: _number(row.total_bytes, ".3g", 1e-3 / n) + " KB" for n, row in known}
        lines.append((f"{net}, payload", *(sizes.get(n, "") for n in BATCHES)))
    return _md(("of one input", *(f"batch {n}" for n in BATCHES)), lines) if lines else ""


def _machine(results: Results) -> str:
    e, p = results.environment, results.peaks
    text = (
        f"{e.get('cores')} cores of {e.get('processor') or 'an unnamed processor'} "
        f"({' '.join(e.get('flags', []))}), {e.get('memory_gib')} GiB, {e.get('system')}, "
        f"{e.get('openssl')}, Python {e.get('python')}; mpcc {e.get('mpcc')}"
    )
    text += f" at commit {e['commit']}" if e.get("commit") else ""
    text += f"; {e.get('date')}, load {e.get('load')} at the beginning."
    if e.get("load", 0) > e.get("cores", 1) / 2:
        text += (
            "\n**The machine was busy with other work: times are too long and ratios unreliable. "
            "Processor seconds, bytes and rounds hold.**"
        )
    if p:
        text += (
            f"\nAll cores together: {p['multiply_adds_64'] / 1e9:.1f} G multiply-adds per second "
            f"in Z_2^64, {p['multiply_adds_32'] / 1e9:.1f} G in Z_2^32; "
            f"{p['tls_bytes'] / 1e9:.2f} GB/s through TLS over loopback."
        )
    return text


def markdown(results: Results) -> str:
    """Everything as Markdown, without a title."""
    rows = sorted((r for r in results.rows if r.system == OURS and r.link == "none"), key=_order)
    parts = [_machine(results), _own_table(rows)]
    if links := _links_table(results):
        parts += ["### Over networks", links]
    if batches := _batches_table(results):
        parts += ["### By batch", batches]
    if peers := _peer_table(results):
        factor = compare.scale(results)
        parts += ["### Beside others", peers]
        if factor is not None:
            parts.append(
                f"\\* published, times {factor:.2f}, by which SPU was slower here than there. "
                "† the model rewritten by hand for that system. In brackets: how many times slower."
            )
    if found := compare.verdicts(results):
        lines = [(_title(v.case), v.aim, v.found, "yes" if v.met else "**no**") for v in found]
        parts += ["### Aims", _md(("case", "aim", "found", "met"), lines)]
    if results.failures:
        parts += ["### What did not run"]
        parts.append("\n".join(f"* {f.splitlines()[0]}" for f in results.failures))
    return "\n\n".join(parts) + "\n"


def summary(results: Results) -> str:
    """A paragraph for the README: what some networks take, and how others compare."""
    environment = results.environment
    shown = []
    for case in ("A1", "B1", "C1", "B128", "resnet18", "resnet50"):
        row = ours(results, case)
        if row is not None:
            shown.append(f"{_title(case)}: {seconds_text(row.median)}")
    text = (
        f"On {environment.get('cores')} cores ({environment.get('processor')}), all three parties "
        f"over TLS, weights secret: {'; '.join(shown)}."
    )
    for peer, title in TITLES.items():
        times = []
        for case in CASES:
            row, figure = ours(results, case), compare.figures(results, case).get(peer)
            if row is not None and figure is not None and figure.measured:
                times.append(figure.seconds / row.median)
        if len(times) > 1:
            text += (
                f"\n{title} took {min(times):.3g} to {max(times):.3g} times as long in the same "
                f"session ({len(times)} cases, median {statistics.median(times):.3g})."
            )
    return text + "\n"


def main(argv: list[str]) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.table", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("results", nargs="+", type=Path, help="JSON files")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--plot", type=Path, help="draw a picture, .svg or .png")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks.md and .svg")
    options = parser.parse_args(argv)
    try:
        results = Results.joined(Results.read(path) for path in options.results)
        if options.docs:
            rewrite(DOCS / "benchmarks.md", PART, markdown(results))
            plot(results, DOCS / "benchmarks.svg")
            rewrite(README, PART, summary(results))
    except (ResultError, PageError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.plot is not None:
        plot(results, options.plot)
    print(markdown(results) if options.markdown else terminal(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
