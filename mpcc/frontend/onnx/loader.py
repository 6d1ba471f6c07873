"""Reads an ONNX model, checks it, and imports its graph node by node."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial

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
    check_size,
    type_of,
)
from mpcc.frontend.onnx.fold import FOLDABLE, fold
from mpcc.frontend.onnx.interpret import DATA, interpret
from mpcc.frontend.onnx.model import batched_inputs, element_types, load_model, set_shapes
from mpcc.frontend.onnx.node import Node, Operator, node_label
from mpcc.frontend.onnx.support import OPERATORS, reason
from mpcc.ir.core import Value
from mpcc.ir.define import InferenceError
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape
from mpcc.options import OpenShape

__all__ = ["OPERATORS", "import_onnx"]

#: Elements of an input are kept as binary32 whatever their width in the model.
_REAL = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)


def import_onnx(
    source: str | os.PathLike[str] | bytes,
    shapes: Mapping[str, OpenShape] | None = None,
    owners: Mapping[str, str] | None = None,
    weights: str = "secret",
    batch: int | None = None,
) -> Imported:
    """Import an ONNX model, opset 7 to 28.

    Args:
        source: path of the file, or its bytes.
        shapes: static shapes of inputs whose dimensions the model leaves open; None as the first
            size stands for the batch.
        owners: ``client``, ``model`` or ``public`` for inputs, outputs and weights by name.
        weights: ``secret`` (they belong to the model owner) or ``public``.
        batch: size of the first axis of all inputs where the model leaves it open and ``shapes``
            says nothing. Names and values of secret weights do not depend on it, so that programs
            for several batch sizes can share them.

    Returns:
        The module and, apart from it, the constants' values.

    Raises:
        MpccError: the file cannot be read (``E-model-...``) or the model cannot be imported
            (``E-import-...``); whatever is not supported is listed at once, with node names.
    """
    roles = Owners(owners or {}, weights)
    model = load_model(source)
    batched = batched_inputs(model, shapes or {}) if batch is not None else frozenset()
    model = set_shapes(model, shapes or {}, batch)
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
    disclosed = tuple(build.disclosed)
    return Imported(build.module, constants, graph.inputs, outputs, disclosed, batched)


def _shape(info: onnx.ValueInfoProto) -> Shape:
    return tuple(int(d.dim_value) for d in info.type.tensor_type.shape.dim)


class _Graph:
    """The state of one import: what every name of the model has become."""

    def __init__(self, model: onnx.ModelProto, owners: Owners, problems: Problems) -> None:
        self.graph = model.graph
        self.opset = next(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.imports = model.opset_import
        self.owners = owners
        self.problems = problems
        self.build = Builder()
        self.inputs: tuple[Port, ...] = ()
        # None: the value of a node that could not be imported.
        self.env: dict[str, Operand | None] = {}
        self.used = {n for node in self.graph.node for n in node.input}
        self.used.update(o.name for o in self.graph.output)
        self.kinds = element_types(model)
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
            try:
                check_size(port.shape)
            except Unsupported as error:
                self.env[port.name] = None
                self.problems.add("E-import-shape", error.reason, f"input {port.name}", error.fix)
                continue
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
        standard = proto.domain in ("", "ai.onnx")
        name = proto.op_type if standard else f"{proto.domain}.{proto.op_type}"
        version = next((o.version for o in self.imports if o.domain == proto.domain), self.opset)
        named = f"{name} of opset {self.opset if standard else version}"
        operands = [self.env.get(name) if name else None for name in proto.input]
        given = [o for name, o in zip(proto.input, operands, strict=True) if name]
        constants = bool(given) and all(isinstance(o, Constant) for o in given)
        foldable = standard and constants and proto.op_type in FOLDABLE
        operator = OPERATORS.get(proto.op_type) if standard else None
        if operator is None and not foldable:
            why = reason(proto.domain, proto.op_type)
            self.problems.node(
                "E-import-unsupported", f"{named}: {why.why}", node_label(proto), why.fix
            )
            return
        if any(o is None for o in given):
            return
        try:
            if foldable or operator is None:
                results: tuple[Operand, ...] = self.folded(proto, operator, operands)
            else:
                used = [bool(o) and o in self.used for o in proto.output]
                node = Node(self.build, proto, self.opset, operands, used, self.kinds)
                found = operator.run(node)
                node.refuse_unread(operator.ignored)
                results = found if isinstance(found, tuple) else (found,)
            # Further outputs than the operator gives are not used: it has refused that.
            for output, result in zip(proto.output, results, strict=False):
                if output:
                    self.env[output] = self.owned(result, output)
        except Unsupported as error:
            self.problems.node(
                "E-import-unsupported", f"{named}: {error.reason}", node_label(proto), error.fix
            )
        except (InferenceError, ValueError) as error:
            self.problems.node("E-import-shape", f"{named}: {error}", node_label(proto))

    def folded(
        self,
        proto: onnx.NodeProto,
        operator: Operator | None,
        operands: Sequence[Operand | None],
    ) -> tuple[Constant, ...]:
        """Results of a node on constants."""
        constants = [o if isinstance(o, Constant) else None for o in operands]
        if operator is None or proto.op_type not in DATA:
            return fold(proto, self.opset, constants, disclose=self.build.disclose)
        compute = partial(interpret, operator)
        return fold(proto, self.opset, constants, compute, self.build.disclose)

    def add_outputs(self) -> tuple[Port, ...]:
        """The outputs; one that is a constant would publish a weight."""
        ports = []
        for info in self.graph.output:
            owner = self.owners.output(info.name)
            value = self.env.get(info.name)
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
            type_ = type_of(value)
            ports.append(Port(info.name, type_.shape, type_.dtype, owner))
        return tuple(ports)
