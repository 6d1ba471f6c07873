"""Regions of elementwise party-level operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpcc.ir.ops.party_base import PartyOperation, fail, lane_count
from mpcc.ir.types import BitsType, ClearType, RingType

if TYPE_CHECKING:
    from mpcc.ir.core import Function

__all__ = ["Fused"]


class Fused(PartyOperation):
    """A region of elementwise ops over the same lanes at one place, run block by block.

    The body takes the operands and returns the results, one at least. It holds only ops that are
    declared elementwise (so no message and no nested region), and its draws are of one phase.
    """

    name = "party.fused"
    operands = ("xs*",)
    has_body = True

    @classmethod
    def check_body(cls, body: Function) -> None:
        if not body.returns:
            raise fail(cls, "a region gives at least one value")
        for op in body.ops:
            definition = op.definition
            if not (issubclass(definition, PartyOperation) and definition.elementwise):
                raise fail(cls, f"{op.name} is not elementwise, so it may not stand in a region")
        values = [*body.args, *(r for op in body.ops for r in op.results), *body.returns]
        found = set()
        for value in values:
            type_ = value.type
            if not isinstance(type_, RingType | BitsType | ClearType):
                raise fail(cls, f"{type_} is not a value of a place")
            found.add((lane_count(type_), type_.place))
        if len(found) > 1:
            shown = ", ".join(f"{lanes} at {place}" for lanes, place in sorted(found))
            raise fail(cls, f"values of a region have the same lanes and place, not: {shown}")
        phases = {op.attrs["phase"] for op in body.ops if "phase" in op.attrs}
        if len(phases) > 1:
            raise fail(cls, f"draws of several phases: {', '.join(sorted(phases))}")
