"""The cost of a program in the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from mpcc.cost import Report, format_bytes, format_seconds
from mpcc.errors import printable
from mpcc.reports.tree import Row, tree

__all__ = ["cost_tree"]


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


_LEAST_NAME, _ALL_COLUMNS = 20, 110
"""Characters that names of layers have at least; of a line from which on all columns are shown."""


def cost_tree(
    report: Report,
    sort: str = "program",
    depth: int | None = None,
    nodes: Mapping[str, str] | None = None,
    width: int = 120,
) -> Table:
    """A table per layer, with groups above and steps below them where asked for.

    Args:
        report: the prediction.
        sort: of :data:`mpcc.reports.SORTS`; every level is sorted by itself.
        depth: how many levels are shown; None shows all down to layers, without their steps.
        nodes: the source model's nodes by layer, from the owner's private report.
        width: characters of a line; what is read least is left out of a narrow one.
    """
    network = report.profile.name
    root = tree(report, nodes).sorted(sort, network)
    timed = network in root.seconds
    caption = "\n".join(f"{label}: {text}" for label, text in report.headline())
    table = Table(caption=caption, caption_justify="left")
    table.add_column("layer", overflow="fold", min_width=_LEAST_NAME)
    all_of_it = width >= _ALL_COLUMNS
    columns: tuple[str, ...] = ("time", "share", "computing") if timed else ()
    columns = columns if all_of_it else columns[:2]
    last = ("messages", "in setup", "products") if all_of_it else ()
    for name in (*columns, "rounds", "sent", "share", *last):
        table.add_column(name, justify="right", no_wrap=True)

    def add(level: int, row: Row) -> None:
        times: tuple[str, ...] = ()
        if timed:
            seconds = row.seconds[network]
            share = _share(seconds, root.seconds[network])
            computing = format_seconds(row.computing) if row.kind != "step" else ""
            times = (format_seconds(seconds), share, computing)[: len(columns)]
        sent = (str(row.rounds), format_bytes(row.sent), _share(row.sent, root.sent))
        rest = (str(row.messages), format_bytes(row.setup), f"{row.products:,}")
        table.add_row(
            # Names are text, not markup.
            Text("  " * (level - 1) + printable(row.name)),
            *times,
            *sent,
            *(rest if row.kind != "step" else ("", "", ""))[: len(last)],
            style="dim" if row.kind == "step" else "bold" if row.kind == "group" else None,
        )

    for level, row in root.walk(depth):
        if level and (depth is not None or row.kind != "step"):
            add(level, row)
    table.add_section()
    add(1, root)
    return table
