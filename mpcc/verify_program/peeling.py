"""The peeling rule: what a set of places receives is uniform, whatever the secrets are.

``docs/leak-checker.md`` states the rule and proves it. In short: what the receivers R know
themselves is fixed; every message to R is cut into its parts; a part is *peeled* when a draw that R
cannot make reaches it along exactly one path of ops that keep a uniform operand uniform, and
reaches no part that is left. A part that is peeled is a fresh uniform value; R learns nothing from
it.

The cost is near linear: the program holds, per value, how many live uses it has (a use is live if
it reaches a part that is left). Along a mask's path every value has exactly one. Peeling a part
removes a use, values without uses die and remove their operands' uses, and a part is looked at
again only when a value that stopped it comes down to one use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from mpcc.errors import Diagnostic
from mpcc.ir.schedule import ONLINE
from mpcc.ir.types import BitsType, RingType, element_count
from mpcc.verify_program.program import DRAWS, FlatOp, Piece, Planes, Program, trace

__all__ = ["Part", "Peeled", "knowledge", "peel"]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a message: a value, or some planes of it.

    Attributes:
        message: number of the transfer.
        value: number of the value.
        planes: planes of the value that are sent; None for all of it.
    """

    message: int
    value: int
    planes: Planes


@dataclass(frozen=True)
class Peeled:
    """The result of peeling.

    Attributes:
        order: the parts peeled and the draw that masks each, in order.
        left: parts that cannot be peeled.
        problems: why not.
    """

    order: tuple[tuple[Part, int], ...]
    left: tuple[Part, ...]
    problems: tuple[Diagnostic, ...]


def knowledge(
    program: Program, receivers: Collection[str], public: Collection[str] = ()
) -> list[bool]:
    """Per value, whether the receivers know it, or everybody does.

    They know what is at their places, draws of keys that one of them holds, inputs and weights
    named in ``public``, and whatever is computed from these alone, wherever.
    """
    known: list[bool] = []
    for op, source in zip(program.ops, program.source, strict=True):
        if op.place in receivers or source in receivers:
            found = True
        elif op.name in DRAWS:
            found = not program.holders(op.id).isdisjoint(receivers)
        elif op.args:
            found = all(known[a] for a in op.args)
        else:
            found = op.attrs.get("name") in public
        known.append(found)
    return known


def _parts(program: Program, transfer: FlatOp) -> list[Part]:
    """A message cut at the joins and concatenations that made it.

    The parts determine the message: cuts go through reordering, choice of planes, and messages from
    elsewhere that are passed on.
    """
    found: list[Part] = []
    stack: list[Piece] = [(transfer.args[0], None)]
    while stack:
        value, planes = stack.pop()
        for at, chosen in trace(program.ops, value, planes):
            op = program.ops[at]
            if op.name == "party.concat":
                stack += [(a, None) for a in op.args]
            elif op.name in ("party.reshape", "party.transpose"):
                stack.append((op.args[0], None))
            else:
                found.append(Part(transfer.id, at, chosen))
    return found


def masking_operands(
    program: Program, op: FlatOp, planes: Planes, last: bool
) -> Iterable[tuple[int, Planes, bool]]:
    """Operands through which a mask may reach the result of ``op``.

    Along each of them the result is uniform on all words or bits if the operand is, whatever the
    other operands are, as long as those do not depend on it.

    Args:
        program: the program.
        op: the op.
        planes: planes of the result that matter.
        last: only ops of one operand come between the result and the message. Then the result may
            have a smaller domain (low bits of a word), which a sum would not fill.
    """
    match op.name:
        case "party.add" | "party.sub" | "party.xor":
            for arg in op.args:
                yield arg, planes, False
        case "party.neg" | "party.add_const" | "party.not":
            # Bijections.
            yield op.args[0], planes, last
        case "party.mul_const":
            if op.attrs["value"] % 2:
                yield op.args[0], planes, last
        case "party.negate_if":
            # x or -x: a bijection of x for either bit.
            yield op.args[1], planes, False
        case "party.reshape" | "party.transpose" | "party.slice" | "party.transfer":
            # Other order, or some of the elements.
            yield op.args[0], planes, last
        case "party.gather":
            # A choice of elements, if none is taken twice.
            if len(set(op.attrs["indices"])) == len(op.attrs["indices"]):
                yield op.args[0], planes, last
        case "party.planes" | "party.join":
            found = trace(program.ops, op.id, planes)
            if len(found) == 1:
                yield *found[0], last
        case "party.bit_slice":
            # Some bits of a uniform word are uniform.
            yield op.args[0], None, last
        case "party.low_bits":
            type_ = op.type
            if last or (isinstance(type_, RingType) and op.attrs["count"] == type_.ring):
                yield op.args[0], None, last
        case "party.cast":
            # The low bits of a uniform word are uniform; zeros above it are not.
            source = program.ops[op.args[0]].type
            if isinstance(source, RingType) and op.attrs["ring"] <= source.ring:
                yield op.args[0], None, last
        case "party.from_bits":
            source = program.ops[op.args[0]].type
            if isinstance(source, BitsType) and source.planes == op.attrs["ring"]:
                yield op.args[0], None, last
        case "party.broadcast":
            source = program.ops[op.args[0]].type
            if isinstance(source, RingType) and (
                element_count(source.shape) == element_count(op.attrs["shape"])
            ):
                yield op.args[0], None, last


def unique(uses: int) -> bool:
    """Whether a value reaches what is left along one path only, at this point."""
    return uses == 1


class _Peeling:
    def __init__(
        self,
        program: Program,
        known: Sequence[bool],
        parts: Sequence[Part],
        fixed: Iterable[int],
    ) -> None:
        self.program = program
        self.known = known
        self.parts = parts
        self.uses = [0] * len(program.ops)
        self.waiting: dict[int, list[int]] = {}
        self.ready = list(range(len(parts)))  # taken from the end: late messages peel first
        same = program.same
        for value in fixed:
            self.uses[same[value]] += 1
        for part in parts:
            self.uses[same[part.value]] += 1
        for op in reversed(program.ops):
            if self.uses[op.id] and not known[op.id]:
                for value, _ in program.pieces[op.id]:
                    if not known[value]:
                        self.uses[same[value]] += 1

    def mask(self, number: int) -> int | None:
        """The draw that masks this part and nothing else that is left, if there is one.

        Else the part waits for the values that stopped the search.
        """
        program, part = self.program, self.parts[number]
        online = program.ops[part.message].phase == ONLINE
        stopped: list[int] = []
        stack: list[tuple[int, Planes, bool]] = [(part.value, part.planes, True)]
        while stack:
            value, planes, last = stack.pop()
            if self.known[value]:
                continue
            value = program.same[value]
            if not unique(self.uses[value]):
                stopped.append(value)
                continue
            op = program.ops[value]
            if op.name in DRAWS:
                # A mask of the setup would come back in every run.
                if not online or op.attrs["phase"] == ONLINE:
                    return value
                continue
            stack.extend(masking_operands(program, op, planes, last))
        for value in stopped:
            self.waiting.setdefault(value, []).append(number)
        return None

    def remove(self, part: Part) -> None:
        """Take away the part's use, and all values that only it used."""
        stack = [part.value]
        while stack:
            value = self.program.same[stack.pop()]
            self.uses[value] -= 1
            if self.uses[value] == 1:
                self.ready += self.waiting.pop(value, [])
            elif self.uses[value] == 0:
                stack += [v for v, _ in self.program.pieces[value] if not self.known[v]]

    def run(self) -> tuple[list[tuple[Part, int]], list[Part]]:
        order: list[tuple[Part, int]] = []
        done = [False] * len(self.parts)
        while self.ready:
            number = self.ready.pop()
            if done[number]:
                continue
            mask = self.mask(number)
            if mask is not None:
                done[number] = True
                order.append((self.parts[number], mask))
                self.remove(self.parts[number])
        return order, [p for p, peeled in zip(self.parts, done, strict=True) if not peeled]


def peel(
    program: Program,
    receivers: frozenset[str],
    public: Collection[str] = (),
    opened: Collection[int] = (),
    fixed: Collection[int] = (),
) -> Peeled:
    """Peel all messages to ``receivers``.

    Args:
        program: the opened program.
        receivers: places that put what they know together.
        public: names of inputs and weights that everybody may know.
        opened: messages left out, since an opened value and the other messages determine them.
        fixed: values that the receivers learn by the opened values: they stay, and with them
            everything that they are made of.
    """
    known = knowledge(program, receivers, public)
    parts = [
        part
        for op in program.transfers()
        if op.place in receivers and program.source[op.id] not in receivers and op.id not in opened
        for part in _parts(program, op)
        if not known[part.value]
    ]
    peeling = _Peeling(program, known, parts, fixed)
    order, left = peeling.run()
    problems = _explain(peeling, left, receivers) if left else ()
    return Peeled(tuple(order), tuple(left), tuple(problems))


# --- explanations --------------------------------------------------------------------------------

_MOST = 20


def _candidates(peeling: _Peeling, part: Part) -> tuple[list[int], list[int], list[int]]:
    """Draws that reach a part through masking ops: fresh, drawn in the setup, known to R."""
    program = peeling.program
    online = program.ops[part.message].phase == ONLINE
    fresh, stale, known = [], [], []
    stack: list[tuple[int, Planes, bool]] = [(part.value, part.planes, True)]
    seen: set[int] = set()
    while stack:
        value, planes, last = stack.pop()
        op = program.ops[value]
        if value in seen:
            continue
        seen.add(value)
        if op.name in DRAWS:
            if peeling.known[value]:
                known.append(value)
            elif online and op.attrs["phase"] != ONLINE:
                stale.append(value)
            else:
                fresh.append(program.same[value])
        else:
            stack.extend(masking_operands(program, op, planes, last))
    return fresh, stale, known


def _draw_name(op: FlatOp) -> str:
    return f"stream {op.attrs['stream']} of key {op.attrs['key']}"


def _explain(
    peeling: _Peeling, left: Sequence[Part], receivers: frozenset[str]
) -> list[Diagnostic]:
    """Why parts are left; those that others may hang on come first.

    These are parts without any mask, and then parts with the only mask of several.
    """
    program = peeling.program
    who = " and ".join(sorted(receivers))
    bare: list[Diagnostic] = []
    reused: list[tuple[int, Diagnostic]] = []
    masks = [_candidates(peeling, part) for part in left]
    only = Counter(fresh[0] for fresh, _, _ in masks if len(fresh) == 1)
    for part, (fresh, stale, known) in zip(left, masks, strict=True):
        transfer = program.ops[part.message]
        if not fresh:
            if stale:
                why = (
                    f"its mask, {_draw_name(program.ops[stale[0]])}, is drawn in the setup and "
                    "comes back in every run"
                )
            elif known:
                why = f"{who} can make its mask, {_draw_name(program.ops[known[0]])}"
            else:
                why = "no fresh draw masks it"
            bare.append(
                Diagnostic("E-leak-mask", f"{who} may learn a secret: {why}", transfer.where)
            )
            continue
        draw = program.ops[fresh[0]]
        elsewhere = [
            u for u in program.users[draw.id] if peeling.uses[u] > 0 and not peeling.known[u]
        ]
        nodes = ", ".join(f"n{program.ops[u].node}" for u in elsewhere[:6])
        found = Diagnostic(
            "E-leak-reuse",
            f"{who} may learn a secret: the mask, {_draw_name(draw)}, also reaches what is "
            f"left by another path (used at {nodes or 'the same message'})",
            transfer.where,
        )
        reused.append((only[fresh[0]], found))
    reused.sort(key=lambda row: row[0] < 2)
    return (bare or [found for _, found in reused])[:_MOST]
