"""Small models that ask for much: how each is built, and what must come of it.

Run as a program, with limits on memory and processor time, it imports every model and writes one
line of JSON for each: its name, the error's code or "", its text, and how many ops and weights the
module has.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from tests.frontend.models import model, node
from tests.frontend.rows.control import graph

MEMORY = 2 << 30
"""Bytes of address space that an import may need."""

SECONDS = 240

F, I64 = np.float32, np.int64
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
CARRIED: Mapping[str, tuple[int, Sequence[int] | None]] = {
    "i": (INT64, []),
    "go": (BOOL, []),
    "s": (FLOAT, None),
}
ZEROS = numpy_helper.from_array(np.zeros(1, F))


def lrn(channels: int) -> onnx.ModelProto:
    """A window of 2^30 + 1 channels."""
    return model([node("LRN", ["x"], ["y"], size=(1 << 30) + 1)], {"x": (1, channels, 2)})


def scan(inputs: int) -> onnx.ModelProto:
    """More inputs are scanned than there are."""
    body = graph([node("Identity", ["e"], ["r"])], {"e": (FLOAT, [2])}, {"r": FLOAT})
    made = model([node("Scan", ["x"], ["y"], body=body, num_scan_inputs=1)], {"x": (3, 2)})
    # ONNX's checker refuses it too, where it looks at all.
    for attribute in made.graph.node[0].attribute:
        if attribute.name == "num_scan_inputs":
            attribute.i = inputs
    return made


def attention(keys: int, **attributes: Any) -> onnx.ModelProto:
    """Many keys, of which each query may see others."""
    shapes = {"q": (1, 1, keys, 2), "k": (1, 1, keys, 2), "v": (1, 1, keys, 2)}
    return model([node("Attention", [*shapes], ["y"], **attributes)], shapes, opset=23)


def lstm(batch: int) -> onnx.ModelProto:
    """Many sequences."""
    constants = {"w": np.ones((1, 4, 1), F), "r": np.ones((1, 4, 1), F)}
    nodes = [node("LSTM", ["x", "w", "r"], ["y"], hidden_size=1)]
    return model(nodes, {"x": (2, batch, 1)}, constants=constants)


def _loop(body: onnx.GraphProto, steps: int, start: np.ndarray | None = None) -> onnx.ModelProto:
    constants = {"n": np.array(steps, I64)}
    first = "x"
    if start is not None:
        constants["start"], first = start, "start"
    nodes = [node("Loop", ["n", "", first], ["last"], body=body), node("Add", ["x", "last"], ["y"])]
    return model(nodes, {"x": (4,)}, constants=constants)


def loop_weights() -> onnx.ModelProto:
    """A large weight and a large constant in a body of 1000 steps."""
    weight = np.ones((4, 1 << 20), F)
    body = graph(
        [
            node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones((1 << 20, 4), F))),
            node("MatMul", ["w", "c"], ["wc"]),
            node("MatMul", ["s", "wc"], ["r"]),
            node("Identity", ["go"], ["on"]),
        ],
        CARRIED,
        {"on": BOOL, "r": FLOAT},
        {"w": weight},
    )
    return _loop(body, 1000)


def if_in_loop() -> onnx.ModelProto:
    """A large weight in a branch on a secret condition, 500 times."""
    weights = {"w": np.ones((4, 4), F)}
    branches = {
        name: graph([node("MatMul", ["s", "w"], [name])], {}, {name: FLOAT}, weights)
        for name in ("a", "b")
    }
    body = graph(
        [
            node("ReduceSum", ["s"], ["t"], keepdims=0),
            node("Constant", [], ["zero"], value_float=0.0),
            node("Greater", ["t", "zero"], ["c"]),
            node("If", ["c"], ["r"], then_branch=branches["a"], else_branch=branches["b"]),
            node("Identity", ["go"], ["on"]),
        ],
        CARRIED,
        {"on": BOOL, "r": FLOAT},
    )
    return _loop(body, 500)


def doubling_loop() -> onnx.ModelProto:
    """A constant that becomes twice as long at every step."""
    body = graph(
        [node("Concat", ["s", "s"], ["r"], axis=0), node("Identity", ["go"], ["on"])],
        CARRIED,
        {"on": BOOL, "r": FLOAT},
    )
    made = _loop(body, 60, np.ones(4, F))
    del made.graph.node[1]
    nodes = [node("ReduceMax", ["last"], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])]
    made.graph.node.extend(nodes)
    return made


def doubling(times: int) -> onnx.ModelProto:
    """The same without a loop."""
    nodes = [node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(times)]
    nodes += [node("ReduceMax", [f"c{times}"], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])]
    return model(nodes, {"x": (4,)}, constants={"c0": np.ones(4, F)})


def stacked() -> onnx.ModelProto:
    """A loop that hands out a large constant at every step."""
    body = graph(
        [
            node("Identity", ["s"], ["r"]),
            node("Identity", ["w"], ["out"]),
            node("Identity", ["go"], ["on"]),
        ],
        CARRIED,
        {"on": BOOL, "r": FLOAT, "out": FLOAT},
        {"w": np.ones(1 << 20, F)},
    )
    nodes = [
        node("Loop", ["n", "", "x"], ["last", "all"], body=body),
        node("ReduceMax", ["all"], ["m"], keepdims=0),
        node("Add", ["last", "m"], ["y"]),
    ]
    return model(nodes, {"x": (4,)}, constants={"n": np.array(1000, I64)})


def nested_loops() -> onnx.ModelProto:
    """Loops of empty bodies in each other."""
    body = graph([], {**CARRIED}, {"go": BOOL, "s": FLOAT})
    for level in range(4):
        inner = node("Loop", ["n", "", "s"], ["r"], body=body, name=f"level{level}")
        body = graph([inner, node("Identity", ["go"], ["on"])], CARRIED, {"on": BOOL, "r": FLOAT})
    return _loop(body, 1000)


def ids(count: int, height: int) -> onnx.ModelProto:
    """Positions that are looked up and used elsewhere too."""
    nodes = [
        node("Gather", ["table", "ids"], ["rows"]),
        node("Cast", ["ids"], ["numbers"], to=FLOAT),
        node("ReduceSum", ["numbers"], ["total"], keepdims=0),
        node("Add", ["rows", "total"], ["y"]),
    ]
    made = model(nodes, {"ids": (count,)}, constants={"table": np.ones((height, 2), F)})
    made.graph.input[0].type.tensor_type.elem_type = INT64
    return made


def lookup(count: int, height: int) -> onnx.ModelProto:
    """Rows of a table that hold their own number."""
    table = np.arange(height, dtype=F)[:, None].repeat(2, axis=1)
    made = model([node("Gather", ["t", "ids"], ["y"])], {"ids": (count,)}, constants={"t": table})
    made.graph.input[0].type.tensor_type.elem_type = INT64
    return made


def exponents() -> onnx.ModelProto:
    """A power of its own for each of a million numbers."""
    p = np.linspace(0.1, 8, 1 << 17).astype(F)
    return model([node("Pow", ["x", "p"], ["y"])], {"x": (1 << 17,)}, constants={"p": p})


def scatter() -> onnx.ModelProto:
    """All updates to one element, one after the other."""
    constants = {"at": np.zeros(1 << 20, I64)}
    nodes = [node("ScatterElements", ["x", "at", "u"], ["y"], axis=0, reduction="add")]
    return model(nodes, {"x": (1 << 20,), "u": (1 << 20,)}, constants=constants, opset=18)


def scatter_rows() -> onnx.ModelProto:
    """Few positions of rows that are long."""
    shape = (2, 1 << 36)
    constants = {"at": np.zeros((1, 1), I64)}
    nodes = [node("ScatterND", ["x", "at", "u"], ["y"])]
    return model(nodes, {"x": shape, "u": (1, 1 << 36)}, constants=constants)


def one(op: str, shape: tuple[int, ...], constants: Mapping[str, np.ndarray] | None = None,
        opset: int = 18, **attributes: Any) -> onnx.ModelProto:  # fmt: skip
    """One node, of an input and constants."""
    nodes = [node(op, ["x", *(constants or {})], ["y"], **attributes)]
    return model(nodes, {"x": shape}, constants=constants, opset=opset)


def masks() -> onnx.ModelProto:
    """Whether it is a mask could be asked 16^8 times."""
    nodes = [node("Add", ["x", "x"], ["c0"])]
    nodes += [node("Concat", [f"c{i}"] * 16, [f"c{i + 1}"], axis=0) for i in range(7)]
    nodes += [node("Mul", ["c7", "w"], ["m"]), node("Softmax", ["m"], ["y"], axis=1)]
    return model(nodes, {"x": (1, 2)}, constants={"w": np.full(1, -1e9, F)})


def functions(depth: int) -> onnx.ModelProto:
    """A function that calls another twice, and so on; the last one calls the first if 0."""
    made = model([node("f0", ["x"], ["y"], domain="d")], {"x": (2,)}, domains=["d"])
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("d", 1)]
    last = "f0" if depth == 0 else "Relu"
    for i in range(depth or 1):
        name = f"f{i + 1}" if i + 1 < depth else last
        domain = "" if name == "Relu" else "d"
        nodes = [node(name, ["a"], ["b"], domain=domain), node(name, ["b"], ["c"], domain=domain)]
        made.functions.append(helper.make_function("d", f"f{i}", ["a"], ["c"], nodes, opsets))
    return made


ATTACKS: Mapping[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "window": (lambda: lrn(2), ""),
    "window of many channels": (lambda: lrn(1 << 20), "E-limit-import"),
    "scanned inputs": (lambda: scan(1 << 40), "E-"),
    "a negative number of scanned inputs": (lambda: scan(-1), "E-"),
    "keys": (lambda: attention(1 << 19), ""),
    "keys in order": (lambda: attention(1 << 19, is_causal=1), "E-limit-import"),
    "sequences": (lambda: lstm(1 << 30), "E-limit-import"),
    "weights of a loop": (loop_weights, ""),
    "weights of branches in a loop": (if_in_loop, ""),
    "a loop that doubles": (doubling_loop, "E-limit-import"),
    "doubling": (lambda: doubling(60), "E-limit-import"),
    "memory": (lambda: doubling(23), "E-limit-import"),
    "rows of a loop": (stacked, "E-limit-import"),
    "empty loops": (nested_loops, "E-"),
    "positions": (lambda: ids(1 << 10, 1 << 16), "E-import-unsupported"),
    "exponents": (exponents, "E-import-unsupported"),
    "updates": (scatter, "E-import-unsupported"),
    "rows of updates": (scatter_rows, "E-limit-import"),
    "a diagonal": (lambda: one("EyeLike", (1 << 20, 1 << 20)), "E-"),
    "a triangle": (lambda: one("Trilu", (1 << 20, 1 << 20)), "E-limit-import"),
    "a slice": (
        lambda: one("Slice", (1 << 36,), {"s": np.array([-1]), "e": np.array([-(1 << 40)]),
                                          "a": np.array([0]), "t": np.array([-1])}),
        "E-limit-import",
    ),
    "a mirror": (
        lambda: one("Pad", (1 << 30,), {"p": np.array([1, 1])}, mode="reflect"), "E-limit-import",
    ),
    "a repetition": (
        lambda: one("Pad", (2,), {"p": np.array([1 << 33, 1])}, mode="edge"), "E-limit-import",
    ),
    "places": (
        lambda: one("OneHot", (1,), {"d": np.array(1 << 36), "v": np.array([0, 1], F)}),
        "E-limit-import",
    ),
    "a mean": (
        lambda: one("AveragePool", (1, 1, 1 << 33), kernel_shape=[2], pads=[1, 1]),
        "E-limit-import",
    ),
    "an interpolation": (
        lambda: one("Resize", (1, 1, 1 << 17), {"r": np.zeros(0, F), "s": np.zeros(0, F),
                    "z": np.array([1, 1, 1 << 18])}, mode="linear"),
        "E-limit-import",
    ),
    "a smooth interpolation": (
        lambda: one("Resize", (1, 1, 1 << 14), {"r": np.zeros(0, F),
                    "s": np.array([1, 1, 1e-4], F)}, mode="cubic", antialias=1),
        "",
    ),
    "a trace": (
        lambda: one("Einsum", (1 << 18, 1 << 18), equation="ii->i"), "E-limit-import",
    ),
    "questions": (masks, ""),
    "functions": (lambda: functions(40), "E-limit-import"),
    "functions in a circle": (lambda: functions(0), "E-model-invalid"),
}  # fmt: skip
"""By name: the model, and how the error's code begins; "" if it can be imported after all."""


def _size() -> int:
    """Bytes of address space that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def main() -> None:
    """Import all; one line each."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    for name, (make, _) in ATTACKS.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        source = make().SerializeToString()
        # "memory" keeps to all other limits.
        free = 1 << 26 if name == "memory" else MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (_size() + free, resource.RLIM_INFINITY))
        row: dict[str, object] = {"name": name, "code": "", "text": "", "ops": 0, "weights": 0}
        try:
            found = import_onnx(source)
        except MpccError as error:
            row |= {"code": error.code, "text": str(error)}
        else:
            row |= {"ops": len(found.module.main.ops), "weights": len(found.constants)}
        row["seconds"] = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
