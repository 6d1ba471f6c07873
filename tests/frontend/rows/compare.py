"""Comparisons, logic and choice."""

import numpy as np

from tests.frontend.models import node
from tests.frontend.rows.table import BOOL, INT64, Row, weights

AB = {"a": (2, 3), "b": (2, 3)}
WIDE = {"a": (2, 1, 3), "b": (4, 1)}
BITS = [node("Less", ["a", "b"], ["c"]), node("Greater", ["a", "one"], ["d"])]
ONE = {"one": np.float32(1)}


def compared(op: str, *opsets: int) -> list[Row]:
    return [
        Row(f"{op} same", op, AB, opsets=opsets, outputs=(BOOL,)),
        Row(f"{op} broadcast", op, WIDE, opsets=opsets, outputs=(BOOL,)),
        Row(f"{op} weight", op, {"a": (4, 3)}, {"w": weights(3)}, {}, opsets, outputs=(BOOL,)),
        Row(f"{op} ties", op, AB, opsets=opsets, outputs=(BOOL,), whole=True),
    ]


def logical(op: str) -> Row:
    return Row(op, op, AB, ONE, {}, (9, 13), ("c", "d"), before=BITS, outputs=(BOOL,))


FIRST = [node("ArgMax", ["x"], ["i"], axis=1)]
K = {"k": np.array([[2], [0]])}

ROWS = [
    *compared("Less", 9, 13),
    *compared("Greater", 9, 13),
    *compared("LessOrEqual", 12, 16),
    *compared("GreaterOrEqual", 12, 16),
    *compared("Equal", 11, 13, 19),
    logical("And"),
    logical("Or"),
    logical("Xor"),
    logical("Equal"),
    Row("not", "Not", AB, {}, {}, (9,), ("c",), before=BITS[:1], outputs=(BOOL,)),
    Row(
        "and with a constant", "And", AB, {"m": np.array([True, False, True])}, {}, (9,),
        ("c", "m"), before=BITS[:1], outputs=(BOOL,),
    ),
    Row(
        "not of a reshaped one", "Not", AB, {"s": np.array([6])}, {}, (9, 13), ("r",),
        before=[*BITS[:1], node("Reshape", ["c", "s"], ["r"])], outputs=(BOOL,),
    ),
    Row("where", "Where", AB, {}, {}, (9, 16), ("c", "a", "b"), before=BITS[:1]),
    Row("where broadcast", "Where", {"a": (3,), "b": (2, 1)}, {}, {}, (9, 16), ("c", "a", "b"),
        before=BITS[:1]),
    Row("where weight", "Where", AB, {"w": weights(3)}, {}, (9,), ("c", "w", "b"),
        before=BITS[:1]),
    Row(
        "where constant", "Where", AB, {"m": np.array([[True, False, True]])}, {}, (9, 16),
        ("m", "a", "b"), disclosed=1,
    ),
    Row(
        "where constant rows", "Where", {"a": (2, 3), "b": (3,)},
        {"m": np.array([[True], [False]])}, {}, (9,), ("m", "a", "b"), disclosed=1,
    ),
    Row(
        "where of integers", "Where", AB, {"k": np.int64(7)}, {}, (9, 16), ("c", "i", "k"),
        before=[*BITS[:1], node("Cast", ["a"], ["i"], to=INT64)], outputs=(INT64,),
    ),
    Row("positions plus", "Add", {"x": (2, 4)}, K, {}, (14,), ("i", "k"), before=FIRST,
        outputs=(INT64,)),
    Row("positions as floats", "Cast", {"x": (2, 4)}, {}, {"to": 1}, (13, 21), ("i",),
        before=FIRST),
    Row("positions equal", "Equal", {"x": (2, 4)}, K, {}, (13, 19), ("i", "k"), before=FIRST,
        outputs=(BOOL,), whole=True),
    Row("positions moved", "Transpose", {"x": (2, 4)}, {}, {"perm": [1, 0]}, (13,), ("i",),
        before=FIRST, outputs=(INT64,), whole=True),
]  # fmt: skip
