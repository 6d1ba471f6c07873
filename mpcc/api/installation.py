"""What this installation can do: its state, and the operators that it knows."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from rich.table import Table

from mpcc.ir.dialects import DIALECTS
from mpcc.options import DEBUG_VARIABLES
from mpcc.runtime import native

__all__ = ["Check", "doctor", "ops_json", "ops_tables"]


@dataclass(frozen=True)
class Check:
    """One line of ``mpcc doctor``."""

    name: str
    ok: bool
    required: bool
    detail: str


def _version_of(package: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def doctor() -> list[Check]:
    """Examine this installation."""
    import platform

    checks = [Check("python", True, True, platform.python_version())]
    checks += [Check(*row) for row in native.checks()]
    for package, use in (
        ("onnxruntime", "reference of simulate --reference and of the demo"),
        ("tensorflow-cpu", "reads SavedModel and Keras models"),
    ):
        # TensorFlow is also distributed without the suffix.
        names = (package, package.removesuffix("-cpu"))
        found = next(filter(None, map(_version_of, names)), None)
        checks.append(Check(package, found is not None, False, found or use))
    for variable, effect in DEBUG_VARIABLES.items():
        value = os.environ.get(variable)
        detail = effect if value is None else f"set to {value!r}; {effect}"
        checks.append(Check(variable, value is not None, False, detail))
    return checks


def ops_json(accuracy: bool = False, tensorflow: bool = False) -> str:
    """All ONNX operators as JSON, see :func:`mpcc.operators.to_json`.

    With ``accuracy``: their worst errors, see :func:`mpcc.operator_errors.to_json`. With
    ``tensorflow``: TensorFlow's operators that can be imported, each with a line on it.
    """
    if tensorflow:
        from mpcc.frontend.tensorflow.support import listed

        return json.dumps([{"name": n, "note": note} for n, note in listed()], indent=1) + "\n"
    from mpcc import operator_errors, operators

    if accuracy:
        return json.dumps(operator_errors.to_json(), indent=1) + "\n"
    return json.dumps(operators.to_json(), indent=1) + "\n"


def ops_tables(accuracy: bool = False, tensorflow: bool = False) -> list[Table]:
    """Tables of what is supported: ONNX operators, protocols, operators of every level.

    With ``accuracy``: one of the worst errors of the operators instead; with ``tensorflow`` one of
    TensorFlow's operators.
    """
    if tensorflow:
        from mpcc.frontend.tensorflow.support import listed

        found = Table(
            "TensorFlow operator",
            "supported",
            title="TensorFlow operators on computed values; any is computed on constants",
        )
        for row in listed():
            found.add_row(*row)
        return [found]
    from mpcc import operator_errors, operators
    from mpcc.protocols import PROTOCOLS

    if accuracy:
        return [operator_errors.table()]

    protocols = Table("protocol", "what it is", "against whom", title="protocols")
    for protocol in PROTOCOLS.values():
        protocols.add_row(protocol.name, protocol.summary, protocol.threat_model)
    tables = [*operators.tables(), protocols]
    for level, dialect in DIALECTS.items():
        table = Table("operator", "operands", "what it does", title=f"{level} IR")
        for operation in dialect.operations.values():
            first = (operation.__doc__ or "").strip().splitlines()[0]
            table.add_row(operation.name, ", ".join(operation.operands), first)
        tables.append(table)
    return tables
