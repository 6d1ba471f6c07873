"""Whether what owners compute in the clear depends on their own data and public values alone.

What is checked stands in :func:`mpcc.ir.local.local_problems` (``@local``, before sharing) and
:func:`mpcc.ir.after.after_problems` (``@after``, of what was revealed); here the file around it:
the inputs and outputs that the manifest announces, the public weights that the file brings, and the
verifier's own policy: its owners of inputs, public weights, and outputs whose scores may be opened
(``policy.logits``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mpcc.artifact import Artifact
from mpcc.errors import Diagnostic
from mpcc.ir.after import after_problems, after_rows
from mpcc.ir.calls import LOCAL, called, calls
from mpcc.ir.core import Module
from mpcc.ir.local import local_functions, local_problems, local_rows
from mpcc.ir.ops import tensor
from mpcc.verify_program.policy import Policy

__all__ = ["check_owners", "computed", "scores"]

_FIX = "compile the model again"


def computed(module: Module) -> dict[str, str]:
    """What every owner computes before sharing, for the report."""
    return dict(local_rows(module))


def scores(module: Module) -> dict[str, str]:
    """By output, what is computed after the reveal, by an owner who learns more by it."""
    return {
        name: f"{owner} learns what it applies {steps} to"
        for owner, name, steps in after_rows(module)
    }


def check_owners(artifact: Artifact, policy: Policy) -> Iterator[Diagnostic]:
    """All that is wrong with the functions of owners, and with what belongs to them.

    Args:
        artifact: its tensor program could be read; nothing else is known of it.
        policy: whose the inputs are, and which weights are public.

    Raises:
        MpccError: ``E-artifact-public``.
    """
    module = artifact.tensor_module
    used = {op.attrs["callee"] for op in calls(module)}
    for function in called(module):
        if function.name not in used:
            name = function.name
            yield Diagnostic("E-local-program", "belongs to nobody", f"@{name}", _FIX)
    yield from local_problems(module)
    yield from after_problems(module)
    for name in sorted(scores(module).keys() - policy.logits):
        what = f"the scores behind the output {name!r} are opened, the policy does not allow it"
        yield Diagnostic("E-leak-reveal", what, f"output {name}", "compile without --reveal-logits")
    ports = _ports(module)
    announced = [{k: v for k, v in p.items() if k not in _RANGE} for p in artifact.local_inputs]
    if announced != ports:
        what = "the manifest has other inputs of owners than their functions"
        yield Diagnostic("E-verify-interface", what, "local", _FIX)
    if artifact.finished_outputs != list(scores(module)):
        what = "the manifest has other outputs that owners finish than their functions"
        yield Diagnostic("E-verify-interface", what, "after", _FIX)
    for port in ports:
        owner = policy.inputs.get(port["name"], port["owner"])
        if owner != port["owner"]:
            what = f"input {port['name']!r} is read at {port['owner']}, the policy says {owner}"
            yield Diagnostic("E-leak-reveal", what, f"@{LOCAL}{port['owner']}")
    for name in sorted(artifact.public_weights.keys() - policy.public):
        what = f"the weight {name!r} is in the file in the clear, the policy does not allow it"
        yield Diagnostic("E-leak-public", what, "public.safetensors")


_RANGE = ("lo", "hi", "whole")
"""Of an input of an owner: what its own library enforces, for its own good."""


def _ports(module: Module) -> list[dict[str, Any]]:
    return [
        {
            "name": op.attrs["name"],
            "owner": op.attrs["owner"],
            "shape": list(op.attrs["shape"]),
        }
        for function in local_functions(module).values()
        for op in function.walk(tensor.Input.name)
    ]
