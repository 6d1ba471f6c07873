"""What an artifact is, costs, tells: `mpcc inspect`, `cost`, `report`, `verify`, `diff`."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mpcc.cli.common import ArtifactArgument, check_outputs, load_artifact
from mpcc.cli.console import err, out, status
from mpcc.errors import MpccError

__all__ = ["cost", "diff", "inspect", "report", "verify"]


class Stage(str, Enum):
    """A level of the IR."""

    tensor = "tensor"
    secure = "secure"
    party = "party"


class Format(str, Enum):
    """How a graph is written."""

    text = "text"
    dot = "dot"
    html = "html"
    tensorboard = "tensorboard"


class Sort(str, Enum):
    """Order of the rows of a report."""

    program = "program"
    time = "time"
    bytes = "bytes"
    rounds = "rounds"
    name = "name"


NetworkOption = Annotated[
    str,
    typer.Option(metavar="lan|wan|edge|none|FILE.toml", help="Network profile of the times."),
]
PrivateOption = Annotated[
    Path | None,
    typer.Option(
        "--private",
        metavar="M.private.json",
        help="The owner's report: adds names of the source model, errors, reasons. What is "
        "written is private then.",
    ),
]


def inspect(
    artifact: ArtifactArgument,
    logdir: Annotated[
        Path | None, typer.Argument(help="Directory for --format tensorboard, made if absent.")
    ] = None,
    stage: Annotated[Stage, typer.Option(help="Level of the IR.")] = Stage.secure,
    party: Annotated[
        int | None, typer.Option(min=0, max=2, help="Only this party's ops (stage party).")
    ] = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="Text, Graphviz, a page to walk through, or a log for TensorBoard (the party "
            "level).",
        ),
    ] = Format.text,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it here.")
    ] = None,
    network: NetworkOption = "lan",
    private: PrivateOption = None,
) -> None:
    """Print the program at one level; the party level is decoded from the GraphDef itself.

    The page (--format html) has all three levels, with the cost of every layer and operation.
    """
    from mpcc import api

    loaded = load_artifact(artifact)
    check_outputs({"--output": output})
    if (logdir is None) == (form is Format.tensorboard):
        raise MpccError.of(
            "E-option-format",
            "a log directory goes with --format tensorboard, and nothing else does",
            "LOGDIR",
            "mpcc inspect M.mpcc LOGDIR --format tensorboard",
        )
    if logdir is not None:
        if output is not None or party is not None:
            raise MpccError.of("E-option-format", "TensorBoard shows all parties, in its own file")
        with status("writing"):
            written = api.write_tensorboard(loaded, logdir)
        err.print(f"wrote {written}", soft_wrap=True)
        return
    if form is Format.html:
        if party is not None:
            raise MpccError.of(
                "E-option-party", "the page has all parties", "--party", "leave it out"
            )
        text = api.program_page(loaded, network, stage.value, private)
    else:
        text = api.inspect(loaded, stage.value, party, form.value)
    if output is None:
        sys.stdout.write(text)
    else:
        _write(output, text, private)


def _write(path: Path, text: str, private: Path | None) -> None:
    """Write a report; what came from a private one is readable by its owner alone."""
    from mpcc.files import atomic_write

    with atomic_write(path, mode=0o644 if private is None else 0o600) as file:
        file.write(text.encode())
    err.print(f"wrote {path}", soft_wrap=True)


def cost(
    artifact: ArtifactArgument,
    network: NetworkOption = "lan",
    sort: Annotated[Sort, typer.Option(help="Order of the rows.")] = Sort.program,
    depth: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Levels of the table: groups (with --private), layers, steps. Default: down to "
            "layers.",
        ),
    ] = None,
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
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="trace.json",
            help="Written by `mpcc run --trace`: measured times of layers, shown on the page.",
        ),
    ] = None,
    private: PrivateOption = None,
) -> None:
    """Predict bytes, rounds and time, per layer and in total."""
    from mpcc import api

    loaded = load_artifact(artifact)
    check_outputs({"--html": html, "--json": json_path})
    measured = None if stats is None else api.load_stats(stats)
    traced = None if trace is None else api.load_trace(trace, loaded)
    report = api.cost(loaded, network)
    out.print(api.cost_tree(report, sort.value, depth, private, out.width))
    if html is not None:
        page = api.cost_page(loaded, report, measured, traced=traced, private=private)
        _write(html, page, private)
    if json_path is not None:
        _write(json_path, report.json(), None)


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
    from mpcc import api

    loaded = load_artifact(artifact)
    with status("verifying"):
        report = api.verify(loaded, policy)
    if as_json:
        sys.stdout.write(report.json())
    else:
        out.print(report.render())
    if not report.accepted:
        raise typer.Exit(1)


def diff(
    before: Annotated[Path, typer.Argument(metavar="A.mpcc", help="The program as it was.")],
    after: Annotated[Path, typer.Argument(metavar="B.mpcc", help="The program as it is.")],
    network: NetworkOption = "lan",
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare two programs: cost in total and per layer, formats, accuracy.

    Errors are those of A.private.json and B.private.json, where the owner has them.
    """
    from mpcc import api

    found = api.diff(load_artifact(before), load_artifact(after), network, before, after)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=1) + "\n")
        return
    for table in found.tables():
        out.print(table)
