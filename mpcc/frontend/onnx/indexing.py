"""ONNX operators that pick, place and order elements by public positions.

An operator that only moves elements is applied to the elements' own positions when the model is
imported, by ONNX's reference or by numpy; the program then takes the elements from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mpcc.frontend.importer import Array, Operand, type_of
from mpcc.frontend.onnx.compose import cut, maximum, minimum
from mpcc.frontend.onnx.fold import evaluate
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.frontend.onnx.tokens import looked_up
from mpcc.ir.core import Value
from mpcc.ir.limits import MAX_LIST
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape, element_count

__all__ = ["OPERATORS", "gathered", "masked", "rearranged"]


# --- moving elements -----------------------------------------------------------------------------


def gathered(node: Node, x: Value, axis: int, indices: Array) -> Value:
    """Elements ``indices`` (any shape, not negative) of an axis, as numpy.take."""
    shape, flat = type_of(x).shape, indices.reshape(-1)
    if flat.size == 0:
        node.refuse("no positions: the result has no elements")
    if flat.size and (flat.min() < 0 or flat.max() >= shape[axis]):
        node.refuse(f"positions from {flat.min()} to {flat.max()} in an axis of {shape[axis]}")
    steps = set(np.diff(flat).tolist()) or {1}
    if len(steps) == 1 and (step := steps.pop()) >= 1:
        moved = cut(node, x, axis, int(flat[0]), int(flat[-1]) + 1, step)
    else:
        _check_list(node, flat.size)
        moved = node.emit(tensor.Gather, x, axis=axis, indices=tuple(flat.tolist()))
    wanted = (*shape[:axis], *indices.shape, *shape[axis + 1 :])
    return (
        moved if wanted == type_of(moved).shape else node.emit(tensor.Reshape, moved, shape=wanted)
    )


def rearranged(node: Node, x: Value, positions: Array) -> Value:
    """Elements of x by their flat positions, in the shape of ``positions``.

    Whatever moves whole rows is written as a gather of rows, which needs fewer positions.
    """
    shape, size = type_of(x).shape, element_count(type_of(x).shape)
    if positions.size == 0:
        node.refuse("the result has no elements")
    if positions.min() < 0 or positions.max() >= size:
        node.refuse("a position is outside the data")
    flat = positions.reshape(-1)
    if flat.size == size and bool((flat == np.arange(size)).all()):
        return (
            x if positions.shape == shape else node.emit(tensor.Reshape, x, shape=positions.shape)
        )
    run = _run(flat, size)
    rows = node.emit(tensor.Reshape, x, shape=(size // run, run))
    picked = flat[::run] // run
    if run > 1 or flat.size == size or len(set(np.diff(picked).tolist())) == 1:
        moved = gathered(node, rows, 0, picked)
        return node.emit(tensor.Reshape, moved, shape=positions.shape)
    _check_list(node, flat.size)
    return node.emit(tensor.Take, x, indices=tuple(flat.tolist()), shape=positions.shape)


def _run(flat: Array, size: int) -> int:
    """The longest row: a divisor of both sizes such that aligned runs of it stay together."""
    breaks = np.flatnonzero(np.diff(flat) != 1) + 1
    return int(np.gcd.reduce(np.concatenate([[size, flat.size, flat[0]], breaks, flat[breaks]])))


def _check_list(node: Node, count: int) -> None:
    if count > MAX_LIST:
        node.refuse(
            f"{count} positions without a pattern; a program lists {MAX_LIST} at most",
            "move whole rows, or split the tensor",
        )


def masked(node: Node, x: Value, positions: Array) -> Value:
    """As :func:`rearranged` with positions from 1 on; 0 is a zero."""
    size = element_count(type_of(x).shape)
    flat = node.emit(tensor.Reshape, x, shape=(size,))
    return rearranged(node, node.emit(tensor.Pad, flat, low=(1,), high=(0,)), positions)


def _moved(node: Node, *others: int, first: int = 0) -> Array:
    """The node applied to its data's positions, counted from ``first``.

    Args:
        node: data is operand 0.
        others: operands that must be known; all further ones are left out.
        first: position of the first element.
    """
    shape = node.shape(0)
    node.room(*shape)
    feeds: list[Array | None] = [first + np.arange(element_count(shape)).reshape(shape)]
    for i in range(1, len(node.operands)):
        feeds.append(node.known(i, "its list of positions").array if i in others else None)
    return evaluate(node.proto, node.opset, feeds)[0]


def _wrapped(node: Node, index: int, size: int) -> Array:
    """Operand ``index`` as positions in an axis, counted from the front."""
    array = node.known(index, "its list of positions").array
    if array.dtype.kind not in "iu":
        node.refuse("positions that are not integers")
    return np.where(array < 0, array + size, array).astype(np.int64)


# --- picking -------------------------------------------------------------------------------------


def gather(node: Node) -> Operand:
    """Gather: by public positions, or by secret ones as a product with one-hot rows."""
    shape = node.shape(0)
    axis = node.axis(node.integer("axis", 0), len(shape))
    if isinstance(node.operand(1), Value):
        return looked_up(node, axis)
    return gathered(node, node.value(0), axis, _wrapped(node, 1, shape[axis]))


def gather_elements(node: Node) -> Operand:
    """GatherElements: by public positions."""
    shape = node.shape(0)
    axis = node.axis(node.integer("axis", 0), len(shape))
    return rearranged(node, node.value(0), _elements(node, axis, shape))


def gather_nd(node: Node) -> Operand:
    """GatherND: by public positions."""
    return rearranged(node, node.value(0), _moved(node, 1))


def compress(node: Node) -> Operand:
    """Compress: by a public condition."""
    node.public_mask(node.known(1, "its condition"))
    return rearranged(node, node.value(0), _moved(node, 1))


def reverse_sequence(node: Node) -> Operand:
    """ReverseSequence: of public lengths."""
    return rearranged(node, node.value(0), _moved(node, 1))


def trilu(node: Node) -> Operand:
    """Trilu: elements beyond the diagonal become zeros; nothing is multiplied."""
    shape = node.shape(0)
    if len(shape) < 2:
        node.refuse("data with fewer than two axes")
    offset = 0 if node.optional(1) is None else node.integers(1, "the diagonal")[0]
    rows, columns = shape[-2:]
    node.room(rows, columns)
    positions = 1 + np.arange(rows * columns).reshape(rows, columns)
    kept = np.triu(positions, offset) if node.integer("upper", 1) else np.tril(positions, offset)
    # Matrices of a batch are cut alike: one list of positions for all.
    batch = element_count(shape[:-2])
    flat = node.emit(tensor.Reshape, node.value(0), shape=(batch, rows * columns))
    padded = node.emit(tensor.Pad, flat, low=(0, 1), high=(0, 0))
    return node.emit(tensor.Reshape, gathered(node, padded, 1, kept.reshape(-1)), shape=shape)


# --- placing -------------------------------------------------------------------------------------

_Combine = Callable[[Node, Value, Value], Value]

_COMBINE: Mapping[str, _Combine] = {
    "add": lambda node, a, b: node.emit(tensor.Add, a, b),
    "mul": lambda node, a, b: node.emit(tensor.Mul, a, b),
    "max": maximum,
    "min": minimum,
}


def scatter_elements(node: Node) -> Operand:
    """ScatterElements: to public positions, with every reduction."""
    shape = node.shape(0)
    axis = node.axis(node.integer("axis", 0), len(shape))
    flat = _elements(node, axis, shape).reshape(-1)
    return _scattered(node, flat, np.arange(flat.size))


def _elements(node: Node, axis: int, shape: Shape) -> Array:
    """Flat positions, in data of this shape, that operand 1 names along one axis."""
    indices = _wrapped(node, 1, shape[axis])
    if indices.ndim != len(shape) or any(
        n > d for i, (n, d) in enumerate(zip(indices.shape, shape, strict=True)) if i != axis
    ):
        node.refuse(f"positions {list(indices.shape)} in data {list(shape)}")
    if indices.size and (indices.min() < 0 or indices.max() >= shape[axis]):
        node.refuse(f"positions outside an axis of {shape[axis]}")
    node.room(len(shape), *indices.shape)
    places: list[Array] = list(np.indices(indices.shape))
    places[axis] = indices
    return np.asarray(np.ravel_multi_index(tuple(places), shape))


def scatter_nd(node: Node) -> Operand:
    """ScatterND: to public positions, with every reduction."""
    shape = node.shape(0)
    indices = node.known(1, "its list of positions").array
    depth = indices.shape[-1] if indices.ndim else 0
    if not 1 <= depth <= len(shape):
        node.refuse(f"positions {list(indices.shape)} in data {list(shape)}")
    corner = np.array(shape[:depth])
    wrapped = np.where(indices < 0, indices + corner, indices)
    if wrapped.size and ((wrapped < 0).any() or (wrapped >= corner).any()):
        node.refuse(f"positions outside the data {list(shape)}")
    rows = np.ravel_multi_index(tuple(np.moveaxis(wrapped, -1, 0)), shape[:depth])
    width = element_count(shape[depth:])
    node.room(rows.size, width)
    flat = (rows.reshape(-1, 1) * width + np.arange(width)).reshape(-1)
    return _scattered(node, flat, np.arange(flat.size))


def _scattered(node: Node, targets: Array, sources: Array) -> Operand:
    """Data with update ``sources[i]`` put to, or combined with, the element ``targets[i]``."""
    shape, data, updates = node.shape(0), node.value(0), node.value(2)
    reduction = node.text("reduction", "none")
    if reduction not in ("none", *_COMBINE):
        node.refuse(f"reduction {reduction}")
    if targets.size == 0:
        return data
    data = node.emit(tensor.Reshape, data, shape=(element_count(shape),))
    updates = node.emit(tensor.Reshape, updates, shape=(element_count(type_of(updates).shape),))
    for chosen in _layers(targets):
        new = rearranged(node, updates, sources[chosen])
        if reduction != "none":
            old = rearranged(node, data, targets[chosen])
            new = _COMBINE[reduction](node, old, new)
        size = element_count(shape)
        node.room(size)
        positions = np.arange(size)
        positions[targets[chosen]] = size + np.arange(len(chosen))
        data = rearranged(node, node.emit(tensor.Concat, data, new, axis=0), positions)
    return node.emit(tensor.Reshape, data, shape=shape)


def _layers(targets: Array) -> list[Array]:
    """Positions in ``targets``, in groups without a double, those that come first in the first."""
    order = np.argsort(targets, kind="stable")
    ordered = targets[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, len(ordered)])
    rank = np.empty(len(targets), np.int64)
    rank[order] = np.arange(len(ordered)) - np.repeat(starts, counts)
    return np.split(np.argsort(rank, kind="stable"), np.cumsum(np.bincount(rank))[:-1])


# --- ordering ------------------------------------------------------------------------------------


def argmax(node: Node) -> Operand:
    """ArgMax: the first or the last of equal ones; only as an output."""
    return _argmax(node, node.value(0))


def argmin(node: Node) -> Operand:
    """ArgMin: the first or the last of equal ones; only as an output."""
    return _argmax(node, node.emit(tensor.Scale, node.value(0), factor=-1.0))


def _argmax(node: Node, x: Value) -> Operand:
    return node.emit(
        tensor.ArgMax,
        x,
        axis=node.axis(node.integer("axis", 0), len(type_of(x).shape)),
        keepdims=bool(node.integer("keepdims", 1)),
        select_last=bool(node.integer("select_last_index", 0)),
    )


def topk(node: Node) -> tuple[Operand, ...]:
    """TopK: sorted; the positions only as an output."""
    shape = node.shape(0)
    (k,) = (node.integer("k"),) if node.opset < 10 else node.integers(1, "k")
    axis = node.axis(node.integer("axis", -1), len(shape))
    if not 1 <= k <= shape[axis]:
        node.refuse(f"the {k} largest of {shape[axis]}")
    return node.emit_all(
        tensor.TopK, node.value(0), k=k, axis=axis, largest=bool(node.integer("largest", 1))
    )


def one_hot(node: Node) -> Operand:
    """OneHot: of computed positions, between public values."""
    x = node.value(0)
    (depth,) = (int(v) for v in node.known(1, "depth").array.reshape(-1))
    off, on = node.parameters(2, "values")
    rank = len(type_of(x).shape)
    axis = node.axis(node.integer("axis", -1), rank + 1)
    if depth < 1:
        node.refuse(f"depth {depth}")
    wide = type_of(x).shape[:axis] + (1,) + type_of(x).shape[axis:]
    x = node.emit(tensor.Reshape, x, shape=wide)
    # A position may be negative; both ways are compared at once.
    line = [1] * (rank + 1)
    line[axis] = 2 * depth
    node.room(2 * depth)
    numbers = node.public("positions", np.arange(-depth, depth).reshape(line))
    hits = node.emit(tensor.ToReal, node.emit(tensor.Equal, x, numbers))
    hit = node.emit(
        tensor.Add, cut(node, hits, axis, 0, depth), cut(node, hits, axis, depth, 2 * depth)
    )
    if (off, on) == (0.0, 1.0):
        return hit
    return node.emit(
        tensor.Add, node.emit(tensor.Scale, hit, factor=on - off), node.public("off", off)
    )


def cumsum(node: Node) -> Operand:
    """CumSum: along a public axis."""
    node.wide_integers()
    (axis,) = node.integers(1, "the axis")
    return node.emit(
        tensor.CumSum,
        node.value(0),
        axis=node.axis(axis, len(node.shape(0))),
        exclusive=bool(node.integer("exclusive", 0)),
        reverse=bool(node.integer("reverse", 0)),
    )


OPERATORS: Mapping[str, Operator] = {
    "ArgMax": Operator(argmax, "positions as data of further operators"),
    "ArgMin": Operator(argmin, "positions as data of further operators"),
    "Compress": Operator(compress, "computed conditions", "axis"),
    "CumSum": Operator(cumsum, "a computed axis"),
    "Gather": Operator(gather),
    "GatherElements": Operator(gather_elements, "computed positions"),
    "GatherND": Operator(gather_nd, "computed positions", "batch_dims"),
    "OneHot": Operator(one_hot, "a computed depth or values"),
    "ReverseSequence": Operator(reverse_sequence, "computed lengths", "batch_axis time_axis"),
    "Scatter": Operator(scatter_elements, "computed positions"),
    "ScatterElements": Operator(scatter_elements, "computed positions"),
    "ScatterND": Operator(scatter_nd, "computed positions"),
    "TopK": Operator(topk, "a computed k; positions as data of further operators", "sorted"),
    "Trilu": Operator(trilu, "a computed diagonal"),
}
"""Operator name -> how it is imported."""
