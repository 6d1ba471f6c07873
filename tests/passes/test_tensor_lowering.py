"""Every tensor operator by the rows of ``tests/ir/samples.py``: its fixed-point form."""

import numpy as np
import pytest

from mpcc.ir.analysis.bounds import bound
from mpcc.ir.interp import fixed, real
from mpcc.ir.ops import secure, tensor
from mpcc.ir.phi import FormatOptions
from mpcc.ir.verify import verify
from mpcc.passes.analyse import analyse
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights
from mpcc.passes.lowerings import RULES
from tests.ir.samples import ROWS, Maker


def test_every_operator_has_a_rule():
    # The driver encodes weights itself, where they are used, and calls functions.
    own = {tensor.Weight, tensor.Call}
    assert set(RULES) == set(tensor.DIALECT.operations.values()) - own


@pytest.mark.parametrize("row", ROWS, ids=[f"{n}-{r.op}" for n, r in enumerate(ROWS)])
def test_fixed_point_stays_within_the_bound(row):
    """Proved ranges hold, and every run is as close to the float model as the bound says."""
    o = Maker("tensor")
    row.append(o, "v")
    rng = np.random.default_rng(1)
    _, weights = row.named(row.arrays(rng), "v")
    ranges = {f"v{i}": (x.lo, x.hi) for i, x in enumerate(row.operands) if x.source != "weight"}
    options = FormatOptions(policy="proved", input_ranges=ranges)
    phi = analyse(o.module, weights, (), options).phi
    program = build_secure(o.module, phi, options)
    verify(program, secure.DIALECT)
    raw = encode_weights(weights, program)
    bounds = bound(program, raw)
    for seed, rounding in enumerate(("floor", "worst", "random", "floor", "worst", "random")):
        arrays = row.arrays(np.random.default_rng(seed), ends=seed < 3)
        inputs, _ = row.named(arrays, "v")
        want = real.run(o.module, weights, inputs)
        have = fixed.simulate(program, raw, inputs, rounding, seed=seed)
        assert not have.overflows
        assert have.outputs.keys() == want.keys()
        for name, array in want.items():
            error = np.abs(have.outputs[name] - array).max(initial=0.0)
            assert error <= min(bounds[name].error, options.max_error)
