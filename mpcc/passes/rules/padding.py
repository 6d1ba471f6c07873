"""Rules about pads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mpcc.ir.core import Op, Value
from mpcc.ir.define import Attributes, InferenceError
from mpcc.ir.ops import tensor
from mpcc.ir.rewrite import Rewriter, Rule

__all__ = ["RULES", "PadIntoWindows"]

_KEEP_SIGN = (
    tensor.MaxPool.name,
    tensor.SumPool.name,
    tensor.ReduceMax.name,
    tensor.ReduceSum.name,
    tensor.Reshape.name,
    tensor.Transpose.name,
    tensor.Slice.name,
    tensor.Gather.name,
    tensor.Take.name,
    tensor.Broadcast.name,
    tensor.Concat.name,
    tensor.Add.name,
    tensor.Floor.name,
)
"""Not negative where no operand is."""


def _not_negative(value: Value) -> bool:
    op = value.op
    if op is None:
        return False
    if op.name == tensor.Relu.name or (op.name == tensor.Clip.name and op.attrs["lo"] >= 0):
        return True
    return op.name in _KEEP_SIGN and all(_not_negative(v) for v in op.operands)


class PadIntoWindows(Rule[Op]):
    """window(pad(x)) = window'(x) with more padding, for conv, sum_pool and maxpool."""

    name = "pad-into-windows"
    anchors: ClassVar[tuple[str, ...]] = (
        tensor.Conv.name,
        tensor.SumPool.name,
        tensor.MaxPool.name,
    )

    def match(self, op: Op) -> Op | None:
        """A pad before a window; the pad may have other users."""
        source = op.operands[0].op
        return source if source is not None and source.name == tensor.Pad.name else None

    def _attrs(self, op: Op, pad: Op) -> Attributes:
        added = (*pad.attrs["low"][2:], *pad.attrs["high"][2:])
        pads = tuple(a + b for a, b in zip(op.attrs["pads"], added, strict=True))
        return {**op.attrs, "pads": pads}

    def check(self, op: Op, match: Op, rewriter: Rewriter) -> str:
        """The pad must be what the window's own padding is: zeros, or what never wins."""
        low, high, value = (match.attrs[key] for key in ("low", "high", "value"))
        if any((*low[:2], *high[:2])):
            return "it pads samples or channels"
        if op.name != tensor.MaxPool.name:
            return "" if value == 0 else f"it pads with {value}, not with 0"
        if value > 0 or not _not_negative(match.operands[0]):
            return f"{value} may be larger than what it surrounds"
        types = [match.operands[0].type]
        try:
            op.definition.infer(types, self._attrs(op, match))
        except InferenceError:
            return "a window has padding alone"
        return ""

    def rewrite(self, op: Op, match: Op, rewriter: Rewriter) -> None:
        """The window with all padding."""
        operands = [match.operands[0], *op.operands[1:]]
        new = rewriter.insert(op.definition, operands, self._attrs(op, match), op.loc)
        rewriter.replace(op.result, new)


RULES: Sequence[Rule[Any]] = (PadIntoWindows(),)
"""In the order in which they are tried."""
