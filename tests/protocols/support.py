"""Small secure programs, and their reference through the ops' exact ``evaluate``."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mpcc.ir.core import Module, Value
from mpcc.ir.interp import party as interp
from mpcc.ir.ops import party, secure
from mpcc.ir.types import SecureType
from mpcc.ir.verify import verify
from mpcc.protocols import Lowered, lower_program
from mpcc.protocols.lowering import counted_cost


@dataclass
class Program:
    """A secure module under construction, with the raw values of its weights and inputs."""

    ring: int = 64
    module: Module = field(default_factory=lambda: Module("secure"))
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)

    def op(self, kind, /, *operands, loc="", **attrs):
        op = self.module.main.append(
            secure.DIALECT.operations[f"secure.{kind}"], operands, attrs, loc
        )
        return op.results[0] if op.results else None

    def weight(self, raw, frac=0, width=40, owner="model"):
        """A value given as exact raw integers: the way to put any raw value into a program."""
        raw = np.asarray(raw, np.int64)
        name = f"w{len(self.weights)}"
        self.weights[name] = raw
        return self.op(
            "weight",
            name=name,
            owner=owner,
            shape=raw.shape,
            ring=self.ring,
            frac=frac,
            width=min(width, self.ring - 1),
        )

    def input(self, x, frac, lo=-8.0, hi=8.0, owner="client", width=30):
        x = np.asarray(x, np.float32)
        name = f"x{len(self.inputs)}"
        self.inputs[name] = x
        return self.op(
            "input",
            name=name,
            owner=owner,
            shape=x.shape,
            ring=self.ring,
            frac=frac,
            width=width,
            lo=lo,
            hi=hi,
        )


@dataclass
class Outcome:
    """A run of a program: per secure value the reference and what the parties' shares hold."""

    lowered: Lowered
    run: interp.Run
    session: interp.Session
    reference: dict[Value, np.ndarray]
    actual: dict[Value, np.ndarray]


def opened(share, values, ring):
    """Raw signed value of a share from the interpreter's values; checks that copies agree."""
    kind = type(share).__name__
    if kind == "Rep":
        own = [values[v] for v in share.own]
        for i in range(3):
            np.testing.assert_array_equal(values[share.next[i]], own[(i + 1) % 3])
        total = own[0] + own[1] + own[2]
    elif kind == "Add3":
        total = sum(values[v] for v in share.parts[1:]) + values[share.parts[0]]
    elif kind == "Public":
        parts = [values[v] for v in share.parts]
        np.testing.assert_array_equal(parts[0], parts[1])
        np.testing.assert_array_equal(parts[0], parts[2])
        total = parts[0]
    elif kind == "Plain":
        total = values[share.value]
    elif kind == "Flag":
        return bits(share.value, values)
    else:
        held = [bits(v, values) for v in share.v.values()]
        np.testing.assert_array_equal(held[0], held[1])
        return bits(share.u, values) ^ held[0]
    return total.astype(np.uint32 if ring == 32 else np.uint64).view(f"i{ring // 8}")


def bits(value, values):
    """One plane as booleans."""
    return np.unpackbits(values[value], count=value.type.lanes, bitorder="little").astype(bool)


def execute(program, protocol, seed=1, balancer=None, check=True):
    """Lower, run, and compare every secure value with its reference given the run's coins."""
    verify(program.module, secure.DIALECT)
    lowered = lower_program(program.module, protocol, balancer, keep_shares=True)
    keep = {v for s in lowered.shares.values() for v in s.values()}
    keep |= {c.value for c in lowered.coins.values() if c.value is not None}
    verify(lowered.party, party.DIALECT)
    session = interp.Session(
        lowered.party, program.weights, interp.SeededKeys(seed), keep=keep, record=True
    )
    run = session.run(program.inputs, keep=keep)
    values = {**session.setup.values, **run.values}
    env, actual = {}, {}
    for index, op in enumerate(program.module.main.ops):
        if not op.results:
            continue
        type_ = op.result.type
        if op.name == "secure.weight":
            env[op.result] = secure.wrap(program.weights[op.attrs["name"]], type_.ring)
        elif op.name == "secure.input":
            x = program.inputs[op.attrs["name"]].astype(np.float64)
            env[op.result] = np.rint(np.ldexp(x, op.attrs["frac"])).astype(np.int64)
        else:
            coins = None
            if index in lowered.coins:
                coins = lowered.coins[index].read(values, op.operands[0].type.shape)
            args = [env[v] for v in op.operands]
            context = secure.Context.of(type_, coins)
            env[op.result] = op.definition.evaluate(op.attrs, context, *args)
        share = lowered.shares[op.result]
        ring = type_.ring if isinstance(type_, SecureType) else 64
        actual[op.result] = opened(share, values, ring).reshape(type_.shape)
    outcome = Outcome(lowered, run, session, env, actual)
    if check:
        assert_exact(program, outcome)
    return outcome


def assert_exact(program, outcome):
    """Values equal the reference; costs equal, per op and in total, by formula, count, measure."""
    for value, actual in outcome.actual.items():
        np.testing.assert_array_equal(actual, outcome.reference[value], value.op.name)
    for entry in outcome.lowered.costs:
        counted = counted_cost(entry.ops)
        assert counted.bytes_sent == entry.cost.bytes_sent, entry.name
        assert counted.rounds == entry.cost.rounds, entry.name
    messages = outcome.session.setup.messages + outcome.run.messages
    measured: dict[str, int] = {}
    for message in messages:
        assert message.payload.size == message.nbytes
        measured[message.link] = measured.get(message.link, 0) + message.nbytes
    assert {k: n for k, n in measured.items() if n} == outcome.lowered.bytes_sent
