"""Reads FlatBuffers: tables of numbers, texts, lists and further tables.

A file is treated as hostile. Every position is checked before it is read, and since many offsets
may lead to the same bytes, what is read in all is bounded too. The format is
https://flatbuffers.dev/internals/: little endian, positions relative to where they stand, and per
table a list of where its fields are, 0 for those that have their default.
"""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Bytes", "MalformedError", "Table", "root"]

Bytes: TypeAlias = memoryview

_SIZES = {"b": 1, "B": 1, "?": 1, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}
"""Kinds of numbers, as ``struct`` calls them, and their bytes."""

_DTYPES = {"i": "<i4", "f": "<f4", "q": "<i8"}

_MORE = 1 << 20


class MalformedError(Exception):
    """The bytes are no FlatBuffer of the expected kind."""


class _File:
    """The bytes, and how many of them may still be read.

    Args:
        data: the whole file.
    """

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self._left = 4 * len(data) + _MORE

    def number(self, kind: str, at: int) -> int:
        """One number at a position."""
        self.take(at, _SIZES[kind])
        (found,) = struct.unpack_from(f"<{kind}", self.data, at)
        return int(found)

    def real(self, at: int) -> float:
        """A binary32 number at a position."""
        self.take(at, 4)
        (found,) = struct.unpack_from("<f", self.data, at)
        return float(found)

    def follow(self, at: int) -> int:
        """Where the offset at a position leads to."""
        return at + self.number("I", at)

    def take(self, at: int, count: int) -> memoryview:
        """So many bytes from a position on, without copying them.

        Raises:
            MalformedError: they are not in the file, or too much has been read.
        """
        if at < 0 or count < 0 or at + count > len(self.data):
            raise MalformedError(f"an offset leads behind the end, to byte {at + count}")
        self._left -= count
        if self._left < 0:
            raise MalformedError("its parts are referred to again and again")
        return self.data[at : at + count]

    def vector(self, at: int, size: int) -> tuple[int, int]:
        """Where a list's elements begin, and how many there are."""
        count = self.number("I", at)
        if at + 4 + count * size > len(self.data):
            raise MalformedError(f"a list of {count} elements leads behind the end")
        return at + 4, count


class Table:
    """A table of a file.

    Args:
        file: whose.
        at: its position.
    """

    def __init__(self, file: _File, at: int) -> None:
        self._file = file
        self._at = at
        fields = at - file.number("i", at)
        self._fields = fields
        self._size = file.number("H", fields)
        if self._size < 4:
            raise MalformedError("a table without a list of its fields")

    def _field(self, slot: int) -> int | None:
        """Position of a field; None if it has its default."""
        entry = 4 + 2 * slot
        if entry + 2 > self._size:
            return None
        offset = self._file.number("H", self._fields + entry)
        return self._at + offset if offset else None

    def integer(self, slot: int, kind: str = "i", default: int = 0) -> int:
        """A whole number; ``kind`` as ``struct`` calls it."""
        at = self._field(slot)
        return default if at is None else self._file.number(kind, at)

    def real(self, slot: int, default: float = 0.0) -> float:
        """A binary32 number."""
        at = self._field(slot)
        return default if at is None else self._file.real(at)

    def table(self, slot: int) -> Table | None:
        """A table; None if there is none."""
        at = self._field(slot)
        return None if at is None else Table(self._file, self._file.follow(at))

    def data(self, slot: int) -> Bytes | None:
        """A list of bytes, not copied; None if there is none."""
        at = self._field(slot)
        if at is None:
            return None
        begin, count = self._file.vector(self._file.follow(at), 1)
        return self._file.take(begin, count)

    def text(self, slot: int) -> str:
        """A text; empty if there is none."""
        found = self.data(slot)
        return "" if found is None else bytes(found).decode("utf-8", "replace")

    def numbers(self, slot: int, kind: str = "i") -> npt.NDArray[Any] | None:
        """A list of numbers; None if there is none."""
        at = self._field(slot)
        if at is None:
            return None
        begin, count = self._file.vector(self._file.follow(at), _SIZES[kind])
        given = self._file.take(begin, count * _SIZES[kind])
        return np.frombuffer(given, np.dtype(_DTYPES[kind]))

    def integers(self, slot: int) -> tuple[int, ...]:
        """A list of whole numbers of 32 bits; empty if there is none."""
        found = self.numbers(slot)
        return () if found is None else tuple(int(n) for n in found.tolist())

    def tables(self, slot: int) -> list[Table]:
        """A list of tables; empty if there is none."""
        at = self._field(slot)
        if at is None:
            return []
        begin, count = self._file.vector(self._file.follow(at), 4)
        return [Table(self._file, self._file.follow(begin + 4 * i)) for i in range(count)]

    def part(self, begin: int, count: int) -> Bytes:
        """Bytes of the file that lie outside of all tables."""
        return self._file.take(begin, count)


def root(data: bytes, identifier: bytes) -> Table:
    """The outermost table.

    Args:
        data: the file.
        identifier: four bytes that say of what kind it is.

    Raises:
        MalformedError: it is of another kind, or too short.
    """
    if len(data) < 8 or data[4:8] != identifier:
        raise MalformedError(f"its kind is not {identifier.decode()}")
    file = _File(data)
    return Table(file, file.follow(0))
