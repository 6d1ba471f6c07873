"""Cosines, sines and functions in integers: the errors that are stated hold, and are proved."""

import math

import numpy as np
import pytest

from mpcc.ir import harmonics
from mpcc.ir.analysis.bounds import bound
from mpcc.ir.interp.fixed import simulate
from mpcc.ir.ops import secure
from mpcc.ir.types import SecureType
from tests.protocols.support import Program

#: The reference has 64 bits of mantissa.
REAL = np.longdouble
TURN = REAL("6.283185307179586476925286766559005768")


def unit_circle(angle):
    return np.cos(angle), np.sin(angle)


def farthest(c, s, angle):
    """Largest distance of (c, s) with 30 fraction bits from the point at an angle."""
    x, y = unit_circle(angle)
    unit = REAL(2) ** -harmonics.FRACTION
    return float(np.hypot(c * unit - x, s * unit - y).max())


def test_the_error_of_an_angle_is_proved():
    """BASE_ERROR from the real polynomials, proved between the points of a grid, and roundings.

    The second derivatives of cos, of sin and of both polynomials differ by less than 1/2, so
    between two points at a distance h an error is at most h^2 / 16 beyond its values there.
    """
    steps = 1 << 16
    t = np.arange(steps + 1).astype(REAL) / steps
    a = np.array(harmonics.COS, REAL) / REAL(2) ** 32
    s = np.array(harmonics.SIN, REAL) / REAL(2) ** np.array([31, 33, 33, 33, 33], REAL)
    u, quarter, between = t, TURN / 8, 1 / 16 / steps**2
    cos = 1 + u * (a[0] + u * (a[1] + u * (a[2] + u * a[3])))
    cos_error = float(abs(cos - np.cos(quarter * np.sqrt(u))).max()) + between
    u = t * t
    sin = t * (s[0] + u * (s[1] + u * (s[2] + u * (s[3] + u * s[4]))))
    sin_error = float(abs(sin - np.sin(quarter * t)).max()) + between
    unit = 2.0**-harmonics.FRACTION
    # u is rounded at 30 bits, three steps at 32 (33), the factor of sin at 31, the results at 30.
    cos_error += (float(-a[0]) / 2 + 3 / 2 / 4 + 1 / 2) * unit
    sin_error += (float(-s[1]) / 2 + 3 / 2 / 8 + 1 / 4 + 1 / 2) * unit
    assert math.hypot(cos_error, sin_error) < harmonics.BASE_ERROR


def test_base_error():
    """Near the ends of every eighth of a turn, where errors are largest, and everywhere else."""
    rng = np.random.default_rng(0)
    eighths = np.arange(17).astype(np.int64) << 29
    near = (eighths[:, None] + np.arange(-1500, 1500)).reshape(-1) % 2**32
    turn = np.concatenate([near, rng.integers(0, 2**32, 300_000)])
    (c,), (s,) = harmonics.turns(turn, 1, 32, 1)
    assert farthest(c, s, turn.astype(REAL) * TURN / REAL(2) ** 32) < harmonics.BASE_ERROR


@pytest.mark.parametrize("period", [7, 32, 33, 48, 64])
def test_harmonics_stay_within_their_bounds(period):
    rng = np.random.default_rng(period)
    x = rng.integers(0, 1 << period, 4000, np.uint64)
    count = 128
    cs, ss = harmonics.turns(x, count, period, 1)
    bounds = harmonics.modulus_errors(count, period)
    for k in range(1, count + 1):
        angle = (x * np.uint64(k) & np.uint64((1 << period) - 1)).astype(REAL) * TURN
        found = farthest(cs[k - 1], ss[k - 1], angle / REAL(2) ** period)
        assert found < bounds[k - 1]
        # All factors fit signed words of 32 bits.
        assert max(abs(cs[k - 1]).max(), abs(ss[k - 1]).max()) < 2**31


def series(count, precision, period, multiplier=1, ring=64, seed=0):
    rng = np.random.default_rng(seed)
    cos, sin = (tuple(int(v) for v in rng.integers(-(2**18), 2**18, count)) for _ in range(2))
    return {
        "cos": cos,
        "sin": sin,
        "coefficient_frac": 18,
        "constant": -(5 << 2 * precision) // 3,
        "period": period,
        "multiplier": multiplier,
        "precision": precision,
        "ring": ring,
        "width": 2 * precision + 7 if ring == 64 else 31,
    }


def value(attrs, raw):
    """The series at raw numbers, in long doubles."""
    period, m = attrs["period"], attrs["multiplier"]
    low = (raw.astype(np.uint64) * np.uint64(m % 2**64)) & np.uint64((1 << period) - 1)
    total = np.full(raw.shape, attrs["constant"] * REAL(2) ** (-2 * attrs["precision"]))
    for k, (a, b) in enumerate(zip(attrs["cos"], attrs["sin"], strict=True), 1):
        # The multiple of the angle modulo a turn, exactly.
        angle = (low * np.uint64(k) & np.uint64((1 << period) - 1)).astype(REAL)
        c, s = unit_circle(angle * TURN / REAL(2) ** period)
        total += (a * c + b * s) * REAL(2) ** -attrs["coefficient_frac"]
    return total


CASES = [
    (1, 12, 16, 1),
    (8, 14, 20, 3),
    (16, 20, 40, -5),
    (16, 26, 64, 1),
    (40, 24, 33, 2**31 - 1),
]


@pytest.mark.parametrize(("count", "precision", "period", "multiplier"), CASES)
def test_functions_stay_within_their_bounds(count, precision, period, multiplier):
    """For coins everywhere, at edge values and random ones."""
    attrs = series(count, precision, period, multiplier)
    rng = np.random.default_rng(1)
    half = 1 << (period - 1)
    edges = [0, 1, -1, half - 1, -half, *(s << i for i in range(period - 1) for s in (1, -1))]
    raw = np.concatenate([edges, rng.integers(-half, half, 3000)]).astype(np.int64)
    wanted = value(attrs, raw)
    limit = harmonics.fourier_error({**attrs})
    assert harmonics.size(attrs) >= float(abs(wanted).max()) - limit
    unit = REAL(2) ** (-2 * precision)
    worst = 0.0
    for coins in (None, *(rng.integers(0, 1 << period, raw.shape, np.uint64) for _ in range(4))):
        given = None if coins is None else coins.astype(np.int64)
        found = secure.Fourier.evaluate(attrs, secure.Context(64, given), raw)
        worst = max(worst, float(abs(found * unit - wanted).max()))
    assert worst < limit
    # The bound is no empty one.
    assert worst > limit / 40


def test_slope_bounds_the_change():
    attrs = series(9, 24, 12)
    raw = np.arange(-(2**11), 2**11)
    change = abs(np.diff(value(attrs, raw).astype(np.float64))).max()
    assert change <= harmonics.slope(attrs)
    assert change > harmonics.slope(attrs) / 20


def test_only_the_period_matters():
    """Numbers that are equal modulo the period give the same results with the same coins."""
    attrs = series(5, 13, 20)
    x = np.arange(-50, 50) * 5001
    coins = np.random.default_rng(3).integers(0, 1 << 20, x.shape)
    one = secure.Fourier.evaluate(attrs, secure.Context(64, coins), x)
    for moved in (x + (1 << 20), x - (7 << 20), x + (1 << 62)):
        other = secure.Fourier.evaluate(attrs, secure.Context(64, coins), moved)
        np.testing.assert_array_equal(one, other)


def test_another_ring_has_the_same_words():
    attrs = series(5, 13, 20)
    x, context = np.arange(-50, 50) * 5001, secure.Context(32)
    wide = secure.Fourier.evaluate(attrs, secure.Context(64), x)
    narrow = secure.Fourier.evaluate({**attrs, "ring": 32}, context, x)
    np.testing.assert_array_equal(secure.wrap(wide, 32), narrow)


def sine_program(x, frac=12):
    """Sine and cosine of an input, with a period of 2 pi up to a unit's 2^-20."""
    p = Program()
    v = p.input(x, frac, width=16)
    # frac bits of x, times 2^20 / (2 pi), over the period 2^(20 + frac).
    common = {"multiplier": round(2**20 / (2 * math.pi)), "period": 20 + frac}
    common |= {"coefficient_frac": 20, "precision": 20, "width": 43, "error": 2.0**-16}
    for name, cos, sin in (("cos", 1 << 20, 0), ("sin", 0, 1 << 20)):
        y = p.op("fourier", v, cos=(cos,), sin=(sin,), **common)
        p.op("reveal", y, name=name, owner="client")
    return p


def test_bounds_of_a_program_hold():
    """The error against the real function, and between runs."""
    x = np.random.default_rng(2).uniform(-8, 8, 500).astype(np.float32)
    p = sine_program(x)
    limits = bound(p.module, {})
    exact = {"cos": np.cos(x.astype(np.float64)), "sin": np.sin(x.astype(np.float64))}
    runs = [simulate(p.module, {}, p.inputs, "random", seed) for seed in range(5)]
    runs.append(simulate(p.module, {}, p.inputs, "worst"))
    runs.append(simulate(p.module, {}, p.inputs, "floor"))
    for name, wanted in exact.items():
        for run in runs:
            assert abs(run.outputs[name] - wanted).max() <= limits[name].error
            assert abs(run.outputs[name] - runs[0].outputs[name]).max() <= limits[name].spread
        assert limits[name].error < 2.0**-11
        assert limits[name].spread < 2.0**-17
    assert not runs[0].overflows


def test_coins_are_recorded_and_taken():
    x = np.linspace(-3, 3, 40).astype(np.float32)
    p = sine_program(x)
    first = simulate(p.module, {}, p.inputs, "random", 7)
    assert all(c.min() >= 0 and c.max() < 1 << 32 for c in first.coins.values())
    again = simulate(p.module, {}, p.inputs, first.coins)
    for name, array in first.outputs.items():
        assert array.tobytes() == again.outputs[name].tobytes()
    other = simulate(p.module, {}, p.inputs, "random", 8)
    assert any((first.outputs[n] != other.outputs[n]).any() for n in first.outputs)


def test_types():
    attrs = secure.Fourier.complete(series(3, 12, 20, ring=32))
    (found,) = secure.Fourier.infer([SecureType((2, 3), 64, 9, 33, "client")], attrs)
    assert found == SecureType((2, 3), 32, 24, 31, "client")
