"""Emission and parsing are inverse, TensorFlow agrees on the bytes, hostile bytes are refused."""

import json

import numpy as np
import pytest

from mpcc import _native
from mpcc.emit import graphdef
from mpcc.emit.graphdef import emit, parse
from mpcc.emit.items import count_items
from mpcc.emit.schema import GraphDef
from mpcc.errors import MpccError
from mpcc.ir.core import Function, Module
from mpcc.ir.ops import tensor
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.text import print_module
from mpcc.ir.verify import verify
from mpcc.passes.fuse_local import FuseLocal
from tests.emit.programs import Writer, every_op, random_program


def test_the_sample_has_every_operator():
    module = every_op()
    verify(module, DIALECT)
    names = {op.name for op in module.main.ops}
    assert names == set(DIALECT.operations) - {
        "party.call"
    }  # tests/conformance/engines/test_calls.py


@pytest.mark.parametrize("module", [every_op(), Module("party")], ids=["every-op", "empty"])
def test_parse_is_inverse_to_emit(module):
    data = emit(module)
    back = parse(data)
    verify(back, DIALECT)
    assert print_module(back) == print_module(module)
    assert emit(back) == data


@pytest.mark.parametrize("seed", range(20))
def test_parse_is_inverse_on_random_programs(seed):
    module = random_program(seed)
    verify(module, DIALECT)
    data = emit(module)
    assert print_module(parse(data)) == print_module(module)
    assert emit(module.clone()) == data


def test_node_form():
    graph = GraphDef.FromString(emit(every_op()))
    nodes = {node.name: node for node in graph.node}
    header = nodes["program"]
    assert header.op == "MpccProgram"
    assert header.attr["_attrs"].s == (
        b'{"flag":true,"protocol":"test","roles":[1,[2,3]],"scale":0.5}'
    )
    # The message: on the receiver's device, its input from the sender's.
    transfer = next(n for n in graph.node if n.op == "MpccTransfer")
    assert transfer.device == "/job:party/replica:0/task:0/device:CPU:0"
    assert nodes[transfer.input[0]].device == "/job:client/replica:0/task:0/device:CPU:0"
    assert list(transfer.attr["_types"].list.s) == [b"ring64<1x2x4x4>@P0"]
    assert transfer.attr["T"].type == 23
    assert transfer.attr["_loc"].s == b"input_0"
    encode = next(n for n in graph.node if n.op == "MpccEncode")
    assert (encode.attr["hi"].s, encode.attr["frac"].i) == (b"0.1", 16)
    anf = next(n for n in graph.node if n.op == "MpccAnf")
    assert json.loads(anf.attr["terms"].s) == [[[0], [1, 2]]]
    # Equal bodies share one function; a result that is not the first has its number.
    fused = [n for n in graph.node if n.op == "MpccFused"]
    assert [n.attr["f"].func.name for n in fused] == ["fused_0", "fused_1", "fused_1"]
    assert fused[2].input[0] == f"{fused[0].name}:2"
    body = graph.library.function[0]
    assert [(a.name, a.type) for a in body.signature.input_arg] == [("a0", 23), ("a1", 4)]
    assert dict(body.ret) == {"r0": "b2:out:0", "r1": "a0", "r2": "b0:out:0"}
    assert body.node_def[1].input == ["a1", "a0"]
    assert not any(n.device for n in body.node_def)


def test_results_of_a_region_stand_in_order():
    """Of r1 and r10, of which one begins the other; the engine's reader takes the same bytes."""
    module = Module("party")
    w = Writer(module.main)
    x = w("input", name="x", shape=(3,), place="client")
    x = w("encode", x, frac=4, lo=-8.0, hi=8.0)
    sums = [w("add_const", x, value=i) for i in range(12)]
    for i, y in enumerate(sums):
        z = w("concat", y, y, axis=0)  # not elementwise, so that every sum is a result
        w("output", w("decode", z, frac=4), name=f"y{i}")
    FuseLocal().run(module)
    data = emit(module)
    (body,) = [f for f in GraphDef.FromString(data).library.function if len(f.ret) == 12]
    assert dict(body.ret).keys() == {f"r{i}" for i in range(12)}
    # The last places: the names stand in the signature too.
    names = sorted(name.encode() for name in body.ret)
    places = [data.rindex(b"\n" + bytes([len(name)]) + name) for name in names]
    assert places == sorted(places)
    assert print_module(parse(data)) == print_module(module)
    _native.describe_program(data)


def test_module_attributes_come_back_in_order_of_their_keys():
    module = Module("party", {"b": 1, "a": 2})
    assert parse(emit(module)).attrs == module.attrs
    assert emit(module) == emit(Module("party", {"a": 2, "b": 1}))


def test_emit_refuses_what_a_node_cannot_hold():
    with pytest.raises(MpccError, match="E-emit-level"):
        emit(Module("tensor"))
    module = Module("party")
    w = Writer(module.main)
    x = w("input", name="\ud800", shape=(1,), place="client")
    with pytest.raises(MpccError, match="E-emit-attr"):
        emit(module)
    module = Module("party", {"x": float("nan")})
    with pytest.raises(MpccError, match="E-emit-attr"):
        emit(module)
    module = Module("party")
    module.main.returns = [x]
    with pytest.raises(MpccError, match="E-emit-main"):
        emit(module)
    assert "party.fused" not in tensor.DIALECT.operations


# --- hostile bytes -------------------------------------------------------------------------------


def _node(graph, op):
    return next(n for n in graph.node if n.op == op)


def _repeat_attr(graph):
    node = _node(graph, "MpccReshape")
    node.attr["shape"].list.i[:] = [2, 2]


MUTATIONS = {
    "no nodes": lambda g: g.ClearField("node"),
    "no header": lambda g: g.node.pop(0),
    "header attrs missing": lambda g: g.node[0].attr.pop("_attrs"),
    "header attrs a list": lambda g: g.node[0].attr["_attrs"].__setattr__("s", b"[1]"),
    "header attrs an object": lambda g: g.node[0].attr["_attrs"].__setattr__("s", b'{"a":{}}'),
    "header attrs deep": lambda g: g.node[0].attr["_attrs"].__setattr__(
        "s", b'{"a":' + b"[" * 200000 + b"]" * 200000 + b"}"
    ),
    "header attrs order": lambda g: g.node[0].attr["_attrs"].__setattr__(
        "s", b'{"protocol":"test","flag":true,"roles":[1,[2,3]],"scale":0.5}'
    ),
    "unknown op": lambda g: _node(g, "MpccAdd").__setattr__("op", "MpccEvil"),
    "another op": lambda g: _node(g, "MpccAdd").__setattr__("op", "MpccReshape"),
    "type lie": lambda g: _node(g, "MpccAdd").attr["_types"].list.s.__setitem__(
        0, b"ring64<9>@P0"
    ),
    "dtype lie": lambda g: _node(g, "MpccAdd").attr["T"].__setattr__("type", 1),
    "device lie": lambda g: _node(g, "MpccAdd").__setattr__("device", "/job:party/task:1"),
    "second name": lambda g: g.node[5].__setattr__("name", g.node[4].name),
    "forward input": lambda g: _node(g, "MpccNeg").input.__setitem__(0, g.node[-1].name),
    "self input": lambda g: _node(g, "MpccNeg").input.__setitem__(0, _node(g, "MpccNeg").name),
    "control input": lambda g: g.node[3].input.append("^n0"),
    "too many inputs": lambda g: _node(g, "MpccNeg").input.append(_node(g, "MpccNeg").input[0]),
    "unknown attribute": lambda g: g.node[3].attr["evil"].__setattr__("i", 1),
    "missing attribute": lambda g: _node(g, "MpccReshape").attr.pop("shape"),
    "attribute of another kind": lambda g: _node(g, "MpccReshape").attr["shape"].__setattr__(
        "s", b"x"
    ),
    "shape that does not fit": _repeat_attr,
    "bad float": lambda g: _node(g, "MpccEncode").attr["lo"].__setattr__("s", b"eight"),
    "float in another form": lambda g: _node(g, "MpccEncode").attr["lo"].__setattr__("s", b"-8"),
    "not UTF-8": lambda g: _node(g, "MpccOutput").attr["name"].__setattr__("s", b"\xff"),
    "long string": lambda g: _node(g, "MpccOutput").attr["name"].__setattr__("s", b"x" * (2 << 20)),
    "nested is text": lambda g: _node(g, "MpccAnf").attr["terms"].__setattr__("s", b'"[[0]]"'),
    "nested not JSON": lambda g: _node(g, "MpccAnf").attr["terms"].__setattr__("s", b"[[["),
    "nested huge number": lambda g: _node(g, "MpccAnf").attr["terms"].__setattr__(
        "s", b"[[[" + b"9" * 10000 + b"]]]"
    ),
    "huge buffer": lambda g: _node(g, "MpccInput").attr["shape"].list.i.extend([2**40, 2**40]),
    "negative shape": lambda g: _node(g, "MpccInput").attr["shape"].list.i.append(-1),
    "function missing": lambda g: _node(g, "MpccFused").attr["f"].func.__setattr__("name", "no"),
    "function twice": lambda g: g.library.function[1].signature.__setattr__("name", "fused_0"),
    "function unused": lambda g: g.library.function.append(g.library.function[0]),
    "function order": lambda g: (
        g.library.function.add().CopyFrom(g.library.function[0]),
        g.library.function.pop(0),
    ),
    "recursive function": lambda g: g.library.function[0].node_def.add(
        name="b9", op="MpccFused"
    ).attr["f"].func.__setattr__("name", "fused_0"),
    "result missing": lambda g: g.library.function[0].ret.pop("r1"),
    "result unknown": lambda g: g.library.function[0].ret.__setitem__("r1", "b7:out:0"),
    "result too many": lambda g: g.library.function[0].ret.__setitem__("r7", "a0"),
    "argument type lie": lambda g: g.library.function[0].signature.input_arg[0].__setattr__(
        "type", 4
    ),
    "body label": lambda g: g.library.function[0].node_def[0].attr["_loc"].__setattr__("s", b""),
    "version": lambda g: g.versions.__setattr__("producer", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_hostile_graphs_are_refused(name):
    data = emit(every_op())
    graph = GraphDef.FromString(data)
    MUTATIONS[name](graph)
    changed = graph.SerializeToString(deterministic=True)
    assert changed != data
    for canonical in (True, False):
        with pytest.raises(MpccError) as caught:
            parse(changed, "M.mpcc", canonical=canonical)
        assert caught.value.code in ("E-graph", "E-graph-limit")
        assert caught.value.diagnostics[0].where.startswith("M.mpcc")


def test_the_error_names_node_and_field():
    graph = GraphDef.FromString(emit(every_op()))
    node = _node(graph, "MpccAdd")
    node.device = "/job:party/replica:0/task:2/device:CPU:0"
    with pytest.raises(MpccError, match=f"device is not what.*\n.*node '{node.name}'"):
        parse(graph.SerializeToString(deterministic=True))


def test_limits(monkeypatch):
    data = emit(every_op())
    for name, value, what in (
        ("MAX_PROGRAM_BYTES", len(data) - 1, "bytes of the program"),
        ("MAX_OPS", 20, "nodes"),
        ("MAX_LIST", 3, "items of a list"),
        ("MAX_NESTING", 1, "nesting"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(graphdef, name, value)
            with pytest.raises(MpccError, match=what) as caught:
                parse(data)
            assert caught.value.code == "E-graph-limit"
    # Bodies count at every use.
    ops = len(every_op().main.ops) + 5
    monkeypatch.setattr(graphdef, "MAX_OPS", ops - 1)
    with pytest.raises(MpccError, match="operations"):
        parse(data)
    monkeypatch.setattr(graphdef, "MAX_OPS", ops)
    parse(data)


def test_items_are_counted_before_anything_is_built(monkeypatch):
    data = emit(every_op())
    found = count_items(data, 10**9)
    graph = GraphDef.FromString(data)
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    texts = [a.s for n in nodes for a in n.attr.values()]
    functions = graph.library.function
    assert found.total == sum(
        (
            len(nodes) + len(functions),
            sum(len(n.input) + len(n.attr) for n in nodes),
            sum(len(a.list.i) + len(a.list.s) for n in nodes for a in n.attr.values()),
            sum(t.count(b",") + t.count(b"[") for t in texts if t.startswith(b"[")),
            sum(len(f.signature.input_arg) + len(f.signature.output_arg) for f in functions),
            sum(len(f.ret) for f in functions),
        )
    )
    # One body is used a second time.
    monkeypatch.setattr(graphdef, "MAX_ITEMS", found.total + found.functions[1])
    parse(data)
    monkeypatch.setattr(graphdef, "MAX_ITEMS", found.total - 1)
    monkeypatch.setattr(graphdef, "GraphDef", None)
    with pytest.raises(MpccError, match="items of the program") as caught:
        parse(data)
    assert caught.value.code == "E-graph-limit"


def bodies(uses: int, planes: int) -> bytes:
    """Regions that share one body, whose list has so many items."""
    module = Module("party", {})
    w = Writer(module.main)
    value = w("draw_bits", key="P0+P1", stream=1, place="P0", lanes=1, planes=planes)
    for _ in range(uses):
        body = Function("body", [value.type])
        b = Writer(body)
        body.returns.append(b("planes", body.args[0], indices=(*range(1, planes), 0)))
        fused = DIALECT.operations["party.fused"]
        value = module.main.append(fused, [value], {}, "", body).result
    return emit(module)


def test_a_body_counts_at_every_use_and_is_decoded_once(monkeypatch):
    data = bodies(5, 100)
    once = count_items(data, 10**9)
    assert len(once.functions) == 1
    total = once.total + 4 * once.functions[0]
    monkeypatch.setattr(graphdef, "MAX_ITEMS", total)
    fused = [op.body for op in parse(data).main.walk("party.fused")]
    first, *others = (body.ops[0] for body in fused if body is not None)
    assert len(others) == 4
    assert all(op.attrs["indices"] is first.attrs["indices"] for op in others)
    monkeypatch.setattr(graphdef, "MAX_ITEMS", total - 1)
    with pytest.raises(MpccError, match="items of the program"):
        parse(data)


def test_what_is_no_encoding_is_no_graph():
    for data in (
        b"\x0a",  # ends before its size
        b"\x0a\x05",  # a node beyond the end
        b"\x02\x00",  # field 0
        b"\x0b\x0c",  # a group
        b"\x0d\x00",  # four bytes, of which one is there
        b"\x80" * 11,  # a number of more than 64 bits
    ):
        with pytest.raises(MpccError, match="not a GraphDef") as caught:
            parse(data)
        assert caught.value.code == "E-graph"


def test_only_the_canonical_bytes_are_a_program():
    data = emit(every_op())
    # The same versions message once more: protobuf merges the two, so the graph is equal.
    twice = data + bytes([0x22, 3, 0x08, 0xD0, 0x0F])
    with pytest.raises(MpccError, match="encoding"):
        parse(twice)
    assert print_module(parse(twice, canonical=False)) == print_module(every_op())
    unknown = data + bytes([0x78, 1])  # field 15
    for canonical in (True, False):
        with pytest.raises(MpccError, match="E-graph"):
            parse(unknown, canonical=canonical)


def test_damaged_bytes_never_crash():
    """Truncation at every offset, and flipped bytes: refused, or another valid program."""
    data = emit(random_program(3, 25))
    rng = np.random.default_rng(0)
    for cut in range(0, len(data), 7):
        with pytest.raises(MpccError):
            parse(data[:cut])
    for _ in range(1500):
        changed = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(len(data))] = rng.integers(256)
        try:
            back = parse(bytes(changed))
        except MpccError:
            continue
        assert emit(back) == bytes(changed)


# --- TensorFlow ----------------------------------------------------------------------------------


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore")
def test_tensorflow_reads_and_writes_the_same_graph():
    from tensorflow.core.framework import graph_pb2

    for module in (every_op(), random_program(1)):
        data = emit(module)
        theirs = graph_pb2.GraphDef.FromString(data)
        assert [n.name for n in theirs.node][:2] == ["program", "n0"]
        kinds = {n.op: n.attr["T"].type for n in theirs.node if "T" in n.attr}
        assert kinds["MpccEncode"] == 23
        again = theirs.SerializeToString(deterministic=True)
        assert again == data
        loose = parse(theirs.SerializeToString(), canonical=False)
        assert print_module(loose) == print_module(module)
        # No byte of ours is an unknown field to TensorFlow.
        copy = graph_pb2.GraphDef()
        copy.CopyFrom(theirs)
        copy.DiscardUnknownFields()
        assert copy.SerializeToString(deterministic=True) == data
