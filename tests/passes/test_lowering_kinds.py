"""What the kinds promise, by operators that the dialect does not have.

Two results, any number of operands, bits, and a factor that the lowering makes: they print, parse,
verify, run and lower like those of the dialect.
"""

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir import shapes
from mpcc.ir.analysis.forms import ACT, BIT, CONST, PRODUCT, forms, fractions
from mpcc.ir.analysis.ranges import Intervals
from mpcc.ir.core import Module, Op
from mpcc.ir.define import Attr, Dialect
from mpcc.ir.interp import fixed, real
from mpcc.ir.intervals import Enclosure, Interval
from mpcc.ir.ops import secure, tensor
from mpcc.ir.ops.tensor import Kind, Monotone, TensorOperation
from mpcc.ir.ops.tensor.base import reals, result
from mpcc.ir.phi import Phi
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights
from mpcc.passes.lowerings import RULES, secure_type


class Halves(Monotone):
    """Both halves of the last axis."""

    name = "tensor.halves"
    kind = Kind.STRUCTURAL
    operands = ("x",)

    @classmethod
    def infer(cls, types, attrs):
        (x,) = reals(cls, types)
        half = result((*x.shape[:-1], x.shape[-1] // 2), x)
        return (half, half)

    @classmethod
    def evaluate(cls, attrs, *args):
        return tuple(np.split(args[0], 2, axis=-1))


class Join(Monotone):
    """Any number of operands along an axis."""

    name = "tensor.join"
    kind = Kind.STRUCTURAL
    operands = ("xs*",)
    attributes = {"axis": Attr("int", "axis")}

    @classmethod
    def infer(cls, types, attrs):
        xs = reals(cls, types)
        return (result(shapes.concat(cls, xs, attrs["axis"]), *xs),)

    @classmethod
    def evaluate(cls, attrs, *args):
        return (np.concatenate(args, axis=attrs["axis"]),)


class Exceeds(TensorOperation):
    """a > b, as bits."""

    name = "tensor.exceeds"
    kind = Kind.NONLINEAR
    operands = ("a", "b")

    @classmethod
    def infer(cls, types, attrs):
        a, b = reals(cls, types)
        return (result(a.shape, a, b, dtype="bool"),)

    @classmethod
    def evaluate(cls, attrs, *args):
        return (args[0] > args[1],)

    @classmethod
    def interval(cls, attrs, operands, rounding):
        a, b = operands
        return Enclosure((Interval(1.0 * (a.lo > b.hi), 1.0 * (a.hi > b.lo)),))


class Choose(TensorOperation):
    """a where the bit is one, b elsewhere."""

    name = "tensor.choose"
    kind = Kind.NONLINEAR
    operands = ("bit", "a", "b")

    @classmethod
    def infer(cls, types, attrs):
        a, b = reals(cls, types[1:])
        return (result(a.shape, a, b),)

    @classmethod
    def evaluate(cls, attrs, *args):
        return (np.where(*args),)

    @classmethod
    def interval(cls, attrs, operands, rounding):
        _, a, b = operands
        return Enclosure((Interval(np.minimum(a.lo, b.lo), np.maximum(a.hi, b.hi)),))


class Third(TensorOperation):
    """x / 3: the other factor is made by the lowering."""

    name = "tensor.third"
    kind = Kind.PRODUCT
    factors = 1
    operands = ("x",)

    @classmethod
    def infer(cls, types, attrs):
        return (types[0],)


def _halves(lowering, op, operands):
    (x,) = operands
    shape = secure_type(x).shape
    half, steps, head = shape[-1] // 2, (1,) * len(shape), shape[:-1]
    zeros = (0,) * len(head)
    boxes = [((*zeros, 0), (*head, half)), ((*zeros, half), shape)]
    return [
        lowering.emit(secure.Slice, [x], {"starts": lo, "limits": hi, "strides": steps}, op.loc)
        for lo, hi in boxes
    ]


def _join(lowering, op, operands):
    return [lowering.emit(secure.Concat, operands, op.attrs, op.loc)]


def _exceeds(lowering, op, operands):
    a, b = operands
    width = max(secure_type(a).width, secure_type(b).width) + 1
    difference = lowering.emit(secure.Sub, [b, a], {"width": width}, op.loc)
    return [lowering.emit(secure.Negative, [difference], {}, op.loc)]


def _choose(lowering, op, operands):
    bit, *both = operands
    width = max(secure_type(x).width for x in both)
    parts = [
        lowering.emit(secure.Select, [bit, x], {"invert": i == 1, "width": width}, op.loc)
        for i, x in enumerate(both)
    ]
    return [lowering.emit(secure.Add, parts, {"width": width}, op.loc)]


OPS = {Halves: _halves, Join: _join, Exceeds: _exceeds, Choose: _choose}
DIALECT = Dialect.of("tensor", [*tensor.DIALECT.operations.values(), *OPS, Third])
PHI = Phi("proved", 64, 12, 10, 1, (), ((0, 4), (2, 6)), ())


def network():
    """The first half is demanded, the second stays a product until an activation is beside it."""
    module = Module("tensor")
    add = module.main.append
    x = add(tensor.Input, (), {"name": "x", "shape": (1, 3)}).result
    w = add(tensor.Weight, (), {"name": "w", "shape": (3, 4)}).result
    p = add(tensor.MatMul, (x, w)).result
    first, second = add(Halves, (p,)).results
    c1, c2 = add(Halves, (add(tensor.Weight, (), {"name": "c", "shape": (1, 4)}).result,)).results
    r = add(tensor.Relu, (first,)).result
    j = add(Join, (second, r, c2), {"axis": 1}).result
    bit = add(Exceeds, (first, c1)).result
    y = add(Choose, (bit, r, c1)).result
    add(tensor.Output, (j,), {"name": "j"})
    add(tensor.Output, (y,), {"name": "y"})
    values = {
        "p": p,
        "first": first,
        "second": second,
        "c1": c1,
        "c2": c2,
        "r": r,
        "j": j,
        "bit": bit,
    }
    return module, values


def test_text_and_verifier():
    module, _ = network()
    verify(module, DIALECT)
    text = print_module(module)
    assert "%3, %4 = tensor.halves(%2) : tensor<1x2xf32, secret>, tensor<1x2xf32, secret>" in text
    parsed = parse_module(text, {"tensor": DIALECT})
    verify(parsed, DIALECT)
    assert print_module(parsed) == text
    with pytest.raises(MpccError, match="has 2 results, not 1"):
        parse_module(text.replace("%3, %4 = ", "%3 = "), {"tensor": DIALECT})


def test_forms_and_fractions():
    module, v = network()
    found = forms(module.main)
    want = {
        "p": PRODUCT,
        "first": PRODUCT,
        "second": PRODUCT,
        "c1": CONST,
        "c2": CONST,
        "r": ACT,
        "j": ACT,
        "bit": BIT,
    }
    assert {name: found.form[value] for name, value in v.items()} == want
    assert v["first"] in found.demanded
    assert v["second"] in found.demanded  # the relu, which it is joined with, is an activation
    assert v["p"] not in found.demanded
    assert {v["second"], v["c2"], v["p"]} <= found.exact
    assert v["first"] not in found.exact or v["first"] in found.demanded
    table = fractions(module.main, found, 12, 10)
    assert {n: table.get(value) for n, value in v.items()} == {
        "p": 22,
        "first": 22,
        "second": 22,
        "c1": None,
        "c2": None,
        "r": 12,
        "j": 12,
        "bit": None,
    }


def test_a_factor_of_the_lowering_has_the_weights_fraction():
    module = Module("tensor")
    x = module.main.append(tensor.Input, (), {"name": "x", "shape": (2,)}).result
    third = module.main.append(Third, (x,)).result
    found = forms(module.main)
    assert found.form[third] == PRODUCT
    assert x in found.demanded
    assert fractions(module.main, found, 12, 10)[third] == 22


def sample(seed):
    rng = np.random.default_rng(seed)
    weights = {"w": rng.uniform(-1, 1, (3, 4)), "c": rng.uniform(-1, 1, (1, 4))}
    return weights, {"x": rng.uniform(-8, 8, (1, 3))}


def test_intervals_of_all_results():
    module, v = network()
    weights, inputs = sample(0)
    intervals = Intervals(module, weights, 12, 10, {"x": (-8.0, 8.0)})
    for op in module.main.ops:
        intervals.step(op)
    seen: dict[Op, list[np.ndarray]] = {}
    real.run(module, weights, inputs, lambda op, a: seen.setdefault(op, []).append(a.copy()))
    for op, arrays in seen.items():
        for value, array in zip(op.results, arrays, strict=True):
            bounds = intervals.values[value]
            assert (bounds.lo <= array).all()
            assert (array <= bounds.hi).all()
    intervals.clip(v["first"].op, 1)
    assert intervals.values[v["second"]].magnitude <= 2.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rounding", ["floor", "worst", "random"])
def test_lowered(seed, rounding):
    module, _ = network()
    weights, inputs = sample(seed)
    program = build_secure(module, PHI, rules={**RULES, **OPS})
    verify(program, secure.DIALECT)
    # One truncation for the demanded half, none for the other before its output.
    amounts = [op.attrs["amount"] for op in program.main.walk("secure.truncate")]
    assert len(amounts) == 2
    have = fixed.run(program, encode_weights(weights, program), inputs, rounding)
    want = real.run(module, weights, inputs)
    for name, array in want.items():
        assert have[name].shape == array.shape
        assert np.abs(have[name] - array).max() < 32 * 2.0**-PHI.frac


def test_an_operator_without_a_rule_is_refused():
    module, _ = network()
    with pytest.raises(MpccError, match=r"E-lower-op: tensor\.halves has no secure form"):
        build_secure(module, PHI)


def test_an_operator_of_another_level_is_refused():
    module = Module("tensor")
    attrs = {"name": "w", "owner": "model", "shape": (1,), "frac": 8, "width": 9}
    module.main.append(secure.Weight, (), attrs)
    with pytest.raises(MpccError, match=r"E-lower-op: secure\.weight has no secure form"):
        forms(module.main)
