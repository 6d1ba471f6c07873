import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "check_system.py"


@pytest.fixture
def check():
    spec = importlib.util.spec_from_file_location("check_system", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_script(*arguments, **variables):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_missing_where_the_tests_run():
    result = run_script()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_everything_missing_is_one_line_and_the_remedy_another(tmp_path):
    # Without compiler and make on the PATH; the headers are found where they usually lie.
    result = run_script(PATH=str(tmp_path), CXX="")
    assert result.returncode == 1
    missing, remedy = result.stderr.splitlines()
    assert missing == "missing: make, a C++20 compiler"
    assert remedy.endswith("apt-get install make g++")


def test_a_missing_header_names_its_package(check, monkeypatch):
    monkeypatch.setitem(check.HEADERS, "libnothing-dev", "nothing/at_all.h")
    assert [m.package for m in check.find_missing()] == ["libnothing-dev"]


@pytest.mark.parametrize(("version", "missing"), [((3, 9, 2), True), ((3, 10, 0), False)])
def test_an_old_python_is_told(check, monkeypatch, version, missing):
    monkeypatch.setattr(check.sys, "version_info", version)
    assert [m.what for m in check.find_missing()] == (
        ["Python >= 3.10 (this is 3.9.2; set PYTHON=... for another one)"] if missing else []
    )


@pytest.mark.parametrize(
    ("lists", "results", "calls", "success"),
    [
        (["x_Packages.lz4"], [0], ["install"], True),
        ([], [0, 0], ["update", "install"], True),
        (["x_Packages.lz4"], [100, 0, 0], ["install", "update", "install"], True),
        (["x_Packages.lz4"], [100, 0, 100], ["install", "update", "install"], False),
    ],
)
def test_install_refreshes_the_lists_when_it_must(
    check, monkeypatch, capsys, lists, results, calls, success
):
    codes = iter(results)
    done = []

    def run(command, **options):
        assert options["env"]["DEBIAN_FRONTEND"] == "noninteractive"
        done.append(command[1])
        return subprocess.CompletedProcess(command, next(codes), stdout="words of apt")

    monkeypatch.setattr(check.glob, "glob", lambda pattern: lists)
    monkeypatch.setattr(check.subprocess, "run", run)
    assert check.install(["g++"]) is success
    assert done == calls
    assert ("words of apt" in capsys.readouterr().err) is not success


def test_a_browser_is_installed_where_that_is_possible(check, monkeypatch, capsys):
    there: list[int] = []
    monkeypatch.setattr(check, "browser", lambda: "/usr/bin/chromium" if there else None)
    tried = []

    def install(packages):
        tried.append(packages)
        # The first package is not everywhere.
        if packages == ["chromium"]:
            there.append(1)
        return bool(there)

    monkeypatch.setattr(check, "install", install)
    check.ensure_browser(False)
    assert tried == []
    assert "tests of pages are left out" in capsys.readouterr().out
    check.ensure_browser(True)
    assert tried == [["chromium-headless-shell"], ["chromium"]]
    check.ensure_browser(True)
    assert len(tried) == 2
    assert capsys.readouterr().out == ""


def test_no_browser_is_no_failure(tmp_path):
    result = run_script("--browser", PATH=str(tmp_path))
    assert result.returncode == 0
    assert "no browser" in result.stdout
