"""Sessions of real processes over TLS: what happens when a party dies, sleeps or never comes."""

import os
import re
import signal
import threading
import time

import numpy as np
import pytest

import mpcc
from benchmarks import models

DEADLINE = 2.0


@pytest.fixture(scope="module")
def network():
    """Network C compiled: its run is long enough to be interrupted."""
    model = models.NETWORKS["C"]()
    samples = np.random.default_rng(1).uniform(0, 1, (8, 1, 1, 28, 28)).astype(np.float32)
    return mpcc.compile(model.serialized(), calibration={"image": samples}), samples[0]


@pytest.fixture
def session(network):
    compiled, _ = network
    with mpcc.Session(compiled.artifact, compiled.weights, deadline=DEADLINE) as live:
        yield live


def pid_of(party):
    assert party.pid is not None
    return party.pid


def run_until_it_fails(session, image):
    """Runs until an error; the error and when it came."""
    while True:
        try:
            session.run({"image": image})
        except mpcc.MpccError as error:
            return error, time.monotonic()


def disturb(session, image, number):
    """Send a signal to party 1 while runs go on; the error, seconds until it came, exit codes."""
    sent = []

    def later():
        time.sleep(0.3)
        sent.append(time.monotonic())
        os.kill(pid_of(session.parties[1]), number)

    thread = threading.Thread(target=later)
    thread.start()
    error, when = run_until_it_fails(session, image)
    thread.join()
    return error, when - sent[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_party_stops_the_others_within_the_deadline(session, network, number):
    error, seconds = disturb(session, network[1], number)
    assert seconds < DEADLINE + 2.0
    assert error.code.startswith("E-net")
    text = str(error)
    assert "P1" in text
    survivors = [session.parties[0], session.parties[2]]
    for party in survivors:
        assert party.wait(DEADLINE + 2.0)
        assert party.exit_code == 1
        # The survivor says who is missing and at which step, not just that something broke: an op,
        # or what comes before the first op.
        assert "P1" in party.complaint()
        assert re.search(r"/|go frame|agreeing on keys of run \d+", party.complaint())
    if number == signal.SIGSTOP:
        os.kill(pid_of(session.parties[1]), signal.SIGCONT)


def test_a_failed_session_is_over(session, network):
    disturb(session, network[1], signal.SIGKILL)
    with pytest.raises(mpcc.MpccError):
        session.run({"image": network[1]})


def test_runs_differ_in_keys_and_agree_in_outputs(session, network):
    first = session.run({"image": network[1]}).outputs
    second = session.run({"image": network[1]}).outputs
    # Fresh coins round differently, by less than the error budget.
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert np.abs(value - second[name]).max() < 2.0**-7


def test_statistics_are_complete(session, network):
    runs = [session.run({"image": network[1]}) for _ in range(3)]
    stats = session.statistics(runs)
    assert len(stats["online_seconds"]) == 3
    assert all(s > 0 for s in stats["online_seconds"])
    assert len(stats["peak_rss_bytes"]) == 3
    assert all(n > 1 << 20 for n in stats["peak_rss_bytes"])
    payload = sum(stats["bytes_sent"].values()) * 3 + sum(stats["setup_bytes_sent"].values())
    # TLS and frames come on top, but not much.
    assert payload < stats["wire_bytes"] < 1.2 * payload
    assert {"engine", "protocol", "network", "rounds", "setup_seconds"} <= stats.keys()


def test_processes_are_gone_and_nothing_is_left(network):
    compiled, image = network
    with mpcc.Session(compiled.artifact, compiled.weights) as live:
        live.run({"image": image})
        pids = [pid_of(party) for party in live.parties]
        assert live._directory is not None
        folder = live._directory.name
        assert os.stat(folder).st_mode & 0o077 == 0
    assert not os.path.exists(folder)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_use_outside_a_session_is_refused(network):
    compiled, image = network
    session = mpcc.Session(compiled.artifact, compiled.weights)
    with pytest.raises(mpcc.MpccError, match="E-session-closed"):
        session.run({"image": image})


def test_nothing_secret_in_reprs(session, network):
    result = session.run({"image": network[1]})
    texts = [repr(session), repr(result), *(repr(p) for p in session.parties)]
    for value in result.outputs["logits"].ravel():
        assert all(f"{value:.4f}" not in text for text in texts)
