"""Secure forms of pooling: axis by axis, since a box's maximum or sum is one of rows of rows.

Sums are local. A maximum of k elements is a tournament of k - 1 comparisons per window, unless
windows overlap: then maxima of whole strides are made once and each window combines those that it
covers, doubling their number in every round (:func:`_cheaper`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpcc.ir.core import Op, Value
from mpcc.ir.define import Attributes
from mpcc.ir.ops import secure, tensor
from mpcc.passes.lowerings.base import Lowering, Rules, secure_type, tensor_type
from mpcc.passes.lowerings.elementwise import maximum

__all__ = ["RULES"]


def _padded(lowering: Lowering, op: Op, x: Value, value: int) -> Value:
    """A public raw constant around the spatial axes."""
    pads, rank = op.attrs["pads"], len(op.attrs["kernel"])
    if not any(pads):
        return x
    low, high = (0, 0, *pads[:rank]), (0, 0, *pads[rank:])
    return lowering.emit(secure.Pad, [x], {"low": low, "high": high, "value": value}, op.loc)


@dataclass(frozen=True)
class _Line:
    """Maxima over windows along one axis.

    Attributes:
        lowering: the run.
        axis: of the data.
        loc: of the op.
    """

    lowering: Lowering
    axis: int
    loc: str

    def size(self, x: Value) -> int:
        """Elements along the axis."""
        return secure_type(x).shape[self.axis]

    def take(self, x: Value, first: int, count: int, step: int = 1) -> Value:
        """``count`` elements from ``first`` on."""
        if (first, count, step) == (0, self.size(x), 1):
            return x
        shape = secure_type(x).shape
        starts, limits, steps = [0] * len(shape), list(shape), [1] * len(shape)
        starts[self.axis], limits[self.axis] = first, first + (count - 1) * step + 1
        steps[self.axis] = step
        attrs: Attributes = {
            "starts": tuple(starts),
            "limits": tuple(limits),
            "strides": tuple(steps),
        }
        return self.lowering.emit(secure.Slice, [x], attrs, self.loc)

    def tournament(self, players: Sequence[Value]) -> Value:
        """The maximum of all."""
        players = list(players)
        while len(players) > 1:
            pairs = zip(players[0::2], players[1::2], strict=False)
            odd = players[-1:] if len(players) % 2 else []
            players = [maximum(self.lowering, a, b, self.loc, coarse=True) for a, b in pairs] + odd
        return players[0]

    def every(self, x: Value, kernel: int, dilation: int) -> Value:
        """Maxima of windows at every position: ceil(log2(kernel)) comparisons for each.

        Two windows of h elements cover one of up to 2 h.
        """
        covered = 1
        while covered < kernel:
            step = min(covered, kernel - covered)
            count = self.size(x) - step * dilation
            near, far = self.take(x, 0, count), self.take(x, step * dilation, count)
            x = maximum(self.lowering, near, far, self.loc, coarse=True)
            covered += step
        return x

    def blocks(self, x: Value, kernel: int, stride: int, count: int) -> Value:
        """Maxima of windows that consist of whole strides, and of a rest."""
        whole, rest = divmod(kernel, stride)
        strides = count + whole - 1
        x = self.take(x, 0, (count - 1) * stride + kernel)
        rows = [self.take(x, t, strides, stride) for t in range(stride)]
        y = self.every(self.tournament(rows), whole, 1)
        if not rest:
            return y
        rows = [self.take(x, whole * stride + t, count, stride) for t in range(rest)]
        return maximum(self.lowering, y, self.tournament(rows), self.loc, coarse=True)

    def maxima(self, x: Value, kernel: int, stride: int, dilation: int) -> Value:
        """Maxima over windows of ``kernel`` elements, by the fewest comparisons."""
        count = (self.size(x) - dilation * (kernel - 1) - 1) // stride + 1
        if stride == 1 and count > 1:
            return self.every(x, kernel, dilation)
        if dilation == 1 and _cheaper(kernel, stride, count):
            return self.blocks(x, kernel, stride, count)
        return self.tournament([self.take(x, t * dilation, count, stride) for t in range(kernel)])


def _cheaper(kernel: int, stride: int, count: int) -> bool:
    """Whether maxima of whole strides, made once, save comparisons over one tournament each."""
    whole, rest = divmod(kernel, stride)
    if whole < 2:
        return False
    comparisons = (stride - 1) * (count + whole - 1) + rest * count
    covered = 1
    while covered < whole:
        step = min(covered, whole - covered)
        covered += step
        comparisons += count + whole - covered
    return comparisons < (kernel - 1) * count


def _maxpool(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """Maximum along one axis after the other."""
    (x,) = operands
    x = _padded(lowering, op, x, 1 - (1 << secure_type(x).width))
    kernel, strides, dilations = (op.attrs[key] for key in ("kernel", "strides", "dilations"))
    for i in reversed(range(len(kernel))):
        line = _Line(lowering, 2 + i, op.loc)
        x = line.maxima(x, kernel[i], strides[i], dilations[i] if dilations else 1)
    return [x]


def _sum_pool(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """Local: windows side by side along one axis after the other, and their sums."""
    (x,) = operands
    out, loc = tensor_type(op.result).shape, op.loc
    kernel, strides, dilations = (op.attrs[key] for key in ("kernel", "strides", "dilations"))
    total = lowering.result_width(op, secure_type(x).frac)
    x = _padded(lowering, op, x, 0)
    # Axes that stay as they are need no step, but the last step gives the result its width.
    axes = [i for i, k in enumerate(kernel) if (k, strides[i]) != (1, 1)] or [0]
    for i in reversed(axes):
        axis, step = 2 + i, dilations[i] if dilations else 1
        type_ = secure_type(x)
        indices = [w * strides[i] + t * step for w in range(out[axis]) for t in range(kernel[i])]
        if indices != list(range(type_.shape[axis])):
            attrs: Attributes = {"axis": axis, "indices": tuple(indices)}
            x = lowering.emit(secure.Gather, [x], attrs, loc)
        head, tail = type_.shape[:axis], type_.shape[axis + 1 :]
        windows = {"shape": (*head, out[axis], kernel[i], *tail)}
        x = lowering.emit(secure.Reshape, [x], windows, loc)
        # Sums along some of the axes may be larger than those along all.
        partial = min(type_.width + (kernel[i] - 1).bit_length(), type_.ring - 1)
        attrs = {"axes": (axis + 1,), "width": total if i == axes[0] else partial}
        x = lowering.emit(secure.ReduceSum, [x], attrs, loc)
    return [x]


RULES: Rules = {tensor.MaxPool: _maxpool, tensor.SumPool: _sum_pool}
