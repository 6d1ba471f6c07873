"""Rules about maxpool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mpcc.ir.core import Op
from mpcc.ir.ops import tensor
from mpcc.ir.rewrite import Rewriter, Rule
from mpcc.ir.types import TensorType, element_count

__all__ = ["RULES", "MaxPoolBeforeRelu"]

_MONOTONE = (tensor.Relu.name, tensor.Clip.name)


class MaxPoolBeforeRelu(Rule[Op]):
    """maxpool(relu(x)) = relu(maxpool(x)), and so for clip: both are monotone, padding never wins.

    It pays when the pooled tensor is smaller: a secure relu costs the same for every element.
    """

    name = "maxpool-before-relu"
    anchors: ClassVar[tuple[str, ...]] = (tensor.MaxPool.name,)

    def match(self, op: Op) -> Op | None:
        """A maxpool of a relu or clip."""
        source = op.operands[0].op
        return source if source is not None and source.name in _MONOTONE else None

    def check(self, op: Op, match: Op, rewriter: Rewriter) -> str:
        """The relu or clip must vanish, and the pooled tensor must be smaller."""
        if not rewriter.only_user(match.result, op):
            return f"the {match.name.partition('.')[2]} has other users and would be computed twice"
        before, after = match.result.type, op.result.type
        if not isinstance(before, TensorType) or not isinstance(after, TensorType):
            return "not a tensor"
        if element_count(after.shape) >= element_count(before.shape):
            return "the pooled tensor is not smaller"
        return ""

    def rewrite(self, op: Op, match: Op, rewriter: Rewriter) -> None:
        """Pool first."""
        pooled = rewriter.insert(tensor.MaxPool, match.operands, op.attrs, op.loc)
        rewriter.replace(
            op.result, rewriter.insert(match.definition, [pooled], match.attrs, match.loc)
        )


RULES: Sequence[Rule[Any]] = (MaxPoolBeforeRelu(),)
"""In the order in which they are tried."""
