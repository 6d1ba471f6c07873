"""Every tensor operator by the rows of ``tests/ir/samples.py``: between three parties.

Given the run's coins, what the parties open is bit-exact what the simulator computes.
"""

import numpy as np
import pytest

from mpcc.ir.encodings import encoded
from mpcc.ir.interp import fixed, party
from mpcc.ir.phi import FormatOptions
from mpcc.ir.types import BitType, SecureType
from mpcc.passes.analyse import analyse
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights
from mpcc.protocols.lowering import lower_program
from mpcc.protocols.rep3 import Rep3
from tests.ir.samples import ROWS, Maker


@pytest.mark.parametrize("row", ROWS, ids=[f"{n}-{r.op}" for n, r in enumerate(ROWS)])
def test_parties_compute_what_the_simulator_does(row):
    o = Maker("tensor")
    row.append(o, "v")
    _, constants = row.named(row.arrays(np.random.default_rng(1)), "v")
    ranges = {f"v{i}": (x.lo, x.hi) for i, x in enumerate(row.operands) if x.source != "weight"}
    options = FormatOptions(policy="proved", input_ranges=ranges)
    phi = analyse(o.module, constants, (), options).phi
    module = build_secure(o.module, phi, options)
    weights = encode_weights(constants, module)
    lowered = lower_program(module, Rep3())
    keep = {c.value for c in lowered.coins.values() if c.value is not None}
    session = party.Session(lowered.party, weights, party.SeededKeys(3), keep=keep)
    for seed in range(2):
        inputs, _ = row.named(row.arrays(np.random.default_rng(seed), ends=seed == 0), "v")
        # What the client shares: of numbers that look up rows, one-hot rows.
        ports = {op.attrs["name"]: op.attrs for op in module.main.walk("secure.input")}
        shared = {name: encoded(array, ports[name]) for name, array in inputs.items()}
        run = session.run(shared, keep=keep)
        values = {**session.setup.values, **run.values}
        coins = {}
        for i, coin in lowered.coins.items():
            type_ = module.main.ops[i].result.type
            assert isinstance(type_, SecureType | BitType)
            coins[i] = coin.read(values, type_.shape)
        have = fixed.simulate(module, weights, inputs, coins)
        assert not have.overflows
        assert run.outputs.keys() == have.outputs.keys()
        for name, array in have.outputs.items():
            np.testing.assert_array_equal(run.outputs[name], array)
