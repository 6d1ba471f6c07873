"""partition-owners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.core import Module
from mpcc.ir.local import local_functions, local_rows
from mpcc.passes.base import Pass, Result
from mpcc.passes.partition import partition

__all__ = ["PartitionOwners"]


@dataclass(frozen=True)
class PartitionOwners(Pass):
    """Owners of inputs compute themselves what is cheaper so, and share what comes out.

    Which ops these are is a minimum cut (:mod:`mpcc.passes.partition.cut`): it depends on shapes
    and owners alone, and nobody learns anything more, since an owner works on its own data and on
    public weights.

    Assumes: nothing. A module that has functions of owners of inputs stays as it is.

    Before::

        %0 = tensor.input() {name = "x", shape = [1, 3, 64, 64], owner = "client"} : ...
        %1 = tensor.slice(%0) {...} : tensor<1x3x16x16xf32, client>
        %2 = tensor.conv(%1, %w) {...} : tensor<1x8x16x16xf32, secret>

    After::

        func @main() {
          %0 = tensor.input() {name = "client.0", shape = [1, 3, 16, 16], owner = "client"} : ...
          %1 = tensor.conv(%0, %w) {...} : tensor<1x8x16x16xf32, secret>
        }
        func @local.client() {
          %0 = tensor.input() {name = "x", shape = [1, 3, 64, 64], owner = "client"} : ...
          %1 = tensor.slice(%0) {...} : tensor<1x3x16x16xf32, client>
          tensor.output(%1) {name = "client.0", owner = "client"}
        }

    Attributes:
        wanted: whether anything is done.
    """

    name: ClassVar[str] = "partition-owners"
    level: ClassVar[str] = "tensor"
    wanted: bool = True

    def run(self, module: Module) -> Result:
        """Choose and carry out."""
        if not self.wanted or local_functions(module):
            return Result(module, False)
        partition(module)
        notes = tuple(f"{owner}: {text}" for owner, text in local_rows(module))
        return Result(module, bool(local_functions(module)), notes)
