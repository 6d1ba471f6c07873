"""`mpcc ops`: every operator of ONNX, and costs that are counted, not written down."""

import json

import onnx
import pytest
from typer.testing import CliRunner

from mpcc import operators
from mpcc.accuracy import FRACTION, accuracies
from mpcc.cli import app
from mpcc.frontend.onnx.fold import FOLDABLE
from mpcc.frontend.onnx.model import MAX_OPSET, MIN_OPSET
from mpcc.frontend.onnx.support import ML_OPERATORS, OPERATORS
from mpcc.frontend.onnx.support import operators as support
from mpcc.operators import ML_PROBES, PROBES, WIDTH, price
from mpcc.protocols import protocol_named

#: Only move elements, or give constants, or are what their subgraphs are: they have no probe.
SILENT = {
    "If",
    "Loop",
    "Scan",
    "CenterCropPad",
    "Compress",
    "Concat",
    "Constant",
    "DepthToSpace",
    "Dropout",
    "Expand",
    "EyeLike",
    "Flatten",
    "GatherElements",
    "GatherND",
    "Identity",
    "Pad",
    "Reshape",
    "ReverseSequence",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Shape",
    "Size",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
}


def test_the_table_says_for_which_operator_sets_it_is():
    titles = [str(table.title) for table in operators.tables()]
    assert f"opset {MIN_OPSET} to {MAX_OPSET}" in titles[0]


def test_every_operator_has_a_row_and_a_reason():
    rows = support()
    schemas = onnx.defs.get_all_schemas()
    assert [(r.domain, r.name) for r in rows] == sorted((s.domain, s.name) for s in schemas)
    for row in rows:
        assert row.note
        assert row.family not in ("other", "unknown"), row.name
        assert bool(row.refused) == (row.status != "yes"), row.name
    by_status = {s: {r.name for r in rows if r.status == s and not r.domain} for s in
                 ("yes", "partly", "constants", "no")}  # fmt: skip
    assert by_status["yes"] | by_status["partly"] == OPERATORS.keys()
    assert by_status["constants"] == FOLDABLE - OPERATORS.keys()
    assert "NonZero" in by_status["constants"]
    assert {"DeformConv", "GridSample", "StringSplit"} <= by_status["no"]


def test_every_supported_operator_has_a_probe_or_sends_nothing():
    assert PROBES.keys() | SILENT == OPERATORS.keys()
    assert not PROBES.keys() & SILENT


def test_the_table_has_all_probes():
    assert operators.prices().keys() == PROBES.keys() | {f"ai.onnx.ml.{op}" for op in ML_PROBES}


def test_classical_operators_have_a_probe_or_send_nothing():
    silent = {"ArrayFeatureExtractor", "FeatureVectorizer"}
    assert ML_PROBES.keys() | silent == ML_OPERATORS.keys()
    priced = {s.name: p for s, p in operators.table() if s.domain == "ai.onnx.ml"}
    assert {op for op, p in priced.items() if p is not None} == ML_PROBES.keys()


@pytest.mark.parametrize("op", ML_PROBES)
def test_prices_of_classical_operators_are_what_is_counted(op):
    found = price(op, ML_PROBES[op], protocol_named(operators.PROTOCOL))
    assert operators.prices()[f"ai.onnx.ml.{op}"] == found
    assert found.rounds > 0


@pytest.mark.parametrize("op", PROBES)
def test_prices_are_what_is_counted(op):
    """If this fails, `python -m mpcc.operators` writes the table anew."""
    found = price(op, PROBES[op], protocol_named(operators.PROTOCOL))
    assert operators.prices()[op] == found
    assert (found.bytes_per_element == 0) == (found.rounds == 0)
    free = {"Add", "Sub", "Sum", "Neg", "ReduceSum", "CumSum", "Not"}
    assert (found.rounds == 0) == (op in free), op


def test_a_relu_costs_what_the_protocol_says():
    """A comparison of WIDTH bits and a select of one ring element."""
    found = operators.prices()["Relu"]
    assert found.rounds == 4
    # docs/protocols.md: a select sends 4 words of 8 bytes.
    assert 32 < found.bytes_per_element < 32 + 2 * WIDTH


def test_errors_of_functions():
    """Measured errors are within the proved ones, and these within two units."""
    found = accuracies()
    assert found.keys() <= OPERATORS.keys()
    for name, error in found.items():
        assert 0 < error.measured <= error.proved <= 2 * 2.0**-FRACTION, name
        # Looser than this, and something is counted twice.
        assert error.proved <= 1.6 * error.measured, name


def test_the_command(monkeypatch):
    prices = {"Relu": operators.Price(1.5, 4, "operand", "")}
    monkeypatch.setattr(operators, "prices", lambda: prices)
    shown = CliRunner().invoke(app, ["ops", "--json"])
    assert shown.exit_code == 0
    rows = {r["name"]: r for r in json.loads(shown.stdout)}
    assert rows["Relu"]["cost"] == {
        "bytes_per_element": 1.5, "rounds": 4, "per": "operand", "what": "",
    }  # fmt: skip
    assert rows["Det"]["status"] == "constants"
    assert rows["Det"]["cost"] is None
    assert rows["Relu"]["error"] is None
    assert rows["Tanh"]["error"]["fraction_bits"] == 16
    text = CliRunner().invoke(app, ["ops"]).stdout
    assert "ThresholdedRelu" in text
    assert "secure.negative" in text
