"""Options and fixtures of all tests."""

from collections import Counter

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the expected part of tests/golden files; look at the difference afterwards",
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether expected texts are to be written instead of compared."""
    return bool(request.config.getoption("--update-golden"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests recorded as their score, such as mutants refused, and sums of tallies."""
    tallies: dict[str, Counter[str]] = {}
    refused = made = 0
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for key, found in report.user_properties:
            if key == "score":
                terminalreporter.write_line(found)
            elif key == "mutants":
                refused, made = refused + found[0], made + found[1]
            elif key == "tally":
                title, counts = found
                tallies.setdefault(title, Counter()).update(counts)
    for title, sums in tallies.items():
        parts = [f"{count} {what}" for what, count in sums.items()]
        terminalreporter.write_line(f"{title}: {', '.join(parts)}, {sums.total()} total")
    if made:
        terminalreporter.write_line(f"leak checker: {refused}/{made} mutants refused")
