"""Party programs for tests: one with every operator, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpcc.ir.core import Function, Module, Value
from mpcc.ir.define import AttrValue
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.types import BitsType, ClearType, RingType, element_count

Array = npt.NDArray[Any]
COMPUTE = ("P0", "P1", "P2")


class Writer:
    """Appends party ops to a function by short name."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.stream = 0

    def __call__(
        self, op_name: str, /, *operands: Value, loc: str = "", **attrs: AttrValue
    ) -> Value:
        op = self.function.append(DIALECT.operations[f"party.{op_name}"], operands, attrs, loc)
        return op.result if op.results else Value(ClearType((), "client"), op, 0)

    def fresh(self) -> int:
        self.stream += 1
        return self.stream


def every_op() -> Module:
    """A program with all party operators but calls, every attribute off its default somewhere."""
    module = Module("party", {"flag": True, "protocol": "test", "roles": (1, (2, 3)), "scale": 0.5})
    w = Writer(module.main)
    x = w("input", name="x", shape=(1, 2, 4, 4), place="client")
    raw = w("encode", x, frac=16, lo=-8.0, hi=0.1, loc="input_0")
    key: dict[str, AttrValue] = {"key": "P0+P1+client", "stream": 5}
    mask = w("draw_ring", **key, place="client", shape=(1, 2, 4, 4))
    share = w("transfer", w("sub", raw, mask), to="P0", step="input_0/share", loc="input_0")
    own = w("draw_ring", **key, place="P0", shape=(1, 2, 4, 4))
    weight = w("weight", name="w", shape=(2, 2, 3, 3), place="model")
    weight = w("transfer", weight, to="P0", step="weight_0/share", loc="weight_0")
    conv = w(
        "conv", share, weight, own, weight,
        strides=(1, 2), pads=(0, 1, 2, 0), dilations=(1, 1), groups=1, loc="conv_0",
    )  # fmt: skip
    flat = w("reshape", conv, shape=(4, 4))
    flat = w("matmul", flat, w("transpose", flat, perm=(1, 0)))
    stack = w("gather", w("reshape", flat, shape=(4, 2, 2)), axis=0, indices=(3, 0, 3))
    stack = w("matmul", stack, stack, stack, stack)
    total = w("reshape", w("reduce_sum", stack, axes=(0, 2)), shape=(1, 2))
    total = w("broadcast", w("mul", total, total, total, total), shape=(2, 4, 2), dims=(0, 2))
    flat = w("sub", flat, w("reshape", total, shape=(4, 4)))
    wide = w("broadcast", w("slice", flat, starts=(0, 1), limits=(1, 4), strides=(1, 2)),
             shape=(2, 1, 2), dims=(1, 2))  # fmt: skip
    wide = w("pad", w("concat", wide, wide, axis=0), low=(0, 0, 1), high=(0, 1, 0), value=-3)
    y = w("add_const", w("mul_const", w("neg", w("mul", wide, wide)), value=-5), value=2**63 - 1)
    y = w(
        "low_bits",
        w("shift_right", w("shift_left", w("add", y, wide), amount=3), amount=1),
        count=60,
    )
    y = w("cast", w("cast", y, ring=32))
    lanes = element_count(wide.type.shape if isinstance(wide.type, RingType) else ())
    bits = w("bit_slice", y, planes=6, shift=2)
    rho = w("draw_bits", key="P0+P2", stream=1, phase="setup", place="P0", lanes=lanes, planes=6)
    tables = w("carry_tables", bits, rho, blocks=(4, 2))
    found = w("lookup", tables, w("not", w("xor", bits, rho)), blocks=(4, 2))
    bit = w("anf", found, terms=(((0,), (1, 2)),), loc='quote " and \u00e4')
    planes = w("planes", w("and", bits, rho), indices=(3, 0))
    number = w("from_bits", w("join", planes, bit), shape=(4, 2, 3), ring=64)
    z = w("negate_if", bit, w("mask_by", bit, number))
    body = Function("body", [z.type, bit.type])
    b = Writer(body)
    drawn = b("draw_ring", key="P0+P1", stream=9, place="P0", shape=(4, 2, 3))
    masked = b("add", b("mask_by", body.args[1], body.args[0]), drawn)
    body.returns = [masked, body.args[0], drawn]
    fused = module.main.append(DIALECT.operations["party.fused"], (z, bit), {}, "relu_0", body)
    body2 = Function("body", [z.type, bit.type])
    b = Writer(body2)
    body2.returns = [b("mask_by", body2.args[1], body2.args[0])]
    again = [
        module.main.append(DIALECT.operations["party.fused"], (v, bit), {}, "", clone)
        for v, clone in ((fused.results[0], body2), (fused.results[2], _copy(body2)))
    ]
    total = w("add", again[0].results[0], again[1].results[0])
    rows: dict[str, AttrValue] = {"period": 33, "multiplier": -3, "precision": 9, "ring": 32}
    rows_of = [w("harmonics", total, first=f, rows=n, **rows) for f, n in ((0, 1), (1, 3))]
    series: dict[str, AttrValue] = {"cos": (5, -6), "sin": (-7, 0), "coefficient_frac": 3}
    turn = w("fourier", total, *rows_of, period=64, multiplier=5, precision=12, **series)
    total = w("add", total, w("cast", turn))
    opened = w("transfer", total, to="client", step="reveal_0/open", loc="reveal_0")
    w("output", w("decode", opened, frac=16), name="y")
    small = w("weight", name="w32", shape=(), ring=32, place="model")
    w("transfer", small, to="P2", step="")
    return module


def with_calls() -> Module:
    """The program that has every operator, with a function that it calls twice."""
    module = every_op()
    values = {str(v.type): v for op in module.main.ops for v in op.results}
    module.functions["twice.1"] = function = _called()
    types = tuple(str(v.type) for v in function.returns)
    for number in (7, 2):
        attrs = {"callee": function.name, "number": number, "types": types}
        operands = [values[str(a.type)] for a in function.args]
        module.main.append(DIALECT.operations["party.call"], operands, attrs, f"call_{number}")
    return module


def _called() -> Function:
    """A function with a region that draws, a draw outside, a message, and an argument returned."""
    function = Function("twice.1", [RingType((4, 2, 3), 64, "P0"), RingType((), 32, "P2")])
    x, _ = function.args
    f = Writer(function)
    key: dict[str, AttrValue] = {"key": "P0+P1", "shape": (4, 2, 3)}
    mask = f("draw_ring", **key, stream=0, place="P0")
    body = Function("body", [x.type, mask.type])
    b = Writer(body)
    drawn = b("draw_ring", **key, stream=2**32 - 1, place="P0")
    body.returns = [b("add", b("sub", body.args[0], body.args[1]), drawn)]
    region = DIALECT.operations["party.fused"]
    hidden = function.append(region, (x, mask), {}, "relu_1", body).result
    sent = f("transfer", hidden, to="P1", step="call/open", loc="relu_1")
    again = f("sub", sent, f("draw_ring", **key, stream=0, place="P1"))
    function.returns = [again, x, hidden]
    return function


def _copy(body: Function) -> Function:
    module = Module("party")
    module.functions["main"] = body
    return module.clone().functions["main"]


def random_program(seed: int, ops: int = 60) -> Module:
    """A valid random program: ring tensors of two sizes and bits at three parties, one client."""
    rng = np.random.default_rng(seed)
    module = Module("party", {"seed": seed})
    w = Writer(module.main)
    values: list[Value] = []
    for i, place in enumerate(COMPUTE):
        x = w("input", name=f"x{i}", shape=(2, 3), place="client")
        x = w("encode", x, frac=8, lo=-8.0, hi=8.0)
        values.append(w("transfer", x, to=place, step=f"share_{i}", loc="input_0"))
        v = w("weight", name=f"w{i}", shape=(2, 3), place="model")
        values.append(w("transfer", v, to=place, step=f"weight_{i}", loc="weight_0"))

    def pick(kind: type, place: str | None = None, like: Value | None = None) -> Value | None:
        found = [
            v
            for v in values
            if isinstance(v.type, kind)
            and (place is None or getattr(v.type, "place", "") == place)
            and (like is None or v.type == like.type)
        ]
        # Recent values, so that chains grow.
        return found[-1 - int(rng.integers(min(len(found), 6)))] if found else None

    for i in range(ops):
        loc = f"layer_{i // 12}"
        place = COMPUTE[rng.integers(3)]
        other = COMPUTE[(COMPUTE.index(place) + 1) % 3]
        key = "+".join(sorted((place, other)))
        choice = int(rng.integers(14))
        a, bits = pick(RingType, place), pick(BitsType, place)
        if choice == 0 and a is not None:
            values.append(w("transfer", a, to=other, step=f"s{i}", loc=loc))
        elif choice == 1 and bits is not None:
            values.append(w("transfer", bits, to=other, step=f"s{i}", loc=loc))
        elif choice == 2:
            phase = ("setup", "online")[rng.integers(2)]
            shape = ((2, 3), (3, 2), (6, 1))[rng.integers(3)]
            values.append(
                w("draw_ring", key=key, stream=w.fresh(), phase=phase, place=place, shape=shape)
            )
        elif choice == 3 and bits is not None and isinstance(bits.type, BitsType):
            drawn = w(
                "draw_bits", key=key, stream=w.fresh(), place=place,
                lanes=bits.type.lanes, planes=bits.type.planes,
            )  # fmt: skip
            values.append(w("xor", bits, drawn, loc=loc))
        elif choice in (4, 5, 6) and a is not None:
            b = pick(RingType, place, a)
            assert b is not None
            values.append(w(("add", "sub", "mul")[choice - 4], a, b, loc=loc))
        elif choice == 7 and a is not None:
            values.append(w("shift_right", a, amount=int(rng.integers(64)), loc=loc))
        elif choice == 8 and a is not None:
            values.append(w("bit_slice", a, planes=int(rng.integers(1, 4)), shift=2, loc=loc))
        elif choice == 9 and bits is not None and isinstance(bits.type, BitsType):
            values.append(w("from_bits", bits, shape=(2, 3) if rng.integers(2) else (3, 2)))
        elif choice == 10 and bits is not None and a is not None:
            one = w("planes", bits, indices=(0,), loc=loc)
            values.append(w("mask_by", one, a, loc=loc))
        elif choice == 11 and a is not None:
            values.append(w("transpose", a, perm=(1, 0), loc=loc))
        elif choice == 12 and a is not None and isinstance(a.type, RingType):
            values.append(w("reshape", a, shape=a.type.shape[::-1]))
        elif choice == 13 and bits is not None:
            values.append(w("not", bits, loc=loc))
    for i, value in enumerate([v for v in values[-8:] if isinstance(v.type, RingType)]):
        opened = w("transfer", value, to="client", step=f"open_{i}", loc="reveal_0")
        w("output", w("decode", opened, frac=8), name=f"y{i}")
    return module


def inputs_for(module: Module, seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """(inputs, weights) for a program."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    weights: dict[str, Array] = {}
    for op in module.main.walk("party.input", "party.weight"):
        shape: Sequence[int] = op.attrs["shape"]
        if op.name == "party.input":
            inputs[op.attrs["name"]] = rng.uniform(-1, 1, shape).astype(np.float32)
        else:
            dtype = np.uint64 if op.attrs["ring"] == 64 else np.uint32
            weights[op.attrs["name"]] = rng.integers(0, 2**32, shape, dtype, endpoint=False)
    return inputs, weights
