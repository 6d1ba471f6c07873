"""The table of protocol cases: one small program per secure op and situation, any protocol.

A case builds its program from a ring; values are edge values of the widths declared. The same table
serves correctness, costs and wire hashes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.protocols.support import Program


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[int], Program]

    def __str__(self):
        return self.name


def edges(width, lanes=None, seed=0):
    """0, ±1, range ends -2^width and 2^width - 1, their neighbours, powers of two, random."""
    top = 1 << width
    found = {0, 1, -1, top - 1, -top, 1 - top, top - 2}
    found |= {s * (1 << i) + d for i in range(width) for s in (1, -1) for d in (-1, 0, 1)}
    values = sorted(v for v in found if -top <= v < top)
    if lanes is None:
        return np.array(values, np.int64)
    rng = np.random.default_rng(seed)
    random = rng.integers(-top, top, max(lanes - len(values), 0))
    return np.concatenate([np.array(values, np.int64), random])[:lanes]


def operands(p, kind, raw, frac, width):
    """A value as Rep (a weight), Public, or Add3 (a product by one)."""
    if kind == "public":
        return p.weight(raw, frac, width, owner="public")
    x = p.weight(raw, frac, width)
    if kind == "rep":
        return x
    column = p.op("reshape", x, shape=(raw.size, 1))
    one = p.weight([[1]], 0, 1)
    product = p.op("matmul", column, one, width=width)
    return p.op("reshape", product, shape=raw.shape)


def truncate(kind, amount, rounding):
    def build(ring):
        p = Program(ring)
        k = ring - 3
        raw = np.clip(edges(k), 1 - 2**k, 2**k - 1)
        x = operands(p, kind, raw, amount, k)
        p.op("truncate", x, amount=amount, rounding=rounding, width=k - amount + 1)
        return p

    return Case(f"truncate-{rounding}-{kind}-{amount}", build)


def relu(width, lanes, invert):
    def build(ring):
        p = Program(ring)
        k = min(width, ring - 1)
        x = p.weight(edges(k, lanes), 0, k)
        bit = p.op("negative", x)
        p.op("select", bit, x, invert=invert, width=k)
        return p

    return Case(f"relu-{width}-{lanes}-{'not' if invert else 'is'}-negative", build)


def far(case):
    """The same on a network whose rounds cost more than any bytes."""

    def build(ring):
        p = case.build(ring)
        p.module.attrs["round_bytes"] = 1 << 40
        return p

    return Case(f"far-{case.name}", build)


def coarse(width, left_out):
    """A comparison without its lowest bits, of components and of a truncation's early pair."""

    def build(ring):
        p = Program(ring)
        k = min(width, ring - 7)
        raw = np.concatenate([edges(k - 1, 200), np.arange(-70, 70)])
        x = p.weight(raw, 0, k)
        p.op("select", p.op("negative", x, coarse=left_out), x, invert=True, width=k)
        y = p.op("truncate", operands(p, "add3", raw << 3, 3, k + 3), amount=3, width=k)
        p.op("select", p.op("negative", y, coarse=left_out), y, width=k)
        public = p.weight(raw, 0, k, owner="public")
        p.op("from_bit", p.op("negative", public, coarse=left_out), ring=ring)
        return p

    return Case(f"coarse-{width}-{left_out}", build)


def early(width, same):
    """A comparison that starts before its truncation ends, also of a difference (a maximum)."""

    def build(ring):
        p = Program(ring)
        f = 4
        k = min(width, ring - f - 3)
        raw = edges(k - 1, 600) << f
        x = operands(p, "add3", raw, f, k + f)
        y = p.op("truncate", x, amount=f, width=k)
        if not same:
            bit = p.op("negative", y)
            p.op("select", bit, y, invert=True, width=k)
            return p
        halves = [p.op("slice", y, starts=(s,), limits=(s + 300,), strides=(1,)) for s in (0, 300)]
        difference = p.op("sub", *halves, width=k + 1)
        gain = p.op("select", p.op("negative", difference), difference, invert=True, width=k + 1)
        p.op("add", halves[1], gain, width=k)
        return p

    return Case(f"early-{'max' if same else 'relu'}-{width}", build)


def reuse(ring):
    """One bit for two selects, one of an additive value."""
    p = Program(ring)
    x = operands(p, "add3", edges(9), 0, 9)
    y = p.weight(edges(9)[::-1].copy(), 0, 9)
    bit = p.op("negative", x)
    a, b = p.op("select", bit, y, width=9), p.op("select", bit, x, invert=True, width=9)
    p.op("add", a, b, width=10)
    return p


def clamp(width, lo, hi):
    def build(ring):
        p = Program(ring)
        k = min(width, ring - 3)
        x = p.weight(edges(k, 130).reshape(2, -1), 0, k)
        p.op("clamp", x, lo=lo, hi=hi, width=8)
        return p

    return Case(f"clamp-{width}-{lo}-{hi}", build)


def clamp_early(ring):
    p = Program(ring)
    x = operands(p, "add3", edges(ring - 10), 6, ring - 9)
    y = p.op("truncate", x, amount=6, width=ring - 15)
    p.op("clamp", y, lo=-100, hi=99, width=7)
    return p


def conv(kinds, groups):
    def build(ring):
        p = Program(ring)
        rng = np.random.default_rng(2)
        x = rng.integers(-(2**9), 2**9, (2, 4, 5, 6))
        w = rng.integers(-(2**9), 2**9, (6, 4 // groups, 3, 2))
        b = rng.integers(-(2**18), 2**18, (6,))
        x, w = operands(p, kinds[0], x, 9, 9), operands(p, kinds[1], w, 9, 9)
        b = operands(p, kinds[2], b, 18, 18)
        geometry = {"strides": (2, 1), "pads": (1, 0, 0, 1), "dilations": (1, 2), "groups": groups}
        y = p.op("conv", x, w, **geometry, width=25)
        b = p.op("broadcast", b, shape=y.type.shape, dims=(1,))
        y = p.op("add", y, b, width=26)
        p.op("truncate", y, amount=9, width=18)
        return p

    return Case(f"conv-{'-'.join(kinds)}-groups-{groups}", build)


def residual(ring):
    """Two products, a replicated value and a public one, added before one truncation."""
    p = Program(ring)
    rng = np.random.default_rng(4)
    terms = []
    for _ in range(2):
        a = p.weight(rng.integers(-500, 500, (3, 7)), 5, 9)
        b = p.weight(rng.integers(-500, 500, (7, 2)), 5, 9)
        terms.append(p.op("matmul", a, b, width=22))
    total = p.op("sub", *terms, width=23)
    short = p.op("shift_left", p.weight(rng.integers(-9, 9, (3, 2)), 5, 4), amount=5, width=9)
    known = p.weight(rng.integers(-9, 9, (3, 2)), 10, 4, owner="public")
    total = p.op("add", short, total, width=24)
    total = p.op("sub", known, total, width=25)
    p.op("truncate", total, amount=5, width=21)
    return p


def cast(kind, lanes=None):
    """There and back, with values up to the last admissible one, and used in the other ring."""

    def build(ring):
        p = Program(ring)
        k, other = 30, 96 - ring
        raw = np.clip(edges(k, lanes), 1 - 2**k, 2**k - 1)
        x = p.op("cast", operands(p, kind, raw, 6, k), ring=other)
        p.op("add", x, x, width=31)
        y = p.op("cast", x, ring=ring)
        p.op("cast", p.op("sub", y, y, width=1), ring=other)
        p.op("reveal", y, name="y", owner="client")
        return p

    return Case(f"cast-{kind}" + (f"-{lanes}" if lanes else ""), build)


def truncate_into(kind, amount, rounding="stochastic"):
    """From 64 bits into 32: results of up to 30 bits of all operands that have them."""

    def build(ring):
        p = Program(64)
        k = min(61, 30 + amount)
        raw = np.clip(edges(k, 700), 1 - 2**k, 2**k - 1)
        x = operands(p, kind, raw, amount, k)
        y = p.op("truncate", x, amount=amount, rounding=rounding, ring=32, width=31)
        p.op("select", p.op("negative", y), y, width=31)
        return p

    return Case(f"truncate-into-{rounding}-{kind}-{amount}", build)


def cast_early(ring):
    """A comparison in the smaller ring that starts before the truncation in the larger one ends."""
    p = Program(64)
    f, k = 13, 16
    x = operands(p, "add3", edges(k, 600) << f, f, k + f)
    y = p.op("cast", p.op("truncate", x, amount=f, width=k), ring=32)
    y = p.op("select", p.op("negative", y), y, invert=True, width=k)
    p.op("cast", y, ring=64)
    return p


def linear(kinds):
    def build(ring):
        p = Program(ring)
        a = operands(p, kinds[0], edges(10, 24, 1).reshape(2, 3, 4), 3, 10)
        b = operands(p, kinds[1], edges(10, 24, 2).reshape(2, 3, 4), 3, 10)
        total = p.op("add", a, b, width=11)
        less = p.op("sub", a, total, width=12)
        p.op("concat", total, less, b, axis=1)
        y = p.op("pad", less, low=(0, 1, 0), high=(2, 0, 1), value=-777)
        y = p.op("slice", y, starts=(0, 1, 1), limits=(4, 4, 5), strides=(2, 1, 3))
        y = p.op("transpose", y, perm=(2, 0, 1))
        p.op("shift_left", p.op("reshape", y, shape=(12,)), amount=5, width=17)
        return p

    return Case(f"linear-{'-'.join(kinds)}", build)


def mul(kinds):
    """All pairs of edge values of the whole ring; products wrap."""

    def build(ring):
        p = Program(ring)
        values = edges(ring - 1)[:: 5 if ring == 64 else 3]
        a, b = (m.reshape(-1) for m in np.meshgrid(values, values[::-1]))
        a, b = operands(p, kinds[0], a, 3, ring - 1), operands(p, kinds[1], b, 4, ring - 1)
        p.op("add", p.op("mul", a, b, width=20), p.op("mul", b, a, width=20), width=21)
        return p

    return Case(f"mul-{'-'.join(kinds)}", build)


def mul_truncate(ring):
    """Products, one of them a square, added before one truncation, then compared."""
    p = Program(ring)
    k, f = (ring - 8) // 2, 6
    a = p.weight(edges(k, 520).reshape(2, -1), f, k)
    b = p.weight(edges(k, 520, 1)[::-1].reshape(2, -1).copy(), f, k)
    total = p.op(
        "sub", p.op("mul", a, b, width=2 * k), p.op("mul", a, a, width=2 * k), width=ring - 7
    )
    y = p.op("truncate", total, amount=f, width=ring - 12)
    p.op("select", p.op("negative", y), y, width=ring - 12)
    return p


def scale(kind, factor, frac):
    def build(ring):
        p = Program(ring)
        x = operands(p, kind, edges(ring - 1), 3, ring - 1)
        p.op("scale", x, factor=factor % (1 << (ring - 1)), frac=frac, width=ring - 1)
        p.op("scale", x, factor=-(abs(factor) % (1 << (ring - 1))), width=ring - 1)
        return p

    return Case(f"scale-{kind}-{factor}-{frac}", build)


def matmul(kinds, left, right):
    def build(ring):
        p = Program(ring)
        rng = np.random.default_rng(5)
        a, b = (rng.choice(edges(ring - 1), shape) for shape in (left, right))
        a, b = operands(p, kinds[0], a, 3, ring - 1), operands(p, kinds[1], b, 4, ring - 1)
        p.op("matmul", a, b, width=20)
        return p

    sizes = "-by-".join("x".join(map(str, shape)) for shape in (left, right))
    return Case(f"matmul-{'-'.join(kinds)}-{sizes}", build)


def moved(kind):
    """Public gathers, with and without repeats, and sums over axes."""

    def build(ring):
        p = Program(ring)
        x = operands(p, kind, edges(ring - 1, 120).reshape(4, 5, 6), 3, ring - 1)
        p.op("gather", x, axis=1, indices=(4, 0, 2))
        p.op("gather", x, axis=2, indices=(5, 5, 0, 1, 1, 1, 0))
        p.op("gather", x, axis=0, indices=())
        for axes in ((0,), (2,), (0, 2), (0, 1, 2), ()):
            p.op("reduce_sum", x, axes=axes, width=20)
        p.op("reduce_sum", p.op("gather", x, axis=0, indices=()), axes=(0, 1), width=20)
        return p

    return Case(f"gather-and-sum-{kind}", build)


def early_linear(ring):
    """A comparison that starts before its truncation ends, of what local ops made of the result."""
    p = Program(ring)
    f, k = 4, 9
    x = operands(p, "add3", edges(k, 600) << f, f, k + f)
    y = p.op("reshape", p.op("truncate", x, amount=f, width=k), shape=(4, 150))
    y = p.op("gather", y, axis=0, indices=(3, 1, 1, 2))
    y = p.op("reduce_sum", p.op("scale", y, factor=-5, width=k + 3), axes=(0,), width=k + 5)
    p.op("select", p.op("negative", y), y, width=k + 5)
    return p


def from_bit(lanes):
    def build(ring):
        p = Program(ring)
        bit = p.op("negative", p.weight(edges(9, lanes), 0, 9))
        p.op("from_bit", bit, ring=ring)
        return p

    return Case(f"from-bit-{lanes}", build)


def moved_bits(ring):
    """Bits that are moved, then select."""
    p = Program(ring)
    x = p.weight(edges(9, 60).reshape(3, 4, 5), 0, 9)
    bit = p.op("negative", x)
    bit = p.op("transpose", bit, perm=(2, 0, 1))
    bit = p.op("slice", bit, starts=(1, 0, 0), limits=(5, 3, 4), strides=(2, 1, 3))
    bit = p.op("gather", bit, axis=1, indices=(2, 2, 0, 1))
    bit = p.op("reshape", bit, shape=(4, 4))
    bit = p.op("broadcast", bit, shape=(4, 33, 4), dims=(0, 2))
    bit = p.op(
        "concat",
        bit,
        p.op("slice", bit, starts=(0,) * 3, limits=(4, 1, 4), strides=(1,) * 3),
        axis=1,
    )
    y = p.weight(edges(9, 4 * 34 * 4).reshape(4, 34, 4), 0, 9)
    p.op("select", bit, y, invert=True, width=9)
    return p


def joined_bits(ring):
    """Bits of comparisons with other roles in one tensor."""
    p = Program(ring)
    bits = [p.op("negative", p.weight(edges(k, n), 0, k)) for k, n in ((9, 513), (20, 9), (5, 30))]
    bits.append(p.op("negative", p.weight(edges(9, 1), 0, 9, owner="public")))
    joined = p.op("concat", *bits, axis=0)
    p.op("select", joined, p.weight(edges(9, 553), 0, 9), width=9)
    p.op("from_bit", joined, ring=ring)
    return p


def public_path(ring):
    """Public operands all the way: nothing is shared until a secret meets them."""
    p = Program(ring)
    x = p.input(np.array([[0.5, -0.25, 3.0, -8.0]]), 8, owner="public")
    w = p.weight([[3], [-5], [7], [1]], 4, 5, owner="public")
    y = p.op("matmul", x, w, width=20)
    y = p.op("truncate", y, amount=4, width=17)
    bit = p.op("negative", y)
    y = p.op("select", bit, y, width=17)
    p.op("reveal", y, name="out", owner="public")
    p.op("reveal", x, name="same", owner="client")
    return p


def inputs(owner, reveal):
    def build(ring):
        p = Program(ring)
        x = p.input(np.array([[-8.0, 8.0, 0.0], [1 / 256, -1 / 256, 3.14159]]), 8, owner=owner)
        p.op("reveal", p.op("reshape", x, shape=(6,)), name="x", owner=reveal)
        return p

    return Case(f"input-{owner}-reveal-{reveal}", build)


def reveal_sum(ring):
    """An additive value is opened without being reshared."""
    p = Program(ring)
    x = operands(p, "add3", edges(12), 4, 12)
    p.op("reveal", x, name="x", owner="client")
    return p


def series(count, precision, size=1.0, **attrs):
    """Attributes of a function with random coefficients that add up to less than ``size``."""
    rng = np.random.default_rng(count)
    most = int(size * 2**20 / (2 * count))
    cos, sin = (tuple(int(v) for v in rng.integers(-most, most + 1, count)) for _ in range(2))
    return {"cos": cos, "sin": sin, "coefficient_frac": 20, "precision": precision, **attrs}


def fourier(kind, period, count, precision=13, multiplier=1, to=0, lanes=None):
    """A function of edge values of the whole ring, and its truncation."""

    def build(ring):
        p = Program(ring)
        x = operands(p, kind, edges(ring - 1, lanes), 3, ring - 1)
        result = to or ring
        attrs = {"period": min(period, ring), "multiplier": multiplier, "ring": result}
        attrs |= {"constant": -(3 << (2 * precision - 2)), "width": 2 * precision + 2}
        y = p.op("fourier", x, **series(count, precision, **attrs))
        p.op("truncate", y, amount=precision, width=precision + 3)
        return p

    name = f"fourier-{kind}-{period}-{count}-{precision}-{multiplier}"
    return Case(f"{name}{f'-to-{to}' if to else ''}{f'-{lanes}' if lanes else ''}", build)


def fourier_extreme(ring):
    """The largest coefficients, most harmonics and finest factors; results wrap."""
    p = Program(ring)
    x = p.weight(edges(ring - 1), 3, ring - 1)
    for count, c, precision in ((128, 31, 30), (3, 31, 1), (2, 0, 29), (1, 33, 1)):
        most = min(1 << (30 + c - precision), (1 << 31) - 1)
        for cos, sin in ((most, 0), (0, -most), (most // 2, most // 2), (-1, 1)):
            attrs = {"coefficient_frac": c, "precision": precision, "period": ring, "width": 63}
            p.op("fourier", x, cos=(cos,) * count, sin=(sin,) * count, **attrs)
    return p


def fourier_early(used):
    """A function of a truncation's result, which it takes before that is there."""

    def build(ring):
        p = Program(ring)
        f, k = 6, 14
        x = operands(p, "add3", edges(k, 600) << f, f, k + f)
        y = p.op("truncate", x, amount=f, width=k)
        z = p.op("fourier", y, **series(5, 10, 50.0, period=k + 2, width=27))
        z = p.op("truncate", z, amount=10, ring=32, width=29)
        if used:
            p.op("mul", p.op("cast", y, ring=32), z, width=31)
        p.op("reveal", z, name="z", owner="client")
        return p

    return build


def fourier_sums(ring):
    """What local ops make of functions: a line and constants added, moved, and joined."""
    p = Program(ring)
    x = operands(p, "rep", edges(12, 120).reshape(4, 30), 3, 12)
    known = p.weight(edges(12, 120).reshape(4, 30), 20, 12, owner="public")
    attrs = series(3, 10, period=14, ring=ring, width=22)
    y = p.op("fourier", x, **attrs)
    z = p.op("fourier", p.op("scale", x, factor=-3, width=14), **attrs)
    line = p.op("scale", x, factor=77, frac=17, width=19)
    for first, second in ((y, line), (known, y), (y, known), (y, z), (line, z)):
        total = p.op("sub", first, second, width=23)
        total = p.op("pad", total, low=(0, 1), high=(0, 0), value=-777)
        total = p.op("transpose", total, perm=(1, 0))
        total = p.op("concat", total, total, axis=1)
        p.op("truncate", total, amount=10, width=14)
        p.op("truncate", total, amount=10, rounding="exact", width=14)
        p.op("fourier", total, **attrs)
    return p


STOCHASTIC = (1, 13, 20, 29)
EXACT = (1, 13, 20)
CONV_KINDS = [
    ("rep", "rep", "rep"),
    ("rep", "public", "public"),
    ("public", "rep", "rep"),
    ("add3", "rep", "public"),
]
CLAMPS = [(10, -5, 7), (16, 0, 200), (40, -255, -3), (6, -200, 200)]
KINDS = ("rep", "add3", "public")
PAIRS = (
    ("rep", "rep"),
    ("add3", "rep"),
    ("rep", "public"),
    ("public", "add3"),
    ("public", "public"),
)
MATRICES = (
    ((6, 3, 4), (6, 4, 5)),
    ((2, 3, 1, 4), (2, 3, 4, 2)),
    ((2, 3, 4, 5), (5, 3)),
    ((0, 3, 4), (0, 4, 5)),
    ((2, 3, 0), (2, 0, 5)),
)
OWNERS = ("client", "model", "public")

FAR = [
    *(relu(k, None, False) for k in (1, 2, 7, 16, 25, 45, 62)),
    relu(19, 513, True),
    *(truncate(kind, f, "exact") for kind in ("rep", "add3") for f in (1, 16)),
    coarse(24, 8),
    *(early(16, same) for same in (False, True)),
    clamp(16, 0, 200),
    Case("joined-bits", joined_bits),
]
"""Cases that are also made for a network whose rounds cost more than any bytes."""

CASES = [
    *(truncate(kind, f, "stochastic") for kind in ("rep", "add3") for f in STOCHASTIC),
    *(truncate(kind, f, "exact") for kind in ("rep", "add3") for f in EXACT),
    truncate("public", 7, "stochastic"),
    truncate("public", 7, "exact"),
    *(relu(k, None, False) for k in (*range(1, 18), 20, 24, 28, 31, 33, 45, 62, 63)),
    *(relu(19, n, True) for n in (1, 7, 8, 9, 511, 512, 513)),
    relu(19, 40_000, True),
    *(coarse(k, c) for k, c in ((10, 1), (16, 4), (24, 8), (7, 7), (25, 15))),
    relu(30, 5000, False),
    *(early(k, same) for k in (9, 16, 27) for same in (False, True)),
    Case("select-twice", reuse),
    *(cast(kind) for kind in KINDS),
    *(cast("rep", n) for n in (1, 513)),
    Case("cast-early", cast_early),
    *(truncate_into(kind, f) for kind in KINDS for f in (1, 11, 32)),
    *(truncate_into(kind, 11, "exact") for kind in ("add3", "public")),
    *(clamp(*c) for c in CLAMPS),
    Case("clamp-after-truncate", clamp_early),
    *(conv(k, g) for k in CONV_KINDS for g in (1, 2)),
    Case("residual", residual),
    *(linear((a, b)) for a in KINDS for b in KINDS),
    *(mul(kinds) for kinds in PAIRS),
    Case("mul-truncate", mul_truncate),
    *(
        scale(kind, *f)
        for kind in KINDS
        for f in ((0, 0), (1, 4), (3, 0), (-(2**15), 7), (2**62 - 5, 0))
    ),
    *(matmul(kinds, *MATRICES[0]) for kinds in PAIRS),
    *(matmul(("rep", "rep"), *sizes) for sizes in MATRICES[1:]),
    *(moved(kind) for kind in KINDS),
    Case("early-linear", early_linear),
    *(from_bit(n) for n in (1, 9, 513)),
    Case("moved-bits", moved_bits),
    Case("joined-bits", joined_bits),
    Case("public-path", public_path),
    *(inputs(o, r) for o in OWNERS for r in ("client", "model")),
    Case("reveal-sum", reveal_sum),
    *(fourier(kind, w, 8) for kind in KINDS for w in (1, 16, 31, 32, 33, 64)),
    *(fourier(kind, 20, 5, multiplier=m) for kind in KINDS for m in (-3, 2**31 - 1)),
    *(fourier("rep", 20, count, precision=p) for count, p in ((1, 1), (2, 10), (3, 4), (16, 12))),
    *(fourier(kind, 20, 4, to=to) for kind in KINDS for to in (32, 64)),
    *(fourier("add3", 40, 3, lanes=n) for n in (1, 7, 513)),
    *(Case(f"fourier-early-{n}", fourier_early(u)) for n, u in (("alone", False), ("both", True))),
    Case("fourier-extreme", fourier_extreme),
    Case("fourier-sums", fourier_sums),
    *map(far, FAR),
]
"""All cases."""
