"""relu-of-maximum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.ops import secure
from mpcc.ir.types import SecureType, element_count
from mpcc.passes.base import Pass, Result

__all__ = ["ReluOfMaximum"]

_BYTES = 128
"""What it adds per element on the busiest link, at most: a comparison and two selects."""


@dataclass(frozen=True)
class _Found:
    """relu(max(a, b)), of which ``bit`` is [a < b].

    Attributes:
        relu: the select at its end.
        negative: its comparison.
        bit: of the maximum.
        a: one operand.
        b: the other.
    """

    relu: Op
    negative: Op
    bit: Value
    a: Value
    b: Value


def _relu_of(op: Op) -> Op | None:
    """The comparison of a relu, of which ``op`` is the select."""
    if op.definition is not secure.Select or not op.attrs["invert"]:
        return None
    bit, x = op.operands
    if bit.op is None or bit.op.definition is not secure.Negative or bit.op.operands[0] is not x:
        return None
    return bit.op


def _match(op: Op, uses: Mapping[Value, Sequence[tuple[Op, int]]], most: int) -> _Found | None:
    """What is rewritten, if ``op`` is its last select."""
    negative = _relu_of(op)
    if negative is None:
        return None
    x = op.operands[1]
    total = x.op
    if total is None or total.definition is not secure.Add or len(uses[x]) != 2:
        return None
    b, more = total.operands
    if more.op is None or len(uses[more]) != 1 or _relu_of(more.op) is None:
        return None
    bit, difference = more.op.operands
    if difference.op is None or difference.op.definition is not secure.Sub:
        return None
    a, other = difference.op.operands
    type_ = x.type
    if other is not b or not isinstance(type_, SecureType):
        return None
    if element_count(type_.shape) * _BYTES > most:
        return None
    return _Found(op, negative, bit, a, b)


@dataclass(frozen=True)
class ReluOfMaximum(Pass):
    """The relu of a maximum becomes the maximum of two relus, where a round is dear.

    Their comparisons need not wait for the maximum: they are made in the rounds of its own. There
    is a comparison and a select more, so this is done only where their bytes take less time than a
    round; without ``round_bytes`` nowhere. Of a comparison without its lowest bits, all three have
    as many fewer.

    Assumes: a secure module; ``@main`` alone is changed. A maximum that has other uses stays.

    Before::

        %3 = secure.select(%2, %1) {invert = true, ...}    (%1 = %a - %b, %2 = [%1 < 0])
        %4 = secure.add(%b, %3) {width = 12}
        %5 = secure.negative(%4)
        %6 = secure.select(%5, %4) {invert = true, width = 12}

    After::

        %5 = secure.negative(%a)                            (and of %b)
        %6 = secure.select(%5, %a) {invert = true, ...}     (and of %b: %7)
        %8 = secure.sub(%6, %7) {width = 13}
        %9 = secure.select(%2, %8) {invert = true, ...}
        %10 = secure.add(%7, %9) {width = 12}
    """

    name: ClassVar[str] = "relu-of-maximum"
    level: ClassVar[str] = "secure"
    round_bytes: int = 0

    def run(self, module: Module) -> Result:
        """Rewrite ``@main``."""
        main = module.main
        if not self.round_bytes:
            return Result(module, False)
        uses = main.uses()
        found = {op: f for op in main.ops if (f := _match(op, uses, self.round_bytes)) is not None}
        if not found:
            return Result(module, False)
        new, values = Function("main"), dict[Value, Value]()
        for op in main.ops:
            if op in found:
                values[op.result] = _rewritten(new, found[op], values)
                continue
            made = new.append(op.definition, [values[v] for v in op.operands], op.attrs, op.loc)
            values.update(zip(op.results, made.results, strict=True))
        new.remove_dead()
        module.functions["main"] = new
        return Result(module, True)


def _rewritten(new: Function, found: _Found, values: Mapping[Value, Value]) -> Value:
    """The maximum of two relus."""
    loc, coarse = found.relu.loc, found.negative.attrs["coarse"]

    def relu(value: Value) -> Value:
        type_ = value.type
        assert isinstance(type_, SecureType)
        bit = new.append(secure.Negative, [value], {"coarse": min(coarse, type_.width - 1)}, loc)
        attrs = {"invert": True, "width": type_.width}
        return new.append(secure.Select, [bit.result, value], attrs, loc).result

    a, b = relu(values[found.a]), relu(values[found.b])
    width = found.relu.attrs["width"]
    gap = new.append(secure.Sub, [a, b], {"width": width + 1}, loc).result
    attrs = {"invert": True, "width": width + 1}
    more = new.append(secure.Select, [values[found.bit], gap], attrs, loc).result
    return new.append(secure.Add, [b, more], {"width": width}, loc).result
