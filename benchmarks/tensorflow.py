"""TensorFlow as the engine, beside the native one: cost per op and hop, whole cases, equal shares.

``python -m benchmarks.tensorflow`` times chains of one kind of work in the native engine, in
TensorFlow sessions over TLS and in one distributed session of TensorFlow's: local additions at one
party, and messages between two, of one word and of a megabyte. What one costs is the difference of
a long and a short chain, of the fastest runs each. ``python -m benchmarks.tensorflow A1 B1`` times
cases of benchmarks.run instead. TensorFlow's seconds include the sharing of the inputs, the native
engine's do not.

``--check A1 C1 ...`` compares, for equal keys, every value of TensorFlow's with the interpreter's
and every output with the native engine's, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import mpcc
from benchmarks.cases import CASES, unknown
from mpcc import _native
from mpcc.api import tensorflow as tensorflow_engine
from mpcc.artifact import Artifact
from mpcc.emit.graphdef import emit, parse
from mpcc.emit.tensorflow import for_tensorflow, without_calls
from mpcc.ir.core import Module
from mpcc.ir.interp.party import SeededKeys, Session
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.types import PLACES

__all__ = ["chain", "compare", "main"]

Array = npt.NDArray[Any]
Engine = Callable[[Artifact, Mapping[str, Array], Mapping[str, Array], int], list[float]]

_SEED = 11
_RUNS = 30
_OPS = (10, 1010)
_HOPS = (4, 204)
_LANES = (1, 1 << 17)  # one word, a megabyte of words


def chain(ops: int, hops: int, lanes: int) -> Module:
    """Additions at P0, then messages between P0 and P1; it protects nothing.

    Args:
        ops: additions.
        hops: messages between the two, an even number.
        lanes: elements of the value.
    """
    module = Module("party")

    def op(kind: str, *operands: Any, **attrs: Any) -> Any:
        result = module.main.append(DIALECT.operations[f"party.{kind}"], operands, attrs)
        return result.results[0] if result.results else None

    x = op("input", name="x", shape=(lanes,), place="client")
    x = op("encode", x, frac=8, lo=-8.0, hi=8.0)
    x = op("transfer", x, to="P0", step="input")
    zero = op("sub", x, x)
    for _ in range(ops):
        x = op("add", x, zero)
    for i in range(hops):
        x = op("transfer", x, to=f"P{1 - i % 2}", step=f"hop_{i}")
    x = op("transfer", x, to="client", step="open")
    op("output", op("decode", x, frac=8), name="y")
    return module


def _artifact(module: Module, lanes: int) -> Artifact:
    port = {"shape": [lanes], "owner": "client"}
    return Artifact.create(
        tensor_module=Module("tensor"),
        secure_module=Module("secure"),
        program=emit(module),
        protocol="none",
        phi={},
        inputs=[{"name": "x", "lo": -8.0, "hi": 8.0, **port}],
        outputs=[{"name": "y", **port}],
        cost={},
        version="0",
    )


def _native_seconds(
    artifact: Artifact, weights: Mapping[str, Array], inputs: Mapping[str, Array], runs: int
) -> list[float]:
    with mpcc.Session(artifact, weights, deadline=120.0) as live:
        done = [live.run(inputs) for _ in range(runs)]
        return list(live.statistics(done)["online_seconds"])


def _tensorflow_seconds(servers: bool) -> Engine:
    def seconds(
        artifact: Artifact, weights: Mapping[str, Array], inputs: Mapping[str, Array], runs: int
    ) -> list[float]:
        live = tensorflow_engine.open_session(
            artifact.program, weights, servers=servers, deadline=120.0
        )
        with live:
            given = tensorflow_engine.given_inputs(artifact, inputs)
            return [live.run(given)[0] for _ in range(runs)]

    return seconds


ENGINES: dict[str, Engine] = {
    "native": _native_seconds,
    "tensorflow-sessions": _tensorflow_seconds(False),
    "tensorflow": _tensorflow_seconds(True),
}


def _slope(seconds: Engine, make: Callable[[int], Module], counts: Sequence[int], n: int) -> float:
    """Seconds of one more of what a chain is made of."""
    x = np.linspace(-1, 1, n, dtype=np.float32)
    found = []
    for count in counts:
        fastest = min(seconds(_artifact(make(count), n), {}, {"x": x}, _RUNS)[1:])
        found.append(fastest)
    return (found[1] - found[0]) / (counts[1] - counts[0])


def _costs() -> None:
    print(f"{'':22}{'us per op':>12}{'us per hop':>12}{'MB op':>12}{'MB hop':>12}")
    for name, engine in ENGINES.items():
        cells = []
        for lanes in _LANES:
            # Runs of large values are shorter: what is looked for is far above the noise there.
            ops, hops = (_OPS, _HOPS) if lanes == 1 else ((10, 110), (4, 44))
            for make, counts in (
                (lambda k, n=lanes: chain(k, 0, n), ops),
                (lambda k, n=lanes: chain(1, k, n), hops),
            ):
                cells.append(f"{1e6 * _slope(engine, make, counts, lanes):12.1f}")
        print(f"{name:22}{''.join(cells)}", flush=True)


def _cases(names: Sequence[str]) -> None:
    print(f"{'case':12}" + "".join(f"{name:>22}" for name in ENGINES))
    for name in names:
        material = CASES[name].make()
        compiled = _compiled(material)
        row = []
        for engine in ENGINES.values():
            found = engine(compiled.artifact, compiled.weights, material.inputs, _RUNS // 3)
            row.append(f"{1e3 * min(found[1:]):19.2f} ms")
        print(f"{name:12}{''.join(row)}", flush=True)


def _compiled(material: Any) -> mpcc.Compiled:
    return mpcc.compile(
        material.model,
        options=mpcc.CompileOptions(formats=material.formats),
        calibration=material.calibration or None,
    )


def compare(
    program: bytes, weights: Mapping[str, Array], inputs: Mapping[str, Array]
) -> tuple[int, int]:
    """One run with equal keys in TensorFlow, the interpreter and the native engine.

    All places are in this process, in one TensorFlow session.

    Args:
        program: may have calls; they are written out.
        weights: ring words.
        inputs: float32.

    Returns:
        (values compared, values that differ).
    """
    import tensorflow as tf

    from mpcc.runtime.tensorflow import Task, session_config

    flat = without_calls(program)
    module = parse(flat)
    scope = f"check{id(module)}"
    names = {
        value: f"{scope}/n{index}:{i}"
        for index, op in enumerate(module.main.ops)
        for i, value in enumerate(op.results)
    }
    words = {n: np.ascontiguousarray(w).view(f"u{w.dtype.itemsize}") for n, w in weights.items()}
    session = Session(module, weights, SeededKeys(_SEED), keep=list(names))
    wanted = {**session.setup.values, **session.run(inputs, 1, keep=list(names)).values}
    native, _ = _native.run_in_memory(program, words, [dict(inputs)], _SEED)
    tasks = {place: Task(flat, place, f"{scope}/") for place in PLACES}
    try:
        for op in module.main.ops:
            if op.name in ("party.weight", "party.input"):
                given = words if op.name == "party.weight" else inputs
                tasks[op.attrs["place"]].give(op.attrs["name"], given[op.attrs["name"]])
        for place, task in tasks.items():
            task.begin(0, _keys(module, place, 0))
            task.begin(1, _keys(module, place, 1))
        graph_def = tf.compat.v1.GraphDef.FromString(for_tensorflow(flat))
        for node in graph_def.node:
            node.device = ""
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(graph_def, name=scope)
        ends = [
            graph.get_operation_by_name(f"{scope}/n{i}")
            for i, op in enumerate(module.main.ops)
            if op.name == "party.output"
        ]
        with tf.compat.v1.Session(graph=graph, config=session_config()) as live:
            found, _ = live.run([names, ends])
        differ = sum(found[v].tobytes() != wanted[v].tobytes() for v in names)
        for name, value in native[0].items():
            opened = next(
                o
                for o in tensorflow_engine.graphs_of(flat, servers=True).outputs
                if o["name"] == name
            )
            own = tasks[opened["place"]].output(name, tuple(opened["shape"]))
            differ += own.tobytes() != np.asarray(value).tobytes()
        return len(names) + len(native[0]), differ
    finally:
        for task in tasks.values():
            task.close()


def _keys(module: Module, place: str, run: int) -> dict[str, bytes]:
    phase, source = ("online", f"run:{run}") if run else ("setup", "setup")
    names = {
        inner.attrs["key"]
        for op in module.main.ops
        for inner in (op, *(op.body.ops if op.body is not None else ()))
        if inner.name in ("party.draw_ring", "party.draw_bits") and inner.attrs["phase"] == phase
    }
    keys = SeededKeys(_SEED)
    return {name: keys.key(name, source) for name in sorted(names) if place in name.split("+")}


def _check(names: Sequence[str]) -> int:
    wrong = 0
    for name in names:
        material = CASES[name].make()
        compiled = _compiled(material)
        inputs = tensorflow_engine.given_inputs(compiled.artifact, material.inputs)
        compared, differ = compare(compiled.artifact.program, compiled.weights, inputs)
        print(f"{name}: {compared} values and outputs, {differ} differ", flush=True)
        wrong += differ
    return wrong


def main() -> None:
    """Times or checks what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="of benchmarks.run; none: chains of ops and hops")
    parser.add_argument("--check", action="store_true", help="compare values, do not time")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    wrong = unknown(arguments.cases)
    if wrong:
        parser.error(wrong)
    if arguments.check:
        if not arguments.cases:
            parser.error("--check needs cases")
        sys.exit(1 if _check(arguments.cases) else 0)
    if arguments.cases:
        _cases(arguments.cases)
    else:
        _costs()


if __name__ == "__main__":
    main()
