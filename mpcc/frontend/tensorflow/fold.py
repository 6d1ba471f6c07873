"""Nodes whose operands are all constants are computed by TensorFlow, at their owner.

Whether a node is folded depends on the architecture alone. A result that depends on float constants
is marked as derived: it may be a weight, never a public attribute. Its shape is public, so that
nothing derived may decide it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mpcc.frontend.importer import Array, Builder, Constant, Disclosed, Unsupported
from mpcc.frontend.onnx.sizes import MAX_FOLDED, check_shapes, disclosed_mask
from mpcc.frontend.tensorflow.runtime import quiet

__all__ = ["fold", "is_foldable", "outputs"]

_REDUCTIONS = ("All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum")

_SHAPING: Mapping[str, tuple[int, ...]] = {
    "ArgMax": (1,),
    "ArgMin": (1,),
    "BatchToSpaceND": (1, 2),
    "BroadcastTo": (1,),
    "ConcatV2": (-1,),
    "Conv2DBackpropInput": (0,),
    "Conv3DBackpropInputV2": (0,),
    "ExpandDims": (1,),
    "Fill": (0,),
    "GatherV2": (2,),
    "LinSpace": (2,),
    "MatrixBandPart": (1, 2),
    "MirrorPad": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "PadV2": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "ResizeBicubic": (1,),
    "ResizeBilinear": (1,),
    "ResizeNearestNeighbor": (1,),
    "ReverseV2": (1,),
    "Slice": (1, 2),
    "SpaceToBatchND": (1, 2),
    "Split": (0,),
    "SplitV": (1, 2),
    "StridedSlice": (1, 2, 3),
    "Tile": (1,),
    "TopKV2": (1,),
    "Transpose": (1,),
    "Unique": (0,),
    "Where": (0,),
    **dict.fromkeys(_REDUCTIONS, (1,)),
}
"""Operands whose values decide the shape of a result, by operator; of all others only their shapes
do."""

_GROWING = frozenset(
    [
        "BroadcastTo",
        "Conv2DBackpropInput",
        "Conv3DBackpropInputV2",
        "Fill",
        "LinSpace",
        "MatrixBandPart",
        "MirrorPad",
        "OneHot",
        "Pad",
        "PadV2",
        "Range",
        "ResizeBicubic",
        "ResizeBilinear",
        "ResizeNearestNeighbor",
        "ScatterNd",
        "SpaceToBatchND",
        "Tile",
    ]
)
"""Operators whose results may have more elements than all pairs of elements of their operands."""

_PARAMETERS: Mapping[str, Mapping[int, str]] = {
    "Fill": {1: "value"},
    "Range": {0: "start", 1: "limit", 2: "delta"},
}
"""Floats that parametrise an operator, and so are public: what each is called where it is
disclosed."""

_SHAPES = frozenset(("OnesLike", "Rank", "Shape", "ShapeN", "Size", "ZerosLike"))
"""Their result follows from the operand's shape alone."""

_RESTATING = frozenset(
    ("Cast", "EnsureShape", "ExpandDims", "Identity", "Reshape", "Snapshot", "Squeeze")
)
"""Of one number they give this number."""


def _definition(op: str) -> Any:
    """TensorFlow's OpDef of an operator; None if it has none of this name."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(op)


def is_foldable(proto: Any) -> bool:
    """Whether a node has a result that depends on nothing but its operands."""
    found = _definition(proto.op)
    if found is None or found.is_stateful or not proto.input:
        return False
    return not any(a.type in ("func", "list(func)") for a in found.attr)


def fold(
    tf: Any, builder: Builder, proto: Any, label: str, operands: Sequence[Constant]
) -> tuple[Constant, ...]:
    """The results of a foldable node on constants.

    Args:
        tf: the module.
        builder: takes what is disclosed, and counts what is made.
        proto: the node.
        label: its name.
        operands: one per input.

    Raises:
        Unsupported: the shape of a result depends on weights, the node would be too large, or it
            fails.
        MpccError: ``E-limit-import``.
    """
    op = str(proto.op)
    public = _check_shape(builder, op, label, operands)
    arrays = [c.array for c in operands]
    if op in _GROWING or math.prod(max(a.size, 1) for a in arrays) > MAX_FOLDED:
        check_shapes(_shapes(tf, proto, arrays), arrays)
    found = _computed(tf, proto, arrays)
    results = [np.asarray(t.numpy()) for t in found]
    builder.room.op(label)
    for made in results:
        builder.room.elements(made.size, label)
    weights = [c for i, c in enumerate(operands) if (c.derived or c.is_float) and i not in public]
    if op in _SHAPES:
        weights = []
    owner = "public" if all(c.owner == "public" for c in weights) else "model"
    restated = (
        op in _RESTATING
        and bool(weights)
        and all(c.restated or not c.derived for c in weights)
        and results[0].size == 1
        and arrays[0].size == 1
        and operands[0].is_float == Constant(results[0], "").is_float
    )
    names = [label if i == 0 else f"{label}:{i}" for i in range(len(results))]
    return tuple(
        Constant(a, n, owner, bool(weights), restated) for a, n in zip(results, names, strict=True)
    )


def _check_shape(
    builder: Builder, op: str, label: str, operands: Sequence[Constant]
) -> frozenset[int]:
    """Refuse a node whose result has a shape that depends on weights.

    Numbers that are parameters of the operator, and masks, are disclosed instead.

    Returns:
        Operands that were disclosed: what is made of them alone is public.
    """
    parameters = _PARAMETERS.get(op, {})
    count = len(operands)
    for index in _SHAPING.get(op, ()):
        at = index % count if count else 0
        if index >= count or at in parameters:
            continue
        found = operands[at]
        if found.array.size == 0:
            continue
        if found.derived or found.is_float:
            raise Unsupported(
                "the shape of its result is computed from weights, and would be public",
                "replace what it computes by a constant before the model is saved",
            )
        if found.array.dtype.kind == "b":
            builder.disclose(disclosed_mask(op, label, found.array))
    public = set()
    for index, what in parameters.items():
        found = operands[index]
        shaping = index in _SHAPING.get(op, ())
        if found.derived and not found.restated:
            if shaping:
                raise Unsupported(
                    "the shape of its result is computed from weights, and would be public",
                    "replace what it computes by a constant before the model is saved",
                )
            continue
        if found.is_float:
            for number in found.array.reshape(-1):
                builder.disclose(Disclosed(op, label, what, float(number)))
            public.add(index)
    return frozenset(public)


def outputs(proto: Any) -> list[int]:
    """TensorFlow's DataType of every output of a node; empty if the operator is not known."""
    known = _definition(proto.op)
    types: list[int] = []
    for arg in known.output_arg if known is not None else ():
        if arg.type_list_attr:
            types.extend(int(t) for t in proto.attr[arg.type_list_attr].list.type)
            continue
        count = int(proto.attr[arg.number_attr].i) if arg.number_attr else 1
        types.extend([int(arg.type or proto.attr[arg.type_attr].type)] * count)
    return types


def _computed(tf: Any, proto: Any, arrays: Sequence[Array]) -> list[Any]:
    """Results of a node, by TensorFlow's own kernel."""
    from tensorflow.python.eager import context, execute

    attributes: list[Any] = []
    for attr in _definition(proto.op).attr:
        if attr.name in proto.attr:
            attributes += [attr.name, _attribute(tf, attr.type, proto.attr[attr.name])]
    try:
        with quiet(), tf.device("cpu"), np.errstate(all="ignore"):
            tensors = [tf.constant(a) for a in arrays]
            count = len(outputs(proto))
            found = execute.execute(
                str(proto.op).encode(), count, tensors, tuple(attributes), context.context()
            )
    except Exception as error:
        raise _failed(error) from error
    return list(found)


def _failed(error: Exception) -> Unsupported:
    text = str(error).strip().splitlines()
    return Unsupported(
        f"its constant operands cannot be combined: {text[0] if text else repr(error)}"
    )


def _attribute(tf: Any, kind: str, value: Any) -> Any:
    """An attribute as the eager runtime takes it."""

    def shape(proto: Any) -> Any:
        return tf.TensorShape(None if proto.unknown_rank else [d.size for d in proto.dim])

    single: Mapping[str, Callable[[Any], Any]] = {
        "int": lambda v: v.i,
        "float": lambda v: v.f,
        "bool": lambda v: v.b,
        "string": lambda v: v.s,
        "type": lambda v: v.type,
        "shape": lambda v: shape(v.shape),
    }
    listed: Mapping[str, Callable[[Any], Any]] = {
        "list(int)": lambda v: list(v.i),
        "list(float)": lambda v: list(v.f),
        "list(bool)": lambda v: list(v.b),
        "list(string)": lambda v: list(v.s),
        "list(type)": lambda v: list(v.type),
        "list(shape)": lambda v: [shape(s) for s in v.shape],
    }
    if kind in single:
        return single[kind](value)
    if kind in listed:
        return listed[kind](value.list)
    raise Unsupported(f"an attribute of kind {kind}")


def _shapes(tf: Any, proto: Any, arrays: Sequence[Array]) -> list[tuple[int, ...]]:
    """Shapes of the results, before anything is computed."""
    try:
        with quiet(), tf.Graph().as_default() as graph:
            tensors = [tf.constant(a) for a in arrays]
            types = [tf.as_dtype(t) for t in outputs(proto)]
            made = graph.create_op(str(proto.op), tensors, types, attrs=dict(proto.attr))
            shapes = [t.shape for t in made.outputs]
    except Exception as error:
        raise _failed(error) from error
    return [tuple(int(d) for d in s) for s in shapes if s.is_fully_defined()]
