"""Two hundred of the suite's cases between three parties: the native engine, links in memory.

Three executions with the same coins agree bit for bit: the engine's, the party interpreter's, and
the simulator's. The cases are chosen so that every operator that counts occurs.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from mpcc import _native
from mpcc.emit.graphdef import emit
from mpcc.ir.interp import fixed
from mpcc.ir.interp.party import SeededKeys, Session
from mpcc.ir.types import BitType, SecureType
from mpcc.passes import pipeline
from mpcc.passes.base import Manager
from mpcc.protocols import Rep3, lower_program
from tests.conformance.onnx_backend import suite
from tests.conformance.onnx_backend.exclusions import exclusions

CHOSEN = json.loads(Path(__file__).with_name("parties.json").read_text("utf-8"))
CHUNKS = 20
SEED = 20

pytestmark = pytest.mark.parties


def test_two_hundred_cases_cover_the_operators():
    assert len(CHOSEN) == len(set(CHOSEN)) == 200
    cases = suite.cases()
    covered = {op for name in CHOSEN for op in cases[name].operators}
    every = {op for name in cases.keys() - exclusions().keys() for op in cases[name].operators}
    assert not every - covered


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_three_parties_equal_the_simulator(chunk):
    for name in CHOSEN[chunk::CHUNKS]:
        run(name)


def run(name):
    built = suite.build(suite.cases()[name])
    lowered = lower_program(built.secure, Rep3())
    keep = {c.value for c in lowered.coins.values() if c.value is not None}
    session = Session(lowered.party, built.weights, SeededKeys(SEED), keep=keep)
    interpreted = session.run(built.inputs, keep=keep)
    values = {**session.setup.values, **interpreted.values}
    coins = {}
    for i, coin in lowered.coins.items():
        type_ = built.secure.main.ops[i].result.type
        assert isinstance(type_, SecureType | BitType)
        coins[i] = coin.read(values, type_.shape)
    simulated = fixed.simulate(built.secure, built.weights, built.inputs, coins)

    program = Manager(pipeline.to_party(lambda _: lowered.party)).run(built.secure)
    words = {
        op.attrs["name"]: np.ascontiguousarray(built.weights[op.attrs["name"]]).astype(
            np.uint64 if op.attrs["ring"] == 64 else np.uint32
        )
        for op in program.main.walk("party.weight")
    }
    floats = {n: np.ascontiguousarray(a, np.float32) for n, a in built.inputs.items()}
    (engine,), _ = _native.run_in_memory(emit(program), words, [floats], SEED)
    assert engine.keys() == simulated.outputs.keys() == built.outputs.keys()
    for output, array in engine.items():
        interpretation = interpreted.outputs[output]
        assert array.tobytes() == interpretation.tobytes(), f"{name}: engine and interpreter"
        np.testing.assert_array_equal(array, simulated.outputs[output], f"{name}: simulator")
