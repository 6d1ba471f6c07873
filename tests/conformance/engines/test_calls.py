"""Programs with functions: the compiler's and the engine's reader accept the same ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpcc.emit.graphdef import emit, parse
from mpcc.emit.schema import GraphDef
from mpcc.ir.text import print_module
from tests.conformance.engines.test_readers import Tally, compiler_refuses, engine_refuses
from tests.emit.programs import with_calls

CALLED = "call_twice.1"


def node(graph: Any, number: int) -> Any:
    """The call of this number."""
    return next(n for n in graph.node if n.op == "MpccCall" and n.attr["number"].i == number)


def function(graph: Any) -> Any:
    return next(f for f in graph.library.function if f.signature.name == CALLED)


def draw(graph: Any) -> Any:
    return next(n for n in function(graph).node_def if n.op == "MpccDrawRing")


def region(graph: Any) -> Any:
    """A body of a region that draws, used in the function alone."""
    name = next(n for n in function(graph).node_def if n.op == "MpccFused").attr["f"].func.name
    return next(f for f in graph.library.function if f.signature.name == name)


def rename(graph: Any, name: str) -> None:
    function(graph).signature.name = f"call_{name}"
    for number in (7, 2):
        node(graph, number).attr["callee"].s = name.encode()


def swap_functions(graph: Any) -> None:
    library = list(graph.library.function)
    del graph.library.function[:]
    graph.library.function.extend([*library[1:], library[0]])


def add_function(graph: Any) -> None:
    copy = type(function(graph))()
    copy.CopyFrom(function(graph))
    copy.signature.name = "call_other"
    library = [copy, *graph.library.function]
    del graph.library.function[:]
    graph.library.function.extend(library)


def call_inside(graph: Any) -> None:
    inner = function(graph).node_def.add()
    inner.CopyFrom(node(graph, 7))
    inner.name = f"n{len(function(graph).node_def) - 1}"
    inner.attr["number"].i = 9
    inner.input[:] = ["a0", "a1"]


def set_stream(graph: Any, stream: int) -> None:
    for each in function(graph).node_def:
        if each.op == "MpccDrawRing":
            each.attr["stream"].i = stream


WRONG: dict[str, Callable[[Any], Any]] = {
    "a number twice": lambda g: setattr(node(g, 2).attr["number"], "i", 7),
    "number 0": lambda g: setattr(node(g, 2).attr["number"], "i", 0),
    "a negative number": lambda g: setattr(node(g, 2).attr["number"], "i", -1),
    "a number of 31 bits": lambda g: setattr(node(g, 2).attr["number"], "i", 1 << 30),
    "another function": lambda g: setattr(node(g, 2).attr["callee"], "s", b"other"),
    "the body of a region": lambda g: setattr(node(g, 2).attr["callee"], "s", b"fused_0"),
    "the program": lambda g: rename(g, "main"),
    "a type": lambda g: node(g, 2).attr["types"].list.s.__setitem__(0, b"ring64<4x2x3>@P2"),
    "no types": lambda g: node(g, 2).attr["types"].list.ClearField("s"),
    "a device": lambda g: setattr(node(g, 2), "device", function(g).node_def[0].device),
    "operands exchanged": lambda g: node(g, 2).input.__setitem__(
        slice(None), node(g, 2).input[::-1]
    ),
    "an operand too few": lambda g: node(g, 2).input.pop(),
    "an operand of another type": lambda g: node(g, 2).input.__setitem__(0, node(g, 2).input[1]),
    "functions in another order": swap_functions,
    "a function that nothing calls": add_function,
    "a call inside": call_inside,
    "a stream of 33 bits": lambda g: set_stream(g, 1 << 32),
    "a negative stream": lambda g: set_stream(g, -1),
    "a stream that the region has": lambda g: set_stream(g, 2**32 - 1),
    "a name inside": lambda g: setattr(function(g).node_def[0], "name", "n5"),
    "an input from outside": lambda g: function(g).node_def[1].input.__setitem__(0, "n0"),
    "an argument too many": lambda g: function(g).signature.input_arg.add(name="a2", type=23),
    "an argument's type": lambda g: setattr(function(g).signature.input_arg[0], "type", 22),
    "a result's type": lambda g: setattr(function(g).signature.output_arg[0], "type", 22),
    "a result of nothing": lambda g: function(g).ret.__setitem__("r0", "n99:out:0"),
    "a result of another place": lambda g: function(g).ret.__setitem__("r0", "n0:out:0"),
    "a result left out": lambda g: function(g).ret.pop("r0"),
    "an op that is none": lambda g: setattr(function(g).node_def[0], "op", "MpccNone"),
    "an attribute inside": lambda g: function(g).node_def[0].attr["more"].__setattr__("i", 1),
    "a device inside": lambda g: setattr(draw(g), "device", node(g, 2).device),
}

RIGHT: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda g: None,
    "another number": lambda g: setattr(node(g, 2).attr["number"], "i", (1 << 30) - 1),
    "another name": lambda g: rename(g, "f"),
    "another stream": lambda g: set_stream(g, 12),
}


def changed(change: Callable[[Any], Any]) -> bytes:
    graph = GraphDef.FromString(emit(with_calls()))
    change(graph)
    return bytes(graph.SerializeToString(deterministic=True))


def test_programs_with_functions_are_read_back():
    module = with_calls()
    assert print_module(parse(emit(module))) == print_module(module)
    assert not engine_refuses(emit(module))


@pytest.mark.parametrize("what", WRONG)
def test_wrong_calls_are_refused_by_both(what):
    data = changed(WRONG[what])
    assert data != emit(with_calls())
    assert compiler_refuses(data)
    assert engine_refuses(data)


@pytest.mark.parametrize("what", RIGHT)
def test_other_calls_are_read_by_both(what):
    data = changed(RIGHT[what])
    assert not compiler_refuses(data)
    assert not engine_refuses(data)


def test_readers_agree_on_changed_bytes():
    """Single bytes of the functions and calls, with a fixed seed."""
    data, draws, tally = emit(with_calls()), np.random.default_rng(5), Tally()
    start = data.index(CALLED.encode())
    for _ in range(300):
        at = int(draws.integers(start, len(data)))
        changed_byte = bytes([data[at] ^ 1 << int(draws.integers(8))])
        tally(data[:at] + changed_byte + data[at + 1 :], f"byte {at}")
    assert tally.refused > 200
