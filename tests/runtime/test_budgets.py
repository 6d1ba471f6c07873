"""Memory and work are planned, bounded before anything is allocated, and the plan is true."""

import json
import subprocess
from typing import Any

import numpy as np
import pytest

import mpcc
from benchmarks import models
from mpcc import _native
from mpcc.emit.graphdef import emit
from mpcc.ir import budget
from mpcc.ir.core import Module
from mpcc.ir.interp.party import Session
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions
from mpcc.runtime import native
from tests.e2e.support import MODELS, arrays, make_source
from tests.emit.programs import Writer, every_op

KEY = {"key": "client+model", "place": "client"}


def program(build):
    """A party program at the client: ``build(writer)`` gives a ring tensor that is opened."""
    module = Module("party")
    w = Writer(module.main)
    w("output", w("decode", build(w), frac=8), name="y")
    return module


def broadcast(w):
    x = w("draw_ring", **KEY, stream=0, shape=(1,))
    return w("broadcast", x, shape=(1 << 36,), dims=(0,))


def long_chain(w):
    x = w("draw_ring", **KEY, stream=0, shape=(8192, 8192))
    for _ in range(40):
        x = w("matmul", x, x)
    return w("slice", x, starts=(0, 0), limits=(1, 4), strides=(1, 1))


def padded_depthwise(w):
    x = w("draw_ring", **KEY, stream=0, shape=(1, 4, 1, 1))
    k = w("draw_ring", **KEY, stream=1, shape=(4, 1, 1, 1))
    far = 1 << 24
    return w(
        "conv", x, k, strides=(far, far), pads=(far,) * 4, dilations=(far, far), groups=4
    )  # fmt: skip


def overlapping_bands(w):
    """A depthwise kernel that reaches over a long image, with dilation: scratch of many rows."""
    x = w("draw_ring", **KEY, stream=0, shape=(1, 2, 1, 1))
    k = w("draw_ring", **KEY, stream=1, shape=(2, 1, 2, 1))
    far = 1 << 24
    return w(
        "conv", x, k, strides=(1, far), pads=(far, far, far, far), dilations=(far, 1), groups=2
    )  # fmt: skip


def cubes(w):
    x = w("draw_ring", **KEY, stream=0, shape=(1, 1, 1, 1, 1))
    k = w("draw_ring", **KEY, stream=1, shape=(1, 1, 64, 64, 64))
    return w(
        "conv", x, k, strides=(1,) * 3, pads=(100,) * 6, dilations=(1,) * 3, groups=1
    )  # fmt: skip


def many_monomials(w):
    x = w("draw_ring", **KEY, stream=0, shape=(1 << 24,))
    b = w("bit_slice", x, planes=64, shift=0)
    terms = (((*range(64),),) * 500,) * 2
    for _ in range(40):
        b = w("join", *[w("anf", b, terms=terms)] * 32)
    return w("from_bits", b, shape=(1 << 24,), ring=64)


HOSTILE = {
    "broadcast": (broadcast, "E-limit-memory", "Broadcast"),
    "long chain": (long_chain, "E-limit-work", "Matmul"),
    "overlapping bands": (overlapping_bands, "E-limit-", "Conv"),
    "cubes": (cubes, "E-limit-work", "Conv"),
    "many monomials": (many_monomials, "E-limit-work", "Anf"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_programs_that_need_too_much_are_refused_before_allocation(name):
    build, code, op = HOSTILE[name]
    data = emit(program(build))
    before = _native.memory_use()[1]
    with pytest.raises(_native.NativeError) as caught:
        _native.run_in_memory(data, {}, [{}], max_memory=8 << 30, max_work=10**11)
    found, what, where = caught.value.args
    assert found.startswith(code)
    assert op in where
    assert ("--max-memory" if found == "E-limit-memory" else "--max-work") in what
    blame = native.blame(where)
    assert blame is not None
    party, step = blame
    assert party == "owner"
    assert op in step
    assert _native.memory_use()[1] - before < 1 << 20


def test_far_pads_alone_cost_nothing():
    """What looks large but is not is allowed: what counts is what is needed."""
    ((outputs,), _) = _native.run_in_memory(
        emit(program(padded_depthwise)), {}, [{}], max_memory=4 << 30
    )
    assert outputs["y"].shape == (1, 4, 3, 3)


@pytest.mark.parametrize(
    ("limits", "code"), [({"max_memory": 1}, "E-limit-memory"), ({"max_work": 1}, "E-limit-work")]
)
def test_limits_are_the_callers(limits, code):
    with pytest.raises(_native.NativeError) as caught:
        _native.run_in_memory(emit(every_op()), {}, [{}], **limits)
    assert caught.value.args[0] == code


@pytest.mark.parametrize("threads", [1, 4])
def test_more_threads_need_more_scratch(threads):
    module = program(
        lambda w: w(
            "matmul",
            w("draw_ring", **KEY, stream=0, shape=(64, 64)),
            w("draw_ring", **KEY, stream=1, shape=(64, 64)),
        )
    )
    (plan,) = [p for p in _native.describe_program(emit(module), threads)["plans"] if p["actions"]]
    assert plan["online_work"] >= 64**3
    assert plan["scratch_bytes"] % threads == 0
    assert plan["scratch_bytes"] >= threads * 8 * 64
    assert "Matmul" in plan["largest_work"]


def ranged(name, low, high):
    return CompileOptions(formats=FormatOptions(input_ranges={name: (low, high)}))


@pytest.fixture(scope="module", params=MODELS)
def executed(request, tmp_path_factory):
    """(artifact, statistics of two runs in real processes) of a model."""
    folder = tmp_path_factory.mktemp(request.param)
    source = make_source(request.param, folder)
    calibration = None if source.name == "A" else arrays(source.calibration)
    name, _, interval = source.interval.partition("=")
    low, high = (float(x) for x in interval.split(":"))
    compiled = mpcc.compile(source.model, options=ranged(name, low, high), calibration=calibration)
    result = mpcc.run_local(compiled.artifact, compiled.weights, source.inputs, repeat=2)
    return compiled.artifact, result.stats


def test_the_plan_bounds_what_is_allocated_and_is_no_larger_than_it_says(executed):
    """The planned peak against the high-water mark of each party's allocations.

    Above it, only what depends on timing: messages that wait in queues, and the connections'
    buffers, which are not counted as allocations. Everything else must have been allocated in
    full: setup values, the arena, packed weights, scratch; less 2 % and 64 KiB for scratch of
    pointers.
    """
    artifact, stats = executed
    plans = _native.describe_program(artifact.program)["plans"][:3]
    for plan, planned, allocated in zip(
        plans, stats["planned_bytes"], stats["allocated_bytes"], strict=True
    ):
        assert planned == plan["peak_bytes"]
        assert allocated <= planned
        certain = sum(
            plan[k] for k in ("persistent_bytes", "arena_bytes", "packed_bytes", "scratch_bytes")
        )
        assert certain * 0.98 - (64 << 10) <= allocated
        assert planned <= certain + plan["temporary_bytes"] + plan["transport_bytes"] + sum(
            plan[f"{phase}_bytes"] for phase in ("outgoing", "message", "setup_outgoing",
                                                 "setup_message")
        )  # fmt: skip


def test_weights_are_packed_before_the_first_run(tmp_path):
    """In the setup, in full: a session without a run has what its plan says."""
    source = make_source("B", tmp_path)
    compiled = mpcc.compile(source.model, options=ranged("image", 0.0, 1.0))
    plans = _native.describe_program(compiled.artifact.program)["plans"][:3]
    with mpcc.Session(compiled.artifact, compiled.weights) as session:
        session.statistics([])
        packed = [party.statistics()["packed_bytes"] for party in session.parties]
    assert packed == [plan["packed_bytes"] for plan in plans]
    assert all(packed)


def test_a_session_refuses_with_the_option_that_helps(tmp_path):
    network = models.NETWORKS["A"]()
    source = make_source("A", tmp_path)
    compiled = mpcc.compile(network.serialized(), options=ranged("image", 0.0, 1.0))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"max_memory": 1 << 20}, "memory"),
        ({"max_work": 1000}, "work"),
    ]
    for limits, code in cases:
        for engine in ("native", "party-interpreter"):
            with pytest.raises(mpcc.MpccError) as caught:
                mpcc.run_local(
                    compiled.artifact, compiled.weights, source.inputs, engine=engine, **limits
                )
            first = caught.value.diagnostics[0]
            assert first.code == f"E-limit-{code}"
            assert f"--max-{code}" in first.fix


def test_the_party_process_takes_limits_and_fails_in_json(tmp_path):
    compiled = mpcc.compile(models.NETWORKS["A"]().serialized(), options=ranged("image", 0.0, 1.0))
    artifact, config = tmp_path / "A.mpcc", tmp_path / "cluster.json"
    compiled.artifact.save(artifact)
    names = [("P0", ["P0"]), ("P1", ["P1"]), ("P2", ["P2"]), ("owner", ["client", "model"])]
    endpoints = [{"name": n, "places": p, "host": "127.0.0.1", "port": 1} for n, p in names]
    # Limits come before certificates: none of these files exists.
    entries = {"endpoints": endpoints, "ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    command = [
        str(native.party_program()),
        f"--artifact={artifact}",
        f"--config={config}",
        "--index=1",
    ]

    def refused(extra, **settings):
        config.write_text(json.dumps({**entries, **settings}))
        said = subprocess.run(
            [*command, *extra], capture_output=True, text=True, timeout=60, check=False
        )
        assert said.returncode == 1
        assert said.stdout == ""
        sentence, line = said.stderr.strip().splitlines()
        error = json.loads(line)["error"]
        assert error["code"] in sentence
        return error

    for error in (
        refused(["--max-memory=1.5MiB"]),
        refused([], max_memory=1_500_000),
        refused(["--max-memory", "1 kB"], max_memory=1 << 40),
    ):
        assert error["code"] == "E-limit-memory"
        assert error["reporter"] == error["party"] == "P1"
        assert error["step"].startswith("op ")
    assert refused(["--max-work=1e3"])["code"] == "E-limit-work"
    assert refused([], max_work=1000)["code"] == "E-limit-work"
    assert refused(["--max-memory=2 apples"])["code"] == "E-config"
    assert refused([], max_work=-1)["code"] == "E-config"
    assert refused([])["code"] == "E-net-tls"


def test_the_interpreters_bound_what_numpy_would_hold():
    with pytest.raises(mpcc.MpccError, match="E-limit-memory") as caught:
        budget.check(program(broadcast))
    assert caught.value.diagnostics[0].where in ("party.broadcast", "party.decode")
    with pytest.raises(mpcc.MpccError, match="E-limit-work"):
        budget.check(program(long_chain), max_memory=1 << 60)
    with pytest.raises(mpcc.MpccError, match="E-limit-memory"):
        budget.check(program(cubes))
    budget.check(every_op())


def test_the_interpreters_bound_is_above_what_is_alive():
    """Peak of the values that the party interpreter keeps, against the bound."""
    module = program(lambda w: w("add", *[w("draw_ring", **KEY, stream=0, shape=(1000, 100))] * 2))
    peak, op = budget.peak_bytes(module)
    assert peak >= 2 * 800_000
    assert op is not None

    class Zeros:
        def draw(self, key, phase, stream, nbytes):
            return np.zeros(nbytes, np.uint8)

    run = Session(module, {}, Zeros()).run({}, keep=[v for o in module.main.ops for v in o.results])
    assert sum(a.nbytes for a in run.values.values()) <= peak


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2GiB", 2 << 30),
        ("1.5 MiB", 3 << 19),
        ("500MB", 500_000_000),
        ("4096", 4096),
        ("7kB", 7000),
    ],
)
def test_amounts_of_memory(text, value):
    assert budget.parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "-1", "0", "2 apples", "nan", "1e99", "GiB", "1e400"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(mpcc.MpccError, match="E-option-limit"):
        budget.parse_bytes(text)
    with pytest.raises(mpcc.MpccError, match="E-option-limit"):
        budget.parse_work(text)


def test_blame_is_found_in_what_was_passed_on():
    cause = "E-net-timeout: x [P0 waiting {party=P1, step=run 2, message 5 (a, b)}]"
    text = f"P0 stopped: {cause} {{party=P0, step=z}}"
    assert native.blame(text) == ("P1", "run 2, message 5 (a, b)")
    assert native.blame("nothing {of} this") is None
