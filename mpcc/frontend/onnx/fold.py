"""Nodes whose operands are all constants are computed when the model is imported, by its owner.

Whether a node is folded depends on the architecture alone. A result that depends on float constants
is marked as derived: it may be a weight, never a public attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx

from mpcc.frontend.importer import Array, Constant, Unsupported
from mpcc.ir.types import Shape, element_count

__all__ = ["FOLDABLE", "Evaluate", "check_constants", "evaluate", "fold"]

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

_MAX_ELEMENTS = 1 << 28
_INT64 = 2.0**63


# --- sizes ---------------------------------------------------------------------------------------


def _product(sizes: Sequence[int] | Array) -> int:
    total = 1
    for size in sizes:
        total *= max(int(size), 0)
    return total


def _range(arrays: Sequence[Array]) -> int:
    start, limit, delta = (float(a.reshape(-1)[0]) for a in arrays)
    return 0 if delta == 0 else max(int((limit - start) / delta) + 1, 0)


_SIZES: Mapping[str, Callable[[Sequence[Array]], int]] = {
    "ConstantOfShape": lambda a: _product(a[0]),
    "Expand": lambda a: _product(np.broadcast_shapes(a[0].shape, tuple(a[1].tolist()))),
    "OneHot": lambda a: a[0].size * _product(a[1].reshape(-1)),
    "Range": _range,
    "Tile": lambda a: a[0].size * _product(a[1]),
}
"""Operators whose result can be much larger than their operands: a bound of its elements.

Those that :mod:`mpcc.frontend.onnx.interpret` computes are checked there.
"""

_PRODUCTS = frozenset(
    ("Conv", "ConvTranspose", "Einsum", "Gather", "GatherElements", "GatherND", "Gemm", "MatMul")
)
"""Operators whose result has no more elements than the product of the operands'."""


def _bound(op: str, arrays: Sequence[Array]) -> int:
    """An upper bound of the result's number of elements."""
    if op in _SIZES:
        return _SIZES[op](arrays)
    if op == "MatMul" and min(a.ndim for a in arrays) > 1:
        a, b = arrays
        return _product(
            (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        )
    if op == "Gather":
        return arrays[1].size * (arrays[0].size // max(min(arrays[0].shape, default=1), 1))
    if op in _PRODUCTS:
        return _product([a.size for a in arrays])
    try:
        return _product(np.broadcast_shapes(*(a.shape for a in arrays)))
    except ValueError:
        return sum(a.size for a in arrays)


def _check_size(op: str, arrays: Sequence[Array | None]) -> None:
    try:
        bound = _bound(op, [a for a in arrays if a is not None])
    except Exception as error:
        raise Unsupported(f"its constant operands do not fit together: {error}") from error
    _check_count(bound)


def _check_count(elements: int) -> None:
    if elements > _MAX_ELEMENTS:
        raise Unsupported(f"a constant of more than {_MAX_ELEMENTS} elements")


def check_constants(shapes: Iterable[Shape]) -> None:
    """Refuse constants that are too large to be computed when the model is imported.

    Raises:
        Unsupported: one of them is.
    """
    for shape in shapes:
        _check_count(element_count(shape))


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
) -> tuple[Constant, ...]:
    """The results of a node of a FOLDABLE operator on constants.

    Args:
        proto: the node.
        opset: version of the default operator set.
        operands: one per input, None where absent.
        compute: as :func:`evaluate`.

    Raises:
        Unsupported: the node would be too large, its integers overflow, or it fails.
    """
    given = [c for c in operands if c is not None]
    arrays = [None if c is None else c.array for c in operands]
    _check_size(proto.op_type, arrays)
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
