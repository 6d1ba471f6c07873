"""Types of the three IR levels.

* tensor level: :class:`TensorType`, real-valued or integer tensors with a visibility;
* secure level: :class:`SecureType` (fixed point in Z_2^ring), :class:`BitType` (a bit per element);
* party level: :class:`RingType`, :class:`BitsType`, :class:`ClearType`: local buffers at a place.

All types are immutable, hashable and print to the text that the parser reads back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "BLOCK_LANES",
    "COMPUTE_PLACES",
    "OWNER_PLACES",
    "PLACES",
    "VISIBILITIES",
    "BitType",
    "BitsType",
    "ClearType",
    "PartyType",
    "RingType",
    "SecureType",
    "Shape",
    "TensorType",
    "Type",
    "bits_bytes",
    "element_count",
    "join_visibility",
    "nbytes_of",
    "place_of",
]

Shape: TypeAlias = tuple[int, ...]

COMPUTE_PLACES = ("P0", "P1", "P2")
OWNER_PLACES = ("client", "model")
PLACES = (*COMPUTE_PLACES, *OWNER_PLACES)

VISIBILITIES = ("public", "client", "model", "secret")
"""Who may know a value: everyone, its one owner, or nobody alone (it mixes owners)."""

BLOCK_LANES = 512
"""Lanes of one bit-sliced block: 64 bytes per plane, one cache line."""


def element_count(shape: Shape) -> int:
    """Number of elements of a tensor of this shape (1 for a scalar)."""
    return math.prod(shape)


def join_visibility(*visibilities: str) -> str:
    """Visibility of a value computed from values of these visibilities."""
    owners = {v for v in visibilities if v != "public"}
    if not owners:
        return "public"
    return owners.pop() if len(owners) == 1 else "secret"


def bits_bytes(lanes: int, planes: int) -> int:
    """Bytes of a bit-sliced buffer: full blocks of 64-byte planes, then a short last block.

    >>> bits_bytes(512, 3), bits_bytes(513, 3), bits_bytes(9, 5)
    (192, 195, 10)
    """
    if lanes == 0:
        return 0
    full = (lanes - 1) // BLOCK_LANES
    rest = lanes - full * BLOCK_LANES
    return planes * (full * (BLOCK_LANES // 8) + (rest + 7) // 8)


def _dims(shape: Shape) -> str:
    return "x".join(str(d) for d in shape)


@dataclass(frozen=True)
class TensorType:
    """A plaintext tensor: static shape, dtype (``f32``, ``f64``, ``i64``, ``bool``), visibility."""

    shape: Shape
    dtype: str = "f32"
    visibility: str = "secret"

    def __str__(self) -> str:
        dims = "x".join([*(str(d) for d in self.shape), self.dtype])
        return f"tensor<{dims}, {self.visibility}>"


@dataclass(frozen=True)
class SecureType:
    """A fixed-point tensor in Z_2^ring.

    The real value is ``raw / 2**frac``; ``width`` k certifies (or, under an observed range
    policy, assumes) ``|raw| < 2**k`` with ``k < ring``.
    """

    shape: Shape
    ring: int
    frac: int
    width: int
    visibility: str = "secret"

    def __str__(self) -> str:
        dims = _dims(self.shape) + ", " if self.shape else ""
        return f"secure<{dims}z{self.ring}, f{self.frac}, k{self.width}, {self.visibility}>"


@dataclass(frozen=True)
class BitType:
    """One secret bit per element of ``shape``."""

    shape: Shape
    visibility: str = "secret"

    def __str__(self) -> str:
        dims = _dims(self.shape) + ", " if self.shape else ""
        return f"bit<{dims}{self.visibility}>"


@dataclass(frozen=True)
class RingType:
    """A local ring tensor at a place: row-major words of ``ring`` bits, arithmetic mod 2^ring."""

    shape: Shape
    ring: int
    place: str

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer, and of a message that carries it."""
        return element_count(self.shape) * self.ring // 8

    def __str__(self) -> str:
        return f"ring{self.ring}<{_dims(self.shape)}>@{self.place}"


@dataclass(frozen=True)
class BitsType:
    """Local bit-sliced data at a place: ``lanes`` elements of ``planes`` bits.

    Layout: blocks of 512 lanes; per block ``planes`` planes of 64 bytes, lane i of the block in
    bit i % 8 of byte i // 8 of each plane; the last block has planes of ceil(rest / 8) bytes.
    """

    lanes: int
    planes: int
    place: str

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer, and of a message that carries it."""
        return bits_bytes(self.lanes, self.planes)

    def __str__(self) -> str:
        return f"bits<{self.lanes}x{self.planes}>@{self.place}"


@dataclass(frozen=True)
class ClearType:
    """A plaintext tensor at an owner's place, IEEE binary32."""

    shape: Shape
    place: str
    dtype: str = "f32"

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer, and of a message that carries it."""
        return 4 * element_count(self.shape)

    def __str__(self) -> str:
        dims = "x".join([*(str(d) for d in self.shape), self.dtype])
        return f"clear<{dims}>@{self.place}"


PartyType: TypeAlias = RingType | BitsType | ClearType
Type: TypeAlias = TensorType | SecureType | BitType | PartyType


def place_of(type_: Type) -> str:
    """The place of a party-level type; TypeError for a type that has none."""
    if isinstance(type_, RingType | BitsType | ClearType):
        return type_.place
    raise TypeError(f"{type_} has no place")


def nbytes_of(type_: Type) -> int:
    """Bytes of a party-level value, alone or as a message; TypeError for a type without a place."""
    if isinstance(type_, RingType | BitsType | ClearType):
        return type_.nbytes
    raise TypeError(f"{type_} is no buffer")
