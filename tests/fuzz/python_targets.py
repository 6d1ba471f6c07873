"""What is fuzzed in Python: every reader of a file that somebody else may have written.

For any change of a valid file, reading it succeeds or raises :class:`mpcc.errors.MpccError`; and it
takes no more memory than :data:`MEMORY` beside the file itself. Certificates and cluster files are
read by the native code alone; its fuzzers have them.
"""

from __future__ import annotations

import functools
import json
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpcc import api, cost
from mpcc.artifact import Artifact, load_private, load_weights, save_weights
from mpcc.emit import graphdef
from mpcc.errors import MpccError
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.ops import party
from mpcc.ir.phi import Phi
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from mpcc.verify_program import declared_policy, load_policy, verify_artifact
from tests.corpus.make_artifacts import tiny_conv
from tests.fuzz.python_edits import Edit, edit_bytes, edit_graph, edit_json, edit_text
from tests.verify.artifact_mutations import entries_of, packed

CORPUS = Path(__file__).parent / "corpus" / "python"

MEMORY = 64 << 20
"""Bytes that a reader of a file of some kilobytes may allocate."""

POLICY = b"""public = ["w1"]
coalitions = [["P0", "client"], ["P1", "model"]]

[outputs]
y = "client"

[inputs]
x = "client"
"""

NETWORK = b"""latency_ms = 5
bandwidth_mbit = 1000
[links."0->1"]
latency_ms = 30
[links."client->2"]
bandwidth_mbit = 10.5
"""

STATS = {
    "online_seconds": [0.5, 0.25],
    "setup_seconds": 0.125,
    "rounds": 12,
    "bytes_sent": {"0->1": 100, "client->0": 64},
    "wire_bytes": 200,
    "peak_rss_bytes": [1, 2, 3],
    "engine": "native",
    "protocol": "rep3",
    "network": "none",
}


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        name: also of its folder in the corpus.
        seed: a valid file.
        edits: ways to change it; each takes the file and the edits.
        read: reads the bytes.
        cost: how many times longer than the quick targets it takes, about.
        counted: whether memory is counted; that of the leak checker grows with the program, whose
            own readers are counted, and counting would make it ten times slower.
    """

    name: str
    seed: Callable[[], bytes]
    edits: tuple[Callable[[bytes, Sequence[Edit]], bytes], ...]
    read: Callable[[bytes], object]
    cost: int = 1
    counted: bool = True

    def mutate(self, how: int, edits: Sequence[Edit]) -> bytes:
        """A changed file."""
        return self.edits[how % len(self.edits)](self.seed(), edits)


@functools.cache
def compiled() -> api.Compiled:
    """A small network with every operator that programs have."""
    return api.compile(tiny_conv())


@functools.cache
def entries() -> dict[str, bytes]:
    return entries_of(compiled().artifact)


def _weights_file() -> bytes:
    artifact = compiled().artifact
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w"
        save_weights(path, compiled().weights, artifact.program_sha256)
        return path.read_bytes()


def _through_file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    def action(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            return read(path)

    return action


def _edit_entry(
    name: str, edit: Callable[[bytes, Sequence[Edit]], bytes]
) -> Callable[[bytes, Sequence[Edit]], bytes]:
    """The edit inside an artifact, whose hashes follow."""

    def change(data: bytes, edits: Sequence[Edit]) -> bytes:
        return packed({**entries(), name: edit(entries()[name], edits)})

    return change


def _edit_manifest(data: bytes, edits: Sequence[Edit]) -> bytes:
    def change(manifest: dict[str, Any]) -> None:
        edited = json.loads(edit_json(json.dumps(manifest).encode(), edits))
        manifest.clear()
        if isinstance(edited, dict):
            manifest.update(edited)

    return packed(entries(), change)


def _edit_header(data: bytes, edits: Sequence[Edit]) -> bytes:
    """The header of a weights file; its length agrees."""
    size = int.from_bytes(data[:8], "little")
    header = edit_json(data[8 : 8 + size].rstrip(b" "), edits)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _read_artifact(data: bytes) -> object:
    artifact = Artifact.from_bytes(data)
    return (
        artifact.to_bytes(),
        artifact.formats,
        artifact.disclosed_bits,
        artifact.odd_entries,
        repr(artifact),
    )


def _verify(data: bytes) -> object:
    report = verify_artifact(Artifact.from_bytes(data))
    return report.json(), report.render()


def _read_text(level: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        module = parse_module(data.decode(errors="replace"), DIALECTS)
        verify(module, DIALECTS[module.level])
        return print_module(module)

    return read


def _read_program(data: bytes) -> object:
    module = graphdef.parse(data)
    verify(module, party.DIALECT)
    return module


def _artifact_bytes() -> bytes:
    return compiled().artifact.to_bytes()


def _party_text() -> bytes:
    return print_module(graphdef.parse(compiled().artifact.program)).encode()


def _policy(path: Path) -> object:
    return load_policy(path, declared_policy(compiled().artifact.secure_module))


def _phi_text() -> bytes:
    return json.dumps(dict(compiled().artifact.phi)).encode()


TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("artifact", _artifact_bytes, (edit_bytes,), _read_artifact, 2),
        Target("manifest", _artifact_bytes, (_edit_manifest,), _read_artifact, 2),
        Target(
            "verify",
            _artifact_bytes,
            (
                _edit_manifest,
                _edit_entry("secure.mpcc", edit_text),
                _edit_entry("tensor.mpcc", edit_text),
                _edit_entry("program.pb", edit_graph),
                _edit_entry("cost.json", edit_json),
            ),
            _verify,
            20,
            counted=False,
        ),
        Target(
            "program",
            lambda: compiled().artifact.program,
            (edit_bytes, edit_graph),
            _read_program,
            10,
        ),
        Target(
            "tensor-text",
            lambda: entries()["tensor.mpcc"],
            (edit_text, edit_bytes),
            _read_text("tensor"),
        ),
        Target(
            "secure-text",
            lambda: entries()["secure.mpcc"],
            (edit_text, edit_bytes),
            _read_text("secure"),
            2,
        ),
        Target("party-text", _party_text, (edit_text, edit_bytes), _read_text("party"), 10),
        Target(
            "phi",
            _phi_text,
            (edit_json, edit_bytes),
            lambda data: Phi.from_json(data.decode(errors="replace")).size_bits,
        ),
        Target(
            "weights",
            _weights_file,
            (edit_bytes, _edit_header),
            _through_file(
                lambda p: dict(load_weights(p, compiled().artifact.program_sha256)), "m.weights"
            ),
        ),
        Target(
            "private",
            lambda: json.dumps(dict(compiled().private)).encode(),
            (edit_json, edit_bytes),
            _through_file(load_private, "m.private.json"),
        ),
        Target("policy", lambda: POLICY, (edit_text, edit_bytes), _through_file(_policy, "p.toml")),
        Target(
            "network",
            lambda: NETWORK,
            (edit_text, edit_bytes),
            _through_file(lambda p: cost.profile(str(p)), "n.toml"),
        ),
        Target(
            "stats",
            lambda: json.dumps(STATS).encode(),
            (edit_json, edit_bytes),
            _through_file(api.load_stats, "stats.json"),
        ),
    )
}


def run(target: Target, data: bytes) -> str:
    """Read one file; the outcome: "read" or "refused".

    Raises:
        AssertionError: more memory than allowed.
        Exception: whatever the reader raised besides MpccError, which is a bug of the reader.
    """
    peak = 0
    if target.counted:
        tracemalloc.start()
    try:
        target.read(data)
        outcome = "read"
    except MpccError:
        outcome = "refused"
    finally:
        if target.counted:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    if peak > MEMORY + 4 * len(data):
        raise AssertionError(f"{target.name}: {peak} bytes for a file of {len(data)}")
    return outcome
