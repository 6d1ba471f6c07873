"""ref: the plaintext oracle. P0 computes everything in the clear; P1 and P2 do nothing.

It protects nothing. It has the interface of a real protocol, so one suite runs over both, and its
code is the shortest template for a new protocol: a share kind, steps with costs, a rule per op.
Coins of stochastic truncations come from a key that P0 holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpcc.ir.core import Op, Value
from mpcc.ir.define import Operation
from mpcc.ir.ops import party
from mpcc.ir.types import OWNER_PLACES
from mpcc.protocols.base import (
    Builder,
    Coin,
    Cost,
    OwnerClear,
    Protocol,
    Share,
    Step,
    bit_type,
    lanes,
    ring_bits,
    ring_shape,
    secure_type,
)

__all__ = ["Flag", "Plain", "Ref"]

HOME = "P0"


@dataclass(frozen=True, eq=False)
class Plain(Share):
    """A value in the clear at P0."""

    value: Value


@dataclass(frozen=True, eq=False)
class Flag(Share):
    """One plane of bits in the clear at P0."""

    value: Value


def send_cost(*, source: str, to: str, lanes: int, ring: int) -> Cost:
    """One ring element; 1 round."""
    return Cost(1, {(source, to): lanes * ring // 8})


def _to_home(b: Builder, owner: str, raw: Value) -> Plain:
    b.charge(send_cost(source=owner, to=HOME, lanes=lanes(raw), ring=ring_bits(raw)))
    return Plain(b.send(raw, HOME, "send"))


def _input(b: Builder, op: Op, operands: Sequence[Plain]) -> Plain:
    attrs = op.attrs
    owner = attrs["owner"] if attrs["owner"] in OWNER_PLACES else "client"
    clear = b.emit(party.Input, (), name=attrs["name"], shape=attrs["shape"], place=owner)
    code = {k: attrs[k] for k in ("frac", "lo", "hi", "ring")}
    return _to_home(b, owner, b.emit(party.Encode, (clear,), **code))


def _weight(b: Builder, op: Op, operands: Sequence[Plain]) -> Plain:
    attrs = op.attrs
    owner = attrs["owner"] if attrs["owner"] in OWNER_PLACES else "model"
    given = {k: attrs[k] for k in ("name", "shape", "ring")}
    return _to_home(b, owner, b.emit(party.Weight, (), place=owner, **given))


def _reveal(b: Builder, op: Op, operands: Sequence[Plain]) -> None:
    owner = op.attrs["owner"] if op.attrs["owner"] in OWNER_PLACES else "client"
    raw = operands[0].value
    b.charge(send_cost(source=HOME, to=owner, lanes=lanes(raw), ring=ring_bits(raw)))
    clear = b.emit(
        party.Decode, (b.send(raw, owner, "reveal"),), frac=secure_type(op.operands[0]).frac
    )
    b.effect(party.Output, (clear,), name=op.attrs["name"])


_LOCAL: dict[str, type[Operation]] = {
    "secure.conv": party.Conv,
    "secure.matmul": party.MatMul,
    "secure.mul": party.Mul,
    "secure.add": party.Add,
    "secure.sub": party.Sub,
    "secure.shift_left": party.ShiftLeft,
    "secure.reduce_sum": party.ReduceSum,
    "secure.broadcast": party.Broadcast,
    "secure.reshape": party.Reshape,
    "secure.transpose": party.Transpose,
    "secure.pad": party.Pad,
    "secure.slice": party.Slice,
    "secure.gather": party.Gather,
    "secure.concat": party.Concat,
}


def _local(b: Builder, op: Op, operands: Sequence[Plain | Flag]) -> Plain | Flag:
    definition = _LOCAL[op.name]
    attrs = {k: op.attrs[k] for k in definition.attributes}
    if any(isinstance(x, Flag) for x in operands):
        shapes = [bit_type(v).shape for v in op.operands]
        return Flag(b.move_bits(definition, [x.value for x in operands], shapes, **attrs))
    return Plain(b.emit(definition, [x.value for x in operands], **attrs))


def _scale(b: Builder, op: Op, operands: Sequence[Plain]) -> Plain:
    return Plain(b.emit(party.MulConst, (operands[0].value,), value=op.attrs["factor"]))


def _from_bit(b: Builder, op: Op, operands: Sequence[Flag]) -> Plain:
    shape, ring = bit_type(op.operands[0]).shape, op.attrs["ring"]
    return Plain(b.emit(party.FromBits, (operands[0].value,), shape=shape, ring=ring))


def _truncate(b: Builder, op: Op, operands: Sequence[Plain]) -> Plain:
    x, amount = operands[0].value, op.attrs["amount"]
    ring = ring_bits(x)
    if op.attrs["rounding"] == "stochastic":
        source = b.draw_ring(("P0", "P1"), ring_shape(x), ring).at(HOME)
        b.coin = Coin(source, amount)
        # g = 2^f - 1 - (source mod 2^f)
        low = b.emit(party.LowBits, (source,), count=amount)
        x = b.add_const(b.sub(x, low), (1 << amount) - 1)
    high = b.shift_right(b.add_const(x, 1 << (ring - 1)), amount)
    result = b.add_const(high, -(1 << (ring - 1 - amount)))
    return _resized(b, result, op.attrs["ring"] or ring)


def _cast(b: Builder, op: Op, operands: Sequence[Plain]) -> Plain:
    return _resized(b, operands[0].value, op.attrs["ring"])


def _resized(b: Builder, x: Value, ring: int) -> Plain:
    have = ring_bits(x)
    if ring == have:
        return Plain(x)
    # Above the top bit, moved to where it is never set, stand zeros.
    half = 1 << (have - 1) if ring > have else 0
    return Plain(b.add_const(b.cast(b.add_const(x, half), ring), -half))


def _sign(b: Builder, x: Value) -> Value:
    return b.bit_slice(x, 1, ring_bits(x) - 1)


def _negative(b: Builder, op: Op, operands: Sequence[Plain]) -> Flag:
    x, coarse = operands[0].value, op.attrs["coarse"]
    if coarse:
        source = b.draw_ring(("P0", "P1"), ring_shape(x), ring_bits(x)).at(HOME)
        b.coin = Coin(source, coarse)
        # [x < 2^c - 1 - g]
        x = b.sub(x, b.emit(party.LowBits, (source,), count=coarse))
    return Flag(_sign(b, x))


def _select(b: Builder, op: Op, operands: Sequence[Flag | Plain]) -> Plain:
    bit, x = (o.value for o in operands)
    return Plain(b.mask_by(b.invert(bit) if op.attrs["invert"] else bit, x))


def _clamp(b: Builder, op: Op, operands: Sequence[Plain]) -> Plain:
    x = operands[0].value
    to_lo, to_hi = (b.add_const(b.neg(x), op.attrs[k]) for k in ("lo", "hi"))
    low = b.mask_by(_sign(b, b.neg(to_lo)), to_lo)
    high = b.mask_by(_sign(b, to_hi), to_hi)
    return Plain(b.add(x, low, high))


def _fourier(b: Builder, op: Op, operands: Sequence[Plain]) -> Plain:
    x, attrs = operands[0].value, op.attrs
    a = b.draw_ring(("P0", "P1"), ring_shape(x), ring_bits(x)).at(HOME)
    b.coin = Coin(a, attrs["period"])
    rows = {"first": 0, "rows": 2 * len(attrs["cos"]), "ring": attrs["ring"]}
    factors = {k: attrs[k] for k in ("period", "multiplier", "precision")}
    u = b.emit(party.Harmonics, (a,), **rows, **factors)
    series = {k: attrs[k] for k in party.Fourier.attributes}
    y = b.emit(party.Fourier, (b.sub(x, a), u), **series)
    return Plain(b.add_const(y, attrs["constant"]))


class Ref(Protocol):
    """Plaintext at P0."""

    name = "ref"
    summary = "plaintext at P0: an oracle for tests, protects nothing"
    threat_model = "none: P0 sees everything"
    steps = (
        Step("send", (OwnerClear,), Plain, send_cost),
        Step("reveal", (Plain,), OwnerClear, send_cost),
    )
    rules = {
        "secure.input": _input,
        "secure.weight": _weight,
        "secure.reveal": _reveal,
        **dict.fromkeys(_LOCAL, _local),
        "secure.scale": _scale,
        "secure.truncate": _truncate,
        "secure.cast": _cast,
        "secure.negative": _negative,
        "secure.select": _select,
        "secure.from_bit": _from_bit,
        "secure.clamp": _clamp,
        "secure.fourier": _fourier,
    }
