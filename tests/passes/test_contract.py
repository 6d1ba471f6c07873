"""Agreement of decisions: what is one, how it is counted, and that formats are refused without."""

import math
from typing import Any

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir.interp import real
from mpcc.ir.phi import FormatOptions
from mpcc.passes.analyse import analyse
from mpcc.passes.analysis import contract
from mpcc.passes.analysis.contract import Rule, lower_end, rules
from mpcc.passes.analysis.decisions import Program
from mpcc.passes.declared_formats import analyse_declared
from tests.ir.samples import Maker

LOOSE = 0.5


def linear(rows=1, features=8, classes=5):
    """Scores of a linear model."""
    o = Maker("tensor")
    x = o("input", name="x", shape=(rows, features))
    w = o("weight", name="w", shape=(features, classes))
    o("output", o("matmul", x, w), name="y", owner="client")
    return o.module


def weights(rng, features=8, classes=5):
    return {"w": rng.normal(size=(features, classes)).astype(np.float32)}


def test_what_is_decided_follows_from_the_architecture():
    o = Maker("tensor")
    x = o("input", name="x", shape=(4, 3))
    one = o("slice", x, starts=(0, 0), limits=(4, 1), strides=(1, 1))
    flat = o("reshape", one, shape=(4,))
    made = {
        "scores": x,
        "single": one,
        "probability": o("reshape", o("sigmoid", one), shape=(4, 1, 1)),
        "clipped": o("clip", one, lo=0.0, hi=1.0),
        "positive": o("clip", one, lo=0.0, hi=2.0),
        "softmax": o("softmax", x, axis=1),
        "position": o("argmax", x, axis=1, keepdims=False),
        "whole": o("floor", x),
        "less": o("less", x, x),
        "number": o("to_real", o("less", x, x)),
        "batch": flat,
    }
    for name, value in made.items():
        o("output", value, name=name, owner="client")
    assert rules(o.module, batch=4) == {
        "scores": Rule("largest", 3),
        "single": Rule("side"),
        "probability": Rule("side", threshold=0.5),
        "clipped": Rule("side", threshold=0.5),
        "positive": Rule("side"),
        "softmax": Rule("largest", 3),
        "position": Rule("equal"),
        "whole": Rule("equal"),
        "less": Rule("equal"),
        "number": Rule("equal"),
        "batch": Rule("side"),
    }
    assert rules(o.module)["batch"] == Rule("largest", 4)


def test_within_its_margin_no_row_changes_its_decision():
    rng = np.random.default_rng(0)
    for rule in (Rule("largest", 6), Rule("side"), Rule("side", threshold=0.5), Rule("equal")):
        values = rng.normal(size=(200, 6))
        values = np.rint(4 * values) if rule.kind == "equal" else values
        margin, chosen = rule.margin(values), rule.decide(values)
        width = values.size // len(margin)
        sign = rng.choice([-1.0, 1.0], (len(margin), width))
        moved = values.reshape(-1, width) + 0.999 * margin[:, None] * sign
        assert (rule.decide(moved) == chosen).all()
        # The worst move beyond it does.
        if rule.kind == "largest":
            away = np.where(np.arange(6) == chosen[:, None], -1.0, 1.0)
            beyond = values + 1.001 * margin[:, None] * away
            assert (rule.decide(beyond) != chosen).all()
        assert np.allclose(rule.error(moved, values.reshape(-1, width)), 0.999 * margin)


def test_lower_ends_are_those_of_clopper_and_pearson():
    # Of all n: the n-th root of 1 - confidence.
    for n in (1, 10, 64):
        assert lower_end(n, n) == pytest.approx(0.05 ** (1 / n), abs=1e-9)
    # One of n: 1 - confidence^(1/n).
    assert lower_end(1, 20) == pytest.approx(1 - 0.95 ** (1 / 20), abs=1e-9)
    # Published two-sided 90 % interval of 15 of 20 begins at 0.5444.
    assert lower_end(15, 20) == pytest.approx(0.5444, abs=5e-5)
    assert lower_end(0, 5) == lower_end(0, 0) == 0.0
    ends = [lower_end(k, 50) for k in range(51)]
    assert ends == sorted(ends)
    assert all(end < k / 50 for k, end in enumerate(ends) if k)


@pytest.mark.parametrize("choose", [analyse, analyse_declared])
def test_the_agreement_reported_is_that_of_the_program(choose):
    rng = np.random.default_rng(1)
    module, constants = linear(rows=3), weights(rng)
    samples = [{"x": rng.uniform(-0.1, 0.1, (3, 8))} for _ in range(20)]
    declared: dict[str, Any] = (
        {"disclose": "none", "fraction_bits": 4} if choose is analyse_declared else {}
    )
    options = FormatOptions(max_error=2.0, input_ranges={"x": (-1, 1)}, **declared)
    found = choose(module, constants, samples, options, 0.5)
    program = Program(module, constants, found.phi, options)
    agreeing, whole, error = 0, 0, 0.0
    for n, sample in enumerate(samples):
        have = program.run(sample, n).outputs["y"]
        want = real.run(module, constants, sample)["y"]
        same = have.argmax(axis=1) == want.argmax(axis=1)
        agreeing, whole = agreeing + int(same.sum()), whole + bool(same.all())
        error = max(error, float(np.abs(have - want).max()))
    report = found.private["agreement"]
    row = report["outputs"]["y"]
    assert (report["least"], report["inputs"]) == (0.5, "calibration")
    assert (row["rows"], row["samples"]) == (60, 20)
    assert (row["agreeing"], row["whole"]) == (agreeing, whole)
    assert 30 <= agreeing < 60
    assert row["error"] == pytest.approx(error)
    assert row["lower_end"] == lower_end(whole, 20)
    assert not row["close"][0]["agrees"]
    assert row["close"][0]["margin"] <= row["close"][0]["error"]


def test_an_agreement_asked_for_refines_the_formats():
    rng = np.random.default_rng(2)
    module, constants = linear(), weights(rng)
    samples = [{"x": rng.uniform(-1, 1, (1, 8))} for _ in range(60)]
    options = FormatOptions(max_error=2.0, input_ranges={"x": (-1, 1)})
    shares = {}
    for least in (None, 0.9, 1.0):
        found = analyse(module, constants, samples, options, least)
        row = found.private["agreement"]["outputs"]["y"]
        shares[least] = (found.phi.frac + found.phi.weight_frac, row["share"], row["samples"])
        assert least is None or row["share"] >= least
    assert shares[None][2] == 8
    assert shares[1.0][2] == 60
    assert shares[1.0][0] > shares[None][0]
    assert shares[1.0][1] == 1.0


def test_without_data_random_inputs_are_told_as_such():
    module, constants = linear(), weights(np.random.default_rng(3))
    found = analyse(module, constants, (), FormatOptions(), 0.5)
    report = found.private["agreement"]
    assert report["inputs"] == "random"
    assert report["outputs"]["y"]["samples"] == contract.RANDOM_SAMPLES


@pytest.mark.parametrize("choose", [analyse, analyse_declared])
def test_what_no_format_can_tell_apart_is_refused(choose):
    """Two classes have scores that differ by the last bits of a float, in half of the samples."""
    rng = np.random.default_rng(4)
    module, constants = linear(classes=2), weights(rng, classes=2)
    constants["w"][1:, 1] = constants["w"][1:, 0]
    samples = [{"x": rng.uniform(-1, 1, (1, 8))} for _ in range(40)]
    for sample in samples[::2]:
        sample["x"][0, 0] = 0.0
    for n, sample in enumerate(samples):
        sample["x"][0, 0] *= 1.0 if n % 2 else 0.0
    constants["w"][0] = [3.0, -3.0]
    # Not equal in floating point, by less than any format has.
    constants["w"][1:, 1] += np.float32(1e-7) * rng.choice([-1, 1], 7).astype(np.float32)
    declared: dict[str, Any] = {"disclose": "none"} if choose is analyse_declared else {}
    options = FormatOptions(input_ranges={"x": (-1, 1)}, **declared)
    with pytest.raises(MpccError) as caught:
        choose(module, constants, samples, options, 0.99)
    (problem,) = caught.value.diagnostics
    assert problem.code == "E-range-agreement"
    assert "of 40 decisions on y (largest of 2) are the float model's" in problem.what
    assert "over 40 samples" in problem.what
    assert "99.00% is asked for" in problem.what
    named = [
        int(text.split(":")[0])
        for text in problem.where.split("by sample: ")[1].split(", ")
        if ": margin" in text
    ]
    assert named
    assert all(n % 2 == 0 for n in named)
    assert "--min-agreement" in problem.fix
    assert "error smaller than" in problem.fix
    # What it says can be had.
    share = float(problem.fix.split("--min-agreement ")[1])
    assert choose(module, constants, samples, options, share).phi


@pytest.mark.parametrize("share", [0.0, -1.0, 1.01, math.nan])
def test_no_share(share):
    with pytest.raises(MpccError, match="E-option-agreement"):
        analyse(linear(), weights(np.random.default_rng(0)), (), FormatOptions(), share)
