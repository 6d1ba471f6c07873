"""Who may import whom, and what library code may not do.

The tables below are the architecture; a new top-level module needs a line in one of them.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mpcc"
NATIVE = ROOT / "runtime_native"

GROUND = {"errors", "ir", "approximations", "options", "files", "artifact", "cost"}
#: These five never import one another; api brings them together.
MIDDLE = {"frontend", "protocols", "passes", "emit", "runtime"}

#: Part of mpcc -> parts that it may import, itself aside.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "ir": {"errors"},
    # Certified approximations of functions: numbers, no programs.
    "approximations": {"errors", "ir"},
    "options": {"errors", "ir"},
    "files": {"errors"},
    "artifact": {"errors", "ir", "files"},
    "cost": {"errors", "ir"},
    # Reports for people, in the terminal and as pages.
    "reports": {"errors", "ir", "cost"},
    "frontend": GROUND,
    "protocols": GROUND,
    "passes": GROUND | {"approximations"},
    "emit": GROUND,
    "runtime": GROUND | {"_native"},
    "compiler": GROUND | MIDDLE | {"reports", "version"},
    "api": GROUND
    | MIDDLE
    | {"compiler", "operator_errors", "operators", "reports"}
    | {"verify_program", "version"},
    # The table of `mpcc ops`: compiles a model per operator to count what it costs.
    "operators": GROUND | {"accuracy", "frontend", "passes", "protocols"},
    # Lowers and simulates every smooth function.
    "accuracy": GROUND | {"passes"},
    # Lowers, encloses and simulates a model per operator.
    "operator_errors": GROUND | {"accuracy", "frontend", "operators", "passes"},
    # The leak checker: lowers again what the compiler lowered.
    "verify_program": GROUND | MIDDLE | {"version"},
    # Times small programs on this machine.
    "calibration": GROUND | {"api", "emit"},
    "version": set(),
    "cli": GROUND | {"api", "calibration", "verify_program", "version"},
    "__main__": {"cli"},
    # The package itself: public names only.
    "__init__": GROUND | {"api", "version"},
    # The C++ extension.
    "_native": set(),
}

#: Folder of runtime_native -> folders whose headers it may include, itself aside.
MAY_INCLUDE: dict[str, set[str]] = {
    "base": set(),
    "prg": {"base"},
    "ring": {"base"},
    "net": {"base"},
    "kernels": {"base", "prg", "ring", "net"},
    "graph": {"base", "prg", "ring", "net", "kernels", "include"},
    "tf": {"base", "prg", "ring", "net", "kernels", "graph", "include"},
    "python": {"base", "prg", "ring", "net", "kernels", "graph", "include"},
    "party": {"base", "prg", "net", "graph", "include"},
    # Runs prg and kernels under valgrind.
    "constant_time": {"base", "prg", "ring", "kernels", "testing"},
    "include": set(),
    # Fuzz targets look at everything that reads bytes.
    "fuzz": {"base", "net", "kernels", "graph", "testing"},
    "testing": {"base"},
}

#: Import name -> distribution, where they differ.
DISTRIBUTIONS = {"google": "protobuf"}
#: Imported inside functions only, and only when the user asks for it.
OPTIONAL = {"tensorflow", "onnxruntime"}

MAX_LINES = 800


def part_of(module: str) -> str:
    """``mpcc.ir.core`` -> ``ir``; ``mpcc`` -> ``__init__``."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


def imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """(line, module, imported name or "") of every absolute import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield node.lineno, node.module or "", alias.name


def direction_errors(part: str, tree: ast.AST) -> list[str]:
    """Imports that the table forbids, and private names of other parts."""
    found = []
    for line, module, name in imports(tree):
        if module.split(".")[0] != "mpcc":
            continue
        # "from mpcc import ir" imports a part; "from mpcc import compile" a public name.
        target = name if module == "mpcc" and name in MAY_IMPORT else ""
        target = target or part_of(module)
        if target == part:
            continue
        if target not in MAY_IMPORT[part]:
            found.append(f"line {line}: {part} imports {target}")
        private = [n for n in (*module.split(".")[2:], name) if re.match(r"_(?!_)", n)]
        if private and name != "_native":
            found.append(f"line {line}: {part} takes {private[0]} out of {target}")
    return found


def ban_errors(tree: ast.AST) -> list[str]:
    """Relative imports, print, and randomness without a seed or not fit for secrets."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            found.append(f"line {node.lineno}: relative import")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "print":
                found.append(f"line {node.lineno}: print")
            if called.endswith("default_rng") and not (node.args or node.keywords):
                found.append(f"line {node.lineno}: {called}() without a seed")
    for line, module, name in imports(tree):
        if module == "random" or module.startswith("random."):
            found.append(f"line {line}: random")
        if module == "numpy.random" and name not in ("Generator", "default_rng"):
            found.append(f"line {line}: numpy.random.{name}")
    return found


def python_files() -> list[Path]:
    files = sorted(PACKAGE.rglob("*.py"))
    assert files
    return files


def part_of_file(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def collect(check, parts_too: bool) -> list[str]:
    """Errors of all files of mpcc, each with its path."""
    found = []
    for path in python_files():
        tree = ast.parse(path.read_text(), str(path))
        errors = check(part_of_file(path), tree) if parts_too else check(tree)
        found += [f"{path.relative_to(ROOT)} {error}" for error in errors]
    return found


def test_every_part_has_a_place_in_the_table():
    assert {part_of_file(path) for path in python_files()} <= MAY_IMPORT.keys()


def test_imports_point_down():
    assert collect(direction_errors, parts_too=True) == []


def test_library_code_keeps_the_bans():
    assert collect(ban_errors, parts_too=False) == []


@pytest.mark.parametrize(
    ("part", "source", "error"),
    [
        ("ir", "import mpcc.passes.base", "line 1: ir imports passes"),
        ("passes", "from mpcc.protocols import rep3", "line 1: passes imports protocols"),
        ("emit", "from mpcc import runtime", "line 1: emit imports runtime"),
        ("frontend", "def f():\n  from mpcc.cli import main", "line 2: frontend imports cli"),
        ("cli", "from mpcc.runtime.session import Session", "line 1: cli imports runtime"),
        ("errors", "import mpcc", "line 1: errors imports __init__"),
        ("passes", "from mpcc.ir.core import _Secret", "line 1: passes takes _Secret out of ir"),
        ("passes", "from mpcc.ir._text import f", "line 1: passes takes _text out of ir"),
        ("api", "from mpcc import _native", "line 1: api imports _native"),
    ],
)
def test_wrong_arrows_are_seen(part, source, error):
    assert direction_errors(part, ast.parse(source)) == [error]


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("passes", "from mpcc.ir.core import Graph\nfrom mpcc.errors import MpccError"),
        ("ir", "from mpcc.ir._text import f"),
        ("runtime", "from mpcc import _native"),
        ("api", "import mpcc.passes\nimport mpcc.runtime"),
        ("cli", "import typer\nfrom mpcc import api"),
    ],
)
def test_right_arrows_pass(part, source):
    assert direction_errors(part, ast.parse(source)) == []


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("from . import core", "line 1: relative import"),
        ("print('x')", "line 1: print"),
        ("import random", "line 1: random"),
        ("from random import choice", "line 1: random"),
        ("from numpy.random import rand", "line 1: numpy.random.rand"),
        ("np.random.default_rng()", "line 1: np.random.default_rng() without a seed"),
    ],
)
def test_bans_are_seen(source, error):
    assert ban_errors(ast.parse(source)) == [error]


def test_imported_packages_are_declared_and_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", entry)[0].lower() for entry in project["dependencies"]}
    explained = (ROOT / "docs" / "dependencies.md").read_text()
    assert {name for name in declared if f"`{name}`" not in explained} == set()
    used = set()
    for path in python_files():
        for _, module, _ in imports(ast.parse(path.read_text())):
            used.add(module.split(".")[0])
    used -= sys.stdlib_module_names | {"mpcc"} | OPTIONAL
    assert {DISTRIBUTIONS.get(name, name) for name in used} <= declared


def test_the_command_line_starts_without_heavy_packages():
    script = "import sys, mpcc.cli; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(result.stdout.split())
    assert loaded & {"tensorflow", "onnxruntime", "onnx", "jinja2"} == set()


def test_native_includes_point_down():
    found = []
    for path in sorted(p for p in NATIVE.rglob("*") if p.suffix in (".h", ".cc", ".cpp", ".inc")):
        folder = path.relative_to(NATIVE).parts[0]
        allowed = {folder} | MAY_INCLUDE[folder]
        if re.search(r"test|bench", str(path.relative_to(NATIVE))):
            allowed.add("testing")
        for include in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE):
            target = include.split("/")[0]
            if target in MAY_INCLUDE and target not in allowed:
                found.append(f"{path.relative_to(ROOT)}: {folder} includes {include}")
    assert found == []


def test_files_stay_readable():
    folders = [PACKAGE, NATIVE, *(ROOT / n for n in ("tests", "benchmarks", "examples", "scripts"))]
    suffixes = (".py", ".h", ".cc", ".cpp")
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in suffixes and (lines := path.read_bytes().count(b"\n")) > MAX_LINES
    }
    assert long == {}, "split by family"
