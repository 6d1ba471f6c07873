"""What the bytes of a program would unfold to, counted before anything is unfolded.

A list of empty strings takes two bytes per item in a file, less than a hundredth of that when it is
packed, and a hundred bytes in memory. So both readers count *items* first and refuse a program that
has too many (``MAX_ITEMS``): nodes, functions, inputs, attributes, items of lists, arguments and
results, and in a string that begins with ``[`` (a nested attribute) every ``,`` and ``[``. The
engine counts the same in ``runtime_native/graph/graphdef.cc``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Items", "count_items"]


@dataclass(frozen=True)
class _Message:
    """Fields of a message: those that count, and those to look into."""

    counted: frozenset[int] = frozenset()
    inside: dict[int, _Message] = field(default_factory=dict)
    packed: int = 0
    text: int = 0


# Numbers as in mpcc.emit.schema.
_LIST = _Message(counted=frozenset({2, 3}), packed=3)
_ATTR = _Message(inside={1: _LIST}, text=2)
_NODE = _Message(counted=frozenset({3, 5}), inside={5: _Message(inside={2: _ATTR})})
_SIGNATURE = _Message(counted=frozenset({2, 3}))
_FUNCTION = _Message(counted=frozenset({3, 4}), inside={1: _SIGNATURE, 3: _NODE})
_LIBRARY = _Message(counted=frozenset({1}), inside={1: _FUNCTION})
_GRAPH = _Message(counted=frozenset({1}), inside={1: _NODE, 2: _LIBRARY})

_CONTINUED = bytes(range(128, 256))
"""Bytes of a number that are not its last."""


@dataclass
class Items:
    """The count of a program's items.

    Attributes:
        total: of the bytes, bodies once; counting stops somewhere above the limit.
        functions: of each function of the library, in order.
    """

    total: int = 0
    functions: list[int] = field(default_factory=list)


class _TooManyError(Exception):
    pass


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _walk(data: bytes, at: int, end: int, message: _Message, items: Items, most: int) -> None:
    while at < end:
        key, at = _varint(data, at) if data[at] >= 0x80 else (data[at], at + 1)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError("a field without a number")
        if wire == 0:
            _, at = _varint(data, at)
        elif wire == 1:
            at += 8
        elif wire == 5:
            at += 4
        elif wire != 2:
            raise ValueError("a field of an unknown kind")
        else:
            size, at = _varint(data, at) if data[at] >= 0x80 else (data[at], at + 1)
            start, at = at, at + size
            if at > end:
                raise ValueError("a field beyond its message")
            if number == message.packed:
                items.total += len(data[start:at].translate(None, _CONTINUED)) - 1
            elif number == message.text and data[start : start + 1] == b"[":
                items.total += data.count(b",", start, at) + data.count(b"[", start, at)
        items.total += number in message.counted
        if items.total > most:
            raise _TooManyError
        inner = message.inside.get(number)
        if wire == 2 and inner is not None:
            before = items.total
            _walk(data, start, at, inner, items, most)
            if inner is _FUNCTION:
                items.functions.append(items.total - before)
    if at > end:
        raise ValueError("a field beyond its message")


def count_items(data: bytes, most: int) -> Items:
    """Count the items of a serialised GraphDef; nothing is kept of it.

    Args:
        data: the bytes, of any origin.
        most: counting stops above it, so that the time is bounded as well.

    Raises:
        ValueError: not the encoding of any message.
    """
    items = Items()
    try:
        _walk(data, 0, len(data), _GRAPH, items, most)
    except _TooManyError:
        pass
    except IndexError:
        raise ValueError("it ends within a number") from None
    return items
