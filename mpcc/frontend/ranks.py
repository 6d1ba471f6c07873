"""Functions of data with as many axes as a program can have.

Functions are computed for several digits, or several candidates, of each element at once, along an
axis of their own. So data that leave no axis for it are reshaped before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mpcc.ir.define import Attributes, Operation
from mpcc.ir.limits import MAX_RANK
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape, element_count

__all__ = ["Folded", "folded"]

_ELEMENTWISE = frozenset(
    (tensor.Atan, tensor.Cos, tensor.Div, tensor.Elu, tensor.Erf, tensor.Exp, tensor.Gelu)
    + (tensor.Log, tensor.Mish, tensor.Reciprocal, tensor.Rsqrt, tensor.Sigmoid, tensor.Silu)
    + (tensor.Sin, tensor.Softplus, tensor.Sqrt, tensor.Tanh)
)

_ALONG = frozenset((tensor.LogSoftmax, tensor.Softmax))


@dataclass(frozen=True)
class Folded:
    """How an op takes data with fewer axes.

    Attributes:
        wide: shape to which all operands are broadcast, which is that of the result.
        shape: with fewer axes.
        attrs: of the op on this shape.
    """

    wide: Shape
    shape: Shape
    attrs: Attributes


def folded(definition: type[Operation], shape: Shape, attrs: Attributes) -> Folded | None:
    """The form of an op with fewer axes; None if it can stay, or if it has none.

    Args:
        definition: of the tensor level.
        shape: of its result.
        attrs: its attributes.
    """
    if len(shape) < MAX_RANK:
        return None
    if definition in _ELEMENTWISE:
        return Folded(shape, (element_count(shape),), attrs)
    if definition in _ALONG:
        found, _ = _merged(shape, [attrs["axis"]])
        at = 1 if attrs["axis"] else 0
        return Folded(shape, found, {**attrs, "axis": at})
    if definition is tensor.Normalize:
        found, axes = _merged(shape, attrs["axes"])
        if len(found) < MAX_RANK:
            return Folded(shape, found, {**attrs, "axes": axes})
    return None


def _merged(shape: Shape, axes: Sequence[int]) -> tuple[Shape, tuple[int, ...]]:
    """The shape with neighbours in one that are both among the axes, or both not; and the axes."""
    groups = [
        (inside, list(group)) for inside, group in groupby(range(len(shape)), axes.__contains__)
    ]
    merged = tuple(element_count(tuple(shape[i] for i in group)) for _, group in groups)
    return merged, tuple(i for i, (inside, _) in enumerate(groups) if inside)
