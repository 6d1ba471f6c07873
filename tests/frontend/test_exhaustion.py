"""Small models that ask for much: an error, or a small program, soon and in little memory."""

import json
import subprocess
import sys

import numpy as np
import pytest

import mpcc
from mpcc.frontend import import_onnx
from mpcc.ir import encodings
from tests.frontend import exhaustion
from tests.frontend.exhaustion import ATTACKS, ids


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, object]]:
    """What came of each, in one process with limits on memory and processor time."""
    command = [sys.executable, "-m", "tests.frontend.exhaustion"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = {row["name"]: row for row in rows}
    missing = [name for name in ATTACKS if name not in found]
    assert not missing, f"{missing[0]}: exit code {done.returncode}: {done.stderr[-1000:]}"
    return found


@pytest.mark.parametrize("name", ATTACKS)
def test_it_ends_soon_and_in_little_memory(outcomes, name):
    row, expected = outcomes[name], ATTACKS[name][1]
    if expected:
        assert row["code"].startswith(expected), row["text"]
        assert ("not enough memory" in row["text"]) == (name == "memory")
    else:
        assert row["code"] == "", row["text"]


def test_copies_of_a_loop_share_their_weights(outcomes):
    assert outcomes["weights of a loop"]["weights"] == 1
    # One of each branch, and the zero of the condition.
    assert outcomes["weights of branches in a loop"]["weights"] == 3


def test_few_positions_may_be_used_elsewhere_too():
    assert import_onnx(ids(4, 1 << 8).SerializeToString()).outputs[0].shape == (4, 2)


@pytest.mark.parametrize("engine", ["party-interpreter"])
def test_rows_are_not_made_for_a_program_that_is_too_large(tmp_path, monkeypatch, engine):
    made = exhaustion.lookup(8, 16)
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    compiled = mpcc.compile(path)
    given = {"ids": np.arange(8)}

    def refuse(*_: object) -> None:
        raise AssertionError("rows were made")

    want = mpcc.simulate(compiled.artifact, compiled.weights, given).outputs["y"]
    np.testing.assert_allclose(want, np.arange(16).reshape(16, 1)[:8] * [1, 1], atol=1e-2)
    monkeypatch.setattr(encodings, "one_hot", refuse)
    with pytest.raises(mpcc.MpccError, match="E-limit-memory"):
        mpcc.run_local(compiled.artifact, compiled.weights, given, engine=engine, max_memory=1)
