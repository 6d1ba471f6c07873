"""A block with layer normalisation, a masked softmax and quotients: compiled, verified, run."""

from typing import Any

import numpy as np
import onnxruntime
import pytest

from mpcc import api
from mpcc.ir.phi import FormatOptions
from mpcc.verify_program import declared_policy, verify_artifact
from tests.frontend.models import model, node
from tests.frontend.rows.table import weights

ERROR = 2.0**-7


@pytest.fixture(scope="module")
def block():
    """The model, its program, an input and onnxruntime's answer."""
    nodes = [
        node("LayerNormalization", ["x", "s", "b"], ["n"], name="norm", epsilon=1e-12),
        node("MatMul", ["n", "w"], ["q"], name="scores"),
        node("Add", ["q", "m"], ["a"], name="mask"),
        node("Softmax", ["a"], ["p"], name="softmax"),
        node("ReduceL2", ["x", "axes"], ["l"], name="norm of x"),
        node("Div", ["p", "l"], ["y"], name="quotient"),
    ]
    constants: dict[str, Any] = {
        "s": 1 + weights(24) / 8, "b": weights(24) / 8, "w": weights(24, 10) / 4,
        "m": np.where(np.arange(10) < 7, 0, -1e9).astype(np.float32), "axes": np.array([1]),
    }  # fmt: skip
    data = model(nodes, {"x": (6, 24)}, {"y": 2}, constants, 18).SerializeToString()
    x = np.random.default_rng(1).normal(1.0, 2.0, (8, 6, 24)).astype(np.float32)
    formats = FormatOptions(max_error=ERROR, input_ranges={"x": (-16.0, 16.0)})
    options = api.CompileOptions(formats=formats, local="none")
    compiled = api.compile(data, options=options, calibration={"x": x})
    inputs = {"x": x[0]}
    return compiled, inputs, onnxruntime.InferenceSession(data).run(None, inputs)[0]


def test_the_leak_checker_accepts_it(block):
    artifact = block[0].artifact
    report = verify_artifact(artifact, declared_policy(artifact.secure_module))
    assert report.all_problems == ()
    assert report.accepted


@pytest.mark.parametrize("engine", ["native", "party-interpreter"])
def test_three_parties_agree_with_onnxruntime(block, engine):
    compiled, inputs, want = block
    run = api.run_local(compiled.artifact, compiled.weights, inputs, engine=engine, deadline=60.0)
    assert np.abs(run.outputs["y"] - want).max() <= ERROR
    # What is masked is zero, but for a rounding.
    assert np.abs(run.outputs["y"][:, 7:]).max() <= 2.0 ** (1 - compiled.artifact.phi["frac"])
