import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from examples.blazeface import demo, reference
from examples.blazeface.demo import Outcome, judge, main, summary
from examples.blazeface.model import INPUT_NAME, OUTPUT_NAMES, Agreement, preprocess
from examples.blazeface.photographs import astronaut

STATS = {
    "online_seconds": [0.5, 0.25, 0.75],
    "setup_seconds": 1.5,
    "rounds": 123,
    "bytes_sent": {"0->1": 1_000_000, "client->0": 500_000},
    "engine": "native",
}


class FakeCommand:
    """In place of mpcc: the plaintext answer plus ``offset``, and figures made up."""

    def __init__(self):
        self.offset = 0.0
        self.names = []

    def __call__(self, *arguments):
        self.names.append(arguments[0])
        if arguments[0] != "run":
            return
        value = dict(zip(arguments[2::2], arguments[3::2], strict=True))
        with np.load(value["--input"]) as loaded:
            outputs = reference.run(loaded[INPUT_NAME])
        shifted: dict[str, Any] = {name: v + self.offset for name, v in outputs.items()}
        np.savez(value["--output"], **shifted)
        Path(value["--json"]).write_text(json.dumps(STATS))


@pytest.fixture
def command(monkeypatch):
    fake = FakeCommand()
    monkeypatch.setattr(demo, "mpcc", fake)
    # There is no artifact to report on; the real one is in test_the_real_demo.
    monkeypatch.setattr(demo, "write_report", lambda *arguments: None)
    return fake


def test_demo_succeeds_on_the_same_answer(command, tmp_path, capsys):
    command.offset = 1e-3
    assert main(["--folder", str(tmp_path)]) == 0
    assert command.names == ["compile", "run"]
    text = capsys.readouterr().out
    assert "three processes over TLS 1.3" in text
    assert "1 on shares, 1 by onnxruntime" in text
    assert re.search(r"deviation +(9\.9|1\.0)\de-0[34] \(accepted: 0\.01\)", text)
    assert "same answer" in text
    with Image.open(tmp_path / "astronaut.png") as picture:
        assert picture.size[0] == 512


def test_demo_fails_when_an_output_is_off(command, tmp_path, capsys):
    command.offset = 2e-2
    assert main(["--folder", str(tmp_path)]) == 1
    assert "DIFFERENT ANSWER" in capsys.readouterr().out


def test_judge_sees_a_lost_face():
    image, _ = preprocess(astronaut())
    plain = reference.run(image)
    assert judge(plain, plain).good
    lost = {name: np.copy(value) for name, value in plain.items()}
    lost[OUTPUT_NAMES[0]][:] = -100
    outcome = judge(plain, lost)
    assert outcome.agreement.counts == (1, 0)
    assert not outcome.good


def test_no_face_at_all_is_not_good():
    assert not Outcome(Agreement((0, 0), ()), 0.0).good


def test_summary_names_the_level_that_ran():
    outcome = Outcome(Agreement((1, 1), (0.999,)), 1e-4)
    text = summary(outcome, {**STATS, "engine": "party-interpreter"})
    assert "all parties inside one process" in text
    assert "0.500 s (median of 3)" in text
    assert "1.50 MB" in text
    assert "123" in text


@pytest.mark.slow
def test_the_real_demo(tmp_path, capfd):
    assert main(["--folder", str(tmp_path), "--repeat", "1"]) == 0
    text = capfd.readouterr().out
    assert "three processes over TLS 1.3" in text
    assert "same answer" in text
    page = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "measured" in page
    assert re.search(r"relu_16", page)
