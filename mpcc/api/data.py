"""The arrays that a program is given: inputs and weights, checked against what it declares."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc import artifact as files
from mpcc.artifact import Artifact
from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.encodings import check_ids
from mpcc.options import is_real, to_float32

__all__ = [
    "Array",
    "PathLike",
    "checked_inputs",
    "checked_weights",
    "names_beside",
    "weights_paths",
]

Array = npt.NDArray[Any]
PathLike = str | os.PathLike[str]


def names_beside(path: Path) -> list[str]:
    """Stems of the private files beside an artifact, the nearest first.

    ``M`` for ``M.mpcc``; ``M.b8``, then ``M``, which all batch sizes share, for ``M.b8.mpcc``.
    """
    shared = re.fullmatch(r"(.+)\.b[0-9]+", path.stem)
    return [path.stem, *([shared[1]] if shared else [])]


def weights_paths(given: PathLike) -> list[Path]:
    """Where the weights may be, for what the user named.

    Beside an artifact ``M.mpcc`` its ``M.weights``, for ``M.b8.mpcc`` also ``M.weights``, which the
    programs of all batch sizes share; of another file this file.
    """
    path = Path(given)
    if path.suffix != ".mpcc":
        return [path]
    return [path.with_name(f"{name}.weights") for name in names_beside(path)]


def checked_inputs(artifact: Artifact, given: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs as float32 of the right shapes and ranges; MpccError lists all that is wrong.

    They are the model's own: what owners compute of them comes later.
    """
    _check_interface(artifact)
    problems: list[Diagnostic] = []
    arrays: dict[str, Array] = {}
    ports = {port["name"]: port for port in artifact.given_inputs}
    for name in sorted(set(given) - set(ports)):
        problems.append(
            Diagnostic(
                "E-input-name",
                f"the program has no input {name!r}",
                "inputs",
                f"its inputs are {', '.join(ports)}",
            )
        )
    for name, port in ports.items():
        if name not in given:
            problems.append(
                Diagnostic(
                    "E-input-missing", f"input {name!r} is not given", "inputs", "add its array"
                )
            )
            continue
        array = np.asarray(given[name])
        shape, rows = tuple(port["shape"]), port.get("rows", 0)
        if rows:
            shape = shape[:-1]
        if not is_real(array) or array.shape != shape:
            problems.append(
                Diagnostic(
                    "E-input-shape",
                    f"needs numbers of shape {shape}, got {array.dtype} {array.shape}",
                    f"input {name}",
                    "give one such array; other sizes need another compilation with "
                    "--shape, where the model leaves the axis open",
                )
            )
            continue
        if rows:
            if not check_ids(array, rows):
                problems.append(
                    Diagnostic(
                        "E-input-range",
                        f"not all are whole numbers from {-rows} to {rows - 1}",
                        f"input {name}",
                        "these are numbers of a table's rows; give those of the model's vocabulary",
                    )
                )
                continue
            # Rows are many times as large: they are made when the program was found to fit.
            arrays[name] = array
            continue
        array = to_float32(array)
        if port.get("whole") and not bool(np.all(array == np.rint(array))):
            problems.append(
                Diagnostic(
                    "E-input-range",
                    "not all are whole numbers",
                    f"input {name}",
                    "these are truth values, or numbers of a table's rows",
                )
            )
            continue
        # A comparison with NaN is false, so NaN is refused here too. The offending values are
        # the client's secret and stay out of the message.
        if not bool(np.all((array >= port["lo"]) & (array <= port["hi"]))):
            problems.append(
                Diagnostic(
                    "E-input-range",
                    f"values outside [{port['lo']}, {port['hi']}] or not finite",
                    f"input {name}",
                    "scale the data as the model expects it, or compile with --input-range",
                )
            )
        arrays[name] = array
    collect(problems)
    return arrays


def _read_weights(
    artifact: Artifact, weights: PathLike | Mapping[str, Array]
) -> Mapping[str, Array]:
    if isinstance(weights, Mapping):
        return weights
    paths = weights_paths(weights)
    found = [path for path in paths if path.is_file()]
    for path in found[:-1]:
        with contextlib.suppress(MpccError):
            return files.load_weights(path, artifact.program_sha256)
    if found:
        return files.load_weights(found[-1], artifact.program_sha256)
    raise MpccError.of(
        "E-file-missing",
        "the weights file does not exist",
        " or ".join(map(str, paths)),
        "name the file that `mpcc compile` wrote beside the artifact with --weights",
    )


def checked_weights(
    artifact: Artifact, weights: PathLike | Mapping[str, Array]
) -> Mapping[str, Array]:
    """The weights, of the names, shapes, words and widths that the program declares.

    Raises:
        MpccError: every weight that does not fit, without any of its values.
    """
    found = _read_weights(artifact, weights)
    problems: list[Diagnostic] = []
    declared = {
        op.attrs["name"]: op.attrs for op in artifact.secure_module.main.walk("secure.weight")
    }
    for name in sorted(set(found) - set(declared)):
        problems.append(Diagnostic("E-weights-name", "the program has no such weight", name))
    for name, attrs in declared.items():
        if name not in found:
            problems.append(Diagnostic("E-weights-name", "not in the weights file", name))
            continue
        words = np.asarray(found[name])
        if words.shape != attrs["shape"] or words.dtype.kind not in "iu":
            kind = f"{words.dtype} {words.shape}"
            problems.append(
                Diagnostic("E-weights-shape", f"{kind}, not integers {attrs['shape']}", name)
            )
        elif 8 * words.dtype.itemsize != attrs["ring"]:
            problems.append(
                Diagnostic(
                    "E-weights-shape", f"{words.dtype}, not words of {attrs['ring']} bits", name
                )
            )
        else:
            signed = words.view(f"i{words.dtype.itemsize}")
            limit = 1 << min(attrs["width"], attrs["ring"] - 1)
            if not bool(np.all((signed > -limit) & (signed < limit))):
                problems.append(
                    Diagnostic("E-weights-range", f"values beyond {attrs['width']} bits", name)
                )
    collect(problems)
    return found


def _check_interface(artifact: Artifact) -> None:
    """Refuse an artifact whose manifest and program name different inputs or outputs."""
    main = artifact.secure_module.main
    program = {
        op.attrs["name"]: tuple(op.attrs[k] for k in ("shape", "owner", "lo", "hi", "rows"))
        for op in main.walk("secure.input")
    }
    manifest = {
        i["name"]: (tuple(i["shape"]), i["owner"], i["lo"], i["hi"], i.get("rows", 0))
        for i in artifact.inputs
    }
    opened = {op.attrs["name"]: op.attrs["owner"] for op in main.walk("secure.reveal")}
    if program != manifest or opened != {o["name"]: o["owner"] for o in artifact.outputs}:
        raise MpccError.of(
            "E-artifact-interface",
            "the manifest's inputs or outputs are not the program's",
            "manifest.json",
            "compile the model again",
        )
