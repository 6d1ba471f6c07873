"""The fixed-point interpreter: exact products, roundings, coins, overflow reports, errors."""

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir.interp import exact, fixed
from mpcc.ir.linear import conv
from mpcc.ir.ops.secure import DIALECT
from mpcc.ir.text import parse_module

PROGRAM = """
module secure {
  func @main() {
    %0 = secure.input() {name = "x", owner = "client", shape = [2, 3], ring = 64, frac = 8,
      width = 12, lo = -8.0, hi = 8.0} : secure<2x3, z64, f8, k12, client>
    %1 = secure.weight() {name = "w", owner = "model", shape = [3, 2], ring = 64, frac = 8,
      width = 12} : secure<3x2, z64, f8, k12, model>
    %2 = secure.matmul(%0, %1) {width = 24} : secure<2x2, z64, f16, k24, secret> loc("dense")
    %3 = secure.truncate(%2) {amount = 8, width = 16} : secure<2x2, z64, f8, k16, secret>
    %4 = secure.negative(%3) : bit<2x2, secret>
    %5 = secure.select(%4, %3) {invert = true, width = 16} : secure<2x2, z64, f8, k16, secret>
    secure.reveal(%5) {name = "y", owner = "client"}
  }
}
""".replace(",\n     ", ",")


@pytest.fixture
def program():
    return parse_module(PROGRAM, {"secure": DIALECT})


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.uniform(-4, 4, (2, 3)), rng.integers(-500, 500, (3, 2))


@pytest.mark.parametrize("x_bits", [1, 30, 52, 53, 62, 63])
@pytest.mark.parametrize("w_bits", [1, 20, 45, 60, 63])
def test_products_are_exact(x_bits, w_bits):
    rng = np.random.default_rng(x_bits * 64 + w_bits)
    x = rng.integers(-(2**x_bits), 2**x_bits - 1, (7, 33), np.int64, endpoint=True)
    w = rng.integers(-(2**w_bits), 2**w_bits - 1, (33, 5), np.int64, endpoint=True)
    x[0, :2] = -(2**x_bits), 2**x_bits - 1
    w[:, 0] = -(2**w_bits)
    total = int(np.abs(w.astype(float)).sum(axis=0).max() * 1.0001) + 1
    found = exact.product(x, w, total, lambda a, b: a @ b)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, x @ w)


def test_products_of_convolutions_are_exact():
    rng = np.random.default_rng(1)
    x = rng.integers(-(2**40), 2**40, (1, 6, 9, 9), np.int64)
    w = rng.integers(-(2**24), 2**24, (6, 3, 3, 3), np.int64)
    geometry = (2, 1), (1, 1, 0, 1), (1, 2), 2
    found = exact.product(x, w, 27 << 24, lambda a, b: conv(a, b, *geometry))
    np.testing.assert_array_equal(found, conv(x, w, *geometry))


def test_empty_products():
    x, w = np.zeros((0, 3), np.int64), np.zeros((3, 2), np.int64)
    assert exact.product(x, w, 0, lambda a, b: a @ b).shape == (0, 2)


def test_a_run_by_hand(program, arrays):
    x, w = arrays
    raw = np.rint(x * 256).astype(np.int64) @ w
    for rounding, want in (("floor", raw >> 8), ("worst", None), ("random", None)):
        found = fixed.simulate(program, {"w": w}, {"x": x}, rounding, seed=3)
        product = want if want is not None else (raw + found.coins[3]) >> 8
        np.testing.assert_array_equal(found.raw_outputs["y"], np.maximum(product, 0))
        np.testing.assert_array_equal(found.outputs["y"], np.float32(np.maximum(product, 0) / 256))
        assert not found.overflows


def test_coins_reproduce_a_run(program, arrays):
    x, w = arrays
    first = fixed.simulate(program, {"w": w}, {"x": x}, "random", seed=9, keep_raw=True)
    again = fixed.simulate(program, {"w": w}, {"x": x}, first.coins, keep_raw=True)
    assert first.raw.keys() == again.raw.keys() == set(range(6))
    for i, array in first.raw.items():
        np.testing.assert_array_equal(again.raw[i], array)
    with pytest.raises(MpccError, match="E-sim-coins"):
        fixed.simulate(program, {"w": w}, {"x": x}, {})
    with pytest.raises(MpccError, match="E-sim-coins"):
        fixed.simulate(program, {"w": w}, {"x": x}, {3: np.zeros(3, np.int64)})


def test_seeds_matter_and_repeat(program, arrays):
    x, w = arrays
    runs = [fixed.simulate(program, {"w": w}, {"x": x}, "random", seed=s) for s in (1, 1, 2)]
    assert (runs[0].coins[3] == runs[1].coins[3]).all()
    assert (runs[0].coins[3] != runs[2].coins[3]).any()


def test_worst_moves_every_value_by_at_least_half_a_unit(program, arrays):
    x, w = arrays
    raw = np.rint(x * 256).astype(np.int64) @ w
    coins = fixed.simulate(program, {"w": w}, {"x": x}, "worst").coins[3]
    error = np.abs(((raw + coins) >> 8) * 256 - raw)
    assert (error[raw % 256 != 0] >= 128).all()
    assert (error < 256).all()


def test_overflow_is_reported_with_op_and_size(program, arrays):
    x, _ = arrays
    w = np.full((3, 2), 2**20)
    found = fixed.simulate(program, {"w": w}, {"x": np.full((2, 3), 7.0)}, "floor")
    # 3 * 7 * 2^8 * 2^20 < 2^33; after the truncation 2^25
    assert [(o.op, o.loc, o.width, o.reached, o.count) for o in found.overflows] == [
        (1, "", 12, 21, 6),
        (2, "dense", 24, 33, 4),
        (3, "", 16, 25, 4),
        (5, "", 16, 25, 4),
    ]
    with pytest.raises(MpccError, match="E-sim-overflow: 4 values need 33 bits where 24") as error:
        fixed.run(program, {"w": w}, {"x": np.full((2, 3), 7.0)})
    assert len(error.value.diagnostics) == 4
    fixed.run(program, {"w": w}, {"x": x * 0}, check_ranges=False)


def test_a_product_that_wraps_into_range_is_reported(program):
    # 2 * 2^8 * 2^55 = 2^64, which is zero in the ring.
    w = np.array([[2**55, 0], [0, 0], [0, 0]])
    x = np.array([[2.0, 0, 0], [0, 0, 0]])
    found = fixed.simulate(program, {"w": w}, {"x": x}, "floor")
    assert (found.raw_outputs["y"] == 0).all()
    assert (2, 65) in [(o.op, o.reached) for o in found.overflows]


def test_ring_32_wraps():
    text = PROGRAM.replace("z64", "z32").replace("ring = 64", "ring = 32")
    module = parse_module(text, {"secure": DIALECT})
    w, x = np.full((3, 2), 2**20), np.full((2, 3), 7.0)
    found = fixed.simulate(module, {"w": w}, {"x": x}, "floor", keep_raw=True)
    value = 3 * 7 * 2**28
    assert (found.raw[2] == (value + 2**31) % 2**32 - 2**31).all()


@pytest.mark.parametrize(
    ("weights", "inputs", "text"),
    [
        ({}, {}, "E-run-missing.*input x(?s:.)*weight w"),
        ({"w": np.zeros((2, 2))}, {"x": np.zeros((2, 3))}, r"shape \(2, 2\), not \(3, 2\)"),
        ({"w": np.zeros((3, 2))}, {"x": np.full((2, 3), 8.1)}, "E-run-range"),
        ({"w": np.zeros((3, 2))}, {"x": np.full((2, 3), np.nan)}, "E-run-range"),
    ],
)
def test_bad_sources(program, weights, inputs, text):
    with pytest.raises(MpccError, match="(?s)" + text):
        fixed.run(program, weights, inputs)


def test_unknown_rounding(program):
    with pytest.raises(MpccError, match="unknown rounding 'up'"):
        fixed.run(program, {}, {}, "up")


def test_encode_rounds_half_to_even_and_decode_inverts():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5]) / 256
    assert fixed.encode(x, 8).tolist() == [0, 2, 2, 0, -2]
    raw = np.array([0, 1, -1, 2**20, -(2**20)])
    assert fixed.encode(fixed.decode(raw, 8), 8).tolist() == raw.tolist()
