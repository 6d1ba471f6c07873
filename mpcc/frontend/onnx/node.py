"""One ONNX node as its import function sees it: typed operands and attributes, and ``emit``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias, TypeVar

import numpy as np
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
from mpcc.ir.core import Value
from mpcc.ir.define import AttrValue, Operation
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape

__all__ = ["Handler", "Node", "node_label"]

Handler: TypeAlias = Callable[["Node"], Operand]
_T = TypeVar("_T")


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
    """

    def __init__(
        self,
        builder: Builder,
        proto: onnx.NodeProto,
        opset: int,
        operands: Sequence[Operand | None],
        used: Sequence[bool],
    ) -> None:
        self.builder = builder
        self.op = str(proto.op_type)
        self.opset = opset
        self.label = node_label(proto)
        self.operands = operands
        self.used = used
        self.output = str(proto.output[0])
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
        """Operand ``index`` as a value; a constant becomes a weight."""
        return self.builder.value(self.operand(index))

    def shape(self, index: int) -> Shape:
        """Shape of operand ``index``."""
        return type_of(self.operand(index)).shape

    def integers(self, index: int, what: str) -> tuple[int, ...]:
        """Operand ``index`` as a list of integers that becomes a public attribute.

        Raises:
            Unsupported: it is not a constant, or was computed from weights.
        """
        found = self.operand(index)
        if isinstance(found, Value):
            self.refuse(
                f"{what} is computed from an input, but programs have static shapes",
                "export the model with static shapes, or simplify it (onnxsim)",
            )
        if found.derived or found.array.dtype.kind not in "iu":
            self.refuse(f"{what} is computed from weights, and would be public")
        return tuple(int(v) for v in found.array.reshape(-1))

    def parameter(self, index: int, what: str, default: float) -> float:
        """Operand ``index`` as a public number, noted as disclosed; ``default`` if absent.

        Raises:
            Unsupported: it is not a constant, or was computed from weights.
        """
        found = self.optional(index)
        if found is None:
            return default
        if isinstance(found, Value):
            self.refuse(f"{what} is computed from an input")
        if found.derived or found.array.size != 1:
            self.refuse(f"{what} is computed from weights, and would be public")
        number = float(found.array.reshape(-1)[0])
        self.builder.disclose(Disclosed(self.op, self.label, what, number))
        return number

    # --- attributes

    def _attribute(self, name: str, kind: type[_T], default: _T | None) -> _T:
        found = self._attributes.get(name, default)
        if not isinstance(found, kind):
            self.refuse(f"attribute {name} is missing or not of kind {kind.__name__}")
        return found

    def has(self, name: str) -> bool:
        """Whether the attribute is given."""
        return name in self._attributes

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

    def array(self, name: str) -> Array:
        """A tensor attribute."""
        proto = self._attribute(name, onnx.TensorProto, None)
        try:
            return np.asarray(onnx.numpy_helper.to_array(proto))
        except Exception as error:
            self.refuse(f"attribute {name} is damaged: {error}")

    # --- results

    def emit(self, definition: type[Operation], *operands: Operand, **attrs: AttrValue) -> Value:
        """Append an op that comes from this node."""
        return self.builder.append(definition, operands, attrs, self.label)

    def reshape(self, operand: Operand, shape: Shape) -> Operand:
        """The operand in another shape; constants are reshaped by their owner."""
        if type_of(operand).shape == shape:
            return operand
        if isinstance(operand, Constant):
            suffix = "reshaped_" + "x".join(map(str, shape))
            return self.builder.derive(operand, suffix, lambda a: a.reshape(shape))
        return self.emit(tensor.Reshape, operand, shape=shape)

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
