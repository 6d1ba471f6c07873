"""Errors per layer: what is added where, that proofs hold, and that the shares add up."""

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.models import INPUT_NAME, NETWORKS, sample_inputs
from mpcc import api
from mpcc.errors import MpccError
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.options import CompileOptions
from mpcc.passes.analyse import analyse
from mpcc.passes.analysis.decisions import Program
from mpcc.passes.analysis.layers import Losses, worst
from mpcc.passes.declared_formats import analyse_declared
from tests.ir.samples import Maker

BUDGET = 2.0**-7


def network(name):
    """Its private report, calibrated on a few images."""
    made = NETWORKS[name]()
    data = np.concatenate([x[INPUT_NAME] for x in sample_inputs(made, 3)])
    options = CompileOptions(formats=FormatOptions(input_ranges={INPUT_NAME: (0, 1)}))
    compiled = api.compile(made.serialized(), options=options, calibration={INPUT_NAME: data})
    return compiled.private


@pytest.fixture(scope="module", params=["A", "B", "C"])
def report(request):
    return network(request.param)


def followed(program, samples):
    losses = Losses(program)
    for n, sample in enumerate(samples):
        run, plain = losses.run(sample, n), program.run(sample, n)
        assert run.outputs.keys() == plain.outputs.keys()
        assert all((run.outputs[k] == plain.outputs[k]).all() for k in plain.outputs)
    losses.finish(BUDGET)
    return losses


def deep(rng, layers=5):
    """Dense layers, rectified."""
    o = Maker("tensor")
    x = o("input", name="x", shape=(1, 12))
    constants = {}
    for i in range(layers):
        w = o("weight", name=f"w{i}", shape=(12, 12))
        constants[f"w{i}"] = rng.normal(size=(12, 12)).astype(np.float32) / 3
        x = o("relu", o("matmul", x, w))
    o("output", x, name="y", owner="client")
    return o.module, constants


def smooth():
    """Operators with forms of their own, and a decision."""
    o = Maker("tensor")
    x = o("input", name="x", shape=(4, 6))
    y = o("softmax", o("sigmoid", x), axis=1)
    z = o("div", y, o("exp", o("clip", x, lo=-2.0, hi=0.0)))
    o("output", o("where", o("less", x, y), z, o("sqrt", y)), name="y", owner="client")
    o("output", o("argmax", z, axis=1, keepdims=False), name="best", owner="client")
    return o.module


def test_no_error_exceeds_what_is_proved(report):
    proved = [row for row in report["layers"] if row["error"]["proved"] is not None]
    # These networks have a rule for every op.
    assert len(proved) == len(report["layers"]) > 5
    for row in proved:
        assert row["error"]["observed"] <= row["error"]["proved"]
        assert row["error"]["own"] <= row["error"]["proved"]
    assert proved[-1]["error"]["observed"] > 0


def test_shares_and_ranges_of_networks(report):
    rows = report["layers"]
    assert sum(row["error"]["share"] for row in rows) == pytest.approx(1)
    for row in rows:
        range_, error = row["range"], row["error"]
        low, high = range_["observed"]
        # Two samples of three were compared layer by layer; all count for ranges.
        assert max(-low, high) <= row["observed"] * (1 + 1e-12)
        assert range_["why"]
        assert range_["proved"][0] <= low <= high <= range_["proved"][1]
        if row["bits"] is not None:
            assert row["observed"] < 2.0 ** row["bits"]
            assert range_["headroom"] >= 0
        if error["share"]:
            # Own errors stand to budgets as all of them to what is allowed, by root mean squares.
            assert error["own_rms"] > 0
            assert error["budget_rms"] > 0
    json.dumps(rows, allow_nan=False)


def test_own_errors_and_sensitivities_make_up_the_error_of_the_outputs():
    rng = np.random.default_rng(0)
    for layers in (1, 3, 6):
        module, constants = deep(rng, layers)
        samples = [{"x": rng.uniform(-1, 1, (1, 12))} for _ in range(8)]
        options = FormatOptions(input_ranges={"x": (-1, 1)})
        program = Program(
            module, constants, analyse(module, constants, samples, options).phi, options
        )
        losses = followed(program, samples)
        # Of one sum of several hundred independent roundings: half or twice as much is far off.
        assert 0.5 < losses.predicted / losses.output < 2
        rounding = [row for row in losses.rows.values() if row.own_energy > 0]
        # If every layer added what its budget is, the outputs would have what is allowed.
        total = sum(
            row.budget**2 * row.elements * row.sensitivity**2 for row in rounding if row.share
        )
        outputs = [
            np.abs(program.run(s, n).outputs["y"] - reference(program, s)).max()
            for n, s in enumerate(samples)
        ]
        assert total == pytest.approx((losses.output * BUDGET / max(outputs)) ** 2, rel=1e-4)


def reference(program, sample):
    x = sample["x"]
    for w in program.constants.values():
        x = np.maximum(x @ w.astype(np.float64), 0)
    return x


def test_exact_ops_add_nothing():
    rng = np.random.default_rng(1)
    o = Maker("tensor")
    x = o("input", name="x", shape=(2, 3, 4))
    y = o("relu", x)
    added = o("add", o("sub", y, x), x)
    pooled = o("reduce_max", added, axes=(2,), keepdims=True)
    clipped = o("clip", o("maximum", pooled, pooled), lo=-0.5, hi=0.5)
    bits = o("less", clipped, pooled)
    chosen = o("where", bits, clipped, pooled)
    o("output", chosen, name="y", owner="client")
    module = o.module
    phi = Phi("proved", 64, 12, 12, 1, (), ((0, 2), (2, 3), (3, 3)))
    program = Program(module, {}, phi, FormatOptions(input_ranges={"x": (-1, 1)}))
    losses = followed(program, [{"x": rng.uniform(-1, 1, (2, 3, 4))} for _ in range(3)])
    for i, row in losses.rows.items():
        if module.main.ops[i].definition is tensor.Input:
            assert 0 < row.own <= 2.0**-13
            assert row.observed == row.own
        else:
            assert row.own == 0.0, module.main.ops[i].name
    # So the input has all of the blame.
    assert losses.rows[0].share == pytest.approx(1)


def test_a_rough_layer_is_the_one_that_is_named():
    """Weights of a layer are just above half a unit: rounding them is most of the error."""
    rng = np.random.default_rng(2)
    module, constants = deep(rng, 3)
    constants["w1"] = np.where(rng.random((12, 12)) < 0.5, 1.498, -1.498) * 2.0**-10
    constants["w1"] = constants["w1"].astype(np.float32)
    constants["w2"] = (constants["w2"] * 256).astype(np.float32)
    ops = module.main.ops
    for n, op in enumerate(ops):
        op.loc = f"{op.name}_{n}"
    ranged = ("tensor.input", "tensor.matmul")
    ranges = tuple((i, 12) for i, op in enumerate(ops) if op.name in ranged)
    phi = Phi("proved", 64, 16, 10, 10, (), ranges)
    program = Program(module, constants, phi, FormatOptions())
    losses = followed(program, [{"x": rng.uniform(-1, 1, (1, 12))} for _ in range(4)])
    products = [i for i, op in enumerate(ops) if op.name == "tensor.matmul"]
    assert max(losses.rows, key=lambda i: losses.rows[i].share) == products[1]


@pytest.mark.parametrize("choose", [analyse, analyse_declared])
def test_smooth_operators_have_errors_without_a_proof(choose):
    module = smooth()
    declared: dict[str, Any] = {"disclose": "none"} if choose is analyse_declared else {}
    options = FormatOptions(input_ranges={"x": (-3, 3)}, **declared)
    rows = choose(module, {}, (), options).private["layers"]
    of = {row["name"]: row for row in rows}
    for name in ("sigmoid", "softmax", "exp", "div"):
        row = of[f"tensor.{name}"]
        assert 0 < row["error"]["own"] < 2.0**-6
    # Its decisions are the program's, where they are open.
    assert of["tensor.where"]["error"]["own"] == 0
    assert of["tensor.softmax"]["error"]["proved"] is None
    assert of["tensor.sigmoid"]["range"]["observed"][0] >= 0
    named = worst(rows, 3)
    assert len(named) == 3
    assert [r["error"]["share"] for r in named] == sorted(
        (r["error"]["share"] for r in rows), reverse=True
    )[:3]


def test_reasons_follow_the_policy():
    rng = np.random.default_rng(3)
    module, constants = deep(rng, 2)
    samples = [{"x": rng.uniform(-1, 1, (1, 12))} for _ in range(2)]

    def reasons(**options):
        formats = FormatOptions(input_ranges={"x": (-1, 1)}, **options)
        choose = analyse_declared if options.get("disclose") == "none" else analyse
        rows = choose(module, constants, samples, formats).private["layers"]
        return " / ".join(row["range"]["why"] for row in rows)

    assert "the client refuses" in reasons()
    assert "proved: within" in reasons(policy="proved")
    assert "narrower than what was seen" in reasons(policy="observed")
    assert "one range for all values" in reasons(disclose="per-model")
    assert "proved from declared ranges" in reasons(disclose="none", value_range=2.0**20)
    assert "promised by --value-range" in reasons(disclose="none", value_range=16.0)
    # Proofs of so many wide layers end far above what is seen.
    many, constants = deep(rng, 20)
    rows = analyse(many, constants, samples, FormatOptions(max_error=0.5)).private["layers"]
    last = [row["range"] for row in rows if row["bits"] is not None][-1]
    assert "bits of headroom" in last["why"]
    assert last["headroom"] == 8


@pytest.mark.parametrize("choose", [analyse, analyse_declared])
def test_a_budget_that_cannot_be_met_names_the_layers(choose):
    module, constants = deep(np.random.default_rng(4), 3)
    for n, op in enumerate(module.main.ops):
        op.loc = f"node_{n}"
    declared: dict[str, Any] = {"disclose": "none"} if choose is analyse_declared else {}
    with pytest.raises(MpccError, match="E-range-error") as caught:
        choose(module, constants, (), FormatOptions(max_error=1e-12, **declared))
    (problem,) = (d for d in caught.value.diagnostics if d.code == "E-range-layers")
    assert "layers that lose most are: node_" in problem.what
    assert "of the outputs' error)" in problem.what
    assert "fraction bits" in problem.fix
