"""ONNX structure: constants, shapes, and moving, repeating or cutting whole axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpcc.frontend.importer import Array, Constant, Operand, type_of
from mpcc.frontend.onnx.compose import cut, spread
from mpcc.frontend.onnx.indexing import gathered
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape, element_count

__all__ = ["OPERATORS"]


# --- constants -----------------------------------------------------------------------------------


def constant(node: Node) -> Constant:
    """Constant: a float one is a weight like an initialiser."""
    if node.has("value"):
        array = node.array("value")
    elif node.has("value_int"):
        array = np.asarray(node.integer("value_int"), np.int64)
    elif node.has("value_ints"):
        array = np.asarray(node.ints("value_ints"), np.int64)
    elif node.has("value_float"):
        array = np.asarray(node.number("value_float"), np.float32)
    elif node.has("value_floats"):
        array = np.asarray(node.numbers("value_floats"), np.float32)
    else:
        node.refuse("only dense tensors and numbers are supported, no strings, no sparse tensors")
    return Constant(array, node.output)


def shape_of(node: Node) -> Operand:
    """Shape: a public constant, since all shapes are static."""
    shape = node.shape(0)
    start, end = node.integer("start", 0), node.integer("end", len(shape))
    return Constant(np.asarray(shape[start:end], np.int64), node.output, "public")


def size_of(node: Node) -> Operand:
    """Size: a public constant, since all shapes are static."""
    size = element_count(node.shape(0))
    return Constant(np.asarray(size, np.int64), node.output, "public")


def eye_like(node: Node) -> Operand:
    """EyeLike: a public constant, since all shapes are static."""
    shape = node.shape(0)
    if len(shape) != 2:
        node.refuse(f"data of shape {list(shape)} is no matrix")
    node.room(*shape)
    return node.public("eye", np.eye(*shape, k=node.integer("k", 0)))


# --- the same elements in order ------------------------------------------------------------------


def identity(node: Node) -> Operand:
    """Identity: the operand itself."""
    return node.operand(0)


def flatten(node: Node) -> Operand:
    """Flatten: to a matrix: the axes before ``axis`` are rows, the rest columns."""
    shape, axis = node.shape(0), node.integer("axis", 1)
    # The end is a place to cut too.
    axis = len(shape) if axis == len(shape) else node.axis(axis, len(shape))
    return node.reshape(node.value(0), (element_count(shape[:axis]), element_count(shape[axis:])))


def reshape(node: Node) -> Operand:
    """Reshape: to a constant shape; 0 keeps an axis unless allowzero, one -1 takes the rest."""
    shape = node.shape(0)
    wanted = list(node.integers(1, "the shape"))
    if not node.integer("allowzero", 0):
        for i, size in enumerate(wanted):
            if size == 0:
                if i >= len(shape):
                    node.refuse(f"shape {wanted} keeps axis {i} of {list(shape)}")
                wanted[i] = shape[i]
    if wanted.count(-1) == 1:
        rest = element_count(tuple(d for d in wanted if d != -1))
        if rest < 1 or element_count(shape) % rest:
            node.refuse(f"{list(shape)} does not reshape to {wanted}")
        wanted[wanted.index(-1)] = element_count(shape) // rest
    # Even an unchanged shape stays an op: a pass removes it.
    return node.emit(tensor.Reshape, node.value(0), shape=tuple(wanted))


def squeeze(node: Node) -> Operand:
    """Squeeze: axes of one element; all of them by default."""
    shape = node.shape(0)
    given = node.listed("axes", 1, 13)
    if given is None:
        axes: tuple[int, ...] = tuple(i for i, d in enumerate(shape) if d == 1)
    else:
        axes = node.axes(given, len(shape))
    if any(shape[a] != 1 for a in axes):
        node.refuse(f"axes {list(axes)} of {list(shape)} do not have one element each")
    kept = tuple(d for i, d in enumerate(shape) if i not in axes)
    return node.reshape(node.value(0), kept)


def unsqueeze(node: Node) -> Operand:
    """Unsqueeze: new axes of one element."""
    shape = node.shape(0)
    given = node.listed("axes", 1, 13)
    if given is None:
        node.refuse("its axes are missing")
    rank = len(shape) + len(given)
    axes, rest = node.axes(given, rank), iter(shape)
    return node.reshape(node.value(0), tuple(1 if i in axes else next(rest) for i in range(rank)))


def transpose(node: Node) -> Operand:
    """Transpose: without ``perm`` the axes are reversed."""
    rank = len(node.shape(0))
    perm = node.ints("perm", range(rank - 1, -1, -1))
    return node.emit(tensor.Transpose, node.value(0), perm=perm)


def _blocks(node: Node) -> tuple[int, int, int, int, int]:
    shape, block = node.shape(0), node.integer("blocksize")
    if len(shape) != 4 or block < 1:
        node.refuse(f"blocks of {block} in data of shape {list(shape)}")
    return shape[0], shape[1], shape[2], shape[3], block


def depth_to_space(node: Node) -> Operand:
    """DepthToSpace: modes DCR and CRD."""
    n, c, h, w, b = _blocks(node)
    mode = node.text("mode", "DCR")
    if c % (b * b) or mode not in ("DCR", "CRD"):
        node.refuse(f"mode {mode}, {c} channels in blocks of {b}")
    inner = c // (b * b)
    if mode == "DCR":
        split, perm = (n, b, b, inner, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, perm = (n, inner, b, b, h, w), (0, 1, 4, 2, 5, 3)
    moved = node.transpose(node.reshape(node.value(0), split), perm)
    return node.reshape(moved, (n, inner, h * b, w * b))


def space_to_depth(node: Node) -> Operand:
    """SpaceToDepth: modes DCR and CRD."""
    n, c, h, w, b = _blocks(node)
    mode = node.text("mode", "DCR")
    if h % b or w % b or mode not in ("DCR", "CRD"):
        node.refuse(f"mode {mode}, data of {h} x {w} in blocks of {b}")
    split = node.reshape(node.value(0), (n, c, h // b, b, w // b, b))
    moved = node.transpose(split, (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
    return node.reshape(moved, (n, c * b * b, h // b, w // b))


# --- putting together and cutting ----------------------------------------------------------------


def concat(node: Node) -> Operand:
    """Concat: along any axis."""
    axis = node.axis(node.integer("axis"), len(node.shape(0)))
    filled = [i for i in range(len(node.operands)) if element_count(node.shape(i)) > 0]
    return node.emit(tensor.Concat, *(node.value(i) for i in filled), axis=axis)


def _empty(node: Node, shape: Shape) -> Constant:
    """A tensor without elements: it says nothing, and only Concat can do something with it."""
    return Constant(np.zeros(shape, np.float32), node.output, "public")


def split(node: Node) -> tuple[Operand, ...]:
    """Split: into equal or given parts."""
    shape, count = node.shape(0), len(node.proto.output)
    axis = node.axis(node.integer("axis", 0), len(shape))
    size = shape[axis]
    sizes = node.listed("split", 1, 13)
    if sizes is None:
        part = -(-size // node.integer("num_outputs", count))
        sizes = tuple(min(part, size - part * i) for i in range(count))
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 0:
        node.refuse(f"parts of {list(sizes)} of an axis of {size}")
    x, end = node.value(0), 0
    parts: list[Operand] = []
    for part in sizes:
        empty = (*shape[:axis], 0, *shape[axis + 1 :])
        parts.append(cut(node, x, axis, end, end + part) if part else _empty(node, empty))
        end += part
    return tuple(parts)


def slice_(node: Node) -> Operand:
    """Slice: all steps; negative ones reverse."""
    shape = node.shape(0)
    if node.opset < 10:
        starts, ends = node.ints("starts"), node.ints("ends")
        axes = node.ints("axes", range(len(starts)))
        steps: tuple[int, ...] = (1,) * len(starts)
    else:
        starts, ends = node.integers(1, "the start"), node.integers(2, "the end")
        given = node.optional(3)
        axes = tuple(range(len(starts))) if given is None else node.integers(3, "the axes")
        given = node.optional(4)
        steps = (1,) * len(starts) if given is None else node.integers(4, "the steps")
    axes = node.axes(axes, len(shape))
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        node.refuse(f"starts {starts}, ends {ends}, axes {axes} and steps {steps} do not fit")
    x, wanted = node.value(0), list(shape)
    picked: dict[int, Array] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        kept = range(shape[axis])[slice(start, end, step)]
        node.room(len(kept))
        picked[axis] = np.arange(kept.start, kept.stop, kept.step)
        wanted[axis] = len(picked[axis])
    if 0 in wanted:
        return _empty(node, tuple(wanted))
    for axis, indices in picked.items():
        x = gathered(node, x, axis, indices)
    return x


def pad(node: Node) -> Operand:
    """Pad: modes constant, reflect, edge and wrap; negative pads cut."""
    mode, x = node.text("mode", "constant"), node.value(0)
    rank, value = len(type_of(x).shape), 0.0
    if node.opset < 11:
        pads, value = node.ints("pads"), node.number("value", 0.0)
    else:
        pads = node.integers(1, "the padding")
        if mode == "constant":
            value = node.parameter(2, "value", 0.0)
    axes = tuple(range(rank))
    if node.optional(3) is not None:
        axes = node.axes(node.integers(3, "the list of axes"), rank)
    if len(pads) != 2 * len(axes):
        node.refuse(f"pads {list(pads)} do not fit the axes {list(axes)}")
    if not np.isfinite(value):
        node.refuse(
            f"padding with {value}", "fixed-point numbers are finite: pad inside MaxPool instead"
        )
    low, high = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        low[axis], high[axis] = pads[i], pads[len(axes) + i]
    if mode != "constant":
        for axis in axes:
            x = _mirrored(node, x, axis, mode, low[axis], high[axis])
        return x
    for axis in axes:
        size = type_of(x).shape[axis]
        start, limit = max(-low[axis], 0), size + min(high[axis], 0)
        if start >= limit:
            node.refuse(f"pads {list(pads)} cut everything from an axis of {size}")
        x = cut(node, x, axis, start, limit)
    before, after = (tuple(max(p, 0) for p in side) for side in (low, high))
    if not any((*before, *after)) and min((*low, *high), default=0) < 0:
        return x
    return node.emit(tensor.Pad, x, low=before, high=after, value=value)


def _mirrored(node: Node, x: Value, axis: int, mode: str, low: int, high: int) -> Value:
    size = type_of(x).shape[axis]
    numpy_mode = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}.get(mode)
    if numpy_mode is None:
        node.refuse(f"mode {mode}")
    if mode == "reflect" and size == 1 and max(low, high) > 0:
        node.refuse("reflection of an axis of one element")
    outside = (max(low, 0), max(high, 0))
    node.room(size + sum(outside))
    indices: Array = np.pad(np.arange(size), outside, mode=numpy_mode)  # type: ignore[call-overload]
    indices = indices[max(-low, 0) : len(indices) - max(-high, 0)]
    if indices.size == 0:
        node.refuse(f"pads {low}, {high} cut everything from an axis of {size}")
    return gathered(node, x, axis, indices)


def center_crop_pad(node: Node) -> Operand:
    """CenterCropPad: to a constant size."""
    x = node.value(0)
    rank = len(type_of(x).shape)
    axes = node.axes(node.ints("axes", range(rank)), rank)
    wanted = node.integers(1, "the shape")
    if len(wanted) != len(axes) or min(wanted, default=1) < 1:
        node.refuse(f"shape {list(wanted)} of axes {list(axes)}")
    low, high = [0] * rank, [0] * rank
    for axis, size in zip(axes, wanted, strict=True):
        have = type_of(x).shape[axis]
        if size < have:
            start = (have - size) // 2
            x = cut(node, x, axis, start, start + size)
        else:
            low[axis] = (size - have) // 2
            high[axis] = size - have - low[axis]
    if not any((*low, *high)):
        return x
    return node.emit(tensor.Pad, x, low=tuple(low), high=tuple(high))


# --- repeating -----------------------------------------------------------------------------------


def expand(node: Node) -> Operand:
    """Expand: to a constant shape, broadcasting both ways."""
    x, wanted = node.value(0), node.integers(1, "the shape")
    if min(wanted, default=1) < 1:
        node.refuse(f"shape {list(wanted)}")
    return spread(node, x, np.broadcast_shapes(type_of(x).shape, wanted))


def tile(node: Node) -> Operand:
    """Tile: repeats per axis."""
    x, repeats = node.value(0), node.integers(1, "the repeats")
    shape: Shape = type_of(x).shape
    if len(repeats) != len(shape) or min(repeats, default=1) < 1:
        node.refuse(f"repeats {list(repeats)} of data {list(shape)}")
    # Only repeated axes of several elements get one before them: ranks are limited.
    split_: list[int] = []
    wide: list[int] = []
    for size, count in zip(shape, repeats, strict=True):
        split_ += [size] if 1 in (count, size) else [1, size]
        wide += [size * count] if 1 in (count, size) else [count, size]
    moved = spread(node, node.builder.value(node.reshape(x, tuple(split_))), tuple(wide))
    return node.reshape(moved, tuple(d * r for d, r in zip(shape, repeats, strict=True)))


OPERATORS: Mapping[str, Operator] = {
    "CenterCropPad": Operator(center_crop_pad, "a computed shape"),
    "Concat": Operator(concat),
    "Constant": Operator(constant, "strings, sparse tensors"),
    "DepthToSpace": Operator(depth_to_space),
    "Expand": Operator(expand, "a computed shape"),
    "EyeLike": Operator(eye_like, ignored="dtype"),
    "Flatten": Operator(flatten),
    "Identity": Operator(identity),
    "Pad": Operator(pad, "computed pads or values", "value"),
    "Reshape": Operator(reshape, "a computed shape"),
    "Shape": Operator(shape_of),
    "Size": Operator(size_of),
    "Slice": Operator(slice_, "computed positions"),
    "SpaceToDepth": Operator(space_to_depth),
    "Split": Operator(split, "computed sizes"),
    "Squeeze": Operator(squeeze),
    "Tile": Operator(tile, "computed repeats"),
    "Transpose": Operator(transpose),
    "Unsqueeze": Operator(unsqueeze),
}
"""Operator name -> how it is imported."""
