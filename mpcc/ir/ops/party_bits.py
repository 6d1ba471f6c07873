"""Party-level operators on bit-sliced data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.ir.bitslice import pack_planes, unpack_planes
from mpcc.ir.define import Attr, Attributes, Operation
from mpcc.ir.limits import MAX_BLOCKS
from mpcc.ir.ops.party_base import (
    Array,
    PartyOperation,
    bits_result,
    bits_type,
    fail,
    same_types,
)
from mpcc.ir.types import PartyType, Shape, Type

__all__ = ["And", "Anf", "CarryTables", "Join", "Lookup", "Not", "Planes", "Xor"]


class _BitsBinary(PartyOperation):
    operands = ("a", "b")
    elementwise = True

    @classmethod
    def infer(cls, types: Sequence[Type], attrs: Attributes) -> tuple[Type, ...]:
        same_types(cls, types)
        return (bits_type(cls, types[0]),)


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
        return (bits_type(cls, types[0]),)

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
        x = bits_type(cls, types[0])
        indices = attrs["indices"]
        if not indices or len(set(indices)) != len(indices):
            raise fail(cls, "needs distinct plane indices")
        if min(indices) < 0 or max(indices) >= x.planes:
            raise fail(cls, f"indices {indices} of {x.planes} planes")
        return (bits_result(cls, x.lanes, len(indices), x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = bits_type(cls, operands[0])
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
            raise fail(cls, "needs an operand")
        xs = [bits_type(cls, t) for t in types]
        if any((x.lanes, x.place) != (xs[0].lanes, xs[0].place) for x in xs):
            raise fail(cls, f"lanes or places differ: {', '.join(map(str, xs))}")
        return (bits_result(cls, xs[0].lanes, sum(x.planes for x in xs), xs[0].place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        xs = [bits_type(cls, t) for t in operands]
        rows = [unpack_planes(a, x.lanes, x.planes) for a, x in zip(args, xs, strict=True)]
        return pack_planes(np.concatenate(rows), xs[0].lanes)


def _check_blocks(cls: type[Operation], blocks: Shape) -> tuple[int, int]:
    """(index planes, table planes) of a list of block sizes."""
    if not 1 <= len(blocks) <= MAX_BLOCKS:
        raise fail(cls, f"needs 1 to {MAX_BLOCKS} blocks, not {len(blocks)}")
    if min(blocks) < 1 or max(blocks) > 6:
        raise fail(cls, f"block sizes {blocks} must be 1 to 6 bits")
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
        same_types(cls, types)
        beta = bits_type(cls, types[0])
        index, tables = _check_blocks(cls, attrs["blocks"])
        if beta.planes != index:
            raise fail(cls, f"blocks {attrs['blocks']} of {beta.planes} planes")
        return (bits_result(cls, beta.lanes, tables, beta.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        lanes, planes = bits_type(cls, operands[0]).lanes, bits_type(cls, operands[0]).planes
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
        tables, index = bits_type(cls, types[0]), bits_type(cls, types[1])
        planes = _check_blocks(cls, attrs["blocks"])
        if (index.planes, tables.planes) != planes:
            raise fail(cls, f"blocks {attrs['blocks']} do not fit {index} and {tables}")
        if (tables.lanes, tables.place) != (index.lanes, index.place):
            raise fail(cls, f"lanes or places of {tables} and {index} differ")
        return (bits_result(cls, index.lanes, 2 * len(attrs["blocks"]) - 1, index.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        lanes = bits_type(cls, operands[1]).lanes
        tables = unpack_planes(args[0], lanes, bits_type(cls, operands[0]).planes)
        index = unpack_planes(args[1], lanes, bits_type(cls, operands[1]).planes)
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
        x = bits_type(cls, types[0])
        terms = attrs["terms"]
        if not terms:
            raise fail(cls, "needs an output")
        for output in terms:
            if not isinstance(output, tuple) or not output:
                raise fail(cls, "every output needs a monomial")
            for monomial in output:
                if not isinstance(monomial, tuple) or not monomial:
                    raise fail(cls, "a monomial is a non-empty list of planes")
                if any(type(p) is not int or not 0 <= p < x.planes for p in monomial):
                    raise fail(cls, f"monomial {monomial} of {x.planes} planes")
        return (bits_result(cls, x.lanes, len(terms), x.place),)

    @classmethod
    def evaluate(
        cls, attrs: Attributes, operands: Sequence[Type], result: PartyType, *args: Array
    ) -> Array:
        x = bits_type(cls, operands[0])
        rows = unpack_planes(args[0], x.lanes, x.planes)
        out = np.zeros((len(attrs["terms"]), rows.shape[1]), np.uint8)
        for o, monomials in enumerate(attrs["terms"]):
            for monomial in monomials:
                out[o] ^= np.bitwise_and.reduce(rows[list(monomial)], axis=0)
        return pack_planes(out, x.lanes)
