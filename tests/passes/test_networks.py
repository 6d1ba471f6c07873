"""Networks of compare-exchanges: they order, and have as many comparators as they say."""

import itertools

import numpy as np
import pytest

from mpcc.passes.lowerings.networks import best, comparators, sorting, tournaments, wires


def run(network, values):
    values = list(values)
    for layer in network:
        touched = [w for pair in layer for w in pair]
        assert len(touched) == len(set(touched))
        for i, j in layer:
            if values[i] < values[j]:
                values[i], values[j] = values[j], values[i]
    return values


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("made", [tournaments, sorting, best])
def test_zeros_and_ones(n, made):
    """A network that orders all lists of zeros and ones orders everything."""
    for k in range(1, n + 1):
        network = made(n, k)
        for bits in itertools.product((0, 1), repeat=n):
            assert run(network, bits)[:k] == sorted(bits, reverse=True)[:k]


@pytest.mark.parametrize(("n", "k"), [(17, 17), (33, 5), (100, 3), (257, 8)])
def test_larger(n, k):
    rng = np.random.default_rng(n)
    for made in (tournaments, sorting):
        network = made(n, k)
        for _ in range(20):
            values = rng.permutation(n).tolist()
            assert run(network, values)[:k] == sorted(values, reverse=True)[:k]


def test_costs():
    assert comparators(tournaments(10, 3)) == 9 + 8 + 7
    assert len(tournaments(10, 3)) == 4 + 4 + 3
    # One maximum costs n - 1 either way; all of 16 are cheaper by the network.
    assert comparators(sorting(16, 1)) == 15
    assert (comparators(sorting(16, 16)), len(sorting(16, 16))) == (63, 10)
    assert comparators(best(16, 16)) == 63
    assert comparators(best(100, 5)) == comparators(tournaments(100, 5)) == 485


def test_wires_are_dropped_when_nothing_needs_them():
    network = tournaments(5, 1)
    assert [len(w) for w in wires(network, 1)] == [5, 3, 2]
