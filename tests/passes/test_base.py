"""Passes as such: texts, options, the manager and its hook, and the command that runs one alone."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from benchmarks.models import network_c
from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.ir.core import Module
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.text import parse_module, print_module
from mpcc.passes import PASSES
from mpcc.passes.base import Checkpoint, Event, Manager, Pass, Result, make_pass
from mpcc.passes.pipeline import TENSOR
from tests.ir.samples import type_of

ROOT = Path(__file__).resolve().parent.parent.parent

TEXT = """\
module tensor {
  func @main() {
    %0 = tensor.input() {name = "x", shape = [2]} : tensor<2xf32, client>
    %1 = tensor.relu(%0) : tensor<2xf32, client>
    %2 = tensor.reshape(%0) {shape = [2]} : tensor<2xf32, client>
    tensor.output(%2) {name = "y"}
  }
}
"""


def module() -> Module:
    return parse_module(TEXT, DIALECTS)


@dataclass(frozen=True)
class Rename(Pass):
    """Sets a module attribute."""

    name: ClassVar[str] = "rename"
    level: ClassVar[str] = "tensor"
    key: str = "key"
    value: int = 1
    on: bool = True
    ratio: float = 0.5

    def run(self, module: Module) -> Result:
        module.attrs[self.key] = self.value
        return Result(module, True, (f"set {self.key}",))


@dataclass(frozen=True)
class Break(Pass):
    """Leaves an invalid module."""

    name: ClassVar[str] = "break"
    level: ClassVar[str] = "tensor"

    def run(self, module: Module) -> Result:
        del module.main.ops[0]
        return Result(module, True)


KNOWN = {"rename": Rename, "break": Break}


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("rename", Rename()),
        (" rename{} ", Rename()),
        ("rename{key=a, value = -3}", Rename("a", -3)),
        ("rename{on=false,ratio=2}", Rename(on=False, ratio=2.0)),
    ],
)
def test_passes_from_text(text, made):
    assert make_pass(text, KNOWN) == made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("remane", "there is no pass 'remane'"),
        ("rename{", "there is no pass"),
        ("rename{value}", "option 'value' has no value"),
        ("rename{value=x}", "bad option 'value=x'"),
        ("rename{on=1}", "bad option 'on=1'"),
        ("rename{size=1}", "bad option 'size=1'"),
    ],
)
def test_wrong_texts(text, words):
    with pytest.raises(MpccError, match=words) as caught:
        make_pass(text, KNOWN)
    assert caught.value.diagnostics[0].fix


def test_passes_are_named_and_documented():
    for name, chosen in PASSES.items():
        assert name == chosen.name
        assert chosen.__module__ == "mpcc.passes." + name.replace("-", "_")
        text = (chosen.__doc__ or "") + (sys.modules[chosen.__module__].__doc__ or "")
        assert all(word in text for word in ("Assumes", "Before::", "After::")), name
    assert {p.name for p in TENSOR} <= PASSES.keys()


def test_the_hook_sees_every_pass():
    events: list[Event] = []
    Manager([Rename("a"), Rename("b", 2)], events.append).run(module())
    assert [(e.position, e.pass_name, e.earlier) for e in events] == [
        (0, "rename", ()),
        (1, "rename", ("rename",)),
    ]
    assert all(e.seconds >= 0 for e in events)


def test_dumps_after_chosen_passes_only():
    for chosen, count in ((["eliminate-dead-code"], 1), (["all"], len(TENSOR)), ([], 0)):
        dumps: list[str] = []
        checkpoint = Checkpoint(DIALECTS, chosen, dumps.append)
        Manager(TENSOR, checkpoint).run(module())
        assert len(dumps) == count
        assert [name for name, _ in checkpoint.seconds] == [p.name for p in TENSOR]
        for text in dumps:
            parse_module(text, DIALECTS)
        if chosen:
            text = next(d for d in dumps if d.startswith("// after eliminate-dead-code\n"))
            assert text.splitlines()[1] == "module tensor {"
            assert "relu" not in text


def test_a_broken_module_names_the_pass_and_those_before():
    manager = Manager([Rename("a"), Break()], Checkpoint(DIALECTS))
    with pytest.raises(MpccError) as caught:
        manager.run(module())
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E-pass-invalid"
    assert diagnostic.where == "pass break (earlier: rename)"
    assert "E-ir-order" in diagnostic.what


def test_a_pass_of_another_level():
    with pytest.raises(MpccError, match="takes modules of level tensor, not party"):
        Manager([Rename()]).run(Module("party"))


def test_the_pipeline_keeps_the_meaning_of_a_network():
    imported = import_onnx(network_c().serialized())
    x = {"image": np.random.default_rng(2).standard_normal((1, 1, 28, 28))}
    want = real.run(imported.module, imported.constants, x)["logits"]
    after = Manager(TENSOR, Checkpoint(DIALECTS)).run(imported.module)
    np.testing.assert_array_equal(real.run(after, imported.constants, x)["logits"], want)
    relus = [type_of(op.result).shape for op in after.main.walk("tensor.relu")]
    assert relus == [(1, 20, 12, 12), (1, 50, 4, 4), (1, 500)]


def run_alone(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mpcc.passes", *arguments],
        input=text, capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip


def test_passes_run_alone_on_a_text(tmp_path):
    path = tmp_path / "m.mpcc"
    path.write_text(TEXT)
    done = run_alone("eliminate-dead-code,fold-transposes", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    want = TEXT.splitlines(keepends=True)
    assert done.stdout == "".join(want[:3] + want[5:]).replace("(%2)", "(%0)")
    assert print_module(parse_module(done.stdout, DIALECTS)) == done.stdout


def test_errors_of_the_command():
    for arguments, text, words in [
        ((), "", "usage"),
        (("no-such", "-"), TEXT, "there is no pass 'no-such'"),
        (("fold-transposes", "-"), "module tensor {", "expected 'func'"),
        (("fold-transposes", "no/such/file"), "", "No such file"),
    ]:
        done = run_alone(*arguments, text=text)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert "Traceback" not in done.stderr
