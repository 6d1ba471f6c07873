"""Readers in Python: every change of a valid file is read or refused, in bounded memory.

The examples are the same in every run; ``python -m tests.fuzz.campaign`` draws others for hours.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.python_targets import CORPUS, TARGETS, compiled, run

EXAMPLES = 200

numbers = st.integers(0, 2**16)
edits = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=6)
files = sorted(p for p in CORPUS.glob("*/*") if p.is_file())


@pytest.fixture(scope="module", autouse=True)
def _ready():
    """Made before memory is counted."""
    compiled()


@pytest.mark.parametrize("name", TARGETS)
def test_valid_files_are_read(name):
    target = TARGETS[name]
    assert run(target, target.seed()) == "read"


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused(name):
    target = TARGETS[name]
    seen = set()

    @settings(
        max_examples=max(10, EXAMPLES // target.cost),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(how=numbers, edits=edits)
    def check(how, edits):
        seen.add(run(target, target.mutate(how, edits)))

    check()
    assert "refused" in seen


@pytest.mark.parametrize("path", files, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_files_that_were_found_once(path):
    assert run(TARGETS[path.parent.name], path.read_bytes()) in ("read", "refused")


def test_the_corpus_has_a_file_of_every_target():
    assert {p.parent.name for p in files} == set(TARGETS)
