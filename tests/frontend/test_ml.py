"""Operators of ai.onnx.ml but trees: imported and interpreted = onnxruntime; refusals."""

import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import mpcc
from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.frontend.onnx.support import operators
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.text import print_module
from mpcc.ir.verify import verify
from mpcc.options import CompileOptions
from mpcc.verify_program import verify_artifact

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
RNG = np.random.default_rng(0)
PLAIN = RNG.standard_normal((5, 3)).astype(np.float32)
WHOLE = RNG.integers(0, 4, (5, 3))


def built(op, outputs, x, constants=None, **attrs):
    """A model of one node on x [rows, columns]."""
    kind = INT64 if x.dtype.kind == "i" else FLOAT
    constants = constants or {}
    node = helper.make_node(
        op, ["x", *constants], list(outputs), "the node", domain="ai.onnx.ml", **attrs
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info(n, t, None) for n, t in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def vectors(*shape):
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape).reshape(-1).tolist()


Y, BOTH = {"y": FLOAT}, {"label": INT64, "scores": FLOAT}
SVM = {"n_supports": 4, "support_vectors": vectors(4, 3), "coefficients": vectors(4), "rho": [0.3]}


def classes(*per_class, chances=False, **attrs):
    """Attributes of an SVMClassifier with so many support vectors of each class."""
    count, pairs = sum(per_class), len(per_class) * (len(per_class) - 1) // 2
    attrs = {
        "vectors_per_class": list(per_class),
        "support_vectors": vectors(count, 3),
        "coefficients": vectors(len(per_class) - 1, count),
        "rho": vectors(pairs),
        "classlabels_ints": list(range(len(per_class))),
        "kernel_type": "LINEAR",
        "kernel_params": [0.0, 0.0, 3.0],
    } | attrs
    if chances:
        slopes = [-1.5, -0.8, -2.0, -1.0, -1.1, -0.9]
        attrs |= {"prob_a": [slopes[i % 6] for i in range(pairs)], "prob_b": [0.2] * pairs}
    return attrs


CASES: dict[str, tuple[str, Any, Any, dict[str, Any]]] = {
    "scaler": ("Scaler", Y, PLAIN, {"offset": [0.5, -1.0, 2.0], "scale": [2.0, 0.1, -0.3]}),
    "scaler of one number": ("Scaler", Y, PLAIN, {"offset": [0.5], "scale": [2.0]}),
    "normalizer L1": ("Normalizer", Y, PLAIN, {"norm": "L1"}),
    "normalizer L2": ("Normalizer", Y, PLAIN, {"norm": "L2"}),
    "normalizer max": ("Normalizer", Y, np.abs(PLAIN), {"norm": "MAX"}),
    "binarizer": ("Binarizer", Y, PLAIN, {"threshold": 0.25}),
    "imputer": (
        "Imputer",
        Y,
        np.where(PLAIN < 0, np.float32(-1), PLAIN),
        {"replaced_value_float": -1.0, "imputed_value_floats": [0.5, 1.5, 2.5]},
    ),
    "feature vectorizer": ("FeatureVectorizer", Y, PLAIN, {"inputdimensions": [3]}),
    "one hot": ("OneHotEncoder", Y, WHOLE[:, :1], {"cats_int64s": [2, 0, 5]}),
    "integers to integers": (
        "LabelEncoder",
        {"y": INT64},
        WHOLE,
        {"keys_int64s": [0, 2, 3], "values_int64s": [7, -5, 1], "default_int64": 9},
    ),
    "integers to floats": (
        "LabelEncoder",
        Y,
        WHOLE,
        {"keys_int64s": [3, 1], "values_floats": [0.25, -1.5], "default_float": 0.5},
    ),
    **{
        f"linear regressor {how}": (
            "LinearRegressor",
            Y,
            PLAIN,
            {
                "targets": 2,
                "coefficients": vectors(2, 3),
                "intercepts": [0.1, -0.2],
                "post_transform": how,
            },
        )
        for how in ("NONE", "LOGISTIC", "SOFTMAX")
    },
    **{
        f"linear classifier, {len(labels)} classes, {rows} rows, {how}": (
            "LinearClassifier",
            BOTH,
            PLAIN,
            {
                "coefficients": vectors(rows, 3),
                "intercepts": vectors(rows),
                "classlabels_ints": labels,
                "post_transform": how,
            },
        )
        for labels, rows in (([0, 1], 1), ([4, 9], 1), ([0, 1], 2), ([0, 1, 2], 3), ([1, 5, 3], 3))
        for how in ("NONE", "LOGISTIC", "SOFTMAX")
    },
    **{
        f"support vectors, {kind}": (
            "SVMRegressor",
            Y,
            PLAIN,
            SVM | {"kernel_type": kind, "kernel_params": [0.4, 0.2, 3.0]},
        )
        for kind in ("LINEAR", "POLY", "RBF", "SIGMOID")
    },
    **{
        f"classes of support vectors, {len(per)} classes, {how}": (
            "SVMClassifier",
            BOTH,
            PLAIN,
            classes(*per, classlabels_ints=labels, post_transform=how),
        )
        for per, labels in (
            ((2, 3), [0, 1]),
            ((2, 1), [4, 9]),
            ((1, 2, 2), [0, 1, 2]),
            ((2, 1, 1, 2), [1, 5, 3, 4]),
        )
        for how in ("NONE", "LOGISTIC", "SOFTMAX")
    },
    **{
        f"classes of support vectors, {kind}": (
            "SVMClassifier",
            BOTH,
            PLAIN,
            classes(2, 1, 2, kernel_type=kind, kernel_params=[0.4, 0.2, 3.0]),
        )
        for kind in ("POLY", "RBF", "SIGMOID")
    },
    "support vectors, linear model": (
        "SVMRegressor",
        Y,
        PLAIN,
        {"coefficients": vectors(3), "rho": [0.3], "kernel_type": "LINEAR"}
        | {"kernel_params": [0.0, 0.0, 3.0]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_onnxruntime(name):
    op, outputs, x, attrs = CASES[name]
    data = built(op, outputs, x, **attrs)
    imported = import_onnx(data)
    verify(imported.module, DIALECTS["tensor"])
    assert imported.disclosed == ()
    have = real.run(imported.module, imported.constants, {"x": x.astype(np.float64)})
    wanted = onnxruntime.InferenceSession(data).run(None, {"x": x})
    for port, want in zip(imported.outputs, wanted, strict=True):
        assert have[port.name].shape == port.shape == want.shape
        np.testing.assert_allclose(have[port.name], want, atol=1e-5)


def test_extraction_of_columns():
    data = built("ArrayFeatureExtractor", Y, PLAIN, {"at": np.array([2, 0])})
    imported = import_onnx(data)
    have = real.run(imported.module, imported.constants, {"x": PLAIN})["y"]
    (want,) = onnxruntime.InferenceSession(data).run(None, {"x": PLAIN})
    np.testing.assert_array_equal(have, want)


def test_labels_that_are_strings_become_indices():
    attrs = dict(CASES["linear classifier, 3 classes, 3 rows, NONE"][3])
    del attrs["classlabels_ints"]
    attrs["classlabels_strings"] = ["red", "green", "blue"]
    outputs = {"label": STRING, "scores": FLOAT}
    data = built("LinearClassifier", outputs, PLAIN, **attrs)
    imported = import_onnx(data)
    have = real.run(imported.module, imported.constants, {"x": PLAIN})["label"]
    want, _ = onnxruntime.InferenceSession(data).run(None, {"x": PLAIN})
    assert [attrs["classlabels_strings"][int(i)] for i in have] == list(want)
    assert imported.notes == (
        "LinearClassifier the node gives numbers in place of its strings: "
        "0 for red, 1 for green, 2 for blue",
    )


def test_what_strings_and_maps_become_is_said_when_compiling():
    keys = list(range(10))
    texts = ["a", "b", "a", *"defghij"]
    attrs = {"keys_int64s": keys, "values_strings": texts}
    compiled = mpcc.compile(built("LabelEncoder", {"y": STRING}, WHOLE, **attrs))
    (note,) = (n for n in compiled.notes if "strings" in n)
    assert note.startswith("LabelEncoder the node gives numbers in place of its strings: 0 for a, ")
    assert note.endswith("8 for i and so on")


def test_no_number_of_the_model_is_in_the_program():
    """But integers: labels, keys and categories."""
    for op, outputs, x, attrs in CASES.values():
        if op in ("Normalizer", "LabelEncoder"):
            continue
        other = {
            k: [v * 0.5 for v in given]
            if isinstance(given, list) and isinstance(given[0], float)
            else given
            for k, given in attrs.items()
            if k != "kernel_params"
        }
        other |= {k: v for k, v in attrs.items() if k == "kernel_params"}
        texts = {
            print_module(import_onnx(built(op, outputs, x, **a)).module) for a in (attrs, other)
        }
        assert len(texts) == 1


def test_a_map_at_the_end_is_left_out():
    op, _, x, attrs = CASES["linear classifier, 3 classes, 3 rows, SOFTMAX"]
    model = onnx.load_from_string(built(op, BOTH, x, **attrs))
    zipped = helper.make_node(
        "ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]
    )
    model.graph.node.append(zipped)
    entry = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, None))
    model.graph.output[1].CopyFrom(
        helper.make_value_info("maps", helper.make_sequence_type_proto(entry))
    )
    data = model.SerializeToString()
    imported = import_onnx(data)
    assert [(p.name, p.shape) for p in imported.outputs] == [("label", (5,)), ("maps", (5, 3))]
    assert imported.notes == (
        "output maps is the tensor of scores that the model's ZipMap would pack in maps",
    )
    have = real.run(imported.module, imported.constants, {"x": PLAIN})["maps"]
    _, want = onnxruntime.InferenceSession(data).run(None, {"x": PLAIN})
    np.testing.assert_allclose(have, [[row[i] for i in range(3)] for row in want], atol=1e-6)


@pytest.mark.parametrize(
    ("op", "attrs", "why"),
    [
        ("Imputer", {"imputed_value_floats": [1.0], "replaced_value_float": np.nan}, "NaN"),
        ("OneHotEncoder", {"cats_strings": ["a"]}, "categories that are strings"),
        ("OneHotEncoder", {"cats_int64s": [1], "zeros": 0}, "zeros = 0"),
        ("LabelEncoder", {"keys_floats": [1.0], "values_floats": [2.0]}, "no whole numbers"),
        ("LinearRegressor", {"coefficients": [1.0]}, "1 coefficients for 3 features"),
        ("Scaler", {"scale": [1.0, 2.0]}, "2 numbers scale for 3 features"),
        ("SVMRegressor", SVM | {"kernel_type": "POLY", "kernel_params": [1.0, 0.0, 2.5]}, "2.5"),
        ("SVMRegressor", SVM | {"rho": [1.0, 2.0]}, "2 numbers rho"),
        ("SVMClassifier", classes(*[1] * 33, chances=True), "probabilities of 33 classes"),
        ("SVMClassifier", classes(1, 1) | {"rho": [1.0, 2.0]}, "do not fit together"),
        ("SVMClassifier", classes(1, 1) | {"vectors_per_class": [2]}, "1 lists of support vectors"),
        ("SVMClassifier", classes(1, 1, post_transform="PROBIT"), "PROBIT"),
        ("SVMClassifier", classes(1, 1, chances=True) | {"prob_b": [1.0, 2.0]}, "1 and 2 numbers"),
        ("LinearRegressor", {"coefficients": vectors(3), "post_transform": "PROBIT"}, "PROBIT"),
    ],
)
def test_what_is_refused(op, attrs, why):
    outputs = BOTH if op == "SVMClassifier" else Y
    with pytest.raises(MpccError, match=why):
        import_onnx(built(op, outputs, PLAIN, **attrs))


@pytest.mark.parametrize("per_class", [(2, 3), (2, 1, 2), (2, 1, 2, 1), (1,) * 9])
def test_probabilities_of_support_vectors(per_class):
    """Those whose definition onnxruntime approaches, and its labels."""
    attrs = classes(*per_class, chances=True)
    data = built("SVMClassifier", BOTH, PLAIN, **attrs)
    imported = import_onnx(data)
    verify(imported.module, DIALECTS["tensor"])
    have = real.run(imported.module, imported.constants, {"x": PLAIN.astype(np.float64)})
    label, scores = onnxruntime.InferenceSession(data).run(None, {"x": PLAIN})
    count = len(per_class)
    np.testing.assert_allclose(have["scores"], scores, atol=0.005)
    np.testing.assert_array_equal(have["label"], label)

    # The definition itself, by another way: least squares on the simplex's plane.
    without = {k: v for k, v in attrs.items() if not k.startswith("prob")}
    plain = built("SVMClassifier", BOTH, PLAIN, **without)
    decisions = onnxruntime.InferenceSession(plain).run(None, {"x": PLAIN})[1]
    decisions = decisions[:, 1:] if count == 2 else decisions
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    for row, found in zip(decisions, have["scores"], strict=True):
        r = 1 / (1 + np.exp(row * attrs["prob_a"] + attrs["prob_b"]))
        lines = np.zeros((len(pairs), count))
        for line, (i, j), p in zip(lines, pairs, r, strict=True):
            line[i], line[j] = 1 - p, -p
        system = np.block([[lines.T @ lines, np.ones((count, 1))], [np.ones((1, count)), 0]])
        want = np.linalg.solve(system, [*[0.0] * count, 1.0])[:count]
        np.testing.assert_allclose(found, want, atol=1e-6)


@pytest.mark.parametrize("species", [3, 5])
def test_probabilities_of_support_vectors_in_fixed_point(species):
    """A classifier of irises as scikit-learn trains and skl2onnx writes it, as a program.

    With five classes, two of them are parts of the species that are hard to tell apart.
    """
    svm, datasets = pytest.importorskip("sklearn.svm"), pytest.importorskip("sklearn.datasets")
    to_onnx = pytest.importorskip("skl2onnx").to_onnx
    x, y = datasets.load_iris(return_X_y=True)
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    if species == 5:
        y = np.where((y > 0) & (x[:, 1] > 0), y + 2, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = svm.SVC(probability=True, random_state=0).fit(x, y)
        data = to_onnx(fitted, x[:1], options={"zipmap": False}).SerializeToString()
    every = 5 if species == 3 else 15
    rows = x[::every]
    options = CompileOptions(shapes={"X": rows.shape})
    calibration = {"X": np.stack([x[i::every] for i in range(5)])}
    compiled = mpcc.compile(data, options=options, calibration=calibration)
    assert verify_artifact(compiled.artifact).accepted
    run = mpcc.simulate(compiled.artifact, compiled.weights, {"X": rows}, seed=1)
    label, chances = onnxruntime.InferenceSession(data).run(None, {"X": rows})
    np.testing.assert_allclose(run.outputs["probabilities"], chances, atol=0.005 + 2.0**-7)
    leads = np.sort(chances, axis=1)
    sure = leads[:, -1] - leads[:, -2] > 0.03
    assert sure.sum() >= (25 if species == 3 else 5)
    np.testing.assert_array_equal(run.outputs["label"][sure], label[sure])


def test_what_is_not_supported_is_refused_by_name():
    said = {s.name: s for s in operators() if s.domain == "ai.onnx.ml" and s.status == "no"}
    assert said.keys() == {"CastMap", "CategoryMapper", "DictVectorizer", "ZipMap"}
    assert "maps cannot be shared" in said["CastMap"].note
    assert "strings cannot be shared" in said["CategoryMapper"].note
    model = onnx.load_from_string(built("Scaler", Y, PLAIN, scale=[2.0]))
    mapper = helper.make_node(
        "CategoryMapper", ["x"], ["y"], domain="ai.onnx.ml", cats_int64s=[1], cats_strings=["a"]
    )
    model.graph.node[0].CopyFrom(mapper)
    model.graph.input[0].type.tensor_type.elem_type = INT64
    model.graph.output[0].type.tensor_type.elem_type = STRING
    with pytest.raises(MpccError, match=r"ai\.onnx\.ml\.CategoryMapper of opset 3"):
        import_onnx(model.SerializeToString())


def test_models_that_import_no_default_operators():
    """As ONNX's own tests of ai.onnx.ml; and one that imports them twice, as skl2onnx writes it."""
    model = onnx.load_from_string(built("Scaler", Y, PLAIN, scale=[2.0]))
    del model.opset_import[0]
    for _ in range(2):
        imported = import_onnx(model.SerializeToString())
        have = real.run(imported.module, imported.constants, {"x": PLAIN})["y"]
        np.testing.assert_allclose(have, 2 * PLAIN, rtol=1e-6)
        model.opset_import.extend([helper.make_opsetid("", 18)] * 2)
