"""Which ring is chosen where the user leaves it open, and what that choice goes by."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mpcc
from benchmarks import models
from mpcc.cost import count
from mpcc.errors import MpccError
from mpcc.ir.analysis.rings import Rings, units
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.options import CompileOptions
from mpcc.passes.analyse import analyse
from mpcc.passes.analysis.price import ROUND_BYTES, price
from mpcc.passes.declared_formats import analyse_declared, declared_phi
from mpcc.passes.lower_tensor_to_secure import build_secure
from mpcc.protocols import Rep3, lower_program
from mpcc.verify_program import verify_artifact
from tests.passes.secure_nets import Net, random_net

RANGE = {"x": (-1.0, 1.0)}


def predicted(module):
    """Bytes over all links and rounds, as counted in the lowered program."""
    cost = count(lower_program(module, Rep3()).party).to_json([])
    return sum(cost["bytes_sent"].values()), cost["rounds"]


def network(name, batch):
    model = models.NETWORKS[name](batch)
    samples = models.sample_inputs(model, 1)
    return model.serialized(), {n: np.stack([s[n] for s in samples]) for n in samples[0]}


def compiled(name, batch, **formats):
    source, data = network(name, batch)
    options = CompileOptions(formats=FormatOptions(**formats))
    return mpcc.compile(source, options=options, calibration=data)


def cost_of(made):
    cost = made.artifact.cost
    return sum(cost["bytes_sent"].values()), cost["rounds"]


def codes(artifact):
    return {problem.code for problem in verify_artifact(artifact).problems}


# --- the estimate --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_the_estimate_of_random_nets(seed):
    """Within 3 % of the counted bytes, and a tenth and two of the rounds; in both rings, mixed."""
    net = random_net(seed)
    rng = np.random.default_rng(seed)
    for i, op in enumerate(net.module.main.ops):
        op.loc = f"n{i}"
    computed = [op for op in net.module.main.ops if op.results and op.name != "tensor.weight"]
    rings = {op.loc: int(rng.choice([32, 64])) for op in computed}
    for given in ({"ring": 64}, {"ring": 32}, {"ring": 64, "rings": rings}):
        options = FormatOptions(input_ranges=RANGE, max_error=1.0, **given)
        phi = analyse(net.module, net.constants, (), options).phi
        module = build_secure(net.module, phi, options)
        found, (size, rounds) = price(module), predicted(module)
        # Messages of few bits are filled up to bytes, which weighs more in small programs.
        assert abs(found.bytes - size) <= 0.03 * size + 100
        assert abs(found.rounds - rounds) <= 0.1 * rounds + 2
        assert found.bytes == pytest.approx(sum(found.ops))


def test_the_estimate_counts_what_reaches_nobody_as_nothing():
    net = Net(np.random.default_rng(0))
    net.output(net.input("x", 1, 5))
    options = FormatOptions(input_ranges=RANGE, ring=64)
    phi = analyse(net.module, net.constants, (), options).phi
    found = price(build_secure(net.module, phi, options))
    # Shared with two parties and opened by two.
    assert (found.bytes, found.rounds) == (4 * 5 * 8, 2)


# --- the choice ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_networks_are_in_the_small_ring_where_they_fit(name):
    made = compiled(name, 1, max_error=2.0**-4)
    assert (made.artifact.phi["ring"], made.artifact.phi.get("others")) == (32, None)
    size, rounds = cost_of(made)
    for given in ({"ring": 64}, {"ring": 64, "rings": {"maxpool*": 32}}):
        if name == "A" and "rings" in given:
            continue  # it has no pool
        other, other_rounds = cost_of(compiled(name, 1, max_error=2.0**-4, **given))
        assert size < other
        assert size + ROUND_BYTES * rounds < other + ROUND_BYTES * other_rounds


def test_pools_are_in_the_small_ring_where_products_are_not():
    """At batch 16 their words are worth more than the rounds of casts."""
    made = compiled("B", 16, max_error=2.0**-7)
    phi = made.artifact.phi
    assert phi["ring"] == 64
    assert phi["others"]
    rings = Rings.of_phi(Phi.from_json(json.dumps(phi)))
    ops = made.artifact.tensor_module.main.ops
    pools = [rings.of(i) for i, op in enumerate(ops) if op.definition is tensor.MaxPool]
    products = {rings.of(i) for i, op in enumerate(ops) if op.definition is tensor.Conv}
    # The first pool has most of the elements.
    assert (pools[0], products) == (32, {64})
    with pytest.raises(MpccError, match="E-range"):
        compiled("B", 16, max_error=2.0**-7, ring=32)
    size, rounds = cost_of(made)
    for given in ({"ring": 64}, {"ring": 64, "rings": {"maxpool*": 32}}):
        other, other_rounds = cost_of(compiled("B", 16, max_error=2.0**-7, **given))
        assert size <= 1.02 * other
        assert size + ROUND_BYTES * rounds <= other + ROUND_BYTES * other_rounds
    assert codes(made.artifact) == set()


def test_rounds_are_worth_more_than_the_words_of_a_small_pool():
    assert "others" not in compiled("B", 1, max_error=2.0**-7).artifact.phi


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("policy", ["proved", "guarded", "observed"])
def test_no_choice_costs_more_than_64_bits(seed, policy):
    net = random_net(seed)
    data = () if policy == "proved" else [net.sample(seed=i) for i in range(3)]
    found = []
    for ring in (None, 64):
        options = FormatOptions(policy=policy, input_ranges=RANGE, max_error=2.0**-6, ring=ring)
        phi = analyse(net.module, net.constants, data, options).phi
        found.append((phi, *predicted(build_secure(net.module, phi, options))))
    (phi, size, _), (wide, other, _) = found
    assert size <= 1.02 * other
    assert len(phi.clamps) <= len(wide.clamps)


def test_what_the_user_says_counts():
    for given in ({"ring": 64}, {"ring": 32}):
        phi = compiled("A", 1, max_error=2.0**-4, **given).artifact.phi
        assert (phi["ring"], phi.get("others")) == (given["ring"], None)


def test_the_report_says_why():
    report = compiled("B", 16, max_error=2.0**-7).private["rings"]
    assert sum(row["chosen"] for row in report["considered"]) == 1
    assert all(row["bytes"] > 0 and row["rounds"] > 0 for row in report["considered"])
    parts = {tuple(part["layers"]): part for part in report["parts"]}
    assert parts["maxpool_0", "relu_0"]["ring"] == 32
    assert "bytes less" in parts["maxpool_0", "relu_0"]["why"]
    assert parts["conv_1",]["ring"] == 64
    assert "does not fit 32 bits: tensor.conv takes" in parts["conv_1",]["why"]
    assert parts["conv_1",]["nodes"]
    json.dumps(report)
    # A ring that was asked for needs no reason.
    assert "rings" not in compiled("A", 1, ring=64).private


# --- parts ---------------------------------------------------------------------------------------


def test_parts_are_products_with_their_sums_and_what_is_between():
    net = Net(np.random.default_rng(3))
    x = net.input("x", 1, 2, 6, 6)
    y = net.conv(x, 2, loc="one")
    z = net.op(tensor.Add, [net.conv(x, 2, loc="two"), y], "sum")
    r = net.op(tensor.Relu, [z], "relu")
    t = net.op(tensor.Transpose, [r], "turn", perm=(0, 1, 3, 2))
    s = net.op(tensor.Add, [net.conv(t, 2, loc="three"), t], "skip")
    net.output(s)
    ops = net.module.main.ops
    found = [([ops[i].loc for i in unit.ops], unit.multiplies) for unit in units(net.module.main)]
    assert found == [
        (["one", "two", "sum"], True),
        (["relu", "turn"], False),
        (["three", "skip"], True),
    ]


def test_the_ring_of_most_is_the_programs():
    net = Net(np.random.default_rng(3))
    x = net.input("x", 1, 4)
    for i in range(3):
        x = net.op(tensor.Relu, [net.dense(x, 4, loc=f"d{i}")], f"r{i}")
    net.output(x)
    loc = {op.loc: i for i, op in enumerate(net.module.main.ops) if op.loc}
    everything = {loc[name] for name in loc if name[0] in "dr" and name != "dense"}
    assert Rings.of_narrow(net.module, everything) == Rings(32)
    assert Rings.of_narrow(net.module, set()) == Rings(64)
    few = Rings.of_narrow(net.module, {loc["r0"]})
    assert (few.main, few.others) == (64, frozenset({loc["r0"]}))
    most = Rings.of_narrow(net.module, everything - {loc["d2"], loc["r2"]})
    assert (most.main, most.others) == (32, frozenset({loc["d2"], loc["r2"]}))


# --- nothing disclosed ---------------------------------------------------------------------------


def test_declared_rings_follow_from_the_declaration():
    net = random_net(3)
    declared: dict[str, Any] = {"disclose": "none", "input_ranges": RANGE, "max_error": 1.0}
    small = FormatOptions(**declared, weight_range=2.0, value_range=16.0, fraction_bits=8)
    phi = analyse_declared(net.module, net.constants, (), small).phi
    assert phi.ring == 32
    assert declared_phi(net.module, small) == phi
    wide = declared_phi(net.module, replace(small, ring=64))
    assert (wide.ring, wide.frac) == (64, phi.frac)
    # No digit is given up for a smaller ring.
    fine = replace(small, fraction_bits=None)
    assert (
        declared_phi(net.module, fine).frac == declared_phi(net.module, replace(fine, ring=64)).frac
    )


def test_a_ring_that_nobody_declared_is_refused():
    source, data = network("A", 1)
    formats = FormatOptions(
        disclose="none", value_range=64.0, weight_range=4.0, fraction_bits=8, max_error=0.25
    )
    for ring in (None, 64, 32):
        options = CompileOptions(formats=replace(formats, ring=ring))
        artifact = mpcc.compile(source, options=options, calibration=data).artifact
        assert artifact.formats.ring == ring
        assert artifact.phi["ring"] == (64 if ring == 64 else 32)
        assert codes(artifact) == set()
        if ring == 64:
            claimed = {**formats.public(), "ring": None}
            lie = remade(artifact, claimed)
            assert codes(lie) == {"E-verify-phi"}
            # Artifacts of before rings were chosen say nothing of them.
            del claimed["ring"]
            assert codes(remade(artifact, claimed)) == set()


def remade(artifact, formats):
    """The same program with other options in the manifest."""
    return mpcc.Artifact.create(
        tensor_module=artifact.tensor_module,
        secure_module=artifact.secure_module,
        program=artifact.program,
        protocol=artifact.protocol,
        phi=artifact.phi,
        formats=formats,
        disclosed=artifact.disclosed,
        inputs=artifact.inputs,
        outputs=artifact.outputs,
        cost=artifact.cost,
        version="0",
    )
