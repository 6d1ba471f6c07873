"""Recurrent layers and branches as whole programs: verified, and equal between the engines."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import mpcc
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions
from mpcc.verify_program import verify_artifact

RNG = np.random.default_rng(3)
STEPS, BATCH, WIDTH, HIDDEN = 2, 2, 3, 4


def weights(*shape):
    return (0.5 * RNG.standard_normal(shape)).astype(np.float32)


def model(nodes, inputs, outputs, constants):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    made.ir_version = 8
    return made.SerializeToString()


def layer(op, gates):
    """A bidirectional layer of sequences of two lengths, with an initial state."""
    state = (2, BATCH, HIDDEN)
    constants = {
        "w": weights(2, gates * HIDDEN, WIDTH),
        "r": weights(2, gates * HIDDEN, HIDDEN),
        "b": weights(2, 2 * gates * HIDDEN),
        "n": np.array([2, 1], np.int32),
    }
    outputs = ["y", "h", "c"] if op == "LSTM" else ["y", "h"]
    node = helper.make_node(
        op, ["x", "w", "r", "b", "n", "h0"], outputs, hidden_size=HIDDEN, direction="bidirectional"
    )
    return model([node], {"x": (STEPS, BATCH, WIDTH), "h0": state}, outputs, constants)


def branches():
    """Two branches on a secret condition."""
    above, below = (
        helper.make_graph(
            [helper.make_node(op, ["x", "w"], ["v"])],
            op,
            [],
            [helper.make_tensor_value_info("v", TensorProto.FLOAT, None)],
        )
        for op in ("Add", "Mul")
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=above, else_branch=below),
    ]
    constants = {"w": weights(4), "zero": np.float32(0)}
    return model(nodes, {"x": (4,)}, ["y"], constants)


@pytest.mark.parties
@pytest.mark.parametrize(
    "data",
    [layer("LSTM", 4), layer("GRU", 3), branches()],
    ids=["LSTM", "GRU", "If"],
)
def test_between_parties(data):
    session = onnxruntime.InferenceSession(data)
    shapes = {i.name: i.shape for i in session.get_inputs()}
    samples = [
        {n: RNG.uniform(-1, 1, s).astype(np.float32) for n, s in shapes.items()} for _ in range(3)
    ]
    calibration = {n: np.stack([s[n] for s in samples[:2]]) for n in shapes}
    program = mpcc.compile(data, calibration=calibration)
    assert verify_artifact(program.artifact).accepted
    names = [o.name for o in session.get_outputs()]
    want = dict(zip(names, session.run(names, samples[2]), strict=True))
    found = [mpcc.simulate(program.artifact, program.weights, samples[2]).outputs] + [
        mpcc.run_local(
            program.artifact, program.weights, samples[2], engine=engine, require_verified=False
        ).outputs
        for engine in ("party-interpreter", "native")
    ]
    for outputs in found:
        for name, value in want.items():
            assert outputs[name].shape == value.shape
            assert np.abs(outputs[name] - value).max() <= 2.0**-7


def test_weights_leave_no_trace():
    """Other weights give the same program, with the formats that the first had."""
    layers = [model_of(seed) for seed in (1, 2)]
    programs = [
        mpcc.compile(
            data,
            options=CompileOptions(formats=FormatOptions(disclose="none")),
        )
        for data in layers
    ]
    assert programs[0].artifact.to_bytes() == programs[1].artifact.to_bytes()


def model_of(seed):
    rng = np.random.default_rng(seed)
    sizes = {"w": (1, 8, 2), "r": (1, 8, 2), "b": (1, 16), "p": (1, 6)}
    constants = {n: rng.uniform(-1, 1, s).astype(np.float32) for n, s in sizes.items()}
    node = helper.make_node("LSTM", ["x", "w", "r", "b", "", "", "", "p"], ["", "h"], hidden_size=2)
    return model([node], {"x": (2, 1, 2)}, ["h"], constants)
