"""Values, operations, functions and modules: the same classes at every level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mpcc.ir.define import Attributes, AttrValue, InferenceError, Operation
from mpcc.ir.types import Type

__all__ = ["Function", "Module", "Op", "Value"]


class Value:
    """One SSA value: the result of an op, or an argument of a function (``op`` is None)."""

    __slots__ = ("index", "op", "type")

    def __init__(self, type_: Type, op: Op | None, index: int) -> None:
        self.type = type_
        self.op = op
        self.index = index

    def __repr__(self) -> str:
        return f"<value {self.index} of {self.op.name if self.op else 'argument'}: {self.type}>"


class Op:
    """An operation: declaration, operands, attributes, results, and the model node it came from."""

    __slots__ = ("attrs", "body", "definition", "loc", "operands", "results")

    def __init__(
        self,
        definition: type[Operation],
        operands: Sequence[Value],
        attrs: Attributes,
        result_types: Sequence[Type],
        loc: str = "",
        body: Function | None = None,
    ) -> None:
        self.definition = definition
        self.operands = list(operands)
        self.attrs: dict[str, AttrValue] = dict(attrs)
        self.results = [Value(t, self, i) for i, t in enumerate(result_types)]
        self.loc = loc
        self.body = body

    @property
    def name(self) -> str:
        """Full name, such as ``secure.conv``."""
        return self.definition.name

    @property
    def result(self) -> Value:
        """The only result; ValueError if there is not exactly one."""
        (value,) = self.results
        return value

    def infer(self) -> tuple[Type, ...]:
        """Result types that the declaration gives for operands, attributes and body as they are.

        Raises:
            InferenceError: they do not fit the declaration.
        """
        return _result_types(self.definition, self.operands, self.attrs, self.body)

    def __repr__(self) -> str:
        return f"<op {self.name}{' at ' + self.loc if self.loc else ''}>"


class Function:
    """A straight list of ops in execution order, with arguments and returned values."""

    def __init__(self, name: str, arg_types: Sequence[Type] = ()) -> None:
        self.name = name
        self.args = [Value(t, None, i) for i, t in enumerate(arg_types)]
        self.ops: list[Op] = []
        self.returns: list[Value] = []

    def append(
        self,
        definition: type[Operation],
        operands: Sequence[Value] = (),
        attrs: Attributes | None = None,
        loc: str = "",
        body: Function | None = None,
    ) -> Op:
        """Append an op; attributes are completed and result types inferred.

        Raises:
            InferenceError: the operands or attributes do not fit the declaration.
        """
        op = make_op(definition, operands, attrs, loc, body)
        self.ops.append(op)
        return op

    def uses(self) -> dict[Value, list[tuple[Op, int]]]:
        """For every value, the (op, operand index) pairs that use it."""
        table: dict[Value, list[tuple[Op, int]]] = {}
        for op in self.ops:
            for i, value in enumerate(op.operands):
                table.setdefault(value, []).append((op, i))
        return table

    def replace_uses(self, mapping: Mapping[Value, Value]) -> None:
        """Replace operands and returns by ``mapping``, followed to its end."""

        def final(value: Value) -> Value:
            while value in mapping:
                value = mapping[value]
            return value

        for op in self.ops:
            op.operands = [final(v) for v in op.operands]
        self.returns = [final(v) for v in self.returns]

    def remove_dead(self) -> int:
        """Remove ops whose results nobody uses, keeping side effects; the number removed."""
        live: set[Value] = set(self.returns)
        kept: list[Op] = []
        for op in reversed(self.ops):
            if op.definition.side_effect or any(r in live for r in op.results):
                live.update(op.operands)
                kept.append(op)
        removed = len(self.ops) - len(kept)
        self.ops = kept[::-1]
        return removed

    def walk(self, *names: str) -> Iterator[Op]:
        """Ops in order, all or only those of the given names."""
        for op in list(self.ops):
            if not names or op.name in names:
                yield op


class Module:
    """Functions of one level; ``main`` is the entry.

    Attributes:
        level: ``tensor``, ``secure`` or ``party``.
        attrs: module attributes (protocol, parties, format choices); strings, ints and tuples.
    """

    def __init__(self, level: str, attrs: Attributes | None = None) -> None:
        self.level = level
        self.attrs: dict[str, AttrValue] = dict(attrs or {})
        self.functions: dict[str, Function] = {"main": Function("main")}

    @property
    def main(self) -> Function:
        """The entry function."""
        return self.functions["main"]

    def clone(self) -> Module:
        """A deep copy that shares no op or value."""
        copy = Module(self.level, self.attrs)
        copy.functions = {n: clone_function(f) for n, f in self.functions.items()}
        return copy


def make_op(
    definition: type[Operation],
    operands: Sequence[Value] = (),
    attrs: Attributes | None = None,
    loc: str = "",
    body: Function | None = None,
) -> Op:
    """An op outside any function, checked like :meth:`Function.append`."""
    least, most = definition.arity()
    if len(operands) < least or (most is not None and len(operands) > most):
        wanted = f"{least}" if most == least else f"{least} to {'any' if most is None else most}"
        raise InferenceError(f"{definition.name} takes {wanted} operands, not {len(operands)}")
    if definition.has_body != (body is not None):
        raise InferenceError(
            f"{definition.name} {'needs a' if definition.has_body else 'takes no'} body"
        )
    full = definition.complete(attrs or {})
    types = _result_types(definition, operands, full, body)
    return Op(definition, operands, full, types, loc, body)


def _result_types(
    definition: type[Operation],
    operands: Sequence[Value],
    attrs: Attributes,
    body: Function | None,
) -> tuple[Type, ...]:
    types = [v.type for v in operands]
    if body is None:
        return definition.infer(types, attrs)
    if types != [a.type for a in body.args]:
        raise InferenceError(f"{definition.name}: operands and body arguments differ in type")
    definition.check_body(body)
    return tuple(v.type for v in body.returns)


def clone_function(function: Function) -> Function:
    """A deep copy of one function."""
    copy = Function(function.name, [a.type for a in function.args])
    mapping: dict[Value, Value] = dict(zip(function.args, copy.args, strict=True))
    for op in function.ops:
        body = None if op.body is None else clone_function(op.body)
        new = Op(
            op.definition,
            [mapping[v] for v in op.operands],
            op.attrs,
            [r.type for r in op.results],
            op.loc,
            body,
        )
        copy.ops.append(new)
        mapping.update(zip(op.results, new.results, strict=True))
    copy.returns = [mapping[v] for v in function.returns]
    return copy
