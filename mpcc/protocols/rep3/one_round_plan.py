"""Plans of the carry gadget that takes one round (docs/protocols.md, Comparison in one round).

Pure combinatorics, no secrets: how k low bits are cut into blocks, and what is dealt for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

__all__ = ["OneRound", "one_round"]

MAX_BLOCK = 6
"""Bits of a block, as many as a carry table takes."""

MOST_BLOCKS = 16
"""More blocks open more products than they save in tables."""

_SLACK = 10
"""Fewer blocks are fewer local steps, for at most a tenth of the bits more."""


@dataclass(frozen=True)
class OneRound:
    """How the carry out of k low bits is computed with one message from each dealer.

    With m blocks, block i > 0 has m - i scalars: 1, and the masks of the products of the block
    above. For each scalar s the tables s t and s lambda_i t are dealt; for block 0, m tables s t.

    Attributes:
        blocks: bits of every block, lowest first.
    """

    blocks: tuple[int, ...]

    @property
    def levels(self) -> int:
        """0: the result is made in round 1."""
        return 0

    @property
    def width(self) -> int:
        """K."""
        return sum(self.blocks)

    @property
    def masks_first(self) -> bool:
        """Whether q1 sends in the first round."""
        return True

    def scalars(self, i: int) -> int:
        """Scalars of block i; as many products are opened in it if it is not the lowest."""
        return len(self.blocks) - i

    def thresholds(self, i: int) -> int:
        """Planes of a table of block i: [alpha >= 1], ..., [alpha >= 2^w - 1]."""
        return (1 << self.blocks[i]) - 1

    @property
    def dealt_planes(self) -> int:
        """Planes of all tables."""
        return sum(
            (2 if i else 1) * self.scalars(i) * self.thresholds(i) for i in range(len(self.blocks))
        )

    @property
    def opened_planes(self) -> int:
        """Products and carries that q2 sees under masks."""
        return sum(self.scalars(i) + 1 for i in range(1, len(self.blocks)))

    @property
    def bits(self) -> int:
        """Bits per lane over all links, for a sign."""
        return sum(self.planes(sign=True).values())

    def planes(self, sign: bool) -> dict[str, int]:
        """Bits per lane of each message, by the names of :meth:`mpcc.protocols.rep3.carry.Plan`.

        Args:
            sign: whether a bit of a + b is wanted, not the carry alone.
        """
        return {
            "tables": self.dealt_planes + sign,
            "mask": self.opened_planes + 1,
            "open": 0,
            "close": 0,
        }


def _spread(width: int, count: int) -> tuple[int, ...] | None:
    """Bits of ``count`` blocks with the fewest dealt bits."""
    if not count <= width <= count * MAX_BLOCK:
        return None
    blocks = [1] * count
    for _ in range(width - count):
        # One bit more doubles what a block deals: the block that deals least.
        free = [i for i in range(count) if blocks[i] < MAX_BLOCK]
        blocks[min(free, key=lambda i: ((2 if i else 1) * (count - i) << blocks[i], -i))] += 1
    return tuple(blocks)


@cache
def one_round(width: int) -> OneRound:
    """The plan for 1 <= width <= 64 with the fewest blocks among those with few bits.

    Raises:
        ValueError: the width is out of range.
    """
    found = [_spread(width, count) for count in range(1, MOST_BLOCKS + 1)]
    plans = [OneRound(blocks) for blocks in found if blocks is not None]
    if not plans:
        raise ValueError(f"no carry plan for {width} bits")
    fewest = min(p.bits for p in plans)
    return next(p for p in plans if (p.bits - fewest) * _SLACK <= fewest)
