"""`mpcc diff`: what differs between two programs, layer by layer."""

import json

from rich.console import Console

from mpcc.cost import PROFILES, predict
from mpcc.cost.difference import compare
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.text import parse_module
from tests.test_cost import PROGRAM


def report(text, **phi):
    manifest = {"protocol": "rep3", "phi": phi}
    return predict(parse_module(text, {"party": DIALECT}), PROFILES["lan"], manifest)


BEFORE = report(PROGRAM, frac=8, ring=64, ranges=[[0, 1]])


def test_a_program_does_not_differ_from_itself():
    found = compare(BEFORE, BEFORE)
    assert not found.formats
    assert not any(layer.changed for layer in found.layers)
    assert {f.texts()[2] for f in found.figures} == {"="}


def test_bytes_formats_and_errors_that_changed_are_named():
    # The truncation opens 2 bits fewer per element: 2 planes less of 1 byte each.
    after = report(
        PROGRAM.replace("planes = 3", "planes = 1").replace("4x3", "4x1"), frac=6, ring=64
    )
    private = ({"measured_error": {"y": 0.5}}, {"measured_error": {"y": 1.0}})
    found = compare(BEFORE, after, private)
    changed = [layer for layer in found.layers if layer.changed]
    assert [(layer.name, layer.sent[0] - layer.sent[1]) for layer in changed] == [("fc_0", 2)]
    assert ("frac", "8", "6") in found.formats
    assert ("number of ranges", "1", "") in found.formats
    figures = {f.name: f for f in found.figures}
    sent = figures["bytes per run"]
    assert sent.before is not None
    assert sent.after is not None
    assert sent.before - sent.after == 2
    assert figures["measured error"].ratio == 2.0
    assert json.loads(json.dumps(found.to_json()))["figures"]["rounds"]["after"] == 4


def test_layers_are_matched_by_kind_where_numbers_shift():
    # One layer more in front: the old fc_0 is fc_1 now.
    text = PROGRAM.replace("fc_0", "fc_1").replace("w_0", "fc_0")
    found = compare(BEFORE, report(text))
    assert ("fc_0", "fc_1") in [layer.names for layer in found.layers]
    console = Console(record=True, width=120)
    for table in found.tables():
        console.print(table)
    assert "bytes per run" in console.export_text()
