"""Small models from floats to three parties: given the run's coins, the simulator is bit-exact."""

import numpy as np
import pytest

from mpcc.ir.interp import fixed, party, real
from mpcc.ir.phi import FormatOptions
from mpcc.ir.types import BitType, SecureType
from mpcc.passes.analyse import analyse
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights
from mpcc.protocols.lowering import lower_program
from mpcc.protocols.rep3 import Rep3
from tests.passes.secure_nets import random_net


@pytest.mark.parametrize("policy", ["proved", "guarded", "observed"])
@pytest.mark.parametrize("seed", range(6))
def test_simulator_with_coins_equals_the_parties(seed, policy):
    net = random_net(seed)
    # A wide range, so that guarded has clamps.
    options = FormatOptions(policy=policy, input_ranges={"x": (-512.0, 512.0)}, max_error=0.1)
    calibration = [] if policy == "proved" else [net.sample(seed=i) for i in range(3)]
    phi = analyse(net.module, net.constants, calibration, options).phi
    module = build_secure(net.module, phi, options)
    weights = encode_weights(net.constants, module)
    inputs = net.sample(seed=50)

    lowered = lower_program(module, Rep3())
    keep = {c.value for c in lowered.coins.values() if c.value is not None}
    session = party.Session(lowered.party, weights, party.SeededKeys(seed), keep=keep)
    run = session.run(inputs, keep=keep)
    values = {**session.setup.values, **run.values}
    coins = {}
    for i, coin in lowered.coins.items():
        type_ = module.main.ops[i].result.type
        assert isinstance(type_, SecureType | BitType)
        coins[i] = coin.read(values, type_.shape)
    have = fixed.simulate(module, weights, inputs, coins)
    assert not have.overflows
    want = real.run(net.module, net.constants, inputs)
    assert run.outputs.keys() == have.outputs.keys() == want.keys()
    for name, array in have.outputs.items():
        np.testing.assert_array_equal(run.outputs[name], array)
        assert np.abs(array - want[name]).max() <= 0.1
