"""Plans and GF(2) polynomials of the carry gadget (docs/protocols.md, Comparison).

Pure combinatorics, no secrets: how k low bits are cut into blocks and groups, which block outputs
are opened under masks, which products of masks the dealer must correct, and the polynomials that
the two evaluators compute.

Layout of block outputs (as party.lookup gives them): block 0 has its generate bit G at plane 0;
block i > 0 has G at plane 2i - 1 and its propagate bit P at plane 2i.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from typing import TypeAlias

from mpcc.ir.types import bits_bytes
from mpcc.protocols.rep3.one_round_plan import OneRound, one_round

__all__ = ["Combine", "Plan", "plan"]

MAX_BLOCK = 4
"""Bits of a block: 2^MAX_BLOCK - 1 bits are dealt for it."""

MAX_GROUP = 4
"""Blocks of a group where bits matter: the expansion has about 2^MAX_GROUP products."""

WIDEST_GROUP = 8
"""Blocks combined in one level to save a round, for few lanes."""

ROUND_PRICE = 125_000
"""Bytes on the busiest link that take as long as a round: 10 Gbit/s times 0.1 ms."""

Monomial: TypeAlias = tuple[int, ...]


def generate(i: int) -> int:
    """Plane of G of block or group i."""
    return max(2 * i - 1, 0)


def propagate(i: int) -> int:
    """Plane of P of block or group i > 0."""
    return 2 * i


@dataclass(frozen=True)
class Combine:
    """Masked evaluation of groups of consecutive blocks.

    For a group of blocks lo..hi: G = G_hi + P_hi G_{hi-1} + ... + P_hi ... P_{lo+1} G_lo, and
    P = P_hi ... P_lo except for the lowest group. Each factor y is opened as m = y + lambda; with
    lambda = l0 + l2 (evaluator shares) a monomial prod(m_i + l_i) is expanded over its subsets T of
    masked positions. For |T| >= 2 the product of the lambdas is dealt, for |T| <= 1 it is local.

    Attributes:
        groups: number of blocks of every group, lowest first.
        factors: input planes that are opened.
        products: dealt products, as increasing positions in ``factors``.
        outputs: per output plane (same layout, over groups) the input plane that is added as it is
            (or None) and the monomials as positions in ``factors``.
    """

    groups: tuple[int, ...]
    factors: tuple[int, ...]
    products: tuple[Monomial, ...]
    outputs: tuple[tuple[int | None, tuple[Monomial, ...]], ...]

    @classmethod
    def of(cls, groups: tuple[int, ...]) -> Combine:
        """The combination of ``sum(groups)`` blocks."""
        raw: list[tuple[int | None, list[Monomial]]] = []
        low = 0
        for g, size in enumerate(groups):
            high = low + size - 1
            chains = [
                (*(propagate(i) for i in range(high, j, -1)), generate(j))
                for j in range(high - 1, low - 1, -1)
            ]
            raw.append((generate(high), chains))
            if g and size == 1:
                raw.append((propagate(high), []))
            elif g:
                raw.append((None, [tuple(propagate(i) for i in range(high, low - 1, -1))]))
            low += size
        factors = tuple(sorted({p for _, chains in raw for c in chains for p in c}))
        position = {plane: i for i, plane in enumerate(factors)}
        outputs = tuple(
            (free, tuple(tuple(sorted(position[p] for p in c)) for c in chains))
            for free, chains in raw
        )
        products = {
            t
            for _, chains in outputs
            for c in chains
            for n in range(2, len(c) + 1)
            for t in combinations(c, n)
        }
        return cls(groups, factors, tuple(sorted(products, key=lambda t: (len(t), t))), outputs)

    def polynomials(self, inputs: int, constant: bool) -> tuple[tuple[Monomial, ...], ...]:
        """What an evaluator computes, as ``terms`` of party.anf.

        The planes of the operand are: ``inputs`` input planes (its shares of the block outputs),
        the opened factors m, its shares of the lambdas, its shares of the dealt products.

        Args:
            inputs: number of input planes.
            constant: whether this evaluator adds the monomials of opened factors alone.
        """
        count = len(self.factors)
        opened, masks, dealt = inputs, inputs + count, inputs + 2 * count
        at = {t: dealt + i for i, t in enumerate(self.products)}
        result = []
        for free, monomials in self.outputs:
            terms: list[Monomial] = [] if free is None else [(free,)]
            for monomial in monomials:
                for n in range(0 if constant else 1, len(monomial) + 1):
                    for t in combinations(monomial, n):
                        rest = tuple(opened + p for p in monomial if p not in t)
                        if n == 0:
                            terms.append(rest)
                        else:
                            terms.append((*rest, masks + t[0] if n == 1 else at[t]))
            result.append(tuple(terms))
        return tuple(result)


@dataclass(frozen=True)
class Plan:
    """How the carry out of k low bits is computed.

    Attributes:
        blocks: bits of every block, lowest first.
        groups: blocks of every group; one group means one level of combining.
    """

    blocks: tuple[int, ...]
    groups: tuple[int, ...]

    @property
    def levels(self) -> int:
        """1: the result is made in round 2; 2: in round 3."""
        return 1 if len(self.groups) == 1 else 2

    @property
    def width(self) -> int:
        """K."""
        return sum(self.blocks)

    @property
    def masks_first(self) -> bool:
        """Whether q1 sends in the first round."""
        return bool(self.first.factors)

    @property
    def dealt_planes(self) -> int:
        """Shared bits of all blocks: [alpha >= 1], ..., [alpha >= 2^w - 1] of each."""
        return sum((1 << w) - 1 for w in self.blocks)

    @property
    def outputs(self) -> int:
        """Planes of all block outputs."""
        return 2 * len(self.blocks) - 1

    @property
    def bits(self) -> int:
        """Bits per lane over all links, for a sign."""
        return sum(self.planes(sign=True).values())

    @property
    def first(self) -> Combine:
        """Level 1, over blocks."""
        return _combine(self.groups)

    @property
    def second(self) -> Combine:
        """Level 2, over groups."""
        return _combine((len(self.groups),))

    def planes(self, sign: bool) -> dict[str, int]:
        """Bits per lane of each message.

        Round 1: ``tables`` (q0 -> q2) and ``mask`` (q1 -> q2), which is empty for a single block;
        round 2: ``open`` (q2 -> q1); round 3: ``close`` (q1 -> q2), 0 with one level.

        Args:
            sign: whether a bit of a + b is wanted, not the carry alone.
        """
        first, second = self.first, self.second
        two = self.levels == 2
        products = len(first.products) + (len(second.products) if two else 0)
        return {
            "tables": self.dealt_planes + products + sign,
            "mask": len(first.factors),
            "open": len(first.factors) + (len(second.factors) if two else 1),
            "close": len(second.factors) + 1 if two else 0,
        }


@cache
def _combine(groups: tuple[int, ...]) -> Combine:
    return Combine.of(groups)


def _spread(width: int, count: int) -> tuple[int, ...] | None:
    """Bits of ``count`` blocks, at most MAX_BLOCK each, with the fewest dealt bits."""
    blocks = [1] * count
    if not count <= width <= count * MAX_BLOCK:
        return None
    for _ in range(width - count):
        # One bit more doubles what a block deals.
        blocks[blocks.index(min(blocks))] += 1
    return tuple(blocks)


def _candidates(width: int) -> Iterator[Plan]:
    counts: list[tuple[int, ...]] = [(n,) for n in range(1, WIDEST_GROUP + 1)]
    if width > MAX_BLOCK * MAX_GROUP:
        # A fifth group pays for wide values only.
        for g in range(2, MAX_GROUP + (2 if width > 32 else 1)):
            counts += product(range(1, MAX_GROUP + 1), repeat=g)
    for groups in counts:
        blocks = _spread(width, sum(groups))
        if blocks is not None:
            yield Plan(blocks, groups)


@cache
def _best(width: int) -> dict[int, Plan]:
    """Per number of levels, the plan with the fewest bits over all links."""
    best: dict[int, Plan] = {}
    for candidate in _candidates(width):
        held = best.get(candidate.levels)
        if held is None or candidate.bits < held.bits:
            best[candidate.levels] = candidate
    return best


@cache
def plan(width: int, lanes: int, round_bytes: int | None = None) -> Plan | OneRound:
    """The plan for ``lanes`` values and 1 <= width <= 64.

    Up to 16 bits: one level (2 rounds). Above: two levels (3 rounds), or one of up to 8 blocks
    where its additional bytes on the busiest link take less time than a round. With
    ``round_bytes``, what a link carries in the time of a round, also one round where that is the
    fastest.

    Raises:
        ValueError: the width is out of range.
    """
    if not 1 <= width <= MAX_BLOCK * MAX_GROUP**2:
        raise ValueError(f"no carry plan for {width} bits")

    round_price = ROUND_PRICE if round_bytes is None else round_bytes

    def price(candidate: Plan | OneRound) -> int:
        busiest = max(candidate.planes(sign=True).values())
        return bits_bytes(lanes, busiest) + candidate.levels * round_price

    candidates: list[Plan | OneRound] = [*_best(width).values()]
    if round_bytes is not None:
        candidates.append(one_round(width))
    return min(candidates, key=price)
