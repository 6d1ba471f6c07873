"""Rings: which op is computed in which, casts between them, and what does not fit."""

import numpy as np
import pytest

from mpcc import _native
from mpcc.emit.graphdef import emit
from mpcc.errors import MpccError
from mpcc.ir.analysis.bounds import bound
from mpcc.ir.analysis.rings import Rings
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import fixed, party, real
from mpcc.ir.ops import secure, tensor
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.types import SecureType
from mpcc.ir.verify import verify
from mpcc.options import parse_rings
from mpcc.passes.analyse import analyse
from mpcc.passes.declared_formats import analyse_declared, declared_phi
from mpcc.passes.fuse_local import FuseLocal
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights
from mpcc.protocols import Ref, Rep3, lower_program
from mpcc.verify_program import check_program, declared_policy
from tests.passes.secure_nets import Net, random_net

POLICIES = ("proved", "guarded", "observed")
SEED = 11


def block():
    """conv, relu, pool, reshape, dense: nodes of names of their own."""
    net = Net(np.random.default_rng(3))
    x = net.input("x", 1, 2, 6, 6)
    x = net.op(tensor.Relu, [net.conv(x, 3, loc="stem/conv")], "stem/relu")
    size = {"kernel": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0)}
    x = net.op(tensor.MaxPool, [x], "pool", **size)
    x = net.op(tensor.Reshape, [x], "flat", shape=(1, 27))
    net.output(net.dense(x, 4, loc="head"))
    return net


def lowered(net, options, calibration=()):
    analysis = analyse(net.module, net.constants, calibration, options)
    assert Phi.from_json(analysis.phi.to_json()) == analysis.phi
    module = build_secure(net.module, analysis.phi, options)
    verify(module, secure.DIALECT)
    text = print_module(module)
    assert print_module(parse_module(text, DIALECTS)) == text
    return analysis, module, encode_weights(net.constants, module)


def by_loc(module, name):
    """Rings of the results of all ops of this kind, by node."""
    return {op.loc: op.result.type.ring for op in module.main.walk(name)}


def loose(**options):
    return FormatOptions(input_ranges={"x": (-1.0, 1.0)}, max_error=0.25, **options)


# --- who is computed where -----------------------------------------------------------------------


def test_everything_is_in_the_ring_asked_for():
    for ring in (32, 64):
        analysis, module, weights = lowered(block(), loose(ring=ring))
        assert analysis.phi.ring == ring
        assert analysis.phi.others == ()
        types = [r.type for op in module.main.ops for r in op.results]
        assert {t.ring for t in types if isinstance(t, SecureType)} == {ring}
        assert {w.dtype for w in weights.values()} == {np.dtype(f"i{ring // 8}")}
        assert not list(module.main.walk("secure.cast"))


def test_named_nodes_and_what_only_moves_their_values():
    """The pool in 32 bits takes the reshape with it; the dense layer casts its operand."""
    _, module, weights = lowered(block(), loose(rings={"pool": 32}))
    assert by_loc(module, "secure.conv") == {"stem/conv": 64}
    assert by_loc(module, "secure.matmul") == {"head": 64}
    assert by_loc(module, "secure.reshape")["flat"] == 32
    assert {w.dtype for w in weights.values()} == {np.dtype("i8")}
    (before, after) = module.main.walk("secure.cast")
    assert (before.loc, before.result.type.ring) == ("stem/relu", 32)
    assert (after.loc, after.result.type.ring) == ("flat", 64)


def test_a_value_that_leaves_for_a_smaller_ring_is_truncated_into_it():
    _, module, _ = lowered(block(), loose(ring=32, rings={"*conv": 64, "head": 64}))
    (op,) = [t for t in module.main.walk("secure.truncate") if t.loc == "stem/conv"]
    assert op.operands[0].type.ring == 64
    assert (op.attrs["ring"], op.result.type.ring) == (32, 32)
    assert [op.loc for op in module.main.walk("secure.cast")] == ["flat"]
    # The input goes where its user is.
    (entry,) = module.main.walk("secure.input")
    assert entry.result.type.ring == 64


def test_a_value_that_stays_too_is_truncated_in_its_own_ring():
    net = Net(np.random.default_rng(3))
    x = net.dense(net.input("x", 1, 5), 5, loc="first")
    y = net.relu(x)
    net.output(net.op(tensor.Add, [net.op(tensor.Relu, [x], "narrow"), y], "sum"))
    _, module, _ = lowered(net, loose(rings={"narrow": 32}))
    (truncation,) = module.main.walk("secure.truncate")
    assert truncation.result.type.ring == 64
    assert [(op.loc, op.attrs["ring"]) for op in module.main.walk("secure.cast")] == [
        ("first", 32),
        ("narrow", 64),
    ]


def test_the_last_name_counts():
    module = block().module
    loc = {op.loc: i for i, op in enumerate(module.main.ops)}
    rings = Rings.chosen(module, loose(ring=32, rings={"*": 64, "pool": 32, "flat": 32}))
    assert rings.of(loc["pool"]) == rings.of(loc["flat"]) == 32
    assert rings.of(loc["stem/conv"]) == rings.of(loc["head"]) == 64
    rings = Rings.chosen(module, loose(ring=32, rings={"*": 64, "pool": 32, "*[!l]": 32}))
    # The input has no name, which only "*" is a pattern of.
    assert [module.main.ops[i].name for i in rings.others] == ["tensor.input"]


def test_unknown_nodes_are_all_named():
    with pytest.raises(MpccError) as caught:
        Rings.chosen(block().module, loose(rings={"tail": 32, "pool": 32, "x*": 64}))
    assert [d.code for d in caught.value.diagnostics] == ["E-option-ring"] * 2
    assert "'tail'" in str(caught.value)
    assert "its nodes are stem/conv, stem/relu, pool, flat, head" in str(caught.value)


def test_a_weight_that_is_used_in_both_rings_is_encoded_for_each():
    net = Net(np.random.default_rng(3))
    x, w = net.input("x", 1, 4), net.weight(net.rng.standard_normal((4, 4)) / 4)
    x = net.op(tensor.Relu, [net.op(tensor.MatMul, [x, w], "one")], "act")
    net.output(net.op(tensor.MatMul, [x, w], "two"))
    analysis, module, weights = lowered(net, loose(ring=32, rings={"two": 64}))
    names = {op.attrs["name"]: op.attrs["ring"] for op in module.main.walk("secure.weight")}
    frac = analysis.phi.weight_frac
    assert names == {"w0": 32, f"w0:f{frac}z64": 64}
    np.testing.assert_array_equal(weights["w0"], weights[f"w0:f{frac}z64"])


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ([], (None, {})),
        (["auto"], (None, {})),
        (["32"], (32, {})),
        (["64", "a=b=32", "stem/*=64"], (64, {"a=b": 32, "stem/*": 64})),
    ],
)
def test_rings_on_the_command_line(items, found):
    assert parse_rings(items) == found


@pytest.mark.parametrize(
    ("items", "problems"),
    [
        (["31", "a=16"], ["E-option-ring", "E-option-ring"]),
        (["32", "64"], ["E-option-twice"]),
        (["=32"], ["E-option-syntax"]),
    ],
)
def test_rings_that_are_none(items, problems):
    with pytest.raises(MpccError) as caught:
        parse_rings(items)
    assert [d.code for d in caught.value.diagnostics] == problems


@pytest.mark.parametrize("options", [{"ring": 16}, {"rings": {"a": 48}}])
def test_options_know_two_rings(options):
    with pytest.raises(MpccError, match="E-option-ring"):
        FormatOptions(**options)


# --- numbers -------------------------------------------------------------------------------------


def scattered(net, seed):
    """A ring for every node, at random."""
    rng = np.random.default_rng(seed)
    ops = net.module.main.ops
    for i, op in enumerate(ops):
        op.loc = f"n{i}"
    computed = [op for op in ops if op.results and op.definition is not tensor.Weight]
    return {op.loc: int(rng.choice([32, 64])) for op in computed}


@pytest.mark.parametrize("ring", [32, 64])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(6))
def test_random_nets_in_random_rings(seed, policy, ring):
    """Floats, simulator, parties and engine agree as they do in one ring."""
    net = random_net(seed)
    calibration = [] if policy == "proved" else [net.sample(seed=i) for i in range(3)]
    rings = scattered(net, seed)
    options = FormatOptions(
        policy=policy, input_ranges={"x": (-1.0, 1.0)}, max_error=1.0, ring=ring, rings=rings
    )
    _, module, weights = lowered(net, options, calibration)
    types = [r.type for op in module.main.ops for r in op.results]
    assert {t.ring for t in types if isinstance(t, SecureType)} == {32, 64}

    inputs = net.sample(seed=50)
    program = lower_program(module, Rep3())
    keep = {c.value for c in program.coins.values() if c.value is not None}
    session = party.Session(program.party, weights, party.SeededKeys(SEED), keep=keep)
    run = session.run(inputs, keep=keep)
    values = {**session.setup.values, **run.values}
    coins = {
        i: coin.read(values, module.main.ops[i].result.type.shape)
        for i, coin in program.coins.items()
    }
    have = fixed.simulate(module, weights, inputs, coins, keep_raw=True)
    assert not have.overflows
    want = real.run(net.module, net.constants, inputs)
    here, general = bound(module, weights, have.raw), bound(module, weights)
    for name, array in have.outputs.items():
        np.testing.assert_array_equal(run.outputs[name], array)
        error = np.abs(array - want[name]).max()
        assert error <= 1.0
        assert error <= here[name].error <= general[name].error

    fused = program.party.clone()
    FuseLocal().run(fused)
    policy_of = declared_policy(module)
    for made in (program.party, fused):
        assert check_program(made, policy_of).all_problems == ()
        words = {n: w.view(f"u{w.dtype.itemsize}") for n, w in weights.items()}
        (found,), _ = _native.run_in_memory(emit(made), words, [inputs], SEED, threads=2)
        for name, array in run.outputs.items():
            assert found[name].tobytes() == array.tobytes()
    lower_program(module, Ref())


def test_the_text_is_a_function_of_phi_alone():
    options = loose(ring=32, rings={"head": 64, "pool": 64})
    net = block()
    phi = analyse(net.module, net.constants, (), options).phi
    other = block()
    other.constants = {k: np.zeros_like(v) for k, v in net.constants.items()}
    # What is lowered knows the nodes' rings from Phi, not from their names.
    for op in other.module.main.ops:
        op.loc = ""
    first = build_secure(net.module, phi, options)
    for op in first.main.ops:
        op.loc = ""
    second = build_secure(other.module, phi, FormatOptions(input_ranges=options.input_ranges))
    assert print_module(first) == print_module(second)


def test_declared_formats_in_either_ring():
    net = block()
    small = {"weight_range": 2.0, "value_range": 16.0}
    options = loose(disclose="none", ring=32, rings={"head": 64}, **small)
    phi = analyse_declared(net.module, net.constants, (), options).phi
    assert (phi.ring, phi.policy) == (32, "declared")
    assert phi.frac < 16
    # The verifier has no names, but the list.
    nameless = loose(disclose="none", **small)
    assert declared_phi(net.module, nameless, Rings.of_phi(phi)) == phi
    assert declared_phi(net.module, nameless) != phi


# --- what does not fit ---------------------------------------------------------------------------


def tall(gain):
    net = Net(np.random.default_rng(1))
    x = net.input("x", 1, 4)
    for name in ("one", "two", "three"):
        x = net.op(tensor.MatMul, [x, net.weight(np.full((4, 4), gain / 4))], name)
    net.output(x)
    return net


def test_nodes_that_do_not_fit_at_any_fraction_are_all_named():
    net = tall(2.0**10)
    with pytest.raises(MpccError) as caught:
        analyse(net.module, net.constants, (), loose(ring=32, clamp_bits=30))
    found = {d.where: d for d in caught.value.diagnostics}
    assert {d.code for d in caught.value.diagnostics} == {"E-range-fit"}
    assert found.keys() == {"two", "three"}
    # 2^20 and a bit, of 29 bits with 4 + 5 of fraction.
    assert "takes 21 bits where 20 are left beside 9 fraction bits, of which 8 would fit" in str(
        found["two"]
    )
    assert "--ring NODE=64" in found["three"].fix


def test_nodes_that_do_not_fit_the_digits_that_the_budget_takes_are_named():
    net = tall(2.0**4)
    options = FormatOptions(ring=32, input_ranges={"x": (-1.0, 1.0)}, max_error=2.0**-4)
    with pytest.raises(MpccError) as caught:
        analyse(net.module, net.constants, (), options)
    first, *others = caught.value.diagnostics
    assert first.code == "E-range-error"
    nodes = [d for d in others if d.code == "E-range-fit"]
    assert "--ring auto (" in first.fix
    assert nodes
    assert {d.where for d in nodes} <= {"one", "two", "three"}
    # In the other ring they do.
    there = FormatOptions(
        ring=32,
        rings={d.where: 64 for d in nodes},
        input_ranges=options.input_ranges,
        max_error=options.max_error,
    )
    assert analyse(net.module, net.constants, (), there).phi.others


def test_what_crosses_into_a_small_ring_must_fit_it():
    """Either in its own ring, or behind a clamp."""
    net = tall(2.0**10)
    x = net.op(tensor.Relu, [net.module.main.ops[-2].result], "narrow")
    net.op(tensor.Output, [x], name="z")
    with pytest.raises(MpccError, match=r"E-range-fit(?s:.)*of 32 bits") as caught:
        analyse(net.module, net.constants, (), loose(rings={"narrow": 32}, clamp_bits=40))
    assert {d.where for d in caught.value.diagnostics} == {"three"}
    lowered(net, FormatOptions(rings={"narrow": 32}, clamp_bits=8, max_error=2.0**30))


def test_formats_for_another_module_are_refused():
    net = block()
    phi = analyse(net.module, net.constants, (), loose(ring=32, rings={"head": 64})).phi
    more = Phi.from_json(phi.to_json().replace(f'"others":[{phi.others[0]}', '"others":[999'))
    with pytest.raises(MpccError, match="E-phi-mismatch"):
        build_secure(net.module, more, loose())
