"""Sources and outputs of the tensor level: the interface of a model."""

from __future__ import annotations

from collections.abc import Sequence

from mpcc.ir.define import Attr, Attributes, Operation, fail
from mpcc.ir.ops.tensor.base import SHAPE_ATTR, Kind, TensorOperation, positive_shape, real
from mpcc.ir.types import OWNER_PLACES, TensorType, Type

__all__ = ["Input", "Output", "Weight"]


def _check_owner(cls: type[Operation], owner: str, *allowed: str) -> str:
    if owner not in allowed:
        raise fail(cls, f"owner must be {' or '.join(allowed)}, not {owner!r}")
    return owner


class Input(TensorOperation):
    """A graph input that its owner provides for every run."""

    name = "tensor.input"
    kind = Kind.SOURCE
    attributes = {
        "name": Attr("str", "input name"),
        "shape": SHAPE_ATTR,
        "dtype": Attr("str", "f32 or f64", "f32"),
        "owner": Attr("str", "client, model or public", "client"),
        "whole": Attr("bool", "whether its elements are whole numbers", False),
        "bounds": Attr("ints", "smallest and largest of the elements, where the model says so", ()),
    }
    # Inputs are the program's interface: they stay even where the model ignores them.
    side_effect = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        owner = _check_owner(cls, attrs["owner"], *OWNER_PLACES, "public")
        bounds = attrs["bounds"]
        if bounds and (len(bounds) != 2 or bounds[0] > bounds[1]):
            raise fail(cls, f"bounds are two numbers in their order, not {bounds}")
        type_ = TensorType(positive_shape(cls, attrs["shape"]), attrs["dtype"], owner)
        return (real(cls, type_),)


class Weight(TensorOperation):
    """A constant of the model, kept by its owner under ``name``."""

    name = "tensor.weight"
    kind = Kind.SOURCE
    attributes = {
        "name": Attr("str", "name in the owner's constants"),
        "shape": SHAPE_ATTR,
        "owner": Attr("str", "model or public", "model"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        owner = _check_owner(cls, attrs["owner"], "model", "public")
        return (TensorType(positive_shape(cls, attrs["shape"]), "f32", owner),)


class Output(TensorOperation):
    """Hands a value to its owner under ``name``: the only place where something is revealed.

    Numbers, truth values (as 0 and 1) or positions.
    """

    name = "tensor.output"
    kind = Kind.OUTPUT
    operands = ("x",)
    attributes = {
        "name": Attr("str", "output name"),
        "owner": Attr("str", "client or model", "client"),
    }
    side_effect = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        if not isinstance(types[0], TensorType):
            raise fail(cls, f"needs a tensor, not {types[0]}")
        _check_owner(cls, attrs["owner"], *OWNER_PLACES)
        return ()


OPERATIONS = (Input, Weight, Output)
"""In the order of the dialect."""
