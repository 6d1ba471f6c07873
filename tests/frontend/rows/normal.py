"""Quotients, roots, powers, softmax, normalisation."""

from typing import Any

import numpy as np

from tests.frontend.models import node
from tests.frontend.rows.table import FLOAT, Row, floats, ints, weights

X = {"x": (3, 11)}
POSITIVE = [node("Abs", ["x"], ["p"])]


def positive(name, op, *rest, **options) -> Row:
    """A row whose first operand is an absolute value."""
    constants, attrs, opsets = (*rest, {}, {}, (7, 13))[:3] if len(rest) < 3 else rest
    return Row(
        name, op, options.pop("inputs", X), constants, attrs, opsets,
        ("p", *constants), before=POSITIVE, **options,
    )  # fmt: skip


def layer(name, op, x, first, opsets, bias=True, **attrs) -> Row:
    constants = {"s": weights(*x[first:])} | ({"b": weights(*x[first:]) - 1} if bias else {})
    return Row(name, op, {"x": x}, constants, attrs, opsets)


def reduced(op, before=(), **options) -> list[Row]:
    """A reduction with its axes as an attribute, then as an input."""
    operand: dict[str, Any] = {"operands": ("p",)} if before else {}
    inner: dict[str, Any] = {"operands": ("p", "axes")} if before else {}
    x = {"x": (2, 3, 4)}
    return [
        Row(f"{op} all", op, x, {}, {"keepdims": 0}, (7, 11, 13, 18), before=before, **operand),
        Row(f"{op} axis", op, x, {}, {"axes": [1]}, (7, 11, 13), before=before, **operand),
        Row(f"{op} axes", op, x, {}, {"axes": [0, 2], "keepdims": 0}, (11, 13), before=before,
            **operand),
        Row(f"{op} input", op, x, {"axes": ints(-1, 0)}, {}, (18,), before=before, **inner),
        *options.get("more", ()),
    ]  # fmt: skip


ROWS = [
    Row("div weight", "Div", {"a": (2, 3, 4)}, {"b": weights(3, 1)}),
    Row("div number", "Div", {"a": (2, 3)}, {"b": np.float32(3)}),
    Row("pow 2", "Pow", {"x": (2, 3)}, {"e": np.float32(2)}, disclosed=1),
    Row("pow 5 whole", "Pow", {"x": (5,)}, {"e": np.int64(5)}, opsets=(12, 15)),
    Row("pow 1, wider", "Pow", {"x": (3,)}, {"e": np.ones((2, 1), np.float32)}, disclosed=1),
    Row("pow of several", "Pow", {"x": (2, 3)}, {"e": np.asarray([3, 1, 3], "f4")}, disclosed=2),
    Row("pow of integers", "Pow", {"x": (2, 1)}, {"e": np.array([4, 2, 4])}, opsets=(12, 15)),
    Row("div computed", "Div", {"a": (2, 3), "b": (2, 3)}),
    Row("div broadcast", "Div", {"a": (2, 1, 3), "b": (4, 1)}),
    Row("div of a weight", "Div", {"b": (2, 3)}, {"a": weights(3)}, operands=("a", "b")),
    Row("pow inverse", "Pow", X, {"e": np.float32(-1)}, disclosed=1),
    Row("pow minus 3", "Pow", X, {"e": np.int64(-3)}, opsets=(12, 15), whole=True),
    Row("pow 0", "Pow", {"x": (2, 3)}, {"e": np.float32(0)}, disclosed=1),
    positive("pow half", "Pow", {"e": np.float32(0.5)}, {}, (7, 13, 15), disclosed=1),
    positive("pow minus half", "Pow", {"e": np.float32(-0.5)}, {}, (13,), disclosed=1),
    positive("pow 2.5", "Pow", {"e": np.float32(2.5)}, {}, (13,), disclosed=1),
    positive("pow minus 1.5", "Pow", {"e": np.float32(-1.5)}, {}, (13,), disclosed=1, whole=True),
    positive("pow 0.3", "Pow", {"e": np.float32(0.3)}, {}, (13,), disclosed=1),
    Row("reciprocal", "Reciprocal", X, opsets=(7, 13)),
    positive("sqrt", "Sqrt"),
    positive("log", "Log"),
    Row("softsign", "Softsign", X, opsets=(7, 22)),
    Row("tan", "Tan", {"x": (3, 4)}, opsets=(7, 22), whole=True),
    Row("softmax", "Softmax", {"x": (2, 3, 4)}, opsets=(7, 11, 13)),
    Row("softmax middle axis", "Softmax", {"x": (2, 3, 4)}, {}, {"axis": 1}, (7, 11, 13)),
    Row("softmax first axis", "Softmax", {"x": (2, 3)}, {}, {"axis": 0}, (7, 11, 13)),
    Row("softmax last axis", "Softmax", {"x": (2, 3, 4)}, {}, {"axis": -1}, (11, 13)),
    Row(
        "softmax masked", "Softmax", {"x": (2, 3, 4)}, {"m": floats(0, -1e4, 0, -1e9)}, {},
        (11, 13), ("s",), largest=100.0, before=[node("Add", ["x", "m"], ["s"])],
    ),
    Row(
        "softmax spelled out", "Div", {"x": (2, 3, 4)}, {"axes": ints(1)}, {}, (13, 21),
        ("e", "t"),
        before=[node("Exp", ["x"], ["e"]), node("ReduceSum", ["e", "axes"], ["t"])],
        largest=8.0,
    ),
    Row(
        "softmax spelled out stably", "Div", {"x": (3, 4)}, {}, {}, (11,), ("e", "t"),
        before=[
            node("ReduceMax", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["d"]),
            node("Exp", ["d"], ["e"]), node("ReduceSum", ["e"], ["t"], axes=[-1]),
        ],
    ),
    Row("reciprocal of a root", "Reciprocal", X, {}, {}, (13,), ("r",),
        before=[*POSITIVE, node("Sqrt", ["p"], ["r"])]),
    Row("log softmax", "LogSoftmax", {"x": (2, 3, 4)}, opsets=(7, 11, 13)),
    Row("log softmax first axis", "LogSoftmax", {"x": (2, 3)}, {}, {"axis": 0}, (11, 13)),
    layer("layer norm", "LayerNormalization", (2, 3, 8), 2, (17,)),
    layer("layer norm no bias", "LayerNormalization", (2, 16), 1, (17,), False, epsilon=1e-3),
    layer("layer norm axes", "LayerNormalization", (2, 3, 4), 1, (17,), axis=1, stash_type=1),
    Row("layer norm computed", "LayerNormalization", {"x": (2, 4), "s": (4,), "b": (4,)}, {}, {},
        (17,)),
    Row("layer norm statistics", "LayerNormalization", {"x": (2, 3, 4)},
        {"s": weights(4), "b": weights(4)}, {}, (17,), outputs=(FLOAT,) * 3, largest=8.0),
    Row(
        "layer norm spelled out", "Div", {"x": (2, 3, 8)},
        {"two": np.float32(2), "e": np.float32(1e-5)}, {}, (13,), ("c", "r"), disclosed=2,
        before=[
            node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["c"]),
            node("Pow", ["c", "two"], ["q"]), node("ReduceMean", ["q"], ["v"], axes=[-1]),
            node("Add", ["v", "e"], ["a"]), node("Sqrt", ["a"], ["r"]),
        ],
    ),
    Row(
        "rms norm spelled out", "Div", {"x": (3, 8)}, {"e": floats(0.01)}, {}, (13,), ("x", "r"),
        disclosed=1,
        before=[
            node("Mul", ["x", "x"], ["q"]), node("ReduceMean", ["q"], ["v"], axes=[1]),
            node("Add", ["e", "v"], ["a"]), node("Sqrt", ["a"], ["r"]),
        ],
    ),
    Row("rms norm", "RMSNormalization", {"x": (2, 3, 8)}, {"s": weights(8)}, {}, (23,),
        reference=True),
    Row("rms norm axis", "RMSNormalization", {"x": (2, 3, 4)}, {"s": weights(3, 4)},
        {"axis": -2, "epsilon": 0.1}, (23,), reference=True),
    Row("instance norm", "InstanceNormalization", {"x": (2, 3, 5)},
        {"s": weights(3), "b": weights(3) + 1}, {}, (7, 22)),
    Row("instance norm 2-d", "InstanceNormalization", {"x": (1, 2, 3, 4)},
        {"s": weights(2), "b": weights(2) + 1}, {"epsilon": 0.01}, (7,)),
    Row("group norm", "GroupNormalization", {"x": (2, 6, 4)},
        {"s": weights(6), "b": weights(6) + 1}, {"num_groups": 3}, (21,), reference=True),
    Row("group norm 2-d", "GroupNormalization", {"x": (1, 4, 3, 2)},
        {"s": weights(4), "b": weights(4) + 1}, {"num_groups": 1, "epsilon": 0.01}, (21,),
        reference=True),
    Row("lp norm", "LpNormalization", {"x": (2, 3, 4)}, opsets=(7, 22)),
    Row("lp norm axis", "LpNormalization", {"x": (2, 3)}, {}, {"axis": 0, "p": 2}, (7,)),
    Row("lp norm 1", "LpNormalization", {"x": (2, 5)}, {}, {"axis": 1, "p": 1}, (7, 22)),
    Row("mean variance norm", "MeanVarianceNormalization", {"x": (2, 3, 4, 5)}, opsets=(12,),
        whole=True),
    Row("mean variance norm axes", "MeanVarianceNormalization", {"x": (2, 3, 4)}, {},
        {"axes": [1, 2]}, (12, 13), whole=True),
    Row("lrn", "LRN", {"x": (1, 7, 2, 3)}, {}, {"size": 3}, (7, 13), largest=8.0),
    Row("lrn wide", "LRN", {"x": (2, 4, 2, 1)}, {}, {"size": 5, "alpha": 0.5, "beta": 0.5,
        "bias": 2.0}, (13,), largest=8.0),
    *reduced("ReduceL2"),
    *reduced("ReduceLogSum", POSITIVE),
    *reduced("ReduceLogSumExp"),
]  # fmt: skip
