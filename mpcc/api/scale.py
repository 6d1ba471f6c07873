"""Several tasks per party: a large batch cut into pieces, each run by three processes of its own.

A party with K machines runs K tasks. Task k of every party forms a triple with tasks k of the
others: a session with its own connections and keys, which computes its rows of the batch. Nothing
passes between triples, and no key of one is known to another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from mpcc.api.data import Array, checked_inputs
from mpcc.artifact import Artifact
from mpcc.errors import Diagnostic, MpccError
from mpcc.runtime.session import Run, Session

__all__ = ["joined", "run_shards", "shards"]

_OPTION = "--tasks-per-party"


def _batch(artifact: Artifact) -> int:
    """The rows that a run of the program takes: the first axis of every input and output."""
    ports = [*artifact.given_inputs, *artifact.outputs]
    sizes = {port["shape"][0] if port["shape"] else 0 for port in ports}
    if len(sizes) != 1 or 0 in sizes:
        raise MpccError.of(
            "E-option-tasks",
            "inputs and outputs have no first axis of one size, so a batch cannot be cut",
            _OPTION,
        )
    return int(sizes.pop())


def shards(artifact: Artifact, inputs: Mapping[str, Array], tasks: int) -> list[dict[str, Array]]:
    """A batch cut into one piece per task.

    Args:
        artifact: a program for ``b`` rows.
        inputs: arrays of ``tasks * b`` rows.
        tasks: number of pieces.

    Raises:
        MpccError: ``E-option-tasks`` where there is no batch or it has another size; else as
            :func:`mpcc.api.data.checked_inputs`.
    """
    batch = _batch(artifact)
    wrong = [
        Diagnostic(
            "E-option-tasks",
            f"{tasks} tasks take {tasks * batch} rows, {batch} each; input {name!r} has "
            f"{np.shape(array)[0] if np.ndim(array) else 'none'}",
            _OPTION,
            "compile for another batch size (--batch)",
        )
        for name, array in inputs.items()
        if np.shape(array)[:1] != (tasks * batch,)
    ]
    if wrong:
        raise MpccError(*wrong)
    return [
        checked_inputs(
            artifact,
            {n: np.asarray(a)[k * batch : (k + 1) * batch] for n, a in inputs.items()},
        )
        for k in range(tasks)
    ]


def joined(pieces: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Outputs of all tasks, rows in the order of the input's."""
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _sum(figures: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for one in figures for name in one)
    return {name: sum(one.get(name, 0) for one in figures) for name in names}


def run_shards(
    pieces: Sequence[Mapping[str, Array]],
    repeat: int,
    make: Callable[[], Session],
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Run every piece in a session of its own, all at the same time.

    Args:
        pieces: of :func:`shards`.
        repeat: runs of every session.
        make: a session that is not entered yet.

    Returns:
        The last outputs, and the figures of ``stats.json``: ``online_seconds`` until the last task
        is done, bytes and memory of all tasks together.

    Raises:
        MpccError: a session failed; the others are ended.
    """
    live = [make() for _ in pieces]
    with ThreadPoolExecutor(len(live)) as pool, ExitStack() as stack:
        for session in live:
            stack.push(session)  # one that was not entered has nothing to close
        try:
            list(pool.map(Session.__enter__, live))
            seconds: list[float] = []
            runs: list[list[Run]] = []
            for _ in range(repeat):
                start = time.perf_counter()
                runs.append(list(pool.map(lambda one, piece: one.run(piece), live, pieces)))
                seconds.append(time.perf_counter() - start)
            found = [session.statistics([run[k] for run in runs]) for k, session in enumerate(live)]
        except BaseException:
            # A thread may wait for parties that nobody else ends.
            for session in live:
                for party in session.parties:
                    party.stop()
            raise
    first = found[0]
    figures = {
        **first,
        "tasks_per_party": len(pieces),
        "online_seconds": seconds,
        "setup_seconds": max(one["setup_seconds"] for one in found),
        "bytes_sent": _sum([one["bytes_sent"] for one in found]),
        "setup_bytes_sent": _sum([one["setup_bytes_sent"] for one in found]),
        "wire_bytes": sum(one["wire_bytes"] for one in found),
        **{
            key: [sum(values) for values in zip(*(one[key] for one in found), strict=True)]
            for key in ("planned_bytes", "planned_work", "allocated_bytes", "peak_rss_bytes")
        },
    }
    return joined([run.outputs for run in runs[-1]]), figures
