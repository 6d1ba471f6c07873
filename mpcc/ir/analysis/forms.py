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

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mpcc.errors import MpccError
from mpcc.ir.calls import is_call
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
    "exact_values",
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


def forms(
    function: Function, clamped: Collection[int] = (), functions: Sequence[Function] = ()
) -> Forms:
    """Analyse @main of a tensor module.

    What a function gives is an activation; what it takes is one too, or a constant in every call.

    Args:
        function: its ops must all be of the tensor level.
        clamped: numbers of ops whose results are clamped, which makes them activations.
        functions: those that are called, in the order of the module.

    Raises:
        MpccError: ``E-lower-op`` for an operator without a secure form.
    """
    ops = [op for f in (function, *functions) for op in f.ops]
    demanded: set[Value] = {r for i in clamped for r in ops[i].results}
    for op in ops:
        kind = kind_of(op)
        if kind is Kind.PRODUCT:
            demanded.update(factors(op))
        elif kind.activates and not declaration(op).fine:
            demanded.update(op.operands)
    exact = exact_values(function, functions)
    while True:
        found = Forms({}, frozenset(demanded), exact)
        for each in (function, *functions):
            found.form.update({a: _argument(a, function, each, found) for a in each.args})
            for op in each.ops:
                form = _form(op, found)
                for value in op.results:
                    assert isinstance(value.type, TensorType)
                    found.form[value] = _OF_DTYPE.get(value.type.dtype, form)
        mixed = _mixed(ops, found)
        if not mixed:
            return found
        demanded |= mixed


def _argument(arg: Value, main: Function, function: Function, found: Forms) -> str:
    """Form of an argument, when those of @main are known."""
    given = {
        found.form[op.operands[arg.index]]
        for op in main.ops
        if is_call(op) and op.attrs["callee"] == function.name
    }
    return CONST if given == {CONST} else ACT


def _mixed(ops: Sequence[Op], found: Forms) -> set[Value]:
    """Products that a structural op would put beside activations.

    They are truncated before: behind it, the activations would be truncated with them.
    """
    products: set[Value] = set()
    for op in ops:
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


def exact_values(main: Function, functions: Sequence[Function] = ()) -> frozenset[Value]:
    """Values that reach an output by sums and structural ops alone.

    Args:
        main: of a tensor module.
        functions: those that are called; what is so in one call is so in all.
    """
    named = {f.name: f for f in functions}
    exact: set[Value] = set()
    while True:
        before = len(exact)
        for function in (main, *functions):
            _add_exact(function, named, exact)
        # What is exact in one call is so in all: a state reaches outputs through later steps.
        if not functions or len(exact) == before:
            return frozenset(exact)


def _add_exact(function: Function, named: Mapping[str, Function], exact: set[Value]) -> None:
    for op in reversed(function.ops):
        if is_call(op):
            callee = named[op.attrs["callee"]]
            exact.update(v for r, v in zip(op.results, callee.returns, strict=True) if r in exact)
            exact.update(v for a, v in zip(callee.args, op.operands, strict=True) if a in exact)
            continue
        kind = kind_of(op)
        linear = kind in (Kind.SUM, Kind.STRUCTURAL) or op.definition is tensor.Activation
        if kind is Kind.OUTPUT or (linear and any(r in exact for r in op.results)):
            exact.update(op.operands)
