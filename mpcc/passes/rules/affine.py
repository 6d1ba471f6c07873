"""Rules that move constant factors and summands into the weights of a neighbouring product.

They only write ops on constants; fold-constants hands those to the owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpcc.ir.core import Op, Value
from mpcc.ir.ops import tensor
from mpcc.ir.rewrite import Rewriter, Rule
from mpcc.ir.types import Shape, TensorType

__all__ = [
    "RULES",
    "DropUnitScale",
    "FactorAfterProduct",
    "FactorBeforeProduct",
    "MergeFactors",
    "SummandAfterProduct",
]

_LAYERS = (tensor.Conv.name, tensor.ConvTranspose.name)
_PRODUCTS = (*_LAYERS, tensor.MatMul.name)
_FACTORS = (tensor.Mul.name, tensor.Scale.name)
_HOMOGENEOUS = (
    tensor.Reshape.name,
    tensor.Transpose.name,
    tensor.Slice.name,
    tensor.Gather.name,
    tensor.Take.name,
    tensor.Broadcast.name,
    tensor.SumPool.name,
    tensor.ReduceSum.name,
    tensor.CumSum.name,
)
"""Of one operand; a common factor of all elements comes out of them as it went in."""


def is_constant(value: Value) -> bool:
    """Whether the value is computed of weights alone, all of one owner."""
    op, type_ = value.op, value.type
    if op is None or not isinstance(type_, TensorType):
        return False
    if type_.visibility not in ("model", "public"):
        return False
    return op.definition is tensor.Weight or (
        bool(op.operands) and all(is_constant(v) for v in op.operands)
    )


def _shape(value: Value) -> Shape:
    assert isinstance(value.type, TensorType)
    return value.type.shape


def _size(shape: Shape) -> int:
    size = 1
    for d in shape:
        size *= d
    return size


@dataclass(frozen=True)
class _Factor:
    """A multiplication by a constant.

    Attributes:
        x: what is multiplied.
        number: the factor, if it is one public number.
        array: the factor otherwise; it broadcasts to the shape of x.
    """

    x: Value
    number: float = 0.0
    array: Value | None = None

    @classmethod
    def of(cls, op: Op | None) -> _Factor | None:
        """What an op multiplies; None if it does something else."""
        if op is None:
            return None
        if op.name == tensor.Scale.name:
            return cls(op.operands[0], op.attrs["factor"])
        if op.name == tensor.Mul.name:
            for x, array in (op.operands, op.operands[::-1]):
                if is_constant(array) and not is_constant(x) and _shape(x) == _shape(op.result):
                    return cls(x, array=array)
        return None

    @property
    def common(self) -> bool:
        """Whether all elements have one factor."""
        return self.array is None or _size(_shape(self.array)) == 1

    def along(self, axis: int, rank: int) -> bool:
        """Whether the factor depends on the index along one axis of x alone, if on any."""
        if self.array is None:
            return True
        shape = _shape(self.array)
        return all(d == 1 or rank - len(shape) + i == axis for i, d in enumerate(shape))

    def times(self, rewriter: Rewriter, x: Value, shape: Shape, loc: str) -> Value:
        """A value times the factor, whose elements are put into a shape if there are several."""
        if self.array is None:
            return rewriter.insert(tensor.Scale, [x], {"factor": self.number}, loc)
        shape = (1,) * len(shape) if self.common else shape
        array = rewriter.insert(tensor.Reshape, [self.array], {"shape": shape}, loc)
        return rewriter.insert(tensor.Mul, [x, array], {}, loc)


def _behind(value: Value) -> tuple[list[Op], Value]:
    """Homogeneous ops that lead to ``value``, last first, and what goes into them."""
    chain: list[Op] = []
    while value.op is not None and value.op.name in _HOMOGENEOUS:
        chain.append(value.op)
        value = value.op.operands[0]
    return chain, value


def _shared(ops: Sequence[Op], user: Op, rewriter: Rewriter) -> str:
    """Says which of the ops, each used by the one before it, something else uses too, if any."""
    for op in ops:
        if not rewriter.only_user(op.result, user):
            return f"{op.name} has other users"
        user = op
    return ""


def _replay(ops: Sequence[Op], x: Value, rewriter: Rewriter) -> Value:
    for op in reversed(ops):
        x = rewriter.insert(op.definition, [x], op.attrs, op.loc)
    return x


def _scaled_weight(op: Op, factor: _Factor, side: str, rewriter: Rewriter) -> Value:
    """The constant operand of a layer times a factor per channel of its result or operand."""
    w = op.operands[1]
    if factor.common:
        return factor.times(rewriter, w, _shape(w), op.loc)
    shape, groups = _shape(w), op.attrs["groups"]
    ones = (1,) * (len(shape) - 2)
    # Axis 0 of w is divided into groups; whose channels it has depends on the operator.
    outer = (side == "result") == (op.name == tensor.Conv.name)
    rows, columns = shape[0] // groups, shape[1]
    split = (groups, rows, columns, *shape[2:])
    spread = (groups, rows, 1, *ones) if outer else (groups, 1, columns, *ones)
    w = rewriter.insert(tensor.Reshape, [w], {"shape": split}, op.loc)
    w = factor.times(rewriter, w, spread, op.loc)
    return rewriter.insert(tensor.Reshape, [w], {"shape": shape}, op.loc)


@dataclass(frozen=True)
class _AfterProduct:
    product: Op
    chain: list[Op]
    factor: _Factor


class FactorAfterProduct(Rule[_AfterProduct]):
    """Product(x, w) * c = product(x, w * c), with the bias times c.

    It saves the factor's truncation. A factor per output channel or column goes into the weights
    directly behind the product; a common one also from behind ops that move or sum elements.
    """

    name = "factor-after-product"
    anchors: ClassVar[tuple[str, ...]] = _FACTORS

    def match(self, op: Op) -> _AfterProduct | None:
        """A factor of a product with a constant, perhaps with homogeneous ops between."""
        factor = _Factor.of(op)
        if factor is None:
            return None
        chain, source = _behind(factor.x)
        product = source.op
        if product is None or product.name not in _PRODUCTS:
            return None
        if not any(is_constant(v) for v in product.operands[:2]):
            return None
        return _AfterProduct(product, chain, factor)

    def check(self, op: Op, match: _AfterProduct, rewriter: Rewriter) -> str:
        """The factor must fit the weights, and nobody else may need the product without it."""
        product, factor = match.product, match.factor
        shared = _shared((*match.chain, product), op, rewriter)
        if shared:
            return shared
        if _weight_index(product) is None or not all(map(is_constant, product.operands[2:])):
            return "the kernel or the bias is no constant"
        if factor.common:
            return ""
        if match.chain:
            return "the factor differs between elements that are moved or summed before"
        rank = len(_shape(product.result))
        if product.name in _LAYERS:
            return "" if factor.along(1, rank) else "the factor is not one per channel"
        index = _weight_index(product)
        if not factor.along(rank - 1 if index == 1 else rank - 2, rank):
            return "the factor is not one per row or column of the weights"
        return ""

    def rewrite(self, op: Op, match: _AfterProduct, rewriter: Rewriter) -> None:
        """Scale weights and bias."""
        product, factor = match.product, match.factor
        operands = list(product.operands)
        index = _weight_index(product)
        assert index is not None
        w = operands[index]
        if product.name in _LAYERS:
            operands[1] = _scaled_weight(product, factor, "result", rewriter)
            if len(operands) == 3:
                bias = operands[2]
                operands[2] = factor.times(rewriter, bias, _shape(bias), op.loc)
        else:
            count = _shape(w)[-1 if index == 1 else -2]
            shape = (1, count) if index == 1 else (count, 1)
            operands[index] = factor.times(rewriter, w, shape, op.loc)
        new = rewriter.insert(product.definition, operands, product.attrs, product.loc)
        rewriter.replace(op.result, _replay(match.chain, new, rewriter))


def _weight_index(product: Op) -> int | None:
    """Which factor of a product is constant; for a layer it is the kernel."""
    if product.name in _LAYERS:
        return 1 if is_constant(product.operands[1]) else None
    for i in (1, 0):
        if is_constant(product.operands[i]):
            return i
    return None


class FactorBeforeProduct(Rule[tuple[list[Op], _Factor, Op]]):
    """Product(x * c, w) = product(x, w * c).

    A factor per input channel goes into the kernel of a layer, whose padding is zero; a common one
    also from before ops that move or sum elements.
    """

    name = "factor-before-product"
    anchors: ClassVar[tuple[str, ...]] = _PRODUCTS

    def _side(self, op: Op) -> tuple[int, int] | None:
        index = _weight_index(op)
        return None if index is None else (1 - index, index)

    def match(self, op: Op) -> tuple[list[Op], _Factor, Op] | None:
        """A product with a constant of a factor, perhaps with homogeneous ops between."""
        side = self._side(op)
        if side is None:
            return None
        chain, value = _behind(op.operands[side[0]])
        factor = _Factor.of(value.op)
        if factor is None or value.op is None:
            return None
        return chain, factor, value.op

    def check(self, op: Op, match: tuple[list[Op], _Factor, Op], rewriter: Rewriter) -> str:
        """Nobody else may need the factor's result, and it must fit the weights."""
        chain, factor, source = match
        shared = _shared((*chain, source), op, rewriter)
        if shared or factor.common:
            return shared
        if chain:
            return "the factor differs between elements that are moved or summed after it"
        rank = len(_shape(factor.x))
        if op.name in _LAYERS:
            return "" if factor.along(1, rank) else "the factor is not one per channel"
        index = _weight_index(op)
        if not factor.along(rank - 1 if index == 1 else rank - 2, rank):
            return "the factor is not one per row or column of the weights"
        return ""

    def rewrite(self, op: Op, match: tuple[list[Op], _Factor, Op], rewriter: Rewriter) -> None:
        """Scale the weights."""
        chain, factor, _ = match
        side = self._side(op)
        assert side is not None
        data, index = side
        operands = list(op.operands)
        w = operands[index]
        if op.name in _LAYERS:
            operands[1] = _scaled_weight(op, factor, "operand", rewriter)
        else:
            count = _shape(w)[-2 if index == 1 else -1]
            shape = (count, 1) if index == 1 else (1, count)
            operands[index] = factor.times(rewriter, w, shape, op.loc)
        operands[data] = _replay(chain, factor.x, rewriter)
        new = rewriter.insert(op.definition, operands, op.attrs, op.loc)
        rewriter.replace(op.result, new)


class SummandAfterProduct(Rule[tuple[Op, Value, bool]]):
    """layer(x, w, b) + c = layer(x, w, b + c) for one summand per channel; so for a difference.

    It saves nothing by itself, but a factor that follows can go on into the weights.
    """

    name = "summand-after-product"
    anchors: ClassVar[tuple[str, ...]] = (tensor.Add.name, tensor.Sub.name)

    def match(self, op: Op) -> tuple[Op, Value, bool] | None:
        """A layer and a constant with one element per channel."""
        pairs = [tuple(op.operands)]
        if op.name == tensor.Add.name:
            pairs.append((op.operands[1], op.operands[0]))
        for x, c in pairs:
            if x.op is None or x.op.name not in _LAYERS or not is_constant(c):
                continue
            if _shape(x) == _shape(op.result) and _Factor(x, array=c).along(1, len(_shape(x))):
                return x.op, c, op.name == tensor.Sub.name
        return None

    def check(self, op: Op, match: tuple[Op, Value, bool], rewriter: Rewriter) -> str:
        """The layer must vanish."""
        layer, _, _ = match
        if not rewriter.only_user(layer.result, op):
            return f"{layer.name} has other users"
        if len(layer.operands) == 3 and not is_constant(layer.operands[2]):
            return "the bias is no constant"
        return ""

    def rewrite(self, op: Op, match: tuple[Op, Value, bool], rewriter: Rewriter) -> None:
        """A layer with another bias."""
        layer, c, negative = match
        channels = _shape(layer.result)[1]
        one = _size(_shape(c)) == 1
        c = rewriter.insert(tensor.Reshape, [c], {"shape": (1 if one else channels,)}, op.loc)
        if negative:
            c = rewriter.insert(tensor.Scale, [c], {"factor": -1.0}, op.loc)
        if len(layer.operands) == 3:
            c = rewriter.insert(tensor.Add, [layer.operands[2], c], {}, op.loc)
        elif one:
            c = rewriter.insert(tensor.Broadcast, [c], {"shape": (channels,)}, op.loc)
        operands = [*layer.operands[:2], c]
        new = rewriter.insert(layer.definition, operands, layer.attrs, layer.loc)
        rewriter.replace(op.result, new)


class MergeFactors(Rule[tuple[_Factor, _Factor]]):
    """(x * c) * d = x * (c * d): one truncation less."""

    name = "merge-factors"
    anchors: ClassVar[tuple[str, ...]] = _FACTORS

    def match(self, op: Op) -> tuple[_Factor, _Factor] | None:
        """A factor of a factor."""
        outer = _Factor.of(op)
        inner = None if outer is None else _Factor.of(outer.x.op)
        return None if outer is None or inner is None else (outer, inner)

    def check(self, op: Op, match: tuple[_Factor, _Factor], rewriter: Rewriter) -> str:
        """The inner product must vanish."""
        outer, _ = match
        return "" if rewriter.only_user(outer.x, op) else "the inner factor has other users"

    def rewrite(self, op: Op, match: tuple[_Factor, _Factor], rewriter: Rewriter) -> None:
        """The product of both factors, numbers or arrays."""
        outer, inner = match
        if outer.array is None and inner.array is None:
            factor = {"factor": outer.number * inner.number}
            new = rewriter.insert(tensor.Scale, [inner.x], factor, op.loc)
        else:
            if outer.array is None or inner.array is None:
                array = outer.array if inner.array is None else inner.array
                assert array is not None
                number = outer.number if outer.array is None else inner.number
                both = rewriter.insert(tensor.Scale, [array], {"factor": number}, op.loc)
            else:
                both = rewriter.insert(tensor.Mul, [inner.array, outer.array], {}, op.loc)
            new = rewriter.insert(tensor.Mul, [inner.x, both], {}, op.loc)
        rewriter.replace(op.result, new)


class DropUnitScale(Rule[bool]):
    """x * 1 = x."""

    name = "drop-unit-scale"
    anchors: ClassVar[tuple[str, ...]] = (tensor.Scale.name,)

    def match(self, op: Op) -> bool | None:
        """A factor of one."""
        return True if op.attrs["factor"] == 1.0 else None

    def rewrite(self, op: Op, match: bool, rewriter: Rewriter) -> None:
        """Use the operand."""
        rewriter.replace(op.result, op.operands[0])


RULES: Sequence[Rule[Any]] = (
    DropUnitScale(),
    MergeFactors(),
    FactorAfterProduct(),
    SummandAfterProduct(),
    FactorBeforeProduct(),
)
"""In the order in which they are tried."""
