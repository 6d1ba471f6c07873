"""Every TensorFlow operator: imported and interpreted = TensorFlow, on random inputs."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from mpcc.frontend.importer import type_of
from mpcc.frontend.tensorflow.support import OPERATORS
from tests.frontend.tensorflow.checks import compared, concrete, random

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tensorflow")]


@dataclass(frozen=True)
class Row:
    """A function of TensorFlow, and what its graph must hold.

    Attributes:
        ops: operators that the row is there for.
        run: (tf, *arguments) -> result.
        shapes: of the arguments.
        positive: the arguments are kept away from zero and below.
    """

    ops: str
    run: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    positive: bool = False


def unary(op: str, call: Callable[..., Any], *, positive: bool = False) -> Row:
    return Row(op, call, ((2, 5),), positive)


def raw(op: str, *shapes: tuple[int, ...], positive: bool = False, **attrs: Any) -> Row:
    """An operator by its own name; constants are attributes too."""

    def run(tf, *operands):
        names = [k for k in attrs if k.startswith("arg")]
        given = {attrs[name]: x for name, x in zip(names, operands, strict=True)}
        rest = {k: v for k, v in attrs.items() if not k.startswith("arg")}
        return getattr(tf.raw_ops, op)(**given, **rest)

    return Row(op, run, shapes, positive)


def raw_x(op: str, *, positive: bool = False) -> Row:
    return raw(op, (2, 5), positive=positive, arg0="x")


def raw_xy(op: str) -> Row:
    return raw(op, (2, 5), (5,), arg0="x", arg1="y")


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def conv(padding: Any, *, stride: int = 1, dilation: int = 1, groups: int = 1) -> Row:
    def run(tf, x):
        return tf.nn.conv2d(x, numbers(3, 2, 4 // groups, 6), stride, padding, dilations=dilation)

    return Row("Conv2D", run, ((2, 7, 8, 4),))


def resized(method: str, size: tuple[int, int], **attrs: Any) -> Row:
    return raw(method, (1, 5, 6, 2), arg0="images", size=list(size), **attrs)


def pooled(op: str, padding: str, **attrs: Any) -> Row:
    name = "orig_input" if "3D" in op else "value" if op == "AvgPool" else "input"
    name = "input" if "3D" in op else name
    shape = (1, 4, 5, 6, 2) if "3D" in op else (2, 6, 7, 3)
    inner = [2, 3, 2] if "3D" in op else [3, 2]
    return raw(
        op,
        shape,
        arg0=name,
        ksize=[1, *inner, 1],
        strides=[1, *[2] * len(inner), 1],
        padding=padding,
        **attrs,
    )


def reduced(op: str, axes: Any, *, keep: bool = False) -> Row:
    return raw(op, (2, 3, 4), arg0="input", axis=axes, keep_dims=keep)


UNARY = [
    raw_x("Abs"),
    unary("Acosh", lambda tf, x: tf.acosh(1 + x), positive=True),
    raw_x("Asinh"),
    unary("Atan", lambda tf, x: tf.atan(x)),
    unary("Atanh", lambda tf, x: tf.atanh(x * 0.1)),
    raw_x("Ceil"),
    raw_x("Cos"),
    raw_x("Cosh"),
    unary("Elu", lambda tf, x: tf.nn.elu(x)),
    raw_x("Erf"),
    raw_x("Erfc"),
    raw_x("Exp"),
    raw_x("Expm1"),
    raw_x("Floor"),
    raw_x("Inv", positive=True),
    unary("LeakyRelu", lambda tf, x: tf.nn.leaky_relu(x, 0.3)),
    raw_x("Log", positive=True),
    raw_x("Log1p", positive=True),
    raw_x("Neg"),
    raw_x("Reciprocal", positive=True),
    unary("Relu", lambda tf, x: tf.nn.relu(x)),
    unary("Relu6", lambda tf, x: tf.nn.relu6(4 * x)),
    raw_x("Rint"),
    raw_x("Round"),
    raw_x("Rsqrt", positive=True),
    unary("Selu", lambda tf, x: tf.nn.selu(x)),
    raw_x("Sigmoid"),
    raw_x("Sign"),
    raw_x("Sin"),
    raw_x("Sinh"),
    unary("Softplus", lambda tf, x: tf.nn.softplus(x)),
    unary("Softsign", lambda tf, x: tf.nn.softsign(x)),
    raw_x("Sqrt", positive=True),
    raw_x("Square"),
    raw_x("Tan"),
    raw_x("Tanh"),
    unary("L2Loss", lambda tf, x: tf.nn.l2_loss(x)),
    unary(
        "Identity StopGradient CheckNumerics",
        lambda tf, x: tf.debugging.check_numerics(tf.stop_gradient(tf.identity(x)) + 1.0, "bad"),
    ),
    unary("EnsureShape", lambda tf, x: tf.ensure_shape(x, (2, 5)) + 1.0),
    unary("Snapshot", lambda tf, x: tf.raw_ops.Snapshot(input=x) + 1.0),
    unary("PreventGradient", lambda tf, x: tf.raw_ops.PreventGradient(input=x) + 1.0),
    unary(
        "PlaceholderWithDefault",
        lambda tf, x: tf.raw_ops.PlaceholderWithDefault(input=x, shape=(2, 5)) + 1.0,
    ),
    unary("IdentityN", lambda tf, x: tf.identity_n([x, x + 1.0])),
    unary(
        "OnesLike ZerosLike", lambda tf, x: x + tf.raw_ops.OnesLike(x=x) - tf.raw_ops.ZerosLike(x=x)
    ),
]

BINARY = [
    *map(raw_xy, ("Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum", "SquaredDifference")),
    Row("AddN", lambda tf, a, b: tf.add_n([a, b, a]), ((2, 3), (2, 3))),
    Row("RealDiv", lambda tf, a, b: a / b + a / 3.0, ((2, 5), (5,)), True),
    Row("Div", lambda tf, a: tf.raw_ops.Div(x=a, y=4.0), ((2, 5),)),
    Row(
        "DivNoNan",
        lambda tf, a, b: (
            tf.math.divide_no_nan(a, b) + tf.math.divide_no_nan(a, [1.0, 0.0, 2.0, 4.0, 5.0])
        ),
        ((2, 5), (5,)),
        True,
    ),
    Row("FloorDiv FloorMod", lambda tf, a: a // 0.3 + a % 0.7, ((2, 5),)),
    Row("Pow", lambda tf, a: a**3.0 + a**0.5 + a**-1.5, ((2, 5),), True),
    Row(
        "ClipByValue",
        lambda tf, a: tf.raw_ops.ClipByValue(t=a, clip_value_min=-0.5, clip_value_max=0.25),
        ((2, 5),),
    ),
    Row(
        "Equal NotEqual Less LessEqual Greater GreaterEqual Cast",
        lambda tf, a, b: [
            tf.cast(f(tf.round(a), tf.round(b)), tf.float32)
            for f in (tf.equal, tf.not_equal, tf.less, tf.less_equal, tf.greater, tf.greater_equal)
        ],
        ((4, 5), (5,)),
    ),
    Row(
        "LogicalAnd LogicalOr LogicalNot NotEqual Cast",
        lambda tf, a, b: [
            tf.cast(v, tf.float32)
            for v in (
                (a > 0) & (b > 0),
                (a > 0) | (b > 0),
                ~(a > 0),
                tf.not_equal(a > 0, b > 0),
                tf.equal(a > 0, b > 0),
            )
        ],
        ((4, 5), (5,)),
    ),
    Row("Cast", lambda tf, a: tf.cast(tf.cast(a * 3, tf.int32), tf.float32), ((4, 5),)),
    Row("SelectV2", lambda tf, a, b: tf.where(a > b, a, 2.0 * b), ((4, 5), (5,))),
    Row("SelectV2", lambda tf, a: tf.where([True, False, True], a, 2.0 * a), ((4, 3),)),
    Row(
        "Select",
        lambda tf, a, b: tf.raw_ops.Select(condition=a > 0, x=b, y=2.0 * b),
        ((4,), (4, 5)),
    ),
    Row("Select", lambda tf, a, b: tf.raw_ops.Select(condition=a > 0, x=a, y=b), ((4,), (4,))),
    Row(
        "All Any Cast",
        lambda tf, a: [
            tf.cast(f(a > 0, axis=1), tf.float32) for f in (tf.reduce_all, tf.reduce_any)
        ],
        ((6, 2),),
    ),
]

LAYERS = [
    conv("SAME"),
    conv("SAME", stride=2),
    conv("VALID", stride=3),
    conv("SAME", dilation=2),
    conv("SAME", groups=2),
    conv([[0, 0], [1, 2], [0, 3], [0, 0]]),
    Row(
        "Conv3D",
        lambda tf, x: tf.nn.conv3d(x, numbers(2, 3, 2, 3, 4), (1, 2, 1, 2, 1), "SAME"),
        ((1, 4, 5, 6, 3),),
    ),
    Row(
        "DepthwiseConv2dNative",
        lambda tf, x: tf.nn.depthwise_conv2d(x, numbers(3, 2, 4, 2), (1, 2, 2, 1), "SAME"),
        ((2, 7, 8, 4),),
    ),
    Row(
        "DepthwiseConv2dNative",
        lambda tf, x: tf.nn.depthwise_conv2d(
            x, numbers(3, 3, 4, 1), (1, 1, 1, 1), "VALID", dilations=(2, 2)
        ),
        ((2, 7, 8, 4),),
    ),
    *(
        Row(
            "Conv2DBackpropInput",
            functools.partial(
                lambda s, size, padding, tf, x: tf.nn.conv2d_transpose(
                    x, numbers(3, 4, 5, 2), (1, *size, 5), s, padding
                ),
                s,
                size,
                padding,
            ),
            ((1, 4, 3, 2),),
        )
        for s, size, padding in (
            (2, (8, 6), "SAME"),
            (2, (7, 5), "SAME"),
            (2, (9, 8), "VALID"),
            (2, (10, 9), "VALID"),
            (1, (4, 3), "SAME"),
            (3, (12, 9), "SAME"),
        )
    ),
    Row(
        "Conv3DBackpropInputV2",
        lambda tf, x: tf.nn.conv3d_transpose(x, numbers(2, 3, 2, 4, 2), (1, 6, 4, 4, 4), 2, "SAME"),
        ((1, 3, 2, 2, 2),),
    ),
    Row("BiasAdd", lambda tf, x: tf.nn.bias_add(x, numbers(3)), ((2, 4, 3),)),
    Row(
        "BiasAdd", lambda tf, x: tf.nn.bias_add(x, numbers(3), data_format="NCHW"), ((2, 3, 4, 5),)
    ),
    *(
        pooled(op, p)
        for op in ("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D")
        for p in ("SAME", "VALID")
    ),
    Row(
        "MaxPoolV2",
        lambda tf, x: tf.raw_ops.MaxPoolV2(
            input=x, ksize=[1, 2, 2, 1], strides=[1, 2, 1, 1], padding="VALID"
        ),
        ((1, 4, 5, 2),),
    ),
    Row(
        "FusedBatchNormV3",
        lambda tf, x: (
            tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=numbers(3),
                offset=numbers(3) + 1,
                mean=numbers(3) - 1,
                variance=abs(numbers(3)) + 0.5,
                epsilon=1e-3,
                is_training=False,
            ).y
        ),
        ((2, 4, 5, 3),),
    ),
    Row(
        "FusedBatchNormV2",
        lambda tf, x: (
            tf.raw_ops.FusedBatchNormV2(
                x=x,
                scale=numbers(3),
                offset=numbers(3) + 1,
                mean=numbers(3) - 1,
                variance=abs(numbers(3)) + 0.5,
                is_training=False,
            ).y
        ),
        ((2, 4, 5, 3),),
    ),
    Row(
        "FusedBatchNorm",
        lambda tf, x: (
            tf.raw_ops.FusedBatchNorm(
                x=x,
                scale=numbers(3),
                offset=numbers(3) + 1,
                mean=numbers(3) - 1,
                variance=abs(numbers(3)) + 0.5,
                is_training=False,
            ).y
        ),
        ((2, 4, 5, 3),),
    ),
    Row(
        "FusedBatchNormV3",
        lambda tf, x: (
            tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=numbers(3),
                offset=numbers(3) + 1,
                mean=[],
                variance=[],
                epsilon=1e-3,
                is_training=True,
            ).y
        ),
        ((2, 4, 5, 3),),
    ),
    Row("LRN", lambda tf, x: tf.nn.lrn(x, 2, 1.5, 0.3, 0.5), ((1, 3, 2, 7),)),
    resized("ResizeNearestNeighbor", (10, 3)),
    resized("ResizeNearestNeighbor", (10, 4), align_corners=True),
    resized("ResizeNearestNeighbor", (7, 9), half_pixel_centers=True),
    resized("ResizeBilinear", (10, 3)),
    resized("ResizeBilinear", (10, 4), align_corners=True),
    resized("ResizeBilinear", (7, 9), half_pixel_centers=True),
    resized("ResizeBicubic", (10, 3)),
    # TensorFlow takes weights from a table of 1024 distances; these are in it.
    resized("ResizeBicubic", (10, 12), half_pixel_centers=True),
    Row(
        "MatMul",
        lambda tf, a, b: tf.matmul(a, b, transpose_a=True, transpose_b=True),
        ((3, 2), (4, 3)),
    ),
    Row("BatchMatMulV2", lambda tf, a, b: tf.matmul(a, b, adjoint_b=True), ((5, 2, 3), (1, 4, 3))),
    Row("BatchMatMul", lambda tf, a, b: tf.raw_ops.BatchMatMul(x=a, y=b), ((5, 2, 3), (5, 3, 2))),
    Row(
        "BatchMatMulV3",
        lambda tf, a, b: tf.raw_ops.BatchMatMulV3(x=a, y=b, Tout=tf.float32),
        ((5, 2, 3), (5, 3, 2)),
    ),
    Row("Einsum", lambda tf, a: tf.einsum("abc,cde->abde", a, numbers(4, 2, 3)), ((2, 3, 4),)),
    Row(
        "Einsum", lambda tf, a, b: tf.einsum("aecd,abcd->acbe", a, b), ((1, 3, 2, 4), (1, 5, 2, 4))
    ),
    Row("Softmax", lambda tf, a: tf.nn.softmax(a), ((2, 5),)),
    Row("LogSoftmax", lambda tf, a: tf.nn.log_softmax(a), ((2, 5),)),
]

STRUCTURE = [
    Row(
        "Shape StridedSlice Pack Reshape",
        lambda tf, x: tf.reshape(x, [tf.raw_ops.Shape(input=x)[0], -1]),
        ((2, 3, 4),),
    ),
    Row(
        "ShapeN Reshape",
        lambda tf, x: tf.reshape(x, tf.raw_ops.ShapeN(input=[tf.zeros((4, 6)), x + 0.0])[0]),
        ((2, 3, 4),),
    ),
    Row(
        "Size Rank Reshape",
        lambda tf, x: (
            tf.reshape(x, [tf.raw_ops.Size(input=x)])
            * tf.cast(tf.raw_ops.Rank(input=x), tf.float32)
        ),
        ((2, 3, 4),),
    ),
    Row(
        "Squeeze ExpandDims",
        lambda tf, x: tf.squeeze(x) - tf.squeeze(tf.expand_dims(x, 1), [1, 2]),
        ((3, 1, 4),),
    ),
    Row("Transpose", lambda tf, x: tf.transpose(x, [2, 0, 1]), ((2, 3, 4),)),
    Row("ConcatV2", lambda tf, a, b: tf.concat([a, b, numbers(2, 1)], -1), ((2, 3), (2, 2))),
    Row(
        "Pack Unpack",
        lambda tf, a, b: tf.stack([a, b, *tf.unstack(tf.stack([a, b], 1), axis=1)], 2),
        ((2, 3), (2, 3)),
    ),
    Row("Split", lambda tf, x: tf.split(x, 3, axis=1), ((2, 6),)),
    Row("SplitV", lambda tf, x: tf.split(x, [1, -1, 2], axis=-1), ((2, 6),)),
    Row("Slice", lambda tf, x: tf.slice(x, [1, 0, 2], [1, -1, 2]), ((2, 3, 5),)),
    Row("StridedSlice", lambda tf, x: x[1, ..., tf.newaxis, ::-2], ((2, 3, 4, 5),)),
    Row("StridedSlice", lambda tf, x: x[:, -1, 1:3], ((2, 3, 4),)),
    Row("StridedSlice", lambda tf, x: x[..., 0], ((2, 3, 4),)),
    Row("Pad", lambda tf, x: tf.pad(x, [[0, 0], [1, 2]]), ((2, 3),)),
    Row("PadV2", lambda tf, x: tf.pad(x, [[1, 0], [1, 2]], constant_values=-1.5), ((2, 3),)),
    Row("MirrorPad", lambda tf, x: tf.pad(x, [[0, 1], [2, 1]], "REFLECT"), ((2, 4),)),
    Row("MirrorPad", lambda tf, x: tf.pad(x, [[2, 1], [0, 3]], "SYMMETRIC"), ((2, 4),)),
    Row("Tile", lambda tf, x: tf.tile(x, [2, 1, 3]), ((2, 3, 4),)),
    Row("BroadcastTo", lambda tf, x: tf.broadcast_to(x, [4, 2, 3]), ((2, 1),)),
    Row("Fill", lambda tf, x: tf.fill([2, 3], x[0]), ((3,),)),
    Row("Fill", lambda tf, x: x + tf.fill(tf.shape(x), 0.5), ((3,),)),
    Row("ReverseV2", lambda tf, x: tf.reverse(x, [0, -1]), ((2, 3, 4),)),
    Row("DepthToSpace", lambda tf, x: tf.nn.depth_to_space(x, 2), ((1, 2, 3, 8),)),
    Row("SpaceToDepth", lambda tf, x: tf.nn.space_to_depth(x, 2), ((1, 4, 6, 2),)),
    Row(
        "SpaceToBatchND",
        lambda tf, x: tf.space_to_batch_nd(x, [2, 3], [[1, 0], [0, 2]]),
        ((2, 3, 4, 2),),
    ),
    Row(
        "BatchToSpaceND",
        lambda tf, x: tf.batch_to_space(x, [2, 3], [[1, 0], [0, 2]]),
        ((12, 2, 2, 2),),
    ),
    Row(
        "MatrixBandPart",
        lambda tf, x: tf.linalg.band_part(x, 1, 0) + tf.linalg.band_part(x, -1, 2),
        ((2, 4, 5),),
    ),
    Row("GatherV2", lambda tf, x: tf.gather(x, [[2, 0], [1, 1]], axis=1), ((2, 3, 4),)),
    Row(
        "GatherV2", lambda tf, x: tf.gather(x, [[2, 0], [1, 1]], axis=1, batch_dims=1), ((2, 3, 4),)
    ),
    Row("GatherNd", lambda tf, x: tf.gather_nd(x, [[1, 2], [0, 0]]), ((2, 3, 4),)),
    Row("ScatterNd", lambda tf, x: tf.scatter_nd([[1], [3], [1]], x, [5, 2]), ((3, 2),)),
    *(
        Row(
            f"TensorScatter{name.title()}",
            functools.partial(
                lambda name, tf, a, b: getattr(tf, f"tensor_scatter_nd_{name}")(a, [[1], [3]], b),
                name,
            ),
            ((5, 2), (2, 2)),
        )
        for name in ("update", "add", "max", "min")
    ),
    Row("TopKV2", lambda tf, x: tf.math.top_k(x, 2).values, ((3, 5),)),
    Row("ArgMax", lambda tf, x: tf.argmax(x, 1), ((3, 5),)),
    Row("ArgMin", lambda tf, x: tf.argmin(x, 0), ((3, 5),)),
    Row(
        "Cumsum",
        lambda tf, x: [tf.cumsum(x, 1), tf.cumsum(x, 0, exclusive=True, reverse=True)],
        ((3, 5),),
    ),
    *(reduced(op, [0, 2]) for op in ("Sum", "Mean", "Max", "Min", "Prod", "EuclideanNorm")),
    reduced("Mean", [1], keep=True),
    reduced("Sum", np.zeros(0, np.int32)),
]

ROWS = [*UNARY, *BINARY, *LAYERS, *STRUCTURE]


def ids() -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for row in ROWS:
        seen[row.ops] = seen.get(row.ops, -1) + 1
        found.append(f"{row.ops} {seen[row.ops]}" if seen[row.ops] else row.ops)
    return found


@pytest.mark.parametrize("row", ROWS, ids=ids())
def test_equals_tensorflow(tf, row):
    function = concrete(tf, functools.partial(row.run, tf), *row.shapes)
    there = {n.op for n in function.graph.as_graph_def().node}
    assert set(row.ops.split()) <= there
    inputs = random(*row.shapes)
    if row.positive:
        inputs = {k: np.abs(v) + np.float32(0.25) for k, v in inputs.items()}
    compared(tf, function, inputs, atol=1e-5)


WHOLE = [
    (
        "GatherV2",
        lambda tf, a: tf.gather(numbers(7, 3), a),
        {"a": np.array([[0, 6, 3]], np.int32)},
    ),
    ("OneHot", lambda tf, a: tf.one_hot(a, 5), {"a": np.array([4, 0, 2], np.int32)}),
    (
        "OneHot",
        lambda tf, a: tf.one_hot(a, 4, on_value=2.0, off_value=-1.0, axis=0),
        {"a": np.array([3, 0], np.int32)},
    ),
]


@pytest.mark.parametrize(("op", "run", "inputs"), WHOLE)
def test_of_whole_numbers(tf, op, run, inputs):
    specs = [((*v.shape,), str(v.dtype)) for v in inputs.values()]
    function = concrete(tf, functools.partial(run, tf), *specs)
    assert op in {n.op for n in function.graph.as_graph_def().node}
    compared(tf, function, inputs)


def test_the_table_has_every_operator():
    """Those of functions, loops and lists have tests of their own."""
    tested = {op for row in ROWS for op in row.ops.split()} | {op for op, _, _ in WHOLE}
    from mpcc.frontend.tensorflow.control import OPERATORS as CONTROL

    assert OPERATORS.keys() - CONTROL.keys() - {"Const", "ResourceGather"} == tested - {"Const"}


def test_constants_are_computed_by_tensorflow(tf):
    """An operator that no program has is fine where its operands are known."""

    def run(x):
        turned = tf.linalg.inv(tf.constant([[2.0, 1.0], [0.0, 4.0]]))
        return tf.matmul(x, turned)

    imported = compared(tf, concrete(tf, run, (3, 2)), random((3, 2)))
    (weight,) = imported.constants.values()
    np.testing.assert_allclose(weight, [[0.5, -0.125], [0.0, 0.25]])
    (op,) = imported.module.main.walk("tensor.weight")
    assert op.attrs["owner"] == "model"
    assert type_of(op.result).shape == (2, 2)
    assert math.prod(weight.shape) == 4
