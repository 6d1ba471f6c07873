"""Party-level calls of functions (:mod:`mpcc.ir.calls`)."""

from __future__ import annotations

from mpcc.ir.calls import CallOperation
from mpcc.ir.ops.party_base import PartyOperation

__all__ = ["Call"]


class Call(CallOperation, PartyOperation):
    """The results of a function of the module, for these arguments: at all places together."""

    name = "party.call"
