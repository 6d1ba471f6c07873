"""inline-calls."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.analysis.forms import exact_values, is_real
from mpcc.ir.calls import FEWEST_CALLS, called, calls, drop_uncalled, inline
from mpcc.ir.core import Function, Module, Value, clone_function, make_op
from mpcc.ir.define import Operation
from mpcc.ir.ops import tensor
from mpcc.passes.base import Pass, Result

__all__ = ["InlineCalls"]

_FEWEST_OPS = 3
"""A body of fewer ops is written out: a call would only put truncations around them."""


def _part(module: Module) -> bool:
    """Give calls whose results must be exact, because they reach outputs, a function of their own.

    A function is the same in all of its calls, and an exact truncation takes more messages: the
    last step of a sequence would make all steps as dear as itself. Whether there are such calls.
    """
    written = inline(module)
    exact = exact_values(written.module.main)
    kinds: dict[tuple[str, tuple[bool, ...]], str] = {}
    for op in calls(module):
        callee = op.attrs["callee"]
        kind = callee, tuple(written.values[0, r] in exact for r in op.results)
        if kind not in kinds:
            first = all(known != callee for known, _ in kinds)
            kinds[kind] = callee if first else f"{callee}.exact{len(kinds)}"
            if not first:
                copy = clone_function(module.functions[callee])
                copy.name = kinds[kind]
                module.functions[copy.name] = copy
        op.attrs["callee"] = kinds[kind]
    return any(name != callee for (callee, _), name in kinds.items())


def _constant_args(module: Module) -> set[Value]:
    """Arguments that are weights in every call."""
    weights: dict[Value, bool] = {}
    for op in calls(module):
        function = module.functions[op.attrs["callee"]]
        for arg, value in zip(function.args, op.operands, strict=True):
            weight = value.op is not None and value.op.definition is tensor.Weight
            weights[arg] = weights.get(arg, True) and weight
    return {arg for arg, weight in weights.items() if weight}


def _bound(function: Function, constants: set[Value]) -> bool:
    """Put activations behind arguments that are no weights, and before returned values.

    Returns:
        Whether there is one that was not there.
    """
    users: dict[Value, set[type[Operation]]] = {}
    for op in function.ops:
        for value in op.operands:
            users.setdefault(value, set()).add(op.definition)
    entered: dict[Value, Value] = {}
    entries = []
    for arg in function.args:
        if arg not in constants and users.get(arg) != {tensor.Activation}:
            op = make_op(tensor.Activation, [arg], loc=function.ops[0].loc)
            entered[arg] = op.result
            entries.append(op)
    function.replace_uses(entered)
    function.ops[:0] = entries
    exits: dict[Value, Value] = {}
    for value in dict.fromkeys(function.returns):
        if value.op is None or value.op.definition is not tensor.Activation:
            exits[value] = function.append(tensor.Activation, [value], loc=_loc(value)).result
    function.returns = [exits.get(v, v) for v in function.returns]
    return bool(entered or exits)


def _loc(value: Value) -> str:
    return value.op.loc if value.op is not None else ""


@dataclass(frozen=True)
class InlineCalls(Pass):
    """Calls of small functions are written out; what the others take and give are activations.

    A function of few ops, one that is called a few times only, and one that takes or gives
    something other than real numbers is no gain. Calls whose results are truncated exactly, since
    they reach outputs by sums and moves alone, have a function apart from the others'. What remains
    is lowered once for all of its calls: its arguments are activations, or weights in every call,
    and its results are activations.

    Assumes: a module as imported.

    Before::

        func @step(%0: tensor<8xf32, secret>, %1: tensor<8xf32, model>) {
          %2 = tensor.mul(%0, %1) : tensor<8xf32, secret>
          return %2
        }

    After::

        func @step(%0: tensor<8xf32, secret>, %1: tensor<8xf32, model>) {
          %2 = tensor.activation(%0) : tensor<8xf32, secret>
          %3 = tensor.mul(%2, %1) : tensor<8xf32, secret>
          %4 = tensor.activation(%3) : tensor<8xf32, secret>
          return %4
        }

    Attributes:
        all: write out every call.
    """

    name: ClassVar[str] = "inline-calls"
    level: ClassVar[str] = "tensor"
    all: bool = False

    def run(self, module: Module) -> Result:
        """Write out what is small, in a new module if there is any such call."""
        if not called(module):
            return Result(module, False)
        parted = _part(module)
        times = Counter(op.attrs["callee"] for op in calls(module))
        small = {f.name for f in called(module) if self.all or _is_small(f, times[f.name])}
        if small:
            module = inline(module, small).module
        dropped = drop_uncalled(module)
        constants = _constant_args(module)
        bound = [_bound(function, constants) for function in called(module)]
        return Result(module, parted or bool(small) or dropped or any(bound))


def _is_small(function: Function, times: int) -> bool:
    values = [*function.args, *function.returns]
    few = times < FEWEST_CALLS or len(function.ops) < _FEWEST_OPS
    return few or not all(map(is_real, values))
