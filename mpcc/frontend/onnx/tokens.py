"""Secret positions, such as the tokens of a text, and the rows of a table that they name.

A program that read a place that is secret would tell it by what it touches. The whole table is
multiplied with one-hot rows instead (:class:`mpcc.ir.ops.tensor.Lookup`): an input's owner encodes
them where nothing else uses the input, other positions are compared with every place.
"""

from __future__ import annotations

from mpcc.frontend.importer import Builder, Operand, Problems, type_of
from mpcc.frontend.onnx.node import Node
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import element_count

__all__ = ["check_looked_up", "looked_up", "looked_up_rows"]

_MAX_COMPARED = 1 << 20
"""Comparisons of positions with all places of tables."""


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


def check_looked_up(builder: Builder, problems: Problems) -> None:
    """Report inputs whose owner cannot make one-hot rows, as they have other uses too.

    To be called when the whole model is imported, and what nothing needs is gone.
    """
    uses = builder.module.main.uses()
    for ids, label in builder.lookups.items():
        assert ids.op is not None
        users = uses.get(ids, [])
        tables = [op for op, at in users if op.definition is tensor.Lookup and at == 0]
        heights = [type_of(op.operands[1]).shape[0] for op in tables]
        if not heights or (len(tables) == len(users) and len(set(heights)) == 1):
            continue
        count = element_count(type_of(ids).shape)
        if sum(heights) * count > _MAX_COMPARED:
            problems.node(
                "E-import-unsupported",
                f"{count} positions of the input {ids.op.attrs['name']} among {sum(heights)}, "
                f"and another use of this input; {_MAX_COMPARED} comparisons are the most",
                label,
                "give the positions a second time, as an input that is only looked up",
            )


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
    if given:
        node.builder.lookups.setdefault(ids, node.label)
    return node.emit(tensor.Lookup, ids, node.real(table) if isinstance(table, Value) else table)
