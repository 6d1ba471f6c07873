"""Functions spelled out in arithmetic, found by what they compute, however it is written.

An expression of additions, products and numbers is multiplied out as a polynomial in a variable x
and in one function f of a polynomial in x. Two expressions are the same if their polynomials are,
within what binary32 constants may be off. So one row of the table below covers all spellings of,
say, x (1 + erf(x / sqrt 2)) / 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt

from mpcc.ir.core import Function, Op, Value
from mpcc.ir.define import Operation
from mpcc.ir.ops import tensor
from mpcc.ir.rewrite import Rewriter
from mpcc.ir.types import TensorType

__all__ = ["PATTERNS", "Found", "Pattern", "find"]

Array = npt.NDArray[Any]

Polynomial: TypeAlias = dict[tuple[int, int], float]
"""Coefficient by (power of x, power of f)."""

_DEGREE = 4
"""Of any power that a pattern may have inside."""

_TOLERANCE = 1e-5
"""Relative; exporters write constants as binary32, some with six digits."""

_DEPTH = 12
"""Arithmetic ops in a row that are looked through."""

_MOST = 64
"""Values that an expression may have; no spelling has so many."""


@dataclass(frozen=True)
class Pattern:
    """A function that has an op of its own.

    Attributes:
        title: for reports.
        inner: the op that computes f.
        through: an op between f and its argument, or "".
        argument: of f, a polynomial in x.
        whole: the function, a polynomial in x and f.
        constants: numbers of the model that choosing this pattern discloses.
        emit: (rewriter, x, loc) -> the op that replaces it.
    """

    title: str
    inner: str
    through: str
    argument: Polynomial
    whole: Polynomial
    constants: tuple[float, ...]
    emit: Callable[[Rewriter, Value, str], Value]


@dataclass(frozen=True)
class Found:
    """One place of a pattern.

    Attributes:
        op: number of the op that computes the function.
        source: number of the op that computes x.
        pattern: index in :data:`PATTERNS`.
        loc: of the op.
    """

    op: int
    source: int
    pattern: int
    loc: str

    @property
    def row(self) -> tuple[int, int, int]:
        """As Phi has it."""
        return self.op, self.source, self.pattern

    @property
    def title(self) -> str:
        """Of the pattern."""
        return PATTERNS[self.pattern].title

    @property
    def told(self) -> str:
        """What everybody learns of the model's constants by this; "" if nothing."""
        if not PATTERNS[self.pattern].constants:
            return ""
        numbers = ", ".join(f"{c:.6g}" for c in PATTERNS[self.pattern].constants)
        return f"recognised by its constants {numbers}"


class _Reader:
    """Polynomials of values, with the constants' numbers."""

    def __init__(self, constants: Mapping[str, Array]) -> None:
        self._constants = constants

    def number(self, value: Value) -> float | None:
        """The one number that a constant holds; None of anything else."""
        op = value.op
        if op is None or op.definition is not tensor.Weight:
            return None
        array = self._constants[op.attrs["name"]]
        return float(array.reshape(-1)[0]) if array.size == 1 else None

    def parts(self, value: Value) -> list[Value]:
        """Operands of an op of arithmetic that are no numbers."""
        op = value.op
        if op is None or op.name not in _ARITHMETIC:
            return []
        return [v for v in op.operands if self.number(v) is None]

    def polynomial(self, value: Value, x: Value, f: Value | None) -> Polynomial | None:
        """The value as a polynomial in x and f; None if it is none."""
        return self._polynomial(value, x, f, 0, {})

    def _polynomial(
        self,
        value: Value,
        x: Value,
        f: Value | None,
        depth: int,
        known: dict[Value, Polynomial | None],
    ) -> Polynomial | None:
        if value is x:
            return {(1, 0): 1.0}
        if value is f:
            return {(0, 1): 1.0}
        number = self.number(value)
        if number is not None:
            return {(0, 0): number}
        op = value.op
        if op is None or op.name not in _ARITHMETIC or depth > _DEPTH:
            return None
        # A value that several ops use is multiplied out once.
        if value not in known:
            known[value] = None
            operands = []
            for operand in op.operands:
                part = self._polynomial(operand, x, f, depth + 1, known)
                if part is None:
                    return None
                operands.append(part)
            known[value] = _ARITHMETIC[op.name](op, operands)
        return known[value]


def _sum(a: Polynomial, b: Polynomial, sign: float) -> Polynomial:
    total = dict(a)
    for key, number in b.items():
        total[key] = total.get(key, 0.0) + sign * number
    return total


def _product(op: Op, operands: Sequence[Polynomial]) -> Polynomial | None:
    total: Polynomial = {}
    for (p, q), u in operands[0].items():
        for (r, s), v in operands[1].items():
            if p + r + q + s > _DEGREE:
                return None
            total[p + r, q + s] = total.get((p + r, q + s), 0.0) + u * v
    return total


def _scaled(op: Op, operands: Sequence[Polynomial]) -> Polynomial:
    factor = op.attrs["factor"]
    return {key: number * factor for key, number in operands[0].items()}


_ARITHMETIC: Mapping[str, Callable[[Op, Sequence[Polynomial]], Polynomial | None]] = {
    tensor.Add.name: lambda op, ab: _sum(ab[0], ab[1], 1.0),
    tensor.Sub.name: lambda op, ab: _sum(ab[0], ab[1], -1.0),
    tensor.Mul.name: _product,
    tensor.Scale.name: _scaled,
}


def _same(found: Polynomial, wanted: Polynomial) -> bool:
    """Equal within the tolerance."""
    largest = max(map(abs, wanted.values()))
    return all(
        abs(found.get(key, 0.0) - wanted.get(key, 0.0))
        <= _TOLERANCE * max(abs(wanted.get(key, 0.0)), 0.01 * largest)
        for key in {*found, *wanted}
    )


def _within(reader: _Reader, value: Value) -> list[Value]:
    """The value and what arithmetic makes it of, nearest first."""
    found = {value: None}
    last = [value]
    for _ in range(_DEPTH):
        last = [part for v in last for part in reader.parts(v) if part not in found]
        found.update(dict.fromkeys(last))
        last = list(dict.fromkeys(last))
        if len(found) > _MOST:
            break
    return list(found)


def _match(reader: _Reader, anchor: Op) -> tuple[int, Value] | None:
    """The pattern that ends in ``anchor``, and its x."""
    for f in _within(reader, anchor.result):
        if f.op is None or f is anchor.result:
            continue
        for i, pattern in enumerate(PATTERNS):
            argument = _argument(f.op, pattern)
            if argument is None:
                continue
            for x in _within(reader, argument):
                inside = reader.polynomial(argument, x, None)
                if inside is None or not _same(inside, pattern.argument):
                    continue
                outside = reader.polynomial(anchor.result, x, f)
                if outside is not None and _same(outside, pattern.whole) and _alike(x, anchor):
                    return i, x
    return None


def _alike(x: Value, anchor: Op) -> bool:
    """Whether the function has the shape of its operand: constants may broadcast it."""
    types = (x.type, anchor.result.type)
    return (
        all(isinstance(t, TensorType) for t in types)
        and len({t.shape for t in types if isinstance(t, TensorType)}) == 1
    )


def _argument(op: Op, pattern: Pattern) -> Value | None:
    """What goes into f where ``op`` computes the f of a pattern."""
    if op.name != pattern.inner:
        return None
    (value,) = op.operands
    if not pattern.through:
        return value
    between = value.op
    return between.operands[0] if between is not None and between.name == pattern.through else None


def find(function: Function, constants: Mapping[str, Array]) -> tuple[Found, ...]:
    """All patterns of a function, in the order of ops.

    Of expressions inside one another the largest counts.

    Args:
        function: of the tensor level.
        constants: its weights by name.
    """
    reader = _Reader(constants)
    number = {r: i for i, op in enumerate(function.ops) for r in op.results}
    found: list[Found] = []
    inside: set[Value] = set()
    for i, op in reversed(list(enumerate(function.ops))):
        if op.name not in _ARITHMETIC or op.result in inside:
            continue
        match = _match(reader, op)
        if match is None or match[1] not in number:
            continue
        pattern, x = match
        found.append(Found(i, number[x], pattern, op.loc))
        inside.update(v for v in _within(reader, op.result) if v is not x)
    return tuple(reversed(found))


# --- the table -----------------------------------------------------------------------------------


def _unary(
    definition: type[Operation], before: float = 1.0, after: float = 1.0, **attrs: str
) -> Callable[[Rewriter, Value, str], Value]:
    """After times the function of before times x."""

    def emit(rewriter: Rewriter, x: Value, loc: str) -> Value:
        if before != 1:
            x = rewriter.insert(tensor.Scale, [x], {"factor": before}, loc)
        y = rewriter.insert(definition, [x], attrs, loc)
        return y if after == 1 else rewriter.insert(tensor.Scale, [y], {"factor": after}, loc)

    return emit


_HALF = {(1, 0): 0.5, (1, 1): 0.5}
_ROOT = math.sqrt(0.5)
_SLOPE, _CUBIC = math.sqrt(2 / math.pi), 0.044715
_QUICK = 1.702

_ERF = (tensor.Erf.name, "", {(1, 0): _ROOT})
_TANH = (tensor.Tanh.name, "", {(1, 0): _SLOPE, (3, 0): _SLOPE * _CUBIC})

PATTERNS: tuple[Pattern, ...] = (
    Pattern("GELU", *_ERF, _HALF, (_ROOT, 1.0, 0.5), _unary(tensor.Gelu)),
    Pattern(
        *("GELU by tanh", *_TANH, _HALF, (_SLOPE, _CUBIC, 1.0, 0.5)),
        _unary(tensor.Gelu, approximate="tanh"),
    ),
    Pattern("SiLU", tensor.Sigmoid.name, "", {(1, 0): 1.0}, {(1, 1): 1.0}, (), _unary(tensor.Silu)),
    # Hendrycks and Gimpel 2016, the form by the logistic function.
    Pattern(
        *("GELU by sigmoid", tensor.Sigmoid.name, "", {(1, 0): _QUICK}, {(1, 1): 1.0}, (_QUICK,)),
        _unary(tensor.Silu, _QUICK, 1 / _QUICK),
    ),
    Pattern(
        *("Mish", tensor.Tanh.name, tensor.Softplus.name, {(1, 0): 1.0}, {(1, 1): 1.0}, ()),
        _unary(tensor.Mish),
    ),
    # One half of it stands elsewhere, in the weights of a neighbour.
    Pattern(
        *("twice GELU", *_ERF, {(1, 0): 1.0, (1, 1): 1.0}, (_ROOT, 1.0)),
        _unary(tensor.Gelu, after=2.0),
    ),
)
"""In the order of their numbers, which Phi has: new ones go to the end."""
