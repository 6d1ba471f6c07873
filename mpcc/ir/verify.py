"""The verifier of all levels: structure, order of definitions, attributes, types."""

from __future__ import annotations

from mpcc.errors import Diagnostic, collect
from mpcc.ir.calls import check_calls
from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.define import Dialect, InferenceError

__all__ = ["verify"]


def _describe(op: Op, position: int) -> str:
    return f"op {position} {op.name}" + (f" (from {op.loc})" if op.loc else "")


def _check_function(
    function: Function, dialect: Dialect, problems: list[Diagnostic], path: str
) -> None:
    defined: set[Value] = set(function.args)
    for position, op in enumerate(function.ops):
        where = f"{path}, {_describe(op, position)}"
        if dialect.operations.get(op.name) is not op.definition:
            problems.append(
                Diagnostic("E-ir-level", f"{op.name} is not of level {dialect.level}", where)
            )
            continue
        for index, value in enumerate(op.operands):
            if value not in defined:
                problems.append(
                    Diagnostic("E-ir-order", f"operand {index} is not defined before use", where)
                )
        defined.update(op.results)
        least, most = op.definition.arity()
        if len(op.operands) < least or (most is not None and len(op.operands) > most):
            problems.append(Diagnostic("E-ir-arity", f"{len(op.operands)} operands", where))
            continue
        if op.definition.has_body != (op.body is not None):
            problems.append(Diagnostic("E-ir-body", "a body is missing or too many", where))
            continue
        try:
            if op.definition.complete(op.attrs) != op.attrs:
                problems.append(Diagnostic("E-ir-attrs", "attributes are incomplete", where))
                continue
            if op.body is not None:
                _check_function(op.body, dialect, problems, where)
            inferred = op.infer()
            found = tuple(r.type for r in op.results)
            if inferred != found:
                problems.append(
                    Diagnostic(
                        "E-ir-type",
                        f"results have types ({', '.join(map(str, found))}), "
                        f"the declaration gives ({', '.join(map(str, inferred))})",
                        where,
                    )
                )
        except InferenceError as error:
            code = "E-ir-type" if op.body is None else "E-ir-body"
            problems.append(Diagnostic(code, str(error), where))
    for value in function.returns:
        if value not in defined:
            problems.append(Diagnostic("E-ir-order", "a returned value is not defined", path))


def verify(module: Module, dialect: Dialect) -> None:
    """Check structure and types of a whole module against its dialect.

    Raises:
        MpccError: all problems at once, each with the function and the op's position and origin.
    """
    problems: list[Diagnostic] = []
    if module.level != dialect.level:
        problems.append(
            Diagnostic("E-ir-level", f"module of level {module.level}, not {dialect.level}")
        )
    for function in module.functions.values():
        _check_function(function, dialect, problems, f"@{function.name}")
    if not problems:
        problems += check_calls(module)
    collect(problems)
