"""rep3, comparison with zero: the carry of a + b, with a at one party and b at two.

Roles: q0 holds a, deals tables and corrections and receives nothing; q1 and q2 hold b.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.core import Op, Value
from mpcc.ir.ops import party
from mpcc.ir.types import bits_bytes
from mpcc.protocols.base import (
    Builder,
    Coin,
    Cost,
    Draw,
    Pair,
    PairBit,
    Rep,
    Role,
    Step,
    component,
    lanes,
    ring_bits,
    secure_type,
)
from mpcc.protocols.rep3.carry import Plan, generate, plan, propagate
from mpcc.protocols.rep3.linear import Secret
from mpcc.protocols.rep3.one_round import one_round_carry
from mpcc.protocols.rep3.one_round_plan import OneRound
from mpcc.protocols.rep3.sharing import ROLES, to_rep

__all__ = [
    "STEPS",
    "bit_roles",
    "carry",
    "carry_rounds",
    "compare_cost",
    "negative",
    "pair_of",
    "pair_rounds",
    "rule_negative",
]


def compare_cost(
    *, role: Role, lanes: int, width: int, sign: bool = True, round_bytes: int | None = None
) -> Cost:
    """Sign, or carry alone, of ``width`` low bits: 1 round more than the plan has levels.

    Planes per message: see :meth:`mpcc.protocols.rep3.carry.Plan.planes`.
    """
    q0, q1, q2 = role
    shape = plan(width, lanes, round_bytes)
    size = {name: bits_bytes(lanes, planes) for name, planes in shape.planes(sign).items()}
    links = {
        (q0, q2): size["tables"],
        (q1, q2): size["mask"] + size["close"],
        (q2, q1): size["open"],
    }
    return Cost(1 + shape.levels, links)


def bit_roles(role: Role, width: int, lanes: int, round_bytes: int | None = None) -> Role:
    """A role for a step that takes the bit of :func:`carry`: its q0 holds u."""
    q0, q1, q2 = role
    return (q1, q0, q2) if plan(width, lanes, round_bytes).levels == 1 else (q2, q0, q1)


def carry_rounds(
    width: int, lanes: int, a: int, b1: int, b2: int, round_bytes: int | None = None
) -> int:
    """Rounds until the bit of :func:`carry` is there, from those until a, b at q1 and b at q2 are.

    With a single block q1 sends nothing in round 1.
    """
    shape = plan(width, lanes, round_bytes)
    masked = b1 + 1 if shape.masks_first else b1
    return max(a + 1, masked, b2) + shape.levels


def carry(builder: Builder, role: Role, pair: Pair, width: int, sign: bool) -> PairBit:
    """The carry out of the low ``width`` bits of a + b; with ``sign``, bit ``width`` of a + b.

    The carry alone is needed by exact truncation; bit k of a + b is a_k + b_k + carry. u is at q1
    after one level, and at q2 after two or in one round.
    """
    shape = plan(width, lanes(pair.a), builder.round_bytes)
    if isinstance(shape, OneRound):
        return one_round_carry(builder, role, pair, shape, sign)
    return _Carry(builder, role, pair, shape, sign).result()


class _Carry:
    """One run of the gadget; methods in order of the protocol."""

    def __init__(self, builder: Builder, role: Role, pair: Pair, shape: Plan, sign: bool) -> None:
        self.builder = builder
        self.q0, self.q1, self.q2 = role
        self.pair = pair
        self.plan = shape
        self.sign = sign
        self.lanes = lanes(pair.a)

    def _bits(self, holders: tuple[str, str], planes: int) -> Draw:
        return self.builder.draw_bits(holders, self.lanes, planes)

    def result(self) -> PairBit:
        b, q0, q1, q2 = self.builder, self.q0, self.q1, self.q2
        first, second, k = self.plan.first, self.plan.second, self.plan.width
        two, factors = self.plan.levels == 2, len(first.factors)

        # Round 1. q0 -> q2: its share of the thresholds, corrections and, masked, a_k.
        share = self._bits((q0, q1), self.plan.dealt_planes)
        dealt = [b.xor(self._thresholds(), share.at(q0))]
        kappa, outer_kappa = [], []
        if factors:
            l1, l2 = self._bits((q0, q1), factors), self._bits((q0, q2), factors)
        if first.products:
            kappa.append(self._bits((q0, q1), len(first.products)))
            dealt.append(self._corrections(first.products, l1, l2, kappa[0]))
        if two:
            outer1 = self._bits((q0, q1), len(second.factors))
            outer2 = self._bits((q0, q2), len(second.factors))
            outer_kappa.append(self._bits((q0, q1), len(second.products)))
            dealt.append(self._corrections(second.products, outer1, outer2, outer_kappa[0]))
        if self.sign:
            top = self._bits((q0, q1), 1)
            dealt.append(b.xor(b.bit_slice(self.pair.a, 1, k), top.at(q0)))
        received = b.send(b.join(*dealt), q2, "tables")
        at = self._cuts(len(first.products), len(second.products) if two else 0)

        # q1 and q2 read their shares of the block outputs at beta, which both know.
        outputs1 = self._read(q1, share.at(q1), constant=True)
        outputs2 = self._read(q2, b.planes(received, at["thresholds"]), constant=False)
        part2 = outputs2
        if factors:
            # Still in round 1. q1 -> q2: its shares of the factors under l1.
            open1 = b.xor(b.planes(outputs1, first.factors), l1.at(q1))
            open2 = b.xor(b.planes(outputs2, first.factors), l2.at(q2))
            held = [outputs2, b.xor(b.send(open1, q2, "mask"), open2), l2.at(q2)]
            if first.products:
                held.append(b.planes(received, at["products"]))
            terms = first.polynomials(self.plan.outputs, constant=False)
            part2 = b.emit(party.Anf, (b.join(*held),), terms=terms)

        def evaluate_at_q1(opened: Value) -> Value:
            """q1's side of level 1, from q2's masked factors."""
            if not factors:
                return outputs1
            held = [outputs1, b.xor(open1, opened), l1.at(q1), *(p.at(q1) for p in kappa)]
            terms = first.polynomials(self.plan.outputs, constant=True)
            return b.emit(party.Anf, (b.join(*held),), terms=terms)

        def signed(carry: Value) -> Value:
            """With q1's share of a_k, and b_k."""
            if not self.sign:
                return carry
            return b.xor(carry, top.at(q1), b.bit_slice(self.pair.b[q1], 1, k))

        if self.sign and not two:
            part2 = b.xor(part2, b.planes(received, at["top"]))
        if not two:
            # Round 2. q2 -> q1: its factors and its share of the result under mu.
            mu = self._bits((q0, q2), 1)
            closing = b.xor(part2, mu.at(q2))
            got = b.send(b.join(open2, closing) if factors else closing, q1, "open")
            part1 = evaluate_at_q1(b.planes(got, range(factors)) if factors else got)
            u = b.xor(signed(part1), b.planes(got, (factors,)))
            return PairBit(q1, u, {q: mu.at(q) for q in (q2, q0)})

        # Round 2. q2 -> q1: its factors of both levels.
        groups, planes = len(second.factors), 2 * len(self.plan.groups) - 1
        outer_open2 = b.xor(b.planes(part2, second.factors), outer2.at(q2))
        got = b.send(b.join(open2, outer_open2) if factors else outer_open2, q1, "open")
        part1 = evaluate_at_q1(b.planes(got, range(factors)) if factors else got)
        outer_open1 = b.xor(b.planes(part1, second.factors), outer1.at(q1))
        m1 = b.xor(outer_open1, b.planes(got, range(factors, factors + groups)))
        share1 = b.emit(
            party.Anf,
            (b.join(part1, m1, outer1.at(q1), outer_kappa[0].at(q1)),),
            terms=second.polynomials(planes, constant=True),
        )
        # Round 3. q1 -> q2: its factors of level 2 and its share of the result under mu.
        mu = self._bits((q0, q1), 1)
        closing = b.xor(signed(share1), mu.at(q1))
        last = b.send(b.join(outer_open1, closing), q2, "close")
        m2 = b.xor(outer_open2, b.planes(last, range(groups)))
        share2 = b.emit(
            party.Anf,
            (b.join(part2, m2, outer2.at(q2), b.planes(received, at["outer"])),),
            terms=second.polynomials(planes, constant=False),
        )
        u = b.xor(share2, b.planes(last, (groups,)))
        if self.sign:
            u = b.xor(u, b.planes(received, at["top"]))
        return PairBit(q2, u, {q: mu.at(q) for q in (q0, q1)})

    def _cuts(self, products: int, outer: int) -> dict[str, range]:
        """Planes of q0's message by what they are."""
        cuts, at = {}, 0
        sizes = {"thresholds": self.plan.dealt_planes, "products": products, "outer": outer}
        for name, size in {**sizes, "top": int(self.sign)}.items():
            cuts[name] = range(at, at + size)
            at += size
        return cuts

    def _thresholds(self) -> Value:
        """At q0, [alpha >= 2^w - j] for j = 1 .. 2^w - 1 of every block, lowest block first.

        Taken out of the carry tables of alpha: entry j is [j + alpha >= 2^w].
        """
        b, blocks = self.builder, self.plan.blocks
        low = b.bit_slice(self.pair.a, self.plan.width)
        tables = b.emit(party.CarryTables, (low, b.xor(low, low)), blocks=blocks)
        wanted: list[int] = []
        at = 0
        for i, w in enumerate(blocks):
            wanted += range(at + 1, at + (1 << w))
            at += (2 if i else 1) << w
        return b.planes(tables, wanted)

    def _read(self, place: str, share: Value, constant: bool) -> Value:
        """Shares of all block outputs, from shares of the thresholds.

        G is the entry at beta of (0, thresholds), and G xor P, which is [alpha + beta + 1 >= 2^w],
        that of (thresholds, 1). The reader with ``constant`` has the 1.
        """
        b, blocks = self.builder, self.plan.blocks
        index = b.bit_slice(self.pair.b[place], self.plan.width)
        lowest = b.planes(index, (0,))
        zero = b.xor(lowest, lowest)
        end = b.invert(zero) if constant else zero
        tables, at = [], 0
        for i, w in enumerate(blocks):
            size = (1 << w) - 1
            entries = b.planes(share, range(at, at + size))
            tables += [zero, entries] + ([entries, end] if i else [])
            at += size
        found = b.emit(party.Lookup, (b.join(*tables), index), blocks=blocks)
        if len(blocks) == 1:
            return found
        last = range(1, len(blocks))
        through = b.xor(
            b.planes(found, [generate(i) for i in last]),
            b.planes(found, [propagate(i) for i in last]),
        )
        both = b.join(b.planes(found, [generate(i) for i in range(len(blocks))]), through)
        count = len(blocks)
        order = [0, *(x for i in last for x in (i, count + i - 1))]
        return b.planes(both, order)

    def _corrections(
        self, products: Sequence[tuple[int, ...]], l1: Draw, l2: Draw, kappa: Draw
    ) -> Value:
        """For q2, from q0: the products of the lambdas, each under a bit of kappa."""
        b, q0 = self.builder, self.q0
        masks = b.xor(l1.at(q0), l2.at(q0))
        terms = tuple((t,) for t in products)
        return b.xor(b.emit(party.Anf, (masks,), terms=terms), kappa.at(q0))


def pair_of(builder: Builder, x: Rep, role: Role) -> Pair:
    """A replicated value as a pair: a = c01 + c02 at q0, b = c12 at q1 and q2; no message."""
    q0, q1, q2 = role
    a = builder.add(x.shared(q0, q1), x.shared(q0, q2))
    index = component(q1, q2)
    return Pair(q0, a, {q: x.at(q, index) for q in (q1, q2)}, ring_bits(a))


def pair_rounds(builder: Builder, x: Rep | Pair, role: Role) -> tuple[int, int, int]:
    """Rounds until a is at q0, b at q1 and b at q2."""
    q0, q1, q2 = role
    if isinstance(x, Pair):
        a, b = builder.rounds(x.a), x.b
        return a, builder.rounds(b[q1]), builder.rounds(b[q2])
    return (
        builder.rounds(x.shared(q0, q1), x.shared(q0, q2)),
        builder.rounds(x.shared(q1, q2)),
        builder.rounds(x.shared(q2, q1)),
    )


def negative(builder: Builder, x: Secret, width: int, coarse: int = 0) -> PairBit:
    """[x < 0] for -2^width <= x < 2^width, compared modulo 2^(width + 1).

    With ``coarse`` bits, [x < a mod 2^coarse]: both summands lose them, and with them the carry.
    An early pair that is valid modulo 2^(width + 1) is taken instead of the components; it fixes
    q0, and the operand is then known one or two rounds before its components.
    """
    x = to_rep(builder, x)
    if coarse:
        width += 1  # x less the bits of a may be below -2^width
    early = x.early if x.early is not None and x.early.bits > width else None
    candidates = [r for r in ROLES if early is None or r[0] == early.place]
    size = lanes(x.own[0])

    width -= coarse

    def cost(role: Role) -> Cost:
        return compare_cost(role=role, lanes=size, width=width, round_bytes=builder.round_bytes)

    def ready(role: Role) -> tuple[int, ...]:
        rounds = pair_rounds(builder, early or x, role)
        return (carry_rounds(width, size, *rounds, builder.round_bytes),)

    role = builder.role("compare", candidates, cost, ready)
    builder.charge(cost(role))
    pair = early or pair_of(builder, x, role)
    if coarse:
        builder.coin = Coin(pair.a, coarse)
        b = {q: builder.shift_right(v, coarse) for q, v in pair.b.items()}
        high = builder.shift_right(pair.a, coarse)
        pair = Pair(pair.place, high, b, pair.bits - coarse)
    return carry(builder, role, pair, width, sign=True)


def rule_negative(builder: Builder, op: Op, operands: Sequence[Secret]) -> PairBit:
    """secure.negative, at the operand's width."""
    return negative(builder, operands[0], secure_type(op.operands[0]).width, op.attrs["coarse"])


STEPS = (
    Step("compare", (Rep,), PairBit, compare_cost),
    Step("compare early", (Pair,), PairBit, compare_cost),
    Step("carry", (Pair,), PairBit, compare_cost),
)
