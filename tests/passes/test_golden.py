"""Golden texts: tests/golden/<pass>/<case>.mpcc holds a module, a pass, and what comes out.

::

    // what the case shows
    // pass: fold-transposes
    module tensor { ... }
    // expected
    // note: remarks of the pass
    module tensor { ... }        or   // error: text of the error

``pytest --update-golden`` rewrites what stands below ``// expected``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from mpcc.passes import PASSES
from mpcc.passes.base import make_pass
from mpcc.passes.pipeline import TENSOR

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
MARK = "// expected\n"
TENSOR_PASSES = {p.name for p in TENSOR}
# Folders of other tests hold other things.
CASES = sorted(p for name in TENSOR_PASSES for p in (GOLDEN / name).glob("*.mpcc"))


@dataclass
class Case:
    head: str
    pass_text: str
    expected: str

    @classmethod
    def read(cls, path: Path) -> "Case":
        head, mark, expected = path.read_text().partition(MARK)
        (line,) = [x for x in head.splitlines() if x.startswith("// pass: ")]
        assert head.startswith("// "), "the first line says what the case shows"
        return cls(head if mark else head.rstrip() + "\n", line.removeprefix("// pass: "), expected)

    def module(self):
        module = parse_module(self.head, DIALECTS)
        verify(module, DIALECTS[module.level])
        return module

    def run(self):
        return make_pass(self.pass_text, PASSES).run(self.module())

    def outcome(self) -> str:
        try:
            result = self.run()
        except MpccError as error:
            return "".join(f"// error: {line}\n" for line in str(error).splitlines())
        verify(result.module, DIALECTS[result.module.level])
        return "".join(f"// note: {n}\n" for n in result.notes) + print_module(result.module)


def identifier(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", CASES, ids=identifier)
def test_text(path, update_golden):
    case = Case.read(path)
    assert case.pass_text.partition("{")[0] == path.parent.name
    found = case.outcome()
    if update_golden:
        path.write_text(case.head + MARK + found)
        return
    assert found == case.expected, "intended? run pytest --update-golden and review"


@pytest.mark.parametrize("path", CASES, ids=identifier)
def test_modified_is_truthful_and_a_second_run_changes_nothing(path):
    case = Case.read(path)
    if case.expected.startswith("// error: "):
        with pytest.raises(MpccError):
            case.run()
        return
    result = case.run()
    text = print_module(result.module)
    assert result.modified == (text != print_module(case.module()))
    again = make_pass(case.pass_text, PASSES).run(result.module)
    assert not again.modified
    assert print_module(again.module) == text


@pytest.mark.parametrize("path", CASES, ids=identifier)
def test_meaning_is_unchanged(path):
    before, result = Case.read(path).module(), Case.read(path).run()
    rng = np.random.default_rng(5)

    def draw(name):
        return {
            op.attrs["name"]: rng.standard_normal(op.attrs["shape"])
            for op in before.main.walk(name)
        }

    constants, inputs = draw("tensor.weight"), draw("tensor.input")
    want = real.run(before, constants, inputs)
    have = real.run(result.module, constants, inputs)
    assert want.keys() == have.keys()
    assert want
    for name, array in want.items():
        np.testing.assert_array_equal(have[name], array)


@pytest.mark.parametrize("name", sorted(TENSOR_PASSES))
def test_every_pass_has_a_case_that_changes_and_one_that_does_not(name):
    results = [Case.read(p).run() for p in CASES if p.parent.name == name]
    assert {r.modified for r in results} == {True, False}
