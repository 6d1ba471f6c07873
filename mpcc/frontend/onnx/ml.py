"""ONNX classical machine learning (domain ai.onnx.ml).

Floats among the attributes are weights, as initialisers are (``--owner OUTPUT.scale=public`` and so
on). Labels, keys and categories that are integers are public.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import onnx

from mpcc.frontend.importer import Constant, Operand, type_of
from mpcc.frontend.onnx import trees
from mpcc.frontend.onnx.compose import negative, power, scaled
from mpcc.frontend.onnx.indexing import gathered
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.frontend.onnx.tokens import looked_up_rows
from mpcc.frontend.onnx.trees import (
    chosen_label,
    labels_of,
    note_texts,
    rows_of,
    transformed,
)
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import element_count

__all__ = ["OPERATORS", "without_maps"]


def without_maps(model: onnx.ModelProto) -> list[str]:
    """Replace every ZipMap at a model's end by the tensor of scores that it packs.

    Args:
        model: changed in place.

    Returns:
        Names of the outputs that were maps.
    """
    found = []
    outputs = {o.name: o for o in model.graph.output}
    for node in model.graph.node:
        if (node.domain, node.op_type) == ("ai.onnx.ml", "ZipMap") and node.output[0] in outputs:
            node.domain, node.op_type = "", "Identity"
            del node.attribute[:]
            info = outputs[node.output[0]]
            found.append(str(info.name))
            info.type.Clear()
            info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return found


def _weight(node: Node, what: str, array: npt.ArrayLike) -> Constant:
    """A weight that is an attribute of the node."""
    name = f"{node.output}.{what}"
    numbers = np.asarray(array, np.float64)
    node.room(*numbers.shape)
    return Constant(numbers, node.builder.name(name), node.builder.roles.weight(name))


def _numbers(node: Node, name: str) -> tuple[float, ...]:
    return node.numbers(name) if node.has(name) else ()


# --- linear models and support vectors -----------------------------------------------------------


def _affine(node: Node, outputs: int, intercepts: Sequence[float]) -> Value:
    """Rows times the coefficients, plus intercepts."""
    x, given = rows_of(node), node.numbers("coefficients")
    columns = type_of(x).shape[1]
    if len(given) != columns * outputs or len(intercepts) not in (0, outputs):
        node.refuse(f"{len(given)} coefficients for {columns} features and {outputs} outputs")
    matrix = np.asarray(given).reshape(outputs, columns).T
    y = node.emit(tensor.MatMul, x, _weight(node, "coefficients", matrix))
    if not intercepts:
        return y
    return node.emit(tensor.Add, y, _weight(node, "intercepts", intercepts))


def linear_regressor(node: Node) -> Operand:
    """LinearRegressor: one product."""
    outputs = node.integer("targets", 1)
    y = _affine(node, outputs, _numbers(node, "intercepts"))
    return transformed(node, y, node.text("post_transform", "NONE"))


def linear_classifier(node: Node) -> tuple[Operand, Operand]:
    """LinearClassifier: labels that are strings become indices of classes."""
    labels, classes = labels_of(node, "classlabels_ints", "classlabels_strings")
    intercepts = _numbers(node, "intercepts")
    columns = type_of(node.operand(0)).shape[-1]
    outputs = len(node.numbers("coefficients")) // columns
    if outputs < 1 or classes != max(outputs, 2):
        node.refuse(f"{outputs} rows of coefficients for {classes} labels")
    scores, how = _affine(node, outputs, intercepts), node.text("post_transform", "NONE")
    if outputs > 1:
        best = node.emit(tensor.ArgMax, scores, axis=1, keepdims=False)
        return chosen_label(node, best, labels), transformed(node, scores, how)
    above = node.emit(tensor.Less, node.public("zero", 0.0), scores)
    # As onnxruntime does, a softmax of one score is the score.
    second = scores if how == "SOFTMAX" else transformed(node, scores, how)
    first = node.emit(tensor.Sub, node.public("one", 1.0), second)
    rows = (type_of(scores).shape[0],)
    index = node.emit(tensor.Reshape, node.real(above), shape=rows)
    label = index if list(labels) == [0, 1] else chosen_label(node, index, labels)
    return label, node.emit(tensor.Concat, first, second, axis=1)


def _kernel(node: Node, x: Value, vectors: npt.NDArray[np.float64]) -> Value:
    """A kernel of rows [B, F] and vectors [S, F]: [B, S]."""
    kind = node.text("kernel_type", "LINEAR")
    given = _numbers(node, "kernel_params") or (0.0, 0.0, 3.0)
    if len(given) != 3:
        node.refuse(f"{len(given)} kernel_params")
    gamma, offset, degree = given
    if kind == "LINEAR":
        return node.emit(tensor.MatMul, x, _weight(node, "vectors", vectors.T))
    if kind == "RBF":
        # gamma |x - v|^2 = gamma x^2 - 2 gamma x v + gamma v^2, which rounding may make negative.
        square = node.emit(tensor.ReduceSum, node.emit(tensor.Mul, x, x), axes=(1,), keepdims=True)
        square = node.emit(tensor.Mul, square, _weight(node, "gamma", gamma))
        product = node.emit(tensor.MatMul, x, _weight(node, "vectors", -2 * gamma * vectors.T))
        sizes = _weight(node, "squares", gamma * (vectors**2).sum(axis=1))
        distance = node.emit(tensor.Add, node.emit(tensor.Add, product, sizes), square)
        return node.emit(tensor.Exp, negative(node, node.emit(tensor.Relu, distance)))
    inner = node.emit(tensor.MatMul, x, _weight(node, "vectors", gamma * vectors.T))
    inner = node.emit(tensor.Add, inner, _weight(node, "offset", offset))
    if kind == "SIGMOID":
        return node.emit(tensor.Tanh, inner)
    if kind != "POLY" or not 1 <= degree <= 16 or degree != int(degree):
        node.refuse(f"kernel {kind} of degree {degree}", "degrees are whole numbers from 1 to 16")
    return power(node, inner, int(degree))


def svm_regressor(node: Node) -> Operand:
    """SVMRegressor: kernels LINEAR, POLY, RBF and SIGMOID; support vectors are secret."""
    x, count = rows_of(node), node.integer("n_supports", 0)
    columns, coefficients = type_of(x).shape[1], node.numbers("coefficients")
    rho = node.numbers("rho")
    if len(rho) != 1:
        node.refuse(f"{len(rho)} numbers rho")
    if count:
        vectors = np.asarray(node.numbers("support_vectors"))
        if len(vectors) != count * columns or len(coefficients) != count:
            node.refuse("its support vectors do not fit together", "export the model again")
        kernel = _kernel(node, x, vectors.reshape(count, columns))
        weights = _weight(node, "coefficients", np.asarray(coefficients)[:, None])
        y = node.emit(tensor.MatMul, kernel, weights)
    else:
        if len(coefficients) != columns:
            node.refuse(f"{len(coefficients)} coefficients for {columns} features")
        y = _kernel(node, x, np.asarray(coefficients)[None])
    y = node.emit(tensor.Add, y, _weight(node, "rho", rho))
    if node.integer("one_class", 0):
        # 1 inside, -1 outside.
        inside = node.real(node.emit(tensor.Less, node.public("zero", 0.0), y))
        return node.emit(tensor.Sub, scaled(node, inside, 2.0), node.public("one", 1.0))
    return transformed(node, y, node.text("post_transform", "NONE"))


def svm_classifier(node: Node) -> tuple[Operand, Operand]:
    """SVMClassifier: votes of all pairs of classes, and probabilities."""
    labels, classes = labels_of(node, "classlabels_ints", "classlabels_strings")
    how = node.text("post_transform", "NONE")
    decisions = _decisions(node, classes)
    pairs = list(combinations(range(classes), 2))
    scores = decisions
    if node.has("prob_a") and node.numbers("prob_a"):
        scores = _probabilities(node, decisions, classes)
        if classes == 2:
            best = node.emit(tensor.ArgMax, scores, axis=1, keepdims=False)
            return chosen_label(node, best, labels), transformed(node, scores, how)
    above = node.real(node.emit(tensor.Less, node.public("zero", 0.0), decisions))
    if classes > 2:
        # The likeliest class need not be the label, in onnxruntime and in scikit-learn neither.
        # A pair's first class has its vote if the decision is positive, the second one else.
        votes = np.zeros((len(pairs), classes))
        for row, (i, j) in enumerate(pairs):
            votes[row, i], votes[row, j] = 1.0, -1.0
        base = [float(sum(j == k for _, j in pairs)) for k in range(classes)]
        counted = node.emit(tensor.MatMul, above, node.public("votes", votes))
        counted = node.emit(tensor.Add, counted, node.public("base", base))
        best = node.emit(tensor.ArgMax, counted, axis=1, keepdims=False)
        return chosen_label(node, best, labels), transformed(node, scores, how)
    # As onnxruntime does: -d and d, logistic functions of them, or for SOFTMAX 1 - d and d.
    second = transformed(node, decisions, how) if how != "SOFTMAX" else decisions
    if how == "NONE":
        first = negative(node, decisions)
    else:
        first = node.emit(tensor.Sub, node.public("one", 1.0), second)
    index = node.emit(tensor.Sub, node.public("last", 1.0), above)
    index = node.emit(tensor.Reshape, index, shape=(type_of(index).shape[0],))
    label = index if list(labels) == [0, 1] else chosen_label(node, index, labels)
    return label, node.emit(tensor.Concat, first, second, axis=1)


def _decisions(node: Node, classes: int) -> Value:
    """What every pair of classes says of rows [B, F]: [B, pairs], positive for the first class."""
    x, per_class = rows_of(node), node.ints("vectors_per_class")
    columns, count = type_of(x).shape[1], sum(per_class)
    if classes < 2 or len(per_class) != classes or min(per_class) < 0 or not count:
        node.refuse(
            f"{len(per_class)} lists of support vectors for {classes} classes",
            "of a linear one without support vectors make a LinearClassifier",
        )
    vectors = np.asarray(node.numbers("support_vectors"))
    coefficients, rho = np.asarray(node.numbers("coefficients")), node.numbers("rho")
    pairs = list(combinations(range(classes), 2))
    if (len(vectors), len(coefficients), len(rho)) != (
        count * columns,
        count * (classes - 1),
        len(pairs),
    ):
        node.refuse("its support vectors do not fit together", "export the model again")
    node.room(count, len(pairs))
    coefficients = coefficients.reshape(classes - 1, count)
    ends = np.cumsum((0, *per_class))
    matrix = np.zeros((count, len(pairs)))
    for column, (i, j) in enumerate(pairs):
        for one, row in ((i, j - 1), (j, i)):
            its = slice(ends[one], ends[one + 1])
            matrix[its, column] = coefficients[row, its]
    kernel = _kernel(node, x, vectors.reshape(count, columns))
    found = node.emit(tensor.MatMul, kernel, _weight(node, "coefficients", matrix))
    return node.emit(tensor.Add, found, _weight(node, "rho", rho))


# Squares and products of the pairs' probabilities r = (r01, r02, r12) and their complements s, in
# the order r r, s s, r s, make the elements 00, 11, 22, 01, 02, 12 of a matrix Q ...
_COUPLING = np.zeros((9, 6))
for _row, _column, _sign in (
    (3, 0, 1), (4, 0, 1), (0, 1, 1), (5, 1, 1), (1, 2, 1), (2, 2, 1), (6, 3, -1), (7, 4, -1),
    (8, 5, -1),
):  # fmt: skip
    _COUPLING[_row, _column] = _sign
# ... and differences of products of these its cofactors, in the same order.
_PRODUCTS = (
    ((1, 2), (5, 5)), ((0, 2), (4, 4)), ((0, 1), (3, 3)), ((4, 5), (3, 2)), ((3, 5), (4, 1)),
    ((3, 4), (0, 5)),
)  # fmt: skip
_ROWS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float64)


def _probabilities(node: Node, decisions: Value, classes: int) -> Value:
    """Probabilities of classes [B, classes] from those of pairs.

    Of several classes they are those p of sum 1 that minimise p' Q p, the sum of
    (r_ji p_i - r_ij p_j)^2 (Wu, Lin and Weng, "Probability Estimates for Multi-class Classification
    by Pairwise Coupling", JMLR 5, 2004, section 4.2). Of three they are the sums of the rows of the
    adjugate of Q, over the sum of all; of more see :func:`_coupled`. onnxruntime approaches them
    until they change by less than 0.005 / classes.
    """
    a, b = np.asarray(node.numbers("prob_a")), np.asarray(node.numbers("prob_b"))
    pairs = classes * (classes - 1) // 2
    if len(a) != pairs or len(b) != pairs:
        node.refuse(f"{len(a)} and {len(b)} numbers prob_a and prob_b for {pairs} pairs")
    if classes > _MAX_COUPLED:
        node.refuse(
            f"probabilities of {classes} classes; {_MAX_COUPLED} are the most",
            "export without probabilities (votes), or as one classifier for each class",
        )
    linear = node.emit(tensor.Mul, decisions, _weight(node, "prob_a", -a))
    linear = node.emit(tensor.Add, linear, _weight(node, "prob_b", -b))
    r = node.emit(tensor.Sigmoid, linear)
    s = node.emit(tensor.Sub, node.public("one", 1.0), r)
    if classes == 2:
        return node.emit(tensor.Concat, r, s, axis=1)
    if classes > 3:
        return _coupled(node, r, s, classes)
    left = node.emit(tensor.Concat, r, s, r, axis=1)
    right = node.emit(tensor.Concat, r, s, s, axis=1)
    products = node.emit(tensor.Mul, left, right)
    q = node.emit(tensor.MatMul, products, node.public("coupling", _COUPLING))
    terms = [
        node.emit(
            tensor.Mul,
            *(gathered(node, q, 1, np.array([term[k] for term in column])) for k in range(2)),
        )
        for column in zip(*_PRODUCTS, strict=True)
    ]
    cofactors = node.emit(tensor.Sub, *terms)
    sums = node.emit(tensor.MatMul, cofactors, node.public("rows", _ROWS))
    total = node.emit(tensor.ReduceSum, sums, axes=(1,), keepdims=True)
    return node.emit(tensor.Div, sums, total)


_MAX_COUPLED = 32
"""Classes whose probabilities are computed."""

_SHIFT = 0.25


def _coupled(node: Node, r: Value, s: Value, classes: int) -> Value:
    """Probabilities of four classes or more [B, classes] from those of pairs.

    On the plane p'1 = 1 the p that minimises p' Q p minimises p' A p too, with A = Q + 1 1' / 4,
    and A has an inverse where Q has none, as where all pairs agree. So p is A^-1 1 over its sum.
    The inverse is approached by X (2 I - A X) (Schulz, "Iterative Berechnung der reziproken
    Matrix", 1933) from I / t on, for t no less than the largest eigenvalue. What an eigenvalue
    v lacks is (1 - v / t)^(2^n) after n steps; the least one was not found below 1/10, for random
    pairs of many kinds.
    """
    pairs = list(combinations(range(classes), 2))
    batch, count = type_of(r).shape[0], len(pairs)
    node.room(3 * count, classes * classes)
    products = node.emit(
        tensor.Mul,
        node.emit(tensor.Concat, r, s, r, axis=1),
        node.emit(tensor.Concat, r, s, s, axis=1),
    )
    coupling = np.zeros((3 * count, classes, classes))
    for row, (i, j) in enumerate(pairs):
        coupling[row, j, j] = coupling[count + row, i, i] = 1.0
        coupling[2 * count + row, i, j] = coupling[2 * count + row, j, i] = -1.0
    flat = node.public("coupling", coupling.reshape(3 * count, -1))
    q = node.emit(tensor.MatMul, products, flat)
    a = node.emit(tensor.Add, q, node.public("shift", _SHIFT))
    a = node.emit(tensor.Reshape, a, shape=(batch, classes, classes))
    largest = classes - 1 + classes * _SHIFT
    two = node.public("two", 2.0 * np.eye(classes))
    # The first step is of a multiple of I.
    first = node.public("first", 2.0 / largest * np.eye(classes))
    x = node.emit(tensor.Sub, first, scaled(node, a, 1.0 / largest**2))
    steps = 6 + math.ceil(math.log2(classes))
    for step in range(steps):
        rest = node.emit(tensor.Sub, two, node.emit(tensor.MatMul, a, x))
        if step == steps - 1:
            rest = node.emit(tensor.ReduceSum, rest, axes=(2,), keepdims=True)
        x = node.emit(tensor.MatMul, x, rest)
    sums = node.emit(tensor.Reshape, x, shape=(batch, classes))
    total = node.emit(tensor.ReduceSum, sums, axes=(1,), keepdims=True)
    return node.emit(tensor.Div, sums, total)


# --- preparing features --------------------------------------------------------------------------


def _per_feature(node: Node, name: str) -> Constant | None:
    """An attribute of one number for each feature, or for all; None if there is none."""
    given = _numbers(node, name)
    columns = type_of(node.operand(0)).shape[-1:]
    if len(given) not in (0, 1, *columns):
        node.refuse(f"{len(given)} numbers {name} for {columns[0]} features")
    return _weight(node, name, given) if given else None


def scaler(node: Node) -> Operand:
    """Scaler: x less an offset, times a scale."""
    x = node.value(0)
    offset, scale = _per_feature(node, "offset"), _per_feature(node, "scale")
    if offset is not None:
        x = node.emit(tensor.Sub, x, offset)
    return x if scale is None else node.emit(tensor.Mul, x, scale)


def normalizer(node: Node) -> Operand:
    """Normalizer: rows over their largest element, or their L1 or L2 norm."""
    x, norm = rows_of(node), node.text("norm", "MAX")
    if norm == "L2":
        y = node.emit(tensor.Normalize, x, axes=(1,), center=False, epsilon=0.0, exponent=0)
    elif norm == "L1":
        total = node.emit(tensor.ReduceSum, node.emit(tensor.Abs, x), axes=(1,), keepdims=True)
        y = node.emit(tensor.Div, x, total)
    elif norm == "MAX":
        y = node.emit(tensor.Div, x, node.emit(tensor.ReduceMax, x, axes=(1,), keepdims=True))
    else:
        node.refuse(f"norm {norm!r}")
    return node.reshape(y, node.shape(0))


def binarizer(node: Node) -> Operand:
    """Binarizer: 1 above a threshold, 0 else."""
    limit = _weight(node, "threshold", node.number("threshold", 0.0))
    return node.real(node.emit(tensor.Less, limit, node.value(0)))


def imputer(node: Node) -> Operand:
    """Imputer: a number that stands for what is missing is replaced."""
    whole = node.has("replaced_value_int64") or node.has("imputed_value_int64s")
    if whole:
        missing = float(node.integer("replaced_value_int64", 0))
        values = [float(v) for v in node.ints("imputed_value_int64s")]
    else:
        missing = node.number("replaced_value_float", 0.0)
        values = list(node.numbers("imputed_value_floats"))
    if not np.isfinite(missing):
        node.refuse(
            "values that are no numbers (NaN)",
            "fixed-point numbers are finite: replace them before, at the input's owner",
        )
    x, columns = node.value(0), type_of(node.operand(0)).shape[-1:]
    if len(values) not in (1, *columns):
        node.refuse(f"{len(values)} values for {columns[0]} features")
    gone = node.emit(tensor.Equal, x, _weight(node, "replaced", missing))
    return node.emit(tensor.Where, gone, _weight(node, "imputed", values), x)


def feature_vectorizer(node: Node) -> Operand:
    """FeatureVectorizer: columns side by side."""
    parts = []
    for i in range(len(node.operands)):
        shape = node.shape(i)
        flat = (shape[0], element_count(shape[1:])) if len(shape) > 1 else (1, *shape)
        parts.append(node.reshape(node.value(i), flat))
    widths = tuple(type_of(p).shape[1] for p in parts)
    if node.has("inputdimensions") and node.ints("inputdimensions") != widths:
        node.refuse(f"inputdimensions of columns {list(widths)}")
    return parts[0] if len(parts) == 1 else node.emit(tensor.Concat, *parts, axis=1)


def array_feature_extractor(node: Node) -> Operand:
    """ArrayFeatureExtractor: elements of the last axis at constant positions, or of constants."""
    shape, data, at = node.shape(0), node.operand(0), node.operand(1)
    if isinstance(at, Value) and isinstance(data, Constant):
        # What exporters make of a class's index: its label.
        count = element_count(shape)
        if element_count(shape[:-1]) != 1:
            node.refuse(f"secret positions in rows of {list(shape)}", "use Gather")
        flat = node.reshape(node.real(at), (element_count(type_of(at).shape),))
        found: Operand
        if data.array.dtype.kind in "iu" and not data.derived:
            labels = [int(v) for v in data.array.reshape(-1)]
            found = chosen_label(node, node.builder.value(flat), labels)
        else:
            table = node.reshape(data, (count, 1))
            found = looked_up_rows(node, table, node.builder.value(flat))
        return node.reshape(found, (1, element_count(type_of(at).shape)))
    positions = np.asarray(node.integers(1, "the list of positions"), np.int64)
    x = node.builder.value(node.reshape(node.value(0), (1, *shape) if len(shape) == 1 else shape))
    return gathered(node, x, len(type_of(x).shape) - 1, positions)


# --- labels and categories -----------------------------------------------------------------------


def _matches(node: Node, categories: Sequence[int]) -> Value:
    """Words [..., C] that are 1 where a number is a category."""
    shape = node.shape(0)
    x = node.reshape(node.value(0), (*shape, 1))
    numbers = node.public("categories", np.asarray(categories, np.float64))
    return node.real(node.emit(tensor.Equal, x, numbers))


def one_hot_encoder(node: Node) -> Operand:
    """OneHotEncoder: of whole numbers; a row of zeros for one that is no category."""
    if node.has("cats_strings") and node.texts("cats_strings"):
        node.refuse("categories that are strings", "only numbers can be shared: number them before")
    if not node.integer("zeros", 1):
        node.refuse("zeros = 0", "an unknown category cannot be an error: it is secret")
    return _matches(node, node.ints("cats_int64s"))


def label_encoder(node: Node) -> Operand:
    """LabelEncoder: from whole numbers to numbers; strings become indices into their list."""
    if node.has("keys_strings") or node.has("classes_strings"):
        node.refuse("keys that are strings", "only numbers can be shared: number them before")
    keys = node.array("keys_tensor").reshape(-1) if node.has("keys_tensor") else None
    if node.has("keys_int64s"):
        keys = np.asarray(node.ints("keys_int64s"), np.int64)
    if keys is None or keys.dtype.kind not in "iu":
        node.refuse("keys that are no whole numbers", "number them before")
    values: npt.NDArray[np.float64]
    secret, default = False, -1.0
    if node.has("values_strings"):
        texts = node.texts("values_strings")
        values = np.asarray([texts.index(t) for t in texts], np.float64)
        note_texts(node, texts)
    elif node.has("values_int64s"):
        values = np.asarray(node.ints("values_int64s"), np.float64)
        default = float(node.integer("default_int64", -1))
    elif node.has("values_floats"):
        values, secret = np.asarray(node.numbers("values_floats")), True
        default = node.number("default_float", -0.0)
    else:
        node.refuse("values in tensors", "export with an older version of ai.onnx.ml (2)")
    if len(values) != len(keys) or len({*keys.tolist()}) != len(keys):
        node.refuse(f"{len(values)} values for {len(keys)} keys, or a key twice")
    found = _matches(node, [int(k) for k in keys])
    steps = (values - default)[:, None]
    table = _weight(node, "values", steps) if secret else node.public("values", steps)
    base = _weight(node, "default", default) if secret else node.public("default", default)
    flat = node.reshape(found, (element_count(node.shape(0)), len(keys)))
    chosen = node.reshape(node.emit(tensor.MatMul, flat, table), node.shape(0))
    return node.emit(tensor.Add, chosen, base)


OPERATORS: Mapping[str, Operator] = {
    **trees.OPERATORS,
    "ArrayFeatureExtractor": Operator(
        array_feature_extractor, "computed positions in computed data"
    ),
    "Binarizer": Operator(binarizer),
    "FeatureVectorizer": Operator(feature_vectorizer),
    "Imputer": Operator(imputer, "NaN as the value that is missing"),
    "LabelEncoder": Operator(
        label_encoder,
        "keys that are strings or floats",
        "default_string default_float default_int64 default_tensor",
    ),
    "LinearClassifier": Operator(linear_classifier, "PROBIT, SOFTMAX_ZERO", "multi_class"),
    "LinearRegressor": Operator(linear_regressor, "PROBIT, SOFTMAX_ZERO"),
    "Normalizer": Operator(normalizer),
    "OneHotEncoder": Operator(one_hot_encoder, "strings, zeros = 0", "cats_int64s cats_strings"),
    "SVMClassifier": Operator(
        svm_classifier,
        f"probabilities of more than {_MAX_COUPLED} classes, PROBIT, SOFTMAX_ZERO, no support "
        "vectors",
    ),
    "SVMRegressor": Operator(
        svm_regressor, "PROBIT, SOFTMAX_ZERO", "support_vectors kernel_params"
    ),
    "Scaler": Operator(scaler),
}
"""Operator name -> how it is imported."""
