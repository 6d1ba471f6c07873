"""Range rules against references that are written without them."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from benchmarks.campaign_networks import NETWORKS, network
from benchmarks.campaign_runs import drawn, formatted
from benchmarks.campaigns import attack
from mpcc.ir.analysis.affine import MOST_SYMBOLS
from mpcc.ir.analysis.ranges import Intervals
from mpcc.ir.intervals import Interval, Rounding
from mpcc.ir.ops import tensor
from tests.ir.samples import Maker

ROUNDING = Rounding(2.0**-16, 2.0**-17)


def softmax_of(row):
    """In whole-number ratios of powers of e that do not underflow: by their differences."""
    return [1 / math.fsum(math.exp(min(b - a, 700)) for b in row) for a in row]


@pytest.mark.parametrize("far", [1.0, 40.0, 800.0])
def test_softmax_covers_every_corner(far):
    """Also where one element may be far above all others, or far below."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        middle = rng.uniform(-far, far, 4)
        radius = rng.uniform(0, far, 4) * rng.choice([0, 1], 4)
        x = Interval(middle - radius, middle + radius)
        for op in (tensor.Softmax, tensor.LogSoftmax):
            (y,) = op.interval({"axis": 0}, [x], ROUNDING).results
            assert np.isfinite(y.lo).all()
            assert np.isfinite(y.hi).all()
            for corner in itertools.product(*zip(x.lo, x.hi, strict=True)):
                want = np.array(softmax_of(corner))
                if op is tensor.LogSoftmax:
                    top = max(corner)
                    total = math.log(math.fsum(math.exp(v - top) for v in corner))
                    want = np.array([v - top - total for v in corner])
                assert (y.lo <= want).all()
                assert (want <= y.hi).all()


def test_one_wide_score_leaves_a_softmax_open():
    """A score in [-50, 50] beside 0 may be anything between 0 and 1."""
    x = Interval(np.array([-50.0, 0.0]), np.array([50.0, 0.0]))
    (y,) = tensor.Softmax.interval({"axis": 0}, [x], ROUNDING).results
    assert y.lo[0] <= 1e-20
    assert y.hi[0] >= 1


def test_the_error_of_an_exponential_is_that_of_the_largest():
    """A square of exp(x / 2), both with 2^B taken out: small results err by more beside large."""
    small = Interval(np.array([-3.0]), np.array([-3.0]))
    both = Interval(np.array([-3.0, 12.0]), np.array([-3.0, 12.0]))
    fine = Rounding(2.0**-20, 2.0**-21)
    widths = []
    for x in (small, both):
        (y,) = tensor.Exp.interval({}, [x], fine).results
        widths.append(y.hi[0] - y.lo[0])
    assert widths[1] > 50 * widths[0]


def test_a_root_counts_the_rounding_of_epsilon():
    """1e-5 is 0.66 units of 2^-16, and is added as one."""
    x = Interval(np.array([2.0**-16]), np.array([2.0**-16]))
    (y,) = tensor.Rsqrt.interval({"epsilon": 1e-5}, [x], ROUNDING).results
    assert y.lo[0] <= (2 * 2.0**-16) ** -0.5
    assert y.hi[0] >= (2.0**-16 + 1e-5) ** -0.5


@pytest.mark.parametrize("policy", ["proved", "guarded"])
@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks_stay_within_their_bounds(name, policy):
    made = network(name, policy, 8 if name not in ("A", "B") else 2)
    found = attack(made, 2000)
    assert found.where == []
    assert found.good


# --- what flows ----------------------------------------------------------------------------------


def ranges_of(build, limits, constants=None):
    """Bounds of the result of a module that ``build`` makes of a maker."""
    o = Maker("tensor")
    y = build(o)
    o("output", y, name="y", owner="client")
    found = Intervals(o.module, constants or {}, 16, 16, limits)
    for op in o.module.main.ops:
        found.step(op)
    return found.values[y]


def test_a_mean_cancels_out_of_what_it_is_subtracted_from():
    """Differences x - mean(x) of n numbers are within 2 (n - 1) / n of their bound, not 2."""

    def build(o):
        x = o("input", name="x", shape=(2, 4))
        mean = o("scale", o("reduce_sum", x, axes=(1,), keepdims=True), factor=0.25)
        return o("sub", x, mean)

    y = ranges_of(build, {"x": (-1.0, 1.0)})
    assert 1.5 <= y.magnitude <= 1.5 + 2.0**-12
    # Of numbers that are all large: their spread counts alone.
    near = ranges_of(build, {"x": (1000.0, 1001.0)})
    # And what the factor is off, of sums of 4000.
    assert 0.75 <= near.magnitude <= 0.75 + 0.04


def test_what_a_residual_sum_subtracts_cancels_out():
    """Sums x + (y - x) / 2 lie between x and y."""

    def build(o):
        x, y = (o("input", name=n, shape=(1, 8)) for n in "xy")
        return o("add", x, o("scale", o("sub", y, x), factor=0.5))

    found = ranges_of(build, {"x": (-4.0, 4.0), "y": (-4.0, 4.0)})
    assert 4 <= found.magnitude <= 4 + 2.0**-10

    def rectified(o):
        x = o("input", name="x", shape=(1, 8))
        return o("sub", o("relu", x), x)

    # max(x, 0) - x is max(-x, 0), which intervals bound by 8.
    found = ranges_of(rectified, {"x": (-4.0, 4.0)})
    assert found.magnitude <= 6 + 2.0**-10


@pytest.mark.parametrize("clip", [False, True])
def test_a_clamped_value_has_no_form(clip):
    """Differences x - clamp(x) are not zero."""
    o = Maker("tensor")
    x = o("input", name="x", shape=(4,))
    half = o("scale", x, factor=0.5)
    y = o("sub", o("scale", half, factor=2.0), x)
    found = Intervals(o.module, {}, 16, 16, {"x": (-8.0, 8.0)})
    for op in o.module.main.ops:
        found.step(op)
        if op.result is half and clip:
            found.clip(op, 0)
    assert found.values[y].magnitude <= (10.1 if clip else 0.001)
    assert found.values[y].magnitude >= (6 if clip else 0)


def test_attention_gives_no_more_than_its_values():
    """Weighted means of rows of V: within the range of V's columns, not n times that."""

    def build(o):
        scores, v = o("input", name="s", shape=(6, 50)), o("input", name="v", shape=(50, 3))
        return o("matmul", o("softmax", scores, axis=1), v)

    y = ranges_of(build, {"s": (-9.0, 9.0), "v": (1.0, 3.0)})
    assert 3 <= y.magnitude <= 3.01
    assert y.lo.min() >= 0.99

    def across(o):
        scores, v = o("input", name="s", shape=(6, 50)), o("input", name="v", shape=(50, 3))
        return o("matmul", o("softmax", scores, axis=0), v)

    # Along the other axis rows have any sum.
    assert ranges_of(across, {"s": (-9.0, 9.0), "v": (1.0, 3.0)}).magnitude > 100


# Ops of random linear networks, by what they are told apart.
STEPS = ("dense", "conv", "relu", "skip", "minus", "mean", "turn", "scale", "part")


def random_part(rng):
    """A module of linear and residual parts with ReLUs between; the values on its way."""
    o = Maker("tensor")
    constants: dict[str, np.ndarray] = {}

    def weight(*shape):
        name = f"w{len(constants)}"
        constants[name] = rng.normal(0, 0.7, shape)
        return o("weight", name=name, shape=shape)

    live = [o("input", name="x", shape=(1, 2, 3, 4))]
    for _ in range(8):
        x, step = live[-1], rng.choice(STEPS)
        if step == "dense":
            live.append(o("matmul", x, weight(4, 4)))
        elif step == "conv":
            attrs: dict[str, Any] = {
                "strides": (1, 1),
                "pads": (1, 1, 1, 1),
                "dilations": (1, 1),
                "groups": 1,
            }
            live.append(o("conv", x, weight(2, 2, 3, 3), weight(2), **attrs))
        elif step == "relu":
            live.append(o("relu", x))
        elif step in ("skip", "minus"):
            other = live[rng.integers(len(live))]
            live.append(o("add" if step == "skip" else "sub", x, other))
        elif step == "mean":
            mean = o("reduce_sum", x, axes=(3,), keepdims=True)
            live.append(o("sub", x, o("scale", mean, factor=0.25)))
        elif step == "turn":
            turned = o("transpose", o("reshape", x, shape=(1, 2, 4, 3)), perm=(0, 1, 3, 2))
            live.append(turned)
        elif step == "scale":
            live.append(o("scale", x, factor=float(rng.uniform(-2, 2))))
        else:
            cut: dict[str, Any] = {
                "starts": (0, 0, 0, 0),
                "limits": (1, 1, 3, 4),
                "strides": (1, 1, 1, 1),
            }
            live.append(o("sub", x, o("slice", x, **cut)))
    o("output", live[-1], name="y", owner="client")
    return o.module, constants


def test_forms_hold_what_random_programs_compute():
    """Against whole runs of the fixed-point program, and no wider than intervals alone."""
    rng, narrower = np.random.default_rng(4), 0
    for seed in range(16):
        module, constants = random_part(rng)
        limits = {"x": (-1.5, 2.0)}
        with_forms, without = (Intervals(module, constants, 12, 12, limits) for _ in range(2))
        without.affine = None
        for op in module.main.ops:
            with_forms.step(op)
            without.step(op)
        made = formatted(module, constants, limits, 12, 12)
        for value, bounds in with_forms.values.items():
            plain = without.values[value]
            assert (bounds.lo >= plain.lo - 1e-9 * (1 + np.abs(plain.lo))).all()
            narrower += bool((bounds.hi - bounds.lo).sum() < 0.9 * (plain.hi - plain.lo).sum())
        for turn, rounding in enumerate(("floor", "worst", "random")):
            for _ in range(3):
                x = drawn(rng, (1, 2, 3, 4), limits["x"], 12, np.zeros(1))
                x = np.where(rng.random(x.shape) < 0.5, rng.choice([-1.5, 2.0], x.shape), x)
                run = made.values({"x": x}, rounding, seed + turn)
                for value, have in run.items():
                    bounds = with_forms.values[value]
                    assert (bounds.lo <= have).all()
                    assert (have <= bounds.hi).all()
    assert narrower > 15


def test_forms_are_bounded():
    """Beyond their budget there are none: time and memory follow it, not the model."""
    o = Maker("tensor")
    x = o("input", name="x", shape=(1, MOST_SYMBOLS + 1))
    o("output", o("sub", x, x), name="y", owner="client")
    found = Intervals(o.module, {}, 12, 12, {"x": (-1.0, 1.0)})
    for op in o.module.main.ops:
        found.step(op)
    assert found.values[o.module.main.ops[1].result].magnitude >= 2
