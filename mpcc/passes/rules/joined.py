"""A rule that brings a constant factor past joined tensors, into the products that they come of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.core import Op, Value
from mpcc.ir.ops import tensor
from mpcc.ir.rewrite import Rewriter, Rule
from mpcc.ir.types import Shape, TensorType
from mpcc.passes.rules.affine import is_constant

__all__ = ["FactorThroughConcat"]

_PRODUCTS = (tensor.Conv.name, tensor.ConvTranspose.name, tensor.MatMul.name)
_DEEP = 64


@dataclass(frozen=True)
class _Joined:
    """What is multiplied, and by which constant."""

    x: Value
    factor: Value


def _shape(value: Value) -> Shape:
    assert isinstance(value.type, TensorType)
    return value.type.shape


def _large(shape: Shape) -> list[int]:
    return [i for i, d in enumerate(shape) if d > 1]


class FactorThroughConcat(Rule[_Joined]):
    """concat(f(x, v), g(y, w), ...) * c = concat(f(x, v) * c0, g(y, w) * c1, ...).

    Of products with constants alone, moved by transposes, slices, and reshapes that only add or
    drop axes of size one: each factor goes into the weights then. It saves a truncation, and the
    digits that a large factor would cost.
    """

    name = "factor-through-concat"
    anchors: ClassVar[tuple[str, ...]] = (tensor.Mul.name,)

    def match(self, op: Op) -> _Joined | None:
        """A constant factor of moved or joined values, which leaves their shape."""
        for x, factor in (op.operands, op.operands[::-1]):
            if is_constant(factor) and not is_constant(x) and _shape(x) == _shape(op.result):
                return _Joined(x, factor) if _joins(x) else None
        return None

    def check(self, op: Op, match: _Joined, rewriter: Rewriter) -> str:
        """All that is joined are products with constants, which nobody else needs."""
        return _reason(match.x, op, rewriter, _DEEP)

    def rewrite(self, op: Op, match: _Joined, rewriter: Rewriter) -> None:
        """The factors first."""
        rank = len(_shape(match.x))
        shape = _shape(match.factor)
        full = (1,) * (rank - len(shape)) + shape
        factor = _reshaped(match.factor, full, op.loc, rewriter)
        rewriter.replace(op.result, _times(match.x, factor, op.loc, rewriter))


def _joins(x: Value) -> bool:
    """Whether the value is a concatenation, moved or not."""
    for _ in range(_DEEP):
        op = x.op
        if op is None or op.name == tensor.Concat.name:
            return op is not None
        if op.name not in (tensor.Transpose.name, tensor.Slice.name, tensor.Reshape.name):
            return False
        x = op.operands[0]
    return False


def _reason(x: Value, user: Op, rewriter: Rewriter, depth: int) -> str:
    """Why the factor of a value cannot go to where it comes from; empty if it can."""
    op = x.op
    if op is None or depth == 0:
        return "what is joined is no product"
    if not rewriter.only_user(x, user):
        return f"{op.name} has other users"
    if op.name in _PRODUCTS:
        return "" if any(map(is_constant, op.operands[1:2])) else "a kernel is no constant"
    if len(set(op.operands)) < len(op.operands):
        return "a product is joined with itself"
    if op.name == tensor.Reshape.name:
        before, after = _shape(op.operands[0]), _shape(op.result)
        if [before[i] for i in _large(before)] != [after[i] for i in _large(after)]:
            return "a reshape changes the axes"
    elif op.name == tensor.Slice.name:
        if max(op.attrs["strides"], default=1) > 1:
            return "a slice leaves elements out"
    elif op.name not in (tensor.Transpose.name, tensor.Concat.name):
        return "what is joined is no product"
    reasons = (_reason(v, op, rewriter, depth - 1) for v in op.operands)
    return next((r for r in reasons if r), "")


def _reshaped(value: Value, shape: Shape, loc: str, rewriter: Rewriter) -> Value:
    if _shape(value) == shape:
        return value
    return rewriter.insert(tensor.Reshape, [value], {"shape": shape}, loc)


def _times(x: Value, factor: Value, loc: str, rewriter: Rewriter) -> Value:
    """The value times a factor with as many axes."""
    op = x.op
    assert op is not None
    if op.name in _PRODUCTS:
        return rewriter.insert(tensor.Mul, [x, factor], {}, loc)
    if op.name == tensor.Concat.name:
        parts = _parts(op, factor, loc, rewriter)
    elif op.name == tensor.Transpose.name:
        perm = op.attrs["perm"]
        inverse = tuple(sorted(range(len(perm)), key=perm.__getitem__))
        parts = [rewriter.insert(tensor.Transpose, [factor], {"perm": inverse}, loc)]
    elif op.name == tensor.Slice.name:
        parts = [_padded(op, factor, loc, rewriter)]
    else:
        before, after = _shape(op.operands[0]), _shape(op.result)
        sizes = dict(zip(_large(before), (_shape(factor)[i] for i in _large(after)), strict=True))
        wanted = tuple(sizes.get(i, 1) for i in range(len(before)))
        parts = [_reshaped(factor, wanted, loc, rewriter)]
    operands = [_times(v, f, loc, rewriter) for v, f in zip(op.operands, parts, strict=True)]
    return rewriter.insert(op.definition, operands, op.attrs, op.loc)


def _parts(op: Op, factor: Value, loc: str, rewriter: Rewriter) -> Sequence[Value]:
    """The factor of each joined value."""
    axis, shape = op.attrs["axis"], _shape(factor)
    if shape[axis] == 1:
        return [factor] * len(op.operands)
    found, start = [], 0
    for value in op.operands:
        limit = start + _shape(value)[axis]
        starts, limits = [0] * len(shape), list(shape)
        starts[axis], limits[axis] = start, limit
        cut = {"starts": tuple(starts), "limits": tuple(limits), "strides": (1,) * len(shape)}
        found.append(rewriter.insert(tensor.Slice, [factor], cut, loc))
        start = limit
    return found


def _padded(op: Op, factor: Value, loc: str, rewriter: Rewriter) -> Value:
    """The factor of what a slice is taken from: anything where it is cut off."""
    shape, inner = _shape(factor), _shape(op.operands[0])
    low, high = [0] * len(shape), [0] * len(shape)
    for axis, size in enumerate(shape):
        if size > 1:
            low[axis], high[axis] = op.attrs["starts"][axis], inner[axis] - op.attrs["limits"][axis]
    if not any((*low, *high)):
        return factor
    attrs = {"low": tuple(low), "high": tuple(high), "value": 1.0}
    return rewriter.insert(tensor.Pad, [factor], attrs, loc)
