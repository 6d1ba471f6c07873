"""fold-constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from mpcc.ir.core import Function, Module, Op, Value, make_op
from mpcc.ir.define import Attributes
from mpcc.ir.ops import tensor
from mpcc.ir.types import TensorType
from mpcc.passes.base import Array, Made, Pass, Result

__all__ = ["FoldConstants"]

_Compute: TypeAlias = Callable[[Sequence[Array]], Array]


def _foldable(op: Op, weights: dict[Value, str]) -> bool:
    """Whether the op computes one weight of others, of one owner, and no larger than they are."""
    if not op.operands or len(op.results) != 1 or any(v not in weights for v in op.operands):
        return False
    type_ = op.result.type
    if not isinstance(type_, TensorType) or type_.dtype != "f32":
        return False
    if type_.visibility not in ("model", "public"):
        return False
    # A weight that is repeated is shared once, and copied by everybody.
    return op.definition is not tensor.Broadcast


def _evaluation(op: Op) -> _Compute:
    definition, attrs = op.definition, dict(op.attrs)
    assert issubclass(definition, tensor.TensorOperation)

    def compute(arrays: Sequence[Array]) -> Array:
        (result,) = definition.evaluate(attrs, *arrays)
        return np.array(result)

    return compute


def _fold(function: Function, taken: set[str]) -> list[Made]:
    made: list[Made] = []
    weights: dict[Value, str] = {}
    mapping: dict[Value, Value] = {}
    ops: list[Op] = []
    for op in function.ops:
        op.operands = [mapping.get(v, v) for v in op.operands]
        if op.definition is tensor.Weight:
            weights[op.result] = op.attrs["name"]
        elif _foldable(op, weights):
            sources = tuple(weights[v] for v in op.operands)
            name = _unused(f"{sources[0]}.{op.name.partition('.')[2]}", taken)
            made.append(Made(name, sources, _evaluation(op)))
            new = make_op(tensor.Weight, (), _weight_of(op, name), op.loc)
            weights[new.result] = name
            mapping[op.result] = new.result
            op = new
        ops.append(op)
    function.ops = ops
    function.replace_uses(mapping)
    if made:
        function.remove_dead()
    return made


def _weight_of(op: Op, name: str) -> Attributes:
    type_ = op.result.type
    assert isinstance(type_, TensorType)
    return {"name": name, "shape": type_.shape, "owner": type_.visibility}


def _unused(name: str, taken: set[str]) -> str:
    number, found = 1, name
    while found in taken:
        number, found = number + 1, f"{name}.{number}"
    taken.add(found)
    return found


@dataclass(frozen=True)
class FoldConstants(Pass):
    """What is computed of weights alone is computed by their owner, and is a weight itself.

    Assumes: nothing. Which ops are folded depends on the architecture, never on a value. A
    broadcast stays: its operand is smaller. So does what would be secret because two owners have a
    part in it.

    Before::

        %1 = tensor.weight() {name = "w", shape = [8, 3, 5, 5]} : ...
        %2 = tensor.weight() {name = "a", shape = [8, 1, 1, 1]} : ...
        %3 = tensor.mul(%1, %2) : tensor<8x3x5x5xf32, model>

    After::

        %1 = tensor.weight() {name = "w.mul", shape = [8, 3, 5, 5]} : tensor<8x3x5x5xf32, model>
    """

    name: ClassVar[str] = "fold-constants"
    level: ClassVar[str] = "tensor"

    def run(self, module: Module) -> Result:
        """Fold in every function."""
        taken = {
            op.attrs["name"] for f in module.functions.values() for op in f.walk(tensor.Weight.name)
        }
        made = [m for f in module.functions.values() for m in _fold(f, taken)]
        return Result(module, bool(made), made=tuple(made))
