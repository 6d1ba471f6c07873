"""Options of the compiler, their text forms on the command line, and the debug variables."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.phi import FormatOptions

__all__ = [
    "DEBUG_VARIABLES",
    "LOCAL",
    "CompileOptions",
    "OpenShape",
    "calibration_samples",
    "check_batches",
    "check_writable",
    "is_real",
    "load_arrays",
    "parse_batches",
    "parse_owners",
    "parse_ranges",
    "parse_rings",
    "parse_shapes",
    "to_float32",
]

Array = npt.NDArray[Any]

OpenShape: TypeAlias = tuple[int | None, ...]
"""A shape whose first size may be None: the batch's."""

_MAX_SIZE = 2**31 - 1
"""Largest size of a dimension."""

LOCAL = ("auto", "none")
"""Whether owners of inputs compute anything before they share."""

DEBUG_VARIABLES = {
    "MPCC_ISA": "forces the native kernels' instruction set: scalar, avx2, avx512 or amx",
    "MPCC_DEBUG_PRG": "1 records every draw; a keystream block drawn twice ends the session",
}
"""Environment variables that change how mpcc runs, never what it computes; in `mpcc doctor`."""


@dataclass(frozen=True)
class CompileOptions:
    """What a compilation is asked for.

    Attributes:
        shapes: static shapes of inputs whose dimensions the model leaves open; None as the first
            size stands for the batch.
        owners: role (``client``, ``model``, ``public``) of named inputs and weights.
        weights: ``secret`` or ``public``, for all weights without an entry in ``owners``.
        protocol: name of a protocol in ``mpcc.protocols``.
        formats: ranges, accuracy and disclosure, see :class:`mpcc.ir.phi.FormatOptions`.
        keep_names: whether the artifact keeps the source model's node names.
        min_agreement: share of the decisions made on every output that must be the float model's,
            in the simulator with random coins, on the calibration data or, without any, on random
            inputs; what a decision is: :mod:`mpcc.passes.analysis.contract`. None asks for nothing.
        signature: of a SavedModel or a TensorFlow Lite file, the function to compile;
            ``serving_default`` if empty.
        local: ``auto``: owners of inputs compute themselves what is cheaper so, before they share
            (:mod:`mpcc.passes.partition`); ``none``: they share the model's inputs as they are.
        reveal_logits: whether owners of outputs may learn the scores before a last softmax or
            sigmoid, which they compute themselves then.
    """

    shapes: Mapping[str, OpenShape] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    weights: str = "secret"
    protocol: str = "rep3"
    formats: FormatOptions = field(default_factory=FormatOptions)
    keep_names: bool = False
    min_agreement: float | None = None
    signature: str = ""
    local: str = "auto"
    reveal_logits: bool = False

    def __post_init__(self) -> None:
        if self.local not in LOCAL:
            raise MpccError.of(
                "E-option-local",
                f"what owners compute can be {' or '.join(LOCAL)}, not {self.local!r}",
                "--local",
            )
        if self.weights not in ("secret", "public"):
            raise MpccError.of(
                "E-option-weights",
                f"weights can be secret or public, not {self.weights!r}",
                "--weights",
            )
        # NaN fails the comparison too.
        if self.min_agreement is not None and not 0 < self.min_agreement <= 1:
            raise MpccError.of(
                "E-option-agreement",
                f"{self.min_agreement!r} is no share of decisions",
                "--min-agreement",
                "write a number above 0 and up to 1, such as 0.99",
            )


def _split(items: Sequence[str], option: str, example: str) -> dict[str, str]:
    """NAME=VALUE pairs; the last '=' separates, since names of tensors may hold one."""
    problems: list[Diagnostic] = []
    pairs: dict[str, str] = {}
    for item in items:
        name, equals, value = item.rpartition("=")
        if not equals or not name or not value:
            problems.append(
                Diagnostic(
                    "E-option-syntax", f"{item!r} is not NAME=VALUE", option, f"write {example}"
                )
            )
        elif name in pairs:
            problems.append(
                Diagnostic("E-option-twice", f"{name!r} is given twice", option, "leave one out")
            )
        pairs[name] = value
    collect(problems)
    return pairs


def parse_shapes(items: Sequence[str]) -> dict[str, OpenShape]:
    """``NAME=1,3,224,224`` options; MpccError names every one that is malformed.

    ``batch`` as the first size becomes None.
    """
    example = "--shape image=1,3,224,224"
    problems: list[Diagnostic] = []
    shapes: dict[str, OpenShape] = {}
    for name, text in _split(items, "--shape", example).items():
        first, *others = text.split(",")
        try:
            shape = tuple(int(part) for part in (("1" if first == "batch" else first), *others))
        except ValueError:
            shape = (0,)
        if min(shape) < 1 or max(shape) > _MAX_SIZE:
            problems.append(
                Diagnostic(
                    "E-option-shape",
                    f"{text!r} is no list of positive sizes",
                    "--shape",
                    f"write {example}; with --batch, the first size may be `batch`",
                )
            )
        shapes[name] = (None, *shape[1:]) if first == "batch" else shape
    collect(problems)
    return shapes


def parse_batches(text: str) -> int | tuple[int, ...]:
    """``1,8,32`` of ``--batch``; one number as such.

    Raises:
        MpccError: ``E-option-batch``.
    """
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    check_batches(sizes, repr(text))
    return sizes[0] if len(sizes) == 1 else sizes


def check_batches(sizes: Sequence[int], text: str = "") -> None:
    """Refuse what is no list of different batch sizes.

    Raises:
        MpccError: ``E-option-batch``.
    """
    good = all(isinstance(n, int) and 1 <= n <= _MAX_SIZE for n in sizes)
    if not sizes or not good or len(set(sizes)) < len(sizes):
        raise MpccError.of(
            "E-option-batch",
            f"{text or list(sizes)} is no list of different positive sizes",
            "--batch",
            "write --batch 1,8,32",
        )


def parse_ranges(items: Sequence[str]) -> dict[str, tuple[float, float]]:
    """``NAME=lo:hi`` options; MpccError names every one that is malformed."""
    example = "--input-range image=-1:1"
    problems: list[Diagnostic] = []
    ranges: dict[str, tuple[float, float]] = {}
    for name, text in _split(items, "--input-range", example).items():
        try:
            lo, hi = (float(part) for part in text.split(":"))
        except ValueError:
            lo, hi = math.nan, math.nan
        if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
            problems.append(
                Diagnostic(
                    "E-option-interval",
                    f"{text!r} is no interval lo:hi",
                    "--input-range",
                    f"write {example}",
                )
            )
        ranges[name] = (lo, hi)
    collect(problems)
    return ranges


def parse_rings(items: Sequence[str]) -> tuple[int | None, dict[str, int]]:
    """``auto``, ``32``, ``64`` and ``NODE=64`` options: the ring, and that of named nodes.

    Raises:
        MpccError: every option that is malformed.
    """
    sizes = {"auto": None, "32": 32, "64": 64}
    whole = [item for item in items if "=" not in item]
    named = _split([item for item in items if "=" in item], "--ring", "--ring conv1=64")
    problems = [
        Diagnostic("E-option-ring", f"no ring has {text!r} bits", "--ring", "use auto, 32 or 64")
        for text in whole
        if text not in sizes
    ]
    problems += [
        Diagnostic("E-option-ring", f"no ring has {text!r} bits", "--ring", "use 32 or 64")
        for text in named.values()
        if text not in ("32", "64")
    ]
    if len(whole) > 1:
        problems.append(
            Diagnostic(
                "E-option-twice",
                f"several rings are given: {', '.join(whole)}",
                "--ring",
                "name the nodes of the smaller part, as NODE=64",
            )
        )
    collect(problems)
    return sizes[whole[0]] if whole else None, {name: int(text) for name, text in named.items()}


def parse_owners(items: Sequence[str]) -> dict[str, str]:
    """``NAME=ROLE`` options with ROLE client, model or public."""
    roles = ("client", "model", "public")
    owners = _split(items, "--owner", "--owner mean=public")
    collect(
        Diagnostic(
            "E-option-owner",
            f"{name!r} cannot be owned by {role!r}",
            "--owner",
            f"use one of {', '.join(roles)}",
        )
        for name, role in owners.items()
        if role not in roles
    )
    return owners


def is_real(array: Array) -> bool:
    """Whether an array has elements that can be taken as real numbers: float, integer, bool."""
    return isinstance(array, np.ndarray) and array.dtype.kind in "fiub"


def to_float32(array: Array) -> Array:
    """The array as binary32; what is beyond its range becomes an infinity, without a warning."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def check_writable(path: Path, option: str) -> None:
    """Refuse a file that cannot be written, before the work whose result it is to take.

    Raises:
        MpccError: ``E-file-write``: its directory is missing, or it is a directory itself.
    """
    if not path.parent.is_dir():
        raise MpccError.of(
            "E-file-write", f"{path.parent} is no directory", option, "make the directory first"
        )
    if path.is_dir():
        raise MpccError.of(
            "E-file-write", f"{path} is a directory", option, "name a file inside it"
        )
    if not os.access(path.parent, os.W_OK):
        raise MpccError.of(
            "E-file-write", f"{path.parent} is not writable", option, "choose another directory"
        )


def _read(path: Path, option: str) -> Array | Mapping[str, Array]:
    fix = "save it with numpy.save or numpy.savez"
    try:
        # Opened here: numpy leaves a file open that it cannot read.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                found = {"the array": loaded}
            else:
                with loaded:
                    found = {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise MpccError.of(
            "E-file-missing", f"no file {path}", option, "check the path; it may be relative"
        ) from None
    # Whatever numpy's, zipfile's and zlib's parsers raise for a damaged file.
    except Exception as error:
        raise MpccError.of(
            "E-file-format",
            f"{path} is no .npy or .npz file of plain arrays ({type(error).__name__})",
            option,
            fix,
        ) from None
    for name, array in found.items():
        if not is_real(array):
            raise MpccError.of(
                "E-file-format", f"{name} in {path} does not hold numbers", option, fix
            )
    return loaded if isinstance(loaded, np.ndarray) else found


def load_arrays(items: Sequence[str], option: str) -> dict[str, Array]:
    """Arrays from ``NAME=x.npy`` and ``DATA.npz`` arguments, by name.

    Raises:
        MpccError: a file is missing, has another format, or names an array twice.
    """
    arrays: dict[str, Array] = {}
    for item in items:
        name, _, path = item.rpartition("=")
        found = _read(Path(path), option)
        if isinstance(found, np.ndarray):
            if not name:
                raise MpccError.of(
                    "E-option-syntax",
                    f"{item} is a single array, so it needs the name of an input",
                    option,
                    f"write NAME={item}",
                )
            found = {name: found}
        elif name:
            raise MpccError.of(
                "E-option-syntax", f"{path} has names of its own", option, f"write {path}"
            )
        for key, array in found.items():
            if key in arrays:
                raise MpccError.of(
                    "E-option-twice", f"{key!r} is given twice", option, "leave one out"
                )
            arrays[key] = array
    return arrays


def calibration_samples(
    arrays: Mapping[str, Array],
    shapes: Mapping[str, tuple[int, ...]],
    batched: Collection[str] = (),
) -> list[dict[str, Array]]:
    """Split calibration arrays into one dict of inputs per sample.

    Args:
        arrays: per input [S, *shape], or [S, *shape[1:]] where the input's first axis is 1, or one
            sample [*shape].
        shapes: static shape of every input of the model.
        batched: inputs whose first axis is the batch that the user chose. They have rows
            [R, *shape[1:]], or [S, B, *shape[1:]] for S * B rows; the others then have one sample
            for every row. Rows fill batches in order, the last one is filled up from the start.

    Raises:
        MpccError: an input is missing, unknown, not finite, of another shape, or the numbers
            of samples differ.
    """
    problems: list[Diagnostic] = []
    columns: dict[str, Array] = {}
    for name in sorted(set(arrays) - set(shapes)):
        problems.append(
            Diagnostic(
                "E-calibrate-name",
                f"the model has no input {name!r}",
                "--calibrate",
                f"its inputs are {', '.join(shapes)}",
            )
        )
    for name, shape in shapes.items():
        if name not in arrays:
            problems.append(
                Diagnostic(
                    "E-calibrate-name",
                    f"no data for input {name!r}",
                    "--calibrate",
                    f"the file needs arrays named {', '.join(shapes)}",
                )
            )
            continue
        if not is_real(arrays[name]):
            problems.append(
                Diagnostic(
                    "E-calibrate-values",
                    f"{name!r} does not hold numbers",
                    "--calibrate",
                    "save floats or integers",
                )
            )
            continue
        row = shape[1:] if name in batched else shape
        array = _samples(to_float32(arrays[name]), row, name in batched)
        if array is None:
            needed = f"rows of {row}" if name in batched else f"{shape}"
            problems.append(
                Diagnostic(
                    "E-calibrate-shape",
                    f"{name!r} has shape {arrays[name].shape}, samples need {needed}",
                    "--calibrate",
                    "stack the samples along a new first axis",
                )
            )
            continue
        if not bool(np.isfinite(array).all()):
            problems.append(
                Diagnostic(
                    "E-calibrate-values",
                    f"{name!r} has infinities or NaN",
                    "--calibrate",
                    "leave such samples out",
                )
            )
        columns[name] = array
    if not problems and len({len(a) for a in columns.values()}) > 1:
        counts = ", ".join(f"{n}: {len(a)}" for n, a in columns.items())
        problems.append(
            Diagnostic(
                "E-calibrate-count",
                f"numbers of samples differ ({counts})",
                "--calibrate",
                "give every input the same number of samples",
            )
        )
    collect(problems)
    count = len(next(iter(columns.values()))) if columns else 0
    size = next((shapes[name][0] for name in shapes if name in batched), 1)
    return [
        {
            name: _batch_of(array, i, size) if name in batched else array[i]
            for name, array in columns.items()
        }
        for i in range(0, count, size)
    ]


def _samples(array: Array, shape: tuple[int, ...], rows: bool) -> Array | None:
    """Samples, or rows of a batch, [count, *shape]; None if the array is no such thing."""
    if rows:
        if array.ndim == len(shape) + 2 and array.shape[2:] == shape:
            array = array.reshape(-1, *shape)
    elif array.shape == shape:
        array = array[None]
    elif shape[:1] == (1,) and array.shape[1:] == shape[1:]:
        array = array[:, None]
    return array if array.shape[1:] == shape and array.shape[0] > 0 else None


def _batch_of(rows: Array, start: int, size: int) -> Array:
    """``size`` rows from ``start``, going on at the first one."""
    taken: Array = np.take(rows, range(start, start + size), axis=0, mode="wrap")
    return taken
