"""Artifact, weights, private report: what is written comes back, nothing else is accepted."""

import errno
import hashlib
import io
import json
import os
import stat
import struct
import tempfile
import zipfile

import numpy as np
import onnx
import pytest

from mpcc import artifact as files
from mpcc.artifact import (
    FORMAT,
    Artifact,
    atomic_write,
    load_private,
    load_weights,
    save_private,
    save_weights,
)
from mpcc.errors import MpccError
from mpcc.files import looks_like
from mpcc.ir.core import Module
from mpcc.ir.ops import secure, tensor
from mpcc.ir.text import parse_module, print_module

NAMES = ["manifest.json", "tensor.mpcc", "secure.mpcc", "program.pb", "cost.json"]

TENSOR = """\
module tensor {
  func @main() {
    %0 = tensor.input() {name = "x", shape = [2], dtype = "f32", owner = "client"}\
 : tensor<2xf32, client>
    tensor.output(%0) {name = "y", owner = "client"}
  }
}
"""


def tensor_module() -> Module:
    return parse_module(TENSOR, {"tensor": tensor.DIALECT})


def make(**changes) -> Artifact:
    arguments = {
        "tensor_module": tensor_module(),
        "secure_module": Module("secure"),
        "program": b"program bytes",
        "protocol": "rep3",
        "phi": {"ring": 64, "ranges": ((0, 3), (1, 4))},
        "inputs": [{"name": "x", "shape": (2,), "owner": "client", "lo": -1.0, "hi": 1, "k": 5}],
        "outputs": [{"name": "y", "shape": (2,), "owner": "client"}],
        "cost": {"rounds": 3, "bytes_sent": {"0->1": 8}},
        "version": "0.1.0",
        **changes,
    }
    return Artifact.create(**arguments)


def test_round_trip(tmp_path):
    made = make()
    path = tmp_path / "M.mpcc"
    made.save(path)
    back = Artifact.load(path)
    assert path.read_bytes() == made.to_bytes() == back.to_bytes() == make().to_bytes()
    assert back.manifest == made.manifest
    assert back.program == b"program bytes"
    assert back.protocol == "rep3"
    assert back.phi == {"ring": 64, "ranges": [[0, 3], [1, 4]]}
    assert back.inputs == [{"name": "x", "shape": [2], "owner": "client", "lo": -1.0, "hi": 1}]
    assert back.outputs == [{"name": "y", "shape": [2], "owner": "client"}]
    assert back.cost == {"rounds": 3, "bytes_sent": {"0->1": 8}}
    assert print_module(back.tensor_module) == back.tensor_text == print_module(tensor_module())
    assert print_module(back.secure_module) == back.secure_text
    assert back.tensor_module is back.tensor_module
    assert back.secure_module.level == secure.DIALECT.level
    assert zipfile.ZipFile(path).namelist() == NAMES
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_modules_are_parsed_when_asked_for(tmp_path):
    bad = make()
    entries = repack(bad.to_bytes(), edit={"secure.mpcc": b"module nonsense"}, rehash=True)
    back = Artifact.from_bytes(entries)
    with pytest.raises(MpccError, match="E-ir-parse"):
        _ = back.secure_module


def test_repr_shows_no_formats():
    assert repr(make()).startswith("<Artifact rep3, program ")
    assert "ranges" not in repr(make())


def test_create_refuses_what_load_would():
    with pytest.raises(MpccError, match="E-artifact-manifest"):
        make(inputs=[{"name": "x", "shape": (2,), "owner": "thief", "lo": 0, "hi": 1}])


# --- hostile files -------------------------------------------------------------------------------


def repack(data, edit=None, order=None, rehash=False, extra=(), compression=zipfile.ZIP_DEFLATED):
    """The zip file with entries changed; with ``rehash`` the manifest agrees with them."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    entries.update(edit or {})
    if rehash:
        manifest = json.loads(entries["manifest.json"])
        for name in manifest["entries"]:
            manifest["entries"][name] = hashlib.sha256(entries[name]).hexdigest()
        manifest["program_sha256"] = manifest["entries"]["program.pb"]
        entries["manifest.json"] = json.dumps(manifest).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name in order or entries:
            file.writestr(name, entries[name])
        for name, content in extra:
            file.writestr(name, content)
    return buffer.getvalue()


def refused(data) -> MpccError:
    with pytest.raises(MpccError) as caught:
        Artifact.from_bytes(data, "bad.mpcc")
    assert "bad.mpcc" in caught.value.diagnostics[0].where
    return caught.value


def test_a_stored_zip_is_an_artifact_too():
    assert Artifact.from_bytes(repack(make().to_bytes(), compression=zipfile.ZIP_STORED))


def test_damaged_zips():
    data = make().to_bytes()
    assert refused(b"").code == "E-artifact"
    assert refused(b"PK\x05\x06" + bytes(18)).code == "E-artifact"
    for cut in range(0, len(data), 11):
        refused(data[:cut])
    for at in range(0, len(data), 5):
        changed = bytearray(data)
        changed[at] ^= 0x41
        try:
            back = Artifact.from_bytes(bytes(changed))
        except MpccError:
            continue
        # Timestamps and the like may differ; content may not.
        assert back.to_bytes() == data


def test_files_of_other_kinds_are_told_apart(tmp_path):
    graph = onnx.helper.make_graph([], "g", [], [])
    model = onnx.helper.make_model(graph, producer_name="x").SerializeToString()
    with pytest.raises(MpccError, match=r"looks like an ONNX model(.|\n)*mpcc compile"):
        Artifact.from_bytes(model)
    weights = tmp_path / "m.weights"
    save_weights(weights, {"w0": np.zeros(3, np.int64)}, "0" * 64)
    with pytest.raises(MpccError, match="looks like a safetensors file"):
        Artifact.from_bytes(weights.read_bytes())
    assert looks_like(make().to_bytes()) == "an mpcc artifact"
    assert looks_like(b"?" * 100) == ""


def test_entries_must_be_the_known_ones(recwarn):
    data = make().to_bytes()
    for bad in (
        repack(data, order=NAMES[::-1]),
        repack(data, order=NAMES[:-1]),
        repack(data, extra=[("../../etc/passwd", b"x")]),
        repack(data, extra=[("/abs", b"x")]),
        repack(data, extra=[("program.pb", b"another")]),
    ):
        assert "exactly the entries" in str(refused(bad))
    recwarn.clear()  # zipfile warns about the double name that it writes for us


def test_data_beside_the_entries():
    data = make().to_bytes()
    assert refused(b"#!/bin/sh\n" + data).code == "E-artifact"
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as file:
        file.comment = b"hello"
    assert refused(buffer.getvalue()).code == "E-artifact"


def test_zip_bombs(monkeypatch):
    bomb = repack(make().to_bytes(), {"cost.json": b"0" * 5_000_000}, rehash=True)
    assert len(bomb) < 20_000
    monkeypatch.setitem(files._LIMITS, "cost.json", 1_000_000)
    assert "more than" in str(refused(bomb))
    # The announced size lies.
    at = bomb.index((5_000_000).to_bytes(4, "little"))
    lying = bomb.replace(bomb[at : at + 4], (1000).to_bytes(4, "little"))
    assert refused(lying).code == "E-artifact"


def many_entries(count: int, announced: int) -> bytes:
    """A zip whose directory names one empty file ``count`` times, and says another number."""
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"a"
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    entries = (entry + b"a") * count
    numbers = (0, 0, announced, announced, len(entries), len(local), 0)
    return local + entries + struct.pack("<4s4H2IH", b"PK\5\6", *numbers)


@pytest.mark.parametrize("announced", [5, 40_000])
def test_a_long_directory_is_not_read(monkeypatch, announced):
    data = many_entries(40_000, announced)
    monkeypatch.setattr("mpcc.artifact.zipfile.ZipFile", None)
    assert "exactly the entries" in str(refused(data))


def test_zip64_is_refused():
    data = make().to_bytes()
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(data), 1)
    assert "zip64" in str(refused(data[:-22] + locator + data[-22:]))


def test_large_files_are_not_read(tmp_path, monkeypatch):
    make().save(tmp_path / "M.mpcc")
    monkeypatch.setattr(files, "_MAX_FILE", 100)
    with pytest.raises(MpccError, match="E-file-size"):
        Artifact.load(tmp_path / "M.mpcc")
    with pytest.raises(MpccError, match="E-file-read"):
        Artifact.load(tmp_path / "none.mpcc")


def test_hashes_bind_the_entries():
    for name in NAMES[1:]:
        bad = repack(make().to_bytes(), edit={name: b"changed"})
        assert refused(bad).code == "E-artifact-hash"


def manifest_of(data):
    return json.loads(zipfile.ZipFile(io.BytesIO(data)).read("manifest.json"))


def test_another_version_is_refused_by_name():
    data = make().to_bytes()
    manifest = manifest_of(data)
    for version in (0, 1, FORMAT + 1, 10**30, str(FORMAT), True, None):
        manifest["format"] = version
        error = refused(repack(data, {"manifest.json": json.dumps(manifest).encode()}))
        (problem,) = error.diagnostics
        assert problem.code == "E-artifact-version"
        assert "compile the model again" in problem.fix
        # Both versions are named.
        assert f"this mpcc reads formats {FORMAT - 1} and {FORMAT}" in problem.what
        if type(version) is int:
            assert f"has format {version}," in problem.what
            assert ("newer" in problem.fix) == (version > FORMAT)


CHANGES = {
    "unknown field": lambda m: m.update(evil=1),
    "missing field": lambda m: m.pop("phi"),
    "places": lambda m: m.update(places=["P0", "P9"]),
    "double place": lambda m: m.update(places=["P0", "P0"]),
    "protocol": lambda m: m.update(protocol=""),
    "phi": lambda m: m.update(phi=[]),
    "formats": lambda m: m.update(formats={}),
    "formats kind": lambda m: m["formats"].update(weight_range="8"),
    "formats extra": lambda m: m["formats"].update(note="w0 = 0.1"),
    "long number": lambda m: m["inputs"][0].update(lo=-(10**400)),
    "disclosed": lambda m: m.update(disclosed=[0.5]),
    "disclosed kind": lambda m: m.update(disclosed="0.5"),
    "program hash": lambda m: m.update(program_sha256="0" * 64),
    "entries": lambda m: m["entries"].update({"evil.pb": "0" * 64}),
    "hash form": lambda m: m["entries"].update({"cost.json": "0" * 63 + "G"}),
    "input shape": lambda m: m["inputs"][0].update(shape=[-1]),
    "input shape kind": lambda m: m["inputs"][0].update(shape=[True]),
    "input owner": lambda m: m["inputs"][0].update(owner="P0"),
    "input bound": lambda m: m["inputs"][0].update(lo="0"),
    "rows of another axis": lambda m: m["inputs"][0].update(rows=3),
    "rows that are no number": lambda m: m["inputs"][0].update(rows=True, shape=[1]),
    "no rows": lambda m: m["inputs"][0].update(rows=0, shape=[0]),
    "input field": lambda m: m["inputs"][0].update(raw=[1]),
    "input twice": lambda m: m["inputs"].append(m["inputs"][0]),
    "inputs kind": lambda m: m.update(inputs={}),
    "output name": lambda m: m["outputs"][0].update(name=7),
}


@pytest.mark.parametrize("name", CHANGES)
def test_manifests_are_checked(name):
    data = make().to_bytes()
    manifest = manifest_of(data)
    CHANGES[name](manifest)
    error = refused(repack(data, {"manifest.json": json.dumps(manifest).encode()}))
    assert error.code == "E-artifact-manifest"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"format": 1, "format": 1}',
        b'{"format": NaN}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
)
def test_manifests_must_be_json(text):
    error = refused(repack(make().to_bytes(), {"manifest.json": text}))
    assert error.code == "E-artifact-manifest"


# --- weights and private report ------------------------------------------------------------------

PROGRAM = "ab" * 32


def some_weights():
    return {
        "w": np.array([[1, -2], [2**62, -(2**63)]], np.int64),
        "b": np.array([7], np.uint32),
        "scalar": np.array(5, np.uint64),
        "empty": np.zeros((0, 3), np.uint64),
    }


def test_weights_round_trip(tmp_path):
    path = tmp_path / "M.weights"
    os.umask(os.umask(0))
    save_weights(path, some_weights(), PROGRAM)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = path.read_bytes()
    save_weights(path, some_weights(), PROGRAM)
    assert path.read_bytes() == first
    back = load_weights(path, PROGRAM)
    assert set(back) == set(some_weights())
    for name, array in some_weights().items():
        assert back[name].dtype.kind == "u"
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name].astype(array.dtype), array)


def test_weights_show_no_values(tmp_path):
    save_weights(tmp_path / "w", {"w": np.array([424242], np.int64)}, PROGRAM)
    loaded = load_weights(tmp_path / "w", PROGRAM)
    assert "424242" not in repr(loaded) + str(loaded)
    assert "uint64[1]" in repr(loaded)


def test_weights_belong_to_one_program(tmp_path):
    save_weights(tmp_path / "w", some_weights(), PROGRAM)
    with pytest.raises(MpccError, match="E-weights-program"):
        load_weights(tmp_path / "w", "cd" * 32)


def test_weights_have_ring_words(tmp_path):
    with pytest.raises(MpccError, match="E-weights-type"):
        save_weights(tmp_path / "w", {"w": np.zeros(2, np.float32)}, PROGRAM)
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights(tmp_path):
    path = tmp_path / "w"
    save_weights(path, some_weights(), PROGRAM)
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")

    def with_header(text: bytes) -> bytes:
        return len(text).to_bytes(8, "little") + text + data[8 + size :]

    header = data[8 : 8 + size]
    for bad in (
        b"",
        data[:7],
        data[:20],
        data[:-1],
        data + b"x",
        (2**63).to_bytes(8, "little") + data[8:],
        with_header(b"{}"),
        with_header(b'{"__metadata__": {"mpcc": 5}}'),
        with_header(b'{"__metadata__": {"mpcc": "{}"}}'),
        with_header(header.replace(b'"U64"', b'"Q64"')),
        with_header(header.replace(b"[2,2]", b"[2,9]")),
        with_header(header.replace(b'"U64"', b'"F64"')),
        with_header(header.replace(b'\\"format\\": 1', b'\\"format\\": 2')),
    ):
        path.write_bytes(bad)
        with pytest.raises(MpccError) as caught:
            load_weights(path, PROGRAM)
        assert caught.value.code.startswith("E-weights")


def test_private_report(tmp_path):
    path = tmp_path / "M.private.json"
    save_private(path, {"range": np.float64(1.5), "shape": (1, 2), "errors": np.arange(2)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_private(path) == {"range": 1.5, "shape": [1, 2], "errors": [0, 1]}
    path.write_text("[1]")
    with pytest.raises(MpccError, match="E-private"):
        load_private(path)


# --- atomic writes -------------------------------------------------------------------------------


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"half of the new, and then %d" % (1 // 0))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MpccError, match="No space left") as caught, atomic_write(path) as file:
        file.write(b"new")
    assert caught.value.code == "E-file-write"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_real_full_device(tmp_path, monkeypatch):
    def on_full_device(**_):
        path = tmp_path / "temporary"
        path.touch()
        return os.open("/dev/full", os.O_WRONLY), str(path)

    monkeypatch.setattr(tempfile, "mkstemp", on_full_device)
    with pytest.raises(MpccError, match="No space left"):
        make().save(tmp_path / "M.mpcc")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory(tmp_path):
    with pytest.raises(MpccError, match="E-file-write"):
        make().save(tmp_path / "none" / "M.mpcc")
