"""Who plays which role: few rounds first, then balance of link loads.

The roles of a step load the links unequally, and a party that drew its components can go on before
the others have theirs. For every step in program order the assignment is taken whose result is
ready after the fewest rounds, and among these the one that keeps the sum of squared link loads
smallest, first candidate on a tie; loads of setup and online are balanced apart. Where this leaves
a link far above the mean, as when the last large step finds all links full, :func:`attempts` gives
choices that keep room on the links that were overloaded, and then such that let a step be late if
its roles balance the links. All depends on the program alone, so lowering again gives the same
program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from mpcc.ir.types import COMPUTE_PLACES
from mpcc.protocols.base import Cost, Ready, Role

__all__ = ["BALANCED", "SMALL_TRAFFIC", "FixedRole", "HashedRole", "LinkBalance", "attempts"]

BALANCED = Fraction(11, 10)
"""The busiest link between parties is to carry at most this many times the mean."""

SMALL_TRAFFIC = 256 << 10
"""Bytes between parties below which a round costs more than any imbalance."""

SMALL_MESSAGE = 1024
"""Bytes of a step on a link below which they do not count as load: their round is what costs."""

_TRIED = ((None, 6), (125_000, 4), (10_000, 3), (1_000, 2))
"""Prices of a round, as tried one after another, and how often each, with what was learnt."""


class LinkBalance:
    """Greedy choice over the whole program.

    Args:
        price: bytes of link load that a round of delay is weighed against; None: any number.
        reserve: online bytes that links between parties count as carrying from the beginning: a
            greedy choice is not the best one, and leaves less for the end where less room is left.
    """

    def __init__(
        self, price: int | None = None, reserve: Mapping[tuple[str, str], int] | None = None
    ) -> None:
        self._price = price
        self.times = 1
        self._reserve = dict(reserve or {})
        self._load: dict[tuple[str, str, str], int] = {
            ("online", *link): nbytes for link, nbytes in self._reserve.items()
        }
        self._carried: dict[tuple[str, str], int] = {}

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
            squares = growth(costs[i])
            if self._price is None:
                return (rounds[i], squares)
            # Six times the squares over the sum: the load of a link, weighted by the loads.
            load = Fraction(6 * squares, max(before + costs[i].total_bytes * times, 1))
            return (rounds[i][0] * self._price + load, rounds[i])

        best = min(range(len(candidates)), key=score)
        for link, nbytes in costs[best].links.items():
            key = (phase, *link)
            self._load[key] = self._load.get(key, 0) + nbytes * times
            if phase == "online" and set(link) <= set(COMPUTE_PLACES) and nbytes >= SMALL_MESSAGE:
                self._carried[link] = self._carried.get(link, 0) + nbytes * times
        return candidates[best]

    def loads(self) -> dict[tuple[str, str], int]:
        """Online bytes of the links between parties that carry any, small messages left out."""
        return dict(self._carried)

    def excess(self) -> Fraction:
        """Online, the busiest link between parties over their mean; 1 for small traffic."""
        loads = self.loads().values()
        if sum(loads) < SMALL_TRAFFIC:
            return Fraction(1)
        return Fraction(6 * max(loads), sum(loads))

    def again(self) -> LinkBalance:
        """A new choice that keeps more room on the links that carry more than the mean here.

        And less on those that carry less, so that room which was not needed is given back.
        """
        mean = sum(self._carried.values()) // 6
        reserve = {
            link: self._reserve.get(link, 0) + self._carried.get(link, 0) - mean
            for link in self._carried.keys() | self._reserve.keys()
        }
        return LinkBalance(self._price, {link: n for link, n in reserve.items() if n > 0})


def attempts() -> Iterator[LinkBalance]:
    """Balancers to try one after another until one leaves the links balanced.

    The lowering uses each before it takes the next one.
    """
    for price, times in _TRIED:
        tried = LinkBalance(price)
        for _ in range(times):
            yield tried
            tried = tried.again()


class HashedRole:
    """One of the candidates that are ready first, as a hash says.

    Args:
        seed: of the hash: equal ones give equal programs.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0
        self.times = 1

    def choose(
        self,
        phase: str,
        candidates: Sequence[Role],
        cost: Callable[[Role], Cost],
        ready: Ready | None = None,
    ) -> Role:
        """See :class:`LinkBalance`."""
        rounds = [(0,) if ready is None else ready(role) for role in candidates]
        first = min(rounds)
        best = [r for r, found in zip(candidates, rounds, strict=True) if found == first]
        self._count += 1
        digest = hashlib.sha256(f"{self._seed}/{self._count}".encode()).digest()
        return best[int.from_bytes(digest[:8], "big") % len(best)]


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
