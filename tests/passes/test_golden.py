"""Golden texts: tests/golden/<pass>/<case>.mpcc holds a module, a pass, and what comes out.

::

    // what the case shows
    // pass: fold-transposes        and lines with options that are no text, see ``made``
    module tensor { ... }
    // expected
    // note: remarks of the pass
    module tensor { ... }        or   // error: text of the error

``pytest --update-golden`` rewrites what stands below ``// expected``.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir.after import after_functions, finished
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import party, real
from mpcc.ir.local import local_functions, prepared
from mpcc.ir.phi import Phi
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from mpcc.passes import PASSES
from mpcc.passes.base import Pass, make_pass
from mpcc.passes.fold_affine import FoldAffine
from mpcc.passes.lower_secure_to_party import LowerSecureToParty
from mpcc.passes.lower_tensor_to_secure import LowerTensorToSecure
from mpcc.passes.recognise import Recognise
from mpcc.protocols import lower_program, protocol_named

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
MARK = "// expected\n"
CASES = sorted(GOLDEN.glob("*/*.mpcc"))
REORDERING = {FoldAffine.name}
#: What comes out is right for the constants that were found, not for any; rows name ops once.
BY_VALUES = {Recognise.name}
LOWERINGS = {LowerTensorToSecure.name, LowerSecureToParty.name}


@dataclass
class Case:
    head: str
    expected: str

    @classmethod
    def read(cls, path: Path) -> "Case":
        head, mark, expected = path.read_text().partition(MARK)
        assert head.startswith("// "), "the first line says what the case shows"
        return cls(head if mark else head.rstrip() + "\n", expected)

    def line(self, key: str) -> str:
        (found,) = [x for x in self.head.splitlines() if x.startswith(f"// {key}: ")]
        return found.removeprefix(f"// {key}: ")

    @property
    def pass_text(self) -> str:
        return self.line("pass")

    def made(self) -> Pass:
        """The pass; the options of lowerings have lines of their own."""
        if self.pass_text == LowerTensorToSecure.name:
            return LowerTensorToSecure(Phi.from_json(self.line("phi")))
        if self.pass_text == LowerSecureToParty.name:
            protocol = protocol_named(self.line("protocol"))
            return LowerSecureToParty(lambda module: lower_program(module, protocol).party)
        if self.pass_text == Recognise.name:
            return Recognise(tuple(map(tuple, json.loads(self.line("rows")))))
        return make_pass(self.pass_text, PASSES)

    def module(self):
        module = parse_module(self.head, DIALECTS)
        verify(module, DIALECTS[module.level])
        return module

    def run(self):
        return self.made().run(self.module())

    def outcome(self) -> str:
        try:
            result = self.run()
        except MpccError as error:
            return "".join(f"// error: {line}\n" for line in str(error).splitlines())
        verify(result.module, DIALECTS[result.module.level])
        return "".join(f"// note: {n}\n" for n in result.notes) + print_module(result.module)


def identifier(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def of_level(level: str) -> list[Path]:
    """Cases of passes from this level to itself."""
    return [
        path
        for path in CASES
        if PASSES[path.parent.name].level == level and path.parent.name not in LOWERINGS | BY_VALUES
    ]


def test_every_folder_is_a_pass_and_every_pass_has_one():
    assert {p.name for p in GOLDEN.iterdir()} == PASSES.keys()
    assert {p for p in GOLDEN.rglob("*") if p.is_file()} == set(CASES)


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
    if path.parent.name in LOWERINGS | BY_VALUES:
        return
    again = case.made().run(result.module)
    assert not again.modified
    assert print_module(again.module) == text


@pytest.mark.parametrize("path", of_level("tensor"), ids=identifier)
def test_meaning_of_tensor_passes_is_unchanged(path):
    before, result = Case.read(path).module(), Case.read(path).run()
    rng = np.random.default_rng(5)

    def draw(name):
        return {
            op.attrs["name"]: rng.standard_normal(op.attrs["shape"])
            for op in before.main.walk(name)
        }

    constants, inputs = draw("tensor.weight"), draw("tensor.input")
    names = [op.attrs["name"] for op in result.module.main.walk("tensor.weight")]
    want = real.run(before, constants, inputs)
    after, inputs = result.module, prepared(result.module, constants, inputs)
    # Owners hand over binary32.
    handed = local_functions(after) or after_functions(after)
    for made in result.made:
        made.add_to(constants)
    have = real.run(after, {n: constants[result.renamed.get(n, n)] for n in names}, inputs)
    have = finished(after, have)
    assert want.keys() == have.keys()
    assert want
    # Products in another order round in other places.
    tolerance = 1e-12 if path.parent.name in REORDERING else 1e-6 if handed else 0.0
    for name, array in want.items():
        np.testing.assert_allclose(have[name], array, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("path", of_level("party"), ids=identifier)
def test_meaning_and_messages_of_party_passes_are_unchanged(path):
    before, after = Case.read(path).module(), Case.read(path).run().module
    rng = np.random.default_rng(5)
    inputs = {
        op.attrs["name"]: rng.standard_normal(op.attrs["shape"])
        for op in before.main.walk("party.input")
    }
    weights = {
        op.attrs["name"]: rng.integers(0, 2**63, op.attrs["shape"], np.uint64)
        for op in before.main.walk("party.weight")
    }
    want, have = (party.run(m, weights, inputs, seed=4, record=True) for m in (before, after))
    assert want.outputs.keys() == have.outputs.keys()
    for name, array in want.outputs.items():
        np.testing.assert_array_equal(have.outputs[name], array)

    def sent(run):
        return sorted((m.step, m.link, m.depth, m.payload.tobytes()) for m in run.messages)

    assert sent(want) == sent(have)


@pytest.mark.parametrize("name", sorted(PASSES.keys() - LOWERINGS))
def test_every_pass_has_a_case_that_changes_and_one_that_does_not(name):
    results = [Case.read(p).run() for p in CASES if p.parent.name == name]
    assert {r.modified for r in results} == {True, False}
