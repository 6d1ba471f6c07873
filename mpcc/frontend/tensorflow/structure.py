"""TensorFlow's shapes, and moving, repeating, cutting, reducing and ordering elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mpcc.frontend.importer import Array, Constant, Operand, type_of
from mpcc.frontend.onnx.indexing import gathered, rearranged
from mpcc.frontend.tensorflow.node import Item, Node, Operator, Variable
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import element_count

__all__ = ["OPERATORS"]


# --- shapes --------------------------------------------------------------------------------------


def _integers(node: Node, numbers: object, index: int = 0) -> Constant:
    """A public result of integers."""
    dtype = np.int64 if node.dtype("out_type") == 7 else np.int32
    name = node.output if index == 0 else f"{node.output}:{index}"
    return Constant(np.asarray(numbers, dtype), name, "public")


def shape_of(node: Node) -> Operand:
    """Shape: a public constant, since all shapes are static."""
    if isinstance(found := node.item(0), Variable) and found.constant is not None:
        return _integers(node, found.constant.array.shape)
    return _integers(node, node.shape(0))


def shapes_of(node: Node) -> tuple[Operand, ...]:
    """ShapeN: public constants."""
    return tuple(_integers(node, node.shape(i), i) for i in range(node.count))


def size_of(node: Node) -> Operand:
    """Size: a public constant."""
    return _integers(node, element_count(node.shape(0)))


def rank_of(node: Node) -> Operand:
    """Rank: a public constant."""
    return Constant(np.asarray(len(node.shape(0)), np.int32), node.output, "public")


def like(node: Node) -> Operand:
    """ZerosLike, OnesLike: public constants."""
    number = 1 if node.op == "OnesLike" else 0
    shape = node.shape(0)
    node.builder.room.array(shape, node.label)
    return Constant(np.full(shape, number, np.float32), node.output, "public")


# --- the same elements in order ------------------------------------------------------------------


def identity(node: Node) -> Item:
    """Identity, StopGradient, CheckNumerics, ...: the operand itself."""
    return node.item(0)


def identities(node: Node) -> tuple[Item | None, ...]:
    """IdentityN: the operands themselves."""
    return tuple(node.items)


def reshape(node: Node) -> Operand:
    """Reshape: to a constant shape, where one -1 takes the rest."""
    wanted = node.positions(node.integers(1, "the shape"))
    return node.onnx("Reshape", node.operand(0), wanted, allowzero=1)


def squeeze(node: Node) -> Operand:
    """Squeeze: axes of one element; all of them by default."""
    axes = node.ints("squeeze_dims") or node.ints("axis")
    if not axes:
        return node.onnx("Squeeze", node.operand(0))
    return node.onnx("Squeeze", node.operand(0), node.positions(axes))


def expand_dims(node: Node) -> Operand:
    """ExpandDims: a new axis of one element."""
    axes = node.positions(node.integers(1, "the axis"))
    return node.onnx("Unsqueeze", node.operand(0), axes)


def transpose(node: Node) -> Operand:
    """Transpose: by a constant order of axes."""
    perm = node.integers(1, "the order of axes")
    return node.onnx("Transpose", node.operand(0), perm=list(perm))


# --- putting together and cutting ----------------------------------------------------------------


def concat(node: Node) -> Operand:
    """ConcatV2: along any axis."""
    (axis,) = node.integers(node.count - 1, "the axis")
    items = [node.operand(i) for i in range(node.count - 1)]
    filled = [x for x in items if element_count(type_of(x).shape)]
    return filled[0] if len(filled) == 1 else node.onnx("Concat", *filled, axis=axis)


def pack(node: Node) -> Operand:
    """Pack: along a new axis."""
    rank = len(node.shape(0)) + 1
    axis = node.axis(node.integer("axis"), rank)
    wide = []
    for i in range(node.count):
        shape = node.shape(i)
        operand = node.operand(i)
        if isinstance(operand, Value):
            operand = node.real(operand)
        wide.append(node.reshape(operand, (*shape[:axis], 1, *shape[axis:])))
    return node.onnx("Concat", *wide, axis=axis) if len(wide) > 1 else wide[0]


def unpack(node: Node) -> tuple[Operand, ...]:
    """Unpack: every element of an axis, without the axis."""
    shape = node.shape(0)
    axis = node.axis(node.integer("axis"), len(shape))
    if node.integer("num") != shape[axis]:
        node.refuse(f"{node.integer('num')} parts of an axis of {shape[axis]}")
    return tuple(
        node.onnx("Gather", node.operand(0), Constant(np.asarray(i), "", "public"), axis=axis)
        for i in range(shape[axis])
    )


def split(node: Node) -> tuple[Operand, ...]:
    """Split: into equal parts."""
    (axis,) = node.integers(0, "the axis")
    return _split(node, node.operand(1), axis, node.integer("num_split"), None)


def split_v(node: Node) -> tuple[Operand, ...]:
    """SplitV: into given parts; -1 is the rest."""
    (axis,) = node.integers(2, "the axis")
    sizes = list(node.integers(1, "the list of sizes"))
    whole = node.shape(0)[axis]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = whole - sum(s for s in sizes if s >= 0)
    return _split(node, node.operand(0), axis, len(sizes), sizes)


def _split(
    node: Node, x: Operand, axis: int, count: int, sizes: list[int] | None
) -> tuple[Operand, ...]:
    size = type_of(x).shape[axis]
    if sizes is None:
        if size % count:
            node.refuse(f"{count} equal parts of an axis of {size}")
        sizes = [size // count] * count
    return node.onnx_all("Split", x, node.positions(sizes), outputs=count, axis=axis)


def slice_(node: Node) -> Operand:
    """Slice: from constant positions on."""
    shape, begins = node.shape(0), node.integers(1, "the begin")
    sizes = node.integers(2, "the size")
    ends = [d if s == -1 else b + s for d, b, s in zip(shape, begins, sizes, strict=True)]
    axes = node.positions(range(len(shape)))
    return node.onnx("Slice", node.operand(0), *map(node.positions, (begins, ends)), axes)


def strided_slice(node: Node) -> Operand:
    """StridedSlice: x[a:b:c, d, ..., newaxis], with constant positions."""
    shape = node.shape(0)
    begins, ends, steps = (node.integers(i, "a position") for i in (1, 2, 3))
    masks = {
        name: node.integer(f"{name}_mask")
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }

    def has(mask: str, i: int) -> bool:
        return bool(masks[mask] >> i & 1)

    entries = len(begins)
    taken = sum(not has("ellipsis", i) and not has("new_axis", i) for i in range(entries))
    inner = node.inner()
    x: Operand = node.operand(0)
    moved = node.real(x)
    wanted: list[int] = []
    axis = 0

    def whole(count: int) -> int:
        wanted.extend(shape[axis : axis + count])
        return axis + count

    for i in range(entries):
        if has("ellipsis", i):
            axis = whole(len(shape) - taken)
        elif has("new_axis", i):
            wanted.append(1)
        elif has("shrink_axis", i):
            at = begins[i] + (shape[axis] if begins[i] < 0 else 0)
            moved = gathered(inner, moved, axis, np.array([at]))
            axis += 1
        else:
            start = None if has("begin", i) else begins[i]
            stop = None if has("end", i) else ends[i]
            kept = np.arange(shape[axis])[slice(start, stop, steps[i])]
            if kept.size == 0:
                node.refuse("a slice without elements")
            moved = gathered(inner, moved, axis, kept)
            wanted.append(len(kept))
            axis += 1
    whole(len(shape) - axis)
    return node.reshape(moved, tuple(wanted))


def pad(node: Node) -> Operand:
    """Pad, PadV2: with a public number."""
    pads = _pads(node)
    operands: list[Operand] = [node.operand(2)] if node.op == "PadV2" else []
    return node.onnx("Pad", node.operand(0), node.positions(pads.T.reshape(-1)), *operands)


def mirror_pad(node: Node) -> Operand:
    """MirrorPad: with the border's neighbours, or with the border too."""
    mode = {"REFLECT": "reflect", "SYMMETRIC": "symmetric"}.get(node.text("mode"))
    if mode is None:
        node.refuse(f"mode {node.text('mode')}")
    x = node.value(0)
    for axis, (low, high) in enumerate(_pads(node).tolist()):
        size = type_of(x).shape[axis]
        if low or high:
            node.builder.room.array((size + low + high,), node.label)
            places: Array = np.pad(np.arange(size), (low, high), mode=mode)  # type: ignore[call-overload]
            x = gathered(node.inner(), x, axis, places)
    return x


def _pads(node: Node) -> Array:
    """Elements before and after every axis, [axes, 2]."""
    pads = np.array(node.integers(1, "the padding")).reshape(-1, 2)
    if len(pads) != len(node.shape(0)):
        node.refuse(f"padding of {len(pads)} axes of data {list(node.shape(0))}")
    return pads


def tile(node: Node) -> Operand:
    """Tile: constant repeats."""
    return node.onnx("Tile", node.operand(0), node.positions(node.integers(1, "the repeats")))


def broadcast_to(node: Node) -> Operand:
    """BroadcastTo: a constant shape."""
    return node.onnx("Expand", node.operand(0), node.positions(node.integers(1, "the shape")))


def fill(node: Node) -> Operand:
    """Fill: a computed number in a constant shape."""
    return node.onnx("Expand", node.operand(1), node.positions(node.integers(0, "the shape")))


def reverse(node: Node) -> Operand:
    """ReverseV2: along constant axes."""
    x = node.value(0)
    for axis in node.axes(1, len(node.shape(0))):
        size = type_of(x).shape[axis]
        node.builder.room.array((size,), node.label)
        x = gathered(node.inner(), x, axis, np.arange(size)[::-1])
    return x


def blocks_to_space(node: Node) -> Operand:
    """DepthToSpace, SpaceToDepth: blocks of the channels' axis."""
    if node.text("data_format", "NHWC") not in ("NHWC", "NCHW"):
        node.refuse(f"data_format {node.text('data_format')}")
    last = node.text("data_format", "NHWC") == "NHWC"
    x = node.transpose(node.operand(0), (0, 3, 1, 2)) if last else node.operand(0)
    made = node.onnx(node.op, x, blocksize=node.integer("block_size"))
    return node.transpose(made, (0, 2, 3, 1)) if last else made


def space_to_batch(node: Node) -> Operand:
    """SpaceToBatchND: constant blocks and paddings."""
    blocks, pads = node.integers(1, "the blocks"), node.integers(2, "the padding")
    shape, count = node.shape(0), len(blocks)
    outer = len(shape) - count - 1
    rows = np.array(pads).reshape(count, 2)
    low, high = [0, *rows[:, 0].tolist(), *[0] * outer], [0, *rows[:, 1].tolist(), *[0] * outer]
    x = node.onnx("Pad", node.operand(0), node.positions([*low, *high]))
    padded = type_of(x).shape
    if any(padded[1 + i] % b for i, b in enumerate(blocks)):
        node.refuse(f"blocks {list(blocks)} of data {list(padded)}")
    cut: list[int] = [padded[0]]
    for i, block in enumerate(blocks):
        cut += [padded[1 + i] // block, block]
    split_ = node.reshape(x, (*cut, *padded[1 + count :]))
    inside = [2 + 2 * i for i in range(count)]
    perm = [
        *inside,
        0,
        *(1 + 2 * i for i in range(count)),
        *range(1 + 2 * count, 1 + 2 * count + outer),
    ]
    wanted = (
        padded[0] * int(np.prod(blocks)),
        *(padded[1 + i] // b for i, b in enumerate(blocks)),
        *padded[1 + count :],
    )
    return node.reshape(node.transpose(split_, perm), wanted)


def batch_to_space(node: Node) -> Operand:
    """BatchToSpaceND: constant blocks and crops."""
    blocks, crops = node.integers(1, "the blocks"), node.integers(2, "the crops")
    shape, count = node.shape(0), len(blocks)
    outer = len(shape) - count - 1
    batch = shape[0] // int(np.prod(blocks))
    if batch * int(np.prod(blocks)) != shape[0]:
        node.refuse(f"blocks {list(blocks)} of data {list(shape)}")
    split_ = node.reshape(node.operand(0), (*blocks, batch, *shape[1:]))
    perm = [count]
    for i in range(count):
        perm += [count + 1 + i, i]
    perm += range(2 * count + 1, 2 * count + 1 + outer)
    wide = tuple(shape[1 + i] * b for i, b in enumerate(blocks))
    x = node.reshape(node.transpose(split_, perm), (batch, *wide, *shape[1 + count :]))
    rows = np.array(crops).reshape(count, 2)
    starts = rows[:, 0].tolist()
    ends = [w - e for w, e in zip(wide, rows[:, 1].tolist(), strict=True)]
    axes = node.positions(range(1, 1 + count))
    return node.onnx("Slice", x, node.positions(starts), node.positions(ends), axes)


def band(node: Node) -> Operand:
    """MatrixBandPart: constant distances from the diagonal."""
    (lower,), (upper,) = (node.integers(i, "the band") for i in (1, 2))
    x = node.operand(0)
    if lower >= 0:
        x = node.onnx("Trilu", x, node.positions(-lower), upper=1)
    if upper >= 0:
        x = node.onnx("Trilu", x, node.positions(upper), upper=0)
    return x


# --- picking -------------------------------------------------------------------------------------


def gather(node: Node) -> Operand:
    """GatherV2, ResourceGather: by public positions, or by secret ones as a look-up."""
    found = node.item(0)
    if isinstance(found, Variable):
        if found.constant is None:
            node.refuse(f"the resource {found.name}, which is no variable")
        found = found.constant
    data = found if isinstance(found, (Constant, Value)) else node.operand(0)
    axis = node.integers(2, "the axis")[0] if node.op == "GatherV2" else 0
    batch = node.integer("batch_dims")
    positions = node.operand(1)
    if batch < 0:
        batch += len(type_of(positions).shape)
    shape = type_of(data).shape
    axis = node.axis(axis, len(shape))
    if batch == 0:
        return node.onnx("Gather", data, positions, axis=axis)
    # Of every batch its own positions: as places in the data as a whole.
    known = node.known(1, "its list of positions").array
    places = np.arange(element_count(shape)).reshape(shape)
    node.builder.room.array(shape, node.label)
    rows = [
        places[at].take(known[at], axis=axis - batch) for at in np.ndindex(*known.shape[:batch])
    ]
    wanted = (*known.shape[:batch], *rows[0].shape)
    return rearranged(node.inner(), node.real(data), np.stack(rows).reshape(wanted))


def gather_nd(node: Node) -> Operand:
    """GatherNd: by public positions."""
    return node.onnx("GatherND", node.operand(0), _wide(node, 1))


def _wide(node: Node, index: int) -> Constant:
    """Known positions as int64, which ONNX takes."""
    return node.positions(node.known(index, "its list of positions").array)


def scatter_update(node: Node) -> Operand:
    """TensorScatterUpdate, -Add, -Max, -Min: to public positions."""
    reduction = node.op.removeprefix("TensorScatter").lower()
    reduction = {"update": "none", "add": "add", "max": "max", "min": "min"}[reduction]
    return node.onnx(
        "ScatterND", node.operand(0), _wide(node, 1), node.operand(2), reduction=reduction
    )


def scatter(node: Node) -> Operand:
    """ScatterNd: sums at public positions."""
    shape = node.integers(2, "the shape")
    node.builder.room.array(shape, node.label)
    zeros = node.public("zeros", np.zeros(shape))
    return node.onnx("ScatterND", zeros, _wide(node, 0), node.operand(1), reduction="add")


def one_hot(node: Node) -> Operand:
    """OneHot: of computed positions, between public values."""
    depth = node.positions(node.integers(1, "depth"))
    inner = node.inner()
    off, on = inner.parameter(3, "off value", 0.0), inner.parameter(2, "on value", 1.0)
    values = Constant(np.array([off, on]), f"{node.output}/values", "public")
    return node.onnx("OneHot", node.operand(0), depth, values, axis=node.integer("axis", -1))


def arg(node: Node) -> Operand:
    """ArgMax, ArgMin: the first of equal ones; only as an output."""
    (axis,) = node.integers(1, "the axis")
    return node.onnx(node.op, node.operand(0), axis=axis, keepdims=0)


def top_k(node: Node) -> tuple[Operand, ...]:
    """TopKV2: sorted; the positions only as an output."""
    k = node.positions(node.integers(1, "k"))
    return node.onnx_all("TopK", node.operand(0), k, outputs=2, axis=-1, largest=1)


def cumsum(node: Node) -> Operand:
    """Cumsum: along a constant axis."""
    (axis,) = node.integers(1, "the axis")
    return node.onnx(
        "CumSum",
        node.operand(0),
        node.positions(axis),
        exclusive=int(node.flag("exclusive")),
        reverse=int(node.flag("reverse")),
    )


# --- reductions ----------------------------------------------------------------------------------


def _reduction(op: str) -> Callable[[Node], Operand]:
    def run(node: Node) -> Operand:
        axes = node.axes(1, len(node.shape(0)))
        keep = int(node.flag("keep_dims"))
        x = node.operand(0)
        return node.onnx(op, x, node.positions(axes), keepdims=keep) if axes else x

    return run


def any_(node: Node) -> Operand:
    """Any: whether one truth value holds."""
    total, _ = _counted(node)
    return node.emit(tensor.Less, node.public("half", 0.5), total)


def all_(node: Node) -> Operand:
    """All: whether every truth value holds."""
    total, count = _counted(node)
    return node.emit(tensor.Less, node.public("below", count - 0.5), total)


def _counted(node: Node) -> tuple[Value, int]:
    """How many truth values hold along the axes, and how many there are."""
    shape = node.shape(0)
    axes = node.axes(1, len(shape))
    keep = node.flag("keep_dims")
    x = node.value(0)
    if axes:
        x = node.emit(tensor.ReduceSum, x, axes=tuple(sorted(axes)), keepdims=keep)
    return x, element_count(tuple(shape[a] for a in axes))


OPERATORS: Mapping[str, Operator] = {
    **dict.fromkeys(
        (
            "CheckNumerics",
            "EnsureShape",
            "Identity",
            "PlaceholderWithDefault",
            "PreventGradient",
            "Snapshot",
            "StopGradient",
        ),
        Operator(identity, always=True),
    ),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), Operator(blocks_to_space)),
    **dict.fromkeys(("OnesLike", "ZerosLike"), Operator(like)),
    "All": Operator(all_),
    "Any": Operator(any_),
    "ArgMax": Operator(arg),
    "ArgMin": Operator(arg),
    "BatchToSpaceND": Operator(batch_to_space),
    "BroadcastTo": Operator(broadcast_to),
    "ConcatV2": Operator(concat),
    "Cumsum": Operator(cumsum),
    "EuclideanNorm": Operator(_reduction("ReduceL2")),
    "ExpandDims": Operator(expand_dims),
    "Fill": Operator(fill),
    "GatherNd": Operator(gather_nd),
    "GatherV2": Operator(gather),
    "IdentityN": Operator(identities, always=True),
    "MatrixBandPart": Operator(band),
    "Max": Operator(_reduction("ReduceMax")),
    "Mean": Operator(_reduction("ReduceMean")),
    "Min": Operator(_reduction("ReduceMin")),
    "MirrorPad": Operator(mirror_pad),
    "OneHot": Operator(one_hot),
    "Pack": Operator(pack),
    "Pad": Operator(pad),
    "PadV2": Operator(pad),
    "Prod": Operator(_reduction("ReduceProd")),
    "Rank": Operator(rank_of),
    "Reshape": Operator(reshape),
    "ResourceGather": Operator(gather),
    "ReverseV2": Operator(reverse),
    "ScatterNd": Operator(scatter),
    "Shape": Operator(shape_of),
    "ShapeN": Operator(shapes_of),
    "Size": Operator(size_of),
    "Slice": Operator(slice_),
    "SpaceToBatchND": Operator(space_to_batch),
    "Split": Operator(split),
    "SplitV": Operator(split_v),
    "Squeeze": Operator(squeeze),
    "StridedSlice": Operator(strided_slice),
    "Sum": Operator(_reduction("ReduceSum")),
    "TensorScatterAdd": Operator(scatter_update),
    "TensorScatterMax": Operator(scatter_update),
    "TensorScatterMin": Operator(scatter_update),
    "TensorScatterUpdate": Operator(scatter_update),
    "Tile": Operator(tile),
    "TopKV2": Operator(top_k),
    "Transpose": Operator(transpose),
    "Unpack": Operator(unpack),
}
"""Operator name -> how it is imported."""
