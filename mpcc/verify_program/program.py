"""A party program as the checker sees it: fused regions opened, one flat list of local ops.

Every value gets the number of its op. Nothing that the file says about itself is used: places come
from the inferred types, phases from the dependencies, and labels only name ops in messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mpcc.errors import Diagnostic
from mpcc.ir.calls import inline
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.define import Attributes
from mpcc.ir.schedule import ONLINE, SETUP
from mpcc.ir.types import BitsType, ClearType, RingType, Type

__all__ = [
    "DRAWS",
    "TRANSFER",
    "FlatOp",
    "Piece",
    "Planes",
    "Program",
    "check_locality",
    "check_streams",
    "flatten",
    "pick",
    "trace",
]

DRAWS = ("party.draw_ring", "party.draw_bits")
TRANSFER = "party.transfer"
_SOURCES = ("party.input", "party.weight", *DRAWS)


Planes: TypeAlias = tuple[int, ...] | None
"""Planes of a value; None for all of it."""

Piece: TypeAlias = tuple[int, Planes]
"""A value's number and some of its planes."""


@dataclass(frozen=True, slots=True)
class FlatOp:
    """One op of the opened program.

    Attributes:
        id: position in the opened program; also the number of its result.
        node: position in ``@main`` of the op that it is, or of the region that it stands in.
        inner: position in the region's body, -1 outside of regions.
        args: numbers of its operands.
        type: type of its result; None if it has none.
        place: where it runs; a transfer's receiver.
        phase: ``setup`` or ``online``: whether a run repeats it.
    """

    id: int
    node: int
    inner: int
    name: str
    attrs: Attributes
    args: tuple[int, ...]
    type: Type | None
    place: str
    phase: str
    loc: str

    @property
    def where(self) -> str:
        """For messages: node, op, place, step and layer."""
        inside = f" op {self.inner}" if self.inner >= 0 else ""
        text = f"node n{self.node}{inside} {self.name} at {self.place or 'no place'}"
        if self.name == TRANSFER:
            text += f", step {self.attrs['step']!r}"
        return text + (f" (from {self.loc})" if self.loc else "")


@dataclass(frozen=True)
class Program:
    """An opened program.

    Attributes:
        ops: in order; operands stand before their users.
        source: per op, its operands' place; differs from the op's own for a transfer only.
        same: per op the number that stands for its value: the first draw of the same key, phase and
            stream for a draw, its own number else. Holders of a key draw the same value.
        pieces: per op, the values that its result depends on directly, with the planes that matter:
            its operands, but for ``party.planes`` what the chosen planes were joined from.
        users: per number, the ops that have it among their pieces.
    """

    ops: tuple[FlatOp, ...]
    source: tuple[str, ...]
    same: tuple[int, ...]
    pieces: tuple[tuple[Piece, ...], ...]
    users: tuple[tuple[int, ...], ...]

    def holders(self, number: int) -> frozenset[str]:
        """Who can make the draw ``number``."""
        return frozenset(self.ops[number].attrs["key"].split("+"))

    def transfers(self) -> list[FlatOp]:
        """All messages."""
        return [op for op in self.ops if op.name == TRANSFER]


def _place(type_: Type | None) -> str:
    return type_.place if isinstance(type_, RingType | BitsType | ClearType) else ""


def draw_id(op: FlatOp) -> tuple[str, str, int]:
    """(key, phase, stream) of a draw."""
    return (op.attrs["key"], op.attrs["phase"], op.attrs["stream"])


class _Flattener:
    def __init__(self) -> None:
        self.ops: list[FlatOp] = []
        self.source: list[str] = []
        self.number: dict[Value, int] = {}

    def add(self, op: Op, node: int, inner: int, number: Mapping[Value, int]) -> int:
        args = tuple(number[v] for v in op.operands)
        type_ = op.results[0].type if op.results else None
        operand_place = _place(op.operands[0].type) if op.operands else _place(type_)
        online = (
            any(self.ops[a].phase == ONLINE for a in args)
            or op.name == "party.input"
            or (op.name in DRAWS and op.attrs["phase"] != SETUP)
        )
        flat = FlatOp(
            id=len(self.ops),
            node=node,
            inner=inner,
            name=op.name,
            attrs=op.attrs,
            args=args,
            type=type_,
            place=_place(type_) or operand_place,
            phase=ONLINE if online else SETUP,
            loc=op.loc,
        )
        self.ops.append(flat)
        self.source.append(operand_place)
        return flat.id


def pick(planes: Planes, indices: Sequence[int]) -> tuple[int, ...]:
    """The chosen ones of ``indices``."""
    return tuple(indices) if planes is None else tuple(indices[p] for p in planes)


def trace(ops: Sequence[FlatOp], value: int, planes: Planes) -> list[Piece]:
    """What some planes of a value were joined from, through joins, choices and messages."""
    found: list[Piece] = []
    stack: list[Piece] = [(value, planes)]
    while stack:
        at, chosen = stack.pop()
        op = ops[at]
        if op.name == TRANSFER:
            stack.append((op.args[0], chosen))
        elif op.name == "party.planes":
            stack.append((op.args[0], pick(chosen, op.attrs["indices"])))
        elif op.name == "party.join":
            low = 0
            for arg in op.args:
                type_ = ops[arg].type
                width = type_.planes if isinstance(type_, BitsType) else 0
                if chosen is None:
                    stack.append((arg, None))
                elif taken := tuple(p - low for p in chosen if low <= p < low + width):
                    stack.append((arg, taken))
                low += width
        else:
            found.append((at, chosen))
    return found


def _pieces(ops: Sequence[FlatOp], op: FlatOp) -> tuple[Piece, ...]:
    if op.name == "party.planes":
        return tuple(trace(ops, op.args[0], op.attrs["indices"]))
    return tuple((arg, None) for arg in op.args)


def flatten(module: Module) -> Program:
    """Write out all calls and open all fused regions of a verified party module; O(ops)."""
    module = inline(module).module
    flat = _Flattener()
    for node, op in enumerate(module.main.ops):
        if op.body is None:
            made = flat.add(op, node, -1, flat.number)
            for result in op.results:
                flat.number[result] = made
            continue
        inside = {a: flat.number[v] for a, v in zip(op.body.args, op.operands, strict=True)}
        for position, inner in enumerate(op.body.ops):
            made = flat.add(inner, node, position, inside)
            for result in inner.results:
                inside[result] = made
        for result, value in zip(op.results, op.body.returns, strict=True):
            flat.number[result] = inside[value]
    first: dict[tuple[str, str, int], int] = {}
    same = tuple(
        first.setdefault(draw_id(op), op.id) if op.name in DRAWS else op.id for op in flat.ops
    )
    users: list[list[int]] = [[] for _ in flat.ops]
    pieces = tuple(_pieces(flat.ops, op) for op in flat.ops)
    for user, found in enumerate(pieces):
        for piece, _ in found:
            users[same[piece]].append(user)
    users_of = tuple(tuple(u) for u in users)
    return Program(tuple(flat.ops), tuple(flat.source), same, pieces, users_of)


def check_locality(program: Program) -> list[Diagnostic]:
    """Rule a: ops use values of their own place; a draw exists only where its key is held."""
    problems: list[Diagnostic] = []

    def problem(op: FlatOp, what: str) -> None:
        problems.append(Diagnostic("E-leak-place", what, op.where))

    for op, source in zip(program.ops, program.source, strict=True):
        places = {program.ops[a].place for a in op.args}
        if op.args and places != {source}:
            problem(op, f"uses values of {', '.join(sorted(places))}")
        elif op.name == TRANSFER:
            if op.inner >= 0:
                problem(op, "a message stands in a fused region")
            if op.place != op.attrs["to"] or op.place == source:
                problem(op, f"a message from {source} to {op.attrs['to']} arrives at {op.place}")
        elif op.args and op.place != source:
            problem(op, f"uses values of {source}")
        elif not op.args and op.name not in _SOURCES:
            problem(op, "has no operands")
        if op.name in DRAWS:
            if op.place not in op.attrs["key"].split("+"):
                problem(op, f"{op.place} does not hold the key {op.attrs['key']}")
            if op.attrs["phase"] not in (SETUP, ONLINE):
                problem(op, f"draws of phase {op.attrs['phase']} are not known")
        if not op.place:
            problem(op, "has no place")
    return problems


def check_streams(program: Program) -> list[Diagnostic]:
    """Rule e: a (key, phase, stream) is one draw: one type, at most once at each holder.

    Every draw takes its stream from block 0, so streams are disjoint if and only if their ids are.
    """
    problems: list[Diagnostic] = []
    seen: set[tuple[int, str]] = set()

    def shape(op: FlatOp) -> str:
        return str(op.type).partition("@")[0]

    for op in program.ops:
        if op.name not in DRAWS:
            continue
        key, phase, stream = draw_id(op)
        first = program.ops[program.same[op.id]]
        name = f"stream {stream} of key {key} ({phase})"
        if shape(op) != shape(first):
            problems.append(
                Diagnostic(
                    "E-leak-stream",
                    f"{name} is drawn as {shape(op)} here and as {shape(first)} at node "
                    f"n{first.node}",
                    op.where,
                )
            )
        elif (first.id, op.place) in seen:
            problems.append(
                Diagnostic("E-leak-stream", f"{op.place} draws {name} a second time", op.where)
            )
        seen.add((first.id, op.place))
    return problems
