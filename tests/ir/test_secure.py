"""Every secure op against a reference on Python integers, at edge values; refusals of infer."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcc.ir.core import Module
from mpcc.ir.define import InferenceError
from mpcc.ir.ops import secure
from mpcc.ir.ops.secure import DIALECT
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.types import BitType, SecureType
from mpcc.ir.verify import verify

RINGS = (32, 64)


def center(value: int, ring: int) -> int:
    half = 1 << (ring - 1)
    return (value + half) % (1 << ring) - half


def edges(ring: int) -> list[int]:
    top = 1 << (ring - 1)
    powers = [s * (1 << p) + d for p in (1, 8, 20, ring - 3) for s in (1, -1) for d in (-1, 0, 1)]
    return [0, 1, -1, top - 1, -top, top - 2, 1 - top, *powers]


def sec(shape, ring=64, frac=8, width=20, visibility="secret"):
    return SecureType(tuple(shape), ring, frac, width, visibility)


def apply(name, attrs, types, *args, coins=None):
    cls: Any = DIALECT.operations[f"secure.{name}"]
    full = cls.complete(attrs)
    (result,) = cls.infer(types, full)
    out = cls.evaluate(full, secure.Context.of(result, coins), *args)
    assert out.shape == result.shape
    return result, out


def pairs(ring):
    a, b = zip(*itertools.product(edges(ring), repeat=2), strict=True)
    return np.array(a, np.int64), np.array(b, np.int64)


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize(("name", "sign"), [("add", 1), ("sub", -1)])
def test_sums(name, sign, ring):
    a, b = pairs(ring)
    type_ = sec(a.shape, ring)
    result, out = apply(name, {"width": 21}, [type_, type_], a, b)
    assert (result.frac, result.width) == (8, 21)
    want = [center(int(x) + sign * int(y), ring) for x, y in zip(a, b, strict=True)]
    assert out.tolist() == want


@pytest.mark.parametrize("ring", RINGS)
def test_sums_of_scalars_wrap_without_a_warning(ring):
    top = np.array((1 << (ring - 1)) - 1, np.int64)
    _, out = apply("add", {"width": 21}, [sec((), ring)] * 2, top, np.array(1, np.int64))
    assert int(out) == -(1 << (ring - 1))


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("amount", [0, 1, 13])
def test_shift_left(amount, ring):
    x = np.array(edges(ring), np.int64)
    result, out = apply("shift_left", {"amount": amount, "width": 25}, [sec(x.shape, ring)], x)
    assert result.frac == 8 + amount
    assert out.tolist() == [center(v << amount, ring) for v in edges(ring)]


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("amount", [1, 7, 8])
def test_truncate(amount, ring):
    x = np.array(edges(ring), np.int64)
    type_ = sec(x.shape, ring)
    attrs = {"amount": amount, "width": 12}
    for coin in {0, 1, (1 << amount) // 2, (1 << amount) - 1}:
        coins = np.full(x.shape, coin, np.int64)
        result, out = apply("truncate", attrs, [type_], x, coins=coins)
        assert result.frac == 8 - amount
        assert out.tolist() == [(v + coin) >> amount for v in edges(ring)]
        exact = {**attrs, "rounding": "exact"}
        assert apply("truncate", exact, [type_], x, coins=coins)[1].tolist() == [
            v >> amount for v in edges(ring)
        ]


def test_truncation_is_unbiased_and_within_one_unit():
    amount = 6
    values = np.arange(-200, 200, dtype=np.int64)
    x, coins = (a.reshape(-1) for a in np.meshgrid(values, np.arange(64), indexing="ij"))
    _, out = apply("truncate", {"amount": amount, "width": 12}, [sec(x.shape)], x, coins=coins)
    error = out * 64 - x
    assert np.abs(error).max() < 64
    # Over all coins g the values floor((c + g) / 2^a) add up to c: the mean is the quotient.
    assert out.reshape(400, 64).sum(axis=1).tolist() == values.tolist()


@pytest.mark.parametrize("ring", RINGS)
def test_comparison_and_select(ring):
    x = np.array(edges(ring), np.int64)
    type_ = sec(x.shape, ring)
    result, bit = apply("negative", {}, [type_], x)
    assert result == BitType(x.shape)
    assert bit.tolist() == [v < 0 for v in edges(ring)]
    for invert in (False, True):
        attrs = {"invert": invert, "width": 20}
        _, out = apply("select", attrs, [result, type_], bit, x)
        assert out.tolist() == [v if (v < 0) != invert else 0 for v in edges(ring)]


@pytest.mark.parametrize("ring", RINGS)
def test_clamp(ring):
    x = np.array(edges(ring), np.int64)
    _, out = apply("clamp", {"lo": -7, "hi": 255, "width": 8}, [sec(x.shape, ring)], x)
    assert out.tolist() == [min(max(v, -7), 255) for v in edges(ring)]


@pytest.mark.parametrize("ring", RINGS)
def test_matmul(ring):
    rng = np.random.default_rng(1)
    a, b = (rng.choice(np.array(edges(ring), np.int64), s) for s in ((3, 5), (5, 2)))
    types = [sec(a.shape, ring, 8), sec(b.shape, ring, 5)]
    result, out = apply("matmul", {"width": 31}, types, a, b)
    assert result.frac == 13
    for i, j in np.ndindex(3, 2):
        want = sum(int(a[i, t]) * int(b[t, j]) for t in range(5))
        assert int(out[i, j]) == center(want, ring)


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("groups", [1, 2])
def test_conv(groups, ring):
    rng = np.random.default_rng(2)
    x = rng.choice(np.array(edges(ring), np.int64), (2, 4, 5, 4))
    w = rng.choice(np.array(edges(ring), np.int64), (6, 4 // groups, 2, 3))
    attrs = {"strides": (2, 1), "pads": (1, 0, 0, 2), "dilations": (1, 2), "groups": groups}
    types = [sec(x.shape, ring, 8), sec(w.shape, ring, 5)]
    _, out = apply("conv", {**attrs, "width": 31}, types, x, w)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 2)))
    for n, o, r, c in np.ndindex(*out.shape):
        first = o // (6 // groups) * (4 // groups)
        want = sum(
            int(padded[n, first + i, 2 * r + u, c + 2 * v]) * int(w[o, i, u, v])
            for i, u, v in np.ndindex(4 // groups, 2, 3)
        )
        assert int(out[n, o, r, c]) == center(want, ring)


@pytest.mark.parametrize("ring", RINGS)
def test_mul(ring):
    a, b = pairs(ring)
    result, out = apply("mul", {"width": 31}, [sec(a.shape, ring), sec(a.shape, ring, 5)], a, b)
    assert (result.frac, result.width) == (13, 31)
    assert out.tolist() == [center(int(x) * int(y), ring) for x, y in zip(a, b, strict=True)]
    top = np.array((1 << (ring - 1)) - 1, np.int64)
    assert int(apply("mul", {"width": 31}, [sec((), ring)] * 2, top, top)[1]) == 1


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("factor", [0, 1, -1, 12345, (1 << 31) - 1])
def test_scale(factor, ring):
    x = np.array(edges(ring), np.int64)
    attrs = {"factor": factor, "frac": 4, "width": 25}
    result, out = apply("scale", attrs, [sec(x.shape, ring)], x)
    assert result.frac == 12
    assert out.tolist() == [center(v * factor, ring) for v in edges(ring)]


@pytest.mark.parametrize("ring", RINGS)
def test_reduce_sum(ring):
    x = np.array((edges(ring) * 2)[:24], np.int64).reshape(2, 3, 4)
    for axes in ((0,), (1, 2), (0, 1, 2), ()):
        result, out = apply("reduce_sum", {"axes": axes, "width": 25}, [sec(x.shape, ring)], x)
        want = np.asarray(x.astype(object).sum(axis=axes)) if axes else x.astype(object)
        assert result.frac == 8
        assert out.reshape(-1).tolist() == [center(int(v), ring) for v in want.reshape(-1)]


@pytest.mark.parametrize("right", [(2, 3, 5, 2), (5, 2)])
def test_stacked_matmul(right):
    rng = np.random.default_rng(3)
    a, b = (rng.choice(np.array(edges(64), np.int64), s) for s in ((2, 3, 4, 5), right))
    result, out = apply("matmul", {"width": 31}, [sec(a.shape), sec(b.shape)], a, b)
    assert result.shape == (2, 3, 4, 2)
    b = np.broadcast_to(b, (2, 3, 5, 2))
    for n, m, i, j in np.ndindex(2, 3, 4, 2):
        want = sum(int(a[n, m, i, t]) * int(b[n, m, t, j]) for t in range(5))
        assert int(out[n, m, i, j]) == center(want, 64)


def test_bits_move_and_become_numbers():
    bit = np.arange(6).reshape(2, 3) % 2 == 1
    type_ = BitType(bit.shape, "client")
    for name, attrs, want in (
        ("reshape", {"shape": (3, 2)}, bit.reshape(3, 2)),
        ("transpose", {"perm": (1, 0)}, bit.T),
        ("broadcast", {"shape": (2, 4, 3), "dims": (0, 2)}, np.repeat(bit[:, None], 4, axis=1)),
        ("slice", {"starts": (0, 1), "limits": (2, 3), "strides": (1, 1)}, bit[:, 1:]),
        ("gather", {"axis": 1, "indices": (2, 2, 0)}, bit[:, [2, 2, 0]]),
    ):
        result, out = apply(name, attrs, [type_], bit)
        assert result == BitType(want.shape, "client")
        assert out.dtype == bool
        assert out.tolist() == want.tolist()
    result, out = apply("concat", {"axis": 0}, [type_, BitType((1, 3), "model")], bit, bit[:1])
    assert result == BitType((3, 3), "secret")
    assert out.tolist() == [*bit.tolist(), bit[0].tolist()]
    result, out = apply("from_bit", {"ring": 32}, [type_], bit)
    assert result == sec((2, 3), 32, 0, 1, "client")
    assert out.tolist() == bit.astype(int).tolist()


def test_shape_ops():
    x = np.arange(6, dtype=np.int64).reshape(2, 3)
    type_ = sec(x.shape)
    _, out = apply("reshape", {"shape": (3, 2)}, [type_], x)
    assert out.tolist() == [[0, 1], [2, 3], [4, 5]]
    _, out = apply("transpose", {"perm": (1, 0)}, [type_], x)
    assert out.tolist() == x.T.tolist()
    _, out = apply("broadcast", {"shape": (2, 4, 3), "dims": (0, 2)}, [type_], x)
    assert out.tolist() == np.broadcast_to(x[:, None], (2, 4, 3)).tolist()
    _, out = apply("pad", {"low": (0, 1), "high": (1, 0), "value": -9}, [type_], x)
    assert out.tolist() == [[-9, 0, 1, 2], [-9, 3, 4, 5], [-9] * 4]
    _, out = apply("slice", {"starts": (0, 1), "limits": (2, 3), "strides": (1, 2)}, [type_], x)
    assert out.tolist() == [[1], [4]]
    result, out = apply("concat", {"axis": 0}, [type_, sec((1, 3), width=25)], x, x[:1])
    assert out.tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]
    assert result.width == 25


def test_casts_keep_the_number():
    x = np.array([0, 1, -1, 2**30 - 1, 1 - 2**30], np.int64)
    for ring, other in ((64, 32), (32, 64)):
        result, out = apply("cast", {"ring": other}, [sec(x.shape, ring, 8, 30)], x)
        assert (result.ring, result.frac, result.width) == (other, 8, 30)
        assert out.tolist() == x.tolist()
    # Into a smaller ring a truncation keeps what fits it.
    attrs = {"amount": 8, "ring": 32, "width": 30}
    result, out = apply("truncate", attrs, [sec(x.shape, 64, 8, 38)], x << 8)
    assert (result.ring, result.frac) == (32, 0)
    assert out.tolist() == x.tolist()


def test_empty_tensors():
    x = np.zeros((0, 3), np.int64)
    assert apply("add", {"width": 9}, [sec(x.shape)] * 2, x, x)[1].shape == (0, 3)
    assert apply("truncate", {"amount": 2, "width": 9}, [sec(x.shape)], x)[1].shape == (0, 3)


#: A function of one harmonic.
TURN = {
    "cos": (1,),
    "sin": (1,),
    "coefficient_frac": 3,
    "period": 9,
    "precision": 8,
    "width": 20,
}

BAD = [
    ("add", {"width": 20}, [sec((2,)), sec((3,))], "do not fit"),
    ("add", {"width": 20}, [sec((2,)), sec((2,), frac=9)], "do not fit"),
    ("add", {"width": 20}, [sec((2,)), sec((2,), ring=32)], "do not fit"),
    ("add", {"width": 64}, [sec((2,))] * 2, "width 64 is not between"),
    ("add", {"width": 20}, [sec((2,)), BitType((2,))], "needs a secure tensor"),
    ("sub", {"width": 0}, [sec((2,))] * 2, "width 0 is not between"),
    ("matmul", {"width": 20}, [sec((2, 3)), sec((2, 3))], "product of"),
    ("matmul", {"width": 20}, [sec((2, 2), frac=40)] * 2, "80 fraction bits"),
    (
        "conv",
        {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "width": 20},
        [sec((1, 2, 2, 2)), sec((1, 2, 3, 3))],
        "larger than the padded axis",
    ),
    ("shift_left", {"amount": -1, "width": 20}, [sec((2,))], "negative amount"),
    ("truncate", {"amount": 9, "width": 20}, [sec((2,))], "cannot drop 9 of 8"),
    ("truncate", {"amount": 0, "width": 20}, [sec((2,))], "cannot drop 0 of 8"),
    ("truncate", {"amount": 2, "width": 20}, [sec((2,), width=62)], "wider than 61 bits"),
    (
        "truncate",
        {"amount": 2, "width": 20, "rounding": "up"},
        [sec((2,))],
        "unknown rounding 'up'",
    ),
    ("truncate", {"amount": 9, "ring": 64, "width": 20}, [sec((2,), frac=9)], "too few"),
    (
        "truncate",
        {"amount": 33, "ring": 32, "width": 20},
        [sec((2,), frac=40)],
        "leave too few of secure<2, z64, f40, k20, secret> for 32 bits",
    ),
    ("cast", {"ring": 32}, [sec((2,), width=31)], "wider than 30 bits"),
    ("cast", {"ring": 64}, [sec((2,), ring=32, width=31)], "wider than 30 bits"),
    ("cast", {"ring": 48}, [sec((2,))], "rings have 32 or 64 bits"),
    ("cast", {"ring": 32}, [BitType((2,))], "needs a secure tensor"),
    ("select", {"width": 20}, [BitType((3,)), sec((2,))], "does not select"),
    ("select", {"width": 20}, [sec((2,)), sec((2,))], "does not select"),
    ("clamp", {"lo": 3, "hi": 2, "width": 20}, [sec((2,))], "empty range"),
    ("clamp", {"lo": 0, "hi": 16, "width": 4}, [sec((2,))], "upper bound 16 does not fit"),
    ("clamp", {"lo": -16, "hi": 1, "width": 4}, [sec((2,))], "lower bound -16 does not fit"),
    ("pad", {"low": (1,), "high": (0,), "value": 1 << 20}, [sec((2,))], "pad value"),
    ("pad", {"low": (-1,), "high": (0,)}, [sec((2,))], "pads"),
    ("reshape", {"shape": (3,)}, [sec((2,))], "has not the 3 elements"),
    ("transpose", {"perm": (0, 0)}, [sec((2, 2))], "no permutation"),
    ("broadcast", {"shape": (3,), "dims": (0,)}, [sec((2,))], "does not broadcast"),
    ("slice", {"starts": (0,), "limits": (3,), "strides": (1,)}, [sec((2,))], "of an axis of 2"),
    ("mul", {"width": 20}, [sec((2,)), sec((3,))], "do not fit"),
    ("mul", {"width": 20}, [sec((2,), frac=40)] * 2, "80 fraction bits"),
    ("matmul", {"width": 20}, [sec((2, 3, 4)), sec((3, 4, 5))], "leading axes differ"),
    ("scale", {"factor": 1 << 63, "width": 20}, [sec((2,))], "does not fit the width 63"),
    ("scale", {"factor": 3, "frac": -1, "width": 20}, [sec((2,))], "negative fraction"),
    ("reduce_sum", {"axes": (1, 0), "width": 20}, [sec((2, 2))], "must rise and exist"),
    ("reduce_sum", {"axes": (2,), "width": 20}, [sec((2, 2))], "must rise and exist"),
    ("gather", {"axis": 1, "indices": (0,)}, [sec((2,))], "axis 1 of"),
    ("gather", {"axis": 0, "indices": (0, 2)}, [sec((2,))], "indices 0 to 2 of an axis of 2"),
    ("gather", {"axis": 0, "indices": (-1,)}, [sec((2,))], "indices -1 to -1"),
    ("gather", {"axis": 0, "indices": (0,) * 65537}, [sec((2,))], "at most 65536 indices"),
    ("from_bit", {}, [sec((2,))], "needs bits"),
    ("fourier", TURN, [BitType((2,))], "needs a secure tensor"),
    ("fourier", TURN | {"cos": (), "sin": ()}, [sec((2,))], "1 to 128 harmonics"),
    ("fourier", TURN | {"cos": (1,) * 129, "sin": (1,) * 129}, [sec((2,))], "not 129"),
    ("fourier", TURN | {"sin": (1, 2)}, [sec((2,))], "1 coefficients of cosines, but 2"),
    ("fourier", TURN | {"period": 0}, [sec((2,))], "period of 0 bits"),
    ("fourier", TURN | {"period": 33}, [sec((2,), ring=32, width=9)], "period of 33 bits"),
    ("fourier", TURN | {"multiplier": 1 << 31}, [sec((2,))], "multiplier 2147483648"),
    ("fourier", TURN | {"precision": 31, "width": 63}, [sec((2,))], "31 fraction bits"),
    ("fourier", TURN | {"precision": 16, "ring": 32}, [sec((2,))], "32 fraction bits"),
    ("fourier", TURN | {"precision": 1, "coefficient_frac": 34}, [sec((2,))], "do not suit"),
    ("fourier", TURN | {"precision": 30, "coefficient_frac": 0}, [sec((2,))], "do not suit"),
    ("fourier", TURN | {"cos": (1 << 31,)}, [sec((2,))], "are too large"),
    ("fourier", TURN | {"cos": (1 << 25,), "sin": (-1,)}, [sec((2,))], "33554432, -1"),
    ("fourier", TURN | {"constant": 1 << 20}, [sec((2,))], "constant 1048576"),
    ("fourier", TURN | {"error": float("nan")}, [sec((2,))], "not negative and finite"),
    ("pad", {"low": (1,), "high": (0,)}, [BitType((2,))], "needs a secure tensor"),
    ("concat", {"axis": 0}, [sec((2,)), BitType((2,))], "needs a secure tensor"),
    ("concat", {"axis": 0}, [], "needs an operand"),
    ("concat", {"axis": 0}, [sec((2,)), sec((2,), frac=3)], "do not concatenate"),
]


@pytest.mark.parametrize(("name", "attrs", "types", "text"), BAD)
def test_refusals(name, attrs, types, text):
    cls = DIALECT.operations[f"secure.{name}"]
    with pytest.raises(InferenceError, match=text.replace("(", r"\(")):
        cls.infer(types, cls.complete(attrs))


def test_sources_check_their_formats():
    good: dict[str, Any] = {
        "name": "x",
        "owner": "client",
        "shape": (2,),
        "frac": 8,
        "width": 12,
        "lo": -8.0,
        "hi": 8.0,
    }
    cls = secure.Input
    assert cls.infer([], cls.complete(good)) == (sec((2,), width=12, visibility="client"),)
    for change, text in [
        ({"hi": 16.0}, "do not fit the width"),
        ({"hi": -9.0}, "empty range"),
        ({"ring": 48}, "rings have 32 or 64"),
        ({"shape": (-1,)}, "negative dimension"),
        ({"owner": "nobody"}, "unknown visibility"),
        ({"lo": float("nan")}, "empty range"),
    ]:
        assert isinstance(change, dict)
        with pytest.raises(InferenceError, match=text):
            cls.infer([], cls.complete({**good, **change}))


def test_visibility_joins_and_text_round_trips():
    module = Module("secure", {"range_policy": "proved"})
    add = module.main.append
    formats: dict[str, Any] = {"ring": 64, "frac": 8, "width": 12, "shape": (2, 2)}
    x = add(secure.Input, [], {"name": "x", "owner": "client", "lo": -1.0, "hi": 1.5, **formats})
    w = add(secure.Weight, [], {"name": "w", "owner": "model", **formats})
    p = add(secure.MatMul, [x.result, w.result], {"width": 24}, "dense")
    t = add(secure.Truncate, [p.result], {"amount": 8, "width": 16, "rounding": "exact"}, "dense")
    n = add(secure.Negative, [t.result], {})
    s = add(secure.Select, [n.result, t.result], {"invert": True, "width": 16})
    add(secure.Reveal, [s.result], {"name": "y", "owner": "client"})
    verify(module, DIALECT)
    assert x.result.type == sec((2, 2), width=12, visibility="client")
    assert p.result.type == sec((2, 2), frac=16, width=24)
    text = print_module(module)
    assert print_module(parse_module(text, {"secure": DIALECT})) == text


def test_every_operator_is_covered_here():
    text = Path(__file__).read_text()
    # A call has its function's values: tests/ir/test_calls.py.
    for operation in set(DIALECT.operations.values()) - {secure.Call}:
        short = operation.name.removeprefix("secure.")
        assert f'"{short}"' in text or f"secure.{operation.__name__}" in text
