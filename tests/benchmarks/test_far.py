"""Programs that are made for a network: never slower there, verified, and as exact as others."""

import numpy as np
import pytest

from benchmarks.cases import CASES
from benchmarks.far import compare
from benchmarks.models import network_a, sample_inputs
from mpcc import api
from mpcc.cost import PROFILES, Link, Profile
from mpcc.options import CompileOptions
from mpcc.verify_program import verify_artifact


@pytest.mark.parametrize(("name", "networks"), [("A1", ("edge",)), ("C1", ("wan",))])
def test_the_chosen_program_is_the_fastest(name, networks):
    rows = list(compare(name, networks))
    assert [row.network for row in rows] == list(networks)
    for row in rows:
        assert row.chosen.seconds <= min(row.near.seconds, row.far.seconds)
        assert row.chosen.rounds < row.near.rounds
        assert row.near.seconds > 1.1 * row.chosen.seconds


def test_answers_and_verification():
    """The manifest says what the program was made for; numbers are those of any network."""
    material = CASES["A1"].make()
    options = CompileOptions(formats=material.formats)
    made = {
        network: api.compile(
            material.model, options=options, calibration=material.calibration, network=network
        )
        for network in ("lan", "wan")
    }
    near, far = made["lan"], made["wan"]
    assert "round_bytes" not in near.artifact.manifest["formats"]
    assert far.artifact.manifest["formats"]["round_bytes"] == 880_000
    assert far.artifact.phi == near.artifact.phi
    assert any("network wan" in note for note in far.notes)
    assert verify_artifact(far.artifact).accepted
    inputs = sample_inputs(network_a(), 1, seed=3)[0]
    expected = api.simulate(near.artifact, near.weights, inputs).outputs
    found = api.run_local(far.artifact, far.weights, inputs, engine="party-interpreter").outputs
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=2 * material.formats.max_error)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (PROFILES["lan"], 120_000),
        (PROFILES["wan"], 880_000),
        (PROFILES["none"], 0),
        (Profile("p", Link(0.0, 1e9)), 0),
        (
            Profile("p", Link(1e-3, 1e9), {"0->1": Link(0.1, 1e9), "client->0": Link(9.0, 1.0)}),
            12e6,
        ),
    ],
)
def test_round_bytes_of_profiles(profile, expected):
    assert profile.round_bytes == expected
