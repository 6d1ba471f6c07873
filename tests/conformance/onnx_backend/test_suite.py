"""ONNX's own test cases through analysis, build and simulator; see ``suite`` for what counts."""

import pytest

from tests.conformance.onnx_backend import suite
from tests.conformance.onnx_backend.exclusions import exclusions, minimum

#: The cases are dealt out to so many tests, so that workers share them.
CHUNKS = 24


def test_the_list_of_exclusions_is_current():
    names = suite.cases().keys()
    excluded = exclusions().keys()
    assert not excluded - names, "these are no cases of the suite, or not of what is supported"
    assert len(names - excluded) >= minimum(), "fewer cases pass than before"


# One chunk has DenseNet-121.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_cases(chunk, record_property):
    excluded = exclusions()
    passed, refused, problems = 0, 0, []
    for name in sorted(suite.cases())[chunk::CHUNKS]:
        try:
            why = suite.attempt(suite.cases()[name])
        except Exception as error:
            raise AssertionError(f"{name} breaks the compiler") from error
        if name not in excluded:
            passed += not why
            problems += [f"{name}: {why}"] if why else []
            continue
        refused += 1
        if not why:
            problems.append(f"{name} passes: take it off the list of exclusions")
        elif not excluded[name].explains(why):
            problems.append(f"{name} is excluded for {excluded[name].signs}, but: {why}")
    record_property("tally", ["ONNX backend suite", {"passed": passed, "excluded": refused}])
    assert not problems, "\n".join(problems)
