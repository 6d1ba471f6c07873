"""The native tests and the short run of the fuzz targets, under sanitizers.

They are built by ``make test`` in ``build/asan-ubsan``; ``MPCC_SANITIZED_BUILD`` names another
build tree. The short run has a fixed number of inputs (``runtime_native/fuzz/CMakeLists.txt``), so
that it says the same on every machine.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "runtime_native" / "fuzz" / "corpus"
BUILD = Path(os.environ.get("MPCC_SANITIZED_BUILD") or ROOT / "build" / "asan-ubsan").resolve()
#: All files of the corpus; they are cloned by everybody.
MOST_CORPUS_BYTES = 1_000_000


def ctest(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("ctest")
    if program is None or not (BUILD / "CTestTestfile.cmake").is_file():
        raise FileNotFoundError(f"no sanitized tests in {BUILD}: run `make test`")
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


def test_targets_and_corpora_belong_together():
    assert ctest("--show-only").returncode == 0
    targets = {name.removeprefix("fuzz_") for name in NAMES if name.startswith("fuzz_")}
    assert targets == {folder.name for folder in CORPUS.iterdir()}


def test_corpus_is_small():
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) < MOST_CORPUS_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_sanitized(name):
    result = ctest("--tests-regex", f"^{name}$", "--verbose", "--no-tests=error")
    assert result.returncode == 0, result.stdout + result.stderr
