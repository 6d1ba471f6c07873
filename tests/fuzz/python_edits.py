"""Edits that turn valid files into hostile ones.

An edit is three numbers (what, where, with what), so that a list of them can be drawn by
hypothesis, made smaller by it, and drawn by the long campaign from a generator of its own.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from typing import Any

from mpcc.emit.schema import GraphDef

Edit = tuple[int, int, int]

#: Numbers at which readers go wrong.
NUMBERS = (0, 1, -1, 7, 63, 64, 65, 255, 2**16, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63))

#: Values of another kind, of another size, or of no size at all.
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    2**64,
    10**400,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    True,
    None,
    "",
    "\x1b[31m",
    "\ud800",
    "a" * 3000,
    [],
    {},
    [[]],
    [0, 1],
    [[0, 1], [0, 2]],
    {"a": 1},
)

TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|[%@]?\w+|\s+|.')


def edit_bytes(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Bytes changed, left out, repeated, cut, moved."""
    out = bytearray(data)
    for what, where, value in edits:
        if not out:
            out += b"\0"
        at = where % len(out)
        match what % 6:
            case 0:
                out[at] = value % 256
            case 1:
                out[at] ^= 1 << value % 8
            case 2:
                del out[at : at + 1 + value % 64]
            case 3:
                out[at:at] = out[at : at + 1 + value % 64]
            case 4:
                out[at : at + 8] = NUMBERS[value % len(NUMBERS)].to_bytes(8, "little", signed=True)
            case _:
                out = out[: at + 1] if value % 4 == 0 else out[at:] + out[:at]
    return bytes(out)


def edit_text(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Words of a text replaced, left out, repeated, swapped; numbers made extreme."""
    words = TOKENS.findall(data.decode())
    for what, where, value in edits:
        if not words:
            words = ["0"]
        at = where % len(words)
        match what % 6:
            case 0:
                words[at] = words[value % len(words)]
            case 1:
                del words[at : at + 1 + value % 8]
            case 2:
                words[at:at] = words[at : at + 1 + value % 8]
            case 3:
                numbers = [i for i, w in enumerate(words) if w.lstrip("-").isdigit()]
                if numbers:
                    words[numbers[where % len(numbers)]] = str(VALUES[value % 16])
            case 4:
                other = value % len(words)
                words[at], words[other] = words[other], words[at]
            case _:
                words[at] = ("[" * 400, '"', "\x00", "é", "1e999", "-", "//", "{")[value % 8]
    return "".join(words).encode(errors="surrogatepass")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside a JSON value."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        here = waiting.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here))
        for key in keys:
            found.append((here, key))
            if isinstance(here[key], dict | list):
                waiting.append(here[key])
    return found


def edit_json(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Values of a JSON text replaced, left out, repeated under another name."""
    value = json.loads(data)
    for what, where, with_what in edits:
        places = _places(value)
        if not places:
            break
        container, key = places[where % len(places)]
        match what % 4:
            case 0 | 1:
                container[key] = copy.deepcopy(VALUES[with_what % len(VALUES)])
            case 2:
                del container[key]
            case _ if isinstance(container, dict):
                container[f"{key}{with_what % 3}"] = copy.deepcopy(container[key])
            case _:
                container.insert(key, copy.deepcopy(container[key]))
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True).encode()


def edit_graph(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Nodes of a program moved, repeated, joined to others; attributes made extreme."""
    graph = GraphDef.FromString(data)
    for what, where, value in edits:
        if not len(graph.node):
            break
        node = graph.node[where % len(graph.node)]
        other = graph.node[value % len(graph.node)]
        attrs = sorted(node.attr)
        key = attrs[value % len(attrs)] if attrs else "value"
        match what % 8:
            case 0:
                node.attr[key].i = NUMBERS[value % len(NUMBERS)]
            case 1:
                node.attr[key].s = str(VALUES[value % len(VALUES)]).encode(errors="replace")
            case 2:
                node.input.append(other.name)
            case 3:
                del node.input[value % 3 :]
            case 4:
                node.op, node.device = other.op, other.device
            case 5:
                node.attr[key].list.i.append(NUMBERS[value % len(NUMBERS)])
            case 6:
                node.CopyFrom(other)
            case _:
                node.name = other.name
    return bytes(graph.SerializeToString(deterministic=True))
