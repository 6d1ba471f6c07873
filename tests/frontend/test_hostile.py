"""Files that are not what they should be: a clear error, never a crash or a read elsewhere."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from examples.blazeface import model as blazeface
from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.frontend.onnx import model as reader
from tests.frontend.models import model, node

F = np.float32


def code_of(source, **options) -> str:
    with pytest.raises(MpccError) as caught:
        import_onnx(source, **options)
    return caught.value.code


def small() -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "w"], ["s"]), node("Add", ["s", "b"], ["y"])]
    constants = {"w": np.arange(6, dtype=F).reshape(3, 2), "b": np.ones(2, F)}
    return model(nodes, {"x": (1, 3)}, constants=constants)


# --- files ---------------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    assert code_of(tmp_path / "no.onnx") == "E-model-missing"
    assert code_of(tmp_path) == "E-model-missing"
    assert code_of("a\0b") == "E-model-missing"


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    assert code_of(tmp_path / "pipe.onnx") == "E-model-missing"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no graph"),
        (b"hello, world", "not a protobuf message"),
        (b"PK\x03\x04" + bytes(100), "looks like a zip file"),
        (b"PK\x03\x04" + bytes(26) + b"manifest.json", "looks like an mpcc artifact"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "looks like an HDF5 file"),
        (onnx.TensorProto(name="t").SerializeToString(), "not an ONNX model"),
    ],
)
def test_other_formats(data, words):
    with pytest.raises(MpccError, match=words) as caught:
        import_onnx(data)
    assert caught.value.code == "E-model-format"


def test_a_file_that_is_cut_off():
    data = small().SerializeToString()
    codes = {code_of(data[:length]) for length in range(len(data))}
    assert codes == {"E-model-format"}


def test_a_file_of_a_real_model_that_is_cut_off(tmp_path):
    data = blazeface.model_path().read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MpccError, match="not an ONNX model") as caught:
        import_onnx(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 32)
    assert code_of(path) == "E-model-size"


# --- external data -------------------------------------------------------------------------------


def external(folder: Path, **entry) -> Path:
    """The small model with w in ``w.bin``, entries of external_data as given."""
    made = small()
    tensor = made.graph.initializer[0]
    (folder / "w.bin").write_bytes(b"head" + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    full = {"location": "w.bin", "offset": "4", "length": "24"} | entry
    for key, value in full.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_external_data(tmp_path):
    for entry in ({}, {"length": None}):
        result = import_onnx(external(tmp_path, **entry))
        np.testing.assert_array_equal(result.constants["w"], np.arange(6).reshape(3, 2))
    folder = tmp_path / "below"
    folder.mkdir()
    (folder / "w.bin").write_bytes((tmp_path / "w.bin").read_bytes())
    assert import_onnx(external(tmp_path, location="below/w.bin")).constants["w"][2, 1] == 5


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"location": "no.bin"}, "No such file"),
        ({"location": ""}, "not below the model's folder"),
        ({"location": "../w.bin"}, "not below the model's folder"),
        ({"location": "/etc/passwd"}, "not below the model's folder"),
        ({"location": "link"}, "not below the model's folder"),
        ({"location": "."}, "not below the model's folder"),
        ({"location": "pipe"}, "not a regular file"),
        ({"location": "a\0b"}, "null"),
        ({"offset": "8"}, "ends before byte 32"),
        ({"offset": "-4"}, "24 bytes at -4"),
        ({"offset": "four"}, "not a number"),
        ({"length": "25"}, "24 are needed"),
        ({"length": str(1 << 62)}, "24 are needed"),
    ],
)
def test_external_data_that_is_refused(tmp_path, entry, words):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    path = external(tmp_path, **entry)
    with pytest.raises(MpccError, match=words) as caught:
        import_onnx(path)
    assert caught.value.code == "E-model-external"
    assert "w" in str(caught.value)


def test_huge_external_data_is_not_read(tmp_path):
    path = external(tmp_path)
    made = onnx.load(path, load_external_data=False)
    made.graph.initializer[0].dims[:] = [1 << 20, 1 << 20]
    path.write_bytes(made.SerializeToString())
    with pytest.raises(MpccError, match=f"larger than {reader.MAX_MODEL_BYTES} bytes"):
        import_onnx(path)


def test_bytes_have_no_external_data(tmp_path):
    assert code_of(external(tmp_path).read_bytes()) == "E-model-external"


def test_external_data_of_a_constant_node(tmp_path):
    tensor = numpy_helper.from_array(np.ones(2, F), "t")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../t.bin")
    nodes = [node("Constant", [], ["c"], value=tensor), node("Add", ["x", "c"], ["y"])]
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes, {"x": (2,)}).SerializeToString())
    assert code_of(path) == "E-model-external"


# --- damaged contents ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "raw"), [([3, 3], 24), ([1 << 40, 1 << 40], 24), ([-3, 2], 24), ([3, 2], 0)]
)
def test_initialisers_with_other_sizes(dims, raw):
    made = small()
    made.graph.initializer[0].dims[:] = dims
    made.graph.initializer[0].raw_data = bytes(raw)
    assert code_of(made.SerializeToString()).startswith("E-model-")


def test_an_initialiser_of_strings_or_of_an_unknown_type():
    for kind in (TensorProto.STRING, 99):
        made = small()
        made.graph.initializer[1].data_type = kind
        assert code_of(made.SerializeToString()).startswith(("E-model-", "E-import-"))


def test_huge_shapes_need_no_memory():
    made = model([node("Relu", ["x"], ["y"])], {"x": (1 << 20, 1 << 20)})
    assert import_onnx(made.SerializeToString()).outputs[0].shape == (1 << 20, 1 << 20)
    made = model([node("Relu", ["x"], ["y"])], {"x": (1 << 40, 1 << 20)})
    assert code_of(made.SerializeToString()) == "E-import-shape"


def test_folding_does_not_explode():
    """Every Add squares the size: [n,1] + [1,n]."""
    nodes = [node("Transpose", ["w"], ["t"]), node("Add", ["w", "t"], ["c"]),
             node("MatMul", ["x", "c"], ["y"])]  # fmt: skip
    constants = {"w": np.zeros((1 << 15, 1), F)}
    made = model(nodes, {"x": (1, 1 << 15)}, constants=constants)
    with pytest.raises(MpccError, match="a constant of more than"):
        import_onnx(made.SerializeToString())


def test_deep_nesting():
    graph = small().graph
    for _ in range(20):
        outer = onnx.GraphProto(name="g")
        outer.node.append(onnx.NodeProto(op_type="If", input=["c"], output=["y"]))
        outer.node[0].attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH, g=graph)
        graph = outer
    made = small()
    made.graph.CopyFrom(graph)
    assert code_of(made.SerializeToString()).startswith("E-model-")


@pytest.mark.parametrize("source", ["small", "blazeface"])
def test_damaged_bytes_give_an_error_or_a_model(source):
    data = bytearray(
        small().SerializeToString() if source == "small" else blazeface.model_path().read_bytes()
    )
    rng = np.random.default_rng(17)
    codes = set()
    for _ in range(300 if source == "small" else 60):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 20_000), rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        if rng.random() < 0.2:
            del damaged[rng.integers(len(damaged)) :]
        try:
            import_onnx(bytes(damaged))
        except MpccError as error:
            codes.add(error.code)
    assert len(codes) >= 2
    assert all(c.startswith(("E-model-", "E-import-")) for c in codes)
