"""The parties without processes: ``mpcc run --engine party-interpreter``, for checking."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from mpcc.ir import budget
from mpcc.ir.core import Module
from mpcc.ir.interp import party

__all__ = ["interpret"]

Array = npt.NDArray[Any]


def interpret(
    module: Module,
    protocol: str,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    repeat: int = 1,
    max_memory: int | None = None,
    max_work: int | None = None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Run a party module in this process, with fresh keys.

    Args:
        module: the party level.
        protocol: its protocol's name, for the statistics.
        weights: ring words by weight name.
        inputs: float32 arrays by input name.
        repeat: runs in one session, at least 1.
        max_memory: bytes that the values may need; None: a share of the machine's memory.
        max_work: multiply-adds of a run; None: :data:`mpcc.ir.budget.DEFAULT_MAX_WORK`.

    Returns:
        The last run's outputs by name, and the figures of ``stats.json``.

    Raises:
        MpccError: weights or inputs do not fit, or the program needs too much (``E-limit-…``).
    """
    budget.check(module, max_memory, max_work)
    start = time.perf_counter()
    session = party.Session(module, weights, party.FreshKeys())
    setup = time.perf_counter() - start
    seconds = []
    for number in range(1, repeat + 1):
        start = time.perf_counter()
        result = session.run(inputs, number)
        seconds.append(time.perf_counter() - start)
    stats = {
        "engine": "party-interpreter",
        "protocol": protocol,
        "network": "none",
        "online_seconds": seconds,
        "setup_seconds": setup,
        "rounds": result.rounds,
        "bytes_sent": result.bytes_sent,
        "setup_bytes_sent": session.setup.bytes_sent,
        "wire_bytes": None,
        "peak_rss_bytes": [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024],
    }
    return result.outputs, stats
