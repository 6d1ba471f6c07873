"""Secure forms of inputs and outputs; the driver encodes weights where they are used."""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.core import Op, Value
from mpcc.ir.ops import secure, tensor
from mpcc.ir.phi import DEFAULT_RANGE
from mpcc.passes.lowerings.base import Lowering, Rules, tensor_type
from mpcc.passes.lowerings.compare import truth

__all__ = ["RULES"]


def _input(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """An input with the range that its client enforces; numbers that look up are one-hot rows."""
    name, phi = op.attrs["name"], lowering.phi
    shape, width = op.attrs["shape"], lowering.result_width(op, phi.frac)
    rows = tensor.looked_up(lowering.source, op)
    own = tensor.input_range(lowering.source, op)
    enforced = dict(phi.inputs).get(lowering.index(op))
    if rows:
        shape, width, lo, hi = (*shape, rows), lowering.width(1, phi.frac), 0.0, 1.0
    elif own is not None:
        lo, hi = own
    elif name in lowering.options.input_ranges:
        lo, hi = lowering.options.input_ranges[name]
    elif enforced is not None:
        lo, hi = -(2.0**enforced), 2.0**enforced
    else:
        lo, hi = DEFAULT_RANGE
    attrs = {
        "name": name,
        "owner": op.attrs["owner"],
        "shape": shape,
        "ring": lowering.ring,
        "frac": phi.frac,
        "width": width,
        "lo": float(lo),
        "hi": float(hi),
        "rows": rows,
    }
    return [lowering.emit(secure.Input, [], attrs, op.loc)]


def _output(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    attrs = {"name": op.attrs["name"], "owner": op.attrs["owner"]}
    (value,), (x,) = op.operands, operands
    if tensor_type(value).dtype == "bool":
        x = truth(lowering, value, x, op.loc)
    lowering.effect(secure.Reveal, [x], attrs, op.loc)
    return []


RULES: Rules = {tensor.Input: _input, tensor.Output: _output}
