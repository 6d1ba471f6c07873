"""Running a program: in the clear, or between three parties on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpcc.api.checking import refuse_unverified
from mpcc.api.data import Array, PathLike, checked_inputs, checked_weights
from mpcc.api.scale import run_shards, shards
from mpcc.artifact import Artifact
from mpcc.errors import MpccError
from mpcc.ir import budget
from mpcc.ir.encodings import encoded
from mpcc.ir.interp import fixed
from mpcc.runtime.interpreter import interpret
from mpcc.runtime.owners import finished_outputs, prepared_inputs
from mpcc.runtime.session import Session

__all__ = ["RunResult", "Simulated", "run_local", "simulate"]


@dataclass(frozen=True)
class Simulated:
    """Outputs of the fixed-point simulator.

    Attributes:
        outputs: arrays by output name: float32, or bool or int64 for truth values and positions.
        overflows: ops whose values left their declared range.
    """

    outputs: dict[str, Array] = field(repr=False)
    overflows: tuple[str, ...]


@dataclass(frozen=True)
class RunResult:
    """Outputs of a run and its statistics (the keys of ``stats.json``)."""

    outputs: dict[str, Array] = field(repr=False)
    stats: dict[str, Any] = field(repr=False)


def simulate(
    artifact: Artifact,
    weights: PathLike | Mapping[str, Array],
    inputs: Mapping[str, Array],
    *,
    rounding: fixed.Rounding = "random",
    seed: int = 0,
) -> Simulated:
    """Run the fixed-point program in the clear.

    Args:
        artifact: the program.
        weights: the weights file, the artifact's path beside it, or the arrays.
        inputs: float arrays by input name, in the program's shapes.
        rounding: of stochastic truncations: ``floor``, ``random``, ``worst``, or the coins of a
            run by op number.
        seed: of ``random``.

    Raises:
        MpccError: weights or inputs do not fit, or the program needs more than this machine has
            (``E-limit-…``).
    """
    module = artifact.secure_module
    budget.check(module)
    result = fixed.simulate(
        module,
        checked_weights(artifact, weights),
        prepared_inputs(artifact, checked_inputs(artifact, inputs)),
        rounding=rounding,
        seed=seed,
    )
    outputs = finished_outputs(artifact, result.outputs)
    return Simulated(outputs, tuple(o.loc or f"op {o.op}" for o in result.overflows))


def run_local(
    artifact: Artifact,
    weights: PathLike | Mapping[str, Array],
    inputs: Mapping[str, Array],
    *,
    engine: str = "native",
    network: str = "none",
    repeat: int = 1,
    threads: int = 1,
    deadline: float = 10.0,
    run_limit: float = 3600.0,
    max_memory: int | None = None,
    max_work: int | None = None,
    require_verified: bool = True,
    trace: PathLike | None = None,
    tasks_per_party: int = 1,
) -> RunResult:
    """Run the three parties on this machine; the caller is client and model owner.

    Args:
        artifact: the program.
        weights: the weights file, the artifact's path beside it, or the arrays.
        inputs: float arrays by input name.
        engine: ``native`` (three processes, mutual TLS 1.3), ``party-interpreter`` (all places
            in this process, for checking), ``tensorflow`` (servers of TensorFlow's, whose
            connections protect nothing: :data:`mpcc.runtime.exposure.PROTECTION`) or
            ``tensorflow-sessions`` (TensorFlow in every process, messages over TLS).
        network: ``none``, or ``lan`` or ``wan`` imitated on every TLS link between processes.
        repeat: runs in one session; each has its own keys.
        threads: compute threads of each party.
        deadline: seconds that any one message may take.
        run_limit: seconds that a run, or the setup, may take (engines with processes).
        max_memory: bytes that a party may need; a program that needs more is refused before
            anything is allocated. None: three quarters of the machine's memory.
        max_work: multiply-adds that a party may do in a run; None: 10^13.
        require_verified: whether a program that the leak checker refuses is refused here.
        trace: file for what every endpoint did when, as Chrome trace events (native engine).
        tasks_per_party: processes of every party; the inputs have that many times the rows of the
            program's, and each task computes its part (native engine).

    Raises:
        MpccError: inputs or weights do not fit, the program leaks (``E-run-unverified``), it needs
            too much (``E-limit-…``), or a party failed (``E-net-…``, ``E-party-…``).
    """
    from mpcc.emit.graphdef import parse

    if engine != "native" and trace is not None:
        raise MpccError.of(
            "E-option-trace",
            f"the engine {engine} has no timeline",
            "--trace",
            "use --engine native",
        )
    if tasks_per_party != 1 and (engine != "native" or trace is not None or tasks_per_party < 1):
        raise MpccError.of(
            "E-option-tasks",
            "several tasks per party run in the native engine, without a trace",
            "--tasks-per-party",
        )
    pieces = [] if tasks_per_party == 1 else shards(artifact, inputs, tasks_per_party)
    data = {} if pieces else checked_inputs(artifact, inputs)
    words = checked_weights(artifact, weights)
    if require_verified:
        refuse_unverified(artifact)
    if engine.startswith("tensorflow"):
        from mpcc.api import tensorflow

        outputs, stats = tensorflow.run(
            artifact,
            words,
            data,
            engine=engine,
            network=network,
            repeat=repeat,
            threads=threads,
            deadline=deadline,
            run_limit=run_limit,
            max_memory=max_memory,
            max_work=max_work,
        )
        return RunResult(outputs, stats)
    if engine == "party-interpreter":
        module = parse(artifact.program)
        budget.check(module, max_memory, max_work)
        ports = {port["name"]: port for port in artifact.inputs}
        data = prepared_inputs(artifact, data, max_memory, max_work)
        data = {name: encoded(array, ports[name]) for name, array in data.items()}
        outputs, stats = interpret(
            module, artifact.protocol, words, data, repeat, max_memory, max_work
        )
        return RunResult(finished_outputs(artifact, outputs, max_memory, max_work), stats)

    def session() -> Session:
        return Session(
            artifact,
            words,
            network=network,
            threads=threads,
            deadline=deadline,
            run_limit=run_limit,
            max_memory=max_memory,
            max_work=max_work,
            trace=None if trace is None else Path(trace),
        )

    if pieces:
        return RunResult(*run_shards(pieces, repeat, session))
    with session() as live:
        runs = [live.run(data) for _ in range(repeat)]
        return RunResult(runs[-1].outputs, live.statistics(runs))
