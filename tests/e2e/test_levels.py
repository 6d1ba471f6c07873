"""Every level against the one above: float, fixed point, three parties in numpy, native engine."""

import functools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import pytest

from mpcc import _native, api
from mpcc.artifact import Artifact, load_weights
from mpcc.emit.graphdef import emit, parse
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import fixed, party, real
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions, parse_ranges
from mpcc.passes import pipeline
from mpcc.passes.base import Checkpoint, Manager, no_hook
from mpcc.protocols import lower_program, protocol_named
from mpcc.runtime.owners import prepared_inputs
from tests.e2e.support import MODELS, arrays

SEED = 2**63 + 11

# Model and what differs from the way that `compiled` compiles it.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "A": ("A", {}),
    "A-observed": ("A", {"policy": "observed"}),
    "A-guarded": ("A", {"policy": "guarded", "interval": "image=-512:512"}),
    "A-public": ("A", {"weights": "public"}),
    "A-mixed": ("A", {"owners": {"w1": "public", "b3": "public"}, "local": "none"}),
    "A-local": ("A", {"owners": {"w1": "public", "b3": "public"}}),
    "A-model-input": ("A", {"owners": {"image": "model"}}),
    "A-model-output": ("A", {"owners": {"logits": "model"}}),
    "A-names": ("A", {"keep_names": True}),
    "C": ("C", {}),
    "C-proved": ("C", {"policy": "proved"}),
    "C-guarded": ("C", {"policy": "guarded", "interval": "image=-512:512"}),
    "C-public": ("C", {"weights": "public"}),
    "blazeface": ("blazeface", {}),
    "blazeface-guarded": ("blazeface", {"policy": "guarded"}),
    "blazeface-public": ("blazeface", {"weights": "public"}),
}
CASES = [
    pytest.param(name, marks=pytest.mark.slow) if name.startswith("blaze") else name
    for name in VARIANTS
]


@dataclass(frozen=True)
class Program:
    """A compiled program, its weights, one input, and onnxruntime's answer."""

    artifact: Artifact
    weights: Any
    inputs: Any
    answer: Any
    policy: str

    @property
    def ready(self) -> dict[str, Any]:
        """The inputs as they are shared."""
        return prepared_inputs(self.artifact, self.inputs)


def onnxruntime_answer(source):
    session = onnxruntime.InferenceSession(source.model, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, source.inputs), strict=True))


def deviation(have, want):
    assert have.keys() == want.keys()
    return max(float(np.abs(have[name] - want[name]).max()) for name in want)


@pytest.fixture(scope="session")
def program(compiled):
    """The program of a variant by its name, compiled once."""

    @functools.cache
    def make(name):
        model, change = VARIANTS[name]
        made = compiled(model)
        source = made.source
        answer = onnxruntime_answer(source)
        if not change:
            artifact = Artifact.load(made.artifact)
            weights = load_weights(made.weights, artifact.program_sha256)
            policy = artifact.phi["policy"]
            return Program(artifact, weights, source.inputs, answer, policy)
        change = dict(change)
        policy = change.pop("policy", "proved" if model == "A" else "observed")
        ranges = parse_ranges([change.pop("interval", source.interval)])
        formats = FormatOptions(policy=policy, input_ranges=ranges)
        calibration = None if policy == "proved" else arrays(source.calibration)
        options = CompileOptions(formats=formats, **change)
        found = api.compile(source.model, options=options, calibration=calibration)
        return Program(found.artifact, found.weights, source.inputs, answer, policy)

    return make


@pytest.mark.parametrize("name", MODELS)
def test_float_interpreter_is_onnxruntime(compiled, name):
    """On both sides of the tensor passes; binary32 sums in another order differ a little."""
    source = compiled(name).source
    want = onnxruntime_answer(source)
    imported = import_onnx(str(source.model))
    checkpoint = Checkpoint(DIALECTS)
    for step in (lambda m: m, Manager(pipeline.TENSOR, checkpoint).run):
        module = step(imported.module)
        have = real.run(module, checkpoint.constants(imported.constants), source.inputs)
        assert have.keys() == want.keys()
        for output, array in have.items():
            scale = max(1.0, float(np.abs(want[output]).max()))
            assert np.abs(array - want[output]).max() <= 2e-5 * scale


@pytest.mark.parametrize("name", CASES)
def test_simulator_is_within_a_hundredth(program, name):
    case = program(name)
    assert case.artifact.phi["policy"] == case.policy
    for rounding in ("floor", "worst") if not VARIANTS[name][1] else ("random",):
        found = api.simulate(case.artifact, case.weights, case.inputs, rounding=rounding, seed=3)
        assert not found.overflows
        assert deviation(found.outputs, case.answer) <= 1e-2


@pytest.mark.parametrize("name", CASES)
def test_parties_are_the_simulator_given_their_coins(program, name):
    """The lowering, not yet fused, with its truncation coins read out; fused it is the artifact."""
    case = program(name)
    secure = case.artifact.secure_module
    lowered = lower_program(secure, protocol_named(case.artifact.protocol))
    keep = {coin.value for coin in lowered.coins.values() if coin.value is not None}
    session = party.Session(lowered.party, case.weights, party.SeededKeys(SEED), keep=keep)
    run = session.run(case.ready, keep=keep)
    values = {**session.setup.values, **run.values}
    coins = {}
    for number, coin in lowered.coins.items():
        type_: Any = secure.main.ops[number].result.type
        coins[number] = coin.read(values, type_.shape)
    have = fixed.simulate(secure, case.weights, case.ready, coins)
    assert not have.overflows
    assert have.outputs.keys() == run.outputs.keys() == case.answer.keys()
    for output, array in have.outputs.items():
        np.testing.assert_array_equal(run.outputs[output], array)
    assert deviation(run.outputs, case.answer) <= 1e-2

    again = party.run(parse(case.artifact.program), case.weights, case.ready, SEED)
    for output, array in run.outputs.items():
        np.testing.assert_array_equal(again.outputs[output], array)
    to_party = pipeline.to_party(lambda _: lowered.party)
    assert emit(Manager(to_party, no_hook).run(secure)) == case.artifact.program


@pytest.mark.parametrize("name", CASES)
def test_engine_is_the_party_interpreter(program, name):
    """Outputs bit for bit over two runs, bytes of every link, rounds; all as predicted."""
    case = program(name)
    words = {n: np.ascontiguousarray(w).view(np.uint64) for n, w in case.weights.items()}
    answers, text = _native.run_in_memory(
        case.artifact.program, words, [case.ready] * 2, SEED, threads=2
    )
    measured = json.loads(text)
    session = party.Session(parse(case.artifact.program), case.weights, party.SeededKeys(SEED))
    cost = case.artifact.cost
    assert measured["setup"]["bytes_sent"] == session.setup.bytes_sent
    assert session.setup.bytes_sent == cost["setup"]["bytes_sent"]
    assert measured["setup"]["rounds"] == session.setup.rounds == cost["setup"]["rounds"]
    assert len(answers) == len(measured["runs"]) == 2
    for number, (answer, figures) in enumerate(zip(answers, measured["runs"], strict=True), 1):
        want = session.run(case.ready, number)
        assert answer.keys() == want.outputs.keys()
        for output, array in want.outputs.items():
            assert array.dtype == answer[output].dtype == np.float32
            np.testing.assert_array_equal(answer[output], array)
        assert figures["bytes_sent"] == want.bytes_sent == cost["bytes_sent"]
        assert figures["rounds"] == want.rounds == cost["rounds"]


def test_seeds_matter_and_are_not_used_by_default(program):
    case = program("C")
    words = {n: np.ascontiguousarray(w).view(np.uint64) for n, w in case.weights.items()}

    def answer(*seed):
        found, _ = _native.run_in_memory(case.artifact.program, words, [case.ready], *seed)
        return found[0]["logits"]

    np.testing.assert_array_equal(answer(5), answer(5))
    assert (answer(5) != answer(6)).any()
    # Fresh keys, other coins of the truncations: the last bits differ, and only they.
    one, other = answer(), answer()
    assert (one != other).any()
    assert np.abs(one - other).max() <= 1e-2


def test_public_weights_are_known_to_all_and_cost_less(program):
    secret, public = (program(name).artifact for name in ("A", "A-public"))
    assert sum(public.cost["bytes_sent"].values()) < sum(secret.cost["bytes_sent"].values())
    assert public.program != secret.program
    keys = {op.attrs["owner"] for op in public.secure_module.main.walk("secure.weight")}
    assert keys == {"public"}
    # Public, but no part of the artifact: the model owner still brings them.
    assert {"model->0", "model->1", "model->2"} == public.cost["setup"]["bytes_sent"].keys()


def test_a_guarded_program_clamps_and_a_proved_one_needs_none_here(program):
    def clamps(name):
        return len(list(program(name).artifact.secure_module.main.walk("secure.clamp")))

    assert clamps("A-guarded") > 0
    assert clamps("C-guarded") > 0
    assert clamps("A-observed") == clamps("C") == 0
