"""A program's GraphDef as stock TensorFlow takes it.

TensorFlow must know the types of every operand and result from a node's own attributes, and wants
shapes, and neither can be had from a program's attributes by an op definition. So each node is
given ``Tin`` and ``Tout``, the types of its operands and results, and ``_output_shapes``; calls are
written out, since a function that spans parties is none of TensorFlow's. Everything else stays as
it is, byte for byte, and the op library compares it with the program that its task was given.

There are two forms. The graph of a whole program is for one distributed session, whose master sees
every value. The part of an endpoint is for a session of its own: transfers to and from others are
the ops ``MpccSend`` and ``MpccReceive``, which use the endpoint's own connections.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mpcc.emit.graphdef import dtype_of, emit, local_type, parse
from mpcc.emit.schema import GraphDef
from mpcc.emit.wire import field_bytes, varint
from mpcc.errors import MpccError
from mpcc.ir.calls import inline
from mpcc.ir.core import Op
from mpcc.ir.schedule import SETUP, schedule
from mpcc.ir.types import BitsType, Type

__all__ = [
    "Part",
    "for_tensorflow",
    "part_for_tensorflow",
    "tasks_for_tensorflow",
    "without_calls",
]

_PARTY_DEVICE = re.compile(r"^/job:party/replica:0/task:([0-9]+)/")


def without_calls(program: bytes) -> bytes:
    """The program with its calls written out: another file, the same computation and streams.

    Raises:
        MpccError: as :func:`mpcc.emit.graphdef.parse`; ``E-ir-call`` for too many ops.
    """
    module = parse(program)
    flat = inline(module).module
    return program if flat is module else emit(flat)


def _shape(type_: Type) -> bytes:
    """A TensorShapeProto: bits are a flat tensor of bytes."""
    local = local_type(type_)
    sizes = (local.nbytes,) if isinstance(local, BitsType) else local.shape
    return b"".join(field_bytes(2, b"\x08" + varint(n) if n else b"") for n in sizes)


def _attr(key: str, list_value: bytes) -> bytes:
    """An entry of a node's attributes: a list."""
    value = field_bytes(1, list_value)
    return field_bytes(5, field_bytes(1, key.encode()) + field_bytes(2, value))


def _types(types: Sequence[Type]) -> bytes:
    return field_bytes(6, b"".join(varint(dtype_of(t)) for t in types)) if types else b""


def _typed(op: Op) -> bytes:
    """What a node gets besides, as fields of it."""
    operands, results = ([v.type for v in values] for values in (op.operands, op.results))
    return _attr("Tin", _types(operands)) + _attr("Tout", _types(results))


def for_tensorflow(program: bytes) -> bytes:
    """The GraphDef to import into TensorFlow, for a program without calls.

    Raises:
        MpccError: as :func:`mpcc.emit.graphdef.parse`.
    """
    module = parse(program)
    graph = GraphDef.FromString(program)
    bodies = {
        node.attr["f"].func.name: op.body
        for node, op in zip(graph.node[1:], module.main.ops, strict=True)
        if op.body is not None
    }
    written = [field_bytes(1, graph.node[0].SerializeToString(deterministic=True))]
    for function in graph.library.function:
        body = bodies[function.signature.name]
        for inner, op in zip(function.node_def, body.ops, strict=True):
            inner.MergeFromString(_typed(op))
    for node, op in zip(graph.node[1:], module.main.ops, strict=True):
        results = [value.type for value in op.results]
        data = node.SerializeToString(deterministic=True)
        data += _typed(op)
        data += _attr("_output_shapes", b"".join(field_bytes(7, _shape(t)) for t in results))
        written.append(field_bytes(1, data))
    del graph.node[:]
    return b"".join(written) + bytes(graph.SerializeToString(deterministic=True))


def tasks_for_tensorflow(program: bytes, tasks: int) -> bytes:
    """One GraphDef in which every party has several tasks, each of which computes its rows.

    Task ``k`` has the nodes ``task<k>/n<index>``, at the devices ``/job:party<N>/task:<k>``; owners
    have one task for all. The tasks of a process (``mpcc.runtime.tensorflow.Task``) have the scopes
    ``task<k>/``, and keys and runs of their own.

    Raises:
        MpccError: as :func:`mpcc.emit.graphdef.parse`; ``E-tf-usage`` for less than one task.
    """
    if tasks < 1:
        raise MpccError.of("E-tf-usage", f"{tasks} tasks per party")
    graph = GraphDef.FromString(for_tensorflow(program))
    made = GraphDef()
    made.versions.CopyFrom(graph.versions)
    made.library.CopyFrom(graph.library)
    for k in range(tasks):
        for node in graph.node:
            copy = made.node.add()
            copy.CopyFrom(node)
            copy.name = f"task{k}/{node.name}"
            del copy.input[:]
            copy.input.extend(f"task{k}/{name}" for name in node.input)
            copy.device = _PARTY_DEVICE.sub(rf"/job:party\1/replica:0/task:{k}/", node.device)
    return bytes(made.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class Part:
    """What one endpoint runs of a program.

    Attributes:
        graph: bytes of the GraphDef; nodes have no device, since all are the endpoint's.
        setup: names of the nodes to run once, after the setup has begun.
        online: names of the nodes to run in every run; they need what the setup has computed.
    """

    graph: bytes
    setup: tuple[str, ...]
    online: tuple[str, ...]


def part_for_tensorflow(program: bytes, places: Collection[str]) -> Part:
    """The part of the endpoint that hosts some places, for a program without calls.

    A transfer between two of the places stays an edge. One to another endpoint is a node
    ``s<index>`` of op ``MpccSend``, one from another endpoint the node ``n<index>`` of op
    ``MpccReceive``, both with the attributes of the transfer.

    Raises:
        MpccError: as :func:`mpcc.emit.graphdef.parse`.
    """
    module = parse(program)
    whole = GraphDef.FromString(for_tensorflow(program))
    nodes = whole.node[1:]
    part = GraphDef()
    part.versions.CopyFrom(whole.versions)
    part.node.add().CopyFrom(whole.node[0])
    ends: dict[bool, list[str]] = {True: [], False: []}
    functions: set[str] = set()
    received: list[tuple[bool, int, int, int]] = []
    for step, node in zip(schedule(module).steps, nodes, strict=True):
        op = step.op
        typed = op.results or op.operands
        here = local_type(typed[0].type).place in places
        there = here
        if op.name == "party.transfer":
            there = local_type(op.operands[0].type).place in places
        if not here and not there:
            continue
        made = part.node.add()
        made.CopyFrom(node)
        made.ClearField("device")
        if here != there:
            _cut(made, op, sends=there)
            if here:
                phase = step.phase != SETUP
                received.append((phase, step.depth, step.index, len(part.node) - 1))
        if op.body is not None:
            functions.add(node.attr["f"].func.name)
        ends[step.phase == SETUP].append(made.name)
    # A receiving node waits on a thread: one at a time, in the order of the schedule.
    for first, second in pairwise(sorted(received)):
        if first[0] == second[0]:
            part.node[second[-1]].input.append(f"^{part.node[first[-1]].name}")
    part.library.function.extend(f for f in whole.library.function if f.signature.name in functions)
    data = part.SerializeToString(deterministic=True)
    return Part(bytes(data), tuple(ends[True]), tuple(ends[False]))


def _cut(node: Any, op: Op, *, sends: bool) -> None:
    """Make one end of a message of a transfer's node."""
    del node.attr["Tin"], node.attr["Tout"]
    types = _types([op.result.type])
    if sends:
        node.name = f"s{node.name[1:]}"
        node.op = "MpccSend"
        del node.attr["_output_shapes"]
        node.MergeFromString(_attr("Tin", types) + _attr("Tout", b""))
    else:
        node.op = "MpccReceive"
        del node.input[:]
        node.MergeFromString(_attr("Tin", b"") + _attr("Tout", types))
