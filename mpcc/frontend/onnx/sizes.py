"""How large the results of folded nodes are, and what of their operands decides it.

A model may be small and ask for constants that are not, so that all of this is known before any of
it is computed; and a result's shape is public, so that no weight may decide it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx

from mpcc.frontend.importer import Array, Constant, Disclosed, Unsupported
from mpcc.ir.types import Shape, element_count

__all__ = [
    "MAX_FOLDED",
    "SHAPING",
    "check_shape",
    "check_shapes",
    "check_size",
    "disclosed_mask",
]

MAX_FOLDED = 1 << 24
"""Elements that a folded node may have, in its results and on the way to them, unless its operands
have more."""

_AXES = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")

SHAPING: Mapping[str, tuple[int, ...]] = {
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MelWeightMatrix": (0, 1),
    "NonZero": (0,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unique": (0,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    **{f"Reduce{name}": (1,) for name in _AXES},
}
"""Operands whose values decide the shape of a result, by operator; of all others only their shapes
do."""

_PARAMETERS: Mapping[str, Sequence[str]] = {
    "OneHot": ("", "depth"),
    "Range": ("start", "limit", "delta"),
    "Resize": ("region", "scale", "scale", "size"),
    "Upsample": ("", "scale"),
}
"""Operators that take such operands as floats: what each is called where it is disclosed."""


# --- who decides ---------------------------------------------------------------------------------


def check_shape(
    proto: onnx.NodeProto,
    label: str,
    operands: Sequence[Constant | None],
    disclose: Callable[[Disclosed], None],
) -> None:
    """Refuse a node whose result has a shape that depends on weights.

    Numbers that are parameters of the operator, and masks, are disclosed instead.

    Args:
        proto: a node of a foldable operator.
        label: name of the node for reports.
        operands: one per input, None where absent.
        disclose: takes what becomes public.

    Raises:
        Unsupported: it has.
    """
    op = str(proto.op_type)
    for index in SHAPING.get(op, ()):
        found = operands[index] if index < len(operands) else None
        if found is None or found.array.size == 0:
            continue
        if (found.derived and not found.restated) or (found.is_float and op not in _PARAMETERS):
            raise Unsupported(
                "the shape of its result is computed from weights, and would be public",
                "replace what it computes by a constant when exporting the model (onnxsim)",
            )
        if found.is_float:
            for number in found.array.reshape(-1):
                disclose(Disclosed(op, label, _PARAMETERS[op][index], float(number)))
        elif found.array.dtype.kind == "b":
            disclose(disclosed_mask(op, label, found.array))


def disclosed_mask(op: str, label: str, array: Array) -> Disclosed:
    """What a public mask discloses."""
    kept, total = int(np.count_nonzero(array)), array.size
    return Disclosed(op, label, f"mask of {total} truth values, {kept} of them true", None)


# --- how large -----------------------------------------------------------------------------------

_Attributes: TypeAlias = Mapping[str, Any]
_Bound: TypeAlias = Callable[[Sequence[Array | None], _Attributes], int]


def _product(sizes: Iterable[Any]) -> int:
    total = 1
    for size in sizes:
        total *= max(int(size), 0)
    return total


def _at(arrays: Sequence[Array | None], index: int) -> Array:
    found = arrays[index] if index < len(arrays) else None
    if found is None:
        raise ValueError(f"input {index} is missing")
    return found


def _listed(arrays: Sequence[Array | None], index: int) -> list[Any] | None:
    """Operand ``index`` as a list; None if it is absent or empty."""
    found = arrays[index] if index < len(arrays) else None
    return None if found is None or found.size == 0 else list(found.reshape(-1).tolist())


def _window(arrays: Sequence[Array | None], _: _Attributes) -> int:
    return _product(_at(arrays, 0).reshape(-1))


def _mel(arrays: Sequence[Array | None], _: _Attributes) -> int:
    bins, length = (_product(_at(arrays, i).reshape(-1)) for i in (0, 1))
    return bins * (length // 2 + 1)


def _range(arrays: Sequence[Array | None], _: _Attributes) -> int:
    start, limit, delta = (float(_at(arrays, i).reshape(-1)[0]) for i in range(3))
    return 0 if delta == 0 else max(int((limit - start) / delta) + 1, 0)


def _nonzero(arrays: Sequence[Array | None], _: _Attributes) -> int:
    return _at(arrays, 0).ndim * _at(arrays, 0).size


def _expand(arrays: Sequence[Array | None], _: _Attributes) -> int:
    # Not by numpy, which refuses shapes of more elements than its own index type has.
    shapes = (_at(arrays, 0).shape, _at(arrays, 1).reshape(-1).tolist())
    turned = itertools.zip_longest(*(reversed(s) for s in shapes), fillvalue=1)
    return _product(max(sizes) for sizes in turned)


def _center_crop_pad(arrays: Sequence[Array | None], attrs: _Attributes) -> int:
    shape = list(_at(arrays, 0).shape)
    for axis, size in zip(attrs.get("axes", range(len(shape))), _at(arrays, 1), strict=True):
        shape[axis] = max(shape[axis], int(size))
    return _product(shape)


def _pad(arrays: Sequence[Array | None], attrs: _Attributes) -> int:
    shape = list(_at(arrays, 0).shape)
    pads = [int(p) for p in attrs.get("pads") or _listed(arrays, 1) or ()]
    axes = _listed(arrays, 3) or list(range(len(shape)))
    for axis, low, high in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        shape[axis] += max(low, 0) + max(high, 0)
    return _product(shape)


def _resize(arrays: Sequence[Array | None], attrs: _Attributes) -> int:
    """Of all axes together, and of the matrix by which one of them is interpolated."""
    old = _at(arrays, 0).shape
    new = [float(d) for d in old]
    axes = attrs.get("axes", range(len(old)))
    sizes = _listed(arrays, 3)
    scales = attrs.get("scales") or _listed(arrays, 2) or _listed(arrays, 1) or ()
    if sizes is None:
        for axis, scale in zip(axes, scales, strict=False):
            new[axis] = old[axis] * max(scale, 1.0)
    else:
        # Some policies stretch all axes by the largest ratio.
        ratio = max((s / max(old[a], 1) for a, s in zip(axes, sizes, strict=True)), default=1.0)
        for axis in axes:
            new[axis] = old[axis] * max(ratio, 1.0)
            if attrs.get("keep_aspect_ratio_policy", b"stretch") == b"stretch":
                new[axis] = max(old[axis], float(sizes[list(axes).index(axis)]))
    if not all(map(math.isfinite, new)):
        raise ValueError("scales that are not finite")
    matrices = [have * math.ceil(want) for have, want in zip(old, new, strict=True) if want != have]
    return max(_product(map(math.ceil, new)), *matrices, 0)


def _spatial(attrs: _Attributes, shape: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
    """Elements along all spatial axes: with padding, and of the windows' positions."""
    rank = len(kernel)
    pads = [max(int(p), 0) for p in attrs.get("pads", [0] * 2 * rank)]
    strides = attrs.get("strides", [1] * rank)
    if not len(shape) == len(strides) == len(pads) // 2 == rank or min(strides) < 1:
        raise ValueError("its attributes do not fit its data")
    padded = [d + pads[i] + pads[rank + i] for i, d in enumerate(shape)]
    if attrs.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        spread = attrs.get("dilations", [1] * rank)
        padded = [d + abs(int(s)) * (k - 1) for d, s, k in zip(padded, spread, kernel, strict=True)]
    # A last window may reach beyond the end.
    return _product(padded), _product(-(-d // s) + 1 for d, s in zip(padded, strides, strict=True))


def _conv(arrays: Sequence[Array | None], attrs: _Attributes) -> int:
    x, w = _at(arrays, 0).shape, _at(arrays, 1).shape
    padded, positions = _spatial(attrs, x[2:], w[2:])
    columns = _product(w[1:]) * int(attrs.get("group", 1))
    return x[0] * max(x[1] * padded, positions * max(columns, w[0]))


def _conv_transpose(arrays: Sequence[Array | None], attrs: _Attributes) -> int:
    x, w = _at(arrays, 0).shape, _at(arrays, 1).shape
    rank = len(x) - 2
    ones, none = [1] * rank, [0] * rank
    strides, spread = attrs.get("strides", ones), attrs.get("dilations", ones)
    more, pads = attrs.get("output_padding", none), attrs.get("pads", none * 2)
    size = 1
    for i, d in enumerate(x[2:]):
        grown = max(-pads[i], 0) + max(-pads[rank + i], 0)
        size *= abs(strides[i]) * d + more[i] + abs(spread[i]) * w[2 + i] + grown
    channels = w[1] * int(attrs.get("group", 1))
    asked = _product(attrs.get("output_shape", ()))
    return x[0] * channels * max(size, asked, _product(x[2:]) * _product(w[2:]))


def _pool(arrays: Sequence[Array | None], attrs: _Attributes) -> int:
    x, kernel = _at(arrays, 0).shape, attrs["kernel_shape"]
    padded, positions = _spatial(attrs, x[2:], kernel)
    return _product(x[:2]) * max(padded, positions) + _product(kernel)


def _matmul(arrays: Sequence[Array | None], _: _Attributes) -> int:
    a, b = _at(arrays, 0).shape, _at(arrays, 1).shape
    a, b = a if len(a) > 1 else (1, *a), b if len(b) > 1 else (*b, 1)
    return _product((*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]))


def _gemm(arrays: Sequence[Array | None], attrs: _Attributes) -> int:
    a, b = _at(arrays, 0).shape, _at(arrays, 1).shape
    return _product(a[attrs.get("transA", 0) :][:1]) * _product(b[1 - attrs.get("transB", 0) :][:1])


def _einsum(arrays: Sequence[Array | None], attrs: _Attributes) -> int:
    shapes = [a.shape for a in arrays if a is not None]
    terms, _, kept = attrs["equation"].decode().replace(" ", "").partition("->")
    if len(shapes) > 2 or not kept or "." in terms:
        return _product(d for shape in shapes for d in shape)
    sizes: dict[str, int] = {}
    for term, shape in zip(terms.split(","), shapes, strict=True):
        sizes.update(zip(term, shape, strict=True))
    return _product(sizes[letter] for letter in kept)


def _gather(arrays: Sequence[Array | None], attrs: _Attributes) -> int:
    data, axis = _at(arrays, 0).shape, attrs.get("axis", 0)
    return _at(arrays, 1).size * _product(d for i, d in enumerate(data) if i != axis % len(data))


def _gather_nd(arrays: Sequence[Array | None], attrs: _Attributes) -> int:
    data, indices = _at(arrays, 0).shape, _at(arrays, 1).shape
    return _product(indices[:-1]) * _product(data[attrs.get("batch_dims", 0) + indices[-1] :])


_BOUNDS: Mapping[str, _Bound] = {
    "AveragePool": _pool,
    "BlackmanWindow": _window,
    "CenterCropPad": _center_crop_pad,
    "ConstantOfShape": _window,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": lambda a, _: _at(a, 1).size,
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "HammingWindow": _window,
    "HannWindow": _window,
    "LpPool": _pool,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "MelWeightMatrix": _mel,
    "NonZero": _nonzero,
    "OneHot": lambda a, _: _at(a, 0).size * _product(_at(a, 1).reshape(-1)),
    "Pad": _pad,
    "Range": _range,
    "Resize": _resize,
    "Tile": lambda a, _: _at(a, 0).size * _product(_at(a, 1).reshape(-1)),
    "Upsample": _resize,
}
"""Bounds of the elements of results, and of what is computed on the way, of operators for which it
may be more than their operands have after broadcasting."""


def check_size(proto: onnx.NodeProto, arrays: Sequence[Array | None]) -> None:
    """Refuse a node that computes far more elements than its operands have.

    Args:
        proto: a node of a foldable operator.
        arrays: one per input, None where absent.

    Raises:
        Unsupported: it does, or its operands do not fit together.
    """
    op = str(proto.op_type)
    attrs = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
    given = [a for a in arrays if a is not None]
    try:
        if op in _BOUNDS:
            bound = _BOUNDS[op](arrays, attrs)
        else:
            try:
                bound = _product(np.broadcast_shapes(*(a.shape for a in given)))
            except ValueError:
                bound = 0
    except MemoryError:
        raise
    except Exception as error:
        raise Unsupported(f"its constant operands do not fit together: {error}") from error
    _check_count(bound, given)


def check_shapes(shapes: Iterable[Shape], arrays: Sequence[Array | None]) -> None:
    """The same for values that are computed from these operands.

    Raises:
        Unsupported: one of them is too large.
    """
    given = [a for a in arrays if a is not None]
    for shape in shapes:
        _check_count(element_count(shape), given)


def _check_count(elements: int, arrays: Sequence[Array]) -> None:
    if elements > max(MAX_FOLDED, sum(a.size for a in arrays)):
        raise Unsupported(
            f"a constant of more than {MAX_FOLDED} elements is computed from smaller ones",
            "compute it when exporting the model, so that the file has it",
        )
