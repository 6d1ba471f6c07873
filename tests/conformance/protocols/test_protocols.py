"""Every protocol gives the fixed-point result exactly, given the run's coins, at edge values.

``execute`` also checks the declared costs against counts and measurements, that copies of a share
agree, and that no stream is used twice.
"""

import numpy as np
import pytest

from mpcc.protocols import PROTOCOLS, Rep3
from mpcc.protocols.rep3.sharing import ROLES
from mpcc.protocols.roles import FixedRole
from tests.conformance.cases import CASES, edges
from tests.protocols.support import Program, execute

RUNS = [(p, r) for p in PROTOCOLS.values() for r in (64, 32)]


@pytest.mark.parametrize(("protocol", "ring"), RUNS, ids=lambda v: getattr(v, "name", v))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact(case, protocol, ring):
    program = case.build(ring)
    outcome = execute(program, protocol())
    for op in program.module.main.walk("secure.reveal"):
        raw = outcome.reference[op.operands[0]]
        real = np.ldexp(raw.astype(np.float64), -op.operands[0].type.frac)
        np.testing.assert_array_equal(
            outcome.run.outputs[op.attrs["name"]], real.astype(np.float32)
        )


@pytest.mark.parametrize("role", range(len(ROLES)))
def test_every_role(role):
    """All assignments of parties to roles, for every asymmetric step."""
    program = Program(64)
    x = program.weight(edges(40), 12, 41)
    for rounding in ("stochastic", "exact"):
        y = program.op("truncate", x, amount=12, rounding=rounding, width=30)
        bit = program.op("negative", y)
        program.op("select", bit, y, width=30)
        program.op("reveal", y, name=rounding, owner="client")
    execute(program, Rep3(), balancer=FixedRole(role))


@pytest.mark.slow
@pytest.mark.parametrize("amount", [19, 1, 45])
def test_a_million_truncations(amount):
    """2^20 edge and random values over the whole admissible range: never off by a unit or more."""
    program = Program(64)
    k = 61
    raw = np.clip(edges(k, 1 << 20, seed=amount), 1 - 2**k, 2**k - 1)
    x = program.weight(raw, amount, k)
    y = program.op("truncate", x, amount=amount, width=k - amount + 1)
    outcome = execute(program, Rep3(), seed=amount)
    # In units of the result: |2^f y - x| < 2^f, with exact 64-bit arithmetic on the remainder.
    difference = (outcome.actual[y] << amount) - raw
    assert np.abs(difference).max() < 1 << amount
    # Unbiased: the mean error over n values has a standard deviation below 0.5 / sqrt(n) units.
    random = difference[1000:] / 2.0**amount
    assert abs(random.mean()) < 6 * 0.5 / np.sqrt(random.size)


@pytest.mark.slow
@pytest.mark.parametrize("width", [16, 28])
def test_a_million_comparisons(width):
    program = Program(64)
    x = program.weight(edges(width, 1 << 20, seed=width), 0, width)
    bit = program.op("negative", x)
    program.op("select", bit, x, width=width)
    execute(program, Rep3(), seed=width)
