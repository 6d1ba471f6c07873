"""Outputs that are no numbers: positions come back as int64, truth values as bool, exactly."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mpcc import api
from mpcc.artifact import Artifact
from mpcc.errors import MpccError
from mpcc.verify_program import verify_artifact

SCORES = np.array(
    [[0.5, -1.0, 0.5, 0.25, -2.0], [1.5, 1.5, 0.75, -0.5, 1.5], [-1.0, -1.0, -1.0, -1.0, -1.0]],
    np.float32,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """ArgMax, TopK, a comparison and logic of the same scores."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["first"], axis=1, keepdims=0),
        helper.make_node("ArgMax", ["x"], ["last"], axis=1, select_last_index=1),
        helper.make_node("TopK", ["x", "k"], ["values", "positions"]),
        helper.make_node("Greater", ["x", "half"], ["above"]),
        helper.make_node("Equal", ["x", "half"], ["equal"]),
        helper.make_node("Or", ["above", "equal"], ["not_below"]),
    ]
    outputs = [
        helper.make_tensor_value_info("first", TensorProto.INT64, [3]),
        helper.make_tensor_value_info("last", TensorProto.INT64, [3, 1]),
        helper.make_tensor_value_info("values", TensorProto.FLOAT, [3, 3]),
        helper.make_tensor_value_info("positions", TensorProto.INT64, [3, 3]),
        helper.make_tensor_value_info("above", TensorProto.BOOL, [3, 5]),
        helper.make_tensor_value_info("not_below", TensorProto.BOOL, [3, 5]),
    ]
    constants = [
        helper.make_tensor("k", TensorProto.INT64, [1], [3]),
        helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 5])]
    graph = helper.make_graph(nodes, "decisions", inputs, outputs, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8
    path = tmp_path_factory.mktemp("decisions") / "model.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def compiled(model):
    return api.compile(model)


def expected():
    order = np.argsort(-SCORES, axis=1, kind="stable")[:, :3]
    return {
        "first": SCORES.argmax(axis=1),
        "last": 4 - SCORES[:, ::-1].argmax(axis=1)[:, None],
        "values": np.take_along_axis(SCORES, order, 1),
        "positions": order,
        "above": SCORES > 0.5,
        "not_below": SCORES >= 0.5,
    }


def check(outputs):
    want = expected()
    assert list(outputs) == list(want)
    for name, array in want.items():
        assert outputs[name].dtype == array.dtype
        np.testing.assert_array_equal(outputs[name], array)


def test_simulator(compiled):
    check(api.simulate(compiled.artifact, compiled.weights, {"x": SCORES}).outputs)


def test_parties(compiled, model):
    run = api.run_local(
        compiled.artifact, compiled.weights, {"x": SCORES}, engine="party-interpreter"
    )
    check(run.outputs)
    rows = api.compare(model, {"x": SCORES}, run.outputs).rows
    assert {d.deviation for d in rows.values()} == {0.0}


def test_the_artifact_says_what_outputs_are(compiled, tmp_path):
    path = tmp_path / "m.mpcc"
    compiled.artifact.save(path)
    dtypes = {o["name"]: o.get("dtype") for o in Artifact.load(path).outputs}
    assert dtypes == {
        "first": "i64",
        "last": "i64",
        "values": None,
        "positions": "i64",
        "above": "bool",
        "not_below": "bool",
    }


def test_the_leak_checker_accepts(compiled):
    assert verify_artifact(compiled.artifact).accepted


def positions_model(tail):
    """ArgMax and TopK's positions, and what is computed from them."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["a"], axis=1, keepdims=1),
        helper.make_node("TopK", ["x", "k"], ["values", "t"]),
        *tail,
    ]
    constants = [
        helper.make_tensor("k", TensorProto.INT64, [1], [3]),
        helper.make_tensor("three", TensorProto.INT64, [], [3]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 5])]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.INT64, [3, 3]),
        helper.make_tensor_value_info("same", TensorProto.BOOL, [3, 3]),
    ]
    graph = helper.make_graph(nodes, "positions", inputs, outputs, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8
    return proto


def test_positions_are_whole_numbers_to_compute_with():
    nodes = [
        helper.make_node("Mul", ["a", "three"], ["a3"]),
        helper.make_node("Sub", ["a3", "t"], ["y"]),
        helper.make_node("Equal", ["a", "t"], ["same"]),
    ]
    made = api.compile(positions_model(nodes).SerializeToString())
    assert verify_artifact(made.artifact).all_problems == ()
    order = np.argsort(-SCORES, axis=1, kind="stable")[:, :3]
    first = SCORES.argmax(axis=1)[:, None]
    simulated = api.simulate(made.artifact, made.weights, {"x": SCORES}).outputs
    for engine in ("native", "party-interpreter"):
        run = api.run_local(made.artifact, made.weights, {"x": SCORES}, engine=engine)
        for outputs in (run.outputs, simulated):
            np.testing.assert_array_equal(outputs["y"], 3 * first - order)
            np.testing.assert_array_equal(outputs["same"], order == first)


def test_nothing_is_picked_by_positions():
    nodes = [
        helper.make_node("GatherElements", ["t", "t"], ["y"], axis=1),
        helper.make_node("Equal", ["a", "t"], ["same"]),
    ]
    with pytest.raises(MpccError, match="computed from an input"):
        api.compile(positions_model(nodes).SerializeToString())
