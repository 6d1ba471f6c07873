"""Pieces of protobuf's wire format, for what the message classes cannot write."""

from __future__ import annotations

__all__ = ["field_bytes", "varint"]


def varint(number: int) -> bytes:
    """A number of 0 or more, seven bits a byte, the low ones first."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field_bytes(number: int, data: bytes) -> bytes:
    """A length-delimited field of a message: a string, a message or a packed list."""
    return varint(number << 3 | 2) + varint(len(data)) + data
