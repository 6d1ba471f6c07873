"""Error bounds of products, sums and decisions hold for real runs, and say where bits are safe."""

import numpy as np
import pytest

from mpcc.ir.analysis.bounds import bound
from mpcc.ir.interp.fixed import simulate
from tests.protocols.support import Program

FRAC = 8


def program(x, y):
    """mul, scale, gather, reduce_sum; then the sign as a number and as a choice."""
    p = Program()
    a, b = p.input(x, FRAC, width=12), p.input(y, FRAC, width=12)
    z = p.op("truncate", p.op("mul", a, b, width=24), amount=FRAC, width=16)
    z = p.op("scale", z, factor=round(0.3 * 2**6), frac=6, width=22)
    z = p.op("truncate", z, amount=6, width=17)
    z = p.op("gather", z, axis=1, indices=(3, 0, 0, 2))
    p.op("reveal", p.op("reduce_sum", z, axes=(1,), width=20), name="sum", owner="client")
    bit = p.op("gather", p.op("negative", z), axis=1, indices=(0, 1, 3))
    p.op("reveal", p.op("from_bit", bit), name="bit", owner="client")
    picked = p.op("gather", z, axis=1, indices=(2, 1, 3))
    p.op("reveal", p.op("select", bit, picked, width=17), name="kept", owner="client")
    return p


def model(x, y):
    z = (x * y * 0.3)[:, [3, 0, 0, 2]]
    bit = (z < 0)[:, [0, 1, 3]]
    return {"sum": z.sum(axis=1), "bit": bit, "kept": np.where(bit, z[:, [2, 1, 3]], 0)}


@pytest.mark.parametrize("far", [True, False], ids=["far-from-zero", "near-zero"])
@pytest.mark.parametrize("seed", range(8))
def test_runs_stay_within_the_bounds(seed, far):
    rng = np.random.default_rng(seed)
    x, y = (rng.uniform(1.5, 7.5, (3, 4)) * rng.choice((-1, 1), (3, 4)) for _ in range(2))
    if not far:
        x[0, 0] = 2.0**-10  # its product rounds to zero or a unit
    made = program(x, y)
    wanted = model(*(v.astype(np.float32).astype(np.float64) for v in (x, y)))
    runs = [simulate(made.module, {}, made.inputs, "random", s, keep_raw=True) for s in range(10)]
    general = bound(made.module, {})
    here = bound(made.module, {}, runs[0].raw)
    for name, exact in wanted.items():
        for run in runs:
            error = np.abs(run.outputs[name] - exact).max()
            assert error <= general[name].error
            assert error <= here[name].error or run is not runs[0]
            spread = np.abs(run.outputs[name] - runs[0].outputs[name]).max()
            assert spread <= here[name].spread
            assert spread <= general[name].spread
    # Over all inputs a sign may be wrong; in a run it is right where the value is far from zero.
    assert general["bit"].error >= 1
    assert (here["bit"].error < 0.5) == far
    if far:
        assert here["kept"].error < 0.5
