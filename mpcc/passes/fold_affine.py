"""fold-affine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.core import Module
from mpcc.ir.rewrite import apply_rules
from mpcc.passes.base import Pass, Result
from mpcc.passes.rules import affine
from mpcc.passes.rules.joined import FactorThroughConcat

__all__ = ["FoldAffine"]


@dataclass(frozen=True)
class FoldAffine(Pass):
    """Constant factors and summands go into the weights and biases of neighbouring products.

    Such are batch normalisation, a pool's division by its size, and learned scales. Every factor
    that is left costs a truncation. Which are folded depends on the architecture alone: a factor of
    one is folded like any other. A factor of joined tensors goes into all products that are joined.

    Assumes: that fold-constants follows; it writes ops on weights alone, which cost a product of
    shares where they stay.

    Before::

        %3 = tensor.conv(%0, %1) {...} : tensor<1x8x4x4xf32, secret>
        %4 = tensor.mul(%3, %2) : tensor<1x8x4x4xf32, secret>

    After::

        %3 = tensor.reshape(%2) {shape = [1, 8, 1, 1, 1]} : tensor<1x8x1x1x1xf32, model>
        ...
        %6 = tensor.conv(%0, %5) {...} : tensor<1x8x4x4xf32, secret>
    """

    name: ClassVar[str] = "fold-affine"
    level: ClassVar[str] = "tensor"

    def run(self, module: Module) -> Result:
        """Apply the rules to every function."""
        rules = (*affine.RULES, FactorThroughConcat())
        outcomes = [apply_rules(f, rules) for f in module.functions.values()]
        notes = tuple(str(r) for o in outcomes for r in o.refusals)
        return Result(module, any(o.applied for o in outcomes), notes)
