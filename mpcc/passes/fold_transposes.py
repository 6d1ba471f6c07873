"""fold-transposes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.core import Module
from mpcc.ir.rewrite import apply_rules
from mpcc.passes.base import Pass, Result
from mpcc.passes.rules import layout, structural

__all__ = ["FoldTransposes"]


@dataclass(frozen=True)
class FoldTransposes(Pass):
    """Composes transposes and reshapes, so that one layout is left; drops what changes nothing.

    Transposes move behind elementwise ops, pads, concatenations and reductions, towards the
    inverse ones.

    Assumes: nothing. These ops cost no message, but each one copies every share.

    Before::

        %1 = tensor.transpose(%0) {perm = [0, 3, 1, 2]} ...
        %2 = tensor.transpose(%1) {perm = [0, 2, 3, 1]} ...
        tensor.output(%2) ...

    After::

        tensor.output(%0) ...
    """

    name: ClassVar[str] = "fold-transposes"
    level: ClassVar[str] = "tensor"

    def run(self, module: Module) -> Result:
        """Apply the structural rules to every function."""
        rules = (*structural.RULES, *layout.RULES)
        outcomes = [apply_rules(f, rules) for f in module.functions.values()]
        notes = tuple(str(r) for o in outcomes for r in o.refusals)
        return Result(module, any(o.applied for o in outcomes), notes)
