"""The table of ONNX operators: imported and interpreted = onnxruntime, on random and edge inputs.

A row is a node with its constants and inputs; it is run at every opset that changed the operator.
This is also the reference test of every tensor op.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
import pytest

from mpcc.frontend import import_onnx
from mpcc.frontend.onnx.loader import OPERATORS
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from tests.frontend.models import model, node
from tests.ir.samples import type_of

EDGES = np.array([0.0, -0.0, 1.0, -1.0, 2.0**-19, -(2.0**-19), 1e-30, 8.0, -8.0, 283.6, 2.0**20])


@dataclass
class Row:
    name: str
    op: str
    inputs: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, object] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    opsets: tuple[int, ...] = (7, 13, 21)
    operands: tuple[str, ...] = ()
    #: constants that the program discloses
    disclosed: int = 0


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def conv_row(name, x, w, bias=False, **attrs) -> Row:
    constants = {"w": weights(*w)} | ({"b": weights(w[0])} if bias else {})
    return Row(f"conv {name}", "Conv", {"x": x}, constants, attrs, (7, 11, 21))


def pool_row(name, x, **attrs) -> Row:
    opsets = (10, 12, 21) if "ceil_mode" in attrs else (8, 12, 21)
    return Row(f"maxpool {name}", "MaxPool", {"x": x}, {}, attrs, opsets)


ROWS = [
    Row("add same", "Add", {"a": (2, 3), "b": (2, 3)}),
    Row("add broadcast", "Add", {"a": (2, 1, 3), "b": (4, 1)}),
    Row("add scalar", "Add", {"a": (2, 3)}, {"b": np.float32(0.25)}),
    Row("add weight", "Add", {"a": (2, 3, 4)}, {"b": weights(3, 1)}),
    Row("sub same", "Sub", {"a": (5,), "b": (5,)}),
    Row("sub weight on the left", "Sub", {"a": (2, 3)}, {"w": weights(3)}, operands=("w", "a")),
    Row("sub itself", "Sub", {"a": (3,)}, operands=("a", "a")),
    Row("relu", "Relu", {"x": (3, 11)}),
    Row("relu one element", "Relu", {"x": (1,)}),
    conv_row("1x1", (1, 3, 5, 4), (2, 3, 1, 1)),
    conv_row("3x3 bias", (2, 3, 6, 7), (4, 3, 3, 3), bias=True),
    conv_row("pads", (1, 2, 5, 5), (3, 2, 3, 2), pads=[1, 0, 2, 1]),
    conv_row("strides", (1, 2, 9, 8), (3, 2, 3, 3), strides=[2, 3], bias=True),
    conv_row("strides larger than the kernel", (1, 1, 9, 9), (1, 1, 2, 2), strides=[4, 3]),
    conv_row("dilations", (1, 2, 9, 9), (3, 2, 3, 2), dilations=[2, 3], pads=[2, 1, 2, 1]),
    conv_row("groups", (1, 6, 5, 5), (4, 3, 3, 3), group=2, bias=True),
    conv_row("depthwise", (1, 4, 5, 5), (4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    conv_row("depthwise multiplier", (1, 2, 5, 5), (6, 1, 3, 3), group=2),
    conv_row("same upper", (1, 2, 7, 6), (3, 2, 4, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    conv_row("same lower", (1, 2, 7, 6), (3, 2, 4, 3), auto_pad="SAME_LOWER", strides=[2, 2]),
    conv_row(
        "same, stride > kernel", (1, 1, 7, 7), (1, 1, 1, 1), auto_pad="SAME_UPPER", strides=[3, 3]
    ),
    conv_row("valid", (1, 2, 7, 6), (3, 2, 4, 3), auto_pad="VALID"),
    conv_row("kernel_shape given", (1, 2, 4, 4), (3, 2, 2, 3), kernel_shape=[2, 3]),
    conv_row("kernel as large as the data", (1, 2, 4, 3), (2, 2, 4, 3)),
    Row("conv computed kernel", "Conv", {"x": (1, 2, 4, 4), "w": (3, 2, 3, 3)}),
    pool_row("2x2", (1, 2, 4, 6), kernel_shape=[2, 2], strides=[2, 2]),
    pool_row("default strides", (2, 1, 4, 5), kernel_shape=[3, 2]),
    pool_row("rest dropped", (1, 1, 5, 7), kernel_shape=[2, 2], strides=[2, 2]),
    pool_row("pads", (1, 2, 5, 5), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    pool_row("uneven pads", (1, 1, 5, 5), kernel_shape=[3, 2], strides=[2, 2], pads=[2, 0, 0, 1]),
    pool_row(
        "same upper", (1, 1, 5, 6), kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    pool_row(
        "same lower", (1, 1, 5, 6), kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"
    ),
    pool_row("valid", (1, 1, 5, 6), kernel_shape=[3, 2], strides=[2, 2], auto_pad="VALID"),
    pool_row("ceil", (1, 1, 5, 6), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    pool_row("ceil even", (1, 1, 4, 6), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    pool_row(
        "ceil pads",
        (1, 1, 6, 7),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
    ),
    pool_row("ceil wide strides", (1, 1, 7, 9), kernel_shape=[2, 2], strides=[3, 5], ceil_mode=1),
    pool_row(
        "ceil last window in the padding",
        (1, 1, 4, 4),
        kernel_shape=[2, 2],
        strides=[3, 3],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
    ),
    pool_row("ceil kernel 1", (1, 1, 6, 5), kernel_shape=[1, 1], strides=[2, 2], ceil_mode=1),
    Row("gemm", "Gemm", {"a": (2, 3)}, {"b": weights(3, 4), "c": weights(4)}),
    Row(
        "gemm all",
        "Gemm",
        {"a": (3, 2)},
        {"b": weights(4, 3), "c": weights(2, 1)},
        {"transA": 1, "transB": 1, "alpha": 0.5, "beta": -2.0},
    ),
    Row("gemm no bias", "Gemm", {"a": (2, 3)}, {"b": weights(3, 4)}, opsets=(11, 13)),
    Row("gemm beta 0", "Gemm", {"a": (2, 3)}, {"b": weights(3, 4), "c": weights(4)}, {"beta": 0.0}),
    Row(
        "gemm weight on the left",
        "Gemm",
        {"b": (3, 4), "c": (2, 4)},
        {"a": weights(3, 2)},
        {"transA": 1, "alpha": 3.0},
        operands=("a", "b", "c"),
    ),
    Row("gemm of inputs", "Gemm", {"a": (2, 3), "b": (4, 3), "c": (1,)}, {}, {"transB": 1}),
    Row("matmul", "MatMul", {"a": (2, 3), "b": (3, 4)}),
    Row("matmul rows", "MatMul", {"a": (2, 5, 3)}, {"b": weights(3, 4)}),
    Row("matmul vector", "MatMul", {"a": (3,)}, {"b": weights(3, 4)}),
    Row("matmul by vector", "MatMul", {"a": (2, 2, 3)}, {"b": weights(3)}),
    Row("matmul dot", "MatMul", {"a": (3,)}, {"b": weights(3)}),
    Row("matmul one matrix with batch axes", "MatMul", {"a": (2, 3)}, {"b": weights(1, 1, 3, 4)}),
    Row("pad attribute", "Pad", {"x": (2, 3)}, {}, {"pads": [1, 0, 0, 2], "value": 1.5}, (7, 10)),
    Row("pad input", "Pad", {"x": (2, 3)}, {"p": ints(1, 0, 0, 2)}, {}, (11, 21)),
    Row(
        "pad value",
        "Pad",
        {"x": (2, 3)},
        {"p": ints(0, 1, 0, 1), "v": np.float32(-3.5)},
        {},
        (11, 21),
        disclosed=1,
    ),
    Row(
        "pad axes",
        "Pad",
        {"x": (2, 3, 4)},
        {"p": ints(1, 2, 0, 1), "v": np.float32(0), "axes": ints(-1, 1)},
        {},
        (18, 21),
        disclosed=1,
    ),
    Row("reshape", "Reshape", {"x": (2, 3, 4)}, {"s": ints(4, 6)}),
    Row("reshape rest", "Reshape", {"x": (2, 3, 4)}, {"s": ints(0, -1)}),
    Row("reshape to a scalar", "Reshape", {"x": (1, 1)}, {"s": ints()}),
    Row(
        "reshape allowzero", "Reshape", {"x": (2, 3)}, {"s": ints(3, 2)}, {"allowzero": 1}, (14, 21)
    ),
    Row("flatten", "Flatten", {"x": (2, 3, 4)}),
    Row("flatten 0", "Flatten", {"x": (2, 3, 4)}, {}, {"axis": 0}, (9, 21)),
    Row("flatten end", "Flatten", {"x": (2, 3, 4)}, {}, {"axis": 3}, (9, 21)),
    Row("flatten negative", "Flatten", {"x": (2, 3, 4)}, {}, {"axis": -1}, (11, 21)),
    Row("transpose", "Transpose", {"x": (2, 3, 4)}, {}, {"perm": [1, 2, 0]}),
    Row("transpose default", "Transpose", {"x": (2, 3, 4)}),
    Row("identity", "Identity", {"x": (2, 3)}),
    Row("dropout", "Dropout", {"x": (2, 3)}, {}, {"ratio": 0.5}, (7, 10)),
    Row(
        "dropout inputs",
        "Dropout",
        {"x": (2, 3)},
        {"r": np.float32(0.5), "t": np.bool_(False)},
        {},
        (12, 13),
    ),
]


def build(row: Row, opset: int):
    names = row.operands or (*row.inputs, *row.constants)
    return model(
        [node(row.op, list(names), ["y"], name=f"the {row.op}", **row.attrs)],
        row.inputs,
        constants={k: np.asarray(v) for k, v in row.constants.items()},
        opset=opset,
    ).SerializeToString()


def samples(row: Row):
    """Random inputs, then edge values spread over the inputs."""
    rng = np.random.default_rng(3)
    yield {k: rng.standard_normal(s).astype(np.float32) for k, s in row.inputs.items()}
    yield {k: rng.choice(EDGES, s).astype(np.float32) for k, s in row.inputs.items()}
    yield {k: np.full(s, -1.0, np.float32) for k, s in row.inputs.items()}


CASES = [pytest.param(r, o, id=f"{r.name}, opset {o}") for r in ROWS for o in r.opsets]


@pytest.mark.parametrize(("row", "opset"), CASES)
def test_equals_onnxruntime(row, opset):
    data = build(row, opset)
    imported = import_onnx(data)
    verify(imported.module, DIALECTS["tensor"])
    text = print_module(imported.module)
    assert print_module(parse_module(text, DIALECTS)) == text
    assert len(imported.disclosed) == row.disclosed
    session = onnxruntime.InferenceSession(data)
    for inputs in samples(row):
        (want,) = session.run(None, inputs)
        have = real.run(imported.module, imported.constants, inputs)["y"]
        assert have.shape == want.shape == imported.outputs[0].shape
        scale = max(1.0, float(np.abs(want).max(initial=0)))
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=2e-6 * scale)


def test_automatic_padding_counts_the_dilation():
    """The pads that ONNX defines; onnxruntime refuses the combination."""
    row = conv_row("", (1, 1, 9, 9), (1, 1, 3, 2), auto_pad="SAME_LOWER", dilations=[2, 3])
    (conv,) = import_onnx(build(row, 13)).module.main.walk("tensor.conv")
    assert conv.attrs["pads"] == (2, 2, 2, 1)
    assert type_of(conv.result).shape == (1, 1, 9, 9)


def test_the_table_has_every_operator_and_every_tensor_op():
    # Constant and Shape give constants only; test_onnx.py has them.
    assert {r.op for r in ROWS} == OPERATORS.keys() - {"Constant", "Shape"}
    seen = set()
    for row in ROWS:
        seen |= {op.name for op in import_onnx(build(row, row.opsets[-1])).module.main.ops}
    assert seen == set(DIALECTS["tensor"].operations)
