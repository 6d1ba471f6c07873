"""Picking, placing and ordering elements."""

import numpy as np

from tests.frontend.models import node
from tests.frontend.rows.table import BOOL, FLOAT, INT64, Row, ints

X = {"x": (3, 4, 5)}
PICK = np.array([[0, 3, 1], [-1, 2, 2]])
PLACES = np.array([[1, 0, 2, 0, 1], [0, -1, 1, 2, 0]])


def scattered(name: str, op: str, data, indices, updates, opsets, **attrs) -> Row:
    return Row(
        f"{op} {name}", op, {"x": data, "u": updates}, {"i": indices}, attrs, opsets,
        ("x", "i", "u"),
        # onnxruntime before 1.13 and its older kernels ignore reductions.
        reference="reduction" in attrs,
    )  # fmt: skip


def ordered(op: str, name: str, x=(3, 4), opsets=(7, 11, 13), whole=False, **attrs) -> Row:
    return Row(f"{op} {name}", op, {"x": x}, {}, attrs, opsets, outputs=(INT64,), whole=whole)


TOPK = (FLOAT, INT64)

ROWS = [
    Row("gather", "Gather", X, {"i": PICK}, {"axis": 1}, (7, 11, 13)),
    Row("gather scalar", "Gather", X, {"i": np.int64(2)}, {"axis": 2}, (7, 13)),
    Row("gather range", "Gather", X, {"i": ints(1, 2, 3)}, {"axis": 1}, (7, 13)),
    Row("gather steps", "Gather", X, {"i": ints(0, 2, 4)}, {"axis": -1}, (11, 13)),
    Row("gather reversed", "Gather", X, {"i": ints(2, 1, 0)}, {}, (7, 13)),
    Row("gather int32", "Gather", X, {"i": np.array([1, 1], np.int32)}, {}, (7, 13)),
    Row("gather elements", "GatherElements", {"x": (3, 4)}, {"i": np.array([[2, 0], [1, -1]])},
        {"axis": 1}, (11, 13)),
    Row("gather elements default", "GatherElements", {"x": (3, 4)}, {"i": np.array([[2, 0, 1, 1]])},
        {}, (11, 13)),
    Row("gather nd", "GatherND", X, {"i": np.array([[0, 1], [2, 3]])}, {}, (11, 13)),
    Row("gather nd elements", "GatherND", X, {"i": np.array([[0, 1, 4], [2, -1, 0]])}, {},
        (11, 13)),
    Row("gather nd batch", "GatherND", X, {"i": np.array([[1], [0], [3]])}, {"batch_dims": 1},
        (12, 13)),
    Row("compress", "Compress", X, {"c": np.array([True, False, True, True])}, {"axis": 1},
        (9, 11), disclosed=1),
    Row("compress flat", "Compress", {"x": (2, 2)}, {"c": np.array([False, True, True])}, {},
        (9, 11), disclosed=1),
    Row("reverse sequence", "ReverseSequence", {"x": (4, 3)}, {"n": ints(4, 1, 2)},
        {"time_axis": 0, "batch_axis": 1}, (10,)),
    Row("reverse sequence batch first", "ReverseSequence", {"x": (3, 4)}, {"n": ints(4, 1, 2)},
        {"time_axis": 1, "batch_axis": 0}, (10,)),
    Row("trilu", "Trilu", {"x": (2, 4, 5)}, {}, {}, (14,)),
    Row("trilu lower", "Trilu", {"x": (4, 4)}, {}, {"upper": 0}, (14,)),
    Row("trilu diagonal", "Trilu", {"x": (4, 4)}, {"k": np.int64(1)}, {}, (14,)),
    Row("trilu below", "Trilu", {"x": (4, 4)}, {"k": np.int64(-2)}, {"upper": 0}, (14,)),
    Row("trilu nothing left", "Trilu", {"x": (3, 3)}, {"k": np.int64(5)}, {}, (14,)),
    scattered("rows", "ScatterElements", (3, 5), PLACES[:1], (1, 5), (11, 13, 16)),
    scattered("columns", "ScatterElements", (3, 5), np.array([[0, -1], [2, 1], [4, 3]]), (3, 2),
              (11, 13, 16), axis=1),
    Row("scatter", "Scatter", {"x": (3, 5), "u": (1, 5)}, {"i": PLACES[:1]}, {}, (9, 10),
        ("x", "i", "u")),
    scattered("add", "ScatterElements", (3, 5), PLACES, (2, 5), (16, 18), reduction="add"),
    scattered("mul", "ScatterElements", (3, 5), PLACES, (2, 5), (16, 18), reduction="mul"),
    scattered("max", "ScatterElements", (3, 5), PLACES, (2, 5), (18,), reduction="max"),
    scattered("min", "ScatterElements", (3, 5), PLACES, (2, 5), (18,), reduction="min"),
    scattered("rows", "ScatterND", (4, 3), np.array([[3], [1]]), (2, 3), (11, 13, 16)),
    scattered("elements", "ScatterND", (4, 3), np.array([[3, 0], [-1, 1]]), (2,), (11, 13, 16)),
    scattered("add", "ScatterND", (4, 3), np.array([[3], [1], [3]]), (3, 3), (16, 18),
              reduction="add"),
    scattered("max", "ScatterND", (4, 3), np.array([[3], [1], [3]]), (3, 3), (18,),
              reduction="max"),
    ordered("ArgMax", "default"),
    ordered("ArgMax", "axis", axis=1),
    ordered("ArgMax", "flat", axis=1, keepdims=0),
    ordered("ArgMax", "negative", opsets=(11, 13), axis=-1),
    ordered("ArgMax", "first of equal ones", (3, 8), whole=True, axis=1),
    ordered("ArgMax", "last of equal ones", (3, 8), (12, 13), True, axis=1, select_last_index=1),
    ordered("ArgMin", "default"),
    ordered("ArgMin", "first of equal ones", (3, 8), whole=True, axis=1),
    ordered("ArgMin", "last of equal ones", (3, 8), (12, 13), True, axis=1, select_last_index=1),
    Row("topk attribute", "TopK", {"x": (3, 5)}, {}, {"k": 2}, (7,), outputs=TOPK),
    Row("topk", "TopK", {"x": (3, 5)}, {"k": ints(3)}, {}, (10, 11), outputs=TOPK),
    Row("topk axis", "TopK", {"x": (4, 2)}, {"k": ints(2)}, {"axis": 0}, (10, 11), outputs=TOPK),
    Row("topk smallest", "TopK", {"x": (3, 5)}, {"k": ints(2)}, {"largest": 0}, (11,),
        outputs=TOPK),
    Row("topk all", "TopK", {"x": (2, 4)}, {"k": ints(4)}, {"sorted": 1}, (11,), outputs=TOPK),
    Row("topk equal ones", "TopK", {"x": (3, 6)}, {"k": ints(3)}, {}, (11,), outputs=TOPK,
        whole=True),
    Row("one hot", "OneHot", {"x": (2, 3)}, {"d": np.float32(4), "v": np.asarray([0, 1], "f4")}, {},
        (9, 11), disclosed=2, whole=True),
    Row("one hot axis", "OneHot", {"x": (2, 3)}, {"d": np.float32(3), "v": np.array([-2, 5], "f4")},
        {"axis": 0}, (9, 11), disclosed=2, whole=True),
    Row(
        "one hot negative", "OneHot", {"x": (4,)}, {"one": np.float32(1), "d": np.float32(3),
        "v": np.asarray([0, 1], "f4")}, {}, (11,), ("z", "d", "v"), disclosed=2, whole=True,
        before=[node("Sub", ["x", "one"], ["z"])],
    ),
    Row("cumsum", "CumSum", X, {"a": np.int64(1)}, {}, (11, 14)),
    Row("cumsum exclusive", "CumSum", X, {"a": np.int64(-1)}, {"exclusive": 1}, (11, 14)),
    Row("cumsum reverse", "CumSum", X, {"a": np.int64(0)}, {"reverse": 1}, (11, 14)),
    Row("cumsum both", "CumSum", X, {"a": np.int64(2)}, {"reverse": 1, "exclusive": 1}, (11, 14)),
    Row("gather of truth", "Gather", {"a": (3,), "b": (3,)}, {"i": ints(2, 0)}, {}, (9, 13),
        ("c", "i"), before=[node("Less", ["a", "b"], ["c"])], outputs=(BOOL,)),
]  # fmt: skip
