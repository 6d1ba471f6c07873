"""Small good programs that use every step of rep3, for checking and mutating."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mpcc.ir.core import Module
from mpcc.passes.fuse_local import FuseLocal
from mpcc.protocols import Rep3, lower_program
from tests.protocols.support import Program


def deep(layers: int) -> Program:
    """Matmul, truncation and ReLU, over and over."""
    p = Program(64)
    x = p.input([[0.5, -0.5, 1.0, 2.0]], 8, width=16)
    w = p.weight([[1, 2, 3, 4]] * 4, 8, 6)
    for i in range(layers):
        y = p.op("matmul", x, w, width=24, loc=f"dense_{i}")
        y = p.op("truncate", y, amount=8, width=16, loc=f"dense_{i}")
        bit = p.op("negative", y, loc=f"relu_{i}")
        x = p.op("select", bit, y, invert=True, width=16, loc=f"relu_{i}")
    p.op("reveal", x, name="out", owner="client")
    return p


def perceptron(ring: int) -> Program:
    """Two layers, a stochastic and an exact truncation, a ReLU in one level."""
    p, rng = Program(ring), np.random.default_rng(1)
    x = p.input(rng.uniform(-1, 1, (2, 6)), 8, width=12)
    w0 = p.weight(rng.integers(-99, 99, (6, 5)), 6, 7)
    w1 = p.weight(rng.integers(-99, 99, (5, 3)), 6, 7)
    y = p.op("matmul", x, w0, width=22, loc="dense_0")
    y = p.op("truncate", y, amount=6, width=16, loc="dense_0/truncate")
    bit = p.op("negative", y, loc="relu")
    y = p.op("select", bit, y, invert=True, width=16, loc="relu")
    y = p.op("matmul", y, w1, width=26, loc="dense_1")
    y = p.op("truncate", y, amount=6, rounding="exact", width=20, loc="dense_1/truncate")
    p.op("reveal", y, name="scores", owner="client", loc="out")
    return p


def wide(ring: int) -> Program:
    """A comparison in two levels, a clamp, a reveal of an additive value, two outputs."""
    p, rng = Program(ring), np.random.default_rng(2)
    x = p.input(rng.uniform(-8, 8, (1, 40)), 18, width=22)
    w = p.weight(rng.integers(-99, 99, (40, 2)), 2, 7)
    bit = p.op("negative", x, loc="relu")
    y = p.op("select", bit, x, invert=True, width=22, loc="relu")
    z = p.op("clamp", y, lo=-500, hi=700, width=11, loc="clamp")
    s = p.op("matmul", z, w, width=24, loc="dense")
    p.op("reveal", s, name="sums", owner="client", loc="sums")
    p.op("reveal", z, name="clamped", owner="client", loc="clamped")
    return p


def pooled(ring: int) -> Program:
    """Convolution, early maximum, a bit used twice, a public bias, one output for `model`."""
    p, rng = Program(ring), np.random.default_rng(3)
    x = p.input(rng.uniform(-1, 1, (1, 2, 6, 6)), 6, width=10)
    w = p.weight(rng.integers(-30, 30, (3, 2, 3, 3)), 5, 6)
    b = p.weight(rng.integers(-30, 30, (3,)), 11, 6, owner="public")  # "w1"
    geometry = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    y = p.op("conv", x, w, **geometry, width=20, loc="conv")
    b = p.op("broadcast", b, shape=(1, 3, 6, 6), dims=(1,), loc="conv")
    y = p.op("add", y, b, width=21, loc="conv")
    y = p.op("truncate", y, amount=5, width=16, loc="conv/truncate")
    full = {"strides": (1, 1, 1, 1)}
    left = p.op("slice", y, starts=(0, 0, 0, 0), limits=(1, 3, 6, 3), **full, loc="pool")
    right = p.op("slice", y, starts=(0, 0, 0, 3), limits=(1, 3, 6, 6), **full, loc="pool")
    gap = p.op("sub", left, right, width=17, loc="pool")
    bit = p.op("negative", gap, loc="pool")
    gain = p.op("select", bit, gap, invert=True, width=17, loc="pool")
    other = p.op("select", bit, left, width=16, loc="other")
    y = p.op("add", right, gain, width=17, loc="pool")
    p.op("reveal", y, name="pooled", owner="client", loc="out")
    p.op("reveal", other, name="other", owner="model", loc="other_out")
    return p


def gated(ring: int) -> Program:
    """Products of secrets, stacked and elementwise, gathers, sums, bits moved and made numbers."""
    p, rng = Program(ring), np.random.default_rng(4)
    x = p.input(rng.uniform(-1, 1, (2, 3, 4)), 6, -1.0, 1.0, width=8)
    gate = p.input(rng.uniform(-1, 1, (2, 3, 3)), 6, -1.0, 1.0, width=8)
    w = p.weight(rng.integers(-30, 30, (2, 4, 3)), 5, 6)
    y = p.op("matmul", x, w, width=16, loc="dense")
    y = p.op("truncate", y, amount=5, width=12, loc="dense/truncate")
    z = p.op("mul", y, gate, width=20, loc="gate")
    z = p.op("truncate", z, amount=6, width=14, loc="gate/truncate")
    z = p.op("gather", z, axis=1, indices=(2, 0, 0), loc="pick")
    bits = [p.op("negative", v, loc=f"sign_{i}") for i, v in enumerate((gate, z, x))]
    flat = [p.op("reshape", b, shape=(2, b.type.shape[1] * b.type.shape[2])) for b in bits]
    bits = p.op("concat", *flat, axis=1, loc="bits")
    mask = p.op("gather", bits, axis=1, indices=tuple(range(29, 20, -1)), loc="bits")
    number = p.op("from_bit", mask, ring=ring, loc="number")
    z = p.op("reshape", z, shape=(2, 9), loc="sum")
    z = p.op("scale", z, factor=-5, frac=1, width=17, loc="sum")
    z = p.op("mul", number, z, width=18, loc="sum")
    total = p.op("reduce_sum", z, axes=(0,), width=19, loc="sum")
    p.op("reveal", total, name="total", owner="client", loc="out")
    kept = p.op("select", mask, z, width=18, loc="kept")
    p.op("reveal", kept, name="kept", owner="model", loc="kept_out")
    return p


def curved(ring: int) -> Program:
    """Functions of replicated, additive and early shares, a line added, truncated and opened."""
    p, rng = Program(ring), np.random.default_rng(5)
    x = p.input(rng.uniform(-1, 1, (2, 6)), 6, -1.0, 1.0, width=8)
    w = p.weight(rng.integers(-30, 30, (6, 3)), 5, 6)
    wave = {"cos": (9, -4), "sin": (-5, 3), "coefficient_frac": 4, "precision": 8, "ring": ring}
    y = p.op("matmul", x, w, width=16, loc="dense")
    z = p.op("fourier", y, period=17, width=20, **wave, loc="additive")
    y = p.op("truncate", y, amount=5, width=12, loc="truncate")
    line = p.op("scale", y, factor=77, frac=10, width=20, loc="line")
    u = p.op("fourier", y, period=13, width=20, **wave, loc="early")
    u = p.op("add", u, line, width=21, loc="line")
    u = p.op("truncate", u, amount=9, width=13, loc="early/truncate")
    p.op("reveal", u, name="sum", owner="client", loc="out")
    v = p.op("fourier", x, period=9, width=20, **wave, loc="replicated")
    v = p.op("truncate", v, amount=10, rounding="exact", width=12, loc="replicated/truncate")
    p.op("reveal", v, name="exact", owner="model", loc="exact_out")
    p.op("reveal", z, name="turned", owner="client", loc="turned_out")
    return p


def far(ring: int) -> Program:
    """Comparisons in one round, of shares and of an early pair, and the carry of a truncation."""
    p, rng = Program(ring), np.random.default_rng(6)
    p.module.attrs["round_bytes"] = 1 << 40
    x = p.input(rng.uniform(-1, 1, (2, 6)), 8, -1.0, 1.0, width=9)
    w = p.weight(rng.integers(-99, 99, (6, 5)), 6, 7)
    bit = p.op("negative", x, loc="sign")
    x = p.op("select", bit, x, invert=True, width=9, loc="sign")
    y = p.op("matmul", x, w, width=20, loc="dense")
    z = p.op("truncate", y, amount=6, width=14, loc="dense/truncate")
    bit = p.op("negative", z, loc="relu")
    z = p.op("select", bit, z, invert=True, width=14, loc="relu")
    p.op("reveal", z, name="scores", owner="client", loc="out")
    y = p.op("truncate", y, amount=6, rounding="exact", width=14, loc="exact")
    p.op("reveal", y, name="exact", owner="model", loc="exact_out")
    return p


PROGRAMS: Mapping[str, Callable[[int], Program]] = {
    "perceptron": perceptron,
    "wide": wide,
    "pooled": pooled,
    "gated": gated,
    "curved": curved,
    "far": far,
}


PUBLIC = {"pooled": ("w1",)}
"""Weights that everybody may know, by program."""


def lowered(secure: Module, balancer=None) -> Module:
    """The party program before fusion."""
    return lower_program(secure, Rep3(), balancer).party


def fused(party: Module) -> Module:
    """The program as it runs, a copy."""
    copy = party.clone()
    FuseLocal().run(copy)
    return copy
