"""What a secure program costs, estimated from shapes, widths and rings alone.

The formats are chosen before a program is lowered to a protocol, many times over. So this is no
count: bytes are those of the protocol's formulas (docs/protocols.md) with messages of any number of
bits, comparisons interpolated between a few widths, and rounds as if the parties' roles always came
out well. A test holds both against what is counted in the lowered program.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mpcc.ir.core import Module, Op, Value
from mpcc.ir.define import Operation
from mpcc.ir.ops import secure
from mpcc.ir.types import BitType, SecureType, element_count

__all__ = ["ROUND_BYTES", "Price", "price"]

ROUND_BYTES = 750_000
"""What a round is worth, over the six links of three parties: as many bytes as they carry in it at
10 Gbit/s and 0.1 ms each way."""

_WIDTHS = (0, 1, 4, 8, 15, 16, 20, 28, 32, 45, 62)
_BITS = (0, 2, 17, 32, 81, 89, 89, 135, 159, 245, 378)
"""Bits per element of comparisons of these widths, by the cheapest plan."""

_FLAT_WIDTHS = (16, 20, 28, 32)
_FLAT_BITS = (89, 130, 308, 517)
"""The same in two rounds rather than three, for few elements."""

_FLAT_EXTRA = 100_000
"""Bytes that a comparison may take more than the cheapest one, for a round less."""

_ONE_LEVEL = 16
"""Widest comparison whose cheapest plan takes two rounds."""


@dataclass(frozen=True)
class Price:
    """An estimate.

    Attributes:
        bytes: payload of one run over all links, those of the owners of inputs and outputs
            included.
        rounds: of one run.
        ops: bytes of every op of @main.
    """

    bytes: float
    rounds: int
    ops: tuple[float, ...]

    @property
    def total(self) -> float:
        """Bytes, with rounds at :data:`ROUND_BYTES`."""
        return self.bytes + ROUND_BYTES * self.rounds


@dataclass(frozen=True)
class _Shares:
    """How a value is held.

    Attributes:
        full: round after which all have their shares.
        early: round after which what starts from a pair, or from the first shares, may start.
        summands: parties that hold a summand of their own; 0: the value is replicated.
        public: everybody knows it.
    """

    full: int = 0
    early: int = 0
    summands: int = 0
    public: bool = False


def _between(x: float, xs: tuple[int, ...], ys: tuple[int, ...]) -> float:
    i = min(max(bisect_right(xs, x), 1), len(xs) - 1)
    slope = (ys[i] - ys[i - 1]) / (xs[i] - xs[i - 1])
    return ys[i - 1] + (x - xs[i - 1]) * slope


def _comparison(width: int, lanes: int) -> tuple[float, int]:
    """Bytes and rounds."""
    bits = _between(width, _WIDTHS, _BITS)
    if width <= _ONE_LEVEL:
        return bits * lanes / 8, 2
    if width <= _FLAT_WIDTHS[-1]:
        flat = _between(width, _FLAT_WIDTHS, _FLAT_BITS)
        if (flat - bits) * lanes / 8 <= _FLAT_EXTRA:
            return flat * lanes / 8, 2
    return bits * lanes / 8, 3


class _Count:
    """One walk over @main."""

    def __init__(self, module: Module) -> None:
        self.shares: dict[Value, _Shares] = {}
        self.whole: set[Value] = set()
        self.ops: list[float] = []
        self.rounds = 0
        for op in module.main.ops:
            self.ops.append(0.0)
            held = self._step(op)
            self.shares.update(dict.fromkeys(op.results, held))
            self.rounds = max(self.rounds, held.full)

    def _pay(self, bits: float, lanes: int) -> None:
        self.ops[-1] += bits * lanes / 8

    def _replicated(self, value: Value) -> _Shares:
        """A value as a step takes it that needs replicated shares; reshared once."""
        held = self.shares[value]
        if not held.summands:
            return held
        if value not in self.whole:
            self.whole.add(value)
            type_ = value.type
            assert isinstance(type_, SecureType)
            self._pay(3 * type_.ring, element_count(type_.shape))
        return _Shares(held.full + 1, held.early + 1)

    def _step(self, op: Op) -> _Shares:
        if op.definition in (secure.Input, secure.Weight):
            return self._source(op)
        held = [self.shares[v] for v in op.operands]
        if held and all(h.public for h in held) and op.definition is not secure.Reveal:
            return held[0]
        if issubclass(op.definition, secure.Product):
            both = not any(h.public for h in held)
            if both:
                held = [self._replicated(v) for v in op.operands]
            return self._joined(held, 3 if both else 0)
        rule = _RULES.get(op.definition)
        if rule is not None:
            return rule(self, op)
        return self._joined(held, 0)

    def _joined(self, held: list[_Shares], summands: int) -> _Shares:
        """Of what is computed without a message."""
        secret = [h for h in held if not h.public]
        return _Shares(
            max((h.full for h in secret), default=0),
            max((h.early for h in secret), default=0),
            max([summands, *(h.summands for h in secret)]),
        )

    def _source(self, op: Op) -> _Shares:
        type_ = op.result.type
        assert isinstance(type_, SecureType)
        public = type_.visibility == "public"
        if op.definition is secure.Weight:
            return _Shares(public=public)
        self._pay((3 if public else 2) * type_.ring, element_count(type_.shape))
        return _Shares(1, 1, public=public)

    def truncate(self, op: Op) -> _Shares:
        (x,), amount = op.operands, op.attrs["amount"]
        type_, held = x.type, self.shares[x]
        assert isinstance(type_, SecureType)
        lanes, senders = element_count(type_.shape), max(held.summands - 1, 0)
        exchanged = held.early + bool(senders)
        if op.attrs["ring"]:
            to = op.attrs["ring"]
            self._pay(to + senders * (to + amount), lanes)
            return _Shares(held.early + 1, exchanged)
        self._pay(type_.ring + 3 * amount + senders * type_.ring, lanes)
        if op.attrs["rounding"] == "stochastic":
            return _Shares(held.early + 2, exchanged)
        bytes_, rounds = _comparison(amount, lanes)
        self.ops[-1] += bytes_
        self._pay(3 * type_.ring, lanes)
        done = exchanged + rounds + 2
        return _Shares(done, done - 1)

    def negative(self, op: Op) -> _Shares:
        (x,) = op.operands
        type_, held = x.type, self._replicated(x)
        assert isinstance(type_, SecureType)
        coarse = op.attrs["coarse"]
        width = type_.width + 1 - coarse if coarse else type_.width
        bytes_, rounds = _comparison(width, element_count(type_.shape))
        self.ops[-1] += bytes_
        return _Shares(held.early + rounds, held.early + rounds)

    def select(self, op: Op) -> _Shares:
        bit, x = op.operands
        type_ = x.type
        assert isinstance(type_, SecureType)
        held = self._replicated(x)
        self._pay(4 * type_.ring, element_count(type_.shape))
        done = max(self.shares[bit].full, held.full) + 2
        return _Shares(done, done - 1)

    def from_bit(self, op: Op) -> _Shares:
        type_ = op.result.type
        assert isinstance(type_, SecureType)
        self._pay(3 * type_.ring, element_count(type_.shape))
        done = self.shares[op.operands[0]].full + 2
        return _Shares(done, done - 1)

    def clamp(self, op: Op) -> _Shares:
        (x,) = op.operands
        type_, held = x.type, self._replicated(x)
        assert isinstance(type_, SecureType)
        lanes = 2 * element_count(type_.shape)
        bytes_, rounds = _comparison(min(type_.width + 1, type_.ring - 2), lanes)
        self.ops[-1] += bytes_
        self._pay(4 * type_.ring, lanes)
        done = max(held.early + rounds, held.full) + 2
        return _Shares(done, done - 1)

    def cast(self, op: Op) -> _Shares:
        (x,), to = op.operands, op.attrs["ring"]
        type_ = x.type
        assert isinstance(type_, SecureType)
        if to <= type_.ring:
            return self.shares[x]
        held = self._replicated(x)
        self._pay(to + 3 * (to - type_.ring), element_count(type_.shape))
        return _Shares(held.early + 2, held.early + 2)

    def fourier(self, op: Op) -> _Shares:
        (x,), attrs = op.operands, op.attrs
        type_, held = x.type, self.shares[x]
        assert isinstance(type_, SecureType)
        senders = max(held.summands - 1, 0)
        bits = 2 * len(attrs["cos"]) * attrs["ring"] + senders * attrs["period"]
        self._pay(bits, element_count(type_.shape))
        done = held.early + 1
        return _Shares(done, done, 2)

    def reveal(self, op: Op) -> _Shares:
        (x,) = op.operands
        held, type_ = self.shares[x], x.type
        if isinstance(type_, BitType):
            self._pay(2, element_count(type_.shape))
        elif isinstance(type_, SecureType):
            self._pay((3 if held.summands else 2) * type_.ring, element_count(type_.shape))
        return _Shares(held.early + 1, held.early + 1)


_RULES: Mapping[type[Operation], Callable[[_Count, Op], _Shares]] = {
    secure.Truncate: _Count.truncate,
    secure.Negative: _Count.negative,
    secure.Select: _Count.select,
    secure.FromBit: _Count.from_bit,
    secure.Clamp: _Count.clamp,
    secure.Cast: _Count.cast,
    secure.Fourier: _Count.fourier,
    secure.Reveal: _Count.reveal,
}


def price(module: Module) -> Price:
    """The estimate for a verified secure module."""
    found = _Count(module)
    return Price(sum(found.ops), found.rounds, tuple(found.ops))
