"""Costs: formula = count = measurement around the block size, and the printed figures."""

import pytest

from mpcc.ir.types import bits_bytes
from mpcc.protocols import PROTOCOLS, Rep3
from mpcc.protocols.rep3.cast import truncate_into_cost, widen_cost
from mpcc.protocols.rep3.comparison import bit_roles, compare_cost
from mpcc.protocols.rep3.fourier import fourier_cost
from mpcc.protocols.rep3.select import bit_to_ring_cost, select_cost
from mpcc.protocols.rep3.truncation import truncate_cost, truncate_exact_cost
from tests.conformance.cases import edges
from tests.protocols.support import Program, execute

ROLE = ("P0", "P1", "P2")
LANES, FEW = 512 * 512, 512


def function(count, replicated=True, zero=""):
    return fourier_cost(
        role=ROLE,
        lanes=LANES,
        ring=64,
        count=count,
        period=20,
        replicated=replicated,
        zero=zero,
    )


def truncated_function(amount):
    """Of a sum of two summands."""
    return truncate_cost(
        role=("P1", "P0", "P2"), lanes=LANES, ring=64, amount=amount, replicated=False, zero="P0"
    )


@pytest.mark.parametrize("ring", [32, 64])
@pytest.mark.parametrize("lanes", [1, 7, 8, 9, 63, 64, 65, 511, 512, 513, 1024, 1537])
def test_formulas_at_block_ends(lanes, ring):
    """execute() compares formula, count and measurement of every op."""
    program = Program(ring)
    x = program.weight(edges(20, lanes), 9, 20)
    one = program.weight([[1]], 0, 1)
    y = program.op("matmul", program.op("reshape", x, shape=(lanes, 1)), one, width=20)
    y = program.op("truncate", y, amount=9, width=12)
    bit = program.op("negative", y)
    y = program.op("select", bit, y, width=12)
    wide = program.op("cast", y, ring=64)
    wide = program.op("matmul", wide, program.op("cast", one, ring=64), width=12)
    wide = program.op("shift_left", wide, amount=3, width=15)
    program.op("truncate", wide, amount=3, ring=32, width=12)
    z = program.op("truncate", x, amount=9, rounding="exact", width=12)
    program.op("clamp", z, lo=-4, hi=4, width=3)
    other = program.op("reshape", program.op("negative", x), shape=(lanes, 1))
    program.op("from_bit", program.op("concat", bit, other, axis=0), ring=ring)
    program.op("negative", program.op("mul", y, y, width=24))
    wave = {"cos": (3,), "sin": (-4,), "coefficient_frac": 3, "precision": 9, "ring": ring}
    for operand in (x, y, program.op("matmul", y, one, width=12)):
        turn = program.op("fourier", operand, period=19, width=20, **wave)
        program.op("truncate", turn, amount=7, width=14)
    program.op("reveal", y, name="y", owner="client")
    outcome = execute(program, Rep3())
    assert outcome.run.rounds > 0


@pytest.mark.parametrize(
    ("cost", "bits", "rounds"),
    [
        (compare_cost(role=ROLE, lanes=LANES, width=16), 89, 2),
        (compare_cost(role=ROLE, lanes=LANES, width=15), 81, 2),
        (compare_cost(role=ROLE, lanes=LANES, width=28), 135, 3),
        (compare_cost(role=ROLE, lanes=FEW, width=28), 308, 2),
        (select_cost(role=ROLE, lanes=LANES, ring=64), 4 * 64, 2),
        (select_cost(role=ROLE, lanes=LANES, ring=32), 4 * 32, 2),
        (bit_to_ring_cost(role=ROLE, lanes=LANES, ring=64), 3 * 64, 2),
        (
            truncate_cost(role=ROLE, lanes=LANES, ring=64, amount=16, replicated=False),
            3 * 64 + 3 * 16,
            2,
        ),
        (
            truncate_cost(role=ROLE, lanes=LANES, ring=64, amount=16, replicated=True),
            64 + 3 * 16,
            2,
        ),
        (
            truncate_cost(role=ROLE, lanes=LANES, ring=64, amount=16, replicated=False, zero="P2"),
            2 * 64 + 3 * 16,
            2,
        ),
        (function(count=8), 1024, 1),
        (function(count=16), 2048, 1),
        (function(count=8, replicated=False), 1024 + 2 * 20, 1),
        (function(count=8, replicated=False, zero="P1"), 1024 + 20, 1),
        (function(count=8).then(truncated_function(24)), 1224, 3),
        (function(count=16).then(truncated_function(24)), 2248, 3),
        (
            truncate_exact_cost(role=ROLE, lanes=LANES, ring=64, amount=16, replicated=True),
            64 + 3 * 16 + 88 + 3 * 64,
            4,
        ),
        (
            truncate_exact_cost(role=ROLE, lanes=LANES, ring=64, amount=20, replicated=False),
            3 * 64 + 3 * 20 + 88 + 3 * 64,
            6,
        ),
        (widen_cost(role=ROLE, lanes=LANES, ring=32, to=64), 160, 2),
        (
            truncate_into_cost(role=ROLE, lanes=LANES, to=32, amount=16, replicated=False),
            3 * 32 + 2 * 16,
            1,
        ),
        (
            truncate_into_cost(role=ROLE, lanes=LANES, to=32, amount=16, replicated=True),
            32,
            1,
        ),
    ],
)
def test_bits_per_lane(cost, bits, rounds):
    """docs/protocols.md prints these."""
    lanes = FEW if bits == 308 else LANES
    assert cost.total_bytes * 8 == bits * lanes
    assert cost.rounds == rounds


def test_link_loads_of_relu():
    """protocol-level figures at k = 16 and Z_2^64, by link, in bits per lane."""
    after = bit_roles(ROLE, 16, LANES)
    cost = compare_cost(role=ROLE, lanes=LANES, width=16).then(
        select_cost(role=after, lanes=LANES, ring=64)
    )
    assert {k: v * 8 // LANES for k, v in cost.bytes_sent.items()} == {
        "0->2": 140,
        "1->2": 134,
        "2->0": 64,
        "2->1": 7,
    }
    assert cost.rounds == 4


def test_short_last_blocks_round_up_per_plane():
    assert compare_cost(role=ROLE, lanes=9, width=16).total_bytes == bits_bytes(9, 89)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda p: p.name)
def test_every_step_is_declared_once(protocol):
    names = [s.name for s in protocol.steps]
    assert names
    assert len(set(names)) == len(names)
    assert all(s.cost.__doc__ for s in protocol.steps)
