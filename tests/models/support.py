"""One model on a whole test split: compiled, verified, simulated, compared with onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

import mpcc
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions
from mpcc.verify_program import verify_artifact

Array = npt.NDArray[Any]

MIN_DECIDED = 0.98
"""At least so many samples have a margin that is larger than twice the bound."""


@dataclass(frozen=True)
class Decisions:
    """What outputs say about samples.

    Attributes:
        prediction: per sample.
        margin: per sample, how far the outputs are from another prediction.
    """

    prediction: Array
    margin: Array


def classes(axis: int = 1) -> Callable[[Mapping[str, Array]], Decisions]:
    """Argmax of the only output along an axis; the margin is the lead over the second best."""

    def decide(outputs: Mapping[str, Array]) -> Decisions:
        (scores,) = outputs.values()
        ordered = np.sort(scores.astype(np.float64), axis=axis)
        lead = ordered.take(-1, axis) - ordered.take(-2, axis)
        return Decisions(scores.argmax(axis).ravel(), lead.ravel())

    return decide


def thresholds(limits: Mapping[str, float]) -> Callable[[Mapping[str, Array]], Decisions]:
    """Whether each element of some outputs reaches a limit."""

    def decide(outputs: Mapping[str, Array]) -> Decisions:
        distance = [(outputs[n].astype(np.float64) - limit).ravel() for n, limit in limits.items()]
        found = np.concatenate(distance)
        return Decisions(found >= 0, np.abs(found))

    return decide


@dataclass(frozen=True)
class Outcome:
    """How the compiled program did.

    Attributes:
        samples: predictions compared.
        bound: the error that the compilation was asked to keep.
        error: largest distance of any output from onnxruntime's, in proportion beyond 2^8.
        decided: share of the samples whose margin exceeds twice the bound.
        equal: share of all samples whose predictions agree.
    """

    samples: int
    bound: float
    error: float
    decided: float
    equal: float

    def text(self, name: str) -> str:
        """One line for the summary of the tests."""
        return (
            f"{name}: {self.samples} samples, {100 * self.equal:.2f} % equal to onnxruntime, "
            f"{100 * self.decided:.2f} % with a margin above twice the bound, "
            f"error {self.error:.2g} of {self.bound:.2g}"
        )


def reference(model: bytes, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Onnxruntime's outputs by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _deviation(have: Array, want: Array) -> float:
    """Largest distance, in proportion for an output beyond 2^8."""
    return float(np.abs(have - want).max() / max(1.0, np.abs(want).max() / 256))


def examine(
    model: bytes,
    calibration: Mapping[str, Array],
    inputs: Mapping[str, Array],
    batch: int,
    decide: Callable[[Mapping[str, Array]], Decisions],
    bound: float = 2.0**-7,
    also: Callable[[Mapping[str, Array], Mapping[str, Array]], None] | None = None,
) -> Outcome:
    """Compile a model, check the program for leaks, and simulate it on every sample.

    Args:
        model: ONNX for inputs whose first axis is the batch.
        calibration: by input name, [samples, *input shape].
        inputs: by name, samples along the first axis; the last batch is filled with the first
            samples again, which are not counted twice.
        batch: samples per run.
        decide: predictions and margins from outputs.
        bound: error that the compilation is asked to keep: absolute, and in proportion for an
            output beyond 2^8 (docs/numbers.md).
        also: called with each batch's outputs and onnxruntime's, for further checks.

    Raises:
        AssertionError: the leak checker refuses the program, an output is farther from
            onnxruntime's than the bound, a prediction differs in spite of its margin, or too few
            samples have that margin.
    """
    options = CompileOptions(formats=FormatOptions(max_error=bound))
    compiled = mpcc.compile(model, options=options, calibration=calibration)
    report = verify_artifact(compiled.artifact)
    assert report.accepted, report
    assert compiled.private["max_error"] == bound

    count = len(next(iter(inputs.values())))
    error, wanted, had = 0.0, [], []
    for start in range(0, count, batch):
        rows = np.arange(start, start + batch) % count
        fed = {n: a[rows] for n, a in inputs.items()}
        want = reference(model, fed)
        run = mpcc.simulate(compiled.artifact, compiled.weights, fed, seed=start)
        assert not run.overflows
        assert run.outputs.keys() == want.keys()
        kept = min(batch, count - start)
        want = {n: want[n][:kept] if batch > 1 else want[n] for n in want}
        have = {n: run.outputs[n][:kept] if batch > 1 else run.outputs[n] for n in want}
        error = max(error, *(_deviation(have[n], want[n]) for n in want))
        if also is not None:
            also(have, want)
        wanted.append(decide(want))
        had.append(decide(have))
    prediction = np.concatenate([d.prediction for d in wanted])
    margin = np.concatenate([d.margin for d in wanted])
    equal = np.concatenate([d.prediction for d in had]) == prediction
    decided = margin > 2 * bound
    outcome = Outcome(len(equal), bound, error, float(decided.mean()), float(equal.mean()))
    assert error <= bound, outcome
    assert equal[decided].all(), outcome
    assert outcome.decided >= MIN_DECIDED, outcome
    return outcome
