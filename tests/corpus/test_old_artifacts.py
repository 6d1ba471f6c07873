"""Files of every version of the format do what is written down for them, for ever."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mpcc import api
from mpcc.artifact import FORMAT, Artifact, load_weights
from mpcc.errors import MpccError
from mpcc.runtime import native
from tests.corpus.make_artifacts import ARTIFACTS, INPUTS

OUTCOMES = json.loads((ARTIFACTS / "outcomes.json").read_text())
FILES = sorted(ARTIFACTS.glob("*/*.mpcc"))


def test_every_version_has_files_and_an_outcome():
    assert set(OUTCOMES) == {p.parent.name for p in FILES} == {str(n + 1) for n in range(FORMAT)}
    assert OUTCOMES[str(FORMAT)] == "loads"


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_outcome(path):
    wanted = OUTCOMES[path.parent.name]
    if wanted == "loads":
        artifact = Artifact.load(path)
        assert artifact.manifest["format"] == int(path.parent.name)
        assert artifact.secure_module.main.ops
        assert api.cost(artifact).cost.online.rounds == artifact.cost["rounds"]
        return
    with pytest.raises(MpccError) as caught:
        Artifact.load(path)
    assert caught.value.code == wanted
    (problem,) = caught.value.diagnostics
    assert f"format {path.parent.name}," in problem.what
    assert f"formats {FORMAT - 1} and {FORMAT}" in problem.what


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.stem in INPUTS], ids=lambda p: p.parent.name
)
def test_old_programs_give_their_old_answers(path):
    if OUTCOMES[path.parent.name] != "loads":
        with pytest.raises(MpccError, match="E-artifact-version"):
            Artifact.load(path)
        return
    artifact = Artifact.load(path)
    weights = load_weights(path.with_suffix(".weights"), artifact.program_sha256)
    expected, inputs = np.load(path.with_suffix(".npy")), INPUTS[path.stem]()
    answer = api.simulate(artifact, weights, inputs, rounding="floor")
    np.testing.assert_array_equal(answer.outputs["y"], expected)
    for engine in ("party-interpreter", "native"):
        # Verified against the lowering of its time, not against this one.
        run = api.run_local(artifact, weights, inputs, engine=engine, require_verified=False)
        np.testing.assert_allclose(run.outputs["y"], expected, atol=2.0**-7)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_engine_reads_the_same_versions(path):
    """Compiler and engine know the same format."""
    read = native.engine().artifact_program
    if OUTCOMES[path.parent.name] == "loads":
        assert read(str(path)) == Artifact.load(path).program
        return
    with pytest.raises(Exception, match=OUTCOMES[path.parent.name]):
        read(str(path))
