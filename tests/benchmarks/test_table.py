import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from benchmarks import compare, table
from benchmarks.compare import PUBLISHED, TITLES, Verdict
from benchmarks.plots import plot
from benchmarks.results import ResultError, Results, Row

LINKS = {"0->1": 109, "0->2": 98, "1->0": 98, "1->2": 98, "2->0": 98, "2->1": 98}
ENVIRONMENT = {"processor": "a processor", "flags": ["avx2"], "cores": 2, "date": "2026-01-02"}
PEAKS = {"cores": 2, "multiply_adds_64": 2e9, "multiply_adds_32": 5e9, "tls_bytes": 1e9}

OURS = Row(
    system="mpcc",
    case="B128",
    link="none",
    online_seconds=[0.3, 0.2, 0.25],
    first_seconds=0.5,
    start_seconds=1.5,
    setup_seconds=0.5,
    compile_seconds=2.0,
    links=LINKS,
    total_bytes=700,
    rounds=34,
    peak_bytes=50_000_000,
    deviation=1e-3,
    magnitude=4.0,
    widths=[13, 19],
    bounds={"multiplying": 0.05, "sending": 0.125},
)


def peer(system, case, seconds, setting=""):
    return Row(system, case, "none", [seconds], setting=setting)


def results(*rows):
    return Results(ENVIRONMENT, PEAKS, rows, ["crypten B128: out of luck"])


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "r.json"
    results(OURS, peer("spu", "B128", 9.0)).write(path)
    assert Results.read(path) == Results(
        ENVIRONMENT, PEAKS, [OURS, peer("spu", "B128", 9.0)], ["crypten B128: out of luck"]
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "rows": [{}]}'])
def test_other_files_are_refused_by_name(tmp_path, text, capsys):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ResultError, match=r"other\.json"):
        Results.read(path)
    assert table.main([str(path)]) == 1
    assert "other.json" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ResultError, match=r"none\.json: No such file"):
        Results.read(tmp_path / "none.json")


def test_later_rows_replace_earlier_ones():
    again = replace(OURS, rounds=30)
    other = replace(OURS, link="lan")
    assert list(Results.joined([results(OURS, other), results(again)]).rows) == [again, other]


def test_figures_of_a_row():
    assert OURS.median == 0.25
    assert OURS.bound == 0.125
    assert OURS.imbalance == pytest.approx(109 * 6 / 599 - 1)
    assert OURS.joined(OURS).online_seconds == [0.3, 0.2, 0.25] * 2
    assert peer("spu", "A1", 1.0).imbalance is None


def test_the_faster_variant_of_a_peer_counts_and_published_figures_are_scaled():
    known = PUBLISHED["spu"]["B128"]
    found = results(
        OURS,
        peer("spu", "B128", 3 * known),
        peer("spu", "B128", 2 * PUBLISHED["spu tuned"]["B128"], "tuned"),
        peer("spu", "A1", 2 * PUBLISHED["spu"]["A1"]),
    )
    assert compare.scale(found) == pytest.approx(2)
    figures = compare.figures(found, "B128")
    assert list(figures) == list(TITLES)
    assert figures["spu"].measured
    assert figures["spu"].tuned
    assert figures["spu"].seconds == pytest.approx(2 * PUBLISHED["spu tuned"]["B128"])
    assert not figures["mp-spdz"].measured
    assert figures["mp-spdz"].seconds == pytest.approx(2 * PUBLISHED["mp-spdz tuned"]["B128"])
    assert figures["mp-spdz"].text() == "5.22 s*†"


def test_without_spu_nothing_published_is_shown():
    assert compare.figures(results(OURS), "B128") == {}


def test_aims_are_met_or_not():
    rows = [OURS, peer("spu", "B128", 2.49), peer("tf-encrypted", "B128", 2.5)]
    verdicts = {v.aim: v for v in compare.verdicts(results(*rows))}
    assert not verdicts["10 times faster than SPU"].met
    assert verdicts["10 times faster than tf-encrypted"].met
    assert verdicts["at most 2.5 times the larger bound"] == Verdict(
        "B128", "at most 2.5 times the larger bound", "2 times", True
    )
    assert verdicts["busiest link at most 10% above the mean"].met
    late = replace(OURS, online_seconds=[0.4], links={**LINKS, "0->1": 130})
    verdicts = {v.aim: v for v in compare.verdicts(results(late))}
    assert not verdicts["at most 2.5 times the larger bound"].met
    assert not verdicts["busiest link at most 10% above the mean"].met


def test_limits_of_a_deep_network():
    row = replace(
        OURS,
        case="resnet50",
        online_seconds=[3.9],
        start_seconds=5.1,
        links={
            "0->1": 200_000_000,
            "0->2": 131_000_000,
            "1->0": 1,
            "1->2": 1,
            "2->0": 1,
            "2->1": 1,
        },
        peak_bytes=1_400_000_000,
    )
    verdicts = {v.aim: v.met for v in compare.verdicts(results(row))}
    assert verdicts["time at most 4 s"]
    assert verdicts["memory per party at most 1.5 GB"]
    assert not verdicts["sent per party at most 330 MB"]
    assert not verdicts["until the first run can be at most 5 s"]


def test_terminal_has_every_row_and_verdict(tmp_path, capsys):
    path = tmp_path / "r.json"
    results(OURS, peer("spu", "B128", 9.0)).write(path)
    assert table.main([str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:3]] == [
        ["mpcc", "B128", "none", "250.00"],
        ["spu", "B128", "none", "9000.00"],
    ]
    assert "met     B128: 10 times faster than SPU: 36 times (250 ms against 9 s)" in lines
    assert "failed: crypten B128: out of luck" in lines


def test_markdown_tables_are_rectangular():
    lan = replace(OURS, link="lan", online_seconds=[0.5])
    bits = replace(OURS, setting="bits=31", online_seconds=[0.75])
    text = table.markdown(results(OURS, lan, bits, peer("spu", "B128", 9.0)))
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
    assert "| B, batch 128 | 34 | 250 ms | 500 ms |  |" in text
    assert "| B, batch 128 (bits=31) | 750 ms |" in text
    assert "9 s (36×)" in text
    assert "2.0 G multiply-adds" in text


def test_a_busy_machine_is_named():
    assert "busy" not in table.markdown(results(OURS))
    busy = Results({**ENVIRONMENT, "load": 3.5}, PEAKS, [OURS])
    assert "The machine was busy with other work" in table.markdown(busy)


def test_plot(tmp_path):
    found = results(OURS, peer("spu", "B128", 9.0), peer("crypten", "B128", 0.1))
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    plot(found, first)
    plot(found, second)
    assert first.read_bytes() == second.read_bytes()
    root = ET.fromstring(first.read_text())
    assert root.tag.endswith("svg")
    assert len(list(root.iter())) > 50


def test_summary_speaks_of_what_was_measured_here():
    a = replace(OURS, case="A1", online_seconds=[0.002])
    found = results(OURS, a, peer("spu", "B128", 9.0), peer("spu", "A1", 0.05))
    text = table.summary(found)
    assert "A, batch 1: 2 ms; B, batch 128: 250 ms." in text
    assert "SPU took 25 to 36 times as long" in text
    assert "MP-SPDZ" not in text


def test_cost_by_batch_is_per_input():
    rows = [
        replace(OURS, case=f"B{n}", online_seconds=[0.01 * n] * 3, total_bytes=2000 * n)
        for n in (1, 32, 128)
    ]
    text = table.markdown(results(*rows))
    assert "| B, time | 10 ms | 10 ms | 10 ms |  |" in text
    assert "| B, payload | 2 KB | 2 KB | 2 KB |  |" in text
    assert "By batch" not in table.markdown(results(*rows[:2]))


def test_an_error_is_held_against_spu_of_the_same_session():
    ours = replace(OURS, case="exp", deviation=1e-3)
    better, worse = (replace(peer("spu", "exp", 9.0), deviation=d) for d in (5e-4, 5e-2))
    assert {v.met for v in compare.verdicts(results(ours, worse)) if "error" in v.aim} == {True}
    assert {v.met for v in compare.verdicts(results(ours, better)) if "error" in v.aim} == {False}
    assert not [v for v in compare.verdicts(results(ours)) if "error" in v.aim]
