"""The plan of the comparison in one round, and when it is taken."""

import pytest

from mpcc.errors import MpccError
from mpcc.ir.types import bits_bytes
from mpcc.protocols import Rep3, lower_program
from mpcc.protocols.rep3.carry import plan
from mpcc.protocols.rep3.comparison import carry_rounds, compare_cost
from mpcc.protocols.rep3.one_round_plan import OneRound, one_round
from tests.protocols.support import Program

ROLE = ("P0", "P1", "P2")
WAN = 880_000


@pytest.mark.parametrize("width", range(1, 65))
def test_plan_covers_the_width(width):
    p = one_round(width)
    assert p.width == width
    assert 1 <= min(p.blocks) <= max(p.blocks) <= 6
    assert p.bits == sum(p.planes(sign=True).values())


def test_no_plan_out_of_range():
    for width in (0, 97):
        with pytest.raises(ValueError, match="no carry plan"):
            one_round(width)


@pytest.mark.parametrize(
    ("width", "bits"), [(8, 54), (12, 115), (16, 207), (20, 314), (24, 452), (28, 573), (32, 748)]
)
def test_bits_of_plans(width, bits):
    """docs/protocols.md prints these."""
    assert one_round(width).bits == bits


def test_bits_are_those_of_the_description():
    """Of two blocks: 2 + 2 tables above, 2 below; a product, a carry and the result are opened."""
    p = OneRound((2, 3))
    assert p.planes(sign=False) == {"tables": 2 * 3 + 2 * 7, "mask": 3, "open": 0, "close": 0}


@pytest.mark.parametrize("lanes", [1, 1000, 10_000, 100_000])
@pytest.mark.parametrize("width", [8, 16, 25, 40])
def test_the_fastest_plan_is_taken(width, lanes):
    """By bytes on the busiest link and rounds; without a network, never one round."""
    chosen = plan(width, lanes, WAN)

    def price(p):
        return bits_bytes(lanes, max(p.planes(sign=True).values())) + p.levels * WAN

    assert price(chosen) <= min(price(one_round(width)), price(plan(width, lanes)))
    assert plan(width, lanes).levels > 0


def test_one_round_is_for_far_networks_and_few_lanes():
    levels = [plan(20, 1000, bytes_).levels for bytes_ in (None, 1000, WAN)]
    assert levels == [1, 2, 0]
    assert plan(20, 1_000_000, WAN).levels == 2


def test_cost_is_one_round():
    cost = compare_cost(role=ROLE, lanes=512, width=16, round_bytes=WAN)
    assert cost.rounds == 1
    assert cost.total_bytes == 512 * one_round(16).bits // 8
    # b at q2 may come with the message, not b at q1.
    assert carry_rounds(16, 512, 3, 3, 4, WAN) == 4
    assert carry_rounds(16, 512, 3, 4, 4, WAN) == 5


@pytest.mark.parametrize("value", [0, -1, (1 << 40) + 1, "far"])
def test_networks_that_are_none(value):
    program = Program()
    program.weight([1], 0, 4)
    program.module.attrs["round_bytes"] = value
    with pytest.raises(MpccError, match="E-lower-network"):
        lower_program(program.module, Rep3())
