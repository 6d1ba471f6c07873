"""A row of the table of ONNX operators: one node, its operands, and the opsets to try."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from tests.frontend.models import model, node

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL


@dataclass
class Row:
    """One node.

    Attributes:
        name: of the test.
        op: the operator.
        inputs: shapes of computed operands.
        constants: arrays of the others.
        opsets: to try; all that changed the operator.
        operands: names in order; inputs, then constants by default.
        disclosed: constants that the program discloses.
        before: nodes that make operands from the inputs.
        outputs: element types of the node's outputs; truth values are cast to float.
        reference: compare with ONNX's reference: onnxruntime does not have it.
        whole: inputs are whole numbers from 0 to 2.
        largest: inputs are cut off there, before results leave binary32.
    """

    name: str
    op: str
    inputs: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, object] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    opsets: tuple[int, ...] = (7, 13, 21)
    operands: tuple[str, ...] = ()
    disclosed: int = 0
    before: Sequence[onnx.NodeProto] = ()
    outputs: tuple[int, ...] = (FLOAT,)
    reference: bool = False
    whole: bool = False
    largest: float = np.inf

    @property
    def names(self) -> list[str]:
        """Names of the model's outputs."""
        return ["y", *(f"y{i}" for i in range(1, len(self.outputs)))]

    def build(self, opset: int) -> bytes:
        """The model."""
        operands = list(self.operands or (*self.inputs, *self.constants))
        inner = [f"{n}_bits" if t == BOOL else n for n, t in self.typed().items()]
        nodes = [
            *self.before,
            node(self.op, operands, inner, name=f"the {self.op}", **self.attrs),
            *(
                node("Cast", [f"{n}_bits"], [n], to=FLOAT)
                for n, t in self.typed().items()
                if t == BOOL
            ),
        ]
        types = {n: FLOAT if t == BOOL else t for n, t in self.typed().items()}
        constants = {k: np.asarray(v) for k, v in self.constants.items()}
        return model(
            nodes, self.inputs, self.names, constants, opset, types=types
        ).SerializeToString()

    def typed(self) -> dict[str, int]:
        """Element type by output."""
        return dict(zip(self.names, self.outputs, strict=True))


def weights(*shape: int) -> np.ndarray:
    """Arbitrary numbers."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    """A list of int64."""
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    """A list of binary32."""
    return np.array(values, np.float32)
