"""Carries out a choice of local ops: functions of owners, and @main with what they hand over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.ir.analysis.ranges import Intervals
from mpcc.ir.core import Function, Module, Op, Value, make_op
from mpcc.ir.local import as_module, check_local, function_name, local_functions
from mpcc.ir.ops import tensor
from mpcc.ir.phi import DEFAULT_RANGE, FormatOptions
from mpcc.ir.types import OWNER_PLACES, TensorType
from mpcc.passes.partition.cut import Choice, choose

__all__ = ["ANY_RANGE", "LocalInput", "Partitioned", "partition", "prepare_formats"]

Array = npt.NDArray[Any]

ANY_RANGE = (-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max))
"""Of an input that nothing was declared of: what is made of it has a range."""

_FRACTION = 60
"""Bits of the rounding that proved ranges allow for, beside that of binary64: there is none."""


@dataclass(frozen=True)
class LocalInput:
    """An input as its owner gives it, of which only what is computed locally is shared.

    Attributes:
        name: in the model.
        shape: in the model.
        owner: whose it is.
        lo: least value that the owner's library accepts.
        hi: largest.
        whole: whether it accepts whole numbers only.
    """

    name: str
    shape: tuple[int, ...]
    owner: str
    lo: float
    hi: float
    whole: bool


@dataclass(frozen=True)
class Partitioned:
    """A module with functions of owners.

    Attributes:
        module: @main takes what they hand over.
        choice: what is local, by positions in @main as it was.
    """

    module: Module
    choice: Choice = field(default_factory=Choice)


def partition(module: Module) -> Partitioned:
    """Give every owner of inputs the ops that it computes itself.

    Args:
        module: a verified tensor module, which is changed; it has no functions of owners.
    """
    chosen = choose(module.main)
    main = module.main
    ops = list(main.ops)
    taken = {op.attrs["name"] for op in main.walk(tensor.Input.name)}
    for who in OWNER_PLACES:
        places = chosen.local.get(who, ())
        if places:
            _split(module, who, [ops[i] for i in places], taken)
    if local_functions(module):
        main.remove_dead()
        check_local(module)
    return Partitioned(module, chosen)


def _split(module: Module, who: str, local: Sequence[Op], taken: set[str]) -> None:
    """Move ops of one owner out of @main; inputs stay there where parties use them too."""
    main = module.main
    chosen = set(local)
    uses = main.uses()

    def crosses(op: Op) -> list[Value]:
        return [v for v in op.results if any(u not in chosen for u, _ in uses.get(v, []))]

    computed = [op for op in local if op.definition is not tensor.Input]
    if not computed:
        return
    wanted = _closure(main, computed)
    function = Function(function_name(who))
    copies: dict[Value, Value] = {}
    handed: dict[Value, Value] = {}
    inserted: list[Op] = []
    for op in main.ops:
        if op not in wanted:
            continue
        copy = make_op(op.definition, [copies[v] for v in op.operands], op.attrs, op.loc)
        function.ops.append(copy)
        copies.update(zip(op.results, copy.results, strict=True))
    for op in computed:
        for value in crosses(op):
            name = _unused(who, taken)
            attrs = {"name": name, "owner": who}
            function.append(tensor.Output, [copies[value]], attrs, op.loc)
            type_ = value.type
            assert isinstance(type_, TensorType)
            made = make_op(
                tensor.Input,
                (),
                {"name": name, "shape": type_.shape, "dtype": type_.dtype, "owner": who},
                op.loc,
            )
            inserted.append(made)
            handed[value] = made.result
    gone = set(computed)
    for op in local:
        if op.definition is not tensor.Input or op not in wanted:
            continue
        if crosses(op):
            # The parties need it as it is: it is handed over under a name of its own.
            name = _unused(who, taken)
            function.append(tensor.Output, [copies[op.result]], {"name": name, "owner": who})
            made = make_op(tensor.Input, (), {**op.attrs, "name": name}, op.loc)
            inserted.append(made)
            handed[op.result] = made.result
        gone.add(op)
    main.ops = [*inserted, *(op for op in main.ops if op not in gone)]
    main.replace_uses(handed)
    module.functions[function.name] = function


def _closure(main: Function, local: Sequence[Op]) -> set[Op]:
    """Ops, and the inputs and public values that they are computed of."""
    found: set[Op] = set()
    wanted = set(local)
    for op in reversed(main.ops):
        if op in wanted:
            found.add(op)
            wanted.update(v.op for v in op.operands if v.op is not None)
    return found


def _unused(who: str, taken: set[str]) -> str:
    number = 0
    while f"{who}.{number}" in taken:
        number += 1
    taken.add(f"{who}.{number}")
    return f"{who}.{number}"


def prepare_formats(
    module: Module, constants: Mapping[str, Array], options: FormatOptions, calibrated: bool
) -> tuple[FormatOptions, tuple[LocalInput, ...]]:
    """Ranges of what owners hand over, proved from those of their inputs; and these inputs.

    Args:
        module: with functions of owners.
        constants: arrays of public weights, by name.
        options: what the user asked for, with ranges of the model's inputs.
        calibrated: whether there are samples: what is computed of an input that no range is
            declared of has the range that they show.
    """
    functions = local_functions(module)
    if not functions:
        return options, ()
    ranges = dict(options.input_ranges)
    ports: list[LocalInput] = []
    for function in functions.values():
        own = as_module(function)
        given: dict[str, tuple[float, float]] = {}
        proved = True
        for op in own.main.walk(tensor.Input.name):
            name, attrs = op.attrs["name"], op.attrs
            known = tensor.input_range(own.main, op) or options.input_ranges.get(name)
            if known is None and not calibrated:
                known = DEFAULT_RANGE
            proved &= known is not None
            whole = attrs["whole"] or tensor.input_range(own.main, op) is not None
            lo, hi = known or ANY_RANGE
            ports.append(LocalInput(name, attrs["shape"], attrs["owner"], lo, hi, whole))
            given[name] = (lo, hi)
            ranges.pop(name, None)
        if proved:
            ranges.update(_bounds(own, constants, given))
    return replace(options, input_ranges=ranges), tuple(ports)


def _bounds(
    module: Module, constants: Mapping[str, Array], inputs: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Bounds of the outputs of one owner's function."""
    intervals = Intervals(module, constants, _FRACTION, _FRACTION, inputs)
    intervals.affine = None
    found: dict[str, tuple[float, float]] = {}
    for op in module.main.ops:
        if op.definition is tensor.Output:
            bounds = intervals.values[op.operands[0]]
            lo, hi = float(bounds.lo.min()), float(bounds.hi.max())
            if math.isfinite(lo) and math.isfinite(hi):
                found[op.attrs["name"]] = (lo, hi)
            continue
        intervals.step(op)
    return found
