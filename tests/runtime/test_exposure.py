"""Where TensorFlow's servers may be, and that a process which can be reached from outside stops."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpcc.errors import MpccError
from mpcc.runtime.exposure import check_addresses
from mpcc.runtime.native import party_program
from mpcc.runtime.tensorflow import start_servers


def test_loopback_and_declared_networks_only():
    check_addresses({"party": ["127.0.0.1:1", "localhost:2", "[::1]:3"]})
    jobs = {"party": ["10.1.2.3:4000", "127.0.0.1:1"], "client": ["192.0.2.1:4000"]}
    with pytest.raises(MpccError) as caught:
        check_addresses(jobs)
    assert [(d.code, d.where) for d in caught.value.diagnostics] == [
        ("E-tf-exposed", "/job:party/task:0"),
        ("E-tf-exposed", "/job:client/task:0"),
    ]
    with pytest.raises(MpccError) as caught:
        check_addresses(jobs, ["10.1.0.0/16"])
    assert [d.where for d in caught.value.diagnostics] == ["/job:client/task:0"]
    check_addresses(jobs, ["10.1.0.0/16", "192.0.2.0/24"])


@pytest.mark.parametrize(
    ("jobs", "networks", "code"),
    [
        ({"party": ["127.0.0.1"]}, (), "E-tf-cluster"),
        ({"party": ["127.0.0.1:http"]}, (), "E-tf-cluster"),
        ({"party": ["no host:1"]}, (), "E-tf-cluster"),
        ({"party": ["127.0.0.1:1"]}, ["10.0.0.1/8"], "E-option-network"),
        ({"party": ["127.0.0.1:1"]}, ["all"], "E-option-network"),
    ],
)
def test_nonsense_is_named(jobs, networks, code):
    with pytest.raises(MpccError) as caught:
        check_addresses(jobs, networks)
    assert caught.value.code == code


def test_servers_outside_are_refused_before_tensorflow_is_loaded():
    with pytest.raises(MpccError, match=r"E-tf-exposed: 10\.1\.2\.3 is neither loopback"):
        start_servers({"party": ["10.1.2.3:4000"]}, [("party", 0)], ["10.2.0.0/16"])


def ran(script, **added):
    """What a process of its own does: this one may have servers of other tests."""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        env=os.environ | added,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


LISTEN = """
import socket
from mpcc.runtime.exposure import check_listening, listening
assert listening() == set()
with socket.create_server(("127.0.0.1", 0)) as inside:
    assert {port for _, port in listening()} == {inside.getsockname()[1]}
    check_listening()
    with socket.create_server(("0.0.0.0", 0)) as outside:
        print(outside.getsockname()[1], flush=True)
        check_listening()
"""


def test_a_process_that_listens_to_everybody_stops():
    done = ran(LISTEN)
    assert done.returncode == 1
    assert f"E-tf-exposed: TensorFlow listens at 0.0.0.0, port {int(done.stdout)}\n" in done.stderr


SERVE = """
import socket
from mpcc.runtime.exposure import check_listening
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    try:
        server = socket.socket(family)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    except OSError:
        continue  # no such network here
    server.bind((address, 0))
    server.listen()
    check_listening()
    with socket.create_connection(("127.0.0.1", server.getsockname()[1])) as client:
        server.accept()
"""


BEFORE = "from mpcc.runtime.exposure import check_preloaded; check_preloaded()"


@pytest.mark.parametrize("script", [BEFORE, SERVE], ids=["before", "after"])
@pytest.mark.parametrize("preloaded", [True, False])
def test_the_preloaded_library_keeps_servers_on_loopback(script, preloaded):
    library = party_program().with_name("libmpcc_loopback.so")
    added = {"LD_PRELOAD": str(library)} if preloaded else {}
    done = ran(script, **added)
    assert (done.returncode == 0) == preloaded, done.stderr
    assert ("E-tf-exposed" in done.stderr) == (not preloaded)
