"""Tree ensembles: imported and interpreted = onnxruntime, what stays secret, what is refused."""

from itertools import count
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.frontend.onnx import trees
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify

FEATURES = 4
FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
THRESHOLDS = np.array([-1.5, -0.1, 0.0, 0.3, 0.7, 1.1, 2.0], np.float32)


def grown(rng, depths, modes, outputs, *, one_output=False, low=-1.0):
    """Attributes of trees, each cut off early here and there."""
    nodes: dict[str, list[Any]]
    leaves: dict[str, list[Any]]
    nodes = {k: [] for k in ("treeids", "nodeids", "featureids", "modes", "values")}
    nodes |= {k: [] for k in ("truenodeids", "falsenodeids")}
    leaves = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    for tree, depth in enumerate(depths):
        number = count()

        def grow(left, tree=tree, number=number):
            here = next(number)
            at = len(nodes["nodeids"])
            is_leaf = left == 0 or (left < max(depths) and rng.random() < 0.2)
            row = {"treeids": tree, "nodeids": here, "featureids": 0, "values": 0.0}
            row |= {"modes": "LEAF", "truenodeids": 0, "falsenodeids": 0}
            for key, value in row.items():
                nodes[key].append(value)
            if is_leaf:
                for target in [0] if one_output else range(outputs):
                    entry = {"treeids": tree, "nodeids": here, "ids": target}
                    entry["weights"] = float(np.float32(rng.uniform(low, 1)))
                    for key, value in entry.items():
                        leaves[key].append(value)
                return here
            nodes["modes"][at] = str(rng.choice(modes))
            nodes["featureids"][at] = int(rng.integers(FEATURES))
            nodes["values"][at] = float(rng.choice(THRESHOLDS))
            nodes["truenodeids"][at] = grow(left - 1)
            nodes["falsenodeids"][at] = grow(left - 1)
            return here

        grow(depth)
    return nodes, leaves


def built(op, attrs, outputs, rows=8, kind=FLOAT, opset=3):
    """A model of one node."""
    names = list(outputs)
    node = helper.make_node(op, ["x"], names, "trees", domain="ai.onnx.ml", **attrs)
    x = helper.make_tensor_value_info("x", kind, [rows, FEATURES])
    infos = [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()]
    graph = helper.make_graph([node], "g", [x], infos)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def classifier(seed=0, classes=3, depths=(3, 2, 4), modes=("BRANCH_LEQ",), **more):
    """A TreeEnsembleClassifier; ``strings``: labels are strings."""
    one, strings = more.pop("one_output", False), more.pop("strings", False)
    low, rows = more.pop("low", -1.0), more.pop("rows", 8)
    rng = np.random.default_rng(seed)
    nodes, leaves = grown(rng, depths, modes, classes, one_output=one, low=low)
    labels = more.pop("labels", range(classes))
    attrs = {f"nodes_{k}": v for k, v in nodes.items()}
    attrs |= {f"class_{k}": v for k, v in leaves.items()}
    if strings:
        attrs["classlabels_strings"] = [f"label {i}" for i in range(classes)]
    else:
        attrs["classlabels_int64s"] = list(labels)
    label = (STRING if strings else INT64, [rows])
    outputs = {"label": label, "scores": (FLOAT, [rows, classes])}
    return built("TreeEnsembleClassifier", attrs | more, outputs, rows)


def regressor(seed=0, targets=2, depths=(3, 2, 4), modes=("BRANCH_LEQ",), **more):
    """A TreeEnsembleRegressor."""
    rng = np.random.default_rng(seed)
    nodes, leaves = grown(rng, depths, modes, targets)
    attrs = {f"nodes_{k}": v for k, v in nodes.items()}
    attrs |= {f"target_{k}": v for k, v in leaves.items()} | {"n_targets": targets}
    for key in [k for k in more if k in attrs]:
        attrs[key] = more.pop(key)
    return built("TreeEnsembleRegressor", attrs | more, {"y": (FLOAT, [8, targets])})


def rows(seed=0, number=8):
    """Features that equal thresholds often."""
    rng = np.random.default_rng(seed)
    near = rng.choice(THRESHOLDS, (number, FEATURES))
    far = rng.uniform(-3, 3, (number, FEATURES)).astype(np.float32)
    return np.where(rng.random(near.shape) < 0.5, near, far)


def by_onnxruntime(data):
    """A function from features to outputs."""
    session = onnxruntime.InferenceSession(data)
    return lambda x: session.run(None, {"x": x})


def check(data, runner=by_onnxruntime, **options):
    """Import, verify, print and parse, and compare with onnxruntime; the import."""
    imported = import_onnx(data, **options)
    verify(imported.module, DIALECTS["tensor"])
    text = print_module(imported.module)
    assert print_module(parse_module(text, DIALECTS)) == text
    run = runner(data)
    for seed in range(4):
        x = rows(seed)
        have = real.run(imported.module, imported.constants, {"x": x})
        for port, want in zip(imported.outputs, run(x), strict=True):
            if want.dtype.kind in "OU":
                want = np.array([int(str(w).split()[1]) for w in want])
            assert have[port.name].shape == want.shape == port.shape
            np.testing.assert_allclose(have[port.name], want, atol=1e-5)
    return imported


MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT")


@pytest.mark.parametrize("mode", [*([m] for m in MODES), MODES], ids=lambda m: "-".join(m))
def test_every_mode_of_conditions(mode):
    for weights in ("secret", "public"):
        check(regressor(1, modes=mode), weights=weights)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("base", [[], [0.25, -0.5, 0.125]], ids=["", "base"])
def test_several_classes(transform, base):
    more = {"base_values": base} if base else {}
    check(classifier(2, post_transform=transform, **more))


@pytest.mark.parametrize("low", [-1.0, 0.0])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
@pytest.mark.parametrize("base", [[], [0.25]], ids=["", "base"])
@pytest.mark.parametrize("labels", [(0, 1), (3, 7)])
def test_two_classes_of_one_score(low, transform, base, labels):
    more = {"base_values": base} if base else {}
    data = classifier(
        3, 2, low=low, one_output=True, post_transform=transform, labels=labels, **more
    )
    imported = check(data)
    said = [d.what for d in imported.disclosed]
    assert ("no leaf" if low == 0.0 else "some leaf") + " has a negative value" in said


@pytest.mark.parametrize("labels", [(5, 6, 7), (2, 9, -4)])
def test_labels_are_numbers_of_the_model(labels):
    check(classifier(4, labels=labels))


def test_labels_that_are_strings_become_indices():
    check(classifier(5, strings=True))
    check(classifier(5, 2, strings=True, one_output=True))


@pytest.mark.parametrize("how", ["SUM", "AVERAGE"])
def test_sums_and_averages(how):
    check(regressor(6, aggregate_function=how, base_values=[0.5, -0.25]))


def test_trees_of_one_leaf():
    check(regressor(7, depths=(0, 3, 0)))


@pytest.mark.parametrize("transform", [0, 1, 2])
def test_tree_ensemble_of_opset_5(transform):
    attrs = {
        "n_targets": 2,
        "aggregate_function": 1,
        "post_transform": transform,
        "tree_roots": [0, 2],
        "nodes_modes": onnx.numpy_helper.from_array(np.array([0, 1, 3], np.uint8)),
        "nodes_splits": onnx.numpy_helper.from_array(THRESHOLDS[[1, 3, 5]]),
        "nodes_featureids": [0, 1, 2],
        "nodes_truenodeids": [1, 0, 2],
        "nodes_trueleafs": [0, 1, 1],
        "nodes_falsenodeids": [2, 1, 3],
        "nodes_falseleafs": [1, 1, 1],
        "leaf_targetids": [0, 1, 0, 1],
        "leaf_weights": onnx.numpy_helper.from_array(np.array([1, 2, -3, 0.5], np.float32)),
    }
    outputs = {"y": (FLOAT, [8, 2])}
    plain = by_onnxruntime(built("TreeEnsemble", attrs | {"post_transform": 0}, outputs, opset=5))

    # ONNX numbers SOFTMAX 1 and LOGISTIC 2, onnxruntime 1.32 the other way round.
    def transformed(x):
        (y,) = plain(x)
        softmax = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
        return [(y, softmax, 1 / (1 + np.exp(-y)))[transform]]

    check(built("TreeEnsemble", attrs, outputs, opset=5), lambda _: transformed)


def test_integer_features():
    rng = np.random.default_rng(8)
    nodes, leaves = grown(rng, (3, 3), ("BRANCH_LEQ",), 1)
    attrs = {f"nodes_{k}": v for k, v in nodes.items()}
    attrs |= {f"target_{k}": v for k, v in leaves.items()} | {"n_targets": 1}
    data = built("TreeEnsembleRegressor", attrs, {"y": (FLOAT, [8, 1])}, kind=INT64)
    imported = import_onnx(data)
    x = rng.integers(-3, 4, (8, FEATURES))
    twin = built("TreeEnsembleRegressor", attrs, {"y": (FLOAT, [8, 1])})
    (want,) = onnxruntime.InferenceSession(twin).run(None, {"x": x.astype(np.float32)})
    have = real.run(imported.module, imported.constants, {"x": x.astype(np.float64)})["y"]
    np.testing.assert_allclose(have, want, atol=1e-6)


def test_features_and_thresholds_of_binary64_stay_equal():
    """0.1 and its neighbours are no binary32 numbers."""
    attrs = {
        "tree_roots": [0],
        "nodes_modes": onnx.numpy_helper.from_array(np.array([0], np.uint8)),
        "nodes_splits": onnx.numpy_helper.from_array(np.array([0.1])),
        "nodes_featureids": [0],
        "nodes_truenodeids": [0],
        "nodes_trueleafs": [1],
        "nodes_falsenodeids": [1],
        "nodes_falseleafs": [1],
        "leaf_targetids": [0, 0],
        "leaf_weights": onnx.numpy_helper.from_array(np.array([1.0, 2.0])),
    }
    double = TensorProto.DOUBLE
    data = built("TreeEnsemble", attrs, {"y": (double, [3, 1])}, 3, double, 5)
    imported = import_onnx(data)
    x = np.zeros((3, FEATURES))
    x[:, 0] = [0.1, 0.2, -0.1]
    for features in (x, x.astype(np.float32)):
        have = real.run(imported.module, imported.constants, {"x": features})["y"]
        assert have[:, 0].tolist() == [1.0, 2.0, 1.0]


def test_large_forests_are_cut_into_parts(monkeypatch):
    monkeypatch.setattr(trees, "MAX_LIST", 40)
    imported = check(regressor(9, depths=(3, 3, 3, 3, 3)))
    names = [op.attrs["name"] for op in imported.module.main.walk("tensor.weight")]
    assert names.count("y.thresholds") == names.count("y.thresholds.1") == 1


# --- what is secret ------------------------------------------------------------------------------


def text(data, **options):
    return print_module(import_onnx(data, **options).module)


def other_numbers(model_bytes):
    """The same trees with other features, modes, thresholds and values."""
    model = onnx.load_from_string(model_bytes)
    rng = np.random.default_rng(99)
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "nodes_featureids":
            attribute.ints[:] = [int(i) for i in rng.integers(FEATURES, size=len(attribute.ints))]
        if attribute.name in ("nodes_values", "target_weights"):
            attribute.floats[:] = [float(v) for v in rng.uniform(-9, 9, len(attribute.floats))]
    return model.SerializeToString()


def test_programs_do_not_depend_on_features_thresholds_and_values():
    data = regressor(10)
    assert text(data) == text(other_numbers(data))
    assert text(data, owners={"y.features": "public"}) != text(
        other_numbers(data), owners={"y.features": "public"}
    )


def test_the_shape_is_disclosed_unless_it_is_secret():
    # Trees of one depth, of other shapes.
    first, second = regressor(11, depths=(4, 4, 4)), regressor(12, depths=(4, 4, 4))
    assert text(first) != text(second)
    (said,) = import_onnx(first).disclosed
    assert said.what.startswith("the shape of 3 trees, of ")
    hidden = {"y.shape": "model"}
    assert text(first, owners=hidden) == text(second, owners=hidden)
    for data in (first, second):
        imported = check(data, owners=hidden)
        assert [d.what for d in imported.disclosed] == ["3 trees of depth 4"]
        thresholds = next(
            op
            for op in imported.module.main.walk("tensor.weight")
            if op.attrs["name"] == "y.thresholds"
        )
        assert thresholds.attrs["shape"] == (3 * 15,)


def test_owners_of_all_weights_of_trees():
    imported = import_onnx(
        regressor(13, base_values=[1.0, 2.0]),
        owners={"y.thresholds": "public", "y.base": "public", "y.values": "model"},
    )
    owners = {
        op.attrs["name"]: op.attrs["owner"] for op in imported.module.main.walk("tensor.weight")
    }
    assert owners == {
        "y.thresholds": "public",
        "y.features": "model",
        "y.values": "model",
        "y.base": "public",
    }


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["BRANCH_EQ", "BRANCH_NEQ"])
def test_conditions_of_equality_are_refused_by_name(mode):
    with pytest.raises(MpccError, match=f"conditions of mode {mode}"):
        import_onnx(regressor(modes=[mode]))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (lambda: classifier(post_transform="PROBIT"), "post_transform PROBIT"),
        (lambda: classifier(post_transform="SOFTMAX_ZERO"), "post_transform SOFTMAX_ZERO"),
        (lambda: regressor(aggregate_function="MIN"), "aggregate_function MIN"),
        (lambda: regressor(nodes_featureids=[FEATURES] * 3), "lists of nodes do not fit"),
        (lambda: regressor(target_ids=[9]), "lists of leaves do not fit"),
        (lambda: regressor(depths=(0, 0)), "none of its trees has a condition"),
        (lambda: classifier(classes=1), "1 classes"),
        (lambda: regressor(base_values=[1.0, 2.0, 3.0]), "3 base values for 2 outputs"),
    ],
)
def test_what_is_refused(data, why):
    with pytest.raises(MpccError, match=why):
        import_onnx(data())


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("nodes_featureids", FEATURES, "features do not have"),
        ("nodes_truenodeids", 77, "node 77 of tree 0 is missing"),
        # A node below itself, and a leaf with two parents.
        ("nodes_truenodeids", 0, "do not make trees"),
        ("nodes_values", float("nan"), "a threshold is not a number"),
        ("nodes_values", float("inf"), "not finite"),
    ],
)
def test_broken_trees_are_refused(name, value, why):
    model = onnx.load_from_string(regressor(14, depths=(3,)))
    (attribute,) = (a for a in model.graph.node[0].attribute if a.name == name)
    (attribute.floats or attribute.ints)[0] = value
    with pytest.raises(MpccError, match=why):
        import_onnx(model.SerializeToString())
