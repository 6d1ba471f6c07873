"""Where a program loses accuracy: errors, ranges and budgets of every layer, for its owner.

The program and the float model run side by side on a few samples. Of every op there are

* the *observed* error: how far its value in the program is from the float model's (with the
  program's clamps, and its decisions where they are open);
* its *own* error: how far the value is from the op's float function of the program's own operands,
  so what its rounding, approximation and encoded constants add, and nothing that came before;
* the *proved* error: a bound for all inputs, where :mod:`mpcc.ir.analysis.bounds` has one.

How much an own error matters is its *sensitivity*. Both runs show how an op passes errors on: it
turns the error of its operands into that of its float function on them. The quotient of the two, in
Euclidean norms over all elements, is its gain. Backwards from the outputs, the sensitivity of a
value is the root of the sum over its users of (gain times sensitivity)^2. Own errors times
sensitivities, added in squares since roundings are independent, make up the error of the outputs;
the *share* of a layer is its part of that sum. The *budget* of a layer is what it may add if all
layers that round are to have equal shares and the outputs are to keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic
from mpcc.ir import budget
from mpcc.ir.analysis.bounds import error_bounds
from mpcc.ir.analysis.forms import is_real, kind_of
from mpcc.ir.analysis.ranges import Observed
from mpcc.ir.core import Op, Value
from mpcc.ir.define import Operation
from mpcc.ir.interp import fixed, real
from mpcc.ir.ops import tensor
from mpcc.ir.ops.tensor import Kind
from mpcc.ir.phi import BITS_MIN, DECLARED, RINGS, FormatOptions, Phi
from mpcc.ir.types import SecureType
from mpcc.passes.analysis.decisions import Program, numbers
from mpcc.passes.lower_tensor_to_secure import range_bits
from mpcc.passes.strip_names import labels

__all__ = [
    "MOST_WORK",
    "SAMPLES",
    "Facts",
    "Loss",
    "Losses",
    "advice",
    "blame",
    "layer_rows",
    "worst",
]

Array = npt.NDArray[Any]

MOST_WORK = 1 << 27
"""Bounds are propagated through programs of at most so many multiply-adds: for larger ones they
take longer than the search, and say nothing (docs/numbers.md)."""

SAMPLES = 2
"""So many samples are compared layer by layer."""

_PLAIN = (
    tensor.Relu,
    tensor.Maximum,
    tensor.MaxPool,
    tensor.ReduceMax,
    tensor.Clip,
    tensor.Less,
    tensor.Equal,
    tensor.Not,
    tensor.And,
    tensor.Xor,
    tensor.Where,
    tensor.ToReal,
)

_BLAMED = 3
"""Layers that an error names."""


@dataclass
class Loss:
    """Of one op, over all samples; real units, energies are sums of squares over all elements.

    Attributes:
        observed: largest error of its value.
        own: largest error that it adds.
        elements: of its results, times samples.
        low: least value in the float model.
        high: largest one.
        sensitivity: Euclidean norm of the outputs' error per that of this value.
        share: part of the outputs' error that comes from this op, 0 to 1.
        budget: root mean square that its own error may have.
        proved: bound of ``observed`` for all inputs; None where there is none.
        own_energy: of the error that it adds.
        error_energy: of its value's error.
        before_energy: of the errors of its operands.
        passed_energy: of what its operands' errors become in its value.
    """

    observed: float = 0.0
    own: float = 0.0
    elements: int = 0
    low: float = math.inf
    high: float = -math.inf
    sensitivity: float = 0.0
    share: float = 0.0
    budget: float | None = None
    proved: float | None = None
    own_energy: float = 0.0
    error_energy: float = 0.0
    before_energy: float = 0.0
    passed_energy: float = 0.0

    @property
    def own_rms(self) -> float:
        """Root mean square of the own error."""
        return math.sqrt(self.own_energy / self.elements) if self.elements else 0.0


class Losses:
    """Errors of all ops of a program.

    Call :meth:`run` for a few samples, then :meth:`finish`.

    Args:
        program: the model in its formats.

    Attributes:
        seen: numbers of the samples that were run.
        rows: by op index; of ops that compute something that is no constant.
        predicted: Euclidean norm of the outputs' error as own errors and sensitivities give it.
        output: the same as it was.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ops = program.module.main.ops
        self.places = program.places()
        self._index = {v: i for i, op in enumerate(self.ops) for v in op.results}
        self.rows = {
            i: Loss()
            for i, op in enumerate(self.ops)
            if kind_of(op) is not Kind.OUTPUT and any(v in self.places for v in op.results)
        }
        self.seen: list[int] = []
        self.predicted = self.output = self._worst = 0.0

    @property
    def small(self) -> bool:
        """Whether the program is run again and proved in no time."""
        return budget.work(self.program.secure)[0] <= MOST_WORK

    def run(self, sample: Mapping[str, Array], n: int) -> fixed.Simulation:
        """Simulate a sample, with two runs of the float model beside it.

        Args:
            sample: inputs within their enforced ranges.
            n: its number, which seeds the coins.
        """
        self.seen.append(n)
        run = _Run(self, sample)
        found = run.simulate(n)
        self._worst = max(self._worst, run.worst)
        return found

    def finish(self, allowed: float, prove: bool = True) -> None:
        """Shares and budgets of what was run.

        Args:
            allowed: largest error that outputs may have.
            prove: whether to propagate bounds too, if the program is small.
        """
        self.output = math.sqrt(
            sum(self._row_of(op.operands[0]).error_energy for op in self._outputs())
        )
        self._share(self._worst, allowed)
        if prove and self.small:
            self._prove()

    def _outputs(self) -> list[Op]:
        """Those of computed values."""
        return [
            op
            for op in self.ops
            if op.definition is tensor.Output and op.operands[0] in self.places
        ]

    def _row_of(self, value: Value) -> Loss:
        return self.rows[self._index[value]]

    def _share(self, worst: float, allowed: float) -> None:
        """Sensitivities, shares and budgets, from the energies of all runs."""
        squares: dict[Value, float] = {}
        for i, op in reversed(list(enumerate(self.ops))):
            if op.definition is tensor.Output:
                squares[op.operands[0]] = squares.get(op.operands[0], 0.0) + 1.0
                continue
            row = self.rows.get(i)
            if row is None:
                continue
            after = max((squares.get(v, 0.0) for v in op.results), default=0.0)
            row.sensitivity = math.sqrt(after)
            # Where operands are exact nothing tells the gain, and nothing needs it.
            gain = row.passed_energy / row.before_energy if row.before_energy > 0 else 0.0
            for value in set(op.operands):
                squares[value] = squares.get(value, 0.0) + gain * after
        parts = {i: row.own_energy * row.sensitivity**2 for i, row in self.rows.items()}
        total = sum(parts.values())
        self.predicted = math.sqrt(total)
        rounding = sum(part > 0 for part in parts.values())
        if not rounding or not math.isfinite(total):
            return
        # The outputs' error may grow by so much until its largest element is what is allowed.
        room = self.output * (allowed / worst if worst > 0 else 1.0)
        for i, row in self.rows.items():
            row.share = parts[i] / total
            if row.sensitivity > 0:
                each = room / math.sqrt(rounding) / row.sensitivity
                row.budget = each / math.sqrt(row.elements)

    def _prove(self) -> None:
        bounds = error_bounds(self.program.secure, self.program.weights)
        certain: set[Value] = set()
        for i, op in enumerate(self.ops):
            if not (_is_plain(op) and certain.issuperset(op.operands)):
                continue
            certain.update(op.results)
            found = [self.places[v][1] for v in op.results if v in self.places]
            if i in self.rows and found and all(value in bounds for value in found):
                self.rows[i].proved = max(bounds[value] for value in found)


def _is_plain(op: Op) -> bool:
    """Whether an op's secure form computes what the op does, but for roundings.

    The others approximate, or cut off in ways that bounds of secure ops do not see.
    """
    return op.definition in _PLAIN or kind_of(op) in (
        Kind.SOURCE,
        Kind.PRODUCT,
        Kind.SUM,
        Kind.STRUCTURAL,
    )


@dataclass(frozen=True)
class Facts:
    """What is known of the ranges of a model.

    Attributes:
        observed: what the float model did on the samples; None without any.
        proved: least and largest value of ops, by proof.
        options: those of the analysis.
    """

    observed: Observed | None
    proved: Mapping[int, tuple[float, float]]
    options: FormatOptions


def layer_rows(losses: Losses, phi: Phi, facts: Facts) -> list[dict[str, Any]]:
    """Errors and ranges of all ops that have a range or may add an error: JSON values.

    ``layer`` is what the artifact and its cost report call the op, ``node`` what the model does;
    ``observed`` is the largest value on the way to the op's result, in the float model.
    """
    names = {id(op): label for op, label in labels(losses.program.module)}
    ops, clamps = losses.ops, losses.program.clamps
    of_row = dict(phi.ranges)
    bits = {i: of_row[n] for i, n in enumerate(losses.program.numbers) if n in of_row}
    rows = []
    for i, row in losses.rows.items():
        op = ops[i]
        if i not in bits and kind_of(op) is Kind.STRUCTURAL:
            continue
        observed = facts.observed
        rows.append(
            {
                "op": i,
                "layer": names[id(op)],
                "name": op.name,
                "node": op.loc,
                "bits": bits.get(i),
                "observed": _number(observed.magnitude.get(i) if observed else None),
                "clamp": clamps.get(i),
                "range": _range(i, op, phi, losses, facts, bits.get(i)),
                "error": {
                    "observed": _number(row.observed),
                    "own": _number(row.own),
                    "own_rms": _number(row.own_rms),
                    "proved": _number(row.proved),
                    "sensitivity": _number(row.sensitivity),
                    "share": _number(row.share),
                    "budget_rms": _number(row.budget),
                },
            }
        )
    return rows


def _number(x: float | None) -> float | None:
    """JSON has no infinities."""
    return None if x is None or not math.isfinite(x) else x


def _range(
    i: int, op: Op, phi: Phi, losses: Losses, facts: Facts, bits: int | None
) -> dict[str, Any]:
    """Ends, width, headroom and the reason of the width."""
    row = losses.rows[i]
    seen = (row.low, row.high) if row.low <= row.high else None
    if facts.observed is not None:
        seen = facts.observed.ends.get(i, seen)
    places = [losses.places[v][1].type for v in op.results if v in losses.places]
    widths = [t.width for t in places if isinstance(t, SecureType)]
    size = None if seen is None else max(-seen[0], seen[1])
    if facts.observed is not None:
        size = facts.observed.magnitude.get(i, size)
    proved = facts.proved.get(i)
    if proved is not None and not all(map(math.isfinite, proved)):
        proved = None
    return {
        "proved": None if proved is None else list(proved),
        "observed": None if seen is None else list(seen),
        "width": max(widths, default=None),
        "headroom": None if bits is None or size is None else bits - range_bits(size),
        "why": _why(op, phi, size, proved, facts, bits, losses.program.clamps.get(i)),
    }


def _why(
    op: Op,
    phi: Phi,
    size: float | None,
    proved: tuple[float, float] | None,
    facts: Facts,
    bits: int | None,
    clamp: int | None,
) -> str:
    """The reason of a width, in words."""
    options = facts.options
    if bits is None:
        reason = "follows from the operands' widths"
    elif op.definition is tensor.Input:
        reason = "the client refuses inputs beyond their range"
    elif options.disclose == "per-model":
        reason = f"one range for all values (--disclose per-model): below {2.0**bits:g}"
    else:
        limit = None if proved is None else max(-proved[0], proved[1])
        certain = limit is not None and limit <= 2.0**bits
        wanted = None if size is None else max(range_bits(size), BITS_MIN) + options.headroom
        if phi.policy == DECLARED:
            reason = (
                f"proved from declared ranges: within {limit:.4g}"
                if certain
                else f"promised by --value-range: below {2.0**bits:g}"
            )
        elif phi.policy == "proved" or (phi.policy == "guarded" and bits != wanted):
            reason = "proved" + ("" if limit is None else f": within {limit:.4g}")
        elif bits == wanted:
            reason = f"the largest value seen, {size:.4g}, and {options.headroom} bits of headroom"
        else:
            known = "" if limit is None else f", {limit:.4g},"
            reason = f"what is proved{known} is narrower than what was seen with headroom"
    if clamp is not None:
        reason += f"; clamped to {2.0**clamp:g}, beyond which what follows would not be certain"
    return reason


def worst(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """The layers with the largest shares of the outputs' error; none that add nothing."""
    losing = [row for row in rows if row["error"]["share"]]
    return sorted(losing, key=lambda row: -row["error"]["share"])[:count]


def blame(losses: Losses, phi: Phi) -> Diagnostic | None:
    """Which layers lose most, and what would help them; None if nothing is lost."""
    order = sorted(losses.rows, key=lambda i: -losses.rows[i].share)
    lossy = [i for i in order if losses.rows[i].share > 0][:_BLAMED]
    if not lossy:
        return None
    names = {id(op): label for op, label in labels(losses.program.module)}
    told = ", ".join(
        f"{losses.ops[i].loc or names[id(losses.ops[i])]} adds {losses.rows[i].own:.2g} "
        f"({losses.rows[i].share:.0%} of the outputs' error)"
        for i in lossy
    )
    return Diagnostic(
        "E-range-layers",
        f"with {phi.frac} fraction bits, {phi.weight_frac} of the weights, the layers that lose "
        f"most are: {told}",
        losses.ops[lossy[0]].loc or losses.ops[lossy[0]].name,
        advice(losses.ops[lossy[0]].definition, lossy[0] in losses.program.clamps, phi),
    )


def advice(definition: type[Operation], clamped: bool, phi: Phi) -> str:
    """What would make an op lose less."""
    more = "a narrower --input-range or --calibrate data leave room for more fraction bits"
    if phi.ring == min(RINGS) or phi.others:
        more += ", and so does the larger ring (--ring 64, or NODE=64 for this node)"
    if clamped:
        return "its values are clamped: give --calibrate data, so that the clamp is wider; " + more
    if definition in (tensor.Div, tensor.Reciprocal, tensor.Rsqrt, tensor.Log, tensor.Exp):
        return f"keep its operand away from where it is steep (zero, large exponents); {more}"
    if definition in (tensor.Conv, tensor.ConvTranspose, tensor.MatMul):
        return f"its weights and sums are rounded: {more}"
    return f"it is rounded: {more}"


class _Run:
    """One sample: the float model follows the simulator, op by op."""

    def __init__(self, losses: Losses, sample: Mapping[str, Array]) -> None:
        self.losses = losses
        self.program = losses.program
        self.sample = sample
        self.worst = 0.0
        self._arriving: dict[int, list[Value]] = {}
        for value, (position, _) in losses.places.items():
            self._arriving.setdefault(position, []).append(value)
        self._have: dict[Value, Array] = {}
        self._want: dict[Value, Array] = {}
        self._next = 0
        self._last = {v: i for i, op in enumerate(losses.ops) for v in (*op.results, *op.operands)}

    def simulate(self, seed: int) -> fixed.Simulation:
        """Run the program to its end."""
        found = self.program.run(self.sample, seed, self._look)
        self._advance()
        return found

    def _look(self, position: int, raw: Array) -> None:
        for value in self._arriving.get(position, ()):
            self._have[value] = numbers(self.losses.places[value][1], raw)
            self._advance()

    def _advance(self) -> None:
        """Take all ops whose values in the program are known."""
        ops, places = self.losses.ops, self.losses.places
        while self._next < len(ops):
            op = ops[self._next]
            if any(v in places and v not in self._have for v in op.results):
                return
            self._step(self._next, op)
            for value in {*op.operands, *op.results}:
                if self._last[value] == self._next:
                    self._have.pop(value, None)
                    self._want.pop(value, None)
            self._next += 1

    def _step(self, i: int, op: Op) -> None:
        have, want = self._have, self._want
        if op.definition is tensor.Output:
            (value,) = op.operands
            self.worst = max(self.worst, _largest(_away(have[value], want[value])))
            return
        computed = i in self.losses.rows
        reference = self._evaluate(i, op, [want[v] for v in op.operands])
        if not computed:
            want.update(zip(op.results, reference, strict=True))
            have.update(zip(op.results, reference, strict=True))
            return
        found = tuple(self._of_program(v, a) for v, a in zip(op.results, reference, strict=True))
        reference = self.program.decided(op, reference, [want[v] for v in op.operands], found[-1])
        # The same arrays give the same results.
        same = all(have[v] is want[v] for v in op.operands)
        own = reference if same else self._evaluate(i, op, [have[v] for v in op.operands])
        row = self.losses.rows[i]
        for value, x, y, z in zip(op.results, found, reference, own, strict=True):
            error, added = _away(x, y), _away(x, z)
            row.observed = max(row.observed, _largest(error))
            row.own = max(row.own, _largest(added))
            row.error_energy += _energy(error)
            row.own_energy += _energy(added)
            row.passed_energy += 0.0 if same else _energy(_away(z, y))
            row.elements += x.size
            if is_real(value) and y.size:
                row.low, row.high = min(row.low, float(y.min())), max(row.high, float(y.max()))
            have[value], want[value] = x, y
        for value in set(op.operands):
            if have[value] is not want[value]:
                row.before_energy += _energy(_away(have[value], want[value]))

    def _of_program(self, value: Value, reference: Array) -> Array:
        """The value in the program; the float model's where it is a constant or another form."""
        found = self._have.get(value)
        # Numbers of rows become rows of ones and zeros, which are exact.
        if found is None or found.shape != reference.shape:
            return reference
        return found.astype(reference.dtype)

    def _evaluate(self, i: int, op: Op, operands: list[Array]) -> tuple[Array, ...]:
        program = self.program
        results = real.evaluate(op, operands, program.constants, self.sample, np.float64)
        if i not in program.clamps:
            return results
        bound = 2.0 ** program.clamps[i]
        return tuple(
            np.clip(r, -bound, bound) if is_real(v) else r
            for v, r in zip(op.results, results, strict=True)
        )


def _away(x: Array, y: Array) -> Array:
    """Differences, and 0 where the float model has no number: nothing is near an infinity."""
    with np.errstate(invalid="ignore"):
        found: Array = np.subtract(x, y, dtype=np.float64)
    return np.where(np.isfinite(found), found, 0.0)


def _largest(x: Array) -> float:
    return float(max(x.max(initial=0.0), -x.min(initial=0.0)))


def _energy(x: Array) -> float:
    flat = x.ravel()
    return float(flat @ flat)
