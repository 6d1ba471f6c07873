"""What a session refuses: weights and manifests of another program; range ends, leftovers."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from onnx import TensorProto, helper

import mpcc
from benchmarks import models
from mpcc.artifact import save_weights
from mpcc.emit.graphdef import emit, parse
from mpcc.errors import Diagnostic
from mpcc.ir.ops import party
from mpcc.ir.phi import FormatOptions


@pytest.fixture(scope="module")
def compiled():
    model = models.NETWORKS["A"]()
    samples = np.random.default_rng(2).uniform(0, 1, (4, 1, 784)).astype(np.float32)
    return mpcc.compile(model.serialized(), calibration={"image": samples}), samples[0]


def changed(compiled, name, array):
    return {**compiled.weights, name: array}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda w: w.T.copy(), "E-weights-shape"),
        (lambda w: w.astype(np.float64), "E-weights-shape"),
        (lambda w: w.astype(np.uint32), "E-weights-shape"),
        (lambda w: w | np.array(1 << 60, w.dtype), "E-weights-range"),
    ],
)
def test_weights_that_do_not_fit_are_refused(compiled, change, code):
    program, image = compiled
    name = next(n for n, w in program.weights.items() if w.ndim == 2 and w.shape[0] != w.shape[1])
    weights = changed(program, name, change(np.asarray(program.weights[name])))
    with pytest.raises(mpcc.MpccError, match=code) as caught:
        mpcc.run_local(program.artifact, weights, {"image": image}, engine="party-interpreter")
    assert name in str(caught.value)


def test_missing_and_unknown_weights_are_all_named(compiled):
    program, image = compiled
    weights = dict(program.weights)
    lost = sorted(weights)[0]
    weights["stranger"] = weights.pop(lost)
    with pytest.raises(mpcc.MpccError) as caught:
        mpcc.simulate(program.artifact, weights, {"image": image})
    assert {d.where for d in caught.value.diagnostics} == {lost, "stranger"}


def test_a_manifest_that_is_not_the_programs_is_refused(compiled):
    program, image = compiled
    manifest = dict(program.artifact.manifest)
    manifest["outputs"] = [{**manifest["outputs"][0], "name": "other"}]
    forged = mpcc.Artifact(manifest, program.artifact._entries)
    with pytest.raises(mpcc.MpccError, match="E-artifact-interface"):
        mpcc.simulate(forged, program.weights, {"image": image})


def relu_model():
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()


@pytest.mark.parametrize("policy", ["proved", "guarded", "observed"])
@pytest.mark.parametrize("end", [0.9999999, 1.0, 0.9995, 0.97, 3.999])
def test_the_ends_of_the_input_range_are_right(policy, end):
    # Encoding may round 0.9999999 up to 1, which needs one more bit than 0.9999999.
    options = mpcc.CompileOptions(
        formats=FormatOptions(policy=policy, input_ranges={"x": (-end, end)})
    )
    x = np.array([end, -end, 0.5 * end, 0.0], np.float32)
    samples = np.stack([0.1 * x, 0.2 * x])
    program = mpcc.compile(relu_model(), options=options, calibration={"x": samples})
    result = mpcc.run_local(program.artifact, program.weights, {"x": x}, engine="party-interpreter")
    np.testing.assert_allclose(result.outputs["y"], np.maximum(x, 0), atol=2.0**-7)


def test_control_characters_never_reach_a_terminal():
    text = str(Diagnostic("E-x", "bad \x1b]0;title\x07", "node \x1b[31m", "line\nbreak"))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "line\nbreak" in text


def test_a_terminated_run_leaves_nothing_behind(compiled, tmp_path):
    program, image = compiled
    path = tmp_path / "a.mpcc"
    program.save(path)
    np.savez(tmp_path / "x.npz", image=image)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "mpcc", "run", str(path), "--repeat", "1000000"]
    running = subprocess.Popen(
        [*command, "--input", str(tmp_path / "x.npz")],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(300):
        time.sleep(0.1)
        if list(scratch.glob("mpcc-*/program.mpcc")):
            break
    time.sleep(1.0)
    assert running.poll() is None
    assert not list(scratch.glob("mpcc-*/*.key"))
    running.send_signal(signal.SIGTERM)
    assert running.wait(15) == 128 + signal.SIGTERM
    assert not list(scratch.iterdir())


def leaking(compiled):
    """The program with one more message: the client's encoded input, in the clear, to P0."""
    program, _ = compiled
    module = parse(program.artifact.program)
    main = module.main
    given = next(op for op in main.ops if op.name == "party.input")
    secure = next(op for op in program.artifact.secure_module.main.walk("secure.input"))
    attrs = {"frac": secure.attrs["frac"], "lo": secure.attrs["lo"], "hi": secure.attrs["hi"]}
    encoded = main.append(party.Encode, [given.result], attrs).result
    main.append(party.Transfer, [encoded], {"to": "P0", "step": "share"})
    entries = dict(program.artifact._entries)
    entries["program.pb"] = emit(module)
    digest = hashlib.sha256(entries["program.pb"]).hexdigest()
    manifest = json.loads(entries["manifest.json"])
    manifest["program_sha256"] = manifest["entries"]["program.pb"] = digest
    entries["manifest.json"] = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    return mpcc.Artifact(manifest, entries), digest


def test_run_refuses_a_program_that_leaks(compiled, tmp_path):
    program, image = compiled
    artifact, digest = leaking(compiled)
    artifact.save(tmp_path / "m.mpcc")
    save_weights(tmp_path / "m.weights", dict(program.weights), digest)
    np.savez(tmp_path / "x.npz", image=image)
    command = [sys.executable, "-m", "mpcc", "run", "m.mpcc", "--input", "x.npz"]

    def run(*more):
        return subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True)

    refused = run()
    assert refused.returncode == 2
    assert "E-run-unverified" in refused.stderr
    assert "P0" in refused.stderr
    # With everything else honest it does run: nothing but the check stands in its way.
    assert run("--trust-artifact").returncode == 0


def test_the_python_interface_refuses_a_program_that_leaks(compiled):
    program, image = compiled
    artifact, _ = leaking(compiled)
    with pytest.raises(mpcc.MpccError) as caught:
        mpcc.run_local(artifact, dict(program.weights), {"image": image})
    assert caught.value.code == "E-run-unverified"
