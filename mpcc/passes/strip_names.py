"""strip-names: the model's own names give way to labels made from the architecture.

Purpose: node names, weight names and paths of a source model tell what it is and who made it; the
artifact is public. Assumes nothing. Inputs and outputs keep their names: they are the interface.

Before::

    %1 = tensor.weight() {name = "face/stem/kernel", shape = [8, 3, 5, 5]} : ...
    %2 = tensor.conv(%0, %1) {...} : ... loc("face/stem/Conv2D")

After::

    %1 = tensor.weight() {name = "w0", shape = [8, 3, 5, 5]} : ...
    %2 = tensor.conv(%0, %1) {...} : ... loc("conv_0")
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from mpcc.ir.core import Module
from mpcc.ir.ops import tensor
from mpcc.passes.base import Pass, Result

__all__ = ["StripNames", "label_ops"]


def label_ops(module: Module) -> None:
    """Give every op that computes the label ``<kind>_<number>``, counted per kind."""
    counts: Counter[str] = Counter()
    for function in module.functions.values():
        for op in function.ops:
            kind = op.name.partition(".")[2]
            op.loc = f"{kind}_{counts[kind]}"
            counts[kind] += 1


class StripNames(Pass):
    """Labels instead of names, ``w<number>`` for weights in the order of their ops."""

    name: ClassVar[str] = "strip-names"
    level: ClassVar[str] = "tensor"

    def run(self, module: Module) -> Result:
        before = [
            (op.loc, op.attrs.get("name")) for f in module.functions.values() for op in f.ops
        ]
        label_ops(module)
        for number, op in enumerate(module.main.walk(tensor.Weight.name)):
            op.attrs["name"] = f"w{number}"
        after = [(op.loc, op.attrs.get("name")) for f in module.functions.values() for op in f.ops]
        return Result(module, before != after)
