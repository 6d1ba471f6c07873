"""Leaky and wrong programs are refused, all of them; the score is printed."""

from __future__ import annotations

from collections import Counter

import pytest

from mpcc.emit.graphdef import emit, parse
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

Tally = Counter[tuple[str, str]]
RUNS = [(name, ring) for name in PROGRAMS for ring in (64, 32)]
#: Fewer than the programs give, more than are asked for: a change that loses mutants shows.
LEAST = {"leak": 400, "wrong": 120}


@pytest.fixture(scope="module")
def scores():
    """Per run: refused and made, by kind. Filled by the tests, judged at the end."""
    return {}


@pytest.mark.parametrize(("name", "ring"), RUNS)
def test_mutants_are_refused(name, ring, scores):
    secure = PROGRAMS[name](ring).module
    policy = declared_policy(secure)
    wanted, program = lower_again(secure, "rep3")
    assert check_program(wanted, policy).all_problems == ()
    assert compare_with_lowering(program, wanted, wanted, program) == []
    made: Tally = Counter()
    by_rules: Tally = Counter()
    by_any: Tally = Counter()
    escaped = []
    for mutant in mutants(lowered(secure), f"{name}-{ring}", seed=ring):
        data = emit(mutant.module)
        assert data != program, mutant.name
        module = parse(data)  # the reader takes it: it is a well-formed program
        verify(module, DIALECT)
        rules = check_program(module, policy).all_problems
        comparison = compare_with_lowering(data, module, wanted, program)
        kind = (mutant.kind, mutant.name.split("/")[1])
        made[kind] += 1
        by_rules[kind] += bool(rules)
        by_any[kind] += bool(rules or comparison)
        # What leaks must be seen without knowing the right program.
        if not (rules if mutant.kind == "leak" else comparison):
            escaped.append(mutant.name)
        for problem in (*rules, *comparison):
            assert problem.where.startswith("node n"), (mutant.name, problem)
        if mutant.steps and rules:
            text = " ".join(p.where for p in rules)
            assert any(step in text for step in mutant.steps), (mutant.name, mutant.steps, text)
    scores[name, ring] = (made, by_rules, by_any)
    assert escaped == []


def test_score(scores, capsys):
    """Every mutant of every program was refused, and there were enough of each kind."""
    if len(scores) != len(RUNS):
        pytest.skip("needs all runs of this file in one process")
    made, by_rules, by_any = (sum((s[i] for s in scores.values()), Tally()) for i in range(3))
    with capsys.disabled():
        lines = [
            f"  {kind:5} {what:28} {by_any[kind, what]:4} of {count:4} refused, "
            f"{by_rules[kind, what]:4} by rules a to e alone"
            for (kind, what), count in sorted(made.items())
        ]
        total = sum(made.values())
        print("\n" + "\n".join(lines))  # noqa: T201
        print(f"  mutation score: {sum(by_any.values())} of {total} refused")  # noqa: T201
    for kind, least in LEAST.items():
        assert sum(n for (k, _), n in made.items() if k == kind) >= least
    assert by_any == made
