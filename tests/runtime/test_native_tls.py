"""Three parties as processes over TLS, the test as the owner; and what happens when one fails."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mpcc import _native
from mpcc.ir.core import Module
from mpcc.ir.ops.party import DIALECT
from mpcc.runtime import native
from mpcc.runtime.certificates import issue
from tests.runtime.sum_program import NAMES, SHAPE, artifact, program, values

PARTY = Path(os.environ.get("MPCC_PARTY") or native.party_program())
LIBRARY = Path(os.environ.get("MPCC_LIBRARY") or PARTY.with_name("libmpcc.so"))


@dataclass
class Cluster:
    directory: Path
    config: Path
    parties: list[subprocess.Popen[str]]
    program: bytes

    def connect(self, data=None):
        return _native.OwnerEndpoint(data or self.program, str(self.config))

    def results(self):
        """(exit code, stdout, stderr) of every party."""
        found = []
        for party in self.parties:
            out, err = party.communicate(timeout=20)
            found.append((party.returncode, out, err))
        return found


@pytest.fixture
def cluster(tmp_path):
    """Starts parties; kills what is left of them."""
    started = []

    def start(module, programs=None, **options):
        os.chmod(tmp_path, 0o700)
        made = artifact(module)
        names = issue(tmp_path, NAMES)
        listeners = []
        for _ in range(3):
            listener = socket.create_server(("127.0.0.1", 0), backlog=8)
            listeners.append(listener)
        endpoints = [
            {
                "name": name,
                "host": "127.0.0.1",
                "port": listeners[i].getsockname()[1] if i < 3 else 0,
                "places": [name] if i < 3 else ["client", "model"],
                "cert": names[name].certificate.name,
                "key": names[name].key.name,
            }
            for i, name in enumerate(NAMES)
        ]
        config = tmp_path / "cluster.json"
        settings = {"deadline_s": 2.0, "connect_deadline_s": 5.0, **options}
        config.write_text(
            json.dumps({"endpoints": endpoints, "ca": names["P0"].authority.name, **settings})
        )
        for i, listener in enumerate(listeners):
            path = tmp_path / f"{i}.mpcc"
            (artifact(programs[i]) if programs else made).save(path)
            arguments = ["--artifact", str(path), "--config", str(config), "--index", str(i)]
            started.append(
                subprocess.Popen(
                    [str(PARTY), *arguments, "--listen-fd", str(listener.fileno())],
                    pass_fds=[listener.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            listener.close()
        return Cluster(tmp_path, config, started, made.program)

    yield start
    for party in started:
        with contextlib.suppress(ProcessLookupError):
            party.kill()
        party.communicate()


def test_a_session_of_several_runs(cluster):
    live = cluster(program())
    owner = live.connect()
    weights, inputs, expected = values()
    owner.setup(weights)
    for _ in range(3):
        np.testing.assert_array_equal(owner.run(inputs)["y"], expected.astype(np.float32))
    stats = json.loads(owner.statistics())
    owner.close()
    assert len(stats["runs"]) == 3
    n = 8 * SHAPE[0]
    assert stats["setup"]["bytes_sent"] == {"model->2": n}
    for run in stats["runs"]:
        assert run["bytes_sent"] == {
            "client->1": n, "1->0": n, "0->1": 2 * n, "1->2": 2 * n, "2->0": 2 * n, "0->2": n,
            "2->client": n,
        }  # fmt: skip
        assert run["rounds"] == 10
        assert run["seconds"] > 0
    assert stats["peer_rss_bytes"].keys() == {"P0", "P1", "P2"}
    for code, out, err in live.results():
        assert (code, err) == (0, "")
        assert len(json.loads(out)["runs"]) == 3


@pytest.mark.parametrize("network", ["lan"])
def test_a_shaped_network_is_slower(cluster, network):
    live = cluster(program(), network=network)
    owner = live.connect()
    weights, inputs, _ = values()
    owner.setup(weights)
    owner.run(inputs)
    stats = json.loads(owner.statistics())
    owner.close()
    # Nine messages of 0.1 ms each lie between the input's arrival and the output.
    assert stats["runs"][0]["seconds"] > 9 * 1e-4


def test_a_killed_party_is_named_by_all(cluster):
    live = cluster(program())
    owner = live.connect()
    weights, inputs, _ = values()
    owner.setup(weights)
    owner.run(inputs)
    live.parties[1].kill()
    start = time.monotonic()
    with pytest.raises(_native.NativeError) as error:
        owner.run(inputs)
    assert time.monotonic() - start < 4
    assert error.value.args[0].startswith("E-net-")
    assert "P1" in str(error.value)
    with pytest.raises(_native.NativeError):
        owner.run(inputs)
    codes = live.results()
    for i in (0, 2):
        assert codes[i][0] == 1
        assert "P1" in codes[i][2]
        assert codes[i][1] == ""


def test_a_paused_party_is_noticed_within_the_deadline(cluster):
    live = cluster(program())
    owner = live.connect()
    weights, inputs, _ = values()
    owner.setup(weights)
    live.parties[2].send_signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(_native.NativeError) as error:
        owner.run(inputs)
    assert 1.5 < time.monotonic() - start < 6
    assert "P2" in str(error.value)
    live.parties[2].send_signal(signal.SIGCONT)
    results = live.results()
    for i in (0, 1):
        assert results[i][0] == 1
        assert "P2" in results[i][2]


def test_a_refused_input_ends_the_run_without_showing_it(cluster):
    live = cluster(program())
    owner = live.connect()
    weights, inputs, _ = values()
    owner.setup(weights)
    inputs["x"][3] = 77.25
    with pytest.raises(_native.NativeError) as error:
        owner.run(inputs)
    assert error.value.args[0] == "E-input-range"
    assert "77" not in str(error.value)
    for code, _, err in live.results():
        assert code == 1
        assert "owner" in err
        assert "77.25" not in err


def test_another_program_is_refused_on_both_sides(cluster):
    live = cluster(program(), programs=[program(), program(label="other"), program()])
    with pytest.raises(_native.NativeError) as error:
        live.connect()
    assert error.value.args[0] in ("E-net-mismatch", "E-net-aborted", "E-net-connect")
    results = live.results()
    assert all(code == 1 for code, _, _ in results)
    assert any("E-net-mismatch" in err for _, _, err in results)


def busy_program(steps):
    """P0 multiplies large matrices for long after the client's input has come."""
    module = Module("party")

    def op(kind, *operands, **attrs):
        result = module.main.append(DIALECT.operations[f"party.{kind}"], operands, attrs)
        return result.results[0] if result.results else None

    n = 1024
    x = op("encode", op("input", name="x", shape=SHAPE, place="client"), frac=8, lo=-8.0, hi=8.0)
    x = op("transfer", x, to="P0", step="input/share")
    x = op("pad", op("reshape", x, shape=(1, *SHAPE)), low=(0, 0), high=(n - 1, n - 40), value=0)
    mask = op("draw_ring", key="P0+P1", stream=0, place="P0", shape=(n, n))
    for _ in range(steps):
        x = op("matmul", x, mask)
    x = op("slice", x, starts=(0, 0), limits=(1, 40), strides=(1, 1))
    x = op("transfer", op("reshape", x, shape=SHAPE), to="client", step="open")
    op("output", op("decode", x, frac=8), name="y")
    return module


def test_a_party_stops_computing_when_the_session_is_over(cluster):
    live = cluster(busy_program(1000), deadline_s=1.0)
    owner = live.connect()
    _, inputs, _ = values()
    owner.setup({})
    # P0 tells that it goes on, so nobody gives up by itself: somebody else ends the session.
    timer = threading.Timer(1.0, live.parties[1].kill)
    timer.start()
    with pytest.raises(_native.NativeError) as error:
        owner.run(inputs)
    timer.join()
    assert error.value.args[0] in ("E-net-lost", "E-net-aborted")
    # Far less than the products that are left would take.
    _, err = live.parties[0].communicate(timeout=10)
    assert live.parties[0].returncode == 1
    assert "E-net-" in err
    assert "matmul" in err.lower()


@pytest.mark.parametrize("port", [-1, 65536, 2**32 + 7000, 2**64 - 1, 7000.5, "7000", True, None])
def test_ports_are_checked_before_anybody_is_called(tmp_path, port):
    entry = {"name": "P0", "host": "127.0.0.1", "port": port, "places": ["P0"]}
    config = {"endpoints": [entry], "ca": "ca", "cert": "c", "key": "k"}
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps(config))
    with pytest.raises(_native.NativeError) as error:
        _native.OwnerEndpoint(b"", str(path), 0)
    assert error.value.args[0] == "E-config"
    assert "port must be an integer from 0 to 65535" in error.value.args[1]


@pytest.mark.parametrize("threads", [0, -1, 1025, 2**32 + 1, 2**64 - 1, 1.5, "2"])
def test_threads_are_checked_before_anybody_is_called(tmp_path, threads):
    entry = {"name": "P0", "host": "127.0.0.1", "port": 7000, "places": ["P0"]}
    config = {"endpoints": [entry], "ca": "ca", "cert": "c", "key": "k", "threads": threads}
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps(config))
    with pytest.raises(_native.NativeError) as error:
        _native.OwnerEndpoint(b"", str(path), 0)
    assert error.value.args[0] == "E-config"
    assert "threads must be an integer from 1 to 1024" in error.value.args[1]


def test_usage_errors(tmp_path):
    party = [str(PARTY), "--artifact", "x", "--config", "y"]
    done = subprocess.run(party, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--index" in done.stderr
    bad = tmp_path / "M.mpcc"
    bad.write_bytes(b"PK\x05\x06" + bytes(18))
    done = subprocess.run(
        [str(PARTY), "--artifact", str(bad), "--config", "y", "--index", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "E-artifact" in done.stderr
    sentence, line = done.stderr.splitlines()
    assert sentence.startswith("mpcc-party: E-artifact")
    assert json.loads(line)["error"]["reporter"] == "endpoint 0"


def test_artifacts_are_checked_by_the_party_too(tmp_path):
    made = artifact(program())
    path = tmp_path / "M.mpcc"
    made.save(path)
    assert _native.artifact_program(str(path)) == made.program
    data = path.read_bytes()
    rng = np.random.default_rng(3)
    refused = []
    for _ in range(300):
        copy = bytearray(data)
        copy[int(rng.integers(len(copy)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(copy)
        try:
            assert _native.artifact_program(str(path)) == made.program
        except _native.NativeError as error:
            refused.append(error.args[0])
    assert refused
    assert all(code.startswith("E-artifact") for code in refused)


class Tensor(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
    )


def test_the_c_interface_runs_a_session(cluster):
    live = cluster(program())
    library = ctypes.CDLL(str(LIBRARY))
    for name in ("open", "setup", "run", "output"):
        getattr(library, f"mpcc_session_{name}").restype = ctypes.c_void_p
    library.mpcc_error_text.restype = ctypes.c_char_p
    library.mpcc_session_statistics.restype = ctypes.c_char_p
    assert library.mpcc_abi_version() == 1

    def text(error):
        shown = library.mpcc_error_text(ctypes.c_void_p(error)).decode()
        library.mpcc_error_free(ctypes.c_void_p(error))
        return shown

    def tensors(arrays):
        return (Tensor * len(arrays))(
            *(Tensor(k.encode(), v.ctypes.data, v.nbytes) for k, v in arrays.items())
        )

    session = ctypes.c_void_p()
    missing = library.mpcc_session_open(b"nothing", b"nothing", 3, ctypes.byref(session))
    assert "E-artifact" in text(missing)
    where = (str(live.directory / "0.mpcc").encode(), str(live.config).encode())
    assert library.mpcc_session_open(*where, 3, ctypes.byref(session)) is None
    weights, inputs, expected = values()
    assert library.mpcc_session_setup(session, tensors(weights), ctypes.c_size_t(1)) is None
    assert library.mpcc_session_run(session, tensors(inputs), ctypes.c_size_t(1)) is None
    y = Tensor()
    assert "E-engine-usage" in text(library.mpcc_session_output(session, b"z", ctypes.byref(y)))
    assert library.mpcc_session_output(session, b"y", ctypes.byref(y)) is None
    found = np.frombuffer(ctypes.string_at(y.data, y.bytes), np.float32)
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    assert json.loads(library.mpcc_session_statistics(session))["runs"][0]["rounds"] == 10
    library.mpcc_session_close(session)
    assert [code for code, _, _ in live.results()] == [0, 0, 0]
