"""Rule d: what an owner is sent are summands of a value, and the value is all that it learns.

An opened value is a linear form of messages to the owner. Whoever knows the value and all of the
messages but one knows the last one too; so one message is left out of the peeling, and the value
takes its place. The value is expanded into the terms that it is made of; masks cancel in the
expansion, so a mask may hide the other summands exactly if it is gone from the value.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass

from mpcc.ir.types import RingType
from mpcc.verify_program.program import TRANSFER, Program

__all__ = ["Opening", "is_plain", "left_out", "openings"]


@dataclass(frozen=True)
class Opening:
    """One value that is opened to an owner.

    Attributes:
        name: of the output.
        owner: place.
        output: number of the output op.
        messages: messages of other places that the value is a sum of, each with its coefficient.
        terms: numbers of the values that the value is a linear form of, masks cancelled.
    """

    name: str
    owner: str
    output: int
    messages: dict[int, int]
    terms: tuple[int, ...]


def _expand(
    program: Program, value: int, receivers: Collection[str]
) -> tuple[dict[int, int], dict[int, int]]:
    """(coefficients of messages to the receivers, of terms) of a ring value, modulo its ring."""
    type_ = program.ops[value].type
    modulus = 1 << (type_.ring if isinstance(type_, RingType) else 64)
    waiting = {value: 1}
    heap = [-value]
    messages: dict[int, int] = {}
    terms: dict[int, int] = {}
    while heap:
        at = -heapq.heappop(heap)
        factor = waiting.pop(at) % modulus
        op = program.ops[at]
        match op.name:
            case "party.add":
                nexts = [(op.args[0], factor), (op.args[1], factor)]
            case "party.sub":
                nexts = [(op.args[0], factor), (op.args[1], -factor)]
            case "party.neg":
                nexts = [(op.args[0], -factor)]
            case "party.add_const":
                nexts = [(op.args[0], factor)]
            case "party.transfer":
                if op.place in receivers and program.source[at] not in receivers:
                    messages[at] = factor
                nexts = [(op.args[0], factor)]
            case _:
                number = program.same[at]
                terms[number] = (terms.get(number, 0) + factor) % modulus
                continue
        for operand, coefficient in nexts:
            if operand not in waiting:
                heapq.heappush(heap, -operand)
            waiting[operand] = waiting.get(operand, 0) + coefficient
    return messages, {t: c for t, c in terms.items() if c}


def openings(program: Program, receivers: Collection[str]) -> list[Opening]:
    """All outputs at the receivers, with what they are opened from."""
    found: list[Opening] = []
    for op in program.ops:
        if op.name != "party.output" or op.place not in receivers:
            continue
        decode = program.ops[op.args[0]]
        if decode.name != "party.decode":
            continue
        messages, terms = _expand(program, decode.args[0], receivers)
        found.append(Opening(op.attrs["name"], op.place, op.id, messages, tuple(terms)))
    return found


def derived(program: Program, receivers: Collection[str]) -> list[bool]:
    """Per value, whether it depends on a message that the receivers got from others."""
    marked: list[bool] = []
    for op, source in zip(program.ops, program.source, strict=True):
        got = op.name == TRANSFER and op.place in receivers and source not in receivers
        marked.append(got or any(marked[a] for a in op.args))
    return marked


def is_plain(program: Program, opening: Opening, receivers: Collection[str]) -> bool:
    """Whether the owners only add up what they are sent to get the value.

    Else the value could hide one message behind another, which they know.
    """
    marked = derived(program, receivers)
    return not any(marked[t] for t in opening.terms)


def left_out(opening: Opening, others: Collection[Opening]) -> int | None:
    """The message that the opened value and the opening's other messages determine.

    Its coefficient is odd, hence invertible, and it belongs to no other opening.
    """
    for message, coefficient in opening.messages.items():
        shared = any(message in o.messages for o in others if o is not opening)
        if coefficient % 2 and not shared:
            return message
    return None
