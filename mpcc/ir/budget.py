"""Budgets of the interpreters: what a program needs is known before anything is allocated.

A program from a file may declare tensors that no machine holds, or products that take a year,
within the limits of :mod:`mpcc.ir.limits`. The engine plans exactly
(``runtime_native/graph/plan.h``); the interpreters bound what numpy will hold from the types.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mpcc.errors import MpccError
from mpcc.ir.calls import inline
from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.types import BitType, SecureType, TensorType, Type, element_count, nbytes_of

__all__ = [
    "DEFAULT_MAX_WORK",
    "check",
    "default_max_memory",
    "parse_bytes",
    "parse_work",
    "peak_bytes",
    "work",
]

DEFAULT_MAX_WORK = 10**13
"""Multiply-adds of a run; the engine's default too (``graph/budget.h``)."""

_BYTES_PER_ELEMENT = 8
_TEMPORARIES = 16
"""Copies of an op's values that numpy may hold at once: widened words, unpacked bits, masks."""

_UNITS = {
    "": 1,
    "B": 1,
    **{f"{p}B": 1000 ** (i + 1) for i, p in enumerate(("k", "M", "G", "T"))},
    **{f"{p}iB": 1024 ** (i + 1) for i, p in enumerate(("K", "M", "G", "T"))},
}


def _limit_in(path: Path) -> int | None:
    """A control group's memory limit; None if it has none."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) else None


def default_max_memory() -> int:
    """Three quarters of what this process may have: the machine's memory or its group's limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        found = _limit_in(Path("/sys/fs/cgroup") / name)
        if found is not None:
            limits.append(found)
    return min(limits) // 4 * 3


def _number(text: str, option: str) -> tuple[float, str]:
    found = re.fullmatch(r"(\d+(?:\.\d*)?(?:[eE]\+?\d+)?)\s*([A-Za-z]*)", text.strip())
    if found is None:
        raise MpccError.of("E-option-limit", f"{text!r} is no amount", option)
    return float(found[1]), found[2]


def parse_bytes(text: str, option: str = "--max-memory") -> int:
    """``2GiB``, ``1.5 GiB``, ``500MB`` or ``4096`` as bytes.

    Raises:
        MpccError: it is no positive amount of memory.
    """
    value, unit = _number(text, option)
    if unit not in _UNITS or not 1 <= value * _UNITS[unit] <= 2**62:
        raise MpccError.of(
            "E-option-limit", f"{text!r} is no amount of memory", option, "write 2GiB or 500MB"
        )
    return int(value * _UNITS[unit])


def parse_work(text: str, option: str = "--max-work") -> int:
    """``1e13`` as a number of multiply-adds.

    Raises:
        MpccError: it is no positive number.
    """
    value, unit = _number(text, option)
    if unit or not 1 <= value <= 2**62:
        raise MpccError.of("E-option-limit", f"{text!r} is no number", option, "write 1e13")
    return int(value)


def _bytes(type_: Type) -> int:
    if isinstance(type_, SecureType | BitType | TensorType):
        return _BYTES_PER_ELEMENT * element_count(type_.shape)
    return nbytes_of(type_)


def _shape(value: Value) -> tuple[int, ...]:
    return tuple(getattr(value.type, "shape", ()))


def _products(op: Op) -> tuple[int, int]:
    """(multiply-adds, patches held) of a convolution or matrix product; zeros for other ops."""
    kind = op.name.partition(".")[2]
    if kind not in ("conv", "matmul") or len(op.operands) < 2 or not op.results:
        return 0, 0
    left, right = _shape(op.operands[0]), _shape(op.operands[1])
    out = element_count(_shape(op.results[0]))
    pairs = max(len(op.operands) // 2, 1)
    if kind == "matmul":
        return pairs * out * (left[-1] if left else 0), 0
    inner = element_count(right[1:])
    return pairs * out * inner, out // max(right[0], 1) * inner * int(op.attrs.get("groups", 1))


def _own(op: Op) -> int:
    """Bytes that evaluating the op may hold beside values of other ops."""
    held = sum(_bytes(v.type) for v in (*op.operands, *op.results))
    if op.body is not None:
        held += sum(_bytes(v.type) for inner in op.body.ops for v in inner.results)
    return _TEMPORARIES * held + _BYTES_PER_ELEMENT * _products(op)[1]


def _live(function: Function) -> Iterator[tuple[Op, int]]:
    """Every op with the bytes that are alive while it runs, in program order."""
    last = {value: op for op in function.ops for value in op.operands}
    alive = 0
    for op in function.ops:
        alive += sum(_bytes(v.type) for v in op.results)
        yield op, alive + _own(op)
        for value in {*op.operands, *op.results}:
            if last.get(value, op) is op:
                alive -= _bytes(value.type)


def peak_bytes(module: Module) -> tuple[int, Op | None]:
    """(most bytes that an interpreter may hold, the op at which it does).

    An upper bound from the types: values from their definition to their last use, and temporaries
    of the op at hand.
    """
    most: tuple[int, Op | None] = (0, None)
    for op, held in _live(module.main):
        if held > most[0]:
            most = (held, op)
    return most


def work(module: Module) -> tuple[int, Op | None]:
    """(multiply-adds and elements touched in one pass over the program, the largest op)."""
    total = 0
    most: tuple[int, Op | None] = (0, None)
    for op in module.main.ops:
        inner = op.body.ops if op.body is not None else ()
        values = [*op.operands, *op.results, *(v for o in inner for v in o.results)]
        own = _products(op)[0] + sum(_bytes(v.type) for v in values) // _BYTES_PER_ELEMENT
        total += own
        if own > most[0]:
            most = (own, op)
    return total, most[1]


def _place(op: Op | None) -> str:
    return "" if op is None else f"{op.name} {op.loc}".strip()


def check(module: Module, max_memory: int | None = None, max_work: int | None = None) -> None:
    """Refuse a program that an interpreter could not hold or finish.

    Args:
        module: of any level, verified: types are believed.
        max_memory: bytes; None for :func:`default_max_memory`.
        max_work: multiply-adds; None for :data:`DEFAULT_MAX_WORK`.

    Raises:
        MpccError: ``E-limit-memory`` or ``E-limit-work``, naming the largest op.
    """
    module = inline(module).module
    limit = default_max_memory() if max_memory is None else max_memory
    needed, op = peak_bytes(module)
    if needed > limit:
        raise MpccError.of(
            "E-limit-memory",
            f"interpreting it may need {needed / 2**30:.2f} GiB of memory, the limit is "
            f"{limit / 2**30:.2f} GiB",
            _place(op),
            "raise the limit (--max-memory) if you trust whoever made the program",
        )
    limit = DEFAULT_MAX_WORK if max_work is None else max_work
    total, op = work(module)
    if total > limit:
        raise MpccError.of(
            "E-limit-work",
            f"interpreting it takes {total:.3g} multiply-adds, the limit is {limit:.3g}",
            _place(op),
            "raise the limit (--max-work) if you trust whoever made the program",
        )
