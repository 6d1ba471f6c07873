"""How an operator is declared, once: operands, attributes, inference, reference, documentation.

A declaration is a class that is never instantiated::

    class Neg(Operation):
        \"\"\"Elementwise -x.\"\"\"

        name = "tensor.neg"
        operands = ("x",)

        @classmethod
        def infer(cls, types, attrs):
            return (types[0],)

Operand names may end in ``?`` (optional, last) or ``*`` (any number, last). The printer, parser,
builder, verifier and ``mpcc ops`` are derived from the declaration. Levels list their declarations
explicitly; there is no global registry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.types import Type

if TYPE_CHECKING:  # functions hold ops, and ops hold their declaration
    from mpcc.ir.core import Function

__all__ = [
    "REQUIRED",
    "Attr",
    "AttrValue",
    "Attributes",
    "Dialect",
    "InferenceError",
    "Operation",
    "fail",
]

# int, float, bool, str or (nested) tuples of them
AttrValue: TypeAlias = Any
Attributes: TypeAlias = Mapping[str, AttrValue]


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()


class InferenceError(MpccError):
    """Operand types or attributes that an operator does not accept; the text says which and why.

    A user's error (``E-ir-type``) if nobody who knows more about the place says it better: a model
    beyond the limits of :mod:`mpcc.ir.limits` fails where the op is built.
    """

    def __init__(self, text: str) -> None:
        super().__init__(Diagnostic("E-ir-type", text))

    def __str__(self) -> str:
        return self.diagnostics[0].what


@dataclass(frozen=True)
class Attr:
    """One attribute of an operator.

    Attributes:
        kind: ``int``, ``float``, ``bool``, ``str``, ``ints``, ``strs`` or ``nested``
            (tuples of tuples of ints, any depth).
        doc: one line with the unit.
        default: value when absent; REQUIRED if it must be given.
    """

    kind: str
    doc: str
    default: AttrValue = REQUIRED

    def accepts(self, value: AttrValue) -> bool:
        """Whether ``value`` has this attribute's kind."""
        match self.kind:
            case "int":
                return isinstance(value, int) and not isinstance(value, bool)
            case "float":
                return isinstance(value, float)
            case "bool":
                return isinstance(value, bool)
            case "str":
                return isinstance(value, str)
            case "ints":
                return isinstance(value, tuple) and all(type(v) is int for v in value)
            case "strs":
                return isinstance(value, tuple) and all(isinstance(v, str) for v in value)
            case "nested":
                return isinstance(value, tuple) and all(
                    type(v) is int or self.accepts(v) for v in value
                )
        raise ValueError(f"unknown attribute kind {self.kind!r}")


class Operation:
    """Base of all operator declarations."""

    name: ClassVar[str]
    operands: ClassVar[tuple[str, ...]] = ()
    attributes: ClassVar[Mapping[str, Attr]] = {}
    has_body: ClassVar[bool] = False
    side_effect: ClassVar[bool] = False
    """True if the op must stay even when nothing uses its results."""

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        """Result types from operand types and (completed) attributes.

        Raises:
            InferenceError: operands or attributes do not fit.
        """
        raise NotImplementedError(cls.name)

    @classmethod
    def check_body(cls, body: Function) -> None:
        """Refuse a body that the operator cannot run; its returned values are the results.

        Called instead of :meth:`infer` for declarations with ``has_body``, when the operands are
        known to have the types of the body's arguments.

        Raises:
            InferenceError: the body does not fit; the text says which op or value and why.
        """
        raise NotImplementedError(cls.name)

    @classmethod
    def arity(cls) -> tuple[int, int | None]:
        """Smallest and largest number of operands; None for no upper limit."""
        least = most = 0
        for operand in cls.operands:
            if operand.endswith("*"):
                return least, None
            most += 1
            if not operand.endswith("?"):
                least += 1
        return least, most

    @classmethod
    def complete(cls, attrs: Attributes) -> dict[str, AttrValue]:
        """Attributes with defaults filled in, in declaration order.

        Raises:
            InferenceError: an attribute is unknown, missing, or of the wrong kind.
        """
        unknown = set(attrs) - set(cls.attributes)
        if unknown:
            raise InferenceError(f"{cls.name} has no attribute {', '.join(sorted(unknown))}")
        full: dict[str, AttrValue] = {}
        for key, spec in cls.attributes.items():
            value = attrs.get(key, spec.default)
            if value is REQUIRED:
                raise InferenceError(f"{cls.name} needs the attribute {key} ({spec.doc})")
            if not spec.accepts(value):
                raise InferenceError(
                    f"{cls.name}: attribute {key} must be of kind {spec.kind}, not {value!r}"
                )
            full[key] = value
        return full


def fail(cls: type[Operation], what: str) -> InferenceError:
    """An inference error that names the operator."""
    return InferenceError(f"{cls.name}: {what}")


@dataclass(frozen=True)
class Dialect:
    """The operators of one IR level, by name."""

    level: str
    operations: Mapping[str, type[Operation]]

    @classmethod
    def of(cls, level: str, operations: Sequence[type[Operation]]) -> Dialect:
        """A dialect from an explicit list; ValueError on a double or misnamed operator."""
        table: dict[str, type[Operation]] = {}
        for operation in operations:
            if not operation.name.startswith(level + "."):
                raise ValueError(f"{operation.name} is not of level {level}")
            if operation.name in table:
                raise ValueError(f"{operation.name} is declared twice")
            table[operation.name] = operation
        return cls(level, table)
