"""Quantised operators: imported and interpreted = onnxruntime, integer for integer."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.text import print_module
from mpcc.ir.verify import verify

FLOAT = TensorProto.FLOAT
I8, U8 = np.int8, np.uint8


def ints(dtype, *shape, seed=0):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype(dtype)


def model(nodes, inputs, constants, outputs):
    """A model; inputs are arrays, outputs element types."""
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [helper.make_tensor_value_info(n, t, None) for n, t in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def check(data, inputs):
    """Compare with onnxruntime; the import."""
    imported = import_onnx(data)
    verify(imported.module, DIALECTS["tensor"])
    feeds = {n: a.astype(np.float64) for n, a in inputs.items()}
    have = real.run(imported.module, imported.constants, feeds)
    wanted = onnxruntime.InferenceSession(data).run(None, inputs)
    for port, want in zip(imported.outputs, wanted, strict=True):
        assert have[port.name].shape == port.shape == want.shape
        np.testing.assert_allclose(have[port.name], want.astype(np.float64), rtol=1e-5, atol=1e-5)
    return imported


X = np.random.default_rng(3).uniform(-3, 3, (2, 4, 5)).astype(np.float32)
# Not a power of two, so that no number is in the middle of two integers.
S, T = np.float32(0.0137), np.float32(0.0219)
CHANNELS = np.array([0.011, 0.02, 0.03, 0.017], np.float32)


@pytest.mark.parametrize("dtype", [I8, U8, np.int16, np.uint16])
def test_quantize_and_back(dtype):
    constants = {"s": S, "z": dtype(7)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    check(model(nodes, {"x": X}, constants, {"q": kind, "y": FLOAT}), {"x": X})


def test_scales_of_channels():
    constants = {"s": CHANNELS, "z": ints(I8, 4)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=-2),
    ]
    check(model(nodes, {"x": X}, constants, {"y": FLOAT}), {"x": X})


def test_constants_are_dequantised_by_their_owner():
    constants = {"w": ints(I8, 4, 3), "s": CHANNELS, "z": ints(I8, 4)}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"], axis=0),
        helper.make_node("MatMul", ["x", "v"], ["y"]),
    ]
    x = X[0].T.copy()
    imported = check(model(nodes, {"x": x}, constants, {"y": FLOAT}), {"x": x})
    # One weight, one product.
    assert [op.name for op in imported.module.main.ops] == [
        "tensor.input",
        "tensor.weight",
        "tensor.matmul",
        "tensor.output",
    ]


# Of 7 bits: without VNNI, onnxruntime saturates sums of two products in 16 bits.
A, B = ints(U8, 3, 4), ints(I8, 4, 5, seed=1) // 2


@pytest.mark.parametrize("zeros", [False, True])
def test_matmul_of_integers(zeros):
    constants = {"b": B} | ({"az": U8(100), "bz": ints(I8, 5)} if zeros else {})
    node = helper.make_node("MatMulInteger", ["a", *constants], ["y"])
    check(model([node], {"a": A}, constants, {"y": TensorProto.INT32}), {"a": A})


@pytest.mark.parametrize("columns", [False, True])
def test_matmul_of_quantised_numbers(columns):
    several = np.array([0.011, 0.02, 0.03, 0.017, 0.05], np.float32)
    constants = {
        "as": S,
        "az": U8(100),
        "b": B,
        "bs": several if columns else T,
        "bz": np.zeros(5, I8) if columns else I8(-3),
        "ys": np.float32(0.3),
        "yz": U8(120),
    }
    node = helper.make_node("QLinearMatMul", ["a", *constants], ["y"])
    check(model([node], {"a": A}, constants, {"y": TensorProto.UINT8}), {"a": A})


IMAGE, KERNEL = ints(U8, 1, 3, 6, 5), ints(U8, 4, 3, 3, 3, seed=1)


def test_convolution_of_integers():
    constants = {"w": KERNEL, "xz": U8(100), "wz": U8(90)}
    node = helper.make_node("ConvInteger", ["x", *constants], ["y"], pads=[1, 1, 1, 1])
    check(model([node], {"x": IMAGE}, constants, {"y": TensorProto.INT32}), {"x": IMAGE})


@pytest.mark.parametrize("bias", [False, True])
def test_convolution_of_quantised_numbers(bias):
    constants = {
        "xs": S,
        "xz": U8(100),
        "w": ints(I8, 4, 3, 3, 3, seed=1) // 2,
        "ws": CHANNELS,
        "wz": np.zeros(4, I8),
        "ys": np.float32(0.31),
        "yz": U8(120),
    } | ({"b": np.array([900, -2000, 40, 0], np.int32)} if bias else {})
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"], strides=[2, 1])
    check(model([node], {"x": IMAGE}, constants, {"y": TensorProto.UINT8}), {"x": IMAGE})


@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0])
def test_quantisation_by_the_range_of_the_data(shift):
    x = X + np.float32(shift)
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])
    kinds = {"y": TensorProto.UINT8, "s": FLOAT, "z": TensorProto.UINT8}
    check(model([node], {"x": x}, {}, kinds), {"x": x})


def test_no_scale_and_no_zero_point_is_in_the_program():
    def text(scale, point):
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ]
        constants = {"s": np.float32(scale), "z": I8(point)}
        imported = import_onnx(model(nodes, {"x": X}, constants, {"y": FLOAT}))
        assert imported.disclosed == ()
        return print_module(imported.module)

    assert text(0.5, 0) == text(0.013, 17)


def test_floats_of_8_bits_are_refused():
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    constants = {"s": S, "z": np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(17))}
    data = model([node], {"x": X}, constants, {"y": TensorProto.FLOAT8E4M3FN})
    with pytest.raises(MpccError, match="quantised numbers of type FLOAT8E4M3FN"):
        import_onnx(data)
