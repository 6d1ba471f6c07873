"""Places of the nodes of a directed graph that is drawn from top to bottom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["COLUMN", "ROW", "layered"]

COLUMN = 190
"""From one node of a row to the next."""
ROW = 84
"""From one row to the next."""

_SWEEPS = 4


def _ranks(before: Sequence[Sequence[int]], after: Sequence[Sequence[int]]) -> list[int]:
    """A row for every node below those of all its sources; a source as low as it can be."""
    ranks = [0] * len(before)
    for node, sources in enumerate(before):
        ranks[node] = max((ranks[s] + 1 for s in sources), default=0)
    for node, users in enumerate(after):
        if users and not before[node]:
            ranks[node] = min(ranks[u] for u in users) - 1
    return ranks


def layered(count: int, edges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(x, y) of every node; the graph stands in the middle of x = 0.

    Nodes are ranked by the longest chain that leads to them, then ordered within a row by the
    middle of their neighbours (Sugiyama, Tagawa, Toda: Methods for visual understanding of
    hierarchical system structures, 1981).

    Args:
        count: number of nodes.
        edges: from a node to a node. Those from a later to an earlier one, which close a cycle,
            have no say in the order.
    """
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for source, user in dict.fromkeys(edges):
        after[source].append(user)
        if source < user:
            before[user].append(source)
    ranks = _ranks(before, after)
    rows: dict[int, list[int]] = {}
    for node in range(count):
        rows.setdefault(ranks[node], []).append(node)
    order = sorted(rows)
    x = [0.0] * count
    for rank in order:
        _spread(rows[rank], x)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        neighbours = before if down else after
        for rank in order if down else reversed(order):
            row = rows[rank]
            wish = {
                n: sum(x[m] for m in neighbours[n]) / len(neighbours[n]) if neighbours[n] else x[n]
                for n in row
            }
            row.sort(key=wish.__getitem__)
            _spread(row, x)
    return [(round(x[n] * COLUMN), ranks[n] * ROW) for n in range(count)]


def _spread(row: Sequence[int], x: list[float]) -> None:
    for place, node in enumerate(row):
        x[node] = place - (len(row) - 1) / 2
