"""The float model with the decisions of a fixed-point run, to measure the error of the rest.

A comparison, a floor or a position of a maximum jumps where its operands are too close to tell. The
fixed-point program and the float model may then decide differently, and both are right. An error is
therefore measured against the float model that decides, in such cases, as the program did. Where
the program decides against a clear margin, the float model keeps its own decision, and the
difference counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.ir.analysis.forms import declaration, is_real
from mpcc.ir.calls import inline
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.interp import real
from mpcc.ir.interp.fixed import Simulation, simulate
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.types import BitType, SecureType
from mpcc.passes.lower_tensor_to_secure import encode_weights
from mpcc.passes.lowerings import RULES, Lowering

__all__ = ["Program", "clamped_reference", "numbers"]

Array = npt.NDArray[Any]
Decide = Callable[[Op, tuple[Array, ...], list[Array]], tuple[Array, ...]]


class Program:
    """A model in given formats, to be compared with the float model.

    Args:
        module: the tensor module.
        constants: its weights by name.
        phi: its formats.
        options: those of the analysis.

    Attributes:
        compared_error: largest error of anything that was compared, rounded down or the like in the
            last run that :meth:`reference` was told of, in units of the error budget. Decisions
            with a margin above twice the budget are the float model's only if this is at most 1.
    """

    def __init__(
        self, module: Module, constants: Mapping[str, Array], phi: Phi, options: FormatOptions
    ) -> None:
        lowering = Lowering(module, phi, options, RULES)
        flat, secure = inline(module), inline(lowering.run())
        self.module = flat.module
        self.constants = constants
        self.numbers = flat.rows
        clamps = dict(phi.clamps)
        self.clamps = {i: clamps[row] for i, row in enumerate(flat.rows) if row in clamps}
        self.tolerance = options.max_error
        self.secure = secure.module
        self.weights = encode_weights(constants, self.secure)
        index = {r: i for i, op in enumerate(self.secure.main.ops) for r in op.results}
        self._lowering, self._index = lowering, index
        # The jumping result is the last one.
        self._jumps: dict[Op, tuple[int, Value]] = {}
        # Of every real operand of such an op: operand number, place of what it became, its value.
        self._compared: dict[Op, list[tuple[int, int, Value]]] = {}
        self.compared_error = 0.0
        self._unit = 2.0**-phi.frac
        # Of every value here: the call that it is made in, and what it is there.
        self._origin = {v: known for known, v in flat.values.items()}
        self._written = secure.values

        def produced(value: Value) -> Value | None:
            return self._here(value, lowering.produced)

        for op in self.module.main.ops:
            if op.definition is not tensor.Output and declaration(op).discontinuous:
                lowered = produced(op.results[-1])
                assert lowered is not None
                self._jumps[op] = (index[lowered], lowered)
                self._compared[op] = [
                    (k, index[found], found)
                    for k, value in enumerate(op.operands)
                    if is_real(value) and (found := produced(value)) is not None
                ]

    @property
    def decides(self) -> bool:
        """Whether the model has operators that jump."""
        return bool(self._jumps)

    def run(
        self,
        sample: Mapping[str, Array],
        seed: int,
        look: Callable[[int, Array], None] | None = None,
    ) -> Simulation:
        """A run with random coins; what it decided is kept. ``look``: as of :func:`simulate`."""
        keep = {i for i, _ in self._jumps.values()}
        keep |= {i for compared in self._compared.values() for _, i, _ in compared}
        return simulate(
            self.secure,
            self.weights,
            sample,
            "random",
            seed=seed,
            check_ranges=False,
            keep_raw=keep,
            look=look,
        )

    def reference(self, sample: Mapping[str, Array], run: Simulation) -> dict[str, Array]:
        """Float outputs with the program's clamps, and with its decisions where they are open."""
        self.compared_error = 0.0

        def decide(op: Op, results: tuple[Array, ...], operands: list[Array]) -> tuple[Array, ...]:
            if op not in self._jumps:
                return results
            position, value = self._jumps[op]
            found = numbers(value, run.raw[position])
            tolerance = self._tolerance(op, operands)
            for k, i, became in self._compared[op]:
                away = np.abs(numbers(became, run.raw[i]) - operands[k])
                error = float(away.max(initial=0.0)) + self._truncation(became)
                self.compared_error = max(self.compared_error, error / tolerance)
            return self.decided(op, results, operands, found)

        return clamped_reference(self.module, self.constants, sample, self.clamps, decide)

    def decided(
        self, op: Op, results: tuple[Array, ...], operands: Sequence[Array], found: Array
    ) -> tuple[Array, ...]:
        """Float results of an op, with the program's decision ``found`` where it is open."""
        if op not in self._jumps:
            return results
        tolerance = self._tolerance(op, operands)
        open_ = declaration(op).allows(op.attrs, operands, found, tolerance)
        own = results[-1]
        return (*results[:-1], np.where(open_, found, own).astype(own.dtype))

    def _tolerance(self, op: Op, operands: Sequence[Array]) -> float:
        reals = [a for v, a in zip(op.operands, operands, strict=True) if is_real(v)]
        size = max((float(np.abs(a).max(initial=0.0)) for a in reals), default=0.0)
        # As for outputs: beyond 2^8 an absolute budget is finer than binary32.
        return self.tolerance * max(1.0, size / 256)

    def places(self) -> dict[Value, tuple[int, Value]]:
        """What users take of every value that is no constant: op number and secure value."""
        found = {}
        inner = {
            v
            for op in self.module.main.ops
            if op.definition is not tensor.Output
            for v in op.operands
        }
        for op in self.module.main.ops:
            for value in op.results:
                used = partial(self._lowering.used, opened=value not in inner)
                became = self._here(value, used)
                if became is not None:
                    found[value] = (self._index[became], became)
        return found

    def _here(self, value: Value, became: Callable[[Value], Value | None]) -> Value | None:
        """What a value became in the program with its calls written out, None for a constant."""
        number, source = self._origin[value]
        made = became(source)
        return None if made is None else self._written[number, made]

    def _truncation(self, value: Value) -> float:
        """What the truncation of a product may add before it is compared."""
        fine = isinstance(value.type, SecureType) and 2.0**-value.type.frac < self._unit
        return self._unit if fine else 0.0


def numbers(value: Value, raw: Array) -> Array:
    """Raw words, or bits, as real numbers."""
    if isinstance(value.type, BitType):
        return raw.astype(np.float64)
    assert isinstance(value.type, SecureType)
    return np.ldexp(raw.astype(np.float64), -value.type.frac)


def clamped_reference(
    module: Module,
    constants: Mapping[str, Array],
    sample: Mapping[str, Array],
    clamps: Mapping[int, int],
    decide: Decide | None = None,
) -> dict[str, Array]:
    """The float model with clamps behind some ops, and with decisions of somebody else."""
    values: dict[Value, Array] = {}
    outputs: dict[str, Array] = {}
    for i, op in enumerate(module.main.ops):
        operands = [values[v] for v in op.operands]
        if op.definition is tensor.Output:
            outputs[op.attrs["name"]] = operands[0]
            continue
        results = real.evaluate(op, operands, constants, sample, np.float64)
        if decide is not None:
            results = decide(op, results, operands)
        if i in clamps:
            bound = 2.0 ** clamps[i]
            results = tuple(
                np.clip(r, -bound, bound) if is_real(v) else r
                for v, r in zip(op.results, results, strict=True)
            )
        values.update(zip(op.results, results, strict=True))
    return outputs
