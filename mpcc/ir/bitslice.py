"""The bit-sliced layout of :class:`mpcc.ir.types.BitsType` buffers, in numpy.

A buffer of n lanes and w planes is a flat uint8 array (layout: see BitsType). The functions here
view it as a plane-major array of shape [w, B] where B = ceil-bytes of all blocks in order, on which
bitwise operations act plane by plane.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mpcc.ir.types import BLOCK_LANES, bits_bytes

__all__ = ["from_words", "pack_planes", "plane_bytes", "to_words", "unpack_planes"]

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

_BLOCK = BLOCK_LANES // 8


def plane_bytes(lanes: int) -> int:
    """Bytes of one plane over all blocks."""
    return bits_bytes(lanes, 1)


def unpack_planes(buffer: Bytes, lanes: int, planes: int) -> Bytes:
    """Flat buffer -> plane-major bytes [planes, plane_bytes(lanes)].

    Raises:
        ValueError: the buffer has not bits_bytes(lanes, planes) bytes.
    """
    if buffer.size != bits_bytes(lanes, planes):
        raise ValueError(f"{buffer.size} bytes do not hold {lanes} lanes of {planes} bits")
    full = max(lanes - 1, 0) // BLOCK_LANES
    head = buffer[: full * planes * _BLOCK].reshape(full, planes, _BLOCK)
    tail = buffer[full * planes * _BLOCK :].reshape(planes, -1)
    body = head.transpose(1, 0, 2).reshape(planes, full * _BLOCK)
    return np.concatenate([body, tail], axis=1)


def pack_planes(rows: Bytes, lanes: int) -> Bytes:
    """Plane-major bytes [planes, plane_bytes(lanes)] -> flat buffer."""
    planes = rows.shape[0]
    full = max(lanes - 1, 0) // BLOCK_LANES
    head = rows[:, : full * _BLOCK].reshape(planes, full, _BLOCK).transpose(1, 0, 2)
    return np.concatenate([head.reshape(-1), rows[:, full * _BLOCK :].reshape(-1)])


def from_words(words: Words, planes: int, shift: int = 0) -> Bytes:
    """Bit-slice: plane p of lane i is bit ``shift + p`` of ``words[i]``; padding bits are zero.

    Args:
        words: flat unsigned words, shape [lanes].
        planes: number of planes, shift + planes at most the word size.
    """
    lanes = words.size
    rows = np.zeros((planes, plane_bytes(lanes)), np.uint8)
    for p in range(planes):
        bit = ((words >> words.dtype.type(shift + p)) & words.dtype.type(1)).astype(np.uint8)
        rows[p] = np.packbits(bit, bitorder="little")
    return pack_planes(rows, lanes)


def to_words(buffer: Bytes, lanes: int, planes: int, dtype: npt.DTypeLike = np.uint64) -> Words:
    """Inverse of :func:`from_words` with shift 0: lane i is the integer of its bits."""
    rows = unpack_planes(buffer, lanes, planes)
    words = np.zeros(lanes, dtype)
    for p in range(planes):
        bit = np.unpackbits(rows[p], count=lanes, bitorder="little")
        words |= bit.astype(dtype) << words.dtype.type(p)
    return words
