"""Secure forms of what stands at borders of functions; calls are the driver's own."""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.core import Op, Value
from mpcc.ir.ops import secure, tensor
from mpcc.passes.lowerings.base import Lowering, Rules, secure_type

__all__ = ["RULES"]


def _activation(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """The same word, of the width that the op's range has."""
    (x,) = operands
    width = lowering.result_width(op, secure_type(x).frac)
    if secure_type(x).width != width:
        x = lowering.emit(secure.ShiftLeft, [x], {"amount": 0, "width": width}, op.loc)
    return [x]


RULES: Rules = {tensor.Activation: _activation}
