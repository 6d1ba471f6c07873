"""Functions of owners: what an artifact could hide in them, and what is refused before they run."""

import dataclasses
import io

import numpy as np
import onnx
import pytest

from benchmarks.partition import crop_model, token_model
from mpcc import api
from mpcc.artifact import Artifact
from mpcc.errors import MpccError
from mpcc.files import public_bytes
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.local import local_problems
from mpcc.ir.phi import FormatOptions
from mpcc.ir.text import parse_module, print_module
from mpcc.options import CompileOptions
from mpcc.runtime.owners import prepared_inputs
from mpcc.verify_program import declared_policy, verify_artifact
from tests.verify.artifact_mutations import entries_of, packed

TOKENS = token_model(rows=20, width=4, tokens=3)
IDS = {"ids": np.arange(3, dtype=np.float32).reshape(1, 3)}


def compiled(model: bytes, **options) -> api.Compiled:
    formats = FormatOptions(disclose="none", max_error=1.0)
    return api.compile(model, options=CompileOptions(formats=formats, **options))


@pytest.fixture(scope="module")
def tokens() -> api.Compiled:
    return compiled(TOKENS, owners={"table": "public"})


def changed(artifact: Artifact, *swaps: tuple[str, str], edit=None) -> Artifact:
    """The artifact with another tensor text, written as the printer writes it, hashes right."""
    entries = entries_of(artifact)
    text = entries["tensor.mpcc"].decode()
    for old, new in swaps:
        assert old in text, old
        text = text.replace(old, new)
    entries["tensor.mpcc"] = print_module(parse_module(text, DIALECTS)).encode()
    return Artifact.from_bytes(packed(entries, edit))


def codes(artifact: Artifact) -> set[str]:
    return {p.code for p in verify_artifact(artifact).all_problems}


def refused_before_running(artifact: Artifact) -> str:
    with pytest.raises(MpccError) as caught:
        prepared_inputs(artifact, IDS)
    return caught.value.code


LOOKUP = "%2 = tensor.lookup(%0, %1) : tensor<1x3x4xf32, client>"
SUM = "%3 = tensor.reduce_sum(%2) {axes = [1], keepdims = false} : tensor<1x4xf32, client>"
TABLE = '%1 = tensor.weight() {name = "w2", shape = [20, 4], owner = "public"} : '
IDS_OP = (
    '%0 = tensor.input() {name = "ids", shape = [1, 3], whole = true} : tensor<1x3xf32, client>'
)
HANDED = 'tensor.output(%3) {name = "client.0"}'

LIES = {
    "the other owner's input": [
        (IDS_OP, IDS_OP.replace("whole", 'owner = "model", whole').replace("client>", "model>")),
        (LOOKUP, LOOKUP.replace("client>", "model>")),
        (SUM, SUM.replace("client>", "model>")),
    ],
    "the model owner's weight": [
        (TABLE + "tensor<20x4xf32, public>", TABLE.replace(', owner = "public"', "")
         + "tensor<20x4xf32, model>"),
        (LOOKUP, LOOKUP.replace("client>", "secret>")),
        (SUM, SUM.replace("client>", "secret>")),
    ],
    "a place that owns nothing": [("func @local.client", "func @local.P0")],
    "handed to another": [(HANDED, HANDED.replace("}", ', owner = "model"}'))],
    "handed over twice": [(HANDED, f"{HANDED}\n    {HANDED}")],
    "handed to nobody": [(HANDED, HANDED.replace("client.0", "client.1"))],
    "another type": [
        (HANDED, "%4 = tensor.reshape(%3) {shape = [4, 1]} : tensor<4x1xf32, client>\n"
         + HANDED.replace("%3", "%4")),
    ],
    "read twice": [(TABLE, IDS_OP.replace("%0", "%9") + "\n    " + TABLE)],
    "nothing handed over": [(f'{HANDED} loc("output_1")', "")],
    "a call": [
        (HANDED, '%4 = tensor.call(%3) {callee = "f", number = 1, '
         'types = ["tensor<1x4xf32, client>"]} : tensor<1x4xf32, client>\n'
         + HANDED.replace("%3", "%4")),
        ("func @local.client() {", "func @f(%0: tensor<1x4xf32, client>) {\n"
         "    %1 = tensor.relu(%0) : tensor<1x4xf32, client>\n    return %1\n  }\n"
         "  func @local.client() {"),
    ],
    "a function of nobody": [
        ("func @local.client() {", "func @other() {\n  }\n  func @local.client() {")
    ],
}  # fmt: skip


def test_the_program_of_the_owner_is_as_expected(tokens):
    text = tokens.artifact.tensor_text
    for part in (LOOKUP, SUM, TABLE, IDS_OP, HANDED):
        assert part in text
    report = verify_artifact(tokens.artifact)
    assert report.accepted
    shown = report.disclosed["computed by owners before sharing"]
    assert shown == {"client": "lookup, reduce_sum of ids; shares 4 numbers in place of 60"}


@pytest.mark.parametrize("name", list(LIES))
def test_lies_are_refused_by_the_checker(tokens, name):
    lie = changed(tokens.artifact, *LIES[name])
    assert "E-local-program" in codes(lie)
    if name != "a function of nobody":
        assert list(local_problems(lie.tensor_module))
        assert refused_before_running(lie) in ("E-local-program", "E-artifact-public")


def test_an_owner_that_reads_other_inputs_than_announced_is_refused(tokens):
    lie = changed(tokens.artifact, ('name = "ids"', 'name = "diary"'))
    assert "E-verify-interface" in codes(lie)
    quiet = changed(tokens.artifact, edit=lambda m: m["local"][0].update(name="diary"))
    assert "E-verify-interface" in codes(quiet)
    for where in ("shape", "owner"):
        value = {"shape": [1, 4], "owner": "model"}[where]
        lie = changed(
            tokens.artifact, edit=lambda m, k=where, v=value: m["local"][0].update({k: v})
        )
        assert "E-verify-interface" in codes(lie)


def test_names_from_files_reach_no_terminal_as_they_are(tokens):
    lie = changed(tokens.artifact, ('name = "ids"', 'name = "\\u001b[2J"'))
    shown = verify_artifact(lie).disclosed["computed by owners before sharing"]
    assert "\\x1b" in shown["client"]
    assert "\x1b" not in shown["client"]


def test_unknown_operators_are_not_read(tokens):
    entries = entries_of(tokens.artifact)
    text = entries["tensor.mpcc"].decode().replace("tensor.lookup(", "tensor.send(")
    lie = Artifact.from_bytes(packed({**entries, "tensor.mpcc": text.encode()}))
    for use in (verify_artifact, lambda a: prepared_inputs(a, IDS)):
        with pytest.raises(MpccError) as caught:
            use(lie)
        assert caught.value.code.startswith("E-ir")


def test_huge_shapes_are_refused_before_anything_is_allocated(tokens):
    huge = 1 << 28
    big = f"%7 = tensor.broadcast(%3) {{shape = [{huge}, 4]}} : tensor<{huge}x4xf32, client>"
    cut = "%8 = tensor.slice(%7) {starts = [0, 0], limits = [1, 4], strides = [1, 1]}"
    cut += " : tensor<1x4xf32, client>"
    lie = changed(tokens.artifact, (HANDED, f"{big}\n{cut}\n{HANDED.replace('%3', '%8')}"))
    with pytest.raises(MpccError) as caught:
        prepared_inputs(lie, IDS, max_memory=1 << 30)
    assert caught.value.code.startswith("E-limit-")


@pytest.mark.parametrize("ids", [[0, 1, 20], [0, -21, 1], [0, 0.5, 1], [0, np.nan, 1]])
def test_numbers_that_no_table_has_do_not_become_rows_of_zeros(tokens, ids):
    with pytest.raises(MpccError) as caught:
        prepared_inputs(tokens.artifact, {"ids": np.array([ids], np.float32)})
    assert caught.value.code == "E-input-range"


def test_public_weights_are_those_of_the_functions_in_one_form(tokens):
    artifact, entry = tokens.artifact, "public.safetensors"
    entries = entries_of(artifact)
    (name,) = artifact.public_weights
    table = artifact.public_weights[name]
    bad = {
        "of another shape": public_bytes({name: table[:5]}),
        "one more": public_bytes({name: table, "w9": np.ones(3, np.float32)}),
        "of another name": public_bytes({"w9": table}),
        "not finite": public_bytes({name: np.full_like(table, np.nan)}),
        "with more behind": entries[entry] + b"secret",
        "no such file": b"secret",
    }
    for data in bad.values():
        lie = Artifact.from_bytes(packed({**entries, entry: data}))
        assert "E-artifact-public" in codes(lie)
        assert refused_before_running(lie) == "E-artifact-public"


def test_entries_are_those_of_the_manifest(tokens):
    entries = entries_of(tokens.artifact)
    with_less = {k: v for k, v in entries.items() if k != "public.safetensors"}
    for lie, edit in (
        (with_less, None),
        (entries, lambda m: m["entries"].pop("public.safetensors")),
        ({**with_less, "more.bin": b"1"}, None),
    ):
        given = dict(lie) if edit or lie is not with_less else {**lie, "public.safetensors": b""}
        data = packed(given, edit) if edit else None
        if data is None:
            manifest = dict(tokens.artifact.manifest)
            data = Artifact(manifest, lie).to_bytes()
        with pytest.raises(MpccError) as caught:
            Artifact.from_bytes(data)
        assert caught.value.code.startswith("E-artifact")


def test_the_policy_of_the_user_counts(tokens):
    declared = declared_policy(tokens.artifact.secure_module)
    strict = verify_artifact(tokens.artifact, declared)
    assert {p.code for p in strict.all_problems} == {"E-leak-public"}
    (name,) = tokens.artifact.public_weights
    allowed = dataclasses.replace(declared, public=frozenset({name}))
    assert verify_artifact(tokens.artifact, allowed).accepted
    moved = dataclasses.replace(allowed, inputs={**declared.inputs, "ids": "model"})
    assert {p.code for p in verify_artifact(tokens.artifact, moved).all_problems} == {
        "E-leak-reveal"
    }


def test_secret_weights_do_not_move_the_file_and_public_ones_do(tokens):
    found = {}
    for which in ("a", "table"):
        proto = onnx.load_from_string(TOKENS)
        for array in proto.graph.initializer:
            if array.name == which:
                values = onnx.numpy_helper.to_array(array) / 2
                array.CopyFrom(onnx.numpy_helper.from_array(values, which))
        other = compiled(proto.SerializeToString(), owners={"table": "public"})
        found[which] = other.artifact.to_bytes() == tokens.artifact.to_bytes()
    assert found == {"a": True, "table": False}


def test_the_artifact_tells_what_owners_compute(tokens):
    from rich.console import Console

    console = Console(width=200, record=True, file=io.StringIO())
    console.print(tokens.summary())
    assert "lookup, reduce_sum of ids; shares 4 numbers in place of 60" in console.export_text()
    assert "func @local.client" in api.inspect(tokens.artifact, "tensor")


def test_a_program_without_own_computing_has_the_same_entries_as_before():
    plain = compiled(crop_model(8, 4), local="none").artifact
    assert "local" not in plain.manifest
    assert list(entries_of(plain)) == [
        "manifest.json",
        "tensor.mpcc",
        "secure.mpcc",
        "program.pb",
        "cost.json",
    ]


def test_what_a_function_makes_is_not_given(tokens):
    with pytest.raises(MpccError) as caught:
        prepared_inputs(tokens.artifact, {**IDS, "client.0": np.full((1, 4), 1e30)})
    assert caught.value.code == "E-input-name"
