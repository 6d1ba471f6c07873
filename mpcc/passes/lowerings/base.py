"""The driver of lower-tensor-to-secure: forms, fractions, truncations and constants.

What an operator becomes is its rule's matter, one function per operator in this package. The driver
gives a rule its operands in the form that the operator's kind demands (see
:class:`~mpcc.ir.ops.tensor.base.Kind`), and takes the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np

from mpcc.errors import MpccError
from mpcc.ir.analysis.forms import (
    ACT,
    BIT,
    CONST,
    POSITION,
    Forms,
    declaration,
    factors,
    forms,
    kind_of,
    multiplier_is_weight,
)
from mpcc.ir.analysis.rings import Rings
from mpcc.ir.calls import called, is_call, numbered
from mpcc.ir.core import Function, Module, Op, Value
from mpcc.ir.define import Attributes, InferenceError, Operation
from mpcc.ir.ops import secure, tensor
from mpcc.ir.ops.tensor import Kind, TensorOperation
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.types import SecureType, Shape, TensorType, element_count

__all__ = ["Lowering", "Rule", "Rules", "secure_type", "tensor_type"]

Rule: TypeAlias = Callable[["Lowering", Op, Sequence[Value]], Sequence[Value]]
"""(lowering, op, secure operands) -> secure results, one for each result of the op.

The operands by the op's kind: PRODUCT: the factors alone; SUM: all, of one shape and one fraction;
STRUCTURAL: all, of one fraction; NONLINEAR and FUNCTION: activations (or products too, where the
declaration says ``fine``, and constants as they are where it ``encodes``); OUTPUT: the value at the
activations' fraction; SOURCE: none.

A tensor of truth values comes as bits, or as words 0 and 1 of no fraction: see
:meth:`Lowering.word`. A tensor of positions comes at any fraction.
"""

Rules: TypeAlias = Mapping[type[TensorOperation], Rule]


class Lowering:
    """One run over @main; emits truncations and clamps where they are first needed.

    A function that is called is lowered where its first call stands. An argument is an activation
    at the range that the op behind it has in Phi, or a constant: of that the secure function takes
    one for every fraction and ring that its ops need.

    Args:
        module: a verified tensor module.
        phi: its formats.
        options: the options that the analysis had.
        rules: a rule for every operator but ``tensor.weight``.

    Raises:
        MpccError: ``E-phi-mismatch``: Phi belongs to another module; ``E-lower-op``: an operator
            without a rule.
    """

    def __init__(self, module: Module, phi: Phi, options: FormatOptions, rules: Rules) -> None:
        self.source = module.main
        self.functions = {f.name: f for f in called(module)}
        self._ops = numbered(module)
        self.phi = phi
        self.options = options
        self.rules = rules
        self.target = Module("secure", {"range_policy": phi.policy})
        if options.round_bytes is not None:
            self.target.attrs["round_bytes"] = options.round_bytes
        self._into = self.target.main
        self._constants_of: dict[str, list[tuple[Value, int, int]]] = {}
        self._clamps = dict(phi.clamps)
        self._ranges = dict(phi.ranges)
        self._rings = Rings.of_phi(phi)
        self._ring = phi.ring
        self._plain: dict[Value, Value] = {}
        self._activation: dict[Value, Value] = {}
        self._constant: dict[tuple[Value, int, int], Value] = {}
        self._cast: dict[tuple[Value, int], Value] = {}
        self._words: dict[tuple[Value, int], Value] = {}
        self._bits: dict[Value, int] = {}
        self._index: dict[Value, int] = {}
        self._names: dict[str, tuple[int, int]] = {}
        self._number: dict[Op, int] = {}
        self._owner: dict[Value, str] = {}
        self._entries: set[Value] = set()
        if self.functions and phi.others:
            raise self._mismatch("rings of ops beside functions that are called")
        if not set(self._clamps) <= {i for i, op in enumerate(self._ops) if op.results}:
            raise self._mismatch("a clamp on an op without a result")
        crossings = self._rings.crossings(self.source)
        self._leaves = self._rings.leaving(self.source)
        self._forms: Forms = forms(
            self.source, {*self._clamps, *crossings}, list(self.functions.values())
        )
        computed = {
            i
            for i, op in enumerate(self.source.ops)
            if any(self._forms.form[v] != CONST for v in op.results)
        }
        if not self._rings.others <= computed:
            raise self._mismatch("a ring of an op that takes none")

    def run(self) -> Module:
        """The lowered module.

        Raises:
            MpccError: ``E-lower-format``: a format does not fit the ring; names the op.
        """
        number = 0
        for function in (self.source, *self.functions.values()):
            for op in function.ops:
                self._index.update(dict.fromkeys(op.results, number))
                if not op.results:
                    self._number[op] = number
                number += 1
        self._run(self.source)
        return self.target

    def _run(self, function: Function) -> None:
        for op in function.ops:
            index = self._index[op.results[0]] if op.results else self._number[op]
            try:
                if is_call(op):
                    self._call(op)
                else:
                    self._lower(index, op)
            except InferenceError as error:
                raise MpccError.of("E-lower-format", str(error), op.loc or op.name) from None

    def _call(self, op: Op) -> None:
        """A call; of its function's first one, the function too."""
        source = self.functions[op.attrs["callee"]]
        if source.name not in self._constants_of:
            self._enter(source)
        function = self.target.functions[source.name]
        given = dict(zip(source.args, op.operands, strict=True))
        operands = []
        for arg in source.args:
            if arg not in self._entries:
                continue
            x, width = self.act(given[arg]), secure_type(self._plain[arg]).width
            if secure_type(x).width != width:
                x = self.emit(secure.ShiftLeft, [x], {"amount": 0, "width": width}, op.loc)
            operands.append(x)
        for arg, frac, ring in self._constants_of[source.name]:
            with self.within(ring):
                operands.append(self.const(given[arg], frac))
        types = tuple(str(v.type) for v in function.returns)
        attrs = {"callee": source.name, "number": op.attrs["number"], "types": types}
        made = self._into.append(secure.Call, operands, attrs, op.loc)
        for value, result in zip(op.results, made.results, strict=True):
            self._plain[value] = self._activation[value] = result
            self._bits[value] = secure_type(result).width - secure_type(result).frac

    def _enter(self, source: Function) -> None:
        """Lower a function."""
        outer, self._into = self._into, Function(source.name)
        self._constants_of[source.name] = []
        self.target.functions[source.name] = self._into
        entries = {op.operands[0]: op for op in source.ops if op.definition is tensor.Activation}
        for arg in source.args:
            self._owner[arg] = source.name
            if self._forms.form[arg] == CONST:
                continue
            entry = entries.get(arg)
            if entry is None:
                raise MpccError.of("E-lower-op", "an argument is used as it is", f"@{source.name}")
            self._ring = self.phi.ring
            type_, width = tensor_type(arg), self.result_width(entry, self.phi.frac)
            made = SecureType(type_.shape, self.phi.ring, self.phi.frac, width, type_.visibility)
            self._entries.add(arg)
            self._plain[arg] = self._activation[arg] = self._argument(made)
            self._bits[arg] = width - self.phi.frac
        self._run(source)
        self._into.returns = [self._truncated(v) for v in source.returns]
        self._into, self._ring = outer, self.phi.ring

    def _argument(self, type_: SecureType) -> Value:
        """A new argument of the function that is being lowered."""
        arg = Value(type_, None, len(self._into.args))
        self._into.args.append(arg)
        return arg

    def lowered(self, value: Value) -> Value:
        """What a value that is no constant became, as produced; after :meth:`run`."""
        return self._plain[value]

    def produced(self, value: Value) -> Value | None:
        """Like :meth:`lowered`; None for a constant, which is encoded where it is used."""
        return self._plain.get(value)

    def used(self, value: Value, opened: bool) -> Value | None:
        """What users of a value take: truncated and clamped where they ask for that.

        None for a constant; after :meth:`run`. ``opened``: all users are outputs.
        """
        plain = self._plain.get(value)
        if plain is None or not (opened or value in self._forms.demanded):
            return plain
        return self._activation.get(value, plain)

    def _mismatch(self, what: str) -> MpccError:
        return MpccError.of("E-phi-mismatch", f"the formats are for another model: {what}")

    def _rule(self, op: Op) -> Rule:
        rule = self.rules.get(declaration(op))
        if rule is None:
            raise MpccError.of("E-lower-op", f"{op.name} has no secure form", op.loc)
        return rule

    def _lower(self, index: int, op: Op) -> None:
        if op.results and all(self._forms.form[v] == CONST for v in op.results):
            return  # encoded where it is used
        kind = kind_of(op)
        if kind.ranged != (index in self._ranges):
            raise self._mismatch(f"op {index} is {op.name}")
        self._ring = self._rings.of(index)
        if kind is Kind.OUTPUT:
            # Opened in the ring that it was computed in.
            self._ring = self._rings.of(self._index.get(op.operands[0], index))
        results = self._rule(op)(self, op, self._operands(op, kind))
        for value, lowered in zip(op.results, results, strict=True):
            self._plain[value] = lowered
            if kind.ranged:
                self._bits[value] = self._ranges[index]
            elif isinstance(lowered.type, SecureType):
                self._bits[value] = lowered.type.width - lowered.type.frac

    def _operands(self, op: Op, kind: Kind) -> list[Value]:
        """The operands in the form that the kind demands; see :data:`Rule`."""
        match kind:
            case Kind.PRODUCT:
                chosen = zip(factors(op), multiplier_is_weight(op, self._forms), strict=True)
                return [
                    self.const(v, self.phi.weight_frac) if is_weight else self.act(v)
                    for v, is_weight in chosen
                ]
            case Kind.SUM:
                frac = self._common_fraction(op)
                shape = np.broadcast_shapes(*(tensor_type(v).shape for v in op.operands))
                return [self.summand(v, frac, shape) for v in op.operands]
            case Kind.STRUCTURAL:
                frac = self._common_fraction(op)
                return [self.summand(v, frac, tensor_type(v).shape) for v in op.operands]
            case Kind.NONLINEAR | Kind.FUNCTION:
                if declaration(op).fine:
                    return [self.taken(v) for v in op.operands]
                own = declaration(op).encodes
                constant = {v for v in op.operands if own and self._forms.form[v] == CONST}
                return [v if v in constant else self.act(v) for v in op.operands]
            case Kind.OUTPUT:
                (value,) = op.operands
                x = self.taken(value)
                if self._forms.form[value] in (BIT, POSITION):
                    return [x]
                return [self.act(value) if secure_type(x).frac > self.phi.frac else x]
        return []

    def _common_fraction(self, op: Op) -> int:
        """The largest fraction of the operands as taken; constants take any."""
        taken = [
            secure_type(self.taken(v)).frac
            for v in op.operands
            if self._forms.form[v] not in (CONST, BIT, POSITION)
        ]
        return max(taken, default=self.phi.frac)

    # --- for rules ---

    @property
    def ring(self) -> int:
        """Bits of the ring in which the op being lowered is computed."""
        return self._ring

    @contextmanager
    def within(self, ring: int) -> Iterator[None]:
        """Compute in another ring for a while; the rule's results must be of the op's own one."""
        own, self._ring = self._ring, ring
        try:
            yield
        finally:
            self._ring = own

    def emit(
        self,
        definition: type[Operation],
        operands: Sequence[Value],
        attrs: Attributes,
        loc: str,
    ) -> Value:
        """Append a secure op with one result."""
        return self._into.append(definition, operands, attrs, loc).result

    def effect(
        self,
        definition: type[Operation],
        operands: Sequence[Value],
        attrs: Attributes,
        loc: str,
    ) -> None:
        """Append a secure op without a result."""
        self._into.append(definition, operands, attrs, loc)

    def spread(self, x: Value, shape: Shape, loc: str) -> Value:
        """A number repeated to a shape that it broadcasts to."""
        have = secure_type(x).shape
        if have == shape:
            return x
        if not shape:  # the one element of a constant
            return self.emit(secure.Reshape, [x], {"shape": shape}, loc)
        dims = tuple(range(len(shape) - len(have), len(shape)))
        return self.emit(secure.Broadcast, [x], {"shape": shape, "dims": dims}, loc)

    def constant(self, like: Value, raw: int, shape: Shape, loc: str) -> Value:
        """A public raw constant of the fraction of ``like``, which has an element at least.

        It is a pad's, cut off: no protocol needs a rule of its own for it.
        """
        size, width = element_count(secure_type(like).shape), max(1, raw.bit_length())
        first = {"starts": (0,), "limits": (1,), "strides": (1,)}
        x = self.emit(secure.Reshape, [like], {"shape": (size,)}, loc)
        x = self.emit(secure.Slice, [x], first, loc)
        if secure_type(x).width < width:
            x = self.emit(secure.ShiftLeft, [x], {"amount": 0, "width": width}, loc)
        x = self.emit(secure.Pad, [x], {"low": (1,), "high": (0,), "value": raw}, loc)
        x = self.emit(secure.Slice, [x], first, loc)
        if secure_type(x).width > width:
            x = self.emit(secure.ShiftLeft, [x], {"amount": 0, "width": width}, loc)
        return self.spread(x, shape, loc)

    def word(self, bit: Value, loc: str) -> Value:
        """Truth values as words 0 and 1 of no fraction; a bit is converted once in each ring."""
        if isinstance(bit.type, SecureType):
            return self.cast(bit, loc)
        key = (bit, self.ring)
        if key not in self._words:
            self._words[key] = self.emit(secure.FromBit, [bit], {"ring": self.ring}, loc)
        return self._words[key]

    def cast(self, x: Value, loc: str) -> Value:
        """A number in the ring of the op being lowered; bits have none."""
        if not isinstance(x.type, SecureType) or x.type.ring == self.ring:
            return x
        key = (x, self.ring)
        if key not in self._cast:
            self._cast[key] = self.emit(secure.Cast, [x], {"ring": self.ring}, loc)
        return self._cast[key]

    def index(self, op: Op) -> int:
        """The op's number, by which Phi calls it."""
        return self._index[op.results[0]]

    def width(self, bits: int, frac: int) -> int:
        """Width of values below 2^bits at a fraction."""
        return max(1, bits + frac)

    def result_width(self, op: Op, frac: int) -> int:
        """Width at a fraction of an op's result that has a range in Phi."""
        return self.width(self._ranges[self.index(op)], frac)

    def act(self, value: Value) -> Value:
        """The value as an activation in the ring of the op being lowered."""
        if self._forms.form[value] == CONST:
            return self.const(value, self.phi.frac)
        return self.cast(self._truncated(value), _loc(value))

    def _truncated(self, value: Value) -> Value:
        """The value in its own ring, truncated and clamped if need be; made once."""
        if value in self._activation:
            return self._activation[value]
        frac, loc = self.phi.frac, _loc(value)
        x = self._plain[value]
        if self._forms.form[value] in (BIT, POSITION):
            return x
        clamp = self._clamps.get(self._index[value])
        type_ = secure_type(x)
        if type_.frac > frac:
            amount = type_.frac - frac
            width = self.width(self._bits[value], frac)
            if clamp is not None and self.phi.policy == "guarded":
                # Whatever was truncated, the result stays below this: the clamp is sound.
                width = type_.ring - amount
            rounding = "exact" if value in self._forms.exact else "stochastic"
            attrs = {"amount": amount, "rounding": rounding, "width": width}
            if clamp is None and value in self._leaves and type_.ring - amount >= self.ring:
                # A truncation into the smaller ring is cheaper than one inside the larger.
                attrs["ring"] = self.ring
            x = self.emit(secure.Truncate, [x], attrs, loc)
        if clamp is not None:
            width = self.width(clamp, frac)
            top = (1 << width) - 1
            x = self.emit(secure.Clamp, [x], {"lo": -top, "hi": top, "width": width}, loc)
        self._activation[value] = x
        return x

    def const(self, value: Value, frac: int) -> Value:
        """A constant, possibly moved by structural ops, encoded with ``frac`` fraction bits."""
        key = (value, frac, self.ring)
        if key in self._constant:
            return self._constant[key]
        op = value.op
        results: Sequence[Value]
        if op is None:
            type_, width = tensor_type(value), self.width(self.phi.weight_bits, frac)
            made_type = SecureType(type_.shape, self.ring, frac, width, type_.visibility)
            self._constant[key] = self._argument(made_type)
            self._constants_of[self._owner[value]].append(key)
            return self._constant[key]
        if op.definition is tensor.Weight:
            results = [self._weight(op, frac)]
        else:
            operands = [self.const(v, frac) for v in op.operands]
            results = self._rule(op)(self, op, operands)
        made = zip(op.results, results, strict=True)
        self._constant.update({(v, frac, self.ring): r for v, r in made})
        return self._constant[key]

    def _weight(self, op: Op, frac: int) -> Value:
        name = op.attrs["name"]
        if self._names.setdefault(name, (frac, self.ring)) != (frac, self.ring):
            # encode_weights cuts this off again.
            name = f"{name}:f{frac}" + ("" if self.ring == self.phi.ring else f"z{self.ring}")
        attrs = {
            "name": name,
            "owner": op.attrs["owner"],
            "shape": op.attrs["shape"],
            "ring": self.ring,
            "frac": frac,
            "width": self.width(self.phi.weight_bits, frac),
        }
        return self.emit(secure.Weight, [], attrs, op.loc)

    def summand(self, value: Value, frac: int, shape: Shape) -> Value:
        """The value at a fraction and shape, widened and broadcast if need be; bits as they are."""
        loc = _loc(value)
        if self._forms.form[value] in (BIT, POSITION):
            return self.cast(self._plain[value], loc)
        if self._forms.form[value] == CONST:
            x = self.const(value, frac)
        else:
            x = self.taken(value)
            if secure_type(x).frac > frac:
                x = self.act(value)
            amount = frac - secure_type(x).frac
            if amount:
                width = secure_type(x).width + amount
                x = self.emit(secure.ShiftLeft, [x], {"amount": amount, "width": width}, loc)
        return self.spread(x, shape, loc)

    def taken(self, value: Value) -> Value:
        """The value in the form that sums, structural ops and outputs take."""
        form = self._forms.taken(value)
        if form == ACT:
            return self.act(value)
        if form == CONST:
            return self.const(value, self.phi.frac)
        return self.cast(self._plain[value], _loc(value))


def secure_type(value: Value) -> SecureType:
    """The type of a secure value that is no bit."""
    assert isinstance(value.type, SecureType)
    return value.type


def tensor_type(value: Value) -> TensorType:
    """The type of a value of the tensor level."""
    assert isinstance(value.type, TensorType)
    return value.type


def _loc(value: Value) -> str:
    return value.op.loc if value.op is not None else ""
