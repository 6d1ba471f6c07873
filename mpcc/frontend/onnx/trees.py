"""ONNX tree ensembles: TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble.

Thresholds, the values of leaves and which feature a node tests are weights. A node's condition is
written as x <= t, where x is a feature or minus one, so that programs do not show its mode. The
shape of the trees, which node is below which, is public and listed as disclosed; trees whose shape
is to be secret are filled up to complete ones. See docs/trees.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import onnx

from mpcc.frontend.importer import Array, Constant, Disclosed, Operand, type_of
from mpcc.frontend.onnx.compose import negative, scaled
from mpcc.frontend.onnx.indexing import gathered
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.ir.core import Value
from mpcc.ir.limits import MAX_LIST
from mpcc.ir.ops import tensor
from mpcc.ir.types import element_count

__all__ = ["OPERATORS", "chosen_label", "labels_of", "rows_of", "transformed"]

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ") + (
    "BRANCH_MEMBER",
)
"""In the order of TreeEnsemble's numbers."""

_LEAF = "LEAF"

_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""Both in the order of TreeEnsemble's numbers."""


# --- trees ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trees:
    """Trees of conditions x <= t, in any order.

    Children from 0 on are nodes, -1 - i is leaf i.

    Attributes:
        roots: of every tree.
        left: of every node, where its condition holds.
        right: of every node, where it does not.
        features: of every node.
        minus: of every node, whether minus the feature is compared.
        thresholds: of every node.
        values: of leaves, [leaves, outputs].
    """

    roots: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    features: Array
    minus: Array
    thresholds: Array
    values: Array

    @property
    def depth(self) -> int:
        """Nodes on the longest way to a leaf."""
        return len(tensor.forest_levels(self.roots, self.left, self.right))

    def part(self, roots: Sequence[int]) -> Trees:
        """Some of the trees, with nodes numbered level by level and leaves as they are reached."""
        nodes = [n for level in tensor.forest_levels(*self._only(roots)) for n in level]
        number = {node: i for i, node in enumerate(nodes)}
        leaves: list[int] = []

        def renamed(child: int) -> int:
            if child >= 0:
                return number[child]
            leaves.append(-1 - child)
            return -len(leaves)

        new_roots = tuple(renamed(r) for r in roots)
        left, right = [0] * len(nodes), [0] * len(nodes)
        for level in tensor.forest_levels(*self._only(roots)):
            for side, old in ((left, self.left), (right, self.right)):
                for node in level:
                    side[number[node]] = renamed(old[node])
        order = np.asarray(nodes, np.int64)
        return Trees(
            new_roots,
            tuple(left),
            tuple(right),
            self.features[order],
            self.minus[order],
            self.thresholds[order],
            self.values[np.asarray(leaves, np.int64)],
        )

    def _only(
        self, roots: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return tuple(roots), self.left, self.right

    def parts(self, most: int) -> Iterator[Trees]:
        """All trees, in groups of no more nodes and leaves than ``most``, or of one tree."""
        group: list[int] = []
        size = 0
        for root in self.roots:
            levels = tensor.forest_levels(*self._only([root]))
            count = 2 * sum(map(len, levels)) + 1
            if group and size + count > most:
                yield self.part(group)
                group, size = [], 0
            group.append(root)
            size += count
        yield self.part(group)

    def complete(self) -> Trees:
        """The same trees, each with all nodes up to the greatest depth: their shape says no more.

        A leaf that comes early is below conditions which do not matter.
        """
        depth = max(1, self.depth)
        inner, outer = (1 << depth) - 1, 1 << depth
        count = len(self.roots)
        # Level by level within a tree: the children of i are 2 i + 1 and 2 i + 2.
        source = np.full((count, inner + outer), -1, np.int64)
        source[:, 0] = self.roots
        left, right = (np.asarray((*side, 0), np.int64) for side in (self.left, self.right))
        for i in range(inner):
            at = source[:, i]
            for side, below in ((left, 2 * i + 1), (right, 2 * i + 2)):
                source[:, below] = np.where(at >= 0, side[np.maximum(at, 0)], at)
        real, which = source[:, :inner] >= 0, np.maximum(source[:, :inner], 0)

        def of_nodes(numbers: Array) -> Array:
            padded = np.append(numbers, np.zeros(1, numbers.dtype))
            return np.where(real, padded[which], 0).astype(numbers.dtype).reshape(-1)

        def child(tree: int, i: int) -> int:
            return tree * inner + i if i < inner else -1 - (tree * outer + i - inner)

        sides = [
            tuple(child(t, 2 * i + k) for t in range(count) for i in range(inner)) for k in (1, 2)
        ]
        return Trees(
            tuple(child(t, 0) for t in range(count)),
            sides[0],
            sides[1],
            of_nodes(self.features),
            of_nodes(self.minus),
            of_nodes(self.thresholds),
            self.values[-1 - source[:, inner:].reshape(-1)],
        )


def _binary32(thresholds: Array, kind: int) -> Array:
    """Thresholds of x <= t for features of an element type, which become binary32 too.

    Binary32 features give the same conditions with the largest number that is not above t. Those of
    binary64 are rounded to the nearest number, so that t is too: equal ones stay equal.
    """
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    if kind == onnx.TensorProto.DOUBLE:
        return near
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def _written(
    node: Node,
    modes: Sequence[str],
    features: Sequence[int],
    thresholds: Array,
    yes: Sequence[int],
    no: Sequence[int],
    roots: Sequence[int],
    values: Array,
) -> Trees:
    """Trees of conditions of any mode.

    Args:
        node: of the model.
        modes: of every node.
        features: as for Trees, as are thresholds, roots and values.
        thresholds: of any float type.
        yes: child of every node where its condition holds.
        no: child where it does not.
        roots: of every tree.
        values: of leaves.

    Raises:
        Unsupported: a mode is not supported, or these are no trees.
    """
    for mode in modes:
        if mode not in _MODES[:4]:
            node.refuse(
                f"conditions of mode {mode}",
                "train the trees on numbers, with categories as columns of 0 and 1",
            )
    if not len(modes) == len(features) == len(thresholds):
        node.refuse("lists of its nodes have different lengths")
    columns = type_of(node.operand(0)).shape[-1:]
    if any(not 0 <= f < columns[0] for f in features):
        node.refuse(f"a node tests a feature that data of {columns[0]} features do not have")
    kind = np.asarray([_MODES.index(m) for m in modes], np.int64)
    # x < t is not -x <= -t, and x >= t is that.
    minus = (kind == 1) | (kind == 2)
    swapped = (kind == 1) | (kind == 3)
    exact = np.asarray(thresholds, np.float64)
    if np.isnan(exact).any():
        node.refuse("a threshold is not a number")
    found = Trees(
        tuple(roots),
        tuple(b if s else a for a, b, s in zip(yes, no, swapped, strict=True)),
        tuple(a if s else b for a, b, s in zip(yes, no, swapped, strict=True)),
        np.asarray(features, np.int64),
        minus,
        _binary32(np.where(minus, -exact, exact), node.kind(0)),
        values,
    )
    # Every node and leaf has one place, and every node is below a root: no circles.
    every = [*found.roots, *found.left, *found.right]
    whole = sorted(every) == list(range(-len(values), len(modes)))
    if not roots or not whole:
        node.refuse("its nodes do not make trees", "export the model again")
    levels = tensor.forest_levels(found.roots, found.left, found.right)
    if sum(map(len, levels)) != len(modes):
        node.refuse("its nodes do not make trees", "export the model again")
    return found


def _listed(node: Node, name: str, *, default: float | None = None, count: int = 0) -> Array:
    """Floats that are a list or, under another name, a tensor."""
    if node.has(f"{name}_as_tensor"):
        return node.array(f"{name}_as_tensor").reshape(-1).astype(np.float64)
    if node.has(name) or default is None:
        return np.asarray(node.numbers(name), np.float64)
    return np.full(count, default)


def _classic(node: Node, kind: str, outputs: int) -> tuple[Trees, set[int]]:
    """The trees of TreeEnsembleClassifier and -Regressor, and the outputs that leaves add to.

    Args:
        node: of the model.
        kind: ``class`` or ``target``: how the leaves' attributes are called.
        outputs: number of outputs.
    """
    ids = list(zip(node.ints("nodes_treeids"), node.ints("nodes_nodeids"), strict=True))
    place = {key: i for i, key in enumerate(ids)}
    modes, features = node.texts("nodes_modes"), node.ints("nodes_featureids")
    yes_ids, no_ids = node.ints("nodes_truenodeids"), node.ints("nodes_falsenodeids")
    thresholds = _listed(node, "nodes_values")
    lengths = {len(a) for a in (ids, modes, features, yes_ids, no_ids, thresholds)}
    if len(place) != len(ids) or len(lengths) != 1:
        node.refuse("its lists of nodes do not fit together", "export the model again")
    inner = [i for i, mode in enumerate(modes) if mode != _LEAF]
    outer = [i for i, mode in enumerate(modes) if mode == _LEAF]
    number = {i: n for n, i in enumerate(inner)} | {i: -1 - n for n, i in enumerate(outer)}

    def child(i: int, name: int) -> int:
        found = place.get((ids[i][0], name))
        if found is None:
            node.refuse(f"node {name} of tree {ids[i][0]} is missing")
        return number[found]

    yes = [child(i, yes_ids[i]) for i in inner]
    no = [child(i, no_ids[i]) for i in inner]
    below = {*yes, *no}
    roots = [number[i] for i in range(len(ids)) if number[i] not in below]
    weights = _listed(node, f"{kind}_weights")
    keys = list(zip(node.ints(f"{kind}_treeids"), node.ints(f"{kind}_nodeids"), strict=True))
    targets = node.ints(f"{kind}_ids")
    if not len(keys) == len(targets) == len(weights):
        node.refuse("its lists of leaves do not fit together", "export the model again")
    node.room(len(outer), outputs)
    values = np.zeros((len(outer), outputs))
    for key, target, weight in zip(keys, targets, weights, strict=True):
        at = number.get(place.get(key, -1), 0)
        if at >= 0 or not 0 <= target < outputs:
            node.refuse("a value is of no leaf, or of no output", "export the model again")
        values[-1 - at, target] += weight
    trees = _written(
        node,
        [modes[i] for i in inner],
        [features[i] for i in inner],
        thresholds[np.asarray(inner, np.int64)],
        yes,
        no,
        roots,
        values,
    )
    return trees, set(targets)


# --- programs ------------------------------------------------------------------------------------


def rows_of(node: Node) -> Value:
    """Operand 0 as rows of features."""
    operand = node.operand(0)
    if isinstance(operand, Constant):
        node.refuse("its features are a constant")
    shape = type_of(operand).shape
    if len(shape) not in (1, 2) or element_count(shape) == 0:
        node.refuse(f"features of shape {list(shape)}, which are no rows")
    rows = node.reshape(node.real(operand), (1, *shape) if len(shape) == 1 else shape)
    return node.builder.value(rows)


def _sum(node: Node, trees: Trees) -> Value:
    """The sum of all trees' values, [rows, outputs]."""
    x = rows_of(node)
    if not trees.left:
        node.refuse("none of its trees has a condition", "leave it out: its answer is a constant")
    roles = node.builder.roles
    if roles.structure(f"{node.output}.shape") == "model":
        size = len(trees.roots) << max(1, trees.depth)
        node.room(size)
        trees = trees.complete()
        what = f"{len(trees.roots)} trees of depth {trees.depth}"
    else:
        what = f"the shape of {len(trees.roots)} trees, of {len(trees.left)} conditions"
    node.builder.disclose(Disclosed(node.op, node.label, what, None))
    groups = list(trees.parts(MAX_LIST // 2))
    sums = [_group(node, x, g, f".{i}" if i else "") for i, g in enumerate(groups)]
    total = sums[0]
    for more in sums[1:]:
        total = node.emit(tensor.Add, total, more)
    return total


def _group(node: Node, x: Value, trees: Trees, suffix: str) -> Value:
    if len(trees.left) > MAX_LIST or len(trees.values) > MAX_LIST:
        node.refuse(
            f"a tree of {len(trees.left)} conditions; {MAX_LIST} are the most",
            "train smaller trees (max_depth, max_leaf_nodes)",
        )
    name, roles = node.output, node.builder.roles
    thresholds = _constant(node, "thresholds", suffix, trees.thresholds)
    columns = type_of(x).shape[1]
    if roles.weight(f"{name}.features") == "model":
        node.room(columns, len(trees.left))
        places = np.zeros((columns, len(trees.left)), np.float32)
        places[trees.features, np.arange(len(trees.left))] = np.where(trees.minus, -1.0, 1.0)
        where = _constant(node, "features", suffix, places)
        bits = node.emit(tensor.Branch, x, thresholds, where)
    else:
        wanted = trees.features
        if trees.minus.any():
            x = node.emit(tensor.Concat, x, negative(node, x), axis=1)
            wanted = wanted + columns * trees.minus
        bits = node.emit(tensor.Branch, gathered(node, x, 1, wanted), thresholds)
    values = _constant(node, "values", suffix, trees.values)
    return node.emit(
        tensor.Forest, bits, values, roots=trees.roots, left=trees.left, right=trees.right
    )


def _constant(node: Node, what: str, suffix: str, array: Array) -> Constant:
    """A weight of the node: its owner is that of ``<output>.<what>``."""
    name = f"{node.output}.{what}"
    owner = node.builder.roles.weight(name)
    node.room(*array.shape)
    return Constant(np.asarray(array), node.builder.name(name + suffix), owner)


def transformed(node: Node, scores: Value, how: str) -> Value:
    """Scores after a ``post_transform``."""
    if how == "NONE":
        return scores
    if how == "LOGISTIC":
        return node.emit(tensor.Sigmoid, scores)
    if how == "SOFTMAX":
        return node.emit(tensor.Softmax, scores, axis=1)
    if how in ("PROBIT", "SOFTMAX_ZERO"):
        node.refuse(f"post_transform {how}", "export the scores themselves (NONE)")
    node.refuse(f"post_transform {how!r}")


def _based(node: Node, scores: Value, base: Array) -> Value:
    """Scores with a base value for each output, or one for all."""
    if not len(base):
        return scores
    if len(base) not in (1, type_of(scores).shape[1]):
        node.refuse(f"{len(base)} base values for {type_of(scores).shape[1]} outputs")
    return node.emit(tensor.Add, scores, _constant(node, "base", "", base))


def _base(node: Node) -> Array:
    return _listed(node, "base_values", default=0.0, count=0)


# --- labels --------------------------------------------------------------------------------------


def labels_of(node: Node, ints: str, strings: str) -> tuple[tuple[int, ...], int]:
    """Labels of classes, and how many there are; strings become the classes' indices."""
    if node.has(strings) and node.texts(strings):
        count = len(node.texts(strings))
        return tuple(range(count)), count
    labels = node.ints(ints) if node.has(ints) else ()
    return labels, len(labels)


def chosen_label(node: Node, index: Value, labels: Sequence[int]) -> Value:
    """The label of a class by its index, a position or a truth value."""
    if list(labels) == list(range(len(labels))):
        return node.real(index) if type_of(index).dtype == "bool" else index
    number = node.real(index)
    steps = {b - a for a, b in pairwise(labels)}
    if len(steps) == 1:
        (step,) = steps
        number = scaled(node, number, float(step))
        return node.emit(tensor.Add, number, node.public("first_label", float(labels[0])))
    table = node.public("labels", np.asarray(labels, np.float64)[:, None])
    found = node.emit(tensor.Lookup, number, table)
    return node.builder.value(node.reshape(found, type_of(index).shape))


def two_classes(
    node: Node, score: Value, how: str, labels: Sequence[int], *, positive: bool
) -> tuple[Operand, Operand]:
    """Label and both scores of a classifier that has one score, [rows, 1], for the second class.

    Args:
        node: of the model.
        score: before ``post_transform``.
        how: the ``post_transform``.
        labels: of both classes.
        positive: the score is a probability; else its sign says which class it is.
    """
    limit = node.public("limit", 0.5 if positive else 0.0)
    rows = type_of(score).shape[0]
    above = node.emit(tensor.Less, limit, score)
    second = transformed(node, score, how)
    if positive or how == "LOGISTIC":
        both = (node.emit(tensor.Sub, node.public("one", 1.0), second), second)
    else:
        both = (negative(node, second), second)
    index = node.emit(tensor.Reshape, node.real(above), shape=(rows,))
    label = chosen_label(node, index, labels) if list(labels) != [0, 1] else index
    return label, node.emit(tensor.Concat, *both, axis=1)


# --- operators -----------------------------------------------------------------------------------

_UNREAD = "nodes_hitrates nodes_hitrates_as_tensor nodes_missing_value_tracks_true"


def classifier(node: Node) -> tuple[Operand, Operand]:
    """TreeEnsembleClassifier: secret trees; labels that are strings become indices of classes."""
    labels, classes = labels_of(node, "classlabels_int64s", "classlabels_strings")
    if classes < 2:
        node.refuse(f"{classes} classes")
    how = node.text("post_transform", "NONE")
    trees, used = _classic(node, "class", classes)
    base = _base(node)
    if classes == 2 and len(used) == 1:
        # As onnxruntime does: the one score is the second class's, whichever it is written for.
        positive = bool((trees.values >= 0).all())
        node.builder.disclose(
            Disclosed(
                node.op,
                node.label,
                f"{'no leaf' if positive else 'some leaf'} has a negative value",
                None,
            )
        )
        trees = replace(trees, values=trees.values[:, sorted(used)])
        scores = _sum(node, trees)
        if len(base):
            scores = _based(node, scores, base[-1:])
        if how == "SOFTMAX":
            node.refuse("post_transform SOFTMAX of one score for two classes", "use LOGISTIC")
        return two_classes(node, scores, how, labels, positive=positive)
    scores = _based(node, _sum(node, trees), base)
    best = node.emit(tensor.ArgMax, scores, axis=1, keepdims=False)
    return chosen_label(node, best, labels), transformed(node, scores, how)


def regressor(node: Node) -> Operand:
    """TreeEnsembleRegressor: secret trees; their sum or average."""
    outputs = node.integer("n_targets", 1)
    if outputs < 1:
        node.refuse(f"{outputs} targets")
    trees, _ = _classic(node, "target", outputs)
    scores = _sum(node, _aggregated(node, trees, node.text("aggregate_function", "SUM")))
    return transformed(node, _based(node, scores, _base(node)), node.text("post_transform", "NONE"))


def _aggregated(node: Node, trees: Trees, how: str) -> Trees:
    if how == "AVERAGE":
        return replace(trees, values=trees.values / len(trees.roots))
    if how != "SUM":
        node.refuse(f"aggregate_function {how}", "only SUM and AVERAGE are supported")
    return trees


def ensemble(node: Node) -> Operand:
    """TreeEnsemble: secret trees; their sum or average."""
    outputs = node.integer("n_targets", 1)
    if outputs < 1:
        node.refuse(f"{outputs} targets")
    modes = node.array("nodes_modes").reshape(-1)
    if any(m >= len(_MODES) for m in modes):
        node.refuse("a node has no mode")
    targets = node.ints("leaf_targetids")
    weights = node.array("leaf_weights").reshape(-1).astype(np.float64)
    if len(targets) != len(weights) or any(not 0 <= t < outputs for t in targets):
        node.refuse("its lists of leaves do not fit together", "export the model again")
    node.room(len(targets), outputs)
    values = np.zeros((len(targets), outputs))
    values[np.arange(len(targets)), targets] = weights

    def children(ids: str, leaves: str) -> list[int]:
        pairs = zip(node.ints(ids), node.ints(leaves), strict=True)
        return [-1 - i if leaf else i for i, leaf in pairs]

    yes = children("nodes_truenodeids", "nodes_trueleafs")
    no = children("nodes_falsenodeids", "nodes_falseleafs")
    rows = _own_leaves(node, len(values), (yes, no))
    values = values[np.asarray(rows, np.int64)]
    splits = node.array("nodes_splits").reshape(-1).astype(np.float64)
    trees = _written(
        node,
        [_MODES[m] for m in modes],
        node.ints("nodes_featureids"),
        splits,
        yes,
        no,
        node.ints("tree_roots"),
        values,
    )
    how, after = node.integer("aggregate_function", 1), node.integer("post_transform", 0)
    if not (0 <= how < len(_AGGREGATES) and 0 <= after < len(_TRANSFORMS)):
        node.refuse(f"aggregate_function {how}, post_transform {after}")
    scores = _sum(node, _aggregated(node, trees, _AGGREGATES[how]))
    return transformed(node, scores, _TRANSFORMS[after])


def _own_leaves(node: Node, leaves: int, sides: Sequence[list[int]]) -> list[int]:
    """Number leaves by their places, since several nodes may have one; the leaf of every place."""
    found: list[int] = []
    for side in sides:
        for i, child in enumerate(side):
            if child < 0:
                if -1 - child >= leaves:
                    node.refuse("a leaf is missing", "export the model again")
                found.append(-1 - child)
                side[i] = -len(found)
    return found


_REFUSED = "conditions of equality and membership, PROBIT, SOFTMAX_ZERO"

OPERATORS: Mapping[str, Operator] = {
    "TreeEnsemble": Operator(ensemble, f"{_REFUSED}, MIN, MAX", f"{_UNREAD} membership_values"),
    "TreeEnsembleClassifier": Operator(classifier, _REFUSED, _UNREAD),
    "TreeEnsembleRegressor": Operator(regressor, f"{_REFUSED}, MIN, MAX", _UNREAD),
}
"""Operator name -> how it is imported."""
