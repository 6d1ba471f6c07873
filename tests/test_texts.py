"""Texts for users speak of what exists: options of the command line, choices of the library."""

import ast
import re
from pathlib import Path

import pytest
import typer

from mpcc import api, cli
from mpcc.cli import compiling, running, showing
from mpcc.cost.network import PROFILES
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp.fixed import ROUNDINGS
from mpcc.ir.phi import POLICIES
from mpcc.options import DEBUG_VARIABLES

ROOT = Path(__file__).resolve().parent.parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")

#: Options of other programs that the documents name.
OTHERS = {
    "--update-golden": "pytest",
    "--preset": "cmake",
    "--build": "cmake",
    "--target": "cmake",
    "--artifact": "mpcc-party",
    "--config": "mpcc-party",
    "--index": "mpcc-party",
    "--listen-fd": "mpcc-party",
    "--minutes": "tests.fuzz.campaign",
    "--model": "benchmarks.campaigns",
    "--runs": "benchmarks.campaigns",
    "--targets": "tests.fuzz.campaign",
    "--mlock": "mpcc-party",
    "--plot": "benchmarks.verify",
    "--inputs": "benchmarks.campaigns",
    "--operator": "benchmarks.campaigns",
    "--link": "benchmarks.run",
    "--bits": "benchmarks.run",
    "--ours": "benchmarks.peers",
    "--docs": "benchmarks.table",
    "--real": "benchmarks.verify",
    "--word": "ring_bench",
    "--variant": "ring_bench",
    "--rate": "benchmarks.scale",
    "--tasks": "benchmarks.scale",
    "--logdir": "tensorboard",
    "--check": "benchmarks.tensorflow",
    "--filter": "ring_bench",
}


def options() -> set[str]:
    """All options of all commands."""
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    commands = [group, *group.commands.values()]
    return {"--help"} | {
        o for c in commands for p in c.params for o in (*p.opts, *p.secondary_opts)
    }


def texts(path: Path) -> str:
    """A document, or all string constants of a module."""
    text = path.read_text()
    if path.suffix == ".md":
        return text
    nodes = ast.walk(ast.parse(text))
    return "\n".join(n.value for n in nodes if isinstance(n, ast.Constant) and type(n.value) is str)


def named(paths) -> set[tuple[str, str]]:
    return {(str(p.relative_to(ROOT)), o) for p in paths for o in OPTION.findall(texts(p))}


def test_options_that_are_named_exist():
    found = named([*(ROOT / "mpcc").rglob("*.py"), *(ROOT / "docs").rglob("*.md")])
    found |= named([ROOT / "README.md"])
    assert ("mpcc/options.py", "--shape") in found
    known = options()
    assert "--calibrate" in known
    assert {
        (path, option) for path, option in found if option not in known | OTHERS.keys()
    } == set()


def test_options_of_other_programs_are_still_named():
    found = named([*(ROOT / "mpcc").rglob("*.py"), *(ROOT / "docs").rglob("*.md")])
    assert OTHERS.keys() <= {option for _, option in found}


@pytest.mark.parametrize(
    ("choice", "library"),
    [
        (compiling.RangePolicy, POLICIES),
        (running.Rounding, ROUNDINGS),
        (showing.Stage, DIALECTS),
        # Imitated networks have one kind of link.
        (running.Network, {name for name, found in PROFILES.items() if not found.links}),
    ],
)
def test_choices_are_those_of_the_library(choice, library):
    assert {c.value for c in choice} == set(library)


def test_doctor_tells_the_debug_variables(monkeypatch):
    for value in ("", "scalar"):
        for variable in DEBUG_VARIABLES:
            monkeypatch.setenv(variable, value) if value else monkeypatch.delenv(variable, False)
        checks = {check.name: check for check in api.doctor()}
        for variable, effect in DEBUG_VARIABLES.items():
            assert checks[variable].ok == bool(value)
            assert not checks[variable].required
            assert effect in checks[variable].detail
            assert value in checks[variable].detail
