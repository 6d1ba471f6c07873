"""lower-secure-to-party."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.core import Module
from mpcc.passes.base import Pass, Result

__all__ = ["LowerSecureToParty"]


@dataclass(frozen=True)
class LowerSecureToParty(Pass):
    """Secure ops become local ops, draws and messages at the parties, as a protocol says.

    Assumes: the protocol offers every op. The protocol is an argument, so that no pass knows one;
    its rules are in ``mpcc/protocols``.

    Before::

        %1 = secure.shift_left(%0) {amount = 3, width = 13} : secure<2, z64, f6, k13, client>

    After::

        %10 = party.shift_left(%7) {amount = 3} : ring64<2>@P0
        %11 = party.shift_left(%6) {amount = 3} : ring64<2>@P0
        %12 = party.shift_left(%8) {amount = 3} : ring64<2>@P1
        ...                                                      (every share at its two holders)

    Attributes:
        lower: gives the party module of a secure module, such as ``lower_program`` with a protocol.
    """

    name: ClassVar[str] = "lower-secure-to-party"
    level: ClassVar[str] = "secure"
    lower: Callable[[Module], Module]

    def run(self, module: Module) -> Result:
        """Lower; the protocol refuses all ops that it does not offer at once."""
        return Result(self.lower(module), True)
