"""Constants by way of the importer itself, for operators that ONNX's reference does not have right.

The node is imported with its data as an input of a module of its own, which the float interpreter
then runs at the owner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from mpcc.frontend.importer import Array, Builder, Constant, Operand, Room, Unsupported, type_of
from mpcc.frontend.onnx.node import Node, Operator, node_label
from mpcc.frontend.onnx.sizes import check_shapes
from mpcc.ir.core import Value
from mpcc.ir.interp import real
from mpcc.ir.ops import tensor

__all__ = ["DATA", "interpret"]

DATA: Mapping[str, int] = {
    "Clip": 1,
    "ConvTranspose": 3,
    "GatherElements": 1,
    "Gelu": 1,
    "Hardmax": 1,
    "LRN": 1,
    "LpNormalization": 1,
    "MaxPool": 1,
    "Pad": 1,
    "Resize": 1,
    "Squeeze": 1,
    "TopK": 1,
    "Unsqueeze": 1,
    "Upsample": 1,
}
"""Operators that are folded this way: how many leading operands are data, not parameters."""

_MOVING = frozenset(("GatherElements", "Squeeze", "Unsqueeze"))
"""They only move elements, of any type and size: the elements' positions are data instead."""

_EXACT = 2.0**53


def interpret(
    operator: Operator,
    room: Room,
    proto: onnx.NodeProto,
    opset: int,
    arrays: Sequence[Array | None],
) -> tuple[Array, ...]:
    """Results of a node on constants.

    Args:
        operator: its importer.
        room: what may still be written.
        proto: a node of an operator of DATA.
        opset: version of the default operator set.
        arrays: one per input, None where absent.

    Raises:
        Unsupported: the importer refuses it, or integers are too large for binary64.
        InferenceError: its operands do not fit.
    """
    builder = Builder(room)
    builder.node = node_label(proto)
    inputs: dict[str, Array] = {}
    operands: list[Operand | None] = []
    for i, array in enumerate(arrays):
        if array is None or i >= DATA[proto.op_type]:
            operands.append(None if array is None else Constant(array, f"operand{i}"))
            continue
        if proto.op_type in _MOVING:
            array = np.arange(array.size).reshape(array.shape)
        elif array.dtype.kind in "iu" and not (np.abs(array.astype(np.float64)) < _EXACT).all():
            raise Unsupported("integers of more than 53 bits")
        name = f"data{i}"
        inputs[name] = array.astype(np.float64)
        attrs = {"name": name, "shape": array.shape, "owner": "model"}
        operands.append(builder.module.main.append(tensor.Input, (), attrs).result)
    node = Node(builder, proto, opset, operands, [bool(o) for o in proto.output], {})
    found = operator.run(node)
    results = found if isinstance(found, tuple) else (found,)
    ops = builder.module.main.ops
    check_shapes((type_of(r).shape for op in ops for r in op.results), arrays)
    for i, result in enumerate(results):
        if isinstance(result, Value):
            attrs = {"name": str(i), "owner": "model"}
            builder.module.main.append(tensor.Output, [result], attrs)
    outputs = real.run(builder.module, builder.constants, inputs)
    data = arrays[0]
    if proto.op_type in _MOVING and data is not None:
        return (data.reshape(-1)[outputs["0"].astype(np.int64)],)
    return tuple(
        r.array
        if isinstance(r, Constant)
        else np.asarray(outputs[str(i)], np.int64 if i or data is None else data.dtype)
        for i, r in enumerate(results)
    )
