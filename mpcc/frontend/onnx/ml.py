"""ONNX classical machine learning (domain ai.onnx.ml).

Floats among the attributes are weights, as initialisers are (``--owner OUTPUT.scale=public`` and so
on). Labels, keys and categories that are integers are public.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from mpcc.frontend.importer import Constant, Operand, type_of
from mpcc.frontend.onnx import trees
from mpcc.frontend.onnx.compose import negative, power, scaled
from mpcc.frontend.onnx.indexing import gathered
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.frontend.onnx.tokens import looked_up_rows
from mpcc.frontend.onnx.trees import chosen_label, labels_of, rows_of, transformed
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import element_count

__all__ = ["OPERATORS", "without_maps"]


def without_maps(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every ZipMap at its end replaced by the tensor of scores that it packs.

    Args:
        model: changed in place.
    """
    outputs = {o.name: o for o in model.graph.output}
    for node in model.graph.node:
        if (node.domain, node.op_type) == ("ai.onnx.ml", "ZipMap") and node.output[0] in outputs:
            node.domain, node.op_type = "", "Identity"
            del node.attribute[:]
            info = outputs[node.output[0]]
            info.type.Clear()
            info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model


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
    "SVMRegressor": Operator(
        svm_regressor, "PROBIT, SOFTMAX_ZERO", "support_vectors kernel_params"
    ),
    "Scaler": Operator(scaler),
}
"""Operator name -> how it is imported."""
