"""Secure IR to party IR: one secure op at a time through a protocol.

    lower_program(secure module, Rep3()) -> Lowered

The party module has one function ``main``; ``loc`` of its ops is the secure op's label, a message's
step is "<label>/<op>/<step>". The lowering is deterministic, so a verifier can repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.ops import party
from mpcc.ir.schedule import schedule
from mpcc.ir.types import nbytes_of, place_of
from mpcc.protocols.base import (
    Balancer,
    Builder,
    Coin,
    Cost,
    Protocol,
    Share,
    new_party_module,
)
from mpcc.protocols.roles import BALANCED, attempts

__all__ = ["Lowered", "OpCost", "counted_cost", "lower_program"]


@dataclass(frozen=True)
class OpCost:
    """Predicted cost of one secure op and the party ops that it became.

    Attributes:
        index: position in the secure module.
        name: secure op name.
        label: loc of its party ops.
        cost: by the protocol's formulas.
        ops: its party ops, dead ones left out.
    """

    index: int
    name: str
    label: str
    cost: Cost
    ops: tuple[Op, ...]


@dataclass(frozen=True)
class Lowered:
    """A lowered program.

    Attributes:
        party: the party module.
        shares: share of every secure value; its party values may have been removed as dead.
        coins: per secure truncate op index, where its stochastic coins come from.
        costs: per secure op, in order.
    """

    party: Module
    shares: Mapping[Value, Share]
    coins: Mapping[int, Coin]
    costs: tuple[OpCost, ...]

    @property
    def bytes_sent(self) -> dict[str, int]:
        """Predicted payload bytes by link, setup and online together."""
        total = Cost()
        for entry in self.costs:
            total = total.then(entry.cost)
        return total.bytes_sent


def label_of(op: Op, index: int) -> str:
    """Label of a secure op: its loc, or its name and position."""
    return op.loc or f"{op.name.partition('.')[2]}_{index}"


def lower_program(
    module: Module,
    protocol: Protocol,
    balancer: Balancer | None = None,
    *,
    keep_shares: bool = False,
) -> Lowered:
    """Lower a verified secure module.

    Args:
        module: secure-level module with one function.
        protocol: the protocol.
        balancer: chooses roles; by default few rounds and balanced links, see
            :mod:`mpcc.protocols.roles`.
        keep_shares: keep all share values, also those that nothing uses: to inspect them.

    Raises:
        MpccError: every op that the protocol does not offer, at once; or a width that a step
            cannot take.
    """
    if module.level != "secure":
        raise MpccError.of("E-lower-level", f"cannot lower a module of level {module.level}")
    missing = {op.name: op.loc for op in module.main.ops if op.name not in protocol.rules}
    collect(
        Diagnostic("E-lower-op", f"protocol {protocol.name} does not offer {name}", where)
        for name, where in missing.items()
    )
    if balancer is not None:
        return _lower(module, protocol, balancer, keep_shares)
    best: tuple[Fraction, Lowered] | None = None
    for tried in attempts():
        lowered = _lower(module, protocol, tried, keep_shares)
        excess = tried.excess()
        if best is None or excess < best[0]:
            best = excess, lowered
        if excess <= BALANCED:
            break
    if best is None:
        raise RuntimeError("no balancer")
    return best[1]


def _lower(module: Module, protocol: Protocol, balancer: Balancer, keep_shares: bool) -> Lowered:
    result = new_party_module(protocol.name)
    builder = Builder(result.main, balancer)
    shares: dict[Value, Share] = {}
    coins: dict[int, Coin] = {}
    entries: list[tuple[Op, str, Cost, int, int]] = []
    for index, op in enumerate(module.main.ops):
        label, short = label_of(op, index), op.name.partition(".")[2]
        builder.begin(label, f"{label}/{short}/" if op.loc else f"{label}/")
        start = len(result.main.ops)
        share = protocol.rules[op.name](builder, op, [shares[v] for v in op.operands])
        entries.append((op, label, builder.cost, start, len(result.main.ops)))
        if share is not None:
            shares[op.result] = share
        if builder.coin is not None:
            coins[index] = builder.coin
    result.attrs["roles"] = tuple(builder.roles)
    recorded = list(result.main.ops)
    result.main.returns = [c.value for c in coins.values() if c.value is not None]
    if keep_shares:
        result.main.returns += [v for s in shares.values() for v in s.values()]
    result.main.remove_dead()
    result.main.returns = []
    # The schedule refuses a stream that is drawn again: better here than at the parties.
    schedule(result)
    live = set(result.main.ops)
    costs = tuple(
        OpCost(i, op.name, label, cost, tuple(o for o in recorded[start:end] if o in live))
        for i, (op, label, cost, start, end) in enumerate(entries)
    )
    return Lowered(result, shares, coins, costs)


def counted_cost(ops: tuple[Op, ...]) -> Cost:
    """Cost counted from the messages among ``ops``: what a formula must equal.

    Rounds are the longest chain of these messages alone.
    """
    links: dict[tuple[str, str], int] = {}
    depth: dict[Value, int] = {}
    rounds = 0
    for op in ops:
        below = max((depth.get(v, 0) for v in op.operands), default=0)
        if op.definition is party.Transfer:
            below += 1
            rounds = max(rounds, below)
            (value,) = op.operands
            link = (place_of(value.type), op.attrs["to"])
            links[link] = links.get(link, 0) + nbytes_of(value.type)
        for value in op.results:
            depth[value] = below
    return Cost(rounds, links)
