"""TensorFlow in processes of their own: servers, sessions over TLS, and one that is killed."""

import io
import json
import os
import signal
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpcc
from mpcc import _native
from mpcc.api import tensorflow as engine
from mpcc.emit.graphdef import emit, parse
from mpcc.errors import MpccError
from mpcc.runtime.tensorflow_party import read_frame, write_frame
from mpcc.runtime.tensorflow_session import TensorflowSession, _Process
from tests.runtime.sum_program import artifact, program, values

needs_tensorflow = pytest.mark.skipif(
    util.find_spec("tensorflow") is None, reason="needs TensorFlow"
)
DEADLINE = 3.0
SETTINGS: dict[str, Any] = {
    "network": "none",
    "repeat": 1,
    "threads": 1,
    "deadline": DEADLINE,
    "run_limit": 60.0,
    "max_memory": None,
    "max_work": None,
}


@pytest.mark.tensorflow
@pytest.mark.parties
@pytest.mark.xdist_group("tensorflow")
@needs_tensorflow
def test_servers_run_a_program_and_all_notice_a_killed_one():
    weights, inputs, _ = values()
    with engine.open_session(emit(program()), weights, servers=True, deadline=DEADLINE) as live:
        for number in (1, 2):
            _, outputs = live.run({"x": inputs["x"] / number})
            wanted = np.round(inputs["x"] / number * 256) / 256 + weights["w"].view(np.int64) / 256
            np.testing.assert_array_equal(outputs["y"], wanted.astype(np.float32))
        # Keys go over TLS, messages do not.
        for figures in live.figures().values():
            assert set(figures["payload_bytes_sent"].values()) == {0}
            assert figures["wire_bytes_sent"] > 1000
        processes = dict(live.processes)
        process = processes["P1"].process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(MpccError) as caught:
            live.run(inputs)
    assert caught.value.code == "E-net-lost"
    assert "process of P1 was ended by SIGKILL" in str(caught.value)
    for name in ("P0", "P2", "owner"):
        failure = processes[name].failure
        assert failure is not None
        assert failure.code in ("E-net-lost", "E-net-aborted")
        assert "P1" in failure.what


@pytest.mark.tensorflow
@pytest.mark.parties
@pytest.mark.xdist_group("tensorflow")
@needs_tensorflow
def test_sessions_send_what_the_program_says_and_answer_as_the_native_engine():
    weights, inputs, _ = values()
    module = program()
    settings = {**SETTINGS, "engine": "tensorflow-sessions", "repeat": 2}
    outputs, figures = engine.run(artifact(module), weights, inputs, **settings)
    native, text = _native.run_in_memory(emit(module), weights, [inputs], 5)
    assert outputs["y"].tobytes() == native[0]["y"].tobytes()
    counted = json.loads(text)
    assert figures["bytes_sent"] == counted["runs"][0]["bytes_sent"]
    assert figures["rounds"] == counted["runs"][0]["rounds"]
    assert figures["setup_bytes_sent"] == counted["setup"]["bytes_sent"]
    # Measured: every message of the setup once, of a run twice.
    sent = (sum(figures[key].values()) for key in ("setup_bytes_sent", "bytes_sent"))
    assert figures["session_payload_bytes"] == next(sent) + 2 * next(sent)
    assert figures["wire_bytes"] > figures["session_payload_bytes"]
    assert len(figures["online_seconds"]) == 2
    assert all(peak > 10**8 for peak in figures["peak_rss_bytes"])  # TensorFlow is in it


FAKE = """
import sys
from mpcc.runtime.tensorflow_party import read_frame, write_frame
write_frame(sys.stdout.buffer, {"done": "start"})
while (frame := read_frame(sys.stdin.buffer)) is not None:
    if frame[0]["do"] == "close":
        break
    if frame[0]["do"] == sys.argv[1]:
        write_frame(sys.stdout.buffer, {"done": frame[0]["do"]})
"""


@pytest.mark.parametrize(("answered", "silent"), [("nothing", "P1"), ("ping", "owner")])
def test_a_silent_process_is_named(answered, silent):
    graphs = engine.graphs_of(emit(program()), servers=True)
    live = TensorflowSession(graphs, {}, servers=True, deadline=2.0)
    try:
        for name, orders in (("P1", answered), ("owner", "nothing")):
            process = _Process(name, None)
            process.process = subprocess.Popen(
                [sys.executable, "-c", FAKE, orders],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=process.errors,
            )
            live.processes[name] = process
        live._answers("starting", live.processes, 60.0)
        live._order({"do": "step"}, ["owner"])
        with pytest.raises(MpccError) as caught:
            live._answers("run 1", ["owner"], 5.0)
        assert caught.value.code == "E-net-timeout"
        assert str(caught.value).splitlines()[0].endswith(f" s: {silent}")
    finally:
        live.close()


def test_a_program_in_parts_covers_every_node():
    flat = emit(program())
    ops = len(parse(flat).main.ops)
    parts = engine.graphs_of(flat, servers=False)
    whole = engine.graphs_of(flat, servers=True)
    assert list(whole.parts) == ["owner"]
    _, setup, online = whole.parts["owner"]
    assert len(setup) + len(online) == ops
    nodes = [n for _, setup, online in parts.parts.values() for n in (*setup, *online)]
    assert {n for n in nodes if n.startswith("n")} == {f"n{i}" for i in range(ops)}
    assert whole.places == parts.places == {"w": "model", "x": "client"}


def test_a_trace_is_refused():
    weights, inputs, _ = values()
    with pytest.raises(MpccError, match="E-option-trace: the engine tensorflow has no timeline"):
        mpcc.run_local(artifact(program()), weights, inputs, engine="tensorflow", trace="t.json")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"engine": "tensorflow", "network": "lan"}, "E-option-network"),
        ({"engine": "tensorflow-sessions", "max_memory": 10}, "E-limit-memory"),
    ],
)
def test_what_the_engine_cannot_do_is_refused_before_anything_starts(changed, code):
    weights, inputs, _ = values()
    with pytest.raises(MpccError) as caught:
        engine.run(artifact(program()), weights, inputs, **{**SETTINGS, **changed})
    assert caught.value.code == code


def test_frames_hold_arrays_and_end_where_they_are_cut():
    arrays: dict[str, Any] = {
        "a/b": np.arange(3, dtype=np.uint64),
        "": np.array([[1.5]], np.float32),
    }
    stream = io.BytesIO()
    write_frame(stream, {"do": "give"}, arrays)
    write_frame(stream, {"do": "close"})
    data = stream.getvalue()
    stream.seek(0)
    first = read_frame(stream)
    assert first is not None
    assert first[0]["do"] == "give"
    assert list(first[1]) == list(arrays)
    for name, array in arrays.items():
        assert first[1][name].dtype == array.dtype
        np.testing.assert_array_equal(first[1][name], array)
    second = read_frame(stream)
    assert second is not None
    assert second[0]["do"] == "close"
    assert read_frame(stream) is None
    assert read_frame(io.BytesIO(data[:10])) is None
    assert read_frame(io.BytesIO(data[: data.index(b"\n") + 20])) is None
