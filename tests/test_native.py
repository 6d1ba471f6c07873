"""Runs the native test programs: one pytest case for each of CTest's.

They are built by ``make native-tests`` in ``build/native``; ``MPCC_NATIVE_BUILD`` names another
build tree.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(
    os.environ.get("MPCC_NATIVE_BUILD") or Path(__file__).parent.parent / "build" / "native"
).resolve()


def ctest(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("ctest")
    if program is None or not (BUILD / "CTestTestfile.cmake").is_file():
        raise FileNotFoundError(f"no native tests in {BUILD}: run `make native-tests`")
    return subprocess.run(
        [program, "--test-dir", str(BUILD), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def names() -> list[str]:
    """CTest's tests; none if nothing is built, which the first test below reports."""
    try:
        listing = json.loads(ctest("--show-only=json-v1").stdout)
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    return sorted(test["name"] for test in listing["tests"])


NAMES = names()


def test_native_tests_are_built():
    assert ctest("--show-only").returncode == 0
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_native(name):
    result = ctest("--tests-regex", f"^{name}$", "--verbose", "--no-tests=error")
    assert result.returncode == 0, result.stdout + result.stderr
