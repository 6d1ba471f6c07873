"""Functions that are called: what repeats stands once, in a module of any level.

A ``call`` op of ``@main`` names another function of its module. Functions are called from ``@main``
alone: a function that is called calls nothing, so there is no recursion, and a program has as many
ops as its calls and their functions' sizes say. Every call has a number, from 1 on, that no other
call of the module has. It is part of what a draw is called: stream ``s`` of a function is stream
``number << STREAM_BITS | s`` where it is called, and stream ``s`` of ``@main`` is itself.

:func:`inline` writes calls out. The program that it gives is what a module with calls means at
every level; whoever wants a flat list of ops asks for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import ClassVar

from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.define import Attr, Attributes, Operation, fail
from mpcc.ir.limits import MAX_OPS
from mpcc.ir.text import parse_type
from mpcc.ir.types import BitType, SecureType, TensorType, Type, join_visibility

__all__ = [
    "AFTER",
    "FEWEST_CALLS",
    "LOCAL",
    "MAX_CALLS",
    "STREAM_BITS",
    "CallOperation",
    "Inlined",
    "called",
    "calls",
    "check_calls",
    "drop_uncalled",
    "inline",
    "is_call",
    "numbered",
]

FEWEST_CALLS = 4
"""A function that is called less often is written out."""

STREAM_BITS = 32
"""Low bits of a stream id: the draw. The call's number stands above."""

MAX_CALLS = 1 << 30
"""Calls of a program: with the draw below, their numbers are stream ids of 63 bits."""

LOCAL, AFTER = "local.", "after."
"""Of the names of functions of owners, which nothing calls (mpcc/ir/local.py, mpcc/ir/after.py)."""

_ONLY_IN_MAIN = frozenset({"input", "weight", "output", "reveal"})
_CALLS = frozenset({"tensor.call", "secure.call", "party.call"})


def is_call(op: Op) -> bool:
    """Whether the op calls a function."""
    return op.name in _CALLS


class CallOperation(Operation):
    """What calls of all levels have in common; each level mixes it into its own base class."""

    operands: ClassVar[tuple[str, ...]] = ("xs*",)
    attributes: ClassVar[Mapping[str, Attr]] = {
        "callee": Attr("str", "name of the function"),
        "number": Attr(
            "int", "number of the call, from 1 on, which no other call of the module has"
        ),
        "types": Attr("strs", "types of the results"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        """The types that the call names; that they are the function's is checked with the module.

        Raises:
            InferenceError: a number out of range, or a text that is no type.
        """
        if not 1 <= attrs["number"] < MAX_CALLS:
            raise fail(cls, f"calls have numbers from 1 to {MAX_CALLS - 1}, not {attrs['number']}")
        if not attrs["types"]:
            raise fail(cls, "a function gives at least one value")
        try:
            found = tuple(parse_type(text) for text in attrs["types"])
        except ValueError as error:
            raise fail(cls, str(error)[:200]) from None
        if any(str(t) != text for t, text in zip(found, attrs["types"], strict=True)):
            raise fail(cls, "a type is written in another way")
        return found


def calls(module: Module) -> list[Op]:
    """The calls of ``@main``, in order."""
    return [op for op in module.main.ops if is_call(op)]


def called(module: Module) -> list[Function]:
    """The functions beside ``@main`` and those of owners, in order."""
    named = module.functions.items()
    return [f for name, f in named if name != "main" and not name.startswith((LOCAL, AFTER))]


def drop_uncalled(module: Module) -> bool:
    """Remove functions that nothing calls; whether there were any."""
    used = {op.attrs["callee"] for op in calls(module)}
    dead = [f.name for f in called(module) if f.name not in used]
    for name in dead:
        del module.functions[name]
    return bool(dead)


def numbered(module: Module) -> list[Op]:
    """All ops as Phi and reports number them: those of ``@main``, then of each function."""
    return [op for f in (module.main, *called(module)) for op in f.ops]


def _fits(given: Type, wanted: Type) -> bool:
    """Whether a value may be an argument: of the same type, or seen by fewer than it says."""
    kinds = TensorType | SecureType | BitType
    if isinstance(given, kinds) and isinstance(wanted, kinds):
        joined = join_visibility(given.visibility, wanted.visibility)
        return joined == wanted.visibility and replaced(given, visibility=joined) == wanted
    return given == wanted


def check_calls(module: Module) -> Iterator[Diagnostic]:
    """What is wrong with the calls of a module whose functions are valid by themselves."""
    seen: set[int] = set()
    known = {f.name: f for f in called(module)}
    for index, op in enumerate(module.main.ops):
        if not is_call(op):
            continue
        where = f"@main, op {index} {op.name}" + (f" (from {op.loc})" if op.loc else "")
        callee, number = op.attrs["callee"], op.attrs["number"]
        function = known.get(callee)
        if function is None:
            yield Diagnostic("E-ir-call", f"there is no function @{callee[:80]} to call", where)
            continue
        if number in seen:
            yield Diagnostic("E-ir-call", f"two calls have the number {number}", where)
        seen.add(number)
        given, wanted = [v.type for v in op.operands], [a.type for a in function.args]
        if len(given) != len(wanted) or not all(map(_fits, given, wanted)):
            yield Diagnostic("E-ir-call", f"the operands are not the arguments of @{callee}", where)
        if [r.type for r in op.results] != [v.type for v in function.returns]:
            yield Diagnostic("E-ir-call", f"the results are not those of @{callee}", where)
    for function in called(module):
        for index, op in enumerate(function.ops):
            if is_call(op):
                what = "a function that is called calls nothing itself"
                yield Diagnostic("E-ir-call", what, f"@{function.name}, op {index}")
            elif op.name.partition(".")[2] in _ONLY_IN_MAIN:
                what = f"{op.name} stands in @main alone"
                yield Diagnostic("E-ir-call", what, f"@{function.name}, op {index}")


@dataclass(frozen=True)
class Inlined:
    """A module with its calls written out.

    Attributes:
        module: it; if nothing was called, the very module that was given.
        rows: per op of its ``@main``, the op's number in :func:`numbered` of the given module.
        values: (call number, value of its function) -> value here; of ``@main`` with number 0.
    """

    module: Module
    rows: tuple[int, ...]
    values: dict[tuple[int, Value], Value] = field(repr=False)


def inline(module: Module, only: Collection[str] | None = None) -> Inlined:
    """Write out calls.

    Args:
        module: verified; it stays as it is.
        only: names of the functions whose calls are written out; None: all.

    Raises:
        MpccError: ``E-ir-call``: more than ``MAX_OPS`` ops, or a draw whose stream id has more
            than ``STREAM_BITS`` bits, which another call's could equal.
    """
    main = module.main
    chosen = {f.name for f in called(module)} if only is None else set(only)
    if not chosen:
        rows = tuple(range(len(main.ops)))
        return Inlined(module, rows, {(0, v): v for op in main.ops for v in op.results})
    size = {f.name: _size(f.ops) for f in called(module)}
    total = _size(main.ops) + sum(size[op.attrs["callee"]] for op in calls(module))
    if total > MAX_OPS:
        raise MpccError.of(
            "E-ir-call",
            f"with its calls written out the program has {total} ops, allowed are {MAX_OPS}",
        )
    first: dict[str, int] = {}
    at = len(main.ops)
    for function in called(module):
        first[function.name] = at
        at += len(function.ops)
    result = Module(module.level, module.attrs)
    for name, function in module.functions.items():
        if name != main.name and name not in chosen:
            result.functions[name] = function
    made = _Writer(result.main, module.level != "party")
    for number, op in enumerate(main.ops):
        if is_call(op) and op.attrs["callee"] in chosen:
            made.call(op, module.functions[op.attrs["callee"]], first[op.attrs["callee"]])
        else:
            made.copy(op, 0, number)
    result.main.returns = [made.values[0, v] for v in main.returns]
    return Inlined(result, tuple(made.rows), made.values)


def _size(ops: Sequence[Op]) -> int:
    return sum(1 if op.body is None else 1 + len(op.body.ops) for op in ops)


class _Writer:
    """Appends copies of ops to a function.

    Args:
        target: the function.
        infer: whether results have new types: a call may be of what fewer may see than the function
            says, and so may be all that follows.
    """

    def __init__(self, target: Function, infer: bool = False) -> None:
        self.target = target
        self.infer = infer
        self.rows: list[int] = []
        self.values: dict[tuple[int, Value], Value] = {}

    def call(self, op: Op, function: Function, first: int) -> None:
        """The body of a function in the place of a call."""
        number, values = op.attrs["number"], self.values
        for arg, value in zip(function.args, op.operands, strict=True):
            values[number, arg] = values[0, value]
        for i, inner in enumerate(function.ops):
            self.copy(inner, number, first + i)
        for result, value in zip(op.results, function.returns, strict=True):
            values[0, result] = values[number, value]

    def copy(self, op: Op, number: int, row: int) -> None:
        """One op, its draws in the streams of the call of this number."""
        values = self.values
        body = None if op.body is None else _moved(op.body, number)
        operands = [values[number, v] for v in op.operands]
        types: Sequence[Type] = [r.type for r in op.results]
        if self.infer:
            types = op.definition.infer([v.type for v in operands], op.attrs)
        new = Op(op.definition, operands, _drawn(op, number), types, op.loc, body)
        for old, result in zip(op.results, new.results, strict=True):
            values[number, old] = result
        self.target.ops.append(new)
        self.rows.append(row)


def _drawn(op: Op, number: int) -> Attributes:
    """Attributes of an op in a call, 0 being ``@main``."""
    stream = op.attrs.get("stream")
    if stream is None:
        return op.attrs
    if stream >> STREAM_BITS:
        what = f"stream {stream} has more than {STREAM_BITS} bits in a module with calls"
        raise MpccError.of("E-ir-call", what, op.loc or op.name)
    return {**op.attrs, "stream": number << STREAM_BITS | stream} if number else op.attrs


def _moved(body: Function, number: int) -> Function:
    """A region's body in a call; shared with the function where it draws nothing."""
    if not number or not any("stream" in op.attrs for op in body.ops):
        for op in body.ops:
            _drawn(op, 0)
        return body
    copy = Function(body.name, [a.type for a in body.args])
    writer = _Writer(copy)
    writer.values = {(number, a): b for a, b in zip(body.args, copy.args, strict=True)}
    for op in body.ops:
        writer.copy(op, number, 0)
    copy.returns = [writer.values[number, v] for v in body.returns]
    return copy
