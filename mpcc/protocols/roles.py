"""Who plays which role: few rounds first, then balance of link loads.

The roles of a step load the links unequally, and a party that drew its components can go on before
the others have theirs. For every step in program order the assignment is taken whose result is
ready after the fewest rounds, and among these the one that keeps the sum of squared link loads
smallest, first candidate on a tie; loads of setup and online are balanced apart. Where this leaves
a link far above the mean, :func:`attempts` gives choices that let a step be late if its roles
balance the links. All depends on the program alone, so lowering again gives the same program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

from mpcc.ir.types import COMPUTE_PLACES
from mpcc.protocols.base import Cost, Ready, Role

__all__ = ["BALANCED", "SMALL_TRAFFIC", "FixedRole", "LinkBalance", "attempts"]

BALANCED = Fraction(11, 10)
"""The busiest link between parties is to carry at most this many times the mean."""

SMALL_TRAFFIC = 256 << 10
"""Bytes between parties below which a round costs more than any imbalance."""

_TRIED = (
    (None, 0),
    (125_000, 0),
    (10_000, 0),
    (10_000, 1),
    (10_000, 2),
    (10_000, 3),
    (1_000, 0),
    (1_000, 1),
)
"""Prices of a round and variants, as tried one after another."""


class LinkBalance:
    """Greedy choice over the whole program.

    Args:
        price: bytes of link load that a round of delay is weighed against; None: any number.
        variant: weighs loads by up to a tenth apart, another way for every number but 0: a greedy
            choice is not the best one, and another may be better.
    """

    def __init__(self, price: int | None = None, variant: int = 0) -> None:
        self._price = price
        self._variant = variant
        self.times = 1
        self._chosen = 0
        self._load: dict[tuple[str, str, str], int] = {}

    def choose(
        self,
        phase: str,
        candidates: Sequence[Role],
        cost: Callable[[Role], Cost],
        ready: Ready | None = None,
    ) -> Role:
        """The candidate that is ready first and adds least to the sum of squared loads.

        Its cost is then counted.
        """
        costs = [cost(role) for role in candidates]
        rounds = [(0,) if ready is None else ready(role) for role in candidates]
        before = sum(n for (of, *_), n in self._load.items() if of == phase)
        times = self.times

        def growth(step: Cost) -> int:
            return sum(
                (2 * self._load.get((phase, *link), 0) + nbytes * times) * nbytes * times
                for link, nbytes in step.links.items()
            )

        def score(i: int) -> tuple[Any, ...]:
            squares = growth(costs[i]) * self._weight(i)
            if self._price is None:
                return (rounds[i], squares)
            # Six times the squares over the sum: the load of a link, weighted by the loads.
            load = Fraction(6 * squares, 1000 * max(before + costs[i].total_bytes * times, 1))
            return (rounds[i][0] * self._price + load, rounds[i])

        best = min(range(len(candidates)), key=score)
        self._chosen += 1
        for link, nbytes in costs[best].links.items():
            key = (phase, *link)
            self._load[key] = self._load.get(key, 0) + nbytes * times
        return candidates[best]

    def _weight(self, candidate: int) -> int:
        """Thousandths by which a candidate's loads count."""
        mixed = self._variant * (7919 * self._chosen + 104_729 * candidate + 31 * self._variant)
        return 1000 + mixed % 101

    def excess(self) -> Fraction:
        """Online, the busiest link between parties over their mean; 1 for small traffic."""
        loads = [
            n
            for (phase, *link), n in self._load.items()
            if phase == "online" and set(link) <= set(COMPUTE_PLACES)
        ]
        if sum(loads) < SMALL_TRAFFIC:
            return Fraction(1)
        return Fraction(6 * max(loads), sum(loads))


def attempts() -> Iterator[LinkBalance]:
    """Balancers to try one after another until one leaves the links balanced."""
    for price, variant in _TRIED:
        yield LinkBalance(price, variant)


class FixedRole:
    """The n-th candidate of every choice (modulo their number): for tests and wire hashes."""

    def __init__(self, n: int) -> None:
        self._n = n
        self.times = 1

    def choose(
        self,
        phase: str,
        candidates: Sequence[Role],
        cost: Callable[[Role], Cost],
        ready: Ready | None = None,
    ) -> Role:
        """See :class:`LinkBalance`."""
        return candidates[self._n % len(candidates)]
