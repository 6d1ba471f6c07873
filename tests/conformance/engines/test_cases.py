"""Every protocol case on the native engine: all shares equal the interpreter's, bit for bit.

With equal seeds each party must hold the same words. An output is binary32, so every share is
handed to the client in pieces of 22 bits.
"""

import numpy as np
import pytest

from mpcc import _native
from mpcc.emit.graphdef import emit
from mpcc.ir.interp.party import SeededKeys, Session
from mpcc.ir.ops import party
from mpcc.ir.types import RingType
from mpcc.passes.fuse_local import FuseLocal
from mpcc.protocols import Rep3, lower_program
from tests.conformance.cases import CASES

PIECE, SEED = 22, 7


def with_all_shares(lowered):
    """The program with every share as outputs of the client; their number."""
    main, count = lowered.party.main, 0

    def op(definition, *operands, **attrs):
        made = main.append(definition, operands, attrs, "shown")
        return made.results[0] if made.results else None

    values = {v for share in lowered.shares.values() for v in share.values()}
    held = [v for o in main.ops for v in o.results if v in values]
    for value in held:
        type_ = value.type
        there = op(party.Transfer, value, to="client", step=f"shown_{count}")
        ring = isinstance(type_, RingType)
        shape = type_.shape if ring else (type_.lanes,)
        for shift in range(0, type_.ring, PIECE) if ring else (0,):
            bits = there
            if ring:
                bits = op(party.BitSlice, there, planes=min(PIECE, type_.ring - shift), shift=shift)
            words = op(party.FromBits, bits, shape=shape, ring=32)
            op(party.Output, op(party.Decode, words, frac=0), name=f"share{count}")
            count += 1
    return lowered.party, count


@pytest.mark.parametrize("ring", [64, 32])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_shares_equal_the_interpreters(case, ring):
    program = case.build(ring)
    module, count = with_all_shares(lower_program(program.module, Rep3(), keep_shares=True))
    dtype = np.uint64 if program.ring == 64 else np.uint32
    words = {name: raw.astype(dtype) for name, raw in program.weights.items()}
    session = Session(module, program.weights, SeededKeys(SEED))
    run = session.run(program.inputs)
    expected = {**session.setup.outputs, **run.outputs}
    assert len(expected) >= count
    fused = module.clone()
    FuseLocal().run(fused)
    for made in (module, fused):
        (found,), _ = _native.run_in_memory(emit(made), words, [program.inputs], SEED, threads=2)
        assert found.keys() == expected.keys()
        for name, array in found.items():
            assert array.shape == expected[name].shape
            assert array.tobytes() == expected[name].tobytes(), name
