"""What every importer needs: constants with owners, provenance, and a list of all problems.

Every float constant of a model is a weight and belongs to the model owner, unless an operator takes
it as a parameter of its own (a Pad value); such a parameter is written into the program in the
clear and listed as disclosed. Integer constants are shapes and indices and become attributes.
Constants are merged by name only, never because their values are equal: what two weights have in
common would show in the program.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.core import Module, Value
from mpcc.ir.define import Attributes, Operation
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape, TensorType

__all__ = [
    "Array",
    "Builder",
    "Constant",
    "Disclosed",
    "Imported",
    "Operand",
    "Owners",
    "Port",
    "Problems",
    "Unsupported",
    "type_of",
]

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Port:
    """An input or output of the model: its name, static shape, dtype, and whose it is."""

    name: str
    shape: Shape
    dtype: str
    owner: str


@dataclass(frozen=True)
class Disclosed:
    """A float constant of the model that stands in the module in the clear.

    Attributes:
        op: the model's operator, such as ``Pad``.
        node: its node's name.
        what: role of the constant, such as ``value``.
        number: the constant.
    """

    op: str
    node: str
    what: str
    number: float

    def text(self, names: bool) -> str:
        """One line for reports, with the model's own name of the node or without."""
        node = f" {self.node}" if names else ""
        return f"{self.op}{node}: {self.what} {self.number!r}"


@dataclass(frozen=True)
class Imported:
    """An imported model.

    Attributes:
        module: the tensor level, without any value of a weight.
        constants: float32 arrays of the module's ``tensor.weight`` ops, by name.
        inputs: in the model's order.
        outputs: in the model's order.
        disclosed: constants of the model that stand in the module in the clear.
    """

    module: Module
    constants: Mapping[str, Array] = field(repr=False)
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    disclosed: tuple[Disclosed, ...] = ()


@dataclass(frozen=True)
class Constant:
    """A value that is known when the model is imported.

    Attributes:
        array: the value; float constants of any width, integers, booleans.
        name: of the initialiser, or of the node output, that it is.
        owner: ``model`` or ``public``; what it is if it turns out to be a weight.
        derived: computed from float constants, so that not even its shape-like use is public.
    """

    array: Array = field(repr=False)
    name: str
    owner: str = "model"
    derived: bool = False

    @property
    def is_float(self) -> bool:
        """Whether it holds real numbers, as a weight does."""
        # bfloat16 and the 8-bit floats are extension types of numpy, of kind V.
        return self.array.dtype.kind not in "biuOSU"


Operand: TypeAlias = Value | Constant


class Unsupported(Exception):  # noqa: N818 - it names what the model has, not a fault of ours
    """A node cannot be imported: why, and what the user can do."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


class Problems:
    """Collects problems of nodes; equal ones become a single diagnostic that names the nodes."""

    _SHOWN = 8

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, str, str], list[str]] = {}
        self._others: list[Diagnostic] = []

    def node(self, code: str, what: str, node: str, fix: str = "") -> None:
        """Add a problem of the node of this name."""
        self._nodes.setdefault((code, what, fix), []).append(node)

    def add(self, code: str, what: str, where: str = "", fix: str = "") -> None:
        """Add a problem that is not of a node."""
        self._others.append(Diagnostic(code, what, where, fix))

    def raise_if_any(self) -> None:
        """Raise everything that was collected as one error.

        Raises:
            MpccError: at least one problem was added.
        """
        found = list(self._others)
        for (code, what, fix), nodes in self._nodes.items():
            where = ", ".join(nodes[: self._SHOWN])
            if len(nodes) > self._SHOWN:
                where += f" and {len(nodes) - self._SHOWN} more"
            found.append(Diagnostic(code, what, f"node {where}", fix))
        if found:
            raise MpccError(*found)


class Owners:
    """Who owns which input, weight and output.

    Args:
        chosen: role by name, from the user.
        weights: ``secret`` or ``public``, for weights that ``chosen`` does not name.

    Raises:
        MpccError: ``weights`` is neither.
    """

    def __init__(self, chosen: Mapping[str, str], weights: str) -> None:
        if weights not in ("secret", "public"):
            raise MpccError.of(
                "E-import-owner", f"weights can be secret or public, not {weights!r}"
            )
        self._chosen = chosen
        self._weights = "model" if weights == "secret" else "public"
        self._known: set[str] = set()
        self._wrong: list[Diagnostic] = []

    def _role(self, kind: str, name: str, default: str, allowed: Sequence[str]) -> str:
        self._known.add(name)
        role = self._chosen.get(name, default)
        if role not in allowed:
            self._wrong.append(
                Diagnostic(
                    "E-import-owner",
                    f"{kind} {name} cannot belong to {role!r}",
                    fix=f"use {' or '.join(allowed)}",
                )
            )
            return default
        return role

    def input(self, name: str) -> str:
        """Owner of an input; the client by default."""
        return self._role("input", name, "client", ("client", "model", "public"))

    def output(self, name: str) -> str:
        """Owner of an output; the client by default."""
        return self._role("output", name, "client", ("client", "model"))

    def weight(self, name: str) -> str:
        """Owner of a weight; the model owner by default, unless all weights are public."""
        return self._role("weight", name, self._weights, ("model", "public"))

    def check(self, problems: Problems) -> None:
        """Report wrong roles, and names that the model has not."""
        for d in self._wrong:
            problems.add(d.code, d.what, d.where, d.fix)
        for name in sorted(set(self._chosen) - self._known):
            problems.add(
                "E-import-name",
                f"the model has no input, output or float constant {name}",
                "owners",
                suggestion(name, self._known),
            )


def suggestion(name: str, known: set[str]) -> str:
    """A way out for a name that does not exist: similar ones, or some of those that do."""
    close = difflib.get_close_matches(name, sorted(known), 3) or sorted(known)[:5]
    return f"it has {', '.join(close)}" if close else ""


class Builder:
    """Builds the tensor module of one model."""

    def __init__(self) -> None:
        self.module = Module("tensor")
        self.constants: dict[str, Array] = {}
        self.disclosed: list[Disclosed] = []
        self._weights: dict[str, Value] = {}
        self._names: set[str] = set()

    def reserve(self, names: Sequence[str]) -> None:
        """Keep names that the model uses from being given to derived constants."""
        self._names.update(names)

    def append(
        self, definition: type[Operation], operands: Sequence[Operand], attrs: Attributes, loc: str
    ) -> Value:
        """Append an op with one result; constants among the operands become weights.

        Raises:
            InferenceError: operands or attributes do not fit.
            Unsupported: a constant cannot be a weight.
        """
        values = [self.value(o) for o in operands]
        return self.module.main.append(definition, values, attrs, loc).result

    def value(self, operand: Operand) -> Value:
        """The operand as a value; a constant becomes one ``tensor.weight`` at its first use.

        Raises:
            Unsupported: the constant is not of real numbers, or empty, or not finite.
        """
        if isinstance(operand, Value):
            return operand
        name = operand.name
        if name not in self._weights:
            if not operand.is_float:
                raise Unsupported(
                    f"the integer constant {name} is used as data",
                    "cast it to float when exporting the model",
                )
            if operand.array.size == 0:
                raise Unsupported(f"the constant {name} has no elements")
            with np.errstate(over="ignore"):
                array = np.ascontiguousarray(operand.array, np.float32)
            array = array.reshape(operand.array.shape)
            if not np.isfinite(array).all():
                raise Unsupported(
                    f"the constant {name} has elements that are not finite binary32 numbers",
                    "fixed-point numbers have no infinity and no NaN: repair the model's weights",
                )
            attrs = {"name": name, "shape": array.shape, "owner": operand.owner}
            self._weights[name] = self.module.main.append(tensor.Weight, (), attrs).result
            self.constants[name] = array
        return self._weights[name]

    def derive(self, source: Constant, suffix: str, compute: Callable[[Array], Array]) -> Constant:
        """A constant computed by its owner, named after its source.

        The same source and suffix always mean the same computation, so they share one constant.
        """
        name = f"{source.name}.{suffix}"
        while name in self._names:
            name += "'"
        return Constant(
            compute(source.array), name, source.owner, source.derived or source.is_float
        )

    def disclose(self, what: Disclosed) -> None:
        """Note a constant of the model that goes into the module in the clear."""
        if what not in self.disclosed:
            self.disclosed.append(what)


def type_of(operand: Operand) -> TensorType:
    """Type of an operand; of a constant, the one that it has as a weight."""
    if isinstance(operand, Constant):
        return TensorType(operand.array.shape, "f32", operand.owner)
    if not isinstance(operand.type, TensorType):
        raise TypeError(f"{operand.type} is not of the tensor level")
    return operand.type
