"""Calls of functions: what the verifier refuses, and what inlining gives."""

import pytest

from mpcc.errors import MpccError
from mpcc.ir.calls import MAX_CALLS, STREAM_BITS, called, calls, drop_uncalled, inline, numbered
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.limits import MAX_OPS
from mpcc.ir.ops import party
from mpcc.ir.schedule import schedule
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from tests.emit.programs import with_calls

# ruff: noqa: E501
TEXT = """module tensor {
  func @main() {
    %0 = tensor.input() {name = "x", shape = [2]} : tensor<2xf32, client>
    %1 = tensor.call(%0) {callee = "f", number = 1, types = ["tensor<2xf32, secret>"]} : tensor<2xf32, secret>
    %2 = tensor.call(%1) {callee = "f", number = 2, types = ["tensor<2xf32, secret>"]} : tensor<2xf32, secret>
    tensor.output(%2) {name = "y"}
  }
  func @f(%0: tensor<2xf32, secret>) {
    %1 = tensor.relu(%0) : tensor<2xf32, secret>
    return %1
  }
}
"""

WRONG = {
    "another function": ('callee = "f", number = 2', 'callee = "g", number = 2', "no function @g"),
    "itself": ('callee = "f", number = 2', 'callee = "main", number = 2', "no function @main"),
    "a number twice": ("number = 2", "number = 1", "two calls have the number 1"),
    "operands": (
        'input() {name = "x", shape = [2]} : tensor<2xf32, client>',
        'input() {name = "x", shape = [3]} : tensor<3xf32, client>',
        "operands",
    ),
    "results": ("return %1", "return %1, %1", "results are not those"),
    "a call inside": (
        "%1 = tensor.relu(%0)",
        '%1 = tensor.call(%0) {callee = "f", number = 3, types = ["tensor<2xf32, secret>"]}',
        "calls nothing itself",
    ),
    "an input inside": (
        "%1 = tensor.relu(%0) : tensor<2xf32, secret>\n",
        "%1 = tensor.relu(%0) : tensor<2xf32, secret>\n"
        '    %2 = tensor.input() {name = "z", shape = [2]} : tensor<2xf32, client>\n',
        "stands in @main alone",
    ),
}


def module_of(text):
    return parse_module(text, DIALECTS)


def test_texts_round_trip_and_are_valid():
    module = module_of(TEXT)
    verify(module, DIALECTS["tensor"])
    assert print_module(module) == TEXT
    assert [f.name for f in called(module)] == ["f"]
    assert [op.name for op in numbered(module)][-1] == "tensor.relu"


@pytest.mark.parametrize("name", WRONG)
def test_calls_that_do_not_fit_are_refused(name):
    old, new, why = WRONG[name]
    assert TEXT.count(old) == 1
    text = TEXT.replace(old, new)
    with pytest.raises(MpccError, match=why):
        verify(module_of(text), DIALECTS["tensor"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("number = 2", "number = 0"),
        ("number = 2", f"number = {MAX_CALLS}"),
        (
            'types = ["tensor<2xf32, secret>"]} : tensor<2xf32, secret>\n    tensor.out',
            "types = []}\n    tensor.out",
        ),
        ('["tensor<2xf32, secret>"]', '["tensor<2xf32,secret>"]'),
    ],
)
def test_numbers_and_types_are_in_range(old, new):
    assert old in TEXT
    with pytest.raises(MpccError, match="E-ir-parse"):
        module_of(TEXT.replace(old, new, 1))


def test_inlining_gives_rows_and_values():
    module = module_of(TEXT)
    flat = inline(module)
    verify(flat.module, DIALECTS["tensor"])
    assert [op.name for op in flat.module.main.ops] == [
        "tensor.input",
        "tensor.relu",
        "tensor.relu",
        "tensor.output",
    ]
    relu = numbered(module).index(module.functions["f"].ops[0])
    assert flat.rows == (0, relu, relu, 3)
    first, second = calls(module)
    result = module.functions["f"].returns[0]
    assert flat.values[1, result] is flat.values[0, first.result]
    assert flat.values[2, result] is flat.values[0, second.result]
    assert inline(flat.module).module is flat.module


def test_streams_of_calls_are_disjoint():
    """(call, draw) is in the stream without loss; the schedule sees to it that none is drawn again."""
    module = with_calls()
    flat = inline(module).module
    streams = {
        (draw.attrs["key"], draw.attrs["phase"], draw.attrs["place"], draw.attrs["stream"])
        for op in flat.main.ops
        for draw in ([op] if op.body is None else op.body.ops)
        if "stream" in draw.attrs
    }
    for number in (2, 7):
        for stream in (0, 2**32 - 1):
            assert ("P0+P1", "online", "P0", number << STREAM_BITS | stream) in streams
    schedule(module)


def test_draws_and_sizes_that_would_collide_are_refused():
    module = with_calls()
    (draw, *_) = module.functions["twice.1"].walk("party.draw_ring")
    draw.attrs["stream"] = 1 << STREAM_BITS
    with pytest.raises(MpccError, match="more than 32 bits"):
        inline(module)
    module = with_calls()
    body = module.functions["twice.1"]
    extra = body.append(party.Neg, [body.args[0]])
    body.ops += [extra] * (MAX_OPS // 2)
    with pytest.raises(MpccError, match="allowed are"):
        inline(module)


def test_functions_that_nothing_calls_can_be_dropped():
    module = module_of(TEXT)
    assert not drop_uncalled(module)
    module.main.ops = module.main.ops[:1]
    assert drop_uncalled(module)
    assert not called(module)
