"""Nothing of weights, inputs or calibration data shows where it must not."""

import json
import re
import stat
import struct
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mpcc
from mpcc import api
from mpcc.artifact import Artifact, load_private, load_weights
from mpcc.compiler import phi_of
from mpcc.errors import MpccError
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions, parse_ranges
from mpcc.passes import analyse as analysis_module
from tests.e2e.support import MODELS, arrays, call

REPLACEMENTS = ("random", "zero", "equal")


def replaced(model, how, seed=0):
    """The model's bytes with all float initialisers replaced, none larger than it was."""
    proto = onnx.load(str(model))
    generator = np.random.default_rng(seed)
    for tensor in proto.graph.initializer:
        old = numpy_helper.to_array(tensor)
        if old.dtype != np.float32:
            continue
        limit = np.abs(old).max()
        if how == "random":
            new = generator.uniform(-limit, limit, old.shape)
        elif how == "zero":
            new = np.zeros(old.shape)
        elif how == "equal":
            # The same in all tensors of a shape: nothing may notice and merge them.
            new = np.full(old.shape, 1e-4)
        else:
            new = old * (1 - 1e-5 * generator.random(old.shape))
        tensor.CopyFrom(numpy_helper.from_array(new.astype(np.float32), tensor.name))
    return proto.SerializeToString()


def compile_again(source, model, calibration):
    ranges = parse_ranges([source.interval])
    options = CompileOptions(formats=FormatOptions(input_ranges=ranges))
    return api.compile(model, options=options, calibration=calibration)


def noise(source):
    """Calibration data of the same form and of nothing."""
    if source.name == "A":
        return None
    lo, hi = (float(x) for x in source.interval.rpartition("=")[2].split(":"))
    generator = np.random.default_rng(9)
    return {
        name: generator.uniform(lo, hi, array.shape).astype(np.float32)
        for name, array in arrays(source.calibration).items()
    }


@pytest.mark.parametrize("how", REPLACEMENTS)
@pytest.mark.parametrize("name", MODELS)
def test_the_artifact_is_a_function_of_architecture_and_phi(compiled, name, how, monkeypatch):
    """All weights and calibration data replaced and Phi kept: not one byte moves."""
    made = compiled(name)
    artifact = Artifact.load(made.artifact)
    phi = phi_of(artifact)
    seen = []

    def keep_phi(module, constants, samples, *options):
        found = analysis_module.Analysis(phi, (), {})
        seen.append((constants, samples))
        return found

    monkeypatch.setattr(analysis_module, "analyse", keep_phi)
    other = compile_again(made.source, replaced(made.source.model, how), noise(made.source))
    assert len(seen) == 1
    assert other.artifact.to_bytes() == made.artifact.read_bytes()
    before = load_weights(made.weights, artifact.program_sha256)
    assert other.weights.keys() == before.keys()
    assert any((other.weights[w] != before[w]).any() for w in before)


@pytest.mark.parametrize("name", ["A", "C"])
def test_weights_that_differ_little_give_the_same_artifact(compiled, name):
    """The same with the analysis left alone: what it finds is coarse.

    A measured error may lie just at the budget, so that a model's formats are a bit longer; nothing
    else moves, and of four models one at least has the same formats and gives the same bytes.
    """
    made = compiled(name)
    data = None if name == "A" else arrays(made.source.calibration)
    known = Artifact.load(made.artifact).phi
    equal = 0
    for seed in range(4):
        model = replaced(made.source.model, "near", seed)
        other = compile_again(made.source, model, data)
        found = dict(other.artifact.phi)
        if found == known:
            equal += 1
            assert other.artifact.to_bytes() == made.artifact.read_bytes()
        digits = ("frac", "weight_frac", "coarse")
        assert all(abs(found.pop(k, 0) - known.get(k, 0)) <= 1 for k in digits)
        assert found == {k: v for k, v in known.items() if k not in digits}
    assert equal


def fragments(array):
    """Eight-byte or longer pieces of an array's bytes that do not occur by chance."""
    flat = np.ascontiguousarray(array).reshape(-1)
    per = max(2, 8 // flat.itemsize)
    pieces = [flat[i : i + per].tobytes() for i in range(0, len(flat) - per + 1, per)]
    # Small integers and zeros are everywhere; a piece with many different bytes is not.
    telling = [p for p in pieces if len(set(p)) >= 6]
    return telling[:: 1 + len(telling) // 100]


def contents(artifact):
    """The unpacked entries of an artifact, joined."""
    with zipfile.ZipFile(artifact) as file:
        return b"\0".join(file.read(name) for name in file.namelist())


@pytest.mark.parametrize("name", MODELS)
def test_the_artifact_has_no_weights(compiled, name):
    made = compiled(name)
    artifact = Artifact.load(made.artifact)
    public, owned = contents(made.artifact), made.weights.read_bytes()
    weights = load_weights(made.weights, artifact.program_sha256)
    fixed = [piece for array in weights.values() for piece in fragments(array)]
    assert len(fixed) > 100
    # The search finds them where they are.
    assert all(piece in owned for piece in fixed)
    assert not any(piece in public for piece in fixed)
    model = made.source.model.read_bytes()
    initialisers = [
        numpy_helper.to_array(t) for t in onnx.load_from_string(model).graph.initializer
    ]
    imported = import_onnx(str(made.source.model)).constants.values()
    raw = [p for array in initialisers if array.dtype == np.float32 for p in fragments(array)]
    assert sum(piece in model for piece in raw) > 100
    assert not any(piece in public for piece in raw)
    assert not any(piece in public for array in imported for piece in fragments(array))


@pytest.mark.parametrize("name", MODELS)
def test_the_artifact_has_no_numbers_that_are_weights(compiled, name):
    """No decimal and no binary32 bit pattern of a weight, in no text of the artifact."""
    made = compiled(name)
    constants = import_onnx(str(made.source.model)).constants
    values = np.concatenate([a.reshape(-1) for a in constants.values()])
    # Few digits occur by chance: 0.5 or 2 may be a range.
    known = {x for x in values.tolist() if x and np.float32(round(x, 3)) != np.float32(x)}
    assert len(known) > 500
    text = contents(made.artifact).decode("latin-1")

    def found(where):
        floats = {float(np.float32(x)) for x in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", where)}
        integers = {int(x) for x in re.findall(r"\b\d{8,10}\b", where)}
        patterns = {struct.unpack("<I", struct.pack("<f", x))[0] for x in known}
        return (floats & known) | (integers & patterns)

    example = next(iter(known))
    assert found(f"scale={example!r}")
    assert not found(text)


SECRETS = {
    "graph": "topsecret_graph",
    "node": "topsecret_node",
    "weight": "topsecret_weight",
    "bias": "topsecret_bias",
    "middle": "topsecret_middle",
    "producer": "topsecret_producer",
    "doc": "topsecret_doc",
    "metadata": "topsecret_metadata",
    "dimension": "topsecret_dimension",
    "domain": "topsecret.domain",
    "version": "topsecret_version",
    "external": "topsecret_external",
    "value": "topsecret_value",
    "function": "topsecret_function",
}


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A model whose inner names, texts and files tell something."""
    s = SECRETS
    folder = tmp_path_factory.mktemp("topsecret_folder")
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node(
            *("Gemm", ["x", s["weight"], s["bias"]], [s["middle"]]), name=s["node"] + "_gemm"
        ),
        helper.make_node(
            "Relu",
            [s["middle"]],
            [s["value"]],
            name=s["node"] + "_relu",
            doc_string=s["doc"],
        ),
        helper.make_node(
            s["function"], [s["value"]], ["y"], name=s["node"] + "_call", domain=s["domain"]
        ),
    ]
    inner = helper.make_node("Relu", ["topsecret_a"], ["topsecret_b"], name="topsecret_inner")
    function = helper.make_function(
        s["domain"],
        s["function"],
        ["topsecret_a"],
        ["topsecret_b"],
        [inner],
        [helper.make_opsetid("", 13)],
    )
    weights = {
        s["weight"]: generator.standard_normal((6, 4)).astype(np.float32),
        s["bias"]: generator.standard_normal(4).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        s["graph"],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [s["dimension"], 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [s["dimension"], 4])],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
        doc_string=s["doc"],
    )
    middle = helper.make_tensor_value_info(s["middle"], TensorProto.FLOAT, None)
    middle.doc_string = s["doc"]
    graph.value_info.append(middle)
    for port in (*graph.input, *graph.output):
        port.doc_string = s["doc"]
    for tensor in graph.initializer:
        tensor.doc_string = s["doc"]
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(s["domain"], 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[function])
    model.ir_version = 8
    model.producer_name, model.doc_string = s["producer"], s["doc"]
    model.producer_version, model.domain = s["version"], s["domain"]
    helper.set_model_props(model, {s["metadata"]: s["metadata"]})
    path = folder / "topsecret_file.onnx"
    onnx.save(
        *(model, str(path)),
        save_as_external_data=True,
        location=s["external"] + ".bin",
        size_threshold=0,
    )
    assert (folder / (s["external"] + ".bin")).stat().st_size == 4 * 28
    return path


def test_inner_names_stay_out_of_the_artifact(named, tmp_path):
    target = tmp_path / "m.mpcc"
    assert call("compile", named, "--shape", "x=1,6", "-o", target).code == 0
    assert b"topsecret" not in contents(target)
    for stage in ("tensor", "secure", "party"):
        assert "topsecret" not in call("inspect", target, "--stage", stage).out
    page = tmp_path / "page.html"
    assert "topsecret" not in call("cost", target, "--html", page).out
    assert "topsecret" not in page.read_text()
    # The model owner's own report says which node is which.
    owned = load_private(target.with_suffix(".private.json"))["layers"]
    predicted = tmp_path / "cost.json"
    assert call("cost", target, "--json", predicted).code == 0
    costed = {op["name"] for op in json.loads(predicted.read_text())["ops"]}
    assert {layer["layer"] for layer in owned} <= costed
    assert any("topsecret" in layer["node"] for layer in owned)


def test_node_names_are_kept_when_asked_for(named, tmp_path):
    target = tmp_path / "m.mpcc"
    assert call("compile", named, "--shape", "x=1,6", "-o", target, "--keep-names").code == 0
    content = contents(target)
    assert SECRETS["node"].encode() in content
    assert SECRETS["weight"].encode() in content
    for what in ("producer", "doc", "metadata", "graph", "domain", "version", "external"):
        assert SECRETS[what].encode() not in content
    for word in ("topsecret_file", "topsecret_folder"):
        assert word.encode() not in content


@pytest.mark.parametrize("disclose", ["none", "per-model", "per-tensor"])
def test_the_command_says_how_much_is_disclosed(compiled, tmp_path, disclose):
    """On the terminal, on the cost page and in the leak checker's report, the same figure."""
    made = compiled("A")
    target = tmp_path / "m.mpcc"
    options = ("--input-range", made.source.interval, "--disclose", disclose)
    said = call("compile", made.source.model, "-o", target, *options)
    assert said.code == 0, said.err
    bits = Artifact.load(target).disclosed_bits
    assert (bits == 0) == (disclose == "none")
    assert f"{bits} bits of formats" in said.out
    verified = json.loads(call("verify", target, "--json").out)
    assert verified["accepted"]
    assert f"{bits} bits: " in verified["disclosed"]["formats"]
    page = tmp_path / "page.html"
    call("cost", target, "--html", page)
    assert f"{bits} bits" in page.read_text()
    if disclose == "none":
        assert "weights: declared to be within 8" in said.err
        assert load_private(target.with_suffix(".private.json"))["measured_error"]["logits"] > 0


def test_weights_outside_the_declared_range_are_refused(compiled, tmp_path):
    made = compiled("A")
    target = tmp_path / "m.mpcc"
    tight = ("--disclose", "none", "--weight-range", "0.01")
    said = call("compile", made.source.model, "-o", target, *tight)
    assert said.code == 2
    assert "E-range-weights" in said.err
    assert not target.exists()
    alone = call("compile", made.source.model, "-o", target, "--weight-range", "4")
    assert alone.code == 2
    assert "--disclose none" in alone.err


def shown(value):
    """Numbers of an array as they would be printed, from four digits on."""
    return {f"{abs(x):.4g}" for x in np.asarray(value, np.float64).reshape(-1)[:200] if x}


def test_representations_show_no_values(compiled, tmp_path):
    made = compiled("A")
    artifact = Artifact.load(made.artifact)
    weights = load_weights(made.weights, artifact.program_sha256)
    inputs = {"image": np.full((1, 784), 0.7654321, np.float32)}
    fresh = compile_again(made.source, made.source.model.read_bytes(), None)
    run = mpcc.run_local(artifact, weights, inputs, engine="party-interpreter")
    simulated = mpcc.simulate(artifact, weights, inputs)
    session = mpcc.Session(artifact, weights)
    things = [artifact, weights, fresh, run, simulated, session]
    with session as live:
        native = live.run(inputs)
        things += [native, *live.parties]
        texts = [repr(x) for x in things] + [str(x) for x in things]
    numbers = {"0.7654"} | shown(run.outputs["logits"]) | shown(native.outputs["logits"])
    numbers |= {str(x) for w in weights.values() for x in w.reshape(-1)[:100] if x > 10**6}
    private = re.findall(r"\d+\.\d{5,}", repr(fresh.private))
    assert private
    for text in texts:
        assert "array(" not in text
        assert not [n for n in numbers if re.search(rf"(?<![\d.]){re.escape(n)}", text)]
        assert not [n for n in private if n in text]
    imported = import_onnx(str(made.source.model))
    values = shown(next(iter(imported.constants.values())))
    assert not [n for n in values if n in repr(imported)]


def test_errors_show_no_input_values(compiled):
    artifact = Artifact.load(compiled("A").artifact)
    secret = 4321.0625
    bad = [
        np.full((1, 784), secret, np.float32),
        np.full((1, 785), secret, np.float32),
        np.full((1, 784), str(secret)),
        np.full((1, 784), secret, object),
        np.full((1, 784), secret + 1j),
        np.array([[secret] * 783 + [np.inf]]),
    ]
    weights = load_weights(compiled("A").weights, artifact.program_sha256)
    for array in bad:
        for action in (mpcc.simulate, mpcc.run_local):
            with pytest.raises(MpccError) as caught:
                action(artifact, weights, {"image": array})
            assert "4321" not in str(caught.value)
            assert "4321" not in repr(caught.value)


def test_errors_show_no_weights(compiled, tmp_path):
    """A weight that fits no format is named, not shown."""
    proto = onnx.load(str(compiled("A").source.model))
    tensor = proto.graph.initializer[0]
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] = 4.321e37
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    said = call("compile", path)
    assert said.code == 2
    assert "4.32" not in said.err + said.out
    assert "4321" not in said.err + said.out


@pytest.mark.parametrize("name", MODELS)
def test_what_compile_says_is_what_the_artifact_says(compiled, name):
    """No range, error or weight on the terminal beyond what is public anyway."""
    made = compiled(name)
    private = set(re.findall(r"\d+\.\d{4,}", made.private.read_text()))
    said = made.said.stdout + made.said.stderr
    assert not [number for number in private if number in said]
    assert not [number for number in private if number.encode() in contents(made.artifact)]


def test_private_files_are_private(compiled, tmp_path):
    """Also where files lie there already, open to all."""
    made = compiled("A")
    target = tmp_path / "A.mpcc"
    for suffix in (".weights", ".private.json"):
        target.with_suffix(suffix).touch(0o666)
    assert call("compile", made.source.model, "-o", target).code == 0
    for suffix in (".weights", ".private.json"):
        assert stat.S_IMODE(target.with_suffix(suffix).stat().st_mode) == 0o600


def test_equal_inputs_give_other_shares(compiled):
    """Two runs of one session on one input: the parties' messages have nothing in common."""
    from mpcc.emit.graphdef import parse
    from mpcc.ir.interp import party

    made = compiled("A")
    artifact = Artifact.load(made.artifact)
    weights = load_weights(made.weights, artifact.program_sha256)
    session = party.Session(parse(artifact.program), weights, party.FreshKeys(), record=True)
    runs = [session.run(made.source.inputs, number) for number in (1, 2)]
    pairs = list(zip(*(run.messages for run in runs), strict=True))
    assert pairs
    same = sum(int((a.payload == b.payload).sum()) for a, b in pairs if a.to != "client")
    size = sum(a.payload.size for a, _ in pairs if a.to != "client")
    assert size > 10_000
    # Independent bytes agree in one of 256. By Bernstein's inequality the sum is above its mean by
    # 8 deviations with a probability below 1e-9. A message of bits ends in zeros, in its last word.
    padding = 7 * len(pairs)
    mean = size / 256
    assert same < mean + 8 * mean**0.5 + padding
