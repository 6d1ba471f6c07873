"""Reductions."""

from tests.frontend.rows.table import Row, ints

X = {"x": (2, 3, 4)}


def reduced(op: str, input_since: int = 18) -> list[Row]:
    """All kinds of axes, as an attribute and as an input."""
    old = (7, 11) if input_since == 13 else (7, 11, 12, 13)
    new = (input_since, 20)
    return [
        Row(f"{op} all", op, X, {}, {}, (*old, *new)),
        Row(f"{op} all, flat", op, X, {}, {"keepdims": 0}, (*old, *new)),
        Row(f"{op} axis", op, X, {}, {"axes": [1]}, old),
        Row(f"{op} axes, flat", op, X, {}, {"axes": [2, 0], "keepdims": 0}, old),
        Row(f"{op} negative axis", op, X, {}, {"axes": [-1]}, (11,)),
        Row(f"{op} axis input", op, X, {"i": ints(1)}, {}, new),
        Row(f"{op} axes input, flat", op, X, {"i": ints(-1, 0)}, {"keepdims": 0}, new),
        Row(f"{op} no axes", op, X, {"i": ints()}, {"noop_with_empty_axes": 1}, new),
        Row(f"{op} no axes, all", op, X, {"i": ints()}, {}, new),
        Row(f"{op} one element", op, {"x": (1, 1)}, {}, {}, (7, 20)),
    ]


OPS = (
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceSumSquare",
    "ReduceProd",
)

ROWS = [
    Row("hardmax", "Hardmax", X, {}, {}, (7, 11, 13)),
    Row("hardmax axis", "Hardmax", X, {}, {"axis": 2}, (7, 11, 13)),
    Row("hardmax first axis", "Hardmax", X, {}, {"axis": 0}, (7, 11, 13)),
    Row("hardmax equal ones", "Hardmax", {"x": (4, 6)}, {}, {"axis": 1}, (7, 13), whole=True),
    *(row for op in OPS for row in reduced(op, 13 if op == "ReduceSum" else 18)),
]
# Without axes these two still take absolute values and squares; onnxruntime does not.
for row in ROWS:
    if row.op in ("ReduceL1", "ReduceSumSquare") and "noop_with_empty_axes" in row.attrs:
        row.reference = True
