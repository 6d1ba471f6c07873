"""What several commands share: arguments, reading an artifact, checking and writing files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mpcc.cli.console import err, out
from mpcc.errors import MpccError

if TYPE_CHECKING:
    from mpcc.artifact import Artifact

__all__ = [
    "ArtifactArgument",
    "InputOption",
    "OutputOption",
    "WeightsOption",
    "check_outputs",
    "load_artifact",
    "write_outputs",
]

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

SHOWN = 16
"""Outputs of up to so many elements are printed whole."""


def load_artifact(path: Path) -> Artifact:
    """The artifact of this path; MpccError if there is none, or it is none."""
    from mpcc.artifact import Artifact

    if not path.is_file():
        raise MpccError.of(
            "E-file-missing",
            "the artifact does not exist" if not path.exists() else "the artifact is not a file",
            str(path),
            "write one with `mpcc compile MODEL`",
        )
    return Artifact.load(path)


def check_outputs(targets: dict[str, Path | None]) -> None:
    """Refuse files that cannot be written, by option, before the work is done."""
    from mpcc.options import check_writable

    for option, path in targets.items():
        if path is not None:
            check_writable(path, option)


def write_outputs(outputs: dict[str, Any], path: Path | None) -> None:
    """Print a row per output, and write the arrays to `path` if it is named."""
    import numpy as np

    from mpcc.files import atomic_write

    table = Table("output", "shape", "min", "max", "values")
    for name, array in outputs.items():
        ends = [f"{array.min():.6g}", f"{array.max():.6g}"] if array.size else ["", ""]
        shown = array.size <= SHOWN
        values = " ".join(f"{v:.6g}" for v in array.ravel()) if shown else "(-o y.npz keeps them)"
        table.add_row(name, str(array.shape), *ends, values)
    out.print(table)
    if path is not None:
        # The answer belongs to its owner alone, as the input did.
        with atomic_write(path, mode=0o600) as file:
            np.savez(file, **outputs)
        err.print(f"wrote {path}")
