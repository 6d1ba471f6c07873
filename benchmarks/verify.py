"""Times the leak checker on programs of growing depth.

``python -m benchmarks.verify [LAYERS ...]`` prints for matmul, truncation and ReLU, repeated: the
ops looked at and the processor seconds of rules a to e for five observers, of decoding the
GraphDef, and of lowering again. Time per op shows how near to linear it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from mpcc.emit.graphdef import emit, parse
from mpcc.verify_program import check_program, declared_policy, lower_again
from tests.verify.programs import deep, fused, lowered

__all__ = ["DEPTHS", "main", "row"]

DEPTHS = (10, 40, 160)

Result = TypeVar("Result")


def _timed(action: Callable[[], Result]) -> tuple[Result, float]:
    start = time.process_time()
    result = action()
    return result, time.process_time() - start


def row(layers: int) -> tuple[int, int, float, float, float]:
    """(layers, ops, seconds of the rules, of decoding, of lowering again)."""
    secure = deep(layers).module
    data = emit(fused(lowered(secure)))
    module, decoding = _timed(lambda: parse(data))
    checked, rules = _timed(lambda: check_program(module, declared_policy(secure)))
    if checked.all_problems:
        raise RuntimeError("a good program was refused")
    _, lowering = _timed(lambda: lower_again(secure, "rep3"))
    return layers, checked.ops, rules, decoding, lowering


def main(argv: list[str]) -> int:
    """Print the table; returns the exit code."""
    print(
        f"{'layers':>7} {'ops':>8} {'rules a-e s':>12} {'decode s':>9} {'lower s':>8} {'us/op':>7}"
    )
    for layers in [int(a) for a in argv] or DEPTHS:
        _, ops, rules, decoding, lowering = row(layers)
        each = 1e6 * (rules + decoding + lowering) / ops
        print(f"{layers:7} {ops:8} {rules:12.2f} {decoding:9.2f} {lowering:8.2f} {each:7.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
