"""Constants of a model whose rows are repeated for a batch, shared with another batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mpcc.frontend.importer import Array, Imported
from mpcc.ir.core import Op, Value, make_op
from mpcc.ir.ops import tensor

__all__ = ["share_rows"]


def share_rows(imported: Imported, known: Mapping[str, Array]) -> Imported:
    """Take constants that repeat one row for every example from those of another batch size.

    Exporters write the first state of a recurrent layer as zeros of the batch's size, and what is
    computed of them has a row for every example. A file of weights has it once, for the size that
    is compiled first; if that is 1, its only row is repeated here. All others stay.

    Args:
        imported: its module is changed in place.
        known: constants of the other size, by name.
    """
    main, constants = imported.module.main, dict(imported.constants)
    replaced: dict[Value, Value] = {}
    ops: list[Op] = []
    for op in main.ops:
        name = str(op.attrs.get("name", ""))
        first = known.get(name)
        if op.definition is not tensor.Weight or first is None:
            ops.append(op)
            continue
        array = constants[name]
        if array.shape == first.shape or not _repeats(array, first):
            ops.append(op)
            continue
        one = make_op(tensor.Weight, [], {**op.attrs, "shape": first.shape}, op.loc)
        whole = make_op(tensor.Broadcast, [one.result], {"shape": array.shape}, op.loc)
        ops += (one, whole)
        replaced[op.result] = whole.result
        constants[name] = first
    if not replaced:
        return imported
    main.ops = ops
    main.replace_uses(replaced)
    return replace(imported, constants=constants)


def _repeats(array: Array, first: Array) -> bool:
    """Whether an array holds another one again and again."""
    if array.ndim != first.ndim:
        return False
    fits = all(n in (1, m) for n, m in zip(first.shape, array.shape, strict=True))
    return fits and bool((array == np.broadcast_to(first, array.shape)).all())
