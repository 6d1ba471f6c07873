"""What the importer refuses: with the node, the operator, the opset, a reason and a way out."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.frontend.onnx.model import MAX_OPSET
from tests.frontend.models import model, node
from tests.frontend.rows.control import graph

F = np.float32


def refused(source, **options) -> list[tuple[str, str, str, str]]:
    with pytest.raises(MpccError) as caught:
        import_onnx(source.SerializeToString(), **options)
    return [(d.code, d.what, d.where, d.fix) for d in caught.value.diagnostics]


def test_everything_unsupported_is_reported_at_once():
    nodes = [
        node("RandomNormalLike", ["x"], ["a"], name="s1"),
        node("Relu", ["a"], ["b"]),
        node("RandomNormalLike", ["b"], ["c"], name="s2"),
        node("RandomUniformLike", ["c"], ["d"]),
        node("MaxPool", ["d"], ["e", "i"], name="pool", kernel_shape=[2, 2]),
        node("Custom", ["e"], ["f"], name="own", domain="com.example"),
        node("NonZero", ["x"], ["nz"], name="where"),
        node("Cast", ["nz"], ["nzf"], to=1),
        node("Pow", ["x", "p"], ["g"], name="root"),
        node("Add", ["g", "f"], ["y"]),
    ]
    made = model(
        nodes, {"x": (1, 1, 4, 4)}, ["y", "i"], {"p": np.array(40, F)}, 13,
        ["com.example"],
    )  # fmt: skip
    made.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
    for output in made.graph.output:
        output.type.tensor_type.shape.SetInParent()
        for _ in range(4):
            output.type.tensor_type.shape.dim.add()
    found = refused(made)
    assert {f[0] for f in found} == {"E-import-unsupported"}
    random = "it draws random numbers"
    assert [(f[1], f[2]) for f in found] == [
        (f"RandomNormalLike of opset 13: {random}", "node s1, s2"),
        (f"RandomUniformLike of opset 13: {random}", "node d"),
        ("com.example.Custom of opset 1: no operator of this domain is known", "node own"),
        ("NonZero of opset 13: the shape of its result depends on secret data, and would tell "
         "about it", "node where"),
        ("Pow of opset 13: exponent 40.0", "node root"),
    ]  # fmt: skip
    assert all(f[3] for f in found)


def test_long_lists_of_nodes_are_cut():
    nodes = [node("RandomUniformLike", [f"v{i}"], [f"v{i + 1}"], name=f"n{i}") for i in range(30)]
    ((_, _, where, _),) = refused(model(nodes, {"v0": (2,)}, ["v30"]))
    assert where == "node n0, n1, n2, n3, n4, n5, n6, n7 and 22 more"


STEP: dict[str, tuple[int, list[int] | None]] = {
    "i": (TensorProto.INT64, []),
    "go": (TensorProto.BOOL, []),
    "s": (TensorProto.FLOAT, None),
}
ENDS = {"on": TensorProto.BOOL, "u": TensorProto.FLOAT}
ON = node("Identity", ["go"], ["on"])
FOREVER = graph([ON, node("Identity", ["s"], ["u"])], STEP, ENDS)
DECIDES = graph([node("Cast", ["s"], ["on"], to=9), node("Relu", ["s"], ["u"])], STEP, ENDS)
INSIDE = graph(
    [node("Identity", ["go2"], ["on2"]), node("Identity", ["s2"], ["u2"])],
    {f"{name}2": type_ for name, type_ in STEP.items()}, {f"{n}2": t for n, t in ENDS.items()},
)  # fmt: skip
NESTED = graph(
    [ON, node("Loop", ["many", "go", "s"], ["u"], body=INSIDE)], STEP, ENDS,
    {"many": np.array(200)},
)  # fmt: skip
LONG = graph([node("Concat", ["x", "x"], ["r"], axis=0)], {}, {"r": TensorProto.FLOAT})
SHORT = graph([node("Identity", ["x"], ["r"])], {}, {"r": TensorProto.FLOAT})

IMAGE = {"x": (1, 2, 6, 6)}
KERNEL = {"w": np.ones((2, 2, 3, 3), F)}


@pytest.mark.parametrize(
    ("nodes", "inputs", "constants", "reason"),
    [
        ([node("Conv", ["x", "w"], ["y"])], {"x": (1, 2, 9, 9, 9, 9)},
         {"w": np.ones((2, 2, 3, 3, 3, 3), F)}, "one to three spatial axes"),
        ([node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2]), node("Identity", ["i"], ["z"])],
         IMAGE, {}, "its output Indices is used"),
        ([node("Celu", ["x"], ["y"], alpha=-1.0)], IMAGE, {}, "alpha -1.0, which is not positive"),
        ([node("Gelu", ["x"], ["y"], approximate="fast")], IMAGE, {}, "approximate 'fast'"),
        ([node("Dropout", ["x"], ["y", "mask"]), node("Identity", ["mask"], ["z"])], IMAGE, {},
         "its output mask is used"),
        ([node("Dropout", ["x", "", "t"], ["y"])], IMAGE, {"t": np.bool_(True)}, "training mode"),
        ([node("BatchNormalization", ["x", "v", "v", "v", "v"], ["y", "m", "s"], training_mode=1)],
         {"x": (1, 2)}, {"v": np.ones(2, F)}, "training mode"),
        ([node("BatchNormalization", ["x", "v", "v", "v", "x1"], ["y"])],
         {"x": (1, 2), "x1": (2,)}, {"v": np.ones(2, F)}, "a computed variance"),
        ([node("Pad", ["x", "p"], ["y"])], {"x": (3,)}, {"p": np.array([-2, -1])},
         "cut everything"),
        ([node("Pad", ["x", "p", "v"], ["y"])], {"x": (3,)},
         {"p": np.array([1, 0]), "v": np.array(-np.inf, F)}, "padding with -inf"),
        ([node("Div", ["x", "w"], ["y"])], {"x": (2,)}, {"w": np.array([1, 0], F)},
         "elements that are not finite"),
        ([node("Pow", ["x", "e"], ["y"])], {"x": (2,)}, {"e": np.array([1, -17], F)},
         "exponent -17"),
        ([node("Pow", ["x", "e"], ["y"])], {"x": (2,)}, {"e": np.array([1, np.inf], F)},
         "exponent inf"),
        ([node("Pow", ["x", "x"], ["y"])], {"x": (2,)}, {}, "exponent is computed from an input"),
        ([node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Div", ["i", "n"], ["d"]),
          node("Cast", ["d"], ["y"], to=1)], {"x": (2,)}, {"n": np.array(2)},
         "integers that are computed"),
        ([node("Cast", ["x"], ["i"], to=TensorProto.INT8), node("Cast", ["i"], ["y"], to=1)],
         {"x": (2,)}, {}, "keeps fewer digits"),
        ([node("Clip", ["x", "l"], ["y"])], {"x": (2,)}, {"l": np.array(np.nan, F)}, "bounds nan"),
        ([node("LpPool", ["x"], ["y"], kernel_shape=[2, 2], p=9)], IMAGE, {}, "p = 9"),
        ([node("LRN", ["x"], ["y"], size=4)], IMAGE, {}, "size 4 of data"),
        ([node("GlobalLpPool", ["x"], ["y"], p=0)], IMAGE, {}, "p = 0"),
        ([node("Gather", ["x", "i"], ["y"])], {"x": (3, 2)}, {"i": np.array([], int)},
         "no elements"),
        ([node("Cast", ["x"], ["i"], to=7), node("GatherElements", ["w", "i"], ["y"])], {"x": (2,)},
         {"w": np.ones(3, F)}, "its list of positions is computed from an input"),
        ([node("Cast", ["x"], ["i"], to=7), node("Gather", ["w", "i"], ["y"])], {"x": (2, 8)},
         {"w": np.ones(1 << 17, F)}, "16 computed positions among 131072"),
        ([node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=2,
          activations=["Sigmoid", "Cubic", "Tanh"])],
         {"x": (1, 1, 3)}, {"w": np.ones((1, 8, 3), F), "r": np.ones((1, 8, 2), F)},
         "the activation Cubic"),
        ([node("RNN", ["x", "w", "r"], ["", "y"], hidden_size=2, activations=["Affine"])],
         {"x": (1, 1, 3)}, {"w": np.ones((1, 2, 3), F), "r": np.ones((1, 2, 2), F)},
         "without alpha or beta"),
        ([node("RNN", ["x", "w", "r"], ["", "y"], hidden_size=2, direction="bidirectional",
          activations=["Tanh", "Relu"])],
         {"x": (1, 1, 3)}, {"w": np.ones((2, 2, 3), F), "r": np.ones((2, 2, 2), F)},
         "directions with different activations"),
        ([node("GRU", ["x", "w", "r"], ["", "y"], hidden_size=1)], {"x": (1025, 1, 1)},
         {"w": np.ones((1, 3, 1), F), "r": np.ones((1, 3, 1), F)}, "1025 steps"),
        ([node("Reshape", ["x", "one"], ["f"]), node("Cast", ["f"], ["n"], to=6),
          node("RNN", ["d", "w", "r", "", "n"], ["", "y"], hidden_size=2)], {"x": (1, 1, 1)},
         {"w": np.ones((1, 2, 3), F), "r": np.ones((1, 2, 2), F), "d": np.ones((2, 1, 3), F),
          "one": np.array([1])}, "its list of sequence lengths is computed from an input"),
        ([node("Loop", ["", "go", "x"], ["y"], body=FOREVER)], {"x": (2,)},
         {"go": np.array(True)}, "more than 1024 steps"),
        ([node("Loop", ["", "go", "x"], ["y"], body=DECIDES)], {"x": (1,)},
         {"go": np.array(True)}, "the number of steps depends on secret data"),
        ([node("Loop", ["n", "", "x"], ["y"], body=NESTED)], {"x": (2,)}, {"n": np.array(200)},
         "nodes, written out"),
        ([node("Cast", ["x"], ["c"], to=9), node("If", ["c"], ["y"], then_branch=LONG,
          else_branch=SHORT)], {"x": (1,)}, {}, "branches on a secret condition give [2] and [1]"),
        ([node("Slice", ["x", "s", "e"], ["c"]), node("Add", ["c", "x1"], ["y"])],
         {"x": (3,), "x1": (1,)}, {"s": np.array([2]), "e": np.array([2])}, "has no elements"),
        ([node("Resize", ["x", "", "s"], ["y"], mode="cubic", antialias=1, exclude_outside=1)],
         IMAGE, {"s": np.array([1, 1, 0.5, 0.5], F)}, "exclude_outside with antialias"),
        ([node("Resize", ["x", "", "s"], ["y"],
          coordinate_transformation_mode="tf_crop_and_resize")], IMAGE,
         {"s": np.array([1, 1, 0.5, 0.5], F)}, "input 1 is missing"),
        ([node("Cast", ["x"], ["c"], to=9), node("Compress", ["x", "c"], ["y"])], {"x": (3,)}, {},
         "computed from an input"),
        ([node("Unique", ["x"], ["y"])], {"x": (3,)}, {}, "shape of its result depends"),
        ([node("NonMaxSuppression", ["x", "s"], ["i"]), node("Cast", ["i"], ["f"], to=1),
          node("Unsqueeze", ["f", "a"], ["y"])],
         {"x": (1, 3, 4), "s": (1, 1, 3)}, {"a": np.array([0])}, "shape of its result depends"),
        ([node("RandomNormalLike", ["x"], ["y"])], {"x": (3,)}, {}, "draws random numbers"),
        ([node("SequenceConstruct", ["x"], ["s"]), node("SequenceAt", ["s", "i"], ["y"])],
         {"x": (3,)}, {"i": np.array(0)}, "no sequences"),
        ([node("IsNaN", ["x"], ["b"]), node("Cast", ["b"], ["y"], to=1)], {"x": (3,)}, {},
         "always finite"),
        ([node("InstanceNormalization", ["x", "w", "w"], ["y"])], {"x": (2, 3)},
         {"w": np.ones(3, F)}, "without spatial axes"),
        ([node("ScatterElements", ["x", "i", "w"], ["y"])], {"x": (3,)},
         {"i": np.array([9]), "w": np.ones(1, F)}, "outside an axis of 3"),
        ([node("Add", ["x", "w"], ["y"])], {"x": (2,)}, {"w": np.array([1, np.nan], F)},
         "the constant w has elements that are not finite"),
        ([node("Add", ["x", "w"], ["y"])], {"x": (2,)}, {"w": np.array([1, -np.inf], F)},
         "the constant w has elements that are not finite"),
        ([node("Attention", ["x", "x", "x"], ["y", "", "", "z"], qk_matmul_output_mode=2),
          node("Relu", ["z"], ["s"])], {"x": (1, 1, 2, 2)}, {}, "the scores of mode 2"),
        ([node("Cast", ["w"], ["c"], to=1), node("Add", ["x", "c"], ["y"])], {"x": (1,)},
         {"w": np.array([1e300])}, "the constant c has elements that are not finite"),
    ],
)  # fmt: skip
def test_refusals_have_reasons(nodes, inputs, constants, reason):
    nodes[0].name = "culprit"
    rank = len(inputs["x"])
    opset = {"Attention": 23, "Gelu": 20}.get(nodes[0].op_type, 18)
    found = refused(model(nodes, inputs, {"y": rank}, constants, opset))[0]
    assert found[0] in ("E-import-unsupported", "E-import-shape")
    assert reason in found[1]
    assert found[2].startswith("node ")


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
    assert what.startswith("Reshape of opset 13: the shape is computed from an input")


def test_an_input_of_text():
    made = model([node("Relu", ["x"], ["y"])], {"x": (2,)})
    made.graph.input.append(helper.make_tensor_value_info("s", TensorProto.STRING, (1,)))
    assert refused(made)[0][1] == "input s does not hold numbers"


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
    assert "pads (2, 2, 2, 2)" in what
    assert where == "node p"


def test_sparse_constants():
    made = model([node("Relu", ["x"], ["y"])], {"x": (3,)})
    values = helper.make_tensor("s", TensorProto.FLOAT, (1,), [5.0])
    indices = helper.make_tensor("s_at", TensorProto.INT64, (1,), [1])
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, (3,)))
    assert refused(made)[0][1] == "the sparse initialiser s"


@pytest.mark.parametrize(
    ("opset", "installed", "newest", "fix"),
    [
        (6, MAX_OPSET, MAX_OPSET, "another opset"),
        (MAX_OPSET + 1, MAX_OPSET, MAX_OPSET, "another opset"),
        # ONNX knows more operators than were looked at here.
        (MAX_OPSET + 1, MAX_OPSET + 2, MAX_OPSET, "another opset"),
        # The installed one knows fewer.
        (MAX_OPSET, MAX_OPSET - 3, MAX_OPSET - 3, "newer onnx"),
    ],
)
def test_opsets(monkeypatch, opset, installed, newest, fix):
    monkeypatch.setattr(onnx.defs, "onnx_opset_version", lambda: installed)
    made = model([node("Relu", ["x"], ["y"])], {"x": (2,)}, opset=opset)
    ((code, what, _, how),) = refused(made)
    assert code == "E-model-opset"
    assert f"opset {opset}; supported are 7 to {newest}" in what
    assert fix in how


def test_the_newest_opset_of_this_onnx_is_supported():
    """A new onnx brings new operator sets: look at what they change, then raise ``MAX_OPSET``."""
    assert onnx.defs.onnx_opset_version() == MAX_OPSET


# --- models that are nothing for a program -------------------------------------------------------


def test_a_model_of_training_operators_alone():
    training = "ai.onnx.preview.training"
    nodes = [
        node("Momentum", ["r", "t", "x", "g", "v"], ["y", "v2"], domain=training, alpha=0.9,
             beta=0.1, mode="standard", norm_coefficient=0.0),
    ]  # fmt: skip
    made = model(nodes, dict.fromkeys("xgv", (2,)) | {"r": ()}, ["y", "v2"],
                 {"t": np.array(3)}, domains=[training])  # fmt: skip
    found = refused(made)
    assert found[0][0] == "E-import-unsupported"
    assert f"{training}.Momentum of opset 1: it is of training only" in found[0][1]
    assert "inference" in found[0][3]


def test_classical_models():
    svm = node("SVMClassifier", ["x"], ["l", "y"], domain="ai.onnx.ml", classlabels_ints=[0, 1])
    found = refused(model([svm], {"x": (1, 2)}, {"y": 2}, domains=["ai.onnx.ml"]))
    assert "ai.onnx.ml.SVMClassifier of opset 1: the operator is not supported" in found[0][1]
    assert "mpcc ops" in found[0][3]


def test_an_unknown_domain_without_an_opset():
    made = model([node("Custom", ["x"], ["y"], domain="nowhere")], {"x": (2,)})
    assert refused(made)[0][0] == "E-model-invalid"


def test_empty_graphs():
    made = model([node("Relu", ["x"], ["y"])], {"x": (2,)})
    no_nodes, no_outputs = onnx.ModelProto(), onnx.ModelProto()
    no_nodes.CopyFrom(made)
    no_outputs.CopyFrom(made)
    del no_nodes.graph.node[:]
    del no_outputs.graph.output[:]
    assert refused(no_nodes)[0][:2] == ("E-model-empty", "the model's graph has no nodes")
    assert refused(no_outputs)[0][:2] == ("E-model-empty", "the model's graph has no outputs")


def test_attributes_that_nobody_knows():
    """Those of a newer ONNX must not be passed over; here one that only other versions have."""
    made = model([node("Relu", ["x"], ["y"], name="r")], {"x": (2,)})
    made.graph.node[0].attribute.add(name="slope", type=onnx.AttributeProto.FLOAT, f=0.5)
    assert refused(made)[0][0] in ("E-model-invalid", "E-import-unsupported")
