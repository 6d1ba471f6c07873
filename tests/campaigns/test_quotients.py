"""Quotients of wide numbers: as near to the real quotient as the range rules say, or refused."""

import math

import numpy as np
import pytest

from mpcc import api
from mpcc.errors import MpccError
from mpcc.ir.interp import fixed
from mpcc.ir.ops.tensor.normal import QUOTIENT_BITS, quotient
from mpcc.ir.phi import FormatOptions
from mpcc.passes.declared_formats import declared_phi
from mpcc.passes.lower_tensor_to_secure import build_secure
from mpcc.verify_program import declared_policy, verify_artifact
from tests.frontend.models import model, node
from tests.ir.samples import Maker

ROUNDINGS = ("floor", "worst", "random")


def orders(rng, shape, bits, frac):
    """Multiples of a unit of all orders of magnitude below 2^bits, ends and powers of four first.

    The largest ones often: they and the smallest divisors lose most.
    """
    bound, unit = 2.0**bits, 2.0**-frac
    x = np.exp2(rng.uniform(-frac, bits, shape))
    powers = np.exp2(np.arange(-frac, bits))
    x.flat[: 3 * len(powers)] = np.concatenate([powers, powers - unit, powers + unit])[: x.size]
    x = np.where(rng.random(shape) < 0.2, bound, x)
    x = np.where(rng.random(shape) < 0.1, 2.0 ** -min(QUOTIENT_BITS, frac), x)
    x = np.clip(np.rint(x / unit) * unit, 0, bound)
    return x * rng.choice([-1, 1], shape)


def wanted(a, b, frac):
    """Quotients where b counts as at least 2^-10 or a unit; in binary64, of exact numbers."""
    least = 2.0 ** -min(QUOTIENT_BITS, frac)
    return a / np.where(np.abs(b) < least, np.where(b < 0, -least, least), b)


class Division:
    """One division at declared formats."""

    def __init__(self, frac, bits, shapes):
        o = Maker("tensor")
        values = [o("input", name=f"v{i}", shape=s) for i, s in enumerate(shapes)]
        op = "div" if len(values) == 2 else "reciprocal"
        o("output", o(op, *values), name="y", owner="client")
        ranges = {f"v{i}": (-(2.0**b), 2.0**b) for i, b in enumerate(bits)}
        options = FormatOptions(disclose="none", fraction_bits=frac, input_ranges=ranges, ring=64)
        self.phi = declared_phi(o.module, options)
        self.secure = build_secure(o.module, self.phi, options)
        self.frac = frac

    def excess(self, arrays, rounding):
        """Largest error as a part of what is promised."""
        inputs = {f"v{i}": x for i, x in enumerate(arrays)}
        found = fixed.simulate(self.secure, {}, inputs, rounding, seed=3)
        assert not found.overflows
        clamps = dict(self.phi.clamps)
        arrays = [
            np.clip(x, -(2.0 ** clamps.get(i, 99)), 2.0 ** clamps.get(i, 99))
            for i, x in enumerate(arrays)
        ]
        want = wanted(arrays[0] if len(arrays) == 2 else 1.0, arrays[-1], self.frac)
        relative = max(2.0**-16, 2.0 ** -(self.frac + 2)) + 2.0**-24
        error = np.abs(found.outputs["y"].astype(np.float64) - want)
        return float((error / (2 * 2.0**-self.frac + relative * np.abs(want))).max())


# Dividends below 2^a by divisors below 2^b. At all of these the digits of the inverse alone are too
# few: its errors reached 62 units (16, 12, 12), 4e6 (20, 16, 16).
WIDE = [(10, 16, 16), (16, 12, 12), (16, 16, 16), (16, 4, 30), (20, 8, 8), (20, 12, 12), (8, 20, 8)]


@pytest.mark.parametrize(("frac", "a", "b"), WIDE)
def test_wide_operands_keep_their_digits(frac, a, b):
    case = Division(frac, (a, b), [(4000,), (4000,)])
    assert not case.phi.clamps
    rng = np.random.default_rng(11)
    arrays = [orders(rng, (4000,), bits, frac) for bits in (a, b)]
    for rounding in ROUNDINGS:
        assert case.excess(arrays, rounding) <= 1


@pytest.mark.parametrize(("frac", "b"), [(10, 30), (16, 30), (16, 36), (20, 34), (6, 44)])
def test_inverses_of_wide_numbers_keep_their_digits(frac, b):
    """Errors reached 8800 units (16, 30), half of a quotient (16, 36)."""
    case = Division(frac, (b,), [(4000,)])
    x = orders(np.random.default_rng(12), (4000,), b, frac)
    for rounding in ROUNDINGS:
        assert case.excess([x], rounding) <= 1


def test_any_formats():
    """Every way to divide, rows by one divisor included: good, or refused for want of room."""
    rng, ways, codes = np.random.default_rng(13), set(), set()
    for _ in range(60):
        frac, a, b = (int(rng.integers(*ends)) for ends in ((4, 24), (-3, 30), (-3, 30)))
        if frac + max(a, b) > 54:
            continue
        shapes = [(10, 40), ((10, 1), (10, 40))[rng.integers(2)]]
        try:
            case = Division(frac, (a, b), shapes)
        except MpccError as error:
            codes |= {d.code for d in error.diagnostics}
            continue
        arrays = [orders(rng, s, bits, frac) for s, bits in zip(shapes, (a, b), strict=True)]
        if not case.phi.clamps:
            how = quotient(frac, *(bits for _, bits in case.phi.ranges))
            assert not isinstance(how, int)
            ways.add((how.kept is None, how.second is None))
        assert case.excess(arrays, ROUNDINGS[rng.integers(3)]) <= 1, (frac, a, b)
    assert len(ways) == 3
    assert codes == {"E-range-fit"}


def test_what_has_no_room_is_clamped_before_it_is_divided():
    o = Maker("tensor")
    a, b = (o("input", name=n, shape=(40,)) for n in "ab")
    wide = [o("scale", x, factor=1000.0) for x in (a, b)]
    o("output", o("div", *wide), name="y", owner="client")
    options = FormatOptions(
        disclose="none",
        fraction_bits=16,
        input_ranges={"a": (-1000, 1000), "b": (-1000, 1000)},
        ring=64,
    )
    phi = declared_phi(o.module, options)
    assert [i for i, _ in phi.clamps] == [2, 3]
    secure = build_secure(o.module, phi, options)
    rng = np.random.default_rng(14)
    x = {n: np.clip(orders(rng, (40,), 10, 16), -1000, 1000) for n in "ab"}
    found = fixed.simulate(secure, {}, x, "worst")
    assert not found.overflows
    ends = [np.clip(1000 * v, -1024, 1024) for v in x.values()]
    want = wanted(ends[0], ends[1], 16)
    error = np.abs(found.outputs["y"] - want)
    assert (error <= 2 * 2.0**-16 + 2.0**-15.9 * np.abs(want)).all()


def test_the_stated_way_has_room():
    """Whatever :func:`quotient` gives, what is truncated has 61 bits at most; exactly counted."""
    for frac in range(4, 29):
        for a in range(-8, 40, 3):
            for b in range(-8, 40, 3):
                how = quotient(frac, a, b, a + QUOTIENT_BITS)
                if isinstance(how, int):
                    assert how > 0
                    continue
                start = max(0, frac - 10)
                buckets = max(1, math.ceil((max(1, b + frac) - start) / 2))
                top = start - frac + 2 * (buckets - 1)
                sizes = [a + frac + how.digits + 3] if how.kept is None else []
                if how.kept is not None:
                    sizes.append(a + QUOTIENT_BITS + frac + how.kept)
                elif how.second is not None:
                    sizes.append(a + 1 + how.first + buckets)
                    sizes.append(a + QUOTIENT_BITS + 1 + max(top, 0) + how.second)
                else:
                    sizes.append(a + QUOTIENT_BITS + 1 + max(top, 0) + how.first)
                assert max(sizes) <= 61


@pytest.fixture(scope="module", params=[(14, 8, True), (14, 20, False)])
def program(request):
    """A quotient whose power is multiplied in once, or twice; rows have a divisor each, or not."""
    bits, other, same = request.param
    shapes = {"a": (3, 5), "b": (3, 5) if same else (3, 1)}
    made = model([node("Div", ["a", "b"], ["y"])], shapes, {"y": 2}).SerializeToString()
    ranges = {"a": (-(2.0**bits), 2.0**bits), "b": (-(2.0**other), 2.0**other)}
    formats = FormatOptions(
        disclose="none", fraction_bits=14, input_ranges=ranges, ring=64, max_error=2.0**11
    )
    compiled = api.compile(made, options=api.CompileOptions(formats=formats, local="none"))
    rng = np.random.default_rng(15)
    inputs = {n: orders(rng, s, b, 12).astype(np.float32) for (n, s), b in
              zip(shapes.items(), (bits, other), strict=True)}  # fmt: skip
    return compiled, inputs


def test_the_leak_checker_accepts_it(program):
    artifact = program[0].artifact
    report = verify_artifact(artifact, declared_policy(artifact.secure_module))
    assert report.all_problems == ()


@pytest.mark.parametrize("engine", ["native", "party-interpreter"])
def test_three_parties_promise_the_same(program, engine):
    compiled, inputs = program
    run = api.run_local(compiled.artifact, compiled.weights, inputs, engine=engine, deadline=60.0)
    a, b = (x.astype(np.float64) for x in inputs.values())
    want = wanted(a, b, 14)
    error = np.abs(run.outputs["y"] - want)
    assert (error <= 2 * 2.0**-14 + 2.0**-15.9 * np.abs(want)).all()
