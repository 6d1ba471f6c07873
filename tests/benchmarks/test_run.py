import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from benchmarks import run
from benchmarks.run import REPEATS, Row, build_case, main, table


class FakeCommand:
    """In place of mpcc: the plaintext answer plus 0.25, and figures made up."""

    def __init__(self):
        self.model = ""
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, *arguments, show):
        assert not show
        self.calls.append(arguments)
        if arguments[0] == "compile":
            self.model = arguments[1]
            return
        value = dict(zip(arguments[2::2], arguments[3::2], strict=True))
        session = onnxruntime.InferenceSession(self.model, providers=["CPUExecutionProvider"])
        with np.load(value["--input"]) as inputs:
            (logits,) = session.run(["logits"], dict(inputs))
        outputs: dict[str, Any] = {"logits": logits.astype(np.float64) + 0.25}
        np.savez(value["--output"], **outputs)
        stats = {
            "online_seconds": [0.003, 0.001, 0.002],
            "setup_seconds": 0.5,
            "rounds": 14,
            "bytes_sent": {"0->1": 1000, "1->2": 500},
            "peak_rss_bytes": [1e6, 3e6, 2e6],
            "engine": "native",
        }
        Path(value["--json"]).write_text(json.dumps(stats))


@pytest.fixture
def command(monkeypatch):
    fake = FakeCommand()
    monkeypatch.setattr(run, "mpcc", fake)
    return fake


def test_figures_come_from_the_statistics(command, tmp_path, capsys):
    result = tmp_path / "bench.json"
    assert main(["A", "--link", "none", "--link", "wan", "--json", str(result)]) == 0
    first, second = json.loads(result.read_text())
    assert (first["case"], first["link"], second["link"]) == ("A", "none", "wan")
    assert first["deviation"] == pytest.approx(0.25)
    assert first["megabytes"] == 0.0015
    assert first["peak_megabytes"] == 3
    assert [call[0] for call in command.calls] == ["compile", "run", "run"]
    assert str(REPEATS["wan"]) in command.calls[2]
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:2] == ["case", "link"]
    assert [line.split()[:3] for line in lines] == [["A", "none", "2.00"], ["A", "wan", "2.00"]]


def test_calibration_is_not_the_timed_input(tmp_path):
    case = build_case("C", tmp_path)
    with np.load(case.inputs) as timed, np.load(case.calibration) as others:
        assert timed["image"].shape == (1, 1, 28, 28)
        assert others["image"].shape == (8, 1, 1, 28, 28)
        assert not any(np.array_equal(timed["image"], sample) for sample in others["image"])


def test_table_has_one_line_per_row():
    row = Row("A", "lan", 1.0, [0.01], 0.5, 14, 0.5, 30.0, 1e-4, "native", 1)
    assert len(table([row, row]).splitlines()) == 3


def test_an_unknown_case_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["A", "Z"])
    assert "no case Z; there are A, A128, C, BlazeFace" in capsys.readouterr().err
