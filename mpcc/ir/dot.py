"""Graphviz form of a module, for `mpcc inspect --format dot`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.types import PartyType, place_of

__all__ = ["to_dot"]

_PLACE_COLOURS = {
    "P0": "#cfe2f3",
    "P1": "#d9ead3",
    "P2": "#fff2cc",
    "client": "#ead1dc",
    "model": "#d9d2e9",
}


def _nodes(function: Function, keep: Callable[[Op], bool] | None) -> Iterator[str]:
    source: dict[Value, str] = {}
    for index, arg in enumerate(function.args):
        source[arg] = f"a{index}"
        yield f'  a{index} [label={json.dumps(str(arg.type))}, shape="ellipse"];'
    for index, op in enumerate(function.ops):
        if keep is not None and not keep(op):
            continue
        lines = [op.name.partition(".")[2]]
        lines += [str(r.type) for r in op.results]
        if op.loc:
            lines.append(op.loc)
        types = [v.type for v in (*op.results, *op.operands)]
        place = next((place_of(t) for t in types if isinstance(t, PartyType)), "")
        colour = _PLACE_COLOURS.get(place, "#ffffff")
        label = json.dumps("\n".join(lines))
        yield f'  n{index} [label={label}, fillcolor="{colour}"];'
        for value in op.operands:
            if value not in source:
                continue
            style = ' [color="#cc0000", penwidth=2]' if op.name == "party.transfer" else ""
            yield f"  {source[value]} -> n{index}{style};"
        for result in op.results:
            source[result] = f"n{index}"


def to_dot(module: Module, keep: Callable[[Op], bool] | None = None) -> str:
    """The entry function as a Graphviz digraph; messages are the red edges.

    Args:
        module: the module.
        keep: with it, only ops for which it is true are shown, and the edges between them.
    """
    head = [
        f"digraph {json.dumps(module.level)} {{",
        '  node [shape="box", style="filled", fontname="sans-serif", fontsize="10"];',
    ]
    return "\n".join([*head, *_nodes(module.main, keep), "}"]) + "\n"
