"""The generated tables of the engine are those that the declarations give."""

import re
from pathlib import Path

from mpcc.emit.native_table import main, native_limits, native_table, node_op_name
from mpcc.ir import limits
from mpcc.ir.ops.party import DIALECT

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_are_current():
    folder = ROOT / "runtime_native/kernels"
    remedy = "run: python -m mpcc.emit.native_table"
    assert (folder / "party_ops.inc").read_text() == native_table(), remedy
    assert (folder / "limits.inc").read_text() == native_limits(), remedy


def test_every_limit_has_its_name_in_both_languages():
    names = {name for name in vars(limits) if name.startswith("MAX_")}
    assert names == set(limits.LIMITS)
    assert all(getattr(limits, name) == limit.value for name, limit in limits.LIMITS.items())
    assert "L(kMaxRank, 8)  // axes of a tensor" in native_limits().splitlines()


def test_the_specification_states_the_limits():
    text = (ROOT / "docs/artifact-format.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]+) \| (2\^\d+|\d+) \|$", text, re.MULTILINE))
    assert {what: eval_power(value) for what, value in rows.items()} == {
        limit.what: limit.value for limit in limits.LIMITS.values()
    }


def eval_power(text: str) -> int:
    base, _, exponent = text.partition("^")
    return int(base) ** int(exponent or 1)


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


def test_the_command_writes_the_files(tmp_path):
    assert main([str(tmp_path / "new")]) == 0
    assert (tmp_path / "new/party_ops.inc").read_text() == native_table()
    assert (tmp_path / "new/limits.inc").read_text() == native_limits()
