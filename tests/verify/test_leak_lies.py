"""Artifacts that lie about themselves are refused, all of them, with the reason."""

from __future__ import annotations

from collections import Counter

import pytest

from mpcc import api
from mpcc.artifact import Artifact
from mpcc.errors import MpccError
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions
from mpcc.verify_program import verify_artifact
from tests.corpus.make_artifacts import tiny_conv
from tests.verify.artifact_mutations import lies

#: Fewer than there are: a change that loses mutants shows.
LEAST = {"manifest": 36, "cost": 10, "text": 7, "secure": 25, "tensor": 12}


def codes_of(data: bytes) -> set[str]:
    artifact = Artifact.from_bytes(data)
    try:
        return {p.code for p in verify_artifact(artifact).all_problems}
    except MpccError as error:
        return {d.code for d in error.diagnostics}


@pytest.mark.parametrize("disclose", ["per-tensor", "none"])
def test_lies_are_refused(disclose, record_property):
    options = CompileOptions(formats=FormatOptions(disclose=disclose))
    artifact = api.compile(tiny_conv(), options=options).artifact
    assert codes_of(artifact.to_bytes()) == set()
    made, refused = Counter[str](), 0
    escaped = []
    for lie in lies(artifact):
        made[lie.name.partition("/")[0]] += 1
        found = codes_of(lie.data)
        if found & set(lie.codes):
            refused += 1
        else:
            escaped.append((lie.name, lie.codes, found))
    record_property(
        "score",
        f"mutation score, artifacts that lie, {disclose}: {refused} of "
        f"{made.total()} mutants refused",
    )
    record_property("mutants", [refused, made.total()])
    assert escaped == []
    assert all(made[kind] >= least for kind, least in LEAST.items()), made
