"""Secure IR to party IR: one secure op at a time through a protocol.

    lower_program(secure module, Rep3()) -> Lowered

The party module has the functions of the secure one; ``loc`` of its ops is the secure op's label,
a message's step is "<label>/<op>/<step>". The lowering is deterministic, so a verifier can repeat
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.calls import FEWEST_CALLS, called, calls, is_call, numbered
from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.ops import party
from mpcc.ir.phi import MAX_ROUND_BYTES
from mpcc.ir.schedule import ONLINE, schedule
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
from mpcc.protocols.roles import BALANCED, HashedRole, LinkBalance, attempts

__all__ = ["VARIANTS", "Lowered", "OpCost", "counted_cost", "lower_program"]


VARIANTS = 3
"""Bodies of a function, with roles of their own, where one leaves the links out of balance."""


TRIES = 6
"""Most further choices of roles, for a program whose rounds are dear."""

MOST_RECORDED = 40_000
"""Ops that are recorded for these choices."""


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
        costs: per op of the secure ``@main``, in order.
        function_coins: as ``coins``, per function that is called.
    """

    party: Module
    shares: Mapping[Value, Share]
    coins: Mapping[int, Coin]
    costs: tuple[OpCost, ...]
    function_coins: Mapping[str, Mapping[int, Coin]] = field(default_factory=dict)

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


def _tries(module: Module) -> Iterator[tuple[LinkBalance, int]]:
    """Balancers, and with how many bodies of every function; each is used before the next is made.

    Functions have one body, with its roles, and then several: a larger program.
    """
    bodies = 1
    if called(module):
        yield next(attempts()), bodies
        bodies = VARIANTS
    for tried in attempts():
        yield tried, bodies


def lower_program(
    module: Module,
    protocol: Protocol,
    balancer: Balancer | None = None,
    *,
    keep_shares: bool = False,
    variants: int = 1,
) -> Lowered:
    """Lower a verified secure module.

    Args:
        module: of the secure level.
        protocol: the protocol.
        balancer: chooses roles; by default few rounds and balanced links, see
            :mod:`mpcc.protocols.roles`.
        keep_shares: keep all share values, also those that nothing uses: to inspect them.
        variants: with a balancer, how many bodies with roles of their own a function may have; its
            calls take turns.

    Raises:
        MpccError: every op that the protocol does not offer, at once; or a width that a step
            cannot take.
    """
    if module.level != "secure":
        raise MpccError.of("E-lower-level", f"cannot lower a module of level {module.level}")
    missing = {
        op.name: op.loc
        for op in numbered(module)
        if op.name not in protocol.rules and not is_call(op)
    }
    collect(
        Diagnostic("E-lower-op", f"protocol {protocol.name} does not offer {name}", where)
        for name, where in missing.items()
    )
    if balancer is not None:
        return _lower(module, protocol, balancer, keep_shares, variants)
    round_bytes = _round_bytes(module)
    if round_bytes is not None:
        return _fewest_rounds(module, protocol, round_bytes, keep_shares)
    best: tuple[Fraction, Lowered] | None = None
    for tried, variants in _tries(module):
        lowered = _lower(module, protocol, tried, keep_shares, variants)
        excess = tried.excess()
        if best is None or excess < best[0]:
            best = excess, lowered
        if excess <= BALANCED:
            break
    if best is None:
        raise RuntimeError("no balancer")
    return best[1]


def _round_bytes(module: Module) -> int | None:
    """What a link carries in the time of a round, as the module says it."""
    found = module.attrs.get("round_bytes")
    if found is None:
        return None
    if type(found) is not int or not 0 < found <= MAX_ROUND_BYTES:
        raise MpccError.of("E-lower-network", f"no link carries {found!r} bytes in a round")
    return found


def _fewest_rounds(
    module: Module, protocol: Protocol, round_bytes: int, keep_shares: bool
) -> Lowered:
    """Where rounds are dear none is given for the balance of links: several choices are tried.

    Which of two roles that are equally early is better shows only later, so that choices between
    them are made by hashes of a few seeds, as often as it takes little time.
    """
    bodies = VARIANTS if called(module) else 1
    best = _lower(module, protocol, LinkBalance(), keep_shares, bodies)
    if called(module):
        return best

    def price(found: Lowered) -> int:
        """Rounds, and what the busiest link carries, in bytes."""
        plan, links = schedule(found.party), Counter[str]()
        for message in plan.messages:
            if message.phase == ONLINE:
                links[message.link] += message.nbytes
        return plan.rounds(ONLINE) * round_bytes + max(links.values(), default=0)

    tries = min(TRIES, MOST_RECORDED // max(len(best.party.main.ops), 1))
    others = (_lower(module, protocol, HashedRole(n), keep_shares, bodies) for n in range(tries))
    return min(chain((best,), others), key=price)


class _Run:
    """One lowering: of ``@main``, and of every function where its first call stands.

    A function has a builder of its own, so that its draws count from 0 (:mod:`mpcc.ir.calls` says
    what they are called), and takes and gives shares of the protocol's border kind.
    """

    def __init__(
        self, module: Module, protocol: Protocol, balancer: Balancer, variants: int
    ) -> None:
        self.module, self.protocol, self.balancer = module, protocol, balancer
        self.variants = variants
        self.round_bytes = _round_bytes(module)
        self.turn: Counter[str] = Counter()
        self.returned: dict[str, list[Share]] = {}
        self.result = new_party_module(protocol.name)
        self.times = Counter(op.attrs["callee"] for op in calls(module))
        self.roles: list[str] = []
        self.shares: dict[Value, Share] = {}
        self.coins: dict[str, dict[int, Coin]] = {}
        self.entries: dict[str, list[tuple[Op, str, Cost, int, int]]] = {}
        self.recorded: dict[str, list[Op]] = {}
        self.cost: dict[str, Cost] = {}

    def function(self, source: Function, target: Function, builder: Builder) -> None:
        """Lower the ops of a function, whose arguments have their shares already."""
        entries: list[tuple[Op, str, Cost, int, int]] = []
        coins: dict[int, Coin] = {}
        inside = "" if source is self.module.main else f"{target.name}/"
        for index, op in enumerate(source.ops):
            label, short = label_of(op, index), op.name.partition(".")[2]
            label = label if op.loc else inside + label
            builder.begin(label, f"{label}/{short}/" if op.loc else f"{label}/")
            start = len(target.ops)
            if is_call(op):
                self.call(op, target, builder)
            else:
                share = self.protocol.rules[op.name](
                    builder, op, [self.shares[v] for v in op.operands]
                )
                if share is not None:
                    self.shares[op.result] = share
            entries.append((op, label, builder.cost, start, len(target.ops)))
            if builder.coin is not None:
                coins[index] = builder.coin
        self.roles += builder.roles
        self.coins[target.name] = coins
        self.entries[target.name] = entries

    def call(self, op: Op, target: Function, builder: Builder) -> None:
        """A call, behind what brings its operands into the border kind."""
        given = [self.protocol.border(builder, self.shares[v]) for v in op.operands]
        source = self.module.functions[op.attrs["callee"]]
        most = max(1, min(self.variants, self.times[source.name] // FEWEST_CALLS))
        turn = self.turn[source.name] % most
        self.turn[source.name] += 1
        name = f"{source.name}.{turn}" if turn else source.name
        if name not in self.returned:
            self.enter(source, name, given, -(-self.times[source.name] // most))
        function = self.result.functions[name]
        operands = [v for share in given for v in share.values()]
        if [v.type for v in operands] != [a.type for a in function.args]:
            raise MpccError.of(
                "E-lower-kind", f"calls of @{name} have operands of different kinds", op.loc
            )
        types = tuple(str(v.type) for v in function.returns)
        attrs = {"callee": name, "number": op.attrs["number"], "types": types}
        made = target.append(party.Call, operands, attrs, builder.label)
        builder.charge(self.cost[name])
        results = iter(made.results)
        for value, share in zip(op.results, self.returned[name], strict=True):
            self.shares[value] = share.moved(lambda _: next(results))

    def enter(self, source: Function, name: str, given: Sequence[Share], times: int) -> None:
        """Lower a function for operands of these kinds; its results are of the border kind."""
        target = self.result.functions[name] = Function(name)

        def argument(value: Value) -> Value:
            arg = Value(value.type, None, len(target.args))
            target.args.append(arg)
            return arg

        for value, share in zip(source.args, given, strict=True):
            self.shares[value] = share.moved(argument)
        before, self.balancer.times = self.balancer.times, times
        builder = Builder(target, self.balancer, self.round_bytes)
        self.function(source, target, builder)
        builder.begin(name, f"{name}/return/")
        borders = {
            v: self.protocol.border(builder, self.shares[v]) for v in dict.fromkeys(source.returns)
        }
        self.balancer.times = before
        self.returned[name] = [borders[v] for v in source.returns]
        target.returns = [v for share in self.returned[name] for v in share.values()]
        self.cost[name] = counted_cost(tuple(target.ops))

    def finish(self, keep_shares: bool) -> None:
        """Remove what nothing needs; the coins of truncations stay."""
        for function in self.result.functions.values():
            self.recorded[function.name] = list(function.ops)
            returned = function.returns
            coins = self.coins[function.name].values()
            function.returns = [*returned, *(c.value for c in coins if c.value is not None)]
            if keep_shares and function is self.result.main:
                function.returns += [v for s in self.shares.values() for v in s.values()]
            function.remove_dead()
            function.returns = returned


def _lower(
    module: Module, protocol: Protocol, balancer: Balancer, keep_shares: bool, variants: int
) -> Lowered:
    run = _Run(module, protocol, balancer, variants)
    result = run.result
    run.function(module.main, result.main, Builder(result.main, balancer, run.round_bytes))
    result.attrs["roles"] = tuple(run.roles)
    run.finish(keep_shares)
    if not called(result):
        # The schedule refuses a stream that is drawn again: better here than at the parties.
        schedule(result)
    live = set(result.main.ops)
    recorded = run.recorded["main"]
    costs = tuple(
        OpCost(i, op.name, label, cost, tuple(o for o in recorded[start:end] if o in live))
        for i, (op, label, cost, start, end) in enumerate(run.entries["main"])
    )
    coins = run.coins.pop("main")
    return Lowered(result, run.shares, coins, costs, run.coins)


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
