"""Tensor-level calls of functions (:mod:`mpcc.ir.calls`), and what stands at their borders."""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.calls import CallOperation
from mpcc.ir.define import Attributes
from mpcc.ir.ops.tensor.base import Array, Kind, Monotone, TensorOperation, real, result
from mpcc.ir.types import Type

__all__ = ["Activation", "Call"]


class Activation(Monotone):
    """x, as an activation with a range of its own: what a function takes and gives is one."""

    name = "tensor.activation"
    kind = Kind.FUNCTION
    operands = ("x",)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = real(cls, types[0])
        return (result(x.shape, x),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        return (args[0],)


class Call(CallOperation, TensorOperation):
    """The results of a function of the module, for these arguments."""

    name = "tensor.call"
    kind = Kind.NONLINEAR


OPERATIONS = (Activation, Call)
