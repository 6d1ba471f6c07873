"""Graphviz form of a module, for `mpcc inspect --format dot`."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mpcc.ir.core import Function, Module, Value

__all__ = ["to_dot"]

_PLACE_COLOURS = {
    "P0": "#cfe2f3",
    "P1": "#d9ead3",
    "P2": "#fff2cc",
    "client": "#ead1dc",
    "model": "#d9d2e9",
}


def _nodes(function: Function) -> Iterator[str]:
    source: dict[Value, str] = {}
    for index, arg in enumerate(function.args):
        source[arg] = f"a{index}"
        yield f'  a{index} [label={json.dumps(str(arg.type))}, shape="ellipse"];'
    for index, op in enumerate(function.ops):
        lines = [op.name.partition(".")[2]]
        lines += [str(r.type) for r in op.results]
        if op.loc:
            lines.append(op.loc)
        types = [r.type for r in op.results] or [v.type for v in op.operands]
        place = next((t.place for t in types if hasattr(t, "place")), "")
        colour = _PLACE_COLOURS.get(place, "#ffffff")
        label = json.dumps("\n".join(lines))
        yield f'  n{index} [label={label}, fillcolor="{colour}"];'
        for value in op.operands:
            style = ' [color="#cc0000", penwidth=2]' if op.name == "party.transfer" else ""
            yield f"  {source[value]} -> n{index}{style};"
        for result in op.results:
            source[result] = f"n{index}"


def to_dot(module: Module) -> str:
    """The entry function as a Graphviz digraph; messages are the red edges."""
    head = [
        f"digraph {json.dumps(module.level)} {{",
        '  node [shape="box", style="filled", fontname="sans-serif", fontsize="10"];',
    ]
    return "\n".join([*head, *_nodes(module.main), "}"]) + "\n"
