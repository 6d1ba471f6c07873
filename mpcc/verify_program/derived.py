"""Whether what an artifact says of itself follows from its architecture, formats and program.

Everything in an artifact but four things can be made again: the tensor program, the formats Phi,
the options they were chosen with, and the list of disclosed constants. This module makes the rest
from these and from the program, and refuses whatever differs:

* the texts are what the printer gives, so that no comment or spacing carries anything, and the file
  is what is written for its entries (``E-verify-bytes``);
* the secure program is the tensor program lowered with Phi (``E-verify-secure``);
* Phi has an entry for every op that needs one and for no other, and keeps what ``disclose``
  promises; under ``none`` it is made again from the declared ranges (``E-verify-phi``);
* interface, cost and the other fields of the manifest (``E-verify-interface``, ``E-verify-cost``,
  ``E-verify-manifest``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from mpcc.artifact import Artifact, format_version
from mpcc.cost import PROFILES, count
from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.analysis.forms import CONST, forms, is_real
from mpcc.ir.analysis.rings import Rings
from mpcc.ir.calls import called, numbered
from mpcc.ir.core import Module
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.text import print_module
from mpcc.ir.types import OWNER_PLACES, TensorType
from mpcc.passes import pipeline
from mpcc.passes.base import Manager
from mpcc.passes.declared_formats import declared_phi
from mpcc.verify_program.difference import first_difference

__all__ = ["check_derived", "cost_of", "outputs_of", "public_constants"]

_FIX = "compile the model again"
_PORTS = ("name", "shape", "owner")


def cost_of(program: Module) -> dict[str, Any]:
    """The public prediction for a party program, as artifacts hold it: under LAN and WAN."""
    return count(program).to_json([PROFILES["lan"], PROFILES["wan"]])


def outputs_of(module: Module) -> list[dict[str, Any]]:
    """Every output of a tensor program, as manifests hold them."""
    outputs = []
    for op in module.main.walk(tensor.Output.name):
        type_ = op.operands[0].type
        assert isinstance(type_, TensorType)
        port = {"name": op.attrs["name"], "shape": type_.shape, "owner": op.attrs["owner"]}
        if not is_real(op.operands[0]):
            port["dtype"] = type_.dtype
        outputs.append(port)
    return outputs


def public_constants(module: Module) -> list[float]:
    """Numbers of the model that stand in the tensor program in the clear, zero aside."""
    found: set[float] = set()

    def look(value: object) -> None:
        if isinstance(value, float) and value and math.isfinite(value):
            found.add(value)
        elif isinstance(value, tuple):
            for item in value:
                look(item)

    for function in module.functions.values():
        for op in function.ops:
            for value in op.attrs.values():
                look(value)
    return sorted(found)


def _refused(code: str, what: str, where: str) -> Diagnostic:
    return Diagnostic(code, what, where, _FIX)


def _check_phi(phi: Phi, options: FormatOptions, module: Module) -> Iterator[Diagnostic]:
    """Phi says nothing beyond what its place in the architecture and ``disclose`` allow."""
    ops = numbered(module)
    form = forms(module.main, [i for i, _ in phi.clamps], called(module)).form
    computed = {i for i, op in enumerate(ops) if any(form[v] != CONST for v in op.results)}
    for key, table in (("range", phi.ranges), ("clamp", phi.clamps)):
        for i, _ in table:
            if i not in computed:
                yield _refused("E-verify-phi", f"a {key} of an op that takes none", f"op {i}")
    bounds = options.input_ranges
    for i, bits in phi.inputs:
        op = ops[i] if i < len(ops) else None
        if op is None or op.definition is not tensor.Input:
            yield _refused("E-verify-phi", "an input's range of an op that is none", f"op {i}")
        elif bounds.get(op.attrs["name"]) != (-(2.0**bits), 2.0**bits):
            what = "the enforced range is not the one of the formats"
            yield _refused("E-verify-phi", what, f"input {op.attrs['name']}")
    if options.disclose == "per-model":
        if len({b for _, b in phi.ranges}) > 1 or len({b for _, b in phi.clamps}) > 1:
            yield _refused("E-verify-phi", "formats per model have several ranges", "phi")
    elif options.disclose == "none" and not _is_declared(phi, options, module):
        what = "the formats are not those that architecture and declared ranges give"
        yield _refused("E-verify-phi", what, "phi")


def _is_declared(phi: Phi, options: FormatOptions, module: Module) -> bool:
    """Whether formats follow from what was declared; rings may be a part of that."""
    rings = None if options.chooses_rings else Rings.of_phi(phi)
    return options.ring in (None, phi.ring) and phi == declared_phi(module, options, rings)


def _check_secure(artifact: Artifact, phi: Phi, options: FormatOptions) -> Iterator[Diagnostic]:
    """The secure program is the tensor program in the formats of Phi."""
    wanted = Manager(pipeline.to_secure(phi, options)).run(artifact.tensor_module)
    found = artifact.secure_module
    if print_module(wanted) == artifact.secure_text:
        return
    position, what = first_difference(found.main, wanted.main)
    if position < 0:
        yield _refused("E-verify-secure", "its text or attributes are other ones", "secure.mpcc")
        return
    where = f"op {position}"
    if position < len(found.main.ops):
        op = found.main.ops[position]
        where += f" {op.name}" + (f" (from {op.loc})" if op.loc else "")
    yield _refused(
        "E-verify-secure", f"the tensor program and the formats give another one: {what}", where
    )


def _same(found: Any, wanted: Any) -> bool:
    """Equal as JSON, where 1, 1.0 and true differ."""
    a, b = (json.dumps(_listed(x), sort_keys=True) for x in (found, wanted))
    return a == b


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _listed(v) for k, v in value.items()}
    return [_listed(v) for v in value] if isinstance(value, list | tuple) else value


def _check_interface(artifact: Artifact) -> Iterator[Diagnostic]:
    """Inputs are those of the secure program, outputs those of the tensor program."""
    inputs = [
        {key: op.attrs[key] for key in (*_PORTS, "lo", "hi")}
        | ({"rows": op.attrs["rows"]} if op.attrs["rows"] else {})
        for op in artifact.secure_module.main.walk("secure.input")
    ]
    outputs = outputs_of(artifact.tensor_module)
    for what, found, wanted in (
        ("inputs", artifact.inputs, inputs),
        ("outputs", artifact.outputs, outputs),
    ):
        if not _same(found, wanted):
            yield _refused(
                "E-verify-interface", f"the manifest has other {what} than the program", what
            )


def _check_manifest(artifact: Artifact) -> Iterator[Diagnostic]:
    """Fields that are the same for every program."""
    places = [f"P{i}" for i in range(3)]
    for key, wanted in (("places", places), ("owners", list(OWNER_PLACES))):
        if artifact.manifest[key] != wanted:
            yield _refused("E-verify-manifest", f"{key} are not {', '.join(wanted)}", key)


def _check_options(artifact: Artifact, options: FormatOptions) -> Iterator[Diagnostic]:
    """Options are recorded as they are for what they disclose, and no other."""
    wanted = options.public()
    # Older files have fewer.
    if not _same({**wanted, **artifact.manifest["formats"]}, wanted):
        yield _refused("E-verify-manifest", "formats has an option that is not recorded", "formats")


def check_derived(artifact: Artifact, program: Module | None) -> list[Diagnostic]:
    """All that differs from what it is derived from.

    Args:
        artifact: its secure program could be read; nothing else is known of it.
        program: its party program; None if that could not be read.
    """
    problems: list[Diagnostic] = list(_check_manifest(artifact))
    try:
        module = artifact.tensor_module
        for name, text, made in (
            ("tensor.mpcc", artifact.tensor_text, module),
            ("secure.mpcc", artifact.secure_text, artifact.secure_module),
        ):
            if text != print_module(made):
                what = "not the text that its own program has: it may say more"
                problems.append(_refused("E-verify-text", what, name))
        if artifact.manifest["format"] != format_version(artifact.secure_module):
            what = "format: not the version that its program is written in"
            problems.append(_refused("E-verify-text", what, "manifest.json"))
        for name in artifact.odd_entries:
            problems.append(_refused("E-verify-text", "not in the form that is written", name))
        if artifact.is_odd_file:
            problems.append(
                Diagnostic(
                    "E-verify-bytes",
                    "the file has other bytes than are written for its entries: it may hold more",
                    "zip file",
                    "write it again before it is given away: mpcc.artifact.Artifact.load(path)"
                    ".save(path); compile the model again",
                )
            )
        phi = Phi.from_json(json.dumps(dict(artifact.phi)))
        options = artifact.formats
        problems += _check_options(artifact, options)
        problems += _check_interface(artifact)
        problems += _check_secure(artifact, phi, options)
        problems += _check_phi(phi, options, module)
    except MpccError as error:
        problems += error.diagnostics
    if program is not None:
        try:
            same = _same(artifact.cost, cost_of(program))
        except MpccError as error:
            problems += error.diagnostics
        else:
            if not same:
                what = "the predicted cost is not that of the program"
                problems.append(_refused("E-verify-cost", what, "cost.json"))
    return problems
