"""What a traced run took, per layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcc.cost.predict import op_layer
from mpcc.ir.calls import inline
from mpcc.ir.core import Module
from mpcc.ir.types import COMPUTE_PLACES

__all__ = ["traced_layers"]


def traced_layers(trace: Mapping[str, Any], module: Module) -> dict[str, float]:
    """Seconds of local work per layer: of the fastest run, of the party that has most.

    Args:
        trace: Chrome trace events, as ``mpcc run --trace`` writes them.
        module: the party level of the program that ran.

    Raises:
        KeyError, TypeError, IndexError, ValueError: it is no such trace, or of another program.
    """
    # The engine numbers the ops of the program with its calls written out.
    ops = inline(module).module.main.ops
    runs: dict[tuple[str, int, int], float] = {}
    for event in trace["traceEvents"]:
        if event.get("cat") != "compute" or event["pid"] not in range(len(COMPUTE_PLACES)):
            continue
        number, run = event["args"]["op"], event["args"]["run"]
        if type(number) is not int or type(run) is not int or number < 0:
            raise ValueError("no numbers of operations")
        key = (op_layer(ops[number]), event["pid"], run)
        runs[key] = runs.get(key, 0.0) + float(event["dur"]) * 1e-6
    fastest: dict[tuple[str, int], float] = {}
    for (layer, party, _), seconds in runs.items():
        fastest[layer, party] = min(seconds, fastest.get((layer, party), seconds))
    found: dict[str, float] = {}
    for (layer, _), seconds in fastest.items():
        found[layer] = max(seconds, found.get(layer, 0.0))
    return found
