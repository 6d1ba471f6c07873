"""`mpcc compile`: from a model to an artifact."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mpcc.cli.console import err, out, status
from mpcc.errors import MpccError

__all__ = ["compile"]


class Visibility(str, Enum):
    """Who may know the weights."""

    secret = "secret"
    public = "public"


class Local(str, Enum):
    """Whether owners of inputs compute before they share."""

    auto = "auto"
    none = "none"


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


def compile(
    model: Annotated[
        Path, typer.Argument(help="ONNX, Keras or TensorFlow Lite file, or folder of a SavedModel.")
    ],
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
    local: Annotated[
        Local,
        typer.Option(
            help="auto: owners of inputs compute in the clear, before they share, what depends on "
            "their own inputs and public weights alone, where that is cheaper; none: they share "
            "the inputs as they are.",
        ),
    ] = Local.auto,
    reveal_logits: Annotated[
        bool,
        typer.Option(
            "--reveal-logits",
            help="Open the scores before a last softmax or sigmoid to the output's owner, who "
            "computes it in the clear: cheaper, but it learns more than the answer.",
        ),
    ] = False,
    protocol: Annotated[str, typer.Option(help="Protocol, see `mpcc ops`.")] = "rep3",
    network: Annotated[
        str,
        typer.Option(metavar="lan|wan|edge|none|FILE.toml", help="Network that it is made for."),
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
        typer.Option(
            metavar="NAME",
            help="Function of a SavedModel or TensorFlow Lite model; default serving_default.",
        ),
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
        local=local.value,
        reveal_logits=reveal_logits,
        min_agreement=min_agreement,
    )
    data = None if calibrate is None else options.load_arrays([str(calibrate)], "--calibrate")
    with status("compiling") as spinner:
        compiled = api.compile(
            model,
            options=settings,
            calibration=data,
            batch=sizes,
            network=network,
            dump_after=dump_after or [],
            dump=lambda text: out.print(text, soft_wrap=True),
            progress=lambda step: spinner.update(step),
        )
        paths = compiled.save(target)
    out.print(compiled.summary())
    for note in filter(None, (api.model_note(model), *compiled.notes)):
        err.print(note, soft_wrap=True)
    for path in paths:
        err.print(f"wrote {path}", soft_wrap=True)
