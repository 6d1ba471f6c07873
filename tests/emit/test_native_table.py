"""The generated op table of the engine is the one that the declarations give."""

import re
from pathlib import Path

from mpcc.emit.native_table import main, native_table, node_op_name
from mpcc.ir.ops.party import DIALECT

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_is_current():
    committed = (ROOT / "runtime_native/kernels/party_ops.inc").read_text()
    assert committed == native_table(), "run: python -m mpcc.emit.native_table"


def test_lines():
    lines = [line for line in native_table().splitlines() if line.startswith("X(")]
    assert len(lines) == len(DIALECT.operations)
    assert 'X(Transfer, "MpccTransfer", 1, 1, false, (A("to", Str), A("step", Str)))' in lines
    assert 'X(Join, "MpccJoin", 0, -1, true, ())' in lines
    pattern = r'X\(\w+, "Mpcc\w+", \d+, -?\d+, (true|false), \((A\("\w+", \w+\)(, )?)*\)\)'
    assert all(re.fullmatch(pattern, line) for line in lines)


def test_node_op_names_are_distinct():
    names = [node_op_name(name) for name in DIALECT.operations]
    assert len(set(names)) == len(names)
    assert node_op_name("party.draw_ring") == "MpccDrawRing"


def test_the_command_writes_the_file(tmp_path):
    assert main([str(tmp_path / "new/table.inc")]) == 0
    assert (tmp_path / "new/table.inc").read_text() == native_table()
