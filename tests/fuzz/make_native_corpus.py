"""Writes the first inputs of the native fuzz targets: ``runtime_native/fuzz/corpus/<target>/``.

``python -m tests.fuzz.make_native_corpus``. Programs and artifacts are those that the compiler
writes now; run it after a change of a format. Files whose names begin with ``found-`` once broke
something, and files of ``tls`` hold keys drawn at random: both stay as they are.
"""

from __future__ import annotations

import contextlib
import io
import json
import ssl
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mpcc import api
from mpcc.emit.graphdef import emit
from mpcc.runtime.certificates import issue
from tests.corpus.make_artifacts import tiny_conv
from tests.emit.programs import every_op, random_program, with_calls
from tests.frontend.models import model, node

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "runtime_native" / "fuzz" / "corpus"
#: As ``-max_len`` of the runs.
LARGEST = 1 << 16

Files = Iterator[tuple[str, bytes]]


def artifacts() -> dict[str, bytes]:
    """Small compiled models, as artifact files."""
    models = {
        "relu": model([node("Relu", ["x"], ["y"])], {"x": (1, 8)}).SerializeToString(),
        "add": model([node("Add", ["x", "z"], ["y"])], {"x": (3,), "z": (3,)}).SerializeToString(),
        "conv": tiny_conv(),
        "dense": model(
            [node("MatMul", ["x", "w"], ["y"])],
            {"x": (2, 5)},
            constants={"w": np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)},
        ).SerializeToString(),
        "pool": model(
            [node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])], {"x": (1, 1, 2, 3)}
        ).SerializeToString(),
    }
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, data in models.items():
            path = Path(folder) / f"{name}.mpcc"
            api.compile(data).artifact.save(path)
            found[name] = path.read_bytes()
    return found


def programs(compiled: dict[str, bytes]) -> Files:
    """GraphDefs: one with every op, one with functions, random ones, those of compiled models."""
    yield "every-op", emit(every_op())
    yield "with-calls", emit(with_calls())
    for seed in range(4):
        yield f"random-{seed}", emit(random_program(seed, ops=12))
    for name, data in compiled.items():
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            program = archive.read("program.pb")
        if len(program) < LARGEST:
            yield name, program


def configs() -> Files:
    """Configurations of a cluster."""
    parties = [
        {"name": f"P{i}", "host": "127.0.0.1", "port": 7000 + i, "places": [f"P{i}"]}
        for i in range(3)
    ]
    owner = {"name": "owner", "host": "", "port": 0, "places": ["client", "model"]}
    short = {"endpoints": [*parties, owner], "ca": "ca.pem", "cert": "c.pem", "key": "k.pem"}
    full = {
        **short,
        "endpoints": [{**e, "cert": "own.pem", "key": "own.key"} for e in [*parties, owner]],
        "deadline_s": 2.5,
        "connect_deadline_s": 10,
        "idle_s": 86400,
        "network": "lan",
        "threads": 4,
        "max_memory": "2GiB",
        "max_work": "1e12",
    }
    yield "short", json.dumps(short).encode()
    yield "full", json.dumps(full).encode()
    yield "wrong-kinds", json.dumps({**full, "endpoints": {"0": owner}, "threads": 1e99}).encode()


def texts() -> Files:
    """The texts of a program; the first byte chooses the reader."""
    samples = {
        0: ["1.0", "-8.0", "1e-05", "1.7976931348623157e+308", "inf", "nan", "0.1"],
        1: ["[]", "[[1,2],[-3]]", "[" * 16 + "]" * 16, "[9223372036854775807]"],
        2: ['{"protocol":"rep3","roles":[1,[2,3]],"scale":0.5,"u":"\\u00e4"}', "{}"],
        3: ["ring64<2x3>@P0", "ring32<>@P1", "bits<513x4>@P2", "clear<1x10xf32>@client"],
        4: ["P0+P1", "P0+P1+client", "client+model"],
        5: ["P0", "model", "\N{LATIN SMALL LETTER A WITH DIAERESIS}\N{MUSICAL SYMBOL G CLEF}"],
    }
    for reader, values in samples.items():
        for number, value in enumerate(values):
            yield f"{reader}-{number}", bytes([reader]) + value.encode()


def frames() -> Files:
    """Steps of a session; the format stands at the head of ``runtime_native/fuzz/frames.cc``."""
    data, ready, go, seed, abort, bye, alive, waits = 4, 1, 2, 3, 5, 6, 7, 8  # kind - 1
    declare = bytes([2, 0, 2, 0, 8, 1, 1, 1, 6, 3, 2])  # message 0: 8 bytes, 1: 18 bytes

    def message(number: int, size: int) -> bytes:
        return bytes([11, data, 0, 0, 0, number, 0, 0]) + bytes(range(size)) + bytes([0, 0])

    def control(kind: int, size: int, payload: bytes = b"") -> bytes:
        content = payload or bytes(size)
        return bytes([11, kind, 0, 0, 0, 0, 0, len(content), 0]) + content + bytes([0, 0])

    both = declare + message(0, 8) + message(1, 18)
    receive = bytes([4, 0, 4, 1])
    yield "run", control(ready, 0) + both + receive
    yield "two-runs", (both + receive) * 2
    yield "twice", declare + message(0, 8) * 2
    yield "early", message(0, 8)
    yield "controls", control(go, 1) + bytes([8, 0, 0]) + control(seed, 32) + bytes([8, 1, 0])
    yield "abort", declare + control(abort, 40) + receive
    yield "bye", both + control(bye, 0) + receive + bytes([9, 0, 1])
    yield "sending", bytes([7, 10, 0, 0, 1, 1]) + control(ready, 0) + bytes([7, 5, 0, 1, 1, 0])
    yield "keys", bytes([10, 0, 0, 10, 1, 0, 10, 0, 0])
    steps = [control(alive, 8, n.to_bytes(8, "little")) for n in (1, 64)]
    yield "alive", declare + steps[0] + message(0, 8) + steps[1] + receive
    yield "waits", declare + control(waits, 4) + message(0, 8) + control(waits, 4) + receive
    yield "cut", declare + message(0, 8)[:12] + bytes([1])


def tls() -> Files:
    """PEM files, and what travels first in each direction of a handshake."""
    with tempfile.TemporaryDirectory() as folder:
        identities = issue(Path(folder), ["P0", "P1"])
        own = identities["P0"]
        authority = own.authority
        yield "ca", b"\0" + authority.read_bytes()
        yield "certificate", b"\1" + own.certificate.read_bytes()
        yield "key", b"\2" + own.key.read_bytes()
        yield "several", b"\0" + authority.read_bytes() * 3
        client = ssl.create_default_context(cafile=str(authority))
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority))
        server.load_cert_chain(own.certificate, own.key)
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        asking = client.wrap_bio(to_client, to_server, server_hostname="P0")
        answering = server.wrap_bio(to_server, to_client, server_side=True)
        for end in (asking, answering):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            if end is asking:
                hello = to_server.read()
                to_server.write(hello)
                yield "client-hello", b"\3" + hello
        yield "server-flight", b"\4" + to_client.read()


def main() -> int:
    """Write the corpus; returns the exit code."""
    compiled = artifacts()
    graphs = dict(programs(compiled))
    targets: dict[str, dict[str, bytes]] = {
        "graphdef": graphs,
        # The last byte: what is given to the program.
        "execute": {
            f"{name}-{choice}": data + bytes([choice])
            for name, data in graphs.items()
            for choice in ((0, 13) if name == "every-op" else (0,))
        },
        "artifact": compiled,
        "config": dict(configs()),
        "text": dict(texts()),
        "frames": dict(frames()),
        "tls": {} if (CORPUS / "tls").is_dir() else dict(tls()),
    }
    for target, files in targets.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    sys.stdout.write(f"{sum(len(files) for files in targets.values())} files in {CORPUS}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
