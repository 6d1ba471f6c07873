"""Local work of party operations, in units whose times are measured per processor.

A unit is what a kernel does many times, such as a multiply-add in Z_2^64 or a byte of keystream.
What it takes is measured on the machine (:mod:`mpcc.cost.speed`); how many an operation has follows
from its types and attributes alone, so that a program's work is exact and its time an estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import TypeAlias

from mpcc.ir.core import Op, Value
from mpcc.ir.types import BitsType, RingType, nbytes_of

__all__ = ["UNITS", "Work", "parts_of", "work_of"]

Work: TypeAlias = dict[str, float]
"""Amount per unit; units that do not occur are left out."""

UNITS: Mapping[str, str] = {
    "op": "operation or fused region that is begun",
    "step": "operation inside a fused region",
    "word": "word that ring arithmetic writes",
    "plane": "byte that logic on bits writes",
    "transposed": "byte of words that become bits, or the reverse",
    "keystream": "byte of keystream",
    "monomial": "byte that a polynomial over GF(2), a table or its reading goes through",
    "copied": "byte that is moved, repeated or summed up",
    "product64": "multiply-add in Z_2^64",
    "product32": "multiply-add in Z_2^32",
    "operand": "byte of the operands and results of products",
    "harmonic": "harmonic of one number, computed or weighted",
    "message": "message that is handed over, by either side",
    "wake": "message that arrives, until who waits for it goes on",
    "payload": "byte that is encrypted and sent, or received and decrypted",
}
"""Unit -> what it counts."""


def _words(value: Value) -> float:
    type_ = value.type
    return float(prod(type_.shape)) if isinstance(type_, RingType) else nbytes_of(type_) / 8


def _arithmetic(op: Op) -> Work:
    pairs = max(len(op.operands) // 2, 1)
    return {"word": sum(map(_words, op.results)) * pairs}


def _logic(op: Op) -> Work:
    return {"plane": float(sum(nbytes_of(r.type) for r in op.results))}


def _transposed(op: Op) -> Work:
    rings = [v for v in (*op.operands, *op.results) if isinstance(v.type, RingType)]
    return {"transposed": float(max(nbytes_of(v.type) for v in rings))}


def _keystream(op: Op) -> Work:
    return {"keystream": float(nbytes_of(op.result.type))}


def _tables(op: Op) -> Work:
    sizes = [nbytes_of(v.type) for v in (*op.operands, *op.results)]
    return {"monomial": float(max(sizes))}


def _polynomials(op: Op) -> Work:
    type_ = op.operands[0].type
    assert isinstance(type_, BitsType)
    plane = nbytes_of(type_) / max(type_.planes, 1)
    return {"monomial": plane * sum(len(m) for output in op.attrs["terms"] for m in output)}


def _moved(op: Op) -> Work:
    return {"copied": float(max(nbytes_of(v.type) for v in (*op.operands, *op.results)))}


def _product(op: Op) -> Work:
    left, right, result = op.operands[0].type, op.operands[1].type, op.result.type
    assert isinstance(left, RingType)
    assert isinstance(right, RingType)
    assert isinstance(result, RingType)
    inner = prod(right.shape[1:]) if op.name == "party.conv" else left.shape[-1]
    products = len(op.operands) // 2 * prod(result.shape) * inner
    touched = sum(nbytes_of(v.type) for v in (*op.operands, *op.results))
    return {f"product{result.ring}": float(products), "operand": float(touched)}


def _harmonics(op: Op) -> Work:
    return {"harmonic": _words(op.result)}


def _series(op: Op) -> Work:
    return {"harmonic": _words(op.result) * 2 * max(len(op.attrs["cos"]), 1)}


def _nothing(op: Op) -> Work:
    return {}


_SPECIAL: Mapping[str, Callable[[Op], Work]] = {
    "party.draw_ring": _keystream,
    "party.draw_bits": _keystream,
    "party.from_bits": _transposed,
    "party.bit_slice": _transposed,
    "party.mask_by": _transposed,
    "party.negate_if": _transposed,
    "party.carry_tables": _tables,
    "party.lookup": _tables,
    "party.anf": _polynomials,
    "party.conv": _product,
    "party.matmul": _product,
    "party.harmonics": _harmonics,
    "party.fourier": _series,
    # Another view of the same buffer.
    "party.reshape": _nothing,
    # Counted with the message.
    "party.transfer": _nothing,
}
"""Where an operation is neither elementwise nor a copy."""


def _inside(op: Op) -> Work:
    special = _SPECIAL.get(op.name)
    if special is not None:
        return special(op)
    if not getattr(op.definition, "elementwise", False):
        return _moved(op)
    bits = any(isinstance(r.type, BitsType) for r in op.results)
    return _logic(op) if bits else _arithmetic(op)


def parts_of(op: Op) -> Iterator[tuple[str, Work]]:
    """(layer, work) of an operation of the party level, or of every operation of a fused region."""
    if op.name in ("party.reshape", "party.transfer"):
        return
    if op.body is None:
        yield op.loc, {"op": 1.0, **_inside(op)}
        return
    share = 1.0 / max(len(op.body.ops), 1)
    for inner in op.body.ops:
        yield inner.loc, {"op": share, "step": 1.0, **_inside(inner)}


def work_of(op: Op) -> Work:
    """What one operation of the party level makes its place do; a fused region with its body.

    >>> from mpcc.ir.core import Module
    >>> from mpcc.ir.ops import party
    >>> attrs = {"key": "P0+P1", "stream": 0, "phase": "online", "place": "P0"}
    >>> draw = Module("party").main.append(party.DrawRing, (), {**attrs, "shape": (4,), "ring": 64})
    >>> work_of(draw)
    {'op': 1.0, 'keystream': 32.0}
    """
    found: Work = {}
    for _, work in parts_of(op):
        for unit, amount in work.items():
            found[unit] = found.get(unit, 0.0) + amount
    return found
