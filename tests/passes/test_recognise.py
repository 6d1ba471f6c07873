"""Functions spelled out in arithmetic are found by what they compute, whatever their spelling."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mpcc import api
from mpcc.compiler import phi_of
from mpcc.errors import MpccError
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.ir.interp import real
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.text import print_module
from mpcc.options import CompileOptions
from mpcc.passes import pipeline
from mpcc.passes.base import Manager
from mpcc.passes.recognise import Recognise, recognised
from mpcc.passes.rules.patterns import PATTERNS
from tests.frontend.models import model, node

ROOT, SLOPE = math.sqrt(2), math.sqrt(2 / math.pi)
NUMBERS = {
    "two": 2.0,
    "half": 0.5,
    "one": 1.0,
    "three": 3.0,
    "root": ROOT,
    "inverse": 1 / ROOT,
    "slope": SLOPE,
    "cubic": 0.044715,
    "both": SLOPE * 0.044715,
    "quick": 1.702,
}
CONSTANTS = {name: np.array(value, np.float32) for name, value in NUMBERS.items()}

#: title of what is to be found, and lines of `operator operands -> result`; x goes in, y comes out.
SPELLINGS = {
    "torch": ("GELU", "Div x root a; Erf a b; Add b one c; Mul x c d; Mul d half y"),
    "half first": ("GELU", "Mul x half h; Mul x inverse a; Erf a b; Add one b c; Mul h c y"),
    "half inside": ("GELU", "Div x root a; Erf a b; Mul b half c; Add c half d; Mul d x y"),
    "multiplied out": ("GELU", "Div x root a; Erf a b; Mul b x c; Add c x d; Mul d half y"),
    "without half": ("twice GELU", "Div x root a; Erf a b; Add b one c; Mul x c y"),
    "tanh": (
        "GELU by tanh",
        "Pow x three p; Mul p cubic q; Add x q r; Mul r slope s; Tanh s t; Add t one u;"
        "Mul x half h; Mul h u y",
    ),
    "tanh, factored": (
        "GELU by tanh",
        "Mul x x p; Mul p both q; Add q slope r; Mul r x s; Tanh s t; Add t one u; Mul u x v;"
        "Mul v half y",
    ),
    "silu": ("SiLU", "Sigmoid x s; Mul s x y"),
    "quick": ("GELU by sigmoid", "Mul x quick a; Sigmoid a s; Mul x s y"),
    "mish": ("Mish", "Softplus x a; Tanh a t; Mul x t y"),
}

#: The same, but for one number or operand.
OTHERS = (
    "Div x two a; Erf a b; Add b one c; Mul x c d; Mul d half y",
    "Div x root a; Erf a b; Add b two c; Mul x c d; Mul d half y",
    "Div x root a; Erf a b; Add b one c; Mul z c d; Mul d half y",
    "Div z root a; Erf a b; Add b one c; Mul x c d; Mul d half y",
    "Mul x two a; Sigmoid a s; Mul x s y",
    "Softplus z a; Tanh a t; Mul x t y",
    "Sigmoid x s; Mul s s y",
)


def spelled(lines, x_first=""):
    """The model of a spelling; z is another input, and x may be computed before."""
    nodes = [
        node(op, operands, [out], name=f"n{i}")
        for i, (op, *operands, out) in enumerate(line.split() for line in lines.split(";"))
    ]
    inputs = {name: (2, 5) for name in ("x", "z") if f" {name} " in lines}
    used = {name for n in nodes for name in n.input}
    constants = {n: a for n, a in CONSTANTS.items() if n in used}
    if x_first:
        nodes = [node("Add", ["x0", "shift"], ["x"], name="before"), *nodes]
        inputs = {"x0" if name == "x" else name: shape for name, shape in inputs.items()}
        constants["shift"] = np.array([0.5, -0.25, 1, 0, 0.1], np.float32)
    return model(nodes, inputs, {"y": 2}, constants).SerializeToString()


def rewritten(data):
    imported = import_onnx(data)
    rows = recognised(imported.module, imported.constants)
    before = imported.module.clone()
    after = Recognise(tuple(r.row for r in rows)).run(imported.module).module
    return imported, rows, before, after


@pytest.mark.parametrize("behind_an_add", [False, True])
@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_are_found_and_mean_the_same(name, behind_an_add):
    title, lines = SPELLINGS[name]
    data = spelled(lines, "x0" if behind_an_add else "")
    imported, rows, before, after = rewritten(data)
    assert [PATTERNS[r.pattern].title for r in rows] == [title]
    functions = {op.name for op in after.main.ops} & {p.inner for p in PATTERNS}
    assert functions == set(), "what the function was made of is gone"
    x = {"x0" if behind_an_add else "x": np.linspace(-6, 6, 10).reshape(2, 5)}
    want = real.run(before, imported.constants, x)["y"]
    have = real.run(after, imported.constants, x)["y"]
    # Constants are binary32.
    np.testing.assert_allclose(have, want, atol=1e-6)


@pytest.mark.parametrize("lines", OTHERS)
def test_other_functions_stay(lines):
    assert rewritten(spelled(lines))[1] == ()


def test_constants_that_broadcast_are_no_part_of_a_function():
    lines = SPELLINGS["torch"][1].replace("half", "wide")
    nodes = [node(op, ins, [out]) for op, *ins, out in map(str.split, lines.split(";"))]
    constants: dict[str, np.ndarray] = {n: CONSTANTS[n] for n in ("root", "one")}
    constants |= {"wide": np.full((1, 1, 1), 0.5, np.float32)}
    data = model(nodes, {"x": (2, 5)}, {"y": 3}, constants).SerializeToString()
    # The product with it has an axis more; what is inside has not.
    assert [row.title for row in rewritten(data)[1]] == ["twice GELU"]


def test_expressions_that_share_parts_take_no_time():
    chain = ["Add x x s0", *(f"Add s{i} s{i} s{i + 1}" for i in range(11)), "Sigmoid s11 g"]
    more = ["Mul g s11 t0", *(f"Mul t{i} t{i} t{i + 1}" for i in range(11)), "Add t11 t11 y"]
    assert [row.title for row in rewritten(spelled(";".join([*chain, *more])))[1]] == ["SiLU"]


def test_a_part_that_others_use_stays_for_them():
    lines = "Div x root a; Erf a b; Add b one c; Mul x c d; Mul d half e; Add e b y"
    imported, rows, before, after = rewritten(spelled(lines))
    assert len(rows) == 1
    x = {"x": np.linspace(-3, 3, 10).reshape(2, 5)}
    np.testing.assert_allclose(
        real.run(after, imported.constants, x)["y"],
        real.run(before, imported.constants, x)["y"],
        atol=1e-6,
    )


@pytest.mark.parametrize("row", [(0, 0, 0), (99, 0, 0), (5, 9, 0), (5, 0, 99)])
def test_rows_of_another_model_are_refused(row):
    module = import_onnx(spelled(SPELLINGS["torch"][1])).module
    with pytest.raises(MpccError) as caught:
        Recognise((row,)).run(module)
    assert caught.value.code == "E-phi-mismatch"


def test_the_choice_is_in_phi_and_needs_no_values():
    data = spelled(SPELLINGS["torch"][1])
    compiled = api.compile(data)
    phi = phi_of(compiled.artifact)
    (row,) = phi.patterns
    assert Phi.from_json(phi.to_json()) == phi
    assert phi.size_bits == replace(phi, patterns=()).size_bits + 2 * 24 + 8 + 24
    assert compiled.artifact.disclosed == ["GELU: recognised by its constants 0.707107, 1, 0.5"]
    # Other constants, the same rows: the same tensor program.
    other = import_onnx(spelled(SPELLINGS["torch"][1].replace("root", "two")))
    again = Manager(pipeline.to_tensor([row])).run(other.module)
    same = import_onnx(data)
    text = print_module(Manager(pipeline.to_tensor([row])).run(same.module))
    assert print_module(again).replace("two", "root") == text
    assert "tensor.gelu" in text


def test_where_nothing_may_be_disclosed_nothing_is_recognised():
    options = CompileOptions(formats=FormatOptions(disclose="none", max_error=0.5))
    compiled = api.compile(spelled(SPELLINGS["torch"][1]), options=options)
    assert phi_of(compiled.artifact).patterns == ()
    assert [op.name for op in compiled.artifact.tensor_module.main.walk("tensor.erf")]


@pytest.mark.parametrize("rows", [[[1, 1, 0]], [[1, 0]], [[1, 0, 256]], [[2, 0, 0], [1, 0, 0]], []])
def test_malformed_rows_are_refused(rows):
    phi = Phi("proved", 64, 16, 16, 1, patterns=((1, 0, 0),))
    data = phi.to_json().replace("[[1,0,0]]", str(rows).replace(" ", ""))
    with pytest.raises(MpccError, match="malformed"):
        Phi.from_json(data)
