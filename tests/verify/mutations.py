"""Wrong programs made from good ones: masks dropped, reused, weakened, messages sent elsewhere.

A mutant is made on the program before fusion, by editing a copy; a few edit the fused regions. What
masks what is taken from the checker's own proof of the good program, so that the mutations hit.

Kinds:
    leak: somebody learns a secret; the rules on messages and streams must refuse it alone.
    wrong: the program computes or reveals something else, or a label lies; rule f must refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpcc.ir.core import Module, Op, Value, make_op
from mpcc.ir.define import Operation
from mpcc.ir.ops import party
from mpcc.ir.types import PLACES, BitsType, RingType, element_count, place_of
from mpcc.verify_program.peeling import knowledge, peel
from mpcc.verify_program.program import DRAWS, Program, flatten
from tests.verify.programs import PUBLIC, fused

COMBINE = ("party.add", "party.sub", "party.xor")


@dataclass
class Mutant:
    """A mutated program, fused and ready to be emitted."""

    kind: str
    name: str
    module: Module
    steps: tuple[str, ...] = ()
    """Steps of the messages that leak; one of them must be named by the refusal."""


@dataclass(frozen=True)
class Masked:
    """A part of a message and how its mask comes in, as positions of ops in the good program."""

    receiver: str
    message: int
    combine: int
    mask: int


class Editor:
    """A copy of a program with ops addressed by their position in the original."""

    def __init__(self, original: Module) -> None:
        self.module = original.clone()
        self.ops = list(self.module.main.ops)

    def insert(
        self, before: Op, definition: type[Operation], operands: Sequence[Value] = (), **attrs: Any
    ) -> Value:
        """A new op in front of another."""
        op = make_op(definition, operands, attrs, before.loc)
        self.module.main.ops.insert(self.module.main.ops.index(before), op)
        return op.result

    def send(self, value: Value, to: str, loc: str, step: str) -> None:
        """One more message at the end."""
        self.module.main.ops.append(
            make_op(party.Transfer, (value,), {"to": to, "step": step}, loc)
        )

    def replace_operand(self, op: Op, old: Value, new: Value) -> None:
        op.operands = [new if v is old else v for v in op.operands]

    def draws(self, like: Op) -> list[Op]:
        """All ops of the same draw, at all holders."""
        keys = ("key", "stream", "phase")
        return [
            op
            for op in self.module.main.ops
            if op.name in DRAWS and all(op.attrs[k] == like.attrs[k] for k in keys)
        ]

    def done(self) -> Module:
        return fused(self.module)

    def unfused(self) -> Module:
        """For mutants that the schedule refuses, which fusion needs: rules a to e do not."""
        return self.module


# --- what the good program's proof says ----------------------------------------------------------


def proof(program: Program, receiver: str) -> list[tuple[int, int, int]]:
    """(message, value of the part, mask) for every part that was peeled."""
    result = peel(program, frozenset({receiver}))
    return [(part.message, part.value, mask) for part, mask in result.order]


def masked_parts(module: Module) -> list[Masked]:
    """All masked parts of messages to every place, in the order of the program.

    Fused regions are absent before fusion, so numbers of the opened program are positions.
    """
    program = flatten(module)
    found = []
    for receiver in PLACES:
        for message, value, mask in proof(program, receiver):
            source = program.source[message]
            above, stack = set(), [value]
            while stack:
                at = stack.pop()
                if at not in above and program.ops[at].place == source:
                    above.add(at)
                    if program.ops[at].name != "party.transfer":
                        stack += program.ops[at].args
            for user in program.users[mask]:
                if user in above and program.ops[user].name in COMBINE:
                    found.append(Masked(receiver, message, user, mask))
                    break
    return sorted(found, key=lambda m: (m.message, m.combine))


def mask_operand(op: Op, mask: Op) -> Value:
    """The operand of a combination that is the draw, as it stands at that place."""
    keys = ("key", "stream", "phase")
    for value in op.operands:
        source = origin(value)
        if source.name in DRAWS and all(source.attrs[k] == mask.attrs[k] for k in keys):
            return value
    raise LookupError("no mask")


def origin(value: Value) -> Op:
    """The op that makes a value."""
    if value.op is None:
        raise LookupError("an argument")
    return value.op


def fresh_stream(module: Module) -> int:
    return 1 + max(op.attrs["stream"] for op in module.main.ops if op.name in DRAWS)


def step_of(op: Op) -> str:
    return op.attrs["step"]


# --- mutations of masked parts -------------------------------------------------------------------

Edit = Callable[[Editor, Masked], bool]


def drop_mask(e: Editor, m: Masked) -> bool:
    """The payload is sent as it is."""
    combine = e.ops[m.combine]
    mask = mask_operand(combine, e.ops[m.mask])
    payloads = [v for v in combine.operands if v is not mask]
    if len(payloads) != 1:
        return False
    (payload,) = payloads
    e.module.main.replace_uses({combine.result: payload})
    e.module.main.ops.remove(combine)
    return True


def cancel_mask(e: Editor, m: Masked) -> bool:
    """The mask is added and taken away again before sending."""
    combine = e.ops[m.combine]
    mask = mask_operand(combine, e.ops[m.mask])
    definition = {"party.add": party.Sub, "party.sub": party.Add, "party.xor": party.Xor}
    at = e.module.main.ops.index(combine) + 1
    back = make_op(definition[combine.name], (combine.result, mask), {}, combine.loc)
    if combine.name == "party.sub" and combine.operands[0] is mask:
        return False
    e.module.main.replace_uses({combine.result: back.result})
    e.module.main.ops.insert(at, back)
    return True


def known_mask(e: Editor, m: Masked) -> bool:
    """The sender masks with a key that the receiver holds."""
    combine = e.ops[m.combine]
    old = e.ops[m.mask]
    mask = mask_operand(combine, old)
    sender = place_of(combine.result.type)
    attrs = {**old.attrs, "place": sender, "stream": fresh_stream(e.module)}
    attrs["key"] = "+".join(p for p in PLACES if p in (sender, m.receiver))
    new = e.insert(combine, old.definition, **attrs)
    e.replace_operand(combine, mask, new)
    return True


def _weakened(weaken: Callable[[Editor, Op, Value], Value | None]) -> Edit:
    def edit(e: Editor, m: Masked) -> bool:
        combine = e.ops[m.combine]
        mask = mask_operand(combine, e.ops[m.mask])
        new = weaken(e, combine, mask)
        if new is None:
            return False
        e.replace_operand(combine, mask, new)
        return True

    return edit


def _shifted(e: Editor, at: Op, mask: Value) -> Value | None:
    if isinstance(mask.type, BitsType):
        other = {**origin(mask).attrs, "stream": fresh_stream(e.module)}
        return e.insert(at, party.And, (mask, e.insert(at, party.DrawBits, **other)))
    return e.insert(at, party.ShiftLeft, (mask,), amount=1)


def _shifted_right(e: Editor, at: Op, mask: Value) -> Value | None:
    if not isinstance(mask.type, RingType):
        return None
    return e.insert(at, party.ShiftRight, (mask,), amount=mask.type.ring - 2)


def _even(e: Editor, at: Op, mask: Value) -> Value | None:
    if isinstance(mask.type, BitsType):
        # One random bit for all planes that are two or more: anf repeats plane 0.
        if mask.type.planes < 2:
            return None
        return e.insert(at, party.Anf, (mask,), terms=(((0,),),) * mask.type.planes)
    return e.insert(at, party.MulConst, (mask,), value=6)


def _twice(e: Editor, at: Op, mask: Value) -> Value | None:
    definition = party.Xor if isinstance(mask.type, BitsType) else party.Add
    return e.insert(at, definition, (mask, mask))


def _low(e: Editor, at: Op, mask: Value) -> Value | None:
    if isinstance(mask.type, BitsType):
        return None
    return e.insert(at, party.LowBits, (mask,), count=3)


def _broadcast(e: Editor, at: Op, mask: Value) -> Value | None:
    type_ = mask.type
    if not isinstance(type_, RingType) or element_count(type_.shape) < 2:
        return None
    lanes = element_count(type_.shape)
    flat = e.insert(at, party.Reshape, (mask,), shape=(lanes,))
    one = e.insert(at, party.Slice, (flat,), starts=(0,), limits=(1,), strides=(1,))
    many = e.insert(at, party.Broadcast, (one,), shape=(lanes,), dims=(0,))
    return e.insert(at, party.Reshape, (many,), shape=type_.shape)


def _repeated(e: Editor, at: Op, mask: Value) -> Value | None:
    """One entry of the first axis stands for another."""
    type_ = mask.type
    if not isinstance(type_, RingType) or not type_.shape or type_.shape[0] < 2:
        return None
    if element_count(type_.shape) == 0:
        return None
    entries = (1, *range(1, type_.shape[0]))
    return e.insert(at, party.Gather, (mask,), axis=0, indices=entries)


def _times(e: Editor, at: Op, mask: Value) -> Value | None:
    """Multiplied by a value of the program, which may be even or zero."""
    if isinstance(mask.type, BitsType):
        return None
    ops = e.module.main.ops
    before = ops[: ops.index(at)]
    same = [o.result for o in before if o.results and o.result.type == mask.type]
    same = [v for v in same if v.op is not None and v.op.name not in DRAWS]
    return e.insert(at, party.Mul, (mask, same[-1])) if same else None


def setup_mask(e: Editor, m: Masked) -> bool:
    """The mask comes from the session's key, so every run uses it again."""
    if e.ops[m.mask].attrs["phase"] == "setup":
        return False
    stream = fresh_stream(e.module)
    for draw in e.draws(e.ops[m.mask]):
        draw.attrs.update(phase="setup", stream=stream)
    return True


def send_to_mask_holder(e: Editor, m: Masked) -> bool:
    """A holder of the mask's key receives the masked message as well."""
    transfer = e.ops[m.message]
    sender = place_of(transfer.operands[0].type)
    holders = [p for p in e.ops[m.mask].attrs["key"].split("+") if p not in (sender, m.receiver)]
    if not holders:
        return False
    at = e.module.main.ops.index(transfer)
    extra = make_op(
        party.Transfer, transfer.operands, {"to": holders[0], "step": step_of(transfer)}
    )
    extra.loc = transfer.loc
    e.module.main.ops.insert(at, extra)
    return True


def other_place(e: Editor, m: Masked) -> bool:
    """The masked value is sent to a place that holds the mask, in place of its receiver."""
    transfer = e.ops[m.message]
    sender = place_of(transfer.operands[0].type)
    holders = [p for p in e.ops[m.mask].attrs["key"].split("+") if p not in (sender, m.receiver)]
    if not holders:
        return False
    ops = e.module.main.ops
    elsewhere = make_op(
        party.Transfer, transfer.operands, {"to": holders[0], "step": step_of(transfer)}
    )
    again = make_op(
        party.Transfer, (elsewhere.result,), {"to": m.receiver, "step": step_of(transfer)}
    )
    elsewhere.loc = again.loc = transfer.loc
    at = ops.index(transfer)
    ops[at : at + 1] = [elsewhere, again]
    e.module.main.replace_uses({transfer.result: again.result})
    return True


LEAKS: dict[str, Edit] = {
    "drop-mask": drop_mask,
    "cancel-mask": cancel_mask,
    "known-mask": known_mask,
    "shifted-mask": _weakened(_shifted),
    "right-shifted-mask": _weakened(_shifted_right),
    "even-mask": _weakened(_even),
    "doubled-mask": _weakened(_twice),
    "low-bits-mask": _weakened(_low),
    "broadcast-mask": _weakened(_broadcast),
    "repeated-mask": _weakened(_repeated),
    "multiplied-mask": _weakened(_times),
    "setup-mask": setup_mask,
    "send-to-mask-holder": send_to_mask_holder,
    "relay-through-mask-holder": other_place,
}


def mutate_masks(module: Module, name: str, per_kind: int, seed: int) -> Iterator[Mutant]:
    """Each kind of weakening on a sample of the masked parts (reveals have their own)."""
    rng = np.random.default_rng(seed)
    all_parts = [m for m in masked_parts(module) if m.receiver in ("P0", "P1", "P2")]
    for kind, edit in LEAKS.items():
        made = 0
        for i in rng.permutation(len(all_parts)):
            if made == per_kind:
                break
            m = all_parts[i]
            e = Editor(module)
            if not edit(e, m):
                continue
            made += 1
            step = step_of(module.main.ops[m.message])
            yield Mutant("leak", f"{name}/{kind}/{m.message}-{m.combine}", e.done(), (step,))


def mutate_reuse(module: Module, name: str, count: int, seed: int) -> Iterator[Mutant]:
    """Two messages to one receiver under one mask."""
    rng = np.random.default_rng(seed)
    parts = [m for m in masked_parts(module) if m.receiver in ("P0", "P1", "P2")]
    pairs = []
    for i, a in enumerate(parts):
        for b in parts[i + 1 :]:
            x, y = module.main.ops[a.mask], module.main.ops[b.mask]
            same = (
                all(
                    x.attrs[k] == y.attrs[k]
                    for k in ("key", "phase", "shape", "lanes", "planes")
                    if k in x.attrs or k in y.attrs
                )
                if x.name == y.name and set(x.attrs) == set(y.attrs)
                else False
            )
            if same and a.receiver == b.receiver and x.attrs["stream"] != y.attrs["stream"]:
                pairs.append((a, b))
    for i in rng.permutation(len(pairs))[:count]:
        a, b = pairs[i]
        e = Editor(module)
        stream = e.ops[a.mask].attrs["stream"]
        at = {place_of(d.result.type): d for d in e.draws(e.ops[a.mask])}
        for draw in e.draws(e.ops[b.mask]):
            place = place_of(draw.result.type)
            if place in at:
                first, second = sorted((at[place], draw), key=e.module.main.ops.index)
                first.attrs["stream"] = stream
                e.module.main.replace_uses({second.result: first.result})
                e.module.main.ops.remove(second)
            else:
                draw.attrs["stream"] = stream
        steps = tuple(step_of(module.main.ops[m.message]) for m in (a, b))
        yield Mutant("leak", f"{name}/reuse-draw/{a.message}-{b.message}", e.done(), steps)


# --- streams -------------------------------------------------------------------------------------


def mutate_streams(module: Module, name: str, count: int, seed: int) -> Iterator[Mutant]:
    """Colliding streams, and streams swapped at one place."""
    rng, main = np.random.default_rng(seed), module.main.ops
    draws = [i for i, op in enumerate(main) if op.name in DRAWS]
    pairs = [
        (i, j)
        for i in draws
        for j in draws
        if i < j and all(main[i].attrs[k] == main[j].attrs[k] for k in ("key", "phase"))
    ]
    types = [op.result.type if op.results else None for op in main]
    collide = [
        (i, j)
        for i, j in pairs
        if types[i] != types[j] and place_of(main[i].result.type) == place_of(main[j].result.type)
    ]
    for n in rng.permutation(len(collide))[:count]:
        i, j = collide[n]
        e = Editor(module)
        for draw in e.draws(e.ops[j]):
            draw.attrs["stream"] = e.ops[i].attrs["stream"]
        yield Mutant("leak", f"{name}/stream-collision/{i}-{j}", e.unfused())
    for n in rng.permutation(len(draws))[:2]:
        # The same words once more at the same place, and sent.
        e = Editor(module)
        draw = e.ops[draws[n]]
        again = e.insert(draw, draw.definition, **draw.attrs)
        to = next(p for p in PLACES if p != place_of(draw.result.type))
        e.insert(draw, party.Transfer, (again,), to=to, step="extra")
        yield Mutant("leak", f"{name}/drawn-twice/{draws[n]}", e.unfused())
    swap = [(i, j) for i, j in pairs if types[i] == types[j]]
    for n in rng.permutation(len(swap))[:count]:
        i, j = swap[n]
        e = Editor(module)
        a, b = e.ops[i], e.ops[j]
        a.attrs["stream"], b.attrs["stream"] = b.attrs["stream"], a.attrs["stream"]
        yield Mutant("wrong", f"{name}/swap-streams/{i}-{j}", e.done())


# --- anything else -------------------------------------------------------------------------------

_SWAPPED = {
    "party.add": party.Sub,
    "party.sub": party.Add,
    "party.xor": party.And,
    "party.and": party.Xor,
}


def _edits(op: Op) -> Iterator[tuple[str, Callable[[Op], None]]]:
    """Small edits that keep types."""

    def swap(o: Op) -> None:
        o.definition = _SWAPPED[o.name]

    def turn(o: Op) -> None:
        o.operands = o.operands[::-1]

    def attr(key: str, value) -> Callable[[Op], None]:
        def change(o: Op) -> None:
            o.attrs[key] = value

        return change

    if op.name in _SWAPPED:
        yield "operator", swap
    if op.name == "party.sub":
        yield "operands", turn
    if op.name in ("party.add_const", "party.mul_const"):
        yield "constant", attr("value", op.attrs["value"] ^ 1)
    if op.name in ("party.shift_left", "party.shift_right"):
        yield "amount", attr("amount", op.attrs["amount"] - 1)
    if op.name == "party.bit_slice" and op.attrs["shift"] > 0:
        yield "slice", attr("shift", op.attrs["shift"] - 1)
    if op.name == "party.planes" and len(op.attrs["indices"]) > 1:
        yield "planes", attr("indices", op.attrs["indices"][::-1])
    if op.name == "party.anf" and len(op.attrs["terms"]) > 0:
        terms = op.attrs["terms"]
        yield "terms", attr("terms", ((*terms[0], (0,)), *terms[1:]))
    if op.name in DRAWS:
        yield "stream", attr("stream", op.attrs["stream"] + 10_000)


def mutate_regions(module: Module, name: str, count: int, seed: int) -> Iterator[Mutant]:
    """One op of one fused region is edited; what masks and what computes alike."""
    rng = np.random.default_rng(seed)
    whole = fused(module)
    places = [
        (i, j, k)
        for i, op in enumerate(whole.main.ops)
        if op.body is not None
        for j, inner in enumerate(op.body.ops)
        for k, _ in enumerate(_edits(inner))
    ]
    for n in rng.permutation(len(places))[:count]:
        i, j, k = places[n]
        copy = whole.clone()
        body = copy.main.ops[i].body
        assert body is not None
        what, edit = list(_edits(body.ops[j]))[k]
        edit(body.ops[j])
        yield Mutant("wrong", f"{name}/region-{what}/{i}-{j}", copy)


def mutate_labels(module: Module, name: str, seed: int) -> Iterator[Mutant]:
    """Names that lie: they change nothing of what is learned, and rule f still refuses them."""
    rng = np.random.default_rng(seed)
    transfers = [i for i, op in enumerate(module.main.ops) if op.name == "party.transfer"]
    for kind in ("step", "loc"):
        e = Editor(module)
        op = e.ops[int(rng.choice(transfers))]
        if kind == "step":
            op.attrs["step"] = "harmless"
        else:
            op.loc = "harmless"
        yield Mutant("wrong", f"{name}/label-{kind}", e.done())


def mutate_exposed(module: Module, name: str, count: int, seed: int) -> Iterator[Mutant]:
    """A product, a bit or a sum of shares is sent to somebody in the clear."""
    rng = np.random.default_rng(seed)
    bare = (
        "party.matmul", "party.conv", "party.mul", "party.lookup", "party.shift_right",
        "party.encode",
    )  # fmt: skip
    program = flatten(module)
    # What everybody may know is no secret: the public bias, and what is made of it alone.
    known = knowledge(program, (), PUBLIC.get(name.partition("-")[0], ()))
    values = [
        op.id for op in program.ops if op.name in (*bare, "party.weight") and not known[op.id]
    ]
    for n in rng.permutation(len(values))[:count]:
        e = Editor(module)
        op = e.ops[values[n]]
        home = place_of(op.result.type)
        to = next(p for p in ("P2", "P1", "P0") if p != home)
        e.send(op.result, to, op.loc, "extra")
        yield Mutant("leak", f"{name}/exposed/{values[n]}", e.done(), ("extra",))
