"""What the compiler decided for each layer, and why: the part that anybody may read.

All of it stands in the secure program, which is public. Reasons that depend on ranges seen in
calibration are the owner's (:attr:`mpcc.reports.Owner.reasons`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mpcc.ir.calls import numbered
from mpcc.ir.core import Module, Op
from mpcc.ir.types import SecureType

__all__ = ["Decision", "decisions"]


class Decision(NamedTuple):
    """One choice.

    Attributes:
        layer: label in the program.
        what: the choice.
        why: its reason.
    """

    layer: str
    what: str
    why: str


_FAR = (
    "on the network that it was compiled for, comparisons in fewer rounds with larger tables, and "
    "large layers in slices with roles of their own, are predicted to be faster"
)


def _truncation(op: Op, source: SecureType) -> tuple[str, str]:
    rounding = op.attrs.get("rounding", "exact")
    what = f"drops {op.attrs['amount']} of {source.frac} fraction bits, {rounding} rounding"
    if rounding == "stochastic":
        why = "a product has the fraction bits of both factors; a coin of the parties rounds, "
        return what, why + "which costs less than exact rounding and stays in the error budget"
    return what, "a product has the fraction bits of both factors; no coin is left in the result"


def _comparison(op: Op, source: SecureType) -> tuple[str, str]:
    coarse = int(op.attrs.get("coarse", 0))
    what = f"looks at {source.width + 1 - coarse} bits for the sign, not at {source.ring}"
    why = f"values stay below 2^{source.width} units, so higher bits say nothing"
    if coarse:
        why += f"; the lowest {coarse} are below what the error budget asks for"
    return what, why


def _of(op: Op) -> Iterator[tuple[str, str]]:
    source = op.operands[0].type if op.operands else None
    if isinstance(source, SecureType):
        if op.name == "secure.truncate":
            yield _truncation(op, source)
        elif op.name == "secure.negative":
            yield _comparison(op, source)
        else:
            result = op.results[0].type if op.results else None
            if isinstance(result, SecureType) and result.ring != source.ring:
                what = f"goes from {source.ring} to {result.ring} bits"
                yield what, "the layers behind it cost less there, by more than the change costs"


def decisions(module: Module) -> list[Decision]:
    """Of a program of the secure level, in its order; equal ones of a layer stand once.

    Those of a function that is called follow those of ``@main``, once for all calls.
    """
    counts: dict[Decision, int] = {}
    carried = module.attrs.get("round_bytes")
    if carried is not None:
        what = f"few rounds: one is taken to be worth {carried} bytes on a link"
        counts[Decision("(program)", what, _FAR)] = 1
    for op in numbered(module):
        for what, why in _of(op):
            decision = Decision(op.loc or "(no layer)", what, why)
            counts[decision] = counts.get(decision, 0) + 1
    return [
        d if n == 1 else Decision(d.layer, f"{d.what} ({n} times)", d.why)
        for d, n in counts.items()
    ]
