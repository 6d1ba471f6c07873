"""split-lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

from mpcc.ir.calls import called, calls
from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.define import Attributes, Operation
from mpcc.ir.ops import secure
from mpcc.ir.types import BitType, SecureType, Shape, element_count
from mpcc.passes.base import Pass, Result

__all__ = ["SplitLanes"]

_INTERACTIVE: Mapping[type[Operation], int] = {
    secure.Truncate: 1,
    secure.Negative: 1,
    secure.Select: 1,
    secure.FromBit: 1,
    secure.Clamp: 4,
    secure.Fourier: 1,
}
"""Elementwise ops that parties send messages for, and how many of the single ones each is."""

_SINGLE = 4
"""Words of messages per lane of a single one (a select); a function has 2 for every harmonic."""

_LOCAL = (
    secure.Add,
    secure.Sub,
    secure.ShiftLeft,
    secure.Scale,
    secure.Slice,
    secure.Pad,
    secure.Gather,
    secure.Concat,
)
"""Ops that act on every slice along some axes alone."""

_SMALL = 1024
"""Lanes below which nothing is split: words of a third of them are messages of at most 3 KB."""

_LARGE = 1 << 16
"""Lanes from which six slices are made, one for each assignment of roles, else three."""

_PARTS_OF_ROUND = 4
"""On a network that a program is made for, what sends words for a quarter of a round is split."""

_WORD = 8
"""Bytes of a ring element."""

_FEWEST = 3
"""Slices for which roles may rotate."""

_SHARE = 8
"""What does less than 1/8 of the program's interactive work is not split."""


def _shape(value: Value) -> Shape:
    type_ = value.type
    return type_.shape if isinstance(type_, SecureType | BitType) else ()


def _axes(op: Op) -> set[int]:
    """Axes along which the op acts on every slice alone, result and operands having one size."""
    attrs, shape = op.attrs, _shape(op.results[0])
    axes = set(range(len(shape)))
    if op.definition is secure.Slice:
        (x,) = op.operands
        full = zip(attrs["starts"], attrs["limits"], attrs["strides"], _shape(x), strict=True)
        return {i for i, box in enumerate(full) if box[:3] == (0, box[3], 1)}
    if op.definition is secure.Pad:
        return {i for i in axes if not attrs["low"][i] and not attrs["high"][i]}
    if op.definition in (secure.Gather, secure.Concat):
        return axes - {attrs["axis"]}
    return axes


@dataclass
class _Region:
    """Connected ops that act on every slice along ``axes`` alone.

    Attributes:
        axes: common axes, with their sizes.
        ops: in program order.
        work: interactive lanes.
        lanes: of the largest interactive op, in lanes of a single one.
        large: lanes from which there are six slices.
    """

    axes: set[tuple[int, int]]
    ops: list[Op] = field(default_factory=list)
    work: int = 0
    lanes: int = 0
    large: int = _LARGE

    def add(self, op: Op, axes: set[tuple[int, int]]) -> None:
        self.axes &= axes
        self.ops.append(op)
        if op.definition in _INTERACTIVE:
            lanes = element_count(_shape(op.results[0]))
            if op.definition is secure.Fourier:
                lanes *= max(2 * len(op.attrs["cos"]) // _SINGLE, 1)
            self.work += _INTERACTIVE[op.definition] * lanes
            self.lanes = max(self.lanes, lanes)

    @property
    def parts(self) -> int:
        """Number of slices."""
        most = 6 if self.lanes >= self.large else _FEWEST
        return max(min(most, size) for _, size in self.axes)

    @property
    def axis(self) -> int:
        """The axis whose parts differ least in size, the first of these."""
        parts = self.parts
        waste = {i: -(-size // parts) * parts / size for i, size in self.axes if size >= parts}
        return min(sorted(waste), key=lambda i: waste[i])


def _regions(function: Function) -> list[_Region]:
    """All regions, each beginning with an interactive op."""
    at: dict[Value, _Region] = {}
    found: list[_Region] = []
    for op in function.ops:
        interactive = op.definition in _INTERACTIVE
        if not interactive and op.definition not in _LOCAL:
            continue
        shape = _shape(op.results[0])
        axes = {(i, shape[i]) for i in _axes(op) if shape[i] >= _FEWEST}
        before = {id(at[v]): at[v] for v in op.operands if v in at}
        outside = any(v not in at for v in op.operands)
        region = next(iter(before.values()), None)
        if region is None or len(before) > 1 or not region.axes & axes:
            region = None
        if region is None and interactive and axes:
            region = _Region(axes)
            found.append(region)
        if region is None or (outside and not interactive):
            continue
        region.add(op, axes)
        at[op.results[0]] = region
    return found


def _is_slice(value: Value) -> bool:
    """Whether a value is a slice along one axis."""
    op = value.op
    if op is None or op.definition is not secure.Slice:
        return False
    whole = _shape(op.operands[0])
    cut = [i for i, size in enumerate(_shape(value)) if size != whole[i]]
    return len(cut) == 1 and op.attrs["strides"][cut[0]] == 1


def _trim(region: _Region, uses: Mapping[Value, Sequence[tuple[Op, int]]]) -> bool:
    """Drop local ops at the end that are as well done on the whole; whether a split is possible.

    A sum of two values of the region stays: one value is put together instead of two. Bits must not
    cross the border, and what works on slices is not cut again.
    """
    kept = set(region.ops)
    results = {op.results[0] for op in region.ops}
    for op in reversed(region.ops):
        needed = any(user in kept for user, _ in uses.get(op.results[0], ()))
        joins = len({v for v in op.operands if v in results}) > 1
        if op.definition not in _INTERACTIVE and not needed and not joins:
            kept.discard(op)
    region.ops = [op for op in region.ops if op in kept]

    def crosses(op: Op) -> bool:
        inputs = [v for v in op.operands if v.op not in kept]
        if any(_is_slice(v) for v in inputs):
            return True
        leaves = any(user not in kept for user, _ in uses.get(op.results[0], ()))
        return any(isinstance(v.type, BitType) for v in [*inputs, *op.results[: int(leaves)]])

    return not any(crosses(op) for op in region.ops)


def _bounds(size: int, parts: int) -> list[tuple[int, int]]:
    ends = [size * i // parts for i in range(parts + 1)]
    return list(pairwise(ends))


class _Splitting:
    """One run: the function is written anew, in its order."""

    def __init__(self, function: Function, chosen: Sequence[_Region]) -> None:
        self.old = function
        self.new = Function(function.name)
        self.cut_of = {op: (r.axis, r.parts) for r in chosen for op in r.ops}
        self.whole: dict[Value, Value] = {}
        self.split: dict[Value, list[Value]] = {}
        self.cuts: dict[tuple[Value, int, int], list[Value]] = {}

    def part_attrs(self, op: Op, axis: int, size: int) -> Attributes:
        if op.definition is not secure.Slice:
            return op.attrs
        limits = list(op.attrs["limits"])
        limits[axis] = size
        return {**op.attrs, "limits": tuple(limits)}

    def pieces(self, value: Value, axis: int, parts: int, loc: str) -> list[Value]:
        """The parts of a value along an axis: as they were made, or cut."""
        if value.op is not None and self.cut_of.get(value.op) == (axis, parts):
            return self.split[value]
        if (value, axis, parts) not in self.cuts:
            whole = self.all_of(value)
            shape = _shape(value)
            zeros, ones = (0,) * len(shape), (1,) * len(shape)
            made = []
            for start, limit in _bounds(shape[axis], parts):
                starts, limits = list(zeros), list(shape)
                starts[axis], limits[axis] = start, limit
                box = {"starts": tuple(starts), "limits": tuple(limits), "strides": ones}
                cut = self.new.append(secure.Slice, [whole], box, loc)
                made.append(cut.result)
            self.cuts[value, axis, parts] = made
        return self.cuts[value, axis, parts]

    def all_of(self, value: Value) -> Value:
        """A value that may be in parts, put together once."""
        if value not in self.whole:
            op = value.op
            assert op is not None
            axis = {"axis": self.cut_of[op][0]}
            made = self.new.append(secure.Concat, self.split[value], axis, op.loc)
            self.whole[value] = made.result
        return self.whole[value]

    def run(self) -> Function:
        for op in self.old.ops:
            if op not in self.cut_of:
                operands = [self.all_of(v) for v in op.operands]
                made = self.new.append(op.definition, operands, op.attrs, op.loc)
                self.whole.update(zip(op.results, made.results, strict=True))
                continue
            axis, parts = self.cut_of[op]
            operands_of = [self.pieces(v, axis, parts, op.loc) for v in op.operands]
            bounds = _bounds(_shape(op.results[0])[axis], parts)
            sizes = [limit - start for start, limit in bounds]
            self.split[op.results[0]] = [
                self.new.append(
                    op.definition, operands, self.part_attrs(op, axis, size), op.loc
                ).result
                for size, *operands in zip(sizes, *operands_of, strict=True)
            ]
        return self.new


@dataclass(frozen=True)
class SplitLanes(Pass):
    """Large elementwise parts of the program are done in three or six slices.

    The roles of a protocol's steps load the parties and their links unequally. Steps of one layer
    share their roles, so a layer that does most of a program's work would load some links far more
    than others, and let one party wait while another computes. Slices take roles of their own, and
    one slice's messages travel while the next is computed.

    Assumes: a secure module; ``@main`` alone is split. A *region* is made of truncations,
    comparisons,
    functions, selects and clamps, and of sums, slices and pads between them, that act on every
    slice along an axis alone (batch or channels, for a pool). A region is split if it is large and
    does at least an eighth of the interactive work; it must take no bits from outside, give none,
    and not work on a slice already.
    With ``round_bytes``, what a link carries in the time of a round on the network that the
    program is made for, a region is split instead if words of its lanes take more than a quarter
    of a round, whatever its part of the work.
    Messages keep their total size up to the rounding of bit planes to bytes; rounds stay.

    Before::

        %1 = secure.negative(%0) : bit<6000>
        %2 = secure.select(%1, %0) {invert = true, width = 12} : secure<6000, ...>

    After::

        %1 = secure.slice(%0) {starts = [0], limits = [2000], ...}   (and two more)
        %4 = secure.negative(%1) : bit<2000>                          (and two more)
        %7 = secure.select(%4, %1) {...} : secure<2000, ...>          (and two more)
        %10 = secure.concat(%7, %8, %9) {axis = 0} : secure<6000, ...>
    """

    name: ClassVar[str] = "split-lanes"
    level: ClassVar[str] = "secure"
    round_bytes: int = 0

    def _pays(self, region: _Region, total: int) -> bool:
        """Whether a region is split, of a program that does ``total`` lanes of interactive work."""
        if not self.round_bytes:
            return region.lanes >= _SMALL and region.work * _SHARE >= total
        region.large = _SMALL
        least = self.round_bytes // (_PARTS_OF_ROUND * _WORD)
        return region.lanes >= max(_SMALL, least)

    def run(self, module: Module) -> Result:
        """Split the regions of ``@main``."""
        function = module.main
        regions = _regions(function)
        total, uses = sum(r.work for r in regions), function.uses()
        inside = {f.name: sum(r.work for r in _regions(f)) for f in called(module)}
        total += sum(inside[op.attrs["callee"]] for op in calls(module))
        chosen = [r for r in regions if self._pays(r, total) and _trim(r, uses)]
        if not chosen:
            return Result(module, False)
        module.functions["main"] = _Splitting(function, chosen).run()
        return Result(module, True)
