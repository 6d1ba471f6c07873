"""The engine in one process: equal to the party interpreter bit for bit, and hard to break."""

import json

import numpy as np
import pytest

from benchmarks import models
from mpcc import _native
from mpcc.emit.graphdef import emit
from mpcc.emit.schema import GraphDef
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.ir.core import Function, Module
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp.party import SeededKeys, Session
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.phi import FormatOptions
from mpcc.ir.schedule import schedule
from mpcc.passes import pipeline
from mpcc.passes.analyse import analyse
from mpcc.passes.base import Checkpoint, Manager
from mpcc.passes.fuse_local import FuseLocal
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights
from mpcc.protocols import Rep3, lower_program
from tests.emit.programs import Writer, every_op, inputs_for, random_program


def engine_arrays(module, weights, inputs):
    """Weights as words of their ring, inputs as binary32: what the engine takes."""
    words = {}
    for op in module.main.walk("party.weight"):
        dtype = np.uint64 if op.attrs["ring"] == 64 else np.uint32
        words[op.attrs["name"]] = np.ascontiguousarray(weights[op.attrs["name"]]).astype(dtype)
    return words, {k: np.ascontiguousarray(v, np.float32) for k, v in inputs.items()}


def compare(module, weights, inputs, seed, runs=1, threads=1):
    """Outputs, bytes per link and rounds of engine and interpreter; the engine's statistics."""
    words, floats = engine_arrays(module, weights, inputs)
    found, text = _native.run_in_memory(emit(module), words, [floats] * runs, seed, threads=threads)
    stats = json.loads(text)
    session = Session(module, weights, SeededKeys(seed))
    assert stats["setup"]["bytes_sent"] == session.setup.bytes_sent
    assert stats["setup"]["rounds"] == session.setup.rounds
    for number, outputs in enumerate(found, 1):
        expected = session.run(inputs, number)
        opened = {**session.setup.outputs, **expected.outputs}
        assert outputs.keys() == opened.keys()
        for name, array in outputs.items():
            assert array.dtype == np.float32
            assert array.shape == opened[name].shape
            assert array.tobytes() == opened[name].tobytes(), name
        measured = stats["runs"][number - 1]
        assert measured["bytes_sent"] == expected.bytes_sent
        assert measured["rounds"] == expected.rounds
        assert measured["messages"] == len(expected.messages)
    return stats


@pytest.mark.parametrize("seed", range(30))
def test_random_programs_equal_the_interpreter(seed):
    module = random_program(seed)
    inputs, weights = inputs_for(module, seed)
    compare(module, weights, inputs, seed, runs=2)


@pytest.mark.parametrize("seed", range(10))
def test_fused_programs_equal_the_interpreter(seed):
    module = random_program(seed, 120)
    FuseLocal().run(module)
    inputs, weights = inputs_for(module, seed)
    compare(module, weights, inputs, seed)


def lower(network):
    samples = models.sample_inputs(network, 3)
    imported = import_onnx(network.serialized())
    checkpoint = Checkpoint(DIALECTS)
    module = Manager(pipeline.TENSOR, checkpoint).run(imported.module)
    constants = checkpoint.constants(imported.constants)
    phi = analyse(module, constants, samples, FormatOptions()).phi
    secure = build_secure(module, phi, FormatOptions())
    weights = encode_weights(constants, secure)
    return lower_program(secure, Rep3()).party, weights, samples[0]


@pytest.fixture(scope="module", params=["a", "c"])
def network(request):
    """(party program, weights, sample) of a benchmark network under rep3."""
    return lower(getattr(models, f"network_{request.param}")())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("fuse", [False, True])
def test_networks_equal_the_interpreter(network, fuse, threads):
    module, weights, sample = network
    if fuse:
        module = module.clone()
        FuseLocal().run(module)
    stats = compare(module, weights, sample, 2**64 - 1, runs=2, threads=threads)
    assert 0 < stats["planned_bytes"] < stats["peak_rss_bytes"]


def test_runs_without_a_seed_have_fresh_keys():
    module = random_program(1)
    inputs, weights = inputs_for(module, 1)
    words, floats = engine_arrays(module, weights, inputs)
    data = emit(module)
    first, _ = _native.run_in_memory(data, words, [floats] * 2)
    second, _ = _native.run_in_memory(data, words, [floats])
    # This program opens masks: equal outputs would mean equal keys.
    assert any(first[0][k].tobytes() != first[1][k].tobytes() for k in first[0])
    assert any(first[0][k].tobytes() != second[0][k].tobytes() for k in first[0])


@pytest.mark.parametrize("module", [every_op(), *(random_program(s) for s in range(10))])
def test_schedule_is_that_of_the_compiler(module):
    found = _native.describe_program(emit(module))
    expected = schedule(module)
    assert found["steps"] == [(s.place, s.phase, s.depth) for s in expected.steps]
    assert found["messages"] == [
        (m.id, m.index, m.source, m.to, m.nbytes, m.depth, m.phase) for m in expected.messages
    ]
    assert {p: tuple(o) for p, o in found["orders"].items()} == expected.places


def code_of(call, *arguments, **options):
    with pytest.raises(_native.NativeError) as error:
        call(*arguments, **options)
    return error.value.args


def test_missing_and_misshapen_values_are_named():
    module = random_program(3)
    inputs, weights = inputs_for(module, 3)
    words, floats = engine_arrays(module, weights, inputs)
    data = emit(module)
    run = _native.run_in_memory
    code, what, where = code_of(run, data, {**words, "w1": words["w1"][:1]}, [floats], 1)
    assert code == "E-run-weight"
    assert "w1" in what
    assert "owner" in where
    del floats["x2"]
    code, what, where = code_of(run, data, words, [floats], 1)
    assert code == "E-run-input"
    assert "x2" in what
    assert "Input" in where
    code, _, _ = code_of(run, data, words, [{**floats, "x2": np.full((2, 3), 99, np.float32)}], 1)
    assert code == "E-input-range"


def mutate(graph, change):
    copy = GraphDef()
    copy.CopyFrom(graph)
    change(copy)
    return copy.SerializeToString(deterministic=True)


def node(graph, op):
    return next(n for n in graph.node if n.op == op)


CHANGES = {
    "an unknown op": lambda g: setattr(g.node[3], "op", "Shell"),
    "an unknown attribute": lambda g: g.node[3].attr["extra"].__setattr__("i", 1),
    "a missing attribute": lambda g: node(g, "MpccEncode").attr.pop("lo"),
    "another kind of attribute": lambda g: node(g, "MpccEncode").attr["frac"].__setattr__("b", 1),
    "a false type": lambda g: (
        node(g, "MpccSub").attr["_types"].list.s.__setitem__(0, b"ring64<9>@client")
    ),
    "a huge type": lambda g: (
        node(g, "MpccInput")
        .attr["_types"]
        .list.s.__setitem__(0, b"clear<99999999999x99999999999xf32>@client")
    ),
    "huge pads": lambda g: node(g, "MpccPad").attr["low"].list.i.__setitem__(0, 2**62),
    "negative pads": lambda g: node(g, "MpccPad").attr["low"].list.i.__setitem__(0, -1),
    "huge strides": lambda g: node(g, "MpccConv").attr["strides"].list.i.__setitem__(0, 2**62),
    "zero strides": lambda g: node(g, "MpccConv").attr["strides"].list.i.__setitem__(0, 0),
    "a plane that is not there": lambda g: (
        node(g, "MpccPlanes").attr["indices"].list.i.__setitem__(0, 6)
    ),
    "a term that is not there": lambda g: (
        node(g, "MpccAnf").attr["terms"].__setattr__("s", b"[[[0],[1,99]]]")
    ),
    "deep nesting": lambda g: node(g, "MpccAnf").attr["terms"].__setattr__("s", b"[" * 10**5),
    "too large blocks": lambda g: node(g, "MpccLookup").attr["blocks"].list.i.__setitem__(0, 40),
    "an input from the future": lambda g: node(g, "MpccSub").input.__setitem__(0, "n39"),
    "an input that is no node": lambda g: node(g, "MpccSub").input.__setitem__(0, "^x"),
    "a result that is not there": lambda g: node(g, "MpccSub").input.__setitem__(0, "n1:7"),
    "a wrong device": lambda g: setattr(
        node(g, "MpccSub"), "device", "/job:party/replica:0/task:1/device:CPU:0"
    ),
    "a key that the place lacks": lambda g: (
        node(g, "MpccDrawRing").attr["key"].__setattr__("s", b"P1+P2")
    ),
    "a shift beyond the ring": lambda g: (
        node(g, "MpccShiftLeft").attr["amount"].__setattr__("i", 64)
    ),
    "a draw of another phase": lambda g: (
        node(g, "MpccDrawBits").attr["phase"].__setattr__("s", b"offline")
    ),
    "a body that is not there": lambda g: (
        node(g, "MpccFused").attr["f"].func.__setattr__("name", "fused_9")
    ),
    "a body that is not elementwise": lambda g: setattr(
        g.library.function[0].node_def[0], "op", "MpccTranspose"
    ),
    "no program": lambda g: g.node.__delitem__(0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_hostile_programs_are_refused(name):
    graph = GraphDef.FromString(emit(every_op()))
    _native.describe_program(graph.SerializeToString(deterministic=True))
    code, _, _ = code_of(_native.describe_program, mutate(graph, CHANGES[name]))
    assert code.startswith("E-graph")


def test_damaged_programs_never_crash():
    data = bytearray(emit(every_op()))
    rng = np.random.default_rng(7)
    refused = []
    for _ in range(3000):
        copy = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            copy[int(rng.integers(len(copy)))] = int(rng.integers(256))
        try:
            _native.describe_program(bytes(copy[: int(rng.integers(1, len(copy) + 1))]))
        except _native.NativeError as error:
            refused.append(error.args[0])
    assert len(refused) > 2500
    assert all(code.startswith("E-") for code in refused)


def test_masks_are_put_off_until_they_are_needed():
    """A program of many masked steps needs memory for a few of them at a time."""
    module = Module("party")

    def op(kind, *operands, **attrs):
        result = module.main.append(DIALECT.operations[f"party.{kind}"], operands, attrs)
        return result.results[0] if result.results else None

    n, steps = 1000, 50
    x = op("encode", op("input", name="x", shape=(n,), place="client"), frac=8, lo=-8.0, hi=8.0)
    x = op("transfer", x, to="P0", step="share")
    for i in range(steps):
        draw = {"key": "P0+P1", "stream": i, "shape": (n,)}
        x = op("add", x, op("draw_ring", **draw, place="P0"))
        x = op("transfer", x, to="P1", step=f"there_{i}")
        x = op("sub", x, op("draw_ring", **draw, place="P1"))
        x = op("transfer", x, to="P0", step=f"back_{i}")
    op("output", op("decode", op("transfer", x, to="client", step="open"), frac=8), name="y")
    plan = _native.describe_program(emit(module))["plans"][0]
    assert plan["arena_bytes"] < 4 * 8 * n
    inputs = {"x": np.linspace(-8, 8, n, dtype=np.float32)}
    compare(module, {}, inputs, 5)


def drawing(*draws):
    """Draws at parties: (key, stream, phase, place, shape or lanes of 64 planes, in a region)."""
    module = Module("party")
    w = Writer(module.main)
    for key, stream, phase, place, size, fused in draws:
        attrs = {"key": key, "stream": stream, "phase": phase, "place": place}
        if fused:
            x = w("draw_ring", key="P0+P1", stream=99, phase=phase, place=place, shape=size)
            body = Function("body", [x.type])
            inner = Writer(body)("draw_ring", **attrs, shape=size)
            body.returns = [Writer(body)("add", body.args[0], inner)]
            module.main.append(DIALECT.operations["party.fused"], (x,), {}, "", body)
        elif isinstance(size, tuple):
            w("draw_ring", **attrs, shape=size)
        else:
            w("draw_bits", **attrs, lanes=size, planes=64)
    return emit(module)


BASE = ("P0+P1", 0, "online", "P0", (6,), False)


@pytest.mark.parametrize(
    "other",
    [
        ("P0+P1", 1, "online", "P0", (6,), False),
        ("P0+P2", 0, "online", "P0", (6,), False),
        ("P0+P1", 0, "setup", "P0", (6,), False),
        ("P0+P1", 0, "online", "P1", (6,), False),
        ("P0+P1", 0, "online", "P1", (6,), True),
    ],
)
def test_other_streams_and_other_holders_may_be_drawn(other):
    _native.describe_program(drawing(BASE, other))


@pytest.mark.parametrize(
    "other",
    [
        BASE,
        ("P0+P1", 0, "online", "P1", (7,), False),
        ("P0+P1", 0, "online", "P1", (2, 3), False),
        ("P0+P1", 0, "online", "P1", 6, False),
        ("P0+P1", 0, "online", "P0", (6,), True),
        ("P0+P1", 0, "online", "P1", (7,), True),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_stream_is_one_draw(other, turned):
    draws = (other, BASE) if turned else (BASE, other)
    code, what, where = code_of(_native.describe_program, drawing(*draws))
    assert code == "E-graph-stream"
    assert "stream 0 of key P0+P1 (online)" in what
    assert where.startswith("node ")


def test_a_body_that_draws_is_used_once():
    """Two uses of one function are two draws of its streams."""
    module = Module("party")
    w = Writer(module.main)
    for stream in (1, 2):
        x = w("draw_ring", key="P0+P1", stream=stream, place="P0", shape=(6,))
        body = Function("body", [x.type])
        inner = Writer(body)("draw_ring", key="P0+P1", stream=0, place="P0", shape=(6,))
        body.returns = [Writer(body)("add", body.args[0], inner)]
        module.main.append(DIALECT.operations["party.fused"], (x,), {}, "", body)
    code, _, where = code_of(_native.describe_program, emit(module))
    assert code == "E-graph-stream"
    assert "Fused" in where


@pytest.mark.parametrize("pairs", [1 << 13, 1 << 14])
def test_a_convolution_whose_scratch_would_overflow_is_refused(pairs):
    """Tiny operands, but the padded rows of all pairs are counted in 2^64 words."""
    module = Module("party")
    w = Writer(module.main)
    key = {"key": "client+model", "place": "client"}
    x = w("draw_ring", **key, stream=0, shape=(1, 2, 1, 1))
    kernel = w("draw_ring", **key, stream=1, shape=(2, 1, 32, 1))
    big = 1 << 24
    y = w(
        "conv", *((x, kernel) * pairs), strides=(big, big), pads=(big, big, big, big - 1),
        dilations=(1082401, 1), groups=2,
    )  # fmt: skip
    w("output", w("decode", y, frac=8), name="y")
    code, _, _ = code_of(_native.run_in_memory, emit(module), {}, [{}])
    assert code in ("E-ring-shape", "E-bounds-overflow", "E-limit-memory")


def test_errors_with_bytes_that_are_no_text_arrive():
    data = emit(every_op())
    assert b"@client" in data
    code, what, where = code_of(
        _native.describe_program, data.replace(b"@client", b"@cl\xffent", 1)
    )
    assert code.startswith("E-graph")
    assert isinstance(what, str)
    assert isinstance(where, str)


def test_an_empty_convolution_with_far_pads_gives_its_shape():
    """Positions in the padding, times a stride, leave 64 bits: a sanitizer sees it if computed."""
    module = Module("party")
    w = Writer(module.main)
    key = {"key": "client+model", "place": "client"}
    x = w("draw_ring", **key, stream=0, shape=(0, 1, 1, 2**20, 2**20))
    kernel = w("draw_ring", **key, stream=1, shape=(1, 1, 1, 1, 1))
    far = 1 << 24
    y = w(
        "conv", x, kernel, strides=(far,) * 3, pads=(far, 0, 0, far, 0, 0), dilations=(1,) * 3,
        groups=1,
    )  # fmt: skip
    w("output", w("decode", y, frac=8), name="y")
    ((outputs,), _) = _native.run_in_memory(emit(module), {}, [{}])
    assert outputs["y"].shape == (0, 1, 3, 1, 1)
