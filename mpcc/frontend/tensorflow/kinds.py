"""TensorFlow's element types, as ONNX's, which the operators of both front ends speak of."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

__all__ = ["ONNX_KINDS", "RESOURCE", "STRING", "VARIANT"]

STRING = 7
RESOURCE = 20
VARIANT = 21

_P = onnx.TensorProto

ONNX_KINDS: Mapping[int, int] = {
    1: _P.FLOAT,
    2: _P.DOUBLE,
    3: _P.INT32,
    4: _P.UINT8,
    5: _P.INT16,
    6: _P.INT8,
    STRING: _P.STRING,
    9: _P.INT64,
    10: _P.BOOL,
    14: _P.BFLOAT16,
    17: _P.UINT16,
    19: _P.FLOAT16,
    22: _P.UINT32,
    23: _P.UINT64,
}
"""TensorFlow's DataType -> ONNX's element type."""
