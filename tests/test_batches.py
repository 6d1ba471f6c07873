"""Programs for several batch sizes over one file of weights: equal formats, or a clear refusal."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from mpcc import api
from mpcc.artifact import Artifact, load_private, load_weights
from mpcc.errors import MpccError
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions, calibration_samples, parse_batches, parse_shapes
from mpcc.passes import analyse as analysis_module
from mpcc.verify_program import verify_artifact
from tests.e2e.support import call
from tests.frontend.models import model, node

F = np.float32
SIZES = (8, 1, 3)
RANGE = FormatOptions(input_ranges={"x": (-1, 1)})


def network(seed=0):
    """Conv, ReLU, pooling, flattening by shape arithmetic, dense: the batch axis is open."""
    rng = np.random.default_rng(seed)
    nodes = [
        node("Conv", ["x", "k", "b"], ["c"], name="conv"),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", ["m"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Concat", ["n", "rest"], ["target"], axis=0),
        node("Reshape", ["m", "target"], ["f"]),
        node("Gemm", ["f", "d", "e"], ["y"], name="dense"),
    ]
    constants = {
        "k": rng.uniform(-1, 1, (3, 2, 3, 3)).astype(F),
        "b": rng.uniform(-1, 1, 3).astype(F),
        "d": rng.uniform(-1, 1, (12, 4)).astype(F),
        "e": rng.uniform(-1, 1, 4).astype(F),
        "zero": np.array([0]),
        "rest": np.array([-1]),
    }
    made = model(nodes, {"x": ("N", 2, 6, 6)}, {"y": 2}, constants)
    return bytes(made.SerializeToString())


def rows(count, seed=1, size=1.0):
    rng = np.random.default_rng(seed)
    return {"x": rng.uniform(-size, size, (count, 2, 6, 6)).astype(F)}


def compiled(source=None, batch=SIZES, calibration=None, formats=RANGE, **options):
    made = source if source is not None else network()
    settings = CompileOptions(formats=formats, **options)
    return api.compile(made, batch=batch, calibration=calibration, options=settings)


def refused(*args, **kwargs):
    with pytest.raises(MpccError) as caught:
        compiled(*args, **kwargs)
    return caught.value.diagnostics


POLICIES = [
    pytest.param(FormatOptions(), rows(20), id="observed"),
    pytest.param(replace(RANGE, policy="guarded"), rows(20), id="guarded"),
    pytest.param(RANGE, None, id="proved"),
    pytest.param(replace(RANGE, disclose="per-model"), rows(20), id="per-model"),
    pytest.param(replace(RANGE, disclose="none", max_error=0.1), None, id="none"),
    pytest.param(
        replace(RANGE, disclose="none", value_range=64.0, max_error=0.1), rows(20), id="promised"
    ),
]


@pytest.mark.parametrize(("formats", "calibration"), POLICIES)
def test_formats_and_weights_are_shared_and_every_program_is_good(formats, calibration):
    made = compiled(formats=formats, calibration=calibration)
    assert tuple(made.programs) == SIZES
    single = compiled(formats=formats, calibration=calibration, batch=1)
    assert isinstance(single, api.Compiled)
    # The smallest batch is analysed, as if it were alone.
    assert made.programs[1].artifact.to_bytes() == single.artifact.to_bytes()
    for name, words in single.weights.items():
        np.testing.assert_array_equal(made.weights[name], words)
    for size, program in made.programs.items():
        artifact = Artifact.from_bytes(program.artifact.to_bytes())
        assert artifact.inputs[0]["shape"] == [size, 2, 6, 6]
        for key in ("frac", "weight_frac", "weight_bits", "policy", "ring"):
            assert artifact.phi[key] == single.artifact.phi[key]
        for key in ("ranges", "clamps", "inputs"):
            numbers = [bits for _, bits in artifact.phi[key]]
            assert numbers == [bits for _, bits in single.artifact.phi[key]]
        assert artifact.disclosed_bits == single.artifact.disclosed_bits
        assert program.weights is made.weights
        assert verify_artifact(artifact).all_problems == ()
        x = rows(size, seed=5)
        answer = api.simulate(artifact, made.weights, x).outputs["y"]
        session = onnxruntime.InferenceSession(network(), providers=["CPUExecutionProvider"])
        assert np.abs(answer - session.run(None, x)[0]).max() <= formats.max_error
    errors = made.private["batches"]
    assert errors.keys() == {"8", "3"}
    assert all(0 < e["y"] <= formats.max_error for e in errors.values())


@pytest.mark.parametrize(
    ("formats", "calibration"), [p for p in POLICIES if p.id in ("observed", "proved", "none")]
)
def test_same_formats_same_artifacts_whatever_the_weights(formats, calibration, monkeypatch):
    """With ``--disclose none`` nothing has to be kept."""
    first = compiled(formats=formats, calibration=calibration)
    if formats.disclose != "none":
        phi = {size: program.artifact.phi for size, program in first.programs.items()}
        chosen = analysis_module.analyse

        def keep(*args):
            found = chosen(*args)
            kept = replace(found.phi, frac=phi[1]["frac"], weight_frac=phi[1]["weight_frac"])
            table = tuple((i, b) for i, b in phi[1]["ranges"])
            kept = replace(kept, ranges=table, weight_bits=phi[1]["weight_bits"])
            kept = replace(kept, coarse=phi[1].get("coarse", 0), ring=phi[1]["ring"])
            kept = replace(kept, others=tuple(phi[1].get("others", ())))
            return replace(found, phi=kept)

        monkeypatch.setattr(analysis_module, "analyse", keep)
    # Weights and data that are smaller never need wider formats.
    other = model_with_smaller_weights(network())
    data = calibration and {"x": calibration["x"] * F(0.9)}
    second = compiled(other, formats=formats, calibration=data)
    for size, program in first.programs.items():
        assert program.artifact.to_bytes() == second.programs[size].artifact.to_bytes()
    assert any((first.weights[n] != second.weights[n]).any() for n in first.weights)


def model_with_smaller_weights(data):
    import onnx
    from onnx import numpy_helper

    proto = onnx.load_from_string(data)
    rng = np.random.default_rng(7)
    for initialiser in proto.graph.initializer:
        old = numpy_helper.to_array(initialiser)
        if old.dtype.kind == "f":
            new = (old * rng.uniform(0.6, 1, old.shape)).astype(F)
            initialiser.CopyFrom(numpy_helper.from_array(new, initialiser.name))
    return bytes(proto.SerializeToString())


@pytest.mark.parties
def test_two_batches_run_between_three_parties_on_one_file_of_weights(tmp_path):
    made = compiled(batch=(1, 8))
    paths = made.save(tmp_path / "M.mpcc")
    names = ["M.b1.mpcc", "M.b8.mpcc", "M.weights", "M.private.json"]
    assert [p.name for p in paths] == names
    x = rows(8, seed=5)
    parts = []
    for size, path in ((8, paths[1]), (1, paths[0])):
        artifact = Artifact.load(path)
        inputs = {"x": x["x"][:size]}
        native = api.run_local(artifact, path, inputs)
        in_process = api.run_local(artifact, path, inputs, engine="party-interpreter")
        simulated = api.simulate(artifact, path, inputs)
        for other in (in_process.outputs["y"], simulated.outputs["y"]):
            np.testing.assert_allclose(native.outputs["y"], other, atol=2.0**-7)
        parts.append(native.outputs["y"])
    np.testing.assert_allclose(parts[0][:1], parts[1], atol=2.0**-6)


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    (tmp_path / "M.onnx").write_bytes(network())
    np.savez(tmp_path / "rows.npz", **rows(20))
    np.savez(tmp_path / "x3.npz", **rows(3, seed=5))
    return tmp_path


def test_the_command_line(files):
    said = call("compile", files / "M.onnx", "--batch", "1,3", "--calibrate", files / "rows.npz")
    assert said.code == 0, said.err
    written = [files / n for n in ("M.b1.mpcc", "M.b3.mpcc", "M.weights", "M.private.json")]
    for path in written:
        assert f"wrote {path}" in said.err.splitlines()
    assert not (files / "M.mpcc").exists()
    assert {p.stat().st_mode & 0o777 for p in written[2:]} == {0o600}
    assert "batch" in said.out
    programs = [Artifact.load(p) for p in written[:2]]
    for artifact in programs:
        assert load_weights(files / "M.weights", artifact.program_sha256)
    assert load_private(files / "M.private.json")["batches"].keys() == {"3"}
    for path in written[:2]:
        assert call("verify", path).code == 0
    # The errors are those of the private report that all sizes share.
    found = api.diff(programs[0], programs[1], before_path=written[0], after_path=written[1])
    (error,) = [f for f in found.figures if f.name == "measured error"]
    assert error.before is not None
    (files / "M.private.json").write_text("[]")
    with pytest.raises(MpccError, match="E-private"):
        api.diff(programs[0], programs[1], before_path=written[0], after_path=written[1])
    engine = ["--engine", "party-interpreter", "-o", files / "y.npz"]
    data = ["--input", files / "x3.npz"]
    assert call("run", files / "M.b3.mpcc", *engine, *data).code == 0
    again = call("run", files / "M.b3.mpcc", "--weights", files / "M.weights", *engine, *data)
    assert again.code == 0
    reference = ["--reference", files / "M.onnx"]
    assert call("simulate", files / "M.b3.mpcc", *data, *reference).code == 0
    # The other size is another program.
    assert "E-input-shape" in call("run", files / "M.b1.mpcc", *engine, *data).err


def test_one_batch_has_no_name_of_its_own(files):
    said = call("compile", files / "M.onnx", "--batch", "3", "--input-range", "x=-1:1")
    assert said.code == 0, said.err
    assert Artifact.load(files / "M.mpcc").inputs[0]["shape"] == [3, 2, 6, 6]
    assert {p.name for p in files.glob("M.*")} == {
        "M.onnx",
        "M.mpcc",
        "M.weights",
        "M.private.json",
    }


def test_weights_of_an_older_compilation_are_passed_over(files):
    one = compiled(batch=8)
    one.save(files / "M.b8.mpcc")
    made = compiled(network(seed=3), batch=(1, 8))
    made.save(files / "M.mpcc")
    assert (files / "M.b8.weights").exists()
    artifact = Artifact.load(files / "M.b8.mpcc")
    x = rows(8)
    found = api.simulate(artifact, files / "M.b8.mpcc", x, rounding="floor")
    wanted = api.simulate(artifact, made.weights, x, rounding="floor")
    np.testing.assert_array_equal(found.outputs["y"], wanted.outputs["y"])
    # The shared file is another compilation's: its own counts.
    one.save(files / "M.b8.mpcc")
    api.simulate(one.artifact, files / "M.b8.mpcc", x)
    with pytest.raises(MpccError, match="E-weights-program"):
        api.simulate(one.artifact, files / "M.mpcc", x)
    for path in files.glob("*.weights"):
        path.unlink()
    with pytest.raises(MpccError, match="E-file-missing") as caught:
        api.simulate(one.artifact, files / "M.b8.mpcc", x)
    assert "M.b8.weights" in caught.value.diagnostics[0].where
    assert "M.weights" in caught.value.diagnostics[0].where


def tree(folder):
    return {p.name: (p.read_bytes(), p.stat().st_mode) for p in folder.iterdir()}


@pytest.mark.parametrize("before", ["nothing", "an older compilation"])
@pytest.mark.parametrize("broken", ["link", "replace"])
def test_all_files_appear_or_none(tmp_path, monkeypatch, before, broken):
    """Whichever rename fails, the folder is as it was."""
    if before != "nothing":
        compiled(network(seed=3), batch=(1, 8)).save(tmp_path / "M.mpcc")
    old = tree(tmp_path)
    made = compiled(batch=(1, 8))
    replace_file = os.replace

    def no_links(*args, **kwargs):
        raise PermissionError(1, "no links here")

    if broken == "link" and before != "nothing":
        monkeypatch.setattr(os, "link", no_links)
    for failing in range(4):
        count = -1

        def replace_some(source, target, failing=failing):
            nonlocal count
            # Files that are new, not the old ones on their way.
            if not str(source).endswith(".old") and not str(target).endswith(".old"):
                count += 1
                if count == failing:
                    raise OSError(5, "Input/output error")
            replace_file(source, target)

        monkeypatch.setattr(os, "replace", replace_some)
        with pytest.raises(MpccError, match="E-file-write"):
            made.save(tmp_path / "M.mpcc")
        assert tree(tmp_path) == old
    monkeypatch.setattr(os, "replace", replace_file)
    made.save(tmp_path / "M.mpcc")
    assert len(tree(tmp_path)) == 4
    assert tree(tmp_path) != old


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    made = compiled(batch=1)
    sync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MpccError, match="No space left"):
        made.save(tmp_path / "M.mpcc")
    assert tree(tmp_path) == {}


def test_a_folder_in_the_way(tmp_path):
    made = compiled(batch=(1, 8))
    (tmp_path / "M.b8.mpcc").mkdir()
    with pytest.raises(MpccError, match="E-file-write"):
        made.save(tmp_path / "M.mpcc")
    assert [p.name for p in tmp_path.iterdir()] == ["M.b8.mpcc"]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "1,", "0", "-1", "8,8", "a", "1;8", str(2**31), "1.5"])
def test_sizes_that_are_none(text, files):
    with pytest.raises(MpccError, match="E-option-batch"):
        parse_batches(text)
    said = call("compile", files / "M.onnx", f"--batch={text}")
    assert said.code == 2
    assert "E-option-batch" in said.err
    assert "--batch 1,8,32" in said.err
    assert not list(files.glob("*.mpcc"))


@pytest.mark.parametrize("sizes", [(), (1, 1), (0, 1), ("1",)])
def test_sizes_that_are_none_in_python(sizes):
    ((code, *_),) = [(d.code, d.what) for d in refused(batch=sizes)]
    assert code == "E-option-batch"


def test_sizes():
    assert parse_batches("8") == 8
    assert parse_batches("1,8,32") == (1, 8, 32)


def two_inputs(**attributes):
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "z"], ["y"])]
    shapes = {"x": ("N", 3), "z": attributes.get("z", (1, 2))}
    return bytes(model(nodes, shapes, {"y": 2}, {"w": np.ones((3, 2), F) / 4}).SerializeToString())


def test_inputs_of_one_size_stay_as_they_are():
    data = {"x": np.linspace(-1, 1, 30).reshape(10, 3), "z": np.linspace(-1, 1, 20).reshape(10, 2)}
    made = compiled(two_inputs(), batch=(1, 4), calibration=data, formats=FormatOptions())
    shapes = [p["shape"] for p in made.programs[4].artifact.inputs]
    assert shapes == [[4, 3], [1, 2]]


def test_shapes_beside_the_batch():
    source = bytes(
        model([node("Relu", ["x"], ["y"])], {"x": ("N", "C", "H")}, {"y": 3}).SerializeToString()
    )
    assert "E-import-dynamic" in {d.code for d in refused(source, batch=(1, 4))}
    shapes = parse_shapes(["x=batch,3,5"])
    assert shapes == {"x": (None, 3, 5)}
    made = compiled(source, batch=(1, 4), shapes=shapes, formats=FormatOptions())
    assert made.programs[4].artifact.inputs[0]["shape"] == [4, 3, 5]
    # A size in --shape counts, and then no input has a batch axis.
    (problem,) = refused(source, batch=(1, 4), shapes={"x": (1, 3, 5)})
    assert problem.code == "E-import-batch"
    assert "x (--shape)" in problem.what
    assert "x=batch" in problem.fix or "image=batch" in problem.fix
    (problem,) = refused(source, batch=None, shapes=shapes)
    assert problem.code == "E-import-batch"
    assert "--batch" in problem.fix
    (problem,) = refused(source, batch=2, shapes={"x": (None, 3, None)})
    assert problem.code == "E-import-batch"
    assert "dimension 2" in problem.what


def test_a_model_of_fixed_size():
    source = bytes(model([node("Relu", ["x"], ["y"])], {"x": (1, 3)}, {"y": 2}).SerializeToString())
    (problem,) = refused(source)
    assert problem.code == "E-import-batch"
    assert "x (1)" in problem.what


def across(nodes, constants=None, **kwargs):
    made = model(nodes, {"x": ("N", 4)}, {"y": kwargs.get("rank", 2)}, constants)
    return bytes(made.SerializeToString())


SUM = across(
    [node("Mul", ["x", "w"], ["m"]), node("ReduceSum", ["m", "axis"], ["y"], name="total")],
    {"w": np.linspace(0.5, 1, 4, dtype=F), "axis": np.array([0])},
)


@pytest.mark.parametrize(
    ("formats", "calibration"),
    [
        (RANGE, None),
        (FormatOptions(), {"x": np.linspace(0.1, 1, 40).reshape(10, 4)}),
        (replace(RANGE, disclose="none", max_error=0.1), None),
    ],
    ids=["proved", "observed", "declared"],
)
def test_sums_over_the_batch_are_refused(formats, calibration):
    (problem,) = refused(SUM, formats=formats, calibration=calibration)
    assert problem.code == "E-batch-range"
    assert "total" in problem.where
    assert "8" in problem.what
    # Alone, or at one size, it is a model like any other.
    assert compiled(SUM, batch=8, formats=formats, calibration=calibration).artifact


def test_errors_that_grow_with_the_batch_are_refused():
    """Rows that cancel out keep the observed range, but their rounding errors add up."""
    data = np.random.default_rng(2).normal(size=(1024, 4))
    data -= data.mean(axis=0)
    data /= np.abs(data).max()
    # What is proved is wider than what is observed, and so decides nothing.
    wide = FormatOptions(input_ranges={"x": (-4096, 4096)})
    (problem,) = refused(SUM, batch=(1, 1024), formats=wide, calibration={"x": data})
    assert problem.code == "E-batch-error"
    assert "1024" in problem.what


def test_weights_that_depend_on_the_batch_are_refused():
    """Rows that are alike are one weight; these have the cosine of the example's number."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Range", ["zero", "n", "one"], ["r"]),
        node("Cast", ["r"], ["f"], to=1),
        node("Cos", ["f"], ["o"]),
        node("Unsqueeze", ["o", "axis"], ["c"]),
        node("Mul", ["x", "c"], ["y"]),
    ]
    weights = {"zero": np.array(0), "one": np.array(1), "axis": np.array([1])}
    (problem,) = refused(across(nodes, weights))
    assert problem.code == "E-batch-weights"
    assert "[1, 1]" in problem.what
    assert "[8, 1]" in problem.what or "[3, 1]" in problem.what


def test_operators_that_depend_on_the_batch_are_refused():
    """The mean of a batch of one row is the row."""
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1, name="mean"),
        node("Sub", ["x", "m"], ["y"], name="less"),
    ]
    (problem,) = refused(across(nodes))
    assert problem.code == "E-batch-model"
    assert "tensor.scale of mean" in problem.what
    assert problem.where == "mean"


def test_what_is_larger_in_no_batch_is_allowed():
    """A maximum over the batch has the same range, however many rows there are."""
    nodes = [
        node("ReduceMax", ["x"], ["m"], axes=[0], keepdims=1, name="largest"),
        node("Sub", ["x", "m"], ["y"], name="less"),
    ]
    made = compiled(across(nodes))
    x = np.random.default_rng(3).uniform(-1, 1, (8, 4))
    y = api.simulate(made.programs[8].artifact, made.weights, {"x": x}).outputs["y"]
    assert np.abs(y - (x - x.max(axis=0))).max() <= RANGE.max_error


# --- calibration rows ----------------------------------------------------------------------------


def test_rows_fill_batches():
    x = np.arange(10, dtype=F).reshape(5, 2)
    shapes = {"x": (2, 2), "z": (1, 3)}
    data = {"x": x, "z": np.arange(15, dtype=F).reshape(5, 3)}
    samples = calibration_samples(data, shapes, {"x"})
    assert [s["x"].tolist() for s in samples] == [
        [[0, 1], [2, 3]],
        [[4, 5], [6, 7]],
        [[8, 9], [0, 1]],
    ]
    assert [s["z"].tolist() for s in samples] == [[[0, 1, 2]], [[6, 7, 8]], [[12, 13, 14]]]
    # The same rows, one to a sample.
    assert json.dumps(
        [s["x"].tolist() for s in calibration_samples({**data, "x": x[:, None]}, shapes, {"x"})]
    ) == json.dumps([s["x"].tolist() for s in samples])
    few = calibration_samples({"x": x[:1]}, {"x": (3, 2)}, {"x"})
    assert few[0]["x"].tolist() == [[0, 1]] * 3


def test_rows_that_do_not_fit():
    with pytest.raises(MpccError, match="rows of"):
        calibration_samples({"x": np.ones((5, 3))}, {"x": (2, 2)}, {"x"})
    with pytest.raises(MpccError, match="E-calibrate-count"):
        calibration_samples(
            {"x": np.ones((5, 2)), "z": np.ones((4, 3))}, {"x": (2, 2), "z": (1, 3)}, {"x"}
        )
