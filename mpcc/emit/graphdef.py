"""Party IR to a TensorFlow-compatible GraphDef and back; the two directions are inverse.

:func:`emit` writes one node per op (``docs/artifact-format.md`` has the whole mapping).
:func:`parse` treats its bytes as hostile: it builds the ops that the nodes name, infers every type
anew, emits the module that came out, and accepts the file only if the two graphs are equal, node by
node. So there is exactly one graph per program; nothing that a graph says (types, devices, labels,
unknown fields) is taken on trust, and nothing in it is ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from mpcc.emit.items import Items, count_items
from mpcc.emit.native_table import node_op_name
from mpcc.emit.schema import DT_FLOAT, DT_UINT8, DT_UINT32, DT_UINT64, GraphDef
from mpcc.emit.wire import field_bytes
from mpcc.errors import MpccError, collect
from mpcc.ir.calls import check_calls, is_call
from mpcc.ir.core import Function, Module, Op, Value, make_op
from mpcc.ir.define import Attr, Attributes, AttrValue, InferenceError, Operation
from mpcc.ir.limits import (
    MAX_ATTR_BYTES,
    MAX_ITEMS,
    MAX_LIST,
    MAX_NESTING,
    MAX_OPS,
    MAX_PROGRAM_BYTES,
)
from mpcc.ir.ops.party import DIALECT, Call
from mpcc.ir.schedule import schedule
from mpcc.ir.types import BitsType, ClearType, RingType, Type

__all__ = ["dtype_of", "emit", "local_type", "parse"]

_PRODUCER = 2000
_PROGRAM = "program"
_CALLED = "call_"
_PROGRAM_OP = "MpccProgram"
_OPERATIONS = {node_op_name(name): op for name, op in DIALECT.operations.items()}
_TASKS = {
    "P0": "/job:party/replica:0/task:0/device:CPU:0",
    "P1": "/job:party/replica:0/task:1/device:CPU:0",
    "P2": "/job:party/replica:0/task:2/device:CPU:0",
    "client": "/job:client/replica:0/task:0/device:CPU:0",
    "model": "/job:model/replica:0/task:0/device:CPU:0",
}


# --- emission ------------------------------------------------------------------------------------


def local_type(type_: Type) -> RingType | BitsType | ClearType:
    """The type of a party-level value.

    Raises:
        MpccError: ``E-emit-type``: it is of another level.
    """
    if not isinstance(type_, RingType | BitsType | ClearType):
        raise MpccError.of("E-emit-type", f"{type_} is not a party-level type")
    return type_


def dtype_of(type_: Type) -> int:
    """TensorFlow's number of the type of a value's tensor."""
    match local_type(type_):
        case RingType(ring=64):
            return DT_UINT64
        case RingType():
            return DT_UINT32
        case BitsType():
            return DT_UINT8
        case ClearType():
            return DT_FLOAT


def _json(value: AttrValue) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def _set_attr(slot: Any, kind: str, value: AttrValue) -> None:
    match kind:
        case "int":
            slot.i = value
        case "bool":
            slot.b = value
        case "str":
            slot.s = value.encode()
        case "float":
            slot.s = repr(value).encode()  # AttrValue.f is binary32
        case "ints":
            slot.list.SetInParent()
            slot.list.i.extend(value)
        case "strs":
            slot.list.SetInParent()
            slot.list.s.extend(v.encode() for v in value)
        case _:
            slot.s = _json(value)


def _fill(node: Any, op: Op) -> None:
    """Op name and attributes; name, inputs and device are the caller's."""
    node.op = node_op_name(op.name)
    for key, spec in op.definition.attributes.items():
        try:
            _set_attr(node.attr[key], spec.kind, op.attrs[key])
        except ValueError as error:  # 64-bit range, lone surrogates, NaN in JSON
            raise MpccError.of("E-emit-attr", f"{op.name}: attribute {key}: {error}") from None
    _set_attr(node.attr["_types"], "strs", tuple(str(r.type) for r in op.results))
    if op.loc:
        node.attr["_loc"].s = op.loc.encode()
    typed = op.results or op.operands
    if typed:
        node.attr["T"].type = dtype_of(typed[0].type)


def _function_def(body: Function) -> Any:
    """The body as a FunctionDef without a name."""
    definition = GraphDef().library.function.add()
    names: dict[Value, str] = {}
    for i, arg in enumerate(body.args):
        definition.signature.input_arg.add(name=f"a{i}", type=dtype_of(arg.type))
        names[arg] = f"a{i}"
    for i, op in enumerate(body.ops):
        if op.body is not None or len(op.results) != 1:
            raise MpccError.of("E-emit-body", f"{op.name} may not stand in a fused region", op.loc)
        node = definition.node_def.add(name=f"b{i}")
        node.input.extend(names[v] for v in op.operands)
        _fill(node, op)
        names[op.result] = f"b{i}:out:0"
    for i, value in enumerate(body.returns):
        definition.signature.output_arg.add(name=f"r{i}", type=dtype_of(value.type))
        definition.ret[f"r{i}"] = names[value]
    return definition


class _Library:
    """Functions of a graph: those that are called, then bodies of regions, in order of use."""

    def __init__(self) -> None:
        self.called: dict[str, Any] = {}
        self.bodies: dict[bytes, Any] = {}

    def fill(self, node: Any, op: Op, names: dict[Value, str], inside: bool) -> None:
        """Everything of the node of an op but its name; the op's results enter ``names``."""
        node.input.extend(names[v] for v in op.operands)
        typed = op.results or op.operands
        if not typed:
            raise MpccError.of("E-emit-place", f"{op.name} has no place", op.loc)
        if not is_call(op):
            node.device = _TASKS[local_type(typed[0].type).place]
        _fill(node, op)
        if op.body is not None:
            definition = _function_def(op.body)
            key = definition.SerializeToString(deterministic=True)
            if key not in self.bodies:
                definition.signature.name = f"fused_{len(self.bodies)}"
                self.bodies[key] = definition
            node.attr["f"].func.name = self.bodies[key].signature.name
        for i, result in enumerate(op.results):
            suffix = f":out:{i}" if inside else f":{i}" if i else ""
            names[result] = node.name + suffix

    def call(self, function: Function) -> None:
        """A function that is called, at its first call."""
        definition = GraphDef().library.function.add()
        definition.signature.name = _CALLED + function.name
        self.called[function.name] = definition
        names: dict[Value, str] = {}
        for i, arg in enumerate(function.args):
            definition.signature.input_arg.add(name=f"a{i}", type=dtype_of(arg.type))
            names[arg] = f"a{i}"
        for index, op in enumerate(function.ops):
            if is_call(op):
                raise MpccError.of("E-emit-call", "a function calls another", op.loc)
            self.fill(definition.node_def.add(name=f"n{index}"), op, names, True)
        for i, value in enumerate(function.returns):
            definition.signature.output_arg.add(name=f"r{i}", type=dtype_of(value.type))
            definition.ret[f"r{i}"] = names[value]


def _graph(module: Module) -> Any:
    main = module.main
    if module.level != "party":
        raise MpccError.of("E-emit-level", f"needs a party module, not {module.level}")
    if main.args or main.returns:
        raise MpccError.of("E-emit-main", "@main has no arguments and no returned values")
    graph = GraphDef()
    graph.versions.producer = _PRODUCER
    header = graph.node.add(name=_PROGRAM, op=_PROGRAM_OP)
    try:
        header.attr["_attrs"].s = _json(module.attrs)
    except (TypeError, ValueError) as error:
        raise MpccError.of("E-emit-attr", f"module attributes: {error}") from None
    names: dict[Value, str] = {}
    library = _Library()
    for index, op in enumerate(main.ops):
        if is_call(op) and op.attrs["callee"] not in library.called:
            function = module.functions.get(op.attrs["callee"])
            if function is None or function is main:
                raise MpccError.of("E-emit-call", "a call of a function that is not there", op.loc)
            library.call(function)
        library.fill(graph.node.add(name=f"n{index}"), op, names, False)
    if list(library.called) != [name for name in module.functions if name != main.name]:
        raise MpccError.of("E-emit-call", "functions stand in the order of their first calls")
    functions = [*library.called.values(), *library.bodies.values()]
    if functions:  # an empty library is none
        graph.library.function.extend(functions)
    return graph


def _written(graph: Any) -> bytes:
    """The one encoding of a graph: fields by number, maps by key.

    Implementations of protobuf disagree on the order of keys of which one begins the other, which
    the results ``r1`` and ``r10`` of a function do. These maps are written here.
    """
    library = graph.library.function
    if all(len(function.ret) <= 10 for function in library):
        return bytes(graph.SerializeToString(deterministic=True))
    functions = b""
    for function in library:
        bare = type(function)()
        bare.CopyFrom(function)
        bare.ClearField("ret")
        results = [
            field_bytes(
                4, field_bytes(1, name.encode()) + field_bytes(2, function.ret[name].encode())
            )
            for name in sorted(function.ret)
        ]
        data = bare.SerializeToString(deterministic=True) + b"".join(results)
        functions += field_bytes(1, data)
    nodes, versions = GraphDef(node=graph.node), GraphDef(versions=graph.versions)
    head, tail = (part.SerializeToString(deterministic=True) for part in (nodes, versions))
    return bytes(head + field_bytes(2, functions) + tail)


def emit(module: Module) -> bytes:
    """The bytes of the GraphDef of a verified party module; equal modules give equal bytes.

    Raises:
        MpccError: the module is not of party level, has arguments or returned values, or an
            attribute that a node cannot hold.
    """
    return _written(_graph(module))


# --- parsing -------------------------------------------------------------------------------------


def _limit(what: str, found: int, most: int, where: str) -> None:
    if found > most:
        raise MpccError.of("E-graph-limit", f"{what}: {found}, allowed are {most}", where)


def _limit_items(found: int, where: str) -> None:
    """Counting stops above the limit, so the number says nothing."""
    if found > MAX_ITEMS:
        raise MpccError.of(
            "E-graph-limit", f"items of the program: more than the {MAX_ITEMS} allowed", where
        )


def _bad(what: str, where: str) -> MpccError:
    return MpccError.of("E-graph", what, where)


def _text(data: bytes, where: str) -> str:
    _limit("bytes of a string", len(data), MAX_ATTR_BYTES, where)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _bad("a string is not UTF-8", where) from None


def _load_json(data: bytes, where: str) -> AttrValue:
    try:
        return json.loads(_text(data, where))
    except (ValueError, RecursionError):
        raise _bad("an attribute is not JSON", where) from None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: AttrValue, where: str, depth: int = 0) -> AttrValue:
    """A JSON value as an attribute: lists become tuples; objects and null are refused."""
    _limit("nesting of an attribute", depth, MAX_NESTING, where)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _bad("an attribute holds an integer of more than 64 bits", where)
    if isinstance(value, float) and not math.isfinite(value):
        raise _bad("an attribute holds a number that is not finite", where)
    if isinstance(value, str) and not _is_unicode(value):
        raise _bad("an attribute holds half of a character", where)
    if isinstance(value, list):
        _limit("items of a list", len(value), MAX_LIST, where)
        return tuple(_plain(v, where, depth + 1) for v in value)
    if value is None or isinstance(value, dict):
        raise _bad("an attribute holds an object or null", where)
    return value


def _attr(spec: Attr, slot: Any, where: str) -> AttrValue:
    """The value of a declared attribute; what is stored otherwise shows when emitted again."""
    _limit("items of a list", len(slot.list.i) + len(slot.list.s), MAX_LIST, where)
    match spec.kind:
        case "int":
            return int(slot.i)
        case "bool":
            return bool(slot.b)
        case "str":
            return _text(slot.s, where)
        case "float":
            text = _text(slot.s, where)
            try:
                return float(text)
            except ValueError:
                raise _bad("an attribute is not a number", where) from None
        case "ints":
            return tuple(int(i) for i in slot.list.i)
        case "strs":
            return tuple(_text(s, where) for s in slot.list.s)
    return _plain(_load_json(slot.s, where), where)


_OWN_ATTRS = ("_types", "_loc", "T", "f")


@dataclass
class _Source:
    """A function of the library.

    Attributes:
        definition: the message.
        items: how many it has, counted at every use but the first.
        decoded: what its nodes hold, of those that a use has come to: shared by all uses.
    """

    definition: Any
    items: int
    decoded: list[tuple[type[Operation], Attributes, str]] = field(default_factory=list)
    used: bool = False


@dataclass(frozen=True)
class _Size:
    """What a call of a function adds to the program: ops and items, bodies of regions counted."""

    ops: int
    items: int


class _Reader:
    """State of one parse: the functions by name, and how many ops and items there are so far."""

    def __init__(self, graph: Any, items: Items, module: Module, source: str) -> None:
        self.functions: dict[str, _Source] = {}
        self.module = module
        self.sizes: dict[str, _Size] = {}
        self.regions = 0
        self.ops = 0
        self.items = items.total
        if len(items.functions) != len(graph.library.function):
            raise _bad("the function library is written in another way", source)
        for definition, count in zip(graph.library.function, items.functions, strict=True):
            name = definition.signature.name
            if name in self.functions:
                raise _bad(f"function {name[:80]!r} is defined twice", source)
            self.functions[name] = _Source(definition, count)

    def definition(self, node: Any, where: str) -> type[Operation]:
        definition = _OPERATIONS.get(node.op)
        if definition is None:
            raise _bad(f"unknown operation {node.op[:80]!r}", where)
        return definition

    def attributes(self, node: Any, definition: type[Operation], where: str) -> Attributes:
        declared = definition.attributes
        unknown = sorted(set(node.attr) - set(declared) - set(_OWN_ATTRS))
        if unknown:
            raise _bad(f"unknown attribute {unknown[0][:80]!r}", where)
        missing = [key for key in declared if key not in node.attr]
        if missing:
            raise _bad(f"attribute {missing[0]!r} is missing", where)
        return {key: _attr(spec, node.attr[key], where) for key, spec in declared.items()}

    def decode(self, node: Any, where: str) -> tuple[type[Operation], Attributes, str]:
        """Declaration, attributes and location of a node."""
        definition = self.definition(node, where)
        attrs = self.attributes(node, definition, where)
        return definition, attrs, _text(node.attr["_loc"].s, where) if "_loc" in node.attr else ""

    def op(
        self,
        node: Any,
        decoded: tuple[type[Operation], Attributes, str],
        values: dict[str, Value],
        where: str,
        inside: bool,
        region: bool = False,
    ) -> Op:
        """The op of a node of ``@main``, or inside a function; its results enter ``values``.

        Args:
            node: the node.
            decoded: of :meth:`decode`.
            values: by the names that inputs have for them.
            where: of messages.
            inside: of a function's node, whose results are called in another way.
            region: of a region's body.
        """
        self.ops += 1
        _limit("operations", self.ops, MAX_OPS, where)
        _limit("operands", len(node.input), MAX_LIST, where)
        definition, attrs, loc = decoded
        unknown = [name for name in node.input if name not in values]
        if unknown:
            raise _bad(f"input {unknown[0][:80]!r} is not defined before", where)
        operands = [values[name] for name in node.input]
        body = None
        if definition is Call:
            if inside:
                raise _bad("a function calls another", where)
            self.call(str(attrs["callee"]), [v.type for v in operands], where)
        if definition.has_body:
            if region:
                raise _bad("a fused region holds another", where)
            body = self.body(node, [v.type for v in operands], where)
        try:
            op = make_op(definition, operands, dict(attrs), loc, body)
        except InferenceError as error:
            raise _bad(str(error)[:500], where) from None
        for i, result in enumerate(op.results):
            suffix = f":out:{i}" if inside else f":{i}" if i else ""
            values[node.name + suffix] = result
        return op

    def body(self, node: Any, types: Sequence[Type], where: str) -> Function:
        name = node.attr["f"].func.name if "f" in node.attr else ""
        found = self.functions.get(name)
        if found is None:
            raise _bad(f"function {name[:80]!r} is not in the library", where)
        self.items += found.items if found.used else 0
        self.regions += found.items
        _limit_items(self.items, where)
        found.used = True
        return self.function(Function("body", types), name, found, where, True)

    def call(self, callee: str, types: Sequence[Type], where: str) -> None:
        """A function that is called: read at its first call, counted at every one."""
        size = self.sizes.get(callee)
        if size is not None:
            self.ops += size.ops
            _limit("operations", self.ops, MAX_OPS, where)
            self.items += size.items
            _limit_items(self.items, where)
            return
        name = _CALLED + callee
        found = self.functions.get(name)
        if found is None or callee == "main":
            raise _bad(f"function {name[:80]!r} is not in the library", where)
        ops, regions = self.ops, self.regions
        function = self.function(Function(callee, types), name, found, where, False)
        self.module.functions[callee] = function
        self.sizes[callee] = _Size(self.ops - ops, found.items + self.regions - regions)

    def function(
        self, function: Function, name: str, found: _Source, where: str, region: bool
    ) -> Function:
        """The ops and results of a function of the library."""
        source = found.definition
        values = {f"a{i}": arg for i, arg in enumerate(function.args)}
        _limit("results", len(source.signature.output_arg), MAX_LIST, where)
        for i, inner in enumerate(source.node_def):
            at = f"{where}, {name}, node {inner.name[:80]!r}"
            if i == len(found.decoded):
                found.decoded.append(self.decode(inner, at))
            function.ops.append(self.op(inner, found.decoded[i], values, at, True, region))
        for i in range(len(source.signature.output_arg)):
            value = values.get(source.ret[f"r{i}"]) if f"r{i}" in source.ret else None
            if value is None:
                raise _bad(f"result r{i} of {name} is not defined", where)
            function.returns.append(value)
        return function


def _first_difference(found: Any, wanted: Any) -> tuple[str, str]:
    """(node, field) in which two nodes differ; fields of the schema first."""
    for name in ("name", "op", "input", "device"):
        if getattr(found, name) != getattr(wanted, name):
            return found.name, name
    for key in sorted({*found.attr, *wanted.attr}):
        if (key in found.attr) != (key in wanted.attr) or found.attr[key] != wanted.attr[key]:
            return found.name, key
    return found.name, "unknown fields"


def _compare(graph: Any, module: Module, data: bytes | None, source: str) -> None:
    """Refuse a graph that is not exactly what its own program gives when emitted."""
    wanted = _graph(module)
    if data is not None:
        equal = _written(wanted) == data
    else:
        # Equality may ignore fields that the schema does not know; their bytes count in the size.
        equal = graph == wanted and graph.ByteSize() == wanted.ByteSize()
    if equal:
        return
    for found, right in zip(graph.node, wanted.node, strict=True):
        if found != right or found.ByteSize() != right.ByteSize():
            name, field = _first_difference(found, right)
            raise _bad(f"{field} is not what the operation gives", f"{source}, node {name[:80]!r}")
    raise _bad("the function library, the version or the encoding is not what is written", source)


def parse(data: bytes, source: str = "<graph>", canonical: bool = True) -> Module:
    """The party module of a GraphDef that :func:`emit` wrote; the bytes are not trusted.

    The module is verified in structure, types, calls, places and phases: it has a schedule. The
    engine's reader (``runtime_native/graph``) accepts the same bytes.

    Args:
        data: the serialised graph.
        source: what error messages call the data.
        canonical: whether the bytes must be the very bytes that :func:`emit` writes. Protobuf lets
            fields repeat (the last one wins, or not, as readers please), so a program to be run is
            read with True; False takes any encoding of an equal graph, such as TensorFlow's, whose
            maps are not in order.

    Raises:
        MpccError: ``E-graph`` for anything that emission would not have written, ``E-graph-limit``
            above a limit; with the node's name.
    """
    _limit("bytes of the program", len(data), MAX_PROGRAM_BYTES, source)
    try:
        items = count_items(data, MAX_ITEMS)
        _limit_items(items.total, source)
        graph = GraphDef.FromString(data)
    except (DecodeError, ValueError):
        raise _bad("the bytes are not a GraphDef", source) from None
    _limit("nodes", len(graph.node), MAX_OPS + 1, source)
    if not graph.node or graph.node[0].op != _PROGRAM_OP:
        raise _bad(f"the first node is not {_PROGRAM_OP}", source)
    header = graph.node[0]
    attrs = _load_json(header.attr["_attrs"].s, source) if "_attrs" in header.attr else None
    if not isinstance(attrs, dict):
        raise _bad("the program has no attributes", source)
    if not all(_is_unicode(key) for key in attrs):
        raise _bad("an attribute's name holds half of a character", source)
    module = Module("party", {key: _plain(value, source) for key, value in attrs.items()})
    reader = _Reader(graph, items, module, source)
    values: dict[str, Value] = {}
    for node in graph.node[1:]:
        where = f"{source}, node {node.name[:80]!r}"
        module.main.ops.append(reader.op(node, reader.decode(node, where), values, where, False))
    _compare(graph, module, data if canonical else None, source)
    try:
        collect(check_calls(module))
        schedule(module)
    except MpccError as error:
        first = error.diagnostics[0]
        raise _bad(first.what, f"{source}, {first.where}") from None
    return module
