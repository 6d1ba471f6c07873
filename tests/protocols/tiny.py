"""Complete enumeration of coins over tiny rings, through the product's own lowering code.

A step is recorded over a ring of a few bits (the ring check is lifted for the recording) and
evaluated with one lane per assignment of coins: lane n takes its coins from the bits of n. Words
are kept reduced modulo 2^t after every op; everything else is the ops' own numpy reference.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from mpcc.ir.bitslice import from_words, to_words
from mpcc.ir.core import Function, Value
from mpcc.ir.ops import party, party_base
from mpcc.ir.types import COMPUTE_PLACES, BitsType, RingType, element_count
from mpcc.protocols.base import Add3, Builder, PairBit, Rep, component
from mpcc.protocols.roles import FixedRole


@contextlib.contextmanager
def any_ring(monkeypatch):
    """Allow rings of any size while recording."""
    with monkeypatch.context() as patch:
        patch.setattr(party_base, "checked_ring", lambda cls, ring: ring)
        yield


class Recording:
    """A function being recorded, with named sources of ``lanes`` lanes."""

    def __init__(self, ring, lanes, role=0):
        self.ring, self.lanes = ring, lanes
        self.function = Function("main")
        self.builder = Builder(self.function, FixedRole(role))
        self.given: dict[Value, np.ndarray] = {}

    def source(self, place, word):
        """A ring value at a place that is ``word`` in every lane."""
        value = self.builder.emit(
            party.Weight, (), name="w", shape=(self.lanes,), ring=self.ring, place=place
        )
        self.given[value] = np.full(self.lanes, word % (1 << self.ring), np.uint64)
        return value

    def bit(self, place, bit):
        return self.builder.bit_slice(self.source(place, bit), 1)

    def rep(self, parts):
        own = tuple(self.source(p, parts[i]) for i, p in enumerate(COMPUTE_PLACES))
        after = tuple(self.source(p, parts[(i + 1) % 3]) for i, p in enumerate(COMPUTE_PLACES))
        return Rep(own, after)

    def add3(self, parts):
        return Add3(tuple(self.source(p, x) for p, x in zip(COMPUTE_PLACES, parts, strict=True)))

    def pair_bit(self, role, u, v):
        q0, q1, q2 = role
        return PairBit(q0, self.bit(q0, u), {q: self.bit(q, v) for q in (q1, q2)})

    def streams(self):
        """Bits of every draw by (key, stream)."""
        found = {}
        for op in self.function.walk("party.draw_ring", "party.draw_bits"):
            type_ = op.result.type
            assert isinstance(type_, BitsType | RingType)
            bits = type_.planes if isinstance(type_, BitsType) else self.words(type_) * type_.ring
            found[op.attrs["key"], op.attrs["stream"]] = bits
        return found

    def words(self, type_):
        """Words that a ring value has per lane: rows of a value of one axis more."""
        return element_count(type_.shape) // self.lanes

    def evaluate(self, coins):
        """All values; ``coins`` gives one word per lane for every (key, stream)."""
        env = dict(self.given)
        for op in self.function.ops:
            if not op.results or op.result in env:
                continue
            type_ = op.result.type
            args = [env[v] for v in op.operands]
            if op.definition in (party.DrawRing, party.DrawBits):
                words = coins[op.attrs["key"], op.attrs["stream"]]
                if isinstance(type_, RingType):
                    mask = np.uint64((1 << type_.ring) - 1)
                    shifts = [np.uint64(type_.ring * j) for j in range(self.words(type_))]
                    rows = [(words >> shift) & mask for shift in shifts]
                    env[op.result] = np.stack(rows).reshape(type_.shape)
                else:
                    env[op.result] = pack(words, type_)
                continue
            types = [v.type for v in op.operands]
            result = party_definition(op).evaluate(op.attrs, types, type_, *args)
            if isinstance(type_, RingType):
                result = result.astype(np.uint64) & np.uint64((1 << type_.ring) - 1)
            env[op.result] = result
        return env

    def view(self, env, place):
        """Everything that ``place`` receives: (one integer per lane, bits)."""
        total, used = np.zeros(self.lanes, np.uint64), 0
        for op in self.function.walk("party.transfer"):
            if op.attrs["to"] != place:
                continue
            type_ = op.result.type
            if isinstance(type_, BitsType):
                rows, bits = [unpack(env[op.result], type_)], type_.planes
            else:
                assert isinstance(type_, RingType)
                rows, bits = env[op.result].reshape(-1, self.lanes), type_.ring
            for words in rows:
                total |= words << np.uint64(used)
                used += bits
        return total, used


def party_definition(op) -> Any:
    return op.definition


def pack(words, type_):
    """Lane words -> the buffer of a bits value."""
    return from_words(words, type_.planes)


def unpack(buffer, type_):
    return to_words(buffer, type_.lanes, type_.planes)


def unknown_bits(streams, place):
    """Number of coin bits that ``place`` does not know."""
    return sum(bits for (key, _), bits in streams.items() if place not in key.split("+"))


def coins_for(streams, place, lanes, known):
    """Coins: those that ``place`` does not know from the lane number, the others from ``known``."""
    lane, used, coins = np.arange(lanes, dtype=np.uint64), 0, {}
    for stream, bits in streams.items():
        mask = np.uint64((1 << bits) - 1)
        if place in stream[0].split("+"):
            coins[stream] = np.full(lanes, known.integers(0, 1 << bits), np.uint64)
        else:
            coins[stream] = (lane >> np.uint64(used)) & mask
            used += bits
    return coins


def opened(share, env, ring):
    """The value of a share, one word per lane; copies must agree."""
    mask = np.uint64((1 << ring) - 1)
    if isinstance(share, PairBit):
        held = [unpack(env[v], v.type) for v in share.v.values()]
        np.testing.assert_array_equal(held[0], held[1])
        return unpack(env[share.u], share.u.type) ^ held[0]
    own = [env[v] for v in share.own]
    for i in range(3):
        np.testing.assert_array_equal(env[share.next[i]], own[(i + 1) % 3])
    return (own[0] + own[1] + own[2]) & mask


def held_components(role, c01, c02, c12):
    """Components by index from components by role."""
    q0, q1, q2 = role
    parts = {component(q0, q1): c01, component(q0, q2): c02, component(q1, q2): c12}
    return [parts[i] for i in range(3)]
