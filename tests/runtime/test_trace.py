"""The trace of a session: every endpoint, every message, and nothing that is secret."""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

import mpcc
from benchmarks import models
from mpcc.runtime.trace import merge

CATEGORIES = {"compute", "wait", "send", "control"}


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A session of two runs of network A: its trace and the statistics."""
    model = models.NETWORKS["A"]()
    inputs = models.sample_inputs(model, 1)[0]
    calibration = {name: np.stack([value]) for name, value in inputs.items()}
    compiled = mpcc.compile(model.serialized(), calibration=calibration)
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    with mpcc.Session(compiled.artifact, compiled.weights, trace=path) as session:
        runs = [session.run(inputs) for _ in range(2)]
        stats = session.statistics(runs)
    return json.loads(path.read_text()), stats


def steps(trace, category, run):
    return [e for e in trace["traceEvents"] if e.get("cat") == category and e["args"]["run"] == run]


def endpoints(trace):
    return {e["pid"]: e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"}


def test_every_endpoint_tells_what_it_did(traced):
    trace, _ = traced
    assert endpoints(trace) == {0: "P0", 1: "P1", 2: "P2", 3: "owner"}
    for pid in range(4):
        events = [e for e in trace["traceEvents"] if e["pid"] == pid and e["ph"] == "X"]
        assert {e["cat"] for e in events} == CATEGORIES
        assert {e["args"]["run"] for e in events} == {0, 1, 2}
        # One thread each: what it does, it does one after the other.
        spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events)
        assert all(a[1] <= b[0] + 0.002 for a, b in pairwise(spans))


def test_messages_are_those_of_the_statistics(traced):
    trace, stats = traced
    names = endpoints(trace)
    sends, waits = steps(trace, "send", 2), steps(trace, "wait", 2)

    def key(event, sender, receiver):
        return (sender, receiver, event["name"], event["args"]["bytes"], event["args"]["round"])

    assert sorted(key(e, names[e["pid"]], e["args"]["peer"]) for e in sends) == sorted(
        key(e, e["args"]["peer"], names[e["pid"]]) for e in waits
    )
    # Client and model are one endpoint: what travels between its places is no message.
    assert sum(e["args"]["bytes"] for e in sends) == sum(stats["bytes_sent"].values())
    assert max(e["args"]["round"] for e in sends) == stats["rounds"]


def test_a_message_is_not_there_before_it_is_sent(traced):
    trace, _ = traced
    for run in (0, 1, 2):
        sent = {(e["name"], e["args"]["op"]): e["ts"] for e in steps(trace, "send", run)}
        for event in steps(trace, "wait", run):
            assert event["ts"] + event["dur"] >= sent[event["name"], event["args"]["op"]]


def test_only_names_sizes_and_times(traced):
    trace, _ = traced
    allowed = {"run", "op", "ops", "bytes", "peer", "round", "name"}
    assert {key for e in trace["traceEvents"] for key in e["args"]} <= allowed
    known = {"name", "cat", "ph", "pid", "tid", "ts", "dur", "args"}
    assert {key for e in trace["traceEvents"] for key in e} <= known


def test_a_session_without_it_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = models.NETWORKS["A"]()
    inputs = models.sample_inputs(model, 1)[0]
    compiled = mpcc.compile(
        model.serialized(), calibration={n: np.stack([v]) for n, v in inputs.items()}
    )
    with mpcc.Session(compiled.artifact, compiled.weights) as session:
        session.run(inputs)
    assert not list(tmp_path.iterdir())


def test_unreadable_traces_are_left_out(tmp_path):
    whole = {
        "otherData": {"events_left_out": 3},
        "traceEvents": [{"ph": "X", "ts": 5.5, "dur": 1.0, "pid": 1}],
    }
    (tmp_path / "a").write_text(json.dumps(whole))
    (tmp_path / "b").write_text(json.dumps(whole)[:40])
    merged = json.loads(merge([tmp_path / "a", tmp_path / "b", tmp_path / "c"]))
    assert merged["otherData"]["events_left_out"] == 3
    assert merged["traceEvents"] == [{"ph": "X", "ts": 0.0, "dur": 1.0, "pid": 1}]


def test_the_command_writes_a_trace(tmp_path):
    model = models.NETWORKS["A"]()
    (inputs,) = models.sample_inputs(model, 1)
    compiled = mpcc.compile(
        model.serialized(), calibration={name: value[None] for name, value in inputs.items()}
    )
    compiled.save(tmp_path / "a.mpcc")
    np.savez(tmp_path / "x.npz", image=inputs["image"])
    command = ["run", "a.mpcc", "--input", "x.npz", "--trace", "t.json"]
    done = subprocess.run(
        [sys.executable, "-m", "mpcc", *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert endpoints(json.loads((tmp_path / "t.json").read_text())).keys() == {0, 1, 2, 3}
    refused = subprocess.run(
        [sys.executable, "-m", "mpcc", *command, "--engine", "party-interpreter"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2
    assert "E-option-trace" in refused.stderr
