"""One TensorFlow node as its import function sees it.

Most operators are one of ONNX's, or a few, with operands in another order: :meth:`Node.onnx` runs
the import function of an ONNX operator on operands of this node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from mpcc.frontend.importer import Array, Builder, Constant, Operand, Unsupported, type_of
from mpcc.frontend.onnx import node as onnx_node
from mpcc.frontend.onnx.support import OPERATORS as ONNX_OPERATORS
from mpcc.frontend.tensorflow.kinds import ONNX_KINDS
from mpcc.ir.core import Value
from mpcc.ir.define import AttrValue, Operation
from mpcc.ir.types import Shape

__all__ = ["Handler", "Item", "Node", "Operator", "TensorList", "Variable"]

_OPSET = 21
"""Operator set of the ONNX operators that nodes are made of."""


@dataclass(frozen=True)
class Variable:
    """A variable of the model, and what it holds when the model is imported.

    Attributes:
        constant: its value under its name; None of a resource that is no variable.
        name: of the variable.
    """

    constant: Constant | None
    name: str


@dataclass(frozen=True)
class TensorList:
    """TensorFlow's list of tensors, as loops carry it; never changed, only replaced.

    Attributes:
        items: elements; None where nothing was put yet.
        shape: of every element, with None for what is not known; None if nothing is.
        dtype: numpy's element type.
    """

    items: tuple[Operand | None, ...] = field(repr=False)
    shape: tuple[int | None, ...] | None
    dtype: np.dtype[Any]


Item: TypeAlias = Operand | Variable | TensorList
"""What a tensor of the graph may stand for."""

Handler: TypeAlias = Callable[["Node"], Item | tuple[Item | None, ...]]
"""None: a result that could not be imported, for a reason that was reported already."""

Call: TypeAlias = Callable[["Node", str, str, str, Sequence[Item | None]], tuple[Item | None, ...]]
"""(node, name of a function, role, scope, arguments) -> its results."""


@dataclass(frozen=True)
class Operator:
    """How an operator is imported.

    Attributes:
        run: gives the node's outputs.
        always: run it on constants too, instead of computing them by TensorFlow.
    """

    run: Handler
    always: bool = False


class Node:
    """A node with its operands.

    Attributes:
        builder: of the module.
        proto: TensorFlow's NodeDef.
        op: operator name.
        label: name in messages and in ``loc``.
        items: one per data input.
        output: from which names of derived constants are made.
    """

    def __init__(
        self,
        builder: Builder,
        proto: Any,
        label: str,
        items: Sequence[Item | None],
        kinds: Sequence[int],
        used: Sequence[bool],
        call: Call,
    ) -> None:
        self.builder = builder
        self.proto = proto
        self.op = str(proto.op)
        self.label = label
        self.items = items
        self.used = used
        self.output = label
        self._kinds = kinds
        self._call = call
        self._made = 0

    # --- operands

    @property
    def count(self) -> int:
        """Number of operands."""
        return len(self.items)

    def item(self, index: int) -> Item:
        """Operand ``index``, whatever it is."""
        found = self.items[index] if -len(self.items) <= index < len(self.items) else None
        if found is None:
            self.refuse(f"input {index} is missing")
        return found

    def operand(self, index: int) -> Operand:
        """Operand ``index``, a tensor of numbers."""
        found = self.item(index)
        if isinstance(found, Variable):
            self.refuse(f"the resource {found.name}, which is no tensor")
        if isinstance(found, TensorList):
            self.refuse("a list of tensors")
        return found

    def list(self, index: int) -> TensorList:
        """Operand ``index``, a list of tensors."""
        found = self.item(index)
        if not isinstance(found, TensorList):
            self.refuse(f"input {index} is no list of tensors")
        return found

    def shape(self, index: int) -> Shape:
        """Shape of operand ``index``."""
        return type_of(self.operand(index)).shape

    def kind(self, index: int) -> int:
        """ONNX's element type of operand ``index``."""
        return self._kinds[index]

    def is_real(self) -> bool:
        """Whether operand 0 is of real numbers in the model, not of integers or truth values."""
        return self.kind(0) in (
            onnx.TensorProto.FLOAT,
            onnx.TensorProto.DOUBLE,
            onnx.TensorProto.FLOAT16,
            onnx.TensorProto.BFLOAT16,
        )

    def known(self, index: int, what: str) -> Constant:
        """Operand ``index``, which must be a constant that was not computed from weights.

        Raises:
            Unsupported: it is not; ``what`` says what it is for.
        """
        return self.inner().known(index, what)

    def integers(self, index: int, what: str) -> tuple[int, ...]:
        """Operand ``index`` as a list of integers that becomes a public attribute."""
        return self.inner().integers(index, what)

    def axes(self, index: int, rank: int) -> tuple[int, ...]:
        """Operand ``index`` as axes, counted from the front."""
        inner = self.inner()
        return inner.axes(inner.integers(index, "its list of axes"), rank)

    def axis(self, number: int, rank: int) -> int:
        """An axis, counted from the front."""
        return self.inner().axis(number, rank)

    # --- attributes

    def flag(self, name: str, default: bool = False) -> bool:
        """A truth value."""
        return bool(self.proto.attr[name].b) if name in self.proto.attr else default

    def integer(self, name: str, default: int = 0) -> int:
        """An integer."""
        return int(self.proto.attr[name].i) if name in self.proto.attr else default

    def number(self, name: str, default: float) -> float:
        """A float."""
        return float(self.proto.attr[name].f) if name in self.proto.attr else default

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        if name not in self.proto.attr:
            return default
        return bytes(self.proto.attr[name].s).decode("utf-8", "replace")

    def ints(self, name: str) -> tuple[int, ...]:
        """A list of integers."""
        return tuple(int(i) for i in self.proto.attr[name].list.i)

    def dtype(self, name: str) -> int:
        """ONNX's element type of a type attribute."""
        return ONNX_KINDS.get(int(self.proto.attr[name].type), onnx.TensorProto.UNDEFINED)

    def function(self, name: str) -> str:
        """Name of the function that an attribute names."""
        return str(self.proto.attr[name].func.name)

    # --- results

    def inner(
        self,
        op: str = "Identity",
        operands: Sequence[Operand | None] | None = None,
        outputs: int = 1,
        **attrs: Any,
    ) -> onnx_node.Node:
        """This node in the form that functions of the ONNX front end take.

        Args:
            op: ONNX's name of the operator.
            operands: the node's own ones by default.
            outputs: how many there are, all of them used.
            attrs: attributes of the operator.
        """
        given: list[Operand | None] = []
        kinds: dict[str, int] = {}
        names: list[str] = []
        items = self.items if operands is None else operands
        own = {id(item): kind for item, kind in zip(self.items, self._kinds, strict=True)}
        for i, item in enumerate(items):
            found = item if isinstance(item, (Value, Constant)) else None
            given.append(found)
            names.append("" if found is None else f"operand{i}")
            if found is not None:
                kinds[f"operand{i}"] = own.get(id(found), _kind_of(found))
        suffix = "" if self._made == 0 else f"/{self._made}"
        self._made += 1
        made = [f"{self.output}{suffix}" + (f":{i}" if i else "") for i in range(outputs)]
        proto = onnx.helper.make_node(op, names, made, name=self.label, **attrs)
        used = [True] * outputs
        return onnx_node.Node(self.builder, proto, _OPSET, given, used, kinds)

    def onnx_all(
        self, op: str, *operands: Operand | None, outputs: int = 1, **attrs: Any
    ) -> tuple[Operand, ...]:
        """All results of an ONNX operator on operands."""
        found = ONNX_OPERATORS[op].run(self.inner(op, operands, outputs, **attrs))
        results = found if isinstance(found, tuple) else (found,)
        return tuple(r for r in results if r is not None)

    def onnx(self, op: str, *operands: Operand | None, **attrs: Any) -> Operand:
        """The only result of an ONNX operator on operands."""
        return self.onnx_all(op, *operands, **attrs)[0]

    def value(self, index: int) -> Value:
        """Operand ``index`` as real numbers; a constant becomes a weight, bits 0 and 1."""
        return self.real(self.operand(index))

    def real(self, operand: Operand) -> Value:
        """Any operand, as :meth:`value` gives the node's own ones."""
        return self.inner().real(operand)

    def emit(self, definition: type[Operation], *operands: Operand, **attrs: AttrValue) -> Value:
        """Append an op with one result that comes from this node."""
        (result,) = self.builder.append(definition, operands, attrs, self.label)
        return result

    def positions(self, numbers: npt.ArrayLike) -> Constant:
        """Integers that follow from the architecture, as an operand."""
        self._made += 1
        return Constant(np.asarray(numbers, np.int64), f"{self.output}/{self._made}", "public")

    def public(self, suffix: str, array: npt.ArrayLike) -> Constant:
        """Real numbers that follow from the architecture and from public parameters alone."""
        return self.builder.public(f"{self.output}.{suffix}", array)

    def derive(self, source: Constant, suffix: str, compute: Callable[[Array], Array]) -> Constant:
        """A constant that its owner computes from another one."""
        return self.builder.derive(source, suffix, compute)

    def reshape(self, operand: Operand, shape: Shape) -> Operand:
        """The operand in another shape."""
        return self.inner().reshape(operand, shape)

    def transpose(self, operand: Operand, perm: Sequence[int]) -> Operand:
        """The operand with other axes."""
        return self.inner().transpose(operand, perm)

    def call(
        self, function: str, role: str, scope: str, arguments: Sequence[Item | None]
    ) -> tuple[Item | None, ...]:
        """Import a function of the model's library at this place; its results.

        Args:
            function: its name.
            role: what it is to the node; "" if it is all that the node is.
            scope: tells this copy from others of the same role.
            arguments: one per argument.
        """
        return self._call(self, function, role, scope, arguments)

    def refuse(self, reason: str, fix: str = "") -> NoReturn:
        """Give the node up.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(reason, fix)


def _kind_of(operand: Operand) -> int:
    """ONNX's element type of an operand that stands for no tensor of the model."""
    if isinstance(operand, Constant):
        try:
            return int(onnx.helper.np_dtype_to_tensor_dtype(operand.array.dtype))
        except (KeyError, ValueError):
            return int(onnx.TensorProto.UNDEFINED)
    dtype = type_of(operand).dtype
    known = {"bool": onnx.TensorProto.BOOL, "i64": onnx.TensorProto.INT64}
    return int(known.get(dtype, onnx.TensorProto.FLOAT))
