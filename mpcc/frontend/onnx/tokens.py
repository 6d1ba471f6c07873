"""Secret positions, such as the tokens of a text, and the rows of a table that they name.

A program that read a place that is secret would tell it by what it touches. The whole table is
multiplied with one-hot rows instead (:class:`mpcc.ir.ops.tensor.Lookup`): an input's owner encodes
them where nothing else uses the input, other positions are compared with every place.
"""

from __future__ import annotations

from mpcc.frontend.importer import Operand, type_of
from mpcc.frontend.onnx.node import Node
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import element_count

__all__ = ["looked_up", "looked_up_rows"]

_MAX_COMPARED = 1 << 20
"""Comparisons of computed positions with all places of a table."""


def looked_up(node: Node, axis: int) -> Operand:
    """Elements of an axis of operand 0 at the secret positions of operand 1, as numpy.take.

    Raises:
        Unsupported: positions that are computed would be compared with too many places.
    """
    shape, wanted = node.shape(0), node.shape(1)
    rest = shape[:axis] + shape[axis + 1 :]
    order = (axis, *(i for i in range(len(shape)) if i != axis))
    table = node.transpose(node.operand(0), order)
    found = looked_up_rows(
        node, node.reshape(table, (shape[axis], element_count(rest))), node.value(1)
    )
    rows = node.reshape(found, (*wanted, *rest))
    # The axes of the positions stand where the axis was.
    lead = len(wanted)
    perm = [lead + i for i in range(axis)] + list(range(lead))
    perm += [lead + i for i in range(axis, len(rest))]
    return node.transpose(rows, perm)


def looked_up_rows(node: Node, table: Operand, ids: Value) -> Value:
    """Rows [..., H] of a table [V, H] at secret positions of any shape.

    Raises:
        Unsupported: as for :func:`looked_up`.
    """
    while ids.op is not None and ids.op.definition is tensor.Reshape:
        # Whatever their shape in the model: an input is looked up as its owner gives it.
        ids = ids.op.operands[0]
    height, count = type_of(table).shape[0], element_count(type_of(ids).shape)
    given = ids.op is not None and ids.op.definition is tensor.Input
    if not given and height * count > _MAX_COMPARED:
        node.refuse(
            f"{count} computed positions among {height}; {_MAX_COMPARED} comparisons are the most",
            "give the positions as an input of the model, or take a smaller table",
        )
    return node.emit(tensor.Lookup, ids, node.real(table) if isinstance(table, Value) else table)
