"""What every importer needs: constants with owners, provenance, and a list of all problems.

Every float constant of a model is a weight and belongs to the model owner, unless an operator takes
it as a parameter of its own (a Pad value); such a parameter is written into the program in the
clear and listed as disclosed. Integer constants are shapes and indices and become attributes; one
that a model computes with is a weight.
Constants are merged by name only, never because their values are equal: what two weights have in
common would show in the program.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError
from mpcc.frontend.ranks import Folded, folded
from mpcc.ir.core import Function, Module, Value
from mpcc.ir.define import Attributes, Operation
from mpcc.ir.limits import MAX_ELEMENTS, MAX_RANK
from mpcc.ir.ops import tensor
from mpcc.ir.types import Shape, TensorType, element_count

__all__ = [
    "Array",
    "Builder",
    "Constant",
    "Disclosed",
    "Imported",
    "Operand",
    "Owners",
    "Port",
    "Problems",
    "Room",
    "Unsupported",
    "check_size",
    "suggestion",
    "type_of",
]

Array: TypeAlias = npt.NDArray[Any]

_EXACT = 1 << 24
"""Integers up to this size are binary32 numbers."""

MAX_OPS_WRITTEN = 1 << 17
"""Ops that the import of one model may write, and constants that it may compute."""

MAX_MADE = 1 << 27
"""Elements of constants and of lists of positions that the import of a model may make, apart from
two for each byte of the model."""

MAX_ARRAY = 1 << 24
"""Elements of one list of positions, or of one constant that follows from shapes alone."""


class Room:
    """How much may still be written for one model, which may be small and ask for what is not.

    Everything that an import makes is counted here before it is made: loops that are written out,
    and constants and positions whose sizes are those of computed values.

    Args:
        given: bytes of the model.
    """

    def __init__(self, given: int = 0) -> None:
        self._ops = MAX_OPS_WRITTEN
        self._elements = MAX_MADE + 2 * given

    def op(self, where: str) -> None:
        """Count an op, or a constant that is computed.

        Raises:
            MpccError: ``E-limit-import``; the model wants more than ``MAX_OPS_WRITTEN``.
        """
        self._ops -= 1
        if self._ops < 0:
            raise _beyond(f"more than {MAX_OPS_WRITTEN} ops", where)

    def elements(self, count: int, where: str) -> None:
        """Count elements of constants.

        Raises:
            MpccError: ``E-limit-import``; all of them together are too many.
        """
        self._elements -= count
        if self._elements < 0:
            raise _beyond(f"constants of more than {MAX_MADE} elements that it computes", where)

    def array(self, shape: Sequence[int], where: str) -> None:
        """Count an array that follows from shapes, such as a list of positions.

        Raises:
            MpccError: ``E-limit-import``; it has more than ``MAX_ARRAY`` elements, or all of them
                together are too many.
        """
        count = math.prod(max(int(d), 0) for d in shape)
        if count > MAX_ARRAY:
            raise _beyond(f"a list of {count} positions; {MAX_ARRAY} are the most", where)
        self.elements(count, where)


def _beyond(what: str, where: str) -> MpccError:
    return MpccError.of(
        "E-limit-import",
        f"the model, written out, has {what}",
        f"node {where}",
        "check its shapes and loops; give fewer steps at a time, and hand the state on as an input "
        "and an output",
    )


@dataclass(frozen=True)
class Port:
    """An input or output of the model: its name, static shape, dtype, and whose it is.

    ``f32`` for numbers, also for whole ones; ``bool`` for truth values; ``i64`` for positions.
    """

    name: str
    shape: Shape
    dtype: str
    owner: str


@dataclass(frozen=True)
class Disclosed:
    """A constant of the model that stands in the module in the clear, other than an integer.

    Attributes:
        op: the model's operator, such as ``Pad``.
        node: its node's name.
        what: role of the constant, such as ``value``.
        number: the constant; None of a mask, of which ``what`` says all.
    """

    op: str
    node: str
    what: str
    number: float | None

    def text(self, names: bool) -> str:
        """One line for reports, with the model's own name of the node or without."""
        node = f" {self.node}" if names else ""
        number = "" if self.number is None else f" {self.number!r}"
        return f"{self.op}{node}: {self.what}{number}"


@dataclass(frozen=True)
class Imported:
    """An imported model.

    Attributes:
        module: the tensor level, without any value of a weight.
        constants: float32 arrays of the module's ``tensor.weight`` ops, by name.
        inputs: in the model's order.
        outputs: in the model's order.
        disclosed: constants of the model that stand in the module in the clear.
        batched: names of inputs whose first axis is the batch that was asked for.
        notes: sentences for the user: outputs that are not quite the model's.
    """

    module: Module
    constants: Mapping[str, Array] = field(repr=False)
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    disclosed: tuple[Disclosed, ...] = ()
    batched: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Constant:
    """A value that is known when the model is imported.

    Attributes:
        array: the value; float constants of any width, integers, booleans.
        name: of the initialiser, or of the node output, that it is.
        owner: ``model`` or ``public``; what it is if it turns out to be a weight.
        derived: computed from float constants, so that not even its shape-like use is public.
        restated: derived, but the very number of one constant, cast or reshaped: as fit to
            parametrise an operator as the constant itself.
    """

    array: Array = field(repr=False)
    name: str
    owner: str = "model"
    derived: bool = False
    restated: bool = False

    @property
    def is_float(self) -> bool:
        """Whether it holds real numbers, as a weight does."""
        # bfloat16 and the 8-bit floats are extension types of numpy, of kind V.
        return self.array.dtype.kind not in "biuOSU"


Operand: TypeAlias = Value | Constant


class Unsupported(Exception):  # noqa: N818 - it names what the model has, not a fault of ours
    """A node cannot be imported: why, and what the user can do."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


class Problems:
    """Collects problems of nodes; equal ones become a single diagnostic that names the nodes."""

    _SHOWN = 8

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, str, str], list[str]] = {}
        self._others: list[Diagnostic] = []

    def node(self, code: str, what: str, node: str, fix: str = "") -> None:
        """Add a problem of the node of this name."""
        self._nodes.setdefault((code, what, fix), []).append(node)

    def add(self, code: str, what: str, where: str = "", fix: str = "") -> None:
        """Add a problem that is not of a node."""
        self._others.append(Diagnostic(code, what, where, fix))

    def raise_if_any(self) -> None:
        """Raise everything that was collected as one error.

        Raises:
            MpccError: at least one problem was added.
        """
        found = list(self._others)
        for (code, what, fix), nodes in self._nodes.items():
            where = ", ".join(nodes[: self._SHOWN])
            if len(nodes) > self._SHOWN:
                where += f" and {len(nodes) - self._SHOWN} more"
            found.append(Diagnostic(code, what, f"node {where}", fix))
        if found:
            raise MpccError(*found)


class Owners:
    """Who owns which input, weight and output.

    Args:
        chosen: role by name, from the user.
        weights: ``secret`` or ``public``, for weights that ``chosen`` does not name.

    Raises:
        MpccError: ``weights`` is neither.
    """

    def __init__(self, chosen: Mapping[str, str], weights: str) -> None:
        if weights not in ("secret", "public"):
            raise MpccError.of(
                "E-import-owner", f"weights can be secret or public, not {weights!r}"
            )
        self._chosen = chosen
        self._weights = "model" if weights == "secret" else "public"
        self._known: set[str] = set()
        self._wrong: list[Diagnostic] = []

    def _role(self, kind: str, name: str, default: str, allowed: Sequence[str]) -> str:
        self._known.add(name)
        role = self._chosen.get(name, default)
        if role not in allowed:
            self._wrong.append(
                Diagnostic(
                    "E-import-owner",
                    f"{kind} {name} cannot belong to {role!r}",
                    fix=f"use {' or '.join(allowed)}",
                )
            )
            return default
        return role

    def input(self, name: str) -> str:
        """Owner of an input; the client by default."""
        return self._role("input", name, "client", ("client", "model", "public"))

    def output(self, name: str) -> str:
        """Owner of an output; the client by default."""
        return self._role("output", name, "client", ("client", "model"))

    def weight(self, name: str) -> str:
        """Owner of a weight; the model owner by default, unless all weights are public."""
        return self._role("weight", name, self._weights, ("model", "public"))

    def structure(self, name: str) -> str:
        """Owner of what a model's attributes say beyond numbers; everybody's by default."""
        return self._role("structure", name, "public", ("model", "public"))

    def check(self, problems: Problems) -> None:
        """Report wrong roles, and names that the model has not."""
        for d in self._wrong:
            problems.add(d.code, d.what, d.where, d.fix)
        for name in sorted(set(self._chosen) - self._known):
            problems.add(
                "E-import-name",
                f"the model has no input, output or float constant {name}",
                "owners",
                suggestion(name, self._known),
            )


def suggestion(name: str, known: set[str]) -> str:
    """A way out for a name that does not exist: similar ones, or some of those that do."""
    close = difflib.get_close_matches(name, sorted(known), 3) or sorted(known)[:5]
    return f"it has {', '.join(close)}" if close else ""


class Builder:
    """Builds the tensor module of one model.

    Attributes:
        node: label of the node that is being imported.
        computed: names of weights that were computed from others: fit for no public attribute.
        masks: by name of constants that hold -inf, the node that used them first. A program that
            needs one of them is refused (:meth:`not_finite`).
        room: what may still be written.
        roles: owners of weights that are attributes of nodes.
        lookups: inputs that are positions in a table, with the node that looked them up first.
        unmasked: by value and depth, what :func:`mpcc.frontend.onnx.normal.unmasked` made of it.
        calls: whether :meth:`call` makes functions.
    """

    def __init__(self, room: Room | None = None, calls: bool = False) -> None:
        self.module = Module("tensor")
        self.room = room or Room()
        self.calls = calls
        self.roles = Owners({}, "secret")
        self.constants: dict[str, Array] = {}
        # In order, and without doubles.
        self._disclosed: dict[Disclosed, None] = {}
        self._notes: dict[str, None] = {}
        self.node = ""
        self.masks: dict[str, str] = {}
        self.computed: set[str] = set()
        self.lookups: dict[Value, str] = {}
        self.unmasked: dict[tuple[Value, int], Value] = {}
        self._weights: dict[str, Value] = {}
        # With the array that each was derived from.
        self._derived: dict[str, tuple[Array, Constant]] = {}
        self._names: set[str] = set()
        self._traced: _Traced | None = None
        self._functions: dict[Hashable, str] = {}
        self._numbers = 0

    @property
    def disclosed(self) -> tuple[Disclosed, ...]:
        """What goes into the module in the clear."""
        return tuple(self._disclosed)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the module: outputs that are not quite the model's."""
        return tuple(self._notes)

    def note(self, text: str) -> None:
        """Add a sentence to the notes."""
        self._notes[text] = None

    def reserve(self, names: Sequence[str]) -> None:
        """Keep names that the model uses from being given to derived constants."""
        self._names.update(names)

    def append(
        self, definition: type[Operation], operands: Sequence[Operand], attrs: Attributes, loc: str
    ) -> tuple[Value, ...]:
        """Append an op; constants among the operands become weights.

        Returns:
            Its results.

        Raises:
            InferenceError: operands or attributes do not fit.
            Unsupported: a constant cannot be a weight, or a result is beyond all limits.
            MpccError: ``E-limit-import``, as of :class:`Room`.
        """
        self.room.op(self.node)
        for attr in attrs.values():
            if isinstance(attr, tuple):
                self.room.elements(len(attr), self.node)
        values = [self.value(o) for o in operands]
        results = self._append(definition, values, attrs, loc)
        for value in results:
            check_size(type_of(value).shape)
        less = folded(definition, type_of(results[0]).shape, attrs) if results else None
        return results if less is None else (self._folded(definition, values, less, loc),)

    def _append(
        self, definition: type[Operation], values: Sequence[Value], attrs: Attributes, loc: str
    ) -> tuple[Value, ...]:
        """Append an op to the function that is being written."""
        if self._traced is not None:
            return self._traced.append(definition, values, attrs, loc)
        return tuple(self.module.main.append(definition, values, attrs, loc).results)

    def _folded(
        self, definition: type[Operation], values: Sequence[Value], less: Folded, loc: str
    ) -> Value:
        """An op on data with fewer axes; that on the others, which is dead, has shown its shape."""
        given: list[Value] = []
        for value in values:
            if type_of(value).shape != less.wide:
                (value,) = self._append(tensor.Broadcast, [value], {"shape": less.wide}, loc)
            given += self._append(tensor.Reshape, [value], {"shape": less.shape}, loc)
        found = self._append(definition, given, less.attrs, loc)
        (result,) = self._append(tensor.Reshape, found, {"shape": less.wide}, loc)
        return result

    def value(self, operand: Operand) -> Value:
        """The operand as a value; a constant becomes one ``tensor.weight`` at its first use.

        Integers and truth values become real numbers.

        Raises:
            Unsupported: the constant is not of numbers, or empty, or not finite, or has integers
                that binary32 does not hold.
        """
        if isinstance(operand, Value):
            return operand
        name = operand.name
        if name not in self._weights:
            if operand.array.dtype.kind in "OSU":
                raise Unsupported(f"the constant {name} holds strings")
            if operand.array.size == 0:
                raise Unsupported(f"the constant {name} has no elements")
            if (
                operand.array.dtype.kind in "iu"
                and (np.abs(operand.array.astype(np.float64)) > _EXACT).any()
            ):
                raise Unsupported(
                    f"the integers of {name} are used as data and are larger than {_EXACT}",
                    "larger integers are not exact as binary32 numbers",
                )
            self.room.op(self.node)
            if operand.array.dtype != np.float32:
                self.room.elements(operand.array.size, self.node)
            with np.errstate(over="ignore"):
                array = np.ascontiguousarray(operand.array, np.float32)
            array = array.reshape(operand.array.shape)
            if not np.isfinite(array).all():
                # A mask may be of -inf; what is made of it at a softmax is finite.
                if not (array < np.inf).all():
                    raise self.not_finite(name)
                self.masks[name] = self.node
            attrs = {"name": name, "shape": array.shape, "owner": operand.owner}
            self._weights[name] = self.module.main.append(tensor.Weight, (), attrs).result
            self.constants[name] = array
        if operand.derived and not operand.restated:
            self.computed.add(name)
        return self._weights[name]

    def call(
        self, loc: str, emit: Callable[[], Sequence[Operand | None]]
    ) -> tuple[Operand | None, ...]:
        """What ``emit`` gives, as the results of a function that is called.

        What it appends becomes the function's body, and what that uses from outside the arguments.
        A body like one before is not kept: that one is called again, whatever its arguments are.
        Without ``calls``, within a call, or where nothing is appended, this is ``emit()``.

        Args:
            loc: of the call.
            emit: appends ops; gives values, constants, or None.

        Raises:
            Unsupported: ``emit`` does.
        """
        if not self.calls or self._traced is not None:
            return tuple(emit())
        traced = self._traced = _Traced()
        outside = self.unmasked
        self.unmasked = dict(outside)  # what is made inside is for the inside
        try:
            found = tuple(emit())
        finally:
            self._traced = None
            self.unmasked = outside
        inside = traced.finish(found)
        if not inside:
            return found
        name = self._functions.get(traced.key)
        if name is None:
            name = f"step{len(self._functions)}"
            self._functions[traced.key] = name
            traced.function.name = name
            self.module.functions[name] = traced.function
        self._numbers += 1
        types = tuple(str(v.type) for v in inside)
        attrs = {"callee": name, "number": self._numbers, "types": types}
        call = self.module.main.append(tensor.Call, traced.captured, attrs, loc)
        given = dict(zip(inside, call.results, strict=True))
        return tuple(given.get(v, v) if isinstance(v, Value) else v for v in found)

    @staticmethod
    def not_finite(name: str) -> Unsupported:
        """Why a constant cannot be a weight."""
        return Unsupported(
            f"the constant {name} has elements that are not finite binary32 numbers",
            "fixed-point numbers have no infinity and no NaN: repair the model's weights; only "
            "masks that a softmax takes may be -inf (pad inside MaxPool, not before it)",
        )

    def name(self, wanted: str) -> str:
        """``wanted``, changed if the model itself uses this name."""
        while wanted in self._names:
            wanted += "'"
        return wanted

    def derive(
        self,
        source: Constant,
        suffix: str,
        compute: Callable[[Array], Array],
        shape: Sequence[int] = (),
    ) -> Constant:
        """A constant computed by its owner, named after its source; ``shape`` as for combine.

        The same source and suffix always mean the same computation, so they share one constant.
        """
        name = f"{source.name}.{suffix}"
        known = self._derived.get(name)
        if known is None or known[0] is not source.array:
            made = self.combine(name, [source], lambda arrays: compute(*arrays), shape)
            self._derived[name] = known = (source.array, made)
        return known[1]

    def combine(
        self,
        name: str,
        sources: Sequence[Constant],
        compute: Callable[[Sequence[Array]], Array],
        shape: Sequence[int] = (),
    ) -> Constant:
        """A constant computed from several by their owner; the model's if one of them is.

        Args:
            name: the same one always means the same computation.
            sources: at least one.
            compute: from their arrays.
            shape: of the result, where it may have more elements than the sources.

        Raises:
            MpccError: ``E-limit-import``, as of :class:`Room`.
        """
        weights = [c for c in sources if c.derived or c.is_float]
        owner = "public" if all(c.owner == "public" for c in weights) else "model"
        self.room.op(self.node)
        self.room.elements(math.prod(map(int, shape)) if shape else 0, self.node)
        with np.errstate(all="ignore"):
            array = np.asarray(compute([c.array for c in sources]))
        if not shape and not any(np.may_share_memory(array, c.array) for c in sources):
            self.room.elements(array.size, self.node)
        return Constant(array, self.name(name), owner, bool(weights))

    def public(self, name: str, array: npt.ArrayLike) -> Constant:
        """Real numbers that follow from the architecture alone, such as a window's size."""
        numbers = np.asarray(array, np.float64)
        self.room.elements(numbers.size, self.node)
        return Constant(numbers, self.name(name), "public")

    def disclose(self, what: Disclosed) -> None:
        """Note a constant of the model that goes into the module in the clear."""
        self._disclosed[what] = None


class _Traced:
    """The body of a function while it is written.

    Attributes:
        function: its ops; after :meth:`finish`, complete but for its name.
        captured: values from outside, one for each argument.
        key: equal for functions that do the same, apart from names; after :meth:`finish`.
    """

    def __init__(self) -> None:
        self.function = Function("traced")
        self.captured: list[Value] = []
        self.key: Hashable = ()
        self._inside: dict[Value, Value] = {}

    def append(
        self,
        definition: type[Operation],
        operands: Sequence[Value],
        attrs: Attributes,
        loc: str,
    ) -> tuple[Value, ...]:
        """Append an op; operands from outside become arguments."""
        values = [self._own(v) for v in operands]
        results = self.function.append(definition, values, attrs, loc).results
        self._inside.update((v, v) for v in results)
        return tuple(results)

    def _own(self, value: Value) -> Value:
        if value not in self._inside:
            arg = Value(value.type, None, len(self.function.args))
            self.function.args.append(arg)
            self.captured.append(value)
            self._inside[value] = arg
        return self._inside[value]

    def finish(self, found: Sequence[Operand | None]) -> list[Value]:
        """Those of the results that were made inside, each once, as returned values.

        Ops and arguments that they do not need go away.
        """
        function = self.function
        made = {v for op in function.ops for v in op.results}
        given = [v for v in found if isinstance(v, Value) and v in made]
        inside = list(dict.fromkeys(given))
        function.returns = list(inside)
        function.remove_dead()
        used = {v for op in function.ops for v in op.operands}
        kept = [(a, v) for a, v in zip(function.args, self.captured, strict=True) if a in used]
        function.args, self.captured = [a for a, _ in kept], [v for _, v in kept]
        for i, arg in enumerate(function.args):
            arg.index = i
        self.key = _key(function)
        return inside


def _key(function: Function) -> Hashable:
    """All of a function but the names of nodes."""
    number: dict[Value, int] = {a: i for i, a in enumerate(function.args)}
    ops: list[Hashable] = []
    for op in function.ops:
        operands = tuple(number[v] for v in op.operands)
        types = tuple(r.type for r in op.results)
        ops.append((op.name, operands, repr(sorted(op.attrs.items())), types))
        number.update((v, len(number) + i) for i, v in enumerate(op.results))
    args = tuple(a.type for a in function.args)
    return args, tuple(ops), tuple(number[v] for v in function.returns)


def check_size(shape: Shape) -> None:
    """Refuse a tensor that no program can have, whose byte counts might overflow.

    Raises:
        Unsupported: it has more than ``MAX_ELEMENTS`` elements, or more than ``MAX_RANK`` axes.
    """
    if element_count(shape) > MAX_ELEMENTS or len(shape) > MAX_RANK:
        raise Unsupported(
            f"a value of shape {list(shape)}: programs end at {MAX_RANK} axes and "
            f"2^{MAX_ELEMENTS.bit_length() - 1} elements",
            "check the model's shapes; one may have overflowed",
        )


def type_of(operand: Operand) -> TensorType:
    """Type of an operand; of a constant, the one that it has as a weight."""
    if isinstance(operand, Constant):
        return TensorType(operand.array.shape, "f32", operand.owner)
    if not isinstance(operand.type, TensorType):
        raise TypeError(f"{operand.type} is not of the tensor level")
    return operand.type
