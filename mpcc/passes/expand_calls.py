"""expand-calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.calls import called, inline
from mpcc.ir.core import Module
from mpcc.passes.base import Pass, Result

__all__ = ["ExpandCalls"]


@dataclass(frozen=True)
class ExpandCalls(Pass):
    """Every call gives way to its function's body: the program as the parties run it.

    Draws take the streams of their call (:mod:`mpcc.ir.calls`).

    Assumes: nothing.

    Before::

        %3 = party.call(%2) {callee = "f", call = 1, types = ["ring64<4>@P0"]} : ring64<4>@P0

    With ``party.draw_ring() {stream = 5, ...}`` in ``@f``. After::

        %3 = party.draw_ring() {stream = 4294967301, ...} : ring64<4>@P0
    """

    name: ClassVar[str] = "expand-calls"
    level: ClassVar[str] = "party"

    def run(self, module: Module) -> Result:
        """A new module, if anything is called."""
        return Result(inline(module).module, bool(called(module)))
