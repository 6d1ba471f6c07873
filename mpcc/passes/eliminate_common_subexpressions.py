"""eliminate-common-subexpressions."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.core import Function, Module, Op, Value
from mpcc.passes.base import Pass, Result

__all__ = ["EliminateCommonSubexpressions"]


def _key(op: Op, operands: tuple[Value, ...]) -> Hashable:
    # repr tells 0.0 from -0.0 and 1 from True.
    return op.definition, operands, repr(op.attrs)


def _merge(function: Function) -> int:
    first: dict[Hashable, Op] = {}
    mapping: dict[Value, Value] = {}
    kept: list[Op] = []
    for op in function.ops:
        operands = tuple(mapping.get(v, v) for v in op.operands)
        if op.definition.side_effect or op.body is not None:
            kept.append(op)
            continue
        found = first.setdefault(_key(op, operands), op)
        if found is op:
            kept.append(op)
        else:
            mapping.update(zip(op.results, found.results, strict=True))
    merged = len(function.ops) - len(kept)
    function.ops = kept
    function.replace_uses(mapping)
    return merged


@dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Computes what is computed twice only once; the first op keeps its place and origin.

    Assumes: ops are deterministic. Weights are compared by name, never by value: values are not in
    the IR, and that two secret weights are equal must not show in the program.

    Before::

        %1 = tensor.relu(%0) ...
        %2 = tensor.relu(%0) ...
        %3 = tensor.add(%1, %2) ...

    After::

        %1 = tensor.relu(%0) ...
        %2 = tensor.add(%1, %1) ...
    """

    name: ClassVar[str] = "eliminate-common-subexpressions"
    level: ClassVar[str] = "tensor"

    def run(self, module: Module) -> Result:
        """Merge equal ops of every function."""
        merged = sum(_merge(f) for f in module.functions.values())
        return Result(module, merged > 0)
