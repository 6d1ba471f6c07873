"""The network between three parties is measured over TLS on the loopback interface."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from mpcc.cost import profile
from mpcc.errors import MpccError
from mpcc.ir.types import COMPUTE_PLACES
from mpcc.runtime import probe
from mpcc.runtime.certificates import issue
from mpcc.runtime.cluster import OWNER, Cluster

LINKS = {"0->1", "0->2", "1->0", "1->2", "2->0", "2->1"}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster file and the sockets that its parties listen at."""
    monkeypatch.setattr(probe, "_LONGEST", 1 << 22)
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in COMPUTE_PLACES]
    ports = {p: s.getsockname()[1] for p, s in zip(COMPUTE_PLACES, listeners, strict=True)}
    identities = issue(tmp_path, [*COMPUTE_PLACES, OWNER])
    path = tmp_path / "cluster.json"
    Cluster.local(identities, ports, 10.0, "none", 1).write(path)
    yield path, listeners
    for listener in listeners:
        listener.close()


def together(path, listeners):
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(probe.measure, path, i, s) for i, s in enumerate(listeners)]
        return [job.result(60) for job in jobs]


def test_all_parties_know_all_links(cluster, tmp_path):
    found = together(*cluster)
    for one in found:
        assert set(one.links) == LINKS
        assert one.links == found[0].links
        assert all(0 <= x.latency < 10 and x.bandwidth > 1e3 for x in one.links.values())
        assert one.default.latency == max(x.latency for x in one.links.values())
    path = tmp_path / "measured.toml"
    path.write_text(found[0].to_toml())
    again = profile(str(path))
    for name, link in found[0].links.items():
        assert again.link(name).bandwidth == pytest.approx(link.bandwidth, rel=1e-4)


def test_a_slow_link_is_seen(cluster, monkeypatch):
    """Every word between P0 and P2 that P2 sends waits: both ways are as slow as the round trip."""
    path, listeners = cluster
    call, delay = probe._call, 0.02

    def slow(config, peer):
        connection = call(config, peer)
        if config.certificate.name.startswith("P2") and peer.name == "P0":
            send = connection.sendall

            def later(data):
                time.sleep(delay)
                send(data)

            monkeypatch.setattr(connection, "sendall", later)
        return connection

    monkeypatch.setattr(probe, "_call", slow)
    found = together(path, listeners)[0]
    assert found.links["0->2"].latency >= delay / 2
    assert found.links["0->2"].latency == found.links["2->0"].latency
    # 4 MiB in blocks of 256 KiB, each of which waits.
    assert found.links["2->0"].bandwidth <= 8 * (1 << 18) / delay * 1.2


def test_a_stranger_is_turned_away(cluster, tmp_path):
    path, listeners = cluster
    other = tmp_path / "other"
    other.mkdir()
    issue(other, COMPUTE_PLACES)
    port = json.loads(path.read_text())["endpoints"][0]["port"]
    with knocking(port):
        assert set(together(path, listeners)[0].links) == LINKS


@contextmanager
def knocking(port):
    """Somebody without a certificate calls again and again."""
    stop = threading.Event()

    def knock():
        while not stop.is_set():
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            time.sleep(0.01)

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_party_that_does_not_come(cluster):
    path, listeners = cluster
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "connect_deadline_s": 0.2}))
    with pytest.raises(MpccError, match=r"E-network-measure.*P1"):
        probe.measure(path, 0, listeners[0])


def test_strangers_do_not_keep_a_party_waiting(cluster):
    """Neither many, nor one that says nothing."""
    path, listeners = cluster
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "connect_deadline_s": 0.5}))
    port = data["endpoints"][0]["port"]
    with knocking(port), pytest.raises(MpccError, match=r"did not call in time|timed out"):
        probe.measure(path, 0, listeners[0])
    silent = socket.create_connection(("127.0.0.1", port))
    with silent, pytest.raises(MpccError, match=r"did not call in time|timed out"):
        probe.measure(path, 0, listeners[0])


@pytest.mark.parametrize("word", ["[" * 60_000, '{"0->1": [0.1, 1' + "0" * 400 + "]}", "3"])
def test_nonsense_of_a_peer_is_an_error(cluster, monkeypatch, word):
    """Of one that has a certificate."""
    path, listeners = cluster
    honest = json.dumps
    monkeypatch.setattr(json, "dumps", lambda known: word if known else honest(known))
    with pytest.raises(MpccError, match="E-network-measure"):
        together(path, listeners)


@pytest.mark.parametrize(
    ("text", "index"),
    [("{", 0), ("[]", 0), ('{"endpoints": 3}', 0), ("", 3), ("", 9), ("", -1)],
)
def test_bad_cluster_files(cluster, text, index):
    path, _ = cluster
    if text:
        path.write_text(text)
    with pytest.raises(MpccError, match="E-cluster-file"):
        probe.measure(path, index)
