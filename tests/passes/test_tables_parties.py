"""Classical and quantised models: accepted by the checker, and the same bits in every engine."""

import numpy as np
import pytest

from mpcc import _native
from mpcc.emit.graphdef import emit
from mpcc.frontend import import_onnx
from mpcc.ir.interp import fixed, party, real
from mpcc.ir.phi import FormatOptions
from mpcc.passes.analyse import analyse
from mpcc.passes.fuse_local import FuseLocal
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights
from mpcc.protocols import Rep3, lower_program
from mpcc.verify_program import check_program, declared_policy
from tests.frontend.rows import quantised
from tests.frontend.test_ml import CASES, built
from tests.frontend.test_trees import classifier
from tests.ir.samples import type_of

SEED = 3


def of_row(name):
    (row,) = (r for r in quantised.ROWS if r.name == name)
    return row.build(row.opsets[-1])


def of_case(name):
    op, outputs, x, attrs = CASES[name]
    return built(op, outputs, x, **attrs)


MODELS = {
    "trees": lambda: classifier(1, depths=(3, 4), rows=2),
    "trees of two classes": lambda: classifier(
        1, 2, depths=(2, 2), rows=2, one_output=True, post_transform="LOGISTIC"
    ),
    "linear": lambda: of_case("linear classifier, 3 classes, 3 rows, SOFTMAX"),
    "support vectors": lambda: of_case("support vectors, RBF"),
    "labels": lambda: of_case("integers to floats"),
    "quantised matmul": lambda: of_row("quantised matmul"),
    "dynamic": lambda: of_row("dynamic quantize"),
}


@pytest.mark.parametrize("name", MODELS)
def test_all_engines_agree(name):
    imported = import_onnx(MODELS[name]())
    (port,) = imported.inputs
    options = FormatOptions(policy="proved", input_ranges={port.name: (-3.0, 3.0)}, max_error=0.05)
    module = imported.module
    phi = analyse(module, imported.constants, (), options).phi
    made = build_secure(module, phi, options)
    weights = encode_weights(imported.constants, made)
    lowered = lower_program(made, Rep3())
    keep = {c.value for c in lowered.coins.values() if c.value is not None}
    session = party.Session(lowered.party, weights, party.SeededKeys(SEED), keep=keep)
    rng = np.random.default_rng(1)
    x = (rng.integers(-48, 48, port.shape) / 16).astype(np.float32)
    if name == "labels":
        x = np.rint(x)
    given = {port.name: x.astype(np.float64)}
    run = session.run(given, keep=keep)
    values = {**session.setup.values, **run.values}
    shapes = {i: type_of(made.main.ops[i].result).shape for i in lowered.coins}
    coins = {i: coin.read(values, shapes[i]) for i, coin in lowered.coins.items()}
    simulated = fixed.simulate(made, weights, given, coins)
    assert not simulated.overflows
    want = real.run(module, imported.constants, given)
    for output in imported.outputs:
        np.testing.assert_array_equal(run.outputs[output.name], simulated.outputs[output.name])
        # Decisions may fall either way where they are close: one class, or one integer.
        if output.dtype == "f32" and name not in ("quantised matmul", "dynamic"):
            have = run.outputs[output.name]
            np.testing.assert_allclose(have, want[output.name], atol=0.05)
        else:
            assert np.abs(run.outputs[output.name] - want[output.name]).max() <= 1
    fused = lowered.party.clone()
    FuseLocal().run(fused)
    policy = declared_policy(made)
    assert check_program(lowered.party, policy).all_problems == ()
    for program in (lowered.party, fused):
        (found,), _ = _native.run_in_memory(
            emit(program), weights, [{port.name: x}], SEED, threads=2
        )
        for output in imported.outputs:
            assert found[output.name].tobytes() == run.outputs[output.name].tobytes()
