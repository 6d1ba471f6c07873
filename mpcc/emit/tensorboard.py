"""A program as TensorBoard shows it: layers as name scopes, parties as devices.

An event file is a sequence of records: length (8 bytes, little-endian), masked CRC-32C of the
length (4), data, masked CRC-32C of the data (4). The data is an ``Event``; of it, ``wall_time``
(1), ``file_version`` (3) and ``graph_def`` (4) are written here (tensorflow/core/util/event.proto).
"""

from __future__ import annotations

import re
import struct

from mpcc.emit.graphdef import parse
from mpcc.emit.schema import GraphDef
from mpcc.emit.tensorflow import for_tensorflow, without_calls
from mpcc.emit.wire import field_bytes
from mpcc.ir.core import Op

__all__ = ["event_file", "scoped_graph"]

_VERSION = b"brain.Event:2"
_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8
_WORD = 2**32 - 1


def _table() -> tuple[int, ...]:
    rows = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        rows.append(value)
    return tuple(rows)


_TABLE = _table()


def _masked_crc(data: bytes) -> bytes:
    crc = _WORD
    table = _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    crc ^= _WORD
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & _WORD)


def _record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return length + _masked_crc(length) + event + _masked_crc(event)


def _scope(op: Op) -> str:
    """The scope of an op's layer; of a layer that was joined from several, all their names."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", op.loc.replace("+", ".")).lstrip("_-.") or "program"


def scoped_graph(program: bytes) -> bytes:
    """The GraphDef of a program, for looking at, with ``layer/op_17`` as the names of nodes.

    It is not for running: tasks take nodes by their names in the program.

    Raises:
        MpccError: as :func:`mpcc.emit.graphdef.parse`.
    """
    flat = without_calls(program)
    module = parse(flat)
    graph = GraphDef.FromString(for_tensorflow(flat))
    nodes = graph.node[1:]
    names = {}
    for node, op in zip(nodes, module.main.ops, strict=True):
        names[node.name] = f"{_scope(op)}/{op.name.partition('.')[2]}_{node.name[1:]}"
    for node in nodes:
        node.name = names[node.name]
        inputs = list(node.input)
        del node.input[:]
        for name in inputs:
            producer, colon, result = name.partition(":")
            node.input.append(names[producer] + colon + result)
    return bytes(graph.SerializeToString(deterministic=True))


def event_file(program: bytes, seconds: float) -> bytes:
    """An event file for a log directory of TensorBoard.

    Args:
        program: the artifact's.
        seconds: since the epoch, that the events carry.

    Raises:
        MpccError: as :func:`mpcc.emit.graphdef.parse`.
    """
    time = b"\x09" + struct.pack("<d", seconds)
    version = time + field_bytes(3, _VERSION)
    return _record(version) + _record(time + field_bytes(4, scoped_graph(program)))
