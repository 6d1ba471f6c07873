import json
import platform

import numpy as np
import onnxruntime
import pytest

import mpcc
from benchmarks import environment, peaks, run
from benchmarks.cases import CASES, unknown
from benchmarks.results import Results
from mpcc.errors import MpccError

#: Made of more weights than a quick test should draw, or of fetched files.
LARGE = ("resnet18", "vgg16", "resnet50", "blazeface")


@pytest.mark.parametrize("name", [n for n in CASES if n not in LARGE])
def test_a_case_runs_in_floating_point_on_inputs_within_its_ranges(name):
    material = CASES[name].make()
    session = onnxruntime.InferenceSession(material.model, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, dict(material.inputs))
    assert np.isfinite(output).all()
    assert np.ptp(output) > 0
    for key, array in material.inputs.items():
        lo, hi = material.formats.input_ranges[key]
        assert lo <= array.min() < array.max() <= hi
    for key, samples in material.calibration.items():
        assert samples.shape[1:] == material.inputs[key].shape
        assert not any(np.array_equal(sample, material.inputs[key]) for sample in samples)


def compiled(name, bits=None, ring=None):
    material = CASES[name].make()
    if bits is not None:
        material = material.with_bits(bits)
    if ring is not None:
        material = material.with_ring(ring)
    options = mpcc.CompileOptions(formats=material.formats)
    return mpcc.compile(material.model, options=options, calibration=material.calibration or None)


@pytest.mark.parametrize(
    ("name", "bits", "expected"),
    [
        ("relu1e4", None, [16, 16]),
        ("maxpool1e4", None, [17, 17]),
        ("mul1e4", None, []),
        ("relu1e4", 31, [31, 31]),
        ("maxpool1e4", 31, [32, 32]),
        ("A1", 31, [31, 31]),
        ("B1", 31, [31, 32]),
    ],
)
def test_widths_of_comparisons(name, bits, expected):
    assert run.widths(compiled(name, bits)) == expected


@pytest.mark.parametrize("name", ["relu1e4", "matmul256", "B1"])
def test_another_ring(name):
    found = compiled(name, ring=32)
    assert found.artifact.phi["ring"] == 32
    work = peaks.work_of(found.artifact)
    assert work.multiply_adds_64 == 0
    assert (work.multiply_adds_32 > 0) == (name != "relu1e4")
    assert work.sent < 0.65 * peaks.work_of(compiled(name, ring=64).artifact).sent


def test_multiplications_are_those_of_the_formula():
    found = peaks.work_of(compiled("matmul256").artifact)
    # Five products over the three parties, see "Linear ops" in docs/protocols.md.
    assert found.multiply_adds_64 == 5 * 256**3
    assert found.multiply_adds_32 == 0
    rates = peaks.Peaks(2, 1e9, 4e9, 1e8)
    bounds = peaks.bounds(peaks.Work(2 * 10**9, 4 * 10**9, 10**7), rates)
    assert (bounds.multiplying, bounds.sending, bounds.larger) == (3.0, 0.1, 3.0)


@pytest.mark.parties
def test_a_row_of_a_real_session(tmp_path, capsys):
    result = tmp_path / "bench.json"
    arguments = ["relu1e4", "--seconds", "0", "--no-bounds", "--json", str(result)]
    assert run.main(arguments) == 0
    (row,) = Results.read(result).rows
    predicted = compiled("relu1e4").cost.cost.online
    assert (row.system, row.case, row.link, row.setting) == ("mpcc", "relu1e4", "none", "")
    assert len(row.online_seconds) == 3
    assert min(row.online_seconds) > 0
    assert row.rounds == predicted.rounds
    assert row.total_bytes == predicted.total_bytes
    assert row.links == {k: n for k, n in predicted.bytes_sent.items() if k[0] + k[-1] in
                         ("01", "02", "10", "12", "20", "21")}  # fmt: skip
    assert row.deviation is not None
    assert row.deviation <= 2.0**-12
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["system", "case", "link"]
    assert line.split()[:3] == ["mpcc", "relu1e4", "none"]


def test_a_failure_is_reported_and_the_others_go_on(monkeypatch, tmp_path, capsys):
    def refuse(name, *_, **__):
        raise MpccError.of("E-test", f"no {name} today")

    monkeypatch.setattr(run, "measure", refuse)
    result = tmp_path / "bench.json"
    assert run.main(["A1", "B1", "--no-bounds", "--json", str(result)]) == 1
    assert "no B1 today" in capsys.readouterr().err
    failures = Results.read(result).failures
    assert [f.split(":")[0] for f in failures] == ["mpcc A1", "mpcc B1"]


def test_wrong_arguments_are_named(capsys, tmp_path):
    for arguments, said in (
        (["A1", "Z"], "no case Z; there are matmul256, "),
        (["A1", "--bits", "8"], "--bits takes 24 to 44"),
        (["A1", "--json", str(tmp_path / "missing" / "x.json")], "cannot be written"),
    ):
        with pytest.raises(SystemExit):
            run.main(arguments)
        assert said in capsys.readouterr().err
    assert unknown(list(CASES)) == ""


def test_facts_do_not_name_the_machine():
    text = json.dumps(environment.facts())
    assert json.loads(text)["cores"] >= 1
    assert platform.node() not in text or len(platform.node()) < 4
