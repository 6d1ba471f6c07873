"""Functions that are called: recurrent layers and loops, equal on every level and verified."""

import json
import re
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import mpcc
from mpcc import _native, api, compiler
from mpcc.compiler import phi_of
from mpcc.cost.predict import op_layer
from mpcc.emit.graphdef import emit, parse
from mpcc.frontend import import_onnx
from mpcc.ir.calls import FEWEST_CALLS, called, calls, inline, numbered
from mpcc.ir.interp import fixed, party
from mpcc.passes import analyse as analysis_module
from mpcc.passes import pipeline
from mpcc.passes.base import Manager
from mpcc.protocols import lower_program, protocol_named
from mpcc.reports import decisions
from mpcc.verify_program import verify_artifact

RNG = np.random.default_rng(7)
STEPS, WIDTH, HIDDEN = 6, 3, 2
SEED = 2**61 + 5


@pytest.fixture(autouse=True)
def functions_of_small_models(monkeypatch):
    """Models of all sizes have functions."""
    monkeypatch.setattr(compiler, "MOST_WRITTEN_OUT", 0)


def model(nodes, inputs, outputs, constants, opset=17):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return made.SerializeToString()


def weights(*shape):
    return (0.5 * RNG.standard_normal(shape)).astype(np.float32)


def layer(op, gates, direction="forward", peepholes=False, states=(), steps=STEPS, **attributes):
    both = 2 if direction == "bidirectional" else 1
    constants = {
        "w": weights(both, gates * HIDDEN, WIDTH),
        "r": weights(both, gates * HIDDEN, HIDDEN),
        "b": weights(both, 2 * gates * HIDDEN),
    }
    names = ["x", "w", "r", "b", "", "", "", ""]
    inputs = {"x": (steps, 1, WIDTH)}
    for i, name in enumerate(states):
        names[5 + i] = name
        inputs[name] = (both, 1, HIDDEN)
    if peepholes:
        names[7] = "p"
        constants["p"] = weights(both, 3 * HIDDEN)
    while not names[-1]:
        names.pop()
    outputs = ["y", "h", "c"] if op == "LSTM" else ["y", "h"]
    node = helper.make_node(
        op, names, outputs, hidden_size=HIDDEN, direction=direction, **attributes
    )
    return model([node], inputs, outputs, constants)


def loop():
    """A state that is multiplied, squashed and summed up six times."""
    real = (TensorProto.FLOAT, (1, 4))
    nodes = [
        helper.make_node("Identity", ["go"], ["on"]),
        helper.make_node("MatMul", ["s", "w"], ["p"]),
        helper.make_node("Tanh", ["p"], ["t"]),
        helper.make_node("Add", ["t", "x"], ["n"]),
    ]
    inner = helper.make_graph(
        nodes,
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("s", *real),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("n", *real),
            helper.make_tensor_value_info("t", *real),
        ],
    )
    node = helper.make_node("Loop", ["count", "", "x"], ["y", "ts"], body=inner)
    constants = {"w": weights(4, 4), "count": np.array(STEPS, np.int64)}
    return model([node], {"x": (1, 4)}, ["y", "ts"], constants)


def scan():
    """A running state with relu, which compares, over the rows of an input."""
    row = (TensorProto.FLOAT, (4,))
    nodes = [
        helper.make_node("Mul", ["s", "d"], ["m"]),
        helper.make_node("Add", ["m", "r"], ["a"]),
        helper.make_node("Relu", ["a"], ["n"]),
        helper.make_node("Identity", ["n"], ["o"]),
    ]
    inner = helper.make_graph(
        nodes,
        "step",
        [helper.make_tensor_value_info(n, *row) for n in ("s", "r")],
        [helper.make_tensor_value_info(n, *row) for n in ("n", "o")],
    )
    node = helper.make_node("Scan", ["s0", "x"], ["y", "rows"], body=inner, num_scan_inputs=1)
    inputs = {"x": (STEPS, 4), "s0": (4,)}
    return model([node], inputs, ["y", "rows"], {"d": weights(4)})


MODELS = {
    "LSTM": lambda: layer("LSTM", 4),
    "LSTM-both-ways": lambda: layer("LSTM", 4, "bidirectional", states=("h0", "c0")),
    "LSTM-peepholes": lambda: layer("LSTM", 4, "reverse", peepholes=True),
    "GRU": lambda: layer("GRU", 3, states=("h0",)),
    "GRU-after": lambda: layer("GRU", 3, "bidirectional", linear_before_reset=1),
    "RNN": lambda: layer("RNN", 1),
    "RNN-relu": lambda: layer("RNN", 1, activations=["Relu"]),
    "Loop": loop,
    "Scan": scan,
}


def compiled(data):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    inputs = [
        {i.name: RNG.uniform(-1, 1, i.shape).astype(np.float32) for i in session.get_inputs()}
        for _ in range(3)
    ]
    calibration = {n: np.stack([x[n] for x in inputs]) for n in inputs[0]}
    program = mpcc.compile(data, calibration=calibration)
    names = [o.name for o in session.get_outputs()]
    return program, inputs[0], dict(zip(names, session.run(names, inputs[0]), strict=True))


def other_weights(data):
    """The model with all weights made smaller."""
    proto = onnx.load_from_string(data)
    for each in proto.graph.initializer:
        old = numpy_helper.to_array(each)
        new = (old * RNG.uniform(0.2, 1, old.shape)).astype(old.dtype)
        each.CopyFrom(numpy_helper.from_array(new, each.name))
    return proto.SerializeToString()


def coins_of(secure, lowered, keys, weights_, inputs):
    """(coins of every op of the secure program with its calls written out, outputs)."""
    flat, written = inline(lowered.party), inline(secure)
    sources = {(0, secure.main.ops[i].result): c for i, c in lowered.coins.items()}
    for op, made in zip(calls(secure), calls(lowered.party), strict=True):
        function = secure.functions[op.attrs["callee"]]
        for i, coin in lowered.function_coins[made.attrs["callee"]].items():
            sources[op.attrs["number"], function.ops[i].result] = coin
    wanted = {
        key: flat.values[key[0], coin.value]
        for key, coin in sources.items()
        if coin.value is not None
    }
    session = party.Session(flat.module, weights_, keys, keep=wanted.values())
    run = session.run(inputs, keep=wanted.values())
    values = {**session.setup.values, **run.values}
    index = {op.result: i for i, op in enumerate(written.module.main.ops) if op.results}
    coins = {}
    for key, coin in sources.items():
        shape: Any = key[1].type
        moved = {coin.value: values[wanted[key]]} if coin.value is not None else {}
        coins[index[written.values[key]]] = coin.read(moved, shape.shape)
    return coins, run.outputs


@pytest.mark.parametrize("name", MODELS)
def test_called_programs_are_equal_on_every_level(name):
    """Simulator, parties in numpy and the engine, bit for bit; verified; as dear as predicted."""
    program, inputs, want = compiled(MODELS[name]())
    artifact = program.artifact
    for module in (artifact.tensor_module, artifact.secure_module, parse(artifact.program)):
        assert called(module)
        assert len(calls(module)) >= FEWEST_CALLS
    report = verify_artifact(artifact)
    assert report.accepted, report.problems

    secure = artifact.secure_module
    lowered = lower_program(secure, protocol_named(artifact.protocol))
    coins, outputs = coins_of(secure, lowered, party.SeededKeys(SEED), program.weights, inputs)
    have = fixed.simulate(secure, program.weights, inputs, coins)
    assert not have.overflows
    for output, array in have.outputs.items():
        np.testing.assert_array_equal(outputs[output], array)
        assert np.abs(array - want[output]).max() <= 2.0**-6
    assert emit(Manager(pipeline.to_party(lambda _: lowered.party)).run(secure)) == artifact.program

    words = {n: np.ascontiguousarray(w).view(np.uint64) for n, w in program.weights.items()}
    answers, text = _native.run_in_memory(artifact.program, words, [inputs], SEED, threads=2)
    run = party.run(parse(artifact.program), program.weights, inputs, SEED)
    figures = json.loads(text)["runs"][0]
    for output, array in outputs.items():
        np.testing.assert_array_equal(run.outputs[output], array)
        np.testing.assert_array_equal(answers[0][output], array)
    assert figures["bytes_sent"] == artifact.cost["bytes_sent"]
    assert figures["rounds"] == artifact.cost["rounds"]


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_a_program_with_its_calls_written_out_gives_the_same_answer(name):
    """Equal coins, equal answers: calls are nothing but a shorter way to write the program."""
    program, inputs, _ = compiled(MODELS[name]())
    artifact, weights_ = program.artifact, program.weights
    module = parse(artifact.program)
    flat = inline(module).module
    assert not called(flat)
    words = {n: np.ascontiguousarray(w).view(np.uint64) for n, w in weights_.items()}
    secure = inline(artifact.secure_module).module
    assert not called(secure)
    pairs = (
        [
            fixed.simulate(m, weights_, inputs, "floor").outputs
            for m in (artifact.secure_module, secure)
        ],
        [party.run(m, weights_, inputs, SEED).outputs for m in (module, flat)],
        [
            _native.run_in_memory(data, words, [inputs], SEED)[0][0]
            for data in (artifact.program, emit(flat))
        ],
    )
    for one, other in pairs:
        assert one.keys() == other.keys()
        for output, array in one.items():
            np.testing.assert_array_equal(array, other[output])


@pytest.mark.parametrize("name", ["LSTM", "GRU-after", "RNN-relu"])
def test_weights_and_data_do_not_show(name, monkeypatch):
    """Other weights and data and the same formats give the same artifact, byte for byte."""
    data = MODELS[name]()
    first, *_ = compiled(data)
    kept = analysis_module.Analysis(phi_of(first.artifact), (), {"measured_error": {}})
    monkeypatch.setattr(analysis_module, "analyse", lambda *_: kept)
    second, *_ = compiled(other_weights(data))
    assert called(first.artifact.secure_module)
    assert first.artifact.to_bytes() == second.artifact.to_bytes()
    assert any((first.weights[n] != second.weights[n]).any() for n in first.weights)


def test_steps_of_small_models_are_written_out(monkeypatch):
    """Nothing decides but the ops of the model with its steps written out."""
    data = MODELS["RNN-relu"]()
    ops = len(import_onnx(data).module.main.ops)
    for most, functions in ((ops, False), (ops - 1, True)):
        monkeypatch.setattr(compiler, "MOST_WRITTEN_OUT", most)
        artifact = compiled(data)[0].artifact
        assert bool(called(artifact.tensor_module)) == functions
        assert artifact.manifest["format"] == (3 if functions else 2)
        other = mpcc.Artifact.from_bytes(artifact.to_bytes())
        assert other.program == artifact.program


def test_programs_grow_with_the_description_not_with_the_sequence():
    short, long = (compiled(layer("LSTM", 4, steps=steps))[0].artifact.program for steps in (8, 32))
    per_step = (len(long) - len(short)) / 24
    flat = inline(parse(long)).module
    assert per_step < 0.1 * len(emit(flat)) / 32


def test_reports_of_programs_with_calls(tmp_path):
    """Times, graphs and choices are those of the ops that ran, also in functions."""
    program, inputs, _ = compiled(MODELS["RNN-relu"]())
    artifact, file = program.artifact, tmp_path / "trace.json"
    api.run_local(artifact, program.weights, inputs, trace=file)
    module = parse(artifact.program)
    flat = inline(module).module.main.ops
    events = json.loads(file.read_text())["traceEvents"]
    ran = [e["args"]["op"] for e in events if e.get("cat") == "compute"]
    assert max(ran) >= len(module.main.ops)
    layers = {op_layer(flat[number]) for number in ran}
    assert layers & {op_layer(op) for f in called(module) for op in f.ops}
    measured = api.load_trace(file, artifact)
    assert measured.keys() == layers

    page = api.program_page(artifact)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert data is not None
    graphs = [g for g in json.loads(data[1]) if g["name"].split()[0] == "party"]
    assert len(graphs) == 1 + len(called(module))
    ops = [(graph["texts"], op) for graph in graphs for op in graph["ops"]]
    for (texts, shown), op in zip(ops, numbered(module), strict=True):
        assert texts[shown[0]] == op.name.partition(".")[2]
        assert bool(re.match("[0-9,]+ bytes", texts[shown[-1]])) == (op.name == "party.transfer")

    found = {d.layer for d in decisions(artifact.secure_module)}
    inner = {op.loc for f in called(artifact.secure_module) for op in f.ops}
    assert found & inner
