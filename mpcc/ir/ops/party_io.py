"""Party-level sources and sinks: inputs, weights, PRG draws, messages, outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mpcc.ir.define import Attr, Attributes, Operation
from mpcc.ir.limits import MAX_FRACTION
from mpcc.ir.ops.party_base import (
    PHASES,
    PLACE_ATTR,
    RING_ATTR,
    SHAPE_ATTR,
    Array,
    PartyOperation,
    bits_result,
    checked_place,
    clear_result,
    fail,
    ring_result,
    ring_type,
    word_dtype,
)
from mpcc.ir.types import PLACES, BitsType, ClearType, PartyType, RingType, Type

__all__ = ["Decode", "DrawBits", "DrawRing", "Encode", "Input", "Output", "Transfer", "Weight"]


class Input(PartyOperation):
    """A plaintext input that its owner provides for a run."""

    name = "party.input"
    attributes = {"name": Attr("str", "input name"), "shape": SHAPE_ATTR, "place": PLACE_ATTR}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        return (clear_result(cls, attrs["shape"], attrs["place"]),)


class Weight(PartyOperation):
    """A fixed-point weight from the model owner's file, constant over a session."""

    name = "party.weight"
    attributes = {
        "name": Attr("str", "name in the weights file"),
        "shape": SHAPE_ATTR,
        "ring": RING_ATTR,
        "place": PLACE_ATTR,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        return (ring_result(cls, attrs["shape"], attrs["ring"], attrs["place"]),)


def _check_frac(cls: type[Operation], attrs: Attributes) -> None:
    if not 0 <= attrs["frac"] <= MAX_FRACTION:
        raise fail(cls, f"fraction bits must be 0 to {MAX_FRACTION}, not {attrs['frac']}")


class Encode(PartyOperation):
    """Real -> fixed point at an owner: round(x * 2^frac), half to even, computed in binary64.

    The owner's client refuses values outside [lo, hi] or not finite before anything is sent.
    """

    name = "party.encode"
    operands = ("x",)
    attributes = {
        "frac": Attr("int", "fraction bits"),
        "lo": Attr("float", "smallest value accepted"),
        "hi": Attr("float", "largest value accepted"),
        "ring": RING_ATTR,
    }
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        (x,) = types
        if not isinstance(x, ClearType):
            raise fail(cls, f"needs a clear tensor, not {x}")
        _check_frac(cls, attrs)
        lo, hi = attrs["lo"], attrs["hi"]
        if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
            raise fail(cls, f"lo and hi must be finite, lo not above hi: {lo}, {hi}")
        return (ring_result(cls, x.shape, attrs["ring"], x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = args[0].astype(np.float64)
        if not bool(np.all((x >= attrs["lo"]) & (x <= attrs["hi"]))):
            raise ValueError(f"input values outside [{attrs['lo']}, {attrs['hi']}]")
        raw = np.rint(np.ldexp(x, attrs["frac"])).astype(np.int64)
        return raw.astype(word_dtype(attrs["ring"]))


class Decode(PartyOperation):
    """Fixed point -> real at an owner: signed value * 2^-frac, rounded to binary32."""

    name = "party.decode"
    operands = ("x",)
    attributes = {"frac": Attr("int", "fraction bits")}
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = ring_type(cls, types[0])
        _check_frac(cls, attrs)
        return (clear_result(cls, x.shape, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        signed = args[0].view(np.int64 if args[0].dtype == np.uint64 else np.int32)
        return np.ldexp(signed.astype(np.float64), -attrs["frac"]).astype(np.float32)


class Output(PartyOperation):
    """Hands an opened value to its owner."""

    name = "party.output"
    operands = ("x",)
    attributes = {"name": Attr("str", "output name")}
    side_effect = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        if not isinstance(types[0], ClearType):
            raise fail(cls, f"needs a clear tensor, not {types[0]}")
        return ()


_DRAW = {
    "key": Attr("str", "holders of the key, joined by '+', in the order of PLACES"),
    "stream": Attr("int", "stream id, unique for (key, phase)"),
    "phase": Attr("str", "setup (key of the session) or online (key of the run)", "online"),
    "place": PLACE_ATTR,
}


def _check_key(cls: type[Operation], attrs: Attributes) -> str:
    holders = attrs["key"].split("+")
    known = [p for p in PLACES if p in holders]
    if len(known) < 2 or known != holders:
        raise fail(cls, f"key {attrs['key']!r} does not name two or more places in their order")
    if attrs["place"] not in holders:
        raise fail(cls, f"{attrs['place']} does not hold the key {attrs['key']}")
    if attrs["phase"] not in PHASES:
        raise fail(cls, f"a draw's phase is {' or '.join(PHASES)}, not {attrs['phase']!r}")
    if not 0 <= attrs["stream"] < 2**63:
        raise fail(cls, f"stream id {attrs['stream']} out of range")
    return str(attrs["place"])


class DrawRing(PartyOperation):
    """Uniform ring words from a shared key: the AES-CTR stream from block 0, little endian."""

    name = "party.draw_ring"
    attributes = {**_DRAW, "shape": SHAPE_ATTR, "ring": RING_ATTR}
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        place = _check_key(cls, attrs)
        return (ring_result(cls, attrs["shape"], attrs["ring"], place),)


class DrawBits(PartyOperation):
    """Uniform bits from a shared key: the AES-CTR stream fills the whole buffer from block 0."""

    name = "party.draw_bits"
    attributes = {
        **_DRAW,
        "lanes": Attr("int", "number of lanes"),
        "planes": Attr("int", "bits per lane"),
    }
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        place = _check_key(cls, attrs)
        return (bits_result(cls, attrs["lanes"], attrs["planes"], place),)


class Transfer(PartyOperation):
    """The only message: the operand's bytes from its place to another."""

    name = "party.transfer"
    operands = ("x",)
    attributes = {
        "to": Attr("str", "receiving place"),
        "step": Attr("str", "protocol step, named in errors and reports"),
    }
    side_effect = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        (x,) = types
        to = checked_place(cls, attrs["to"])
        if getattr(x, "place", to) == to:
            raise fail(cls, f"{x} is at {to} already")
        match x:
            case RingType():
                return (RingType(x.shape, x.ring, to),)
            case BitsType():
                return (BitsType(x.lanes, x.planes, to),)
        raise fail(cls, f"only ring tensors and bits travel, not {x}")

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0]
