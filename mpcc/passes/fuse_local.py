"""fuse-local."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, TypeAlias

from mpcc.ir.calls import called, is_call
from mpcc.ir.core import Function, Module, Op, Value, make_op
from mpcc.ir.define import Operation
from mpcc.ir.ops.party import DIALECT, PartyOperation, Transfer
from mpcc.ir.schedule import ONLINE, SETUP, Step, schedule
from mpcc.ir.types import (
    COMPUTE_PLACES,
    BitsType,
    ClearType,
    RingType,
    element_count,
    place_of,
)
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


def _stages(steps: Sequence[Step], producer: dict[Value, int]) -> list[int]:
    """Barriers before every op within its (place, phase, depth)."""
    stages: list[int] = []
    for step in steps:
        stage = 0
        for value in step.op.operands:
            index = producer.get(value)
            if index is None:  # an argument
                continue
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


def _regions(function: Function, steps: Sequence[Step]) -> list[int | None]:
    """For every op the smallest op index of its region, or None for ops that stay alone."""
    producer = {r: s.index for s in steps for r in s.op.results}
    stages = _stages(steps, producer)
    groups = _Groups(len(steps))
    # A call takes all of its operands at once: no region goes across one.
    calls_before = list(accumulate(is_call(s.op) for s in steps))

    def key(step: Step) -> tuple[object, ...]:
        local = (stages[step.index], calls_before[step.index], _lanes(step.op))
        return (step.place, step.phase, step.depth, *local)

    fusable = [s for s in steps if _elementwise(s.op) and s.op.name not in _DRAWS]
    for step in fusable:
        for value in step.op.operands:
            if value not in producer:
                continue
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
        sources = {producer[v] for v in op.operands if v in producer}
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
    removed = [f.remove_dead() for f in module.functions.values()]
    if not called(module):
        return _fuse_function(module.main, schedule(module).steps) or any(removed)
    borders = {f.name: _Border(f) for f in called(module)}
    steps = {f.name: _steps_of(f, borders) for f in module.functions.values()}
    fused = [_fuse_function(f, steps[f.name]) for f in module.functions.values()]
    return any(fused) or any(removed)


class _Border:
    """How long a function's results wait for its arguments.

    Arguments come in threes, a component at every party, which belong together.

    Attributes:
        group: of every argument.
        groups: their number.
    """

    def __init__(self, function: Function) -> None:
        places = [place_of(a.type) for a in function.args]
        starts = [not i or p == COMPUTE_PLACES[0] for i, p in enumerate(places)]
        self.group = dict(zip(function.args, (n - 1 for n in accumulate(starts)), strict=True))
        self.groups = sum(starts)
        self.waits = _waits(function, {}, self)
        self.function = function


_Wait: TypeAlias = tuple[int, ...]
"""Messages in the longest chain from each group of arguments, and from what needs none of them;
-1 where there is no chain."""


def _waits(
    function: Function, borders: Mapping[str, _Border], own: _Border | None
) -> dict[Value, _Wait]:
    size = own.groups if own is not None else 0
    waits: dict[Value, _Wait] = {}
    if own is not None:
        for arg, group in own.group.items():
            waits[arg] = tuple(0 if i == group else -1 for i in range(size + 1))
    start = (*(-1 for _ in range(size)), 0)
    for op in function.ops:
        if is_call(op):
            waits.update(_called_waits(op, borders[op.attrs["callee"]], waits))
            continue
        given = {waits[v] for v in op.operands}
        found = start if not given else tuple(map(max, *given)) if len(given) > 1 else given.pop()
        if op.definition is Transfer:
            found = tuple(n + 1 if n >= 0 else n for n in found)
        waits.update(dict.fromkeys(op.results, found))
    return waits


def _called_waits(op: Op, border: _Border, waits: Mapping[Value, _Wait]) -> dict[Value, _Wait]:
    """Of a call's results; in ``@main``, where nothing but sources has no operands."""
    given = [0] * (border.groups + 1)
    for arg, value in zip(border.function.args, op.operands, strict=True):
        group = border.group[arg]
        given[group] = max(given[group], *waits[value])
    made = zip(op.results, border.function.returns, strict=True)
    return {
        result: (max(a + b for a, b in zip(given, border.waits[v], strict=True) if b >= 0),)
        for result, v in made
    }


def _steps_of(function: Function, borders: Mapping[str, _Border]) -> list[Step]:
    """Steps whose depths tell apart what waits for other messages, in whatever call.

    So a region holds nothing up, although arguments come when they come. A call's own step has no
    place.
    """
    waits = _waits(function, borders, borders.get(function.name))
    depths: dict[_Wait, int] = {}
    online: set[Value] = set(function.args)
    steps = []
    for index, op in enumerate(function.ops):
        inside = is_call(op) or op.name == "party.input" or op.attrs.get("phase") == ONLINE
        if inside or any(v in online for v in op.operands):
            online.update(op.results)
            inside = True
        values = op.results or op.operands
        place = "" if is_call(op) else place_of(values[0].type)
        depth = depths.setdefault(waits[values[0]], len(depths))
        steps.append(Step(index, op, place, ONLINE if inside else SETUP, depth))
    return steps


def _fuse_function(main: Function, steps: Sequence[Step]) -> bool:
    """Fuse the regions of one function; whether there are any."""
    region = _regions(main, steps)
    members: dict[int, list[Op]] = {}
    for op, name in zip(main.ops, region, strict=True):
        if name is not None:
            members.setdefault(name, []).append(op)
    if not members:
        return False
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
        """Fuse the regions of all functions in place; dead ops are removed first."""
        return Result(module, _run(module))
