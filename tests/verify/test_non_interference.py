"""Weights and calibration data never show in an artifact, for every model that the tests have.

Two statements, byte for byte:

* With the formats Phi kept, other weights and data give the same artifact.
* With ``--disclose none`` they do so with nothing kept.

Models: every row of the operator table, random networks, the golden tensor programs, the benchmark
networks and the face detector.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.models import INPUT_NAME, NETWORKS, sample_inputs
from examples.blazeface import model as blazeface
from mpcc import api
from mpcc.artifact import Artifact
from mpcc.compiler import phi_of
from mpcc.emit.graphdef import emit, parse
from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.ir.calls import inline
from mpcc.ir.core import Module
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.text import print_module
from mpcc.ir.verify import verify
from mpcc.options import CompileOptions
from mpcc.passes import analyse as analysis_module
from mpcc.passes import pipeline
from mpcc.passes.analyse import Analysis, analyse
from mpcc.passes.base import Manager, Pass, Result
from mpcc.passes.declared_formats import analyse_declared
from mpcc.protocols import Rep3, lower_program
from mpcc.verify_program import verify_artifact
from mpcc.verify_program.derived import cost_of, outputs_of
from tests.conformance.onnx_backend.suite import PARAMETERS
from tests.corpus.make_artifacts import tiny_conv
from tests.frontend.rows import ROWS
from tests.passes.secure_nets import random_net
from tests.passes.test_golden import CASES, Case

# Weights of the operator table have up to nine elements of a normal distribution.
DECLARED = FormatOptions(disclose="none", max_error=1.0)


#: By the row: constants that parametrise an operator which it spells out; masks, of which all large
#: ones count alike.
KEPT = {
    "layer norm spelled out": {"e"},
    "rms norm spelled out": {"e"},
    "softmax masked": {"m"},
}

#: Rows whose results are too large for a budget of one near a pole, whatever the weights.
POLES = {"pow minus 3"}

#: Operands that are divided by: what is smaller there makes a larger weight.
DIVISORS = {("Div", 1), ("BatchNormalization", 4)}


BUILT = {row.name: row.build(row.opsets[-1]) for row in ROWS if row.name in KEPT}


def operands(proto: onnx.ModelProto, name: str) -> set[tuple[str, int]]:
    """(operator, index) of everything that takes the tensor."""
    return {(n.op_type, i) for n in proto.graph.node for i, x in enumerate(n.input) if x == name}


def other_weights(model: bytes, seed: int, alike: bool = True) -> bytes:
    """The model with all weights replaced; ``alike`` keeps signs and never makes a weight larger.

    Constants that parametrise an operator (the value of a Pad) are part of the program and stay.
    """
    proto = onnx.load_from_string(model)
    kept = next((names for row, names in KEPT.items() if model == BUILT[row]), set())
    rng = np.random.default_rng(seed)
    for initialiser in proto.graph.initializer:
        old = numpy_helper.to_array(initialiser)
        uses = operands(proto, initialiser.name)
        if initialiser.name in kept:
            continue
        if old.dtype.kind != "f" or any(i in PARAMETERS.get(op, ()) for op, i in uses):
            continue
        if uses & DIVISORS:
            new = old * rng.uniform(1, 1.5, old.shape)
        elif alike:
            new = old * rng.uniform(0.2, 1, old.shape)
        else:
            new = rng.uniform(-1, 1, old.shape) * np.abs(old.astype(np.float64)).max(initial=0)
        initialiser.CopyFrom(numpy_helper.from_array(new.astype(old.dtype), initialiser.name))
    return bytes(proto.SerializeToString())


def data(model: bytes, seed: int, lo: float = -1.0, hi: float = 1.0) -> dict[str, np.ndarray]:
    """Two samples for every input."""
    rng = np.random.default_rng(seed)
    ports = import_onnx(model).inputs
    return {p.name: rng.uniform(lo, hi, (2, *p.shape)).astype(np.float32) for p in ports}


def compiled(model: bytes, formats: FormatOptions, calibration=None) -> api.Compiled:
    options = CompileOptions(formats=formats)
    return api.compile(model, options=options, calibration=calibration)


def made_of(model: bytes, formats: FormatOptions, seed: int) -> api.Compiled:
    """Skips what the declared ranges refuse: there is no artifact to compare."""
    try:
        return compiled(model, formats, data(model, seed))
    except MpccError as error:
        if formats is not DECLARED or error.code not in ("E-range-error", "E-range-weights"):
            raise
        pytest.skip(str(error))


def differ(a: api.Compiled, b: api.Compiled) -> bool:
    """Whether secret weights differ, if there are any: constants of an operator do not."""
    secret = {
        op.attrs["name"]
        for op in a.artifact.secure_module.main.walk("secure.weight")
        if op.attrs["owner"] == "model"
    }
    return not secret or any((a.weights[n] != b.weights[n]).any() for n in secret)


#: One row of every operator in the quick tests, all others beside it in the slow ones.
FIRST = {row.op: row.name for row in reversed(ROWS)}
OPERATORS = [
    pytest.param(
        row.build(row.opsets[-1]),
        id=row.name,
        marks=() if FIRST[row.op] == row.name else pytest.mark.slow,
    )
    for row in ROWS
    if row.name not in POLES
]
MODELS = [*OPERATORS, pytest.param(tiny_conv(), id="tiny conv")]
ABSOLUTE = FormatOptions(max_error=1.0)


class LoweredBefore(Pass):
    """What a compilation made of the same secure program before.

    From fixed point on the compiler has nothing but the secure program: another one is an error
    here, so that weights that show are seen; an equal one need not be lowered again.
    """

    name = "lowered-before"
    level = "secure"

    def __init__(self, artifact: Artifact) -> None:
        self.text = print_module(artifact.secure_module)
        self.party = parse(artifact.program)

    def run(self, module: Module) -> Result:
        assert print_module(module) == self.text
        return Result(self.party, True)


@pytest.fixture
def lowered_before(monkeypatch):
    """A context in which compilations of the secure program of an artifact take its program."""

    @contextmanager
    def known(artifact):
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "to_party", lambda lower: (LoweredBefore(artifact),))
            yield

    return known


@pytest.mark.parametrize("model", MODELS)
def test_same_formats_same_artifact(model, monkeypatch, lowered_before):
    first = made_of(model, ABSOLUTE, 1)
    phi = Phi.from_json(phi_of(first.artifact).to_json())
    monkeypatch.setattr(analysis_module, "analyse", lambda *_: Analysis(phi, (), {}))
    other = other_weights(model, 5)
    with lowered_before(first.artifact):
        second = compiled(other, ABSOLUTE, data(model, 2))
    assert first.artifact.to_bytes() == second.artifact.to_bytes()
    # Weights that are whole numbers stay.
    assert differ(first, second) or other == model


@pytest.mark.parametrize("model", MODELS)
def test_nothing_disclosed(model, lowered_before):
    first = made_of(model, DECLARED, 1)
    other = other_weights(model, 5)
    with lowered_before(first.artifact):
        second = made_of(other, DECLARED, 2)
    assert first.artifact.to_bytes() == second.artifact.to_bytes()
    assert differ(first, second) or other == model
    assert first.artifact.disclosed_bits == 0
    assert verify_artifact(Artifact.from_bytes(first.artifact.to_bytes())).all_problems == ()


@pytest.mark.parametrize("value_range", [None, 64.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_disclosed_of_networks(name, value_range, tmp_path):
    """With the error budget of every compilation; the private report has the error."""
    formats = FormatOptions(
        disclose="none", input_ranges={INPUT_NAME: (0, 1)}, value_range=value_range
    )
    made = []
    for seed in (1, 2):
        network = NETWORKS[name](seed=seed)
        samples = [x[INPUT_NAME] for x in sample_inputs(network, 3, seed)]
        calibration = {INPUT_NAME: np.concatenate(samples)} if seed == 2 else None
        made.append(compiled(network.serialized(), formats, calibration))
    assert made[0].artifact.to_bytes() == made[1].artifact.to_bytes()
    assert differ(*made)
    for one in made:
        # Coarse enough for a bound, fine enough to see that the error is one of this network.
        assert 0 < one.private["measured_error"]["logits"] < formats.max_error / 2
    network = NETWORKS[name](seed=1)
    inputs = sample_inputs(network, 1, seed=9)[0]
    result = api.simulate(made[0].artifact, made[0].weights, inputs)
    assert result.overflows == ()
    path = tmp_path / "model.onnx"
    path.write_bytes(network.serialized())
    reference = api.compare(path, inputs, result.outputs)
    assert reference.rows["logits"].deviation < formats.max_error


@pytest.mark.slow
def test_nothing_disclosed_of_the_face_detector():
    model = blazeface.model_path().read_bytes()
    formats = FormatOptions(
        disclose="none",
        input_ranges={blazeface.INPUT_NAME: (-1, 1)},
        weight_range=128.0,
        value_range=1024.0,
        max_error=0.25,
    )
    first = compiled(model, formats)
    # Weights without any likeness would promise less than these ranges.
    second = compiled(other_weights(model, 5), formats, data(model, 3))
    assert first.artifact.to_bytes() == second.artifact.to_bytes()
    assert differ(first, second)
    assert max(first.private["measured_error"].values()) < 0.1


# --- programs that come as tensor IR -------------------------------------------------------------


def artifact_of(module, phi: Phi, options: FormatOptions) -> bytes:
    """What `compile` makes of a tensor module and its formats."""
    public = Manager(pipeline.PUBLISH).run(module.clone())
    secure = Manager(pipeline.to_secure(phi, options)).run(public)
    party = Manager(pipeline.to_party(lambda m: lower_program(m, Rep3()).party)).run(secure)
    return Artifact.create(
        tensor_module=public,
        secure_module=secure,
        program=emit(party),
        protocol="rep3",
        phi=phi.public(),
        formats=options.public(),
        inputs=[op.attrs for op in secure.main.walk("secure.input")],
        outputs=outputs_of(public),
        cost=cost_of(party),
        version="0",
    ).to_bytes()


def golden_tensor_programs():
    for path in CASES:
        case = Case.read(path)
        if case.head.partition("module ")[2].startswith("tensor"):
            # Under --disclose none calls are written out (of others: tests/e2e/test_calls.py).
            module = inline(case.module()).module
            yield pytest.param(module, id=f"{path.parent.name}/{path.stem}")


PROGRAMS = [
    *golden_tensor_programs(),
    *(pytest.param(random_net(seed).module, id=f"random {seed}") for seed in range(12)),
]


def constants_and_samples(module, seed):
    rng = np.random.default_rng(seed)
    constants = {
        op.attrs["name"]: rng.uniform(-1, 1, op.attrs["shape"]).astype(np.float32)
        for op in module.main.walk(tensor.Weight.name)
    }
    samples = [
        {
            op.attrs["name"]: rng.uniform(-1, 1, op.attrs["shape"]).astype(np.float32)
            for op in module.main.walk(tensor.Input.name)
        }
        for _ in range(2)
    ]
    return constants, samples


@pytest.mark.parametrize("module", PROGRAMS)
def test_tensor_programs(module):
    verify(module, DIALECTS["tensor"])
    first, second = constants_and_samples(module, 1), constants_and_samples(module, 2)
    phi = analyse(module, first[0], first[1], ABSOLUTE).phi
    artifact = artifact_of(module, phi, ABSOLUTE)
    # Formats that the other weights fit in too.
    assert artifact == artifact_of(module, phi, ABSOLUTE)
    formats = [analyse_declared(module, w, x, DECLARED).phi for w, x in (first, second)]
    assert formats[0] == formats[1]
    made = artifact_of(module, formats[0], DECLARED)
    assert verify_artifact(Artifact.from_bytes(made)).all_problems == ()
    report = verify_artifact(Artifact.from_bytes(artifact))
    assert report.all_problems == ()


# --- what is declared is checked -----------------------------------------------------------------


def refusal(formats: FormatOptions, calibration=None, model: bytes | None = None) -> MpccError:
    with pytest.raises(MpccError) as caught:
        compiled(tiny_conv() if model is None else model, formats, calibration)
    return caught.value


def test_weights_outside_the_declared_range_are_all_named():
    error = refusal(FormatOptions(disclose="none", weight_range=0.25))
    assert [d.code for d in error.diagnostics] == ["E-range-weights"] * 3
    assert "--weight-range 0.5" in error.diagnostics[0].fix


def test_values_outside_the_promised_range_are_named():
    error = refusal(FormatOptions(disclose="none", value_range=2.0))
    assert {d.code for d in error.diagnostics} == {"E-range-values"}
    model = tiny_conv()
    inputs = {"x": 3 * data(model, 1)["x"]}
    formats = FormatOptions(disclose="none", input_ranges={"x": (-1, 1)})
    assert refusal(formats, inputs).code == "E-range-input"


def test_formats_that_do_not_fit_or_do_not_do():
    wide = FormatOptions(disclose="none", weight_range=2.0**40)
    assert refusal(wide).code == "E-range-fit"
    coarse = FormatOptions(disclose="none", fraction_bits=8, max_error=1e-6)
    assert refusal(coarse).code == "E-range-error"
    unknown = FormatOptions(disclose="none", input_ranges={"z": (0, 1)})
    assert refusal(unknown).code == "E-range-name"


@pytest.mark.parametrize(
    "options",
    [
        {"disclose": "some"},
        {"weight_range": 4.0},
        {"value_range": 4.0, "disclose": "per-model"},
        {"fraction_bits": 9},
        {"disclose": "none", "fraction_bits": 3},
        {"disclose": "none", "weight_range": -1.0},
        {"disclose": "none", "value_range": float("nan")},
        {"disclose": "none", "policy": "observed"},
        {"disclose": "none", "policy": "proved", "value_range": 4.0},
    ],
)
def test_options_that_contradict(options):
    with pytest.raises(MpccError, match="E-option"):
        FormatOptions(**options)


def test_declared_ranges_are_sound():
    """Whatever weights of the declared range: no value of a random net leaves its format."""
    for seed in range(6):
        net = random_net(seed)
        options = FormatOptions(disclose="none", input_ranges={"x": (-1, 1)}, max_error=2.0**9)
        rng = np.random.default_rng(seed)
        extreme = {n: rng.choice([-7.99, 7.99], a.shape) for n, a in net.constants.items()}
        analysis = analyse_declared(net.module, extreme, (), options)
        observed = [layer for layer in analysis.private["layers"] if layer["bits"] is not None]
        clamped = [layer["op"] for layer in observed if layer["clamp"] is not None]
        first = min(clamped, default=len(observed) + 10**6)
        for layer in observed:
            # Behind a clamp the float model, which has none, may be larger.
            if layer["op"] < first:
                assert layer["observed"] < 2.0 ** layer["bits"]


def test_the_list_of_golden_programs_is_not_empty_by_accident():
    assert len(list(golden_tensor_programs())) >= 15
