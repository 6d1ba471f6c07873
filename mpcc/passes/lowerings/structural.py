"""Secure forms of structural operators."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mpcc.ir.core import Op, Value
from mpcc.ir.define import Operation
from mpcc.ir.ops import secure, tensor
from mpcc.ir.types import element_count
from mpcc.passes.lowerings.base import Lowering, Rule, Rules, secure_type

__all__ = ["RULES"]


def _alike(definition: type[Operation]) -> Rule:
    """The rule of an operator that the secure level has under the same attributes."""

    def rule(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
        return [lowering.emit(definition, operands, op.attrs, op.loc)]

    return rule


def _pad(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """A pad whose constant is encoded at the operand's fraction."""
    (x,) = operands
    type_ = secure_type(x)
    raw = int(np.rint(math.ldexp(op.attrs["value"], type_.frac)))
    if raw.bit_length() > type_.width:
        x = lowering.emit(secure.ShiftLeft, [x], {"amount": 0, "width": raw.bit_length()}, op.loc)
    attrs = {"low": op.attrs["low"], "high": op.attrs["high"], "value": raw}
    return [lowering.emit(secure.Pad, [x], attrs, op.loc)]


def _broadcast(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    return [lowering.spread(operands[0], op.attrs["shape"], op.loc)]


def _take(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """A gather of the flat operand."""
    (x,) = operands
    flat = {"shape": (element_count(secure_type(x).shape),)}
    x = lowering.emit(secure.Reshape, [x], flat, op.loc)
    picked = {"axis": 0, "indices": op.attrs["indices"]}
    x = lowering.emit(secure.Gather, [x], picked, op.loc)
    return [lowering.emit(secure.Reshape, [x], {"shape": op.attrs["shape"]}, op.loc)]


RULES: Rules = {
    tensor.Pad: _pad,
    tensor.Reshape: _alike(secure.Reshape),
    tensor.Transpose: _alike(secure.Transpose),
    tensor.Broadcast: _broadcast,
    tensor.Slice: _alike(secure.Slice),
    tensor.Concat: _alike(secure.Concat),
    tensor.Gather: _alike(secure.Gather),
    tensor.Take: _take,
}
