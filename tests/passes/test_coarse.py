"""Comparisons that leave out low bits: what they may get wrong, and how many bits are left out."""

from dataclasses import replace

import numpy as np
import pytest

from mpcc import api
from mpcc.compiler import phi_of
from mpcc.errors import MpccError
from mpcc.ir.analysis.bounds import bound
from mpcc.ir.core import Module
from mpcc.ir.define import InferenceError
from mpcc.ir.interp.fixed import simulate
from mpcc.ir.ops import secure
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.options import CompileOptions
from tests.frontend.models import model, node

FRAC, WIDTH, COARSE = 6, 14, 5


def program(coarse=COARSE, maximum=False):
    """relu(x), or max(x, z) = z + relu(x - z)."""
    module = Module("secure")
    main = module.main
    shape = (400,)
    code = {
        "owner": "client",
        "shape": shape,
        "ring": 64,
        "frac": FRAC,
        "width": WIDTH,
        "lo": -100.0,
        "hi": 100.0,
    }
    x = main.append(secure.Input, [], {**code, "name": "x"}).result
    wide = {"width": WIDTH + 1}
    if maximum:
        z = main.append(secure.Input, [], {**code, "name": "z"}).result
        y = main.append(secure.Sub, [x, z], wide).result
    else:
        y = x
    bit = main.append(secure.Negative, [y], {"coarse": coarse}).result
    y = main.append(secure.Select, [bit, y], {"invert": True, **wide}).result
    if maximum:
        y = main.append(secure.Add, [z, y], {"width": WIDTH + 2}).result
    main.append(secure.Reveal, [y], {"name": "y", "owner": "client"})
    return module


def inputs(seed, *names):
    """Real numbers, many of them near zero or near each other."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(-90, 90, 400)
    base[:200] = rng.uniform(-1, 1, 200)
    return {n: base + rng.uniform(-1, 1, 400) * (n == "z") for n in names}


@pytest.mark.parametrize("maximum", [False, True])
def test_errors_are_below_the_bits_that_are_left_out_and_within_the_bound(maximum):
    names = ("x", "z") if maximum else ("x",)
    module, given = program(maximum=maximum), inputs(3, *names)
    limit = (2**COARSE - 1) * 2.0**-FRAC
    (stated,) = bound(module, {}).values()
    want = np.maximum(given["x"], given.get("z", 0.0))
    worst = 0.0
    for rounding in ("floor", "worst", "random"):
        run = simulate(module, {}, given, rounding)
        error = np.abs(run.outputs["y"] - want).max()
        assert error <= min(limit + 2.0**-FRAC, stated.error)
        if not maximum:
            assert run.outputs["y"].min() >= 0
        worst = max(worst, error)
    assert worst > limit / 2, "the inputs are near the jump"
    assert stated.error < limit + 4 * 2.0**-FRAC
    runs = [simulate(module, {}, given, "random", seed=s).outputs["y"] for s in range(4)]
    assert max(np.abs(a - runs[0]).max() for a in runs) <= stated.spread
    exact = simulate(program(0, maximum), {}, given, "floor")
    assert np.abs(exact.outputs["y"] - want).max() <= 2.0**-FRAC


@pytest.mark.parametrize(("coarse", "width"), [(-1, 10), (11, 10), (3, 63)])
def test_bits_that_are_not_there_are_refused(coarse, width):
    module = Module("secure")
    attrs = {"name": "w", "owner": "model", "shape": (3,), "ring": 64, "frac": 0, "width": width}
    w = module.main.append(secure.Weight, [], attrs).result
    with pytest.raises(InferenceError, match="coarse"):
        module.main.append(secure.Negative, [w], {"coarse": coarse})


def dense(activation):
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(0, 0.2, (20, 30)).astype(np.float32),
        "v": rng.normal(0, 0.2, (30, 4)).astype(np.float32),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="first"),
        node(activation, ["a"], ["b"], name="act"),
        node("MatMul", ["b", "v"], ["y"], name="second"),
    ]
    return model(nodes, {"x": (8, 20)}, {"y": 2}, constants).SerializeToString()


def test_the_search_leaves_out_what_the_budget_allows():
    # Eight fraction bits are the fewest there are, and more than this budget takes.
    formats = FormatOptions(input_ranges={"x": (-1.0, 1.0)}, max_error=0.25, ring=64)
    options = CompileOptions(formats=formats)
    compiled = api.compile(dense("Relu"), options=options)
    phi = phi_of(compiled.artifact)
    assert (phi.frac, phi.coarse) == (8, 5)
    assert max(compiled.private["measured_error"].values()) * 2 <= options.formats.max_error
    assert Phi.from_json(phi.to_json()) == phi
    assert phi.size_bits == replace(phi, coarse=0).size_bits + 4
    coarse = [
        op.attrs["coarse"] for op in compiled.artifact.secure_module.main.walk("secure.negative")
    ]
    assert coarse == [phi.coarse]
    # Declared formats leave nothing out: nobody measured what that would cost.
    exact = replace(options.formats, disclose="none", weight_range=1.0)
    other = api.compile(dense("Relu"), options=CompileOptions(formats=exact))
    assert phi_of(other.artifact).coarse == 0


def test_one_wrong_comparison_stays_within_half_of_the_budget():
    for budget in (2.0**-9, 2.0**-7, 2.0**-5):
        formats = FormatOptions(input_ranges={"x": (-1.0, 1.0)}, max_error=budget)
        phi = phi_of(api.compile(dense("Relu"), options=CompileOptions(formats=formats)).artifact)
        assert phi.coarse == 0 or 2.0 ** (phi.coarse - phi.frac) <= budget / 2


def test_models_without_such_comparisons_leave_out_nothing():
    assert phi_of(api.compile(dense("Sign")).artifact).coarse == 0


@pytest.mark.parametrize("text", ['"coarse":16', '"coarse":-1', '"coarse":0', '"coarse":true'])
def test_malformed_counts_are_refused(text):
    data = Phi("proved", 64, 16, 16, 1, coarse=3).to_json()
    with pytest.raises(MpccError, match="malformed"):
        Phi.from_json(data.replace('"coarse":3', text))
