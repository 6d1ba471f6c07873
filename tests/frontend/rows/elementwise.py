"""Arithmetic, activations and rounding."""

import numpy as np

from tests.frontend.models import node
from tests.frontend.rows.table import FLOAT, INT64, Row, floats, weights

AB = {"a": (2, 3), "b": (2, 3)}
X = {"x": (3, 11)}

ROWS = [
    Row("add same", "Add", AB),
    Row("add broadcast", "Add", {"a": (2, 1, 3), "b": (4, 1)}),
    Row("add scalar", "Add", {"a": (2, 3)}, {"b": np.float32(0.25)}),
    Row("add weight", "Add", {"a": (2, 3, 4)}, {"b": weights(3, 1)}),
    Row("sub same", "Sub", {"a": (5,), "b": (5,)}),
    Row("sub weight on the left", "Sub", {"a": (2, 3)}, {"w": weights(3)}, operands=("w", "a")),
    Row("sub itself", "Sub", {"a": (3,)}, operands=("a", "a")),
    Row("mul same", "Mul", AB),
    Row("mul broadcast", "Mul", {"a": (2, 1, 3), "b": (4, 1)}),
    Row("mul weight", "Mul", {"a": (2, 3, 4)}, {"b": weights(3, 1)}),
    Row("mul itself", "Mul", {"a": (3,)}, operands=("a", "a")),
    Row("sum one", "Sum", {"a": (2, 3)}),
    Row("sum three", "Sum", {"a": (2, 3), "b": (3,), "c": (1, 1)}, opsets=(8, 13)),
    Row("mean three", "Mean", {"a": (2, 3), "b": (3,), "c": (2, 1)}, opsets=(8, 13)),
    Row("neg", "Neg", X),
    Row("abs", "Abs", X),
    Row("sign", "Sign", X, opsets=(9, 13)),
    Row("max one", "Max", {"a": (2, 3)}, opsets=(8, 12, 13)),
    Row("max three", "Max", {"a": (2, 3), "b": (3,), "c": (1, 1)}, opsets=(8, 13)),
    Row("max constant", "Max", {"a": (2, 3)}, {"b": weights(3)}, opsets=(8, 13)),
    Row("min five", "Min", dict.fromkeys("abcde", (2, 3)), opsets=(8, 12, 13)),
    Row("relu", "Relu", X),
    Row("relu one element", "Relu", {"x": (1,)}),
    Row("relu scalar", "Relu", {"x": ()}),
    Row("leaky relu", "LeakyRelu", X, {}, {"alpha": 0.25}, (7, 16)),
    Row("leaky relu default", "LeakyRelu", X, opsets=(7, 16)),
    Row("prelu", "PRelu", {"x": (2, 3, 4)}, {"s": weights(3, 1)}, opsets=(9, 16)),
    Row("prelu of inputs", "PRelu", {"x": (2, 3), "s": (3,)}, opsets=(9, 16)),
    Row("thresholded relu", "ThresholdedRelu", X, {}, {"alpha": 0.5}, (10, 22)),
    Row("thresholded relu default", "ThresholdedRelu", X, opsets=(10,)),
    Row("thresholded relu negative", "ThresholdedRelu", X, {}, {"alpha": -0.5}, (10,)),
    Row("clip attributes", "Clip", X, {}, {"min": -1.0, "max": 6.0}, (7, 10)),
    Row("clip no bounds", "Clip", X, opsets=(7, 10, 11, 13)),
    Row("clip low attribute", "Clip", X, {}, {"min": 0.0}, (7, 10)),
    Row("clip", "Clip", X, {"l": floats(-1)[0], "h": floats(0.5)[0]}, {}, (11, 13), disclosed=2),
    Row("clip relu6", "Clip", X, {"l": floats(0)[0], "h": floats(6)[0]}, {}, (11, 13), disclosed=2),
    Row("clip crossed", "Clip", X, {"l": floats(2)[0], "h": floats(1)[0]}, {}, (13,), disclosed=2),
    Row("clip high", "Clip", X, {"h": np.float32(1)}, {}, (11, 12, 13), ("x", "", "h"), 1),
    Row("clip computed", "Clip", {"x": (3, 4), "l": (), "h": ()}, {}, {}, (11, 13)),
    Row(
        "clip computed high", "Clip", {"x": (3, 4), "h": ()}, {"l": np.float32(-1)}, {}, (13,),
        ("x", "l", "h"), 1,
    ),
    Row(
        "clip computed low", "Clip", {"x": (3, 4), "l": ()}, {"h": np.float32(1)}, {}, (13,),
        ("x", "l", "h"), 1,
    ),
    Row("hard sigmoid", "HardSigmoid", X, {}, {"alpha": 0.25, "beta": 0.25}, (7, 22)),
    Row("hard sigmoid default", "HardSigmoid", X),
    Row("hard swish", "HardSwish", X, opsets=(14, 22)),
    Row("shrink", "Shrink", X, {}, {"lambd": 1.5, "bias": 0.5}, (9,)),
    Row("shrink default", "Shrink", X, opsets=(9,)),
    Row("floor", "Floor", X),
    Row("ceil", "Ceil", X),
    Row("round", "Round", X, opsets=(11, 22)),
    Row("cast to integers", "Cast", X, {}, {"to": INT64}, (9, 13, 19, 21), outputs=(INT64,)),
    Row("cast to truth", "Cast", X, {}, {"to": 9}, (9, 13), outputs=(9,)),
    Row("cast to double", "Cast", X, {}, {"to": 11}, (9, 13), outputs=(11,)),
    Row(
        "cast from integers", "Cast", X, {}, {"to": FLOAT}, (9, 13), ("i",),
        before=[node("Cast", ["x"], ["i"], to=INT64)],
    ),
    Row(
        "add integers", "Add", X, {"c": np.int64(3)}, {}, (9, 14), ("i", "c"),
        before=[node("Cast", ["x"], ["i"], to=INT64)], outputs=(INT64,),
    ),
    Row("cast like", "CastLike", X, {"t": np.int64(0)}, {}, (15, 19, 21), outputs=(INT64,)),
]  # fmt: skip
