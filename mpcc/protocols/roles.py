"""Who plays which role: greedy balance of link loads.

The roles of a step load the links unequally. For every step in program order the assignment is
taken that keeps the sum of squared link loads smallest, first candidate on a tie; loads of setup
and online are balanced apart. The choice depends on the program alone, so lowering again gives the
same program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mpcc.protocols.base import Cost, Role

__all__ = ["FixedRole", "LinkBalance"]


class LinkBalance:
    """Greedy balance over the whole program."""

    def __init__(self) -> None:
        self._load: dict[tuple[str, str, str], int] = {}

    def choose(self, phase: str, candidates: Sequence[Role], cost: Callable[[Role], Cost]) -> Role:
        """The candidate that adds least to the sum of squared loads; its cost is then counted."""

        def growth(role: Role) -> int:
            return sum(
                (2 * self._load.get((phase, *link), 0) + nbytes) * nbytes
                for link, nbytes in cost(role).links.items()
            )

        best = min(candidates, key=growth)
        for link, nbytes in cost(best).links.items():
            key = (phase, *link)
            self._load[key] = self._load.get(key, 0) + nbytes
        return best


class FixedRole:
    """The n-th candidate of every choice (modulo their number): for tests and wire hashes."""

    def __init__(self, n: int) -> None:
        self._n = n

    def choose(self, phase: str, candidates: Sequence[Role], cost: Callable[[Role], Cost]) -> Role:
        """See :class:`LinkBalance`."""
        return candidates[self._n % len(candidates)]
