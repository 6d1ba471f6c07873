"""Party-level operators: local ring and bit operations at a place, PRG draws, messages.

This is the one table from which the party interpreter, the emitter and the native engine's op list
come. Every op is local (all operands at one place) except ``party.transfer``, the only message.
``evaluate`` is the numpy reference: ring values are unsigned words, bits are flat uint8 buffers in
the layout of :class:`mpcc.ir.types.BitsType`, clear values are float32.
"""

from __future__ import annotations

from mpcc.ir.define import Dialect
from mpcc.ir.ops.party_base import PHASES, Array, PartyOperation
from mpcc.ir.ops.party_bits import And, Anf, CarryTables, Join, Lookup, Not, Planes, Xor
from mpcc.ir.ops.party_call import Call
from mpcc.ir.ops.party_fourier import Fourier, Harmonics
from mpcc.ir.ops.party_io import Decode, DrawBits, DrawRing, Encode, Input, Output, Transfer, Weight
from mpcc.ir.ops.party_linear import (
    Broadcast,
    Concat,
    Conv,
    Gather,
    MatMul,
    Pad,
    ReduceSum,
    Reshape,
    Slice,
    Transpose,
)
from mpcc.ir.ops.party_region import Fused
from mpcc.ir.ops.party_ring import (
    Add,
    AddConst,
    BitSlice,
    Cast,
    FromBits,
    LowBits,
    MaskBy,
    Mul,
    MulConst,
    Neg,
    NegateIf,
    ShiftLeft,
    ShiftRight,
    Sub,
)

__all__ = [
    "DIALECT",
    "PHASES",
    "Add",
    "AddConst",
    "And",
    "Anf",
    "Array",
    "BitSlice",
    "Broadcast",
    "Call",
    "CarryTables",
    "Cast",
    "Concat",
    "Conv",
    "Decode",
    "DrawBits",
    "DrawRing",
    "Encode",
    "Fourier",
    "FromBits",
    "Fused",
    "Gather",
    "Harmonics",
    "Input",
    "Join",
    "Lookup",
    "LowBits",
    "MaskBy",
    "MatMul",
    "Mul",
    "MulConst",
    "Neg",
    "NegateIf",
    "Not",
    "Output",
    "Pad",
    "PartyOperation",
    "Planes",
    "ReduceSum",
    "Reshape",
    "ShiftLeft",
    "ShiftRight",
    "Slice",
    "Sub",
    "Transfer",
    "Transpose",
    "Weight",
    "Xor",
]

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
        Cast,
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
        Gather,
        Concat,
        ReduceSum,
        Conv,
        MatMul,
        Harmonics,
        Fourier,
        Fused,
        Call,
    ],
)
"""All party-level operators."""
