"""One ONNX node as its import function sees it: typed operands and attributes, and ``emit``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import onnx

from mpcc.frontend.importer import (
    Array,
    Builder,
    Constant,
    Disclosed,
    Operand,
    Unsupported,
    type_of,
)
from mpcc.frontend.onnx.sizes import disclosed_mask
from mpcc.ir.core import Value
from mpcc.ir.define import AttrValue, Operation
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape

__all__ = ["Handler", "Node", "Operator", "node_label"]

Handler: TypeAlias = Callable[["Node"], Operand | tuple[Operand | None, ...]]
"""None: a result that could not be imported, for a reason that was reported already."""

Body: TypeAlias = Callable[
    ["Node", str, str, onnx.GraphProto, Sequence[Operand | None]], tuple[Operand | None, ...]
]
"""(node, attribute, scope, its subgraph, operands of its inputs) -> its outputs."""

_T = TypeVar("_T")

_INTEGERS = frozenset(
    getattr(onnx.TensorProto, f"{sign}INT{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)
)
_WIDE = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)


@dataclass(frozen=True)
class Operator:
    """How an operator is imported.

    Attributes:
        run: gives the node's first outputs; the docstring's first line is for `mpcc ops`.
        refused: what of the operator is not supported; empty if all is.
        ignored: names of attributes that ``run`` does not read, always or in some cases, because
            they change nothing or because ONNX's reference reads them. Any other attribute that
            was not read is refused: a newer ONNX may have added it.
    """

    run: Handler
    refused: str = ""
    ignored: str = ""


def node_label(proto: onnx.NodeProto) -> str:
    """The node's name; nodes may have none, then what it computes."""
    if proto.name:
        return str(proto.name)
    return next((str(o) for o in proto.output if o), str(proto.op_type))


class Node:
    """A node with its operands.

    Attributes:
        op: operator name.
        opset: version of the default operator set that the model imports.
        label: name in messages and in ``loc``.
        operands: one per input, None where an optional input is absent.
        used: per output, whether anything uses it.
        output: name of the first output that has one, from which names of derived constants are
            made.
    """

    def __init__(
        self,
        builder: Builder,
        proto: onnx.NodeProto,
        opset: int,
        operands: Sequence[Operand | None],
        used: Sequence[bool],
        kinds: Mapping[str, int],
        body: Body | None = None,
    ) -> None:
        self.builder = builder
        self.proto = proto
        self.op = str(proto.op_type)
        self.opset = opset
        self.label = node_label(proto)
        self.operands = operands
        self.used = used
        self.output = next((str(o) for o in proto.output if o), self.label)
        self._kinds = kinds
        self._body = body
        self._read: set[str] = set()
        self._attributes: dict[str, Any] = {
            a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute
        }

    # --- operands

    def operand(self, index: int) -> Operand:
        """Operand ``index``, which the operator requires."""
        found = self.optional(index)
        if found is None:
            self.refuse(f"input {index} is missing")
        return found

    def optional(self, index: int) -> Operand | None:
        """Operand ``index``, or None where it is absent."""
        return self.operands[index] if index < len(self.operands) else None

    def value(self, index: int) -> Value:
        """Operand ``index`` as real numbers; a constant becomes a weight, bits 0 and 1.

        Positions (of ArgMax, ArgMin, TopK) become whole numbers.
        """
        return self.real(self.operand(index))

    def real(self, operand: Operand) -> Value:
        """Any operand, as :meth:`value` gives the node's own ones."""
        value = self.builder.value(operand)
        return self.emit(tensor.ToReal, value) if type_of(value).dtype in ("bool", "i64") else value

    def bit(self, index: int) -> Value:
        """Operand ``index``, which ONNX types as bool, as a value of bits."""
        value = self.builder.value(self.operand(index))
        if type_of(value).dtype == "bool":
            return value
        # A constant, or bits that were moved as 0 and 1.
        half = self.builder.public(f"{self.output}.half", np.asarray(0.5))
        return self.emit(tensor.Less, half, value)

    def shape(self, index: int) -> Shape:
        """Shape of operand ``index``."""
        return type_of(self.operand(index)).shape

    def kind(self, index: int) -> int:
        """ONNX's element type of input ``index``; float if it is not known."""
        name = self.proto.input[index] if index < len(self.proto.input) else ""
        return self._kinds.get(name, onnx.TensorProto.FLOAT)

    def is_integer(self, index: int) -> bool:
        """Whether the model's input ``index`` is of integers."""
        return self.kind(index) in _INTEGERS

    def no_integers(self) -> None:
        """Refuse computed integers, for which the operator is not the one of real numbers."""
        for i, operand in enumerate(self.operands):
            if isinstance(operand, Value) and self.is_integer(i):
                self.refuse("integers that are computed from an input", "cast them to float before")

    def wide_integers(self) -> None:
        """Refuse computed integers of 8 or 16 bits or without a sign, which wrap around."""
        for i, operand in enumerate(self.operands):
            kind = self.kind(i)
            if isinstance(operand, Value) and kind in _INTEGERS and kind not in _WIDE:
                self.refuse(
                    "arithmetic on integers of 8 or 16 bits or without a sign wraps around",
                    "cast them to float or int32 before",
                )

    def known(self, index: int, what: str) -> Constant:
        """Operand ``index``, which must be a constant that was not computed from weights.

        Raises:
            Unsupported: it is not; ``what`` says what it is for.
        """
        found = self.operand(index)
        if isinstance(found, Value):
            self.refuse(
                f"{what} is computed from an input, but programs have static shapes and positions",
                "export the model with static shapes, or simplify it (onnxsim)",
            )
        if found.derived and not found.restated:
            self.refuse(f"{what} is computed from weights, and would be public")
        return found

    def integers(self, index: int, what: str) -> tuple[int, ...]:
        """Operand ``index`` as a list of integers that becomes a public attribute.

        Raises:
            Unsupported: it is not a constant, or was computed from weights.
        """
        found = self.known(index, what)
        if found.array.dtype.kind not in "iu":
            self.refuse(f"{what} is not of integers")
        return tuple(int(v) for v in found.array.reshape(-1))

    def parameter(self, index: int, what: str, default: float) -> float:
        """Operand ``index`` as a public number, noted as disclosed; ``default`` if absent.

        Raises:
            Unsupported: it is not a constant, or was computed from weights.
        """
        if self.optional(index) is None:
            return default
        numbers = self.parameters(index, what)
        if len(numbers) != 1:
            self.refuse(f"{what} is a list of {len(numbers)} numbers, not one")
        return numbers[0]

    def parameters(self, index: int, what: str) -> tuple[float, ...]:
        """Operand ``index`` as public numbers, noted as disclosed where they are floats.

        Raises:
            Unsupported: it is not a constant, or was computed from weights.
        """
        found = self.known(index, what)
        numbers = tuple(float(v) for v in found.array.reshape(-1))
        if found.is_float:
            for number in numbers:
                self.builder.disclose(Disclosed(self.op, self.label, what, number))
        return numbers

    def public_mask(self, mask: Constant) -> None:
        """Note a constant mask as disclosed: it shows in what the program moves.

        Positions are integers, which are public by kind; truth values could be a model's secret.
        """
        self.builder.disclose(disclosed_mask(self.op, self.label, mask.array))

    # --- attributes

    def _attribute(self, name: str, kind: type[_T], default: _T | None) -> _T:
        self._read.add(name)
        found = self._attributes.get(name, default)
        if not isinstance(found, kind):
            self.refuse(f"attribute {name} is missing or not of kind {kind.__name__}")
        return found

    def has(self, name: str) -> bool:
        """Whether the attribute is given."""
        self._read.add(name)
        return name in self._attributes

    def refuse_unread(self, ignored: str) -> None:
        """Refuse the node if it has attributes that nothing has read, apart from ``ignored``."""
        unread = sorted(self._attributes.keys() - self._read - set(ignored.split()))
        if unread:
            self.refuse(f"attribute {', '.join(unread)}", "leave it out when exporting the model")

    def integer(self, name: str, default: int | None = None) -> int:
        """An integer attribute."""
        return self._attribute(name, int, default)

    def number(self, name: str, default: float | None = None) -> float:
        """A float attribute."""
        return float(self._attribute(name, float, default))

    def text(self, name: str, default: str | None = None) -> str:
        """A string attribute."""
        encoded = None if default is None else default.encode()
        return self._attribute(name, bytes, encoded).decode("utf-8", "replace")

    def ints(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """A list of integers."""
        found = self._attribute(name, list, None if default is None else list(default))
        if not all(isinstance(v, int) for v in found):
            self.refuse(f"attribute {name} is not a list of integers")
        return tuple(found)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of floats."""
        return tuple(float(v) for v in self._attribute(name, list, None))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        return tuple(v.decode("utf-8", "replace") for v in self._attribute(name, list, None))

    def array(self, name: str) -> Array:
        """A tensor attribute."""
        proto = self._attribute(name, onnx.TensorProto, None)
        try:
            return np.asarray(onnx.numpy_helper.to_array(proto))
        except MemoryError:
            raise
        except Exception as error:
            self.refuse(f"attribute {name} is damaged: {error}")

    def body(
        self, name: str, scope: str, inputs: Sequence[Operand | None]
    ) -> tuple[Operand | None, ...]:
        """Import the subgraph of an attribute at this place; its outputs.

        Args:
            name: of the attribute.
            scope: tells this copy of the subgraph from the node's others.
            inputs: what its inputs are.
        """
        graph = self._attribute(name, onnx.GraphProto, None)
        if self._body is None:
            self.refuse("a subgraph")
        return self._body(self, name, scope, graph, inputs)

    def listed(self, name: str, index: int, since: int) -> tuple[int, ...] | None:
        """Integers that are attribute ``name`` before opset ``since``, and input ``index`` from it.

        None if they are not given.
        """
        if self.opset >= since:
            return None if self.optional(index) is None else self.integers(index, f"its {name}")
        return self.ints(name) if self.has(name) else None

    def axis(self, number: int, rank: int) -> int:
        """An axis, counted from the front."""
        if not -rank <= number < rank:
            self.refuse(f"axis {number} of data with {rank} axes")
        return number + rank if number < 0 else number

    def axes(self, numbers: Sequence[int], rank: int) -> tuple[int, ...]:
        """Axes, counted from the front, in the order given."""
        found = tuple(self.axis(n, rank) for n in numbers)
        if len(set(found)) != len(found):
            self.refuse(f"axes {list(numbers)} name one of the {rank} axes twice")
        return found

    # --- results

    def room(self, *shape: int) -> None:
        """Count an array of positions, or a constant, whose shape follows from other shapes.

        To be called before it is made.

        Raises:
            MpccError: ``E-limit-import``, as of :meth:`mpcc.frontend.importer.Room.array`.
        """
        self.builder.room.array(shape, self.label)

    def emit(self, definition: type[Operation], *operands: Operand, **attrs: AttrValue) -> Value:
        """Append an op with one result that comes from this node."""
        (result,) = self.emit_all(definition, *operands, **attrs)
        return result

    def emit_all(
        self, definition: type[Operation], *operands: Operand, **attrs: AttrValue
    ) -> tuple[Value, ...]:
        """Append an op that comes from this node; all its results."""
        return self.builder.append(definition, operands, attrs, self.label)

    def public(self, suffix: str, array: npt.ArrayLike) -> Constant:
        """Real numbers that follow from the architecture and from public parameters alone."""
        return self.builder.public(f"{self.output}.{suffix}", array)

    def reshape(self, operand: Operand, shape: Shape) -> Operand:
        """The operand in another shape; constants are reshaped by their owner."""
        if type_of(operand).shape == shape:
            return operand
        if isinstance(operand, Constant):
            suffix = "reshaped_" + "x".join(map(str, shape))
            return self.builder.derive(operand, suffix, lambda a: a.reshape(shape))
        return self.emit(tensor.Reshape, operand, shape=shape)

    def transpose(self, operand: Operand, perm: Sequence[int]) -> Operand:
        """The operand with other axes; constants are transposed by their owner."""
        if list(perm) == list(range(len(perm))):
            return operand
        if isinstance(operand, Constant):
            suffix = "transposed_" + "".join(map(str, perm))
            return self.builder.derive(operand, suffix, lambda a: np.asarray(a.transpose(perm)))
        return self.emit(tensor.Transpose, operand, perm=tuple(perm))

    def only_first_output(self, what: str) -> None:
        """Refuse the node if something uses another output than the first."""
        if any(self.used[1:]):
            self.refuse(f"its output {what} is used, only the first output is supported")

    def refuse(self, reason: str, fix: str = "") -> NoReturn:
        """Give the node up.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(reason, fix)
