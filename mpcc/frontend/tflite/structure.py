"""TensorFlow Lite's shapes, and moving, repeating, cutting, reducing and ordering elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mpcc.frontend.tflite.layers import activated
from mpcc.frontend.tflite.node import Handler, Node

__all__ = ["HANDLERS"]

_END = (1 << 63) - 1
"""An end of a slice that is behind every axis."""


# --- shapes --------------------------------------------------------------------------------------


def shape_of(node: Node) -> str:
    """SHAPE: public, since all shapes are static."""
    return node.emit("Shape", node.operand(0))


def rank_of(node: Node) -> str:
    """RANK: public."""
    return node.positions(len(node.shape(0)))


def zeros_like(node: Node) -> str:
    """ZEROS_LIKE: public."""
    return node.emit("ConstantOfShape", node.emit("Shape", node.operand(0)))


def fill(node: Node) -> str:
    """FILL: a number in a constant shape."""
    return node.emit("Expand", node.operand(1), node.operand(0))


def broadcast(node: Node) -> str:
    """BROADCAST_TO: to a constant shape."""
    return node.emit("Expand", node.operand(0), node.operand(1))


def range_(node: Node) -> str:
    """RANGE: between constants."""
    return node.emit("Range", *(node.operand(i) for i in range(3)))


# --- the same elements in order ------------------------------------------------------------------


def reshape(node: Node) -> str:
    """RESHAPE: to a constant shape, where one -1 takes the rest."""
    if node.has(1):
        return node.emit("Reshape", node.operand(0), node.operand(1), allowzero=1)
    return node.reshape(node.operand(0), node.listed("shape"))


def squeeze(node: Node) -> str:
    """SQUEEZE: axes of one element; all of them by default."""
    axes = node.listed("axes")
    operands = [node.positions(axes)] if axes else []
    return node.emit("Squeeze", node.operand(0), *operands)


def expand_dims(node: Node) -> str:
    """EXPAND_DIMS: a new axis of one element."""
    axis = node.positions([node.integer(1, "the axis")])
    return node.emit("Unsqueeze", node.operand(0), axis)


def transpose(node: Node) -> str:
    """TRANSPOSE: by a constant order of axes."""
    return node.transpose(node.operand(0), node.integers(1, "the order of axes"))


# --- putting together and cutting ----------------------------------------------------------------


def concat(node: Node) -> str:
    """CONCATENATION: along any axis."""
    operands = [node.operand(i) for i in range(node.count)]
    return activated(node, node.emit("Concat", *operands, axis=node.option("axis")))


def pack(node: Node) -> str:
    """PACK: along a new axis."""
    axis = node.option("axis")
    at = node.positions([axis])
    wide = [node.emit("Unsqueeze", node.operand(i), at) for i in range(node.count)]
    return node.emit("Concat", *wide, axis=axis)


def _split(
    node: Node, x: str, sizes: Sequence[int] | None, axis: int, count: int
) -> tuple[str, ...]:
    if count != node.outputs or count < 1:
        node.refuse(f"{count} parts in {node.outputs} results")
    if sizes is None:
        return node.emit_all("Split", (x,), count, axis=axis, num_outputs=count)
    return node.emit_all("Split", (x, node.positions(sizes)), count, axis=axis)


def unpack(node: Node) -> tuple[str, ...]:
    """UNPACK: every element of an axis, without the axis."""
    axis, count = node.option("axis"), node.option("count")
    if node.sized(0, axis) != count:
        node.refuse(f"{count} parts of an axis of {node.sized(0, axis)}")
    at = node.positions([axis])
    parts = _split(node, node.operand(0), None, axis, count)
    return tuple(node.emit("Squeeze", p, at) for p in parts)


def split(node: Node) -> tuple[str, ...]:
    """SPLIT: into equal parts."""
    axis, count = node.integer(0, "the axis"), node.option("count")
    if count < 1 or node.sized(1, axis) % count:
        node.refuse(f"{count} equal parts of an axis of {node.sized(1, axis)}")
    return _split(node, node.operand(1), None, axis, count)


def split_v(node: Node) -> tuple[str, ...]:
    """SPLIT_V: into given parts; -1 is the rest."""
    sizes, axis = list(node.integers(1, "the list of sizes")), node.integer(2, "the axis")
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = node.sized(0, axis) - sum(s for s in sizes if s >= 0)
    return _split(node, node.operand(0), sizes, axis, len(sizes))


def slice_(node: Node) -> str:
    """SLICE: from constant positions on."""
    begins, sizes = node.integers(1, "the begin"), node.integers(2, "the size")
    if len(begins) != len(sizes):
        node.refuse(f"{len(begins)} begins with {len(sizes)} sizes")
    ends = [_END if s == -1 else b + s for b, s in zip(begins, sizes, strict=True)]
    rest = map(node.positions, (begins, ends, range(len(begins))))
    return node.emit("Slice", node.operand(0), *rest)


def strided_slice(node: Node) -> str:
    """STRIDED_SLICE: x[a:b:c, d, ..., newaxis], with constant positions."""
    begins, ends, steps = (node.integers(i, "a position") for i in (1, 2, 3))
    if not len(begins) == len(ends) == len(steps) or 0 in steps:
        node.refuse(f"positions {list(begins)}, {list(ends)} in steps of {list(steps)}")
    masks = {n: node.option(n) for n in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}

    def has(mask: str, i: int) -> bool:
        return bool(masks[mask] >> i & 1)

    rank = len(node.shape(0))
    taken = sum(not has("ellipsis", i) and not has("new_axis", i) for i in range(len(begins)))
    cuts: list[tuple[int, int, int, int]] = []
    gone: list[int] = []
    new: list[int] = []
    axis = result = 0
    for i, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        if has("ellipsis", i):
            axis, result = axis + rank - taken, result + rank - taken
            continue
        if has("new_axis", i):
            new.append(result)
            result += 1
            continue
        if has("shrink_axis", i):
            cuts.append((axis, begin, _END if begin == -1 else begin + 1, 1))
            gone.append(axis)
        else:
            stop = begin + end if node.flag("offset") else end
            first = (0 if step > 0 else _END) if has("begin", i) else begin
            last = (_END if step > 0 else -_END) if has("end", i) else stop
            cuts.append((axis, first, last, step))
            result += 1
        axis += 1
    x = node.operand(0)
    if cuts:
        axes, first_, last_, step_ = (node.positions(c) for c in zip(*cuts, strict=True))
        x = node.emit("Slice", x, first_, last_, axes, step_)
    if gone:
        x = node.emit("Squeeze", x, node.positions(gone))
    return node.emit("Unsqueeze", x, node.positions(new)) if new else x


def reverse(node: Node) -> str:
    """REVERSE_V2: along constant axes."""
    axes = node.integers(1, "the axes")
    ones = [-1] * len(axes)
    parts = map(node.positions, (ones, [-_END] * len(axes), axes, ones))
    return node.emit("Slice", node.operand(0), *parts)


def pad(node: Node) -> str:
    """PAD, PADV2: with a public number."""
    operands = [node.operand(2)] if node.op == "PADV2" else []
    return node.emit("Pad", node.operand(0), _pads(node), *operands)


def mirror_pad(node: Node) -> str:
    """MIRROR_PAD: with the border's neighbours."""
    if node.option("mode"):
        node.refuse("a border that is mirrored with itself", "use the mode REFLECT")
    return node.emit("Pad", node.operand(0), _pads(node), mode="reflect")


def _pads(node: Node) -> str:
    pads = np.asarray(node.integers(1, "the padding"))
    if pads.size % 2:
        node.refuse(f"a padding of {pads.size} numbers")
    return node.positions(pads.reshape(-1, 2).T.reshape(-1))


# --- repeating and choosing ----------------------------------------------------------------------


def tile(node: Node) -> str:
    """TILE: as often as constants say."""
    return node.emit("Tile", node.operand(0), node.operand(1))


def gather(node: Node) -> str:
    """GATHER: along any axis, at public or secret positions."""
    if node.option("batch_dims"):
        node.refuse("positions of their own for every row")
    return node.emit("Gather", node.operand(0), node.operand(1), axis=node.option("axis"))


def lookup(node: Node) -> str:
    """EMBEDDING_LOOKUP: rows of a table."""
    return node.emit("Gather", node.operand(1), node.operand(0), axis=0)


def gather_nd(node: Node) -> str:
    """GATHER_ND: at public positions."""
    return node.emit("GatherND", node.operand(0), node.operand(1))


def one_hot(node: Node) -> str:
    """ONE_HOT: of computed positions, between public values."""
    off, on = (node.known(i, "a value") for i in (3, 2))
    if off.size != 1 or on.size != 1:
        node.refuse(f"values of shape {list(off.shape)} and {list(on.shape)}")
    values = node.constant(np.concatenate([off.reshape(1), on.reshape(1)]))
    depth = node.positions(node.integer(1, "depth"))
    return node.emit("OneHot", node.operand(0), depth, values, axis=node.option("axis"))


def arg(node: Node) -> str:
    """ARG_MAX, ARG_MIN: the first of equal ones; only as an output."""
    op = {"ARG_MAX": "ArgMax", "ARG_MIN": "ArgMin"}[node.op]
    return node.emit(op, node.operand(0), axis=node.integer(1, "the axis"), keepdims=0)


def top_k(node: Node) -> tuple[str, ...]:
    """TOPK_V2: sorted; the positions only as an output."""
    k = node.positions([node.integer(1, "k")])
    return node.emit_all("TopK", (node.operand(0), k), 2, axis=-1)


def cumsum(node: Node) -> str:
    """CUMSUM: along a constant axis."""
    return node.emit(
        "CumSum",
        node.operand(0),
        node.positions(node.integer(1, "the axis")),
        exclusive=int(node.flag("exclusive")),
        reverse=int(node.flag("reverse")),
    )


def depth_to_space(node: Node) -> str:
    """DEPTH_TO_SPACE, SPACE_TO_DEPTH: channels and blocks of pixels."""
    op = {"DEPTH_TO_SPACE": "DepthToSpace", "SPACE_TO_DEPTH": "SpaceToDepth"}[node.op]
    x = node.transpose(node.operand(0), (0, 3, 1, 2))
    return node.transpose(node.emit(op, x, blocksize=node.option("block")), (0, 2, 3, 1))


# --- reductions ----------------------------------------------------------------------------------


def _reduction(op: str) -> Callable[[Node], str]:
    def run(node: Node) -> str:
        axes = node.integers(1, "the axes")
        if not axes:
            return node.operand(0)
        keep = int(node.flag("keep_dims"))
        return node.emit(op, node.operand(0), node.positions(axes), keepdims=keep)

    return run


HANDLERS: Mapping[str, Handler] = {
    "ARG_MAX": arg,
    "ARG_MIN": arg,
    "BROADCAST_TO": broadcast,
    "CONCATENATION": concat,
    "CUMSUM": cumsum,
    "DEPTH_TO_SPACE": depth_to_space,
    "EMBEDDING_LOOKUP": lookup,
    "EXPAND_DIMS": expand_dims,
    "FILL": fill,
    "GATHER": gather,
    "GATHER_ND": gather_nd,
    "MEAN": _reduction("ReduceMean"),
    "MIRROR_PAD": mirror_pad,
    "ONE_HOT": one_hot,
    "PACK": pack,
    "PAD": pad,
    "PADV2": pad,
    "RANGE": range_,
    "RANK": rank_of,
    "REDUCE_MAX": _reduction("ReduceMax"),
    "REDUCE_MIN": _reduction("ReduceMin"),
    "REDUCE_PROD": _reduction("ReduceProd"),
    "RESHAPE": reshape,
    "REVERSE_V2": reverse,
    "SHAPE": shape_of,
    "SLICE": slice_,
    "SPACE_TO_DEPTH": depth_to_space,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SQUEEZE": squeeze,
    "STRIDED_SLICE": strided_slice,
    "SUM": _reduction("ReduceSum"),
    "TILE": tile,
    "TOPK_V2": top_k,
    "TRANSPOSE": transpose,
    "UNPACK": unpack,
    "ZEROS_LIKE": zeros_like,
}
"""Operator -> what writes it."""
