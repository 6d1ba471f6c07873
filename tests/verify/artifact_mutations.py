"""Artifacts that lie: about formats, interface, cost or texts, or with a program made to match.

Every mutant is a well-formed artifact whose hashes agree, so that only the leak checker can refuse
it; ``codes`` are the refusals of which one must occur.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpcc.artifact import Artifact
from mpcc.errors import MpccError
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.define import InferenceError
from mpcc.ir.ops import secure, tensor
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from mpcc.verify_program import lower_again
from mpcc.verify_program.derived import cost_of

Manifest = dict[str, Any]


@dataclass
class Lie:
    """A mutated artifact and the codes of which one must be among the refusals."""

    name: str
    codes: tuple[str, ...]
    data: bytes


def entries_of(artifact: Artifact) -> dict[str, bytes]:
    """The unpacked entries."""
    with zipfile.ZipFile(io.BytesIO(artifact.to_bytes())) as file:
        return {name: file.read(name) for name in file.namelist()}


def packed(entries: dict[str, bytes], edit: Callable[[Manifest], object] | None = None) -> bytes:
    """The file with hashes that agree."""
    manifest = json.loads(entries["manifest.json"])
    for name in manifest["entries"]:
        manifest["entries"][name] = hashlib.sha256(entries[name]).hexdigest()
    manifest["program_sha256"] = manifest["entries"]["program.pb"]
    if edit is not None:
        edit(manifest)
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    return Artifact(manifest, {**entries, "manifest.json": text.encode()}).to_bytes()


# --- lies in the manifest ------------------------------------------------------------------------


def _phi_edits(artifact: Artifact) -> Iterator[tuple[str, str, Callable[[Manifest], object]]]:
    phi = artifact.phi

    def put(key: str, value: Any) -> Callable[[Manifest], object]:
        return lambda m: m["phi"].update({key: value})

    for key in ("frac", "weight_frac", "weight_bits"):
        for step in (-1, 1):
            yield f"{key}{step:+}", "E-verify-secure", put(key, phi[key] + step)
    ranges = [list(row) for row in phi["ranges"]]
    for n, (op, bits) in enumerate(ranges):
        changed = [*ranges[:n], [op, bits + 1], *ranges[n + 1 :]]
        yield f"range of {op}", "E-verify-secure", put("ranges", changed)
    yield "a range less", "E-phi-mismatch", put("ranges", ranges[1:])
    ops = artifact.tensor_module.main.ops
    for kind in ("tensor.weight", "tensor.output"):
        spare = next(i for i, op in enumerate(ops) if op.name == kind)
        more = sorted([*ranges, [spare, 3]])
        yield f"a range of {kind}", "E-verify-phi|E-phi-mismatch", put("ranges", more)
    unused = next(i for i, op in enumerate(ops) if op.name == "tensor.weight")
    yield "a clamp of a weight", "E-verify-phi", put("clamps", [[unused, 5]])
    yield "an enforced range of a weight", "E-verify-phi", put("inputs", [[unused, 5]])
    entry = next(i for i, op in enumerate(ops) if op.name == "tensor.input")
    yield "an enforced range", "E-verify-phi", put("inputs", [[entry, 7]])
    yield "another ring", "E-verify-secure|E-lower-format", put("ring", 96 - phi["ring"])
    yield "another ring of an op", "E-verify-secure", put("others", [entry])
    yield "another ring of a weight", "E-phi-mismatch", put("others", [unused])
    yield "no op in the other ring", "E-phi-format", put("others", [])
    yield "malformed", "E-phi-format", put("ring", 63)
    policy = "observed" if phi["policy"] != "observed" else "proved"
    yield "policy", "E-verify-secure", put("policy", policy)


def _format_edits(artifact: Artifact) -> Iterator[tuple[str, str, Callable[[Manifest], object]]]:
    found = artifact.manifest["formats"]

    def put(**values: Any) -> Callable[[Manifest], object]:
        return lambda m: m["formats"].update(values)

    if found["disclose"] == "none":
        yield "another weight range", "E-verify-phi", put(weight_range=64.0)
        yield "another value range", "E-verify-phi", put(value_range=3.0)
        yield "other fraction bits", "E-verify-phi", put(fraction_bits=11)
        ring = artifact.manifest["phi"]["ring"]
        yield "a ring that was not declared", "E-verify-phi", put(ring=96 - ring)
    else:
        yield "claims to disclose nothing", "E-verify-phi", put(disclose="none")
        yield "claims one range", "E-verify-phi", put(disclose="per-model")
        yield "a ring that nobody asked for", "E-verify-manifest", put(ring=64)
    yield "unknown disclosure", "E-option-disclose", put(disclose="some")


def _port_edits(artifact: Artifact) -> Iterator[tuple[str, str, Callable[[Manifest], object]]]:
    changes: dict[str, dict[str, Any]] = {
        "inputs": {"name": "z", "shape": [1, 1], "owner": "model", "lo": -0.25, "hi": 0.25},
        "outputs": {"name": "z", "shape": [9], "owner": "model"},
    }
    for key, fields in changes.items():
        for field, value in fields.items():

            def edit(m: Manifest, key: str = key, field: str = field, value: Any = value) -> None:
                m[key][0][field] = value

            yield f"{key}: {field}", "E-verify-interface", edit

        def less(m: Manifest, key: str = key) -> None:
            m[key].pop()

        def more(m: Manifest, key: str = key) -> None:
            m[key].append({**m[key][0], "name": "more"})

        yield f"{key}: one less", "E-verify-interface", less
        yield f"{key}: one more", "E-verify-interface", more


def _manifest_edits(artifact: Artifact) -> Iterator[tuple[str, str, Callable[[Manifest], object]]]:
    yield from _phi_edits(artifact)
    yield from _format_edits(artifact)
    yield from _port_edits(artifact)
    yield "places", "E-verify-manifest", lambda m: m["places"].reverse()
    yield "fewer places", "E-verify-manifest", lambda m: m["places"].pop()
    yield "owners", "E-verify-manifest", lambda m: m["owners"].reverse()
    yield "protocol", "E-leak-program", lambda m: m.update(protocol="ref")
    yield "format", "E-verify-text", lambda m: m.update(format=5 - m["format"])


# --- lies in the cost and in texts ---------------------------------------------------------------


def _cost_edits() -> Iterator[tuple[str, Callable[[dict[str, Any]], object]]]:
    def more(table: dict[str, Any], key: str) -> None:
        table[key] += 1

    yield "rounds", lambda c: more(c, "rounds")
    yield "messages", lambda c: more(c, "messages")
    yield "bytes", lambda c: more(c["bytes_sent"], "0->1")
    yield "setup", lambda c: more(c["setup"], "rounds")
    yield "seconds", lambda c: more(c["network_seconds"]["wan"], "online")
    yield "a network", lambda c: c["network_seconds"].update(mine={"online": 0.0})
    yield "a layer's name", lambda c: c["ops"][0].update(name="free")
    yield "a layer's bytes", lambda c: c["ops"][-1].update(messages=0)
    yield "a layer less", lambda c: c["ops"].pop()
    yield "a message of its own", lambda c: c.update(hello="weights")


def _text_edits(entries: dict[str, bytes]) -> Iterator[tuple[str, dict[str, bytes]]]:
    for name in ("tensor.mpcc", "secure.mpcc"):
        text = entries[name]
        yield f"{name}: a comment", {name: text + b"// w0 = 0.1234\n"}
        yield f"{name}: spaces", {name: text.replace(b"  %0", b"   %0", 1)}
        yield f"{name}: numbers of values", {name: text.replace(b"%0", b"%777")}
    compact = json.dumps(json.loads(entries["cost.json"])).encode()
    yield "cost.json: another form", {"cost.json": compact}


# --- other programs, made to match ---------------------------------------------------------------


HARMLESS = {("tensor.input", "whole")}
"""What only the analysis reads, to draw samples: it changes nothing of what runs or is opened."""


def _attribute_edits(op: Op) -> Iterator[tuple[str, Any]]:
    for key, value in op.attrs.items():
        if (op.name, key) in HARMLESS:
            continue
        if type(value) is bool:
            yield key, not value
        elif type(value) is int:
            yield key, value + 1
            yield key, value - 1
        elif isinstance(value, float):
            yield key, value + 0.5
        elif isinstance(value, str) and key in ("owner", "rounding", "name"):
            others = {
                "owner": ("model", "client", "public"),
                "rounding": ("exact", "stochastic"),
                "name": ("z",),
            }[key]
            for other in others:
                if other != value:
                    yield key, other
        elif isinstance(value, tuple) and value and all(type(v) is int for v in value):
            yield key, (*value[:-1], value[-1] + 1)
            if len(set(value)) > 1:
                yield key, value[::-1]


def _variants(text: str, dialect: Any) -> Iterator[tuple[str, Module]]:
    """Valid programs that differ in one attribute, operand or op."""

    def fresh() -> Module:
        return parse_module(text, {dialect.level: dialect})

    original = fresh()
    for i, op in enumerate(original.main.ops):
        for key, value in _attribute_edits(op):
            module = fresh()
            module.main.ops[i].attrs[key] = value
            yield f"{i} {op.name} {key} = {value}", module
        if len(op.operands) > 1:
            module = fresh()
            module.main.ops[i].operands = module.main.ops[i].operands[::-1]
            yield f"{i} {op.name} operands", module
        if len(op.results) == 1 and op.operands:
            for operand in range(len(op.operands)):
                module = fresh()
                gone = module.main.ops[i]
                if gone.result.type == gone.operands[operand].type:
                    module.main.replace_uses({gone.result: gone.operands[operand]})
                    module.main.ops.remove(gone)
                    yield f"{i} {op.name} left out", module


def _settled(module: Module, dialect: Any) -> Module | None:
    """The program with types inferred anew; None if it is none."""
    made = Module(module.level, dict(module.attrs))
    values: dict[Value, Value] = {}
    try:
        for op in module.main.ops:
            operands = [values[v] for v in op.operands]
            new = made.main.append(op.definition, operands, op.attrs, op.loc)
            values.update(zip(op.results, new.results, strict=True))
        verify(made, dialect)
    except (MpccError, InferenceError, KeyError):
        return None
    return made


def _changed(text: str, dialect: Any, count: int, seed: int) -> Iterator[tuple[str, Module]]:
    """Up to ``count`` valid programs other than this one."""
    found = list(_variants(text, dialect))
    made = 0
    for n in np.random.default_rng(seed).permutation(len(found)):
        name, module = found[n]
        settled = _settled(module, dialect)
        if made < count and settled is not None and print_module(settled) != text:
            made += 1
            yield name, settled


def program_lies(artifact: Artifact, count: int) -> Iterator[Lie]:
    """Another tensor or secure program; of a secure one, program and cost agree with it."""
    entries = entries_of(artifact)
    for name, made in _changed(artifact.secure_text, secure.DIALECT, count, 1):
        try:
            party, program = lower_again(made, artifact.protocol)
        except (MpccError, AssertionError):
            continue
        cost = json.dumps(cost_of(party), indent=1, sort_keys=True) + "\n"
        other = {
            **entries,
            "secure.mpcc": print_module(made).encode(),
            "program.pb": program,
            "cost.json": cost.encode(),
        }
        yield Lie(f"secure/{name}", ("E-verify-secure",), packed(other))
    for name, made in _changed(artifact.tensor_text, tensor.DIALECT, count // 2, 2):
        other = {**entries, "tensor.mpcc": print_module(made).encode()}
        codes = ("E-verify-secure", "E-phi-mismatch", "E-lower-format", "E-lower-op")
        yield Lie(f"tensor/{name}", codes, packed(other))


def lies(artifact: Artifact, count: int = 40) -> Iterator[Lie]:
    """Mutants of one good artifact; up to ``count`` with another secure program."""
    entries = entries_of(artifact)
    for name, code, edit in _manifest_edits(artifact):
        yield Lie(f"manifest/{name}", tuple(code.split("|")), packed(entries, edit))
    for name, change in _cost_edits():
        cost = json.loads(entries["cost.json"])
        change(cost)
        text = json.dumps(cost, indent=1, sort_keys=True) + "\n"
        other = {**entries, "cost.json": text.encode()}
        yield Lie(f"cost/{name}", ("E-verify-cost",), packed(other))
    for name, changed in _text_edits(entries):
        yield Lie(f"text/{name}", ("E-verify-text",), packed({**entries, **changed}))
    yield from program_lies(artifact, count)
