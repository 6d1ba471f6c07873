"""The judge itself: it refuses wrong results, and counts what it says it counts."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.conformance.onnx_backend import suite
from tests.conformance.onnx_backend.exclusions import groups

X = np.array([[1.5, -2.0, 0.25], [0.0, 3.0, -1.0]], np.float32)


def model(op, inputs, output=TensorProto.FLOAT, **attributes):
    """One node; inputs by name as (element type, shape)."""
    graph = helper.make_graph(
        [helper.make_node(op, list(inputs), ["y"], **attributes)],
        "case",
        [helper.make_tensor_value_info(n, *kind) for n, kind in inputs.items()],
        [helper.make_tensor_value_info("y", output, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def relu_case(want):
    return suite.Case(
        "relu", "node", model("Relu", {"x": (TensorProto.FLOAT, X.shape)}), (((X,), (want,)),)
    )


def test_a_right_result_passes():
    assert suite.attempt(relu_case(np.maximum(X, 0))) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda y: y + np.float32(4e-3), "error 0.00"),
        (lambda y: y[:1], "shape"),
        (lambda y: y * np.float32(np.nan), "infinite or not a number"),
    ],
)
def test_a_wrong_result_is_refused(change, says):
    why = suite.attempt(relu_case(change(np.maximum(X, 0))))
    assert why.startswith("wrong result")
    assert says in why


def test_the_proved_bound_is_a_limit_too():
    built = suite.build(relu_case(np.maximum(X, 0)))
    have = {"y": np.maximum(X, 0) + np.float32(1e-3)}
    suite.compare(built, have, {"y": 2e-3})
    with pytest.raises(suite.WrongResultError, match="elements are wrong"):
        suite.compare(built, have, {"y": 1e-5})


def test_only_undecided_decisions_may_differ():
    # A lead of 2^-20 is below the input format's unit, one of 0.25 is not.
    x, y = np.array([1, 1 + 2.0**-20, 0.5], np.float32), np.array([1.25, 1, 1], np.float32)
    inputs = {"a": (TensorProto.FLOAT, [3]), "b": (TensorProto.FLOAT, [3])}
    less = model("Less", inputs, TensorProto.BOOL)
    want = x < y
    built = suite.build(suite.Case("less", "node", less, (((x, y), (want,)),)))
    suite.compare(built, {"y": np.array([True, True, True])}, {})
    with pytest.raises(suite.WrongResultError, match="elements are wrong"):
        suite.compare(built, {"y": np.array([False, False, True])}, {})


def case(op, inputs, **attributes):
    return suite.counts(model(op, inputs, **attributes))


REAL, INTEGER = TensorProto.FLOAT, TensorProto.INT64


def test_what_counts():
    assert case("Relu", {"x": (REAL, [2])})
    assert case("Add", {"x": (REAL, [2]), "y": (REAL, [2])})
    # An integer operand does not hinder; integers alone do not count.
    assert case("Reshape", {"x": (REAL, [2, 3]), "shape": (INTEGER, [1])})
    assert not case("Add", {"x": (INTEGER, [2]), "y": (INTEGER, [2])})
    # Only the shape of the real input is used.
    assert not case("Shape", {"x": (REAL, [2])}, output=INTEGER)
    # Not supported at all, and supported on constants only.
    assert not case("Bernoulli", {"x": (REAL, [2])})
    assert not case("Multinomial", {"x": (REAL, [2])})


def test_what_becomes_a_constant():
    inputs = {"x": (REAL, [2]), "low": (REAL, []), "high": (REAL, [])}
    clip = suite.Case("clip", "node", model("Clip", inputs), ())
    data = (np.ones(2, np.float32), np.float32(0), np.float32(6))
    source, given = suite.baked(clip, data)
    assert list(given) == ["x"]
    made = onnx.load_from_string(source)
    assert [i.name for i in made.graph.initializer] == ["low", "high"]
    assert [i.name for i in made.graph.input] == ["x"]


def test_reasons_are_distinct():
    codes = [why.code for why, _ in groups()]
    assert len(codes) == len(set(codes))
    assert all(why.text and why.signs for why, _ in groups())
