"""Options and fixtures of all tests."""

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
    """Print what tests recorded as their score, such as mutants refused."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for key, text in report.user_properties:
            if key == "score":
                terminalreporter.write_line(text)
