"""Whatever a user gets wrong: a code, what, where and a way out; exit code 2; nothing written."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mpcc import options
from mpcc.errors import MpccError
from tests.e2e.support import call, mpcc

SECRET = 123.4375
"""A value in the inputs that no message may show."""


def tree(folder):
    """Everything below a folder with its contents."""
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def node_model(path, nodes, shape=(1, 4), weights=()):
    """An ONNX file with the input ``x`` and the output ``y``; not checked."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    domains = {"": 13, "com.example": 1}
    imports = [helper.make_opsetid(domain, number) for domain, number in domains.items()]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def world(compiled, tmp_path_factory):
    """Names of good and bad files, for the arguments of the cases below."""
    folder = tmp_path_factory.mktemp("errors")
    a, c = compiled("A"), compiled("C")
    good = np.zeros((1, 784), np.float32)

    def save(name, **data):
        np.savez(folder / name, **data)

    secret = good.copy()
    secret[0, 7] = SECRET
    save("range.npz", image=secret)
    save("huge.npz", image=secret.astype(np.float64) * 1e300)
    save("nan.npz", image=np.where(secret == SECRET, np.nan, secret))
    save("shape.npz", image=secret.reshape(28, 28))
    save("names.npz", picture=good)
    save("text.npz", image=np.full((1, 784), str(SECRET)))
    save("complex.npz", image=secret * 1j)
    save("counts.npz", image=np.zeros((0, 784), np.float32))
    with zipfile.ZipFile(folder / "raw.npz", "w") as file:
        file.writestr("image", str(SECRET))
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    np.save(folder / "single.npy", good)
    (folder / "words.txt").write_text("hello")
    (folder / "other.bin").write_text("hello")
    (folder / "folder.mpcc").mkdir()
    data = a.artifact.read_bytes()
    (folder / "cut.mpcc").write_bytes(data[: len(data) // 2])
    (folder / "stats.json").write_text(json.dumps({"online_seconds": "x", "rounds": 1}))
    (folder / "bad.toml").write_text("latency_ms = 'x'\n")
    rewrite(a.artifact, folder / "future.mpcc", "manifest.json", lambda t: version(t, 99))
    rewrite(a.artifact, folder / "swapped.mpcc", "secure.mpcc", lambda t: t + b"\n")
    names = ("n_sin", "n_other", "n_gru")
    node_model(
        folder / "unsupported.onnx",
        [
            helper.make_node("Multinomial", ["x"], ["a"], name=names[0]),
            helper.make_node("Mystery", ["a"], ["b"], name=names[1], domain="com.example"),
            helper.make_node("Multinomial", ["b"], ["y"], name=names[2]),
        ],
    )
    node_model(
        folder / "dynamic.onnx", [helper.make_node("Relu", ["x"], ["y"])], ("batch", "width")
    )
    weight = np.full(4, np.nan, np.float32)
    node_model(
        folder / "nan.onnx",
        [helper.make_node("Add", ["x", "w"], ["y"], name="n_add")],
        weights=[("w", weight)],
    )
    return {
        "dir": folder,
        "model": a.source.model,
        "art": a.artifact,
        "data": a.source.data,
        "c_art": c.artifact,
        "c_model": c.source.model,
        "c_weights": c.weights,
        "c_data": c.source.data,
    }


def version(manifest, number):
    return json.dumps({**json.loads(manifest), "format": number}).encode()


def rewrite(source, target, entry, change):
    """An artifact with one entry changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info, change(content) if info.filename == entry else content)


COMPILE = "compile {model} -o {dir}/new.mpcc "
RUN = "run {art} --engine party-interpreter -o {dir}/y.npz --json {dir}/s.json "

# Command, code, words of the whole message (what, where, way out).
CASES = {
    "model-missing": ("compile {dir}/no.onnx", "E-model-missing", "no.onnx", "exist"),
    "model-folder": ("compile {dir}/folder.mpcc -o {dir}/n.mpcc", "E-model-missing", "folder"),
    "model-format": ("compile {dir}/words.txt", "E-model-format", "words.txt", "export"),
    "unsupported": (
        "compile {dir}/unsupported.onnx",
        *("E-import-unsupported", "n_sin", "n_other", "n_gru", "mpcc ops"),
    ),
    "nan-weight": ("compile {dir}/nan.onnx", "E-import-unsupported", "n_add", "repair"),
    "dynamic": ("compile {dir}/dynamic.onnx", "E-import-dynamic", "--shape", "x"),
    "shape-syntax": (COMPILE + "--shape image", "E-option-syntax", "--shape", "write"),
    "shape-zero": (COMPILE + "--shape image=0,784", "E-option-shape", "--shape", "write"),
    "shape-huge": (COMPILE + "--shape image=1,99999999999999999999", "E-option-shape", "--shape"),
    "shape-other": (COMPILE + "--shape image=2,784", "E-import-shape", "image"),
    "shape-name": (COMPILE + "--shape img=1,784", "E-import-name", "img", "it has image"),
    "shape-twice": (
        COMPILE + "--shape image=1,784 --shape image=1,784",
        *("E-option-twice", "--shape", "leave one out"),
    ),
    "range-order": (COMPILE + "--input-range image=1:0", "E-option-interval", "image=-1:1"),
    "range-nan": (COMPILE + "--input-range image=nan:1", "E-option-interval", "--input-range"),
    "range-name": (COMPILE + "--input-range img=0:1", "E-range-name", "inputs are image"),
    "range-wide": (COMPILE + "--input-range image=-1e30:1e30", "E-option-interval", "image"),
    "owner-role": (COMPILE + "--owner image=me", "E-option-owner", "--owner", "client, model"),
    "owner-name": (COMPILE + "--owner img=public", "E-import-name", "img", "image"),
    "owner-output": (COMPILE + "--owner logits=public", "E-import-owner", "logits", "client"),
    "protocol": (COMPILE + "--protocol nope", "E-protocol-name", "nope", "rep3"),
    "network": (COMPILE + "--network nope", "E-network-profile", "nope", "lan, wan"),
    "network-file": (COMPILE + "--network {dir}/no.toml", "E-network-profile", "no.toml"),
    "network-text": (COMPILE + "--network {dir}/bad.toml", "E-network-profile", "latency_ms"),
    "pass": (COMPILE + "--dump-after nope", "E-option-pass", "--dump-after", "fuse-local"),
    "policy": (COMPILE + "--range observed", "E-range-calibrate", "--range", "--calibrate"),
    "calibrate-missing": (COMPILE + "--calibrate {dir}/no.npz", "E-file-missing", "--calibrate"),
    "calibrate-broken": (COMPILE + "--calibrate {dir}/broken.npz", "E-file-format", "numpy.save"),
    "calibrate-raw": (COMPILE + "--calibrate {dir}/raw.npz", "E-file-format", "--calibrate"),
    "calibrate-text": (COMPILE + "--calibrate {dir}/text.npz", "E-file-format", "--calibrate"),
    "calibrate-complex": (COMPILE + "--calibrate {dir}/complex.npz", "E-file-format", "image"),
    "calibrate-nan": (COMPILE + "--calibrate {dir}/nan.npz", "E-calibrate-values", "'image'"),
    "calibrate-shape": (COMPILE + "--calibrate {dir}/shape.npz", "E-calibrate-shape", "(1, 784)"),
    "calibrate-none": (COMPILE + "--calibrate {dir}/counts.npz", "E-calibrate-shape", "'image'"),
    "calibrate-name": (COMPILE + "--calibrate {dir}/names.npz", "E-calibrate-name", "picture"),
    "output-suffix": ("compile {model} -o {dir}/a.weights", "E-option-output", "a.mpcc"),
    "output-folder": ("compile {model} -o {dir}/folder.mpcc", "E-file-write", "--output", "inside"),
    "output-missing": ("compile {model} -o {dir}/no/a.mpcc", "E-file-write", "make the directory"),
    "output-file": ("compile {model} -o {dir}/words.txt/a.mpcc", "E-file-write", "--output"),
    "output-model": ("compile {art}", "E-option-output", "--output", "another"),
    "input-missing": (RUN + "-i {dir}/no.npz", "E-file-missing", "--input", "path"),
    "input-folder": (RUN + "-i {dir}", "E-file-format", "--input", "numpy.save"),
    "input-broken": (RUN + "-i {dir}/broken.npz", "E-file-format", "--input", "numpy.save"),
    "input-raw": (RUN + "-i {dir}/raw.npz", "E-file-format", "--input"),
    "input-text": (RUN + "-i {dir}/text.npz", "E-file-format", "--input"),
    "input-single": (RUN + "-i {dir}/single.npy", "E-option-syntax", "write NAME="),
    "input-named": (RUN + "-i image={data}", "E-option-syntax", "names of its own"),
    "input-twice": (RUN + "-i {data} -i {data}", "E-option-twice", "'image'", "leave one out"),
    "input-name": (RUN + "-i {dir}/names.npz", "E-input-name", "'picture'", "inputs are image"),
    "input-shape": (RUN + "-i {dir}/shape.npz", "E-input-shape", "(1, 784)", "(28, 28)"),
    "input-range": (RUN + "-i {dir}/range.npz", "E-input-range", "input image", "--input-range"),
    "input-huge": (RUN + "-i {dir}/huge.npz", "E-input-range", "input image", "--input-range"),
    "input-nan": (RUN + "-i {dir}/nan.npz", "E-input-range", "not finite", "input image"),
    "simulate-range": ("simulate {art} -i {dir}/range.npz", "E-input-range", "input image"),
    "weights-missing": (RUN + "-i {data} --weights {dir}/no.w", "E-file-missing", "--weights"),
    "weights-other": (RUN + "-i {data} --weights {c_weights}", "E-weights-program", "together"),
    "weights-bad": (RUN + "-i {data} --weights {dir}/other.bin", "E-weights", "other.bin"),
    "run-output": ("run {art} -i {data} -o {dir}/no/y.npz", "E-file-write", "--output", "make"),
    "run-json": ("run {art} -i {data} --json {dir}/no/s.json", "E-file-write", "--json", "make"),
    "artifact-missing": ("run {dir}/no.mpcc -i {data}", "E-file-missing", "mpcc compile"),
    "artifact-folder": ("inspect {dir}/folder.mpcc", "E-file-missing", "not a file"),
    "artifact-cut": ("inspect {dir}/cut.mpcc", "E-artifact", "cut.mpcc", "compile the model"),
    "artifact-model": ("cost {model}", "E-artifact", "A.onnx", "an ONNX model", "mpcc compile"),
    "artifact-version": ("run {dir}/future.mpcc -i {data}", "E-artifact-version", "99", "again"),
    "artifact-hash": ("simulate {dir}/swapped.mpcc -i {data}", "E-artifact-hash", "secure.mpcc"),
    "inspect-party": ("inspect {art} --party 1", "E-option-party", "--party", "--stage party"),
    "agreement-share": (
        COMPILE + "--min-agreement 1.5",
        *("E-option-agreement", "--min-agreement", "up to 1"),
    ),
    "layers-blamed": (
        COMPILE + "--max-error 1e-13",
        *("E-range-error", "E-range-layers", "lose most", "gemm_"),
    ),
    "report-missing": ("report {dir}/no.json", "E-file-missing", "mpcc compile"),
    "report-other": ("report {dir}/stats.json", "E-private", "compile the model again"),
    "report-model": ("report {model}", "E-private"),
    "cost-network": ("cost {art} --network x", "E-network-profile", "lan, wan"),
    "cost-stats": ("cost {art} --stats {dir}/stats.json", "E-file-format", "mpcc run --json"),
    "cost-no-stats": ("cost {art} --stats {dir}/no.json", "E-file-missing", "mpcc run --json"),
    "cost-page": ("cost {art} --html {dir}/no/x.html", "E-file-write", "--html", "make"),
    "cost-json": ("cost {art} --json {dir}", "E-file-write", "--json", "inside"),
    "reference-missing": (
        "simulate {art} -i {data} --reference {dir}/no.onnx",
        *("E-file-missing", "no.onnx", "--reference"),
    ),
    "reference-bad": (
        "simulate {art} -i {data} --reference {dir}/words.txt",
        *("E-compare-model", "words.txt", "compiled"),
    ),
    "reference-other": (
        "simulate {art} -i {data} --reference {c_model}",
        *("E-compare-model", "C.onnx", "compiled"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_user_error(world, name):
    command, code, *words = CASES[name]
    before = tree(world["dir"])
    said = call(*(part.format(**world) for part in command.split()))
    assert said.code == 2, said.err
    first = said.err.splitlines()[0]
    assert re.match(rf"error {code}: \S", first), said.err
    for word in words:
        assert word in said.err
    assert "│" not in said.out
    assert str(SECRET) not in said.err
    assert tree(world["dir"]) == before


# What typer itself refuses: a word out of place, an option that is missing.
USAGE = {
    "no-input": ("run {art}", "--input"),
    "engine": ("run {art} -i {data} --engine steam", "--engine"),
    "shaped": ("run {art} -i {data} --network dialup", "--network"),
    "repeat": ("run {art} -i {data} --repeat 0", "--repeat"),
    "threads": ("run {art} -i {data} --threads two", "--threads"),
    "deadline": ("run {art} -i {data} --deadline 0", "--deadline"),
    "seed": ("simulate {art} -i {data} --seed -1", "--seed"),
    "rounding": ("simulate {art} -i {data} --rounding up", "--rounding"),
    "stage": ("inspect {art} --stage machine", "--stage"),
    "party": ("inspect {art} --stage party --party 3", "--party"),
    "weights": ("compile {model} --weights hidden", "--weights"),
    "range": ("compile {model} --range guessed", "--range"),
    "option": ("compile {model} --fast", "--fast"),
    "command": ("train {model}", "train"),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage_error(world, name):
    command, word = USAGE[name]
    before = tree(world["dir"])
    said = call(*(part.format(**world) for part in command.split()))
    assert said.code == 2
    assert "Usage:" in said.err
    assert word in said.err
    assert tree(world["dir"]) == before


def test_all_bad_options_of_a_kind_are_named_at_once(world):
    said = call("compile", world["model"], *("--shape", "a", "--shape", "b"))
    assert said.err.count("E-option-syntax") == 2
    said = call("run", world["art"], "-i", world["dir"] / "names.npz")
    assert {"E-input-name", "E-input-missing"} == set(re.findall(r"E-input-\w+", said.err))


def test_a_process_ends_as_the_calls_do(world):
    said = mpcc("run", world["dir"] / "no.mpcc", "-i", world["data"])
    assert said.returncode == 2
    assert said.stdout == ""
    assert said.stderr.startswith("error E-file-missing: ")


def test_a_failed_save_leaves_what_was_there(compiled, tmp_path):
    made = compiled("A")
    target = tmp_path / "A.mpcc"
    assert call("compile", made.source.model, "-o", target).code == 0
    before = tree(tmp_path)
    target.with_suffix(".private.json").unlink()
    target.with_suffix(".private.json").mkdir()
    said = call("compile", made.source.model, "-o", target, *made.source.options)
    assert said.code == 2
    for path in (target, target.with_suffix(".weights")):
        assert path.read_bytes() == before[path]


TEXTS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12
) | st.from_regex(r"[a-z]{0,3}=?[-0-9.,:einf]{0,12}", fullmatch=True)
OPTIONS = ("--shape", "--input-range", "--owner", "--network", "--protocol", "--dump-after")


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=3))
def test_option_texts_give_values_or_errors(texts):
    for parse in (options.parse_shapes, options.parse_ranges, options.parse_owners):
        try:
            found = parse(texts)
        except MpccError as error:
            problems = [d for d in error.diagnostics if not d.code.startswith("E-option-")]
            problems += [d for d in error.diagnostics if not d.fix]
            found = {}
        else:
            problems = []
        assert not problems
        assert len(found) in (0, len(texts))
        for value in found.values():
            match value:
                case str():
                    assert value in ("client", "model", "public")
                case (float() as lo, float() as hi):
                    assert -np.inf < lo < hi < np.inf
                case (first, *sizes):
                    # The first size may be the batch's.
                    assert all(n is not None and n >= 1 for n in (first or 1, *sizes))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(option=st.sampled_from(OPTIONS), text=TEXTS)
def test_any_option_text_compiles_or_is_a_user_error(world, option, text):
    said = call("compile", world["model"], "-o", world["dir"] / "fuzz.mpcc", option, text)
    assert said.code in (0, 2)
    for path in world["dir"].glob("fuzz.*"):
        assert said.code == 0
        path.unlink()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_data_files_are_user_errors(world, data):
    path = Path(data.draw(st.sampled_from([world["data"], world["dir"] / "single.npy"])))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers, of the file and at its end, rather than the middle of the numbers.
        at = data.draw(st.integers(0, 150) | st.integers(-150, -1))
        content[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    damaged = world["dir"] / ("damaged" + path.suffix)
    damaged.write_bytes(content)
    argument = f"x={damaged}" if path.suffix == ".npy" else str(damaged)
    try:
        found, code = options.load_arrays([argument], "-i"), ""
    except MpccError as error:
        found, code = {}, error.code
    damaged.unlink()
    assert code in ("", "E-file-format", "E-option-syntax")
    assert all(a.dtype.kind in "fiub" for a in found.values())


def test_models_that_onnx_refuses_are_user_errors(world):
    """Sixty damaged models: an error or a program, never a traceback."""
    generator = np.random.default_rng(5)
    original = onnx.load(str(world["model"]))
    for tensor in original.graph.initializer:
        del tensor.dims[:]
    data = original.SerializeToString()[:4000]
    target = world["dir"] / "damaged.onnx"
    codes = set()
    for _ in range(60):
        content = bytearray(data)
        for at in generator.integers(0, len(content), 3):
            content[at] = generator.integers(0, 256)
        target.write_bytes(content)
        said = call("compile", target)
        codes.add(said.code)
        assert said.code == 0 or re.match(r"error E-(model|import)-", said.err), said.err
    assert 2 in codes
    for path in world["dir"].glob("damaged.*"):
        path.unlink()
