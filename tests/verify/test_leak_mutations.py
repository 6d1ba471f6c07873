"""Leaky and wrong programs are refused, all of them; pytest prints the score at its end."""

from __future__ import annotations

from collections import Counter

import pytest

from mpcc.emit.graphdef import emit, parse
from mpcc.errors import MpccError
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.verify import verify
from mpcc.verify_program import (
    check_program,
    compare_with_lowering,
    declared_policy,
    lower_again,
)
from tests.verify.programs import PROGRAMS, lowered
from tests.verify.reveal_mutations import mutants

RUNS = [(name, ring) for name in PROGRAMS for ring in (64, 32)]
STREAMS = ("stream-collision", "drawn-twice")
#: Fewer than every program gives: a change that loses mutants shows.
LEAST = {"leak": 75, "wrong": 20}


@pytest.mark.parametrize(("name", "ring"), RUNS)
def test_mutants_are_refused(name, ring, record_property):
    secure = PROGRAMS[name](ring).module
    policy = declared_policy(secure)
    wanted, program = lower_again(secure, "rep3")
    assert check_program(wanted, policy).all_problems == ()
    assert compare_with_lowering(program, wanted, wanted, program) == []
    made, refused = Counter[str](), Counter[str]()
    escaped = []
    for mutant in mutants(lowered(secure), f"{name}-{ring}", seed=ring):
        data = emit(mutant.module)
        assert data != program, mutant.name
        what = mutant.name.split("/")[1]
        try:
            module = parse(data)
            verify(module, DIALECT)
        except MpccError:
            # Almost all are well-formed programs. Streams that collide are refused by the reader
            # already; the rules, which do not rely on it, must refuse them too.
            assert what in STREAMS, mutant.name
            module = mutant.module
        rules = check_program(module, policy).all_problems
        comparison = compare_with_lowering(data, module, wanted, program)
        made[mutant.kind] += 1
        # What leaks must be seen without knowing the right program.
        if rules if mutant.kind == "leak" else comparison:
            refused[mutant.kind] += 1
        else:
            escaped.append(mutant.name)
        for problem in (*rules, *comparison):
            assert problem.where.startswith("node n"), (mutant.name, problem)
        if mutant.steps and rules:
            text = " ".join(p.where for p in rules)
            assert any(step in text for step in mutant.steps), (mutant.name, mutant.steps, text)
    total = f"{refused.total()} of {made.total()} mutants refused"
    kinds = ", ".join(f"{refused[kind]} of {made[kind]} {kind}" for kind in LEAST)
    record_property("score", f"mutation score, {name} in Z_2^{ring}: {total} ({kinds})")
    record_property("mutants", [refused.total(), made.total()])
    assert escaped == []
    for kind, least in LEAST.items():
        assert made[kind] >= least
