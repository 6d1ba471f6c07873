"""The importer: owners, names, constants, shapes, and everything that it refuses."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from skimage import data

from benchmarks.models import NETWORKS, sample_inputs
from examples.blazeface import model as blazeface
from mpcc.errors import MpccError
from mpcc.frontend import Port, import_onnx
from mpcc.frontend.importer import Disclosed
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.text import print_module
from mpcc.ir.verify import verify
from tests.frontend.models import model, node

F = np.float32


def refused(source, **options) -> list[tuple[str, str, str, str]]:
    data = source if isinstance(source, bytes | str) else source.SerializeToString()
    with pytest.raises(MpccError) as caught:
        import_onnx(data, **options)
    return [(d.code, d.what, d.where, d.fix) for d in caught.value.diagnostics]


def ops(imported) -> list[str]:
    return [op.name.removeprefix("tensor.") for op in imported.module.main.ops]


def imported(made, **options):
    result = import_onnx(made.SerializeToString(), **options)
    verify(result.module, DIALECTS["tensor"])
    return result


# --- real models ---------------------------------------------------------------------------------


def test_blazeface_on_a_photograph():
    path = blazeface.model_path()
    result = import_onnx(path)
    verify(result.module, DIALECTS["tensor"])
    image, _ = blazeface.preprocess(data.astronaut())
    session = onnxruntime.InferenceSession(str(path))
    want = dict(zip(blazeface.OUTPUT_NAMES, session.run(None, {"input:0": image}), strict=True))
    for dtype in (np.float64, np.float32):
        have = real.run(result.module, result.constants, {"input:0": image}, dtype=dtype)
        assert have.keys() == want.keys()
        for name, array in want.items():
            np.testing.assert_allclose(have[name], array, rtol=0, atol=1e-4)
    assert result.inputs == (Port("input:0", (1, 128, 128, 3), "f32", "client"),)
    assert [p.name for p in result.outputs] == list(blazeface.OUTPUT_NAMES)
    assert result.disclosed == ()


@pytest.mark.parametrize("name", NETWORKS)
def test_benchmark_networks(name):
    network = NETWORKS[name](batch=2)
    result = imported(network.model)
    session = onnxruntime.InferenceSession(network.serialized())
    for inputs in sample_inputs(network, 2):
        (want,) = session.run(None, inputs)
        have = real.run(result.module, result.constants, inputs)["logits"]
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)


# --- owners and constants ------------------------------------------------------------------------


def dense(**constants):
    """The model y = relu(x @ w + b)."""
    constants = {"w": np.ones((3, 2), F), "b": np.ones(2, F)} | constants
    nodes = [
        node("MatMul", ["x", "w"], ["xw"], name="fc"),
        node("Add", ["xw", "b"], ["s"], name="bias"),
        node("Relu", ["s"], ["y"]),
    ]
    return model(nodes, {"x": (1, 3)}, constants=constants)


def test_names_origins_and_default_owners():
    result = imported(dense())
    assert (
        print_module(result.module)
        == """\
module tensor {
  func @main() {
    %0 = tensor.input() {name = "x", shape = [1, 3]} : tensor<1x3xf32, client>
    %1 = tensor.weight() {name = "w", shape = [3, 2]} : tensor<3x2xf32, model>
    %2 = tensor.matmul(%0, %1) : tensor<1x2xf32, secret> loc("fc")
    %3 = tensor.weight() {name = "b", shape = [2]} : tensor<2xf32, model>
    %4 = tensor.add(%2, %3) : tensor<1x2xf32, secret> loc("bias")
    %5 = tensor.relu(%4) : tensor<1x2xf32, secret> loc("y")
    tensor.output(%5) {name = "y"}
  }
}
"""
    )
    assert result.constants.keys() == {"w", "b"}


def test_no_value_of_a_weight_is_in_the_module_or_in_a_repr():
    result = imported(dense(w=np.full((3, 2), 0.123456, F), b=np.array([7.654321, 1], F)))
    for text in (print_module(result.module), repr(result), str(result)):
        assert "0.123" not in text
        assert "7.65" not in text


def test_other_weights_give_the_same_module():
    rng = np.random.default_rng(1)
    texts = {
        print_module(imported(dense(w=w, b=b)).module)
        for w, b in [
            (rng.standard_normal((3, 2)).astype(F), rng.standard_normal(2).astype(F)),
            (np.zeros((3, 2), F), np.zeros(2, F)),
            (np.ones((3, 2), F), np.ones(2, F)),
        ]
    }
    assert len(texts) == 1


def test_equal_constants_are_not_merged():
    nodes = [node("Add", ["x", "a"], ["s"]), node("Add", ["s", "b"], ["y"])]
    made = model(nodes, {"x": (2,)}, constants={"a": np.ones(2, F), "b": np.ones(2, F)})
    assert ops(imported(made)).count("weight") == 2


def test_a_constant_used_twice_is_one_weight():
    nodes = [node("Add", ["x", "a"], ["s"]), node("Add", ["s", "a"], ["y"])]
    assert ops(imported(model(nodes, {"x": (2,)}, constants={"a": np.ones(2, F)}))) == [
        "input", "weight", "add", "add", "output",
    ]  # fmt: skip


def test_public_weights():
    text = print_module(imported(dense(), weights="public").module)
    assert text.count("public>") == 2
    assert "secret>" not in text


def test_chosen_owners():
    result = imported(dense(), owners={"x": "model", "b": "public", "y": "model"})
    assert result.inputs[0].owner == result.outputs[0].owner == "model"
    text = print_module(result.module)
    assert 'name = "b", shape = [2], owner = "public"' in text
    assert 'name = "y", owner = "model"' in text
    assert "secret" not in text


def test_wrong_owners_are_all_reported():
    found = refused(
        dense(), owners={"x": "Eve", "w": "client", "y": "public", "bb": "public", "xw": "model"}
    )
    assert {f[0] for f in found} == {"E-import-owner", "E-import-name"}
    assert [f[1] for f in found] == [
        "weight w cannot belong to 'client'",
        "input x cannot belong to 'Eve'",
        "output y cannot belong to 'public'",
        "the model has no input, output or float constant bb",
        "the model has no input, output or float constant xw",
    ]
    assert "it has b" in found[3][3]
    assert refused(dense(), weights="hidden")[0][0] == "E-import-owner"


def test_every_float_width_becomes_binary32():
    for dtype in (np.float16, np.float64):
        result = imported(
            model([node("Cast", ["w"], ["c"], to=1), node("Add", ["x", "c"], ["y"])],
                  {"x": (2,)}, constants={"w": np.array([0.5, -3], dtype)})
        )  # fmt: skip
        (array,) = result.constants.values()
        assert array.dtype == np.float32
        assert array.tolist() == [0.5, -3]


def test_constant_nodes_are_weights_with_an_owner():
    nodes = [
        node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(2, F))),
        node("Constant", [], ["d"], value_floats=[2.0, 3.0]),
        node("Constant", [], ["e"], value_float=4.0),
        node("Add", ["x", "c"], ["s"]),
        node("Add", ["s", "d"], ["t"]),
        node("Add", ["t", "e"], ["y"]),
    ]
    result = imported(model(nodes, {"x": (2,)}), owners={"d": "public"})
    assert {k: v.tolist() for k, v in result.constants.items()} == {
        "c": [1, 1], "d": [2, 3], "e": 4,
    }  # fmt: skip
    owners = {
        op.attrs["name"]: op.attrs["owner"] for op in result.module.main.walk("tensor.weight")
    }
    assert owners == {"c": "model", "d": "public", "e": "model"}


def test_constants_are_folded_by_their_owner():
    """(w + w)^T, reshaped: one weight of the model, whose name is the last node's output."""
    nodes = [
        node("Add", ["w", "w"], ["w2"]),
        node("Transpose", ["w2"], ["wt"]),
        node("Reshape", ["wt", "shape"], ["wr"]),
        node("MatMul", ["x", "wr"], ["y"]),
    ]
    w = np.arange(6, dtype=F).reshape(2, 3)
    constants = {"w": w, "shape": np.array([2, 3])}
    result = imported(model(nodes, {"x": (1, 2)}, constants=constants))
    assert ops(result) == ["input", "weight", "matmul", "output"]
    np.testing.assert_array_equal(result.constants["wr"], (2 * w).T.reshape(2, 3))


def test_public_only_if_all_sources_are():
    nodes = [node("Add", ["v", "w"], ["u"]), node("Add", ["x", "u"], ["y"])]
    made = model(nodes, {"x": (2,)}, constants={"v": np.ones(2, F), "w": np.ones(2, F)})
    for owners, owner in [({"v": "public"}, "model"), ({"v": "public", "w": "public"}, "public")]:
        (op,) = imported(made, owners=owners).module.main.walk("tensor.weight")
        assert op.attrs["owner"] == owner


def test_shapes_computed_from_static_shapes():
    """The exporter's x.view(x.size(0), -1): Shape, Gather, Unsqueeze, Concat, Reshape."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    result = imported(model(nodes, {"x": (2, 3, 4)}, {"y": 2}, constants))
    assert ops(result) == ["input", "reshape", "output"]
    assert result.outputs[0].shape == (2, 12)


def test_a_shape_made_of_weights_is_refused():
    nodes = [node("Cast", ["w"], ["s"], to=TensorProto.INT64), node("Reshape", ["x", "s"], ["y"])]
    made = model(nodes, {"x": (2, 3)}, {"y": 2}, {"w": np.array([3, 2], F)})
    assert "computed from weights" in refused(made)[0][1]


def test_a_pad_value_is_disclosed_but_not_one_made_of_weights():
    pads = {"p": np.array([1, 1]), "v": np.array(2.5, F)}
    nodes = [node("Pad", ["x", "p", "v"], ["y"], name="edge")]
    assert imported(model(nodes, {"x": (2,)}, constants=pads)).disclosed == (
        Disclosed("Pad", "edge", "value", 2.5),
    )
    nodes = [node("Neg", ["v"], ["u"]), node("Pad", ["x", "p", "u"], ["y"])]
    assert "computed from weights" in refused(model(nodes, {"x": (2,)}, constants=pads))[0][1]


def test_a_number_that_was_only_cast_or_reshaped_is_a_parameter():
    """As exporters write Clip's bounds; its owner's choice is kept."""
    nodes = [
        node("Cast", ["lo"], ["lo32"], to=TensorProto.FLOAT),
        node("Squeeze", ["lo32"], ["lo0"]),
        node("Clip", ["x", "lo0"], ["y"], name="clip"),
    ]
    made = model(nodes, {"x": (2,)}, constants={"lo": np.array([-2], np.float16)})
    result = imported(made)
    assert result.disclosed == (Disclosed("Clip", "clip", "min", -2.0),)
    assert ops(result) == ["input", "clip", "output"]


def test_bounds_made_of_weights_stay_secret():
    nodes = [node("Neg", ["w"], ["v"]), node("Clip", ["x", "v", "w"], ["y"])]
    result = imported(model(nodes, {"x": (2,)}, constants={"w": np.array(3, F)}))
    assert result.constants.keys() == {"v"}
    assert [d.what for d in result.disclosed] == ["max"]
    assert ops(result) == ["input", "weight", "maximum", "clip", "output"]


@pytest.mark.parametrize("op", ["Where", "Compress"])
def test_a_constant_mask_is_disclosed(op):
    """It shows in which elements are moved where."""
    operands = ["m", "x", "z"] if op == "Where" else ["x", "m"]
    made = model(
        [node(op, operands, ["y"], name="choice")],
        {"x": (3,), "z": (3,)} if op == "Where" else {"x": (3,)},
        {"y": 1},
        {"m": np.array([True, False, True])},
    )
    (found,) = imported(made).disclosed
    assert found.text(True) == f"{op} choice: mask of 3 truth values, 2 of them true"
    assert found.text(False) == f"{op}: mask of 3 truth values, 2 of them true"


def test_a_mask_made_of_weights_stays_secret():
    nodes = [
        node("Greater", ["w", "zero"], ["m"]),
        node("Where", ["m", "x", "z"], ["y"]),
    ]
    texts = set()
    for w in ([1, -1], [-1, -1]):
        constants = {"w": np.array(w, F), "zero": np.array(0, F)}
        result = imported(model(nodes, {"x": (2,), "z": (2,)}, constants=constants))
        assert result.constants["m"].tolist() == [float(v > 0) for v in w]
        texts.add(print_module(result.module))
    assert len(texts) == 1
    assert 'name = "m", shape = [2]}' in texts.pop()


def test_integers_that_are_data_are_weights():
    nodes = [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Add", ["i", "n"], ["j"]),
             node("Cast", ["j"], ["y"], to=TensorProto.FLOAT)]  # fmt: skip
    result = imported(model(nodes, {"x": (2,)}, constants={"n": np.array([3, 4])}))
    assert result.constants["n"].tolist() == [3, 4]
    (op,) = result.module.main.walk("tensor.weight")
    assert op.attrs["owner"] == "model"
    big = model(nodes, {"x": (2,)}, constants={"n": np.array([3, 1 << 25])})
    assert "are used as data and are larger than" in refused(big)[0][1]


def test_outputs_have_the_type_of_what_they_hold():
    nodes = [
        node("ArgMax", ["x"], ["i"], axis=1),
        node("Less", ["x", "x"], ["b"]),
        node("Cast", ["x"], ["n"], to=TensorProto.INT32),
    ]
    kinds = {"i": TensorProto.INT64, "b": TensorProto.BOOL, "n": TensorProto.INT32}
    result = imported(model(nodes, {"x": (2, 3)}, list(kinds), types=kinds))
    assert {p.name: p.dtype for p in result.outputs} == {"i": "i64", "b": "bool", "n": "f32"}


def test_derived_names_do_not_collide():
    constants = {"w": np.ones((2, 3), F), "w.transposed": np.zeros(2, F)}
    nodes = [
        node("Gemm", ["x", "w"], ["s"], transB=1),
        node("Add", ["s", "w.transposed"], ["y"]),
    ]
    result = imported(model(nodes, {"x": (1, 3)}, constants=constants))
    assert {k: v.shape for k, v in result.constants.items()} == {
        "w.transposed'": (3, 2),
        "w.transposed": (2,),
    }


def test_unused_constants_are_left_out_and_unused_inputs_stay():
    made = model(
        [node("Relu", ["x"], ["y"])], {"x": (2,), "z": (3,)}, constants={"w": np.ones(9, F)}
    )
    result = imported(made)
    assert result.constants == {}
    assert [p.name for p in result.inputs] == ["x", "z"]
    assert ops(result) == ["input", "input", "relu", "output"]


def test_weights_listed_as_inputs_too_as_in_old_files():
    made = dense()
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (3, 2)))
    assert [p.name for p in imported(made).inputs] == ["x"]


def test_an_output_used_twice_and_an_input_as_output():
    nodes = [
        node("Relu", ["x"], ["y"]),
        node("Identity", ["y"], ["z"]),
        node("Identity", ["x"], ["u"]),
    ]
    result = imported(model(nodes, {"x": (2,)}, ["y", "z", "u"]))
    assert ops(result) == ["input", "relu", "output", "output", "output"]


def test_local_functions_are_inlined():
    made = model([node("Twice", ["x"], ["y"], domain="mine")], {"x": (2,)}, domains=["mine"])
    body = [node("Add", ["a", "a"], ["b"])]
    made.functions.append(
        helper.make_function("mine", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 13)])
    )
    assert ops(imported(made)) == ["input", "add", "output"]


# --- shapes --------------------------------------------------------------------------------------


def open_model():
    nodes = [node("Add", ["a", "b"], ["y"])]
    return model(nodes, {"a": ("N", 3), "b": ("N", None)})


def test_open_dimensions_are_named():
    found = refused(open_model())
    assert [f[0] for f in found] == ["E-import-dynamic"] * 2
    assert found[0][1] == "input a [N, 3] has open dimensions: N (axis 0)"
    assert "--shape a=1,3" in found[0][3]
    assert found[1][1] == "input b [N, ?] has open dimensions: N (axis 0), without a name (axis 1)"


def test_given_shapes():
    result = imported(open_model(), shapes={"a": (4, 3), "b": (4, 1)})
    assert [p.shape for p in (*result.inputs, *result.outputs)] == [(4, 3), (4, 1), (4, 3)]


def test_a_named_dimension_is_fixed_everywhere():
    made = model([node("Add", ["a", "b"], ["y"])], {"a": ("N", 3), "b": ("N", 1)})
    result = imported(made, shapes={"a": (5, 3)})
    assert result.inputs[1].shape == (5, 1)


BIG = (1 << 31) - 1


def test_shapes_that_do_not_fit():
    found = refused(open_model(), shapes={"a": (4, 2), "b": (5, 1), "c": (1,)})
    assert [(f[0], f[1]) for f in found] == [
        ("E-import-name", "the model has no input c"),
        ("E-import-shape", "dimension 1 of input a is 3, not 2"),
        ("E-import-shape", "dimension 0 of input b is 4, not 5"),
    ]
    assert "has 2 dimensions, not 1" in refused(open_model(), shapes={"a": (3,), "b": (1, 1)})[0][1]
    assert "must be positive" in refused(open_model(), shapes={"a": (0, 3), "b": (1, 1)})[0][1]
    assert "larger than 2^31" in refused(open_model(), shapes={"a": (2**70, 3), "b": (1, 1)})[0][1]


def test_shapes_beyond_all_limits():
    wide = model([node("Add", ["a", "b"], ["y"])], {"a": ("N", 1), "b": (1, "M")})
    found = refused(wide, shapes={"a": (BIG, 1), "b": (1, BIG)})
    assert found[0][0] == "E-import-unsupported"
    assert "programs end at 8 axes and 2^40 elements" in found[0][1]
    made = model([node("Relu", ["x"], ["y"])], {"x": (1 << 40, 1 << 20)})
    assert refused(made)[0][0] == "E-import-shape"


def test_integer_overflow_in_shape_arithmetic():
    """(2^32)^2 would wrap to 0, and the shape to [0]."""
    nodes = [
        node("Mul", ["n", "n"], ["nn"]),
        node("Add", ["nn", "one"], ["s"]),
        node("Reshape", ["x", "s"], ["y"], name="r"),
    ]
    made = model(nodes, {"x": (2, 3)}, {"y": 1}, {"n": np.array([1 << 32]), "one": np.array([6])})
    ((code, what, where, _),) = refused(made)
    assert (code, where) == ("E-import-unsupported", "node nn")
    assert "integers overflow 64 bits" in what


def test_floats_that_are_no_integers_in_shape_arithmetic():
    nodes = [
        node("Cast", ["w"], ["n"], to=TensorProto.INT64),
        node("ConstantOfShape", ["n"], ["c"]),
        node("Add", ["x", "c"], ["y"]),
    ]
    for number in (1e30, np.nan):
        made = model(nodes, {"x": (2,)}, constants={"w": np.array([number], F)})
        assert "an integer that 64 bits do not hold" in refused(made)[0][1]


@pytest.mark.parametrize(
    ("op", "rank", "operands"),
    [
        ("ConstantOfShape", 2, {"s": np.array([1 << 20, 1 << 20])}),
        ("Expand", 2, {"v": np.ones(1, F), "s": np.array([1 << 20, 1 << 20])}),
        ("Tile", 1, {"v": np.ones(1, F), "s": np.array([1 << 40])}),
        ("Range", 1, {"v": np.float32(0), "s": np.float32(1e15), "t": np.float32(1)}),
        ("Pad", 1, {"v": np.ones(1, F), "s": np.array([1 << 30, 0])}),
        ("OneHot", 2, {"v": np.zeros(9, int), "s": np.int64(1 << 40), "t": np.array([0, 1], F)}),
    ],
)
def test_constants_do_not_explode(op, rank, operands):
    nodes = [node(op, list(operands), ["c"]), node("Add", ["x", "c"], ["y"])]
    made = model(nodes, {"x": (1,)}, {"y": rank}, operands)
    assert "a constant of more than" in refused(made)[0][1]


# --- batches -------------------------------------------------------------------------------------


def batched():
    """Names and values of secret weights are those of the model, whatever the batch."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]),
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        node("GlobalAveragePool", ["n"], ["p"]),
        node("Shape", ["p"], ["ps"]),
        node("Gather", ["ps", "zero"], ["batch"]),
        node("Concat", ["batch", "rest"], ["target"], axis=0),
        node("Reshape", ["p", "target"], ["y"]),
    ]
    constants = {
        "w": np.ones((4, 2, 3, 3), F),
        **{k: np.arange(1, 5, dtype=F) for k in "sbmv"},
        "zero": np.array([0]),
        "rest": np.array([-1]),
    }
    return model(nodes, {"x": ("N", 2, 5, 5)}, {"y": 2}, constants)


def test_batches_share_their_weights():
    results = [imported(batched(), batch=n) for n in (1, 8, 32)]
    assert [r.inputs[0].shape[0] for r in results] == [1, 8, 32]
    assert [r.outputs[0].shape for r in results] == [(1, 4), (8, 4), (32, 4)]
    for other in results[1:]:
        assert other.constants.keys() == results[0].constants.keys()
        for name, array in results[0].constants.items():
            np.testing.assert_array_equal(other.constants[name], array)


def test_batch_and_shape_together():
    made = model([node("Add", ["a", "b"], ["y"])], {"a": ("N", 3), "b": (None, 1)})
    assert [p.shape for p in imported(made, batch=4).inputs] == [(4, 3), (4, 1)]
    result = imported(made, shapes={"b": (1, 1)}, batch=4)
    assert [p.shape for p in result.inputs] == [(4, 3), (1, 1)]


def test_a_batch_of_a_model_with_fixed_shapes():
    made = model([node("Relu", ["x"], ["y"])], {"x": (1, 3)})
    ((code, what, where, fix),) = refused(made, batch=8)
    assert (code, where) == ("E-import-batch", "batch")
    assert "x (1)" in what
    assert "open first axis" in fix
    assert refused(batched(), batch=0)[0][0] == "E-import-batch"
