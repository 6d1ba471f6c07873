"""Convolutions, pools, products, normalisation."""

import numpy as np

from tests.frontend.rows.table import Row, weights


def conv(name, x, w, bias=False, opsets=(7, 11, 21), **attrs) -> Row:
    constants = {"w": weights(*w)} | ({"b": weights(w[0])} if bias else {})
    return Row(f"conv {name}", "Conv", {"x": x}, constants, attrs, opsets)


def transposed(name, x, w, bias=0, **attrs) -> Row:
    constants = {"w": weights(*w)} | ({"b": weights(bias)} if bias else {})
    return Row(f"conv transpose {name}", "ConvTranspose", {"x": x}, constants, attrs, (7, 11, 22))


def pool(op, name, x, opsets=None, **attrs) -> Row:
    if opsets is None:
        opsets = (10, 11, 12, 21) if "ceil_mode" in attrs else (8, 11, 12, 21)
    return Row(f"{op} {name}", op, {"x": x}, {}, attrs, opsets)


def both(name, x, **attrs) -> list[Row]:
    """The same windows for MaxPool and AveragePool."""
    opsets = (10, 19) if "ceil_mode" in attrs else (7, 11, 19)
    return [
        pool("MaxPool", name, x, **attrs),
        pool("AveragePool", name, x, opsets, **attrs),
        pool("AveragePool", f"{name}, padding counted", x, opsets, count_include_pad=1, **attrs),
    ]


def norm(name, x, opsets=(7, 9, 14, 15), **attrs) -> Row:
    c = x[1]
    constants = {
        "s": weights(c),
        "b": weights(c) + 1,
        "m": weights(c) - 1,
        "v": np.abs(weights(c)) + np.float32(0.5),
    }
    return Row(f"batch norm {name}", "BatchNormalization", {"x": x}, constants, attrs, opsets)


PAIR = {"kernel_shape": [2, 2], "strides": [2, 2]}
WIDE = {"kernel_shape": [3, 3], "strides": [2, 2]}

ROWS = [
    conv("1x1", (1, 3, 5, 4), (2, 3, 1, 1)),
    conv("3x3 bias", (2, 3, 6, 7), (4, 3, 3, 3), bias=True),
    conv("pads", (1, 2, 5, 5), (3, 2, 3, 2), pads=[1, 0, 2, 1]),
    conv("strides", (1, 2, 9, 8), (3, 2, 3, 3), strides=[2, 3], bias=True),
    conv("strides larger than the kernel", (1, 1, 9, 9), (1, 1, 2, 2), strides=[4, 3]),
    conv("dilations", (1, 2, 9, 9), (3, 2, 3, 2), dilations=[2, 3], pads=[2, 1, 2, 1]),
    conv("groups", (1, 6, 5, 5), (4, 3, 3, 3), group=2, bias=True),
    conv("depthwise", (1, 4, 5, 5), (4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    conv("depthwise multiplier", (1, 2, 5, 5), (6, 1, 3, 3), group=2),
    conv("same upper", (1, 2, 7, 6), (3, 2, 4, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    conv("same lower", (1, 2, 7, 6), (3, 2, 4, 3), auto_pad="SAME_LOWER", strides=[2, 2]),
    conv("same, stride > kernel", (1, 1, 7, 7), (1, 1, 1, 1), auto_pad="SAME_UPPER",
         strides=[3, 3]),
    conv("valid", (1, 2, 7, 6), (3, 2, 4, 3), auto_pad="VALID"),
    conv("kernel_shape given", (1, 2, 4, 4), (3, 2, 2, 3), kernel_shape=[2, 3]),
    conv("kernel as large as the data", (1, 2, 4, 3), (2, 2, 4, 3)),
    conv("1-d", (2, 3, 9), (4, 3, 3), bias=True, strides=[2], pads=[1, 0]),
    conv("1-d dilated groups", (1, 4, 9), (4, 2, 3), dilations=[2], group=2),
    conv("3-d", (1, 2, 4, 5, 6), (3, 2, 2, 3, 2), bias=True),
    conv("3-d strides and pads", (1, 2, 5, 5, 5), (2, 2, 3, 3, 3), strides=[2, 1, 2],
         pads=[1, 0, 1, 0, 1, 1]),
    conv("3-d same", (1, 1, 5, 4, 6), (2, 1, 2, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2, 2]),
    Row("conv computed kernel", "Conv", {"x": (1, 2, 4, 4), "w": (3, 2, 3, 3)}),
    transposed("2-d", (1, 3, 3, 4), (3, 2, 3, 3)),
    transposed("strides bias", (1, 2, 3, 3), (2, 3, 3, 2), 3, strides=[3, 2]),
    transposed("pads", (2, 2, 4, 4), (2, 3, 3, 3), strides=[2, 2], pads=[1, 0, 1, 1]),
    transposed("output padding", (1, 2, 3, 3), (2, 2, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1],
               output_padding=[1, 1]),
    transposed("output shape", (1, 2, 3, 3), (2, 2, 3, 3), strides=[3, 2], output_shape=[10, 8]),
    transposed("dilations", (1, 1, 3, 3), (1, 2, 2, 2), dilations=[2, 2]),
    transposed("groups", (1, 4, 3, 3), (4, 2, 2, 2), 4, group=2, strides=[2, 2]),
    transposed("same upper", (1, 1, 3, 3), (1, 2, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    transposed("same lower", (1, 1, 3, 3), (1, 2, 4, 4), auto_pad="SAME_LOWER", strides=[2, 2]),
    transposed("1-d", (1, 2, 4), (2, 3, 3), strides=[2]),
    transposed("3-d", (1, 1, 2, 3, 2), (1, 2, 2, 2, 3), strides=[2, 1, 2]),
    *both("2x2", (1, 2, 4, 6), **PAIR),
    *both("default strides", (2, 1, 4, 5), kernel_shape=[3, 2]),
    *both("rest dropped", (1, 1, 5, 7), **PAIR),
    *both("pads", (1, 2, 5, 5), **WIDE, pads=[1, 1, 1, 1]),
    *both("uneven pads", (1, 1, 5, 5), kernel_shape=[3, 2], strides=[2, 2], pads=[2, 0, 0, 1]),
    *both("same upper", (1, 1, 5, 6), kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    *both("same lower", (1, 1, 5, 6), kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    *both("valid", (1, 1, 5, 6), kernel_shape=[3, 2], strides=[2, 2], auto_pad="VALID"),
    *both("ceil", (1, 1, 5, 6), **PAIR, ceil_mode=1),
    *both("ceil even", (1, 1, 4, 6), **PAIR, ceil_mode=1),
    *both("ceil pads", (1, 1, 6, 7), **WIDE, pads=[1, 1, 1, 1], ceil_mode=1),
    *both("ceil wide strides", (1, 1, 7, 9), kernel_shape=[2, 2], strides=[3, 5], ceil_mode=1),
    *both("ceil last window in the padding", (1, 1, 4, 4), kernel_shape=[2, 2], strides=[3, 3],
          pads=[1, 1, 1, 1], ceil_mode=1),
    *both("ceil kernel 1", (1, 1, 6, 5), kernel_shape=[1, 1], strides=[2, 2], ceil_mode=1),
    *both("1-d", (2, 2, 7), kernel_shape=[3], strides=[2], pads=[1, 1]),
    *both("3-d", (1, 2, 4, 5, 4), kernel_shape=[2, 3, 2], strides=[2, 1, 2]),
    pool("MaxPool", "dilations", (1, 1, 6, 7), (10, 12), kernel_shape=[2, 3], dilations=[3, 2]),
    pool("MaxPool", "dilated pads", (1, 1, 6, 7), (10, 12), kernel_shape=[2, 2], dilations=[2, 2],
         pads=[1, 1, 1, 1], ceil_mode=1, strides=[2, 2]),
    pool("AveragePool", "dilations", (1, 1, 6, 7), (19, 22), kernel_shape=[2, 3], dilations=[3, 2]),
    pool("LpPool", "p 1", (1, 2, 5, 5), (11, 18), **WIDE, p=1),
    pool("LpPool", "p 1, pads", (1, 2, 5, 5), (11, 18), **WIDE, p=1, pads=[1, 1, 1, 1]),
    pool("LpPool", "p 2", (1, 2, 5, 5), (11, 18), **WIDE, pads=[1, 0, 1, 1]),
    pool("LpPool", "p 3", (1, 2, 5, 5), (18,), **WIDE, p=3),
    pool("LpPool", "p 4", (1, 2, 5, 5), (18,), **WIDE, p=4),
    pool("GlobalAveragePool", "2-d", (2, 3, 4, 5), (7, 22)),
    pool("GlobalAveragePool", "1-d", (2, 3, 4), (7, 22)),
    pool("GlobalMaxPool", "2-d", (2, 3, 4, 5), (7, 22)),
    pool("GlobalLpPool", "p 2", (2, 3, 4, 5), (7,), p=2),
    pool("GlobalLpPool", "p 1", (2, 3, 4, 5), (7,), p=1),
    norm("2-d", (2, 3)),
    norm("4-d", (2, 3, 4, 5), epsilon=0.01),
    norm("3-d", (1, 4, 5)),
    Row(
        "batch norm of computed statistics", "BatchNormalization",
        {"x": (2, 3, 4), "s": (3,), "b": (3,), "m": (3,)}, {"v": np.asarray([0.5, 1, 2], "f4")},
        {}, (9, 15),
    ),
    Row("gemm", "Gemm", {"a": (2, 3)}, {"b": weights(3, 4), "c": weights(4)}, {}, (7, 9, 11, 13)),
    Row(
        "gemm all", "Gemm", {"a": (3, 2)}, {"b": weights(4, 3), "c": weights(2, 1)},
        {"transA": 1, "transB": 1, "alpha": 0.5, "beta": -2.0},
    ),
    Row("gemm no bias", "Gemm", {"a": (2, 3)}, {"b": weights(3, 4)}, opsets=(11, 13)),
    Row("gemm beta 0", "Gemm", {"a": (2, 3)}, {"b": weights(3, 4), "c": weights(4)}, {"beta": 0.0}),
    Row(
        "gemm weight on the left", "Gemm", {"b": (3, 4), "c": (2, 4)}, {"a": weights(3, 2)},
        {"transA": 1, "alpha": 3.0, "beta": 0.5}, operands=("a", "b", "c"),
    ),
    Row("gemm of inputs", "Gemm", {"a": (2, 3), "b": (4, 3), "c": (1,)}, {},
        {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Row("matmul", "MatMul", {"a": (2, 3), "b": (3, 4)}, {}, {}, (7, 9, 13)),
    Row("matmul rows", "MatMul", {"a": (2, 5, 3)}, {"b": weights(3, 4)}),
    Row("matmul vector", "MatMul", {"a": (3,)}, {"b": weights(3, 4)}),
    Row("matmul by vector", "MatMul", {"a": (2, 2, 3)}, {"b": weights(3)}),
    Row("matmul dot", "MatMul", {"a": (3,)}, {"b": weights(3)}),
    Row("matmul one matrix with batch axes", "MatMul", {"a": (2, 3)}, {"b": weights(1, 1, 3, 4)}),
    Row("matmul batch", "MatMul", {"a": (2, 4, 2, 3), "b": (2, 4, 3, 5)}),
    Row("matmul batch broadcast", "MatMul", {"a": (2, 1, 2, 3), "b": (4, 3, 5)}),
    Row("matmul batch of weights", "MatMul", {"a": (2, 3)}, {"b": weights(4, 3, 2)}),
    Row("matmul vector by batch", "MatMul", {"a": (3,), "b": (4, 3, 2)}),
    Row("dropout", "Dropout", {"x": (2, 3)}, {}, {"ratio": 0.5}, (7, 10)),
    Row("dropout inputs", "Dropout", {"x": (2, 3)}, {"r": np.float32(0.5), "t": np.bool_(False)},
        {}, (12, 13)),
]  # fmt: skip
