"""Reads an ONNX model, checks it, and imports its graph node by node."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx

from mpcc.errors import MpccError
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
    type_of,
)
from mpcc.frontend.onnx.fold import FOLDABLE, fold
from mpcc.frontend.onnx.interpret import DATA, interpret
from mpcc.frontend.onnx.ml import without_maps
from mpcc.frontend.onnx.model import (
    batched_inputs,
    infer,
    kinds_of,
    load_model,
    set_shapes,
    subgraphs,
)
from mpcc.frontend.onnx.node import Node, Operator, node_label
from mpcc.frontend.onnx.support import OPERATORS, operator_of, reason
from mpcc.frontend.onnx.tokens import check_looked_up
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
    calls: bool = False,
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
        calls: whether steps of recurrent layers and loops become functions that are called
            (:mod:`mpcc.ir.calls`); otherwise they are written out.

    Returns:
        The module and, apart from it, the constants' values.

    Raises:
        MpccError: the file cannot be read (``E-model-...``) or the model cannot be imported
            (``E-import-...``); whatever is not supported is listed at once, with node names. Or it
            wants more than one import may write, or than there is memory (``E-limit-import``).
    """
    try:
        return _imported(source, shapes, owners, weights, batch, calls)
    except MemoryError:
        raise MpccError.of(
            "E-limit-import",
            "there is not enough memory to import the model",
            "" if isinstance(source, bytes) else os.fspath(source),
            "check its shapes and loops, or import it on a machine with more memory",
        ) from None


def _imported(
    source: str | os.PathLike[str] | bytes,
    shapes: Mapping[str, OpenShape] | None,
    owners: Mapping[str, str] | None,
    weights: str,
    batch: int | None,
    calls: bool,
) -> Imported:
    roles = Owners(owners or {}, weights)
    model = load_model(source)
    maps = without_maps(model)
    batched = batched_inputs(model, shapes or {}) if batch is not None else frozenset()
    model = set_shapes(model, shapes or {}, batch)
    problems = Problems()
    graph = _Graph(model, roles, problems, calls)
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
    check_looked_up(build, problems)
    problems.raise_if_any()
    constants = {name: array for name, array in build.constants.items() if name in used}
    for name in maps:
        build.note(
            f"output {name} is the tensor of scores that the model's ZipMap would pack in maps"
        )
    return Imported(
        build.module, constants, graph.inputs, outputs, build.disclosed, batched, build.notes
    )


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


def _lifted(
    node: onnx.NodeProto, kinds: dict[str, int]
) -> tuple[onnx.NodeProto, list[onnx.TensorProto], list[onnx.NodeProto]]:
    """A node without the constants of its subgraphs, and these: initialisers and Constant nodes.

    They get names that say where they were, so that all copies of a loop's body have the same ones.

    Args:
        node: with subgraphs.
        kinds: element types by name; those of the constants are added.
    """
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    initializers: list[onnx.TensorProto] = []
    constants: list[onnx.NodeProto] = []

    def lift(node: onnx.NodeProto, scope: str) -> None:
        label = scope + next((str(o) for o in node.output if o), node_label(node))
        for attribute in node.attribute:
            for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                own, types = f"{label}/{attribute.name}/", kinds_of(graph)
                names = {str(i.name): own + i.name for i in graph.initializer}
                fixed = [each for each in graph.node if each.op_type == "Constant"]
                names |= {str(o): own + o for each in fixed for o in each.output if o}
                kinds.update((new, types[old]) for old, new in names.items() if old in types)
                for each in graph.initializer:
                    each.name = names[each.name]
                for each in fixed:
                    each.output[:] = [names.get(o, o) for o in each.output]
                initializers.extend(graph.initializer)
                constants.extend(fixed)
                rest = [each for each in graph.node if each.op_type != "Constant"]
                # Taken out of the message before it is cleared.
                kept = onnx.GraphProto()
                kept.node.extend(rest)
                graph.ClearField("initializer")
                graph.ClearField("node")
                graph.node.extend(kept.node)
                _rename_uses(graph, names)
                for each in graph.node:
                    lift(each, own)

    lift(copy, "")
    return copy, initializers, constants


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

    def __init__(
        self, model: onnx.ModelProto, owners: Owners, problems: Problems, calls: bool
    ) -> None:
        self.graph = model.graph
        self.opset = next(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.imports = model.opset_import
        self.owners = owners
        self.problems = problems
        self.build = Builder(Room(model.ByteSize()), calls)
        self.build.roles = owners
        self.inputs: tuple[Port, ...] = ()
        # None: the value of a node that could not be imported.
        self.env: dict[str, Operand | None] = {}
        inferred = infer(model)
        self.kinds = kinds_of(inferred)
        self.nodes: list[onnx.NodeProto] = []
        self.lifted: list[onnx.TensorProto] = []
        for node, twin in zip(self.graph.node, inferred.node, strict=True):
            if any(True for _ in subgraphs(node)):
                # The inferred one, which knows the types inside.
                bare, initializers, constants = _lifted(twin, self.kinds)
                self.lifted += initializers
                self.nodes += [*constants, bare]
            else:
                self.nodes.append(node)
        self.written = 0
        # Of nodes in subgraphs: operands and results of those that were folded, by what they are.
        self.known: dict[tuple[object, ...], tuple[Sequence[object], Sequence[Operand]]] = {}
        self.inside = False
        self.used = _used(self.graph)
        self.build.reserve([i.name for i in (*self.graph.initializer, *self.lifted)])
        self.build.reserve([o for node in self.graph.node for o in node.output])

    def add_inputs(self) -> None:
        """Initialisers, then the inputs that are not initialisers too (as in old files)."""
        self.add_initializers(self.graph)
        for proto in self.lifted:
            self.add_initializer(proto)
        ports = []
        for info in self.graph.input:
            if info.name in self.env:
                continue
            kind = info.type.tensor_type.elem_type
            if kind not in _REAL and kind not in _WHOLE:
                self.env[info.name] = None
                form = info.type.WhichOneof("value") or "tensor_type"
                self.problems.add(
                    "E-import-unsupported",
                    f"input {info.name} does not hold numbers"
                    if form == "tensor_type"
                    else f"input {info.name} is of type {form.removesuffix('_type')}, no tensor",
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
            self.add_initializer(proto)
        for sparse in graph.sparse_initializer:
            self.env[sparse.values.name] = None
            self.problems.add(
                "E-import-unsupported",
                f"the sparse initialiser {sparse.values.name}",
                fix="export the model with dense weights",
            )

    def add_initializer(self, proto: onnx.TensorProto) -> None:
        """A constant of the model."""
        array = onnx.numpy_helper.to_array(proto)
        self.env[proto.name] = self.owned(Constant(array, str(proto.name)), proto.name)

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
        operator = operator_of(proto.domain, proto.op_type)
        if operator is None and not foldable:
            why = reason(proto.domain, proto.op_type)
            self.problems.node(
                "E-import-unsupported", f"{named}: {why.why}", node_label(proto), why.fix
            )
            return
        if any(o is None for o in given):
            return
        self.build.node = node_label(proto)
        known = self.key(proto, operands) if foldable and self.inside else None
        if known in self.known:
            self.env.update(zip(proto.output, self.known[known][1], strict=False))
            return
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
            if known is not None:
                made = [v for o in proto.output if (v := self.env.get(o)) is not None]
                if len(made) == len(proto.output):
                    self.known[known] = operands, made
        except Unsupported as error:
            self.problems.node(
                "E-import-unsupported", f"{named}: {error.reason}", node_label(proto), error.fix
            )
        except (InferenceError, ValueError, IndexError, OverflowError) as error:
            self.problems.node("E-import-shape", f"{named}: {error}", node_label(proto))

    @staticmethod
    def key(proto: onnx.NodeProto, operands: Sequence[Operand | None]) -> tuple[object, ...]:
        """What a node computes, for copies of it with the very same constants."""
        attributes = tuple(a.SerializeToString(deterministic=True) for a in proto.attribute)
        return (proto.op_type, len(proto.output), attributes, *map(id, operands))

    def body(
        self,
        node: Node,
        name: str,
        scope: str,
        graph: onnx.GraphProto,
        inputs: Sequence[Operand | None],
    ) -> tuple[Operand | None, ...]:
        """Import a copy of a subgraph at the place of its node.

        What the subgraph computes gets names of its own in every copy; its constants, which are
        the same weights in all of them, were taken out of it before.

        Raises:
            Unsupported: it does not take these inputs.
        """
        self.written += max(len(graph.node), 1)
        if self.written > _MAX_WRITTEN:
            node.refuse(
                f"loops of more than {_MAX_WRITTEN} nodes, written out",
                "give fewer steps at a time, and hand the state on as an input and an output",
            )
        if len(inputs) != len(graph.input):
            node.refuse(f"a subgraph of {len(graph.input)} inputs, with {len(inputs)} given")
        outer, inside = self.env, self.inside
        copy = f"{node.output}/{scope}/"
        kinds = kinds_of(graph)
        names = {o: copy + o for inner in graph.node for o in inner.output if o}
        names |= {i.name: copy + i.name for i in graph.input}
        self.kinds.update((new, kinds[old]) for old, new in names.items() if old in kinds)
        renamed = _renamed(graph, names)
        self.build.reserve(list(names.values()))
        self.used |= _used(renamed)
        self.env, self.inside = dict(outer), True
        try:
            for info, operand in zip(renamed.input, inputs, strict=True):
                self.env[info.name] = operand
            self.add_initializers(renamed)
            for inner in renamed.node:
                self.add_node(inner)
            return tuple(self.env.get(o.name) for o in renamed.output)
        finally:
            self.env, self.inside = outer, inside

    def folded(
        self,
        proto: onnx.NodeProto,
        operator: Operator | None,
        operands: Sequence[Operand | None],
    ) -> tuple[Constant, ...]:
        """Results of a node on constants."""
        constants = [o if isinstance(o, Constant) else None for o in operands]
        if operator is None or proto.op_type not in DATA:
            results = fold(proto, self.opset, constants, disclose=self.build.disclose)
        else:
            compute = partial(interpret, operator, self.build.room)
            results = fold(proto, self.opset, constants, compute, self.build.disclose)
        self.build.room.op(self.build.node)
        sources = [c.array for c in constants if c is not None]
        for made in results:
            if not any(np.may_share_memory(made.array, a) for a in sources):
                self.build.room.elements(made.array.size, self.build.node)
        return results

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
