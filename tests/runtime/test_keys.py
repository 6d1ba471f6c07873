"""Keys and randomness of real party processes: fresh after an abort, refused when in doubt."""

import ctypes
import errno
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import mpcc
from benchmarks import models
from mpcc import _native
from mpcc.emit.graphdef import emit
from mpcc.ir.core import Module
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.types import COMPUTE_PLACES
from mpcc.runtime import native
from mpcc.runtime.certificates import issue
from mpcc.runtime.cluster import OWNER, Cluster

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("MPCC_NATIVE_BUILD") or ROOT / "build" / "native").resolve()
DEADLINE = 2.0
BEST = _native.cpu_info()["isa"]


@pytest.fixture(scope="module")
def network():
    """Network A compiled, and one input."""
    model = models.NETWORKS["A"]()
    samples = np.random.default_rng(1).uniform(0, 1, (4, *model.input_shape)).astype(np.float32)
    compiled = mpcc.compile(model.serialized(), calibration={"image": samples})
    return compiled, {"image": samples[0]}


@pytest.fixture
def recording():
    """Sessions whose parties tell digests of their keystreams (runtime_native/party)."""
    program = BUILD / "party" / "mpcc-party-recording"
    if not program.is_file():
        pytest.fail(f"{program} is absent: run `make native-tests`")
    with mock.patch.object(native, "party_program", return_value=program):
        yield


def records(party):
    """What a recording party has printed, by run."""
    party._output.seek(0)
    lines = [json.loads(line) for line in party._output.read().splitlines()]
    return [line for line in lines if "run" in line]


def told(parties):
    """Digests of two-holder keys by (run, holders), and of received seeds by run."""
    keys: dict[tuple[int, str], list[str]] = {}
    seeds: dict[int, list[str]] = {}
    for party in parties:
        for record in records(party):
            if "digest" in record:
                keys.setdefault((record["run"], record["holders"]), []).append(record["digest"])
            else:
                seeds.setdefault(record["run"], []).extend(record["seeds"])
    return keys, seeds


def run_for(seconds, live, inputs):
    """Run after run, until the time is over or one fails."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        live.run(inputs)


def interrupted(network):
    """A session whose party 1 is killed in the middle of its runs."""
    compiled, inputs = network
    with mpcc.Session(compiled.artifact, compiled.weights, deadline=DEADLINE) as live:
        live.run(inputs)
        victim = live.parties[1].pid
        assert victim is not None
        killer = threading.Timer(0.2, os.kill, (victim, signal.SIGKILL))
        killer.start()
        with pytest.raises(mpcc.MpccError):
            run_for(60, live, inputs)
        killer.join()
        for party in live.parties:
            party.wait(DEADLINE + 2)
        return told(live.parties)


def completed(network):
    """A session of two runs."""
    compiled, inputs = network
    with mpcc.Session(compiled.artifact, compiled.weights, deadline=10.0) as live:
        for _ in range(2):
            live.run(inputs)
        found = told(live.parties)
    return found


def test_a_retry_after_a_killed_party_shares_no_keystream(network, recording):
    first, again = interrupted(network), completed(network)
    owners: dict[str, tuple[int, object]] = {}
    for session, (keys, seeds) in enumerate((first, again)):
        # The same run ids occur in both sessions: the setup has seeds alone, a run has both.
        assert 1 in {run for run, _ in keys}
        assert {0, 1} <= seeds.keys()
        for (run, holders), digests in keys.items():
            # Both holders have the same stream; a party that was killed may have told of no more.
            assert len(set(digests)) == 1
            assert owners.setdefault(digests[0], (session, (run, holders))) == (
                session,
                (run, holders),
            )
        for run, digests in seeds.items():
            for digest in digests:
                assert owners.setdefault(digest, (session, run)) == (session, run)
    # Two runs of one session: all names of run 1 recur in run 2, no digest does.
    keys, seeds = again
    names = [{holders for run, holders in keys if run == number} for number in (1, 2)]
    assert names[0] == names[1]
    assert names[0]
    assert len({d for digests in keys.values() for d in digests}) == len(keys)
    assert not set(seeds[1]) & set(seeds[2])


def test_recorded_draws_find_no_reuse(network, monkeypatch):
    monkeypatch.setenv("MPCC_DEBUG_PRG", "1")
    compiled, inputs = network
    with mpcc.Session(compiled.artifact, compiled.weights) as live:
        first = live.run(inputs).outputs
        assert first.keys() == live.run(inputs).outputs.keys()


def test_a_wrong_debug_variable_is_an_error(network, monkeypatch):
    monkeypatch.setenv("MPCC_DEBUG_PRG", "yes")
    compiled, _ = network
    with (
        pytest.raises(mpcc.MpccError, match="MPCC_DEBUG_PRG is 0 or 1"),
        mpcc.Session(compiled.artifact, compiled.weights, deadline=DEADLINE),
    ):
        pass


@pytest.mark.parametrize("isa", ["scalar", BEST])
def test_parties_agree_whatever_computes_their_aes(network, isa, monkeypatch):
    """The owner in this process keeps the variant of its first use, the parties take another."""
    compiled, inputs = network
    with mpcc.Session(compiled.artifact, compiled.weights) as live:
        expected = live.run(inputs).outputs
    monkeypatch.setenv("MPCC_ISA", isa)
    with mpcc.Session(compiled.artifact, compiled.weights) as live:
        found = live.run(inputs).outputs
    for name, value in found.items():
        assert np.abs(value - expected[name]).max() < 2.0**-7


def start_party(network, folder, *options, **popen):
    """One mpcc-party with a cluster of its own, whose peers do not come: how it ended."""
    compiled, _ = network
    identities = issue(folder, [*COMPUTE_PLACES, OWNER])
    cluster = Cluster.local(identities, dict.fromkeys(COMPUTE_PLACES, 0), 1.0, "none", 1)
    cluster.write(folder / "cluster.json")
    config = json.loads((folder / "cluster.json").read_text())
    config["connect_deadline_s"] = 1.0
    (folder / "cluster.json").write_text(json.dumps(config))
    compiled.artifact.save(folder / "program.mpcc")
    if change := popen.pop("change", None):
        change(folder)
    return subprocess.run(
        [
            native.party_program(),
            f"--artifact={folder / 'program.mpcc'}",
            f"--config={folder / 'cluster.json'}",
            "--index=0",
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **popen,
    )


def test_a_private_key_that_others_can_read_is_refused(network, tmp_path):
    found = start_party(network, tmp_path, change=lambda f: (f / "P0.key").chmod(0o640))
    assert found.returncode == 1
    assert "E-net-key-mode" in found.stderr
    assert f"chmod 600 {tmp_path / 'P0.key'}" in found.stderr


def test_locked_memory_or_a_clear_refusal(network, tmp_path):
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
        # PR_CAPBSET_DROP of CAP_IPC_LOCK, which would lift the limit from a privileged process.
        ctypes.CDLL(None).prctl(24, 14, 0, 0, 0)

    found = start_party(network, tmp_path, "--mlock", preexec_fn=limited)
    assert found.returncode == 1
    assert "E-process-mlock" in found.stderr
    assert "RLIMIT_MEMLOCK is 4 KiB" in found.stderr


def test_a_party_without_a_random_source_refuses(network, tmp_path):
    """A seccomp filter that answers ENOSYS to getrandom(2) stands for a kernel without it."""
    load, jump, give = 0x20, 0x15, 0x06  # BPF: the system call's number, compare, return
    code = [
        (load, 0, 0, 0),
        (jump, 0, 1, 318),  # getrandom on x86-64
        (give, 0, 0, 0x00050000 | errno.ENOSYS),
        (give, 0, 0, 0x7FFF0000),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *c) for c in code))
    filters = struct.pack("HxxxxxxP", len(code), ctypes.addressof(program))
    holder = ctypes.create_string_buffer(filters)

    def forbidden() -> None:
        libc = ctypes.CDLL(None)
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(holder), 0, 0):
            os._exit(77)

    found = start_party(network, tmp_path, preexec_fn=forbidden)
    assert found.returncode == 1
    assert "E-random-source" in found.stderr
    assert "getrandom(2) does not work here" in found.stderr


def test_a_party_is_not_dumpable(network):
    compiled, _ = network
    with mpcc.Session(compiled.artifact, compiled.weights) as live:
        for party in live.parties:
            limits = Path(f"/proc/{party.pid}/limits").read_text()
            assert re.search(r"Max core file size +0 +0 ", limits)
            # The files of a process that is not dumpable belong to root, and are closed to others.
            assert Path(f"/proc/{party.pid}/environ").stat().st_uid == 0


def test_the_owner_process_is_not_dumpable():
    script = (
        "import ctypes, mpcc.api, resource\n"
        "mpcc.api.forbid_core_dumps()\n"
        "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)\n"
        "assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_party_program_contains_no_test_keys():
    """The class of seeded keys (by its RTTI name) is in the extension and not in a party."""
    label = b"SeededKeys"
    assert label in Path(_native.__file__).read_bytes()
    assert label not in native.party_program().read_bytes()


def test_nothing_but_its_constructor_switches_test_randomness_on():
    """Environment variables that native code reads, and the callers of the seeded constructors."""
    sources = {
        path.relative_to(ROOT / "runtime_native").as_posix(): path.read_text()
        for path in sorted((ROOT / "runtime_native").rglob("*"))
        if path.suffix in (".cc", ".h")
        and not {"tests", "testing", "fuzz"} & set(path.parts)
        and not re.search(r"test|bench", path.name)
    }
    variables = {v for text in sources.values() for v in re.findall(r'getenv\("(\w+)"\)', text)}
    assert variables == {"MPCC_ISA", "MPCC_DEBUG_PRG"}
    for name, files in {
        "seeded_keys(": {"graph/keys.h", "graph/seeded_keys.cc", "graph/cluster.cc"},
        "FixedSeed": {
            "net/memory.h",
            "net/memory.cc",
            "graph/cluster.h",
            "graph/cluster.cc",
            "python/module.cc",
        },
    }.items():
        assert {f for f, text in sources.items() if name in text} == files
    config = sources["graph/session.cc"]
    assert "seed" not in config


def test_the_program_loader_refuses_a_stream_that_is_drawn_twice():
    def program(second):
        module = Module("party")
        for attributes in ({"stream": 7, "shape": (4,)}, second):
            module.main.append(
                DIALECT.operations["party.draw_ring"],
                (),
                {"key": "P0+P1", "place": "P0", "ring": 64, **attributes},
            )
        return emit(module)

    assert _native.describe_program(program({"stream": 8, "shape": (4,)}))
    for second in ({"stream": 7, "shape": (4,)}, {"stream": 7, "shape": (9,)}):
        with pytest.raises(_native.NativeError) as error:
            _native.describe_program(program(second))
        assert error.value.args[0] == "E-graph-stream"
