"""reveal-logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.after import MAPS, after_rows
from mpcc.ir.calls import AFTER
from mpcc.ir.core import Function, Module, Op
from mpcc.ir.ops import tensor
from mpcc.ir.types import TensorType
from mpcc.passes.base import Pass, Result

__all__ = ["RevealLogits"]


def _chain(output: Op) -> Iterator[Op]:
    """Maps that lead to an output and that its owner could apply, the last one first."""
    at = output.operands[0].op
    while at is not None and at.definition in MAPS:
        yield at
        at = at.operands[0].op


@dataclass(frozen=True)
class RevealLogits(Pass):
    """Scores are opened to the owner of an output, who applies the softmax or sigmoid itself.

    The owner learns more than the model's answer: what the function forgets of the scores. So this
    is no optimisation, but what the user allows; the leak checker tells it, and refuses it under a
    policy that does not name the output. An argmax stays, which forgets nearly everything.

    Assumes: nothing. Of outputs that have a function already, nothing more is moved. A value that
    is opened for another reason too is opened under both names.

    Before::

        %3 = tensor.softmax(%2) {axis = 1} : tensor<1x10xf32, secret>
        tensor.output(%3) {name = "y"}

    After::

          tensor.output(%2) {name = "y"}
        }
        func @after.client() {
          %0 = tensor.input() {name = "y", shape = [1, 10]} : tensor<1x10xf32, client>
          %1 = tensor.softmax(%0) {axis = 1} : tensor<1x10xf32, client>
          tensor.output(%1) {name = "y"}
        }

    Attributes:
        wanted: whether anything is done.
    """

    name: ClassVar[str] = "reveal-logits"
    level: ClassVar[str] = "tensor"
    wanted: bool = True

    def run(self, module: Module) -> Result:
        """Move what leads to outputs of numbers."""
        notes = []
        finished = {name for _, name, _ in after_rows(module)}
        for output in list(module.main.walk(tensor.Output.name)):
            steps = list(_chain(output))
            if not steps or not self.wanted or output.attrs["name"] in finished:
                continue
            name, owner = output.attrs["name"], output.attrs["owner"]
            scores = steps[-1].operands[0]
            type_ = scores.type
            assert isinstance(type_, TensorType)
            function = module.functions.setdefault(AFTER + owner, Function(AFTER + owner))
            attrs = {"name": name, "shape": type_.shape, "dtype": type_.dtype, "owner": owner}
            value = function.append(tensor.Input, (), attrs, output.loc).result
            for step in reversed(steps):
                value = function.append(step.definition, [value], step.attrs, step.loc).result
            function.append(tensor.Output, [value], output.attrs, output.loc)
            output.operands = [scores]
            notes.append(f"{name}: {owner} learns the scores")
        if notes:
            module.main.remove_dead()
        return Result(module, bool(notes), tuple(notes))
