"""Every command as a user calls it, on real models: files, exit codes, and figures that agree."""

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from mpcc.artifact import Artifact, load_weights
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.text import parse_module, print_module
from mpcc.version import VERSION
from tests.e2e.support import ENGINES, MODELS, arrays, call, mpcc

STATS_KEYS = {
    "online_seconds",
    "setup_seconds",
    "rounds",
    "bytes_sent",
    "wire_bytes",
    "peak_rss_bytes",
    "engine",
    "protocol",
    "network",
}


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def reference(source):
    session = onnxruntime.InferenceSession(source.model, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, source.inputs), strict=True))


def assert_close(outputs, source):
    expected = reference(source)
    assert list(outputs) == list(expected)
    for name, array in outputs.items():
        assert array.dtype == np.float32
        assert array.shape == expected[name].shape
        assert np.abs(array - expected[name]).max() <= 1e-2


@pytest.mark.parametrize("name", MODELS)
def test_compile(compiled, name):
    made = compiled(name)
    assert {mode(made.weights), mode(made.private)} == {0o600}
    assert mode(made.artifact) == 0o644
    for text in ("rep3", "Z_2^64", "per run over all links", "bits of formats"):
        assert text in made.said.stdout
    lines = made.said.stderr.splitlines()
    for path in (made.artifact, made.weights, made.private):
        assert f"wrote {path}" in lines
    artifact = Artifact.load(made.artifact)
    weights = load_weights(made.weights, artifact.program_sha256)
    assert {op.attrs["name"] for op in artifact.secure_module.main.walk("secure.weight")} == {
        *weights
    }
    assert json.loads(made.private.read_text())


def test_compile_writes_beside_the_model_and_is_deterministic(compiled, tmp_path):
    first = compiled("A")
    model = tmp_path / "A.onnx"
    model.write_bytes(first.source.model.read_bytes())
    said = call("compile", model, *first.source.options)
    assert said.code == 0
    for suffix in (".mpcc", ".weights", ".private.json"):
        again, before = tmp_path / f"A{suffix}", first.artifact.with_suffix(suffix)
        assert again.read_bytes() == before.read_bytes()


def test_compile_dumps_ir(compiled, tmp_path):
    made = compiled("A")
    steps = ("import", "lower-tensor-to-secure", "lower-secure-to-party", "fuse-local")
    dumps = [option for step in steps for option in ("--dump-after", step)]
    said = call("compile", made.source.model, "-o", tmp_path / "A.mpcc", *dumps)
    assert said.code == 0
    for step, level in zip(steps, ("tensor", "secure", "party", "party"), strict=True):
        assert re.search(rf"^// after {step}\n(//.*\n)*{level} ", said.out, re.M) or re.search(
            rf"^// after {step}\n.*{level}", said.out, re.M
        )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", MODELS)
def test_run(compiled, name, engine, tmp_path):
    """Answer, statistics, and the prediction that the statistics must equal."""
    made = compiled(name)
    answer, stats_path, cost_path = (tmp_path / n for n in ("y.npz", "stats.json", "cost.json"))
    data = ["--input", made.source.data, "--output", answer, "--json", stats_path]
    said = mpcc("run", made.artifact, *data, "--engine", engine, "--repeat", "2")
    assert said.returncode == 0, said.stderr
    assert_close(arrays(answer), made.source)
    assert mode(answer) == 0o600

    stats = json.loads(stats_path.read_text())
    assert stats.keys() >= STATS_KEYS
    assert (stats["engine"], stats["protocol"], stats["network"]) == (engine, "rep3", "none")
    assert len(stats["online_seconds"]) == 2
    assert min(*stats["online_seconds"], stats["setup_seconds"]) > 0
    assert all(size > 1 << 20 for size in stats["peak_rss_bytes"])
    assert f"{engine}: online" in said.stdout
    assert f"{stats['rounds']} rounds" in said.stdout

    assert mpcc("cost", made.artifact, "--json", cost_path).returncode == 0
    cost = json.loads(cost_path.read_text())
    assert stats["rounds"] == cost["rounds"]
    assert stats["bytes_sent"] == cost["bytes_sent"]
    assert stats["setup_bytes_sent"] == cost["setup"]["bytes_sent"]
    links = stats["bytes_sent"]
    assert {"client->1", "client->2", "0->client", "1->client"} <= links.keys()
    if engine == "native":
        assert len(stats["peak_rss_bytes"]) == 3
        payload = 2 * sum(links.values()) + sum(stats["setup_bytes_sent"].values())
        assert payload < stats["wire_bytes"] < 1.5 * payload + 100_000


@pytest.mark.parametrize("name", MODELS)
def test_cost_of_the_layers_is_the_cost_of_the_whole(compiled, name, tmp_path):
    made = compiled(name)
    assert call("cost", made.artifact, "--json", tmp_path / "cost.json").code == 0
    cost = json.loads((tmp_path / "cost.json").read_text())
    for total, layers in (
        (cost, cost["ops"]),
        (cost["setup"], [layer["setup"] for layer in cost["ops"]]),
    ):
        links: dict[str, int] = {}
        for layer in layers:
            for link, sent in layer["bytes_sent"].items():
                links[link] = links.get(link, 0) + sent
        assert links == total["bytes_sent"]
        assert sum(layer["messages"] for layer in layers) == total["messages"]
        assert max(layer["rounds"] for layer in layers) <= total["rounds"]


def test_run_takes_named_arrays_and_a_weights_file(compiled, tmp_path):
    made = compiled("A")
    image, weights = tmp_path / "x.npy", tmp_path / "elsewhere.bin"
    np.save(image, made.source.inputs["image"])
    weights.write_bytes(made.weights.read_bytes())
    answer = tmp_path / "y.npz"
    options = ["--weights", weights, "--input", f"image={image}", "-o", answer, "--threads", "2"]
    said = mpcc("run", made.artifact, *options)
    assert said.returncode == 0, said.stderr
    assert_close(arrays(answer), made.source)


def test_an_imitated_network_takes_its_time(compiled, tmp_path):
    made = compiled("A")
    stats_path = tmp_path / "stats.json"
    options = ["--input", made.source.data, "--network", "wan", "--json", stats_path]
    assert mpcc("run", made.artifact, *options).returncode == 0
    stats = json.loads(stats_path.read_text())
    assert stats["network"] == "wan"
    # Between the first message of a party and the last to the client, each waits 20 ms.
    assert stats["online_seconds"][0] >= 0.02 * (stats["rounds"] - 2)


@contextlib.contextmanager
def long_run(made):
    """A run that would take minutes, with the process ids of its three parties."""
    command = [sys.executable, "-m", "mpcc", "run", str(made.artifact), "--deadline", "2"]
    command += ["--input", str(made.source.data), "--network", "wan", "--repeat", "1000"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell without job control starts what is in the background with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 60
        while len(children(process.pid)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        parties = children(process.pid)
        assert len(parties) == 3
        time.sleep(1)
        yield process, parties
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def assert_gone(parties):
    assert not any(Path(f"/proc/{pid}").exists() for pid in parties)


def test_ctrl_c_ends_a_run_with_130_and_leaves_no_process(compiled):
    with long_run(compiled("A")) as (process, parties):
        # To this process alone: the parties have sessions of their own.
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "interrupted\n"
    assert_gone(parties)


def test_a_party_that_dies_ends_a_run_with_3(compiled):
    with long_run(compiled("A")) as (process, parties):
        os.kill(parties[0], signal.SIGKILL)
        out, said = process.communicate(timeout=30)
    assert process.returncode == 3
    assert re.match(r"error E-(net|party)-\w+: ", said)
    assert re.search(r"\bP[012]\b", said)
    assert "Traceback" not in said
    assert out == ""
    assert_gone(parties)


def children(parent):
    """Process ids of the children that run mpcc-party."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and b"mpcc-party" in (entry / "cmdline").read_bytes():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == parent:
                    found.append(int(entry.name))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_simulate(compiled, name, tmp_path):
    made = compiled(name)
    answer = tmp_path / "y.npz"
    options = ["--input", made.source.data, "--output", answer, "--reference", made.source.model]
    said = mpcc("simulate", made.artifact, *options)
    assert said.returncode == 0, said.stderr
    assert "onnxruntime" in said.stdout
    assert "left their declared range" not in said.stderr
    assert_close(arrays(answer), made.source)


def test_agreement_is_asked_for_printed_and_reported(compiled, tmp_path):
    source = compiled("C").source
    target = tmp_path / "m.mpcc"
    said = call(*("compile", source.model, *source.options, "--min-agreement", "0.9", "-o", target))
    assert said.code == 0, said.err
    words = " ".join(said.out.replace("\u2502", " ").split())
    assert "logits (largest of 10): 3 of 3 decisions are the float model's, 90.00% asked" in words
    # Of three samples that all agree, the third root of 0.05.
    assert "at 95% confidence at least 36.8% of such samples" in words
    private = target.with_suffix(".private.json")
    agreement = json.loads(private.read_text())["agreement"]
    assert agreement["least"] == 0.9
    assert agreement["outputs"]["logits"]["agreeing"] == 3
    shown = call("report", private)
    assert shown.code == 0
    for text in ("3 of 3 decisions", "errors: the 12 of 12 layers", "conv_3", "headroom"):
        assert text in shown.out
    every = call("report", private, "--all")
    assert every.out.index("input_0") < every.out.index("conv_0") < every.out.index("relu_8")
    without = call("compile", source.model, "--input-range", source.interval, "-o", target)
    assert "no calibration data were given" in " ".join(without.out.replace("\u2502", " ").split())
    compared = call(
        *("simulate", compiled("C").artifact, "-i", source.data, "--reference", source.model)
    )
    assert "1 of 1 (largest of 10)" in compared.out


def test_simulate_rounds_as_asked(compiled, tmp_path):
    made = compiled("C")

    def outputs(*options):
        answer = tmp_path / "y.npz"
        said = call("simulate", made.artifact, "--input", made.source.data, "-o", answer, *options)
        assert said.code == 0
        return arrays(answer)["logits"]

    floor, worst = outputs("--rounding", "floor"), outputs("--rounding", "worst")
    one, other = outputs("--seed", "1"), outputs("--rounding", "random", "--seed", "2")
    np.testing.assert_array_equal(one, outputs("--seed", "1"))
    np.testing.assert_array_equal(floor, outputs("--rounding", "floor", "--seed", "5"))
    pairs = ((floor, worst), (one, other), (one, floor))
    assert all((a != b).any() for a, b in pairs)


@pytest.mark.parametrize("stage", ["tensor", "secure", "party"])
@pytest.mark.parametrize("name", MODELS)
def test_inspect_prints_what_parses_back(compiled, name, stage):
    said = call("inspect", compiled(name).artifact, "--stage", stage)
    assert said.code == 0
    module = parse_module(said.out, DIALECTS)
    assert module.level == stage
    assert print_module(module) == said.out


def test_inspect_of_one_party(compiled):
    artifact = compiled("A").artifact
    whole = call("inspect", artifact, "--stage", "party").out.splitlines()
    parts = [
        call("inspect", artifact, "--stage", "party", "--party", str(p)).out.splitlines()
        for p in range(3)
    ]
    for number, part in enumerate(parts):
        assert set(part) < set(whole)
        others = {f"@P{p}" for p in range(3)} - {f"@P{number}"}
        local = [line for line in part if "= party.draw" in line]
        assert local
        assert not any(other in line for line in local for other in others)
    assert {line for part in parts for line in part} > {x for x in whole if "party.transfer" in x}


@pytest.mark.parametrize("stage", ["tensor", "secure", "party"])
def test_inspect_draws_a_graph(compiled, stage):
    text = call("inspect", compiled("A").artifact, "--stage", stage, "--format", "dot").out
    assert text.startswith("digraph")
    assert text.rstrip().endswith("}")
    assert "->" in text


def test_cost_page_and_networks(compiled, tmp_path):
    made = compiled("A")
    stats, page = tmp_path / "stats.json", tmp_path / "report.html"
    options = ["--input", made.source.data, "--engine", "party-interpreter", "--json", stats]
    assert call("run", made.artifact, *options).code == 0
    slow = tmp_path / "slow.toml"
    slow.write_text("latency_ms = 250\nbandwidth_mbit = 1\n")
    texts = {
        network: call("cost", made.artifact, "--network", str(network), "--html", page).out
        for network in ("lan", "wan", "none", slow)
    }
    assert len(set(texts.values())) == 4
    assert call("cost", made.artifact, "--html", page, "--stats", stats).code == 0
    html = page.read_text()
    assert html.lstrip().lower().startswith("<!doctype html>")
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", html)
    rounds = json.loads(stats.read_text())["rounds"]
    assert f"{rounds}" in html
    assert "party-interpreter" in html or "measured" in html


def test_ops_doctor_version_and_help():
    listed = call("ops")
    assert listed.code == 0
    for word in ("Conv", "MaxPool", "rep3", "semi-honest", "secure.truncate", "party.transfer"):
        assert word in listed.out
    healthy = call("doctor")
    assert healthy.code == 0, healthy.out
    assert "native engine" in healthy.out
    assert "missing" not in healthy.out
    assert call("--version").out == f"mpcc {VERSION}\n"
    shown = call("--help")
    assert shown.code == 0
    commands = ("compile", "simulate", "run", "inspect", "cost", "ops", "doctor")
    assert all(command in shown.out for command in commands)
    for command in commands:
        assert call(command, "--help").code == 0


def test_the_command_is_installed_and_needs_no_tensorflow():
    """Start-up imports neither TensorFlow nor onnxruntime, which take seconds."""
    script = (
        "import sys, mpcc.cli, mpcc.api\n"
        "sys.exit(bool({'tensorflow', 'onnxruntime'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert mpcc("--version").stdout == f"mpcc {VERSION}\n"


def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path):
    output = "[/red]y[bold]"
    node = helper.make_node("Relu", ["x"], [output])
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("x", output)]
    graph = helper.make_graph([node], "net", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    folder = tmp_path / "[red]"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    target = folder / "A:a:[b].mpcc"
    said = call("compile", folder / "m.onnx", "-o", target)
    assert said.code == 0
    assert f"wrote {target}" in said.err.splitlines()
    options = ["--input", tmp_path / "x.npz", "--output", folder / "y.npz"]
    for command in (("simulate",), ("run", "--engine", "party-interpreter")):
        said = call(command[0], target, *command[1:], *options)
        assert said.code == 0
        assert output in said.out
        assert list(arrays(folder / "y.npz")) == [output]
    assert call("cost", target).code == 0


def test_umask_does_not_open_private_files(compiled, tmp_path):
    before = os.umask(0)
    try:
        assert call("compile", compiled("A").source.model, "-o", tmp_path / "A.mpcc").code == 0
    finally:
        os.umask(before)
    assert mode(tmp_path / "A.weights") == mode(tmp_path / "A.private.json") == 0o600
