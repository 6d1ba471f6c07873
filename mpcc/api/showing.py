"""What a program is, what it costs, and what its owner's report says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from mpcc import artifact as files
from mpcc import cost as costs
from mpcc import reports
from mpcc.api.data import PathLike, names_beside
from mpcc.artifact import Artifact
from mpcc.errors import MpccError
from mpcc.files import atomic_write
from mpcc.ir.core import Module, Op
from mpcc.ir.dot import to_dot
from mpcc.ir.text import print_module
from mpcc.ir.types import place_of

__all__ = [
    "cost",
    "cost_page",
    "cost_tree",
    "diff",
    "inspect",
    "load_stats",
    "load_trace",
    "owner_report",
    "program_page",
    "write_tensorboard",
]


def inspect(artifact: Artifact, stage: str, party: int | None = None, form: str = "text") -> str:
    """The program at one level as text.

    Args:
        artifact: the program.
        stage: ``tensor``, ``secure`` or ``party``; the party level is decoded from the GraphDef.
        party: keep only ops and messages at this compute party.
        form: ``text`` or ``dot`` (Graphviz).
    """
    from mpcc.emit.graphdef import parse

    if stage == "party":
        module = parse(artifact.program)
    else:
        module = artifact.tensor_module if stage == "tensor" else artifact.secure_module
    if party is not None and stage != "party":
        raise MpccError.of(
            "E-option-party", "only the party level has parties", "--party", "add --stage party"
        )
    keep = None if party is None else _concerns(f"P{party}")
    return to_dot(module, keep) if form == "dot" else print_module(module, keep)


def write_tensorboard(artifact: Artifact, logdir: PathLike) -> Path:
    """Write the program into a log directory of TensorBoard, which is made if absent.

    Layers are name scopes, places are devices. The directory's other files stay.

    Returns:
        The event file.

    Raises:
        MpccError: the program is none, or the file cannot be written.
    """
    from mpcc.emit.tensorboard import event_file

    seconds = time.time()
    path = Path(logdir) / f"events.out.tfevents.{int(seconds)}.mpcc"
    data = event_file(artifact.program, seconds)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MpccError.of(
            "E-file-write", f"cannot write: {error.strerror or error}", str(path)
        ) from None
    with atomic_write(path) as file:
        file.write(data)
    return path


def _concerns(place: str) -> Callable[[Op], bool]:
    """Whether a party op runs at a place, sends from it, or receives there."""

    def keep(op: Op) -> bool:
        return place in {place_of(v.type) for v in (*op.operands, *op.results)}

    return keep


def cost(artifact: Artifact, network: str = "lan") -> costs.Report:
    """The cost of the program that is in the artifact, under a network profile.

    Raises:
        MpccError: the profile is unknown or malformed.
    """
    from mpcc.emit.graphdef import parse
    from mpcc.protocols import protocol_named

    threat_model = protocol_named(artifact.protocol).threat_model
    return costs.predict(
        parse(artifact.program), costs.profile(network), artifact.manifest, threat_model
    )


def diff(
    before: Artifact,
    after: Artifact,
    network: str = "lan",
    before_path: PathLike | None = None,
    after_path: PathLike | None = None,
) -> costs.Difference:
    """What changed in cost, formats and accuracy from one artifact to another.

    Args:
        before: the first artifact.
        after: the second.
        network: profile of the times.
        before_path: its file; errors come from the private report beside it, if there is one.
        after_path: likewise.

    Raises:
        MpccError: the profile is unknown, or a private report is damaged.
    """
    private = (_private_beside(before_path), _private_beside(after_path))
    return costs.compare(cost(before, network), cost(after, network), private)


def _private_beside(path: PathLike | None) -> dict[str, Any]:
    """The owner's private report beside an artifact; empty where there is none."""
    if path is None:
        return {}
    artifact = Path(path)
    reports_ = (artifact.with_name(f"{n}.private.json") for n in names_beside(artifact))
    found = next((p for p in reports_ if p.is_file()), None)
    return {} if found is None else files.load_private(found)


def cost_tree(
    report: costs.Report,
    sort: str = "program",
    depth: int | None = None,
    private: PathLike | None = None,
    width: int = 120,
) -> RenderableType:
    """The cost as a tree for the terminal.

    Args:
        report: of :func:`cost`.
        sort: of :data:`mpcc.reports.SORTS`.
        depth: levels that are shown; None: down to layers.
        private: ``M.private.json``; layers are grouped by the names of the source model then.
        width: characters of a line; what is read least is left out of a narrow one.

    Raises:
        MpccError: the private report is none of this version.
    """
    nodes = _owner(private).nodes if private is not None else None
    return reports.cost_tree(report, sort, depth, nodes, width)


def cost_page(
    artifact: Artifact,
    report: costs.Report,
    measured: Mapping[str, Any] | None = None,
    accuracy: Mapping[str, str] | None = None,
    picture: str = "",
    traced: Mapping[str, float] | None = None,
    private: PathLike | None = None,
) -> str:
    """The cost report as one self-contained HTML page.

    Args:
        artifact: the program.
        report: of :func:`cost`.
        measured: statistics of a run, from :func:`load_stats`.
        accuracy: lines for the part on accuracy, label to text.
        picture: a ``data:image/...`` URI that is shown at the top.
        traced: measured seconds per layer, from :func:`load_trace`.
        private: ``M.private.json``; the page shows errors, reasons and names of the source model
            then, and is the owner's.

    Raises:
        MpccError: the picture is not an embedded image, or the private report none of this version.
    """
    return reports.cost_page(
        report,
        measured=measured,
        traced=traced,
        accuracy=accuracy,
        picture=picture,
        disclosed_bits=artifact.disclosed_bits,
        decisions=reports.decisions(artifact.secure_module),
        owner=None if private is None else _owner(private),
    )


def program_page(
    artifact: Artifact, network: str = "lan", stage: str = "secure", private: PathLike | None = None
) -> str:
    """The graphs of all three levels as one self-contained HTML page.

    Args:
        artifact: the program.
        network: profile of the times.
        stage: the level that is shown first.
        private: ``M.private.json``; the page names the nodes of the source model then, and is
            the owner's.

    Raises:
        MpccError: the profile is unknown, or the private report none of this version.
    """
    from mpcc.emit.graphdef import parse

    levels: dict[str, Module] = {
        "tensor": artifact.tensor_module,
        "secure": artifact.secure_module,
        "party": parse(artifact.program),
    }
    return reports.program_page(
        [reports.Level(name, module) for name, module in levels.items()],
        cost(artifact, network),
        stage,
        None if private is None else _owner(private),
    )


def _owner(private: PathLike) -> reports.Owner:
    return reports.Owner.of(files.load_private(_existing(private)))


def _existing(private: PathLike) -> Path:
    """The path of a private report; MpccError if there is no file."""
    path = Path(private)
    if not path.is_file():
        raise MpccError.of(
            "E-file-missing",
            "the private report does not exist",
            os.fspath(path),
            "`mpcc compile` writes it beside the artifact",
        )
    return path


def load_trace(path: PathLike, artifact: Artifact) -> dict[str, float]:
    """Measured seconds of local work per layer, of the party that has most.

    Args:
        path: what ``mpcc run --trace`` wrote. Of several runs the fastest counts, per party and
            layer.
        artifact: the program that ran.

    Raises:
        MpccError: no such file, or not a trace of this program.
    """
    from mpcc.emit.graphdef import parse

    fix = "write it with `mpcc run --trace`"
    try:
        trace = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise MpccError.of(
            "E-file-missing", f"cannot read: {error.strerror}", str(path), fix
        ) from None
    except (ValueError, RecursionError):
        trace = None
    try:
        return reports.traced_layers(trace, parse(artifact.program))
    except (KeyError, TypeError, ValueError, IndexError):
        raise MpccError.of("E-file-format", "no trace of this program", str(path), fix) from None


def load_stats(path: PathLike) -> dict[str, Any]:
    """Statistics that ``mpcc run --json`` wrote.

    Raises:
        MpccError: no such file, or not what ``run`` writes.
    """
    fix = "write it with `mpcc run --json`"
    try:
        stats = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise MpccError.of(
            "E-file-missing", f"cannot read: {error.strerror}", str(path), fix
        ) from None
    except (ValueError, RecursionError):
        stats = None
    if not _are_stats(stats):
        raise MpccError.of("E-file-format", "no statistics of `mpcc run`", str(path), fix)
    return dict(stats)


def _are_stats(value: Any) -> bool:
    """Whether a JSON value has the figures that the report shows, in their types."""

    def number(x: Any) -> bool:
        # An integer may be too long for a float.
        return type(x) in (int, float) and abs(x) < 2.0**64

    if not isinstance(value, dict):
        return False
    seconds, sent = value.get("online_seconds"), value.get("bytes_sent")
    optional = [value.get(key) for key in ("setup_seconds", "max_deviation")]
    return (
        isinstance(seconds, list)
        and len(seconds) > 0
        and all(number(s) for s in seconds)
        and isinstance(sent, dict)
        and all(type(n) is int for n in (value.get("rounds"), *sent.values()))
        and all(x is None or number(x) for x in optional)
    )


def owner_report(path: PathLike, *, all_layers: bool = False) -> list[RenderableType]:
    """The model owner's private report for people.

    Args:
        path: ``M.private.json``.
        all_layers: show every layer in the model's order, not only those with the largest shares
            of the error.

    Raises:
        MpccError: no such file, or no private report of this version.
    """
    return reports.owner_tables(files.load_private(_existing(path)), all_layers=all_layers)
