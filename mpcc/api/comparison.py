"""A program's outputs beside those of the model in floating point."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpcc.api.data import Array, PathLike
from mpcc.artifact import Artifact
from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.interp import real

__all__ = ["Comparison", "Deviation", "compare", "model_note"]


@dataclass(frozen=True)
class Deviation:
    """One output against the reference.

    Attributes:
        deviation: largest distance.
        magnitude: the reference's largest value.
        decision: what is decided on the output (:mod:`mpcc.passes.analysis.contract`); empty if the
            program is not known.
        rows: decisions.
        agreeing: of these, the same as the reference's.
    """

    deviation: float
    magnitude: float
    decision: str = ""
    rows: int = 0
    agreeing: int = 0


@dataclass(frozen=True)
class Comparison:
    """A comparison with the model in floating point.

    Attributes:
        engine: what computed the reference.
        rows: by output name.
    """

    engine: str
    rows: dict[str, Deviation]


def model_note(model: PathLike) -> str:
    """One line about how a model of this format is read; empty if there is nothing to say."""
    from mpcc.frontend import format_of

    return format_of(model).note


def compare(
    model: PathLike,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    artifact: Artifact | None = None,
) -> Comparison:
    """Compare outputs with the model in floating point.

    onnxruntime computes the reference where it is installed, mpcc's float interpreter otherwise.

    Args:
        model: path of the model.
        inputs: arrays by input name.
        outputs: what the program gave.
        artifact: the program; with it, decisions are compared too.

    Raises:
        MpccError: the model cannot be read, or has other inputs or outputs.
    """
    from mpcc.passes.analysis.contract import rules

    if not Path(model).exists():
        raise MpccError.of(
            "E-file-missing",
            "the reference model does not exist",
            os.fspath(model),
            "check --reference",
        )
    from mpcc.frontend import format_of, import_model

    try:
        import onnxruntime
    except ImportError:
        onnxruntime = None
    if onnxruntime is None or format_of(model).title != "ONNX":
        imported = import_model(model, {n: a.shape for n, a in inputs.items()})
        reference = real.run(imported.module, imported.constants, inputs)
        engine = "mpcc float interpreter"
    else:
        reference = _onnxruntime(model, inputs)
        engine = f"onnxruntime {onnxruntime.__version__}"
    collect(
        Diagnostic(
            "E-compare-output",
            f"the reference has no output {name!r} of shape {value.shape}",
            os.fspath(model),
            "give the model that was compiled",
        )
        for name, value in outputs.items()
        if name not in reference or np.shape(reference[name]) != value.shape
    )
    rows = {}
    decided = {} if artifact is None else rules(artifact.tensor_module)
    for name, value in outputs.items():
        # Truth values are subtracted as numbers.
        away = np.subtract(value, reference[name], dtype=np.float64)
        found = Deviation(
            float(np.max(np.abs(away), initial=0.0)),
            float(np.max(np.abs(reference[name]), initial=0.0)),
        )
        if name in decided:
            rule = decided[name]
            same = rule.decide(value) == rule.decide(reference[name])
            found = replace(
                found, decision=rule.text, rows=len(same), agreeing=int(np.count_nonzero(same))
            )
        rows[name] = found
    return Comparison(engine, rows)


_ONNXRUNTIME_TYPES = {
    f"tensor({name})": np.dtype(numpy)
    for name, numpy in {
        "bool": "bool",
        "double": "float64",
        "float16": "float16",
        **{f"{s}int{bits}": f"{s}int{bits}" for s in ("", "u") for bits in (8, 16, 32, 64)},
    }.items()
}


def _onnxruntime(model: PathLike, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of a model by name. onnxruntime's own messages may show values and are left out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(model), options, providers=["CPUExecutionProvider"]
        )
        names = [o.name for o in session.get_outputs()]
        types = {i.name: _ONNXRUNTIME_TYPES.get(i.type, np.float32) for i in session.get_inputs()}
        feeds = {n: np.asarray(a).astype(types.get(n, np.float32)) for n, a in inputs.items()}
        return dict(zip(names, session.run(names, feeds), strict=True))
    # Its errors have no common class but Exception.
    except Exception as error:
        raise MpccError.of(
            "E-compare-model",
            f"onnxruntime cannot run the reference on these inputs ({type(error).__name__})",
            os.fspath(model),
            "give the model that was compiled",
        ) from None
