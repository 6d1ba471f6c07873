"""Rules that compose or remove transposes, reshapes and pads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mpcc.ir.core import Op
from mpcc.ir.ops import tensor
from mpcc.ir.rewrite import Rewriter, Rule
from mpcc.ir.types import TensorType

__all__ = ["RULES", "ComposeReshapes", "ComposeTransposes", "DropIdentity", "TransposeAsReshape"]


def _shape(op: Op) -> tuple[int, ...]:
    type_ = op.operands[0].type
    return type_.shape if isinstance(type_, TensorType) else ()


def _producer(op: Op, name: str) -> Op | None:
    """The op that makes operand 0, if it has this name."""
    source = op.operands[0].op
    return source if source is not None and source.name == name else None


class DropIdentity(Rule[bool]):
    """A transpose, reshape or pad that changes nothing is dropped."""

    name = "drop-identity"
    anchors: ClassVar[tuple[str, ...]] = (
        tensor.Transpose.name,
        tensor.Reshape.name,
        tensor.Pad.name,
    )

    def match(self, op: Op) -> bool | None:
        """Axes in their order, or the shape of the operand."""
        if op.name == tensor.Transpose.name:
            same = op.attrs["perm"] == tuple(range(len(op.attrs["perm"])))
        else:
            same = op.result.type == op.operands[0].type
        return True if same else None

    def rewrite(self, op: Op, match: bool, rewriter: Rewriter) -> None:
        """Use the operand."""
        rewriter.replace(op.result, op.operands[0])


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
        shape = _shape(op)
        large = [p for p in op.attrs["perm"] if shape[p] > 1]
        return True if large == sorted(large) else None

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
)
"""In the order in which they are tried."""
