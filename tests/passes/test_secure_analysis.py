"""analyse: range policies, accuracy, refusals; and the bounds that go with the formats."""

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir.analysis.bounds import bound
from mpcc.ir.interp import fixed, real
from mpcc.ir.ops import secure, tensor
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.text import print_module
from mpcc.ir.verify import verify
from mpcc.passes.analyse import analyse
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights
from tests.passes.secure_nets import Net, random_net

POLICIES = ("proved", "guarded", "observed")
SEEDS = range(12)


def compiled(net, calibration, options):
    analysis = analyse(net.module, net.constants, calibration, options)
    assert Phi.from_json(analysis.phi.to_json()) == analysis.phi
    module = build_secure(net.module, analysis.phi, options)
    verify(module, secure.DIALECT)
    return analysis, module, encode_weights(net.constants, module)


def samples(net, count=4, scale=1.0):
    return [net.sample(scale, seed=i) for i in range(count)]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_nets_meet_the_budget_on_new_inputs(seed, policy):
    net = random_net(seed)
    options = FormatOptions(policy=policy, input_ranges={"x": (-1.0, 1.0)})
    calibration = () if policy == "proved" else samples(net)
    _, module, weights = compiled(net, calibration, options)
    for n in range(100, 103):
        inputs = net.sample(seed=n)
        want = real.run(net.module, net.constants, inputs)
        have = fixed.simulate(module, weights, inputs, "random", seed=n)
        assert not have.overflows
        for name, array in want.items():
            budget = options.max_error * max(1.0, np.abs(array).max() / 256)
            assert np.abs(have.outputs[name] - array).max() <= budget


@pytest.mark.parametrize("seed", SEEDS)
def test_runs_stay_within_the_propagated_bound(seed):
    net = random_net(seed)
    options = FormatOptions(input_ranges={"x": (-1.0, 1.0)})
    _, module, weights = compiled(net, samples(net), options)
    general = bound(module, weights)
    inputs = net.sample(seed=200)
    want = real.run(net.module, net.constants, inputs)
    runs = [
        fixed.simulate(module, weights, inputs, rounding, seed=s, keep_raw=True)
        for rounding, s in (("floor", 0), ("worst", 0), ("random", 1), ("random", 2))
    ]
    here = bound(module, weights, runs[0].raw)
    for name, array in want.items():
        assert here[name].error <= general[name].error
        assert here[name].spread <= general[name].spread
        for run in runs:
            assert np.abs(run.outputs[name] - array).max() <= here[name].error
            moved = (run.raw_outputs[name] - runs[0].raw_outputs[name]) * 2.0 ** -_frac(
                module, name
            )
            assert np.abs(moved).max() <= here[name].spread


def _frac(module, name):
    (op,) = [o for o in module.main.walk("secure.reveal") if o.attrs["name"] == name]
    return op.operands[0].type.frac


def test_the_bound_is_exact_for_one_truncation():
    net = Net(np.random.default_rng(0))
    x = net.input("x", 1, 1)
    net.output(net.op(tensor.MatMul, [x, net.weight([[0.5]])]))
    _, module, weights = compiled(net, (), FormatOptions(input_ranges={"x": (-1.0, 1.0)}))
    frac = _frac(module, "y")
    (weight,) = list(module.main.walk("secure.weight"))
    encoding = 2.0 ** -(frac + 1) * 0.5 + 2.0 ** -(weight.attrs["frac"] + 1)
    found = bound(module, weights)["y"]
    assert found.spread == 0  # an exact truncation of equal operands
    # one unit of the truncation, both encodings, binary32
    first_order = 2.0**-frac + encoding + 2.0**-25
    assert first_order <= found.error <= 1.01 * first_order


# --- policies ------------------------------------------------------------------------------------


def chain(layers, gain, width=4):
    net = Net(np.random.default_rng(1))
    x = net.input("x", 1, width)
    for i in range(layers):
        w = net.weight(np.full((width, width), gain / width))
        x = net.relu(net.op(tensor.MatMul, [x, w], f"dense{i}"))
    net.output(x)
    return net


def test_defaults_without_calibration():
    net = chain(2, 1.0)
    analysis = analyse(net.module, net.constants)
    assert analysis.phi.policy == "proved"
    assert analysis.phi.inputs == ()
    assert any("taken as [-8, 8]" in n for n in analysis.notes)
    module = build_secure(net.module, analysis.phi)
    (op,) = list(module.main.walk("secure.input"))
    assert (op.attrs["lo"], op.attrs["hi"]) == (-8.0, 8.0)
    assert analysis.private["samples"] == 0


def test_defaults_with_calibration():
    net = chain(2, 1.0)
    analysis = analyse(net.module, net.constants, samples(net, scale=0.7))
    assert analysis.phi.policy == "observed"
    # |x| < 0.7 fits [-1, 1]; one bit more is accepted.
    assert analysis.phi.inputs == ((0, 1),)
    module = build_secure(net.module, analysis.phi)
    (op,) = list(module.main.walk("secure.input"))
    assert (op.attrs["lo"], op.attrs["hi"]) == (-2.0, 2.0)
    assert any("undefined" in n for n in analysis.notes)


def test_observed_keeps_the_headroom_where_the_proof_is_wider():
    net = chain(3, 2.0)
    options = FormatOptions(headroom=9, input_ranges={"x": (-4096.0, 4096.0)})
    analysis = analyse(net.module, net.constants, samples(net), options)
    ranges = dict(analysis.phi.ranges)
    for layer in analysis.private["layers"][1:]:
        if layer["bits"] is None:
            continue
        assert 2.0 ** ranges[layer["op"]] >= 2.0**9 * layer["observed"]
        assert 2.0 ** ranges[layer["op"]] <= 2.0**10 * layer["observed"]


def test_observed_takes_the_proof_where_it_is_narrower():
    net = chain(3, 1.5)
    options = FormatOptions(policy="observed", input_ranges={"x": (-1.0, 1.0)}, ring=64)
    analysis = analyse(net.module, net.constants, samples(net), options)
    # 1, 1.5, 2.25, 3.375
    assert [b for _, b in analysis.phi.ranges] == [1, 1, 2, 2]


def corners(net, limit):
    """Inputs at the ends of the enforced range, where intervals are reached if anywhere."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        yield {n: rng.choice([-limit, limit], s) for n, s in net.shapes.items()}
    yield {n: np.full(s, limit) for n, s in net.shapes.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_proved_ranges_hold_at_the_ends_of_the_input_range(seed):
    net = random_net(seed)
    options = FormatOptions(policy="proved", input_ranges={"x": (-2.0, 2.0)})
    _, module, weights = compiled(net, (), options)
    for inputs in corners(net, 2.0):
        for rounding in ("floor", "worst"):
            assert not fixed.simulate(module, weights, inputs, rounding).overflows


def test_proved_ranges_are_tight_where_intervals_are():
    net = chain(3, 1.5)
    options = FormatOptions(input_ranges={"x": (-1.0, 1.0)})
    analysis, _, _ = compiled(net, (), options)
    # 1.5, 2.25, 3.375
    assert [b for _, b in analysis.phi.ranges] == [1, 1, 2, 2]


def test_proved_clamps_as_late_as_possible_and_then_holds():
    # Every layer multiplies by 2^4; without a clamp 14 layers reach 2^56.
    net = chain(14, 16.0)
    options = FormatOptions(input_ranges={"x": (-1.0, 1.0)}, clamp_bits=6, max_error=1000.0)
    analysis, module, weights = compiled(net, (), options)
    phi = analysis.phi
    room = 61 - phi.frac - phi.weight_frac
    matmuls = [i for i, op in enumerate(net.module.main.ops) if op.definition is tensor.MatMul]
    # The layer before the first that does not fit, counted by hand; then 6 + 4 n bits again.
    expected, bits = [], 0
    for n, _ in enumerate(matmuls):
        bits += 4
        if bits + 1 > room:
            expected.append(matmuls[n - 1] + 1)  # its relu
            bits = 6 + 4
    assert expected
    assert [i for i, _ in phi.clamps] == expected
    for inputs in corners(net, 1.0):
        assert not fixed.simulate(module, weights, inputs, "worst").overflows


def test_guarded_is_certain_far_beyond_the_calibration_data():
    net = chain(6, 16.0)
    options = FormatOptions(policy="guarded", input_ranges={"x": (-4096.0, 4096.0)}, max_error=1.0)
    analysis, module, weights = compiled(net, samples(net, scale=0.01), options)
    assert analysis.phi.clamps
    beyond = 0
    for inputs in corners(net, 4096.0):
        for o in fixed.simulate(module, weights, inputs, "floor").overflows:
            op = module.main.ops[o.op]
            # Only products that a clamp behind their truncation takes care of.
            assert op.result.type.frac > analysis.phi.frac
            beyond += 1
    assert beyond
    observed = FormatOptions(policy="observed", input_ranges=options.input_ranges, max_error=1.0)
    _, module, weights = compiled(net, samples(net, scale=0.01), observed)
    assert not list(module.main.walk("secure.clamp"))
    inputs = next(corners(net, 4096.0))
    with pytest.raises(MpccError, match="E-sim-overflow"):
        fixed.run(module, weights, inputs)


@pytest.mark.parametrize("seed", SEEDS)
def test_guarded_is_certain_on_random_nets(seed):
    net = random_net(seed)
    options = FormatOptions(policy="guarded", input_ranges={"x": (-4096.0, 4096.0)}, max_error=1.0)
    analysis, module, weights = compiled(net, samples(net, scale=1e-4), options)
    uses = module.main.uses()
    for inputs in corners(net, 4096.0):
        for o in fixed.simulate(module, weights, inputs, "worst").overflows:
            op = module.main.ops[o.op]
            # A product in front of a clamp, or what only reaches an output.
            assert op.result.type.frac > analysis.phi.frac or _only_revealed(op.result, uses)


def _only_revealed(value, uses):
    return all(
        op.definition is secure.Reveal
        or (op.definition is not secure.Negative and _only_revealed(op.result, uses))
        for op, _ in uses[value]
    )


def test_guarded_clamps_stand_behind_truncations_and_compare_at_ring_minus_amount():
    net = chain(6, 16.0)
    options = FormatOptions(policy="guarded", input_ranges={"x": (-4096.0, 4096.0)}, max_error=1.0)
    _, module, _ = compiled(net, samples(net, scale=0.01), options)
    clamps = list(module.main.walk("secure.clamp"))
    for op in clamps:
        before = op.operands[0]
        assert before.op.definition is secure.Truncate
        assert before.type.width == 64 - before.op.attrs["amount"]
    assert clamps


def test_guarded_needs_no_clamp_where_the_proof_suffices():
    net = chain(2, 1.0)
    options = FormatOptions(policy="guarded")
    analysis, _, _ = compiled(net, samples(net), options)
    assert analysis.phi.clamps == ()


# --- accuracy and disclosure ---------------------------------------------------------------------


def test_a_smaller_budget_takes_more_fraction_bits():
    net = random_net(1)
    found = {}
    for error in (1e-1, 1e-3, 1e-5):
        options = FormatOptions(max_error=error)
        analysis, module, weights = compiled(net, samples(net), options)
        found[error] = analysis.phi.frac + analysis.phi.weight_frac
        inputs = net.sample(seed=300)
        want = real.run(net.module, net.constants, inputs)
        have = fixed.run(module, weights, inputs, "random")
        assert max(np.abs(have[n] - want[n]).max() for n in want) <= error
    assert found[1e-1] < found[1e-3] < found[1e-5]


def test_per_model_disclosure_has_one_range():
    net = random_net(1)
    each = analyse(net.module, net.constants, samples(net)).phi
    one = analyse(net.module, net.constants, samples(net), FormatOptions(disclose="per-model")).phi
    assert len({b for _, b in each.ranges}) > 1
    assert {b for _, b in one.ranges} == {max(b for _, b in each.ranges)}
    assert one.size_bits < each.size_bits


def test_the_text_is_a_function_of_phi_alone():
    net = random_net(4)
    options = FormatOptions()
    phi = analyse(net.module, net.constants, samples(net), options).phi
    other = random_net(4)
    other.constants = {k: np.zeros_like(v) for k, v in net.constants.items()}
    assert print_module(build_secure(net.module, phi, options)) == print_module(
        build_secure(other.module, phi, options)
    )


def test_the_analysis_is_deterministic_and_its_repr_shows_no_private_data():
    net = random_net(5)
    first, second = (analyse(net.module, net.constants, samples(net)) for _ in range(2))
    assert first.phi == second.phi
    assert first.private == second.private
    assert "observed" not in repr(first).replace("policy='observed'", "").replace("ranges: obs", "")


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["guarded", "observed"])
def test_policies_that_need_data_say_so(policy):
    net = chain(1, 1.0)
    with pytest.raises(MpccError, match=f"E-range-calibrate: the range policy {policy} needs"):
        analyse(net.module, net.constants, (), FormatOptions(policy=policy))


def test_a_range_for_an_unknown_input():
    net = chain(1, 1.0)
    with pytest.raises(MpccError, match=r"no input y(?s:.)*its inputs are x"):
        analyse(net.module, net.constants, (), FormatOptions(input_ranges={"y": (0.0, 1.0)}))


def test_calibration_data_beyond_the_declared_range():
    net = chain(1, 1.0)
    options = FormatOptions(input_ranges={"x": (-0.5, 0.5)})
    with pytest.raises(MpccError, match="E-range-input: calibration data of x leave"):
        analyse(net.module, net.constants, samples(net), options)


def test_the_first_layer_that_does_not_fit_is_named():
    net = chain(3, 2.0**20)
    with pytest.raises(MpccError, match=r"E-range-fit(?s:.)*dense1"):
        analyse(net.module, net.constants, (), FormatOptions(clamp_bits=20))
    with pytest.raises(MpccError, match=r"E-range-fit(?s:.)*where: dense1"):
        analyse(net.module, net.constants, samples(net))


def test_an_accuracy_that_no_format_reaches():
    net = random_net(1)
    with pytest.raises(MpccError, match="no format keeps every output within 1e-12; about"):
        analyse(net.module, net.constants, samples(net), FormatOptions(max_error=1e-12))


@pytest.mark.parametrize("value", [np.inf, np.nan, 2.0**60])
def test_weights_that_are_no_fixed_point_numbers(value):
    net = chain(1, 1.0)
    net.constants["w0"] = np.full((4, 4), value)
    with pytest.raises(MpccError, match="E-range-weights"):
        analyse(net.module, net.constants)


@pytest.mark.parametrize(
    ("scale", "policy"), [(1e-3, "observed"), (1e-3, "guarded"), (0.9, "observed")]
)
def test_inputs_far_beyond_the_data_are_warned_of(scale, policy):
    net = random_net(3)
    options = FormatOptions(policy=policy, input_ranges={"x": (-1.0, 1.0)})
    analysis, _, _ = compiled(net, samples(net, scale=scale), options)
    warned = any("may be wrong without notice" in note for note in analysis.notes)
    # Guarded formats hold whatever comes, so there is nothing to warn of.
    assert warned == (scale < 0.25 and policy == "observed")
