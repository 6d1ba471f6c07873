"""Shared parts of the tensor-level declarations: kinds, type checks and the operator base class."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mpcc.ir.define import Attr, Attributes, Operation, fail
from mpcc.ir.intervals import Enclosure, Interval, Rounding
from mpcc.ir.types import Shape, TensorType, Type, join_visibility

__all__ = [
    "PADS_ATTR",
    "SHAPE_ATTR",
    "STRIDES_ATTR",
    "Array",
    "Kind",
    "Largest",
    "Monotone",
    "TensorOperation",
    "positive_shape",
    "real",
    "reals",
    "result",
]

Array = npt.NDArray[Any]

SHAPE_ATTR = Attr("ints", "shape of the result")
STRIDES_ATTR = Attr("ints", "step per spatial axis")
PADS_ATTR = Attr("ints", "elements before every spatial axis, then after every one")


class Kind(enum.Enum):
    """How fixed point treats an operator: what it demands of its operands, what its results are.

    The analysis of forms (:mod:`mpcc.ir.analysis.forms`) and the lowering's driver read this and
    nothing else about an operator. Operands of dtype ``bool`` are bits at every kind; so are
    results of that dtype. Those of dtype ``i64`` are positions, whole numbers.
    """

    SOURCE = "source"
    """No operands; the result is an activation, or a constant that is encoded where it is used."""
    OUTPUT = "output"
    """Hands its operand to an owner, at the activations' fraction."""
    PRODUCT = "product"
    """Its leading ``factors`` operands are demanded as activations or constants and multiplied. The
    result has both fractions until somebody demands an activation. Further operands are added."""
    SUM = "sum"
    """Operands are broadcast together and brought to the largest of their fractions."""
    STRUCTURAL = "structural"
    """The results' elements are the operands' and public constants: form and fraction stay.
    A product beside an activation is demanded as one too; then several operands are brought to the
    largest of their fractions. Of constants alone it is a constant."""
    NONLINEAR = "nonlinear"
    """Operands are demanded as activations; results are activations, or bits."""
    FUNCTION = "function"
    """As NONLINEAR, but the results' sizes do not follow from the operands' widths: they have a
    range in Phi."""

    @property
    def ranged(self) -> bool:
        """Whether Phi has a range for the results; elsewhere it follows from the operands'."""
        return self in (Kind.SOURCE, Kind.PRODUCT, Kind.SUM, Kind.FUNCTION)

    @property
    def activates(self) -> bool:
        """Whether results that are numbers are activations, whatever the operands are."""
        return self in (Kind.NONLINEAR, Kind.FUNCTION)


class TensorOperation(Operation):
    """A tensor-level operator: kind, numpy reference, range rule."""

    kind: ClassVar[Kind]
    factors: ClassVar[int] = 2
    """Of a PRODUCT: how many leading operands are multiplied. With one, the other factor is a
    public constant that the lowering makes, encoded like a weight."""

    fine: ClassVar[bool] = False
    """Of a NONLINEAR or a FUNCTION: it takes products as they are, with their fraction bits, as a
    square root needs them of a sum of squares."""

    encodes: ClassVar[bool] = False
    """Of a NONLINEAR or a FUNCTION: its rule is given constants as they are at the tensor level,
    and encodes them itself, in a fraction and a ring that it chooses."""

    @classmethod
    def kind_of(cls, attrs: Attributes) -> Kind:
        """The kind of an op with these attributes."""
        return cls.kind

    @classmethod
    def made_fraction(cls, attrs: Attributes, weight_frac: int) -> int:
        """Fraction bits of the factor that the lowering makes for a PRODUCT with one factor."""
        return weight_frac

    @classmethod
    def evaluate(cls, attrs: Attributes, *args: Array) -> tuple[Array, ...]:
        """Results for operand arrays of the inferred shapes; sources and outputs have no rule.

        It computes in the dtype of the arrays that it is given.
        """
        raise NotImplementedError(cls.name)

    @classmethod
    def extra_bits(cls, attrs: Attributes, shape: Shape) -> int:
        """Bits by which the operator widens its operand, of this shape, on its way."""
        return 0

    @classmethod
    def sum_error(cls, attrs: Attributes, shape: Shape, rounding: Rounding) -> float | None:
        """Of results that sum up to one along the last axis and are not negative, but for errors.

        Returns:
            Bound of the sum of the errors' absolute values along that axis; None for others.
        """
        return None

    discontinuous: ClassVar[bool] = False
    """Whether results may jump where operands move a little; then it has :meth:`allows`."""

    @classmethod
    def allows(
        cls, attrs: Attributes, operands: Sequence[Array], jumps: Array, tolerance: float
    ) -> Array:
        """Where a result that jumps is right for operands within ``tolerance`` of these.

        Args:
            operands: arrays.
            jumps: such results, real numbers, of the last result's shape.
            tolerance: absolute.

        Returns:
            Booleans of that shape.
        """
        raise NotImplementedError(cls.name)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        """Bounds of the results for operands within bounds; sources and outputs have no rule.

        They hold for the fixed-point program too: where a result is rounded or a public constant
        encoded, they are widened by ``rounding``. Bits are 0 and 1.
        """
        raise NotImplementedError(cls.name)


class Monotone(TensorOperation):
    """An exact operator whose results never fall when an operand rises: moved elements, maxima."""

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        lows = cls.evaluate(attrs, *(x.lo for x in operands))
        highs = cls.evaluate(attrs, *(x.hi for x in operands))
        # Copies: results of moved elements may be views.
        pairs = zip(lows, highs, strict=True)
        return Enclosure(tuple(Interval(np.array(a), np.array(b)) for a, b in pairs))


class Largest(Monotone):
    """A maximum, whose comparisons may be coarse: one of the numbers, not quite the largest."""

    @classmethod
    def steps(cls, attrs: Attributes, operands: Sequence[Interval]) -> int:
        """Comparisons in a row that lead to a result, at most."""
        raise NotImplementedError(cls.name)

    @classmethod
    def interval(
        cls, attrs: Attributes, operands: Sequence[Interval], rounding: Rounding
    ) -> Enclosure:
        found = super().interval(attrs, operands, rounding)
        if not rounding.coarse:
            return found
        lower = rounding.coarse * cls.steps(attrs, operands)
        return Enclosure(tuple(Interval(x.lo - lower, x.hi) for x in found.results))


def real(cls: type[Operation], type_: Type) -> TensorType:
    """The type, if it is a tensor of real numbers."""
    if not isinstance(type_, TensorType):
        raise fail(cls, f"needs a tensor, not {type_}")
    if type_.dtype not in ("f32", "f64"):
        raise fail(cls, f"needs real numbers, not {type_}")
    return type_


def reals(cls: type[Operation], types: Sequence[Type]) -> list[TensorType]:
    """The types, if they are tensors of real numbers of one dtype."""
    tensors = [real(cls, t) for t in types]
    if any(t.dtype != tensors[0].dtype for t in tensors):
        raise fail(cls, f"operands of different dtypes: {', '.join(map(str, types))}")
    return tensors


def result(shape: Shape, *operands: TensorType, dtype: str = "") -> TensorType:
    """A result of the operands' joined visibility, and of the first one's dtype by default."""
    visibility = join_visibility(*(t.visibility for t in operands))
    return TensorType(shape, dtype or operands[0].dtype, visibility)


def positive_shape(cls: type[Operation], shape: Shape) -> Shape:
    """The shape, if no dimension is below 1."""
    if any(d < 1 for d in shape):
        raise fail(cls, f"dimensions must be positive, not {shape}")
    return shape
