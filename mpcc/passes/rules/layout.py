"""Rules that move transposes behind ops whose attributes name axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mpcc.ir.core import Op, Value
from mpcc.ir.define import AttrValue
from mpcc.ir.ops import tensor
from mpcc.ir.rewrite import Rewriter, Rule
from mpcc.passes.rules.structural import goes

__all__ = ["RULES", "TransposeAfterConcat", "TransposeAfterPad", "TransposeAfterReduction"]


def _transposed(value: Value) -> tuple[int, ...]:
    """The permutation of a transpose's result; () for other values."""
    op = value.op
    return tuple(op.attrs["perm"]) if op is not None and op.name == tensor.Transpose.name else ()


def _source(value: Value) -> Value:
    """What a transpose's result is the transpose of."""
    if value.op is None:
        raise ValueError("no transpose")
    return value.op.operands[0]


class TransposeAfterReduction(Rule[tuple[int, ...]]):
    """reduce(transpose(x)) = transpose(reduce(x)), which has fewer elements to move."""

    name = "transpose-after-reduction"
    anchors: ClassVar[tuple[str, ...]] = (tensor.ReduceSum.name, tensor.ReduceMax.name)

    def match(self, op: Op) -> tuple[int, ...] | None:
        """The operand is a transpose."""
        return _transposed(op.operands[0]) or None

    def rewrite(self, op: Op, match: tuple[int, ...], rewriter: Rewriter) -> None:
        """The reduction over the same elements first."""
        axes = op.attrs["axes"]
        there = tuple(sorted(match[a] for a in axes))
        attrs: dict[str, AttrValue] = {**op.attrs, "axes": there}
        new = rewriter.insert(op.definition, [_source(op.operands[0])], attrs, op.loc)
        perm = match
        if not op.attrs["keepdims"]:
            left = sorted(set(range(len(match))) - set(there))
            perm = tuple(left.index(p) for i, p in enumerate(match) if i not in axes)
        if perm != tuple(range(len(perm))):
            new = rewriter.insert(tensor.Transpose, [new], {"perm": perm}, op.loc)
        rewriter.replace(op.result, new)


class TransposeAfterPad(Rule[tuple[int, ...]]):
    """pad(transpose(x)) = transpose(pad(x)), so that a convolution finds its padding."""

    name = "transpose-after-pad"
    anchors: ClassVar[tuple[str, ...]] = (tensor.Pad.name,)

    def match(self, op: Op) -> tuple[int, ...] | None:
        """The operand is a transpose."""
        return _transposed(op.operands[0]) or None

    def check(self, op: Op, match: tuple[int, ...], rewriter: Rewriter) -> str:
        """Nobody keeps the transposed operand."""
        return "" if goes(op.operands[0], match, rewriter) else "the transpose has other users"

    def rewrite(self, op: Op, match: tuple[int, ...], rewriter: Rewriter) -> None:
        """The padding first."""
        inverse = sorted(range(len(match)), key=match.__getitem__)
        attrs: dict[str, AttrValue] = {
            **op.attrs,
            "low": tuple(op.attrs["low"][i] for i in inverse),
            "high": tuple(op.attrs["high"][i] for i in inverse),
        }
        new = rewriter.insert(op.definition, [_source(op.operands[0])], attrs, op.loc)
        rewriter.replace(
            op.result, rewriter.insert(tensor.Transpose, [new], {"perm": match}, op.loc)
        )


class TransposeAfterConcat(Rule[tuple[int, ...]]):
    """concat(transpose(x), transpose(y)) = transpose(concat(x, y))."""

    name = "transpose-after-concat"
    anchors: ClassVar[tuple[str, ...]] = (tensor.Concat.name,)

    def match(self, op: Op) -> tuple[int, ...] | None:
        """All operands are transposes by one permutation."""
        found = {_transposed(v) for v in op.operands}
        (perm,) = found if len(found) == 1 else ((),)
        return perm or None

    def check(self, op: Op, match: tuple[int, ...], rewriter: Rewriter) -> str:
        """Nobody keeps the transposed operands."""
        if all(goes(v, match, rewriter) for v in op.operands):
            return ""
        return "a transpose has other users"

    def rewrite(self, op: Op, match: tuple[int, ...], rewriter: Rewriter) -> None:
        """The concatenation first."""
        attrs: dict[str, AttrValue] = {**op.attrs, "axis": match[op.attrs["axis"]]}
        new = rewriter.insert(op.definition, [_source(v) for v in op.operands], attrs, op.loc)
        rewriter.replace(
            op.result, rewriter.insert(tensor.Transpose, [new], {"perm": match}, op.loc)
        )


RULES: Sequence[Rule[Any]] = (
    TransposeAfterReduction(),
    TransposeAfterPad(),
    TransposeAfterConcat(),
)
"""In the order in which they are tried."""
