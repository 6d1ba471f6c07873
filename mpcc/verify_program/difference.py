"""Where two programs differ first."""

from __future__ import annotations

from mpcc.ir.core import Function, Op, Value

__all__ = ["first_difference"]


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _difference(found: Op, wanted: Op, numbers: tuple[dict[Value, int], dict[Value, int]]) -> str:
    """What two ops differ in; empty if in nothing that a program has."""
    if found.name != wanted.name:
        return f"is {found.name}, not {wanted.name}"
    for key in wanted.attrs:
        if found.attrs[key] != wanted.attrs[key]:
            return f"{key} is {_text(found.attrs[key])}, not {_text(wanted.attrs[key])}"
    if [numbers[0].get(v) for v in found.operands] != [numbers[1].get(v) for v in wanted.operands]:
        return "has other operands"
    if [str(r.type) for r in found.results] != [str(r.type) for r in wanted.results]:
        return "has results of other types"
    if found.loc != wanted.loc:
        return f"comes from {_text(found.loc)!r}, not {_text(wanted.loc)!r}"
    if found.body is not None and wanted.body is not None:
        return first_difference(found.body, wanted.body)[1]
    return ""


def first_difference(found: Function, wanted: Function) -> tuple[int, str]:
    """(position, what) of the first op that differs; the position is -1 if none does."""
    numbers: tuple[dict[Value, int], dict[Value, int]] = ({}, {})
    for table, function in zip(numbers, (found, wanted), strict=True):
        table.update({a: i for i, a in enumerate(function.args)})
    for position, (a, b) in enumerate(zip(found.ops, wanted.ops, strict=False)):
        what = _difference(a, b, numbers)
        if what:
            return position, what if a.body is None else f"op in its region: {what}"
        for table, op in zip(numbers, (a, b), strict=True):
            for result in op.results:
                table[result] = len(table)
    if len(found.ops) != len(wanted.ops):
        shorter = min(len(found.ops), len(wanted.ops))
        return shorter, f"there are {len(found.ops)} ops, not {len(wanted.ops)}"
    if [numbers[0].get(v) for v in found.returns] != [numbers[1].get(v) for v in wanted.returns]:
        return len(found.ops) - 1, "the region returns other values"
    return -1, ""
