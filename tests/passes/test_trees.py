"""The fixed-point forms of decision trees: what is exact, what they cost, what parties compute."""

import numpy as np
import pytest

from mpcc import _native
from mpcc.cost.predict import count
from mpcc.emit.graphdef import emit
from mpcc.ir.interp import fixed, party, real
from mpcc.ir.ops import secure
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.ir.verify import verify
from mpcc.passes.fuse_local import FuseLocal
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights
from mpcc.passes.lowerings import trees
from mpcc.protocols import Rep3, lower_program
from mpcc.verify_program import check_program, declared_policy
from tests.ir.samples import Maker

SEED = 5


def branches(columns, count, frac, *, hidden, width=4, owner="model"):
    """Conditions on rows below 2^width; the tensor module and the secure one."""
    o = Maker("tensor")
    x = o("input", name="x", shape=(1, columns))
    operands = [x, o("weight", name="t", shape=(count,), owner=owner)]
    if hidden:
        operands.append(o("weight", name="p", shape=(columns, count)))
    o("output", o("branch", *operands), name="y", owner="client")
    return o.module, lowered_to_secure(o.module, frac, [(0, width)], width)


def lowered_to_secure(module, frac, ranges, width, weight_bits=4):
    phi = Phi("observed", 64, frac, frac, weight_bits, (), tuple(ranges), ())
    limit = 2.0**width - 1
    options = FormatOptions(policy="observed", input_ranges={"x": (-limit, limit)})
    made = build_secure(module, phi, options)
    verify(made, secure.DIALECT)
    return made


def decided(x, t, frac, *, minus=False):
    """For all pairs, the bits t < x of fixed point, through the product with one-hot columns."""
    places = np.eye(len(x)).repeat(len(t), axis=1) * (-1 if minus else 1)
    thresholds = np.tile(-t if minus else t, len(x))
    _, made = branches(len(x), len(thresholds), frac, hidden=True)
    weights = encode_weights({"t": thresholds, "p": places}, made)
    run = fixed.simulate(made, weights, {"x": x[None]})
    assert not run.overflows
    return run.outputs["y"].reshape(len(x), len(t)) != 0


@pytest.mark.parametrize("frac", [4, 7])
def test_decisions_are_exact_on_the_threshold_and_a_unit_away(frac):
    """Of x <= t, also where neither is a multiple of a unit; and of x < t, with minus signs."""
    rng = np.random.default_rng(frac)
    t = np.round(rng.uniform(-3, 3, 40), 3)
    unit = 2.0**-frac
    x = np.unique(np.concatenate([t, t - 0.4 * unit, t - unit, t + unit, rng.uniform(-5, 5, 40)]))
    right = decided(x, t, frac)
    assert not right[x[:, None] <= t].any()
    assert right[x[:, None] >= t + unit].all()
    # x < t is not -x <= -t.
    less = decided(x, t, frac, minus=True)
    assert not less[x[:, None] >= t].any()
    assert less[x[:, None] <= t - unit].all()


def test_decisions_on_multiples_of_a_unit_are_exact_for_thresholds_between_them():
    """Below the middle; whole numbers and halves between them are exact at any fraction."""
    frac = 5
    x = np.arange(-64, 65) * 2.0**-frac
    t = np.arange(-60, 60) * 2.0**-frac + 0.45 * 2.0**-frac
    np.testing.assert_array_equal(decided(x, t, frac), t < x[:, None])
    x, t = np.arange(-7.0, 8.0), np.arange(-7.0, 7.0) + 0.5
    np.testing.assert_array_equal(decided(x, t, frac), t < x[:, None])


@pytest.mark.parametrize(("width", "ring"), [(16, 32), (24, 64)])
def test_conditions_are_compared_in_the_smaller_ring_where_they_fit(width, ring):
    _, made = branches(3, 5, 8, hidden=True, width=width)
    (product,) = made.main.walk("secure.matmul")
    assert product.result.type.ring == ring
    places = next(op for op in made.main.walk("secure.weight") if op.attrs["name"] == "p")
    # Whole numbers, so that the product needs no truncation.
    assert places.attrs["frac"] == 0
    assert not list(made.main.walk("secure.truncate"))


# --- forests -------------------------------------------------------------------------------------


def forest(trees_, depth, rows, classes=1, frac=10):
    """Complete trees over three columns."""
    inner, outer = (1 << depth) - 1, 1 << depth

    def child(tree, i):
        return tree * inner + i if i < inner else -1 - (tree * outer + i - inner)

    sides = [
        tuple(child(t, 2 * i + k) for t in range(trees_) for i in range(inner)) for k in (1, 2)
    ]
    o = Maker("tensor")
    x = o("input", name="x", shape=(rows, 3))
    t = o("weight", name="t", shape=(trees_ * inner,))
    p = o("weight", name="p", shape=(3, trees_ * inner))
    v = o("weight", name="v", shape=(trees_ * outer, classes))
    roots = tuple(child(t, 0) for t in range(trees_))
    y = o("forest", o("branch", x, t, p), v, roots=roots, left=sides[0], right=sides[1])
    o("output", y, name="y", owner="client")
    index = next(i for i, op in enumerate(o.module.main.ops) if y in op.results)
    # Range of the input and of the result.
    return o.module, lowered_to_secure(o.module, frac, [(0, 3), (index, 9)], 3)


def numbers(module, seed=0):
    """Weights of these trees."""
    rng = np.random.default_rng(seed)
    shapes = {op.attrs["name"]: op.attrs["shape"] for op in module.main.walk("tensor.weight")}
    places = np.zeros(shapes["p"])
    places[rng.integers(3, size=shapes["t"]), np.arange(shapes["t"][0])] = 1
    return {
        "t": rng.integers(-2000, 2000, shapes["t"]) / 1024,
        "p": places,
        "v": rng.integers(-1000, 1000, shapes["v"]) / 1024,
    }


@pytest.mark.parametrize("counting", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_both_forms_are_exact(counting, depth, monkeypatch):
    """Features, thresholds and values are multiples of a unit: then everything is."""
    monkeypatch.setattr(trees, "summed", lambda *_: counting)
    module, made = forest(3, depth, 20, classes=2)
    # The comparison of the conditions, and that of the counts.
    assert len(list(made.main.walk("secure.negative"))) == 1 + counting
    weights = numbers(module)
    x = np.random.default_rng(1).integers(-2048, 2048, (20, 3)) / 1024
    want = real.run(module, weights, {"x": x})["y"]
    have = fixed.simulate(made, encode_weights(weights, made), {"x": x})
    assert not have.overflows
    np.testing.assert_array_equal(have.outputs["y"], want)


def messages(made):
    """Bytes between the parties, and rounds, online."""
    online = count(lower_program(made, Rep3()).party).online
    links = [v for k, v in online.bytes_sent.items() if "client" not in k and "model" not in k]
    return sum(links), online.rounds


@pytest.mark.parametrize(
    ("depth", "products", "sums"),
    [(2, (23478, 7), (23628, 9)), (3, (61128, 8), (52028, 9)), (6, (588228, 11), (451428, 9))],
)
def test_the_cost_of_a_hundred_trees(depth, products, sums, monkeypatch):
    """The table of docs/trees.md, Cost; the formulas there are a third of the bytes."""
    for counting, want in ((False, products), (True, sums)):
        monkeypatch.setattr(trees, "summed", lambda *_, how=counting: how)
        assert messages(forest(100, depth, 1)[1]) == want
    nodes, leaves = 100 * ((1 << depth) - 1), 100 << depth
    more = (products[0] - sums[0]) / 3
    assert more == pytest.approx(16 * (nodes - 100) - 8.5 * leaves, abs=0.4 * leaves)


@pytest.mark.parametrize(
    ("depth", "rows", "counting"),
    [(1, 9999, False), (2, 9999, False), (3, 1, False)]
    + [(3, 1000, True), (4, 1, True), (9, 1000, True)],
)
def test_the_cheaper_form_is_taken(depth, rows, counting):
    inner, outer = (1 << depth) - 1, 1 << depth
    assert trees.summed(10 * inner, 10 * outer, 10, depth, rows, 64) == counting


@pytest.mark.parametrize("counting", [False, True])
def test_parties_compute_it_and_the_checker_accepts(counting, monkeypatch):
    monkeypatch.setattr(trees, "summed", lambda *_: counting)
    module, made = forest(4, 3, 2)
    weights = encode_weights(numbers(module), made)
    lowered = lower_program(made, Rep3())
    session = party.Session(lowered.party, weights, party.SeededKeys(SEED))
    x = (np.random.default_rng(2).integers(-2048, 2048, (2, 3)) / 1024).astype(np.float32)
    run = session.run({"x": x.astype(np.float64)})
    simulated = fixed.simulate(made, weights, {"x": x.astype(np.float64)})
    np.testing.assert_array_equal(run.outputs["y"], simulated.outputs["y"])
    fused = lowered.party.clone()
    FuseLocal().run(fused)
    policy = declared_policy(made)
    for program in (lowered.party, fused):
        assert check_program(program, policy).all_problems == ()
        (found,), _ = _native.run_in_memory(emit(program), weights, [{"x": x}], SEED, threads=2)
        assert found["y"].tobytes() == run.outputs["y"].tobytes()
