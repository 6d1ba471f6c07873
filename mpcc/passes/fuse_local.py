"""fuse-local."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.core import Function, Module, Op, Value, make_op
from mpcc.ir.define import Operation
from mpcc.ir.ops.party import DIALECT, PartyOperation
from mpcc.ir.schedule import Step, schedule
from mpcc.ir.types import BitsType, ClearType, RingType, element_count
from mpcc.passes.base import Pass, Result

__all__ = ["FuseLocal"]

_FUSED: type[Operation] = DIALECT.operations["party.fused"]
_DRAWS = ("party.draw_ring", "party.draw_bits")
_MAX_LABELS = 3


def _lanes(op: Op) -> int:
    """Lanes of an elementwise op; its operands have the same."""
    type_ = op.result.type
    if isinstance(type_, BitsType):
        return type_.lanes
    if isinstance(type_, RingType | ClearType):
        return element_count(type_.shape)
    raise TypeError(f"{op.name} gives {type_}")


def _elementwise(op: Op) -> bool:
    return issubclass(op.definition, PartyOperation) and op.definition.elementwise


def _region_loc(ops: Iterable[Op]) -> str:
    """The members' common origin, or their first few layers joined by ``+``."""
    locs = list(dict.fromkeys(op.loc for op in ops if op.loc))
    if len(locs) <= 1:
        return locs[0] if locs else ""
    labels = list(dict.fromkeys(loc.partition("/")[0] for loc in locs))
    more = "+..." if len(labels) > _MAX_LABELS else ""
    return "+".join(labels[:_MAX_LABELS]) + more


class _Groups:
    """Union-find over op indices; the smallest index represents."""

    def __init__(self, size: int) -> None:
        self.parent = list(range(size))

    def find(self, index: int) -> int:
        while self.parent[index] != index:
            self.parent[index] = self.parent[self.parent[index]]
            index = self.parent[index]
        return index

    def join(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        self.parent[max(a, b)] = min(a, b)


def _stages(steps: tuple[Step, ...], producer: dict[Value, int]) -> list[int]:
    """Barriers before every op within its (place, phase, depth)."""
    stages: list[int] = []
    for step in steps:
        stage = 0
        for value in step.op.operands:
            index = producer[value]
            before = steps[index]
            if (before.place, before.phase, before.depth) != (step.place, step.phase, step.depth):
                continue
            through = (
                _elementwise(before.op)
                and _elementwise(step.op)
                and _lanes(before.op) == _lanes(step.op)
            )
            # Draws move to their users, so they are before no barrier.
            free = before.op.name in _DRAWS
            stage = max(stage, 0 if free else stages[index] + (not through))
        stages.append(stage)
    return stages


def _regions(function: Function, steps: tuple[Step, ...]) -> list[int | None]:
    """For every op the smallest op index of its region, or None for ops that stay alone."""
    producer = {r: s.index for s in steps for r in s.op.results}
    stages = _stages(steps, producer)
    groups = _Groups(len(steps))

    def key(step: Step) -> tuple[object, ...]:
        return (step.place, step.phase, step.depth, stages[step.index], _lanes(step.op))

    fusable = [s for s in steps if _elementwise(s.op) and s.op.name not in _DRAWS]
    for step in fusable:
        for value in step.op.operands:
            before = steps[producer[value]]
            if (
                before.op.name not in _DRAWS
                and _elementwise(before.op)
                and key(before) == key(step)
            ):
                groups.join(step.index, before.index)
    position = {op: i for i, op in enumerate(function.ops)}
    region: list[int | None] = [None] * len(steps)
    for step in fusable:
        region[step.index] = groups.find(step.index)
    uses = function.uses()
    returned = set(function.returns)
    for step in steps:
        if step.op.name not in _DRAWS or step.op.result in returned:
            continue
        users = {position[op] for op, _ in uses.get(step.op.result, [])}
        targets = {region[user] for user in users}
        target = next(iter(targets), None)
        if len(targets) == 1 and target is not None and steps[target].phase == step.phase:
            region[step.index] = target
    sizes: dict[int, int] = {}
    for name in region:
        if name is not None:
            sizes[name] = sizes.get(name, 0) + 1
    return [name if name is not None and sizes[name] > 1 else None for name in region]


def _fuse(members: list[Op], used_outside: set[Value]) -> tuple[Op, list[Value]]:
    """The fused op of a region, and the old values that its results replace."""
    inside = {op.result for op in members}
    operands = list(dict.fromkeys(v for op in members for v in op.operands if v not in inside))
    body = Function("body", [v.type for v in operands])
    mapping = dict(zip(operands, body.args, strict=True))
    for op in members:
        new = body.append(op.definition, [mapping[v] for v in op.operands], op.attrs, op.loc)
        mapping[op.result] = new.result
    results = [op.result for op in members if op.result in used_outside]
    body.returns = [mapping[v] for v in results]
    return make_op(_FUSED, operands, loc=_region_loc(members), body=body), results


def _sorted(units: list[tuple[int, Op]]) -> list[Op]:
    """Topological order of (key, op); among ready ops the smallest key comes first."""
    producer = {r: i for i, (_, op) in enumerate(units) for r in op.results}
    waits: list[int] = []
    users: dict[int, list[int]] = {}
    for i, (_, op) in enumerate(units):
        sources = {producer[v] for v in op.operands}
        waits.append(len(sources))
        for source in sources:
            users.setdefault(source, []).append(i)
    ready = [(key, i) for i, (key, _) in enumerate(units) if not waits[i]]
    heapq.heapify(ready)
    order: list[Op] = []
    while ready:
        _, i = heapq.heappop(ready)
        order.append(units[i][1])
        for user in users.get(i, []):
            waits[user] -= 1
            if not waits[user]:
                heapq.heappush(ready, (units[user][0], user))
    if len(order) != len(units):
        raise RuntimeError("fuse-local made a cycle")  # the stages exclude it
    return order


def _run(module: Module) -> bool:
    """Fuse regions of a verified party module in place; whether anything changed.

    Dead ops are removed first, since a region's results are its values that are used outside.
    """
    main = module.main
    changed = main.remove_dead() > 0
    region = _regions(main, schedule(module).steps)
    members: dict[int, list[Op]] = {}
    for op, name in zip(main.ops, region, strict=True):
        if name is not None:
            members.setdefault(name, []).append(op)
    if not members:
        return changed
    home = {op.result: name for name, ops in members.items() for op in ops}
    outside: set[Value] = set(main.returns)
    for op, name in zip(main.ops, region, strict=True):
        outside.update(v for v in op.operands if v in home and home[v] != name)
    # A region takes its last member's position: whatever it needs stands before that.
    last = {name: i for i, name in enumerate(region) if name is not None}
    units: list[tuple[int, Op]] = []
    replaced: dict[Value, Value] = {}
    for i, (op, name) in enumerate(zip(main.ops, region, strict=True)):
        if name is None:
            units.append((i, op))
        elif last[name] == i:
            fused, results = _fuse(members[name], outside)
            replaced.update(zip(results, fused.results, strict=True))
            units.append((i, fused))
    main.ops = [op for _, op in units]
    main.replace_uses(replaced)
    main.ops = _sorted(units)
    return True


@dataclass(frozen=True)
class FuseLocal(Pass):
    """Makes regions that run block by block out of elementwise ops between messages.

    An elementwise op on a large tensor is bound by memory: every op reads and writes all of it. A
    ``party.fused`` region runs all of its ops on one block of lanes before it takes the next, so
    what passes between them stays in the cache. The engine needs no knowledge of protocols for it.

    Assumes: a module that can be scheduled.

    Members of a region are declared elementwise, are connected, and have the same place, lanes,
    phase and depth. So a region waits for no message that one of its results does not need anyway,
    and rounds stay as they are. No value leaves a region and comes back: within one (place, phase,
    depth), an op's *stage* counts the barriers before it (ops that are not elementwise, or of other
    lanes), and members have the same stage. A draw has no operands, so it moves into the region of
    its user, if one region of its phase holds all of its uses; otherwise it stays.

    Before::

        %1 = party.draw_bits() {..., lanes = 9, planes = 1} : bits<9x1>@P0
        %2 = party.xor(%0, %1) : bits<9x1>@P0
        %3 = party.not(%2) : bits<9x1>@P0
        %4 = party.transfer(%3) {...} : bits<9x1>@P1

    After::

        %1 = party.fused(%0) body(%2: bits<9x1>@P0) {
          %3 = party.draw_bits() ...
          %4 = party.xor(%2, %3) ...
          %5 = party.not(%4) ...
          return %5
        } : bits<9x1>@P0
        %6 = party.transfer(%1) {...} : bits<9x1>@P1
    """

    name: ClassVar[str] = "fuse-local"
    level: ClassVar[str] = "party"

    def run(self, module: Module) -> Result:
        """Fuse the regions of ``@main`` in place; dead ops are removed first."""
        return Result(module, _run(module))
