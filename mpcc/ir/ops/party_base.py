"""Shared parts of the party-level declarations: type checks and the operator base class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mpcc.ir.define import Attr, Attributes, Operation, fail
from mpcc.ir.limits import MAX_BUFFER_BYTES, MAX_ELEMENTS, MAX_PLANES, MAX_RANK
from mpcc.ir.types import (
    PLACES,
    BitsType,
    ClearType,
    PartyType,
    RingType,
    Shape,
    Type,
    element_count,
)

__all__ = [
    "PHASES",
    "PLACE_ATTR",
    "RING_ATTR",
    "SHAPE_ATTR",
    "Array",
    "PartyOperation",
    "bits_result",
    "bits_type",
    "check_lanes",
    "checked_place",
    "checked_ring",
    "checked_shape",
    "clear_result",
    "fail",
    "lane_count",
    "ring_pairs",
    "ring_result",
    "ring_type",
    "same_types",
    "word_dtype",
]

Array = npt.NDArray[Any]

PHASES = ("setup", "online")
"""Phases of keys and ops: once per session, once per run."""

PLACE_ATTR = Attr("str", "place that runs the op")
SHAPE_ATTR = Attr("ints", "shape of the result")
RING_ATTR = Attr("int", "bits of a ring word, 32 or 64", 64)


def ring_type(cls: type[Operation], type_: Type) -> RingType:
    """The type, if it is a ring tensor."""
    if not isinstance(type_, RingType):
        raise fail(cls, f"needs a ring tensor, not {type_}")
    return type_


def bits_type(cls: type[Operation], type_: Type) -> BitsType:
    """The type, if it is bits."""
    if not isinstance(type_, BitsType):
        raise fail(cls, f"needs bits, not {type_}")
    return type_


def same_types(cls: type[Operation], types: Sequence[Type]) -> None:
    """Refuse operands of different types."""
    if any(t != types[0] for t in types):
        raise fail(cls, f"operands differ: {', '.join(map(str, types))}")


def ring_pairs(cls: type[Operation], types: Sequence[Type]) -> list[tuple[RingType, RingType]]:
    """The operands two by two: one pair at least, all of the same two types."""
    xs = [ring_type(cls, t) for t in types]
    if not xs or len(xs) % 2 or len({(x.ring, x.place) for x in xs}) != 1:
        raise fail(cls, "needs pairs of ring tensors of one ring at one place")
    pairs = list(zip(xs[0::2], xs[1::2], strict=True))
    same_types(cls, [a for a, _ in pairs])
    same_types(cls, [b for _, b in pairs])
    return pairs


def checked_place(cls: type[Operation], place: str) -> str:
    """The place, if it exists."""
    if place not in PLACES:
        raise fail(cls, f"unknown place {place!r}")
    return place


def checked_ring(cls: type[Operation], ring: int) -> int:
    """The ring size, if it is one of those offered."""
    if ring not in (32, 64):
        raise fail(cls, f"rings have 32 or 64 bits, not {ring}")
    return ring


def checked_shape(cls: type[Operation], shape: Shape) -> Shape:
    """The shape, if no dimension is negative and it is within the limits."""
    if len(shape) > MAX_RANK:
        raise fail(cls, f"a tensor has at most {MAX_RANK} axes, not {len(shape)}")
    if any(d < 0 for d in shape):
        raise fail(cls, f"negative dimension in {shape}")
    # An empty tensor is held to the limit of its other axes, so that strides stay small.
    if element_count(tuple(d for d in shape if d)) > MAX_ELEMENTS:
        raise fail(cls, f"a tensor has at most {MAX_ELEMENTS} elements, not the {shape} given")
    return shape


def _checked_bytes(cls: type[Operation], nbytes: int) -> None:
    if nbytes > MAX_BUFFER_BYTES:
        raise fail(cls, f"a value has at most {MAX_BUFFER_BYTES} bytes, not {nbytes}")


def ring_result(cls: type[Operation], shape: Shape, ring: int, place: str) -> RingType:
    """A ring tensor as a result; refused beyond the limits of :mod:`mpcc.ir.limits`."""
    result = RingType(checked_shape(cls, shape), checked_ring(cls, ring), checked_place(cls, place))
    _checked_bytes(cls, result.nbytes)
    return result


def clear_result(cls: type[Operation], shape: Shape, place: str) -> ClearType:
    """A clear tensor as a result; refused beyond the limits."""
    result = ClearType(checked_shape(cls, shape), checked_place(cls, place))
    _checked_bytes(cls, result.nbytes)
    return result


def bits_result(cls: type[Operation], lanes: int, planes: int, place: str) -> BitsType:
    """Bits as a result; refused beyond the limits."""
    if not 0 <= lanes <= MAX_ELEMENTS:
        raise fail(cls, f"lanes must be 0 to {MAX_ELEMENTS}, not {lanes}")
    if not 1 <= planes <= MAX_PLANES:
        raise fail(cls, f"planes must be 1 to {MAX_PLANES}, not {planes}")
    result = BitsType(lanes, planes, checked_place(cls, place))
    _checked_bytes(cls, result.nbytes)
    return result


def lane_count(type_: PartyType) -> int:
    """Lanes of bits, elements of a tensor."""
    return type_.lanes if isinstance(type_, BitsType) else element_count(type_.shape)


def check_lanes(cls: type[Operation], bits: BitsType, ring: RingType) -> None:
    """Refuse bits and a ring tensor that differ in lanes or place."""
    if bits.place != ring.place or bits.lanes != element_count(ring.shape):
        raise fail(cls, f"{bits} and {ring} have different lanes or places")


class PartyOperation(Operation):
    """A party-level operator with its numpy reference."""

    elementwise: ClassVar[bool] = False
    """Lane i of the results depends on lane i of the operands only, so it may stand in a region."""

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        """The result for operand buffers ``args``; types give shapes and layouts."""
        raise NotImplementedError(cls.name)


def word_dtype(ring: int) -> type[np.unsignedinteger[Any]]:
    """Numpy dtype of a ring word."""
    return np.uint64 if ring == 64 else np.uint32
