"""rep3, comparison with zero: the carry of a + b, with a at one party and b at two.

Roles: q0 holds a; q1 and q2 hold b; q1 deals tables and corrections and receives nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.core import Op, Value
from mpcc.ir.ops import party
from mpcc.ir.types import bits_bytes
from mpcc.protocols.base import (
    Builder,
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
from mpcc.protocols.rep3.carry import Plan, plan
from mpcc.protocols.rep3.linear import Secret
from mpcc.protocols.rep3.sharing import ROLES, to_rep

__all__ = ["STEPS", "carry", "compare_cost", "negative", "pair_of", "rule_negative"]


def compare_cost(*, role: Role, lanes: int, width: int) -> Cost:
    """Carry or sign with ``width`` low bits: 1 round more than the plan has levels.

    Planes per message: see :meth:`mpcc.protocols.rep3.carry.Plan.planes`.
    """
    q0, q1, q2 = role
    shape = plan(width, lanes)
    size = {name: bits_bytes(lanes, planes) for name, planes in shape.planes().items()}
    links = {
        (q0, q2): size["index"] + size["close"],
        (q1, q2): size["tables"],
        (q2, q0): size["open"],
    }
    return Cost(1 + shape.levels, links)


def carry(builder: Builder, role: Role, pair: Pair, width: int, sign: bool) -> PairBit:
    """The carry out of the low ``width`` bits of a + b; with ``sign``, bit ``width`` of a + b.

    The carry alone is needed by exact truncation; bit k of a + b is a_k + b_k + carry.
    """
    return _Carry(builder, role, pair, plan(width, lanes(pair.a)), sign).result()


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
        first, k = self.plan.first, self.plan.width
        blocks = {"blocks": self.plan.blocks}

        # Round 1. q0 -> q2: masked block values and masked factors. q1 -> q2: masked tables.
        rho = self._bits((q0, q1), k)
        table_mask = self._bits((q0, q1), self.plan.table_planes)
        index = b.xor(b.bit_slice(self.pair.a, k), rho.at(q0))
        low = b.bit_slice(self.pair.b[q1], k)
        tables = b.emit(party.CarryTables, (low, rho.at(q1)), **blocks)
        tables = b.xor(tables, table_mask.at(q1))
        picks0 = b.emit(party.Lookup, (table_mask.at(q0), index), **blocks)
        factors = len(first.factors)
        if factors:
            l0, l2 = self._bits((q0, q1), factors), self._bits((q1, q2), factors)
            open0 = b.xor(b.planes(picks0, first.factors), l0.at(q0))
            sent = b.send(b.join(index, open0), q2, "index")
            index2 = b.planes(sent, range(k))
            open0_at_q2 = b.planes(sent, range(k, k + factors))
        else:
            index2 = b.send(index, q2, "index")
        dealt, products = [tables], []
        if first.products:
            kappa = self._bits((q0, q1), len(first.products))
            dealt.append(self._corrections(first.products, l0, l2, kappa))
            products.append(kappa)
        if self.plan.levels == 2:
            second = self.plan.second
            outer0 = self._bits((q0, q1), len(second.factors))
            outer2 = self._bits((q1, q2), len(second.factors))
            outer_kappa = self._bits((q0, q1), len(second.products))
            dealt.append(self._corrections(second.products, outer0, outer2, outer_kappa))
        received = b.send(b.join(*dealt), q2, "tables")
        at = self.plan.table_planes
        tables2 = b.planes(received, range(at))
        picks2 = b.emit(party.Lookup, (tables2, index2), **blocks)

        # q2 evaluates level 1 and opens its side of the factors.
        part2 = picks2
        if factors:
            open2 = b.xor(b.planes(picks2, first.factors), l2.at(q2))
            held = [picks2, b.xor(open0_at_q2, open2), l2.at(q2)]
            if first.products:
                held.append(b.planes(received, range(at, at + len(first.products))))
            terms = first.polynomials(self.plan.outputs, constant=False)
            part2 = b.emit(party.Anf, (b.join(*held),), terms=terms)
        at += len(first.products)

        def evaluate_at_q0(opened: Value) -> Value:
            """q0's side of level 1, from q2's masked factors."""
            if not factors:
                return picks0
            held = [picks0, b.xor(open0, opened), l0.at(q0), *(p.at(q0) for p in products)]
            terms = first.polynomials(self.plan.outputs, constant=True)
            return b.emit(party.Anf, (b.join(*held),), terms=terms)

        if self.plan.levels == 1:
            # Round 2. q2 -> q0: its factors and its share of the carry under mu.
            mu = self._bits((q1, q2), 1)
            closing = b.xor(part2, mu.at(q2))
            if factors:
                got = b.send(b.join(open2, closing), q0, "open")
                opened = b.planes(got, range(factors))
                last = b.planes(got, (factors,))
                u = b.xor(evaluate_at_q0(opened), last)
            else:
                u = b.xor(picks0, b.send(closing, q0, "open"))
            v = {q: mu.at(q) for q in (q1, q2)}
            if self.sign:
                u = b.xor(u, b.bit_slice(self.pair.a, 1, k))
                v = {q: b.xor(m, b.bit_slice(self.pair.b[q], 1, k)) for q, m in v.items()}
            return PairBit(q0, u, v)

        # Round 2. q2 -> q0: its factors of both levels.
        groups = len(second.factors)
        outer_open2 = b.xor(b.planes(part2, second.factors), outer2.at(q2))
        got = b.send(b.join(open2, outer_open2) if factors else outer_open2, q0, "open")
        part0 = evaluate_at_q0(b.planes(got, range(factors)) if factors else got)
        outer_open0 = b.xor(b.planes(part0, second.factors), outer0.at(q0))
        planes = 2 * len(self.plan.groups) - 1
        m0 = b.xor(outer_open0, b.planes(got, range(factors, factors + groups)))
        share0 = b.emit(
            party.Anf,
            (b.join(part0, m0, outer0.at(q0), outer_kappa.at(q0)),),
            terms=second.polynomials(planes, constant=True),
        )
        # Round 3. q0 -> q2: its factors of level 2 and its share of the carry under mu.
        mu = self._bits((q0, q1), 1)
        closing = b.xor(share0, mu.at(q0))
        if self.sign:
            closing = b.xor(closing, b.bit_slice(self.pair.a, 1, k))
        last = b.send(b.join(outer_open0, closing), q2, "close")
        m2 = b.xor(outer_open2, b.planes(last, range(groups)))
        correction = b.planes(received, range(at, at + len(second.products)))
        share2 = b.emit(
            party.Anf,
            (b.join(part2, m2, outer2.at(q2), correction),),
            terms=second.polynomials(planes, constant=False),
        )
        u = b.xor(share2, b.planes(last, (groups,)))
        if self.sign:
            u = b.xor(u, b.bit_slice(self.pair.b[q2], 1, k))
        return PairBit(q2, u, {q: mu.at(q) for q in (q0, q1)})

    def _corrections(
        self, products: Sequence[tuple[int, ...]], l0: Draw, l2: Draw, kappa: Draw
    ) -> Value:
        """q1's message for q2: the products of the lambdas, each under a bit of kappa."""
        b, q1 = self.builder, self.q1
        masks = b.xor(l0.at(q1), l2.at(q1))
        terms = tuple((t,) for t in products)
        return b.xor(b.emit(party.Anf, (masks,), terms=terms), kappa.at(q1))


def pair_of(builder: Builder, x: Rep, role: Role) -> Pair:
    """A replicated value as a pair: a = c01 + c02 at q0, b = c12 at q1 and q2; no message."""
    q0, q1, q2 = role
    a = builder.add(x.shared(q0, q1), x.shared(q0, q2))
    index = component(q1, q2)
    return Pair(q0, a, {q: x.at(q, index) for q in (q1, q2)}, ring_bits(a))


def negative(builder: Builder, x: Secret, width: int) -> PairBit:
    """[x < 0] for -2^width <= x < 2^width, compared modulo 2^(width + 1).

    An early pair that is valid modulo 2^(width + 1) is taken instead of the components; it fixes
    q0, and the operand is then known one or two rounds before its components.
    """
    x = to_rep(builder, x)
    early = x.early if x.early is not None and x.early.bits > width else None
    candidates = [r for r in ROLES if early is None or r[0] == early.place]
    size = lanes(x.own[0])

    def cost(role: Role) -> Cost:
        return compare_cost(role=role, lanes=size, width=width)

    role = builder.role("compare", candidates, cost)
    builder.charge(cost(role))
    return carry(builder, role, early or pair_of(builder, x, role), width, sign=True)


def rule_negative(builder: Builder, op: Op, operands: Sequence[Secret]) -> PairBit:
    """secure.negative, at the operand's width."""
    return negative(builder, operands[0], secure_type(op.operands[0]).width)


STEPS = (
    Step("compare", (Rep,), PairBit, compare_cost),
    Step("compare early", (Pair,), PairBit, compare_cost),
    Step("carry", (Pair,), PairBit, compare_cost),
)
