"""What owners of outputs compute in the clear after the reveal: functions beside @main.

A tensor module may have one function ``@after.<owner>`` for every owner of outputs. Its inputs are
outputs of @main by the same name; to each it applies functions of :data:`MAPS` and hands it over
under that name. None of these maps is injective on fixed-point numbers (a softmax forgets what is
added to all scores, a sigmoid is 1 from somewhere on), so that the owner learns more than the
model's own answer: nothing of this is there unless the user asked for it. An argmax never is: of
all scores it leaves a place.

Values are computed in binary64 and rounded to binary32 once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir import budget
from mpcc.ir.calls import AFTER
from mpcc.ir.core import Function, Module, Op
from mpcc.ir.interp import real
from mpcc.ir.local import as_module, problem
from mpcc.ir.ops import tensor
from mpcc.ir.types import OWNER_PLACES

__all__ = ["MAPS", "after_functions", "after_problems", "after_rows", "finished"]

Array = npt.NDArray[Any]

MAPS = (tensor.Softmax, tensor.LogSoftmax, tensor.Sigmoid)
"""What may be computed after the reveal, where the user allows it. All keep the shape."""


def after_functions(module: Module) -> dict[str, Function]:
    """The functions of owners, by what stands behind the prefix: an owner, in a sound module."""
    named = module.functions.items()
    return {n[len(AFTER) :]: f for n, f in named if n.startswith(AFTER)}


def after_rows(module: Module) -> list[tuple[str, str, str]]:
    """(owner, output, what the owner applies to it) of every output that is finished."""
    rows = []
    for owner, function in after_functions(module).items():
        for op in function.walk(tensor.Output.name):
            steps = [step.name.partition(".")[2] for step in _chain(op)]
            rows.append((owner, op.attrs["name"], ", ".join(reversed(steps))))
    return rows


MAX_CHAIN = 8
"""Maps that lead to one output: what is made from files of others walks no longer chains."""


def _chain(op: Op) -> Iterator[Op]:
    """The maps that lead to an output, the last one first; one more than allowed at most."""
    at = op.operands[0].op
    for _ in range(MAX_CHAIN + 1):
        if at is None or at.definition is tensor.Input or not at.operands:
            return
        yield at
        at = at.operands[0].op


def after_problems(module: Module) -> Iterator[Diagnostic]:
    """Why functions of owners of outputs are not what this level defines."""
    opened = {op.attrs["name"]: op for op in module.main.walk(tensor.Output.name)}
    for owner, function in after_functions(module).items():
        where = f"@{function.name}"
        if owner not in OWNER_PLACES or function.args or function.returns:
            yield problem("no function of an owner of outputs", where)
        read: set[str] = set()
        given: set[str] = set()
        for position, op in enumerate(function.ops):
            here = f"{where}, op {position} {op.name}"
            name = op.attrs.get("name", "")
            if op.definition in (tensor.Input, tensor.Output) and op.attrs["owner"] != owner:
                yield problem(f"touches what is of {op.attrs['owner']}", here)
            elif op.definition is tensor.Input:
                source = opened.get(name)
                if source is None or name in read or source.attrs["owner"] != owner:
                    yield problem(f"{name!r} is no output of {owner} in @main, or not new", here)
                elif source.operands[0].type.shape != op.attrs["shape"]:  # type: ignore[union-attr]
                    yield problem(f"{name!r} has another shape in @main", here)
                read.add(name)
            elif op.definition is tensor.Output:
                steps = list(_chain(op))
                if len(steps) > MAX_CHAIN:
                    yield problem(f"is made by more than {MAX_CHAIN} maps", here)
                    break
                first = steps[-1].operands[0].op if steps else None
                if first is None or first.attrs.get("name") != name or name in given:
                    yield problem(f"{name!r} is not made of the output of this name, once", here)
                given.add(name)
            elif op.definition not in MAPS:
                yield problem("is not computed after a reveal", here)
        if read != given or not given:
            yield problem("not all outputs that it reads are handed over", where)


def finished(
    module: Module,
    outputs: Mapping[str, Array],
    check: Callable[[Module], None] = budget.check,
) -> dict[str, Array]:
    """The model's answers, of the outputs of @main.

    Args:
        module: a verified tensor module, which is not trusted otherwise.
        outputs: arrays by name.
        check: refuses functions that need too much; given each one as a module.

    Raises:
        MpccError: ``E-local-program`` or ``E-limit-…``.
    """
    functions = after_functions(module)
    found = dict(outputs)
    if not functions:
        return found
    collect(after_problems(module))
    for function in functions.values():
        own = as_module(function)
        check(own)
        names = [op.attrs["name"] for op in function.walk(tensor.Input.name)]
        missing = [name for name in names if name not in outputs]
        if missing:
            raise MpccError.of("E-local-program", f"no output {missing[0]!r}", f"@{function.name}")
        made = real.run(own, {}, {name: outputs[name] for name in names})
        found.update((name, array.astype(np.float32)) for name, array in made.items())
    return found
