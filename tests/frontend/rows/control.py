"""Branches and loops."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.frontend.models import node
from tests.frontend.rows.table import FLOAT, Row, ints, weights

INT64, BOOL = TensorProto.INT64, TensorProto.BOOL
X = {"x": (2, 3)}


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int] | None]],
    outputs: Mapping[str, int],
    constants: Mapping[str, np.ndarray] | None = None,
) -> onnx.GraphProto:
    """A subgraph; outputs by their element type."""
    return helper.make_graph(
        list(nodes),
        "inside",
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, t, None) for n, t in outputs.items()],
        [numpy_helper.from_array(v, n) for n, v in (constants or {}).items()],
    )


# Both branches call what they compute by the same names.
ADDS = graph([node("Add", ["x", "w"], ["v"]), node("Relu", ["v"], ["r"])], {}, {"r": FLOAT},
             {"w": weights(3)})  # fmt: skip
SUBTRACTS = graph([node("Sub", ["x", "w"], ["v"]), node("Neg", ["v"], ["r"])], {}, {"r": FLOAT},
                  {"w": weights(2, 3)})  # fmt: skip
GIVES = graph([node("Identity", ["k"], ["r"])], {}, {"r": FLOAT}, {"k": weights(2, 3)})
PASSES = graph([node("Identity", ["x"], ["r"])], {}, {"r": FLOAT})
# It cannot be imported, and need not be.
COUNTS = graph([node("NonZero", ["x"], ["v"]), node("Cast", ["v"], ["r"], to=FLOAT)], {},
               {"r": FLOAT})  # fmt: skip
INNER = graph(
    [node("If", ["no"], ["r"], then_branch=COUNTS, else_branch=ADDS)], {}, {"r": FLOAT},
    {"no": np.array(False)},
)  # fmt: skip
ABOVE = [
    node("ReduceSum", ["x", "axes"], ["total"], keepdims=0),
    node("Greater", ["total", "zero"], ["c"]),
]
TOTAL = {"axes": ints(0, 1), "zero": np.float32(0)}

CARRIED = {"i": (INT64, []), "go": (BOOL, []), "s": (FLOAT, [2, 3])}
ACCUMULATES = graph(
    [
        node("Identity", ["go"], ["on"]),
        node("Mul", ["s", "w"], ["m"]),
        node("Add", ["m", "x"], ["t"]),
        node("Cast", ["i"], ["f"], to=FLOAT),
        node("Add", ["t", "f"], ["u"]),
        node("Slice", ["u", "zero", "one", "axis"], ["row"]),
    ],
    CARRIED,
    {"on": BOOL, "u": FLOAT, "row": FLOAT},
    {"w": weights(3), "zero": ints(0), "one": ints(1), "axis": ints(0)},
)
STOPS = graph(
    [
        node("Less", ["i", "last"], ["on"]),
        node("Add", ["s", "x"], ["u"]),
    ],
    CARRIED,
    {"on": BOOL, "u": FLOAT},
    {"last": np.array(2)},
)
NUMBERS = graph(
    [
        node("Identity", ["go"], ["on"]),
        node("Add", ["s", "x"], ["u"]),
        node("Cast", ["i"], ["f"], to=FLOAT),
        node("Mul", ["u", "f"], ["v"]),
    ],
    CARRIED,
    {"on": BOOL, "u": FLOAT, "v": FLOAT},
)
SUMS = graph(
    [node("Add", ["s", "a"], ["t"]), node("Mul", ["t", "b"], ["p"]), node("Relu", ["t"], ["q"])],
    {"s": (FLOAT, [3]), "a": (FLOAT, [3]), "b": (FLOAT, [3])},
    {"t": FLOAT, "p": FLOAT, "q": FLOAT},
)
SCANS = {"s": (3,), "x": (4, 3), "z": (3, 4)}

LATER = (11, 13, 16, 19, 21)


def branch(name: str, then: onnx.GraphProto, other: onnx.GraphProto, **more) -> Row:
    return Row(f"if {name}", "If", X, more.pop("constants"), {"then_branch": then,
               "else_branch": other}, **more)  # fmt: skip


ROWS = [
    branch("true", ADDS, COUNTS, constants={"c": np.array(True)}, opsets=LATER, operands=("c",)),
    branch("old", SUBTRACTS, ADDS, constants={"c": np.array(True)}, opsets=(7,), operands=("c",)),
    branch("false", ADDS, SUBTRACTS, constants={"c": np.array([False])}, operands=("c",),
           opsets=(13,)),
    branch("within if", SUBTRACTS, INNER, constants={"c": np.array(False)}, operands=("c",),
           opsets=(13,)),
    branch("secret", ADDS, SUBTRACTS, constants=TOTAL, before=ABOVE, operands=("c",),
           opsets=(13, 21)),
    branch("secret constant", GIVES, PASSES, constants=TOTAL, before=ABOVE, operands=("c",),
           opsets=(13,)),
    Row("loop", "Loop", X, {"n": np.array(3), "go": np.array(True)}, {"body": ACCUMULATES},
        LATER, operands=("n", "go", "x"), outputs=(FLOAT, FLOAT)),
    Row("loop, old", "Loop", X, {"n": np.array(3), "go": np.array(True)}, {"body": NUMBERS}, (7,),
        operands=("n", "go", "x"), outputs=(FLOAT, FLOAT)),
    Row("loop without condition", "Loop", X, {"n": np.array(2), "s0": weights(2, 3)},
        {"body": ACCUMULATES}, (13,), operands=("n", "", "s0"), outputs=(FLOAT, FLOAT)),
    Row("loop that stops", "Loop", X, {"go": np.array(True)}, {"body": STOPS}, (13,),
        operands=("", "go", "x")),
    Row("loop of no steps", "Loop", X, {"n": np.array(3), "go": np.array(False)}, {"body": STOPS},
        (13,), operands=("n", "go", "x")),
    Row("scan", "Scan", SCANS, {},
        {"body": SUMS, "num_scan_inputs": 2, "scan_input_axes": [0, 1],
         "scan_input_directions": [0, 1], "scan_output_axes": [1, 0],
         "scan_output_directions": [0, 1]}, (9, 11, 16, 19, 21), outputs=(FLOAT,) * 3),
    Row("scan of a batch", "Scan", {"s": (2, 3), "x": (2, 4, 3), "z": (2, 4, 3)}, {},
        {"body": SUMS, "num_scan_inputs": 2, "directions": [0, 1]}, (8,),
        operands=("", "s", "x", "z"), outputs=(FLOAT,) * 3),
    Row("scan of weights", "Scan", {"s": (3,), "x": (4, 3)}, {"z": weights(4, 3)},
        {"body": SUMS, "num_scan_inputs": 2}, (11,), outputs=(FLOAT,) * 3),
]  # fmt: skip
