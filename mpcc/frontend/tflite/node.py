"""What the import functions of TensorFlow Lite's operators are given: a node, and ONNX to write.

A model is translated to ONNX's operators and imported as such a model
(:mod:`mpcc.frontend.tflite.loader`), so that what follows is the same for both: which constants are
secret, folding, patterns, refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from mpcc.frontend.importer import Array, Unsupported
from mpcc.frontend.tflite.flat import Table
from mpcc.frontend.tflite.schema import Operator, Tensor

__all__ = ["ONNX_KINDS", "Field", "Handler", "Node", "Written", "fields"]

_P = onnx.TensorProto

ONNX_KINDS: Mapping[str, int] = {
    "float32": _P.FLOAT,
    "float16": _P.FLOAT,
    "float64": _P.FLOAT,
    "bool": _P.BOOL,
    **dict.fromkeys(
        ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"), _P.INT64
    ),
}
"""Types of elements inside the translated model: of whole numbers there is one, as of real ones."""


@dataclass
class Written:
    """The ONNX graph that is being written.

    Attributes:
        nodes: in order.
        constants: the model's own and such that follow from its architecture.
        public: names of the latter.
        reserved: names that the model has itself.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    public: list[str] = field(default_factory=list)
    reserved: frozenset[str] = frozenset()
    _made: int = 0

    def name(self, label: str) -> str:
        """A new name for what belongs to a node."""
        while True:
            self._made += 1
            name = f"{label}/{self._made}"
            if name not in self.reserved:
                return name

    def constant(self, name: str, array: Array) -> str:
        """Add a constant under its name."""
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name


@dataclass(frozen=True)
class Field:
    """An option of an operator: where it stands, of what kind it is, and its default.

    Attributes:
        slot: number of the field in the table of options.
        kind: as ``struct`` calls it: b for enumerations, ? for flags, i, f.
        default: value of what is not in a file.
    """

    slot: int
    kind: str
    default: float = 0


def fields(text: str) -> dict[str, Field]:
    """Options by name from ``name:kind`` or ``name:kind=default`` in the order of their slots.

    ``-`` stands for a slot that is not read.
    """
    found = {}
    for slot, word in enumerate(text.split()):
        if word != "-":
            name, _, rest = word.partition(":")
            kind, _, default = rest.partition("=")
            found[name] = Field(slot, kind, float(default or 0))
    return found


Handler: TypeAlias = "Callable[[Node], str | Sequence[str]]"
"""Writes an operator; names of its results."""


class Node:
    """One operator of the model.

    Args:
        written: takes what is written.
        operator: the operator.
        tensors: of its graph.
        label: name for messages and for what is written: that of its first result.
        operands: ONNX names of its inputs, "" of one that is left out.
        constant: values of constants by number of tensor; None of others.
        options: fields of its options, by name.
    """

    def __init__(
        self,
        written: Written,
        operator: Operator,
        tensors: Sequence[Tensor],
        label: str,
        operands: Sequence[str],
        constant: Callable[[int], Array | None],
        options: Mapping[str, Field],
    ) -> None:
        self.written = written
        self.op = operator.name
        self.label = label
        self.operands = operands
        self.outputs = len(operator.outputs)
        self._operator = operator
        self._tensors = tensors
        self._constant = constant
        self._options = options

    def refuse(self, reason: str, fix: str = "") -> NoReturn:
        """Give the node up.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(reason, fix)

    # --- operands

    @property
    def count(self) -> int:
        """How many inputs it has, with those that are left out at the end."""
        return len(self.operands)

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self.operands) and bool(self.operands[index])

    def operand(self, index: int) -> str:
        """The ONNX name of an input.

        Raises:
            Unsupported: it is left out.
        """
        if not self.has(index):
            self.refuse(f"operand {index} is missing")
        return self.operands[index]

    def tensor(self, index: int) -> Tensor:
        """What the file says of an input."""
        self.operand(index)
        return self._tensors[self._operator.inputs[index]]

    def result(self, index: int = 0) -> Tensor:
        """What the file says of a result."""
        if index >= self.outputs:
            self.refuse("it has no result")
        return self._tensors[self._operator.outputs[index]]

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of an input, -1 where it is open.

        Raises:
            Unsupported: not even the number of axes is known.
        """
        found = self.tensor(index).shape
        if found is None:
            self.refuse(f"the number of axes of its operand {index} is not known")
        return found

    def sized(self, index: int, axis: int) -> int:
        """Size of an axis of an input.

        Raises:
            Unsupported: it is open, or there is no such axis.
        """
        shape = self.shape(index)
        if not -len(shape) <= axis < len(shape) or shape[axis] < 1:
            self.refuse(f"the size of axis {axis} of its operand {index} is open or not there")
        return shape[axis]

    def known(self, index: int, what: str) -> Array:
        """The value of an input that must be a constant.

        Raises:
            Unsupported: it is computed.
        """
        self.operand(index)
        found = self._constant(self._operator.inputs[index])
        if found is None:
            self.refuse(f"{what} is computed, not a constant")
        return found

    def integers(self, index: int, what: str) -> tuple[int, ...]:
        """An input of constant whole numbers."""
        found = self.known(index, what)
        if found.dtype.kind not in "iu":
            self.refuse(f"{what} is not of whole numbers")
        return tuple(int(n) for n in found.reshape(-1).tolist())

    def integer(self, index: int, what: str) -> int:
        """An input of one constant whole number."""
        found = self.integers(index, what)
        if len(found) != 1:
            self.refuse(f"{what} is a list of {len(found)} numbers, not one")
        return found[0]

    def is_real(self, index: int) -> bool:
        """Whether an input holds real numbers."""
        return ONNX_KINDS.get(self.tensor(index).kind) == _P.FLOAT

    # --- options

    def _option(self, name: str) -> tuple[Field, Table | None]:
        return self._options[name], self._operator.options

    def option(self, name: str) -> int:
        """An option that is a whole number."""
        slot, table = self._option(name)
        default = int(slot.default)
        return default if table is None else table.integer(slot.slot, slot.kind, default)

    def flag(self, name: str) -> bool:
        """An option that is true or false."""
        return bool(self.option(name))

    def number(self, name: str) -> float:
        """An option that is a real number."""
        slot, table = self._option(name)
        return slot.default if table is None else table.real(slot.slot, slot.default)

    def listed(self, name: str) -> tuple[int, ...]:
        """An option that is a list of whole numbers."""
        slot, table = self._option(name)
        return () if table is None else table.integers(slot.slot)

    # --- what is written

    def name(self) -> str:
        """A new name."""
        return self.written.name(self.label)

    def emit(self, op: str, *operands: str, **attributes: Any) -> str:
        """Write a node with one result; its name."""
        (found,) = self.emit_all(op, operands, 1, **attributes)
        return found

    def emit_all(
        self, op: str, operands: Sequence[str], count: int, **attributes: Any
    ) -> tuple[str, ...]:
        """Write a node with several results; their names."""
        names = tuple(self.name() for _ in range(count))
        given = list(operands)
        while given and not given[-1]:
            given.pop()
        self.written.nodes.append(
            onnx.helper.make_node(op, given, names, name=self.label, **attributes)
        )
        return names

    def positions(self, numbers: npt.ArrayLike) -> str:
        """Whole numbers that follow from the architecture."""
        return self.written.constant(self.name(), np.asarray(numbers, np.int64))

    def constant(self, array: Array) -> str:
        """A constant of the model in another form."""
        return self.written.constant(self.name(), array)

    def public(self, number: npt.ArrayLike) -> str:
        """Real numbers that follow from the architecture."""
        name = self.written.constant(self.name(), np.asarray(number, np.float32))
        self.written.public.append(name)
        return name

    def transpose(self, operand: str, perm: Sequence[int]) -> str:
        """An operand with other axes."""
        return self.emit("Transpose", operand, perm=list(perm))

    def reshape(self, operand: str, shape: Sequence[int]) -> str:
        """An operand in another shape, of which one size may be -1."""
        return self.emit("Reshape", operand, self.positions(shape), allowzero=1)

    def cast(self, operand: str, kind: int) -> str:
        """An operand as elements of another ONNX type."""
        return self.emit("Cast", operand, to=kind)
