"""Reads a SavedModel or a Keras file, and imports one of its functions."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.frontend.importer import (
    Builder,
    Constant,
    Imported,
    Operand,
    Owners,
    Port,
    Problems,
    Room,
    Unsupported,
    check_size,
    suggestion,
    type_of,
)
from mpcc.frontend.tensorflow.graph import Walker
from mpcc.frontend.tensorflow.node import Item, Variable
from mpcc.frontend.tensorflow.runtime import quiet, tensorflow
from mpcc.ir.core import Value
from mpcc.ir.define import AttrValue, InferenceError
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape
from mpcc.options import OpenShape

__all__ = ["DEFAULT_SIGNATURE", "import_function", "import_keras", "import_saved_model"]

DEFAULT_SIGNATURE = "serving_default"
"""The signature that Keras and TensorFlow's own tools give a model."""

_REAL = frozenset(("bfloat16", "float16", "float32", "float64"))

_WHOLE: Mapping[str, tuple[int, ...]] = {
    "bool": (0, 1),
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (),
    "uint32": (),
    "int64": (),
    "uint64": (),
}
"""Types of whole numbers, with the range that they give an input if it is of use."""

_MAX_SIZE = (1 << 31) - 1

_MAX_BYTES = (1 << 31) - (1 << 20)
"""Of a graph; protobuf ends at 2 GiB."""


@dataclass(frozen=True)
class _Argument:
    """An argument of a function, and the placeholder that stands for it."""

    name: str
    placeholder: str
    shape: tuple[int | None, ...] | None
    dtype: str


def import_saved_model(
    source: str | os.PathLike[str],
    shapes: Mapping[str, OpenShape] | None = None,
    owners: Mapping[str, str] | None = None,
    weights: str = "secret",
    batch: int | None = None,
    signature: str = "",
) -> Imported:
    """Import a signature of a SavedModel of TensorFlow 2.

    Args:
        source: the model's folder.
        shapes: as for :func:`mpcc.frontend.onnx.loader.import_onnx`; names are those of the
            signature.
        owners: as there; weights have the names of variables, and of constants in the graph.
        weights: as there.
        batch: as there.
        signature: ``serving_default`` if empty; the only one if there is no such.

    Returns:
        The module and, apart from it, the constants' values.

    Raises:
        MpccError: the model cannot be read (``E-model-...``), has no such signature
            (``E-model-signature``), or cannot be imported (``E-import-...``); whatever is not
            supported is listed at once, with node names.
    """
    path = Path(source)
    if not (path / "saved_model.pb").is_file() and not (path / "saved_model.pbtxt").is_file():
        raise MpccError.of(
            "E-model-missing",
            "this folder is no SavedModel: it has no saved_model.pb"
            if path.is_dir()
            else "the model does not exist or is no folder",
            str(path),
            "give the folder that tf.saved_model.save or model.export wrote",
        )
    tf = tensorflow()
    with quiet():
        try:
            return _imported(
                tf,
                path,
                signature,
                lambda function, variables: import_function(
                    function, shapes, owners, weights, batch, variables
                ),
            )
        finally:
            # What was saved of training and not read is said when the model is given up.
            gc.collect()


def _imported(
    tf: Any, path: Path, signature: str, run: Callable[[Any, Sequence[Any]], Imported]
) -> Imported:
    """Load a SavedModel, import one of its functions, and give the model up again."""
    try:
        with tf.device("cpu"):
            loaded = _loaded(tf, path)
    except MpccError:
        raise
    except Exception as error:
        fix = "save the model again; all of its files are needed"
        raise _unreadable(error, path, fix) from error
    function = _signature(loaded, signature, path)
    return run(function, getattr(loaded, "variables", ()))


def _loaded(tf: Any, path: Path) -> Any:
    """The model, without what an optimiser keeps per variable.

    That state is of training only, and cannot be loaded where the class of an optimiser is from
    another version of Keras.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / "saved_model.pb"
    if not file.is_file():
        return tf.saved_model.load(str(path))
    if file.stat().st_size > _MAX_BYTES:
        raise MpccError.of("E-model-size", f"the graph has more than {_MAX_BYTES} bytes", str(file))
    model = saved_model_pb2.SavedModel()
    model.ParseFromString(file.read_bytes())
    nodes = [node for graph in model.meta_graphs for node in graph.object_graph_def.nodes]
    if not any(node.slot_variables for node in nodes):
        return tf.saved_model.load(str(path))
    for node in nodes:
        del node.slot_variables[:]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        (copy / file.name).write_bytes(model.SerializeToString())
        for other in ("variables", "assets"):
            if (path / other).is_dir():
                (copy / other).symlink_to((path / other).resolve())
        return tf.saved_model.load(str(copy))


def _signature(loaded: Any, wanted: str, path: Path) -> Any:
    known = dict(loaded.signatures)
    name = wanted or (next(iter(known)) if len(known) == 1 else DEFAULT_SIGNATURE)
    if name in known:
        return known[name]
    listed = ", ".join(sorted(known)) or "none at all"
    raise MpccError.of(
        "E-model-signature",
        f"the model has no signature {name}; it has {listed}",
        str(path),
        f"choose one of them, such as --signature {min(known)}"
        if known
        else "save it with tf.saved_model.save(model, folder, signatures=function)",
    )


def import_keras(
    source: str | os.PathLike[str],
    shapes: Mapping[str, OpenShape] | None = None,
    owners: Mapping[str, str] | None = None,
    weights: str = "secret",
    batch: int | None = None,
) -> Imported:
    """Import a whole model that Keras saved as ``.keras`` or ``.h5``.

    The arguments are those of :func:`import_saved_model`. Code that the file may hold is not run.
    """
    path = Path(source)
    if not path.is_file():
        raise MpccError.of("E-model-missing", "the model does not exist", str(path))
    tf = tensorflow()
    try:
        with quiet(), tf.device("cpu"):
            model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise _unreadable(
            error,
            path,
            "give a whole model (model.save), not its weights alone; custom layers need their "
            "code: load it there and give the folder that model.export writes",
        ) from error
    specs = [
        tf.TensorSpec(t.shape, t.dtype, name=_plain(t.name)) for t in tf.nest.flatten(model.inputs)
    ]
    names = [_plain(str(n)) for n in getattr(model, "output_names", ())]

    def run(*arguments: Any) -> Any:
        given = arguments[0] if len(arguments) == 1 else list(arguments)
        found = tf.nest.flatten(model(given, training=False))
        if len(set(names)) != len(found):
            return {f"output_{i}": t for i, t in enumerate(found)}
        return dict(zip(names, found, strict=True))

    with quiet(), tf.device("cpu"):
        function = tf.function(run, input_signature=specs).get_concrete_function()
    return import_function(function, shapes, owners, weights, batch, model.variables)


def _plain(name: str) -> str:
    """A name of Keras as TensorFlow allows it."""
    return name.split(":")[0].replace("/", "_")


def _unreadable(error: Exception, path: Path, fix: str) -> MpccError:
    text = str(error).strip().splitlines()
    return MpccError.of(
        "E-model-invalid",
        f"TensorFlow cannot read the model: {text[0] if text else type(error).__name__}",
        str(path),
        fix,
    )


def import_function(
    function: Any,
    shapes: Mapping[str, OpenShape] | None = None,
    owners: Mapping[str, str] | None = None,
    weights: str = "secret",
    batch: int | None = None,
    variables: Sequence[Any] = (),
) -> Imported:
    """Import a concrete function of TensorFlow.

    Args:
        function: a ``ConcreteFunction``, as of ``tf.function(f).get_concrete_function(...)``.
        shapes: as for :func:`import_saved_model`.
        owners: as there.
        weights: as there.
        batch: as there.
        variables: those that it may read, beside the function's own.

    Raises:
        MpccError: as there, apart from reading the model.
    """
    tf = tensorflow()
    roles = Owners(owners or {}, weights)
    graph = function.graph.as_graph_def()
    arguments = _arguments(tf, function)
    sizes = _shapes(arguments, shapes or {}, batch)
    problems = Problems()
    build = Builder(Room(_bytes([*variables, *function.variables]) + graph.ByteSize()))
    library = {str(f.signature.name): f for f in graph.library.function}
    walker = Walker(tf, library, build, roles, problems)
    build.reserve([str(n.name) for n in graph.node])
    given = _captured(walker, function, variables)
    ports = []
    for argument in arguments:
        port = Port(argument.name, sizes[argument.name], "f32", roles.input(argument.name))
        given[argument.placeholder] = _input(build, problems, argument, port)
        ports.append(port)
    results, names = _results(tf, function)
    found = walker.run(graph.node, given, results)
    outputs = _outputs(build, roles, problems, names, found)
    roles.check(problems)
    problems.raise_if_any()
    build.module.main.remove_dead()
    used = {op.attrs["name"] for op in build.module.main.walk(tensor.Weight.name)}
    for name in sorted(used & build.masks.keys()):
        why = build.not_finite(name)
        problems.node("E-import-unsupported", why.reason, build.masks[name], why.fix)
    problems.raise_if_any()
    constants = {name: array for name, array in build.constants.items() if name in used}
    given_shapes = shapes or {}
    batched = frozenset(
        a.name
        for a in arguments
        if batch is not None
        and (
            given_shapes[a.name][:1] == (None,)
            if a.name in given_shapes
            else bool(a.shape) and a.shape is not None and a.shape[0] is None
        )
    )
    return Imported(build.module, constants, tuple(ports), outputs, tuple(build.disclosed), batched)


def _bytes(variables: Sequence[Any]) -> int:
    unique = {id(v): v for v in variables}
    return sum(int(np.prod(v.shape)) * int(getattr(v.dtype, "size", 4)) for v in unique.values())


# --- arguments -----------------------------------------------------------------------------------


def _arguments(tf: Any, function: Any) -> list[_Argument]:
    """Arguments of a function by their names in its signature."""
    count = len(function.inputs) - len(function.captured_inputs)
    specs = [s for s in tf.nest.flatten(function.structured_input_signature) if hasattr(s, "shape")]
    found = []
    for i, placeholder in enumerate(function.inputs[:count]):
        spec = specs[i] if len(specs) == count else placeholder
        own = str(placeholder.name).split(":")[0]
        name = str(getattr(spec, "name", None) or own).split(":")[0]
        dims = None if spec.shape.rank is None else tuple(spec.shape.as_list())
        found.append(_Argument(name, own, dims, str(placeholder.dtype.name)))
    return found


def _captured(walker: Walker, function: Any, variables: Sequence[Any]) -> dict[str, Item | None]:
    """What a function takes from outside: its variables, and tensors of its surroundings."""
    known: dict[int, tuple[str, Any]] = {}
    for variable in (*function.variables, *variables):
        inner = getattr(variable, "value", None)  # Keras wraps TensorFlow's variables
        found: Any = inner if hasattr(inner, "handle") else variable
        if hasattr(found, "handle"):
            name = str(getattr(variable, "path", None) or found.name).split(":")[0]
            known.setdefault(id(found.handle), (name, found))
    given: dict[str, Item | None] = {}
    names: dict[str, int] = {}
    placeholders = function.inputs[len(function.inputs) - len(function.captured_inputs) :]
    for placeholder, source in zip(placeholders, function.captured_inputs, strict=True):
        own = str(placeholder.name).split(":")[0]
        if placeholder.dtype.name in ("resource", "variant"):
            if id(source) not in known:
                given[own] = Variable(None, own)
                continue
            name, variable = known[id(source)]
            names[name] = names.get(name, -1) + 1
            if names[name]:
                name = f"{name}_{names[name]}"
            given[own] = Variable(walker.weight(name, variable.numpy()), name)
        else:
            given[own] = walker.weight(own, source.numpy())
    return given


def _input(build: Builder, problems: Problems, argument: _Argument, port: Port) -> Operand | None:
    if argument.dtype not in _REAL and argument.dtype not in _WHOLE:
        problems.add(
            "E-import-unsupported",
            f"input {port.name} is of {argument.dtype}, not of numbers",
            fix="only tensors of float, double, float16, integers and bool can be shared",
        )
        return None
    attrs: dict[str, AttrValue] = {
        "name": port.name,
        "shape": port.shape,
        "owner": port.owner,
        "whole": argument.dtype in _WHOLE,
        "bounds": _WHOLE.get(argument.dtype, ()),
    }
    try:
        check_size(port.shape)
        return build.module.main.append(tensor.Input, (), attrs).result
    except Unsupported as error:
        problems.add("E-import-shape", error.reason, f"input {port.name}", error.fix)
    except InferenceError as error:
        problems.add("E-import-shape", str(error), f"input {port.name}")
    return None


# --- shapes --------------------------------------------------------------------------------------


def _shapes(
    arguments: Sequence[_Argument], shapes: Mapping[str, OpenShape], batch: int | None
) -> dict[str, Shape]:
    """Static shapes of all arguments.

    Raises:
        MpccError: dimensions stay open (``E-import-dynamic``), a shape does not fit
            (``E-import-shape``, ``E-import-name``), or the batch does not (``E-import-batch``); all
            of them at once.
    """
    names = {a.name for a in arguments}
    problems = [
        Diagnostic(
            "E-import-name", f"the model has no input {name}", "shapes", suggestion(name, names)
        )
        for name in sorted(set(shapes) - names)
    ]
    batched = False
    found: dict[str, Shape] = {}
    for argument in arguments:
        wanted: OpenShape | None = shapes.get(argument.name)
        where = f"--shape {argument.name}"
        if wanted is None:
            if argument.shape is None:
                problems.append(_open(argument, ()))
                continue
            wanted = argument.shape
            if batch is not None and wanted[:1] == (None,):
                batched, wanted = True, (batch, *wanted[1:])
            if None in wanted:
                problems.append(_open(argument, wanted))
                continue
        elif wanted[:1] == (None,):
            if batch is None:
                problems.append(
                    Diagnostic(
                        "E-import-batch",
                        f"the first dimension of input {argument.name} is to be the batch, and "
                        "none is given",
                        where,
                        "add --batch 1,8,32 (for example), or give its size",
                    )
                )
                continue
            batched, wanted = True, (batch, *wanted[1:])
        fixed = (None,) * len(wanted) if argument.shape is None else argument.shape
        sizes = tuple(d for d in wanted if d is not None)
        if len(sizes) != len(fixed):
            text = f"input {argument.name} has {len(fixed)} dimensions, not {len(wanted)}"
            if len(sizes) != len(wanted):
                text = f"only the first dimension of input {argument.name} can be the batch"
            problems.append(Diagnostic("E-import-shape", text, where))
            continue
        for axis, (size, have) in enumerate(zip(sizes, fixed, strict=True)):
            named = f"dimension {axis} of input {argument.name}"
            if not 1 <= size <= _MAX_SIZE:
                text = f"{named} must be from 1 to 2^31 - 1, not {size}"
                problems.append(Diagnostic("E-import-shape", text, where))
            elif have is not None and have != size:
                text = f"{named} is {have}, not {size}"
                problems.append(Diagnostic("E-import-shape", text, where))
        found[argument.name] = sizes
    if batch is not None and not batched and not problems:
        problems.append(
            Diagnostic(
                "E-import-batch",
                "the first axis of every input has a fixed size",
                "batch",
                "save the model with an open first axis (None); in --shape, write `batch` for it",
            )
        )
    collect(problems)
    return found


def _open(argument: _Argument, known: OpenShape) -> Diagnostic:
    if argument.shape is None:
        return Diagnostic(
            "E-import-dynamic",
            f"input {argument.name} has no shape",
            fix=f"give one: --shape {argument.name}=1,224,224,3 (for example)",
        )
    axes = ", ".join(f"axis {i}" for i, d in enumerate(known) if d is None)
    shown = ", ".join("?" if d is None else str(d) for d in argument.shape)
    example = ",".join("1" if d is None else str(d) for d in known)
    return Diagnostic(
        "E-import-dynamic",
        f"input {argument.name} [{shown}] has open dimensions: {axes}",
        fix=f"programs have static shapes: give --shape {argument.name}={example} (for example)",
    )


# --- results -------------------------------------------------------------------------------------


def _results(tf: Any, function: Any) -> tuple[list[str], list[str]]:
    """Names of the tensors that a function returns, and what its signature calls them."""
    structure = function.structured_outputs
    flat = tf.nest.flatten(structure)
    tensors = [str(t.name) for t in function.outputs]
    if isinstance(structure, dict):
        names = [str(k) for k in sorted(structure)]
        if len(names) == len(tensors):
            return tensors, names
    if len(flat) != len(tensors):
        names = [f"output_{i}" for i in range(len(tensors))]
        return tensors, names
    return tensors, [f"output_{i}" for i in range(len(flat))]


def _outputs(
    build: Builder,
    roles: Owners,
    problems: Problems,
    names: Sequence[str],
    found: Sequence[Item | None],
) -> tuple[Port, ...]:
    """The outputs; one that is a constant would publish a weight."""
    ports = []
    for name, item in zip(names, found, strict=True):
        owner = roles.output(name)
        if isinstance(item, Constant):
            problems.add(
                "E-import-output",
                f"output {name} is a constant of the model",
                fix="remove this output: it does not depend on any input",
            )
        if not isinstance(item, Value):
            continue
        build.module.main.append(tensor.Output, [item], {"name": name, "owner": owner})
        type_ = type_of(item)
        ports.append(Port(name, type_.shape, type_.dtype, owner))
    return tuple(ports)
