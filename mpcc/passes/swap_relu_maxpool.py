"""swap-relu-maxpool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.core import Module
from mpcc.ir.rewrite import apply_rules
from mpcc.passes.base import Pass, Result
from mpcc.passes.rules import pooling

__all__ = ["SwapReluMaxpool"]


@dataclass(frozen=True)
class SwapReluMaxpool(Pass):
    """Pools before relu or clip where that leaves fewer elements to compare.

    Assumes: nothing. A relu or clip with other users stays, and is reported.

    Before::

        %1 = tensor.relu(%0) : tensor<1x20x24x24xf32, secret>
        %2 = tensor.maxpool(%1) {kernel = [2, 2], ...} : tensor<1x20x12x12xf32, secret>

    After::

        %1 = tensor.maxpool(%0) {kernel = [2, 2], ...} : tensor<1x20x12x12xf32, secret>
        %2 = tensor.relu(%1) : tensor<1x20x12x12xf32, secret>
    """

    name: ClassVar[str] = "swap-relu-maxpool"
    level: ClassVar[str] = "tensor"

    def run(self, module: Module) -> Result:
        """Apply the pooling rules to every function."""
        outcomes = [apply_rules(f, pooling.RULES) for f in module.functions.values()]
        notes = tuple(str(r) for o in outcomes for r in o.refusals)
        return Result(module, any(o.applied for o in outcomes), notes)
