"""The op table of the native engine, generated from the party-level declarations.

``python -m mpcc.emit.native_table`` rewrites ``runtime_native/kernels/party_ops.inc``. A test
compares the file with :func:`native_table`, so the engine's op list cannot drift from
:mod:`mpcc.ir.ops.party`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mpcc.ir.define import Operation
from mpcc.ir.ops import party

__all__ = ["main", "native_table", "node_op_name"]

_HEADER = """\
// Generated from mpcc/ir/ops/party.py by `python -m mpcc.emit.native_table`. Do not edit.
//
// One line per party op:
//   X(Name, "node op", min operands, max operands, elementwise, (A("attribute", Kind), ...))
// -1 operands at most: any number.
// Kind is Int, Float, Bool, Str, Ints, Strs or Nested; docs/artifact-format.md says how each is
// stored in a node. The attribute list is parenthesised, so it is one macro argument. MpccFused has
// besides the attribute "f", the function of its body. Include with X and A defined.
//
// clang-format off
"""


def node_op_name(name: str) -> str:
    """Op name of a node: ``party.draw_ring`` -> ``MpccDrawRing``."""
    return "Mpcc" + "".join(part.capitalize() for part in name.partition(".")[2].split("_"))


def _line(operation: type[Operation]) -> str:
    least, most = operation.arity()
    node_op = node_op_name(operation.name)
    elementwise = getattr(operation, "elementwise", False)
    attrs = ", ".join(
        f'A("{key}", {spec.kind.capitalize()})' for key, spec in operation.attributes.items()
    )
    return (
        f'X({node_op.removeprefix("Mpcc")}, "{node_op}", {least}, '
        f"{-1 if most is None else most}, {'true' if elementwise else 'false'}, ({attrs}))\n"
    )


def native_table() -> str:
    """The text of ``party_ops.inc``: ops in declaration order."""
    lines = [_line(operation) for operation in party.DIALECT.operations.values()]
    return _HEADER + "".join(lines) + "// clang-format on\n"


def main(argv: list[str] | None = None) -> int:
    """Write the table to the given path, or into the source tree this module stands in."""
    arguments = sys.argv[1:] if argv is None else argv
    tree = Path(__file__).resolve().parents[2]
    target = Path(arguments[0]) if arguments else tree / "runtime_native/kernels/party_ops.inc"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(native_table(), encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
