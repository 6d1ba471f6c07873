"""What the peeling rule accepts is safe: random programs, all coins enumerated.

Programs of a few ops over tiny words are made at random. Whenever the rule accepts one for a
receiver, the joint distribution of all messages that the receiver gets and of the draws that it
knows is counted over all coins, and must be the same for every secret.
"""

from __future__ import annotations

import numpy as np
import pytest

from mpcc.ir.core import Module, Value
from mpcc.ir.ops import party
from mpcc.ir.types import BitsType, RingType
from mpcc.verify_program import peeling
from mpcc.verify_program.peeling import peel
from mpcc.verify_program.program import DRAWS, check_locality, check_streams, flatten

WORD = 2
"""Bits of a word in the enumeration; the program says 32. The rule's arguments hold for any."""
MASK = (1 << WORD) - 1
COINS = 9
KEYS = ("P0+P1", "P1+P2", "P0+P2", "P0+P1+model", "P1+P2+model")
PARTIES = ("P0", "P1", "P2")


class Maker:
    """A random program on one lane."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.module = Module("party", {})
        self.main = self.module.main
        self.coins = 0
        self.drawn: dict[tuple[str, int], dict[str, Value]] = {}
        secret = self.op(party.Weight, name="w", shape=(1,), ring=32, place="model")
        self.values = [secret, self.op(party.BitSlice, secret, planes=WORD)]

    def op(self, definition, *operands, **attrs):
        return self.main.append(definition, operands, attrs).result

    def pick(self, items):
        return items[int(self.rng.integers(len(items)))]

    def draw(self, like, place):
        """A draw of the type of ``like`` at its place: fresh, or one made before."""
        old = [
            at[place] for at in self.drawn.values() if place in at and at[place].type == like.type
        ]
        if old and (self.rng.random() < 0.15 or self.coins >= COINS):
            return self.pick(old)
        elsewhere = [
            (k, at) for k, at in self.drawn.items() if place in k[0].split("+") and place not in at
        ]
        elsewhere = [
            (k, at)
            for k, at in elsewhere
            if str(next(iter(at.values())).type).split("@")[0] == str(like.type).split("@")[0]
        ]
        if elsewhere and (self.rng.random() < 0.3 or self.coins >= COINS):
            (key, stream), at = self.pick(elsewhere)
        else:
            ring = isinstance(like.type, RingType)
            cost = WORD * like.type.shape[0] if ring else like.type.planes * like.type.lanes
            if self.coins + cost > COINS:
                return None
            self.coins += cost
            key = self.pick([k for k in KEYS if place in k.split("+")])
            stream = len(self.drawn)
            at = self.drawn.setdefault((key, stream), {})
        attrs = {"key": key, "stream": stream, "phase": "setup", "place": place}
        if isinstance(like.type, RingType):
            at[place] = self.op(party.DrawRing, shape=like.type.shape, ring=32, **attrs)
        else:
            attrs |= {"lanes": like.type.lanes, "planes": like.type.planes}
            at[place] = self.op(party.DrawBits, **attrs)
        return at[place]

    def mask(self, v):
        mask = self.draw(v, v.type.place)
        if mask is None:
            return None
        if isinstance(v.type, BitsType):
            return self.op(party.Xor, v, mask)
        if self.rng.random() < 0.3:
            kind, attrs = self.pick(
                [
                    (party.ShiftLeft, {"amount": 1}),
                    (party.MulConst, {"value": 2}),
                    (party.MulConst, {"value": 3}),
                    (party.LowBits, {"count": 1}),
                    (party.ShiftLeft, {"amount": 1}),
                ]
            )
            mask = self.op(kind, mask, **attrs)
        pair = (v, mask) if self.rng.random() < 0.6 else (mask, v)
        return self.op(self.pick([party.Add, party.Sub]), *pair)

    def local(self, v):
        same = [o for o in self.values if o.type == v.type]
        other = self.pick(same)
        if isinstance(v.type, BitsType):
            lanes = [
                o
                for o in self.values
                if isinstance(o.type, BitsType)
                and o.type.place == v.type.place
                and o.type.planes + v.type.planes <= 4
            ]
            kind = self.pick(["xor", "and", "not", "planes", "join", "anf"])
            if kind == "join" and lanes:
                return self.op(party.Join, v, self.pick(lanes))
            if kind == "planes":
                order = self.rng.permutation(v.type.planes)
                count = int(self.rng.integers(1, v.type.planes + 1))
                return self.op(party.Planes, v, indices=tuple(map(int, order[:count])))
            if kind == "anf":
                last = v.type.planes - 1
                return self.op(party.Anf, v, terms=(((0,), (0, last)), ((last,),)))
            if kind == "not":
                return self.op(party.Not, v)
            return self.op(party.Xor if kind == "xor" else party.And, v, other)
        match int(self.rng.integers(9)):
            case 0:
                return self.op(party.Add, v, other)
            case 1:
                return self.op(party.Sub, v, other)
            case 2:
                return self.op(party.Neg, v)
            case 3:
                return self.op(party.MulConst, v, value=int(self.rng.integers(1, 4)))
            case 4:
                return self.op(party.LowBits, v, count=1)
            case 5:
                return self.op(party.ShiftLeft, v, amount=1)
            case 6:
                shift = int(self.rng.integers(WORD))
                return self.op(party.BitSlice, v, planes=WORD - shift, shift=shift)
            case 7:
                return self.op(party.Mul, v, other)
        bits = [
            o
            for o in self.values
            if isinstance(o.type, BitsType) and (o.type.planes, o.type.place) == (1, v.type.place)
        ]
        return self.op(party.NegateIf, self.pick(bits), v) if bits else self.op(party.Neg, v)

    def send(self, v):
        to = self.pick([p for p in PARTIES if p != v.type.place])
        return self.op(party.Transfer, v, to=to, step=f"s{len(self.main.ops)}")

    def make(self, steps):
        for _ in range(steps):
            v = self.pick(self.values)
            dice = self.rng.random()
            if dice < 0.5:
                v = self.mask(v)
                if v is None:
                    continue
                self.values.append(v)
                if self.rng.random() < 0.3:
                    v = self.local(v)
                self.values.append(self.send(v))
            elif dice < 0.95:
                self.values.append(self.local(v))
            else:
                self.values.append(self.send(v))
        return self.module


def evaluate(program, secret):
    """Per op its values for all coins: words [coins, 1], bits [coins, planes]."""
    total, offset = 0, {}
    for op in program.ops:
        if op.name in DRAWS and program.same[op.id] == op.id:
            offset[op.id] = total
            total += WORD if op.name == "party.draw_ring" else op.attrs["planes"]
    coins = np.arange(1 << total)
    out: list[np.ndarray] = []
    for op in program.ops:
        a = [out[i] for i in op.args]
        match op.name:
            case "party.weight":
                v = np.full((coins.size, 1), secret)
            case "party.draw_ring":
                v = (coins[:, None] >> offset[program.same[op.id]]) & MASK
            case "party.draw_bits":
                at = offset[program.same[op.id]] + np.arange(op.attrs["planes"])
                v = (coins[:, None] >> at) & 1
            case "party.transfer":
                v = a[0]
            case "party.add":
                v = a[0] + a[1] & MASK
            case "party.sub":
                v = a[0] - a[1] & MASK
            case "party.mul":
                v = a[0] * a[1] & MASK
            case "party.neg":
                v = -a[0] & MASK
            case "party.mul_const":
                v = a[0] * op.attrs["value"] & MASK
            case "party.low_bits":
                v = a[0] & 1
            case "party.shift_left":
                v = a[0] << 1 & MASK
            case "party.bit_slice":
                v = (a[0] >> (op.attrs["shift"] + np.arange(op.attrs["planes"]))) & 1
            case "party.negate_if":
                v = np.where(a[0] == 1, -a[1], a[1]) & MASK
            case "party.xor":
                v = a[0] ^ a[1]
            case "party.and":
                v = a[0] & a[1]
            case "party.not":
                v = 1 - a[0]
            case "party.planes":
                v = a[0][:, list(op.attrs["indices"])]
            case "party.join":
                v = np.concatenate(a, axis=1)
            case "party.anf":
                columns = []
                for terms in op.attrs["terms"]:
                    products = [a[0][:, list(m)].min(axis=1) for m in terms]
                    columns.append(np.bitwise_xor.reduce(products))
                v = np.stack(columns, axis=1)
            case _:
                raise AssertionError(op.name)
        out.append(v)
    return out


def view(program, values, receiver):
    """How often the receiver sees what."""
    seen = [
        values[op.id]
        for op in program.ops
        if (op.name == "party.transfer" and op.place == receiver)
        or (op.name in DRAWS and receiver in program.holders(op.id))
    ]
    if not seen:
        return {}
    rows, counts = np.unique(np.concatenate(seen, axis=1), axis=0, return_counts=True)
    return {tuple(r): int(c) for r, c in zip(rows, counts, strict=True)}


def survey(seeds):
    """(accepted and safe, accepted and leaking, refused and safe, refused and leaking)."""
    counts = [[0, 0], [0, 0]]
    for seed in seeds:
        program = flatten(Maker(seed).make(9))
        assert check_locality(program) == []
        assert check_streams(program) == []
        views = [evaluate(program, secret) for secret in range(1 << WORD)]
        for receiver in PARTIES:
            result = peel(program, frozenset({receiver}))
            if not result.left and not result.order:
                continue  # it receives nothing that it does not know
            found = [view(program, v, receiver) for v in views]
            leaks = any(f != found[0] for f in found)
            counts[bool(result.left)][leaks] += 1
    return (*counts[0], *counts[1])


@pytest.mark.parametrize("batch", range(4))
def test_accepted_programs_leak_nothing(batch):
    safe, missed, strict, caught = survey(range(100 * batch, 100 * (batch + 1)))
    assert missed == 0
    # The sample says something: many with masked parts, many that truly leak.
    assert safe >= 30
    assert caught >= 30
    # The rule may refuse what is safe (dead masks, secrets that cancel), but not most of it.
    assert strict < safe + caught


LAX = {
    "masks may be used twice": ("uses", None),
    "a shift keeps a mask uniform": ("path", "party.shift_left"),
    "an and keeps a mask uniform": ("path", "party.and"),
    "a product keeps a mask uniform": ("path", "party.mul"),
    "low bits keep a mask uniform": ("path", "party.low_bits"),
    "an even product keeps a mask uniform": ("path", "party.mul_const"),
}


@pytest.mark.parametrize("lax", LAX, ids=lambda v: v.replace(" ", "-"))
def test_the_enumeration_sees_a_rule_that_is_too_lax(lax, monkeypatch):
    kind, name = LAX[lax]
    if kind == "uses":
        monkeypatch.setattr(peeling, "unique", lambda uses: True)
    else:
        strict = peeling.masking_operands

        def wrong(program, op, planes, last):
            yield from strict(program, op, planes, last)
            if op.name == name:
                for arg in op.args:
                    yield arg, None, False

        monkeypatch.setattr(peeling, "masking_operands", wrong)
    for batch in range(4):
        if survey(range(100 * batch, 100 * (batch + 1)))[1]:
            return
    pytest.fail("no leak was seen")
