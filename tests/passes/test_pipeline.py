"""The compiler's order: every pass is in the list, every stage is dumped, verified and timed."""

import numpy as np
import pytest
from rich.table import Table

from mpcc import api
from mpcc.errors import MpccError
from mpcc.ir.core import Module
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.text import parse_module
from mpcc.passes import PASSES, pipeline
from mpcc.passes.base import Checkpoint, Manager
from mpcc.passes.strip_names import StripNames
from tests.frontend.models import model, node

PHI = Phi("proved", 64, 16, 16, 1)
LISTS = (
    *pipeline.to_tensor([]),
    *pipeline.to_owners(True, True),
    *pipeline.PUBLISH,
    *pipeline.to_secure(PHI, FormatOptions()),
    *pipeline.to_party(lambda module: Module("party")),
)


def padded(**changes) -> bytes:
    """relu(pad(x) @ w + b) with a pad value of 0.5; names are not for the public."""
    constants = {
        "hush/kernel": np.array([[0.5, -1.0], [2.0, 0.25], [1.0, 1.0]], np.float32),
        "hush/bias": np.array([0.125, -0.5], np.float32),
        "p": np.array([0, 0, 0, 1]),
        "v": np.array(0.5, np.float32),
        **changes,
    }
    nodes = [
        node("Pad", ["x", "p", "v"], ["a"], name="hush/pad"),
        node("MatMul", ["a", "hush/kernel"], ["b"], name="hush/dense"),
        node("Add", ["b", "hush/bias"], ["c"], name="hush/shift"),
        node("Relu", ["c"], ["y"], name="hush/act"),
    ]
    return model(nodes, {"x": (1, 2)}, {"y": 2}, constants).SerializeToString()


def test_every_pass_of_the_order_is_in_the_list_of_passes():
    assert [p.name for p in LISTS] == list(pipeline.STAGES[1:])
    assert all(PASSES[p.name] is type(p) for p in LISTS)
    assert set(pipeline.STAGES) == {pipeline.IMPORT, *PASSES}
    levels = [p.level for p in LISTS]
    assert levels == sorted(levels, key=list(DIALECTS).index)


def test_all_stages_are_dumped_and_timed():
    dumps: list[str] = []
    compiled = api.compile(padded(), dump_after=["all"], dump=dumps.append)
    heads = [text.splitlines()[0].removeprefix("// after ").split()[0] for text in dumps]
    assert heads == list(pipeline.STAGES)
    for text in dumps:
        parse_module(text, DIALECTS)
    stages = [name for name, _ in compiled.seconds]
    others = ["find-patterns", "analyse", "emit", "cost", "encode-weights", "prepare-samples"]
    assert sorted(stages) == sorted([*pipeline.STAGES, *others])
    assert [s for s in stages if s in pipeline.STAGES] == list(pipeline.STAGES)
    assert all(seconds >= 0 for _, seconds in compiled.seconds)


def test_one_stage_is_dumped():
    for stage in ("import", "lower-secure-to-party"):
        dumps: list[str] = []
        api.compile(padded(), dump_after=[stage], dump=dumps.append)
        assert [text.splitlines()[0] for text in dumps] == [f"// after {stage}"]


def test_unknown_stages_are_refused_at_once():
    with pytest.raises(MpccError) as caught:
        api.compile(b"", dump_after=["fuse", "all", "swap"])
    assert [d.what for d in caught.value.diagnostics] == ["no pass 'fuse'", "no pass 'swap'"]
    assert "lower-tensor-to-secure" in caught.value.diagnostics[0].fix


def test_a_lowering_that_breaks_the_module_is_found():
    def lower(module: Module) -> Module:
        party = Module("party")
        party.main.ops = list(module.main.ops)
        return party

    secure = api.compile(padded()).artifact.secure_module
    with pytest.raises(MpccError, match="not valid after this pass") as caught:
        Manager(pipeline.to_party(lower), Checkpoint(DIALECTS)).run(secure)
    assert caught.value.diagnostics[0].where.startswith("pass lower-secure-to-party")


def test_weights_keep_their_values_under_their_new_names():
    x = {"x": np.array([[1.5, -0.5]], np.float32)}
    want = np.array([[0.5 * 1.5 - 2.0 * 0.5 + 0.5 + 0.125, 0.0]])
    for keep in (True, False):
        compiled = api.compile(padded(), options=api.CompileOptions(keep_names=keep))
        assert ("hush/kernel" in compiled.weights) == keep
        found = api.simulate(compiled.artifact, compiled.weights, x).outputs["y"]
        np.testing.assert_allclose(found, want, atol=1e-2)


def test_renamings_are_followed_to_the_first_name():
    text = """module tensor {
      func @main() {
        %0 = tensor.weight() {name = "first", shape = [2]} : tensor<2xf32, model>
        tensor.output(%0) {name = "y"}
      }
    }"""
    checkpoint = Checkpoint(DIALECTS)
    module = Manager([StripNames()], checkpoint).run(parse_module(text, DIALECTS))
    assert checkpoint.renamed == {"w0": "first"}
    Manager([StripNames()], checkpoint).run(module)
    assert checkpoint.renamed == {"w0": "first"}


@pytest.mark.parametrize("keep", [True, False])
def test_constants_in_the_clear_reach_every_report(keep):
    compiled = api.compile(padded(), options=api.CompileOptions(keep_names=keep))
    text = f"Pad{' hush/pad' if keep else ''}: value 0.5"
    assert compiled.artifact.disclosed == [text]
    assert compiled.artifact.manifest["disclosed"] == [text]
    report = api.cost(compiled.artifact)
    assert f"in the clear: {text}." in api.cost_page(compiled.artifact, report)
    table = compiled.summary()
    assert isinstance(table, Table)
    rows = [list(column.cells) for column in table.columns]
    assert ("disclosed", f"{text}, a constant of the model") in zip(*rows, strict=True)
    assert (b"hush" in b"".join(compiled.artifact._entries.values())) == keep
