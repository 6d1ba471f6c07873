"""Numbers of any size: quotients, roots, logarithms, softmax and normalisation in fixed point."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcc import cost
from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.ir.analysis.forms import declaration
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import fixed, real
from mpcc.ir.intervals import Interval, Rounding
from mpcc.ir.ops import secure, tensor
from mpcc.ir.phi import FormatOptions
from mpcc.ir.verify import verify
from mpcc.passes import pipeline
from mpcc.passes.analyse import analyse
from mpcc.passes.base import Checkpoint, Manager
from mpcc.passes.declared_formats import declared_phi
from mpcc.passes.lower_tensor_to_secure import build_secure
from mpcc.passes.lowerings.normal import not_negative
from mpcc.protocols import lower_program, protocol_named
from tests.frontend.models import model, node
from tests.ir.samples import Maker

DOCS = Path(__file__).resolve().parents[2] / "docs" / "numbers.md"


class Case:
    """One op on inputs in a declared range, at a declared number of fraction bits."""

    def __init__(self, op, shapes, bound, frac, ring=64, square=False, **attrs):
        o = Maker("tensor")
        values = [o("input", name=f"v{i}", shape=s) for i, s in enumerate(shapes)]
        if square:
            values = [o("mul", v, v) for v in values]
        o(op, *values, **attrs)
        self.op = o.module.main.ops[-1]
        o("output", self.op.result, name="y", owner="client")
        ranges = {f"v{i}": (-bound, bound) for i in range(len(shapes))}
        options = FormatOptions(disclose="none", fraction_bits=frac, input_ranges=ranges, ring=ring)
        self.module, self.frac, self.options = o.module, frac, options
        self.phi = declared_phi(self.module, options)
        self.secure = build_secure(self.module, self.phi, options)
        verify(self.secure, secure.DIALECT)

    def run(self, arrays, rounding):
        """Outputs; no value leaves its declared width."""
        inputs = {f"v{i}": a for i, a in enumerate(arrays)}
        found = fixed.simulate(self.secure, {}, inputs, rounding, seed=1)
        assert not found.overflows
        return found.outputs["y"].astype(np.float64)

    def bounds(self, arrays):
        """The interval that the declaration gives for exactly these operands."""
        attrs = self.op.attrs
        rounding = Rounding(2.0**-self.frac, 2.0 ** -(self.frac + 1))
        (found,) = (
            declaration(self.op).interval(attrs, [Interval(a, a) for a in arrays], rounding).results
        )
        return found


def sizes(rng, shape, bound, frac, *, signs=True):
    """Multiples of a unit of all orders of magnitude, with the ends of the range and zero."""
    units = np.exp2(rng.uniform(0, math.log2(bound) + frac, shape))
    x = np.minimum(np.floor(units), bound * 2.0**frac) * 2.0**-frac
    edges = [0.0, 2.0**-frac, 2.0 ** (1 - frac), bound, bound - 2.0**-frac, 0.5, 1.0, 2.0, 4.0]
    x.flat[: len(edges)] = edges
    # Powers of four, where one bucket ends, and their neighbours.
    powers = 4.0 ** np.arange(math.ceil(-frac / 2), math.floor(math.log2(bound) / 2))
    near = np.concatenate([powers, powers - 2.0**-frac, powers + 2.0**-frac])
    x.flat[len(edges) : len(edges) + len(near)] = near
    return x * rng.choice([-1, 1], shape) if signs else x


FORMATS = [(10, 64), (16, 64), (20, 64), (9, 32)]


@pytest.mark.parametrize(("frac", "ring"), FORMATS)
@pytest.mark.parametrize("op", ["reciprocal", "rsqrt", "sqrt", "log"])
@pytest.mark.parametrize("rounding", ["floor", "worst"])
def test_all_orders_of_magnitude(op, frac, ring, rounding):
    """Zero, negative numbers and the ends of the range included."""
    bound = 2.0**12 if ring == 64 else 2.0**8
    attrs = {"epsilon": 0.0} if op == "rsqrt" else {}
    case = Case(op, [(400,)], bound, frac, ring, **attrs)
    x = sizes(np.random.default_rng(2), (400,), bound, frac)
    y, bounds = case.run([x], rounding), case.bounds([x])
    # The output is rounded to binary32.
    slack = np.abs(y) * 2.0**-24
    assert (bounds.lo - slack <= y).all()
    assert (y <= bounds.hi + slack).all()


@pytest.mark.parametrize("op", ["rsqrt", "sqrt", "log"])
def test_products_keep_their_fraction(op):
    """Of a square, that is: a root is as accurate as of a number with twice the digits."""
    frac, bound = 14, 2.0**6
    attrs = {"epsilon": 0.0} if op == "rsqrt" else {}
    case = Case(op, [(400,)], bound, frac, square=True, **attrs)
    assert [o.name for o in case.secure.main.ops[1:2]] == ["secure.mul"]
    x = sizes(np.random.default_rng(3), (400,), bound, frac)
    y = case.run([x], "worst")
    with np.errstate(all="ignore"):
        (want,) = declaration(case.op).evaluate(case.op.attrs, x * x)
    # Where it is not cut off: 2^10 for an inverse root, the logarithm of some units.
    good = np.abs(x) >= 2.0 ** (-10 if op == "rsqrt" else -12)
    if op == "sqrt":
        good = np.abs(x) >= 0
    limit = 2.5 * 2.0**-frac + 2.0**-16 * np.abs(want)
    assert (np.abs(y - want) <= limit)[good].all()


def test_logarithms_down_to_minus_100_decibels():
    frac, bound = 20, 2.0**3
    case = Case("log", [(200,)], bound, frac, square=True)
    x = np.rint(2.0 ** np.random.default_rng(6).uniform(-16.8, 3, 200) * 2.0**frac) / 2.0**frac
    assert (x * x).min() < 1e-9
    for rounding in ("floor", "worst"):
        want = np.log(x * x)
        assert (np.abs(case.run([x], rounding) - want) <= 1e-5 + 2.0**-16 * np.abs(want)).all()


@pytest.mark.parametrize(("op", "bits"), [("reciprocal", 3), ("rsqrt", 1)])
def test_results_end_at_their_range(op, bits):
    """Where the range in Phi is smaller than what a small operand would give."""
    frac, attrs = 12, {"epsilon": 0.0} if op == "rsqrt" else {}
    case = Case(op, [(400,)], 16.0, frac, **attrs)
    ranges = tuple((i, min(b, bits) if i == 1 else b) for i, b in case.phi.ranges)
    narrow = build_secure(case.module, replace(case.phi, ranges=ranges), case.options)
    x = np.abs(sizes(np.random.default_rng(8), (400,), 16.0, frac))
    for rounding in ("floor", "worst"):
        found = fixed.simulate(narrow, {}, {"v0": x}, rounding)
        assert not found.overflows
        with np.errstate(all="ignore"):
            want = np.minimum(x ** (-1.0 if op == "reciprocal" else -0.5), 2.0**bits)
        np.testing.assert_allclose(found.outputs["y"], want, atol=2.5 * 2.0**-frac, rtol=2.0**-14)


def test_quotients_of_all_orders_of_magnitude():
    frac, bound, rng = 12, 2.0**8, np.random.default_rng(4)
    case = Case("div", [(30, 1), (40,)], bound, frac)
    a, b = sizes(rng, (30, 1), 4.0, frac), sizes(rng, (40,), bound, frac)
    for rounding in ("floor", "worst"):
        y, bounds = case.run([a, b], rounding), case.bounds([a, b])
        slack = np.abs(y) * 2.0**-24
        assert (bounds.lo - slack <= y).all()
        assert (y <= bounds.hi + slack).all()


def test_a_divisor_is_positive_if_the_architecture_says_so():
    """Then its sign is not computed."""
    o = Maker("tensor")
    x = o("input", name="x", shape=(3,))
    square, half = o("mul", x, x), o("relu", x)
    yes = [
        square,
        half,
        o("add", square, half),
        o("abs", x),
        o("reduce_sum", o("reshape", square, shape=(3, 1)), axes=(0,), keepdims=True),
        o("scale", square, factor=0.5),
    ]
    no = [x, o("mul", x, half), o("scale", square, factor=-1.0), o("add", square, x)]
    no.append(o("sub", o("scale", half, factor=2.0), square))
    # A series may round its smallest results below zero.
    no += [o("softmax", x, axis=0), o("sigmoid", x), o("exp", x)]
    deep = half
    for _ in range(3000):
        deep = o("add", deep, deep)
    assert [not_negative(v) for v in yes] == [True] * len(yes)
    assert [not_negative(v) for v in (*no, deep)] == [False] * (len(no) + 1)


SHAPES: dict[str, Any] = {
    "reciprocal": ([(40,)], {}),
    "div": ([(40,), (40,)], {}),
    "sqrt": ([(40,)], {}),
    "rsqrt": ([(40,)], {"epsilon": 1e-5}),
    "log": ([(40,)], {}),
    "softmax": ([(3, 40)], {"axis": 1}),
    "log_softmax": ([(3, 40)], {"axis": 1}),
    "normalize": (
        [(3, 40)],
        {"axes": (1,), "center": True, "epsilon": 4e-11, "exponent": 3},
    ),
}


@pytest.mark.parametrize("op", SHAPES)
@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize(("frac", "ring"), [(4, 64), (15, 64), (22, 64), (28, 64), (7, 32)])
def test_every_format_has_a_form(op, square, frac, ring):
    """The search of formats tries all that fit their ring; values stay in the declared widths."""
    (shapes, attrs), rng = SHAPES[op], np.random.default_rng(9)
    built, refused = 0, set()
    for bits in (-2, 3, 8, 14, 20):
        bound = 2.0**bits
        try:
            case = Case(op, shapes, bound, frac, ring, square, **attrs)
        except MpccError as error:
            # What does not fit the ring, before or behind.
            refused |= {d.code for d in error.diagnostics}
            continue
        built += 1
        arrays = [np.exp2(rng.uniform(-frac, bits, s)) * rng.choice([-1, 1], s) for s in shapes]
        arrays = [np.rint(np.clip(a, -bound, bound) * 2.0**frac) * 2.0**-frac for a in arrays]
        for rounding in ("floor", "worst"):
            case.run(arrays, rounding)
    assert built > 0
    assert refused <= {"E-range-fit"}


# --- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "epsilon"), [(384, 1e-12), (768, 1e-5)])
@pytest.mark.parametrize("frac", [12, 16])
def test_layer_norm_of_rows_of_any_size(count, epsilon, frac):
    """As in MiniLM and BERT: deviations from 2^-4 to 2^4, means of any size, a range of 2^6."""
    case = Case(
        "normalize", [(12, count)], 64.0, frac,
        axes=(1,), center=True, epsilon=count * epsilon, exponent=5,
    )  # fmt: skip
    rng = np.random.default_rng(5)
    deviation = np.exp2(rng.uniform(-4, 4, (12, 1)))
    x = np.clip(rng.normal(rng.uniform(-8, 8, (12, 1)), deviation, (12, count)), -64, 64)
    x = np.rint(x * 2.0**frac) * 2.0**-frac
    (want,) = declaration(case.op).evaluate(case.op.attrs, x)
    for rounding in ("floor", "random", "worst"):
        y, bounds = case.run([x], rounding), case.bounds([x])
        assert (bounds.lo <= y).all()
        assert (y <= bounds.hi).all()
        # Squares have about 17 bits behind the point, of which all rows' deviations keep 12.
        assert np.abs(y - want).max() <= 2.5 * 2.0**-frac + 2.0**-12 * np.abs(want).max()


def test_rows_without_a_deviation_stay_small():
    """Constant rows, and rows whose only deviation is a unit: never beyond the declared width."""
    frac, shape = 14, (4, 64)
    for epsilon in (0.0, 1e-12, 64e-5):
        case = Case(
            "normalize", [shape], 1000.0, frac, axes=(1,), center=True, epsilon=epsilon, exponent=3
        )
        x = np.zeros(shape)
        x[1], x[2, 3], x[3] = 1000.0, 2.0**-frac, 999.0
        x[3, 5] = -1000.0
        for rounding in ("floor", "worst"):
            y = case.run([x], rounding)
            assert np.abs(y).max() <= math.sqrt(2) * 8
            np.testing.assert_allclose(y[3], declaration(case.op).evaluate(case.op.attrs, x)[0][3],
                                       atol=2e-3)  # fmt: skip


@pytest.mark.parametrize(("frac", "ring"), [(10, 64), (16, 64), (20, 64), (9, 32)])
@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_rows_of_scores(op, frac, ring):
    """Wide and narrow rows, equal elements, one element far above or below all others."""
    bound = 512.0 if ring == 64 else 64.0
    case = Case(op, [(8, 128)], bound, frac, ring, axis=1)
    rng = np.random.default_rng(6)
    x = rng.normal(0, np.exp2(rng.uniform(-4, 6, (8, 1))), (8, 128))
    x[0], x[1], x[2, 7], x[3, 9] = 0.0, -bound, bound, -bound
    x = np.rint(np.clip(x, -bound, bound) * 2.0**frac) * 2.0**-frac
    (want,) = declaration(case.op).evaluate(case.op.attrs, x)
    for rounding in ("floor", "random", "worst"):
        y, bounds = case.run([x], rounding), case.bounds([x])
        slack = np.abs(y) * 2.0**-24
        assert (bounds.lo - slack <= y).all()
        assert (y <= bounds.hi + slack).all()
        assert np.abs(y - want).max() <= 3 * 2.0**-frac + 2.0**-20 * np.abs(want).max()
    if op == "softmax":
        np.testing.assert_allclose(y.sum(axis=1), 1, atol=128 * 2.0**-frac)


MASKS = [
    ("added", [node("Add", ["x", "m"], ["s"])]),
    ("added twice", [node("Add", ["x", "m"], ["a"]), node("Add", ["m", "a"], ["s"])]),
    ("added broadcast", [node("Unsqueeze", ["m", "axes"], ["b"]), node("Add", ["b", "x"], ["s"])]),
]


@pytest.mark.parametrize("number", [-1e4, -1e9, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize(("name", "before"), MASKS)
def test_masks_are_no_numbers(name, before, number):
    """What a model adds to scores that shall not count takes no range, and gives zeros."""
    mask = np.where(np.arange(8) % 3 == 0, number, 0).astype(np.float32)
    constants = {"m": mask} | ({"axes": np.array([0])} if "broadcast" in name else {})
    nodes = [*before, node("Softmax", ["s"], ["y"], axis=-1)]
    imported = import_onnx(model(nodes, {"x": (4, 8)}, {"y": 2}, constants).SerializeToString())
    checkpoint = Checkpoint(DIALECTS)
    module = Manager(pipeline.TENSOR, checkpoint).run(imported.module)
    weights = checkpoint.constants(imported.constants)
    phi = analyse(module, weights, (), FormatOptions(policy="proved")).phi
    assert not phi.clamps
    assert max(b for _, b in phi.ranges) <= 12
    x = np.random.default_rng(7).uniform(-8, 8, (4, 8))
    have = real.run(module, weights, {"x": x})["y"]
    want = np.exp(x) * (mask == 0)
    np.testing.assert_allclose(have, want / want.sum(axis=1, keepdims=True), atol=1e-12)


def test_a_large_scale_is_no_mask():
    """Of distances, as in a soft nearest neighbour: it stays what it is."""
    nodes = [
        node("Mul", ["x", "x"], ["d"]),
        node("Mul", ["d", "m"], ["s"]),
        node("Softmax", ["s"], ["y"], axis=-1),
    ]
    constants = {"m": np.array(-4000, np.float32)}
    imported = import_onnx(model(nodes, {"x": (2, 4)}, {"y": 2}, constants).SerializeToString())
    assert -4000 in [float(a) for a in imported.constants.values() if a.size == 1]
    x = np.random.default_rng(7).uniform(0, 0.1, (2, 4))
    want = np.exp(-4000 * x * x)
    have = real.run(imported.module, imported.constants, {"x": x})["y"]
    np.testing.assert_allclose(have, want / want.sum(axis=1, keepdims=True), atol=1e-12)


def test_a_spelled_out_softmax_is_one():
    """Exponentials over their sum: with the maximum subtracted before, or not."""
    stable = [
        node("ReduceMax", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["d"]),
        node("Exp", ["d"], ["e"]),
    ]  # fmt: skip
    for before in (stable, [node("Exp", ["x"], ["e"])]):
        nodes = [*before, node("ReduceSum", ["e", "axes"], ["t"]), node("Div", ["e", "t"], ["y"])]
        made = model(nodes, {"x": (3, 4)}, {"y": 2}, {"axes": np.array([1])})
        module = Manager(pipeline.TENSOR).run(import_onnx(made.SerializeToString()).module)
        names = [op.name.removeprefix("tensor.") for op in module.main.ops]
        assert names == ["input", "softmax", "output"]
    # Not the sum of these exponentials, nor along one axis.
    other = [
        [node("Exp", ["x"], ["e"]), node("ReduceSum", ["x", "axes"], ["t"])],
        [node("Exp", ["x"], ["e"]), node("ReduceSum", ["e"], ["t"])],
    ]
    for before in other:
        nodes = [*before, node("Div", ["e", "t"], ["y"])]
        made = model(nodes, {"x": (3, 4)}, {"y": 2}, {"axes": np.array([1])})
        module = import_onnx(made.SerializeToString()).module
        assert any(op.definition is tensor.Div for op in module.main.ops)


def spelled(exponent, axes, epsilon):
    """(x - mean) / sqrt(mean of (x - mean)^exponent + epsilon), as exporters wrote it."""
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["c"]),
        node("Pow", ["c", "two"], ["q"]), node("ReduceMean", ["q"], ["v"], axes=axes),
        *([node("Exp", ["e"], ["f"])] if epsilon == "computed" else []),
        node("Add", ["v", "f" if epsilon == "computed" else "e"], ["a"]),
        node("Sqrt", ["a"], ["r"]), node("Div", ["c", "r"], ["y"]),
    ]  # fmt: skip
    number = -11.5 if epsilon == "computed" else epsilon
    constants = {"two": np.float32(exponent), "e": np.float32(number)}
    return import_onnx(model(nodes, {"x": (3, 8)}, {"y": 2}, constants, 13).SerializeToString())


def test_a_spelled_out_layer_norm_is_one():
    imported = spelled(2, [-1], 1e-5)
    (op,) = (o for o in imported.module.main.ops if o.definition is tensor.Normalize)
    assert op.attrs["center"]
    assert op.attrs["axes"] == (1,)
    np.testing.assert_allclose(op.attrs["epsilon"], 8e-5, rtol=1e-6)
    assert [d.what for d in imported.disclosed] == ["exponent", "epsilon"]


def test_a_mean_over_other_axes_is_no_centre():
    (op,) = (o for o in spelled(2, [0], 1e-5).module.main.ops if o.definition is tensor.Normalize)
    assert not op.attrs["center"]
    assert op.attrs["axes"] == (0,)


@pytest.mark.parametrize("other", [(4, [-1], 1e-5), (2, [-1], "computed")])
def test_what_is_no_layer_norm_stays_a_quotient(other):
    """Other powers; a number that was computed from weights, which stays a secret."""
    other = spelled(*other)
    names = [op.name for op in other.module.main.ops]
    assert "tensor.normalize" not in names
    assert "tensor.div" in names
    assert [d.what for d in other.disclosed] == ["exponent"]


# --- costs ---------------------------------------------------------------------------------------

DOCUMENTED: dict[str, Any] = {
    "reciprocal": ("reciprocal", [(128,)], {}),
    "div": ("div", [(128,), (128,)], {}),
    "sqrt": ("sqrt", [(128,)], {}),
    "rsqrt": ("rsqrt", [(128,)], {"epsilon": 0.0}),
    "log": ("log", [(128,)], {}),
    "softmax": ("softmax", [(128, 128)], {"axis": 1}),
    "log_softmax": ("log_softmax", [(128, 128)], {"axis": 1}),
    "normalize": (
        "normalize",
        [(128, 384)],
        {"axes": (1,), "center": True, "epsilon": 384e-12, "exponent": 4},
    ),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_costs(name):
    """docs/numbers.md, Normalisation: rounds and bytes per element."""
    op, shapes, attrs = DOCUMENTED[name]
    case = Case(op, shapes, 16.0, 12, **attrs)
    for o in case.secure.main.ops:
        o.loc = "own" if o.name not in ("secure.input", "secure.reveal") else "other"
    party = lower_program(case.secure, protocol_named("rep3")).party
    (layer,) = (x for x in cost.count(party).layers if x.name == "own")
    size = layer.online.total_bytes / math.prod(shapes[0])
    row = re.search(rf"\| `{name}` \|[^|]+\| (\d+) \| (\d+) \|", DOCS.read_text("utf-8"))
    assert row is not None, f"{name}: {layer.online.rounds} rounds, {size} bytes"
    counted = (layer.online.rounds, size)
    for most, have in zip(map(int, row.groups()), counted, strict=True):
        # Not so much that a table of bounds would be useless.
        assert have <= most <= 1.2 * have + 1


def test_every_function_is_documented():
    assert {f"tensor.{op}" for op, _, _ in DOCUMENTED.values()} == {
        op.name for op in tensor.normal.OPERATIONS
    }
