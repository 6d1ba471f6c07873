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
from mpcc.frontend.onnx.model import (
    batched_inputs,
    infer,
    kinds_of,
    load_model,
    set_shapes,
    subgraphs,
)
from mpcc.frontend.onnx.node import Node, Operator, node_label
from mpcc.frontend.onnx.support import OPERATORS, reason
from mpcc.ir.calls import drop_uncalled
from mpcc.ir.core import Value
from mpcc.ir.define import AttrValue, InferenceError
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape
from mpcc.options import OpenShape

__all__ = ["OPERATORS", "import_onnx"]

#: Elements of an input are kept as binary32 whatever their width in the model.
_REAL = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)

#: Of whole numbers, with the range that their type gives them if it is of use.
_WHOLE: Mapping[int, tuple[int, ...]] = {
    onnx.TensorProto.BOOL: (0, 1),
    onnx.TensorProto.INT8: (-(2**7), 2**7 - 1),
    onnx.TensorProto.UINT8: (0, 2**8 - 1),
    onnx.TensorProto.INT16: (-(2**15), 2**15 - 1),
    onnx.TensorProto.UINT16: (0, 2**16 - 1),
    onnx.TensorProto.INT32: (),
    onnx.TensorProto.UINT32: (),
    onnx.TensorProto.INT64: (),
    onnx.TensorProto.UINT64: (),
}

_MAX_WRITTEN = 1 << 16
"""Nodes of subgraphs, with every copy counted: loops in loops would be a way to a huge program."""


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
    for node in graph.nodes:
        graph.add_node(node)
    outputs = graph.add_outputs()
    roles.check(problems)
    problems.raise_if_any()
    build = graph.build
    build.module.main.remove_dead()
    drop_uncalled(build.module)
    used = {op.attrs["name"] for op in build.module.main.walk(tensor.Weight.name)}
    for name in sorted(used & build.masks.keys()):
        why = build.not_finite(name)
        problems.node("E-import-unsupported", why.reason, build.masks[name], why.fix)
    problems.raise_if_any()
    constants = {name: array for name, array in build.constants.items() if name in used}
    disclosed = tuple(build.disclosed)
    return Imported(build.module, constants, graph.inputs, outputs, disclosed, batched)


def _shape(info: onnx.ValueInfoProto) -> Shape:
    return tuple(int(d.dim_value) for d in info.type.tensor_type.shape.dim)


def _used(graph: onnx.GraphProto) -> set[str]:
    """Names that a graph uses: in its nodes, in their subgraphs, as outputs."""
    found = {str(o.name) for o in graph.output}
    for node in graph.node:
        found.update(node.input)
        for inner in subgraphs(node):
            found.update(n for each in inner.node for n in each.input)
            found.update(str(o.name) for o in inner.output)
    return found


def _renamed(graph: onnx.GraphProto, names: Mapping[str, str]) -> onnx.GraphProto:
    """A copy of a graph with other names, also where subgraphs use them."""
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    for info in copy.input:
        info.name = names.get(info.name, info.name)
    for constant in copy.initializer:
        constant.name = names.get(constant.name, constant.name)
    for node in copy.node:
        node.output[:] = [names.get(n, n) for n in node.output]
    _rename_uses(copy, names)
    return copy


def _rename_uses(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for info in graph.output:
        info.name = names.get(info.name, info.name)
    for node in graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        for attribute in node.attribute:
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                # What a subgraph defines itself is its own, whatever its name.
                own = {str(i.name) for i in (*inner.input, *inner.initializer)}
                own.update(n for each in inner.node for n in each.output)
                _rename_uses(inner, {k: v for k, v in names.items() if k not in own})


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
        inferred = infer(model)
        # Of those with subgraphs the inferred ones, which know the types inside.
        self.nodes = [
            twin if any(True for _ in subgraphs(node)) else node
            for node, twin in zip(self.graph.node, inferred.node, strict=True)
        ]
        self.written = 0
        self.used = _used(self.graph)
        self.kinds = kinds_of(inferred)
        self.build.reserve([i.name for i in self.graph.initializer])
        self.build.reserve([o for node in self.graph.node for o in node.output])

    def add_inputs(self) -> None:
        """Initialisers, then the inputs that are not initialisers too (as in old files)."""
        self.add_initializers(self.graph)
        ports = []
        for info in self.graph.input:
            if info.name in self.env:
                continue
            kind = info.type.tensor_type.elem_type
            if kind not in _REAL and kind not in _WHOLE:
                self.env[info.name] = None
                self.problems.add(
                    "E-import-unsupported",
                    f"input {info.name} does not hold numbers",
                    fix="only tensors of float, double, float16, integers and bool can be shared",
                )
                continue
            port = Port(info.name, _shape(info), "f32", self.owners.input(info.name))
            try:
                check_size(port.shape)
            except Unsupported as error:
                self.env[port.name] = None
                self.problems.add("E-import-shape", error.reason, f"input {port.name}", error.fix)
                continue
            attrs: dict[str, AttrValue] = {
                "name": port.name,
                "shape": port.shape,
                "owner": port.owner,
                "whole": kind in _WHOLE,
                "bounds": _WHOLE.get(kind, ()),
            }
            try:
                self.env[port.name] = self.build.module.main.append(tensor.Input, (), attrs).result
            except InferenceError as error:
                self.env[port.name] = None
                self.problems.add("E-import-shape", str(error), f"input {port.name}")
            ports.append(port)
        self.inputs = tuple(ports)

    def add_initializers(self, graph: onnx.GraphProto) -> None:
        """The constants of a graph."""
        for proto in graph.initializer:
            array = onnx.numpy_helper.to_array(proto)
            self.env[proto.name] = self.owned(Constant(array, str(proto.name)), proto.name)
        for sparse in graph.sparse_initializer:
            self.env[sparse.values.name] = None
            self.problems.add(
                "E-import-unsupported",
                f"the sparse initialiser {sparse.values.name}",
                fix="export the model with dense weights",
            )

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
        self.build.node = node_label(proto)
        try:
            if foldable or operator is None:
                results: tuple[Operand | None, ...] = self.folded(proto, operator, operands)
            else:
                used = [bool(o) and o in self.used for o in proto.output]
                node = Node(self.build, proto, self.opset, operands, used, self.kinds, self.body)
                found = operator.run(node)
                node.refuse_unread(operator.ignored)
                results = found if isinstance(found, tuple) else (found,)
            # Further outputs than the operator gives are not used: it has refused that.
            for output, result in zip(proto.output, results, strict=False):
                if output:
                    self.env[output] = None if result is None else self.owned(result, output)
        except Unsupported as error:
            self.problems.node(
                "E-import-unsupported", f"{named}: {error.reason}", node_label(proto), error.fix
            )
        except (InferenceError, ValueError, IndexError, OverflowError) as error:
            self.problems.node("E-import-shape", f"{named}: {error}", node_label(proto))

    def body(
        self,
        node: Node,
        name: str,
        scope: str,
        graph: onnx.GraphProto,
        inputs: Sequence[Operand | None],
    ) -> tuple[Operand | None, ...]:
        """Import a copy of a subgraph at the place of its node.

        What the subgraph computes gets names of its own in every copy; its initialisers are the
        same weights in all of them.

        Raises:
            Unsupported: it does not take these inputs.
        """
        self.written += len(graph.node)
        if self.written > _MAX_WRITTEN:
            node.refuse(
                f"loops of more than {_MAX_WRITTEN} nodes, written out",
                "give fewer steps at a time, and hand the state on as an input and an output",
            )
        if len(inputs) != len(graph.input):
            node.refuse(f"a subgraph of {len(graph.input)} inputs, with {len(inputs)} given")
        outer, own = self.env, f"{node.output}/{name}/"
        copy = f"{node.output}/{scope}/"
        kinds = kinds_of(graph)
        names = {o: copy + o for inner in graph.node for o in inner.output if o}
        names |= {i.name: own + i.name for i in graph.initializer}
        names |= {i.name: copy + i.name for i in graph.input}
        self.kinds.update((new, kinds[old]) for old, new in names.items() if old in kinds)
        renamed = _renamed(graph, names)
        self.build.reserve(list(names.values()))
        self.used |= _used(renamed)
        self.env = dict(outer)
        try:
            for info, operand in zip(renamed.input, inputs, strict=True):
                self.env[info.name] = operand
            self.add_initializers(renamed)
            for inner in renamed.node:
                self.add_node(inner)
            return tuple(self.env.get(o.name) for o in renamed.output)
        finally:
            self.env = outer

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
