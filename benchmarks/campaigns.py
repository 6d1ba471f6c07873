"""Tries to break what the range analysis proves.

``python -m benchmarks.campaigns --operator all --inputs 1000000`` feeds every tensor operator a
million random and hostile numbers per format and policy, ``--network all`` small networks, and
``--model all --runs 1000`` pretrained models, in formats that the compiler chooses, a thousand
inputs of which some are real, some hostile and half climb from the worst of these. Printed
are: values outside their declared widths and results outside the bounds of their operator (there
must be none; the exit code says so), the largest error in units and as a part of what is allowed,
and how much of a declared width was used.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.campaign_models import pretrained
from benchmarks.campaign_networks import NETWORKS, network
from benchmarks.campaign_runs import ROUNDINGS, Found, Subject, climbed, drawn, formatted, lanes_of
from benchmarks.real_models import MODELS
from mpcc.errors import MpccError
from mpcc.ir.core import Module, Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import TensorType, element_count
from mpcc.passes.analysis.ranges import NoFitError

__all__ = ["CASES", "Case", "Operand", "attack", "main", "subject"]

Array = npt.NDArray[Any]
Attrs = Mapping[str, Any]

_LANE_NUMBERS = 1 << 13
"""Numbers of one operand that are simulated at once."""

_CLIMB_ROUNDS, _PARENTS = 6, 32

GUARDED = 64.0
"""Under ``guarded`` inputs are let in that are so many times larger than the calibration data."""


@dataclass(frozen=True)
class Operand:
    """An operand of a case.

    Attributes:
        shape: of one lane; of all of a weight.
        lo: least value.
        hi: largest value.
        source: ``input``, ``weight``, ``bit`` (made by a comparison) or ``whole`` (an input of
            whole numbers).
    """

    shape: tuple[int, ...] = ()
    lo: float = -16.0
    hi: float = 16.0
    source: str = "input"


@dataclass(frozen=True)
class Case:
    """One operator to attack.

    Attributes:
        name: of the case.
        op: its declaration.
        operands: in order.
        attrs: attributes by the number of lanes.
        fracs: fraction bits that are tried.
        weight_frac: of weights.
    """

    name: str
    op: type[tensor.TensorOperation]
    operands: tuple[Operand, ...] = (Operand(),)
    attrs: Callable[[int], Attrs] = field(default=lambda lanes: {})
    fracs: tuple[int, ...] = (8, 14, 20)
    weight_frac: int = 10

    @property
    def lanes(self) -> int:
        """Lanes of one run."""
        most = max(element_count(x.shape) for x in self.operands if x.source != "weight")
        return max(4, _LANE_NUMBERS // max(1, most))

    def module(self, lanes: int, *, products: bool) -> tuple[Module, dict[str, Array]]:
        """The operator on inputs of so many lanes.

        Args:
            lanes: first axis of every input.
            products: multiply inputs by a number first, so that they are truncated before use.
        """
        module, constants = Module("tensor"), {}
        values: list[Value] = []
        rng = np.random.default_rng(5)

        def add(op: type[tensor.TensorOperation], operands: Sequence[Value], **attrs: Any) -> Value:
            return module.main.append(op, operands, attrs, op.name).result

        for i, x in enumerate(self.operands):
            if x.source == "weight":
                unit = 2.0**-self.weight_frac
                array = np.rint(rng.uniform(x.lo, x.hi, x.shape) / unit) * unit
                flat = array.reshape(-1)
                flat[: len(flat) // 2] = rng.choice([x.lo, x.hi], len(flat) // 2)
                constants[f"w{i}"] = array
                values.append(add(tensor.Weight, [], name=f"w{i}", shape=x.shape, owner="model"))
                continue
            shape = (lanes, *x.shape)
            value = add(tensor.Input, [], name=f"x{i}", shape=shape, owner="client")
            if products and x.source == "input":
                value = add(tensor.Scale, [value], factor=_PI)
            if x.source == "bit":
                value = add(tensor.Less, [add(tensor.Sub, [value, value]), value])
            values.append(value)
        op = module.main.append(self.op, values, dict(self.attrs(lanes)), self.op.name)
        for i, result in enumerate(op.results):
            attrs = {"name": f"y{i}", "owner": "client"}
            assert isinstance(result.type, TensorType)
            if products and result.type.dtype == "f32":
                # What reaches an output alone would not be clamped.
                result = add(tensor.Relu, [result])
            module.main.append(tensor.Output, [result], attrs)
        return module, constants


_PI = 3.140625
_FINE = (8, 14, 20)


def _fixed(**attrs: Any) -> Callable[[int], Attrs]:
    return lambda lanes: attrs


def _unary(op: Any, lo: float, hi: float, name: str = "", /, **attrs: Any) -> Case:
    return Case(name or _short(op), op, (Operand((), lo, hi),), _fixed(**attrs))


def _short(op: Any) -> str:
    return str(op.name).removeprefix("tensor.")


def _rows(op: Any, width: int, lo: float, hi: float, name: str = "", /, **attrs: Any) -> Case:
    return Case(name or _short(op), op, (Operand((width,), lo, hi),), _fixed(**attrs))


_W = Operand((3, 2, 3, 3), -2.0, 2.0, "weight")
_BIAS = Operand((3,), -4.0, 4.0, "weight")
_IMAGE = Operand((2, 5, 5), -8.0, 8.0)
_BIT = Operand((), 0.0, 1.0, "bit")
_PAIR = (Operand(), Operand())
_GEOMETRY = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
_POOL = {"kernel": (2, 2), "strides": (2, 1), "pads": (0, 1, 1, 0)}
_TREE = {"roots": (0, -5), "left": (1, -1, -3), "right": (2, -2, -4)}

CASES: tuple[Case, ...] = (
    Case("conv", tensor.Conv, (_IMAGE, _W, _BIAS), _fixed(**_GEOMETRY)),
    Case(
        "conv_transpose",
        tensor.ConvTranspose,
        (_IMAGE, Operand((2, 3, 2, 2), -2.0, 2.0, "weight")),
        _fixed(**(_GEOMETRY | {"output_padding": (0, 0)})),
    ),
    Case("matmul", tensor.MatMul, (Operand((6,)), Operand((6, 5), -2.0, 2.0, "weight"))),
    Case("matmul of two secrets", tensor.MatMul, (Operand((3, 6)), Operand((6, 4)))),
    Case("add", tensor.Add, _PAIR),
    Case("sub", tensor.Sub, _PAIR),
    Case("mul", tensor.Mul, _PAIR),
    _unary(tensor.Scale, -16.0, 16.0, factor=-0.7231),
    Case("maximum", tensor.Maximum, _PAIR),
    _unary(tensor.Relu, -64.0, 64.0),
    _unary(tensor.Abs, -64.0, 64.0),
    _unary(tensor.Floor, -64.0, 64.0),
    _unary(tensor.Clip, -64.0, 64.0, lo=-1.3, hi=6.0),
    _unary(tensor.Exp, -60.0, 8.0),
    _unary(tensor.Sigmoid, -64.0, 64.0),
    _unary(tensor.Tanh, -64.0, 64.0),
    _unary(tensor.Erf, -64.0, 64.0),
    _unary(tensor.Gelu, -64.0, 64.0),
    _unary(tensor.Gelu, -64.0, 64.0, "gelu by tanh", approximate="tanh"),
    _unary(tensor.Silu, -64.0, 64.0),
    _unary(tensor.Mish, -64.0, 64.0),
    _unary(tensor.Softplus, -64.0, 64.0),
    _unary(tensor.Elu, -64.0, 64.0),
    _unary(tensor.Sin, -64.0, 64.0),
    _unary(tensor.Cos, -64.0, 64.0),
    _unary(tensor.Atan, -15.0, 15.0),
    *(_unary(f, -1e6, 1e6, f"{_short(f)}, wide") for f in (tensor.Sigmoid, tensor.Gelu)),
    _unary(tensor.Reciprocal, -64.0, 64.0),
    _unary(tensor.Reciprocal, -(2.0**30), 2.0**30, "reciprocal, wide"),
    Case("div", tensor.Div, _PAIR),
    Case("div, wide", tensor.Div, (Operand((), -4096.0, 4096.0), Operand((), -4096.0, 4096.0))),
    Case("div of rows", tensor.Div, (Operand((8,), -999.0, 999.0), Operand((1,), -4e5, 4e5))),
    _unary(tensor.Rsqrt, -1.0, 64.0, epsilon=0.0),
    _unary(tensor.Rsqrt, 0.0, 2.0**30, "rsqrt, wide", epsilon=1e-5),
    _unary(tensor.Sqrt, -1.0, 64.0),
    _unary(tensor.Sqrt, 0.0, 2.0**30, "sqrt, wide"),
    _unary(tensor.Log, -1.0, 64.0),
    _unary(tensor.Log, 0.0, 2.0**30, "log, wide"),
    _rows(tensor.Softmax, 16, -64.0, 64.0, axis=1),
    _rows(tensor.Softmax, 50, -2048.0, 2048.0, "softmax, masked", axis=1),
    _rows(tensor.LogSoftmax, 16, -64.0, 64.0, axis=1),
    _rows(tensor.LogSoftmax, 50, -2048.0, 2048.0, "log_softmax, masked", axis=1),
    _rows(
        tensor.Normalize, 32, -64.0, 64.0, axes=(1,), center=True, epsilon=32e-5, exponent=3
    ),
    _rows(
        tensor.Normalize, 24, -64.0, 64.0, "normalize to length 1",
        axes=(1,), center=False, epsilon=0.0,
    ),
    _rows(
        tensor.Normalize, 48, -(2.0**20), 2.0**20, "normalize, wide",
        axes=(1,), center=True, epsilon=1e-12, exponent=3,
    ),
    Case("less", tensor.Less, _PAIR),
    Case("equal", tensor.Equal, _PAIR),
    Case("not", tensor.Not, (_BIT,)),
    Case("and", tensor.And, (_BIT, _BIT)),
    Case("xor", tensor.Xor, (_BIT, _BIT)),
    Case("where", tensor.Where, (_BIT, *_PAIR)),
    Case("to_real", tensor.ToReal, (_BIT,)),
    _rows(tensor.ReduceSum, 9, -64.0, 64.0, axes=(1,), keepdims=False),
    _rows(tensor.ReduceMax, 9, -64.0, 64.0, axes=(1,), keepdims=True),
    _rows(tensor.ArgMax, 9, -64.0, 64.0, axis=1, keepdims=False),
    _rows(tensor.TopK, 9, -64.0, 64.0, k=4, axis=1),
    _rows(tensor.CumSum, 9, -64.0, 64.0, axis=1),
    Case("maxpool", tensor.MaxPool, (_IMAGE,), _fixed(**_POOL)),
    Case("sum_pool", tensor.SumPool, (_IMAGE,), _fixed(**_POOL)),
    _rows(tensor.Pad, 9, -64.0, 64.0, low=(0, 1), high=(0, 2), value=0.3),
    Case("reshape", tensor.Reshape, (Operand((6,)),), lambda n: {"shape": (n, 3, 2)}),
    Case("transpose", tensor.Transpose, (Operand((3, 4)),), _fixed(perm=(0, 2, 1))),
    Case("broadcast", tensor.Broadcast, (Operand((1,)),), lambda n: {"shape": (n, 3)}),
    Case(
        "slice", tensor.Slice, (Operand((6,)),),
        lambda n: {"starts": (0, 1), "limits": (n, 6), "strides": (1, 2)},
    ),
    Case("concat", tensor.Concat, (Operand((2,)), Operand((3,))), _fixed(axis=1)),
    Case("gather", tensor.Gather, (Operand((6,)),), _fixed(axis=1, indices=(4, 0, 4))),
    Case(
        "take", tensor.Take, (Operand((6,)),),
        lambda n: {"indices": tuple(range(0, 6 * n, 2)), "shape": (n, 3)},
    ),
    Case(
        "lookup",
        tensor.Lookup,
        (Operand((2,), -7.0, 6.0, "whole"), Operand((7, 3), -8.0, 8.0, "weight")),
    ),
    Case(
        "branch", tensor.Branch, (Operand((4,)), Operand((4,), -8.0, 8.0, "weight")),
        fracs=(14,),
    ),
    Case(
        "forest",
        tensor.Forest,
        (Operand((3,), 0.0, 1.0, "bit"), Operand((5, 2), -8.0, 8.0, "weight")),
        _fixed(**_TREE),
    ),
)  # fmt: skip
"""Every operator that has a secure form, but inputs and outputs, which all of them have."""


def subject(case: Case, frac: int, policy: str, lanes: int | None = None) -> Subject:
    """A case in formats.

    Raises:
        MpccError, NoFitError: it does not fit them.
    """
    guarded = policy == "guarded"
    lanes = lanes or case.lanes
    module, constants = case.module(lanes, products=guarded)
    limits = {f"x{i}": (x.lo, x.hi) for i, x in enumerate(case.operands) if x.source != "weight"}
    samples: list[dict[str, Array]] = []
    if guarded:
        rng = np.random.default_rng(6)
        samples.append({})
        for i, x in enumerate(case.operands):
            if x.source == "weight":
                continue
            scale = _PI if x.source == "input" else 1.0
            small = rng.uniform(x.lo, x.hi, (lanes, *x.shape)) / scale
            samples[0][f"x{i}"] = np.rint(small) if x.source == "whole" else small
            if x.source == "input":
                limits[f"x{i}"] = (x.lo * GUARDED**2, x.hi * GUARDED**2)
    return formatted(module, constants, limits, frac, case.weight_frac, policy, samples)


def _whole(subject: Subject) -> set[str]:
    """Inputs that take whole numbers alone."""
    return {
        op.attrs["name"]
        for op in subject.module.main.walk(tensor.Input.name)
        if any(
            user.definition is tensor.Lookup and user.operands[0] is op.result
            for user in subject.module.main.ops
        )
    }


def attack(
    subject: Subject, numbers: int, seed: int = 0, first: Sequence[Mapping[str, Array]] = ()
) -> Found:
    """Feed at least so many numbers: half of them drawn, half climbing from the worst of these.

    A climb raises the share of an allowed error, or of a width, in turn.

    Args:
        subject: what is attacked.
        numbers: at least so many.
        seed: of what is drawn.
        first: inputs to begin with.
    """
    rng, found = np.random.default_rng(seed), Found()
    shapes = {
        op.attrs["name"]: op.attrs["shape"] for op in subject.module.main.walk("tensor.input")
    }
    cuts, whole = subject.cuts(), _whole(subject)
    kept: dict[int, tuple[Array, dict[str, Array]]] = {}
    lanes, turn = lanes_of(shapes), 0

    def run(inputs: dict[str, Array]) -> None:
        nonlocal turn
        scores = subject.run(inputs, ROUNDINGS[turn % len(ROUNDINGS)], turn, found)
        turn += 1
        for goal, score in enumerate(scores):
            # Rows of a batch, or all inputs together as one.
            pool = inputs if lanes > 1 else {n: x[None] for n, x in inputs.items()}
            if goal in kept:
                old, before = kept[goal]
                score = np.concatenate([old, score])
                pool = {n: np.concatenate([before[n], x]) for n, x in pool.items()}
            best = np.argsort(-score, kind="stable")[:_PARENTS]
            kept[goal] = score[best], {n: x[best] for n, x in pool.items()}

    def grid(name: str) -> int:
        return 0 if name in whole else subject.frac

    for inputs in first:
        run(dict(inputs))
    while found.inputs < numbers / 2 or turn < len(ROUNDINGS):
        run({
            n: drawn(rng, s, subject.limits[n], grid(n), cuts) for n, s in shapes.items()
        })  # fmt: skip
    while found.inputs < numbers or turn < 2 * _CLIMB_ROUNDS:
        parents = kept[turn % 2][1]
        picks = np.random.default_rng(turn)
        near = {n: climbed(picks, parents[n], lanes, subject.limits[n], grid(n)) for n in shapes}
        run(near if lanes > 1 else {n: x[0] for n, x in near.items()})
    return found


_Row = tuple[str, str, Callable[[], Subject | tuple[Subject, Sequence[Mapping[str, Array]]]]]
"""Name, policy, and what makes a subject, maybe with inputs to begin with."""


def _campaigns(options: argparse.Namespace) -> Iterator[_Row]:
    def is_in(names: Sequence[str], *own: str) -> bool:
        return names == ["all"] or any(name in names for name in own)

    for case in CASES:
        if is_in(options.operator, _short(case.op), case.name):
            for frac, policy in itertools.product(case.fracs, options.policy):
                yield case.name, policy, partial(subject, case, frac, policy)
    for known, names, make in (
        (NETWORKS, options.network, network),
        (MODELS, options.model, lambda name, policy: pretrained(MODELS[name], policy)),
    ):
        for name, policy in itertools.product(known, options.policy):
            if is_in(names, name):
                yield name, policy, partial(make, name, policy)


def _line(name: str, frac: int, policy: str, found: Found, seconds: float) -> str:
    verdict = "ok" if found.good else "FAILED: " + "; ".join(found.where)
    return (
        f"{name:22} {frac:3} {policy:8} {found.inputs:9} {found.overflows:9} {found.outside:8} "
        f"{found.error:10.4g} {found.share:6.3f} {found.used:6.3f} {seconds:6.1f} s  {verdict}"
    )


HEADER = (
    f"{'operator':22} {'f':>3} {'policy':8} {'inputs':>9} {'overflows':>9} {'outside':>8} "
    f"{'units off':>10} {'share':>6} {'width':>6}"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run campaigns; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.campaigns")
    parser.add_argument("--operator", nargs="*", default=[], help="names, or all")
    parser.add_argument("--network", nargs="*", default=[], help="names, or all")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="numbers per campaign")
    parser.add_argument("--policy", nargs="*", default=["proved", "guarded"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", nargs="*", default=[], help=f"of {', '.join(MODELS)}, or all")
    parser.add_argument("--runs", type=int, default=1000, help="inputs per pretrained model")
    options = parser.parse_args(arguments)
    print(HEADER, flush=True)
    failed = 0
    rows = list(_campaigns(options))
    for name, policy, make in rows:
        start = time.perf_counter()
        try:
            made = make()
        except (MpccError, NoFitError) as error:
            print(f"{name:22} {policy:12} refused: {str(error).splitlines()[0]}", flush=True)
            continue
        target, first = made if isinstance(made, tuple) else (made, ())
        numbers = options.inputs
        if first:
            numbers = options.runs * sum(x.size for x in first[0].values())
        found, frac = attack(target, numbers, options.seed, first), target.frac
        failed += not found.good
        print(_line(name, frac, policy, found, time.perf_counter() - start), flush=True)
    print(f"{failed} of {len(rows)} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
