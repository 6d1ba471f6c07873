"""Secure forms of products.

The secure level convolves over two spatial axes. One axis gets a second of size 1. Of three axes
the depth taps become channels: the depth slices that a result needs are gathered, as many times as
the kernel is deep, and one convolution sums them all. A transposed convolution is one convolution
per residue of the result's positions (polyphase), which takes the products that it needs and no
other; zeros between the elements of x would take as many times more as the strides' product. All of
this but the products moves shares locally: a layer costs no message before its truncation, whatever
its rank.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mpcc.ir.core import Op, Value
from mpcc.ir.ops import secure, tensor
from mpcc.ir.types import Shape, element_count
from mpcc.passes.lowerings.base import Lowering, Rules, secure_type, tensor_type

__all__ = ["RULES"]


@dataclass(frozen=True)
class _Products:
    """Products of one op: emits what they need.

    Attributes:
        lowering: the run.
        width: of every product.
        loc: of the op.
    """

    lowering: Lowering
    width: int
    loc: str

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        if secure_type(x).shape == tuple(shape):
            return x
        return self.lowering.emit(secure.Reshape, [x], {"shape": tuple(shape)}, self.loc)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        return self.lowering.emit(secure.Transpose, [x], {"perm": tuple(perm)}, self.loc)

    def gather(self, x: Value, axis: int, indices: Sequence[int]) -> Value:
        if list(indices) == list(range(secure_type(x).shape[axis])):
            return x
        attrs = {"axis": axis, "indices": tuple(indices)}
        return self.lowering.emit(secure.Gather, [x], attrs, self.loc)

    def pad(self, x: Value, axis: int, low: int, high: int) -> Value:
        """Zeros before and after along an axis."""
        if not low and not high:
            return x
        lows, highs = ([0] * len(secure_type(x).shape) for _ in range(2))
        lows[axis], highs[axis] = low, high
        attrs = {"low": tuple(lows), "high": tuple(highs)}
        return self.lowering.emit(secure.Pad, [x], attrs, self.loc)

    def cut(self, x: Value, axis: int, start: int, limit: int) -> Value:
        """Entries from start to limit along an axis."""
        shape = secure_type(x).shape
        if (start, limit) == (0, shape[axis]):
            return x
        starts, limits = [0] * len(shape), list(shape)
        starts[axis], limits[axis] = start, limit
        ones = (1,) * len(shape)
        attrs = {"starts": tuple(starts), "limits": tuple(limits), "strides": ones}
        return self.lowering.emit(secure.Slice, [x], attrs, self.loc)

    def conv(
        self,
        x: Value,
        w: Value,
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> Value:
        """A convolution over one to three spatial axes, without a bias."""
        rank = len(strides)
        n, c, *sizes = secure_type(x).shape
        o, per, *kernel = secure_type(w).shape
        if rank == 1:
            x, w = self.reshape(x, (n, c, 1, *sizes)), self.reshape(w, (o, per, 1, *kernel))
            begin, end = pads
            y = self.conv(x, w, (1, *strides), (0, begin, 0, end), (1, *dilations), groups)
            return self.reshape(y, (n, o, secure_type(y).shape[-1]))
        if rank == 2:
            attrs = {
                "strides": tuple(strides),
                "pads": tuple(pads),
                "dilations": tuple(dilations),
                "groups": groups,
                "width": self.width,
            }
            return self.lowering.emit(secure.Conv, [x, w], attrs, self.loc)
        deep, step, stride = kernel[0], dilations[0], strides[0]
        x = self.pad(x, 2, pads[0], pads[3])
        depth = (secure_type(x).shape[2] - step * (deep - 1) - 1) // stride + 1
        x = self.gather(x, 2, [d * stride + t * step for d in range(depth) for t in range(deep)])
        x = self.reshape(x, (n, c, depth, deep, *sizes[1:]))
        x = self.transpose(x, (0, 2, 1, 3, 4, 5))
        x = self.reshape(x, (n * depth, c * deep, *sizes[1:]))
        w = self.reshape(w, (o, per * deep, *kernel[1:]))
        flat_pads = (*pads[1:3], *pads[4:])
        y = self.conv(x, w, strides[1:], flat_pads, dilations[1:], groups)
        y = self.reshape(y, (n, depth, *secure_type(y).shape[1:]))
        return self.transpose(y, (0, 2, 1, 3, 4))

    def conv_transpose(
        self,
        x: Value,
        w: Value,
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        groups: int,
        out: Shape,
    ) -> Value:
        """Spatial axes of size ``out``; w is [C, O/groups, *kernel]."""
        rank = len(strides)
        c, per, *kernel = secure_type(w).shape
        # [O, C/groups, *kernel], as a convolution has it.
        w = self.reshape(w, (groups, c // groups, per, *kernel))
        w = self.transpose(w, (0, 2, 1, *range(3, 3 + rank)))
        w = self.reshape(w, (groups * per, c // groups, *kernel))
        axes = [
            [
                _Phase.of(strides[i], dilations[i], kernel[i], pads[i], out[i], first)
                for first in range(min(strides[i], out[i]))
            ]
            for i in range(rank)
        ]
        found: dict[tuple[int, ...], Value | None] = {}
        for chosen in itertools.product(*(range(len(phases)) for phases in axes)):
            phases = [axes[i][j] for i, j in enumerate(chosen)]
            found[chosen] = self._phase(x, w, phases, groups)
        like = next((y for y in found.values() if y is not None), None)
        if like is None:
            attrs = {"factor": 0, "frac": secure_type(w).frac, "width": self.width}
            like = self.lowering.emit(secure.Scale, [x], attrs, self.loc)
        head = (secure_type(x).shape[0], groups * per)
        whole = {
            chosen: self._zeros(like, (*head, *(axes[i][j].count for i, j in enumerate(chosen))))
            if y is None
            else y
            for chosen, y in found.items()
        }
        for i in reversed(range(rank)):
            # Phases come in the order of the last axis' residues.
            rows_of: dict[tuple[int, ...], list[Value]] = {}
            for chosen, y in whole.items():
                rows_of.setdefault(chosen[:i], []).append(y)
            whole = {at: self._interleave(parts, 2 + i, out[i]) for at, parts in rows_of.items()}
        return whole[()]

    def _zeros(self, like: Value, shape: Shape) -> Value:
        return self.lowering.constant(like, 0, shape, self.loc)

    def _phase(self, x: Value, w: Value, phases: Sequence[_Phase], groups: int) -> Value | None:
        """The results of one residue per axis; None if nothing reaches them."""
        pads: list[tuple[int, int]] = []
        for i, phase in enumerate(phases):
            size = secure_type(x).shape[2 + i]
            if not phase.taps or phase.start >= size or phase.limit <= 0:
                return None
            x = self.cut(x, 2 + i, max(phase.start, 0), min(phase.limit, size))
            w = self.gather(w, 2 + i, phase.taps)
            pads.append((max(-phase.start, 0), max(phase.limit - size, 0)))
        begins, ends = zip(*pads, strict=True)
        steps = [phase.dilation for phase in phases]
        return self.conv(x, w, (1,) * len(phases), (*begins, *ends), steps, groups)

    def _interleave(self, parts: Sequence[Value], axis: int, size: int) -> Value:
        """Element i of part j becomes element i * len(parts) + j along an axis."""
        if len(parts) == 1:
            return parts[0]
        count = -(-size // len(parts))
        rows = []
        for part in parts:
            part = self.pad(part, axis, 0, count - secure_type(part).shape[axis])
            shape = secure_type(part).shape
            rows.append(self.reshape(part, (*shape[: axis + 1], 1, *shape[axis + 1 :])))
        y = self.lowering.emit(secure.Concat, rows, {"axis": axis + 1}, self.loc)
        shape = secure_type(rows[0]).shape
        y = self.reshape(y, (*shape[:axis], count * len(parts), *shape[axis + 2 :]))
        return self.cut(y, axis, 0, size)


@dataclass(frozen=True)
class _Phase:
    """Along one axis, the results at ``first``, ``first`` + stride, ...: a convolution of x.

    Attributes:
        count: number of results.
        taps: indices into the kernel, in the order of x.
        dilation: step in x from tap to tap.
        start: position in x of the first element used, negative in the zeros before x.
        limit: position after the last one.
    """

    count: int
    taps: tuple[int, ...]
    dilation: int
    start: int
    limit: int

    @classmethod
    def of(
        cls, stride: int, dilation: int, kernel: int, begin: int, out: int, first: int
    ) -> _Phase:
        # Result o is at o + begin = stride * i + dilation * k for every i and k that it sums.
        count = -(-(out - first) // stride)
        residue, base = (first + begin) % stride, (first + begin) // stride
        taps = [k for k in range(kernel) if dilation * k % stride == residue]
        if not taps:
            return cls(count, (), 1, 0, 0)
        # Tap k of result t takes x at base + t - shift(k); the furthest back comes first.
        shifts = [(dilation * k - residue) // stride for k in taps]
        step = dilation // math.gcd(dilation, stride)
        start, limit = base - shifts[-1], base + count - shifts[0]
        return cls(count, tuple(reversed(taps)), step, start, limit)


def _with_bias(products: _Products, op: Op, product: Value) -> list[Value]:
    """The bias, if there is one, added at the product's fraction."""
    if len(op.operands) == 2:
        return [product]
    lowering, value, type_ = products.lowering, op.operands[2], secure_type(product)
    bias = lowering.summand(value, type_.frac, tensor_type(value).shape)
    spread = {"shape": type_.shape, "dims": (1,)}
    bias = lowering.emit(secure.Broadcast, [bias], spread, op.loc)
    return [lowering.emit(secure.Add, [product, bias], {"width": products.width}, op.loc)]


def _products(lowering: Lowering, op: Op, operands: Sequence[Value]) -> _Products:
    frac = sum(secure_type(x).frac for x in operands)
    return _Products(lowering, lowering.result_width(op, frac), op.loc)


def _conv(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    products, (x, w) = _products(lowering, op, operands), operands
    return _with_bias(products, op, products.conv(x, w, **op.attrs))


def _conv_transpose(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    products, (x, w) = _products(lowering, op, operands), operands
    attrs = {key: op.attrs[key] for key in ("strides", "pads", "dilations", "groups")}
    out = tensor_type(op.result).shape[2:]
    return _with_bias(products, op, products.conv_transpose(x, w, **attrs, out=out))


def _matmul(lowering: Lowering, op: Op, operands: Sequence[Value]) -> list[Value]:
    """The right factor is one matrix for all, or both have the result's leading axes."""
    products = _products(lowering, op, operands)
    a, b = operands
    lead = tensor_type(op.result).shape[:-2]
    matrices = [secure_type(x).shape[-2:] for x in operands]
    if element_count(secure_type(b).shape[:-2]) == 1:
        b = products.reshape(b, matrices[1])
    else:
        b = lowering.spread(b, (*lead, *matrices[1]), op.loc)
    a = lowering.spread(a, (*lead, *matrices[0]), op.loc)
    return [lowering.emit(secure.MatMul, [a, b], {"width": products.width}, op.loc)]


RULES: Rules = {
    tensor.Conv: _conv,
    tensor.ConvTranspose: _conv_transpose,
    tensor.MatMul: _matmul,
}
