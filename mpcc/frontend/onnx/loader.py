"""Reads an ONNX model, checks it, and imports its graph node by node."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import onnx

from mpcc.frontend.importer import (
    Builder,
    Constant,
    Imported,
    Operand,
    Owners,
    Port,
    Problems,
    Unsupported,
    type_of,
)
from mpcc.frontend.onnx import math, nn, shape
from mpcc.frontend.onnx.fold import FOLDABLE, fold
from mpcc.frontend.onnx.model import load_model, set_shapes
from mpcc.frontend.onnx.node import Handler, Node, node_label
from mpcc.ir.core import Value
from mpcc.ir.define import InferenceError
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape

__all__ = ["OPERATORS", "import_onnx", "supported"]

_FAMILIES = (math, nn, shape)

OPERATORS: Mapping[str, Handler] = {
    name: handler for family in _FAMILIES for name, handler in family.OPERATORS.items()
}
"""All operators of the default domain that can be imported."""


def supported() -> dict[str, str]:
    """Operators that a model may have, with a line about each."""
    table = {}
    for name, handler in OPERATORS.items():
        note = (handler.__doc__ or "").strip().splitlines()[0]
        table[name] = note.removeprefix(name).lstrip(":, ").rstrip(".")
    for name in FOLDABLE - OPERATORS.keys():
        table[name] = "of constants only: computed when the model is imported"
    return dict(sorted(table.items()))


#: Elements of an input are kept as binary32 whatever their width in the model.
_LAST = "if it is the last step, end the exported model before it and apply it to the answer"
_WORKAROUNDS = {
    "BatchNormalization": "export in inference mode, with it folded into the layers",
    "Mul": "scale the weights of a neighbouring layer instead",
    "Div": "scale the weights of a neighbouring layer instead",
    "Softmax": _LAST,
    "LogSoftmax": _LAST,
    "Sigmoid": _LAST,
    "ArgMax": _LAST,
}
"""The nearest way out for operators that models often have."""

_REAL = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)


def import_onnx(
    source: str | os.PathLike[str] | bytes,
    shapes: Mapping[str, Shape] | None = None,
    owners: Mapping[str, str] | None = None,
    weights: str = "secret",
) -> Imported:
    """Import an ONNX model, opset 7 or later.

    Args:
        source: path of the file, or its bytes.
        shapes: static shapes of inputs whose dimensions the model leaves open.
        owners: ``client``, ``model`` or ``public`` for inputs, outputs and weights by name.
        weights: ``secret`` (they belong to the model owner) or ``public``.

    Returns:
        The module and, apart from it, the constants' values.

    Raises:
        MpccError: the file cannot be read (``E-model-...``) or the model cannot be imported
            (``E-import-...``); whatever is not supported is listed at once, with node names.
    """
    roles = Owners(owners or {}, weights)
    model = set_shapes(load_model(source), shapes or {})
    problems = Problems()
    graph = _Graph(model, roles, problems)
    graph.add_inputs()
    for node in model.graph.node:
        graph.add_node(node)
    outputs = graph.add_outputs()
    roles.check(problems)
    problems.raise_if_any()
    build = graph.build
    build.module.main.remove_dead()
    used = {op.attrs["name"] for op in build.module.main.walk(tensor.Weight.name)}
    constants = {name: array for name, array in build.constants.items() if name in used}
    return Imported(build.module, constants, graph.inputs, outputs, tuple(build.disclosed))


def _shape(info: onnx.ValueInfoProto) -> Shape:
    return tuple(int(d.dim_value) for d in info.type.tensor_type.shape.dim)


class _Graph:
    """The state of one import: what every name of the model has become."""

    def __init__(self, model: onnx.ModelProto, owners: Owners, problems: Problems) -> None:
        self.graph = model.graph
        self.opset = next(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.owners = owners
        self.problems = problems
        self.build = Builder()
        self.inputs: tuple[Port, ...] = ()
        # None: the value of a node that could not be imported.
        self.env: dict[str, Operand | None] = {}
        self.used = {n for node in self.graph.node for n in node.input}
        self.used.update(o.name for o in self.graph.output)
        self.build.reserve([i.name for i in self.graph.initializer])
        self.build.reserve([o for node in self.graph.node for o in node.output])

    def add_inputs(self) -> None:
        """Initialisers, then the inputs that are not initialisers too (as in old files)."""
        for proto in self.graph.initializer:
            array = onnx.numpy_helper.to_array(proto)
            self.env[proto.name] = self.owned(Constant(array, str(proto.name)), proto.name)
        for sparse in self.graph.sparse_initializer:
            self.env[sparse.values.name] = None
            self.problems.add(
                "E-import-unsupported",
                f"the sparse initialiser {sparse.values.name}",
                fix="export the model with dense weights",
            )
        ports = []
        for info in self.graph.input:
            if info.name in self.env:
                continue
            if info.type.tensor_type.elem_type not in _REAL:
                self.env[info.name] = None
                self.problems.add(
                    "E-import-unsupported",
                    f"input {info.name} does not hold real numbers",
                    fix="only tensors of float, double or float16 can be shared",
                )
                continue
            port = Port(info.name, _shape(info), "f32", self.owners.input(info.name))
            attrs = {"name": port.name, "shape": port.shape, "owner": port.owner}
            try:
                self.env[port.name] = self.build.module.main.append(tensor.Input, (), attrs).result
            except InferenceError as error:
                self.env[port.name] = None
                self.problems.add("E-import-shape", str(error), f"input {port.name}")
            ports.append(port)
        self.inputs = tuple(ports)

    def owned(self, operand: Operand, name: str) -> Operand:
        """The operand called ``name``; a float constant that starts here gets its owner."""
        if not isinstance(operand, Constant) or not operand.is_float:
            return operand
        if operand.derived or operand.name != name:
            return operand
        return Constant(operand.array, name, self.owners.weight(name))

    def add_node(self, proto: onnx.NodeProto) -> None:
        """Import one node, or note why not."""
        self.env.update(dict.fromkeys(proto.output))
        named = f"{proto.op_type} of opset {self.opset}"
        handler = OPERATORS.get(proto.op_type)
        if proto.domain not in ("", "ai.onnx"):
            self.problems.node(
                "E-import-unsupported",
                f"{proto.domain}.{proto.op_type}: no operator of another domain is supported",
                node_label(proto),
                "export the model with standard operators",
            )
            return
        operands = [self.env[name] if name else None for name in proto.input]
        given = [o for name, o in zip(proto.input, operands, strict=True) if name]
        constants = bool(given) and all(isinstance(o, Constant) for o in given)
        foldable = constants and proto.op_type in FOLDABLE
        if handler is None and not foldable:
            self.problems.node(
                "E-import-unsupported",
                f"{named}: the operator is not supported"
                + (" on computed values, only on constants" if proto.op_type in FOLDABLE else ""),
                node_label(proto),
                _WORKAROUNDS.get(proto.op_type, "`mpcc ops` lists what is supported"),
            )
            return
        if any(o is None for o in given):
            return
        try:
            if foldable or handler is None:
                result: Operand = fold(proto, self.opset, _constants(operands))
            else:
                used = [bool(o) and o in self.used for o in proto.output]
                result = handler(Node(self.build, proto, self.opset, operands, used))
            self.env[proto.output[0]] = self.owned(result, proto.output[0])
        except Unsupported as error:
            self.problems.node(
                "E-import-unsupported", f"{named}: {error.reason}", node_label(proto), error.fix
            )
        except (InferenceError, ValueError) as error:
            self.problems.node("E-import-shape", f"{named}: {error}", node_label(proto))

    def add_outputs(self) -> tuple[Port, ...]:
        """The outputs; one that is a constant would publish a weight."""
        ports = []
        for info in self.graph.output:
            owner = self.owners.output(info.name)
            value = self.env[info.name]
            if isinstance(value, Constant):
                self.problems.add(
                    "E-import-output",
                    f"output {info.name} is a constant of the model",
                    fix="remove this output: it does not depend on any input",
                )
            if not isinstance(value, Value):
                continue
            attrs = {"name": info.name, "owner": owner}
            self.build.module.main.append(tensor.Output, [value], attrs)
            ports.append(Port(info.name, type_of(value).shape, "f32", owner))
        return tuple(ports)


def _constants(operands: Sequence[Operand | None]) -> list[Constant | None]:
    return [o if isinstance(o, Constant) else None for o in operands]
