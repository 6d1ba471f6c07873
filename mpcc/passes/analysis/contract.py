"""The second half of the accuracy contract: decisions of the secure program that are the model's.

Beside the error of an output, its user cares whether the *decision* made on it is the same. What
the decision is follows from the architecture (:func:`rule_of`):

* truth values and whole numbers: the value itself, one decision per element;
* several scores along the last axis: which is the largest, one decision per row of that axis;
* single scores: on which side of 0, or of 0.5 where the output is known to be a probability; one
  decision per element.

It is compared with that of the float model on the same input, as the model computes it: clamps and
close decisions of the program are no excuse here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError
from mpcc.ir.analysis.forms import kind_of
from mpcc.ir.core import Module, Value
from mpcc.ir.interp import real
from mpcc.ir.interp.fixed import Simulation
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.types import Shape, TensorType
from mpcc.passes.analysis.decisions import Program
from mpcc.passes.analysis.layers import SAMPLES, Losses

__all__ = [
    "CONFIDENCE",
    "MOST_SAMPLES",
    "RANDOM_SAMPLES",
    "Agreement",
    "Contract",
    "Row",
    "Rule",
    "check_share",
    "lower_end",
    "rule_of",
    "rules",
]

Array = npt.NDArray[Any]

CONFIDENCE = 0.95
"""Of the lower end of an agreement."""

MOST_SAMPLES = 64
"""So many samples are run where an agreement is asked for, spread over those that are given."""

RANDOM_SAMPLES = 32
"""Random inputs where an agreement is asked for without calibration data."""

_TRIES = 6
"""Formats that keep the error budget but not the agreement, before the search ends."""

_FINER = 2.0
"""How much smaller the error is to become where the agreement is too low: one bit."""

_SHOWN, _KEPT = 5, 20
"""Close rows that an error names, and that the private report keeps for an output."""

_BEYOND = 1e-12
"""Shares are quotients of small integers; this much is their rounding."""


@dataclass(frozen=True)
class Rule:
    """What is decided on an output.

    Attributes:
        kind: ``largest`` (along the last axis), ``side`` (of ``threshold``) or ``equal``.
        size: of the last axis, for ``largest``.
        threshold: for ``side``: the decision is whether a score is above it.
    """

    kind: str
    size: int = 1
    threshold: float = 0.0

    @property
    def text(self) -> str:
        """For people."""
        if self.kind == "largest":
            return f"largest of {self.size}"
        return f"above {self.threshold:g}" if self.kind == "side" else "equal"

    def decide(self, values: Array) -> Array:
        """The decisions, [rows]: positions, truth values, or the nearest whole numbers."""
        numbers = np.asarray(values, np.float64)
        if self.kind == "largest":
            found: Array = numbers.reshape(-1, self.size).argmax(axis=1)
            return found
        flat = numbers.reshape(-1)
        return flat > self.threshold if self.kind == "side" else np.rint(flat)

    def margin(self, values: Array) -> Array:
        """How far all scores of a row may move without another decision, [rows], real units.

        Half the distance of the two largest; the distance from the threshold; half a unit.
        """
        numbers = np.asarray(values, np.float64)
        if self.kind == "largest":
            top = np.partition(numbers.reshape(-1, self.size), self.size - 2, axis=1)
            half: Array = (top[:, -1] - top[:, -2]) / 2
            return half
        flat = numbers.reshape(-1)
        return np.abs(flat - self.threshold) if self.kind == "side" else np.full(flat.shape, 0.5)

    def error(self, values: Array, reference: Array) -> Array:
        """Largest error of a row's scores, [rows], real units."""
        away = np.abs(np.subtract(values, reference, dtype=np.float64))
        found: Array = away.reshape(-1, self.size).max(axis=1)
        return found


def rule_of(value: Value, batch: int = 1) -> Rule:
    """What is decided on a value that goes to an output.

    Args:
        value: of the tensor level.
        batch: size of the batch; of an output with that axis alone, every element is a row's.
    """
    type_ = value.type
    assert isinstance(type_, TensorType)
    source = _moved(value)
    if type_.dtype in ("bool", "i64") or _is_whole(source):
        return Rule("equal")
    shape: Shape = type_.shape
    if shape and shape[-1] > 1 and not (batch > 1 and shape == (batch,)):
        return Rule("largest", shape[-1])
    return Rule("side", threshold=0.5 if _is_probability(source) else 0.0)


def rules(module: Module, batch: int = 1) -> dict[str, Rule]:
    """The rule of every output of a tensor module."""
    return {
        op.attrs["name"]: rule_of(op.operands[0], batch)
        for op in module.main.walk(tensor.Output.name)
    }


def _moved(value: Value) -> Value:
    """What a value's elements are, looked at through ops that only move one operand's."""
    while (op := value.op) is not None and op.definition is not tensor.Output:
        if kind_of(op) is not tensor.Kind.STRUCTURAL or len(op.operands) != 1:
            break
        value = op.operands[0]
    return value


def _is_whole(value: Value) -> bool:
    return value.op is not None and value.op.definition in (tensor.Floor, tensor.ToReal)


def _is_probability(value: Value) -> bool:
    op = value.op
    if op is None:
        return False
    if op.definition is tensor.Clip:
        return bool(op.attrs["lo"] >= 0 and op.attrs["hi"] == 1)
    return op.definition in (tensor.Sigmoid, tensor.Softmax)


def lower_end(agreeing: int, total: int, confidence: float = CONFIDENCE) -> float:
    """Lower end of a share, one-sided (Clopper and Pearson, Biometrika 26, 1934).

    If the share were smaller, so many of ``total`` independent draws would agree with a probability
    below 1 - confidence.

    Args:
        agreeing: 0 to ``total``.
        total: independent draws; 0 gives 0.
        confidence: between 0 and 1.
    """
    if agreeing <= 0 or total <= 0:
        return 0.0
    logs = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        for k in range(agreeing, total + 1)
    ]

    def tail(p: float) -> float:
        there, away = math.log(p), math.log1p(-p)
        return sum(
            math.exp(log + k * there + (total - k) * away)
            for k, log in enumerate(logs, start=agreeing)
        )

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) < 1 - confidence else (low, middle)
    return low


def check_share(share: float) -> None:
    """Refuse what is no agreement to ask for.

    Raises:
        MpccError: ``E-option-agreement``.
    """
    # NaN fails the comparison too.
    if not 0 < share <= 1:
        raise MpccError.of(
            "E-option-agreement",
            f"{share!r} is no share of decisions",
            "--min-agreement",
            "write a number above 0 and up to 1, such as 0.99",
        )


@dataclass(frozen=True)
class Row:
    """A decision that is close: the error is at least its margin.

    Attributes:
        sample: number of the sample.
        row: number of the output's row in it.
        margin: how far its scores may move in the float model without another decision.
        error: how far the program's scores are from them.
        agrees: whether the decision is the same nevertheless.
    """

    sample: int
    row: int
    margin: float
    error: float
    agrees: bool


@dataclass(frozen=True)
class Agreement:
    """Of one output, over all samples that were run.

    Attributes:
        output: its name.
        rule: what is decided.
        rows: decisions.
        agreeing: of these, the same as the float model's.
        samples: runs of the program.
        whole: of these, with every decision the same.
        error: largest error of the output.
        close: rows whose margin is not above the error, or that disagree; the clearest
            disagreements first, a few of them.
        close_rows: how many there are.
    """

    output: str
    rule: Rule
    rows: int
    agreeing: int
    samples: int
    whole: int
    error: float
    close: tuple[Row, ...]
    close_rows: int

    @property
    def share(self) -> float:
        """Of decisions; 1 where there are none."""
        return self.agreeing / self.rows if self.rows else 1.0

    @property
    def lower(self) -> float:
        """What the samples tell of others: see :func:`lower_end`.

        Of samples whose decisions are all the same, since rows of one sample are not independent.
        """
        return lower_end(self.whole, self.samples)

    def json(self) -> dict[str, Any]:
        """For the private report."""
        return {
            "decision": self.rule.text,
            "rows": self.rows,
            "agreeing": self.agreeing,
            "share": self.share,
            "samples": self.samples,
            "whole": self.whole,
            "lower_end": self.lower,
            "error": self.error,
            "close_rows": self.close_rows,
            "close": [vars(row) for row in self.close],
        }


@dataclass(frozen=True)
class _Seen:
    """One output of one sample."""

    rows: int
    agreeing: int
    error: float
    close: tuple[Row, ...]
    close_rows: int


class Contract:
    """Agreement with the float model, of all formats that a search tries.

    Args:
        module: the tensor module.
        constants: its weights by name.
        samples: input dicts on which decisions are compared.
        ranges: enforced (lo, hi) of the inputs.
        outputs: float outputs of the samples, if they are known.
        least: share of an output's decisions that must be the float model's; None asks for nothing.
        calibrated: whether the samples are the user's data, not random.
        batch: size of the batch.

    Attributes:
        last: the formats that were tried last; None before.

    Raises:
        MpccError: ``E-option-agreement``.
    """

    def __init__(
        self,
        module: Module,
        constants: Mapping[str, Array],
        samples: Sequence[Mapping[str, Array]],
        ranges: Mapping[str, tuple[float, float]],
        outputs: Sequence[Mapping[str, Array]] | None,
        least: float | None = None,
        calibrated: bool = True,
        batch: int = 1,
    ) -> None:
        if least is not None:
            check_share(least)
        self.module = module
        self.constants = constants
        self.samples = samples
        self.ranges = ranges
        self.least = least
        self.calibrated = calibrated
        self.rules = rules(module, batch)
        self.last: Phi | None = None
        self._losses: tuple[Phi, Losses] | None = None
        self._outputs: dict[int, Mapping[str, Array]] = (
            {} if outputs is None else dict(enumerate(outputs))
        )
        self._seen: dict[Phi, dict[int, dict[str, _Seen]]] = {}
        self._short: dict[Phi, Program] = {}

    def know(self, n: int, outputs: Mapping[str, Array]) -> None:
        """Take the float model's outputs of sample n, if somebody has computed them."""
        self._outputs.setdefault(n, outputs)

    def saw(self, phi: Phi, n: int, outputs: Mapping[str, Array]) -> None:
        """Take the outputs of a simulated run of sample n in these formats."""
        self.last = phi
        table = self._seen.setdefault(phi, {})
        if n not in table:
            table[n] = self._compare(n, outputs)

    def follow(self, phi: Phi, program: Program, n: int) -> Simulation:
        """A simulated run of sample n that takes down the errors of every layer."""
        losses = Losses(program)
        self._losses = phi, losses
        return losses.run(self._sample(n), n)

    def losses(self, phi: Phi, options: FormatOptions, allowed: float) -> Losses:
        """Errors of every layer in these formats: those that were taken down, or new ones.

        Args:
            phi: the formats.
            options: of the analysis.
            allowed: largest error that outputs may have.
        """
        if self._losses is not None and self._losses[0] == phi:
            losses = self._losses[1]
        else:
            losses = Losses(Program(self.module, self.constants, phi, options))
        wanted = SAMPLES if losses.small else 1
        for n in range(len(self.samples)):
            if len(losses.seen) < wanted and n not in losses.seen:
                losses.run(self._sample(n), n)
        losses.finish(allowed)
        return losses

    def strain(self, phi: Phi, program: Program) -> float:
        """By what factor the error must shrink for the agreement asked for; 0 if it is reached.

        Runs the samples that :meth:`saw` was not told of, until too many decisions differ.

        Raises:
            MpccError: ``E-range-agreement``: several formats have been tried without success.
        """
        if self.least is None or self._complete(phi, program, self.least):
            return 0.0
        self._short[phi] = program
        if len(self._short) >= _TRIES:
            raise self.failure()
        return _FINER

    def require(self, phi: Phi, program: Program) -> None:
        """Refuse formats without the agreement asked for.

        Raises:
            MpccError: ``E-range-agreement``.
        """
        if self.strain(phi, program):
            raise self.failure()

    @property
    def failed(self) -> bool:
        """Whether there were formats that kept the error budget, but not the agreement."""
        return bool(self._short)

    def agreements(self, phi: Phi) -> list[Agreement]:
        """Of every output, over the samples that were run in these formats."""
        table = self._seen.get(phi, {})
        return [
            self._sum(name, rule, [seen[name] for _, seen in sorted(table.items())])
            for name, rule in self.rules.items()
        ]

    def report(self, phi: Phi) -> dict[str, Any]:
        """For the private report: JSON values."""
        return {
            "least": self.least,
            "inputs": "calibration" if self.calibrated else "random",
            "confidence": CONFIDENCE,
            "outputs": {found.output: found.json() for found in self.agreements(phi)},
        }

    def failure(self) -> MpccError:
        """What was reached, in the finest formats that were tried, and what would help."""
        assert self.least is not None
        # Later ones were made for smaller errors.
        phi, program = list(self._short.items())[-1]
        for n in self._chosen():
            self._run(phi, program, n)
        problems: list[Diagnostic] = []
        for found in self.agreements(phi):
            if not self._enough(found.rows - found.agreeing, found.rows, self.least):
                problems.append(self._diagnostic(found, self.least))
        return MpccError(*problems)

    def _diagnostic(self, found: Agreement, least: float) -> Diagnostic:
        data = "samples" if self.calibrated else "random inputs"
        close = ", ".join(
            f"{row.sample}"
            + (f" (row {row.row})" if found.rows > found.samples else "")
            + f": margin {row.margin:.2g}, error {row.error:.2g}"
            for row in found.close[:_SHOWN]
        )
        more = found.close_rows - len(found.close[:_SHOWN])
        close += f", and {more} more" if more > 0 else ""
        margins = np.sort(self._margins(found))
        needed = float(margins[min(math.floor((1 - least) * found.rows), len(margins) - 1)])
        fixes = []
        if found.rule.kind == "equal":
            fixes.append("ask for a smaller error of what is compared, with --max-error")
        elif needed > 0:
            fixes.append(f"make the error smaller than {needed:.2g} (--max-error {needed:.1g})")
        else:
            fixes.append("the model itself has equal scores there, which no format can tell apart")
        fixes.append(
            "give narrower ranges (--calibrate DATA.npz, --input-range), which leave room for "
            "more fraction bits"
            if not self.calibrated
            else "compute more in the larger ring (--ring 64)"
        )
        fixes.append(f"or accept --min-agreement {math.floor(found.share * 1000) / 1000:g}")
        return Diagnostic(
            "E-range-agreement",
            f"{found.agreeing} of {found.rows} decisions on {found.output} ({found.rule.text}) are "
            f"the float model's, over {found.samples} {data}: {found.share:.2%} where {least:.2%} "
            f"is asked for, at an error of {found.error:.2g}",
            f"margins too small for the error, by sample: {close}",
            "; ".join(fixes),
        )

    def _margins(self, found: Agreement) -> Array:
        """Of all rows of an output, in the float model."""
        margins = [found.rule.margin(self._float(n)[found.output]) for n in self._chosen()]
        return np.concatenate(margins)

    def _chosen(self) -> list[int]:
        """The samples that are run where an agreement is asked for, evenly spread."""
        total = len(self.samples)
        count = min(total, MOST_SAMPLES)
        return sorted({round(i * (total - 1) / max(count - 1, 1)) for i in range(count)})

    def _complete(self, phi: Phi, program: Program, least: float) -> bool:
        """Run what is left; whether enough decisions are the same."""
        chosen = self._chosen()
        samples = len({*chosen, *self._seen.get(phi, {})})
        for n in chosen:
            self._run(phi, program, n)
            for found in self.agreements(phi):
                total = found.rows // found.samples * samples
                if not self._enough(found.rows - found.agreeing, total, least):
                    return False
        return True

    def _run(self, phi: Phi, program: Program, n: int) -> None:
        if n not in self._seen.get(phi, {}):
            self.saw(phi, n, program.run(self._sample(n), n).outputs)

    def _sample(self, n: int) -> dict[str, Array]:
        return {k: np.clip(v, *self.ranges[k]) for k, v in self.samples[n].items()}

    @staticmethod
    def _enough(different: int, rows: int, least: float) -> bool:
        return different <= (1 - least) * rows + _BEYOND * rows

    def _float(self, n: int) -> Mapping[str, Array]:
        if n not in self._outputs:
            self._outputs[n] = real.run(self.module, self.constants, self._sample(n))
        return self._outputs[n]

    def _compare(self, n: int, outputs: Mapping[str, Array]) -> dict[str, _Seen]:
        found: dict[str, _Seen] = {}
        for name, rule in self.rules.items():
            have, want = outputs[name], self._float(n)[name]
            same = rule.decide(have) == rule.decide(want)
            margin, error = rule.margin(want), rule.error(have, want)
            close = np.flatnonzero(~same | (margin <= error))
            order = close[np.lexsort((margin[close] - error[close], same[close]))][:_KEPT]
            rows = tuple(
                Row(n, int(i), float(margin[i]), float(error[i]), bool(same[i])) for i in order
            )
            found[name] = _Seen(
                len(same), int(same.sum()), float(error.max(initial=0.0)), rows, len(close)
            )
        return found

    def _sum(self, name: str, rule: Rule, seen: Sequence[_Seen]) -> Agreement:
        close = sorted(
            (row for one in seen for row in one.close),
            key=lambda row: (row.agrees, row.margin - row.error),
        )
        return Agreement(
            name,
            rule,
            sum(one.rows for one in seen),
            sum(one.agreeing for one in seen),
            len(seen),
            sum(one.agreeing == one.rows for one in seen),
            max((one.error for one in seen), default=0.0),
            tuple(close[:_KEPT]),
            sum(one.close_rows for one in seen),
        )
