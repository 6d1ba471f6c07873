"""Programs as TensorBoard shows them: the file's records, the scopes, the devices."""

import struct

import pytest
from typer.testing import CliRunner

import mpcc
from benchmarks import models
from mpcc.cli import app
from mpcc.emit.graphdef import emit, parse
from mpcc.emit.schema import GraphDef
from mpcc.emit.tensorboard import event_file, scoped_graph
from tests.emit.programs import every_op, with_calls


def crc(data: bytes) -> int:
    """CRC-32C of data, masked, bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(data: bytes) -> list[bytes]:
    found = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert data[8:12] == struct.pack("<I", crc(data[:8]))
        event, data = data[12 : 12 + length], data[12 + length :]
        assert data[:4] == struct.pack("<I", crc(event))
        data = data[4:]
        found.append(event)
    return found


def test_the_file_has_a_version_and_the_graph():
    # The check value of RFC 3720, B.4: 32 zero bytes.
    assert crc(bytes(32)) == ((0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8) & 0xFFFFFFFF
    program = emit(every_op())
    version, graph = records(event_file(program, 5.0))
    assert version == b"\x09" + struct.pack("<d", 5.0) + b"\x1a\x0dbrain.Event:2"
    assert graph.endswith(scoped_graph(program))


@pytest.mark.parametrize("module", [every_op(), with_calls()])
def test_names_are_scopes_and_inputs_follow_them(module):
    graph = GraphDef.FromString(scoped_graph(emit(module)))
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    before: set[str] = set()
    for node in graph.node:
        assert {name.partition(":")[0] for name in node.input} <= before
        before.add(node.name)


def test_layers_are_scopes_and_parties_are_devices(tmp_path):
    compiled = mpcc.compile(models.network_a().serialized())
    path = tmp_path / "a.mpcc"
    compiled.artifact.save(path)
    logs = tmp_path / "new" / "logs"
    done = CliRunner().invoke(app, ["inspect", str(path), str(logs), "--format", "tensorboard"])
    assert done.exit_code == 0, done.output
    (written,) = logs.glob("events.out.tfevents.*")
    graph = GraphDef.FromString(scoped_graph(compiled.artifact.program))
    assert records(written.read_bytes())[1].endswith(scoped_graph(compiled.artifact.program))
    ops = parse(compiled.artifact.program).main.ops
    scopes = {node.name.partition("/")[0] for node in graph.node[1:]}
    assert {"matmul_0", "relu_0", "output_0", "input_0.matmul_0"} <= scopes
    assert len(ops) == len(graph.node) - 1
    jobs = {node.device.partition("/replica")[0] for node in graph.node[1:]}
    assert jobs == {"/job:party", "/job:client", "/job:model"}


@pytest.mark.parametrize(
    "arguments",
    [["--format", "tensorboard"], ["logs"], ["logs", "--format", "html"]],
)
def test_a_directory_and_the_format_go_together(tmp_path, arguments):
    path = tmp_path / "a.mpcc"
    mpcc.compile(models.network_a().serialized()).artifact.save(path)
    done = CliRunner().invoke(app, ["inspect", str(path), *arguments])
    assert done.exit_code != 0
    assert "E-option-format" in str(done.exception) + done.output
    assert not (tmp_path / "logs").exists()
