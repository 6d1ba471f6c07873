"""The order of the compiler's passes, as literal lists."""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.passes.base import Pass
from mpcc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from mpcc.passes.eliminate_dead_code import EliminateDeadCode
from mpcc.passes.fold_transposes import FoldTransposes
from mpcc.passes.fuse_local import FuseLocal
from mpcc.passes.strip_names import StripNames
from mpcc.passes.swap_relu_maxpool import SwapReluMaxpool

__all__ = ["PARTY", "PUBLISH", "TENSOR"]

TENSOR: Sequence[Pass] = (
    EliminateDeadCode(),
    FoldTransposes(),
    EliminateCommonSubexpressions(),
    SwapReluMaxpool(),
)
"""On the imported model, before ranges and formats are chosen."""

PUBLISH: Sequence[Pass] = (StripNames(),)
"""After the analysis, whose messages and private report speak of the model's own names."""

PARTY: Sequence[Pass] = (FuseLocal(),)
"""On the lowered program, before it is emitted."""
