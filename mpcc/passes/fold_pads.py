"""fold-pads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.core import Module
from mpcc.ir.rewrite import apply_rules
from mpcc.passes.base import Pass, Result
from mpcc.passes.rules import padding

__all__ = ["FoldPads"]


@dataclass(frozen=True)
class FoldPads(Pass):
    """Pads become the padding of the convolution or pool behind them.

    A pad costs no message, but copies every share; a convolution knows its padding anyway.

    Assumes: nothing. A pad for a maximum must not win: it is folded where it is not positive and
    what it surrounds is not negative, such as behind a relu.

    Before::

        %1 = tensor.pad(%0) {low = [0, 0, 1, 1], high = [0, 0, 1, 1], value = 0.0} : ...
        %3 = tensor.conv(%1, %2) {..., pads = [0, 0, 0, 0], ...} : ...

    After::

        %2 = tensor.conv(%0, %1) {..., pads = [1, 1, 1, 1], ...} : ...
    """

    name: ClassVar[str] = "fold-pads"
    level: ClassVar[str] = "tensor"

    def run(self, module: Module) -> Result:
        """Apply the rule to every function."""
        outcomes = [apply_rules(f, padding.RULES) for f in module.functions.values()]
        notes = tuple(str(r) for o in outcomes for r in o.refusals)
        return Result(module, any(o.applied for o in outcomes), notes)
