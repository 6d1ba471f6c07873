"""Which ops the owners of inputs compute themselves.

An op *may* be local at an owner when all that it is computed of are this owner's inputs and public
weights. It is worth it when what has to be shared behind it costs less, together with the steps
that the parties are spared. Both are bytes, and the cheapest choice is a minimum cut:

* a node for every input and every op that may be local, on the owner's side of the cut if it is;
* the value of an op on the owner's side that others use crosses the cut, at the bytes of sharing
  it once;
* an op on the parties' side cuts the edge from the source, at the bytes of computing it on shares.

Bytes are estimates from shapes alone, at 64-bit words and 24-bit values, since formats are chosen
afterwards (docs/cost.md); of choices of equal cost the one with the fewest local ops counts. What
depends on one owner and public values up to an output and never meets anybody's secret stays with
the parties: nobody needs them for it, which the compiler says, and it is for the user to act on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpcc.ir.calls import is_call
from mpcc.ir.core import Function, Op, Value
from mpcc.ir.ops import tensor
from mpcc.ir.types import OWNER_PLACES, TensorType, element_count

__all__ = ["Choice", "alone", "choose", "owners_of"]

_WORD = 8
"""Bytes of a ring element."""

_SHARE = 2 * _WORD
"""Sharing a value: an element to each of two parties, the rest is drawn."""

_TRUNCATE = 14
"""A product with a public factor: one truncation, of a word and of three times the cut bits."""

_MULTIPLY = 3 * _WORD
"""A product of secrets, before its truncation: an element from every party."""

_COMPARE = 46
"""A comparison of 24-bit values and a choice by its result."""

_FUNCTION = 4 * _COMPARE
"""A smooth function, a root or a quotient."""


@dataclass(frozen=True)
class Choice:
    """What is local.

    Attributes:
        local: positions in @main of the ops that owners compute, inputs among them, by owner.
        before: estimated bytes of inputs and of ops that might be local, if none are.
        after: the same for this choice.
    """

    local: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    before: int = 0
    after: int = 0


def _type(value: Value) -> TensorType:
    assert isinstance(value.type, TensorType)
    return value.type


def owners_of(function: Function) -> dict[Value, str]:
    """Per value ``public``, the one owner whose inputs it is computed of, or ``secret``.

    Unlike the visibility of its type this counts weights of the model owner as secret: their
    values are not in the owner's hands when inputs are prepared. Public inputs are no public
    values in this sense, as only the client has them before a run.
    """
    found: dict[Value, str] = {}
    for op in function.ops:
        if op.definition is tensor.Input:
            owner = op.attrs["owner"]
            own = owner if owner in OWNER_PLACES else "secret"
        elif op.definition is tensor.Weight:
            own = "public" if op.attrs["owner"] == "public" else "secret"
        elif (
            op.body is not None
            or is_call(op)
            or not issubclass(op.definition, tensor.TensorOperation)
        ):
            own = "secret"
        else:
            kinds = {found[v] for v in op.operands} - {"public"}
            own = "public" if not kinds else kinds.pop() if len(kinds) == 1 else "secret"
        found.update(dict.fromkeys(op.results, own))
    return found


def _elements(values: Sequence[Value]) -> int:
    return sum(element_count(_type(v).shape) for v in values)


def _op_bytes(op: Op, owner: Mapping[Value, str]) -> int:
    """Bytes of an op on shares, at least."""
    kinds = tensor.Kind
    assert issubclass(op.definition, tensor.TensorOperation)
    kind, out = op.definition.kind_of(op.attrs), _elements(op.results)
    secrets = [v for v in op.operands if owner[v] != "public"]
    if op.definition is tensor.Activation:
        return 0  # what is one already stays as it is
    if kind is kinds.PRODUCT:
        return (_TRUNCATE + (_MULTIPLY if len(secrets) > 1 else 0)) * out
    if kind is kinds.NONLINEAR:
        return _COMPARE * max(out, _elements(secrets))
    if kind is kinds.FUNCTION:
        return _FUNCTION * out
    return 0


def _share_bytes(function: Function, value: Value) -> int | None:
    """Bytes of sharing a value, by an input if it is one; None if it cannot be shared."""
    type_, op = _type(value), value.op
    if type_.dtype not in ("f32", "f64"):
        return None
    rows = 1
    if op is not None and op.definition is tensor.Input:
        rows = tensor.looked_up(function, op) or 1
    return _SHARE * rows * element_count(type_.shape)


def _meets(function: Function, owner: Mapping[Value, str]) -> set[Op]:
    """Ops that something secret is computed of."""
    found: set[Op] = set()
    wanted: set[Value] = set()
    for op in reversed(function.ops):
        mixed = any(owner[v] == "secret" for v in op.results)
        if mixed or any(v in wanted for v in op.results):
            found.add(op)
            wanted.update(op.operands)
    return found


class _Graph:
    """The graph of one cut; nodes are positions of ops, ``("v", value)`` of their results."""

    def __init__(self, function: Function, owner: Mapping[Value, str]) -> None:
        self.function, self.owner = function, owner
        meets = _meets(function, owner)
        self.index = {op: i for i, op in enumerate(function.ops)}
        self.nodes = [op for op in function.ops if op in meets and self._may(op)]
        self.known = set(self.nodes)
        self.edges: list[tuple[Any, Any, int | None]] = []
        uses = function.uses()
        for op in self.nodes:
            at = self.index[op]
            given = op.definition is tensor.Input
            self.edges.append(("owners", at, None if given else _op_bytes(op, owner)))
            # Local only if all operands are.
            for value in op.operands:
                if value.op in self.known and value.op is not None:
                    self.edges.append((at, self.index[value.op], None))
            for value in op.results:
                users = [user for user, _ in uses.get(value, [])]
                shared = (at, value.index)
                self.edges.append((at, shared, _share_bytes(function, value)))
                for user in users:
                    self.edges.append(
                        (shared, self.index[user] if user in self.known else "parties", None)
                    )

    def _may(self, op: Op) -> bool:
        """Whether an owner could compute the op, or gives it."""
        return bool(op.results) and all(self.owner[v] in OWNER_PLACES for v in op.results)

    def cost(self, local: set[Op]) -> int:
        """Bytes of a choice; inputs are always local."""
        total = 0
        for op in self.nodes:
            if op not in local:
                total += _op_bytes(op, self.owner)
        uses = self.function.uses()
        for op in local:
            for value in op.results:
                if any(user not in local for user, _ in uses.get(value, [])):
                    size = _share_bytes(self.function, value)
                    assert size is not None
                    total += size
        return total

    def cut(self) -> set[Op]:
        """The ops on the owners' side of the cheapest cut, as few as there may be."""
        import networkx as nx

        # The edges turned round: networkx gives the largest side of the source, which is the
        # parties' then.
        graph: Any = nx.DiGraph()
        graph.add_nodes_from(("owners", "parties"))
        for a, b, capacity in self.edges:
            if capacity is None:
                graph.add_edge(b, a)
                continue
            graph.add_edge(b, a, capacity=capacity)
        _, (_, owners) = nx.minimum_cut(graph, "parties", "owners")
        return {op for op in self.nodes if self.index[op] in owners}


def alone(function: Function) -> Iterator[str]:
    """Names of outputs that one owner could compute from public values and its own data."""
    owner = owners_of(function)
    for op in function.walk(tensor.Output.name):
        if owner[op.operands[0]] != "secret":
            yield op.attrs["name"]


def choose(function: Function) -> Choice:
    """The cheapest choice for @main of a tensor module without functions of owners."""
    owner = owners_of(function)
    graph = _Graph(function, owner)
    inputs = {op for op in graph.nodes if op.definition is tensor.Input}
    if len(inputs) == len(graph.nodes):
        return Choice()
    before = graph.cost(inputs)
    local = graph.cut()
    after = graph.cost(local)
    if after >= before:
        return Choice(before=before, after=before)
    places: dict[str, list[int]] = {}
    for op in graph.nodes:
        if op in local:
            places.setdefault(owner[op.results[0]], []).append(graph.index[op])
    return Choice({o: tuple(places[o]) for o in OWNER_PLACES if o in places}, before, after)
