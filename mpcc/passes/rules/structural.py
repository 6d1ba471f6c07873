"""Rules that compose, move or remove transposes, and drop ops that change nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from mpcc.ir.core import Op, Value
from mpcc.ir.ops import tensor
from mpcc.ir.rewrite import Rewriter, Rule
from mpcc.ir.types import TensorType
from mpcc.passes.rules.affine import is_constant

__all__ = [
    "RULES",
    "ComposeReshapes",
    "ComposeTransposes",
    "DropIdentity",
    "TransposeAfterElementwise",
    "TransposeAsReshape",
    "goes",
]


def _shape(op: Op) -> tuple[int, ...]:
    type_ = op.operands[0].type
    return type_.shape if isinstance(type_, TensorType) else ()


def _producer(op: Op, name: str) -> Op | None:
    """The op that makes operand 0, if it has this name."""
    source = op.operands[0].op
    return source if source is not None and source.name == name else None


def _ones(values: Sequence[int]) -> bool:
    return all(v == 1 for v in values)


def _is_identity(op: Op) -> bool:
    """Whether the result is the operand; types are compared by whoever asks."""
    attrs = op.attrs
    match op.name:
        case tensor.Transpose.name:
            return bool(attrs["perm"] == tuple(range(len(attrs["perm"]))))
        case tensor.Gather.name:
            return bool(attrs["indices"] == tuple(range(_shape(op)[attrs["axis"]])))
        case tensor.Take.name:
            return bool(attrs["indices"] == tuple(range(len(attrs["indices"]))))
        case tensor.MaxPool.name | tensor.SumPool.name:
            # A kernel of one with padding or steps changes the shape, unless both cancel.
            return _ones((*attrs["kernel"], *attrs["strides"])) and not any(attrs["pads"])
        case tensor.Clip.name:
            return bool(attrs["lo"] == -math.inf and attrs["hi"] == math.inf)
        case tensor.Concat.name:
            return len(op.operands) == 1
    # Reshape, broadcast, pad and a slice change the shape if anything; sums of no axis nothing.
    return op.name != tensor.ReduceSum.name or not attrs["axes"]


class DropIdentity(Rule[bool]):
    """A structural op, pool or clip that changes nothing is dropped."""

    name = "drop-identity"
    anchors: ClassVar[tuple[str, ...]] = (
        tensor.Transpose.name,
        tensor.Reshape.name,
        tensor.Pad.name,
        tensor.Slice.name,
        tensor.Broadcast.name,
        tensor.Gather.name,
        tensor.Take.name,
        tensor.Concat.name,
        tensor.MaxPool.name,
        tensor.SumPool.name,
        tensor.ReduceSum.name,
        tensor.Clip.name,
    )

    def match(self, op: Op) -> bool | None:
        """The type of the operand, and its elements in their places."""
        same = op.operands and op.result.type == op.operands[0].type and _is_identity(op)
        return True if same else None

    def rewrite(self, op: Op, match: bool, rewriter: Rewriter) -> None:
        """Use the operand."""
        rewriter.replace(op.result, op.operands[0])


class TransposeAfterElementwise(Rule[tuple[int, ...]]):
    """f(transpose(x), ...) = transpose(f(x, ...)) for elementwise f.

    Transposes move towards the outputs until they meet the inverse ones: a model that was exported
    from another layout has one layout then. Constants are transposed at their owner.
    """

    name = "transpose-after-elementwise"
    anchors: ClassVar[tuple[str, ...]] = (
        tensor.Relu.name,
        tensor.Clip.name,
        tensor.Scale.name,
        tensor.Floor.name,
        tensor.Add.name,
        tensor.Sub.name,
        tensor.Mul.name,
        tensor.Maximum.name,
        tensor.Sigmoid.name,
        tensor.Tanh.name,
        tensor.Exp.name,
        tensor.Erf.name,
        tensor.Gelu.name,
        tensor.Silu.name,
        tensor.Mish.name,
        tensor.Softplus.name,
        tensor.Elu.name,
    )

    def match(self, op: Op) -> tuple[int, ...] | None:
        """Operands are transposes by one permutation, and have as many axes as the result."""
        found = {
            v.op.attrs["perm"]
            for v in op.operands
            if v.op is not None and v.op.name == tensor.Transpose.name and not is_constant(v)
        }
        (perm,) = found if len(found) == 1 else ((),)
        rank = len(op.result.type.shape) if isinstance(op.result.type, TensorType) else 0
        return perm if perm and len(perm) == rank else None

    def check(self, op: Op, match: tuple[int, ...], rewriter: Rewriter) -> str:
        """The others are constants or move nothing; nobody keeps the transposed ones."""
        inverse = _inverse(match)
        for value in op.operands:
            source = value.op
            if is_constant(value) or _moves_nothing(_full(value, len(match)), inverse):
                continue
            if source is None or not _is_transpose(source, match):
                return "another operand is not transposed"
            if not goes(value, match, rewriter):
                return "the transpose has other users"
        return ""

    def rewrite(self, op: Op, match: tuple[int, ...], rewriter: Rewriter) -> None:
        """The op first."""
        inverse = _inverse(match)
        operands = []
        for value in op.operands:
            source = value.op
            if source is not None and _is_transpose(source, match) and not is_constant(value):
                operands.append(source.operands[0])
            else:
                operands.append(_transposed_constant(value, inverse, op.loc, rewriter))
        new = rewriter.insert(op.definition, operands, op.attrs, op.loc)
        rewriter.replace(
            op.result, rewriter.insert(tensor.Transpose, [new], {"perm": match}, op.loc)
        )


def goes(value: Value, perm: tuple[int, ...], rewriter: Rewriter) -> bool:
    """Whether all users of a transpose's result can move before it, so that none keeps it."""
    returned = value in rewriter.function.returns
    return not returned and all(_moves(user, perm) for user in rewriter.users(value))


def _moves(op: Op, perm: tuple[int, ...]) -> bool:
    """Whether an op can move before the transposes among its operands."""
    if op.name == tensor.Concat.name:
        return all(v.op is not None and _is_transpose(v.op, perm) for v in op.operands)
    if op.name in TransposeAfterElementwise.anchors:
        inverse = _inverse(perm)
        full = [(v, _full(v, len(perm))) for v in op.operands if not is_constant(v)]
        return all(
            _moves_nothing(shape, inverse) or (v.op is not None and _is_transpose(v.op, perm))
            for v, shape in full
        )
    names = (tensor.Transpose, tensor.Pad, tensor.ReduceSum, tensor.ReduceMax)
    return op.name in {definition.name for definition in names}


def _inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


def _full(value: Value, rank: int) -> tuple[int, ...]:
    """The shape of a value as broadcasting sees it: with as many axes."""
    shape = value.type.shape if isinstance(value.type, TensorType) else ()
    return (1,) * (rank - len(shape)) + shape


def _moves_nothing(shape: Sequence[int], perm: Sequence[int]) -> bool:
    """Whether a transpose moves axes of size 1 only: the larger ones keep their order."""
    large = [p for p in perm if shape[p] > 1]
    return large == sorted(large)


def _is_transpose(op: Op, perm: tuple[int, ...]) -> bool:
    return op.name == tensor.Transpose.name and op.attrs["perm"] == perm


def _transposed_constant(
    value: Value, perm: tuple[int, ...], loc: str, rewriter: Rewriter
) -> Value:
    full = _full(value, len(perm))
    if len(full) != len(value.type.shape if isinstance(value.type, TensorType) else ()):
        value = rewriter.insert(tensor.Reshape, [value], {"shape": full}, loc)
    if _ones(full):
        return value
    return rewriter.insert(tensor.Transpose, [value], {"perm": perm}, loc)


class ComposeTransposes(Rule[Op]):
    """transpose(transpose(x, p), q) = transpose(x, p after q)."""

    name = "compose-transposes"
    anchors: ClassVar[tuple[str, ...]] = (tensor.Transpose.name,)

    def match(self, op: Op) -> Op | None:
        """A transpose of a transpose; the inner one may have other users."""
        return _producer(op, tensor.Transpose.name)

    def rewrite(self, op: Op, match: Op, rewriter: Rewriter) -> None:
        """One transpose of the innermost operand."""
        perm = tuple(match.attrs["perm"][q] for q in op.attrs["perm"])
        new = rewriter.insert(tensor.Transpose, [match.operands[0]], {"perm": perm}, op.loc)
        rewriter.replace(op.result, new)


class ComposeReshapes(Rule[Op]):
    """reshape(reshape(x)) = reshape(x)."""

    name = "compose-reshapes"
    anchors: ClassVar[tuple[str, ...]] = (tensor.Reshape.name,)

    def match(self, op: Op) -> Op | None:
        """A reshape of a reshape; the inner one may have other users."""
        return _producer(op, tensor.Reshape.name)

    def rewrite(self, op: Op, match: Op, rewriter: Rewriter) -> None:
        """One reshape of the innermost operand."""
        new = rewriter.insert(tensor.Reshape, [match.operands[0]], op.attrs, op.loc)
        rewriter.replace(op.result, new)


class TransposeAsReshape(Rule[bool]):
    """A transpose that only moves axes of size 1 moves no element: it is a reshape."""

    name = "transpose-as-reshape"
    anchors: ClassVar[tuple[str, ...]] = (tensor.Transpose.name,)

    def match(self, op: Op) -> bool | None:
        """The axes larger than 1 keep their order."""
        return True if _moves_nothing(_shape(op), op.attrs["perm"]) else None

    def rewrite(self, op: Op, match: bool, rewriter: Rewriter) -> None:
        """A reshape to the result's shape."""
        shape = tuple(_shape(op)[p] for p in op.attrs["perm"])
        new = rewriter.insert(tensor.Reshape, op.operands, {"shape": shape}, op.loc)
        rewriter.replace(op.result, new)


RULES: Sequence[Rule[Any]] = (
    DropIdentity(),
    ComposeTransposes(),
    TransposeAsReshape(),
    ComposeReshapes(),
    TransposeAfterElementwise(),
)
"""In the order in which they are tried."""
