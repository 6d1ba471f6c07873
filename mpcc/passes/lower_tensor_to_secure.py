"""lower-tensor-to-secure: real-valued ops become fixed-point ops in the formats of Phi.

Assumes: a tensor module whose ops all have a secure form, and the Phi that the analysis made for
this module. Sees the architecture, Phi and the options, never a value: the same text comes out
whatever the weights are.

Before::

    %2 = tensor.conv(%0, %1, %b) : tensor<1x8x4x4xf32, secret>
    %3 = tensor.relu(%2) : tensor<1x8x4x4xf32, secret>

With 19 fraction bits each and |x| < 2^12. After::

    %3 = secure.conv(%0, %1) {width = 50} : secure<1x8x4x4, z64, f38, k50, secret>
    %4 = secure.broadcast(%b) ...
    %5 = secure.add(%3, %4) {width = 50} : secure<1x8x4x4, z64, f38, k50, secret>
    %6 = secure.truncate(%5) {amount = 19, width = 31} : secure<1x8x4x4, z64, f19, k31, secret>
    %7 = secure.negative(%6) : bit<1x8x4x4, secret>
    %8 = secure.select(%7, %6) {invert = true, width = 31} : ...
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.analysis.forms import ACT, CONST, Forms, forms, multiplier_is_weight
from mpcc.ir.core import Module, Op, Value
from mpcc.ir.define import Attributes, InferenceError, Operation
from mpcc.ir.ops import secure, tensor
from mpcc.ir.phi import DEFAULT_RANGE, FormatOptions, Phi
from mpcc.ir.types import SecureType, TensorType
from mpcc.passes.base import Pass, Result

__all__ = ["LowerTensorToSecure", "build_secure", "encode_weights", "range_bits"]

Array = npt.NDArray[Any]


def range_bits(magnitude: float) -> int:
    """Smallest b with magnitude < 2^b; far below any format for zero."""
    return math.frexp(magnitude)[1] if magnitude > 0 else -64


def build_secure(module: Module, phi: Phi, options: FormatOptions | None = None) -> Module:
    """The secure module of a tensor module.

    Args:
        module: a verified tensor module.
        phi: formats from :func:`mpcc.passes.analyse.analyse` for this module.
        options: the options that the analysis had.

    Raises:
        MpccError: Phi does not belong to this module or does not fit the ring.
    """
    if module.level != "tensor":
        raise MpccError.of("E-lower-level", f"a tensor module is needed, not {module.level}")
    return _Lowering(module, phi, options or FormatOptions()).run()


@dataclass(frozen=True)
class LowerTensorToSecure(Pass):
    """The secure module of a tensor module, which stays as it is.

    Attributes:
        phi: formats of this module.
        options: the options that the analysis had.
    """

    name: ClassVar[str] = "lower-tensor-to-secure"
    level: ClassVar[str] = "tensor"
    phi: Phi
    options: FormatOptions = field(default_factory=FormatOptions)

    def run(self, module: Module) -> Result:
        """Lower; Phi that belongs to another module is refused."""
        return Result(build_secure(module, self.phi, self.options), True)


def encode_weights(constants: Mapping[str, Array], module: Module) -> dict[str, Array]:
    """Raw int64 arrays of all ``secure.weight`` ops, by name; runs at the model owner.

    Args:
        constants: real arrays by the names that the tensor module uses.
        module: the secure module.

    Raises:
        MpccError: a constant is missing, has another shape, or does not fit its format.
    """
    problems: list[Diagnostic] = []
    raw: dict[str, Array] = {}
    for op in module.main.walk(secure.Weight.name):
        name, attrs = op.attrs["name"], op.attrs
        source = name if name in constants else name.rpartition(":f")[0]
        if source not in constants:
            problems.append(Diagnostic("E-weights-missing", f"no constant {name}"))
            continue
        array = np.asarray(constants[source], np.float64)
        if array.shape != attrs["shape"]:
            problems.append(
                Diagnostic("E-weights-shape", f"{source} is {array.shape}, not {attrs['shape']}")
            )
            continue
        limit = 2.0 ** attrs["width"]
        scaled = np.rint(np.ldexp(array, attrs["frac"]))
        if not bool(np.all(np.abs(scaled) < limit)):
            problems.append(
                Diagnostic(
                    "E-weights-range",
                    f"{source} does not fit its format",
                    fix="compile again: these are other weights than the ones analysed",
                )
            )
            continue
        raw[name] = scaled.astype(np.int64)
    collect(problems)
    return raw


class _Lowering:
    """One run over @main; emits truncations and clamps where they are first needed."""

    def __init__(self, module: Module, phi: Phi, options: FormatOptions) -> None:
        self.source = module.main
        self.phi = phi
        self.options = options
        self.clamps = dict(phi.clamps)
        self.ranges = dict(phi.ranges)
        self.inputs = dict(phi.inputs)
        self.target = Module("secure", {"range_policy": phi.policy})
        self.plain: dict[Value, Value] = {}
        self.activation: dict[Value, Value] = {}
        self.constant: dict[tuple[Value, int], Value] = {}
        self.bits: dict[Value, int] = {}
        self.index: dict[Value, int] = {}
        self.names: dict[str, int] = {}
        if not set(self.clamps) <= {i for i, op in enumerate(self.source.ops) if op.results}:
            raise self._mismatch("a clamp on an op without a result")
        self.forms: Forms = forms(self.source, self.clamps)

    def _mismatch(self, what: str) -> MpccError:
        return MpccError.of("E-phi-mismatch", f"the formats are for another model: {what}")

    def run(self) -> Module:
        """The lowered module."""
        for index, op in enumerate(self.source.ops):
            if op.results:
                self.index[op.result] = index
            try:
                self._lower(index, op)
            except InferenceError as error:
                raise MpccError.of("E-lower-format", str(error), op.loc or op.name) from None
        return self.target

    # --- helpers ---

    def emit(
        self,
        definition: type[Operation],
        operands: Sequence[Value],
        attrs: Attributes,
        loc: str,
    ) -> Value:
        return self.target.main.append(definition, operands, attrs, loc).result

    def width(self, bits: int, frac: int) -> int:
        return max(1, bits + frac)

    def _loc(self, value: Value) -> str:
        return value.op.loc if value.op is not None else ""

    def act(self, value: Value) -> Value:
        """The value at the activations' fraction, truncated and clamped if need be; made once."""
        if value in self.activation:
            return self.activation[value]
        frac, loc = self.phi.frac, self._loc(value)
        if self.forms.form[value] == CONST:
            return self.const(value, frac)
        x = self.plain[value]
        bits = self.bits[value]
        clamp = self.clamps.get(self.index[value])
        type_ = _type(x)
        if type_.frac > frac:
            amount = type_.frac - frac
            width = self.width(bits, frac)
            if clamp is not None and self.phi.policy == "guarded":
                # Whatever was truncated, the result stays below this: the clamp is sound.
                width = type_.ring - amount
            rounding = "exact" if value in self.forms.exact else "stochastic"
            attrs = {"amount": amount, "rounding": rounding, "width": width}
            x = self.emit(secure.Truncate, [x], attrs, loc)
        if clamp is not None:
            width = self.width(clamp, frac)
            top = (1 << width) - 1
            x = self.emit(secure.Clamp, [x], {"lo": -top, "hi": top, "width": width}, loc)
        self.activation[value] = x
        return x

    def const(self, value: Value, frac: int) -> Value:
        """A constant, possibly reshaped, encoded with ``frac`` fraction bits."""
        if (value, frac) in self.constant:
            return self.constant[value, frac]
        op = value.op
        assert op is not None
        if op.definition is tensor.Weight:
            name = op.attrs["name"]
            if self.names.setdefault(name, frac) != frac:
                name = f"{name}:f{frac}"
            attrs = {
                "name": name,
                "owner": op.attrs["owner"],
                "shape": op.attrs["shape"],
                "ring": self.phi.ring,
                "frac": frac,
                "width": self.width(self.phi.weight_bits, frac),
            }
            result = self.emit(secure.Weight, [], attrs, op.loc)
        else:
            result = self.reshape(op, self.const(op.operands[0], frac))
        self.constant[value, frac] = result
        return result

    def summand(self, value: Value, frac: int, shape: tuple[int, ...]) -> Value:
        """The value at a fraction and shape, widened and broadcast if need be."""
        loc = self._loc(value)
        if self.forms.form[value] == CONST:
            x = self.const(value, frac)
        else:
            x = self.taken(value)
            if _type(x).frac > frac:
                x = self.act(value)
            amount = frac - _type(x).frac
            if amount:
                width = _type(x).width + amount
                x = self.emit(secure.ShiftLeft, [x], {"amount": amount, "width": width}, loc)
        rank = len(_type(x).shape)
        if _type(x).shape != shape:
            dims = tuple(range(len(shape) - rank, len(shape)))
            x = self.emit(secure.Broadcast, [x], {"shape": shape, "dims": dims}, loc)
        return x

    def taken(self, value: Value) -> Value:
        """The value in the form that sums, shape ops and outputs take."""
        form = self.forms.taken(value)
        if form == ACT:
            return self.act(value)
        return self.const(value, self.phi.frac) if form == CONST else self.plain[value]

    def reshape(self, op: Op, x: Value) -> Value:
        """A pad, reshape or transpose of x."""
        if op.definition is tensor.Reshape:
            return self.emit(secure.Reshape, [x], op.attrs, op.loc)
        if op.definition is tensor.Transpose:
            return self.emit(secure.Transpose, [x], op.attrs, op.loc)
        type_ = _type(x)
        raw = int(np.rint(math.ldexp(op.attrs["value"], type_.frac)))
        if raw.bit_length() > type_.width:
            attrs: Attributes = {"amount": 0, "width": raw.bit_length()}
            x = self.emit(secure.ShiftLeft, [x], attrs, op.loc)
        attrs = {"low": op.attrs["low"], "high": op.attrs["high"], "value": raw}
        return self.emit(secure.Pad, [x], attrs, op.loc)

    # --- ops ---

    def _lower(self, index: int, op: Op) -> None:
        definition = op.definition
        if definition is tensor.Output:
            self._output(op)
            return
        value = op.result
        if self.forms.form[value] == CONST:
            return
        ranged = definition in (
            tensor.Input,
            tensor.Conv,
            tensor.MatMul,
            tensor.Add,
            tensor.Sub,
        )
        if ranged != (index in self.ranges):
            raise self._mismatch(f"op {index} is {op.name}")
        if ranged:
            self.bits[value] = self.ranges[index]
            rules = {"input": self._input, "conv": self._conv, "matmul": self._matmul}
            rule = rules.get(op.name.removeprefix("tensor."), self._sum)
            self.plain[value] = rule(op, self.bits[value])
            return
        if definition is tensor.Relu:
            self.plain[value] = self._relu(self.act(op.operands[0]), op.loc)
        elif definition is tensor.MaxPool:
            self.plain[value] = self._maxpool(op, self.act(op.operands[0]))
        else:
            self.plain[value] = self.reshape(op, self.taken(op.operands[0]))
        type_ = _type(self.plain[value])
        self.bits[value] = type_.width - type_.frac

    def _output(self, op: Op) -> None:
        (value,) = op.operands
        x = self.taken(value)
        if _type(x).frac > self.phi.frac:
            x = self.act(value)
        attrs = {"name": op.attrs["name"], "owner": op.attrs["owner"]}
        self.target.main.append(secure.Reveal, [x], attrs, op.loc)

    def _input(self, op: Op, bits: int) -> Value:
        name = op.attrs["name"]
        index = self.index[op.result]
        if name in self.options.input_ranges:
            lo, hi = self.options.input_ranges[name]
        elif index in self.inputs:
            lo, hi = -(2.0 ** self.inputs[index]), 2.0 ** self.inputs[index]
        else:
            lo, hi = DEFAULT_RANGE
        attrs = {
            "name": name,
            "owner": op.attrs["owner"],
            "shape": op.attrs["shape"],
            "ring": self.phi.ring,
            "frac": self.phi.frac,
            "width": self.width(bits, self.phi.frac),
            "lo": float(lo),
            "hi": float(hi),
        }
        return self.emit(secure.Input, [], attrs, op.loc)

    def _factors(self, op: Op) -> tuple[Value, Value]:
        a, b = (
            self.const(v, self.phi.weight_frac) if is_weight else self.act(v)
            for v, is_weight in zip(
                op.operands[:2], multiplier_is_weight(op, self.forms), strict=True
            )
        )
        return a, b

    def _conv(self, op: Op, bits: int) -> Value:
        x, w = self._factors(op)
        frac = _type(x).frac + _type(w).frac
        width = self.width(bits, frac)
        y = self.emit(secure.Conv, [x, w], {**op.attrs, "width": width}, op.loc)
        if len(op.operands) == 2:
            return y
        value = op.operands[2]
        bias = self.summand(value, frac, _tensor(value).shape)
        shape = _type(y).shape
        bias = self.emit(secure.Broadcast, [bias], {"shape": shape, "dims": (1,)}, op.loc)
        return self.emit(secure.Add, [y, bias], {"width": width}, op.loc)

    def _matmul(self, op: Op, bits: int) -> Value:
        a, b = self._factors(op)
        width = self.width(bits, _type(a).frac + _type(b).frac)
        return self.emit(secure.MatMul, [a, b], {"width": width}, op.loc)

    def _sum(self, op: Op, bits: int) -> Value:
        fracs = [_type(self.taken(v)).frac for v in op.operands if self.forms.form[v] != CONST]
        frac = max(fracs, default=self.phi.frac)
        shape = _tensor(op.result).shape
        operands = [self.summand(v, frac, shape) for v in op.operands]
        definition = secure.Add if op.definition is tensor.Add else secure.Sub
        return self.emit(definition, operands, {"width": self.width(bits, frac)}, op.loc)

    def _relu(self, x: Value, loc: str) -> Value:
        bit = self.emit(secure.Negative, [x], {}, loc)
        attrs = {"invert": True, "width": _type(x).width}
        return self.emit(secure.Select, [bit, x], attrs, loc)

    def _max(self, a: Value, b: Value, loc: str) -> Value:
        width = max(_type(a).width, _type(b).width)
        d = self.emit(secure.Sub, [a, b], {"width": width + 1}, loc)
        more = self._relu(d, loc)
        return self.emit(secure.Add, [b, more], {"width": width}, loc)

    def _maxpool(self, op: Op, x: Value) -> Value:
        """Maximum along one axis after the other, each as a tournament of strided slices."""
        kernel, strides, pads = op.attrs["kernel"], op.attrs["strides"], op.attrs["pads"]
        rank = len(kernel)
        if any(pads):
            attrs: Attributes = {
                "low": (0, 0, *pads[:rank]),
                "high": (0, 0, *pads[rank:]),
                "value": 1 - (1 << _type(x).width),
            }
            x = self.emit(secure.Pad, [x], attrs, op.loc)
        for i in reversed(range(rank)):
            axis, shape = 2 + i, _type(x).shape
            count = (shape[axis] - kernel[i]) // strides[i] + 1
            players = []
            for t in range(kernel[i]):
                starts, limits, steps = [0] * len(shape), list(shape), [1] * len(shape)
                starts[axis], limits[axis] = t, t + (count - 1) * strides[i] + 1
                steps[axis] = strides[i]
                attrs = {
                    "starts": tuple(starts),
                    "limits": tuple(limits),
                    "strides": tuple(steps),
                }
                players.append(self.emit(secure.Slice, [x], attrs, op.loc))
            while len(players) > 1:
                pairs = zip(players[0::2], players[1::2], strict=False)
                odd = players[-1:] if len(players) % 2 else []
                players = [self._max(a, b, op.loc) for a, b in pairs] + odd
            x = players[0]
        return x


def _type(value: Value) -> SecureType:
    assert isinstance(value.type, SecureType)
    return value.type


def _tensor(value: Value) -> TensorType:
    assert isinstance(value.type, TensorType)
    return value.type
