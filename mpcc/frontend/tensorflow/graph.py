"""Walks TensorFlow's graph of a function, node by node, and imports what its results need.

Calls are inlined and loops written out, each copy of a function with names of its own; variables
are constants under their own names, the same in every copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpcc.frontend.importer import Builder, Constant, Owners, Problems, Unsupported
from mpcc.frontend.tensorflow.fold import fold, is_foldable, outputs
from mpcc.frontend.tensorflow.kinds import ONNX_KINDS
from mpcc.frontend.tensorflow.node import Item, Node
from mpcc.frontend.tensorflow.support import OPERATORS, WRITES, reason
from mpcc.ir.define import InferenceError

__all__ = ["Walker"]

_MAX_DEPTH = 64
"""Functions that call each other; TensorFlow has no recursion."""


@dataclass
class _Body:
    """A function's graph: nodes by name, arguments, and names of the tensors that it returns."""

    nodes: Mapping[str, Any]
    arguments: Sequence[str]
    results: Sequence[str]
    order: list[str] = field(default_factory=list)


def _split(tensor: str) -> tuple[str, int]:
    """``node:1`` -> (node, 1); ``node`` is its first output."""
    name, _, index = tensor.partition(":")
    return name, int(index or 0)


def _inputs(proto: Any) -> list[str]:
    """Data inputs; those of control have no values."""
    return [str(name) for name in proto.input if not name.startswith("^")]


class Walker:
    """The state of one import.

    Args:
        tf: the module.
        library: functions of the model by name.
        builder: of the module.
        owners: of weights.
        problems: takes what cannot be imported.
    """

    def __init__(
        self,
        tf: Any,
        library: Mapping[str, Any],
        builder: Builder,
        owners: Owners,
        problems: Problems,
    ) -> None:
        self.tf = tf
        self.library = library
        self.build = builder
        self.owners = owners
        self.problems = problems
        self._bodies: dict[str, _Body | None] = {}
        self._taken: set[str] = set()
        self._folded: dict[tuple[Any, ...], tuple[Any, tuple[Constant, ...]]] = {}
        self._depth = 0

    def run(
        self,
        nodes: Sequence[Any],
        given: Mapping[str, Item | None],
        results: Sequence[str],
    ) -> list[Item | None]:
        """Import the graph of the model.

        Args:
            nodes: of the graph.
            given: what its placeholders are, by name.
            results: names of tensors.

        Returns:
            One per result; None where it could not be imported.
        """
        body = _Body({str(n.name): n for n in nodes}, (), results)
        return self.walk(body, given, "", "")

    def walk(
        self, body: _Body, given: Mapping[str, Item | None], scope: str, own: str
    ) -> list[Item | None]:
        """Import what a function's results need.

        Args:
            body: the function.
            given: what its placeholders are, by name.
            scope: before the names of what is computed in this copy.
            own: before the names of constants, the same in all copies of one loop.
        """
        env: dict[str, list[Item | None]] = {name: [item] for name, item in given.items()}
        kinds: dict[str, list[int]] = {}
        if not body.order:
            body.order = list(_order(body))
            self.stateful(body)
        for name in body.order:
            proto = body.nodes.get(name)
            if proto is None:
                self.problems.add("E-model-invalid", f"the graph has no node {name}")
                continue
            kinds[name] = _kinds(proto)
            if name not in given:
                env[name] = self.node(proto, env, kinds, scope, own)
        found: list[Item | None] = []
        for tensor in body.results:
            name, index = _split(tensor)
            row = env.get(name, [])
            found.append(row[index] if index < len(row) else None)
        return found

    def stateful(self, body: _Body) -> None:
        """Refuse what a function does besides giving its results."""
        for name, proto in body.nodes.items():
            if proto.op in WRITES:
                why = reason(str(proto.op))
                self.problems.node("E-import-unsupported", f"{proto.op}: {why.why}", name, why.fix)

    def node(
        self,
        proto: Any,
        env: Mapping[str, Sequence[Item | None]],
        kinds: Mapping[str, Sequence[int]],
        scope: str,
        own: str,
    ) -> list[Item | None]:
        """Import one node, or note why not."""
        label = scope + str(proto.name)
        own_kinds = kinds[str(proto.name)]
        nothing: list[Item | None] = [None] * max(len(own_kinds), 1)
        if proto.op in WRITES:
            return nothing  # said already
        items: list[Item | None] = []
        types: list[int] = []
        for tensor in _inputs(proto):
            name, index = _split(tensor)
            row, types_ = env.get(name, ()), kinds.get(name, ())
            items.append(row[index] if index < len(row) else None)
            types.append(types_[index] if index < len(types_) else 0)
        operator = OPERATORS.get(str(proto.op))
        constants = [i for i in items if isinstance(i, Constant)]
        foldable = len(constants) == len(items) and is_foldable(proto)
        if operator is None and not foldable:
            why = reason(str(proto.op))
            self.problems.node("E-import-unsupported", f"{proto.op}: {why.why}", label, why.fix)
            return nothing
        self.build.node = label
        try:
            if proto.op == "Const":
                return [self.constant(proto, own)]
            if operator is None or (foldable and not operator.always):
                return list(self.folded(proto, label, own, constants))
            if any(i is None for i in items) and not _calls(proto):
                return nothing
            node = Node(self.build, proto, label, items, types, [True] * len(own_kinds), self.call)
            found = operator.run(node)
            results = list(found) if isinstance(found, tuple) else [found]
            return results + nothing[len(results) :]
        except Unsupported as error:
            self.problems.node(
                "E-import-unsupported", f"{proto.op}: {error.reason}", label, error.fix
            )
        except (InferenceError, ValueError, IndexError, OverflowError) as error:
            self.problems.node("E-import-shape", f"{proto.op}: {error}", label)
        return nothing

    def constant(self, proto: Any, own: str) -> Constant:
        """A Const: a float one is a weight."""
        name = own + str(proto.name)
        array = np.asarray(self.tf.make_ndarray(proto.attr["value"].tensor))
        return self.weight(name, array)

    def weight(self, name: str, array: Any) -> Constant:
        """A constant that the model has, under a name of its own."""
        known = self._folded.get((name,))
        if known is None:
            made = Constant(np.asarray(array), name)
            if made.is_float:
                made = Constant(made.array, name, self.owners.weight(name))
            self._folded[(name,)] = known = (None, (made,))
        return known[1][0]

    def folded(
        self, proto: Any, label: str, own: str, operands: Sequence[Constant]
    ) -> tuple[Constant, ...]:
        """Results of a node on constants; in further copies of a loop those of the first."""
        key = (own, str(proto.name), *(id(c.array) for c in operands))
        if key not in self._folded:
            shared = (own, str(proto.name))
            name = label if shared in self._folded else own + str(proto.name)
            made = fold(self.tf, self.build, proto, name, operands)
            self._folded.setdefault(shared, (None, ()))
            # The operands are kept, so that no other array gets their identity.
            self._folded[key] = (tuple(operands), made)
        return self._folded[key][1]

    # --- functions

    def call(
        self,
        node: Node,
        function: str,
        role: str,
        scope: str,
        arguments: Sequence[Item | None],
    ) -> tuple[Item | None, ...]:
        """Import a copy of a function of the library at the place of a node.

        Args:
            node: the caller.
            function: name of the function.
            role: what it is to the caller; "" for a plain call.
            scope: tells this copy from others of the same role.
            arguments: one per argument.
        """
        body = self.body(function)
        if body is None:
            node.refuse(f"the model has no function {function}")
        if len(arguments) != len(body.arguments):
            node.refuse(f"{len(arguments)} arguments of a function of {len(body.arguments)}")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            node.refuse(f"functions that call each other {_MAX_DEPTH} deep")
        own = f"{node.label}/{role}/"
        prefix = f"{own}{scope}/" if scope else own
        if not role:
            # Names of layers are in the names of nodes already.
            prefix = own = "" if self._taken.isdisjoint(body.nodes) else f"{node.label}/"
            self._taken.update(prefix + name for name in body.nodes)
        caller = self.build.node
        try:
            given = dict(zip(body.arguments, arguments, strict=True))
            return tuple(self.walk(body, given, prefix, own))
        finally:
            self._depth -= 1
            self.build.node = caller

    def body(self, function: str) -> _Body | None:
        """The graph of a function of the library; None if there is none of this name."""
        if function not in self._bodies:
            self._bodies[function] = self._read(function)
        return self._bodies[function]

    def _read(self, function: str) -> _Body | None:
        from tensorflow.python.framework import function_def_to_graph

        found = self.library.get(function)
        if found is None:
            return None
        graph, names = function_def_to_graph.function_def_to_graph_def(found)
        arguments = [str(a.name) for a in found.signature.input_arg]
        results = [str(names[found.ret[a.name]]) for a in found.signature.output_arg]
        return _Body({str(n.name): n for n in graph.node}, arguments, results)


def _calls(proto: Any) -> bool:
    """Whether a node calls functions, which may have more to refuse."""
    return any(a.HasField("func") for a in proto.attr.values())


def _order(body: _Body) -> Iterator[str]:
    """Names of nodes that the results need, operands first."""
    done: set[str] = set()
    opened: set[str] = set()
    for tensor in body.results:
        waiting = [(_split(tensor)[0], False)]
        while waiting:
            name, ready = waiting.pop()
            if name in done:
                continue
            if ready:
                done.add(name)
                yield name
                continue
            if name in opened:
                continue  # a cycle, as the loops of TensorFlow 1 have: they are refused by name
            opened.add(name)
            waiting.append((name, True))
            proto = body.nodes.get(name)
            if proto is None:
                continue
            inputs = [_split(t)[0] for t in _inputs(proto)]
            waiting.extend((n, False) for n in reversed(inputs) if n not in done)


def _kinds(proto: Any) -> list[int]:
    """ONNX's element types of a node's outputs; 0 for what it has not."""
    return [ONNX_KINDS.get(t, 0) for t in outputs(proto)]
