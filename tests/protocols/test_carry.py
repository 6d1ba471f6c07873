"""Plans and polynomials of the carry gadget, against plain arithmetic and the published counts."""

import itertools

import numpy as np
import pytest

from mpcc.protocols.rep3.carry import Combine, Plan, plan

MANY = 1 << 20


@pytest.mark.parametrize("lanes", [1, 1000, MANY])
@pytest.mark.parametrize("width", range(1, 65))
def test_plan_covers_the_width(width, lanes):
    p = plan(width, lanes)
    assert isinstance(p, Plan)
    assert p.width == width
    assert sum(p.groups) == len(p.blocks)
    assert 1 <= min(p.blocks) <= max(p.blocks) <= 4
    if lanes == MANY:
        assert max(p.groups) <= 5
        assert p.levels == (1 if width <= 16 else 2)
    if lanes == 1:
        assert p.levels == (1 if width <= 32 else 2)


def test_a_round_is_saved_where_it_costs_less_than_its_bytes():
    levels = [plan(20, lanes).levels for lanes in (1, 1000, 10_000, 100_000)]
    assert levels == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("width", "bits"),
    [(8, 32), (15, 81), (16, 89), (20, 89), (28, 135), (32, 159), (45, 245), (62, 378)],
)
def test_bits_of_plans(width, bits):
    """docs/protocols.md prints these."""
    assert plan(width, MANY).bits == bits


def test_no_plan_out_of_range():
    for width in (0, 65):
        with pytest.raises(ValueError, match="no carry plan"):
            plan(width, 1)


@pytest.mark.parametrize("width", [5, 9, 13, 19, 22])
def test_plan_is_no_worse_than_any_split_with_its_groups(width):
    p = plan(width, MANY)
    assert isinstance(p, Plan)
    if len(p.blocks) > 8:
        pytest.fail("choose widths whose splits can be enumerated")
    for blocks in itertools.product(range(1, 5), repeat=len(p.blocks)):
        if sum(blocks) == width:
            assert p.bits <= Plan(blocks, p.groups).bits


@pytest.mark.parametrize("groups", [(2,), (3,), (4,), (6,), (1, 1), (2, 1), (2, 3), (4, 4, 4, 4)])
def test_both_evaluators_give_the_carries(groups):
    """Xor of both polynomials, over random shares, masks and dealt products."""
    rng = np.random.default_rng(5)
    lanes, blocks = 4096, sum(groups)
    combine = Combine.of(groups)
    planes = 2 * blocks - 1
    inputs = rng.integers(0, 2, (planes, lanes)).astype(bool)
    for i in range(1, blocks):  # a block that propagates does not generate
        inputs[2 * i - 1] &= ~inputs[2 * i]
    share0 = rng.integers(0, 2, inputs.shape).astype(bool)
    share2 = inputs ^ share0
    masks = [rng.integers(0, 2, (len(combine.factors), lanes)).astype(bool) for _ in range(2)]
    total = masks[0] ^ masks[1]
    dealt0 = rng.integers(0, 2, (len(combine.products), lanes)).astype(bool)
    dealt2 = dealt0 ^ np.array(
        [total[list(t)].all(axis=0) for t in combine.products], bool
    ).reshape(dealt0.shape)
    opened = inputs[list(combine.factors)] ^ total

    def side(share, mask, dealt, constant):
        held = np.concatenate([share, opened, mask, dealt])
        terms = combine.polynomials(planes, constant)
        return np.array(
            [np.logical_xor.reduce([held[list(m)].all(axis=0) for m in t]) for t in terms]
        )

    found = side(share0, masks[0], dealt0, True) ^ side(share2, masks[1], dealt2, False)
    low, row = 0, 0
    for g, size in enumerate(groups):
        carry = np.zeros(lanes, bool)
        through = np.ones(lanes, bool)
        for i in range(low, low + size):
            p = inputs[2 * i] if i else np.zeros(lanes, bool)
            carry = inputs[max(2 * i - 1, 0)] | (p & carry)
            through &= p
        np.testing.assert_array_equal(found[row], carry)
        if g:
            np.testing.assert_array_equal(found[row + 1], through)
        row += 2 if g else 1
        low += size
    assert row == len(found)
