"""What stands in the pages; how they look and act is for test_browser."""

import json
import re

import pytest

from mpcc.cost import predict
from mpcc.errors import MpccError
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.text import parse_module
from mpcc.reports import Level, Owner, cost_page, decisions, program_page, traced_layers
from mpcc.reports.layout import COLUMN, ROW, layered
from tests.reports.programs import HOSTILE, chain, hostile, report, secure
from tests.test_cost import module

PRIVATE = {
    "layers": [
        {
            "layer": "fc_0",
            "node": "net/fc",
            "error": {"share": 0.75},
            "range": {"width": 12, "why": "secret reason"},
        },
        {"layer": "x_0", "node": "", "error": {"share": None}, "range": {"width": None}},
    ],
    "rings": {"parts": [{"layers": ["fc_0"], "ring": 32, "why": "cheaper <there>"}]},
    "measured_error": {"y": 0.00172},
}


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_cost_page_is_self_contained():
    page = cost_page(
        report(module()),
        measured={
            "rounds": 5,
            "bytes_sent": {"0->1": 4},
            "online_seconds": [0.25, 0.5, 0.125],
            "setup_seconds": 1.5,
            "network": "none",
            "max_deviation": 0.00123,
        },
        accuracy={"agreement": "100 %"},
        picture="data:image/png;base64,AAAA",
        disclosed_bits=77,
    )
    assert page.count("<svg") > 5
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert not re.search(r"https?:|url\(|@import", page)
    # Names come from a file; they are text, not markup.
    assert "<x>" not in page
    assert "&lt;x&gt;" in page
    assert "honest majority &amp; &lt;three&gt;" in page
    assert "77 bits at most" in page
    for name, predicted, found in (
        ("rounds", "4", "5"),
        ("bytes 0-&gt;1", "3", "4"),
        ("bytes 1-&gt;client", "32", "0"),
        ("bytes, all links", "131", "4"),
        ("seconds of setup", "0.2 ms", "1.5 s"),
        ("largest deviation from the plain model", "", "0.00123"),
    ):
        cell = f'<tr><td>{name}</td><td class="n">{predicted}</td><td class="n">{found}</td></tr>'
        assert cell in page
    assert "250 ms (median of 3, network none)" in page


def test_cost_page_without_extras():
    page = cost_page(predict(module()))
    for part in ("Predicted and measured", "Who learns what", "owner alone", "Decisions", "error"):
        assert part not in page.partition("<main>")[2].partition("<script>")[0]
    assert "fc_0" in page


def test_cost_page_embeds_pictures_only():
    with pytest.raises(MpccError, match="E-report-picture"):
        cost_page(predict(module()), picture="https://example.org/x.png")


def test_cost_page_of_an_empty_program():
    empty = parse_module("module party {\n  func @main() {\n  }\n}\n", {"party": DIALECT})
    assert "whole program" in cost_page(predict(empty))


def test_only_the_owners_page_has_reasons_errors_and_names():
    owner = Owner.of(PRIVATE)
    words = ("secret reason", "cheaper &lt;there&gt;", "net/fc", "75.0 %", "0.00172", "owner alone")
    public = cost_page(report(module()), decisions=decisions(secure()))
    private = cost_page(report(module()), decisions=decisions(secure()), owner=owner)
    for word in words:
        assert word not in public
        assert word in private
    assert "looks at 14 bits for the sign, not at 64 (2 times)" in public
    page = program_page([Level("party", module())], report(module()), "party", owner)
    assert "net/fc" in page
    assert "secret reason" not in page


@pytest.mark.parametrize(
    "damage", [{"layers": 3}, {"layers": [{}]}, {"rings": {"parts": [3]}}, {"measured_error": []}]
)
def test_a_damaged_private_report(damage):
    with pytest.raises(MpccError, match="E-private"):
        Owner.of({**PRIVATE, **damage})


def test_measured_times_of_layers():
    def event(op, run, duration, party=0, cat="compute"):
        return {"cat": cat, "pid": party, "dur": duration, "args": {"op": op, "run": run}}

    ops = module().main.ops
    matmul = next(i for i, op in enumerate(ops) if op.name == "party.matmul")
    trace = {
        "traceEvents": [
            event(matmul, 0, 900.0),
            event(matmul, 1, 500.0),
            event(matmul + 1, 1, 100.0),
            event(matmul, 1, 300.0, party=1),
            event(matmul, 1, 9e9, cat="wait"),
            event(matmul, 1, 9e9, party=3),
        ]
    }
    found = traced_layers(trace, module())
    assert found == {"fc_0": pytest.approx(600e-6)}
    page = cost_page(report(module()), traced=found)
    assert re.search(r'data-value="0.000[56]\d*">0.6 ms</td>', page)
    for bad in (event(len(ops), 0, 1.0), event(-1, 0, 1.0), event("0", 0, 1.0), {"cat": "compute"}):
        with pytest.raises((KeyError, TypeError, ValueError, IndexError)):
            traced_layers({"traceEvents": [bad]}, module())


def test_hostile_names_are_text():
    made = report(hostile())
    pages = [
        cost_page(made, owner=Owner(nodes={"x_0": HOSTILE[0]})),
        program_page([Level("party", hostile())], made, "party", Owner({"x_0": HOSTILE[0]})),
    ]
    for page in pages:
        assert page.count("<script>") == 1
        assert page.count("</script>") == page.count("<script")
        assert "<img" not in page
        # Control characters and those that turn the direction of text are written out.
        for character in ("\u202e", "\u2028", "\x00", "\x1b"):
            assert character not in page
        assert "{{ 7*7 }}" in page
    layers = [layer["name"] for layer in data_of(pages[1])[0]["layers"]]
    assert set(HOSTILE[:5]) < set(layers)


def test_the_policy_names_the_only_script_and_style():
    for page in (cost_page(report(module())), program_page([], report(module()))):
        found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
        assert found is not None
        policy = found[1]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy


def test_program_page_has_every_operation_once():
    page = program_page([Level("party", module()), Level("secure", secure())], report(module()))
    party, second = data_of(page)
    ops = module().main.ops
    assert len(party["ops"]) == len(ops)
    assert sorted(i for layer in party["layers"] for i in layer["ops"]) == list(range(len(ops)))
    texts = party["texts"]
    transfer = next(o for o in party["ops"] if texts[o[6]].startswith('to = "P1", step = "fc_0'))
    assert texts[transfer[5]] == "bits<4x3>@P1"
    assert texts[transfer[8]] == "3 bytes 0->1, online, round 2"
    truncate = second["ops"][1]
    assert second["texts"][truncate[7]] == (
        "13 bits of a ring of 64, 10 of them fraction bits: below 2^3 in size"
    )


def test_layers_are_placed_below_what_they_use():
    edges = [(0, 2), (1, 2), (2, 3), (2, 4), (3, 5), (4, 5), (5, 2)]
    places = layered(7, edges)
    assert len(set(places)) == 7
    rows = [y // ROW for _, y in places]
    assert rows[:6] == [0, 0, 1, 2, 2, 3]
    assert abs(places[3][0] - places[4][0]) == COLUMN
    # A source stands just above its user.
    assert layered(4, [(0, 1), (1, 2), (3, 2)])[3][1] == ROW
    assert layered(0, []) == []


def test_a_page_of_many_layers_stays_small():
    made = report(chain([f"layer_{i}" for i in range(2500)]))
    page = cost_page(made)
    assert len(page) < 3_000_000
    assert page.count("<details><summary>") < 500
    assert "2101 more layers that cost less" in page
    for i in range(2500):
        assert f"<bdi>layer_{i}</bdi>" in page


def test_a_level_has_its_layers_as_the_level_above():
    party = Level("party", chain(["layer_0", "a"]))
    for above, names in (
        ([], ["x_0", "layer_0", "a"]),
        ([Level("secure", secure())], ["x_0", "a", "layer_0"]),
    ):
        found = data_of(program_page([*above, party], report(party.module)))[-1]
        labelled = [layer["name"] for layer in found["layers"] if layer["name"] != "(no layer)"]
        assert labelled == names
