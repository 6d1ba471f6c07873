"""The benchmark cases: what is compiled, with which data, and which formats.

Micro cases are one operator on inputs of the client (the matrix of a product is a weight of the
model owner). Networks A, B and C and the deep networks have seeded weights, see
:mod:`benchmarks.models` and :mod:`benchmarks.vision`. All weights are secret.

Formats: A, B, C and BlazeFace are compiled as a user does, with calibration data and the default
error budget. The operators and the deep networks have declared ones, so that what is timed does not
depend on the compiler's search: ReLU and maximum compare values with ``|x| < 2^16``. Setting
``bits`` overrides them all: 16 fraction bits and ``|x| < 2^bits``, for every value of the model, as
systems have it that keep one format for all; with 31 that is what MP-SPDZ's figures were measured
with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import nonlinear, vision
from benchmarks.models import IR_VERSION, NETWORKS, OPSET, sample_inputs
from mpcc.ir.phi import FormatOptions

__all__ = ["BATCHES", "CASES", "Case", "Material", "unknown"]

FloatArray = npt.NDArray[np.float32]

BATCHES = (1, 32, 128, 256)
"""Of networks A, B and C."""

SAMPLES = 8
"""Calibration samples of the networks."""

_BITS_FRACTION = 16
"""Fraction bits of the setting ``bits``, as MP-SPDZ has them by default."""

_COMPARED_FRACTION = 12
"""Fraction bits of ReLU and maximum."""

_RING_ERROR = 8.0
"""Times the usual error budget in Z_2^32: fewer bits fit there."""

_FUNCTION_ERROR = 2.0**-15
"""Error budget of single functions: below the errors of the other systems."""

_ROOM = 2.0**-6
"""An input's range stays this far inside a power of two, for rounding up must not reach it."""


@dataclass(frozen=True)
class Material:
    """What a case compiles and runs.

    Attributes:
        model: an ONNX file.
        inputs: the timed inputs.
        calibration: other inputs, [samples, ...] each; empty for operators.
        formats: see :class:`mpcc.ir.phi.FormatOptions`.
    """

    model: bytes
    inputs: Mapping[str, FloatArray]
    calibration: Mapping[str, FloatArray]
    formats: FormatOptions

    def with_bits(self, bits: int) -> Material:
        """The same with 16 fraction bits and ``|x| < 2^bits`` for every value, by declaration.

        Args:
            bits: from 24 on, or values and weights would not fit.
        """
        bound = 2.0 ** (bits - _BITS_FRACTION)
        inside = bound - _ROOM
        ranges = self.formats.input_ranges
        formats = FormatOptions(
            disclose="none",
            # One operator compares its input; a network's input has the range that it has.
            input_ranges=ranges if self.calibration else dict.fromkeys(ranges, (-inside, inside)),
            fraction_bits=_BITS_FRACTION,
            value_range=bound,
            # What the architecture proves is never less than what is promised then.
            weight_range=bound,
            max_error=max(self.formats.max_error, 2.0**-4),
        )
        return Material(self.model, self.inputs, self.calibration, formats)

    def with_ring(self, ring: int) -> Material:
        """The same in another ring, with the fraction bits that fit and a budget that they keep."""
        frac = self.formats.fraction_bits
        formats = replace(
            self.formats,
            ring=ring,
            fraction_bits=frac if frac == _COMPARED_FRACTION else None,
            max_error=self.formats.max_error * (1.0 if ring == 64 else _RING_ERROR),
        )
        return Material(self.model, self.inputs, self.calibration, formats)


@dataclass(frozen=True)
class Case:
    """One benchmark.

    Attributes:
        name: on the command line.
        title: for tables.
        group: ``operators``, ``functions``, ``networks`` or ``deep``.
        make: builds it; FetchError where it needs a file that cannot be fetched.
    """

    name: str
    title: str
    group: str
    make: Callable[[], Material]


def _model(
    op: str, inputs: Mapping[str, tuple[int, ...]], shape: tuple[int, ...], **extra: Any
) -> bytes:
    """One node on float inputs; ``weights`` among the rest are its further operands."""
    weights: Mapping[str, FloatArray] = extra.pop("weights", {})
    node = helper.make_node(op, [*inputs, *weights], ["y"], name=op.lower(), **extra)

    def info(name: str, dims: tuple[int, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    graph = helper.make_graph(
        [node],
        op.lower(),
        [info(name, dims) for name, dims in inputs.items()],
        [info("y", shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _uniform(shape: tuple[int, ...], bound: float, seed: int) -> FloatArray:
    return np.random.default_rng(seed).uniform(-bound, bound, shape).astype(np.float32)


def _declared(bounds: Mapping[str, float], frac: int, **more: Any) -> FormatOptions:
    return FormatOptions(
        disclose="none",
        input_ranges={name: (-bound, bound) for name, bound in bounds.items()},
        fraction_bits=frac,
        **more,
    )


def _matmul(size: int) -> Material:
    shape = (size, size)
    weights = {"w": _uniform(shape, 1, 2)}
    model = _model("MatMul", {"x": shape}, shape, weights=weights)
    # The largest of 1024 rounding errors of 2^-17 and what truncation adds stay far below this.
    formats = _declared({"x": 1}, 16, weight_range=2.0, max_error=2.0**-6)
    return Material(model, {"x": _uniform(shape, 1, 1)}, {}, formats)


def _mul(count: int) -> Material:
    shape = (count,)
    inputs = {"x": _uniform(shape, 4, 1), "z": _uniform(shape, 4, 2)}
    model = _model("Mul", {"x": shape, "z": shape}, shape)
    return Material(model, inputs, {}, _declared({"x": 4, "z": 4}, 16))


#: With these fraction bits, |x| < 2^16.
_COMPARED = 16.0 - _ROOM


def _relu(count: int) -> Material:
    shape = (count,)
    model = _model("Relu", {"x": shape}, shape)
    inputs = {"x": _uniform(shape, 8, 1)}
    return Material(model, inputs, {}, _declared({"x": _COMPARED}, _COMPARED_FRACTION))


def _maxpool(shape: tuple[int, int, int]) -> Material:
    channels, height, width = shape
    result = (1, channels, height // 2, width // 2)
    model = _model("MaxPool", {"x": (1, *shape)}, result, kernel_shape=[2, 2], strides=[2, 2])
    inputs = {"x": _uniform((1, *shape), 8, 1)}
    return Material(model, inputs, {}, _declared({"x": _COMPARED}, _COMPARED_FRACTION))


def _network(name: str, batch: int) -> Material:
    network = NETWORKS[name](batch)
    (timed,) = sample_inputs(network, 1, seed=1)
    others = sample_inputs(network, SAMPLES, seed=2)
    return Material(
        network.serialized(),
        timed,
        {key: np.stack([sample[key] for sample in others]) for key in timed},
        FormatOptions(input_ranges=dict.fromkeys(timed, (0.0, 1.0))),
    )


def _deep(make: Callable[[], onnx.ModelProto], size: int, frac: int) -> Material:
    """Values inside stay below 64, by far: they are normalised, then summed over few blocks."""
    formats = FormatOptions(
        disclose="none",
        input_ranges={vision.INPUT_NAME: (-1.0, 1.0)},
        fraction_bits=frac,
        weight_range=64.0,
        value_range=256.0,
        max_error=0.25,
    )
    model = make().SerializeToString(deterministic=True)
    name = vision.INPUT_NAME
    # One sample: the compiler measures the error on it, which takes it far longer than all else.
    sample = {name: vision.images(1, size, seed=2)[None]}
    return Material(model, {name: vision.images(1, size, seed=3)}, sample, formats)


def _function(name: str) -> Material:
    """Calibrated, with a budget below the errors of the other systems."""
    function = nonlinear.FUNCTIONS[name]
    formats = FormatOptions(
        input_ranges={nonlinear.INPUT_NAME: function.bounds}, max_error=_FUNCTION_ERROR
    )
    samples = np.stack([function.inputs(seed) for seed in (2, 3)])
    return Material(
        nonlinear.function_model(function),
        {nonlinear.INPUT_NAME: function.inputs(1)},
        {nonlinear.INPUT_NAME: samples},
        formats,
    )


def _bert() -> Material:
    formats = FormatOptions(input_ranges={nonlinear.INPUT_NAME: (-4.0, 4.0)}, max_error=2.0**-7)
    timed, others = nonlinear.bert_inputs(1, seed=2), nonlinear.bert_inputs(1, seed=3)
    name = nonlinear.INPUT_NAME
    return Material(nonlinear.bert_layer(), {name: timed[0]}, {name: others}, formats)


def _blazeface() -> Material:
    from examples.blazeface.prepare import prepare

    files = prepare(Path(__file__).parent.parent / ".cache" / "benchmarks" / "blazeface")
    with np.load(files.image) as inputs, np.load(files.calibration) as others:
        return Material(
            files.model.read_bytes(),
            dict(inputs),
            dict(others),
            FormatOptions(input_ranges={"input:0": (-1.0, 1.0)}),
        )


def _cases() -> list[Case]:
    cases = [
        Case(f"matmul{n}", f"matmul {n}³", "operators", partial(_matmul, n)) for n in (256, 1024)
    ]
    for name, title, make in (("mul", "product", _mul), ("relu", "ReLU", _relu)):
        for digit in (4, 6):
            count = partial(make, 10**digit)
            cases.append(Case(f"{name}1e{digit}", f"{title}, 10^{digit}", "operators", count))
    for name, shape in (("1e4", (1, 100, 100)), ("1e6", (16, 250, 250)), ("112", (64, 112, 112))):
        title = f"max pool 2×2, {'×'.join(map(str, shape))}"
        cases.append(Case(f"maxpool{name}", title, "operators", partial(_maxpool, shape)))
    for key, function in nonlinear.FUNCTIONS.items():
        title = f"{function.title}, 128×128"
        cases.append(Case(key, title, "functions", partial(_function, key)))
    for net in NETWORKS:
        for batch in BATCHES:
            network = partial(_network, net, batch)
            cases.append(Case(f"{net}{batch}", f"{net}, batch {batch}", "networks", network))
    for name, title, builder, size, frac in (
        ("resnet18", "ResNet-18, 32×32", vision.resnet18_small, 32, 16),
        ("vgg16", "VGG-16, 32×32", vision.vgg16_small, 32, 16),
        ("resnet50", "ResNet-50, 224×224", vision.resnet50, 224, 16),
    ):
        cases.append(Case(name, title, "deep", partial(_deep, builder, size, frac)))
    cases.append(Case("bert", "BERT-base layer, 128 tokens", "deep", _bert))
    cases.append(Case("blazeface", "BlazeFace, 128×128", "networks", _blazeface))
    return cases


CASES: dict[str, Case] = {case.name: case for case in _cases()}
"""By name, in the order of tables."""


def unknown(names: list[str]) -> str:
    """What is wrong with case names from a command line; empty if nothing."""
    wrong = [n for n in dict.fromkeys(names) if n not in CASES]
    return f"no case {', '.join(wrong)}; there are {', '.join(CASES)}" if wrong else ""
