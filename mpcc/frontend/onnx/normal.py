"""ONNX quotients, roots, logarithms and powers; softmax and normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mpcc.frontend.importer import Array, Constant, Disclosed, Operand, type_of
from mpcc.frontend.onnx.compose import absolute, chain, cut, power, scaled, spread, square
from mpcc.frontend.onnx.indexing import rearranged
from mpcc.frontend.onnx.node import Node, Operator
from mpcc.frontend.onnx.reduce import axes_of, reduced
from mpcc.ir.core import Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape, element_count

__all__ = ["MASK", "OPERATORS", "real_power"]

MASK = 1024.0
"""Constants that are added to the operand of a softmax are at least minus this."""

_MAX_EXPONENT = 16
_MAX_EXPONENTS = 64
_DEEP = 8


# --- quotients, roots, powers --------------------------------------------------------------------


def reciprocal(node: Node) -> Operand:
    """Reciprocal: 1 / x, at most 2^10."""
    x = node.value(0)
    if x.op is not None and x.op.definition is tensor.Sqrt:
        return node.emit(tensor.Rsqrt, x.op.operands[0])
    return node.emit(tensor.Reciprocal, x)


def div(node: Node) -> Operand:
    """Div: by a constant, whose reciprocal its owner computes, or by a secret from 2^-10 on."""
    node.no_integers()
    divisor = node.operand(1)
    if isinstance(divisor, Value):
        a, b = node.value(0), node.value(1)
        spelled = _spelled_softmax(node, a, b) or _spelled_norm(node, a, b)
        return spelled or node.emit(tensor.Div, a, b)
    return node.emit(
        tensor.Mul, node.value(0), node.builder.derive(divisor, "reciprocal", _reciprocal)
    )


def _spelled_softmax(node: Node, a: Value, b: Value) -> Value | None:
    """A softmax, where a is exp(x) and b its sum along an axis; None elsewhere.

    The maximum that exp(x - max) subtracts is left out again: the softmax does so itself.
    """
    if a.op is None or a.op.definition is not tensor.Exp or b.op is None:
        return None
    total = b.op
    if total.definition is not tensor.ReduceSum or total.operands[0] is not a:
        return None
    if len(total.attrs["axes"]) != 1 or not total.attrs["keepdims"]:
        return None
    x = a.op.operands[0]
    if x.op is not None and x.op.definition is tensor.Sub:
        whole, most = x.op.operands
        if (
            most.op is not None
            and most.op.definition is tensor.ReduceMax
            and most.op.operands[0] is whole
            and most.op.attrs == total.attrs
        ):
            x = whole
    return node.emit(tensor.Softmax, unmasked(node, x), axis=total.attrs["axes"][0])


def _reciprocal(array: Array) -> Array:
    return np.asarray(1.0 / array.astype(np.float64))


def sqrt(node: Node) -> Operand:
    """Sqrt: 0 for negative numbers."""
    return node.emit(tensor.Sqrt, node.value(0))


def log(node: Node) -> Operand:
    """Log: of numbers from 2^-34 on."""
    return node.emit(tensor.Log, node.value(0))


def pow_(node: Node) -> Operand:
    """Pow: to public powers; those that are neither whole nor halves, of positive numbers."""
    node.no_integers()
    numbers = node.parameters(1, "exponent")
    if len(set(numbers)) > _MAX_EXPONENTS:
        node.refuse(f"{len(set(numbers))} different exponents; {_MAX_EXPONENTS} are the most")
    for exponent in set(numbers):
        if not math.isfinite(exponent) or (exponent.is_integer() and abs(exponent) > _MAX_EXPONENT):
            node.refuse(f"exponent {exponent}", f"whole exponents end at {_MAX_EXPONENT}")
    # Broadcasting may make the result larger than the base.
    shape = np.broadcast_shapes(node.shape(0), node.shape(1))
    base = spread(node, node.value(0), shape)
    if len(set(numbers)) == 1:
        return real_power(node, base, numbers[0])
    # A power per exponent, of the elements that have it, put back in order.
    node.room(*shape)
    given = np.broadcast_to(np.asarray(numbers).reshape(node.shape(1)), shape).reshape(-1)
    places = [np.flatnonzero(given == e) for e in sorted(set(numbers))]
    parts = [real_power(node, rearranged(node, base, at), float(given[at[0]])) for at in places]
    order = np.argsort(np.concatenate(places)).reshape(shape)
    return rearranged(node, node.emit(tensor.Concat, *parts, axis=0), order)


def real_power(node: Node, x: Value, exponent: float) -> Value:
    """A public power of x; of positive x if the exponent is neither whole nor half."""
    whole = math.floor(abs(exponent))
    if exponent == 0:
        return node.emit(tensor.Add, scaled(node, x, 0.0), node.public("one", 1.0))
    if exponent == whole:
        return power(node, x, whole)
    if exponent == -whole:
        return node.emit(tensor.Reciprocal, power(node, x, whole))
    if abs(exponent) == whole + 0.5 and whole <= _MAX_EXPONENT:
        root = node.emit(tensor.Sqrt if exponent > 0 else tensor.Rsqrt, x)
        if whole == 0:
            return root
        if exponent < 0:
            return power(node, root, 2 * whole + 1)
        return node.emit(tensor.Mul, power(node, x, whole), root)
    return node.emit(tensor.Exp, scaled(node, node.emit(tensor.Log, x), exponent))


def softsign(node: Node) -> Operand:
    """Softsign: x / (1 + |x|)."""
    x = node.value(0)
    below = node.emit(tensor.Add, absolute(node, x), node.public("one", 1.0))
    return node.emit(tensor.Div, x, below)


def tan(node: Node) -> Operand:
    """Tan: sin(x) / cos(x), at most 2^10."""
    x = node.value(0)
    return node.emit(tensor.Div, node.emit(tensor.Sin, x), node.emit(tensor.Cos, x))


# --- softmax -------------------------------------------------------------------------------------


def softmax(node: Node) -> Operand:
    """Softmax: along an axis; of all axes from it on before opset 13."""
    return _softmax(node, tensor.Softmax)


def log_softmax(node: Node) -> Operand:
    """LogSoftmax: along an axis; of all axes from it on before opset 13."""
    return _softmax(node, tensor.LogSoftmax)


def _softmax(node: Node, definition: type[tensor.TensorOperation]) -> Operand:
    shape = node.shape(0)
    axis = node.axis(node.integer("axis", -1 if node.opset >= 13 else 1), max(len(shape), 1))
    x = unmasked(node, node.value(0))
    if node.opset >= 13:
        return node.emit(definition, x, axis=axis)
    rows = (element_count(shape[:axis]), element_count(shape[axis:]))
    flat = node.emit(definition, node.reshape(x, rows), axis=1)
    return node.reshape(flat, shape)


_MOVING: Sequence[type[tensor.TensorOperation]] = (
    tensor.Reshape,
    tensor.Transpose,
    tensor.Broadcast,
    tensor.Gather,
    tensor.Take,
    tensor.Slice,
    tensor.Concat,
)


def _is_mask(
    x: Value, depth: int = _DEEP, known: dict[tuple[Value, int], bool] | None = None
) -> bool:
    """Whether a value is a truth value, or a whole number of the client's, or 1 minus it.

    Other factors are numbers, and a large constant beside them is a scale that must stay.
    """
    known = {} if known is None else known
    if (x, depth) not in known:
        known[x, depth] = _made_of_masks(x, depth, known)
    return known[x, depth]


def _made_of_masks(x: Value, depth: int, known: dict[tuple[Value, int], bool]) -> bool:
    op = x.op
    if op is None or depth == 0:
        return False
    if op.definition is tensor.Input:
        return bool(op.attrs["whole"]) or type_of(x).dtype == "bool"
    if op.definition is tensor.ToReal:
        return True
    if op.definition in _MOVING:
        return all(_is_mask(v, depth - 1, known) for v in dict.fromkeys(op.operands))
    if op.definition is tensor.Sub:
        one, other = op.operands
        constant = one.op is not None and one.op.definition is tensor.Weight
        return constant and _is_mask(other, depth - 1, known)
    return False


def unmasked(node: Node, x: Value, depth: int = _DEEP) -> Value:
    """The operand of a softmax with constants that are added to it, or chosen, at least -1024.

    A mask adds -1e4, -1e9 or the smallest float to what shall not count, to the same effect:
    elements that are some tens below the largest of their row come out as zero. The range of a sum
    must hold the mask, though, and that of the smallest float would hold nothing else. So the owner
    of the constant replaces what is below. Which constants these are follows from the graph alone:
    one that is added, one of a choice, and a single number times a truth value or one minus it.
    """
    known = node.builder.unmasked
    if (x, depth) not in known:
        known[x, depth] = _unmasked(node, x, depth)
    return known[x, depth]


def _unmasked(node: Node, x: Value, depth: int) -> Value:
    op = x.op
    if op is None or depth == 0:
        return x
    operands = list(op.operands)
    chosen: list[int] = []
    if op.definition in (tensor.Add, tensor.Where):
        chosen = [i for i, v in enumerate(operands) if type_of(v).dtype != "bool"]
    elif op.definition in _MOVING:
        chosen = list(range(len(operands)))
    if op.definition is tensor.Mul:
        chosen = [
            i
            for i, v in enumerate(operands)
            if element_count(type_of(v).shape) == 1 and _is_mask(operands[1 - i])
        ]
        made = {i: _limited(node, operands[i]) for i in chosen}
    else:
        made = {i: _limited(node, unmasked(node, operands[i], depth - 1)) for i in chosen}
    if all(made[i] is operands[i] for i in chosen):
        return x
    for i, value in made.items():
        operands[i] = value
    return node.emit(op.definition, *operands, **op.attrs)


def _limited(node: Node, x: Value) -> Value:
    """A constant with everything below -1024 replaced by that; other values as they are."""
    if x.op is None or x.op.definition is not tensor.Weight:
        return x
    name = x.op.attrs["name"]
    constant = Constant(node.builder.constants[name], name, x.op.attrs["owner"], True)
    return node.builder.value(
        node.builder.derive(constant, "mask", lambda a: np.maximum(a.astype(np.float64), -MASK))
    )


# --- normalisation -------------------------------------------------------------------------------


def _normalized(
    node: Node, x: Value, axes: Sequence[int], center: bool, epsilon: float
) -> tuple[Value, float]:
    """Numbers that, times the factor, have mean square 1 over the axes but for epsilon."""
    count = element_count(tuple(type_of(x).shape[a] for a in axes))
    exponent = round(math.log2(count) / 2)
    unit = node.emit(
        tensor.Normalize,
        x,
        axes=tuple(axes),
        center=center,
        epsilon=count * epsilon,
        exponent=exponent,
    )
    return unit, math.sqrt(count) * 2.0**-exponent


def _weighted(node: Node, x: Value, factor: float, scale: Operand | None, shape: Shape) -> Value:
    """The value x times a factor and a scale of another shape, which takes the factor up."""
    if isinstance(scale, Constant):
        suffix = f"times_{factor!r}_" + "x".join(map(str, shape))

        def compute(a: Array) -> Array:
            return np.asarray(a.astype(np.float64) * factor).reshape(shape)

        return node.emit(tensor.Mul, x, node.builder.derive(scale, suffix, compute))
    x = scaled(node, x, factor)
    if scale is None:
        return x
    return node.emit(tensor.Mul, x, node.real(node.reshape(scale, shape)))


def _shifted(node: Node, x: Value, bias: Operand | None, shape: Shape) -> Value:
    if bias is None:
        return x
    return node.emit(tensor.Add, x, node.real(node.reshape(bias, shape)))


def layer_normalization(node: Node) -> tuple[Operand, ...]:
    """LayerNormalization: over the axes from one on."""
    y = _layer(node, center=True)
    if not any(node.used[1:]):
        return (y,)
    x, shape, epsilon = node.value(0), node.shape(0), node.number("epsilon", 1e-5)
    axes = tuple(range(node.axis(node.integer("axis", -1), len(shape)), len(shape)))
    count = element_count(tuple(shape[a] for a in axes))

    def mean_of(of: Value) -> Value:
        total = node.emit(tensor.ReduceSum, of, axes=axes, keepdims=True)
        return scaled(node, total, 1.0 / count)

    mean = mean_of(x)
    centred = node.emit(tensor.Sub, x, mean)
    variance = mean_of(node.emit(tensor.Mul, centred, centred))
    return y, mean, node.emit(tensor.Rsqrt, variance, epsilon=epsilon)


def rms_normalization(node: Node) -> Operand:
    """RMSNormalization: over the axes from one on."""
    return _layer(node, center=False)


def _layer(node: Node, *, center: bool) -> Operand:
    shape = node.shape(0)
    first = node.axis(node.integer("axis", -1), len(shape))
    axes = range(first, len(shape))
    x, factor = _normalized(node, node.value(0), axes, center, node.number("epsilon", 1e-5))
    y = _weighted(node, x, factor, node.operand(1), node.shape(1))
    bias = node.optional(2)
    return y if bias is None else _shifted(node, y, bias, type_of(bias).shape)


def instance_normalization(node: Node) -> Operand:
    """InstanceNormalization: every channel of every example by itself."""
    shape = node.shape(0)
    if len(shape) < 3:
        node.refuse(f"data {list(shape)} without spatial axes")
    axes = range(2, len(shape))
    x, factor = _normalized(node, node.value(0), axes, True, node.number("epsilon", 1e-5))
    channels = (shape[1], *[1] * (len(shape) - 2))
    y = _weighted(node, x, factor, node.operand(1), channels)
    return _shifted(node, y, node.operand(2), channels)


def group_normalization(node: Node) -> Operand:
    """GroupNormalization: groups of channels of every example."""
    shape, groups = node.shape(0), node.integer("num_groups")
    if len(shape) < 3 or groups < 1 or shape[1] % groups:
        node.refuse(f"{groups} groups of data {list(shape)}")
    grouped = (shape[0], groups, shape[1] // groups, *shape[2:])
    x = node.real(node.reshape(node.value(0), grouped))
    x, factor = _normalized(node, x, range(2, len(grouped)), True, node.number("epsilon", 1e-5))
    # Scale and bias are per channel; the form before opset 21 ended with it.
    inner = (groups, shape[1] // groups, *[1] * (len(shape) - 2))
    y = _weighted(node, x, factor, node.operand(1), inner)
    return node.reshape(_shifted(node, y, node.operand(2), inner), shape)


def lp_normalization(node: Node) -> Operand:
    """LpNormalization: over the sum of absolute values, or the root of that of squares."""
    p, x = node.integer("p", 2), node.value(0)
    axis = node.axis(node.integer("axis", -1), len(node.shape(0)))
    if p == 1:
        total = node.emit(tensor.ReduceSum, absolute(node, x), axes=(axis,), keepdims=True)
        return node.emit(tensor.Div, x, total)
    if p != 2:
        node.refuse(f"p = {p}", "only p = 1 and p = 2 are defined")
    return node.emit(tensor.Normalize, x, axes=(axis,), center=False, epsilon=0.0, exponent=0)


def mean_variance_normalization(node: Node) -> Operand:
    """MeanVarianceNormalization: over any axes."""
    shape = node.shape(0)
    axes = sorted(node.axes(node.ints("axes", (0, 2, 3)), len(shape)))
    # ONNX adds 1e-9 to the root instead.
    x, factor = _normalized(node, node.value(0), axes, True, 1e-18)
    return scaled(node, x, factor)


def lrn(node: Node) -> Operand:
    """LRN: over neighbouring channels."""
    x, shape, size = node.value(0), node.shape(0), node.integer("size")
    if len(shape) < 2 or size < 1 or size % 2 == 0:
        node.refuse(f"size {size} of data {list(shape)}", "odd sizes are supported")
    # Further neighbours are zeros.
    half, rest = min(size // 2, shape[1] - 1), [0] * (len(shape) - 2)
    squares = node.emit(
        tensor.Pad,
        square(node, x),
        low=(0, half, *rest),
        high=(0, half, *rest),
        value=0.0,
    )
    parts = [cut(node, squares, 1, i, i + shape[1]) for i in range(2 * half + 1)]
    total = chain(parts, lambda a, b: node.emit(tensor.Add, a, b))
    total = scaled(node, total, node.number("alpha", 1e-4) / size)
    total = node.emit(tensor.Add, total, node.public("bias", node.number("bias", 1.0)))
    return node.emit(tensor.Mul, x, real_power(node, total, -node.number("beta", 0.75)))


def _mean(value: Value) -> tuple[Value, tuple[int, ...]] | None:
    """What a value is the mean of, and over which axes; None if it is none."""
    if value.op is None or value.op.definition is not tensor.Scale:
        return None
    total = value.op.operands[0].op
    if total is None or total.definition is not tensor.ReduceSum or not total.attrs["keepdims"]:
        return None
    (x,), axes = total.operands, total.attrs["axes"]
    count = element_count(tuple(type_of(x).shape[a] for a in axes))
    return (x, axes) if value.op.attrs["factor"] == 1.0 / count else None


def _spelled_norm(node: Node, c: Value, root: Value) -> Value | None:
    """A normalisation, where c is divided by the root of its mean square plus a number.

    Whether it is one follows from the graph alone; the number is disclosed, as that of a
    LayerNormalization is. None elsewhere.
    """
    if root.op is None or root.op.definition is not tensor.Sqrt:
        return None
    plus = root.op.operands[0].op
    if plus is None or plus.definition is not tensor.Add:
        return None
    for variance, number in (plus.operands, plus.operands[::-1]):
        found = _mean(variance)
        if found is None or number.op is None or number.op.definition is not tensor.Weight:
            continue
        (square, axes), name = found, number.op.attrs["name"]
        if square.op is None or square.op.definition is not tensor.Mul:
            continue
        if square.op.operands != [c, c] or type_of(root).shape != type_of(variance).shape:
            continue
        if element_count(type_of(number).shape) != 1 or name in node.builder.computed:
            continue
        epsilon = float(node.builder.constants[name].reshape(-1)[0])
        if epsilon < 0:
            return None
        node.builder.disclose(Disclosed(node.op, node.label, "epsilon", epsilon))
        x, center = c, False
        if c.op is not None and c.op.definition is tensor.Sub:
            whole, mean = c.op.operands
            if _mean(mean) == (whole, axes):
                x, center = whole, True
        unit, factor = _normalized(node, x, axes, center, epsilon)
        return scaled(node, unit, factor)
    return None


# --- reductions ----------------------------------------------------------------------------------


def reduce_l2(node: Node) -> Operand:
    """ReduceL2: roots of sums of squares."""
    node.no_integers()
    x = node.value(0)
    total = reduced(node, tensor.ReduceSum, square(node, x), axes_of(node))
    return node.emit(tensor.Sqrt, total)


def reduce_log_sum(node: Node) -> Operand:
    """ReduceLogSum: logarithms of sums from 2^-34 on."""
    node.no_integers()
    return node.emit(tensor.Log, reduced(node, tensor.ReduceSum, node.value(0), axes_of(node)))


def reduce_log_sum_exp(node: Node) -> Operand:
    """ReduceLogSumExp: an element minus its LogSoftmax."""
    node.no_integers()
    x, axes, keepdims = node.value(0), axes_of(node), node.integer("keepdims", 1)
    if not axes:
        return x
    shape = type_of(x).shape
    rest = [a for a in range(len(shape)) if a not in axes]
    kept = tuple(shape[a] for a in rest)
    count = element_count(tuple(shape[a] for a in axes))
    rows = node.real(node.reshape(node.transpose(x, [*rest, *axes]), (element_count(kept), count)))
    first = cut(node, rows, 1, 0, 1)
    less = cut(node, node.emit(tensor.LogSoftmax, rows, axis=1), 1, 0, 1)
    total = node.emit(tensor.Sub, first, less)
    if keepdims:
        kept = tuple(1 if a in axes else d for a, d in enumerate(shape))
    return node.reshape(total, kept)


OPERATORS: Mapping[str, Operator] = {
    "Div": Operator(div, "computed integers"),
    "GroupNormalization": Operator(group_normalization, ignored="stash_type"),
    "InstanceNormalization": Operator(instance_normalization, "data without spatial axes"),
    "LRN": Operator(lrn, "even sizes"),
    "LayerNormalization": Operator(layer_normalization, ignored="stash_type"),
    "Log": Operator(log),
    "LogSoftmax": Operator(log_softmax),
    "LpNormalization": Operator(lp_normalization),
    "MeanVarianceNormalization": Operator(mean_variance_normalization),
    "Pow": Operator(pow_, f"computed exponents, whole ones beyond {_MAX_EXPONENT}"),
    "RMSNormalization": Operator(rms_normalization, ignored="stash_type"),
    "Reciprocal": Operator(reciprocal),
    "ReduceL2": Operator(reduce_l2, "computed integers"),
    "ReduceLogSum": Operator(reduce_log_sum, "computed integers"),
    "ReduceLogSumExp": Operator(reduce_log_sum_exp, "computed integers"),
    "Softmax": Operator(softmax),
    "Softsign": Operator(softsign),
    "Sqrt": Operator(sqrt),
    "Tan": Operator(tan),
}
"""Operator name -> how it is imported."""
