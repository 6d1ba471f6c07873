"""`mpcc ops --accuracy`: what is measured is never above what is proved, for every operator."""

import json

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from benchmarks import accuracy
from mpcc import operator_errors
from mpcc.accuracy import FRACTION
from mpcc.cli import app
from mpcc.operators import PROBES

UNIT = 2.0**-FRACTION
REAL = sorted(op for op, p in PROBES.items() if p.kind == onnx.TensorProto.FLOAT)
MOVES = ("Abs", "Add", "Hardmax", "Max", "MaxPool", "Min", "Neg", "Relu", "Sub", "Sum", "Where")


@pytest.mark.parametrize("op", REAL)
def test_no_error_exceeds_what_is_proved(op):
    found = operator_errors.error_of(op, PROBES[op])
    assert found is not None
    assert 0 <= found.measured <= found.proved < np.inf
    # Of operators that only choose, add and subtract numbers of the format.
    if op in MOVES:
        assert found.measured == 0.0
    elif op in ("Conv", "Div", "Exp", "LayerNormalization", "MatMul", "Mul", "Softmax", "Sqrt"):
        assert 0.1 * UNIT < found.measured < 2 * UNIT


def test_operators_that_decide_have_no_error():
    assert operator_errors.error_of("Less", PROBES["Less"]) is None


def test_the_documentation_has_all_of_them():
    text = accuracy.PAGE.read_text("utf-8").partition("operator errors: begin")[2]
    assert [line.split("|")[1].strip() for line in text.splitlines()[3:] if "|" in line] == REAL


def test_the_table_and_its_json():
    runner = CliRunner()
    made = json.loads(runner.invoke(app, ["ops", "--accuracy", "--json"]).output)
    assert sorted(made) == REAL
    assert made["Div"]["interval"] == [0.25, 8.0]
    assert made["Mul"]["fraction_bits"] == FRACTION
    shown = runner.invoke(app, ["ops", "--accuracy"], env={"COLUMNS": "150"}).output
    row = next(line for line in shown.splitlines() if "Softmax" in line and "Log" not in line)
    assert "-4 .. 4" in row
    assert f"{made['Softmax']['measured'] / UNIT:.3g}" in row
