"""Nodes whose operands are all constants are computed when the model is imported, by its owner.

Whether a node is folded depends on the architecture alone. A result that depends on float constants
is marked as derived: it may be a weight, never a public attribute. Its shape is public, so that
nothing derived may decide it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import onnx

from mpcc.frontend.importer import Array, Constant, Disclosed, Unsupported
from mpcc.frontend.onnx.node import node_label
from mpcc.frontend.onnx.sizes import check_shape, check_size

__all__ = ["FOLDABLE", "Evaluate", "evaluate", "fold"]

Evaluate: TypeAlias = Callable[[onnx.NodeProto, int, Sequence[Array | None]], tuple[Array, ...]]

_WORDS = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift
BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu CenterCropPad Clip
Compress Concat ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Det
Div Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm
GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HammingWindow HannWindow
HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization
LeakyRelu Less LessOrEqual Log LpNormalization LpPool MatMul Max MaxPool Mean
MelWeightMatrix Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear Range
Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence Round ScatterElements
ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softplus Softsign SpaceToDepth
Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze
Upsample Where Xor
"""

FOLDABLE = frozenset(_WORDS.split())
"""Deterministic operators without state, subgraphs or sequences."""

_SHAPES = frozenset(("Shape", "Size", "EyeLike"))
"""Their result follows from the operand's shape alone."""

_RESTATING = frozenset(("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
"""Of one number they give this number."""

_WRAPPING = frozenset(
    ("Abs", "Add", "CumSum", "MatMul", "Mul", "Neg", "Pow", "ReduceL1", "ReduceProd", "ReduceSum")
    + ("ReduceSumSquare", "Sub", "Sum")
)
"""Operators whose integer results may be beyond 64 bits."""

_INT64 = 2.0**63


# --- evaluation ----------------------------------------------------------------------------------


def evaluate(
    proto: onnx.NodeProto, opset: int, arrays: Sequence[Array | None]
) -> tuple[Array, ...]:
    """Results of a node, by ONNX's reference.

    Args:
        proto: the node.
        opset: version of the default operator set.
        arrays: one per input, None where absent.

    Raises:
        Unsupported: it fails.
    """
    # Slow to import, and many models have nothing to fold.
    from onnx.reference import ReferenceEvaluator

    kept = onnx.NodeProto()
    kept.CopyFrom(proto)
    for i, array in enumerate(arrays):
        if array is None:
            kept.input[i] = ""
    try:
        # An operand may be given twice, in different forms to different inputs.
        names = [f"operand{i}" if name else "" for i, name in enumerate(kept.input)]
        kept.input[:] = names
        evaluator = ReferenceEvaluator(kept, opsets={"": opset})
        feeds = {name: a for name, a in zip(names, arrays, strict=True) if a is not None}
        with np.errstate(all="ignore"):
            results = evaluator.run(None, feeds)
    except MemoryError:
        raise
    except Exception as error:
        text = str(error).strip().splitlines()
        raise Unsupported(
            f"its constant operands cannot be combined: {text[0] if text else error!r}"
        ) from error
    return tuple(np.asarray(r) for r in results)


def fold(
    proto: onnx.NodeProto,
    opset: int,
    operands: Sequence[Constant | None],
    compute: Evaluate = evaluate,
    disclose: Callable[[Disclosed], None] = lambda _: None,
) -> tuple[Constant, ...]:
    """The results of a node of a FOLDABLE operator on constants.

    Args:
        proto: the node.
        opset: version of the default operator set.
        operands: one per input, None where absent.
        compute: as :func:`evaluate`.
        disclose: takes constants that decide the shape of a result, which makes them public.

    Raises:
        Unsupported: the shape of a result depends on weights, the node would be too large, its
            integers overflow, or it fails.
    """
    given = [c for c in operands if c is not None]
    arrays = [None if c is None else c.array for c in operands]
    check_shape(proto, node_label(proto), operands, disclose)
    check_size(proto, arrays)
    _check_integers(proto, opset, arrays)
    results = compute(proto, opset, arrays)
    names = [str(name) for name in proto.output]
    if proto.op_type in _SHAPES:
        return tuple(Constant(a, n, "public") for a, n in zip(results, names, strict=True))
    weights = [c for c in given if c.derived or c.is_float]
    owner = "public" if all(c.owner == "public" for c in weights) else "model"
    restated = (
        proto.op_type in _RESTATING
        and all(c.restated or not c.derived for c in weights)
        and results[0].size == 1
        and given[0].array.size == 1
        and given[0].is_float == Constant(results[0], "").is_float
    )
    return tuple(
        Constant(a, n, owner, bool(weights), restated and bool(weights))
        for a, n in zip(results, names, strict=True)
    )


def _check_integers(proto: onnx.NodeProto, opset: int, arrays: Sequence[Array | None]) -> None:
    """Refuse integers that do not fit 64 bits: numpy would wrap them.

    Raises:
        Unsupported: a result, or a float that becomes an integer, is too large.
    """
    given = [a for a in arrays if a is not None]
    if proto.op_type == "Cast" and given[0].dtype.kind == "f":
        to = next((a.i for a in proto.attribute if a.name == "to"), 0)
        integers = to in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
        if integers and not (np.abs(given[0].astype(np.float64)) < _INT64).all():
            raise Unsupported("a number becomes an integer that 64 bits do not hold")
        return
    if proto.op_type not in _WRAPPING or not all(a.dtype.kind in "iu" for a in given):
        return
    # Axes of reductions stay integers.
    data = len(given) if proto.op_type in ("Add", "Mul", "Sub", "Sum", "Pow", "MatMul") else 1
    floats = [
        a.astype(np.float64) if a is not None and i < data else a for i, a in enumerate(arrays)
    ]
    for result in evaluate(proto, opset, floats):
        if result.size and not np.abs(result).max() < _INT64:
            raise Unsupported(
                "integers overflow 64 bits",
                "a shape or a size of the model is wrong: export it again",
            )
