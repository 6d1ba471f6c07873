"""The compiler's and the engine's reader accept the same programs, byte for byte.

Good programs are changed in every way a file can be wrong (or right in another way): each change is
refused by both readers or accepted by both. Changes are made at three depths: attributes and types
of an op with everything around it kept consistent, fields of the graph, and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mpcc
from benchmarks import models
from mpcc import _native
from mpcc.emit.graphdef import emit, parse
from mpcc.emit.items import count_items
from mpcc.emit.schema import GraphDef
from mpcc.errors import MpccError
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.define import InferenceError
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.limits import MAX_ITEMS, MAX_PLANES
from mpcc.ir.ops import party_base, party_bits, party_io, party_linear
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.phi import FormatOptions
from mpcc.ir.types import RingType
from mpcc.passes import pipeline
from mpcc.passes.analyse import analyse
from mpcc.passes.base import Checkpoint, Manager
from mpcc.passes.fuse_local import FuseLocal
from mpcc.passes.lower_tensor_to_secure import build_secure
from mpcc.protocols import Rep3, lower_program
from tests.emit.programs import Writer, every_op, random_program


def compiler_refuses(data: bytes) -> str:
    """The reason, or an empty text."""
    try:
        parse(data)
    except MpccError as error:
        return str(error)
    return ""


def engine_refuses(data: bytes) -> str:
    try:
        _native.describe_program(data)
    except _native.NativeError as error:
        return f"{error.args}"
    return ""


class Tally:
    """Compares the readers change by change and counts what they said."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0

    def __call__(self, data: bytes, what: str) -> None:
        mine, theirs = compiler_refuses(data), engine_refuses(data)
        assert bool(mine) == bool(theirs), (
            f"{what}\ncompiler: {mine or 'accepts'}\nengine: {theirs or 'accepts'}"
        )
        if mine:
            self.refused += 1
        else:
            self.accepted += 1


# --- one op, consistent with what stands around it -----------------------------------------------

INTS = (
    -(2**63), -(2**31) - 1, -(2**31), -2, -1, 0, 1, 2, 3, 6, 7, 31, 32, 33, 63, 64, 65, 512, 513,
    2**16, 2**16 + 1, 2**24, 2**24 + 1, 2**31 - 1, 2**31, 2**37, 2**37 + 1, 2**40, 2**40 + 1,
    2**43, 2**63 - 1,
)  # fmt: skip
FLOATS = (0.0, -0.0, 1e16, 1e-5, 123456789012345680.0, -8.5, 5e-324, 2.0**-44, 1.7e308,
          float("inf"), float("-inf"), float("nan"))  # fmt: skip
TEXTS = (
    "", "P0", "P1", "P2", "client", "model", "P3", "p0", "setup", "online", "offline",
    "P0+P1", "P1+P0", "P0+P1+P2", "P0+P0", "P0+", "P0+P2", "P0+P1+client", "client+P0+P1",
    "P0+P1+P2+client+model", "\u00e4\U0001f600\x00",
)  # fmt: skip
SHAPES = (
    (), (0,), (1,), (2, 2), (1,) * 8, (1,) * 9, (2**37,), (2**37 + 1,), (2**38,), (2**38 + 1,),
    (2**40,), (2**40 + 1,), (0, 2**40), (0, 2**40 + 1), (0, 2**21, 2**21), (2**20, 2**20), (-1,),
    (0,) * 9,
)  # fmt: skip
NESTED = (
    (), 3, ((),), (((),),), (((0,),),), (((0,), (0,)),), (((0, 0),),), ((((0,),),),), ((0,),),
    (((-1,),),), (((10**30,),),), (((5,),), ((6,),)), (((6,),),), (((7,),),), (((0,),),) * 65536,
    (((0,),),) * 65537, (((0,) * 65537,),), ((0.5,),), (((True,),),), ((("a",),),),
)  # fmt: skip


def other_values(kind: str, value: Any) -> Iterator[Any]:
    """Values of an attribute's kind, near the given one and far from it."""
    match kind:
        case "int":
            yield from {*INTS, value - 1, value + 1} - {value}
        case "float":
            yield from FLOATS
        case "str":
            yield from TEXTS
        case "nested":
            yield from NESTED
        case "ints":
            yield from SHAPES
            yield from (value[:-1], value[::-1], (*value, *value[:1]), (*value, 1))
            yield from ((1,) * n for n in (64, 65))
            for i in range(min(len(value), 2)):
                for item in INTS:
                    yield (*value[:i], item, *value[i + 1 :])


def with_other_streams(ops: list[Op]) -> list[Op]:
    """The ops, their draws moved to streams that nothing else uses."""
    for op in ops:
        for draw in [op] if op.body is None else op.body.ops:
            if "stream" in draw.attrs:
                draw.attrs["stream"] += 100_000
    return ops


def slice_of(op: Op) -> Module:
    """A program of copies of an op and of all that it needs; the op is last."""
    needed: list[Op] = []

    def visit(current: Op) -> None:
        for value in current.operands:
            assert value.op is not None
            if value.op not in needed:
                visit(value.op)
        needed.append(current)

    visit(op)
    module = Module("party")
    copies: dict[Value, Value] = {}
    for old in needed:
        new = Op(
            old.definition,
            [copies[v] for v in old.operands],
            old.attrs,
            [r.type for r in old.results],
            old.loc,
            copy_body(old.body),
        )
        copies.update(zip(old.results, new.results, strict=True))
        module.main.ops.append(new)
    return module


def copy_body(body: Function | None) -> Function | None:
    if body is None:
        return None
    holder = Module("party")
    holder.functions["main"] = body
    return holder.clone().functions["main"]


def infer_again(ops: list[Op]) -> None:
    """Give results the types that the declarations would give if there were no limits."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (party_base, party_bits, party_io, party_linear):
            for name in vars(module):
                if name.startswith("MAX_"):
                    patch.setattr(module, name, 2**200)
        for op in ops:
            try:
                types = op.infer()
            except (InferenceError, IndexError, TypeError, ValueError):
                continue  # refused, or given what attribute kinds and arity exclude before
            if len(types) == len(op.results):
                for result, type_ in zip(op.results, types, strict=True):
                    result.type = type_


def emitted(module: Module) -> bytes | None:
    """None if no graph can say it."""
    try:
        return emit(module)
    except MpccError:
        return None


def check(tally: Tally, module: Module, what: str) -> None:
    data = emitted(module)
    if data is not None:
        tally(data, what)


OPS = sorted(DIALECT.operations.keys() - {"party.call"})  # test_calls.py has it
FREE = {"party.add_const", "party.mul_const", "party.output"}
"""Their attributes may have any value, in a ring of 64 bits."""


def narrow_ops() -> Module:
    """Ops whose attributes are bound by the ring, on words of 32 bits."""
    module = Module("party")
    w = Writer(module.main)
    attrs: dict[str, Any] = {"key": "P0+P1", "stream": 1, "place": "P0"}
    x = w("draw_ring", **attrs, shape=(2, 3), ring=32)
    x = w("pad", w("mul_const", w("add_const", x, value=1), value=-1), low=(0, 1), high=(0, 0))
    x = w("low_bits", w("shift_right", w("shift_left", x, amount=1), amount=2), count=9)
    w("from_bits", w("bit_slice", w("cast", x, ring=32), planes=5, shift=3), shape=(8,), ring=32)
    w("decode", x, frac=3)
    return module


def change_attributes(tally: Tally, op: Op) -> None:
    tally(emit(slice_of(op)), "unchanged")
    for key, spec in op.definition.attributes.items():
        for value in other_values(spec.kind, op.attrs[key]):
            module = slice_of(op)
            last = module.main.ops[-1]
            last.attrs[key] = value
            infer_again([last])
            check(tally, module, f"{op.name} {key} = {str(value)[:80]}")


@pytest.mark.parametrize("name", OPS)
def test_attributes(name):
    """Every attribute of every op with other values, result types inferred anew."""
    tally = Tally()
    for op in every_op().main.walk(name):
        change_attributes(tally, op)
    assert tally.accepted
    if DIALECT.operations[name].attributes and name not in FREE:
        assert tally.refused


@pytest.mark.parametrize("count", [65536, 65537])
def test_long_lists(count):
    """Planes of a value of 65536: all of them, and one more than there can be."""
    module = Module("party")
    w = Writer(module.main)
    x = w("draw_bits", key="P0+P1", stream=1, place="P0", lanes=1, planes=65536)
    w("planes", x, indices=tuple(range(65536)))
    module.main.ops[-1].attrs["indices"] = tuple(range(count))
    tally = Tally()
    tally(emit(module), f"{count} planes")
    assert tally.accepted == (count == 65536)


def test_attributes_in_a_narrow_ring():
    tally = Tally()
    for op in narrow_ops().main.ops:
        change_attributes(tally, op)
    assert tally.accepted > 50
    assert tally.refused > 100


@pytest.mark.parametrize("name", [n for n in OPS if DIALECT.operations[n].operands])
def test_operands(name):
    """Every op on operands of other types, places, numbers and orders."""
    tally = Tally()
    sources = [v for op in every_op().main.ops for v in op.results]
    kinds = {str(v.type): v for v in sources}
    for op in every_op().main.walk(name):
        for i in range(len(op.operands)):
            for other in kinds.values():
                module = slice_of(op)
                last = module.main.ops.pop()
                assert other.op is not None
                extra = with_other_streams(slice_of(other.op).main.ops)
                module.main.ops += [*extra, last]
                last.operands[i] = extra[-1].results[other.index]
                infer_again([last])
                check(tally, module, f"{name} operand {i}: {other.type}")
        changes: list[Callable[[list[Value]], list[Value]]] = [
            lambda values: values[:-1],
            lambda values: values[::-1],
            lambda values: values + values[:1],
            lambda values: values * 2,
            lambda values: values * (65536 // len(values)),
            lambda values: values * (65536 // len(values) + 2),
        ]
        for change in changes:
            module = slice_of(op)
            last = module.main.ops[-1]
            last.operands = change(last.operands)
            infer_again([last])
            check(tally, module, f"{name} of {len(last.operands)} operands")
    assert tally.accepted
    assert tally.refused


# --- regions -------------------------------------------------------------------------------------


def region(fill: Callable[[Writer, Value], list[Value]], phase: str = "online") -> Module:
    """A region over a draw of six words at P0."""
    module = Module("party")
    w = Writer(module.main)
    x = w("draw_ring", key="P0+P1", stream=0, place="P0", shape=(2, 3), phase=phase)
    body = Function("body", [x.type])
    body.returns = fill(Writer(body), body.args[0])
    types = [v.type for v in body.returns]
    module.main.ops.append(Op(DIALECT.operations["party.fused"], (x,), {}, types, "", body))
    return module


def draw(w: Writer, phase: str = "online", place: str = "P0", **more: Any) -> Value:
    attrs = {"key": "P0+P1", "stream": w.fresh(), "shape": (2, 3), **more}
    return w("draw_ring", place=place, phase=phase, **attrs)


def nested_region(w: Writer, x: Value) -> list[Value]:
    inner = Function("body", [x.type])
    inner.returns = list(inner.args)
    return [w.function.append(DIALECT.operations["party.fused"], (x,), {}, "", inner).result]


REGIONS: dict[str, tuple[bool, Callable[[Writer, Value], list[Value]]]] = {
    "one op": (True, lambda w, x: [w("neg", x)]),
    "no op": (True, lambda w, x: [x, x]),
    "no result": (False, lambda w, x: [w("neg", x)][:0]),
    "bits of the same lanes": (True, lambda w, x: [w("bit_slice", x, planes=3)]),
    "another shape of the same lanes": (
        True,
        lambda w, x: [w("from_bits", w("bit_slice", x, planes=3), shape=(6,))],
    ),
    "a draw": (True, lambda w, x: [w("add", x, draw(w))]),
    "a draw that nothing uses": (True, lambda w, x: [x, draw(w, stream=5)][:1]),
    "a draw of the session": (False, lambda w, x: [w("add", x, draw(w, "setup"))]),
    "draws of two phases": (False, lambda w, x: [draw(w), draw(w, "setup")]),
    "other lanes": (False, lambda w, x: [draw(w, shape=(2, 2))]),
    "another place": (False, lambda w, x: [draw(w, place="P1")]),
    "reshape": (False, lambda w, x: [w("reshape", x, shape=(3, 2))]),
    "transpose": (False, lambda w, x: [w("transpose", x, perm=(1, 0))]),
    "slice": (
        False,
        lambda w, x: [w("slice", x, starts=(0, 0), limits=(2, 3), strides=(1, 1))],
    ),
    "concat": (False, lambda w, x: [w("concat", x, axis=0)]),
    "weight": (False, lambda w, x: [w("weight", name="w", shape=(2, 3), place="P0")]),
    "transfer": (False, lambda w, x: [w("transfer", x, to="P1", step="s")]),
    "output": (False, lambda w, x: [x, w("output", w("decode", x, frac=1), name="y")][:1]),
    "a region": (False, nested_region),
}


@pytest.mark.parametrize("name", REGIONS)
def test_regions(name):
    good, fill = REGIONS[name]
    data = emitted(region(fill))
    if data is None:
        # An op without exactly one result cannot be written into a function at all.
        assert name in ("output", "a region")
        assert not good
        return
    assert bool(compiler_refuses(data)) != good
    assert bool(engine_refuses(data)) != good


def test_a_region_of_the_setup_draws_from_the_session():
    tally = Tally()
    for outer in ("setup", "online"):
        for inner in ("setup", "online"):

            def fill(w: Writer, x: Value, phase: str = inner) -> list[Value]:
                return [w("add", x, draw(w, phase))]

            module = region(fill, outer)
            check(tally, module, f"{inner} draw in a region over {outer}")
    assert (tally.accepted, tally.refused) == (3, 1)


def test_ops_of_a_body():
    """Every attribute of every op inside a region."""
    tally = Tally()

    def fill(w: Writer, x: Value) -> list[Value]:
        low = w("low_bits", w("shift_right", w("cast", x), amount=1), count=60)
        bits = w("bit_slice", low, planes=6)
        drawn = w("draw_bits", key="P0+P2", stream=1, place="P0", lanes=6, planes=6)
        tables = w("carry_tables", bits, drawn, blocks=(4, 2))
        bit = w("anf", w("lookup", tables, bits, blocks=(4, 2)), terms=(((0,), (1, 2)),))
        number = w("from_bits", w("planes", bits, indices=(3, 0)), shape=(2, 3))
        return [w("mask_by", bit, w("add_const", number, value=-5)), draw(w)]

    plain = region(fill)
    tally(emit(plain), "unchanged")
    body = plain.main.ops[-1].body
    assert body is not None
    for position, op in enumerate(body.ops):
        for key, spec in op.definition.attributes.items():
            for value in other_values(spec.kind, op.attrs[key]):
                module = plain.clone()
                fused = module.main.ops[-1]
                assert fused.body is not None
                fused.body.ops[position].attrs[key] = value
                infer_again(fused.body.ops)
                for result, returned in zip(fused.results, fused.body.returns, strict=True):
                    result.type = returned.type
                check(tally, module, f"{op.name} in a body, {key} = {str(value)[:80]}")
    assert tally.accepted > 20
    assert tally.refused > 200


# --- fields of the graph -------------------------------------------------------------------------

Change = Callable[[Any, np.random.Generator], str]


def some_node(graph: Any, rng: np.random.Generator) -> Any:
    nodes = [n for f in graph.library.function for n in f.node_def]
    if not nodes or rng.integers(3):
        nodes = list(graph.node)
    return nodes[rng.integers(len(nodes))]


def change_text(node: Any, field: str, texts: list[str], rng: np.random.Generator) -> None:
    setattr(node, field, texts[rng.integers(len(texts))])


def change_node(graph: Any, rng: np.random.Generator) -> str:
    node = some_node(graph, rng)
    field = ("name", "op", "device")[rng.integers(3)]
    others = [getattr(some_node(graph, rng), field) for _ in range(3)]
    change_text(node, field, [*others, "", "n0", "n01", "b0", "program", "MpccProgram"], rng)
    return f"{field} {getattr(node, field)}"


def change_inputs(graph: Any, rng: np.random.Generator) -> str:
    node = some_node(graph, rng)
    names = ["n0", "n00", "n1:0", "n1:1", "n1:01", "^n0", "a0", "b0:out:0", "b0", "", "n999999"]
    names += [n.name for n in (some_node(graph, rng), some_node(graph, rng))]
    if node.input and rng.integers(2):
        names.append("n0" + node.input[0][1:])
    name = names[rng.integers(len(names))]
    if node.input and rng.integers(3):
        node.input[rng.integers(len(node.input))] = name
    elif node.input and rng.integers(2):
        node.input.pop()
    else:
        node.input.append(name)
    return f"inputs {list(node.input)}"


STRINGS = (
    b"", b"x", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"P0", b"P1", b"client",
    b"1.0", b"1", b"1e0", b" 1.0", b"+1.0", b"1.00", b"0.1", b"nan", b"inf", b"1_0.0", b"[[[0]]]",
    b"[[[0 ]]]", b"[]", b"[[[1.0]]]", b"setup", b"online", b"ring64<6>@P0", b"ring64<06>@P0",
    b"bits<24x1>@P0", b"bits<024x1>@P0", b"bits<24x01>@P0", b"clear<f32>@client", b"{}",
)  # fmt: skip


def change_attr(graph: Any, rng: np.random.Generator) -> str:
    node = some_node(graph, rng)
    keys = sorted(node.attr)
    key = keys[rng.integers(len(keys))] if keys and rng.integers(6) else "extra"
    slot = node.attr[key]
    string = STRINGS[rng.integers(len(STRINGS))]
    number = INTS[rng.integers(len(INTS))]
    match rng.integers(9):
        case 0:
            del node.attr[key]
        case 1:
            slot.s = string
        case 2:
            slot.i = number
        case 3:
            slot.b = bool(rng.integers(2))
        case 4:
            slot.type = (1, 4, 22, 23, 0)[rng.integers(5)]
        case 5:
            slot.func.name = ("fused_0", "fused_1", "fused_9", "")[rng.integers(4)]
        case 6:
            slot.list.s.append(string)
        case 7:
            slot.list.i.append(number)
        case _:
            if slot.list.s:
                slot.list.s[rng.integers(len(slot.list.s))] = string
            elif slot.list.i:
                slot.list.i[rng.integers(len(slot.list.i))] = number
            else:
                slot.Clear()
    return f"{node.op} {node.name} attribute {key}: {slot!s}"


def change_order(graph: Any, rng: np.random.Generator) -> str:
    nodes = graph.node
    if graph.library.function and rng.integers(2):
        functions = graph.library.function
        nodes = functions[rng.integers(len(functions))].node_def
    if not nodes:
        return "nothing"
    i, j = sorted(rng.integers(len(nodes), size=2))
    kind = rng.integers(3)
    if kind == 0:
        first, second = type(nodes[i])(), type(nodes[j])()
        first.CopyFrom(nodes[i])
        second.CopyFrom(nodes[j])
        nodes[i].CopyFrom(second)
        nodes[j].CopyFrom(first)
        return f"nodes {i} and {j} swapped"
    if kind == 1:
        del nodes[i]
        return f"node {i} removed"
    nodes.add().CopyFrom(nodes[i])
    return f"node {i} once more"


def change_function(graph: Any, rng: np.random.Generator) -> str:
    functions = graph.library.function
    if not functions:
        graph.library.SetInParent()
        return "an empty library"
    i = int(rng.integers(len(functions)))
    f = functions[i]
    s = f.signature
    match rng.integers(11):
        case 0:
            functions.add().CopyFrom(f)
            return "a function twice"
        case 1:
            new = functions.add()
            new.CopyFrom(f)
            new.signature.name = f"fused_{len(functions) - 1}"
            return "an equal function of another name"
        case 2:
            new = functions.add()
            new.signature.name = f"fused_{len(functions) - 1}"
            return "a function that nothing uses"
        case 3:
            del functions[i]
            return "a function less"
        case 4:
            other = int(rng.integers(len(functions)))
            s.name, functions[other].signature.name = functions[other].signature.name, s.name
            return f"names of functions {i} and {other} swapped"
        case 5:
            names = list({n.attr["f"].func.name for n in graph.node if "f" in n.attr})
            nodes = [n for n in graph.node if "f" in n.attr]
            nodes[rng.integers(len(nodes))].attr["f"].func.name = names[rng.integers(len(names))]
            return "another function for a region"
        case 6:
            args = s.input_arg if rng.integers(2) else s.output_arg
            if args:
                args[rng.integers(len(args))].type = (1, 4, 22, 23, 0)[rng.integers(5)]
            return "type of an argument or result"
        case 7:
            args = s.input_arg if rng.integers(2) else s.output_arg
            if args and rng.integers(2):
                args.pop()
            else:
                args.add(name=f"a{len(args)}", type=23)
            return "number of arguments or results"
        case 8:
            f.ret[f"r{rng.integers(3)}"] = ("a0", "a1", "b0:out:0", "b0", "")[rng.integers(5)]
            return "what a result is"
        case 9:
            if f.ret:
                del f.ret[sorted(f.ret)[0]]
            return "a result less"
        case _:
            s.name = ("fused_0", "fused_00", "", "x")[rng.integers(4)]
            return "name of a function"


HEADERS = (
    b"", b"{}", b"[]", b"{ }", b'{"a":1}', b'{"a":1.0}', b'{"a":1e16}', b'{"a":1e+16}',
    b'{"a":-0}', b'{"a":-0.0}', b'{"a":9223372036854775807}', b'{"a":9223372036854775808}',
    b'{"a":-9223372036854775808}', b'{"a":-9223372036854775809}', b'{"a":18446744073709551616}',
    b'{"a":1e999}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":null}', b'{"a":{}}', b'{"a":[1,2]}',
    b'{"a":[1, 2]}', b'{"a":1,"a":1}', b'{"b":1,"a":1}', b'{"a":1,"b":1}', b'{"a":"\\u00e4"}',
    b'{"a":"\\u00E4"}', '{"a":"\u00e4"}'.encode(), b'{"a":"\\ud83d\\ude00"}', b'{"a":"\\ud800"}',
    b'{"\\ud800":1}', b'{"\\u00e4":1,"\\ud83d\\ude00":2,"\\uffff":3}',
    b'{"\\u00e4":1,"\\uffff":3,"\\ud83d\\ude00":2}', b'{"a":"\\n\\t\\b\\f\\r\\"\\\\/"}',
    b'{"a":"\\/"}', b'{"a":"\x7f"}', b'{"a":"\\u007f"}', b'{"a":"\\u0000"}', b'{"a":"\x00"}',
    b'{"a":"[[[[[[[[[[[[[[[[[[[["}', b'{"a":true}', b'{"a":True}', b'{"a":1}x', b'\xef\xbb\xbf{}',
    b'{"":""}', b'{"a":0.1,"b":1e-05,"c":0.0001,"d":1234567890123456.0,"e":1e+22,"f":-2.5e-10}',
    b'{"a":5.684341886080801e-14,"b":5e-324,"c":1.7976931348623157e+308,"d":123456789012345.6}',
    b'{"a":0.00001}', b'{"a":1e-5}', b'{"a":' + b"[" * 16 + b"1" + b"]" * 16 + b"}",
    b'{"a":' + b"[" * 17 + b"]" * 17 + b"}", b'{"a":' + b"[" * 17 + b"1" + b"]" * 17 + b"}",
    b'{"a":' + b"[" * 18 + b"]" * 18 + b"}", b'{"a":' + b"[" * 200000 + b"]" * 200000 + b"}",
    b'{"a":[' + b"1," * 65535 + b"1]}", b'{"a":[' + b"1," * 65536 + b"1]}",
    b'{"a":"' + b"x" * (2**20 - 8) + b'"}', b'{"a":"' + b"x" * (2**20 - 7) + b'"}',
)  # fmt: skip


def change_header(graph: Any, rng: np.random.Generator) -> str:
    header = graph.node[0]
    match rng.integers(5):
        case 0:
            header.attr["more"].i = 1
        case 1:
            header.input.append("n0")
        case 2:
            header.device = "/job:client/replica:0/task:0/device:CPU:0"
        case 3:
            graph.versions.producer = int(rng.integers(3))
        case _:
            graph.versions.min_consumer = 1
    return "header or version"


CHANGES: tuple[Change, ...] = (
    change_node, change_inputs, change_attr, change_attr, change_attr, change_order,
    change_function, change_header,
)  # fmt: skip


@pytest.fixture(scope="module")
def network_a() -> bytes:
    """The program of a real network."""
    network = models.network_a()
    imported = import_onnx(network.serialized())
    checkpoint = Checkpoint(DIALECTS)
    module = Manager(pipeline.TENSOR, checkpoint).run(imported.module)
    samples = models.sample_inputs(network, 3)
    constants = checkpoint.constants(imported.constants)
    phi = analyse(module, constants, samples, FormatOptions()).phi
    party = lower_program(build_secure(module, phi, FormatOptions()), Rep3()).party
    FuseLocal().run(party)
    return emit(party)


def change_and_compare(data: bytes, seed: int, count: int) -> Tally:
    tally = Tally()
    tally(data, "unchanged")
    assert tally.accepted == 1
    rng = np.random.default_rng(seed)
    for _ in range(count):
        graph = GraphDef.FromString(data)
        what = CHANGES[rng.integers(len(CHANGES))](graph, rng)
        tally(graph.SerializeToString(deterministic=True), what)
    return tally


def test_fields():
    tally = change_and_compare(emit(every_op()), 1, 600)
    assert tally.refused > 400


@pytest.mark.parametrize("seed", range(3))
def test_fields_of_random_programs(seed):
    module = random_program(seed, 30)
    FuseLocal().run(module)
    assert change_and_compare(emit(module), seed, 200).refused > 100


def test_fields_of_a_network(network_a):
    assert change_and_compare(network_a, 4, 60).refused > 30


def test_headers():
    tally = Tally()
    for text in HEADERS:
        graph = GraphDef.FromString(emit(Module("party")))
        graph.node[0].attr["_attrs"].s = text
        tally(graph.SerializeToString(deterministic=True), str(text[:100]))
    assert tally.accepted > 15
    assert tally.refused > 20


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_both_write_numbers_alike(number):
    """A header is accepted only if the number is in the form that its reader would write."""
    data = emit(Module("party", {"x": number}))
    assert not compiler_refuses(data)
    assert not engine_refuses(data)


# --- bytes ---------------------------------------------------------------------------------------


def varint(value: int, width: int = 0) -> bytes:
    out = bytearray()
    while value > 0x7F or len(out) + 1 < width:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, data: bytes, width: int = 0) -> bytes:
    return varint(number << 3 | 2, width) + varint(len(data)) + data


VERSION = field(4, b"\x08\xd0\x0f")

ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "twice": lambda data: data + data,
    "version once more": lambda data: data + VERSION,
    "version in another order": lambda data: VERSION + data[: -len(VERSION)],
    "empty version": lambda data: data + field(4, b""),
    "empty library": lambda data: data + field(2, b""),
    "empty node": lambda data: data + field(1, b""),
    "long varint": lambda data: data[:-3] + b"\x08\xd0\x8f\x00",
    "long tag": lambda data: field(1, data[2 : 2 + data[1]], 2) + data[2 + data[1] :],
    "unknown varint": lambda data: data + b"\x78\x01",
    "unknown bytes": lambda data: data + field(15, b"x"),
    "unknown fixed": lambda data: data + b"\x7d1234",
    "a group": lambda data: data + b"\x7b\x7c",
    "field number 0": lambda data: data + b"\x00\x01",
    "truncated": lambda data: data[:-1],
    "too long": lambda data: data[:-4] + b"\x7f" + data[-3:],
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings(name):
    data = emit(Module("party"))
    assert data.endswith(VERSION)
    tally = Tally()
    tally(data, "unchanged")
    tally(ENCODINGS[name](data), name)
    assert (tally.accepted, tally.refused) == (1, 1)


def test_bytes():
    tally = Tally()
    module = Module("party", {"x": (1, 2.5, "a")})
    w = Writer(module.main)
    x = w("encode", w("input", name="x", shape=(2,), place="client"), frac=8, lo=-8.0, hi=8.0)
    x = w("transfer", x, to="P0", step="s", loc="layer")
    body = Function("body", [x.type])
    b = Writer(body)
    drawn = b("draw_ring", key="P0+P1", stream=1, place="P0", shape=(2,))
    body.returns = [b("add", body.args[0], drawn)]
    module.main.append(DIALECT.operations["party.fused"], (x,), {}, "", body)
    data = emit(module)
    rng = np.random.default_rng(5)
    for position in range(len(data)):
        for value in {0, 1, 0x7F, 0x80, data[position] ^ 1, int(rng.integers(256))}:
            changed = bytearray(data)
            changed[position] = value
            tally(bytes(changed), f"byte {position} = {value}")
    for _ in range(1000):
        start, end = sorted(rng.integers(len(data) + 1, size=2))
        inserted = bytes(rng.integers(256, size=rng.integers(3), dtype=np.uint8))
        tally(data[:start] + inserted + data[end:], f"{inserted!r} for bytes {start} to {end}")
    assert tally.accepted > 50
    assert tally.refused > 4000


def test_rank_nine_is_refused_where_it_is_built():
    module = Module("party")
    with pytest.raises(InferenceError, match="at most 8 axes, not 9"):
        Writer(module.main)("input", name="x", shape=(1,) * 9, place="client")
    x = Value(RingType((1,) * 8, 64, "P0"), None, 0)
    with pytest.raises(InferenceError, match="at most 8 axes, not 9"):
        Writer(module.main)("reshape", x, shape=(1,) * 9)


def test_a_model_of_rank_nine_is_a_compile_error():
    shape = [1] * 9
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in "xy"]
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([relu], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    with pytest.raises(MpccError, match="programs end at 8 axes") as caught:
        mpcc.compile(model.SerializeToString(), calibration={"x": np.ones([2, *shape], np.float32)})
    assert caught.value.code == "E-import-shape"
    assert caught.value.diagnostics[0].where == "input x"


def shared_bodies(uses: int, planes: int) -> bytes:
    """Regions that share one body, whose list has so many items."""
    module = Module("party")
    w = Writer(module.main)
    value = w("draw_bits", key="P0+P1", stream=1, place="P0", lanes=1, planes=planes)
    for _ in range(uses):
        body = Function("body", [value.type])
        body.returns = [Writer(body)("planes", body.args[0], indices=(*range(1, planes), 0))]
        fused = DIALECT.operations["party.fused"]
        value = module.main.append(fused, (value,), {}, "", body).result
    return emit(module)


def test_both_readers_count_the_same_items():
    one, two = (count_items(shared_bodies(uses, MAX_PLANES), MAX_ITEMS) for uses in (1, 2))
    # What a use adds: its node, and the items of the body.
    more = two.total - one.total + two.functions[0]
    most = (MAX_ITEMS - one.total) // more + 1
    assert 60 < most < 64
    for uses, accepted in ((most, True), (most + 1, False)):
        data = shared_bodies(uses, MAX_PLANES)
        mine, theirs = compiler_refuses(data), engine_refuses(data)
        assert (not mine, not theirs) == (accepted, accepted), (mine, theirs)
        if not accepted:
            assert "items of the program" in mine
            assert "items of the program" in theirs
