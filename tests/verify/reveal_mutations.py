"""Mutants of the last step: opened to somebody else, without masks, or something else is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mpcc.ir.core import Module, Op, Value, make_op
from mpcc.ir.ops import party
from mpcc.ir.types import PLACES, RingType, place_of
from mpcc.verify_program.program import DRAWS
from tests.verify.mutations import (
    COMBINE,
    Editor,
    Mutant,
    mutate_exposed,
    mutate_labels,
    mutate_masks,
    mutate_regions,
    mutate_reuse,
    mutate_streams,
    origin,
    step_of,
)


@dataclass(frozen=True)
class Reveal:
    """One output of a program before fusion, as positions of ops."""

    label: str
    owner: str
    transfers: Sequence[int]
    local: Sequence[int]
    """What the owner does with the messages, the output op included."""

    @property
    def additive(self) -> bool:
        """Three summands: opened without being reshared; products masked by shares of zero."""
        return len(self.transfers) == 3


def reveals(module: Module, name: str) -> Iterator[Reveal]:
    """All outputs that are opened by messages."""
    main = module.main.ops
    position = {op: i for i, op in enumerate(main)}
    for output, op in enumerate(main):
        if op.name != "party.output":
            continue
        transfers: set[int] = set()
        local, stack = {output}, list(op.operands)
        while stack:
            made = origin(stack.pop())
            if made.name == "party.transfer":
                transfers.add(position[made])
            else:
                local.add(position[made])
                stack += made.operands
        if transfers:
            owner = place_of(op.operands[0].type)
            label = f"{name}/{{}}/{op.attrs['name']}"
            yield Reveal(label, owner, sorted(transfers), sorted(local))


def is_draw(value: Value) -> bool:
    return value.op is not None and value.op.name in DRAWS


def mask_terms(op: Op) -> list[Value]:
    """Operands of a summand's last op that are draws, or differences of draws."""
    return [
        v
        for v in op.operands
        if is_draw(v) or (origin(v).name == "party.sub" and all(map(is_draw, origin(v).operands)))
    ]


def to_others(module: Module, reveal: Reveal) -> Iterator[Mutant]:
    """All of the reveal at another place; a copy of its messages to another place."""
    main = module.main.ops
    sources = {place_of(main[t].operands[0].type) for t in reveal.transfers}
    for to in ("client", "model", "P1"):
        if to == reveal.owner or to in sources:
            continue
        e = Editor(module)
        mapping: dict[Value, Value] = {}
        for i in sorted((*reveal.transfers, *reveal.local)):
            old = e.ops[i]
            attrs = {**old.attrs, "to": to} if i in reveal.transfers else old.attrs
            operands = [mapping.get(v, v) for v in old.operands]
            new = make_op(old.definition, operands, attrs, old.loc)
            e.module.main.ops[e.module.main.ops.index(old)] = new
            mapping.update(zip(old.results, new.results, strict=True))
        yield Mutant("leak", reveal.label.format(f"reveal-to-{to}"), e.done())
    for to in PLACES:
        if to == reveal.owner:
            continue
        e = Editor(module)
        for t in reveal.transfers:
            old = e.ops[t]
            if place_of(old.operands[0].type) != to:
                e.send(old.operands[0], to, old.loc, step_of(old))
        yield Mutant("leak", reveal.label.format(f"reveal-also-to-{to}"), e.done())


def without_masks(module: Module, reveal: Reveal) -> Iterator[Mutant]:
    """Summands as they are, or under masks that the owner can make.

    Summands of an additive value are products, and nothing else masks them. A fresh sharing stays
    hidden by its own last step, so that only rule f objects.
    """
    kind = "leak" if reveal.additive else "wrong"
    steps = tuple(step_of(module.main.ops[t]) for t in reveal.transfers) if reveal.additive else ()
    e = Editor(module)
    for t in reveal.transfers:
        combine = origin(e.ops[t].operands[0])
        for mask in mask_terms(combine):
            for draw in [mask, *origin(mask).operands]:
                if is_draw(draw):
                    holders = {*origin(draw).attrs["key"].split("+"), reveal.owner}
                    for op in e.draws(origin(draw)):
                        op.attrs["key"] = "+".join(p for p in PLACES if p in holders)
    yield Mutant(kind, reveal.label.format("reveal-known-mask"), e.done(), steps)

    e = Editor(module)
    for t in reveal.transfers:
        value = e.ops[t].operands[0]
        masks = mask_terms(origin(value))
        rest = [v for v in origin(value).operands if v not in masks]
        if origin(value).name in COMBINE and len(rest) == 1:
            e.replace_operand(e.ops[t], value, rest[0])
    yield Mutant(kind, reveal.label.format("reveal-unmasked"), e.done(), steps)


def other_values(module: Module, reveal: Reveal, seed: int) -> Iterator[Mutant]:
    """Masks that do not cancel; the value plus a constant; another value of the program."""
    main, rng = module.main.ops, np.random.default_rng(seed)
    first = reveal.transfers[0]
    e = Editor(module)
    transfer, value = e.ops[first], e.ops[first].operands[0]
    assert isinstance(value.type, RingType)
    top = e.insert(transfer, party.ShiftLeft, (value,), amount=value.type.ring - 1)
    e.replace_operand(transfer, value, e.insert(transfer, party.Add, (value, top)))
    steps = tuple(step_of(main[t]) for t in reveal.transfers)
    yield Mutant("leak", reveal.label.format("reveal-more"), e.done(), steps)

    e = Editor(module)
    transfer, value = e.ops[first], e.ops[first].operands[0]
    e.replace_operand(transfer, value, e.insert(transfer, party.AddConst, (value,), value=7))
    yield Mutant("wrong", reveal.label.format("reveal-plus-7"), e.done())

    combine = origin(main[first].operands[0])
    at = main.index(combine)
    for index, operand in enumerate(combine.operands):
        others = [
            i
            for i, op in enumerate(main[:at])
            if op.results
            and op.result.type == operand.type
            and op.result is not operand
            and op.name not in DRAWS
        ]
        if is_draw(operand) or not others:
            continue
        e = Editor(module)
        e.ops[at].operands[index] = e.ops[int(rng.choice(others))].result
        yield Mutant("wrong", reveal.label.format(f"reveal-other-{index}"), e.done())


def mutants(module: Module, name: str, seed: int) -> Iterator[Mutant]:
    """All mutants of one program before fusion."""
    yield from mutate_masks(module, name, 4, seed)
    yield from mutate_reuse(module, name, 8, seed)
    yield from mutate_streams(module, name, 4, seed)
    for reveal in reveals(module, name):
        yield from to_others(module, reveal)
        yield from without_masks(module, reveal)
        yield from other_values(module, reveal, seed)
    yield from mutate_regions(module, name, 16, seed)
    yield from mutate_labels(module, name, seed)
    yield from mutate_exposed(module, name, 5, seed)
