"""rep3, the carry of a + b in one round: docs/protocols.md, Comparison in one round.

Roles: q0 holds a and deals tables, q1 and q2 hold b; q2 receives one message from each of the
others and sends nothing.
"""

from __future__ import annotations

from itertools import chain

from mpcc.ir.core import Value
from mpcc.ir.ops import party
from mpcc.protocols.base import Builder, Draw, Pair, PairBit, Role, lanes
from mpcc.protocols.rep3.one_round_plan import OneRound

__all__ = ["one_round_carry"]


def one_round_carry(
    builder: Builder, role: Role, pair: Pair, plan: OneRound, sign: bool
) -> PairBit:
    """The carry out of the low bits of a + b; with ``sign``, the bit above. u is at q2."""
    return _OneRound(builder, role, pair, plan, sign).result()


class _OneRound:
    """One run of the gadget.

    For block i with scalars s_0 = 1, s_1, ...: G and P are the entries at beta of its thresholds,
    c_i the carry into it, and X_i[j] = s_j c_(i+1) = s_j G + (s_j P) c_i. With masks l_j for s_j P
    and lambda for c_i, q2 sees M_j = s_j P + l_j and C = c_i + lambda, and

        (s_j P) c_i = M_j C + (s_j lambda) P + l_j c_i + l_j lambda,

    where l_j c_i = X_(i-1)[j + 1], as the scalars of the block below are 1 and the l_j. All but
    M_j C is shared by q1 and q2 without q1 knowing M or C.
    """

    def __init__(self, builder: Builder, role: Role, pair: Pair, plan: OneRound, sign: bool):
        self.builder = builder
        self.q0, self.q1, self.q2 = role
        self.pair = pair
        self.plan = plan
        self.sign = sign
        self.lanes = lanes(pair.a)

    def _bits(self, planes: int) -> Draw:
        """Fresh bits of q0 and q1."""
        return self.builder.draw_bits((self.q0, self.q1), self.lanes, planes)

    def result(self) -> PairBit:
        b, q0, q1, q2, plan = self.builder, self.q0, self.q1, self.q2, self.plan
        count = len(plan.blocks)
        sizes = [plan.scalars(i) * plan.thresholds(i) for i in range(count)]
        # Of block i > 0: masks of its products, and of the carry into it.
        masks = {i: self._bits(plan.scalars(i)) for i in range(1, count)}
        outer = {i: self._bits(1) for i in range(1, count)}
        shares = [self._bits(size) for size in sizes]
        outer_shares = {i: self._bits(sizes[i]) for i in range(1, count)}

        # q0 -> q2: all tables, each under bits that q1 draws too.
        thresholds = self._thresholds()
        dealt = []
        for i in range(count):
            above = masks[i + 1].at(q0) if i + 1 < count else None
            dealt.append(b.xor(self._scaled(thresholds[i], above, None, i), shares[i].at(q0)))
            if i:
                table = self._scaled(thresholds[i], above, outer[i].at(q0), i)
                dealt.append(b.xor(table, outer_shares[i].at(q0)))
        if self.sign:
            top = self._bits(1)
            dealt.append(b.xor(b.bit_slice(self.pair.a, 1, plan.width), top.at(q0)))
        received = b.send(b.join(*dealt), q2, "tables")
        at = iter(range(plan.dealt_planes + 1))

        def next_planes(number: int) -> Value:
            return b.planes(received, [next(at) for _ in range(number)])

        # q1: its shares, and what it opens to q2.
        index = b.bit_slice(self.pair.b[q1], plan.width)
        lowest = b.planes(index, (0,))
        zero = b.xor(lowest, lowest)
        one = b.invert(zero)
        opened: list[Value] = []
        held1 = self._lowest(index, shares[0].at(q1), zero)
        for i in range(1, count):
            scalars = [one] if i + 1 == count else [one, masks[i + 1].at(q1)]
            found, through = self._read(index, i, shares[i].at(q1), zero, b.join(*scalars))
            mask, carry_mask = masks[i].at(q1), outer[i].at(q1)
            opened.append(b.xor(through, mask))
            opened.append(b.xor(b.planes(held1, (0,)), carry_mask))
            ends = carry_mask
            if i + 1 < count:
                inner = self._times(masks[i + 1].at(q1), carry_mask, plan.scalars(i + 1))
                ends = b.join(carry_mask, inner)
            _, extra = self._read(index, i, outer_shares[i].at(q1), zero, ends)
            number = plan.scalars(i)
            below = b.planes(held1, range(1, number + 1))
            held1 = b.xor(found, extra, below, self._times(mask, carry_mask, number))
        mu = self._bits(1)
        closing = held1
        if self.sign:
            closing = b.xor(closing, top.at(q1), b.bit_slice(self.pair.b[q1], 1, plan.width))
        opened.append(b.xor(closing, mu.at(q1)))
        got = b.send(b.join(*opened), q2, "mask")

        # q2: its shares, with the products of what it sees.
        index = b.bit_slice(self.pair.b[q2], plan.width)
        lowest = b.planes(index, (0,))
        zero = b.xor(lowest, lowest)
        held2 = self._lowest(index, next_planes(sizes[0]), zero)
        seen = 0
        for i in range(1, count):
            number = plan.scalars(i)
            ends = b.join(*[zero] * number)
            found, through = self._read(index, i, next_planes(sizes[i]), zero, ends)
            product = b.xor(through, b.planes(got, range(seen, seen + number)))
            carry = b.xor(b.planes(held2, (0,)), b.planes(got, (seen + number,)))
            seen += number + 1
            _, extra = self._read(index, i, next_planes(sizes[i]), zero, ends)
            below = b.planes(held2, range(1, number + 1))
            held2 = b.xor(found, extra, below, self._times(product, carry, number))
        u = b.xor(held2, b.planes(got, (seen,)))
        if self.sign:
            u = b.xor(u, next_planes(1))
        return PairBit(q2, u, {q: mu.at(q) for q in (q0, q1)})

    def _thresholds(self) -> list[Value]:
        """At q0, per block [alpha >= 2^w - j] for j = 1 .. 2^w - 1."""
        b, blocks = self.builder, self.plan.blocks
        low = b.bit_slice(self.pair.a, self.plan.width)
        tables = b.emit(party.CarryTables, (low, b.xor(low, low)), blocks=blocks)
        found, at = [], 0
        for i, w in enumerate(blocks):
            found.append(b.planes(tables, range(at + 1, at + (1 << w))))
            at += (2 if i else 1) << w
        return found

    def _scaled(self, table: Value, scalars: Value | None, factor: Value | None, i: int) -> Value:
        """The table times 1 and every scalar, and times ``factor``."""
        size, count = self.plan.thresholds(i), self.plan.scalars(i)
        if scalars is None and factor is None:
            return table
        held = [v for v in (table, scalars, factor) if v is not None]
        last = (size + count - 1,) if factor is not None else ()
        terms = []
        for j in range(count):
            scalar = (size + j - 1,) if j else ()
            terms += [((t, *scalar, *last),) for t in range(size)]
        return self.builder.emit(party.Anf, (self.builder.join(*held),), terms=tuple(terms))

    def _times(self, x: Value, bit: Value, count: int) -> Value:
        """Each of ``count`` planes times one."""
        terms = tuple(((p, count),) for p in range(count))
        return self.builder.emit(party.Anf, (self.builder.join(x, bit),), terms=terms)

    def _entries(self, share: Value, i: int) -> list[Value]:
        """The tables of a block's scalars."""
        size = self.plan.thresholds(i)
        return [
            self.builder.planes(share, range(j * size, (j + 1) * size))
            for j in range(self.plan.scalars(i))
        ]

    def _look(self, index: Value, i: int, tables: list[tuple[Value, Value]]) -> Value:
        """The entries at beta of tables of block i."""
        b, w = self.builder, self.plan.blocks[i]
        low = sum(self.plan.blocks[:i])
        # A lookup takes one table of its first block and two of each other.
        if len(tables) % 2 == 0:
            tables = [*tables, tables[0]]
        number = len(tables) // 2 + 1
        beta = b.planes(index, range(low, low + w))
        operands = (b.join(*chain.from_iterable(tables)), b.join(*[beta] * number))
        return b.emit(party.Lookup, operands, blocks=(w,) * number)

    def _lowest(self, index: Value, share: Value, zero: Value) -> Value:
        """Shares of s G of block 0 for every scalar: the entry of (0, table)."""
        found = self._look(index, 0, [(zero, e) for e in self._entries(share, 0)])
        return self.builder.planes(found, range(self.plan.scalars(0)))

    def _read(
        self, index: Value, i: int, share: Value, zero: Value, ends: Value
    ) -> tuple[Value, Value]:
        """Shares of s G and of s P of a block for every scalar.

        s G is the entry of (0, table), and s (G + P), which is s [alpha + beta + 1 >= 2^w], that
        of (table, s): ``ends`` are this place's shares of the scalars.
        """
        b, count = self.builder, self.plan.scalars(i)
        tables: list[tuple[Value, Value]] = []
        for j, entries in enumerate(self._entries(share, i)):
            tables += [(zero, entries), (entries, b.planes(ends, (j,)))]
        found = self._look(index, i, tables)
        generated = b.planes(found, range(0, 2 * count, 2))
        return generated, b.xor(generated, b.planes(found, range(1, 2 * count, 2)))
