"""The model owner's private report for people: accuracy, agreement, where errors come from.

It shows what ``M.private.json`` holds, which nobody else should see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from mpcc.reports.private import of_this_version

__all__ = ["agreement_lines", "owner_tables"]

SHOWN = 20
"""Layers that are shown where not all are asked for."""


def agreement_lines(found: Mapping[str, Any]) -> list[str]:
    """Sentences on the agreement in a private report, one for every output."""
    random = found["inputs"] == "random"
    asked = "" if found["least"] is None else f", {found['least']:.2%} asked for"
    lines = []
    for name, row in found["outputs"].items():
        several = row["rows"] != row["samples"]
        whole = f"; all of a sample's in {row['whole']} of {row['samples']}" if several else ""
        lines.append(
            f"{name} ({row['decision']}): {row['agreeing']} of {row['rows']} decisions are the "
            f"float model's{asked}{whole}; at {found['confidence']:.0%} confidence at least "
            f"{row['lower_end']:.1%} of {'random inputs' if random else 'such samples'}"
            + ("; no calibration data were given, so random inputs were used" if random else "")
        )
    return lines


def owner_tables(report: Mapping[str, Any], *, all_layers: bool = False) -> list[RenderableType]:
    """What a report says.

    Args:
        report: of ``M.private.json``.
        all_layers: show every layer in the model's order, not only those with the largest shares
            of the error.

    Raises:
        MpccError: ``E-private``: it is not what `mpcc compile` of this version writes.
    """
    with of_this_version():
        return _tables(report, None if all_layers else SHOWN)


def _tables(report: Mapping[str, Any], count: int | None) -> list[RenderableType]:
    head = Table("", "", show_header=False)
    how = f"on {report['samples']} samples" if report["samples"] else "on random inputs"
    for name, error in report["measured_error"].items():
        head.add_row(
            f"error of {name}",
            f"{error:.3g} measured {how}, budget {report['max_error']:.3g} "
            f"with a safety factor of {report['safety']:g}",
        )
    for text in agreement_lines(report["agreement"]):
        head.add_row("agreement", text)
    for name, row in report["agreement"]["outputs"].items():
        for close in row["close"][:3]:
            same = "the same decision" if close["agrees"] else "another decision"
            head.add_row(
                f"close in {name}",
                f"sample {close['sample']}, row {close['row']}: margin {close['margin']:.2g}, "
                f"error {close['error']:.2g}, {same}",
            )
    formats = f"{report['frac']} fraction bits, {report['weight_frac']} of the weights"
    head.add_row("formats", f"{formats}, ranges {report['policy']}")
    rows = report["layers"]
    shown: Sequence[Mapping[str, Any]] = rows
    title = f"all {len(rows)} layers"
    if count is not None:
        shown = sorted(rows, key=lambda row: -(row["error"]["share"] or 0.0))[:count]
        title = f"the {len(shown)} of {len(rows)} layers that the error comes from most"
    return [head, _errors(shown, title), _ranges(shown)]


def _name(row: Mapping[str, Any]) -> str:
    return str(row["node"] or row["layer"])


def _figure(x: float | None) -> str:
    return "-" if x is None else f"{x:.2g}"


def _errors(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    table = Table("layer", "operator", title=f"errors: {title}")
    for column in ("share", "adds", "rms of that", "budget of it", "error here", "proved"):
        table.add_column(column, justify="right")
    for row in rows:
        error = row["error"]
        share = "-" if error["share"] is None else f"{error['share']:.1%}"
        keys = ("own", "own_rms", "budget_rms", "observed", "proved")
        table.add_row(_name(row), row["name"], share, *(_figure(error[key]) for key in keys))
    return table


def _ranges(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("layer", "seen", "proved", "bits", "of headroom", "width", "why", title="ranges")
    for row in rows:
        found = row["range"]
        ends = [
            "-" if pair is None else f"{pair[0]:.3g} .. {pair[1]:.3g}"
            for pair in (found["observed"], found["proved"])
        ]
        counts = [
            "-" if n is None else str(n) for n in (row["bits"], found["headroom"], found["width"])
        ]
        table.add_row(_name(row), *ends, *counts, found["why"])
    return table
