"""Networks of compare-exchanges that bring the largest of n wires to the front.

A comparator (i, j) leaves the larger value on wire i and the smaller on wire j. A network is a
list of layers; the comparators of one layer touch different wires and are compared at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

__all__ = ["Layer", "Network", "best", "comparators", "sorting", "tournaments"]

Layer: TypeAlias = list[tuple[int, int]]
Network: TypeAlias = list[Layer]


def best(n: int, k: int) -> Network:
    """Of both networks the one with fewer comparators, or with fewer layers if they are equal."""
    return min(tournaments(n, k), sorting(n, k), key=lambda w: (comparators(w), len(w)))


def comparators(network: Network) -> int:
    """Number of comparators."""
    return sum(map(len, network))


def tournaments(n: int, k: int) -> Network:
    """One maximum after another: of the i-th, n - i comparators in ceil(log2(n - i + 1)) layers."""
    layers: Network = []
    for first in range(min(k, n - 1)):
        players = list(range(first, n))
        while len(players) > 1:
            pairs = list(zip(players[0::2], players[1::2], strict=False))
            layers.append(pairs)
            # The winner stays on the wire of the first of two, so the last one on the first wire.
            players = players[0::2]
    return layers


def sorting(n: int, k: int) -> Network:
    """Batcher's merge exchange, without what the first k wires do not need.

    Knuth, The Art of Computer Programming, volume 3, section 5.2.2, algorithm M: about
    n log2(n)^2 / 4 comparators in log2(n) (log2(n) + 1) / 2 layers before cutting.
    """
    needed, kept = set(range(k)), []
    for layer in reversed(list(_merge_exchange(n))):
        used = [(i, j) for i, j in layer if i in needed or j in needed]
        needed.update(w for pair in used for w in pair)
        kept.append(used)
    return [layer for layer in reversed(kept) if layer]


def _merge_exchange(n: int) -> Iterator[Layer]:
    top = 1 << max(n - 1, 1).bit_length() - 1
    p = top
    while n > 1 and p > 0:
        q, r, d = top, 0, p
        while True:
            yield [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1


def wires(layers: Sequence[Layer], k: int) -> list[list[int]]:
    """For every layer, the wires that it or a later one uses, or that are results; rising."""
    needed, found = set(range(k)), []
    for layer in reversed(layers):
        needed |= {w for pair in layer for w in pair}
        found.append(sorted(needed))
    return found[::-1]
