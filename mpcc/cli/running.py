"""`mpcc simulate`, `mpcc run`: from inputs to outputs."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mpcc.cli.common import (
    ArtifactArgument,
    InputOption,
    OutputOption,
    WeightsOption,
    check_outputs,
    load_artifact,
    write_outputs,
)
from mpcc.cli.console import err, out, status

__all__ = ["run", "simulate"]


class Rounding(str, Enum):
    """How the simulator rounds at a stochastic truncation."""

    floor = "floor"
    random = "random"
    worst = "worst"


class Engine(str, Enum):
    """What executes the parties."""

    native = "native"
    interpreter = "party-interpreter"
    tensorflow = "tensorflow"
    sessions = "tensorflow-sessions"


class Network(str, Enum):
    """Network that the transport imitates."""

    none = "none"
    lan = "lan"
    wan = "wan"


def simulate(
    artifact: ArtifactArgument,
    inputs: InputOption,
    weights: WeightsOption = None,
    output: OutputOption = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Compare with this model in floating point."),
    ] = None,
    rounding: Annotated[
        Rounding, typer.Option(help="Rounding of stochastic truncations.")
    ] = Rounding.random,
    seed: Annotated[int, typer.Option(min=0, help="Seed of --rounding random.")] = 0,
) -> None:
    """Run the fixed-point program in the clear.

    As long as no value leaves its declared range it is bit-exact up to the parties' rounding coins.
    """
    from mpcc import api, options

    loaded = load_artifact(artifact)
    check_outputs({"--output": output})
    arrays = options.load_arrays(inputs, "--input")
    with status("simulating"):
        result = api.simulate(
            loaded, weights or artifact, arrays, rounding=rounding.value, seed=seed
        )
        compared = (
            None if reference is None else api.compare(reference, arrays, result.outputs, loaded)
        )
    write_outputs(result.outputs, output)
    if result.overflows:
        err.print("warning: values left their declared range at: ", style="yellow", end="")
        err.print(", ".join(result.overflows), soft_wrap=True)
        err.print("For this input the parties' answer is undefined and may be another one.")
    if compared is not None:
        table = Table(
            "output",
            "largest deviation",
            "largest reference",
            "decisions that agree",
            title=compared.engine,
        )
        for name, row in compared.rows.items():
            table.add_row(
                name,
                f"{row.deviation:.3g}",
                f"{row.magnitude:.4g}",
                f"{row.agreeing} of {row.rows} ({row.decision})",
            )
        out.print(table)
    if result.overflows:
        raise typer.Exit(1)


def run(
    artifact: ArtifactArgument,
    inputs: InputOption,
    weights: WeightsOption = None,
    output: OutputOption = None,
    engine: Annotated[
        Engine,
        typer.Option(
            help="native: three processes over TLS. party-interpreter: in this process. "
            "tensorflow: TensorFlow's servers, which protect nothing. tensorflow-sessions: "
            "TensorFlow in every process, over TLS."
        ),
    ] = Engine.native,
    network: Annotated[Network, typer.Option(help="Imitate this network on every link.")] = (
        Network.none
    ),
    repeat: Annotated[int, typer.Option(min=1, help="Number of runs in one session.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Compute threads of each party.")] = 1,
    deadline: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for any one message.")
    ] = 10.0,
    run_limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds that a run, or the setup, may take.")
    ] = 3600.0,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Refuse a program that needs more memory at a party, such as 2GiB; default three "
            "quarters of this machine's.",
        ),
    ] = None,
    max_work: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Refuse a program with more multiply-adds per run at a party; default 1e13.",
        ),
    ] = None,
    stats: Annotated[
        Path | None, typer.Option("--json", metavar="stats.json", help="Write statistics here.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="trace.json",
            help="Write here what every endpoint did when: computing, waiting, sending, per "
            "operation. Chrome trace events, for ui.perfetto.dev.",
        ),
    ] = None,
    tasks: Annotated[
        int,
        typer.Option(
            "--tasks-per-party",
            min=1,
            metavar="K",
            help="Processes of every party: inputs have K times the program's rows, and each task "
            "computes its part.",
        ),
    ] = 1,
    require_verified: Annotated[
        bool,
        typer.Option(
            "--require-verified/--trust-artifact",
            help="Refuse a program that `mpcc verify` refuses, before anything is shared.",
        ),
    ] = True,
) -> None:
    """Run the three parties on this machine; this command is client and model owner."""
    from mpcc import api, options
    from mpcc.files import atomic_write
    from mpcc.ir import budget

    api.forbid_core_dumps()
    loaded = load_artifact(artifact)
    check_outputs({"--output": output, "--json": stats, "--trace": trace})
    arrays = options.load_arrays(inputs, "--input")
    if require_verified:
        with status("verifying"):
            api.refuse_unverified(loaded)
    if engine is Engine.tensorflow:
        err.print(f"warning: {api.TENSORFLOW_PROTECTION}", style="yellow")
    with status("running"):
        result = api.run_local(
            loaded,
            weights or artifact,
            arrays,
            engine=engine.value,
            network=network.value,
            repeat=repeat,
            threads=threads,
            deadline=deadline,
            run_limit=run_limit,
            max_memory=None if max_memory is None else budget.parse_bytes(max_memory),
            max_work=None if max_work is None else budget.parse_work(max_work),
            require_verified=False,  # done above
            trace=trace,
            tasks_per_party=tasks,
        )
    write_outputs(result.outputs, output)
    figures = result.stats
    seconds = sorted(figures["online_seconds"])
    total = sum(figures["bytes_sent"].values())
    out.print(
        f"{figures['engine']}: online {seconds[len(seconds) // 2]:.4f} s (median of "
        f"{len(seconds)}), setup {figures['setup_seconds']:.3f} s, {figures['rounds']} rounds, "
        f"{total / 1e6:.3f} MB per run over all links",
        soft_wrap=True,
    )
    if stats is not None:
        with atomic_write(stats) as file:
            file.write((json.dumps(figures, indent=1) + "\n").encode())
        err.print(f"wrote {stats}")
