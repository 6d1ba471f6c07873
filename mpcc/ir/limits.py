"""Limits of party programs: one table for inference, emission, and both readers.

No program of use comes near them. They bound what a hostile file can make a reader allocate, and
products of a few of them stay below 2^63, so the engine's sizes never overflow. The engine includes
the same numbers from ``runtime_native/kernels/limits.inc``, which
:mod:`mpcc.emit.native_table` writes.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "LIMITS",
    "MAX_ATTR_BYTES",
    "MAX_BLOCKS",
    "MAX_BUFFER_BYTES",
    "MAX_CONV_SIZE",
    "MAX_ELEMENTS",
    "MAX_FRACTION",
    "MAX_HARMONICS",
    "MAX_ITEMS",
    "MAX_LIST",
    "MAX_NESTING",
    "MAX_OPS",
    "MAX_PLANES",
    "MAX_PROGRAM_BYTES",
    "MAX_RANK",
    "Limit",
]


@dataclass(frozen=True)
class Limit:
    """One row: the largest value allowed, and of what."""

    value: int
    what: str


LIMITS = {
    "MAX_PROGRAM_BYTES": Limit(1 << 26, "bytes of a program"),
    "MAX_OPS": Limit(1 << 20, "ops of a program, bodies counted at every use"),
    "MAX_ITEMS": Limit(1 << 22, "items of a program, bodies counted at every use"),
    "MAX_ATTR_BYTES": Limit(1 << 20, "bytes of one string"),
    "MAX_LIST": Limit(1 << 16, "items of one list; operands, results of one op"),
    "MAX_NESTING": Limit(16, "lists around an item of a nested attribute"),
    "MAX_RANK": Limit(8, "axes of a tensor"),
    "MAX_ELEMENTS": Limit(1 << 40, "elements of a tensor (its empty axes aside), lanes of bits"),
    "MAX_PLANES": Limit(1 << 16, "planes of bits"),
    "MAX_BUFFER_BYTES": Limit(1 << 40, "bytes of a value"),
    "MAX_BLOCKS": Limit(64, "blocks of a carry table"),
    "MAX_FRACTION": Limit(512, "fraction bits of an input or output"),
    "MAX_HARMONICS": Limit(128, "harmonics of a function"),
    "MAX_CONV_SIZE": Limit(1 << 24, "an axis, stride, dilation, pad or group count of a conv"),
}
"""All limits by name, in the order in which tables show them."""

MAX_PROGRAM_BYTES = LIMITS["MAX_PROGRAM_BYTES"].value
MAX_OPS = LIMITS["MAX_OPS"].value
MAX_ITEMS = LIMITS["MAX_ITEMS"].value
MAX_ATTR_BYTES = LIMITS["MAX_ATTR_BYTES"].value
MAX_LIST = LIMITS["MAX_LIST"].value
MAX_NESTING = LIMITS["MAX_NESTING"].value
MAX_RANK = LIMITS["MAX_RANK"].value
MAX_ELEMENTS = LIMITS["MAX_ELEMENTS"].value
MAX_PLANES = LIMITS["MAX_PLANES"].value
MAX_BUFFER_BYTES = LIMITS["MAX_BUFFER_BYTES"].value
MAX_BLOCKS = LIMITS["MAX_BLOCKS"].value
MAX_FRACTION = LIMITS["MAX_FRACTION"].value
MAX_HARMONICS = LIMITS["MAX_HARMONICS"].value
MAX_CONV_SIZE = LIMITS["MAX_CONV_SIZE"].value
