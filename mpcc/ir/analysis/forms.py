"""Where the lowering truncates: a structural analysis of a tensor module, without any values.

Every tensor value has a *form*, the number of times that weights were multiplied in since the last
truncation: an ``act`` has the activations' fraction, a ``product`` has a weight's on top, a
``const`` is a weight that is encoded at whatever fraction its user needs, a ``bit`` has no
fraction, and a ``position`` (of dtype i64) is a whole number at a fraction of its own. A product
stays one through sums and structural ops, so that a residual sum or a bias costs no truncation of
its own; it is truncated once, where the first op asks for an activation.

What an operator does to forms is its :class:`~mpcc.ir.ops.tensor.base.Kind`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mpcc.errors import MpccError
from mpcc.ir.core import Function, Op, Value
from mpcc.ir.ops import tensor
from mpcc.ir.ops.tensor import Kind
from mpcc.ir.types import TensorType

__all__ = [
    "ACT",
    "BIT",
    "CONST",
    "POSITION",
    "PRODUCT",
    "Forms",
    "declaration",
    "factors",
    "forms",
    "fractions",
    "is_real",
    "kind_of",
    "multiplier_is_weight",
]

ACT, PRODUCT, CONST, BIT, POSITION = "act", "product", "const", "bit", "position"

_OF_DTYPE = {"bool": BIT, "i64": POSITION}


@dataclass(frozen=True)
class Forms:
    """The analysis' result.

    Attributes:
        form: of every value, as produced.
        demanded: values that some op needs as activations, or that are clamped, or that stand
            beside activations in a structural op. Where such a value is a product it is truncated,
            and all its users take the truncated one.
        exact: values whose truncation reaches an output by sums and structural ops alone, hence
            must be exact.
    """

    form: dict[Value, str]
    demanded: frozenset[Value]
    exact: frozenset[Value]

    def taken(self, value: Value) -> str:
        """The form in which sums, structural ops and outputs take a value."""
        if self.form[value] == PRODUCT and value in self.demanded:
            return ACT
        return self.form[value]


def declaration(op: Op) -> type[tensor.TensorOperation]:
    """The op's declaration.

    Raises:
        MpccError: ``E-lower-op`` for an operator that is not of the tensor level.
    """
    if not issubclass(op.definition, tensor.TensorOperation):
        raise MpccError.of("E-lower-op", f"{op.name} has no secure form", op.loc)
    return op.definition


def kind_of(op: Op) -> Kind:
    """The op's kind.

    Raises:
        MpccError: as :func:`declaration`.
    """
    return declaration(op).kind_of(op.attrs)


def is_real(value: Value) -> bool:
    """Whether a value of the tensor level is of real numbers, not of bits or positions."""
    return isinstance(value.type, TensorType) and value.type.dtype not in _OF_DTYPE


def factors(op: Op) -> list[Value]:
    """The operands of a product that are multiplied."""
    return op.operands[: declaration(op).factors]


def multiplier_is_weight(op: Op, forms_: Forms) -> list[bool]:
    """For every factor of a product, whether it is encoded with the weights' fraction.

    One constant factor is; of two constant factors the second; of two activations none, and the
    product has twice the activations' fraction. A single factor is an activation: the other one is
    a constant that the lowering makes.
    """
    constant = [forms_.form[v] == CONST for v in factors(op)]
    if len(constant) == 1:
        return [False]
    return [c and not any(constant[i + 1 :]) for i, c in enumerate(constant)]


def forms(function: Function, clamped: Collection[int] = ()) -> Forms:
    """Analyse @main of a tensor module.

    Args:
        function: its ops must all be of the tensor level.
        clamped: indices of ops whose results are clamped, which makes them activations.

    Raises:
        MpccError: ``E-lower-op`` for an operator without a secure form.
    """
    demanded: set[Value] = {r for i in clamped for r in function.ops[i].results}
    for op in function.ops:
        kind = kind_of(op)
        if kind is Kind.PRODUCT:
            demanded.update(factors(op))
        elif kind.activates and not declaration(op).fine:
            demanded.update(op.operands)
    exact = _exact(function)
    while True:
        found = Forms({}, frozenset(demanded), exact)
        for op in function.ops:
            form = _form(op, found)
            for value in op.results:
                assert isinstance(value.type, TensorType)
                found.form[value] = _OF_DTYPE.get(value.type.dtype, form)
        mixed = _mixed(function, found)
        if not mixed:
            return found
        demanded |= mixed


def _mixed(function: Function, found: Forms) -> set[Value]:
    """Products that a structural op would put beside activations.

    They are truncated before: behind it, the activations would be truncated with them.
    """
    products: set[Value] = set()
    for op in function.ops:
        if kind_of(op) is Kind.STRUCTURAL:
            taken = {v: found.taken(v) for v in op.operands}
            if ACT in taken.values():
                products.update(v for v, form in taken.items() if form == PRODUCT)
    return products


def _form(op: Op, found: Forms) -> str:
    """Form of those results of an op that are real numbers."""
    kind = kind_of(op)
    taken = [found.taken(v) for v in op.operands]
    if op.definition is tensor.Weight:
        return CONST
    if kind is Kind.STRUCTURAL and all(form == CONST for form in taken):
        return CONST
    if kind is Kind.PRODUCT or (kind in (Kind.STRUCTURAL, Kind.SUM) and PRODUCT in taken):
        return PRODUCT
    return ACT


def fractions(function: Function, found: Forms, frac: int, weight_frac: int) -> dict[Value, int]:
    """Fraction bits of every value as produced, but for constants, bits and positions.

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
        for value in op.results:
            form = found.form[value]
            if form == ACT:
                table[value] = frac
            elif form == PRODUCT and kind_of(op) is Kind.PRODUCT:
                is_weight = multiplier_is_weight(op, found)
                made = declaration(op).made_fraction(op.attrs, weight_frac)
                table[value] = sum(weight_frac if w else frac for w in is_weight) + (
                    made if len(is_weight) == 1 else 0
                )
            elif form == PRODUCT:
                table[value] = max(taken(v) for v in op.operands)
    return table


def _exact(function: Function) -> frozenset[Value]:
    exact: set[Value] = set()
    for op in reversed(function.ops):
        kind = kind_of(op)
        keeps = kind in (Kind.SUM, Kind.STRUCTURAL) and any(r in exact for r in op.results)
        if keeps or kind is Kind.OUTPUT:
            exact.update(op.operands)
    return frozenset(exact)
