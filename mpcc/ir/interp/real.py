"""The float interpreter of the tensor level: what the model computes, without any cryptography."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.calls import inline
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.define import Attributes
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape

__all__ = ["Observer", "evaluate", "run"]

Array = npt.NDArray[Any]
Observer = Callable[[Op, Array], None]


def run(
    module: Module,
    constants: Mapping[str, Array],
    inputs: Mapping[str, Array],
    observe: Observer | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> dict[str, Array]:
    """Run @main once.

    Values are dropped after their last use, so the peak is that of the widest cut, not of the sum.

    Args:
        module: a verified module of the tensor level.
        constants: arrays of the ``tensor.weight`` ops, by name.
        inputs: arrays of the ``tensor.input`` ops, by name.
        observe: called for every result with its op and its array, which the callee must neither
            change nor keep (copy it).
        dtype: in which to compute; binary32 is twice as fast and as close as other runtimes.

    Returns:
        Arrays of the ``tensor.output`` ops by name, of the given dtype.

    Raises:
        MpccError: an input or a constant is missing, unknown or has another shape; all at once.
    """
    if module.level != "tensor":
        raise MpccError.of("E-run-level", f"a tensor module is needed, not {module.level}")
    module = inline(module).module
    _check(module, constants, inputs)
    last: dict[Value, int] = {}
    for position, op in enumerate(module.main.ops):
        for value in (*op.operands, *op.results):
            last[value] = position
    arrays: dict[Value, Array] = {}
    outputs: dict[str, Array] = {}
    for position, op in enumerate(module.main.ops):
        operands = [arrays[v] for v in op.operands]
        if op.definition is tensor.Output:
            outputs[op.attrs["name"]] = np.array(operands[0])
        else:
            results = evaluate(op, operands, constants, inputs, dtype)
            if observe is not None:
                for result in results:
                    observe(op, result)
                    del result
            arrays.update(zip(op.results, results, strict=True))
            del results
        del operands
        for value in {*op.operands, *op.results}:
            if last[value] == position:
                arrays.pop(value, None)
    return outputs


def evaluate(
    op: Op,
    operands: Sequence[Array],
    constants: Mapping[str, Array],
    inputs: Mapping[str, Array],
    dtype: npt.DTypeLike,
) -> tuple[Array, ...]:
    """Results of one op that is no output, for the arrays of its operands."""
    if op.definition is tensor.Input:
        return (np.asarray(inputs[op.attrs["name"]], dtype),)
    if op.definition is tensor.Weight:
        return (np.asarray(constants[op.attrs["name"]], dtype),)
    if not issubclass(op.definition, tensor.TensorOperation):
        raise MpccError.of("E-run-level", f"{op.name} is not of the tensor level", op.loc)
    return op.definition.evaluate(op.attrs, *operands)


def _check(module: Module, constants: Mapping[str, Array], inputs: Mapping[str, Array]) -> None:
    problems: list[Diagnostic] = []

    def compare(kind: str, attrs: Attributes, given: Mapping[str, Array]) -> None:
        name, shape = str(attrs["name"]), attrs["shape"]
        if name not in given:
            problems.append(
                Diagnostic(
                    "E-run-missing",
                    f"{kind} {name} {_text(shape)} is not given",
                    fix=f"give {name}",
                )
            )
        elif np.shape(given[name]) != shape:
            problems.append(
                Diagnostic(
                    "E-run-shape",
                    f"{kind} {name} has shape {_text(np.shape(given[name]))}, "
                    f"the model needs {_text(shape)}",
                )
            )

    known = set()
    for op in module.main.walk(tensor.Input.name):
        known.add(op.attrs["name"])
        compare("input", op.attrs, inputs)
    for op in module.main.walk(tensor.Weight.name):
        compare("constant", op.attrs, constants)
    problems.extend(
        Diagnostic(
            "E-run-unknown",
            f"the model has no input {name}",
            fix=f"its inputs are {', '.join(sorted(known)) or 'none'}",
        )
        for name in sorted(set(inputs) - known)
    )
    collect(problems)


def _text(shape: Shape) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
