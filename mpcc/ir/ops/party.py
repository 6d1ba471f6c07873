"""Party-level operators: local ring and bit operations at a place, PRG draws, messages.

This is the one table from which the party interpreter, the emitter and the native engine's op list
come. Every op is local (all operands at one place) except ``party.transfer``, the only message.
``evaluate`` is the numpy reference: ring values are unsigned words, bits are flat uint8 buffers in
the layout of :class:`mpcc.ir.types.BitsType`, clear values are float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mpcc.ir import linear
from mpcc.ir.bitslice import from_words, pack_planes, to_words, unpack_planes
from mpcc.ir.define import Attr, Attributes, Dialect, InferenceError, Operation
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

__all__ = ["DIALECT", "PartyOperation"]

Array = npt.NDArray[Any]

PHASES = ("setup", "offline", "online")

_PLACE = Attr("str", "place that runs the op")
_SHAPE = Attr("ints", "shape of the result")
_RING = Attr("int", "bits of a ring word, 32 or 64", 64)


def _fail(cls: type[Operation], what: str) -> InferenceError:
    return InferenceError(f"{cls.name}: {what}")


def _ring(cls: type[Operation], type_: Type) -> RingType:
    if not isinstance(type_, RingType):
        raise _fail(cls, f"needs a ring tensor, not {type_}")
    return type_


def _bits(cls: type[Operation], type_: Type) -> BitsType:
    if not isinstance(type_, BitsType):
        raise _fail(cls, f"needs bits, not {type_}")
    return type_


def _same(cls: type[Operation], types: Sequence[Type]) -> None:
    if any(t != types[0] for t in types):
        raise _fail(cls, f"operands differ: {', '.join(map(str, types))}")


def _check_place(cls: type[Operation], place: str) -> str:
    if place not in PLACES:
        raise _fail(cls, f"unknown place {place!r}")
    return place


def _check_ring(cls: type[Operation], ring: int) -> int:
    if ring not in (32, 64):
        raise _fail(cls, f"rings have 32 or 64 bits, not {ring}")
    return ring


def _check_shape(cls: type[Operation], shape: Shape) -> Shape:
    if any(d < 0 for d in shape):
        raise _fail(cls, f"negative dimension in {shape}")
    return shape


def _lanes(cls: type[Operation], bits: BitsType, ring: RingType) -> None:
    if bits.place != ring.place or bits.lanes != element_count(ring.shape):
        raise _fail(cls, f"{bits} and {ring} have different lanes or places")


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


# --- sources and sinks ---------------------------------------------------------------------------


class Input(PartyOperation):
    """A plaintext input that its owner provides for a run."""

    name = "party.input"
    attributes = {"name": Attr("str", "input name"), "shape": _SHAPE, "place": _PLACE}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        return (ClearType(_check_shape(cls, attrs["shape"]), _check_place(cls, attrs["place"])),)


class Weight(PartyOperation):
    """A fixed-point weight from the model owner's file, constant over a session."""

    name = "party.weight"
    attributes = {
        "name": Attr("str", "name in the weights file"),
        "shape": _SHAPE,
        "ring": _RING,
        "place": _PLACE,
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        ring = _check_ring(cls, attrs["ring"])
        return (
            RingType(_check_shape(cls, attrs["shape"]), ring, _check_place(cls, attrs["place"])),
        )


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
        "ring": _RING,
    }
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        (x,) = types
        if not isinstance(x, ClearType):
            raise _fail(cls, f"needs a clear tensor, not {x}")
        return (RingType(x.shape, _check_ring(cls, attrs["ring"]), x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = args[0].astype(np.float64)
        if not bool(np.all((x >= attrs["lo"]) & (x <= attrs["hi"]))):
            raise ValueError(f"input values outside [{attrs['lo']}, {attrs['hi']}]")
        raw = np.rint(np.ldexp(x, attrs["frac"])).astype(np.int64)
        return raw.astype(_word(attrs["ring"]))


class Decode(PartyOperation):
    """Fixed point -> real at an owner: signed value * 2^-frac, rounded to binary32."""

    name = "party.decode"
    operands = ("x",)
    attributes = {"frac": Attr("int", "fraction bits")}
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _ring(cls, types[0])
        return (ClearType(x.shape, x.place),)

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
            raise _fail(cls, f"needs a clear tensor, not {types[0]}")
        return ()


_DRAW = {
    "key": Attr("str", "holders of the key, joined by '+', in the order of PLACES"),
    "stream": Attr("int", "stream id, unique for (key, phase)"),
    "phase": Attr("str", "setup (key of the session) or online (key of the run)", "online"),
    "place": _PLACE,
}


def _check_key(cls: type[Operation], attrs: Attributes) -> str:
    holders = attrs["key"].split("+")
    known = [p for p in PLACES if p in holders]
    if len(known) < 2 or sorted(known) != sorted(holders):
        raise _fail(cls, f"key {attrs['key']!r} does not name two or more places")
    if attrs["place"] not in holders:
        raise _fail(cls, f"{attrs['place']} does not hold the key {attrs['key']}")
    if attrs["phase"] not in PHASES:
        raise _fail(cls, f"unknown phase {attrs['phase']!r}")
    if not 0 <= attrs["stream"] < 2**63:
        raise _fail(cls, f"stream id {attrs['stream']} out of range")
    return str(attrs["place"])


class DrawRing(PartyOperation):
    """Uniform ring words from a shared key: the AES-CTR stream from block 0, little endian."""

    name = "party.draw_ring"
    attributes = {**_DRAW, "shape": _SHAPE, "ring": _RING}
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        ring = _check_ring(cls, attrs["ring"])
        return (RingType(_check_shape(cls, attrs["shape"]), ring, _check_key(cls, attrs)),)


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
        if attrs["lanes"] < 0 or attrs["planes"] < 1:
            raise _fail(cls, "needs lanes >= 0 and planes >= 1")
        return (BitsType(attrs["lanes"], attrs["planes"], _check_key(cls, attrs)),)


class Transfer(PartyOperation):
    """The only message: the operand's bytes from its place to another."""

    name = "party.transfer"
    operands = ("x",)
    attributes = {
        "to": Attr("str", "receiving place"),
        "step": Attr("str", "protocol step, named in errors and reports"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        (x,) = types
        to = _check_place(cls, attrs["to"])
        if getattr(x, "place", to) == to:
            raise _fail(cls, f"{x} is at {to} already")
        match x:
            case RingType():
                return (RingType(x.shape, x.ring, to),)
            case BitsType():
                return (BitsType(x.lanes, x.planes, to),)
        raise _fail(cls, f"only ring tensors and bits travel, not {x}")

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0]


# --- ring, elementwise ---------------------------------------------------------------------------


def _word(ring: int) -> type[np.unsignedinteger[Any]]:
    return np.uint64 if ring == 64 else np.uint32


class _RingBinary(PartyOperation):
    operands = ("a", "b")
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        _same(cls, types)
        return (_ring(cls, types[0]),)


class Add(_RingBinary):
    """a + b."""

    name = "party.add"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] + args[1]


class Sub(_RingBinary):
    """a - b."""

    name = "party.sub"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] - args[1]


class Mul(_RingBinary):
    """a * b, elementwise."""

    name = "party.mul"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] * args[1]


class _RingUnary(PartyOperation):
    operands = ("x",)
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _ring(cls, types[0])
        for key in ("amount", "count"):
            if key in attrs and not 0 <= attrs[key] <= x.ring - (key == "amount"):
                raise _fail(cls, f"{key} {attrs[key]} does not fit {x.ring} bits")
        if "value" in attrs and not -(2 ** (x.ring - 1)) <= attrs["value"] < 2 ** (x.ring - 1):
            raise _fail(cls, f"constant {attrs['value']} does not fit {x.ring} signed bits")
        return (x,)


class Neg(_RingUnary):
    """-x."""

    name = "party.neg"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return np.zeros_like(args[0]) - args[0]


class AddConst(_RingUnary):
    """x + value."""

    name = "party.add_const"
    attributes = {"value": Attr("int", "public constant, as a signed word")}

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = args[0]
        return x + x.dtype.type(attrs["value"] % 2 ** (8 * x.dtype.itemsize))


class MulConst(_RingUnary):
    """x * value."""

    name = "party.mul_const"
    attributes = {"value": Attr("int", "public constant, as a signed word")}

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = args[0]
        return x * x.dtype.type(attrs["value"] % 2 ** (8 * x.dtype.itemsize))


class ShiftLeft(_RingUnary):
    """x * 2^amount."""

    name = "party.shift_left"
    attributes = {"amount": Attr("int", "bits, below the ring's")}

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] << args[0].dtype.type(attrs["amount"])


class ShiftRight(_RingUnary):
    """Logical shift: floor(x / 2^amount) of the unsigned word."""

    name = "party.shift_right"
    attributes = {"amount": Attr("int", "bits, below the ring's")}

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] >> args[0].dtype.type(attrs["amount"])


class LowBits(_RingUnary):
    """x mod 2^count."""

    name = "party.low_bits"
    attributes = {"count": Attr("int", "bits kept")}

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] & args[0].dtype.type(2 ** attrs["count"] - 1)


# --- ring and bits -------------------------------------------------------------------------------


class _BitByRing(PartyOperation):
    operands = ("bit", "x")
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        bit, x = _bits(cls, types[0]), _ring(cls, types[1])
        if bit.planes != 1:
            raise _fail(cls, f"needs one plane, not {bit.planes}")
        _lanes(cls, bit, x)
        return (x,)

    @classmethod
    def flags(cls, operands: Sequence[Type], bit: Array, x: Array) -> Array:
        """The bit of every element of x, as words 0 or 1."""
        lanes = _bits(cls, operands[0]).lanes
        return to_words(bit, lanes, 1, x.dtype).reshape(x.shape)


class MaskBy(_BitByRing):
    """bit ? x : 0, without a branch."""

    name = "party.mask_by"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return cls.flags(operands, *args) * args[1]


class NegateIf(_BitByRing):
    """bit ? -x : x, without a branch."""

    name = "party.negate_if"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        flags = cls.flags(operands, *args)
        return (args[1] ^ (np.zeros_like(flags) - flags)) + flags


class FromBits(PartyOperation):
    """The unsigned integer of the planes (plane 0 lowest) as a ring word."""

    name = "party.from_bits"
    operands = ("x",)
    attributes = {"shape": _SHAPE, "ring": _RING}
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _bits(cls, types[0])
        ring = RingType(_check_shape(cls, attrs["shape"]), _check_ring(cls, attrs["ring"]), x.place)
        _lanes(cls, x, ring)
        if x.planes > ring.ring:
            raise _fail(cls, f"{x.planes} planes do not fit {ring.ring} bits")
        return (ring,)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = _bits(cls, operands[0])
        return to_words(args[0], x.lanes, x.planes, _word(attrs["ring"])).reshape(attrs["shape"])


class BitSlice(PartyOperation):
    """Planes ``shift`` .. ``shift + planes - 1`` of ring words; padding bits are zero."""

    name = "party.bit_slice"
    operands = ("x",)
    attributes = {
        "planes": Attr("int", "bits taken"),
        "shift": Attr("int", "lowest bit taken", 0),
    }
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _ring(cls, types[0])
        if attrs["planes"] < 1 or attrs["shift"] < 0 or attrs["planes"] + attrs["shift"] > x.ring:
            raise _fail(cls, f"bits {attrs['shift']} + {attrs['planes']} of {x.ring}")
        return (BitsType(element_count(x.shape), attrs["planes"], x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return from_words(args[0].reshape(-1), attrs["planes"], attrs["shift"])


# --- bits ----------------------------------------------------------------------------------------


class _BitsBinary(PartyOperation):
    operands = ("a", "b")
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        _same(cls, types)
        return (_bits(cls, types[0]),)


class Xor(_BitsBinary):
    """a xor b."""

    name = "party.xor"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] ^ args[1]


class And(_BitsBinary):
    """a and b."""

    name = "party.and"

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0] & args[1]


class Not(PartyOperation):
    """Complement of every bit, padding included."""

    name = "party.not"
    operands = ("x",)
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        return (_bits(cls, types[0]),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return ~args[0]


class Planes(PartyOperation):
    """The planes of the given indices, in that order; an index may not repeat."""

    name = "party.planes"
    operands = ("x",)
    attributes = {"indices": Attr("ints", "planes taken")}
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _bits(cls, types[0])
        indices = attrs["indices"]
        if not indices or len(set(indices)) != len(indices):
            raise _fail(cls, "needs distinct plane indices")
        if min(indices) < 0 or max(indices) >= x.planes:
            raise _fail(cls, f"indices {indices} of {x.planes} planes")
        return (BitsType(x.lanes, len(indices), x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = _bits(cls, operands[0])
        rows = unpack_planes(args[0], x.lanes, x.planes)
        return pack_planes(rows[list(attrs["indices"])], x.lanes)


class Join(PartyOperation):
    """All planes of the operands, first operand lowest."""

    name = "party.join"
    operands = ("xs*",)
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        if not types:
            raise _fail(cls, "needs an operand")
        xs = [_bits(cls, t) for t in types]
        if any((x.lanes, x.place) != (xs[0].lanes, xs[0].place) for x in xs):
            raise _fail(cls, f"lanes or places differ: {', '.join(map(str, xs))}")
        return (BitsType(xs[0].lanes, sum(x.planes for x in xs), xs[0].place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        xs = [_bits(cls, t) for t in operands]
        rows = [unpack_planes(a, x.lanes, x.planes) for a, x in zip(args, xs, strict=True)]
        return pack_planes(np.concatenate(rows), xs[0].lanes)


def _check_blocks(cls: type[Operation], blocks: Shape) -> tuple[int, int]:
    """(index planes, table planes) of a list of block sizes."""
    if not blocks or min(blocks) < 1 or max(blocks) > 6:
        raise _fail(cls, f"block sizes {blocks} must be 1 to 6 bits")
    return sum(blocks), sum((2 if i else 1) << b for i, b in enumerate(blocks))


_BLOCKS = Attr("ints", "bits of each block, lowest first")


class CarryTables(PartyOperation):
    """Carry tables of the blocks of beta, rotated by rho.

    Block i of w bits gives 2^w planes G_j = [(j xor rho_i) + beta_i >= 2^w] for j = 0, 1, ... and,
    except for block 0, then 2^w planes P_j = [(j xor rho_i) + beta_i = 2^w - 1].
    """

    name = "party.carry_tables"
    operands = ("beta", "rho")
    attributes = {"blocks": _BLOCKS}
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        _same(cls, types)
        beta = _bits(cls, types[0])
        index, tables = _check_blocks(cls, attrs["blocks"])
        if beta.planes != index:
            raise _fail(cls, f"blocks {attrs['blocks']} of {beta.planes} planes")
        return (BitsType(beta.lanes, tables, beta.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        lanes, planes = _bits(cls, operands[0]).lanes, _bits(cls, operands[0]).planes
        beta, rho = (unpack_planes(a, lanes, planes) for a in args)
        rows: list[Array] = []
        low = 0
        for i, w in enumerate(attrs["blocks"]):
            generate, propagate = [], []
            for j in range(1 << w):
                carry = np.zeros_like(beta[0])
                equal = np.full_like(beta[0], 0xFF)
                for p in range(low, low + w):
                    a = rho[p] ^ np.uint8(0xFF if j >> (p - low) & 1 else 0)
                    carry = (a & beta[p]) ^ ((a ^ beta[p]) & carry)
                    equal &= a ^ beta[p]
                generate.append(carry)
                propagate.append(equal)
            rows += generate + (propagate if i else [])
            low += w
        return pack_planes(np.stack(rows), lanes)


class Lookup(PartyOperation):
    """One plane per table of :class:`CarryTables`' layout: the entry at this lane's block index.

    A multiplexer tree over all entries: no access depends on the index.
    """

    name = "party.lookup"
    operands = ("tables", "index")
    attributes = {"blocks": _BLOCKS}
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        tables, index = _bits(cls, types[0]), _bits(cls, types[1])
        planes = _check_blocks(cls, attrs["blocks"])
        if (index.planes, tables.planes) != planes:
            raise _fail(cls, f"blocks {attrs['blocks']} do not fit {index} and {tables}")
        if (tables.lanes, tables.place) != (index.lanes, index.place):
            raise _fail(cls, f"lanes or places of {tables} and {index} differ")
        return (BitsType(index.lanes, 2 * len(attrs["blocks"]) - 1, index.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        lanes = _bits(cls, operands[1]).lanes
        tables = unpack_planes(args[0], lanes, _bits(cls, operands[0]).planes)
        index = unpack_planes(args[1], lanes, _bits(cls, operands[1]).planes)
        rows: list[Array] = []
        at = low = 0
        for i, w in enumerate(attrs["blocks"]):
            for _ in range(2 if i else 1):
                entries = tables[at : at + (1 << w)]
                for p in range(low, low + w):
                    entries = entries[0::2] ^ (index[p] & (entries[0::2] ^ entries[1::2]))
                rows.append(entries[0])
                at += 1 << w
            low += w
        return pack_planes(np.stack(rows), lanes)


class Anf(PartyOperation):
    """Polynomials over GF(2): output plane o is the xor over terms[o] of the and of their planes.

    terms[o] is a tuple of monomials, a monomial a non-empty tuple of plane indices.
    """

    name = "party.anf"
    operands = ("x",)
    attributes = {"terms": Attr("nested", "per output plane, its monomials as plane indices")}
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _bits(cls, types[0])
        terms = attrs["terms"]
        if not terms:
            raise _fail(cls, "needs an output")
        for output in terms:
            if not isinstance(output, tuple) or not output:
                raise _fail(cls, "every output needs a monomial")
            for monomial in output:
                if not isinstance(monomial, tuple) or not monomial:
                    raise _fail(cls, "a monomial is a non-empty list of planes")
                if any(type(p) is not int or not 0 <= p < x.planes for p in monomial):
                    raise _fail(cls, f"monomial {monomial} of {x.planes} planes")
        return (BitsType(x.lanes, len(terms), x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = _bits(cls, operands[0])
        rows = unpack_planes(args[0], x.lanes, x.planes)
        out = np.zeros((len(attrs["terms"]), rows.shape[1]), np.uint8)
        for o, monomials in enumerate(attrs["terms"]):
            for monomial in monomials:
                out[o] ^= np.bitwise_and.reduce(rows[list(monomial)], axis=0)
        return pack_planes(out, x.lanes)


# --- ring, structural and linear -----------------------------------------------------------------


class Reshape(PartyOperation):
    """The same elements in another shape."""

    name = "party.reshape"
    operands = ("x",)
    attributes = {"shape": _SHAPE}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _ring(cls, types[0])
        shape = _check_shape(cls, attrs["shape"])
        if element_count(shape) != element_count(x.shape):
            raise _fail(cls, f"{x} has not the elements of {shape}")
        return (RingType(shape, x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return args[0].reshape(attrs["shape"])


class Transpose(PartyOperation):
    """Axis i of the result is axis perm[i] of x."""

    name = "party.transpose"
    operands = ("x",)
    attributes = {"perm": Attr("ints", "permutation of the axes")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _ring(cls, types[0])
        if sorted(attrs["perm"]) != list(range(len(x.shape))):
            raise _fail(cls, f"{attrs['perm']} is no permutation of the axes of {x}")
        return (RingType(tuple(x.shape[p] for p in attrs["perm"]), x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return np.ascontiguousarray(args[0].transpose(attrs["perm"]))


class Broadcast(PartyOperation):
    """x repeated to ``shape``; axis i of x becomes axis dims[i], where its size is equal or 1."""

    name = "party.broadcast"
    operands = ("x",)
    attributes = {"shape": _SHAPE, "dims": Attr("ints", "result axis of every axis of x")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _ring(cls, types[0])
        shape, dims = _check_shape(cls, attrs["shape"]), attrs["dims"]
        if len(dims) != len(x.shape) or sorted(set(dims)) != list(dims):
            raise _fail(cls, f"dims {dims} must rise and have one axis per axis of {x}")
        for size, dim in zip(x.shape, dims, strict=True):
            if not 0 <= dim < len(shape) or size not in (1, shape[dim]):
                raise _fail(cls, f"{x} does not broadcast to {shape} along {dims}")
        return (RingType(shape, x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        view = [1] * len(attrs["shape"])
        for size, dim in zip(args[0].shape, attrs["dims"], strict=True):
            view[dim] = size
        return np.ascontiguousarray(np.broadcast_to(args[0].reshape(view), attrs["shape"]))


class Pad(PartyOperation):
    """x with ``value`` added low[i] times before and high[i] times after axis i."""

    name = "party.pad"
    operands = ("x",)
    attributes = {
        "low": Attr("ints", "elements before, per axis"),
        "high": Attr("ints", "elements after, per axis"),
        "value": Attr("int", "public constant, as a signed word", 0),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _ring(cls, types[0])
        low, high = attrs["low"], attrs["high"]
        if len(low) != len(x.shape) or len(high) != len(x.shape) or min((*low, *high, 0)) < 0:
            raise _fail(cls, f"pads {low}, {high} do not fit {x}")
        if not -(2 ** (x.ring - 1)) <= attrs["value"] < 2 ** (x.ring - 1):
            raise _fail(cls, f"constant {attrs['value']} does not fit {x.ring} signed bits")
        shape = tuple(a + d + b for a, d, b in zip(low, x.shape, high, strict=True))
        return (RingType(shape, x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        value = attrs["value"] % 2 ** (8 * args[0].dtype.itemsize)
        return linear.pad_zero(args[0], attrs["low"], attrs["high"], value)


class Slice(PartyOperation):
    """Elements starts[i] <= index < limits[i] in steps of strides[i] along axis i."""

    name = "party.slice"
    operands = ("x",)
    attributes = {
        "starts": Attr("ints", "first index, per axis"),
        "limits": Attr("ints", "end (exclusive), per axis"),
        "strides": Attr("ints", "step, per axis, positive"),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x = _ring(cls, types[0])
        box = (attrs["starts"], attrs["limits"], attrs["strides"])
        if any(len(b) != len(x.shape) for b in box):
            raise _fail(cls, f"starts, limits and strides do not fit {x}")
        shape = []
        for size, start, limit, stride in zip(x.shape, *box, strict=True):
            if not 0 <= start <= limit <= size or stride < 1:
                raise _fail(cls, f"[{start}:{limit}:{stride}] of an axis of {size}")
            shape.append(-(-(limit - start) // stride))
        return (RingType(tuple(shape), x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        box = zip(attrs["starts"], attrs["limits"], attrs["strides"], strict=True)
        return np.ascontiguousarray(args[0][tuple(slice(*b) for b in box)])


class Concat(PartyOperation):
    """The operands one after another along an axis."""

    name = "party.concat"
    operands = ("xs*",)
    attributes = {"axis": Attr("int", "axis, not negative")}

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        if not types:
            raise _fail(cls, "needs an operand")
        xs = [_ring(cls, t) for t in types]
        axis, first = attrs["axis"], xs[0]
        if not 0 <= axis < len(first.shape):
            raise _fail(cls, f"axis {axis} of {first}")
        for x in xs:
            rest = (x.shape[:axis], x.shape[axis + 1 :], x.ring, x.place)
            if rest != (first.shape[:axis], first.shape[axis + 1 :], first.ring, first.place):
                raise _fail(cls, f"{first} and {x} do not concatenate along {axis}")
        size = sum(x.shape[axis] for x in xs)
        shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
        return (RingType(shape, first.ring, first.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        return np.concatenate(args, axis=attrs["axis"])


def _pairs(cls: type[Operation], types: Sequence[Type]) -> list[tuple[RingType, RingType]]:
    xs = [_ring(cls, t) for t in types]
    if not xs or len(xs) % 2 or len({(x.ring, x.place) for x in xs}) != 1:
        raise _fail(cls, "needs pairs of ring tensors of one ring at one place")
    pairs = list(zip(xs[0::2], xs[1::2], strict=True))
    _same(cls, [a for a, _ in pairs])
    _same(cls, [b for _, b in pairs])
    return pairs


class Conv(PartyOperation):
    """Sum over operand pairs of the convolution of x [N,C,H,W] by w [O,C/groups,kh,kw]."""

    name = "party.conv"
    operands = ("xw*",)
    attributes = {
        "strides": Attr("ints", "per spatial axis"),
        "pads": Attr("ints", "zeros before every spatial axis, then after every one"),
        "dilations": Attr("ints", "per spatial axis"),
        "groups": Attr("int", "channel groups", 1),
    }

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        x, w = _pairs(cls, types)[0]
        try:
            shape = linear.conv_output_shape(x.shape, w.shape, **attrs)
        except ValueError as error:
            raise _fail(cls, str(error)) from None
        return (RingType(shape, x.ring, x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        total = linear.conv(args[0], args[1], **attrs)
        for x, w in zip(args[2::2], args[3::2], strict=True):
            total += linear.conv(x, w, **attrs)
        return total


class MatMul(PartyOperation):
    """Sum over operand pairs of a [M,K] times b [K,N]."""

    name = "party.matmul"
    operands = ("ab*",)

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        a, b = _pairs(cls, types)[0]
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
            raise _fail(cls, f"product of {a} and {b}")
        return (RingType((a.shape[0], b.shape[1]), a.ring, a.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        total = args[0] @ args[1]
        for a, b in zip(args[2::2], args[3::2], strict=True):
            total += a @ b
        return total


class Fused(PartyOperation):
    """A region of elementwise ops over the same lanes at one place, run block by block.

    The body takes the operands and returns the results; it holds no message and no nested region.
    """

    name = "party.fused"
    operands = ("xs*",)
    has_body = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        return ()


DIALECT = Dialect.of(
    "party",
    [
        Input,
        Weight,
        Encode,
        Decode,
        Output,
        DrawRing,
        DrawBits,
        Transfer,
        Add,
        Sub,
        Mul,
        Neg,
        AddConst,
        MulConst,
        ShiftLeft,
        ShiftRight,
        LowBits,
        MaskBy,
        NegateIf,
        FromBits,
        BitSlice,
        Xor,
        And,
        Not,
        Planes,
        Join,
        CarryTables,
        Lookup,
        Anf,
        Reshape,
        Transpose,
        Broadcast,
        Pad,
        Slice,
        Concat,
        Conv,
        MatMul,
        Fused,
    ],
)
"""All party-level operators."""
