"""What owners do in the clear before and after a run: their functions of the artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.artifact import Artifact
from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir import budget
from mpcc.ir.after import finished
from mpcc.ir.encodings import check_ids
from mpcc.ir.local import local_functions, prepared
from mpcc.ir.ops import tensor

__all__ = ["finished_outputs", "prepared_inputs"]

Array = npt.NDArray[Any]


def _problems(
    ports: Sequence[Mapping[str, Any]], inputs: Mapping[str, Array]
) -> Iterator[Diagnostic]:
    """What is wrong with values that functions of owners take; shapes are theirs to check.

    A number that no table has would become a row of zeros without notice.
    """
    for port in ports:
        if port["name"] not in inputs:
            continue
        array = np.asarray(inputs[port["name"]])
        # A comparison with NaN is false, so NaN is refused here too.
        good = bool(np.all((array >= port["lo"]) & (array <= port["hi"])))
        if good and port.get("whole"):
            good = bool(np.all(array == np.rint(array)))
        if not good:
            kind = "whole numbers in " if port.get("whole") else "in "
            what = f"not all values are {kind}[{port['lo']}, {port['hi']}]"
            fix = "scale the data as the model expects it, or compile with --input-range"
            yield Diagnostic("E-input-range", what, f"input {port['name']}", fix)


def prepared_inputs(
    artifact: Artifact,
    inputs: Mapping[str, Array],
    max_memory: int | None = None,
    max_work: int | None = None,
) -> dict[str, Array]:
    """The inputs of the program, of what the owners of the model's inputs give.

    Args:
        artifact: its functions of owners are not trusted.
        inputs: arrays by the model's input names, checked against ``artifact.given_inputs``.
        max_memory: bytes that computing may take; None: three quarters of the machine's.
        max_work: multiply-adds that it may take; None: the interpreters' limit.

    Raises:
        MpccError: ``E-local-program``, ``E-limit-…``, ``E-input-name``: what a function makes is
            given, or ``E-input-range``: a value that one takes, or that is to be shared, is beyond
            its range or not whole.
    """
    if not artifact.local_inputs:
        return dict(inputs)
    collect(_problems(artifact.local_inputs, inputs))
    check = partial(budget.check, max_memory=max_memory, max_work=max_work)
    found = prepared(artifact.tensor_module, artifact.public_weights, inputs, check)
    problems: list[Diagnostic] = []
    ports = {port["name"]: port for port in artifact.inputs}
    functions = local_functions(artifact.tensor_module).values()
    for name in sorted(op.attrs["name"] for f in functions for op in f.walk(tensor.Output.name)):
        if name in inputs:
            what = "it is made of other inputs, and is not given"
            problems.append(Diagnostic("E-input-name", what, f"input {name}", "leave it out"))
            continue
        if name not in ports:
            raise MpccError.of("E-local-program", f"the manifest has no input {name!r}", name)
        port, array = ports[name], found[name]
        if port.get("rows"):
            good = check_ids(array, port["rows"])
        else:
            good = bool(np.all((array >= port["lo"]) & (array <= port["hi"])))
        if not good:
            # As of inputs: which value it was stays with its owner.
            what = f"what is made of the inputs leaves [{port['lo']}, {port['hi']}]"
            fix = "scale the data as the model expects it, or compile with --input-range"
            problems.append(Diagnostic("E-input-range", what, f"input {name}", fix))
    collect(problems)
    return found


def finished_outputs(
    artifact: Artifact,
    outputs: Mapping[str, Array],
    max_memory: int | None = None,
    max_work: int | None = None,
) -> dict[str, Array]:
    """The model's answers, in its dtypes, of the numbers that a run opens.

    Args:
        artifact: its functions of owners are not trusted.
        outputs: revealed numbers by output name.
        max_memory: bytes that computing may take; None: three quarters of the machine's.
        max_work: multiply-adds that it may take; None: the interpreters' limit.

    Raises:
        MpccError: ``E-local-program`` or ``E-limit-…``.
    """
    if artifact.finished_outputs:
        check = partial(budget.check, max_memory=max_memory, max_work=max_work)
        outputs = finished(artifact.tensor_module, outputs, check)
    return artifact.decoded(outputs)
