"""recognise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy.typing as npt

from mpcc.errors import MpccError
from mpcc.ir.core import Module
from mpcc.ir.define import InferenceError
from mpcc.ir.rewrite import Rewriter
from mpcc.ir.types import TensorType, Type
from mpcc.passes.base import Pass, Result
from mpcc.passes.rules.patterns import PATTERNS, Found, find

__all__ = ["Recognise", "recognised"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Recognise(Pass):
    """Functions that are spelled out in arithmetic become one op.

    Which ops these are depends on values of constants (the square root of two of a GELU), which
    their owner alone may see. So :func:`recognised` looks for them at the owner, the rows that it
    finds are part of Phi, and this pass, which sees no value, carries them out.

    Assumes: the rows were found on this module; below 0.7071 was in w0, 1 in w1, 0.5 in w2, and
    the row is (6, 0, 0), whose last number is that of the exact GELU.

    Before::

        %2 = tensor.mul(%0, %w0) : tensor<8xf32, secret>
        %3 = tensor.erf(%2) : tensor<8xf32, secret>
        %4 = tensor.add(%3, %w1) : tensor<8xf32, secret>
        %5 = tensor.mul(%0, %4) : tensor<8xf32, secret>
        %6 = tensor.mul(%5, %w2) : tensor<8xf32, secret>

    After::

        %1 = tensor.gelu(%0) : tensor<8xf32, secret>

    Attributes:
        rows: (op, op that computes the operand, number of the pattern), in the order of ops.
    """

    name: ClassVar[str] = "recognise"
    level: ClassVar[str] = "tensor"
    rows: tuple[tuple[int, int, int], ...] = ()

    def run(self, module: Module) -> Result:
        """Replace the last op of every pattern; what only it used goes away."""
        main, notes = module.main, []
        ops = list(main.ops)
        rewriter = Rewriter(main)
        for last, source, number in self.rows:
            if not (0 <= source < last < len(ops) and 0 <= number < len(PATTERNS)):
                raise _mismatch(last)
            anchor, pattern = ops[last], PATTERNS[number]
            try:
                new = pattern.emit(rewriter, ops[source].result, anchor.loc)
            except (InferenceError, ValueError):
                raise _mismatch(last) from None
            if _form(new.type) != _form(anchor.result.type):
                raise _mismatch(last)
            rewriter.commit(anchor)
            main.replace_uses({anchor.result: new})
            rewriter.refresh()
            notes.append(f"{pattern.title} at {anchor.loc or anchor.name}")
        main.remove_dead()
        # Without the model's constants a function of an input is the input owner's alone.
        for op in main.ops:
            for value, type_ in zip(op.results, op.infer(), strict=True):
                value.type = type_
        return Result(module, bool(self.rows), tuple(notes))


def recognised(module: Module, constants: Mapping[str, Array]) -> tuple[Found, ...]:
    """The patterns of a module; runs at the model owner.

    Args:
        module: a tensor module, which stays as it is.
        constants: its weights by name.
    """
    return find(module.main, constants)


def _form(type_: Type) -> object:
    """All of a tensor's type but who may see it."""
    return replace(type_, visibility="secret") if isinstance(type_, TensorType) else None


def _mismatch(op: int) -> MpccError:
    return MpccError.of(
        "E-phi-mismatch", f"the formats are for another model: no pattern at op {op}"
    )
