"""The command line: a thin face of :mod:`mpcc.api`.

Exit codes: 0 success; 1 the program ran and disagrees with what it promises; 2 a user error, shown
with code, place and way out; 3 a party or the network failed; 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mpcc.errors import MpccError, printable

if TYPE_CHECKING:
    from mpcc.artifact import Artifact

__all__ = ["app", "main"]

app = typer.Typer(
    name="mpcc",
    help="Compile a neural network into a program that three parties run on secret shares.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


class _Console(Console):
    """Names of a model and paths may look like markup: they are shown as they are.

    Control characters in them, which a terminal would obey, are shown as escapes.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """All that is printed comes through here, the cells of tables too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


out = _Console()
err = _Console(stderr=True)


_INTERRUPTED = 130
"""Exit code that typer gives to Ctrl-C."""


class Visibility(str, Enum):
    """Who may know the weights."""

    secret = "secret"
    public = "public"


class RangePolicy(str, Enum):
    """How the ranges that formats rest on are made certain."""

    proved = "proved"
    guarded = "guarded"
    observed = "observed"


class Disclose(str, Enum):
    """What the number formats may tell about weights and calibration data."""

    none = "none"
    per_model = "per-model"
    per_tensor = "per-tensor"


class Rounding(str, Enum):
    """How the simulator rounds at a stochastic truncation."""

    floor = "floor"
    random = "random"
    worst = "worst"


class Engine(str, Enum):
    """What executes the parties."""

    native = "native"
    interpreter = "party-interpreter"


class Stage(str, Enum):
    """A level of the IR."""

    tensor = "tensor"
    secure = "secure"
    party = "party"


class Format(str, Enum):
    """How a graph is written."""

    text = "text"
    dot = "dot"


class Network(str, Enum):
    """Network that the transport imitates."""

    none = "none"
    lan = "lan"
    wan = "wan"


ArtifactArgument = Annotated[
    Path, typer.Argument(metavar="M.mpcc", help="Artifact written by `mpcc compile`.")
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="The model owner's file; default M.weights."),
]
InputOption = Annotated[
    list[str],
    typer.Option(
        "--input", "-i", metavar="NAME=x.npy|DATA.npz", help="Input arrays, as often as needed."
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="y.npz", help="Write the outputs here."),
]


_SHOWN = 16
"""Outputs of up to so many elements are printed whole."""


@contextmanager
def _status(text: str) -> Iterator[Any]:
    """A spinner with the current step, on a terminal only."""
    with err.status(text) as status:
        yield status


def _artifact(path: Path) -> Artifact:
    from mpcc.artifact import Artifact

    if not path.is_file():
        raise MpccError.of(
            "E-file-missing",
            "the artifact does not exist" if not path.exists() else "the artifact is not a file",
            str(path),
            "write one with `mpcc compile MODEL`",
        )
    return Artifact.load(path)


def _check_outputs(targets: dict[str, Path | None]) -> None:
    """Refuse files that cannot be written, by option, before the work is done."""
    from mpcc.options import check_writable

    for option, path in targets.items():
        if path is not None:
            check_writable(path, option)


def _write_outputs(outputs: dict[str, Any], path: Path | None) -> None:
    import numpy as np

    from mpcc.artifact import atomic_write

    table = Table("output", "shape", "min", "max", "values")
    for name, array in outputs.items():
        ends = [f"{array.min():.6g}", f"{array.max():.6g}"] if array.size else ["", ""]
        shown = array.size <= _SHOWN
        values = " ".join(f"{v:.6g}" for v in array.ravel()) if shown else "(-o y.npz keeps them)"
        table.add_row(name, str(array.shape), *ends, values)
    out.print(table)
    if path is not None:
        # The answer belongs to its owner alone, as the input did.
        with atomic_write(path, mode=0o600) as file:
            np.savez(file, **outputs)
        err.print(f"wrote {path}")


@app.command()
def compile(
    model: Annotated[Path, typer.Argument(help="ONNX or Keras file, or folder of a SavedModel.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="M.mpcc", help="Artifact to write.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=1,3,224,224",
            help="Static shape of an input; with --batch, NAME=batch,3,224,224.",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="1,8,32",
            help="Size of the first axis of inputs that leave it open. Several sizes give programs "
            "M.b1.mpcc, M.b8.mpcc, ... over one M.weights.",
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA.npz",
            help="Typical inputs, ten to a hundred: one array per input, named like it, samples "
            "along the first axis. They stay with the model owner.",
        ),
    ] = None,
    input_range: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=lo:hi", help="Range of an input, enforced by the client."),
    ] = None,
    owner: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=ROLE", help="Owner: client, model or public."),
    ] = None,
    weights: Annotated[
        Visibility, typer.Option(help="Whether the parties may know the weights.")
    ] = Visibility.secret,
    protocol: Annotated[str, typer.Option(help="Protocol, see `mpcc ops`.")] = "rep3",
    network: Annotated[
        str, typer.Option(metavar="lan|wan|none|FILE.toml", help="Network of the cost report.")
    ] = "lan",
    range_policy: Annotated[
        RangePolicy | None,
        typer.Option(
            "--range",
            help="proved: clamps where proof needs them; observed: calibrated with headroom; "
            "guarded: observed plus clamps. Default observed with --calibrate, else proved.",
        ),
    ] = None,
    disclose: Annotated[
        Disclose,
        typer.Option(
            help="What the formats may tell about weights and data: a range per tensor, one for "
            "the model, or nothing. With none, ranges are declared: --input-range, "
            "--weight-range, --value-range."
        ),
    ] = Disclose.per_tensor,
    weight_range: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="With --disclose none: all weights are within (-X, X); default 8."
        ),
    ] = None,
    value_range: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="With --disclose none: you promise that all values inside the model are within "
            "(-X, X); default: proved, with clamps.",
        ),
    ] = None,
    fraction_bits: Annotated[
        int | None,
        typer.Option(
            min=4, max=28, help="With --disclose none; default: the most that fit, up to 16."
        ),
    ] = None,
    ring: Annotated[
        list[str] | None,
        typer.Option(
            metavar="auto|32|64|NODE=32|NODE=64",
            help="Bits of the ring: 32 halves the traffic and takes fewer digits; auto, the "
            "default, takes for every part of the model what costs least. NODE=64 computes the "
            "nodes of this name, or pattern such as 'head/*', in a ring of their own.",
        ),
    ] = None,
    max_error: Annotated[
        float,
        typer.Option(
            metavar="X",
            help="Largest absolute error of an output that the formats are chosen for.",
        ),
    ] = 2.0**-7,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Share of decisions, above 0 and up to 1, that must be the float model's, for "
            "every output. A decision is: of several scores along the last axis, the largest; of a "
            "single score, whether it is above 0, or 0.5 for a probability; of truth values and "
            "whole numbers, the value. Simulated with random coins on up to 64 samples of "
            "--calibrate, or 32 random inputs.",
        ),
    ] = None,
    signature: Annotated[
        str,
        typer.Option(metavar="NAME", help="Function of a SavedModel; default serving_default."),
    ] = "",
    keep_names: Annotated[
        bool, typer.Option("--keep-names", help="Keep the model's node names in the artifact.")
    ] = False,
    dump_after: Annotated[
        list[str] | None,
        typer.Option(metavar="PASS", help="Print the IR after this pass, or after `all`."),
    ] = None,
) -> None:
    """Compile MODEL into M.mpcc (public), M.weights and M.private.json (the model owner's own).

    All files appear, or none.
    """
    from mpcc import api, options
    from mpcc.ir.phi import FormatOptions

    target = model.with_suffix(".mpcc") if output is None else output
    if target == model:
        raise MpccError.of(
            "E-option-output", f"{target} is the model itself", "--output", "name another file"
        )
    sizes = None if batch is None else options.parse_batches(batch)
    api.output_paths(target, sizes if isinstance(sizes, tuple) else ())
    bits, rings = options.parse_rings(ring or [])
    settings = options.CompileOptions(
        shapes=options.parse_shapes(shape or []),
        owners=options.parse_owners(owner or []),
        weights=weights.value,
        protocol=protocol,
        formats=FormatOptions(
            policy=None if range_policy is None else range_policy.value,
            input_ranges=options.parse_ranges(input_range or []),
            disclose=disclose.value,
            weight_range=weight_range,
            value_range=value_range,
            fraction_bits=fraction_bits,
            ring=bits,
            rings=rings,
            max_error=max_error,
        ),
        keep_names=keep_names,
        signature=signature,
        min_agreement=min_agreement,
    )
    data = None if calibrate is None else options.load_arrays([str(calibrate)], "--calibrate")
    with _status("compiling") as status:
        compiled = api.compile(
            model,
            options=settings,
            calibration=data,
            batch=sizes,
            network=network,
            dump_after=dump_after or [],
            dump=lambda text: out.print(text, soft_wrap=True),
            progress=lambda step: status.update(step),
        )
        paths = compiled.save(target)
    out.print(compiled.summary())
    for note in filter(None, (api.model_note(model), *compiled.notes)):
        err.print(note, soft_wrap=True)
    for path in paths:
        err.print(f"wrote {path}", soft_wrap=True)


@app.command()
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

    loaded = _artifact(artifact)
    _check_outputs({"--output": output})
    arrays = options.load_arrays(inputs, "--input")
    with _status("simulating"):
        result = api.simulate(
            loaded, weights or artifact, arrays, rounding=rounding.value, seed=seed
        )
        compared = (
            None if reference is None else api.compare(reference, arrays, result.outputs, loaded)
        )
    _write_outputs(result.outputs, output)
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


@app.command()
def run(
    artifact: ArtifactArgument,
    inputs: InputOption,
    weights: WeightsOption = None,
    output: OutputOption = None,
    engine: Annotated[
        Engine,
        typer.Option(help="native: three processes over TLS; party-interpreter: in this process."),
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
    from mpcc.artifact import atomic_write
    from mpcc.ir import budget

    api.forbid_core_dumps()
    loaded = _artifact(artifact)
    _check_outputs({"--output": output, "--json": stats, "--trace": trace})
    arrays = options.load_arrays(inputs, "--input")
    if require_verified:
        with _status("verifying"):
            api.refuse_unverified(loaded)
    with _status("running"):
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
        )
    _write_outputs(result.outputs, output)
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


@app.command()
def inspect(
    artifact: ArtifactArgument,
    stage: Annotated[Stage, typer.Option(help="Level of the IR.")] = Stage.secure,
    party: Annotated[
        int | None, typer.Option(min=0, max=2, help="Only this party's ops (stage party).")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Text or Graphviz.")] = Format.text,
) -> None:
    """Print the program at one level; the party level is decoded from the GraphDef itself."""
    from mpcc import api

    text = api.inspect(_artifact(artifact), stage.value, party, form.value)
    sys.stdout.write(text)


@app.command()
def cost(
    artifact: ArtifactArgument,
    network: Annotated[
        str, typer.Option(metavar="lan|wan|none|FILE.toml", help="Network profile.")
    ] = "lan",
    html: Annotated[
        Path | None, typer.Option(metavar="report.html", help="Write a self-contained page.")
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="cost.json", help="Write the figures.")
    ] = None,
    stats: Annotated[
        Path | None,
        typer.Option(metavar="stats.json", help="Measured by `mpcc run`, shown on the page too."),
    ] = None,
) -> None:
    """Predict bytes, rounds and network time, per layer and in total."""
    from mpcc import api
    from mpcc.artifact import atomic_write

    loaded = _artifact(artifact)
    _check_outputs({"--html": html, "--json": json_path})
    measured = None if stats is None else api.load_stats(stats)
    report = api.cost(loaded, network)
    out.print(report.table())
    pages = {
        html: lambda: api.cost_page(loaded, report, measured),
        json_path: report.json,
    }
    for path, text in pages.items():
        if path is not None:
            with atomic_write(path) as file:
                file.write(text().encode())
            err.print(f"wrote {path}")


@app.command()
def report(
    private: Annotated[
        Path, typer.Argument(metavar="M.private.json", help="Written by `mpcc compile`.")
    ],
    every: Annotated[
        bool, typer.Option("--all", help="Show all layers, in the order of the model.")
    ] = False,
) -> None:
    """Show the owner's report: error per layer, agreement, ranges. It is private."""
    from mpcc import api

    for table in api.owner_report(private, all_layers=every):
        out.print(table)


@app.command()
def verify(
    artifact: ArtifactArgument,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="P.toml",
            help="Owners of outputs and inputs, public values, coalitions; default as declared.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check that the program tells nobody anything but the outputs to their owners."""
    from mpcc.verify_program import declared_policy, load_policy, verify_artifact

    loaded = _artifact(artifact)
    chosen = None
    if policy is not None:
        chosen = load_policy(policy, declared_policy(loaded.secure_module))
    with _status("verifying"):
        report = verify_artifact(loaded, chosen)
    if as_json:
        sys.stdout.write(report.json())
    else:
        out.print(report.render())
    if not report.accepted:
        raise typer.Exit(1)


@app.command()
def ops(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the table of ONNX operators as JSON.")
    ] = False,
    accuracy: Annotated[
        bool,
        typer.Option(
            "--accuracy", help="Print the worst errors of all operators, proved and measured."
        ),
    ] = False,
) -> None:
    """List all ONNX operators with what is supported, the protocols, and the IR's operators."""
    from mpcc import api

    if as_json:
        sys.stdout.write(api.ops_json(accuracy))
        return
    for table in api.ops_tables(accuracy):
        out.print(table)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A.mpcc", help="The program as it was.")],
    after: Annotated[Path, typer.Argument(metavar="B.mpcc", help="The program as it is.")],
    network: Annotated[
        str, typer.Option(metavar="lan|wan|none|FILE.toml", help="Network profile of the times.")
    ] = "lan",
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare two programs: cost in total and per layer, formats, accuracy.

    Errors are those of A.private.json and B.private.json, where the owner has them.
    """
    from mpcc import api

    found = api.diff(_artifact(before), _artifact(after), network, before, after)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=1) + "\n")
        return
    for table in found.tables():
        out.print(table)


@app.command()
def bench(
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Run small programs for a minute or two and keep what work takes on this "
            "processor, for predicted times. The machine should have nothing else to do.",
        ),
    ] = False,
) -> None:
    """Show how fast this machine is taken to be in predicted times, or measure it."""
    from mpcc import calibration
    from mpcc.cost import UNITS
    from mpcc.cost.speed import load

    if calibrate:
        with _status("calibrating") as status:
            speeds, path = calibration.calibrate(lambda step: status.update(step))
        err.print(f"wrote {path}", soft_wrap=True)
    else:
        speeds = load()
    table = Table("unit of work", "takes", title=f"processor: {speeds.processor}")
    for unit, seconds in speeds.seconds.items():
        table.add_row(UNITS[unit], f"{seconds * 1e9:.3g} ns")
    out.print(table)


@app.command()
def doctor() -> None:
    """Check this installation: native engine, instruction sets, TLS, optional packages."""
    from mpcc import api

    table = Table("check", "result", "")
    healthy = True
    for check in api.doctor():
        healthy &= check.ok or not check.required
        mark = (
            Text("ok", "green")
            if check.ok
            else Text("missing", "red")
            if check.required
            else Text("absent")
        )
        table.add_row(check.name, mark, check.detail)
    out.print(table)
    if not healthy:
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from mpcc.version import VERSION

        out.print(f"mpcc {VERSION}")
        raise typer.Exit


def main() -> None:
    """Entry point: user errors become one readable message and an exit code."""
    # So that a terminated command ends its parties and removes its files, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        app()
    except MpccError as error:
        for diagnostic in error.diagnostics:
            err.print("error", style="bold red", end="")
            err.print(f" {diagnostic.code}: {diagnostic.what}", soft_wrap=True)
            for label, text in (("where", diagnostic.where), ("fix", diagnostic.fix)):
                if text:
                    err.print(f"  {label}: {text}", soft_wrap=True)
        failed = error.code.startswith(("E-net-", "E-party-"))
        raise SystemExit(3 if failed else 2) from None
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            err.print("interrupted")
        raise
