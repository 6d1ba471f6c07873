"""Good programs are accepted: every protocol case, every role, real networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import models
from examples.blazeface import model as blazeface
from examples.blazeface.photographs import calibration_inputs
from mpcc import api
from mpcc.artifact import Artifact
from mpcc.ir.phi import FormatOptions
from mpcc.ir.types import COMPUTE_PLACES, OWNER_PLACES
from mpcc.protocols.rep3.sharing import ROLES
from mpcc.protocols.roles import FixedRole
from mpcc.verify_program import check_program, declared_policy, verify_artifact
from tests.conformance.cases import CASES
from tests.protocols.support import Program
from tests.verify.programs import PROGRAMS, fused, lowered

#: A party with an owner, and both owners. Two parties together know everything in rep3.
COALITIONS = (
    *(frozenset({p, o}) for p in COMPUTE_PLACES for o in OWNER_PLACES),
    frozenset(OWNER_PLACES),
)


def accepted(program: Program, balancer=None):
    policy = replace(declared_policy(program.module), coalitions=COALITIONS)
    party = lowered(program.module, balancer)
    for module in (party, fused(party)):
        assert check_program(module, policy).all_problems == ()


@pytest.mark.parametrize("ring", [64, 32])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_protocol_cases(case, ring):
    accepted(case.build(ring))


@pytest.mark.parametrize("role", range(len(ROLES)))
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_role(name, role):
    accepted(PROGRAMS[name](64), FixedRole(role))


@pytest.mark.parametrize("network", ["network_a", "network_c"])
@pytest.mark.parametrize("policy", ["proved", "observed"])
def test_networks(network, policy, tmp_path):
    model = getattr(models, network)()
    samples = {n: a[None] for n, a in models.sample_inputs(model, 1)[0].items()}
    options = api.CompileOptions(formats=FormatOptions(policy=policy), local="none")
    data = samples if policy == "observed" else None
    compiled = api.compile(model.serialized(), options=options, calibration=data)
    compiled.save(tmp_path / "m.mpcc")
    loaded = Artifact.load(tmp_path / "m.mpcc")
    declared = replace(declared_policy(loaded.secure_module), coalitions=COALITIONS)
    report = verify_artifact(loaded, declared)
    assert report.all_problems == ()
    assert report.accepted
    assert len(report.observers) == 5 + len(COALITIONS)


@pytest.mark.slow
def test_blazeface():
    """2 254 nodes; the pretrained face detector of the examples."""
    samples = {blazeface.INPUT_NAME: np.array(list(calibration_inputs()))}
    compiled = api.compile(blazeface.model_path(), calibration=samples)
    report = verify_artifact(
        compiled.artifact,
        replace(declared_policy(compiled.artifact.secure_module), coalitions=COALITIONS),
    )
    assert report.all_problems == ()
    (client,) = [o for o in report.observers if o.places == "client"]
    assert len(client.opened) == 4
