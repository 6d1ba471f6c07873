"""Every tensor operator on random and hostile inputs: ``benchmarks/campaigns.py``, kept small."""

import numpy as np
import pytest

from benchmarks.campaign_runs import Found, climbed, drawn, formatted
from benchmarks.campaigns import CASES, attack, main, subject
from mpcc.errors import MpccError
from mpcc.ir.core import Module
from mpcc.ir.intervals import Enclosure, Interval
from mpcc.ir.ops import tensor
from mpcc.passes.analysis.ranges import NoFitError
from mpcc.passes.lowerings import RULES

NUMBERS = 4000
LANES = 400


def few(case):
    """Lanes of one run."""
    return max(30, min(LANES, case.lanes // 20))


def case_named(name):
    (found,) = (case for case in CASES if case.name == name)
    return found


def test_every_operator_has_a_case():
    bound = {tensor.Input, tensor.Output}
    assert {case.op for case in CASES} == set(RULES) - bound
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("policy", ["proved", "guarded"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_value_leaves_its_width_and_no_result_its_bound(case, policy):
    if policy == "guarded" and case.op in (tensor.Exp, tensor.Atan):
        # Of operands that are so large there is no result, whatever is clamped.
        with pytest.raises((NoFitError, MpccError)):
            subject(case, case.fracs[0], policy, few(case))
        return
    frac = case.fracs[0] if "wide" in case.name or "rows" in case.name else case.fracs[-1]
    found = attack(subject(case, frac, policy, few(case)), NUMBERS)
    assert found.inputs >= NUMBERS
    assert found.where == []
    assert found.good


def test_a_bound_that_is_too_tight_is_found(monkeypatch):
    rule = tensor.Sigmoid.interval

    def tight(attrs, operands, rounding):
        (y,) = rule(attrs, operands, rounding).results
        slack = 1.2 * rounding.unit
        return Enclosure((Interval(y.lo + slack, y.hi - slack),))

    monkeypatch.setattr(tensor.Sigmoid, "interval", tight)
    found = attack(subject(case_named("sigmoid"), 14, "proved", LANES), NUMBERS)
    assert found.outside > 0
    assert not found.good
    assert "tensor.sigmoid" in found.where[0]


def test_a_range_that_is_too_small_is_found(monkeypatch):
    rule = tensor.Mul.interval

    def halved(attrs, operands, rounding):
        (y,) = rule(attrs, operands, rounding).results
        return Enclosure((Interval(y.lo / 2, y.hi / 2),))

    with monkeypatch.context() as patch:
        patch.setattr(tensor.Mul, "interval", halved)
        made = subject(case_named("mul"), 14, "proved", LANES)
    found = attack(made, NUMBERS)
    assert found.overflows > 0
    assert found.used >= 1
    assert "tensor.mul" in found.where[0]


def test_a_climb_finds_more_than_chance():
    """The share of a softmax's bound that is reached, at equal numbers of inputs."""
    made = subject(case_named("softmax"), 14, "proved", LANES)
    rng, shape, limits = np.random.default_rng(1), (LANES, 16), (-64.0, 64.0)
    x = drawn(rng, shape, limits, 14, made.cuts())
    chance, climb = Found(), Found()
    scores, _ = made.run({"x0": x}, "floor", 0, climb)
    for _ in range(8):
        near = climbed(rng, x[np.argsort(-scores)[:8]], LANES, limits, 14)
        after, _ = made.run({"x0": near}, "floor", 0, climb)
        x, scores = np.concatenate([x, near]), np.concatenate([scores, after])
    for _ in range(9):
        made.run({"x0": drawn(rng, shape, limits, 14, made.cuts())}, "floor", 0, chance)
    assert climb.inputs == chance.inputs
    assert climb.share > chance.share


@pytest.mark.parametrize("limits", [(-3.0, 5.0), (0.0, 2.0**20), (2.0, 2.5)])
def test_inputs_are_in_range_and_exact(limits):
    rng = np.random.default_rng(2)
    x = drawn(rng, (200, 5), limits, 7, np.array([0.7]))
    near = climbed(rng, x[:9], 100, limits, 7)
    for y in (x, near):
        assert (y >= limits[0]).all()
        assert (y <= limits[1]).all()
        np.testing.assert_array_equal(y * 2**7, np.rint(y * 2**7))
    assert {limits[0], limits[1]} <= set(x.flat)
    alike = [row for row in x if (row == row[0]).all()]
    assert len(alike) > 5


def test_a_product_that_a_root_takes_is_clamped_first():
    """A square root takes products as they are, but none that may have wrapped."""
    made = subject(case_named("sqrt, wide"), 14, "guarded", LANES)
    assert made.phi.clamps
    assert attack(made, NUMBERS).good


def test_a_quotient_has_its_operands_clamped():
    made = subject(case_named("div"), 20, "guarded", LANES)
    assert len(made.phi.clamps) >= 2
    assert attack(made, NUMBERS).good


def test_the_command(capsys):
    assert main(["--operator", "relu", "--inputs", "1000", "--policy", "proved"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(case_named("relu").fracs)
    assert all(line.endswith("ok") for line in lines[1:-1])
    assert lines[-1] == "0 of 3 failed"


def test_a_network_is_checked_op_by_op():
    """Behind other operators too: a residual block."""
    module, constants = residual()
    made = formatted(module, constants, {"x": (-4.0, 4.0)}, 12, 10)
    assert attack(made, 20_000).good


def residual():
    """relu(x + w relu(v x)) of rows of six."""
    rng = np.random.default_rng(3)
    module = Module("tensor")
    constants = {n: rng.uniform(-1, 1, (6, 6)) for n in "vw"}

    def add(op, *operands, **attrs):
        return module.main.append(op, list(operands), attrs, op.name).result

    x = add(tensor.Input, name="x", shape=(128, 6), owner="client")
    v, w = (add(tensor.Weight, name=n, shape=(6, 6), owner="model") for n in "vw")
    y = add(tensor.MatMul, add(tensor.Relu, add(tensor.MatMul, x, v)), w)
    y = add(tensor.Relu, add(tensor.Add, x, y))
    module.main.append(tensor.Output, [y], {"name": "y", "owner": "client"})
    return module, constants
