"""eliminate-dead-code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.calls import drop_uncalled
from mpcc.ir.core import Module
from mpcc.passes.base import Pass, Result

__all__ = ["EliminateDeadCode"]


@dataclass(frozen=True)
class EliminateDeadCode(Pass):
    """Removes ops that nothing depends on.

    Assumes: nothing. Ops with a side effect (outputs, and inputs, which are the interface) stay.

    Before::

        %0 = tensor.input() ...
        %1 = tensor.relu(%0) ...
        tensor.output(%0) ...

    After::

        %0 = tensor.input() ...
        tensor.output(%0) ...
    """

    name: ClassVar[str] = "eliminate-dead-code"
    level: ClassVar[str] = "tensor"

    def run(self, module: Module) -> Result:
        """Remove dead ops of every function."""
        removed = sum(f.remove_dead() for f in module.functions.values())
        return Result(module, drop_uncalled(module) or removed > 0)
