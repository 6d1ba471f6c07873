"""The owner waits as long as the parties say that they go on, however short the deadline."""

import contextlib
import os
import re
import signal
import threading
import time

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx import numpy_helper

import mpcc

# Far above the 20 ms that a message takes on the imitated network, far below a run.
DEADLINE = 1.0
LAYERS = 36
WIDTH = 8


def deep_network():
    """A chain of small layers: little data and many rounds, so that latency is all of its time."""
    rng = np.random.default_rng(5)
    nodes, matrices, value = [], [], "x"
    for layer in range(LAYERS):
        # Rotated, plus the mean, so that some of the values stay above 0 through all of the layers.
        mixture = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0] + 1 / WIDTH
        matrices.append(mixture.astype(np.float32))
        nodes.append(oh.make_node("MatMul", [value, f"w{layer}"], [f"m{layer}"]))
        value = "y" if layer == LAYERS - 1 else f"r{layer}"
        nodes.append(oh.make_node("Relu", [f"m{layer}"], [value]))
    graph = oh.make_graph(
        nodes,
        "deep",
        [oh.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, WIDTH])],
        [oh.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, WIDTH])],
        [numpy_helper.from_array(m, f"w{i}") for i, m in enumerate(matrices)],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString(), matrices


@pytest.fixture(scope="module")
def compiled():
    samples = np.random.default_rng(6).uniform(-1, 1, (8, 1, WIDTH)).astype(np.float32)
    model, matrices = deep_network()
    x = expected = samples[0]
    for matrix in matrices:
        expected = np.maximum(expected @ matrix, 0)
    return mpcc.compile(model, calibration={"x": samples}), x, expected


def test_a_run_may_last_longer_than_the_deadline(compiled):
    network, x, expected = compiled
    with mpcc.Session(network.artifact, network.weights, deadline=DEADLINE, network="wan") as live:
        runs = [live.run({"x": x}) for _ in range(2)]
        stats = live.statistics(runs)
    # The owner waits twice the deadline for a message, and its first one comes at the run's end.
    assert min(stats["online_seconds"]) > 2.5 * DEADLINE
    for run in runs:
        assert np.abs(run.outputs["y"] - expected).max() < 0.05 * np.abs(expected).max()


def test_a_run_has_a_limit_however_alive_everybody_is(compiled):
    network, x, _ = compiled
    live = mpcc.Session(
        network.artifact, network.weights, deadline=DEADLINE, network="wan", run_limit=1.5
    )
    message = r"has not ended within 1\.5 s.*run_limit_s"
    with pytest.raises(mpcc.MpccError, match=message) as caught, live:
        live.run({"x": x})
    assert caught.value.code.startswith("E-net")


@pytest.mark.parametrize(
    ("number", "named"),
    # Behind a paused party the first to give up may name its neighbour, who waits as well.
    [(signal.SIGKILL, "P1"), (signal.SIGSTOP, "P[012]")],
)
def test_a_party_that_stops_late_in_a_run_ends_it(compiled, number, named):
    network, x, _ = compiled
    with mpcc.Session(network.artifact, network.weights, deadline=DEADLINE, network="wan") as live:
        stopped = live.parties[1]
        assert stopped.pid is not None
        started = time.monotonic()
        # Later than the owner would wait for a party that says nothing.
        timer = threading.Timer(2.2 * DEADLINE, os.kill, (stopped.pid, number))
        timer.start()
        try:
            with pytest.raises(mpcc.MpccError) as caught:
                live.run({"x": x})
            seconds = time.monotonic() - started
        finally:
            timer.cancel()
            timer.join()
            with contextlib.suppress(ProcessLookupError):  # it may have ended before the signal
                os.kill(stopped.pid, signal.SIGCONT)
    # Two deadlines after the signal, and a moment to end processes.
    assert 2.2 * DEADLINE < seconds < 4.2 * DEADLINE + 5
    assert caught.value.code.startswith("E-net")
    assert re.search(rf"{{party={named}, step=run 1\b", str(caught.value))
