"""A module per level that holds every operator of the level, for tests of what is derived."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpcc.ir.core import Function, Module, Value
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.ops import tensor
from mpcc.ir.types import BitsType

AWKWARD = 'a "quoted" \\ name/with:0 %1 // é\n\ttab'


def type_of(value: Value) -> Any:
    """The type, unchecked: its attributes differ between levels."""
    return value.type


class Maker:
    """Appends ops by name."""

    def __init__(self, level: str) -> None:
        self.module = Module(level, {"protocol": "rep3", "parties": 3, "ratio": 1e-07, "on": True})
        self.dialect = DIALECTS[level]

    def __call__(self, op: str, *operands: Value, body: Function | None = None, **attrs) -> Value:
        definition = self.dialect.operations[f"{self.dialect.level}.{op}"]
        made = self.module.main.append(definition, operands, attrs, f"{AWKWARD} {op}", body)
        return made.results[0] if made.results else operands[0]


@dataclass(frozen=True)
class Operand:
    """One operand of a row: an input within [lo, hi], a weight of that size, or bits.

    Attributes:
        step: if given, values are multiples of it, so that equal ones occur.
    """

    shape: tuple[int, ...]
    source: str = "input"
    owner: str = ""
    lo: float = -2.0
    hi: float = 2.0
    step: float = 0.0

    def draw(self, rng: np.random.Generator, *, ends: bool = False) -> np.ndarray:
        """Values, which are 0 or 1 for bits."""
        if ends or self.source == "bit":
            return rng.choice([self.lo, self.hi], self.shape)
        values = rng.uniform(self.lo, self.hi, self.shape)
        return np.round(values / self.step) * self.step if self.step else values


@dataclass(frozen=True)
class Row:
    """One use of a tensor operator, from which all tests of the operator follow.

    Attributes:
        op: name without the level.
        operands: in order.
        reference: results for operand arrays, written without the operator's own code.
        attrs: attributes.
    """

    op: str
    operands: tuple[Operand, ...]
    reference: Callable[..., Sequence[np.ndarray]]
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def definition(self) -> type[tensor.TensorOperation]:
        """The declaration."""
        found = tensor.DIALECT.operations[f"tensor.{self.op}"]
        assert issubclass(found, tensor.TensorOperation)
        return found

    def append(self, o: Maker, prefix: str) -> list[Value]:
        """The op with sources of its own, and an output for every result."""
        values = []
        for i, operand in enumerate(self.operands):
            owner: dict[str, Any] = {"owner": operand.owner} if operand.owner else {}
            source = "input" if operand.source == "bit" else operand.source
            value = o(source, name=f"{prefix}{i}", shape=operand.shape, **owner)
            if operand.source == "bit":
                value = o("less", o("sub", value, value), value)
            values.append(value)
        o(self.op, *values, **self.attrs)
        results = list(o.module.main.ops[-1].results)
        for i, result in enumerate(results):
            o("output", result, name=f"{prefix}y{i}", owner="client")
        return results

    def arrays(self, rng: np.random.Generator, *, ends: bool = False) -> list[np.ndarray]:
        """Operand arrays within their ranges, or at the ends of them."""
        return [x.draw(rng, ends=ends) for x in self.operands]

    def named(
        self, arrays: Sequence[np.ndarray], prefix: str
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Operand arrays by the names that :meth:`append` gives: inputs, and weights."""
        tables: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
        for i, (operand, array) in enumerate(zip(self.operands, arrays, strict=True)):
            tables[operand.source == "weight"][f"{prefix}{i}"] = array
        return tables


def weight(*shape: int, owner: str = "") -> Operand:
    """A weight with entries up to 1."""
    return Operand(shape, "weight", owner, -1.0, 1.0)


def bit(*shape: int) -> Operand:
    """Bits, made of an input."""
    return Operand(shape, "bit", lo=0.0, hi=1.0)


def _windows(shape, kernel, strides, pads, dilations):
    """For every window over padded data: its position, and the slices of its elements."""
    rank = len(kernel)
    counts = [
        (d + pads[i] + pads[rank + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i, d in enumerate(shape)
    ]
    for at in np.ndindex(*counts):
        firsts = [a * s for a, s in zip(at, strides, strict=True)]
        box = zip(firsts, kernel, dilations, strict=True)
        yield at, tuple(slice(f, f + d * (k - 1) + 1, d) for f, k, d in box)


def _around(x, pads, value):
    """Data [N, C, ...] with a constant around its spatial axes."""
    rank = x.ndim - 2
    edge = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    return np.pad(x, edge, constant_values=value)


def _conv(strides, pads, dilations, groups=1):
    def reference(x, w, bias=None):
        out, per = len(w), w.shape[1]
        found = {}
        for at, box in _windows(x.shape[2:], w.shape[2:], strides, pads, dilations):
            for n, o in np.ndindex(len(x), out):
                first = o // (out // groups) * per
                spot = (n, slice(first, first + per), *box)
                window = _around(x, pads, 0.0)[spot]
                spot = (n, o, *at)
                found[spot] = (window * w[o]).sum() + (0 if bias is None else bias[o])
        return [_collected(found)]

    attrs = {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups}
    return {"reference": reference, "attrs": attrs}


def _collected(found):
    y = np.zeros([1 + max(axis) for axis in zip(*found, strict=True)])
    for at, value in found.items():
        y[at] = value
    return y


def _conv_transpose(strides, pads, dilations, output_padding, groups=1):
    def reference(x, w, bias=None):
        rank, (channels, per) = x.ndim - 2, w.shape[:2]
        sizes = [
            s * (d - 1) + e * (k - 1) + 1 + p
            for s, d, e, k, p in zip(
                strides, x.shape[2:], dilations, w.shape[2:], output_padding, strict=True
            )
        ]
        y = np.zeros((len(x), per * groups, *sizes))
        for n, c, *at in np.ndindex(*x.shape):
            for j, *tap in np.ndindex(*w.shape[1:]):
                o = c // (channels // groups) * per + j
                to = [a * s + t * d for a, s, t, d in zip(at, strides, tap, dilations, strict=True)]
                spot = (n, o, *to)
                spot1 = (n, c, *at)
                spot2 = (c, j, *tap)
                y[spot] += x[spot1] * w[spot2]
        inside = [slice(pads[i], sizes[i] - pads[rank + i]) for i in range(rank)]
        kept = (slice(None), slice(None), *inside)
        y = y[kept]
        return [y if bias is None else y + bias.reshape(-1, *[1] * rank)]

    attrs = {
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "groups": groups,
        "output_padding": output_padding,
    }
    return {"reference": reference, "attrs": attrs}


def _pool(outside, combine, kernel, strides, pads, dilations=()):
    def reference(x):
        found = {}
        steps = dilations or (1,) * len(kernel)
        for at, box in _windows(x.shape[2:], kernel, strides, pads, steps):
            for n, c in np.ndindex(*x.shape[:2]):
                spot = (n, c, *at)
                spot1 = (n, c, *box)
                found[spot] = combine(_around(x, pads, outside)[spot1])
        return [_collected(found)]

    attrs = {"kernel": kernel, "strides": strides, "pads": pads, "dilations": dilations}
    return {"reference": reference, "attrs": attrs}


def _maxpool(*attrs):
    return _pool(-np.inf, np.max, *attrs)


def _sum_pool(*attrs):
    return _pool(0.0, np.sum, *attrs)


def _pad(value):
    def reference(x):
        y = np.full((2, x.shape[1] + 3), value)
        y[1:, 1:-2] = x
        return [y]

    return {"reference": reference, "attrs": {"low": (1, 1), "high": (0, 2), "value": value}}


def _extreme(values, *, last=False):
    """Position of the largest of a list, by looking at all of them."""
    best = 0
    for i, v in enumerate(values):
        if v > values[best] or (last and v == values[best]):
            best = i
    return best


def _argmax(axis, *, keepdims=False, last=False):
    def reference(x):
        found = np.apply_along_axis(lambda v: _extreme(v, last=last), axis, x)
        return [np.expand_dims(found, axis) if keepdims else found]

    attrs = {"axis": axis, "keepdims": keepdims, "select_last": last}
    return {"reference": reference, "attrs": attrs}


def _topk(k, axis, *, largest=True):
    def reference(x):
        def order(v):
            return sorted(range(len(v)), key=lambda i: (-v[i] if largest else v[i], i))[:k]

        found = np.apply_along_axis(order, axis, x)
        return [np.take_along_axis(x, found, axis), found]

    return {"reference": reference, "attrs": {"k": k, "axis": axis, "largest": largest}}


def _cumsum(axis, *, exclusive=False, reverse=False):
    def reference(x):
        y = np.zeros(x.shape)
        count = x.shape[axis]
        rows, sums = np.moveaxis(x, axis, 0), np.moveaxis(y, axis, 0)
        for i in range(count):
            if reverse:
                sums[i] = rows[i + exclusive :].sum(axis=0)
            else:
                sums[i] = rows[: i + (not exclusive)].sum(axis=0)
        return [y]

    attrs = {"axis": axis, "exclusive": exclusive, "reverse": reverse}
    return {"reference": reference, "attrs": attrs}


def _scale(factor):
    return {"reference": lambda x: [x * factor], "attrs": {"factor": factor}}


def _clip(lo, hi):
    def reference(x):
        y = np.array([min(max(v, lo), hi) for v in x.flat])
        return [y.reshape(x.shape)]

    return {"reference": reference, "attrs": {"lo": lo, "hi": hi}}


def _logic(table):
    """By the value for the operands 00, 01, 10, 11."""
    return lambda c, d: [np.array(table)[(2 * c + d).astype(int)]]


def _where(c, a, b):
    return [c * a + (1 - c) * b]


def _each(f):
    """A function of a number, for every element."""
    return lambda x: [np.array([f(v) for v in np.ravel(x)]).reshape(np.shape(x))]


_GELU_TANH = _each(
    lambda v: v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v * v * v)))
)
_SMALL, _LARGE = Operand((3, 7)), Operand((3, 9), lo=-60.0, hi=60.0)
"""Numbers that no function needs to compare, and numbers in both of its tails."""


def _softmax(axis):
    """Powers of e over their sum."""
    return lambda x: [math.e**x / np.expand_dims(sum(np.moveaxis(math.e**x, axis, 0)), axis)]


def _log_softmax(axis):
    return lambda x: [np.log(_softmax(axis)(x)[0])]


def _normalize(axes, center, epsilon, exponent=0):
    def reference(x):
        count = math.prod(x.shape[a] for a in axes)
        c = x - x.sum(axis=axes, keepdims=True) / count * center
        squares = np.sum(c**2, axis=axes, keepdims=True) + epsilon
        return [c * 2**exponent / squares**0.5]

    attrs = {"axes": axes, "center": center, "epsilon": epsilon, "exponent": exponent}
    return {"reference": reference, "attrs": attrs}


_X = Operand((1, 4, 6, 5))
_STEPS = Operand((3, 4), step=0.25)
"""Equal values occur, with a sign and at zero."""

_COLUMN = Operand((3, 1), step=0.25)
_PLACES = Operand((1, 4), "weight", "", 1.0, 1.0)
_FULL = {"roots": (0, -5), "left": (1, -1, -3), "right": (2, -2, -4)}
_CHAIN = {"roots": (0,), "left": (*range(1, 7), -1), "right": tuple(range(-2, -9, -1))}


def _forest(bits: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    """Of _FULL and _CHAIN: the leaves that are reached, written as products and as a search."""
    if bits.shape[1] == 3:
        root, left, right = bits.T[:, :, None]
        inner = [(1 - left) * values[0] + left * values[1]]
        inner.append((1 - right) * values[2] + right * values[3])
        return [(1 - root) * inner[0] + root * inner[1] + values[4]]
    first = [list(row).index(1) + 1 if 1 in row else 0 for row in bits.astype(int)]
    return [values[first]]


ROWS: tuple[Row, ...] = (
    Row(
        "conv",
        (_X, weight(4, 2, 3, 3), weight(4, owner="public")),
        **_conv((1, 1), (1, 1, 1, 1), (1, 1), 2),
    ),
    Row("conv", (_X, weight(2, 4, 2, 3)), **_conv((2, 1), (0, 1, 2, 3), (2, 1))),
    Row("conv", (_X, Operand((2, 4, 2, 2), lo=-1.0)), **_conv((2, 2), (0, 0, 0, 0), (1, 1))),
    Row("conv", (Operand((2, 2, 7)), weight(3, 2, 3), weight(3)), **_conv((2,), (1, 2), (2,))),
    Row("conv", (Operand((1, 4, 5)), weight(4, 1, 2)), **_conv((1,), (0, 0), (1,), 4)),
    Row(
        "conv",
        (Operand((2, 2, 4, 3, 3)), weight(2, 1, 2, 2, 3), weight(2)),
        **_conv((2, 1, 1), (1, 0, 1, 0, 0, 1), (1, 1, 1), 2),
    ),
    Row(
        "conv",
        (Operand((1, 2, 5, 3, 2)), Operand((2, 2, 3, 1, 2), lo=-1.0)),
        **_conv((1, 2, 1), (0, 0, 0, 1, 0, 0), (2, 1, 1)),
    ),
    Row(
        "conv_transpose",
        (Operand((1, 2, 3, 4)), weight(2, 3, 3, 2), weight(3)),
        **_conv_transpose((2, 3), (1, 0, 0, 1), (1, 1), (1, 0)),
    ),
    Row(
        "conv_transpose",
        (Operand((2, 4, 3, 3)), weight(4, 1, 2, 2)),
        **_conv_transpose((1, 1), (0, 1, 0, 0), (1, 2), (0, 0), 2),
    ),
    Row(
        "conv_transpose",
        (Operand((1, 2, 4)), weight(2, 2, 3), weight(2)),
        **_conv_transpose((3,), (4, 2), (2,), (0,)),
    ),
    Row(
        "conv_transpose",
        (Operand((1, 1, 2)), weight(1, 1, 1)),
        **_conv_transpose((4,), (0, 0), (1,), (3,)),
    ),
    Row(
        "conv_transpose",
        (Operand((1, 1, 2)), weight(1, 1, 1)),
        **_conv_transpose((4,), (1, 2), (1,), (0,)),
    ),
    Row(
        "conv_transpose",
        (Operand((1, 2, 2, 2, 3)), weight(2, 1, 3, 2, 2)),
        **_conv_transpose((2, 1, 2), (1, 0, 1, 1, 0, 0), (1, 1, 2), (1, 0, 1)),
    ),
    Row(
        "conv_transpose",
        (Operand((1, 1, 2, 2)), Operand((1, 1, 2, 2), lo=-1.0)),
        **_conv_transpose((2, 2), (0, 0, 0, 0), (1, 1), (0, 0)),
    ),
    Row("matmul", (Operand((2, 3)), weight(3, 4)), lambda a, b: [np.einsum("ij,jk->ik", a, b)]),
    Row(
        "matmul",
        (Operand((2, 3)), Operand((3, 2), owner="model")),
        lambda a, b: [np.einsum("ij,jk->ik", a, b)],
    ),
    Row(
        "matmul",
        (Operand((2, 1, 2, 3)), Operand((3, 3, 2))),
        lambda a, b: [np.einsum("axij,bjk->abik", a, b)],
    ),
    Row(
        "matmul",
        (weight(2, 3), Operand((2, 3, 2))),
        lambda a, b: [np.einsum("ij,bjk->bik", a, b)],
    ),
    Row(
        "matmul",
        (Operand((2, 3, 3)), weight(1, 1, 3, 2)),
        lambda a, b: [np.einsum("aij,xyjk->xaik", a, b)],
    ),
    Row("add", (Operand((2, 3)), Operand((3,))), lambda a, b: [a + np.stack([b, b])]),
    Row("add", (Operand((2, 3)), weight(2, 1)), lambda a, b: [a + b.repeat(3, axis=1)]),
    Row("sub", (Operand((3,)), Operand((), owner="public")), lambda a, b: [a - float(b)]),
    Row("sub", (weight(3), Operand((2, 3))), lambda a, b: [np.stack([a, a]) - b]),
    Row("mul", (Operand((2, 3)), Operand((3,))), lambda a, b: [np.einsum("ij,j->ij", a, b)]),
    Row("mul", (weight(2, 1), Operand((3,))), lambda a, b: [np.einsum("ik,j->ij", a, b)]),
    Row("mul", (Operand((4,)), Operand((), owner="public")), lambda a, b: [a * float(b)]),
    Row("scale", (Operand((2, 3)),), **_scale(-3.0)),
    Row("scale", (Operand((3,)),), **_scale(0.0)),
    Row("scale", (Operand((2, 3)),), **_scale(1 / 3)),
    Row("scale", (Operand((2, 3)),), **_scale(-0.375)),
    Row("scale", (Operand((3,), lo=0.0, hi=2.0**-8),), **_scale(65536.0)),
    Row("maximum", (_STEPS, Operand((4,), step=0.25)), lambda a, b: [(a + b + abs(a - b)) / 2]),
    Row("maximum", (Operand((2, 1)), weight(3)), lambda a, b: [(a + b + abs(a - b)) / 2]),
    Row(
        "lookup",
        (Operand((2, 3), lo=-4.0, hi=3.0, step=1.0), weight(4, 2)),
        lambda ids, table: [np.stack([table[int(i)] for i in ids.flat]).reshape(2, 3, 2)],
    ),
    Row(
        "lookup",
        (Operand((3,), lo=-5.0, hi=4.0, step=1.0), Operand((5, 2))),
        lambda ids, table: [np.stack([table[int(i)] for i in ids])],
    ),
    Row(
        "lookup",
        (Operand((), lo=-1.0, hi=0.0, step=1.0), weight(1, 3)),
        lambda ids, table: [table[0]],
    ),
    Row("relu", (Operand((2, 5)),), lambda x: [np.where(x > 0, x, 0)]),
    Row("abs", (Operand((2, 5)),), lambda x: [np.where(x < 0, -x, x)]),
    Row("abs", (Operand((5,), lo=-2.0, hi=-1.0),), lambda x: [-x]),
    Row("relu", (Operand((5,), lo=-0.0, hi=0.0),), lambda x: [np.zeros(5)]),
    *(
        Row(name, (operand,), _each(f), attrs)
        for name, f, attrs in (
            ("sigmoid", lambda v: 1 / (1 + math.exp(-v)), {}),
            ("tanh", math.tanh, {}),
            ("erf", math.erf, {}),
            ("gelu", lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2, {"approximate": "none"}),
            ("silu", lambda v: v / (1 + math.exp(-v)), {}),
            ("mish", lambda v: v * math.tanh(math.log1p(math.exp(v))), {}),
            ("softplus", lambda v: math.log1p(math.exp(v)), {}),
            ("elu", lambda v: v if v > 0 else math.exp(v) - 1, {}),
            ("sin", math.sin, {}),
            ("cos", math.cos, {}),
        )
        for operand in (_SMALL, _LARGE)
    ),
    Row("activation", (_SMALL,), lambda v: [v]),
    Row("gelu", (_SMALL,), _GELU_TANH, {"approximate": "tanh"}),
    Row("gelu", (_LARGE,), _GELU_TANH, {"approximate": "tanh"}),
    Row("softplus", (Operand((), lo=-60.0, hi=60.0),), _each(lambda v: np.logaddexp(0, v))),
    Row("exp", (_SMALL,), _each(math.exp)),
    Row("exp", (Operand((3, 7), lo=-60.0, hi=-1.0),), _each(math.exp)),
    Row("exp", (Operand((3, 7), lo=-60.0, hi=5.0),), _each(math.exp)),
    Row("atan", (_SMALL,), _each(math.atan)),
    Row("atan", (Operand((3, 7), lo=-15.0, hi=15.0),), _each(math.atan)),
    *(
        Row(name, (operand,), _each(f), attrs)
        for name, f, attrs in (
            ("reciprocal", lambda v: v**-1.0, {}),
            ("rsqrt", lambda v: v**-0.5, {"epsilon": 0.0}),
            ("sqrt", lambda v: v**0.5, {}),
            ("log", lambda v: math.log2(v) / math.log2(math.e), {}),
        )
        for operand in (Operand((3, 7), lo=1.5, hi=9.0), Operand((5,), lo=20.0, hi=100.0))
    ),
    Row("reciprocal", (Operand((3, 5), lo=-7.0, hi=-1.5),), _each(lambda v: v**-1.0)),
    Row(
        "rsqrt",
        (Operand((3, 5), lo=1.5, hi=4.0),),
        _each(lambda v: (v + 0.25) ** -0.5),
        {"epsilon": 0.25},
    ),
    Row(
        "div",
        (Operand((2, 1, 5)), Operand((3, 1), lo=2.0, hi=8.0)),
        lambda a, b: [a * (b**-1.0)[None]],
    ),
    Row("div", (weight(3), Operand((2, 3), lo=-9.0, hi=-2.0)), lambda a, b: [a[None] * b**-1.0]),
    Row("softmax", (_SMALL,), _softmax(1), {"axis": 1}),
    Row("softmax", (Operand((7, 2), lo=-40.0, hi=40.0),), _softmax(0), {"axis": 0}),
    Row("softmax", (Operand((2, 1, 3)),), _softmax(1), {"axis": 1}),
    Row("log_softmax", (_SMALL,), _log_softmax(1), {"axis": 1}),
    Row("log_softmax", (Operand((7, 2), lo=-9.0, hi=9.0),), _log_softmax(0), {"axis": 0}),
    Row("normalize", (Operand((3, 16), lo=-8.0, hi=8.0),), **_normalize((1,), True, 1e-3, 2)),
    Row("normalize", (Operand((2, 3, 2, 5)),), **_normalize((1, 3), True, 2.0, 1)),
    Row("normalize", (Operand((9, 2), lo=2.0, hi=8.0),), **_normalize((0,), False, 0.0)),
    Row("floor", (Operand((3, 4), lo=-3.0, hi=3.0, step=0.5),), lambda x: [x - x % 1]),
    Row("floor", (Operand((8,), lo=-0.9, hi=0.9),), lambda x: [np.where(x < 0, -1, 0)]),
    Row("clip", (Operand((4, 5), lo=-9.0, hi=9.0),), **_clip(0.0, 6.0)),
    Row("clip", (Operand((4, 5), step=0.25),), **_clip(-0.75, 0.3)),
    Row("clip", (_STEPS,), **_clip(-0.5, np.inf)),
    Row("clip", (_STEPS,), **_clip(-np.inf, 0.5)),
    Row("clip", (_STEPS,), **_clip(0.0, 3.4e38)),
    Row("clip", (_STEPS,), **_clip(-3.4e38, np.inf)),
    Row("clip", (_STEPS,), **_clip(-np.inf, -100.0)),
    Row("clip", (_STEPS,), **_clip(100.0, 200.0)),
    Row("less", (_STEPS, Operand((4,), step=0.25)), lambda a, b: [np.sign(a - b) == -1]),
    Row("less", (_STEPS, weight(3, 1)), lambda a, b: [np.sign(a - b) == -1]),
    Row("equal", (_STEPS, Operand((4,), step=0.25)), lambda a, b: [abs(a - b) == 0]),
    Row("not", (bit(2, 3),), lambda c: [1 - c]),
    Row("and", (bit(2, 3), bit(3)), _logic([0, 0, 0, 1])),
    Row("xor", (bit(3, 2, 1), bit(3)), _logic([0, 1, 1, 0])),
    Row("where", (bit(2, 3), Operand((2, 3)), Operand((2, 3))), _where),
    Row("where", (bit(3), Operand((2, 1)), weight(1, 1)), _where),
    Row("to_real", (bit(2, 3),), lambda c: [c]),
    Row(
        "branch",
        (Operand((3, 4), step=0.25), Operand((4,), "weight", "", -2.0, 2.0, 0.25)),
        lambda x, t: [np.sign(t - x) == -1],
    ),
    Row(
        "branch",
        (_COLUMN, Operand((4,), "weight", "", -2.0, 2.0, 0.25), _PLACES),
        lambda x, t, places: [np.sign(t - x @ places) == -1],
    ),
    Row("forest", (bit(5, 3), weight(5, 2)), _forest, _FULL),
    Row("forest", (bit(3, 7), weight(8, 1)), _forest, _CHAIN),
    Row(
        "reduce_sum",
        (Operand((2, 3, 4)),),
        lambda x: [np.einsum("abc->b", x)],
        {"axes": (0, 2), "keepdims": False},
    ),
    Row(
        "reduce_sum",
        (Operand((2, 3)),),
        lambda x: [np.array([[sum(x.flat)]])],
        {"axes": (0, 1), "keepdims": True},
    ),
    Row(
        "reduce_max",
        (Operand((2, 3, 5), step=0.25),),
        lambda x: [np.sort(x.transpose(1, 0, 2).reshape(3, 10))[None, :, -1:]],
        {"axes": (0, 2), "keepdims": True},
    ),
    Row(
        "reduce_max",
        (Operand((7, 2)),),
        lambda x: [np.sort(x, axis=0)[-1]],
        {"axes": (0,), "keepdims": False},
    ),
    Row("argmax", (Operand((3, 7), step=0.5),), **_argmax(1)),
    Row("argmax", (Operand((6, 3), step=0.5),), **_argmax(0, keepdims=True, last=True)),
    Row("argmax", (Operand((4, 2, 2), step=1.0),), **_argmax(1)),
    Row("argmax", (Operand((4, 2), step=1.0),), **_argmax(1, last=True)),
    Row("argmax", (Operand((4, 1)),), **_argmax(1)),
    Row("topk", (Operand((2, 9), step=0.5),), **_topk(3, 1)),
    Row("topk", (Operand((6, 2), step=0.5),), **_topk(6, 0, largest=False)),
    Row("topk", (Operand((2, 10, 2), step=0.5),), **_topk(1, 1)),
    Row("topk", (Operand((2, 1)),), **_topk(1, 1)),
    Row("cumsum", (Operand((2, 7)),), **_cumsum(1)),
    Row("cumsum", (Operand((3, 2)),), **_cumsum(0, exclusive=True)),
    Row("cumsum", (Operand((2, 6, 2)),), **_cumsum(1, reverse=True)),
    Row("cumsum", (Operand((2, 5)),), **_cumsum(1, exclusive=True, reverse=True)),
    Row("cumsum", (Operand((2, 1)),), **_cumsum(1, exclusive=True)),
    Row("maxpool", (_X,), **_maxpool((2, 2), (1, 2), (0, 0, 0, 1))),
    Row("maxpool", (_X,), **_maxpool((3, 1), (2, 1), (2, 0, 1, 0))),
    Row("maxpool", (Operand((1, 2, 9)),), **_maxpool((5,), (1,), (2, 2))),
    Row("maxpool", (Operand((1, 1, 11)),), **_maxpool((5,), (2,), (1, 0))),
    Row("maxpool", (Operand((2, 1, 13)),), **_maxpool((7,), (3,), (0, 0))),
    Row("maxpool", (Operand((1, 1, 9)),), **_maxpool((3,), (1,), (3, 4), (2,))),
    Row("maxpool", (_X,), **_maxpool((3, 2), (2, 3), (1, 0, 0, 2), (1, 2))),
    Row(
        "maxpool",
        (Operand((1, 1, 4, 3, 5)),),
        **_maxpool((2, 3, 3), (1, 1, 2), (0, 1, 1, 1, 1, 0)),
    ),
    Row("sum_pool", (_X,), **_sum_pool((2, 2), (2, 1), (0, 0, 0, 0))),
    Row("sum_pool", (_X,), **_sum_pool((3, 2), (1, 2), (1, 0, 2, 1), (2, 1))),
    Row("sum_pool", (Operand((2, 2, 6)),), **_sum_pool((3,), (3,), (0, 0))),
    Row("sum_pool", (Operand((1, 1, 2)),), **_sum_pool((2,), (2,), (2, 2))),
    Row(
        "sum_pool",
        (Operand((1, 1, 3, 4, 2)),),
        **_sum_pool((3, 2, 1), (1, 2, 1), (0, 0, 1, 0, 0, 0)),
    ),
    Row("pad", (Operand((1, 3)),), **_pad(-1.5e-05)),
    Row("pad", (Operand((1, 3)),), **_pad(20.25)),
    Row("pad", (Operand((1, 3)),), **_pad(0.0)),
    Row(
        "reshape",
        (Operand((2, 6)),),
        lambda x: [np.array(list(x.flat)).reshape(3, 4)],
        {"shape": (3, 4)},
    ),
    Row(
        "transpose",
        (Operand((2, 3, 4)),),
        lambda x: [np.einsum("abc->cab", x)],
        {"perm": (2, 0, 1)},
    ),
    Row(
        "broadcast",
        (Operand((3, 1)),),
        lambda x: [np.einsum("ik,j->jik", x, np.ones(2)).repeat(4, axis=2)],
        {"shape": (2, 3, 4)},
    ),
    Row(
        "slice",
        (Operand((4, 5)),),
        lambda x: [np.array([[x[i, j] for j in (0, 2, 4)] for i in (1, 2)])],
        {"starts": (1, 0), "limits": (3, 5), "strides": (1, 2)},
    ),
    Row(
        "concat",
        (Operand((2, 3)), weight(2, 1), Operand((2, 2))),
        lambda a, b, c: [np.hstack([a, b, c])],
        {"axis": 1},
    ),
    Row("concat", (weight(2), weight(1)), lambda a, b: [np.hstack([a, b])], {"axis": 0}),
    Row(
        "gather",
        (Operand((2, 3)),),
        lambda x: [x @ np.eye(3)[[2, 0, 2, 1]].T],
        {"axis": 1, "indices": (2, 0, 2, 1)},
    ),
    Row(
        "take",
        (Operand((2, 3)),),
        lambda x: [np.array([[x[1, 2], x[0, 0]], [x[1, 0], x[1, 2]]])],
        {"indices": (5, 0, 3, 5), "shape": (2, 2)},
    ),
)
"""At least one row for every tensor operator that computes."""


def tensor_module() -> Module:
    """Every row, and so every tensor op."""
    o = Maker("tensor")
    for n, row in enumerate(ROWS):
        row.append(o, f"{AWKWARD} {n} " if n == 0 else f"r{n}.")
    return o.module


def secure_module() -> Module:
    """Every secure op."""
    o = Maker("secure")
    x = o(
        "input", name="x", owner="client", shape=(1, 2, 4, 4), frac=8, width=12, lo=-7.5e-20, hi=0.1
    )
    w = o("weight", name="w", owner="model", shape=(2, 2, 1, 1), frac=8, width=9)
    box: dict[str, Any] = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
    y = o("conv", x, w, width=22, **box)
    y = o("add", y, y, width=23)
    y = o("sub", y, y, width=24)
    y = o("cast", o("truncate", y, amount=8, ring=32, width=17), ring=64)
    y = o("truncate", o("shift_left", y, amount=3, width=20), amount=3, width=17, rounding="exact")
    y = o("select", o("negative", y), y, invert=True, width=17)
    y = o("clamp", y, lo=-256, hi=255, width=9)
    series: dict[str, Any] = {"cos": (3, -4), "sin": (0, 5), "coefficient_frac": 4}
    z = o("fourier", y, period=20, precision=6, constant=-7, multiplier=-3, error=0.25,
          ring=32, width=15, **series)  # fmt: skip
    o("reveal", z, name="turn", owner="client")
    y = o("pad", y, low=(0, 0, 1, 0), high=(0, 0, 0, 1), value=-256)
    y = o("slice", y, starts=(0, 0, 1, 0), limits=(1, 2, 5, 4), strides=(1, 1, 2, 2))
    y = o("concat", y, y, axis=1)
    y = o("reshape", o("transpose", y, perm=(0, 2, 3, 1)), shape=(4, 4))
    y = o("matmul", y, y, width=22)
    y = o("gather", o("mul", y, y, width=44), axis=1, indices=(3, 0, 0, 2))
    y = o("reduce_sum", o("scale", y, factor=-3, frac=2, width=46), axes=(0,), width=48)
    y = o("broadcast", y, shape=(2, 4, 4), dims=(1,))
    o("reveal", y, name="y", owner="client")
    o("reveal", o("from_bit", o("negative", y)), name="bit", owner="client")
    return o.module


def party_module() -> Module:
    """Every party op."""
    o = Maker("party")
    clear = o("input", name="x", shape=(3, 7), place="client")
    x = o("encode", clear, frac=12, lo=-1.5, hi=1e20)
    o("weight", name=AWKWARD, shape=(2,), place="model", ring=32)
    x = o("transfer", x, to="P0", step="share")
    r = o("draw_ring", key="P0+P1", stream=2**62, shape=(3, 7), place="P0")
    x = o("sub", o("add", x, r), o("mul", x, o("neg", r)))
    x = o("add_const", o("mul_const", x, value=-3), value=2**62)
    x = o("shift_right", o("shift_left", x, amount=3), amount=5)
    x = o("low_bits", o("cast", o("cast", x, ring=32)), count=40)
    p = o("draw_bits", key="P0+P2", stream=0, phase="setup", lanes=21, planes=1, place="P0")
    x = o("negate_if", p, o("mask_by", p, x))
    b = o("bit_slice", x, planes=6, shift=2)
    c = o("not", o("and", o("xor", b, b), b))
    tables = o("carry_tables", b, c, blocks=(4, 2))
    found = o("lookup", tables, b, blocks=(4, 2))
    q = o("anf", found, terms=(((0,), (1, 2)), ((2,),)))
    q = o("join", o("planes", q, indices=(1, 0)), p)
    back = o("from_bits", q, shape=(3, 7))
    body = Function("body", [BitsType(21, 6, "P0"), BitsType(21, 6, "P0")])
    inner = body.append(o.dialect.operations["party.xor"], body.args, {}, "inside")
    flipped = body.append(o.dialect.operations["party.not"], body.args[:1])
    body.returns = [inner.result, flipped.result]
    o("fused", b, c, body=body)
    y = o("reshape", back, shape=(1, 3, 7, 1))
    y = o("transpose", y, perm=(0, 2, 1, 3))
    y = o("broadcast", y, shape=(1, 7, 3, 2), dims=(0, 1, 2, 3))
    y = o("pad", y, low=(0, 0, 0, 1), high=(0, 0, 1, 0), value=-7)
    y = o("slice", y, starts=(0, 0, 1, 0), limits=(1, 6, 4, 3), strides=(1, 1, 2, 1))
    y = o("concat", y, y, axis=0)
    w = o("draw_ring", key="P0+P1", stream=1, shape=(2, 3, 1, 1), place="P0")
    y = o("conv", y, w, y, w, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), groups=2)
    y = o("reshape", y, shape=(4, 6))
    z = o("transpose", y, perm=(1, 0))
    y = o("matmul", y, z, y, z)
    y = o("reduce_sum", o("gather", y, axis=1, indices=(1, 1, 0)), axes=(0,))
    angle: dict[str, Any] = {"period": 20, "multiplier": 3, "precision": 6}
    m = o("harmonics", y, first=1, rows=2, ring=32, **angle)
    o("fourier", y, m, cos=(3,), sin=(-4,), coefficient_frac=4, **angle)
    y = o("transfer", y, to="client", step="reveal")
    o("output", o("decode", y, frac=12), name="y")
    return o.module


SAMPLES = {"tensor": tensor_module, "secure": secure_module, "party": party_module}
