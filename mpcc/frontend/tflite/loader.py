"""Reads a TensorFlow Lite model and imports one of its graphs, by way of ONNX's operators."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from mpcc.errors import MpccError
from mpcc.frontend.importer import Array, Imported, Problems, Unsupported, suggestion
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.frontend.onnx.model import MAX_MODEL_BYTES
from mpcc.frontend.tflite.flat import MalformedError
from mpcc.frontend.tflite.node import ONNX_KINDS, Node, Written
from mpcc.frontend.tflite.schema import Graph, Model, Operator, Signature, Tensor, read
from mpcc.frontend.tflite.support import HANDLERS, OPTIONS, reason
from mpcc.options import OpenShape

__all__ = ["import_tflite", "translated"]

_OPSET, _IR = 20, 9

_DEFAULT = "serving_default"

_INPUTS: Mapping[str, int] = {
    "float32": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "float64": onnx.TensorProto.DOUBLE,
    "bool": onnx.TensorProto.BOOL,
    "int8": onnx.TensorProto.INT8,
    "uint8": onnx.TensorProto.UINT8,
    "int16": onnx.TensorProto.INT16,
    "uint16": onnx.TensorProto.UINT16,
    "int32": onnx.TensorProto.INT32,
    "uint32": onnx.TensorProto.UINT32,
    "int64": onnx.TensorProto.INT64,
    "uint64": onnx.TensorProto.UINT64,
}


def import_tflite(
    source: str | os.PathLike[str],
    shapes: Mapping[str, OpenShape] | None = None,
    owners: Mapping[str, str] | None = None,
    weights: str = "secret",
    batch: int | None = None,
    signature: str = "",
) -> Imported:
    """Import a TensorFlow Lite model of real numbers. TensorFlow is not needed.

    Args:
        source: path of the file.
        shapes: as for :func:`mpcc.frontend.onnx.loader.import_onnx`; names are those of the
            signature if there is one, else those of tensors.
        owners: as there; weights have the names of tensors.
        weights: as there.
        batch: as there.
        signature: as for :func:`mpcc.frontend.tensorflow.loader.import_saved_model`; a file without
            signatures has one graph.

    Returns:
        The module and, apart from it, the constants' values.

    Raises:
        MpccError: the file cannot be read (``E-model-...``), has no such signature
            (``E-model-signature``), or cannot be imported (``E-import-...``); whatever is not
            supported is listed at once, with node names.
    """
    path = Path(source)
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise MpccError.of(
                "E-model-size", f"the model has more than {MAX_MODEL_BYTES} bytes", str(path)
            )
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise MpccError.of(
            "E-model-missing", f"the model cannot be read: {error}", str(path)
        ) from error
    model, names, notes = translated(data, str(path), signature)
    given = dict.fromkeys(names, "public") | dict(owners or {})
    imported = import_onnx(model.SerializeToString(), shapes, given, weights, batch)
    return replace(imported, notes=(*notes, *imported.notes))


def translated(
    data: bytes, where: str, signature: str = ""
) -> tuple[onnx.ModelProto, tuple[str, ...], tuple[str, ...]]:
    """A TensorFlow Lite model as one of ONNX.

    Args:
        data: the file.
        where: for errors.
        signature: as for :func:`import_tflite`.

    Returns:
        The model, the names of its real constants that follow from the architecture, and sentences
        for the user.

    Raises:
        MpccError: as :func:`import_tflite` does, apart from what ONNX's importer says.
    """
    model = read(data, where)
    chosen = _chosen(model, signature, where)
    graph = model.graphs[0 if chosen is None else chosen.graph]
    translation = _Translation(graph, chosen)
    try:
        proto = translation.run()
    except MalformedError as error:
        raise MpccError.of(
            "E-model-invalid",
            f"this is no TensorFlow Lite model that can be read: {error}",
            where,
            "copy or convert the model again",
        ) from error
    notes = []
    if translation.rounded:
        notes.append(
            "weights of 8 bits are taken as the real numbers that they stand for; TensorFlow Lite "
            "also rounds what it multiplies them with to 8 bits, which is not done here"
        )
    if translation.state:
        notes.append(
            "recurrent layers begin with zeros in every run, as TensorFlow Lite does in the first"
        )
    return proto, tuple(translation.written.public), tuple(notes)


def _chosen(model: Model, wanted: str, where: str) -> Signature | None:
    """The signature to import; None where the file has none."""
    known = {s.key: s for s in model.signatures}
    if not known and not wanted:
        return None
    name = wanted or (next(iter(known)) if len(known) == 1 else _DEFAULT)
    if name in known:
        return known[name]
    listed = ", ".join(sorted(known)) or "none at all"
    raise MpccError.of(
        "E-model-signature",
        f"the model has no signature {name}; it has {listed}",
        where,
        suggestion(name, set(known)) or "choose one of them, or leave the signature out",
    )


class _Translation:
    """Writes one graph as ONNX.

    Args:
        graph: the graph.
        signature: names its inputs and outputs; None: they have the names of their tensors.

    Attributes:
        written: what was written.
        rounded: whether constants of 8 bits were taken as real numbers.
        state: whether there are recurrent layers.
    """

    def __init__(self, graph: Graph, signature: Signature | None) -> None:
        self.graph = graph
        self.written = Written(reserved=frozenset(t.name for t in graph.tensors))
        self.rounded = self.state = False
        self._problems = Problems()
        self._names: dict[str, int] = {}
        self._inputs = self._ports(graph.inputs, signature.inputs if signature else {})
        self._outputs = self._ports(graph.outputs, signature.outputs if signature else {})
        self._made = {i for o in graph.operators for i in o.outputs}
        # ONNX names by number of tensor; "" of what could not be translated.
        self._env: dict[int, str] = {}
        self._arrays: dict[int, Array] = {}

    def _ports(self, numbers: Sequence[int], named: Mapping[str, int]) -> list[tuple[str, int]]:
        """Unique names of inputs or outputs with their tensors, in the graph's order."""
        if named:
            order = {number: i for i, number in reversed(list(enumerate(numbers)))}
            pairs = sorted(named.items(), key=lambda p: order.get(p[1], len(order)))
        else:
            pairs = [(self.graph.tensors[i].name, i) for i in numbers]
        return [(self._unique(name or f"tensor_{i}"), i) for name, i in pairs]

    def _unique(self, name: str) -> str:
        """The name, with a number behind it if there is one like it already."""
        while count := self._names.get(name, 0):
            self._names[name] = count + 1
            name = f"{name}_{count}"
        self._names[name] = 1
        return name

    def run(self) -> onnx.ModelProto:
        """The whole graph.

        Raises:
            MpccError: what cannot be translated, all of it.
            MalformedError: constants that are damaged.
        """
        inputs = [self._input(name, i) for name, i in self._inputs]
        for operator in self.graph.operators:
            self._operator(operator)
        outputs = []
        for name, i in self._outputs:
            source = self._env.get(i) or self._constant_name(i)
            if source:
                kind = ONNX_KINDS.get(self.graph.tensors[i].kind, 0)
                outputs.append(onnx.helper.make_tensor_value_info(name, kind, None))
                self.written.nodes.append(
                    onnx.helper.make_node("Identity", [source], [name], name=name)
                )
        self._problems.raise_if_any()
        graph = onnx.GraphProto(name="model", input=inputs, output=outputs)
        graph.node.extend(self.written.nodes)
        graph.initializer.extend(self.written.constants)
        opsets = [onnx.helper.make_opsetid("", _OPSET)]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=_IR)

    def _input(self, name: str, number: int) -> onnx.ValueInfoProto:
        tensor = self.graph.tensors[number]
        self._env[number] = ""
        if tensor.kind not in _INPUTS or tensor.quantised:
            self._problems.add(
                "E-import-unsupported",
                f"input {name} is of quantised {tensor.kind}"
                if tensor.quantised
                else f"input {name} is of {tensor.kind}, not of numbers",
                fix="convert the model without quantisation"
                if tensor.quantised
                else "only tensors of float, double, float16, integers and bool can be shared",
            )
        elif tensor.shape is None:
            self._problems.add("E-import-shape", f"the number of axes of input {name} is not known")
        else:
            self._env[number] = self._as_inside(name, tensor)
        shape = [d if d >= 0 else None for d in tensor.shape or ()]
        kind = _INPUTS.get(tensor.kind, onnx.TensorProto.FLOAT)
        return onnx.helper.make_tensor_value_info(name, kind, shape)

    def _as_inside(self, name: str, tensor: Tensor) -> str:
        """An input as the type that its kind has inside the model."""
        kind = ONNX_KINDS[tensor.kind]
        if kind == _INPUTS[tensor.kind]:
            return name
        inside = self.written.name(name)
        self.written.nodes.append(
            onnx.helper.make_node("Cast", [name], [inside], name=name, to=kind)
        )
        return inside

    # --- constants

    def _constant(self, number: int) -> Array | None:
        """The value of a constant; None of what is computed, or of a type that is not read."""
        if number in self._arrays:
            return self._arrays[number]
        tensor = self.graph.tensors[number]
        if number in self._env or number in self._made or tensor.variable:
            return None
        if tensor.kind not in ONNX_KINDS or tensor.sparse or tensor.shape is None:
            return None
        if tensor.data is None:
            if 0 not in tensor.shape:
                return None
            tensor = replace(tensor, data=memoryview(b""))
        found = tensor.array()
        self.rounded |= tensor.quantised
        if found.dtype.kind == "f":
            found = found.astype(np.float32)
        elif found.dtype != np.bool_:
            if found.dtype == np.uint64 and (found > np.uint64(np.iinfo(np.int64).max)).any():
                raise MalformedError(f"the whole numbers of {tensor.name} are too large")
            found = found.astype(np.int64)
        self._arrays[number] = found
        return found

    def _constant_name(self, number: int) -> str:
        """The ONNX name of a constant; "" if the tensor is none."""
        known = self._env.get(number)
        if known is not None:
            return known
        found = self._constant(number)
        if found is None:
            return ""
        name = self._unique(self.graph.tensors[number].name or f"tensor_{number}")
        self._env[number] = self.written.constant(name, found)
        return name

    # --- operators

    def _operator(self, operator: Operator) -> None:
        """Translate one node, or note why not."""
        first = self.graph.tensors[operator.outputs[0]].name if operator.outputs else ""
        label = first or operator.name
        for i in operator.outputs:
            self._env[i] = ""
        handler = HANDLERS.get(operator.name)
        if handler is None:
            why = reason(operator.name)
            self._problem(f"{operator.name}: {why.why}", label, why.fix)
            return
        wrong = self._wrong_tensors(operator)
        if wrong:
            why = reason("QUANTIZE")
            self._problem(f"{operator.name}: {wrong}", label, why.fix)
            return
        operands = []
        for i in operator.inputs:
            tensor = None if i < 0 else self.graph.tensors[i]
            if i < 0 or (tensor is not None and tensor.variable):
                operands.append("")
                self.state |= i >= 0
                continue
            name = self._constant_name(i)
            if not name:
                if i not in self._env:
                    self._problem(
                        f"{operator.name}: its operand {self.graph.tensors[i].name or i} is "
                        "neither computed nor a constant of numbers",
                        label,
                        "convert the model again",
                    )
                return
            operands.append(name)
        options = OPTIONS.get(operator.name)
        if options is not None and operator.form not in (0, options.form):
            raise MalformedError(f"{operator.name} with options of kind {operator.form}")
        if operator.form == 0:
            operator = replace(operator, options=None)
        node = Node(
            self.written,
            operator,
            self.graph.tensors,
            label,
            operands,
            self._constant,
            {} if options is None else options.fields,
        )
        try:
            found = handler(node)
        except Unsupported as error:
            self._problem(f"{operator.name}: {error.reason}", label, error.fix)
            return
        names = (found,) if isinstance(found, str) else tuple(found)
        if len(names) < len(operator.outputs):
            what = f"{operator.name} has {len(names)} outputs, not {len(operator.outputs)}"
            self._problem(what, label, "convert the model again")
            return
        self._env.update(zip(operator.outputs, names, strict=False))

    def _problem(self, what: str, label: str, fix: str) -> None:
        self._problems.node("E-import-unsupported", what, label, fix)

    def _wrong_tensors(self, operator: Operator) -> str:
        """What is the matter with the types that an operator computes with; "" if nothing is."""
        for i in (*operator.inputs, *operator.outputs):
            if i < 0:
                continue
            tensor = self.graph.tensors[i]
            if tensor.quantised and (self._constant(i) is None or operator.name == "QUANTIZE"):
                return "it computes with quantised numbers"
            if tensor.kind not in ONNX_KINDS and not tensor.variable:
                return f"elements of {tensor.kind}"
            if tensor.sparse:
                return "weights that leave out zeros"
        return ""
