"""The fixed-point forms of smooth functions: the bounds that docs/numbers.md states."""

import numpy as np
import pytest

from mpcc import _native
from mpcc.approximations import FUNCTIONS, tail_series
from mpcc.emit.graphdef import emit
from mpcc.errors import MpccError
from mpcc.ir.interp import fixed, party, real
from mpcc.ir.ops import secure
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.text import print_module
from mpcc.ir.types import SecureType
from mpcc.ir.verify import verify
from mpcc.passes.fuse_local import FuseLocal
from mpcc.passes.lower_tensor_to_secure import build_secure
from mpcc.passes.lowerings.functions import choose
from mpcc.protocols import Rep3, lower_program
from mpcc.verify_program import check_program, declared_policy
from tests.ir.samples import Maker

SEED = 11

TAILED = ("sigmoid", "tanh", "erf", "gelu", "silu", "mish", "softplus", "elu")
ATTRS = {"gelu": {"approximate": "none"}}


def program(op, bits, frac, count, *, ring=64, result=None, **attrs):
    """One operator of ``count`` numbers below 2^bits; the tensor module and the secure one."""
    o = Maker("tensor")
    x = o("input", name="x", shape=(count,))
    o("output", o(op, x, **attrs), name="y", owner="client")
    ranges = ((0, bits),) if result is None else ((0, bits), (1, result))
    phi = Phi("observed", ring, frac, frac, 1, (), ranges, ())
    limit = largest(bits, frac)
    options = FormatOptions(policy="observed", input_ranges={"x": (-limit, limit)}, ring=ring)
    made = build_secure(o.module, phi, options)
    verify(made, secure.DIALECT)
    return o.module, made


def largest(bits, frac):
    """The largest number of the format that an input of binary32 is sure to stay below."""
    return 2.0**bits - 2.0 ** max(-frac, bits - 24)


def inputs(bits, frac, *, ends=()):
    """Every number of the format if they are few; else many, and all near the ends given."""
    top = 1 << (bits + frac)
    if top <= 1 << 14:
        return np.arange(1 - top, top) * 2.0**-frac
    rng = np.random.default_rng(bits * 64 + frac)
    wide = rng.integers(1 - top, top, 4000)
    near = rng.integers(-20 << frac, 20 << frac, 8000)
    round_ends = [round(e * 2.0**frac) + np.arange(-4, 5) for e in (0.0, *ends)]
    x = np.concatenate([wide, near, *round_ends, [1 - top, top - 1]]) * 2.0**-frac
    return np.clip(x, -largest(bits, frac), largest(bits, frac))


def worst(op, x, bits, frac, *, seeds=2, **options):
    """The largest error over coins, in units."""
    module, made = program(op, bits, frac, len(x), **options)
    want = real.run(module, {}, {"x": x})["y"]
    found = 0.0
    for rounding in ("floor", "worst", *(["random"] * seeds)):
        have = fixed.simulate(made, {}, {"x": x}, rounding, seed=int(found * 1e6) % 1000)
        assert not have.overflows
        raw = have.raw_outputs["y"] * 2.0**-frac
        found = max(found, float(np.abs(raw - want).max()) * 2.0**frac)
    return found


@pytest.mark.parametrize("op", TAILED)
@pytest.mark.parametrize("bits", [-1, 2, 5])
def test_every_number_of_a_small_format(op, bits):
    """Within two units, whatever the coins."""
    x = inputs(bits, 9)
    assert len(x) == (1 << (bits + 10)) - 1
    assert worst(op, x, bits, 9, **ATTRS.get(op, {})) <= 2.0


@pytest.mark.parametrize("op", TAILED)
@pytest.mark.parametrize(("bits", "frac"), [(4, 16), (6, 20), (12, 14), (30, 12)])
def test_large_formats(op, bits, frac):
    """Also numbers so wide that they are clamped before the series."""
    ends = [] if op == "elu" else [tail_series(op, 2.0 ** -(frac + 1)).hi]
    x = inputs(bits, frac, ends=[*ends, *(-e for e in ends)])
    assert worst(op, x, bits, frac, **ATTRS.get(op, {})) <= 2.0


@pytest.mark.parametrize("op", TAILED)
def test_rings_of_32_bits(op):
    for bits, frac in ((3, 7), (6, 10), (10, 12)):
        assert worst(op, inputs(bits, frac), bits, frac, ring=32, **ATTRS.get(op, {})) <= 2.0


@pytest.mark.parametrize(("op", "bits"), [("sin", 2), ("cos", 5), ("sin", 20), ("atan", 4)])
@pytest.mark.parametrize("ring", [32, 64])
def test_functions_without_tails(op, bits, ring):
    assert worst(op, inputs(bits, 9), bits, 9, ring=ring) <= 2.0


@pytest.mark.parametrize(("bits", "frac", "result"), [(3, 9, 0), (3, 9, 4), (5, 12, 9), (9, 8, 1)])
@pytest.mark.parametrize("ring", [32, 64])
def test_the_exponential(bits, frac, result, ring):
    """Below 2^result, as Phi promises."""
    x = inputs(bits, frac)
    x = x[np.exp(x) < 2.0**result * (1 - 2.0**-frac)]
    assert worst("exp", x, bits, frac, result=result, ring=ring) <= 2.0


def test_large_exponentials_are_relatively_precise():
    """By the square of exp(x / 2); a unit of x itself changes the result by 2^-16 of it."""
    bits, frac, result = 5, 16, 20
    x = np.linspace(-31.0, np.log(2.0**result) - 2.0**-10, 4001)
    x = np.round(x * 2.0**frac) * 2.0**-frac
    _, made = program("exp", bits, frac, len(x), result=result)
    have = fixed.simulate(made, {}, {"x": x}, "random", seed=4)
    assert not have.overflows
    error = np.abs(have.raw_outputs["y"] * 2.0**-frac - np.exp(x))
    # The root is below 2^10 and wrong by 2^-20 of that, which the square doubles.
    allowed = 2.0**-frac * 2 + np.exp(x / 2) * 2.0 ** (result / 2 - 19)
    assert (error <= allowed).all()


def test_comparisons_only_where_the_width_needs_them():
    """Numbers below 4 are inside of every series; beyond, two comparisons beside it."""
    _, small = program("sigmoid", 2, 16, 3)
    assert [op.name for op in small.main.walk("secure.negative")] == []
    _, large = program("sigmoid", 8, 16, 3)
    assert len(list(large.main.walk("secure.negative"))) == 2
    assert len(list(large.main.walk("secure.select"))) == 2
    for made in (small, large):
        (series,) = made.main.walk("secure.fourier")
        # Half a unit at most, as the formats ask for, and the rounding of a line's factor.
        assert series.attrs["error"] <= 2.0**-17 * 1.03
    assert len(list(large.main.walk("secure.truncate"))) == 1


@pytest.mark.parametrize("name", [n for n, f in FUNCTIONS.items() if f.tails is not None])
@pytest.mark.parametrize("ring", [32, 64])
def test_the_proved_bound_is_what_the_range_rule_allows(name, ring):
    """Two units up to 19 fraction bits, whatever the width; always room."""
    for frac in range(4, 24):
        for bits in (-2, 0, 3, 6, 12, 27):
            if not 1 <= bits + frac <= ring - 3:
                continue
            found = choose(name, SecureType((1,), ring, frac, bits + frac, "secret"), frac, ring)
            assert found is not None
            unit = 2.0**-frac
            assert found.error <= (2 * unit if frac < 20 else unit + 2.0**-19)


@pytest.mark.parametrize(
    ("op", "bits", "frac", "options"),
    [
        ("sigmoid", 2, 12, {}),
        ("gelu", 9, 12, ATTRS["gelu"]),
        ("gelu", 30, 12, ATTRS["gelu"]),
        ("elu", 6, 9, {"ring": 32}),
        ("exp", 4, 12, {"result": 16}),
        ("sin", 12, 10, {"ring": 32}),
    ],
)
def test_engines_agree_and_nothing_leaks(op, bits, frac, options):
    """Simulator, interpreter of the parties and native engine, bit for bit; fused or not."""
    x = (np.random.default_rng(5).uniform(-1, 1, 70) * 2.0 ** min(bits, 3)).astype(np.float32)
    _, made = program(op, bits, frac, len(x), **options)
    lowered = lower_program(made, Rep3())
    keep = {c.value for c in lowered.coins.values() if c.value is not None}
    session = party.Session(lowered.party, {}, party.SeededKeys(SEED), keep=keep)
    run = session.run({"x": x}, keep=keep)
    values = {**session.setup.values, **run.values}
    shapes = {i: made.main.ops[i].result.type.shape for i in lowered.coins}
    coins = {i: coin.read(values, shapes[i]) for i, coin in lowered.coins.items()}
    simulated = fixed.simulate(made, {}, {"x": x}, coins)
    assert not simulated.overflows
    np.testing.assert_array_equal(run.outputs["y"], simulated.outputs["y"])
    fused = lowered.party.clone()
    FuseLocal().run(fused)
    policy = declared_policy(made)
    for module in (lowered.party, fused):
        assert check_program(module, policy).all_problems == ()
        (found,), _ = _native.run_in_memory(emit(module), {}, [{"x": x}], SEED, threads=2)
        assert found["y"].tobytes() == run.outputs["y"].tobytes()


def test_angles_of_wide_numbers_take_no_comparison():
    _, made = program("sin", 20, 10, 3)
    assert [op.name for op in made.main.walk("secure.negative")] == []
    (series,) = made.main.walk("secure.fourier")
    assert len(series.attrs["cos"]) == 1


def test_no_series_for_it():
    with pytest.raises(MpccError, match="atan is supported of numbers up to 16, not up to 64"):
        program("atan", 6, 10, 3)


def test_the_series_follows_from_the_formats_alone():
    texts = [print_module(program("gelu", 6, 12, 3, **ATTRS["gelu"])[1]) for _ in range(2)]
    assert texts[0] == texts[1]
    assert texts[0] != print_module(program("gelu", 6, 13, 3, **ATTRS["gelu"])[1])
