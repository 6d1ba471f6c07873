"""Compile time, size and cost of recurrent layers of many steps.

``python -m benchmarks.recurrent [--both] [LAYER:STEPS ...]``, by default ``LSTM:200``. With
``--both`` each is compiled with functions and with its steps written out, whatever its size, which
for 200 steps takes many minutes. Layers have 16 inputs and 32 units, random weights, no data.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import mpcc
from mpcc import compiler
from mpcc.ir.calls import called

__all__ = ["GATES", "layer", "main", "row"]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""By operator."""

_WIDTH, _HIDDEN = 16, 32


def layer(op: str, steps: int) -> bytes:
    """An ONNX file of one layer, of a sequence of that many steps; its last state is the output."""
    rng, size = np.random.default_rng(0), GATES[op] * _HIDDEN
    weights = {
        "w": rng.normal(0, 0.3, (1, size, _WIDTH)),
        "r": rng.normal(0, 0.3, (1, size, _HIDDEN)),
        "b": rng.normal(0, 0.3, (1, 2 * size)),
    }
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *weights], ["", "h"], hidden_size=_HIDDEN)],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, 1, _WIDTH])],
        [helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 1, _HIDDEN])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString(deterministic=True))


def row(op: str, steps: int) -> str:
    """One line: seconds of compiling, bytes of the artifact, rounds and bytes of a run."""
    data = layer(op, steps)
    wall, own = time.perf_counter(), time.process_time()
    artifact = mpcc.compile(data).artifact
    wall, own = time.perf_counter() - wall, time.process_time() - own
    how = "functions" if called(artifact.secure_module) else "written out"
    sent = sum(artifact.cost["bytes_sent"].values())
    return (
        f"{op:4} {steps:5} {how:12} {wall:8.1f} {own:8.1f} {len(artifact.to_bytes()):10} "
        f"{artifact.cost['rounds']:7} {sent / 1e6:8.2f}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Print a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--both", action="store_true", help="with and without functions")
    parser.add_argument("layers", nargs="*", default=["LSTM:200"], metavar="LAYER:STEPS")
    options = parser.parse_args(arguments)
    limits = (0, sys.maxsize) if options.both else (compiler.MOST_WRITTEN_OUT,)
    sys.stdout.write("steps        how              s    cpu s      bytes  rounds       MB\n")
    for text in options.layers:
        op, _, steps = text.partition(":")
        if op not in GATES or not steps.isdigit():
            parser.error(f"{text} is no layer and number of steps, such as LSTM:200")
        for limit in limits:
            compiler.MOST_WRITTEN_OUT = limit
            sys.stdout.write(row(op, int(steps)) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
