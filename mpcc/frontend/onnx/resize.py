"""ONNX resampling: Resize and Upsample.

Nearest neighbours are picked; everything else is a product, per axis, by a public matrix that
follows from sizes and scales alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mpcc.frontend.importer import Array, Operand, type_of
from mpcc.frontend.onnx.indexing import gathered
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape

__all__ = ["OPERATORS"]


def _coordinates(node: Node, mode: str, have: int, want: int, scale: float) -> Array:
    """Where each of the result's elements lies on the operand's axis.

    Args:
        node: for refusals.
        mode: ONNX's coordinate_transformation_mode.
        have: elements of the operand's axis.
        want: of the result's.
        scale: of the axis; not always want / have.
    """
    x = np.arange(want, dtype=np.float64)
    match mode:
        case "half_pixel":
            return (x + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            # Centred, if the scale gives no whole number of elements.
            exact = scale * have
            return (x + 0.5) / scale - 0.5 + have / 2 * (1 - want / exact)
        case "pytorch_half_pixel":
            return (x + 0.5) / scale - 0.5 if want > 1 else np.zeros_like(x)
        case "align_corners":
            return x * (have - 1) / (want - 1) if want > 1 else np.zeros_like(x)
        case "asymmetric":
            return x / scale
        case "tf_half_pixel_for_nn":
            return (x + 0.5) / scale
    node.refuse(
        f"coordinate_transformation_mode {mode}",
        "use half_pixel, pytorch_half_pixel, align_corners or asymmetric",
    )


def _nearest(node: Node, mode: str, x: Array, have: int) -> Array:
    match mode:
        case "round_prefer_floor":
            found = np.ceil(x - 0.5)
        case "round_prefer_ceil":
            found = np.floor(x + 0.5)
        case "floor":
            found = np.floor(x)
        case "ceil":
            found = np.ceil(x)
        case _:
            node.refuse(f"nearest_mode {mode}")
    return np.clip(found, 0, have - 1).astype(np.int64)


def _linear(x: Array, have: int) -> Array:
    """Matrix [want, have] of linear interpolation; the ends go on beyond themselves."""
    x = np.clip(x, 0, have - 1)
    low = np.floor(x).astype(np.int64)
    high = np.minimum(low + 1, have - 1)
    rows = np.arange(len(x))
    matrix = np.zeros((len(x), have))
    np.add.at(matrix, (rows, low), 1 - (x - low))
    np.add.at(matrix, (rows, high), x - low)
    return matrix


def _keys(d: Array, a: float) -> Array:
    """Weight of an element at distance d (Keys 1981)."""
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _cubic(x: Array, have: int, a: float, *, exclude_outside: bool) -> Array:
    """Matrix [want, have] of cubic convolution with coefficient a."""
    low = np.floor(x).astype(np.int64)
    matrix = np.zeros((len(x), have))
    for tap in range(-1, 3):
        at = low + tap
        weight = _keys(np.abs(x - at), a)
        if exclude_outside:
            weight = np.where((at >= 0) & (at < have), weight, 0.0)
        np.add.at(matrix, (np.arange(len(x)), np.clip(at, 0, have - 1)), weight)
    if exclude_outside:
        matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix


def _blurred(x: Array, have: int, scale: float, tap: Callable[[Array], Array], reach: int) -> Array:
    """Matrix [want, have] of an interpolation that is stretched where data shrink (antialias).

    Args:
        x: coordinates.
        have: elements of the axis.
        scale: of the axis.
        tap: weight by distance, 0 from ``reach`` on.
        reach: elements on either side that the interpolation looks at without stretching.
    """
    shrink = min(scale, 1.0)
    start = math.floor(-reach / shrink) + 1
    taps = start + np.arange(2 - 2 * start)
    # A whole coordinate counts as the end of the step before it.
    low = np.ceil(x).astype(np.int64) - 1
    weights = tap(np.abs((low[:, None] + taps - x[:, None]) * shrink))
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(x), have))
    rows = np.repeat(np.arange(len(x)), len(taps))
    at = np.clip(low[:, None] + taps, 0, have - 1)
    np.add.at(matrix, (rows, at.reshape(-1)), weights.reshape(-1))
    return matrix


def _matrix(node: Node, mode: str, x: Array, have: int, scale: float) -> Array:
    """Matrix [want, have] of an interpolation."""
    outside, a = bool(node.integer("exclude_outside", 0)), node.number("cubic_coeff_a", -0.75)
    antialias = bool(node.integer("antialias", 0)) and scale < 1
    node.room(len(x), have)
    if antialias:
        # Elements that a stretched interpolation looks at.
        node.room(len(x), 2 + math.ceil(4 / scale))
    match mode:
        case "linear":
            if antialias:
                return _blurred(x, have, scale, lambda d: np.maximum(1 - d, 0), 1)
            return _linear(x, have)
        case "cubic":
            if not antialias:
                return _cubic(x, have, a, exclude_outside=outside)
            if not outside:
                return _blurred(x, have, scale, lambda d: _keys(d, a), 2)
            node.refuse("exclude_outside with antialias")
    node.refuse(f"mode {mode}", "use nearest, linear or cubic")


def _along(node: Node, x: Value, axis: int, matrix: Array) -> Value:
    """The value x with one axis multiplied by a public matrix [want, have]."""
    shape, rank = type_of(x).shape, len(type_of(x).shape)
    # The axis becomes the last one, so that a single product of two matrices does it.
    perm = [a for a in range(rank) if a != axis] + [axis]
    rows = math.prod(shape) // shape[axis]
    flat = node.reshape(node.transpose(x, perm), (rows, shape[axis]))
    product = node.emit(tensor.MatMul, flat, node.public(f"interpolation_{axis}", matrix.T))
    moved = node.reshape(product, (*(shape[a] for a in perm[:-1]), len(matrix)))
    return node.real(node.transpose(moved, [*range(axis), rank - 1, *range(axis, rank - 1)]))


def _resample(
    node: Node, wanted: Shape, scales: Sequence[float], coordinates: str, nearest: str
) -> Operand:
    x, mode = node.value(0), node.text("mode", "nearest")
    if min(wanted) < 1:
        node.refuse(f"to {list(wanted)}")
    for axis, (want, scale) in enumerate(zip(wanted, scales, strict=True)):
        have = type_of(x).shape[axis]
        cropped = coordinates == "tf_crop_and_resize" and _is_cropped(node, axis)
        if want == have and scale == 1.0 and not cropped:
            continue
        node.room(want)
        if coordinates == "tf_crop_and_resize":
            places = _cropped(node, axis, have, want)
        else:
            places = _coordinates(node, coordinates, have, want, scale)
        if mode == "nearest":
            x = gathered(node, x, axis, _nearest(node, nearest, places, have))
        else:
            x = _along(node, x, axis, _matrix(node, mode, places, have, scale))
        if coordinates == "tf_crop_and_resize":
            x = _extrapolated(node, x, axis, (places < 0) | (places > have - 1))
    return x


def _is_cropped(node: Node, axis: int) -> bool:
    """Whether the region leaves something out along an axis."""
    axes = node.axes(node.ints("axes", range(len(node.shape(0)))), len(node.shape(0)))
    region = node.parameters(1, "region")
    if axis not in axes or len(region) != 2 * len(axes):
        return False
    return (region[axes.index(axis)], region[len(axes) + axes.index(axis)]) != (0.0, 1.0)


def _cropped(node: Node, axis: int, have: int, want: int) -> Array:
    """Coordinates of tf_crop_and_resize: ``want`` of them from the region's start to its end."""
    region, rank = node.parameters(1, "region"), len(node.shape(0))
    axes = node.axes(node.ints("axes", range(rank)), rank)
    if len(region) != 2 * len(axes) or axis not in axes:
        node.refuse(f"a region of {len(region)} numbers for {len(axes)} axes")
    start, end = (region[side + axes.index(axis)] for side in (0, len(axes)))
    if want == 1:
        return np.array([(start + end) / 2 * (have - 1)])
    return np.asarray((start + np.arange(want) * (end - start) / (want - 1)) * (have - 1))


def _extrapolated(node: Node, x: Value, axis: int, outside: Array) -> Value:
    """X with a number in place of everything at ``outside``, positions of one axis."""
    if not outside.any():
        return x
    shape = [1] * len(type_of(x).shape)
    shape[axis] = len(outside)
    value = node.number("extrapolation_value", 0.0)
    inside = node.public(f"inside_{axis}", 1.0 - outside.reshape(shape))
    added = node.public(f"extrapolated_{axis}", value * outside.reshape(shape))
    return node.emit(tensor.Add, node.emit(tensor.Mul, x, inside), added)


def resize(node: Node) -> Operand:
    """Resize: nearest, linear and cubic, by public scales or sizes."""
    shape = node.shape(0)
    if node.opset < 11:
        scales = node.parameters(1, "scale")
        return _scaled(node, scales, "asymmetric", "floor")
    coordinates = node.text("coordinate_transformation_mode", "half_pixel")
    nearest = node.text("nearest_mode", "round_prefer_floor")
    axes = node.axes(node.ints("axes", range(len(shape))), len(shape))
    given = node.optional(2)
    if given is not None and type_of(given).shape != (0,):
        scales = node.parameters(2, "scale")
        if len(scales) != len(axes):
            node.refuse(f"{len(scales)} scales for {len(axes)} axes")
        full = [1.0] * len(shape)
        for axis, scale in zip(axes, scales, strict=True):
            full[axis] = scale
        return _scaled(node, full, coordinates, nearest)
    sizes = node.integers(3, "the size")
    if len(sizes) != len(axes):
        node.refuse(f"{len(sizes)} sizes for {len(axes)} axes")
    wanted, factors = list(shape), [1.0] * len(shape)
    ratios = [size / shape[a] for a, size in zip(axes, sizes, strict=True)]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        if policy not in ("not_larger", "not_smaller"):
            node.refuse(f"keep_aspect_ratio_policy {policy}")
        one = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [one] * len(axes)
        sizes = tuple(math.floor(one * shape[a] + 0.5) for a in axes)
    for axis, size, ratio in zip(axes, sizes, ratios, strict=True):
        wanted[axis], factors[axis] = size, ratio
    return _resample(node, tuple(wanted), factors, coordinates, nearest)


def _scaled(node: Node, scales: Sequence[float], coordinates: str, nearest: str) -> Operand:
    shape = node.shape(0)
    if len(scales) != len(shape) or not all(math.isfinite(s) and s > 0 for s in scales):
        node.refuse(f"scales {list(scales)} of data {list(shape)}")
    wanted = tuple(math.floor(d * s) for d, s in zip(shape, scales, strict=True))
    return _resample(node, wanted, scales, coordinates, nearest)


def upsample(node: Node) -> Operand:
    """Upsample: nearest and linear, by public scales."""
    scales = node.numbers("scales") if node.opset < 9 else node.parameters(1, "scale")
    return _scaled(node, scales, "asymmetric", "floor")


OPERATORS: Mapping[str, Operator] = {
    "Resize": Operator(
        resize,
        "antialias with exclude_outside, computed sizes",
        "antialias coordinate_transformation_mode cubic_coeff_a exclude_outside "
        "extrapolation_value keep_aspect_ratio_policy nearest_mode",
    ),
    "Upsample": Operator(upsample, "computed scales"),
}
"""Operator name -> how it is imported."""
