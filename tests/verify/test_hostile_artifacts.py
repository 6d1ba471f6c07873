"""Artifacts made to harm whoever verifies them, or to carry what no rule looks at."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from mpcc import api
from mpcc.artifact import Artifact
from mpcc.cli import app
from mpcc.compiler import phi_of
from mpcc.errors import MpccError
from mpcc.ir.core import Module
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.text import parse_module, print_module
from mpcc.options import CompileOptions
from mpcc.passes import pipeline
from mpcc.passes.base import Manager
from mpcc.passes.declared_formats import declared_phi
from mpcc.verify_program import lower_again, verify_artifact
from mpcc.verify_program.derived import cost_of, outputs_of
from tests.corpus.make_artifacts import tiny_conv
from tests.verify.artifact_mutations import entries_of, packed

SECRET = b"weights: 0.1234 0.5678"


def compiled(**formats) -> api.Compiled:
    return api.compile(tiny_conv(), options=CompileOptions(formats=FormatOptions(**formats)))


def codes(data: bytes) -> set[str]:
    return {p.code for p in verify_artifact(Artifact.from_bytes(data)).all_problems}


def artifact_of(module: Module, options: FormatOptions, phi: Phi) -> Artifact:
    """What an owner can make of a tensor module with formats of any kind."""
    secure = Manager(pipeline.to_secure(phi, options)).run(module)
    party, program = lower_again(secure, "rep3")
    return Artifact.create(
        tensor_module=module,
        secure_module=secure,
        program=program,
        protocol="rep3",
        phi=phi.public(),
        formats=options.public(),
        inputs=[op.attrs for op in secure.main.walk("secure.input")],
        outputs=outputs_of(module),
        cost=cost_of(party),
        version="0",
    )


# --- bytes that no entry has ---------------------------------------------------------------------


def with_gap(data: bytes) -> bytes:
    """Between two entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            new.writestr(info, old.read(info))
            if info.filename == "tensor.mpcc" and new.fp is not None:
                new.fp.write(SECRET)
                new.start_dir = new.fp.tell()
    return buffer.getvalue()


def with_info(data: bytes, **changes) -> bytes:
    """With another comment, extra field, time or compression of an entry."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename == "cost.json":
                for key, value in changes.items():
                    setattr(info, key, value)
            new.writestr(info, content)
    return buffer.getvalue()


def with_another_stream(data: bytes) -> bytes:
    """The same content packed in another way: the choice could say something."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            new.writestr(info, old.read(info), compresslevel=1)
    return buffer.getvalue()


HIDDEN = {
    "gap": with_gap,
    "comment": lambda d: with_info(d, comment=SECRET),
    "extra field": lambda d: with_info(d, extra=struct.pack("<HH", 0x9999, len(SECRET)) + SECRET),
    "time": lambda d: with_info(d, date_time=(1999, 12, 31, 23, 58, 2)),
    "attributes": lambda d: with_info(d, external_attr=0o123456 << 16),
    "not packed": lambda d: with_info(d, compress_type=zipfile.ZIP_STORED),
    "packed in another way": with_another_stream,
    "stream": lambda d: after_the_stream(d),
}


def after_the_stream(data: bytes) -> bytes:
    """Behind the end of an entry's compressed data, counted to it."""
    info = zipfile.ZipFile(io.BytesIO(data)).getinfo("cost.json")
    end = zipfile.ZipFile(io.BytesIO(data)).start_dir
    size = struct.pack("<I", info.compress_size)
    longer = struct.pack("<I", info.compress_size + len(SECRET))
    head, tail = bytearray(data[:end]), bytearray(data[end:])
    # cost.json is the last entry, so that no offset but the directory's changes.
    head[info.header_offset + 18 : info.header_offset + 22] = longer
    at = tail.rindex(b"PK\x01\x02")
    assert tail[at + 20 : at + 24] == size
    tail[at + 20 : at + 24] = longer
    moved = tail.index(b"PK\x05\x06") + 16
    tail[moved : moved + 4] = struct.pack("<I", end + len(SECRET))
    return bytes(head) + SECRET + bytes(tail)


@pytest.fixture(scope="module")
def good() -> bytes:
    return compiled().artifact.to_bytes()


@pytest.mark.parametrize("how", HIDDEN)
def test_nothing_is_hidden_beside_the_entries(good, how):
    assert codes(good) == set()
    data = HIDDEN[how](good)
    assert data != good
    assert entries_of(Artifact.from_bytes(data)) == entries_of(Artifact.from_bytes(good))
    report = verify_artifact(Artifact.from_bytes(data))
    assert {p.code for p in report.all_problems} == {"E-verify-bytes"}
    # The way out: what is written again has the entries alone.
    again = Artifact.from_bytes(data).to_bytes()
    assert again == good
    assert SECRET not in again


def test_random_changes_that_still_load_are_seen(good):
    """A byte of the file that may change without a word would be room for a message."""
    rng = np.random.default_rng(5)
    places = [*range(100), *range(len(good) - 400, len(good))]
    places += rng.integers(0, len(good), 300).tolist()
    loaded = 0
    for place in places:
        data = bytearray(good)
        data[place] ^= 1 << rng.integers(8)
        try:
            artifact = Artifact.from_bytes(bytes(data))
        except MpccError:
            continue
        loaded += 1
        assert artifact.is_odd_file
    assert loaded > 20
    assert zlib.crc32(good) == zlib.crc32(Artifact.from_bytes(good).to_bytes())


# --- nesting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [40, 300, 600, 900, 5000, 200_000])
def test_deep_json_is_refused(good, depth):
    entries = entries_of(Artifact.from_bytes(good))
    nested = b"[" * depth + b"]" * depth
    cost = packed({**entries, "cost.json": b'{"a":' + nested + b"}"})
    found = verify_artifact(Artifact.from_bytes(cost)).all_problems
    assert any(p.code == "E-artifact-cost" and "nested too deeply" in p.what for p in found)
    text = entries["manifest.json"].replace(b'"phi": {', b'"phi": {"z": ' + nested + b",", 1)
    data = Artifact({}, {**entries, "manifest.json": text}).to_bytes()
    with pytest.raises(MpccError, match="nested too deeply") as caught:
        Artifact.from_bytes(data)
    assert caught.value.code == "E-artifact-manifest"


# --- shapes --------------------------------------------------------------------------------------


def joined(size: int) -> str:
    return f"""module tensor {{
  func @main() {{
    %0 = tensor.input() {{name = "x", shape = [{size}]}} : tensor<{size}xf32, client>
    %1 = tensor.weight() {{name = "w", shape = [8]}} : tensor<8xf32, model>
    %2 = tensor.concat(%0, %1) {{axis = 0}} : tensor<{size + 8}xf32, secret>
    %3 = tensor.relu(%2) : tensor<{size + 8}xf32, secret>
    tensor.output(%3) {{name = "y"}}
  }}
}}
"""


@pytest.mark.parametrize("size", [1 << 27, 1 << 34])
def test_large_shapes_take_no_memory(size):
    """A few kilobytes that claim a tensor of gigabytes, with formats that are made again."""
    options = FormatOptions(disclose="none", input_ranges={"x": (-1, 1)})
    small = parse_module(joined(8), DIALECTS)
    entries = entries_of(artifact_of(small, options, declared_phi(small, options)))
    made = print_module(parse_module(joined(size), DIALECTS)).encode()
    data = packed({**entries, "tensor.mpcc": made})
    tracemalloc.start()
    try:
        found = codes(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()
    assert found == {"E-verify-interface", "E-verify-secure"}


# --- what is said of ranges ----------------------------------------------------------------------


def test_ranges_that_only_the_weights_could_prove_are_called_a_claim():
    honest = compiled(policy="proved")
    phi = phi_of(honest.artifact)
    narrow = tuple((i, bits if i == phi.ranges[0][0] else -6) for i, bits in phi.ranges)
    found = honest.artifact
    lying = artifact_of(found.tensor_module, found.formats, replace(phi, ranges=narrow))
    for artifact in (honest.artifact, lying):
        report = verify_artifact(Artifact.from_bytes(artifact.to_bytes()))
        # It leaks nothing, so that it is accepted; it may be wrong, so that nothing vouches for it.
        assert report.accepted
        assert "claim (proved), not checked" in report.disclosed["ranges"]
        assert any("model owner, for correct answers" in text for text in report.trusted)
    inputs = {p["name"]: np.ones(p["shape"], np.float32) for p in honest.artifact.inputs}
    assert api.simulate(lying, honest.weights, inputs).overflows


@pytest.mark.parametrize(
    ("formats", "words"),
    [
        ({"disclose": "none"}, "proved again here"),
        ({"disclose": "none", "value_range": 512.0}, "promised by the model owner, not checked"),
        ({"disclose": "per-model"}, "claim (proved), not checked"),
    ],
)
def test_what_ranges_rest_on(formats, words):
    report = verify_artifact(compiled(**formats).artifact)
    assert report.accepted
    assert words in report.disclosed["ranges"]


# --- terminals -----------------------------------------------------------------------------------

ESCAPES = "\x1b]0;title\x07\x1b[31mred\x9b2J\u202e"


@pytest.fixture(scope="module")
def shouting(tmp_path_factory):
    """An artifact whose layers have names that a terminal would obey."""
    base = compiled(disclose="none").artifact
    text = base.tensor_text
    first = next(line for line in text.splitlines() if " loc(" in line and "relu" in line)
    name = json.loads(first[first.index(" loc(") + 5 : -1])
    other = text.replace(f"loc({json.dumps(name)})", f"loc({json.dumps(ESCAPES)})")
    module = parse_module(other, DIALECTS)
    path = tmp_path_factory.mktemp("shouting") / "m.mpcc"
    artifact_of(module, base.formats, phi_of(base)).save(path)
    return path


def control(text: str) -> set[str]:
    return {c for c in text if not c.isprintable() and c not in "\n\t"}


@pytest.mark.parametrize("command", ["cost", "verify", "inspect"])
def test_terminals_are_not_told_what_to_do(shouting, command):
    result = CliRunner().invoke(app, [command, str(shouting)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert control(result.output) == set()
    if command == "cost":
        assert r"\x1b]" in result.output


def test_pages_have_no_control_characters(shouting, tmp_path):
    page, figures = tmp_path / "report.html", tmp_path / "cost.json"
    result = CliRunner().invoke(
        app, ["cost", str(shouting), "--html", str(page), "--json", str(figures)]
    )
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert control(text) == set()
    assert r"\x1b]0;title" in text
    assert '<svg class="bar"' in text
    assert control(figures.read_text()) == set()


def test_warnings_have_no_control_characters(capsys):
    from mpcc.cli.console import err

    err.print(f"left their range at: {ESCAPES}", soft_wrap=True)
    shown = capsys.readouterr().err
    assert control(shown) == set()
    assert r"\x1b[31mred\x9b2J\u202e" in shown
