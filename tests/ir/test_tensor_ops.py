"""Every tensor operator by the rows of ``samples.py``: declaration, numpy reference, range rule."""

import numpy as np
import pytest

from mpcc.ir.interp import real
from mpcc.ir.intervals import Interval, Rounding
from mpcc.ir.ops import tensor
from mpcc.ir.ops.tensor import Kind, TensorOperation
from mpcc.ir.types import TensorType
from mpcc.ir.verify import verify
from tests.ir.samples import ROWS, Maker

UNIT = 2.0**-12
SEEDS = range(10)

each_row = pytest.mark.parametrize("row", ROWS, ids=[f"{n}-{r.op}" for n, r in enumerate(ROWS)])


def computing():
    """Declarations of all operators that are neither source nor output."""
    ops = [
        op for op in tensor.DIALECT.operations.values() if issubclass(op, tensor.TensorOperation)
    ]
    # A call has its function's values: tests/ir/test_calls.py.
    return [op for op in ops if op.kind not in (Kind.SOURCE, Kind.OUTPUT) and op != tensor.Call]


def test_every_operator_is_complete():
    for op in tensor.DIALECT.operations.values():
        assert issubclass(op, TensorOperation)
        assert isinstance(op.kind, Kind)
        assert op.__doc__
    rows = {row.op for row in ROWS}
    for op in computing():
        assert op.name.removeprefix("tensor.") in rows, f"no row for {op.name}"
        for method in ("infer", "evaluate", "interval"):
            own, base = getattr(op, method), getattr(TensorOperation, method)
            assert own.__func__ is not base.__func__, f"{op.name} has no {method}"


@each_row
def test_reference(row):
    o = Maker("tensor")
    results = row.append(o, "v")
    verify(o.module, tensor.DIALECT)
    for seed in SEEDS:
        arrays = row.arrays(np.random.default_rng(seed), ends=seed == 0)
        inputs, weights = row.named(arrays, "v")
        want = row.reference(*arrays)
        assert len(want) == len(results)
        have = real.run(o.module, weights, inputs)
        for i, (array, result) in enumerate(zip(want, results, strict=True)):
            assert isinstance(result.type, TensorType)
            assert array.shape == result.type.shape
            np.testing.assert_allclose(have[f"vy{i}"], array, rtol=1e-12, atol=1e-12)


@each_row
@pytest.mark.parametrize("seed", SEEDS)
def test_results_stay_inside_their_interval(row, seed):
    """Whatever the operands are inside theirs, and however the result is rounded within a unit."""
    rng = np.random.default_rng(seed)
    middles = row.arrays(rng)
    # Some elements are points, some intervals are wide.
    radii = [rng.choice([0, 1e-3, 1.0], m.shape) * rng.random(m.shape) for m in middles]
    operands = [Interval(m - r, m + r) for m, r in zip(middles, radii, strict=True)]
    for i, operand in enumerate(row.operands):
        if operand.source == "bit":
            certain = rng.choice([True, False], operand.shape)
            operands[i] = Interval(middles[i] * certain, 1 - (1 - middles[i]) * certain)
    found = row.definition.interval(row.attrs, operands, Rounding(UNIT, UNIT / 2))
    assert np.isfinite(found.inner)
    for trial in range(20):
        # The first trials sit at corners, where bounds are reached if anywhere.
        at = [
            rng.choice([0.0, 1.0], x.lo.shape) if trial < 10 else rng.random(x.lo.shape)
            for x in operands
        ]
        # Clipped: binary64 rounds the point on the way.
        inside = [
            np.clip(x.lo + t * (x.hi - x.lo), x.lo, x.hi) for x, t in zip(operands, at, strict=True)
        ]
        for i, operand in enumerate(row.operands):
            if operand.source == "bit":
                inside[i] = np.round(inside[i])
        results = row.definition.evaluate(row.attrs, *inside)
        for bounds, result in zip(found.results, results, strict=True):
            assert bounds.lo.shape == bounds.hi.shape == result.shape
            assert (bounds.lo <= result).all()
            assert (result <= bounds.hi).all()


@pytest.mark.parametrize("row", [r for r in ROWS if r.definition.discontinuous], ids=lambda r: r.op)
@pytest.mark.parametrize("tolerance", [0.0, 1e-9, 0.3])
def test_what_may_come_out_for_near_operands_is_accepted(row, tolerance):
    """And what may not is not: an operator that jumps says exactly what is open."""
    definition, attrs = row.definition, row.attrs
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(20):
        operands = row.arrays(rng)
        near = [x + tolerance * rng.uniform(-1, 1, x.shape) for x in operands]
        found = definition.evaluate(attrs, *near)[-1].astype(np.float64)
        # The sum of an operand and its move is rounded.
        good = definition.allows(attrs, operands, found, tolerance * (1 + 1e-6) + 1e-15)
        assert good.shape == found.shape
        assert good.all()
        far = [x + rng.choice([-3.0, 3.0], x.shape) for x in operands]
        other = definition.evaluate(attrs, *far)[-1].astype(np.float64)
        differs = other != definition.evaluate(attrs, *operands)[-1]
        refused += (~definition.allows(attrs, operands, other, 1e-12) & differs).sum()
    assert refused > 0 or found.max() == 0


@each_row
def test_the_interval_of_points_is_nearly_a_point(row):
    """A rule that allows anything would be sound, and useless."""
    arrays = row.arrays(np.random.default_rng(4))
    operands = [Interval(x, x) for x in arrays]
    found = row.definition.interval(row.attrs, operands, Rounding(UNIT, UNIT / 2))
    for bounds in found.results:
        assert (bounds.hi - bounds.lo).max(initial=0.0) <= 9 * UNIT
