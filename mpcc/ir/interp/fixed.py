"""The fixed-point interpreter of the secure level: exactly what the parties compute.

Raw values are int64 arrays of centred representatives modulo 2^ring. Given the coins of a run the
results are bit-exact with any engine; without them, they follow the chosen rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.calls import inline
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.encodings import encoded
from mpcc.ir.interp import exact
from mpcc.ir.ops import secure
from mpcc.ir.types import SecureType

__all__ = ["ROUNDINGS", "Overflow", "Rounding", "Simulation", "decode", "encode", "run", "simulate"]

Array = npt.NDArray[Any]
Rounding = str | Mapping[int, Array]

ROUNDINGS = ("floor", "random", "worst")


@dataclass(frozen=True)
class Overflow:
    """Values that left the width that their type declares: what follows is undefined.

    Attributes:
        op: index in @main.
        loc: the model node that the op came from.
        width: declared k.
        reached: smallest k that would have held.
        count: elements outside.
    """

    op: int
    loc: str
    width: int
    reached: int
    count: int


@dataclass
class Simulation:
    """Outcome of one simulated run.

    Attributes:
        outputs: decoded outputs by name, binary32 as the client gets them.
        raw_outputs: the raw values that are opened.
        overflows: ops whose values left their declared width.
        coins: the coin array used at every stochastic truncation and function, by op index.
        raw: raw result of every op by index, if asked for.
    """

    outputs: dict[str, Array] = field(default_factory=dict)
    raw_outputs: dict[str, Array] = field(default_factory=dict)
    overflows: list[Overflow] = field(default_factory=list)
    coins: dict[int, Array] = field(default_factory=dict)
    raw: dict[int, Array] = field(default_factory=dict)


def encode(x: Array, frac: int) -> Array:
    """Raw int64 values round(x * 2^frac), half to even; |x| * 2^frac must stay below 2^63."""
    return np.rint(np.ldexp(np.asarray(x, np.float64), frac)).astype(np.int64)


def decode(raw: Array, frac: int) -> Array:
    """The values raw * 2^-frac rounded to binary32, as the output's owner decodes it."""
    return np.ldexp(raw.astype(np.float64), -frac).astype(np.float32)


def run(
    module: Module,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    rounding: Rounding = "floor",
    seed: int = 0,
    check_ranges: bool = True,
) -> dict[str, Array]:
    """Outputs of one run by name; see :func:`simulate`.

    Raises:
        MpccError: as :func:`simulate`, and ``E-sim-overflow`` if ``check_ranges`` is set and a
            value left its declared width.
    """
    result = simulate(module, weights, inputs, rounding, seed, check_ranges=check_ranges)
    collect(
        Diagnostic(
            "E-sim-overflow",
            f"{o.count} values need {o.reached} bits where {o.width} are declared",
            f"op {o.op}" + (f" (from {o.loc})" if o.loc else ""),
            "calibrate with data like this input, or use --range guarded or proved",
        )
        for o in result.overflows
    )
    return result.outputs


def simulate(
    module: Module,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    rounding: Rounding = "floor",
    seed: int = 0,
    *,
    check_ranges: bool = True,
    keep_raw: bool | Collection[int] = False,
    look: Callable[[int, Array], None] | None = None,
) -> Simulation:
    """Run a secure module once; ops are numbered as in its @main with all calls written out.

    Args:
        module: a verified secure module.
        weights: raw words of the ``secure.weight`` ops, signed or not, by name.
        inputs: real arrays of the ``secure.input`` ops, by name; numbers in place of one-hot rows.
        rounding: what coin g a stochastic truncation by ``a`` bits, or a function of period 2^a,
            uses, per element:
            ``floor``: 0; ``random``: uniform from a generator seeded with ``seed``; ``worst``:
            0 or 2^a - 1, whichever moves the value farther from the exact quotient (at least half
            a unit, so it alternates with the dropped bits; the largest error of every single
            truncation, though their sum at an output may be larger for other coins), and random
            for a function; or the coins themselves, by op index.
        seed: of ``random``.
        check_ranges: whether to compare every result with its declared width.
        keep_raw: whether to keep every op's raw result, or the indices of those to keep.
        look: called for every result with the op's index and its raw array, which the callee must
            neither change nor keep.

    Raises:
        MpccError: an input or weight is missing, has another shape, or leaves its range.
    """
    if module.level != "secure":
        raise MpccError.of("E-run-level", f"a secure module is needed, not {module.level}")
    if isinstance(rounding, str) and rounding not in ROUNDINGS:
        raise MpccError.of(
            "E-option-rounding", f"unknown rounding {rounding!r}", "", f"{', '.join(ROUNDINGS)}"
        )
    module = inline(module).module
    sources = _sources(module, weights, inputs)
    generator = np.random.default_rng(seed)
    result = Simulation()
    last: dict[Value, int] = {}
    for position, op in enumerate(module.main.ops):
        for value in (*op.operands, *op.results):
            last[value] = position
    arrays: dict[Value, Array] = {}
    for position, op in enumerate(module.main.ops):
        operands = [arrays[v] for v in op.operands]
        if op.definition is secure.Reveal:
            type_ = op.operands[0].type
            assert isinstance(type_, SecureType)
            result.raw_outputs[op.attrs["name"]] = operands[0]
            result.outputs[op.attrs["name"]] = decode(operands[0], type_.frac)
        else:
            value = op.result
            if op in sources:
                array, wrapped = sources[op], 0
            else:
                coins, amount = None, coin_bits(op)
                if amount is not None:
                    coins = _coins(position, op, amount, operands[0], rounding, generator)
                    result.coins[position] = coins
                array, wrapped = _evaluate(op, operands, coins)
            if check_ranges and isinstance(value.type, SecureType):
                found = _overflow(position, op, array, value.type, wrapped)
                if found is not None:
                    result.overflows.append(found)
            arrays[value] = array
            if keep_raw is True or (keep_raw and position in keep_raw):
                result.raw[position] = array
            if look is not None:
                look(position, array)
        for used in {*op.operands, *op.results}:
            if last[used] == position:
                arrays.pop(used, None)
    return result


def _sources(
    module: Module, weights: Mapping[str, Array], inputs: Mapping[str, Array]
) -> dict[Op, Array]:
    """Raw values of all inputs and weights; every problem is reported at once."""
    problems: list[Diagnostic] = []
    raw: dict[Op, Array] = {}
    for op in module.main.walk(secure.Input.name, secure.Weight.name):
        name, attrs = op.attrs["name"], op.attrs
        is_input = op.definition is secure.Input
        given = inputs if is_input else weights
        where = f"{'input' if is_input else 'weight'} {name}"
        if name not in given:
            problems.append(Diagnostic("E-run-missing", "not given", where))
            continue
        array = np.asarray(given[name])
        if is_input:
            try:
                array = encoded(array, attrs)
            except ValueError as error:
                problems.append(Diagnostic("E-run-range", str(error), where))
                continue
        if array.shape != attrs["shape"]:
            problems.append(
                Diagnostic("E-run-shape", f"shape {array.shape}, not {attrs['shape']}", where)
            )
        elif not is_input:
            raw[op] = secure.wrap(array.astype(np.int64), attrs["ring"])
        elif not bool(np.all((array >= attrs["lo"]) & (array <= attrs["hi"]))):
            problems.append(
                Diagnostic(
                    "E-run-range",
                    f"values outside the enforced range [{attrs['lo']}, {attrs['hi']}]",
                    where,
                    "scale the input, or compile with another --input-range",
                )
            )
        else:
            raw[op] = encode(array, attrs["frac"])
    collect(problems)
    return raw


def coin_bits(op: Op) -> int | None:
    """Bits of the coins that an op's result depends on; None if it depends on operands alone."""
    if op.definition is secure.Truncate and op.attrs["rounding"] == "stochastic":
        amount: int = op.attrs["amount"]
        return amount
    if op.definition is secure.Fourier:
        period: int = op.attrs["period"]
        return period
    if op.definition is secure.Negative and op.attrs["coarse"]:
        coarse: int = op.attrs["coarse"]
        return coarse
    return None


def _coins(
    position: int,
    op: Op,
    amount: int,
    x: Array,
    rounding: Rounding,
    generator: np.random.Generator,
) -> Array:
    if not isinstance(rounding, str):
        coins = rounding.get(position)
        if coins is None or coins.shape != x.shape:
            raise MpccError.of("E-sim-coins", "no coins of the right shape", f"op {position}")
        return coins.astype(np.int64)
    # No coin of a function is worst for all of its harmonics.
    if rounding == "random" or (rounding == "worst" and op.definition is secure.Fourier):
        # As unsigned words: a period may have all 64 bits.
        words = generator.integers(0, 1 << amount, x.shape, np.uint64)
        return words.astype(np.int64)
    top = 1 << amount
    if rounding == "worst":
        low = x & np.int64(top - 1)
        return np.where((low > 0) & (low < top // 2), np.int64(top - 1), np.int64(0))
    return np.zeros(x.shape, np.int64)


def _evaluate(op: Op, operands: list[Array], coins: Array | None) -> tuple[Array, int]:
    """The raw result, and the number of bits that its true value may have had if it wrapped."""
    definition, result = op.definition, op.result.type
    assert issubclass(definition, secure.SecureOperation)
    if not issubclass(definition, secure.Product):
        context = secure.Context.of(result, coins)
        return definition.evaluate(op.attrs, context, *operands), 0
    product = definition

    def multiply(x: Array, w: Array) -> Array:
        return product.multiply(op.attrs, x, w)

    assert isinstance(result, SecureType)
    x, w = operands
    summed = product.summed(w.ndim)
    # Bound of the sum of |w| in one element of the result; float64 rounding included.
    sums = np.abs(w.astype(np.float64)).sum(axis=summed)
    total = int(sums.max(initial=0.0) * (1 + 2.0**-30)) + 1
    # Without sums, numpy's own integers are fast enough.
    words = exact.product(x, w, total, multiply) if summed else multiply(x, w)
    raw = secure.wrap(words, result.ring)
    size = max(abs(int(x.max(initial=0))), abs(int(x.min(initial=0))))
    if (size * total).bit_length() < result.ring:
        return raw, 0
    # The sum may have wrapped: look at its true size in binary64.
    true = multiply(x.astype(np.float64), w.astype(np.float64))
    return raw, int(np.abs(true).max(initial=0.0)).bit_length()


def _overflow(
    position: int, op: Op, array: Array, type_: SecureType, wrapped: int
) -> Overflow | None:
    size = max(int(array.max(initial=0)), -int(array.min(initial=0)))
    reached = max(size.bit_length(), wrapped if wrapped >= type_.ring else 0)
    if reached <= type_.width:
        return None
    limit = np.int64((1 << type_.width) - 1)
    count = int(((array > limit) | (array < -limit)).sum())
    return Overflow(position, op.loc, type_.width, reached, max(count, 1))
