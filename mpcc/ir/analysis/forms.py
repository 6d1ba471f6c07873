"""Where the lowering truncates: a structural analysis of a tensor module, without any values.

Every tensor value has a *form*, the number of times that weights were multiplied in since the last
truncation: an ``act`` has the activations' fraction, a ``product`` has a weight's on top, a
``const`` is a weight that is encoded at whatever fraction its user needs. A product stays one
through sums and shape ops, so that a residual sum or a bias costs no truncation of its own; it is
truncated once, where the first op asks for an activation.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mpcc.errors import MpccError
from mpcc.ir.core import Function, Op, Value
from mpcc.ir.ops import tensor

__all__ = ["ACT", "CONST", "PRODUCT", "Forms", "forms", "fractions", "multiplier_is_weight"]

ACT, PRODUCT, CONST = "act", "product", "const"

_SHAPE_OPS = (tensor.Pad, tensor.Reshape, tensor.Transpose)
_SUMS = (tensor.Add, tensor.Sub)
_PRODUCTS = (tensor.Conv, tensor.MatMul)
_NONLINEAR = (tensor.Relu, tensor.MaxPool)
_ENDS = (tensor.Input, tensor.Weight, tensor.Output)


@dataclass(frozen=True)
class Forms:
    """The analysis' result.

    Attributes:
        form: of every value, as produced.
        demanded: values that some op needs as activations, or that are clamped. Where such a value
            is a product it is truncated, and all its users take the truncated one.
        exact: values whose truncation reaches an output by sums and shape ops alone, hence must
            be exact.
    """

    form: dict[Value, str]
    demanded: frozenset[Value]
    exact: frozenset[Value]

    def taken(self, value: Value) -> str:
        """The form in which sums, shape ops and outputs take a value."""
        if self.form[value] == PRODUCT and value in self.demanded:
            return ACT
        return self.form[value]


def multiplier_is_weight(op: Op, forms_: Forms) -> tuple[bool, bool]:
    """For both factors of a conv or matmul, whether it is encoded with the weights' fraction.

    One constant factor is; of two constant factors the second; of two activations none, and the
    product has twice the activations' fraction.
    """
    a, b = (forms_.form[v] == CONST for v in op.operands[:2])
    return a and not b, b


def forms(function: Function, clamped: Collection[int] = ()) -> Forms:
    """Analyse @main of a tensor module.

    Args:
        function: its ops must all be known here.
        clamped: indices of ops whose results are clamped, which makes them activations.

    Raises:
        MpccError: ``E-lower-op`` for an operator without a secure form.
    """
    demanded: set[Value] = {function.ops[i].result for i in clamped}
    for op in function.ops:
        if op.definition in _PRODUCTS:
            demanded.update(op.operands[:2])
        elif op.definition in _NONLINEAR:
            demanded.update(op.operands)
        elif op.definition not in (*_SHAPE_OPS, *_SUMS, *_ENDS):
            raise MpccError.of("E-lower-op", f"{op.name} has no secure form", op.loc)
    found = Forms({}, frozenset(demanded), _exact(function))
    for op in function.ops:
        if op.definition is tensor.Output:
            continue
        taken = [found.taken(v) for v in op.operands]
        if op.definition is tensor.Weight:
            form = CONST
        elif op.definition in _PRODUCTS:
            form = PRODUCT
        elif op.definition in _SHAPE_OPS:
            form = taken[0]
        elif op.definition in _SUMS and PRODUCT in taken:
            form = PRODUCT
        else:
            form = ACT
        found.form[op.result] = form
    return found


def fractions(function: Function, found: Forms, frac: int, weight_frac: int) -> dict[Value, int]:
    """Fraction bits of every value as produced; constants have none of their own.

    Args:
        function: the analysed function.
        found: its forms.
        frac: fraction bits of activations.
        weight_frac: fraction bits of constant factors.
    """
    table: dict[Value, int] = {}

    def taken(value: Value) -> int:
        return frac if found.taken(value) == ACT else table.get(value, 0)

    for op in function.ops:
        if op.definition is tensor.Output or found.form[op.result] == CONST:
            continue
        if op.definition in _PRODUCTS:
            factors = multiplier_is_weight(op, found)
            table[op.result] = sum(weight_frac if w else frac for w in factors)
        elif found.form[op.result] == PRODUCT:
            table[op.result] = max(taken(v) for v in op.operands)
        else:
            table[op.result] = frac
    return table


def _exact(function: Function) -> frozenset[Value]:
    exact: set[Value] = set()
    for op in reversed(function.ops):
        keeps = op.definition in (*_SUMS, *_SHAPE_OPS) and op.result in exact
        if keeps or op.definition is tensor.Output:
            exact.update(op.operands)
    return frozenset(exact)
