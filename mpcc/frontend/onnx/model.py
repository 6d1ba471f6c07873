"""Reads and checks an ONNX file; whatever is wrong with it becomes an MpccError.

The file is treated as hostile: sizes are bounded before anything is read, and external data must
lie in regular files below the model's own folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import inliner

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.files import looks_like
from mpcc.frontend.importer import suggestion
from mpcc.ir.types import Shape
from mpcc.options import OpenShape

__all__ = [
    "MAX_MODEL_BYTES",
    "MAX_NODES",
    "MAX_OPSET",
    "MIN_OPSET",
    "batched_inputs",
    "infer",
    "kinds_of",
    "load_model",
    "set_shapes",
    "subgraphs",
]

MAX_MODEL_BYTES = (1 << 31) - (1 << 20)
"""Model with all external data; protobuf, and so the checker, ends at 2 GiB."""

MAX_NODES = 1 << 17
"""Nodes of a model, with functions in place of their calls."""

_MAX_SIZE = (1 << 31) - 1
"""Largest size of a dimension that can be chosen."""

MIN_OPSET = 7
"""First version with numpy's broadcasting."""

MAX_OPSET = 28
"""Newest version whose operators were all compared with ours; a newer one may mean other things."""


def load_model(source: str | os.PathLike[str] | bytes) -> onnx.ModelProto:
    """Read a model with its external data and check all but its shapes.

    Args:
        source: path or bytes; bytes cannot have external data.

    Raises:
        MpccError: ``E-model-missing``, ``E-model-size``, ``E-model-format``, ``E-model-empty``,
            ``E-model-external``, ``E-model-opset``, ``E-model-invalid``, or ``E-limit-import`` of
            functions that call each other too often.
    """
    folder: Path | None = None
    if isinstance(source, bytes):
        data, where = source, "the given bytes"
        if len(data) > MAX_MODEL_BYTES:
            raise _too_large(where)
    else:
        path = Path(source)
        where, folder = str(path), path.parent
        try:
            if not path.is_file():
                kind = "is not a file" if path.exists() else "does not exist"
                raise MpccError.of("E-model-missing", f"the model {kind}", where)
            if path.stat().st_size > MAX_MODEL_BYTES:
                raise _too_large(where)
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            raise MpccError.of(
                "E-model-missing", f"the model cannot be read: {error}", where
            ) from error
    model = _parse(data, where)
    if not model.graph.node or not model.graph.output:
        missing = "nodes" if not model.graph.node else "outputs"
        raise MpccError.of(
            "E-model-empty",
            f"the model's graph has no {missing}",
            where,
            "export the model again: there is nothing to compute",
        )
    _load_external(model, folder, len(data), where)
    _check_opset(model, where)
    if model.functions:
        _check_functions(model, where)
        try:
            model = inliner.inline_local_functions(model)
        except MemoryError:
            raise
        except Exception as error:
            raise _invalid(error, where) from error
    return model


def set_shapes(
    model: onnx.ModelProto, shapes: Mapping[str, OpenShape], batch: int | None = None
) -> onnx.ModelProto:
    """Give open dimensions of inputs their size, then run ONNX's own full check.

    A named dimension that one input fixes is fixed for all others.

    Args:
        model: from :func:`load_model`; changed in place.
        shapes: shapes by input name; they must agree with what the model fixes. None as the first
            size stands for the batch.
        batch: size of the first axis of the other inputs, where it is open.

    Returns:
        The same model, with static inputs.

    Raises:
        MpccError: an input's dimension stays open (``E-import-dynamic``), or a shape does not fit
            (``E-import-shape``, ``E-import-name``), no input has a batch axis to choose
            (``E-import-batch``), or the model is invalid (``E-model-invalid``).
    """
    constants = {i.name for i in model.graph.initializer}
    inputs = {i.name: i for i in model.graph.input if i.name not in constants}
    problems = [
        Diagnostic(
            "E-import-name", f"the model has no input {name}", "shapes", suggestion(name, {*inputs})
        )
        for name in sorted(set(shapes) - set(inputs))
    ]
    bound: dict[str, int] = {}
    batched = False
    for name, wanted in shapes.items():
        batched |= wanted[:1] == (None,)
        if name in inputs:
            sizes = list(_sizes(name, wanted, batch, problems))
            if len(sizes) == len(wanted):
                problems.extend(_set_shape(inputs[name], tuple(sizes), bound))
    if batch is not None:
        others = [info for name, info in inputs.items() if name not in shapes]
        problems.extend(_set_batch(others, batch, bound, shapes, batched))
    for name, info in inputs.items():
        if name not in shapes:
            problems.extend(_close_dimensions(info, bound))
    collect(problems)
    try:
        _declare_outputs(model)
        onnx.checker.check_model(model, full_check=True)
    except MemoryError:
        raise
    except Exception as error:
        raise _invalid(error, "the model") from error
    return model


def batched_inputs(model: onnx.ModelProto, shapes: Mapping[str, OpenShape]) -> frozenset[str]:
    """Names of the inputs whose first axis :func:`set_shapes` gives the size of the batch.

    Args:
        model: from :func:`load_model`.
        shapes: as for :func:`set_shapes`.
    """
    constants = {i.name for i in model.graph.initializer}
    found = {name for name, shape in shapes.items() if shape[:1] == (None,)}
    for info in model.graph.input:
        dims = info.type.tensor_type.shape.dim
        if info.name not in constants and info.name not in shapes and dims:
            found.update(() if dims[0].HasField("dim_value") else (str(info.name),))
    return frozenset(found)


def infer(model: onnx.ModelProto) -> onnx.GraphProto:
    """The model's graph with the types that ONNX's inference knows, and without values of weights.

    Its nodes are those of the model, in order; their subgraphs are whole.

    Args:
        model: from :func:`set_shapes`.
    """
    skeleton = onnx.ModelProto(ir_version=model.ir_version)
    skeleton.opset_import.extend(model.opset_import)
    graph = skeleton.graph
    graph.name = "types"
    graph.node.extend(model.graph.node)
    known = {i.name for i in model.graph.initializer}
    graph.input.extend(i for i in model.graph.input if i.name not in known)
    # Types alone are asked for, so that the weights' values need not be copied.
    graph.input.extend(
        onnx.helper.make_tensor_value_info(i.name, i.data_type, list(i.dims))
        for i in model.graph.initializer
    )
    graph.output.extend(model.graph.output)
    return onnx.shape_inference.infer_shapes(skeleton).graph


def kinds_of(graph: onnx.GraphProto) -> dict[str, int]:
    """ONNX's element type of every tensor of a graph by name, as far as it is known.

    Args:
        graph: from :func:`infer`, or a subgraph of it.
    """
    infos = (*graph.input, *graph.value_info, *graph.output)
    return {i.name: int(i.type.tensor_type.elem_type) for i in infos} | {
        i.name: int(i.data_type) for i in graph.initializer
    }


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs of a node, and theirs."""
    for attribute in node.attribute:
        for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            yield from _graphs(graph)


def _declare_outputs(model: onnx.ModelProto) -> None:
    """Outputs without a shape are common, but the checker wants one."""
    missing = [o for o in model.graph.output if not o.type.tensor_type.HasField("shape")]
    if missing:
        inferred = onnx.shape_inference.infer_shapes(model)
        types = {o.name: o.type for o in inferred.graph.output}
        for output in missing:
            output.type.CopyFrom(types[output.name])
            # Not even its rank is known. An empty shape satisfies the checker, and nobody reads it.
            output.type.tensor_type.shape.SetInParent()


def _too_large(where: str) -> MpccError:
    return MpccError.of("E-model-size", f"the model is larger than {MAX_MODEL_BYTES} bytes", where)


def _invalid(error: Exception, where: str) -> MpccError:
    text = str(error).strip() or type(error).__name__
    return MpccError.of(
        "E-model-invalid",
        f"ONNX's checker refuses the model: {text}",
        where,
        "export it again, with another version of the exporter or of the onnx package",
    )


def _parse(data: bytes, where: str) -> onnx.ModelProto:
    model = onnx.ModelProto()
    problem = ""
    try:
        model.ParseFromString(data)
    except DecodeError:
        problem = "it is not a protobuf message"
    else:
        if not model.HasField("graph") or not model.opset_import:
            problem = "it has no graph or no opset"
    if problem:
        found = looks_like(data)
        compiled = found in ("an mpcc artifact", "a safetensors file, as M.weights is")
        raise MpccError.of(
            "E-model-format",
            f"this is not an ONNX model: {problem}" + (f"; it looks like {found}" if found else ""),
            where,
            "give the model that it was compiled from"
            if compiled
            else "export the model to ONNX first",
        )
    return model


def _check_functions(model: onnx.ModelProto, where: str) -> None:
    """Refuse functions that call themselves, or that are huge where they are called.

    Every call becomes a copy of the function, so that few functions can be many nodes.

    Raises:
        MpccError: ``E-model-invalid`` or ``E-limit-import``.
    """
    calls = {
        (f.domain, f.name, f.overload): [
            (n.domain, n.op_type, n.overload) for n in _all_nodes(f.node)
        ]
        for f in model.functions
    }
    sizes: dict[tuple[str, str, str], int] = {}

    def size(of: Sequence[tuple[str, str, str]], depth: int) -> int:
        if depth > len(calls):
            raise _invalid(ValueError("a function calls itself"), where)
        total = 0
        for call in of:
            if call in calls and call not in sizes:
                sizes[call] = size(calls[call], depth + 1)
            total = min(total + 1 + sizes.get(call, 0), MAX_NODES + 1)
        return total

    given = [(n.domain, n.op_type, n.overload) for n in _all_nodes(model.graph.node)]
    try:
        total = size(given, 0)
    except RecursionError:
        total = MAX_NODES + 1
    if total > MAX_NODES:
        raise MpccError.of(
            "E-limit-import",
            f"with functions in place of their calls the model has more than {MAX_NODES} nodes",
            where,
            "export the model without functions, or with less depth of calls",
        )


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of their subgraphs."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from graph.node


def _check_opset(model: onnx.ModelProto, where: str) -> None:
    known = int(onnx.defs.onnx_opset_version())
    newest = min(MAX_OPSET, known)
    versions = [int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not versions and all(n.domain not in ("", "ai.onnx") for n in model.graph.node):
        # One of other domains alone, such as trees, need not say which default one it leaves out.
        model.opset_import.add(domain="", version=newest)
        return
    if len(set(versions)) != 1 or not MIN_OPSET <= versions[0] <= newest:
        found = ", ".join(map(str, versions)) or "none"
        older = known < MAX_OPSET and versions and known < versions[0] <= MAX_OPSET
        raise MpccError.of(
            "E-model-opset",
            f"the model imports opset {found}; supported are {MIN_OPSET} to {newest}",
            where,
            "install a newer onnx package"
            if older
            else "export it with another opset, or convert it with onnx.version_converter",
        )


# --- external data -------------------------------------------------------------------------------


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all subgraphs of its nodes."""
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        yield current
        for node in current.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    nodes = [node for function in model.functions for node in function.node]
    for graph in _graphs(model.graph):
        yield from graph.initializer
        nodes.extend(graph.node)
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _load_external(model: onnx.ModelProto, folder: Path | None, size: int, where: str) -> None:
    for proto in _tensors(model):
        if proto.data_location != onnx.TensorProto.EXTERNAL:
            continue
        try:
            data = _external_bytes(proto, folder, MAX_MODEL_BYTES - size)
        except (OSError, ValueError) as error:
            raise MpccError.of(
                "E-model-external",
                f"external data of {proto.name or 'a constant'}: {error}",
                where,
                "keep the data files beside the model, under the names that it was exported with",
            ) from error
        size += len(data)
        proto.raw_data = data
        proto.data_location = onnx.TensorProto.DEFAULT
        del proto.external_data[:]


def _external_bytes(proto: onnx.TensorProto, folder: Path | None, limit: int) -> bytes:
    """Bytes of a tensor out of its file.

    Raises:
        ValueError: the entry is not one that a well-meant model has; the text says why.
        OSError: the file cannot be read.
    """
    entry = {e.key: e.value for e in proto.external_data}
    location = entry.get("location", "")
    if folder is None:
        raise ValueError("a model given as bytes cannot have any")
    base = folder.resolve()
    path = (base / location).resolve()
    if not location or Path(location).is_absolute() or base not in path.parents:
        raise ValueError(f"{location!r} is not below the model's folder")
    bits = onnx.helper.tensor_dtype_to_np_dtype(proto.data_type).itemsize
    count = 1
    for d in proto.dims:
        if d < 0:
            raise ValueError(f"negative dimension in {list(proto.dims)}")
        count *= d
    needed = count * bits
    if needed > limit:
        raise ValueError(f"the model is larger than {MAX_MODEL_BYTES} bytes")
    try:
        offset = int(entry.get("offset", "0"))
        length = int(entry.get("length", str(needed)))
    except ValueError:
        raise ValueError("offset or length is not a number") from None
    if length != needed or offset < 0:
        raise ValueError(f"{length} bytes at {offset} for {list(proto.dims)}: {needed} are needed")
    # Before it is opened: opening a pipe would wait for a writer.
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{location!r} is not a regular file")
    if offset + length > status.st_size:
        raise ValueError(f"{location!r} ends before byte {offset + length}")
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


# --- shapes of inputs ----------------------------------------------------------------------------


def _set_shape(
    info: onnx.ValueInfoProto, wanted: Shape, bound: dict[str, int]
) -> Iterator[Diagnostic]:
    type_ = info.type.tensor_type
    if not type_.HasField("shape"):
        type_.shape.SetInParent()
        for _ in wanted:
            type_.shape.dim.add()
    if len(type_.shape.dim) != len(wanted):
        yield Diagnostic(
            "E-import-shape",
            f"input {info.name} has {len(type_.shape.dim)} dimensions, not {len(wanted)}",
            f"--shape {info.name}",
        )
        return
    for axis, (dim, size) in enumerate(zip(type_.shape.dim, wanted, strict=True)):
        if dim.HasField("dim_value"):
            fixed = dim.dim_value
        else:
            fixed = bound.setdefault(dim.dim_param, size) if dim.dim_param else size
        if not 1 <= size <= _MAX_SIZE or fixed != size:
            named = f"dimension {axis} of input {info.name}"
            if size < 1:
                text = f"{named} must be positive, not {size}"
            elif size > _MAX_SIZE:
                text = f"{named} is larger than 2^31 - 1: {size}"
            else:
                text = f"{named} is {fixed}, not {size}"
            yield Diagnostic("E-import-shape", text, f"--shape {info.name}")
            continue
        dim.dim_value = size


def _sizes(
    name: str, wanted: OpenShape, batch: int | None, problems: list[Diagnostic]
) -> Iterator[int]:
    """The sizes of a shape, the batch's in its place; a size that has none is left out."""
    for axis, size in enumerate(wanted):
        if size is not None:
            yield size
        elif axis:
            problems.append(
                Diagnostic(
                    "E-import-batch",
                    f"dimension {axis} of input {name} cannot be the batch, only the first one can",
                    f"--shape {name}",
                    "give its size",
                )
            )
        elif batch is None:
            problems.append(
                Diagnostic(
                    "E-import-batch",
                    f"the first dimension of input {name} is to be the batch, and none is given",
                    f"--shape {name}",
                    "add --batch 1,8,32 (for example), or give its size",
                )
            )
        else:
            yield batch


def _set_batch(
    infos: Sequence[onnx.ValueInfoProto],
    batch: int,
    bound: dict[str, int],
    shapes: Mapping[str, OpenShape],
    batched: bool,
) -> Iterator[Diagnostic]:
    """Size the first axis of inputs; ``batched`` says whether one of ``shapes`` has taken it."""
    if not 1 <= batch <= _MAX_SIZE:
        yield Diagnostic("E-import-batch", f"a batch of {batch}", "batch", "give 1 or more")
        return
    fixed = [f"{name} (--shape)" for name in shapes]
    unknown = False
    for info in infos:
        dims = info.type.tensor_type.shape.dim
        if not dims:
            unknown = True  # refused as such, or a scalar
            continue
        if dims[0].HasField("dim_value"):
            fixed.append(f"{info.name} ({dims[0].dim_value})")
            continue
        size = bound.setdefault(dims[0].dim_param, batch) if dims[0].dim_param else batch
        dims[0].dim_value = size
        batched |= size == batch
    if not batched and not unknown:
        yield Diagnostic(
            "E-import-batch",
            f"the first axis of every input has a fixed size: {', '.join(fixed)}",
            "batch",
            "export the model with an open first axis (in PyTorch: dynamic_axes); in --shape, "
            "write `batch` for it: --shape image=batch,3,224,224",
        )


def _close_dimensions(info: onnx.ValueInfoProto, bound: Mapping[str, int]) -> Iterator[Diagnostic]:
    if not info.type.HasField("tensor_type"):
        return
    type_ = info.type.tensor_type
    if not type_.HasField("shape"):
        yield Diagnostic(
            "E-import-dynamic",
            f"input {info.name} has no shape",
            fix=f"give one: --shape {info.name}=1,3,224,224 (for example)",
        )
        return
    shown, unknown = [], []
    for axis, dim in enumerate(type_.shape.dim):
        if dim.dim_param in bound and dim.dim_param:
            dim.dim_value = bound[dim.dim_param]
        if dim.HasField("dim_value"):
            shown.append(str(dim.dim_value))
        else:
            shown.append(dim.dim_param or "?")
            unknown.append(f"{dim.dim_param or 'without a name'} (axis {axis})")
    if unknown:
        example = ",".join(s if s.isdigit() else "1" for s in shown)
        yield Diagnostic(
            "E-import-dynamic",
            f"input {info.name} [{', '.join(shown)}] has open dimensions: {', '.join(unknown)}",
            fix=f"programs have static shapes: give --shape {info.name}={example} (for example)",
        )
