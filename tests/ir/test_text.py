"""The text form: round trips of every op, and errors that point at the right place."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from examples.blazeface import model as blazeface
from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.ir.core import Op
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.dot import to_dot
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from tests.ir.samples import AWKWARD, ROWS, SAMPLES, Maker


def same(a, b) -> None:
    """Structural equality, found out without the printer."""
    assert a.level == b.level
    assert a.attrs == b.attrs
    assert list(a.functions) == list(b.functions)
    for name, function in a.functions.items():
        same_function(function, b.functions[name])


def same_function(f, g) -> None:
    numbers = [dict(zip(h.args, range(len(h.args)), strict=True)) for h in (f, g)]
    assert [x.type for x in f.args] == [x.type for x in g.args]
    for p, q in zip(f.ops, g.ops, strict=True):
        for table, op in zip(numbers, (p, q), strict=True):
            for result in op.results:
                table[result] = len(table)
        assert p.definition is q.definition
        assert p.attrs == q.attrs
        assert [type(v) for v in p.attrs.values()] == [type(v) for v in q.attrs.values()]
        assert p.loc == q.loc
        assert [v.type for v in p.results] == [v.type for v in q.results]
        assert [numbers[0][v] for v in p.operands] == [numbers[1][v] for v in q.operands]
        assert (p.body is None) == (q.body is None)
        if p.body is not None:
            same_function(p.body, q.body)
    assert [numbers[0][v] for v in f.returns] == [numbers[1][v] for v in g.returns]


@pytest.mark.parametrize("level", SAMPLES)
def test_every_op_round_trips(level):
    module = SAMPLES[level]()
    # Calls: tests/ir/test_calls.py.
    names = {op.name for op in module.main.ops}
    assert names == set(DIALECTS[level].operations) - {f"{level}.call"}
    verify(module, DIALECTS[level])
    text = print_module(module)
    parsed = parse_module(text, DIALECTS)
    same(module, parsed)
    assert print_module(parsed) == text


def test_blazeface_round_trips():
    module = import_onnx(blazeface.model_path()).module
    text = print_module(module)
    parsed = parse_module(text, DIALECTS)
    verify(parsed, DIALECTS["tensor"])
    same(module, parsed)
    assert print_module(parsed) == text
    assert text.count("tensor.conv") == 37


@pytest.mark.parametrize("level", SAMPLES)
def test_clone_shares_nothing_and_prints_the_same(level):
    module = SAMPLES[level]()
    copy = module.clone()
    assert print_module(copy) == print_module(module)
    assert not {id(op) for op in module.main.ops} & {id(op) for op in copy.main.ops}


VALID = """\
module tensor {
  func @main() {
    %0 = tensor.input() {name = "x", shape = [2, 3]} : tensor<2x3xf32, client>
    %1 = tensor.relu(%0) : tensor<2x3xf32, client> loc("act")
    tensor.output(%1) {name = "y"}
  }
}
"""


def _named(names: tuple[str, ...]) -> Callable[[Op], bool]:
    return lambda op: op.name in names


def test_a_part_keeps_its_lines_and_names():
    """Some ops only, with their bodies, under the names that they have in the whole text."""
    module = SAMPLES["party"]()
    lines = print_module(module).splitlines()
    for names in (("party.fused",), ("party.transfer", "party.output"), ()):
        shown = print_module(module, _named(names)).splitlines()
        assert [x for x in lines if x in shown] == shown
        assert shown[:2] + shown[-2:] == lines[:2] + lines[-2:]
        count = sum(op.name in names for op in module.main.ops)
        inside = 4 if "party.fused" in names else 0
        assert len(shown) == 4 + count + inside
    assert print_module(module, lambda op: True).splitlines() == lines


def test_a_part_as_a_graph_has_the_edges_between_its_nodes():
    module = SAMPLES["party"]()
    whole, none = to_dot(module), to_dot(module, lambda op: False)
    assert len(none.splitlines()) == 3
    at = {i for i, op in enumerate(module.main.ops) if op.name != "party.transfer"}
    part = to_dot(module, lambda op: op.name != "party.transfer")
    assert {int(n) for n in re.findall(r"^  n(\d+) \[label", part, re.MULTILINE)} == at
    edges = set(re.findall(r"n\d+ -> n\d+", whole))
    kept = {e for e in edges if {int(n) for n in re.findall(r"\d+", e)} <= at}
    assert set(re.findall(r"n\d+ -> n\d+", part)) == kept < edges


def test_comments_and_spacing_are_free():
    text = "// head\n" + VALID.replace(" = ", "=").replace("    ", "\t").replace("{name", "{ name")
    same(parse_module(VALID, DIALECTS), parse_module(text, DIALECTS))


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        ("module tensor", "module tense", "1:8", "unknown level 'tense'; known: tensor, secure"),
        ("module tensor", "mod tensor", "1:1", "expected 'module'"),
        ("@main", "@first", "8:1", "the module has no function @main"),
        ("tensor.relu", "tensor.reluu", "4:10", "unknown operation 'tensor.reluu' at level tensor"),
        ("tensor.relu", "secure.add", "4:10", "unknown operation 'secure.add' at level tensor"),
        ("relu(%0)", "relu(%7)", "4:22", "%7 is not defined here"),
        ("relu(%0)", "relu()", "4:5", "tensor.relu takes 1 operands, not 0"),
        ("relu(%0)", "relu(%0 %0)", "4:25", "expected ','"),
        ("%1 = tensor.relu", "%0 = tensor.relu", "4:5", "%0 is defined twice"),
        ("%1 = tensor.relu", "%1, %2 = tensor.relu", "4:5", "has 1 results, not 2"),
        ("tensor<2x3xf32, client> loc", "tensor<3x2xf32, client> loc", "4:5", "the text says"),
        ("tensor<2x3xf32, client> loc", "tensor<2x3xf32, Eve> loc", "4:28", "visibility 'Eve'"),
        ("tensor<2x3xf32, client> loc", "tensor<2yxf32, client> loc", "4:28", "invalid literal"),
        ("[2, 3]", "[2, -3]", "3:5", "dimensions must be positive"),
        ("[2, 3]", '"2x3"', "3:5", "attribute shape must be of kind ints"),
        ("[2, 3]", "[2, 3", "3:51", "expected ','"),
        ("[2, 3]", "[" * 20 + "2, 3", "3:63", "attribute nested too deeply"),
        ('{name = "x", ', '{name = "x", name = "x", ', "3:38", "attribute name is given twice"),
        ('{name = "x", ', "{", "3:5", "needs the attribute name"),
        ('{name = "x", ', '{nome = "x", ', "3:5", "has no attribute nome"),
        ('"x"', '"\\x"', "3:33", "bad string"),
        ('loc("act")', 'loc("act"', "5:5", "expected ')'"),
        ('loc("act")', "§", "4:52", "unexpected character"),
        ("}\n}\n", "}\n", "7:1", "expected 'func'"),
        ("}\n}\n", "}\n}\n}\n", "8:1", "expected a end"),
    ],
)
def test_errors_have_a_caret_at_the_place(old, new, place, what):
    assert VALID.count(old) >= 1
    text = VALID.replace(old, new, 1)
    with pytest.raises(MpccError) as caught:
        parse_module(text, DIALECTS, "m.mpcc")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E-ir-parse"
    assert what in diagnostic.what
    source, line, column = diagnostic.where.split(":")
    assert source == "m.mpcc"
    assert f"{line}:{column}" == place
    _, shown, caret = diagnostic.what.rsplit("\n", 2)
    assert shown == (text + "\n").split("\n")[int(line) - 1]
    assert caret == " " * (int(column) - 1) + "^"


@pytest.mark.parametrize(
    ("inside", "what"),
    [
        ('%0 = tensor.input() {name = "x", shape = [' + "9" * 5000 + "]}", "number too long"),
        ("%0 = tensor.relu(" + "[" * 100_000, "expected a value"),
        ("tensor.relu() body() {" * 5000, "bodies nested too deeply"),
        ("%" + "1" * 5000, "expected '='"),
    ],
)
def test_excess_is_refused(inside, what):
    with pytest.raises(MpccError, match=what) as caught:
        parse_module("module tensor { func @main() { " + inside, DIALECTS)
    assert caught.value.code == "E-ir-parse"


def texts(level) -> list[str]:
    """Of the samples; rows of tensor operators, which share no values, one by one."""
    if level != "tensor":
        return [print_module(SAMPLES[level]())]
    found = []
    for row in ROWS:
        maker = Maker(level)
        row.append(maker, AWKWARD)
        found.append(print_module(maker.module))
    return found


@pytest.mark.parametrize("level", SAMPLES)
def test_damaged_text_is_refused_or_means_something(level):
    """Characters deleted, doubled or exchanged: an MpccError, or a module that verifies."""
    whole = texts(level)
    times = max(300, 2 * len(whole))
    rng = np.random.default_rng(11)
    codes = []
    for number in range(times):
        text = whole[number % len(whole)]
        at, to = sorted(rng.integers(0, len(text), 2))
        to = min(to, at + 6)
        changed = (
            text[:at] + text[to:],
            text[:to] + text[at:],
            text[:at] + text[to] + text[at + 1 :],
        )[rng.integers(3)]
        try:
            verify(parse_module(changed, DIALECTS), DIALECTS[level])
        except MpccError as error:
            codes.append(error.code)
    assert len(codes) > times // 2
    assert all(code.startswith("E-ir-") for code in codes)
