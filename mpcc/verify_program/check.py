"""The leak checker: decode the program that will run, and check rules a to f.

``docs/leak-checker.md`` has the rules, the proofs, and what is not covered.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpcc.artifact import Artifact
from mpcc.emit.graphdef import emit, parse
from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.calls import numbered
from mpcc.ir.core import Module
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.local import public_names
from mpcc.ir.phi import DECLARED
from mpcc.ir.schedule import SETUP
from mpcc.ir.types import COMPUTE_PLACES, BitsType, ClearType, RingType
from mpcc.ir.verify import verify
from mpcc.passes import pipeline
from mpcc.passes.base import Manager
from mpcc.protocols import PROTOCOLS, lower_program, protocol_named
from mpcc.verify_program.derived import check_derived, public_constants
from mpcc.verify_program.difference import first_difference
from mpcc.verify_program.local import check_owners, computed, scores
from mpcc.verify_program.peeling import peel
from mpcc.verify_program.policy import Policy, declared_policy, place_name
from mpcc.verify_program.program import (
    FlatOp,
    Program,
    check_locality,
    check_streams,
    flatten,
)
from mpcc.verify_program.report import Observer, Report
from mpcc.verify_program.reveals import Opening, is_plain, left_out, openings

__all__ = [
    "Checked",
    "check_program",
    "compare_with_lowering",
    "lower_again",
    "verify_artifact",
]

TRUSTED = (
    "this checker, the reader of the program, and the protocol's rules as tested: that the program "
    "computes what the secure program says rests on them",
    "that the tensor program is the intended model: compile it yourself, or compare its text",
    "AES-128 as a pseudorandom function; keys that only their holders have; TLS 1.3",
    "that each place runs this program (hashes are compared) and the engine executes it as the "
    "reference does",
    "that places beyond those named in a row do not tell each other more than the program sends",
    "what outputs give away of inputs and weights, as the function itself does",
    "the model owner, for correct answers: with other weights, or with ranges of values that are "
    "narrower than they should be, they are wrong, which nothing here shows",
)
"""What the verdict rests on, for the report."""


# --- rules a to e --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    """Rules a to e of one program.

    Attributes:
        observers: every place alone, then the coalitions of the policy.
        problems: of places, streams and the policy.
        ops: number of ops of the opened program.
    """

    observers: tuple[Observer, ...]
    problems: tuple[Diagnostic, ...]
    ops: int

    @property
    def all_problems(self) -> tuple[Diagnostic, ...]:
        """Those of the program, then of each observer."""
        return (*self.problems, *(p for o in self.observers for p in o.problems))


def _check_policy(program: Program, policy: Policy) -> list[Diagnostic]:
    """Inputs and outputs stand where the policy says, each output once."""
    problems: list[Diagnostic] = []
    seen: set[str] = set()
    sources: dict[str, str] = {}
    for op in program.ops:
        name = op.attrs.get("name", "")
        public = name in policy.public and not op.args
        if public and sources.setdefault(name, op.name) != op.name:
            what = f"public {name!r} names an input and a weight"
            problems.append(Diagnostic("E-leak-public", what, op.where))
        if op.name == "party.output":
            owner = policy.outputs.get(name)
            if owner is None:
                what = f"the policy names no output {name!r}"
            elif owner != op.place:
                what = f"output {name!r} belongs to {owner}, not to {op.place}"
            elif name in seen:
                what = f"output {name!r} is given twice"
            else:
                seen.add(name)
                continue
        elif op.name == "party.input":
            owner = policy.inputs.get(name)
            if owner == op.place:
                continue
            what = f"input {name!r} is read at {op.place}, the policy says {owner or 'nothing'}"
        else:
            continue
        problems.append(Diagnostic("E-leak-reveal", what, op.where))
    return problems


def _nbytes(op: FlatOp) -> int:
    return op.type.nbytes if isinstance(op.type, RingType | BitsType) else 0


def _sentence(
    opened: Sequence[Opening], program: Program, masked: int, coalition: bool, public: bool
) -> str:
    parts = []
    for opening in opened:
        type_ = program.ops[program.ops[opening.output].args[0]].type
        shape = "x".join(map(str, type_.shape)) if isinstance(type_, ClearType) else ""
        parts.append(f"the output {opening.name!r} ({shape or 'scalar'})")
    learns = " and ".join(parts) if parts else "nothing"
    if parts:
        learns += " and rounding coins" if coalition else ""
        learns += ", nothing else"
    beside = " (beside what is public)" if public else ""
    if not masked and not parts:
        return f"learns nothing{beside}: no message with a secret in it arrives"
    uniform = f"; {masked} parts of messages are proved uniform" if masked else ""
    return f"learns {learns}{beside}{uniform}"


def _observe(program: Program, receivers: frozenset[str], policy: Policy) -> Observer:
    computing = not receivers.isdisjoint(COMPUTE_PLACES)
    allowed = [o for o in openings(program, receivers) if policy.outputs.get(o.name) == o.owner]
    # A value that an owner makes of messages in another way than by adding them up is no opening.
    plain = [o for o in allowed if computing or is_plain(program, o, receivers)]
    chosen = (left_out(o, allowed) for o in plain)
    # Who also computes knows coins that the opened value depends on: it counts as the function
    # that rule f shows it to be. Alone, an owner must be safe whatever the opened value is.
    fixed = [] if computing else [t for o in allowed for t in o.terms]
    result = peel(program, receivers, policy.public, {m for m in chosen if m is not None}, fixed)
    arriving = [
        op
        for op in program.transfers()
        if op.place in receivers and program.source[op.id] not in receivers
    ]
    setup = sum(_nbytes(op) for op in arriving if op.phase == SETUP)
    masked = len(result.order)
    learns = (
        "may learn a secret"
        if result.left
        else _sentence(allowed, program, masked, computing, bool(policy.public))
    )
    return Observer(
        places=place_name(receivers),
        messages=len(arriving),
        setup_bytes=setup,
        run_bytes=sum(map(_nbytes, arriving)) - setup,
        masked=masked,
        opened=tuple(o.name for o in allowed),
        learns=learns,
        problems=result.problems,
    )


def check_program(module: Module, policy: Policy) -> Checked:
    """Rules a to e on a verified party module; near-linear in its ops for every observer.

    Nothing of the module is believed but its ops: labels, regions and attributes of the module
    play no part.
    """
    program = flatten(module)
    problems = check_locality(program)
    if problems:
        # Without places there is no telling who sees what.
        return Checked((), tuple(problems), len(program.ops))
    problems = check_streams(program) + _check_policy(program, policy)
    observers = tuple(_observe(program, r, policy) for r in policy.observers())
    return Checked(observers, tuple(problems), len(program.ops))


# --- rule f --------------------------------------------------------------------------------------


def lower_again(secure: Module, protocol: str) -> tuple[Module, bytes]:
    """The party program that a verified secure program gives, and its GraphDef.

    Raises:
        MpccError: the protocol does not exist or does not offer an op.
    """
    lowering = protocol_named(protocol)
    passes = pipeline.to_party(lambda level: lower_program(level, lowering).party)
    try:
        module = Manager(passes).run(secure)
    # Rules of a protocol raise these on share kinds that compile never brings together.
    except (TypeError, ValueError, LookupError) as error:
        raise MpccError.of("E-leak-program", f"cannot be lowered: {error}") from None
    return module, emit(module)


def compare_with_lowering(
    program: bytes, module: Module | None, wanted: Module, wanted_program: bytes
) -> list[Diagnostic]:
    """Rule f: the program is, byte for byte, what lowering the secure program again gave.

    Args:
        program: the GraphDef that will run.
        module: what it decodes to, to say where it differs; None if that is not known.
        wanted: of :func:`lower_again`.
        wanted_program: its GraphDef.
    """

    def refused(what: str, where: str = "") -> list[Diagnostic]:
        return [Diagnostic("E-leak-program", what, where, "compile the model again")]

    if wanted_program == program:
        return []
    if module is None:
        return refused("the program is not the one that the secure program gives")
    position, what = first_difference(module.main, wanted.main)
    if position < 0 and list(module.functions) == list(wanted.functions):
        for name, function in wanted.functions.items():
            found = module.functions[name]
            at, what = first_difference(found, function)
            if at >= 0:
                return refused(
                    f"the secure program gives another function: {what}", f"@{name}, op {at}"
                )
    if position < 0:
        return refused(
            "the program's attributes or its encoding are not what the secure program gives"
        )
    where = f"node n{position}"
    if position < len(module.main.ops):
        op = module.main.ops[position]
        places = {getattr(v.type, "place", "") for v in (*op.results, *op.operands)}
        step = f", step {op.attrs['step']!r}" if "step" in op.attrs else ""
        where += f" {op.name} at {', '.join(sorted(places))}{step}"
        where += f" (from {op.loc})" if op.loc else ""
    return refused(f"the secure program gives another program: {what}", where)


# --- the whole -----------------------------------------------------------------------------------


def _ranges(artifact: Artifact) -> str:
    """What the ranges of values rest on: nothing that was found here, unless all were declared."""
    policy = str(artifact.phi.get("policy"))
    if policy == DECLARED:
        return "promised by the model owner, not checked; beyond them the answer is wrong"
    if artifact.disclosed_bits == 0:
        return "proved again here, from the declared ranges of inputs and weights"
    return (
        f"the model owner's claim ({policy}), not checked, since only its weights can prove them: "
        "if they are too narrow, answers are wrong"
    )


def _formats(phi: Mapping[str, Any]) -> str:
    """All of Phi, for people: ``op:bits`` for ranges, inputs and clamps."""
    parts = []
    for key, value in sorted(phi.items()):
        if isinstance(value, list):
            rows = (":".join(map(str, row)) if isinstance(row, list) else str(row) for row in value)
            parts.append(f"{key} {' '.join(rows) or 'none'}")
        else:
            parts.append(f"{key} {value}")
    return ", ".join(parts)


def _disclosed(artifact: Artifact, secure: Module) -> dict[str, Any]:
    weights = [op for op in secure.main.ops if op.name == "secure.weight"]
    how = "declared, " if artifact.disclosed_bits == 0 else ""
    return {
        "formats": f"{how}{artifact.disclosed_bits} bits: {_formats(artifact.phi)}",
        "ranges": _ranges(artifact),
        "constants": public_constants(artifact.tensor_module),
        "architecture": f"{len(numbered(secure))} fixed-point ops with their shapes and attributes",
        "input shapes": {p["name"]: list(p["shape"]) for p in artifact.inputs},
        "output shapes": {p["name"]: list(p["shape"]) for p in artifact.outputs},
        "weight shapes": f"of {len(weights)} weights",
        "public values": sorted(
            declared_policy(secure).public.union(public_names(artifact.tensor_module))
        ),
        "computed by owners before sharing": computed(artifact.tensor_module),
        "scores that are opened": scores(artifact.tensor_module),
    }


def verify_artifact(artifact: Artifact, policy: Policy | None = None) -> Report:
    """Check the program of an artifact.

    Args:
        artifact: a loaded artifact; it is not trusted.
        policy: who may learn what; by default as the artifact declares, which the report says.

    Returns:
        The report; what is wrong with the program is in it and raises nothing.

    Raises:
        MpccError: the artifact has no tensor or secure program that can be read, or its formats
            are malformed.
    """
    start = time.perf_counter()
    secure = artifact.secure_module
    declared = declared_policy(secure)
    names = public_names(artifact.tensor_module)
    logits = frozenset(scores(artifact.tensor_module))
    declared = replace(declared, public=declared.public.union(names), logits=logits)
    chosen = policy or declared
    problems: list[Diagnostic] = []
    checked = Checked((), (), 0)
    module: Module | None = None
    try:
        module = parse(artifact.program)
        verify(module, DIALECTS["party"])
    except MpccError as error:
        problems += error.diagnostics
    else:
        checked = check_program(module, chosen)
    problems += checked.problems
    try:
        wanted = lower_again(secure, artifact.protocol)
    except MpccError as error:
        problems += error.diagnostics
    else:
        problems += compare_with_lowering(artifact.program, module, *wanted)
    problems += check_derived(artifact, module)
    try:
        problems += check_owners(artifact, chosen)
    except MpccError as error:
        problems += error.diagnostics
    lowering = PROTOCOLS.get(artifact.protocol)
    return Report(
        program_sha256=artifact.program_sha256,
        protocol=artifact.protocol,
        threat_model=lowering.threat_model if lowering else "unknown",
        policy=chosen.source,
        ops=checked.ops,
        observers=checked.observers,
        problems=tuple(problems),
        disclosed=_disclosed(artifact, secure),
        trusted=TRUSTED,
        seconds=time.perf_counter() - start,
    )
