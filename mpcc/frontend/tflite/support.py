"""Which TensorFlow Lite operators can be imported, their options, and of the others: why not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mpcc.frontend.tflite import elementwise, layers, structure
from mpcc.frontend.tflite.node import Field, Handler, fields

__all__ = ["HANDLERS", "OPTIONS", "Options", "Reason", "reason"]

HANDLERS: Mapping[str, Handler] = {
    **elementwise.HANDLERS,
    **layers.HANDLERS,
    **structure.HANDLERS,
}
"""Every operator that can be imported -> what writes it."""


@dataclass(frozen=True)
class Options:
    """The options of an operator.

    Attributes:
        form: number of their table's kind.
        fields: those that are read, by name.
    """

    form: int
    fields: Mapping[str, Field]


_POOL = Options(5, fields("padding:b stride_w:i stride_h:i filter_w:i filter_h:i activation:b"))
_REDUCE = Options(27, fields("keep_dims:?"))

OPTIONS: Mapping[str, Options] = {
    "ADD": Options(11, fields("activation:b")),
    "AVERAGE_POOL_2D": _POOL,
    "BATCH_MATMUL": Options(101, fields("adj_x:? adj_y:?")),
    "CONCATENATION": Options(10, fields("axis:i activation:b")),
    "CONV_2D": Options(
        1,
        fields("padding:b stride_w:i stride_h:i activation:b dilation_w:i=1 dilation_h:i=1"),
    ),
    "CONV_3D": Options(
        106,
        fields(
            "padding:b stride_d:i stride_w:i stride_h:i activation:b dilation_d:i=1 dilation_w:i=1 "
            "dilation_h:i=1"
        ),
    ),
    "CUMSUM": Options(102, fields("exclusive:? reverse:?")),
    "DEPTHWISE_CONV_2D": Options(
        2,
        fields("padding:b stride_w:i stride_h:i - activation:b dilation_w:i=1 dilation_h:i=1"),
    ),
    "DEPTH_TO_SPACE": Options(94, fields("block:i")),
    "DIV": Options(29, fields("activation:b")),
    "FULLY_CONNECTED": Options(8, fields("activation:b weights_format:b keep_dims:?")),
    "GATHER": Options(23, fields("axis:i batch_dims:i")),
    "GELU": Options(116, fields("approximate:?")),
    "L2_NORMALIZATION": Options(12, fields("activation:b")),
    "LEAKY_RELU": Options(75, fields("alpha:f")),
    "LOCAL_RESPONSE_NORMALIZATION": Options(13, fields("radius:i bias:f alpha:f beta:f")),
    "MAX_POOL_2D": _POOL,
    "MEAN": _REDUCE,
    "MIRROR_PAD": Options(77, fields("mode:b")),
    "MUL": Options(21, fields("activation:b")),
    "ONE_HOT": Options(61, fields("axis:i")),
    "PACK": Options(59, fields("- axis:i")),
    "REDUCE_ALL": _REDUCE,
    "REDUCE_ANY": _REDUCE,
    "REDUCE_MAX": _REDUCE,
    "REDUCE_MIN": _REDUCE,
    "REDUCE_PROD": _REDUCE,
    "RESHAPE": Options(17, fields("shape:i")),
    "RESIZE_BILINEAR": Options(15, fields("- - align_corners:? half_pixel_centers:?")),
    "RESIZE_NEAREST_NEIGHBOR": Options(74, fields("align_corners:? half_pixel_centers:?")),
    "SOFTMAX": Options(9, fields("beta:f")),
    "SPACE_TO_DEPTH": Options(19, fields("block:i")),
    "SPLIT": Options(35, fields("count:i")),
    "SQUEEZE": Options(30, fields("axes:i")),
    "STRIDED_SLICE": Options(
        32, fields("begin:i end:i ellipsis:i new_axis:i shrink_axis:i offset:?")
    ),
    "SUB": Options(28, fields("activation:b")),
    "SUM": _REDUCE,
    "TRANSPOSE_CONV": Options(49, fields("padding:b stride_w:i stride_h:i activation:b")),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Options(
        71, fields("activation:b cell_clip:f projection_clip:f time_major:? - diagonal:?")
    ),
    "UNPACK": Options(64, fields("count:i axis:i")),
}
"""Operator -> its options, in the order of their table."""


@dataclass(frozen=True)
class Reason:
    """Why an operator is not supported, and the way out."""

    why: str
    fix: str


_SOURCE = "give the SavedModel or Keras file that the model was made of"

_REASONS: tuple[tuple[str, Reason], ...] = (
    (
        r"CUSTOM Flex.*",
        Reason("an operator of TensorFlow itself", _SOURCE),
    ),
    (r"CUSTOM .*", Reason("an operator of somebody else's", "end the model before it")),
    (
        r"QUANTIZE|FAKE_QUANT|DENSIFY",
        Reason(
            "quantised numbers are not supported",
            "convert the model without quantisation, or with weights of float16",
        ),
    ),
    (r"IF|WHILE|CALL|CALL_ONCE", Reason("control flow", _SOURCE)),
    (
        r"VAR_HANDLE|READ_VARIABLE|ASSIGN_VARIABLE|HASHTABLE.*",
        Reason(
            "variables and tables are no part of a program",
            "convert the model without state; hand it on as an input and an output",
        ),
    ),
    (
        r"NON_MAX_SUPPRESSION_V\d|WHERE|UNIQUE",
        Reason(
            "the shape of its result depends on secret data, and would tell about it",
            "end the model before it, and go on at the answer's owner",
        ),
    ),
    (
        r"RANDOM_.*|MULTINOMIAL",
        Reason("it draws random numbers", "give the numbers as an input"),
    ),
)


def reason(op: str) -> Reason:
    """Why an operator is not supported."""
    for pattern, found in _REASONS:
        if re.fullmatch(pattern, op):
            return found
    return Reason("the operator is not supported", _SOURCE)
