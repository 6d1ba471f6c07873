"""Quantised operators; test_quantised.py has more of them."""

import numpy as np
from onnx import TensorProto

from tests.frontend.models import node
from tests.frontend.rows.table import FLOAT, Row

# No number of the tests is in the middle of two integers.
SCALE, OTHER = np.float32(0.0137), np.float32(0.0219)
POINT, SIGNED = np.uint8(100), np.int8(-5)
BYTES = [node("QuantizeLinear", ["x", "s", "z"], ["q"])]
GIVEN = {"s": SCALE, "z": POINT}


def integers(*shape: int) -> np.ndarray:
    """Of 7 bits: without VNNI, onnxruntime saturates sums of two products in 16 bits."""
    return np.random.default_rng(sum(shape)).integers(-64, 64, shape).astype(np.int8)


UINT8, INT32 = (TensorProto.UINT8,), (TensorProto.INT32,)
MATRIX = {"b": integers(4, 3), "bs": OTHER, "bz": SIGNED}
KERNEL = {"w": integers(2, 3, 3, 3), "ws": OTHER, "wz": np.int8(0)}
RESULT = {"ys": np.float32(0.31), "yz": np.uint8(120)}

ROWS = [
    Row("quantize", "QuantizeLinear", {"x": (2, 3)}, GIVEN, {}, (10, 13, 19, 21), outputs=UINT8),
    Row("quantize by channels", "QuantizeLinear", {"x": (2, 3)},
        {"s": np.array([0.0137, 0.3], np.float32), "z": np.array([3, -4], np.int8)}, {"axis": 0},
        (13, 21), outputs=(TensorProto.INT8,)),
    Row("dequantize", "DequantizeLinear", {"x": (2, 3)}, GIVEN, {}, (10, 13, 19, 21),
        operands=("q", "s", "z"), before=BYTES),
    Row("matmul integer", "MatMulInteger", {"x": (2, 4)},
        GIVEN | {k: MATRIX[k] for k in ("b", "bz")}, {}, (10, 13), operands=("q", "b", "z", "bz"),
        before=BYTES, outputs=INT32),
    Row("conv integer", "ConvInteger", {"x": (1, 3, 5, 4)},
        GIVEN | {"w": np.abs(KERNEL["w"]).astype(np.uint8), "wz": np.uint8(9)},
        {"pads": [1, 1, 1, 1]}, (10, 13), operands=("q", "w", "z", "wz"), before=BYTES,
        outputs=INT32),
    Row("quantised matmul", "QLinearMatMul", {"x": (2, 4)}, GIVEN | MATRIX | RESULT, {},
        (10, 21), operands=("q", "s", "z", *MATRIX, *RESULT), before=BYTES, outputs=UINT8),
    Row("quantised conv", "QLinearConv", {"x": (1, 3, 5, 4)}, GIVEN | KERNEL | RESULT,
        {"strides": [2, 1]}, (10, 13), operands=("q", "s", "z", *KERNEL, *RESULT), before=BYTES,
        outputs=UINT8),
    Row("dynamic quantize", "DynamicQuantizeLinear", {"x": (3, 4)}, {}, {}, (11, 13),
        outputs=(TensorProto.UINT8, FLOAT, TensorProto.UINT8)),
]  # fmt: skip
