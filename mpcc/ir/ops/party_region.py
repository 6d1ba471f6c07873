"""Regions of elementwise party-level operators."""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.define import Attributes
from mpcc.ir.ops.party_base import PartyOperation
from mpcc.ir.types import Type

__all__ = ["Fused"]


class Fused(PartyOperation):
    """A region of elementwise ops over the same lanes at one place, run block by block.

    The body takes the operands and returns the results; it holds no message and no nested region.
    """

    name = "party.fused"
    operands = ("xs*",)
    has_body = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        return ()
