"""Tensor-level decision trees: all conditions at once, then the leaves that they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mpcc.ir.define import Attr, Attributes, Operation, fail
from mpcc.ir.intervals import Enclosure, Interval, Rounding, bilinear
from mpcc.ir.ops.tensor.base import Array, Kind, TensorOperation, reals, result
from mpcc.ir.types import Shape, TensorType, Type

__all__ = ["Branch", "Forest", "forest_levels", "forest_owners"]


class Branch(TensorOperation):
    """The bits t < x of the columns of x [B, N] and thresholds t [N].

    With places [F, N], whose columns each have one 1 or -1 and else zeros, x is [B, F], and its
    product with the places is compared; it is exact. Unlike ``tensor.less``, which may come out
    either way where operands are close, a bit is the float model's or an error.
    """

    name = "tensor.branch"
    kind = Kind.NONLINEAR
    operands = ("x", "thresholds", "places?")
    encodes = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, thresholds, *places = tensors = reals(cls, types)
        if len(x.shape) != 2 or len(thresholds.shape) != 1:
            raise fail(cls, f"needs rows and thresholds, not {x} and {thresholds}")
        count = thresholds.shape[0]
        columns: Shape = (x.shape[1], count)
        if places and places[0].shape != columns:
            raise fail(cls, f"places {places[0]} for {columns[0]} columns and {count} conditions")
        if not places and columns[0] != count:
            raise fail(cls, f"{columns[0]} columns for {count} conditions")
        return (result((x.shape[0], count), *tensors, dtype="bool"),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        x, thresholds, *places = args
        return (np.asarray(thresholds < (x @ places[0] if places else x)),)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        x, thresholds, *places = operands
        if places:
            x = bilinear(x, places[0], lambda a, b: np.asarray(a @ b))
        lo, hi = thresholds.hi < x.lo, thresholds.lo < x.hi
        return Enclosure((Interval(lo.astype(np.float64), hi.astype(np.float64)),))


class Forest(TensorOperation):
    """The sum over trees of a row of values [L, C]: of the leaf that bits [B, N] lead to.

    From the root on, bit n says at node n to go left (0) or right (1). Numbers from 0 on are nodes,
    -1 - i is leaf i. Every node and every leaf is the root or the child of one place exactly.
    """

    name = "tensor.forest"
    kind = Kind.FUNCTION
    operands = ("bits", "values")
    encodes = True
    attributes = {
        "roots": Attr("ints", "root of every tree"),
        "left": Attr("ints", "left child of every node"),
        "right": Attr("ints", "right child of every node"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        bits, values = types
        if not isinstance(bits, TensorType) or bits.dtype != "bool" or len(bits.shape) != 2:
            raise fail(cls, f"needs rows of truth values, not {bits}")
        (leaves,) = reals(cls, [values])
        if len(leaves.shape) != 2:
            raise fail(cls, f"needs a row of values for every leaf, not {leaves}")
        _check(cls, attrs, bits.shape[1], leaves.shape[0])
        shape = (bits.shape[0], leaves.shape[1])
        return (result(shape, bits, leaves, dtype=leaves.dtype),)

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        bits, values = args
        left, right = (np.asarray(attrs[k], np.int64) for k in ("left", "right"))
        rows = np.arange(len(bits))[:, None]
        at = np.broadcast_to(np.asarray(attrs["roots"], np.int64), (len(bits), len(attrs["roots"])))
        while (at >= 0).any():
            node = np.maximum(at, 0)
            at = np.where(at < 0, at, np.where(bits[rows, node] != 0, right[node], left[node]))
        total = np.zeros((len(bits), values.shape[1]), values.dtype)
        # Leaf by leaf of all rows: a table [B, T, C] may be large.
        for tree in range(at.shape[1]):
            total += values[-1 - at[:, tree]]
        return (total,)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        """The sum of every tree's smallest and largest leaf, or of those that are certain."""
        bits, values = operands
        if values.lo.shape[0] > 1 and bool((bits.lo == bits.hi).all()):
            both = (cls.evaluate(attrs, bits.lo, bound)[0] for bound in (values.lo, values.hi))
            return Enclosure((Interval(*both),))
        owners = np.asarray(forest_owners(attrs["roots"], attrs["left"], attrs["right"]))
        trees = len(attrs["roots"])
        ends = []
        for bound, pick in ((values.lo, np.minimum), (values.hi, np.maximum)):
            most = np.full((trees, bound.shape[1]), -np.inf if pick is np.maximum else np.inf)
            pick.at(most, owners, np.broadcast_to(bound, (len(owners), bound.shape[1])))
            total = most.sum(axis=0)
            ends.append(np.broadcast_to(total, (bits.lo.shape[0], len(total))).copy())
        # Sums of encoded values are exact; binary64 is not.
        slack = 2.0**-40 * trees * max(1.0, values.magnitude)
        return Enclosure((Interval(ends[0] - slack, ends[1] + slack),))


def _check(cls: type[Operation], attrs: Attributes, nodes: int, leaves: int) -> None:
    roots, left, right = attrs["roots"], attrs["left"], attrs["right"]
    if not roots or len(left) != nodes or len(right) != nodes:
        raise fail(cls, f"{len(roots)} roots, {len(left)} and {len(right)} children, {nodes} bits")
    every = np.concatenate([np.asarray(a, np.int64) for a in (roots, left, right)])
    if len(every) != nodes + leaves or not np.array_equal(
        np.sort(every), np.arange(-leaves, nodes)
    ):
        raise fail(cls, f"not every one of {nodes} nodes and {leaves} leaves has one place")
    # Each has one place; those that no root leads to would be in a circle.
    if sum(len(level) for level in forest_levels(roots, left, right)) != nodes:
        raise fail(cls, "some nodes are below themselves")


@lru_cache(maxsize=8)
def forest_levels(
    roots: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    """Nodes by their distance from the root; below each level its left children, then its right."""
    levels = []
    level = tuple(n for n in roots if n >= 0)
    while level:
        levels.append(level)
        below = [left[n] for n in level] + [right[n] for n in level]
        level = tuple(n for n in below if n >= 0)
    return tuple(levels)


@lru_cache(maxsize=8)
def forest_owners(
    roots: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...]
) -> tuple[int, ...]:
    """The tree, by its number, of every leaf."""
    found: dict[int, int] = {}
    tree = {}
    for number, root in enumerate(roots):
        tree[root] = number
    for level in forest_levels(roots, left, right):
        for node in level:
            tree[left[node]] = tree[right[node]] = tree[node]
    found = {-1 - at: number for at, number in tree.items() if at < 0}
    return tuple(found[i] for i in range(len(found)))


OPERATIONS = (Branch, Forest)
"""In the order of the dialect."""
