"""ONNX's backend suite as a judge of the compiler: which cases count, and when one passes.

A case counts if its answer depends on an input of real numbers and if every operator of its model
can be imported (an operator that is known on constants only counts where its operands are
constants). Everything else that it is given becomes a constant of the model, as it is in real
models:

* integers, booleans and texts: indices, shapes, masks;
* real operands that parametrise an operator (bounds, scales: ``PARAMETERS``);
* real operands that are weights wherever the operator is used (the statistics of a batch
  normalisation: ``WEIGHTS``).

A case passes if the compiled fixed-point program, simulated with random coins, gives the case's
outputs. The case's own inputs calibrate it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.version_converter
from onnx import numpy_helper

from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.frontend.onnx.fold import FOLDABLE
from mpcc.frontend.onnx.loader import OPERATORS
from mpcc.ir.analysis.bounds import bound
from mpcc.ir.core import Module
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import fixed, real
from mpcc.ir.phi import FormatOptions
from mpcc.passes import pipeline
from mpcc.passes.analyse import analyse
from mpcc.passes.base import Checkpoint, Manager
from mpcc.passes.lower_tensor_to_secure import encode_weights

Array = npt.NDArray[Any]

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")

RELATIVE = 1e-3
"""Largest error of an output, in units of its largest value: the suite's own rtol."""

PARAMETERS = {
    "Clip": (1, 2),
    "Dropout": (1,),
    "OneHot": (1, 2),
    "Pad": (2,),
    "Pow": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2),
    "Upsample": (1,),
}
"""Operator -> real operands that are parameters of it, not data."""

WEIGHTS = {
    "BatchNormalization": (1, 2, 3, 4),
    "ConvTranspose": (1,),
}
"""Operator -> real operands that must be weights of the model."""

_NO_DATA = {"CastLike": (1,), "EyeLike": (0,), "Shape": (0,), "Size": (0,)}
"""Operator -> operands of which it takes the shape or the type alone."""


@dataclass(frozen=True)
class Case:
    """One case of the suite.

    Attributes:
        name: the suite's name of it.
        kind: the folder of the suite that it comes from.
        model: the model as the suite has it.
        data: (inputs in the model's order, outputs in the model's order), one or more; types that
            numpy lacks as the suite has them.
    """

    name: str
    kind: str
    model: onnx.ModelProto
    data: tuple[tuple[tuple[Array, ...], tuple[Array, ...]], ...]

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of all operators of the model."""
        return tuple(sorted({n.op_type for n in self.model.graph.node}))


class WrongResultError(Exception):
    """The compiled program gives something else than the case wants; says what."""


def _given(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs that are not initialisers too."""
    known = {i.name for i in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in known]


def _constant_inputs(model: onnx.ModelProto) -> set[str]:
    """Inputs that become constants: whatever is not real, parameters, weights, what those need."""
    names = {
        i.name for i in _given(model) if i.type.tensor_type.elem_type != onnx.TensorProto.FLOAT
    }
    for node in reversed(model.graph.node):
        constant = {i for table in (PARAMETERS, WEIGHTS) for i in table.get(node.op_type, ())}
        if names.intersection(node.output):
            constant.update(range(len(node.input)))
        constant.difference_update(_NO_DATA.get(node.op_type, ()))
        names.update(name for i, name in enumerate(node.input) if i in constant)
    return names


def counts(model: onnx.ModelProto) -> bool:
    """Whether an output depends on a real input's data, and all operators are supported."""
    constant = _constant_inputs(model)
    given = _given(model)
    computed = {i.name for i in given} - constant
    # What a normalisation divides by is computed from its data: that is no weight.
    data = [i.name for i in given[:1] if i.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    if not computed or constant.intersection(data):
        return False
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            return False
        ignored = _NO_DATA.get(node.op_type, ())
        depends = any(n in computed for i, n in enumerate(node.input) if i not in ignored)
        if node.op_type not in OPERATORS and (depends or node.op_type not in FOLDABLE):
            return False
        if depends:
            computed.update(node.output)
    return any(o.name in computed for o in model.graph.output)


OLDEST = 7
"""Models of older operator sets are converted to this one, as the importer advises."""


def _file(case: Any) -> Path:
    """The model's file, of a case that has one. Light models lie inside the package."""
    if case.model_dir is not None:
        return Path(case.model_dir) / "model.onnx"
    return Path(onnx.__file__).parent.parent / case.url


def _model(case: Any) -> onnx.ModelProto:
    model = case.model
    if model is None:
        model = onnx.load(_file(case))
    version = max((o.version for o in model.opset_import if not o.domain), default=OLDEST)
    if version < OLDEST:
        model = onnx.version_converter.convert_version(model, OLDEST)
    return model


def _read(case: Any, model: onnx.ModelProto, kind: str) -> Case:
    """A case of the suite with its files, if it has files."""
    pairs = case.data_sets
    if pairs is None and case.model_dir is not None:
        folders = sorted(Path(case.model_dir).glob("test_data_set_*"))
        pairs = [[_tensors(f.glob("input_*.pb")), _tensors(f.glob("output_*.pb"))] for f in folders]
    elif pairs is None:
        # What the suite's own runner feeds light models with.
        shapes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in _given(model)]
        inputs = [
            (np.arange(np.prod(s)) / np.prod(s)).reshape(s).astype(np.float32) for s in shapes
        ]
        stem = _file(case).stem
        pairs = [[inputs, _tensors(_file(case).parent.glob(f"{stem}_output_*.pb"))]]
    data = tuple((tuple(i), tuple(o)) for i, o in pairs)
    return Case(case.name, kind, model, data)


def _tensors(files: Iterable[Path]) -> list[Array]:
    """Arrays of numbered files, in the order of the numbers."""
    found = []
    for file in sorted(files, key=lambda f: int(f.stem.rpartition("_")[2])):
        proto = onnx.TensorProto()
        proto.ParseFromString(file.read_bytes())
        found.append(numpy_helper.to_array(proto))
    return found


def _is_tensor(value: onnx.ValueInfoProto) -> bool:
    return value.type.WhichOneof("value") == "tensor_type"


@cache
def cases() -> Mapping[str, Case]:
    """All cases that count, by name."""
    with warnings.catch_warnings():
        # The generators of other operators' cases divide by zero on purpose.
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        found = {}
        for kind in KINDS:
            for case in load_model_tests(kind=kind):
                model = _model(case)
                graph = model.graph
                if all(map(_is_tensor, (*graph.input, *graph.output))) and counts(model):
                    found[case.name] = _read(case, model, kind)
    return dict(sorted(found.items()))


def _tensor(array: Array | onnx.TensorProto, name: str) -> onnx.TensorProto:
    if not isinstance(array, onnx.TensorProto):
        return numpy_helper.from_array(np.asarray(array), name)
    # Small types are given as they would be in a file.
    made = onnx.TensorProto()
    made.CopyFrom(array)
    made.name = name
    return made


def _array(value: Array | onnx.TensorProto) -> Array:
    if isinstance(value, onnx.TensorProto):
        return np.asarray(numpy_helper.to_array(value))
    return np.asarray(value)


def baked(case: Case, data: Iterable[Array]) -> tuple[bytes, dict[str, Array]]:
    """Bytes of the model with what are constants baked in, and its real inputs."""
    constant = _constant_inputs(case.model)
    made = onnx.ModelProto()
    made.CopyFrom(case.model)
    given = _given(case.model)
    # Before version 4 of the format every initialiser had to be an input too.
    made.ir_version = max(made.ir_version, 4)
    del made.graph.input[:]
    inputs = {}
    for info, array in zip(given, data, strict=True):
        if info.name in constant:
            made.graph.initializer.append(_tensor(array, info.name))
        else:
            inputs[info.name] = _array(array)
            made.graph.input.append(info)
    return made.SerializeToString(), inputs


@dataclass(frozen=True)
class Built:
    """A case compiled down to fixed point.

    Attributes:
        constants: weights of the tensor level by name.
        module: the tensor level behind its passes.
        secure: the fixed-point program.
        weights: its raw words by name.
        inputs: the case's real inputs by name.
        outputs: the case's outputs by name.
    """

    constants: Mapping[str, Array]
    module: Module
    secure: Module
    weights: Mapping[str, Array]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def scale_of(want: Array) -> float:
    """What an output's error is measured by: its largest value, 1 for an output of zeros."""
    size = float(np.abs(want.astype(np.float64)).max(initial=0.0))
    return size if size > 0 else 1.0


def _is_discrete(array: Array) -> bool:
    return array.dtype.kind in "biu"


def build(case: Case, number: int = 0) -> Built:
    """Compile a case for one of its data sets.

    Raises:
        MpccError: it cannot be imported or has no fixed-point form.
    """
    given, wanted = case.data[number]
    source, inputs = baked(case, given)
    imported = import_onnx(source, {n: a.shape for n, a in inputs.items()})
    outputs = {p.name: _array(a) for p, a in zip(case.model.graph.output, wanted, strict=True)}
    for name, array in (*inputs.items(), *outputs.items()):
        if not np.isfinite(array).all():
            raise WrongResultError(f"{name}: its data are infinite or not a number")
    checkpoint = Checkpoint(DIALECTS)
    module = Manager(pipeline.TENSOR, checkpoint).run(imported.module)
    constants = checkpoint.constants(imported.constants)
    # The analysis keeps twice the measured error within its budget, which grows beyond 2^8.
    scales = [scale_of(a) for a in outputs.values() if not _is_discrete(a)]
    budget = min((RELATIVE * s / max(1.0, s / 256) for s in scales), default=RELATIVE)
    options = FormatOptions(max_error=budget)
    # Twice the same data: measured under different coins, luck shows.
    phi = analyse(module, constants, [inputs, inputs], options).phi
    secure = Manager(pipeline.to_secure(phi, options)).run(module)
    weights = encode_weights(constants, secure)
    return Built(constants, module, secure, weights, inputs, outputs)


def check(case: Case) -> None:
    """Compile and simulate every data set of a case.

    Raises:
        MpccError: it cannot be compiled.
        WrongResultError: an output has another shape, or is too far from what the case wants.
    """
    for number in range(len(case.data)):
        built = build(case, number)
        run = fixed.simulate(
            built.secure, built.weights, built.inputs, "random", seed=1, keep_raw=True
        )
        if run.overflows:
            raise WrongResultError(f"a value left its range at {run.overflows[0].loc}")
        bounds = bound(built.secure, built.weights, run.raw)
        limits = {name: b.error for name, b in bounds.items()}
        compare(built, run.outputs, limits)


def compare(built: Built, have: Mapping[str, Array], limits: Mapping[str, float]) -> None:
    """Compare outputs with those of the case.

    Args:
        built: the case.
        have: outputs by name.
        limits: proved error bound of each output.

    Raises:
        WrongResultError: the first output that differs by more than it may where it is decided.
    """
    if have.keys() != built.outputs.keys():
        raise WrongResultError(f"outputs {sorted(have)}, not {sorted(built.outputs)}")
    for name, want in built.outputs.items():
        got = have[name]
        if got.shape != want.shape:
            raise WrongResultError(f"{name}: shape {got.shape}, not {want.shape}")
        limit = 0.0
        if not _is_discrete(want):
            scale = scale_of(want)
            # The case's own outputs are binary32 results in some order of operations.
            limit = min(RELATIVE * scale, limits[name] + 2.0**-18 * scale)
        off = np.abs(got.astype(np.float64) - want.astype(np.float64))
        wrong = off > limit
        if wrong.any() and (wrong & ~_undecided(built, name, limit)).any():
            raise WrongResultError(
                f"{name}: {int(wrong.sum())} elements are wrong, error {off.max():.3g}, "
                f"allowed {limit:.3g}"
            )


_NUDGES = 32
_DECISIONS = ("tensor.argmax", "tensor.equal", "tensor.floor", "tensor.less", "tensor.topk")


def _undecided(built: Built, name: str, limit: float) -> Array:
    """Elements of an output that the inputs' encoding decides, as behind a comparison.

    There the float model itself gives something else when every input element moves by half a unit
    of the program's input format (and by no more than 1e-3 of the input's size): the margin is
    below twice the error bound.
    """
    generator = np.random.default_rng(0)
    steps = {
        op.attrs["name"]: min(
            2.0 ** -(op.attrs["frac"] + 1), RELATIVE * scale_of(built.inputs[op.attrs["name"]])
        )
        for op in built.secure.main.walk("secure.input")
    }
    rule = real.run(built.module, built.constants, built.inputs)[name].astype(np.float64)
    undecided = np.zeros(rule.shape, bool)
    if not any(op.name in _DECISIONS for op in built.module.main.ops):
        return undecided
    for _ in range(_NUDGES):
        moved = {
            n: a + steps[n] * generator.choice([-1.0, 1.0], a.shape)
            for n, a in built.inputs.items()
        }
        other = real.run(built.module, built.constants, moved)[name]
        undecided |= np.abs(other.astype(np.float64) - rule) > limit
    return undecided


def attempt(case: Case) -> str:
    """Why a case does not pass; an empty text if it does."""
    try:
        check(case)
    except MpccError as error:
        return str(error) or type(error).__name__
    except WrongResultError as error:
        return f"wrong result: {error}"
    return ""
