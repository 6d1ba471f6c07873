"""A real network lowered by rep3: fused, emitted, parsed, and predicted without loss."""

import numpy as np
import pytest

from benchmarks import models
from mpcc.cost import count
from mpcc.emit.graphdef import emit, parse
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp.party import run
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.phi import FormatOptions
from mpcc.ir.schedule import ONLINE, SETUP
from mpcc.ir.text import print_module
from mpcc.ir.verify import verify
from mpcc.passes import pipeline
from mpcc.passes.analyse import analyse
from mpcc.passes.base import Checkpoint, Manager
from mpcc.passes.fuse_local import FuseLocal
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights
from mpcc.protocols import Rep3, lower_program


@pytest.fixture(scope="module")
def lowered():
    """(lowered program, weights, a sample) of network A."""
    network = models.network_a()
    samples = models.sample_inputs(network, 3)
    imported = import_onnx(network.serialized())
    checkpoint = Checkpoint(DIALECTS)
    module = Manager(pipeline.TENSOR, checkpoint).run(imported.module)
    constants = checkpoint.constants(imported.constants)
    phi = analyse(module, constants, samples, FormatOptions()).phi
    secure = build_secure(module, phi, FormatOptions())
    return lower_program(secure, Rep3()), encode_weights(constants, secure), samples[0]


def test_emission_keeps_what_runs(lowered):
    program, weights, sample = lowered
    module = program.party.clone()
    FuseLocal().run(module)
    data = emit(module)
    back = parse(data)
    verify(back, DIALECT)
    assert print_module(back) == print_module(module)
    expected = run(program.party, weights, sample, seed=1)
    found = run(back, weights, sample, seed=1)
    np.testing.assert_array_equal(found.outputs["logits"], expected.outputs["logits"])
    # Most elementwise ops are in regions, so this is not an empty exercise.
    inside = sum(len(op.body.ops) for op in module.main.ops if op.body is not None)
    assert inside > len(module.main.ops)


def test_prediction_equals_formulas_and_run(lowered):
    program, weights, sample = lowered
    module = program.party.clone()
    FuseLocal().run(module)
    cost = count(module)
    total = dict(cost.setup.bytes_sent)
    for link, sent in cost.online.bytes_sent.items():
        total[link] = total.get(link, 0) + sent
    assert total == program.bytes_sent
    measured = run(module, weights, sample, seed=2).messages
    for phase, predicted in ((ONLINE, cost.online), (SETUP, cost.setup)):
        assert predicted.rounds == max(m.depth for m in measured if m.phase == phase)
        assert predicted.messages == sum(m.phase == phase for m in measured)
    layers = {layer.name: layer for layer in cost.layers}
    formulas: dict[str, int] = {}
    for entry in program.costs:
        formulas[entry.label] = formulas.get(entry.label, 0) + entry.cost.total_bytes
    for name, sent in formulas.items():
        found = layers[name].online.total_bytes + layers[name].setup.total_bytes
        assert found == sent, name
