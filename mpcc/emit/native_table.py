"""Tables of the native engine, generated from the declarations: its ops and its limits.

``python -m mpcc.emit.native_table`` rewrites ``party_ops.inc`` and ``limits.inc`` in
``runtime_native/kernels``. A test compares the files with :func:`native_table` and
:func:`native_limits`, so the engine cannot drift from :mod:`mpcc.ir.ops.party` and
:mod:`mpcc.ir.limits`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mpcc.ir.define import Operation
from mpcc.ir.limits import LIMITS
from mpcc.ir.ops import party

__all__ = ["main", "native_limits", "native_table", "node_op_name"]

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

_LIMITS_HEADER = """\
// Generated from mpcc/ir/limits.py by `python -m mpcc.emit.native_table`. Do not edit.
//
// One line per limit: L(name, largest value allowed). Include through kernels/limits.h.
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


def native_limits() -> str:
    """The text of ``limits.inc``: ``MAX_LIST`` is ``kMaxList``."""
    lines = []
    for name, limit in LIMITS.items():
        camel = "".join(part.capitalize() for part in name.split("_"))
        lines.append(f"L(k{camel}, {limit.value})  // {limit.what}\n")
    return _LIMITS_HEADER + "".join(lines) + "// clang-format on\n"


def main(argv: list[str] | None = None) -> int:
    """Write both tables to the given folder, or into the source tree this module stands in."""
    arguments = sys.argv[1:] if argv is None else argv
    tree = Path(__file__).resolve().parents[2]
    folder = Path(arguments[0]) if arguments else tree / "runtime_native/kernels"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "party_ops.inc").write_text(native_table(), encoding="ascii")
    (folder / "limits.inc").write_text(native_limits(), encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
