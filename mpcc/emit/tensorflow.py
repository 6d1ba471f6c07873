"""A program's GraphDef as stock TensorFlow takes it.

TensorFlow must know the types of every operand and result from a node's own attributes, and wants
shapes, and neither can be had from a program's attributes by an op definition. So each node is given
``Tin`` and ``Tout``, the types of its operands and results, and ``_output_shapes``; calls are
written out, since a function that spans parties is none of TensorFlow's. Everything else stays as
it is, byte for byte, and the op library compares it with the program that its task was given.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.emit.graphdef import dtype_of, emit, parse
from mpcc.emit.schema import GraphDef
from mpcc.emit.wire import field_bytes, varint
from mpcc.ir.calls import inline
from mpcc.ir.core import Op
from mpcc.ir.types import ClearType, RingType, Type

__all__ = ["for_tensorflow", "without_calls"]


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
    sizes: Sequence[int]
    if isinstance(type_, RingType | ClearType):
        sizes = type_.shape
    else:
        sizes = (type_.nbytes,)
    return b"".join(
        field_bytes(2, b"\x08" + varint(n) if n else b"") for n in sizes
    )


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
