"""What owners of inputs compute in the clear before they share: functions beside @main.

A tensor module may have one function ``@local.<owner>`` for every owner of inputs. It has no
arguments. Its ops are the owner's inputs, public weights, and what is computed of these alone; its
outputs are the inputs of @main by the same name. Values are computed in binary64 by the operators'
references, in the order of the text, and rounded to binary32 once, where they are handed over:
everybody gets the same numbers.

A module from a file is not trusted: :func:`check_local` refuses whatever is not of this form before
anything is computed, and :func:`prepared` keeps to a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir import budget
from mpcc.ir.calls import LOCAL, is_call
from mpcc.ir.core import Function, Module, Op, clone_function
from mpcc.ir.interp import real
from mpcc.ir.ops import tensor
from mpcc.ir.types import OWNER_PLACES, TensorType, element_count

__all__ = [
    "as_module",
    "check_local",
    "described",
    "function_name",
    "local_functions",
    "local_problems",
    "local_rows",
    "prepared",
    "problem",
    "public_names",
    "shown",
]

Array = npt.NDArray[Any]


def function_name(owner: str) -> str:
    """The name of an owner's function."""
    return LOCAL + owner


def local_functions(module: Module) -> dict[str, Function]:
    """The functions of owners, by what stands behind the prefix: an owner, in a sound module."""
    named = module.functions.items()
    return {n[len(LOCAL) :]: f for n, f in named if n.startswith(LOCAL)}


def as_module(function: Function) -> Module:
    """A function of an owner as a tensor module of its own."""
    module = Module("tensor")
    module.functions["main"] = clone_function(function)
    return module


def public_names(module: Module) -> list[str]:
    """Weights that owners compute with, which an artifact holds in the clear; sorted."""
    functions = local_functions(module).values()
    return sorted({op.attrs["name"] for f in functions for op in f.walk(tensor.Weight.name)})


def shown(name: str) -> str:
    """A name from a file as it may reach a terminal."""
    return name if name.isprintable() else repr(name)


def described(function: Function) -> str:
    """What an owner computes of what, for people: ``slice, maxpool of image``."""
    names = [shown(op.attrs["name"]) for op in function.walk(tensor.Input.name)]
    sources = (tensor.Input, tensor.Weight, tensor.Output)
    steps = [op.name.partition(".")[2] for op in function.ops if op.definition not in sources]
    return f"{', '.join(dict.fromkeys(steps))} of {', '.join(names)}"


def local_rows(module: Module) -> list[tuple[str, str]]:
    """Per owner, what it computes and how much it shares of how much, for people."""
    rows = []
    for owner, function in local_functions(module).items():
        names = {op.attrs["name"] for op in function.walk(tensor.Output.name)}
        taken = [op for op in module.main.walk(tensor.Input.name) if op.attrs["name"] in names]
        less = f"shares {_numbers(module.main, taken)} numbers in place of "
        less += f"{_numbers(function, list(function.walk(tensor.Input.name)))}"
        rows.append((owner, f"{described(function)}; {less}"))
    return rows


def _numbers(function: Function, inputs: Sequence[Op]) -> int:
    """How many numbers are shared for inputs of a function, one-hot rows among them."""
    return sum(
        element_count(op.attrs["shape"]) * (tensor.looked_up(function, op) or 1) for op in inputs
    )


def local_problems(module: Module) -> Iterator[Diagnostic]:
    """Why functions of owners could touch what is not theirs, or do not fit @main.

    Args:
        module: a tensor module; the types of its values follow from its ops.
    """
    shared: dict[str, Op] = {op.attrs["name"]: op for op in module.main.walk(tensor.Input.name)}
    given: set[str] = set()
    read: set[str] = set()
    for owner, function in local_functions(module).items():
        where = f"@{function.name}"
        if owner not in OWNER_PLACES:
            yield problem(f"{owner} owns no inputs", where)
        if function.args or function.returns:
            yield problem("a function of an owner takes no arguments and returns nothing", where)
        for position, op in enumerate(function.ops):
            here = f"{where}, op {position} {op.name}"
            yield from _source_problems(op, owner, here)
            name = op.attrs.get("name", "")
            if op.definition is tensor.Input:
                if name in read:
                    yield problem(f"the input {name!r} is read twice", here)
                read.add(name)
            if op.definition is tensor.Output:
                if name in given:
                    yield problem(f"{name!r} is handed over twice", here)
                given.add(name)
                yield from _handover_problems(op, owner, shared.get(name), here)
        if not any(op.definition is tensor.Output for op in function.ops):
            yield problem("hands nothing over", where)
    for name in sorted(given & read):
        yield problem(f"{name!r} is an input of an owner and of @main", "tensor.mpcc")


def problem(what: str, where: str) -> Diagnostic:
    """That a function of an owner is not of its form."""
    return Diagnostic("E-local-program", what, where, "compile the model again")


def _source_problems(op: Op, owner: str, where: str) -> Iterator[Diagnostic]:
    if not issubclass(op.definition, tensor.TensorOperation) or op.body is not None or is_call(op):
        yield problem("no operator of the tensor level", where)
        return
    allowed = {tensor.Input: owner, tensor.Weight: "public", tensor.Output: owner}
    wanted = allowed.get(op.definition)
    if wanted is not None and op.attrs["owner"] != wanted:
        yield problem(f"touches what is of {op.attrs['owner']}, not {wanted}", where)
    # Follows from the sources; looked at all the same, as it is what matters.
    for value in op.results:
        type_ = value.type
        if not isinstance(type_, TensorType) or type_.visibility not in (owner, "public"):
            yield problem(f"computes what {owner} may not know", where)


def _handover_problems(op: Op, owner: str, taker: Op | None, where: str) -> Iterator[Diagnostic]:
    name = op.attrs["name"]
    if taker is None:
        yield problem(f"@main has no input {name!r}", where)
        return
    if taker.attrs["owner"] != owner:
        yield problem(f"{name!r} is of {taker.attrs['owner']} in @main", where)
    if op.operands[0].type != taker.result.type:
        yield problem(f"{name!r} has another type in @main", where)


def check_local(module: Module) -> None:
    """Refuse a module whose functions of owners are not what this level defines.

    Raises:
        MpccError: ``E-local-program``, all problems at once.
    """
    collect(local_problems(module))


def prepared(
    module: Module,
    constants: Mapping[str, Array],
    inputs: Mapping[str, Array],
    check: Callable[[Module], None] = budget.check,
) -> dict[str, Array]:
    """The inputs of @main, of what the owners of inputs give; itself where nothing is computed.

    Args:
        module: a verified tensor module.
        constants: arrays of the public weights of the owners' functions, by name.
        inputs: arrays by the model's input names; inputs of @main that nobody computes may be
            among them and stay as they are.
        check: refuses functions that need too much; given each one as a module.

    Returns:
        What was handed over, as binary32, and the other inputs of @main among those given.

    Raises:
        MpccError: ``E-local-program``, ``E-limit-…``, or arrays are missing or do not fit.
    """
    functions = local_functions(module)
    if not functions:
        return dict(inputs)
    check_local(module)
    taken = {op.attrs["name"] for op in module.main.walk(tensor.Input.name)}
    found = {name: array for name, array in inputs.items() if name in taken}
    known = set(taken)
    for function in functions.values():
        own = as_module(function)
        check(own)
        names = [op.attrs["name"] for op in function.walk(tensor.Input.name)]
        known.update(names)
        data = {name: np.asarray(inputs[name]) for name in names if name in inputs}
        made = real.run(own, constants, data)
        # What is beyond binary32 becomes an infinity, and is refused as out of range.
        with np.errstate(over="ignore"):
            found.update((name, array.astype(np.float32)) for name, array in made.items())
    unknown = sorted(set(inputs) - known)
    if unknown:
        raise MpccError.of("E-run-unknown", f"the model has no input {', '.join(unknown)}")
    return found
