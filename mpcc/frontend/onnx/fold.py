"""Nodes whose operands are all constants are computed when the model is imported, by its owner.

Whether a node is folded depends on the architecture alone. A result that depends on float constants
is marked as derived: it may be a weight, never a public attribute.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from mpcc.frontend.importer import Constant, Unsupported

__all__ = ["FOLDABLE", "fold"]

_ELEMENTWISE = frozenset(
    ("Abs", "Add", "Cast", "Div", "Exp", "Log", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Sqrt")
    + ("Sub",)
)
_STRUCTURAL = frozenset(
    ("Concat", "Flatten", "Reshape", "Shape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
)
FOLDABLE = _ELEMENTWISE | _STRUCTURAL | {"Gather", "Gemm", "MatMul"}
"""Deterministic operators whose result is not much larger than their operands."""

_MAX_ELEMENTS = 1 << 28


def _bound(op: str, operands: Sequence[Constant]) -> int:
    """An upper bound of the result's number of elements."""
    arrays = [c.array for c in operands]
    if op in _ELEMENTWISE:
        return int(np.prod(np.broadcast_shapes(*(a.shape for a in arrays)), dtype=object))
    if op in _STRUCTURAL:
        return sum(a.size for a in arrays)
    return int(np.prod([a.size for a in arrays], dtype=object))


def fold(proto: onnx.NodeProto, opset: int, operands: Sequence[Constant | None]) -> Constant:
    """The only result of a node of a FOLDABLE operator on constants.

    Args:
        proto: the node.
        opset: version of the default operator set.
        operands: one per input, None where absent.

    Raises:
        Unsupported: the node has several results, would be too large, or fails.
    """
    # Slow to import, and most models have nothing to fold.
    from onnx.reference import ReferenceEvaluator

    given = [c for c in operands if c is not None]
    if len(proto.output) != 1:
        raise Unsupported("several outputs of constant operands")
    try:
        if _bound(proto.op_type, given) > _MAX_ELEMENTS:
            raise Unsupported(f"a constant of more than {_MAX_ELEMENTS} elements")
        evaluator = ReferenceEvaluator(proto, opsets={"": opset})
        feeds = {
            name: operand.array
            for name, operand in zip(proto.input, operands, strict=True)
            if operand is not None
        }
        with np.errstate(all="ignore"):
            (result,) = evaluator.run(None, feeds)
    except Unsupported:
        raise
    except Exception as error:
        raise Unsupported(f"its constant operands cannot be combined: {error}") from error
    if proto.op_type == "Shape":
        return Constant(np.asarray(result), str(proto.output[0]), "public")
    weights = [c for c in given if c.derived or c.is_float]
    owner = "public" if all(c.owner == "public" for c in weights) else "model"
    return Constant(np.asarray(result), str(proto.output[0]), owner, bool(weights))
