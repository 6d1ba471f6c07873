"""The importer: owners, names, constants, shapes, and everything that it refuses."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from skimage import data

from benchmarks.models import NETWORKS, sample_inputs
from examples.blazeface import model as blazeface
from mpcc.errors import MpccError
from mpcc.frontend import Port, import_onnx
from mpcc.frontend.importer import Disclosed
from mpcc.frontend.onnx.fold import FOLDABLE
from mpcc.frontend.onnx.loader import OPERATORS, supported
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


def test_what_is_supported_can_be_listed():
    table = supported()
    assert table.keys() == OPERATORS.keys() | FOLDABLE
    assert table["Conv"] == "two spatial axes, all pads, groups and dilations"
    assert table["Relu"] == "max(x, 0), elementwise"
    assert table["Sqrt"].startswith("of constants only")


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


def test_shapes_that_do_not_fit():
    found = refused(open_model(), shapes={"a": (4, 2), "b": (5, 1), "c": (1,)})
    assert [(f[0], f[1]) for f in found] == [
        ("E-import-name", "the model has no input c"),
        ("E-import-shape", "dimension 1 of input a is 3, not 2"),
        ("E-import-shape", "dimension 0 of input b is 4, not 5"),
    ]
    assert "has 2 dimensions, not 1" in refused(open_model(), shapes={"a": (3,), "b": (1, 1)})[0][1]
    assert "must be positive" in refused(open_model(), shapes={"a": (0, 3), "b": (1, 1)})[0][1]


# --- what is refused -----------------------------------------------------------------------------


def test_everything_unsupported_is_reported_at_once():
    nodes = [
        node("Softmax", ["x"], ["a"], name="s1"),
        node("Relu", ["a"], ["b"]),
        node("Softmax", ["b"], ["c"], name="s2"),
        node("Erf", ["c"], ["d"]),
        node("MaxPool", ["d"], ["e", "i"], name="pool", kernel_shape=[2, 2]),
        node("Custom", ["e"], ["f"], name="own", domain="com.example"),
        node("Pad", ["x", "p"], ["g"], name="mirror", mode="reflect"),
        node("Add", ["g", "f"], ["y"]),
    ]
    made = model(
        nodes, {"x": (1, 1, 4, 4)}, ["y", "i"], {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, 13,
        ["com.example"],
    )  # fmt: skip
    made.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
    for output in made.graph.output:
        output.type.tensor_type.shape.SetInParent()
        for _ in range(4):
            output.type.tensor_type.shape.dim.add()
    found = refused(made)
    assert {f[0] for f in found} == {"E-import-unsupported"}
    assert [(f[1], f[2]) for f in found] == [
        ("Softmax of opset 13: the operator is not supported", "node s1, s2"),
        ("Erf of opset 13: the operator is not supported", "node d"),
        ("com.example.Custom: no operator of another domain is supported", "node own"),
        ("Pad of opset 13: mode reflect", "node mirror"),
    ]
    assert all(f[3] for f in found)


def test_long_lists_of_nodes_are_cut():
    nodes = [node("Erf", [f"v{i}"], [f"v{i + 1}"], name=f"n{i}") for i in range(30)]
    ((_, _, where, _),) = refused(model(nodes, {"v0": (2,)}, ["v30"]))
    assert where == "node n0, n1, n2, n3, n4, n5, n6, n7 and 22 more"


IMAGE = {"x": (1, 2, 6, 6)}
KERNEL = {"w": np.ones((2, 2, 3, 3), F)}


@pytest.mark.parametrize(
    ("nodes", "inputs", "constants", "reason"),
    [
        ([node("Conv", ["x", "w"], ["y"])], {"x": (1, 2, 9)}, {"w": np.ones((2, 2, 3), F)},
         "only two spatial axes"),
        ([node("Conv", ["x", "w"], ["y"])], {"x": (1, 2, 9, 9, 9)},
         {"w": np.ones((2, 2, 3, 3, 3), F)}, "only two spatial axes"),
        ([node("MaxPool", ["x"], ["y"], kernel_shape=[3])], {"x": (1, 2, 9)}, {},
         "only two spatial axes"),
        ([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2])], IMAGE, {},
         "dilated windows"),
        ([node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2]), node("Identity", ["i"], ["z"])],
         IMAGE, {}, "its output Indices is used"),
        ([node("Dropout", ["x"], ["y", "mask"]), node("Identity", ["mask"], ["z"])], IMAGE, {},
         "its output mask is used"),
        ([node("Dropout", ["x", "", "t"], ["y"])], IMAGE, {"t": np.bool_(True)}, "training mode"),
        ([node("Pad", ["x", "p"], ["y"], mode="edge")], IMAGE, {"p": np.ones(8, int)}, "mode edge"),
        ([node("Pad", ["x", "p"], ["y"])], {"x": (3,)}, {"p": np.array([-1, 0])}, "cropping"),
        ([node("Pad", ["x", "p", "v"], ["y"])], {"x": (3,)},
         {"p": np.array([1, 0]), "v": np.array(-np.inf, F)}, "padding with -inf"),
        ([node("MatMul", ["x", "w"], ["y"])], {"x": (4, 2, 3)}, {"w": np.ones((4, 3, 5), F)},
         "a batch of matrices [4, 3, 5] on the right"),
        ([node("Gemm", ["x", "x"], ["y"], alpha=2.0)], {"x": (3, 3)}, {}, "alpha 2.0 of a product"),
        ([node("Gemm", ["x", "w", "x"], ["y"], beta=2.0)], {"x": (3, 3)}, {"w": np.ones((3, 3), F)},
         "beta 2.0 of a computed"),
        ([node("Add", ["x", "w"], ["y"])], {"x": (2,)}, {"w": np.array([1, np.nan], F)},
         "the constant w has elements that are not finite"),
        ([node("Cast", ["w"], ["c"], to=1), node("Add", ["x", "c"], ["y"])], {"x": (1,)},
         {"w": np.array([1e300])}, "the constant c has elements that are not finite"),
    ],
)  # fmt: skip
def test_refusals_have_reasons(nodes, inputs, constants, reason):
    nodes[0].name = "culprit"
    rank = len(inputs["x"])
    (found,) = refused(model(nodes, inputs, {"y": rank}, constants))
    assert found[0] in ("E-import-unsupported", "E-import-shape")
    assert reason in found[1]
    assert found[2] in ("node culprit", f"node {nodes[-1].output[0]}")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (node("Conv", ["x", "w"], ["y"], pads=[-9, 0, 0, 0]), "Conv"),
        (node("Reshape", ["x", "s"], ["y"]), "Reshape"),
        (node("Relu", ["nowhere"], ["y"]), "nowhere"),
        (node("Relu", ["x", "w"], ["y"]), "input size 2"),
        (node("Relu", ["x"], ["y"], alpha=1.0), "alpha"),
        (node("Relu", ["x"], ["x"]), "x"),
        (node("Add", ["x", "s"], ["y"]), "Add"),
        (node("NoSuchOperator", ["x"], ["y"]), "NoSuchOperator"),
    ],
    ids=lambda v: v if isinstance(v, str) else v.op_type,
)
def test_what_onnx_itself_refuses(made, words):
    constants = KERNEL | {"s": np.array([7, 5])}
    ((code, what, _, fix),) = refused(model([made], IMAGE, {"y": 4}, constants))
    assert code == "E-model-invalid"
    assert words in what
    assert fix


def test_a_shape_that_depends_on_the_input():
    made = model([node("Reshape", ["x", "s"], ["y"])], {"x": (2, 3)})
    made.graph.input.append(helper.make_tensor_value_info("s", TensorProto.INT64, (1,)))
    made.graph.output[0].type.tensor_type.shape.dim.add().dim_param = "n"
    ((code, what, _, _),) = refused(made)
    assert code == "E-import-unsupported"
    assert what == "input s does not hold real numbers"


def test_an_output_that_is_a_weight():
    nodes = [node("Relu", ["x"], ["y"]), node("Neg", ["w"], ["leak"])]
    made = model(nodes, {"x": (2,)}, ["y", "leak"], {"w": np.ones(2, F)})
    assert refused(made)[0][:2] == ("E-import-output", "output leak is a constant of the model")


def test_shape_errors_name_the_node():
    # Legal for ONNX's checker, which does not look that deep without a declared output.
    made = model([node("MaxPool", ["x"], ["y"], name="p", kernel_shape=[2, 2], pads=[2, 2, 2, 2])],
                 {"x": (1, 1, 4, 4)})  # fmt: skip
    ((code, what, where, _),) = refused(made)
    assert code == "E-import-shape"
    assert "pads (2, 2, 2, 2) are not narrower than the kernel" in what
    assert where == "node p"


def test_sparse_constants():
    made = model([node("Relu", ["x"], ["y"])], {"x": (3,)})
    values = helper.make_tensor("s", TensorProto.FLOAT, (1,), [5.0])
    indices = helper.make_tensor("s_at", TensorProto.INT64, (1,), [1])
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, (3,)))
    assert refused(made)[0][1] == "the sparse initialiser s"


def test_opsets():
    for opset in (6, onnx.defs.onnx_opset_version() + 1):
        made = model([node("Relu", ["x"], ["y"])], {"x": (2,)}, opset=opset)
        ((code, what, _, _),) = refused(made)
        assert code == "E-model-opset"
        assert f"opset {opset}" in what
