"""Every TensorFlow Lite operator: converted by TensorFlow, imported = TensorFlow Lite's answer."""

from typing import Any

import numpy as np
import pytest

from mpcc.frontend.tflite.support import HANDLERS
from tests.frontend.tflite.checks import compared, converted, operators

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tensorflow")]

SPECS: dict[str, tuple[Any, ...]] = {
    "a": (2, 5, "float32"),
    "p": (2, 5, "float32"),
    "image": (1, 6, 8, 4, "float32"),
    "t": (2, 3, 4, "float32"),
    "ids": (3, "int32"),
}
"""Arguments of all rows: any numbers, positive ones, a picture, three axes, positions."""


def inputs():
    rng = np.random.default_rng(1)
    found = {
        n: rng.standard_normal(s[:-1]).astype(np.float32)
        for n, s in SPECS.items()
        if s[-1] == "float32"
    }
    found["p"] = np.abs(found["p"]) + np.float32(0.1)
    found["ids"] = np.array([2, 0, 3], np.int32)
    return found


def weights(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def real_part(tf, x):
    """Truth values as numbers: outputs are compared as such."""
    return tf.cast(x, tf.float32)


ELEMENTWISE = {
    "ABS": lambda tf, a, p: tf.abs(a),
    "ADD": lambda tf, a, p: a + p,
    "ADD_N": lambda tf, a, p: tf.raw_ops.AddN(inputs=[a, p, a * 2.0]),
    "CAST": lambda tf, a, p: tf.cast(tf.cast(4 * a, tf.int32), tf.float32),
    "CEIL": lambda tf, a, p: tf.math.ceil(a),
    "COS": lambda tf, a, p: tf.cos(a),
    "DIV": lambda tf, a, p: a / p,
    "ELU": lambda tf, a, p: tf.nn.elu(a),
    "EQUAL": lambda tf, a, p: real_part(tf, tf.equal(tf.nn.relu(a), 0.0)),
    "EXP": lambda tf, a, p: tf.exp(a),
    "FLOOR": lambda tf, a, p: tf.floor(a),
    "FLOOR_DIV": lambda tf, a, p: tf.math.floordiv(a, np.float32(0.3)),
    "FLOOR_MOD": lambda tf, a, p: tf.math.floormod(a, np.float32(0.3)),
    "GELU": lambda tf, a, p: tf.nn.gelu(a) + tf.nn.gelu(2 * a, approximate=True),
    "GREATER": lambda tf, a, p: real_part(tf, a > p),
    "GREATER_EQUAL": lambda tf, a, p: real_part(tf, a >= p),
    "HARD_SWISH": lambda tf, a, p: a * tf.nn.relu6(a + 3) * np.float32(1 / 6),
    "LEAKY_RELU": lambda tf, a, p: tf.nn.leaky_relu(a, 0.3),
    "LESS": lambda tf, a, p: real_part(tf, a < p),
    "LESS_EQUAL": lambda tf, a, p: real_part(tf, a <= p),
    "LOG": lambda tf, a, p: tf.math.log(p),
    "LOGICAL_AND": lambda tf, a, p: real_part(tf, tf.logical_and(a > 0, p > 0.5)),
    "LOGICAL_NOT": lambda tf, a, p: real_part(tf, tf.logical_not(tf.logical_and(a > 0, p > 0.5))),
    "LOGICAL_OR": lambda tf, a, p: real_part(tf, tf.logical_or(a > 0, p > 0.5)),
    "LOGISTIC": lambda tf, a, p: tf.sigmoid(a),
    "LOG_SOFTMAX": lambda tf, a, p: tf.nn.log_softmax(a),
    "MAXIMUM": lambda tf, a, p: tf.maximum(a, 0.25 * p),
    "MINIMUM": lambda tf, a, p: tf.minimum(a, 0.25 * p),
    "MUL": lambda tf, a, p: tf.nn.relu(a * p),
    "NEG": lambda tf, a, p: -a,
    "NOT_EQUAL": lambda tf, a, p: real_part(tf, tf.not_equal(tf.nn.relu(a), 0.0)),
    "POW": lambda tf, a, p: tf.pow(p, 1.5),
    "REDUCE_ALL": lambda tf, a, p: real_part(tf, tf.reduce_all(a > -1, axis=0)),
    "REDUCE_ANY": lambda tf, a, p: real_part(tf, tf.reduce_any(a > 1, axis=0, keepdims=True)),
    "RELU": lambda tf, a, p: tf.nn.relu(a),
    "RELU6": lambda tf, a, p: tf.nn.relu6(tf.exp(2 * p)),
    "RELU_N1_TO_1": lambda tf, a, p: tf.minimum(tf.maximum(2 * a, -1.0), 1.0),
    "ROUND": lambda tf, a, p: tf.round(4 * a),
    "RSQRT": lambda tf, a, p: tf.math.rsqrt(p),
    "SELECT_V2": lambda tf, a, p: tf.where(a > 0, a, p[:1]),
    "SIGN": lambda tf, a, p: tf.sign(a),
    "SIN": lambda tf, a, p: tf.sin(a),
    "SOFTMAX": lambda tf, a, p: tf.nn.softmax(3 * a),
    "SQRT": lambda tf, a, p: tf.sqrt(p),
    "SQUARE": lambda tf, a, p: tf.square(a),
    "SQUARED_DIFFERENCE": lambda tf, a, p: tf.math.squared_difference(a, p),
    "SUB": lambda tf, a, p: tf.nn.tanh(a - p),
    "TANH": lambda tf, a, p: tf.tanh(a),
}


def conv(tf, x, padding, dilation=1, groups=1, stride=1):
    kernel = weights(3, 2, 4 // groups, 6)
    return tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, padding, dilations=dilation), weights(6))


LAYERS = {
    "AVERAGE_POOL_2D": lambda tf, x: tf.nn.avg_pool2d(x, (3, 2), 2, "SAME"),
    "BATCH_MATMUL": lambda tf, x: tf.matmul(x[..., 0], x[..., 1], transpose_b=True),
    "CONV_2D": lambda tf, x: tf.nn.relu6(conv(tf, x, "SAME", stride=2)),
    "CONV_2D dilated": lambda tf, x: conv(tf, x, "VALID", dilation=2),
    "CONV_2D in groups": lambda tf, x: conv(tf, x, "VALID", groups=2),
    "CONV_3D": lambda tf, x: tf.nn.conv3d(
        x[:, :, :, None], weights(2, 2, 1, 4, 3), [1, 2, 1, 1, 1], "SAME"
    ),
    "DEPTHWISE_CONV_2D": lambda tf, x: tf.nn.depthwise_conv2d(
        x, weights(3, 3, 4, 2), [1, 2, 2, 1], "SAME"
    ),
    "FULLY_CONNECTED": lambda tf, x: tf.nn.relu(
        tf.matmul(tf.reshape(x, (2, -1)), weights(96, 3)) + weights(3)
    ),
    "L2_NORMALIZATION": lambda tf, x: tf.math.l2_normalize(x, axis=-1),
    "LOCAL_RESPONSE_NORMALIZATION": lambda tf, x: tf.nn.lrn(x, 1, 1.5, 0.4, 0.5),
    "MAX_POOL_2D": lambda tf, x: tf.nn.max_pool2d(x, 2, 2, "VALID"),
    "RESIZE_BILINEAR": lambda tf, x: tf.image.resize(x, (9, 5)),
    "RESIZE_BILINEAR corners": lambda tf, x: tf.compat.v1.image.resize_bilinear(
        x, (9, 5), align_corners=True
    ),
    "RESIZE_NEAREST_NEIGHBOR": lambda tf, x: tf.image.resize(x, (9, 5), "nearest"),
    "TRANSPOSE_CONV": lambda tf, x: tf.nn.conv2d_transpose(
        x, weights(3, 3, 2, 4), (1, 12, 16, 2), 2, "SAME"
    ),
    "TRANSPOSE_CONV valid": lambda tf, x: tf.nn.conv2d_transpose(
        x, weights(3, 2, 2, 4), (1, 14, 16, 2), 2, "VALID"
    ),
}

STRUCTURE = {
    "BROADCAST_TO": lambda tf, t, ids: tf.broadcast_to(t[:, :1], (2, 5, 4)) * 2.0,
    "CONCATENATION": lambda tf, t, ids: tf.concat([t, 2 * t], 1),
    "CUMSUM": lambda tf, t, ids: tf.cumsum(t, 1, exclusive=True, reverse=True),
    "DEPTH_TO_SPACE": lambda tf, t, ids: tf.nn.depth_to_space(t[None], 2),
    "GATHER": lambda tf, t, ids: tf.gather(t, [2, 0], axis=1),
    "GATHER of secret positions": lambda tf, t, ids: tf.gather(weights(4, 6), ids),
    "GATHER_ND": lambda tf, t, ids: tf.gather_nd(t, [[0, 1], [1, 2]]),
    "MEAN": lambda tf, t, ids: tf.reduce_mean(t, (0, 2)),
    "MIRROR_PAD": lambda tf, t, ids: tf.pad(t, [[0, 0], [1, 2], [1, 0]], "REFLECT"),
    "ONE_HOT": lambda tf, t, ids: tf.one_hot(ids, 4, 2.0, -1.0),
    "PACK": lambda tf, t, ids: tf.stack([t[0], t[1], t[0]], 1),
    "PAD": lambda tf, t, ids: tf.pad(t, [[0, 0], [1, 2], [1, 0]]),
    "PADV2": lambda tf, t, ids: tf.pad(t, [[0, 0], [1, 2], [1, 0]], constant_values=3.0),
    "REDUCE_MAX": lambda tf, t, ids: tf.reduce_max(t, 1),
    "REDUCE_MIN": lambda tf, t, ids: tf.reduce_min(t, (1, 2), keepdims=True),
    "REDUCE_PROD": lambda tf, t, ids: tf.reduce_prod(t, 2),
    "RESHAPE": lambda tf, t, ids: tf.reshape(t, (4, -1)),
    "REVERSE_V2": lambda tf, t, ids: tf.reverse(t, [1]),
    "SLICE": lambda tf, t, ids: tf.slice(t, [0, 1, 1], [-1, 2, 2]),
    "SPACE_TO_DEPTH": lambda tf, t, ids: tf.nn.space_to_depth(t[:, :2][None], 2),
    "SPLIT": lambda tf, t, ids: tf.split(t, 2, axis=2)[1],
    "SPLIT_V": lambda tf, t, ids: tf.split(t, [1, 2], axis=1)[1],
    "STRIDED_SLICE": lambda tf, t, ids: t[:, ::-2, 1:-1] * 3.0,
    "STRIDED_SLICE of all kinds": lambda tf, t, ids: t[..., tf.newaxis, -1, 2:0:-1],
    "SUM": lambda tf, t, ids: tf.reduce_sum(t, -1, keepdims=True),
    "TILE": lambda tf, t, ids: tf.tile(t, [1, 2, 1]),
    "TOPK_V2": lambda tf, t, ids: tf.math.top_k(t, 2)[0],
    "TRANSPOSE": lambda tf, t, ids: tf.transpose(t, (2, 0, 1)),
    "UNPACK": lambda tf, t, ids: tf.unstack(t, axis=1)[2],
}

OPEN = {
    "ARG_MAX": lambda tf, a: tf.argmax(a, -1),
    "ARG_MIN": lambda tf, a: tf.argmin(a, 0, tf.int32),
    "EXPAND_DIMS": lambda tf, a: tf.expand_dims(a, 1) * 2.0,
    "FILL": lambda tf, a: a + tf.fill(tf.shape(a), 2.0),
    "RANGE": lambda tf, a: a * tf.cast(tf.range(tf.shape(a)[1]), tf.float32),
    "SELECT": lambda tf, a: tf.compat.v1.where(a[:, 0] > 0, a, -a),
    "SHAPE": lambda tf, a: tf.reshape(a, (tf.shape(a)[1], -1)),
    "SQUEEZE": lambda tf, a: tf.squeeze(tf.tile(tf.expand_dims(a, 1), (1, 1, 2)), 1),
    "ZEROS_LIKE": lambda tf, a: tf.maximum(a, tf.zeros_like(a)) - 1.0,
}
"""On data of open sizes, which is where converted models compute with shapes."""

ELSEWHERE = {
    "DEQUANTIZE": "test_models.py: weights of 16 bits",
    "EMBEDDING_LOOKUP": "test_files.py: the converter writes GATHER",
    "PRELU": "test_models.py: Keras' layer",
    "RELU_0_TO_1": "test_files.py: the converter writes MINIMUM",
    "RANK": "test_files.py: the converter knows it",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "test_models.py: Keras' LSTM",
}


def outputs(tf, rows, *arguments):
    """All rows as outputs, under names that Python has for arguments."""
    return {name_of(name): run(tf, *arguments) for name, run in rows.items()}


def name_of(row):
    return row.lower().replace(" ", "_")


@pytest.mark.parametrize(
    ("rows", "names"),
    [(ELEMENTWISE, ("a", "p")), (LAYERS, ("image",)), (STRUCTURE, ("t", "ids"))],
    ids=["elementwise", "layers", "structure"],
)
def test_operators(tf, tmp_path, rows, names):
    data = converted(tf, (lambda *x: outputs(tf, rows, *x), {n: SPECS[n] for n in names}))
    assert {name.split()[0] for name in rows} - operators(data) == set()
    given = {n: x for n, x in inputs().items() if n in names}
    imported = compared(tf, data, tmp_path / "model.tflite", given)
    assert {p.name for p in imported.outputs} == {name_of(r) for r in rows}


def test_operators_on_open_sizes(tf, tmp_path):
    data = converted(tf, (lambda a: outputs(tf, OPEN, a), {"a": (None, None, "float32")}))
    assert set(OPEN) - operators(data) == set()
    compared(tf, data, tmp_path / "model.tflite", {"a": inputs()["a"]}, shapes={"a": (2, 5)})


def test_every_operator_has_a_row():
    rows = {r.split()[0] for r in (*ELEMENTWISE, *LAYERS, *STRUCTURE, *OPEN, *ELSEWHERE)}
    assert rows == set(HANDLERS)
