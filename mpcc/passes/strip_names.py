"""strip-names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.core import Module, Op
from mpcc.ir.ops import tensor
from mpcc.passes.base import Pass, Result

__all__ = ["StripNames", "labels"]


def labels(module: Module) -> Iterator[tuple[Op, str]]:
    """Every op with its label ``<kind>_<number>``, made from the architecture alone."""
    counts: Counter[str] = Counter()
    for function in module.functions.values():
        for op in function.ops:
            kind = op.name.partition(".")[2]
            yield op, f"{kind}_{counts[kind]}"
            counts[kind] += 1


@dataclass(frozen=True)
class StripNames(Pass):
    """The model's own names give way to labels made from the architecture.

    Node names, weight names and paths of a source model tell what it is and who made it; the
    artifact is public. Every op gets the label ``<kind>_<number>``, weights are called
    ``w<number>``, both counted in order. Inputs and outputs keep their names: they are the
    interface. The result says which weight was which.

    Assumes: nothing.

    Before::

        %1 = tensor.weight() {name = "face/stem/kernel", shape = [8, 3, 5, 5]} : ...
        %2 = tensor.conv(%0, %1) {...} : ... loc("face/stem/Conv2D")

    After::

        %1 = tensor.weight() {name = "w0", shape = [8, 3, 5, 5]} : ... loc("weight_0")
        %2 = tensor.conv(%0, %1) {...} : ... loc("conv_0")
    """

    name: ClassVar[str] = "strip-names"
    level: ClassVar[str] = "tensor"

    def run(self, module: Module) -> Result:
        """Label the ops of every function."""
        modified = False
        renamed: dict[str, str] = {}
        for op, label in labels(module):
            if op.definition is tensor.Weight:
                old, new = op.attrs["name"], f"w{label.rpartition('_')[2]}"
                renamed[new] = old
                op.attrs["name"] = new
                modified |= old != new
            modified |= op.loc != label
            op.loc = label
        return Result(module, modified, renamed=renamed)
