"""Every step, over all coins: the result is right and each party's view says nothing.

For a receiver R, everything that R knows beforehand (its operands and the coins of its keys) is
fixed, and all coins that R does not know are enumerated. What R receives must then have the same
distribution for every secret; here it is uniform, which is stronger: all views equally often.
"""

import itertools

import numpy as np
import pytest

from mpcc.ir.ops import party, secure
from mpcc.ir.types import COMPUTE_PLACES
from mpcc.protocols.base import Add3, Pair, Rep
from mpcc.protocols.rep3 import bits, cast, comparison, fourier, linear, select, sharing, truncation
from mpcc.protocols.rep3.carry import Plan
from mpcc.protocols.rep3.one_round_plan import OneRound
from mpcc.protocols.rep3.sharing import ROLES
from tests.protocols.tiny import (
    Recording,
    any_ring,
    coins_for,
    held_components,
    opened,
    unknown_bits,
)


def signed(word, ring):
    return (word + (1 << (ring - 1))) % (1 << ring) - (1 << (ring - 1))


def check(monkeypatch, ring, role, record, secrets, settings=2, result=None):
    """Run a step for every receiver, secret and coin.

    Args:
        record: (recording, secret) -> (share, expected word per lane given the environment).
        secrets: receiver -> groups of secrets; within a group, the receiver's operands are equal.
        settings: assignments tried for the coins that the receiver knows.
        result: ring of the result, if it is another.
    """
    for place in COMPUTE_PLACES:
        with any_ring(monkeypatch):
            probe = Recording(ring, 1, role)
            record(probe, secrets(place)[0][0])
        unknown = unknown_bits(probe.streams(), place)
        lanes = 1 << unknown
        for group in secrets(place):
            for seed in range(settings):
                for secret in group:
                    with any_ring(monkeypatch):
                        recording = Recording(ring, lanes, role)
                        share, expected = record(recording, secret)
                    known = np.random.default_rng(seed)
                    coins = coins_for(recording.streams(), place, lanes, known)
                    env = recording.evaluate(coins)
                    np.testing.assert_array_equal(opened(share, env, result or ring), expected(env))
                    view, size = recording.view(env, place)
                    assert size <= unknown
                    counts = np.bincount(view.astype(np.int64), minlength=1 << size)
                    assert (counts == lanes >> size).all(), (place, secret)


def constant(value):
    return lambda env: value


# --- linear resharing and truncation -------------------------------------------------------------


def additive(ring, values, fixed):
    """Secrets for each receiver: its own summand fixed, the value and one other summand free."""

    def secrets(place):
        i = COMPUTE_PLACES.index(place)
        groups = []
        for own in fixed:
            group = []
            for value, other in itertools.product(values, fixed):
                parts = [0, 0, 0]
                parts[i], parts[i - 1] = own, other
                parts[i - 2] = (value - own - other) % (1 << ring)
                group.append(tuple(parts))
            groups.append(group)
        return groups

    return secrets


def replicated(ring, values, fixed):
    """Secrets for each receiver: both of its components fixed, the third free."""

    def secrets(place):
        i = COMPUTE_PLACES.index(place)
        groups = []
        for own, after in fixed:
            group = []
            for value in values:
                parts = [0, 0, 0]
                parts[i], parts[(i + 1) % 3] = own, after
                parts[i - 1] = (value - own - after) % (1 << ring)
                group.append(tuple(parts))
            groups.append(group)
        return groups

    return secrets


def test_reshare(monkeypatch):
    def record(r, parts):
        return sharing.reshare(r.builder, r.add3(parts)), constant(sum(parts) % 16)

    check(monkeypatch, 4, 0, record, additive(4, range(-8, 8), (0, 5, 15)))


@pytest.mark.parametrize("sum_left", [False, True])
def test_product(monkeypatch, sum_left):
    """Elementwise x * y and its resharing, over all x, y and third components."""
    ring, size = 2, 4

    def record(r, parts):
        x, y = r.rep(parts[:3]), r.rep(parts[3:])
        z = linear.product(r.builder, party.Mul, {}, x, y, sum_left)
        assert isinstance(z, Add3)
        return sharing.reshare(r.builder, z), constant(sum(parts[:3]) * sum(parts[3:]) % size)

    def secrets(place):
        i = COMPUTE_PLACES.index(place)
        groups = []
        for known in ((0, 0, 0, 0), (1, 3, 2, 1), (3, 2, 0, 1)):
            group = []
            for third_x, third_y in itertools.product(range(size), repeat=2):
                parts = [0] * 6
                parts[i], parts[(i + 1) % 3], parts[i - 1] = *known[:2], third_x
                parts[3 + i], parts[3 + (i + 1) % 3], parts[3 + (i - 1) % 3] = *known[2:], third_y
                group.append(tuple(parts))
            groups.append(group)
        return groups

    check(monkeypatch, ring, 0, record, secrets)


def truncated(ring, amount, parts, r, share):
    """Expected word: floor((x + g) / 2^f), g from the recorded coin, or floor for no coin."""
    value = signed(sum(parts) % (1 << ring), ring)
    coin = r.builder.coin

    def expected(env):
        if coin is None:
            return (value >> amount) % (1 << ring)
        g = (1 << amount) - 1 - (env[coin.value].astype(np.int64) & ((1 << amount) - 1))
        return ((value + g) >> amount) % (1 << ring)

    return share, expected


@pytest.mark.parametrize("role", [0, 3])
@pytest.mark.parametrize("amount", [1, 2])
@pytest.mark.parametrize("kind", ["add3", "rep"])
def test_truncate_stochastic(monkeypatch, role, amount, kind):
    def record(r, parts):
        share = truncation.stochastic(r.builder, getattr(r, kind)(parts), amount)
        return truncated(4, amount, parts, r, share)

    if kind == "add3":
        secrets = additive(4, range(-3, 4), (0, 11))
    else:
        secrets = replicated(4, range(-3, 4), ((0, 0), (3, 9), (15, 8)))
    check(monkeypatch, 4, role, record, secrets, settings=1)


def two_summands(ring, values, fixed, zero):
    """As :func:`additive`, with a party whose summand is zero, which is known."""
    one, other = (i for i in range(3) if i != zero)

    def secrets(place):
        groups = []
        for first in fixed:
            group = []
            for value in values:
                parts = [0, 0, 0]
                # The receiver's own summand is the fixed one.
                here, there = (other, one) if COMPUTE_PLACES[other] == place else (one, other)
                parts[here], parts[there] = first, (value - first) % (1 << ring)
                group.append(tuple(parts))
            groups.append(group)
        if COMPUTE_PLACES[zero] == place:
            return [[parts for group in groups for parts in group]]
        return groups

    return secrets


@pytest.mark.parametrize("zero", range(3))
@pytest.mark.parametrize("role", [0, 3])
@pytest.mark.parametrize("into", [0, 2])
def test_truncate_two_summands(monkeypatch, role, into, zero):
    """A summand that is known to be zero is not sent, whatever its role."""

    def record(r, parts):
        x = Add3(r.add3(parts).parts, COMPUTE_PLACES[zero])
        if not into:
            return truncated(4, 1, parts, r, truncation.stochastic(r.builder, x, 1))
        share = cast.truncate_into(r.builder, x, 1, into)
        share, expected = truncated(4, 1, parts, r, share)
        return share, lambda env: expected(env) % (1 << into)

    secrets = two_summands(4, range(-3, 4), (0, 11), zero)
    check(monkeypatch, 4, role, record, secrets, settings=1, result=into or 4)


@pytest.mark.parametrize("kind", [pytest.param("add3", marks=pytest.mark.slow), "rep"])
def test_truncate_exact(monkeypatch, kind):
    def record(r, parts):
        share = truncation.exact(r.builder, getattr(r, kind)(parts), 1)
        return truncated(3, 1, parts, r, share)

    if kind == "add3":
        secrets = additive(3, (-1, 1), (5,))
    else:
        secrets = replicated(3, (-1, 0, 1), ((0, 0), (3, 6)))
    check(monkeypatch, 3, 1, record, secrets, settings=1)


# --- changes of the ring -------------------------------------------------------------------------


@pytest.mark.parametrize("role", range(len(ROLES)))
@pytest.mark.parametrize(("ring", "to"), [(3, 4), (3, 5), (4, 5)])
def test_widen(monkeypatch, role, ring, to):
    """All values below 2^(ring-2), in a ring of more bits."""

    def record(r, parts):
        value = signed(sum(parts) % (1 << ring), ring)
        return cast.widen(r.builder, r.rep(parts), to), constant(value % (1 << to))

    top = 1 << (ring - 2)
    secrets = replicated(ring, range(1 - top, top), ((0, 0), (3, 1), (7, 6), (4, 4)))
    check(monkeypatch, ring, role, record, secrets, settings=1, result=to)


@pytest.mark.parametrize("role", [0, 3])
@pytest.mark.parametrize(("amount", "to"), [(1, 2), (2, 2), (1, 3)])
@pytest.mark.parametrize("kind", ["add3", "rep"])
def test_truncate_into(monkeypatch, role, amount, to, kind):
    """All values whose result fits, from a ring of 4 bits."""

    def record(r, parts):
        share = cast.truncate_into(r.builder, getattr(r, kind)(parts), amount, to)
        share, expected = truncated(4, amount, parts, r, share)
        return share, lambda env: expected(env) % (1 << to)

    if kind == "add3":
        secrets = additive(4, range(-8, 8), (0, 11))
    else:
        secrets = replicated(4, range(-8, 8), ((0, 0), (3, 9), (15, 8)))
    check(monkeypatch, 4, role, record, secrets, settings=1, result=to)


def test_narrow(monkeypatch):
    """No message; the components are those of the value modulo 2^2."""

    def record(r, parts):
        return cast.narrow(r.builder, r.rep(parts), 2), constant(sum(parts) % 4)

    secrets = replicated(4, range(-8, 8), ((0, 0), (3, 9), (15, 8)))
    check(monkeypatch, 4, 0, record, secrets, result=2)


# --- functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", range(3))
@pytest.mark.parametrize(
    ("ring", "to", "period", "count"), [(3, 3, 2, 1), (3, 2, 3, 2), (2, 4, 2, 1)]
)
@pytest.mark.parametrize("kind", ["add3", "rep", "early"])
def test_fourier(monkeypatch, role, ring, to, period, count, kind):
    """All values of the ring, from replicated, additive and early shares, into another ring."""
    given = {
        "cos": (5, -3)[:count],
        "sin": (-2, 4)[:count],
        "coefficient_frac": 1,
        "precision": 2,
        "period": period,
        "constant": 3,
        "multiplier": 3,
        "ring": to,
        "width": 1,
    }
    attrs = secure.Fourier.complete(given)

    def record(r, parts):
        x = (r.add3 if kind == "add3" else r.rep)(parts)
        if kind == "early":
            q0, q1, q2 = ROLES[0]
            pair = comparison.pair_of(r.builder, x, (q0, q1, q2))
            x = Rep(x.own, x.next, pair)
        share = sharing.reshare(r.builder, fourier.fourier(r.builder, attrs, x))
        value = np.full(r.lanes, signed(sum(parts) % (1 << ring), ring), np.int64)
        coin = r.builder.coin

        def expected(env):
            context = secure.Context(to, coin.read(env, (r.lanes,)))
            return secure.Fourier.evaluate(attrs, context, value) % (1 << to)

        return share, expected

    values = range(1 << ring)
    if kind == "add3":
        secrets = additive(ring, values, (0, (1 << ring) - 1))
    else:
        secrets = replicated(ring, values, ((0, 0), (3, 1)))
    check(monkeypatch, ring, role, record, secrets, settings=1, result=to)


# --- select --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("what", ["select", "bit_to_ring"])
def test_select(monkeypatch, role, what):
    q0, q1, _ = role
    ring = 2

    def record(r, secret):
        u, v, c01, c02, c12 = secret
        bit = r.pair_bit(role, u, v)
        if what == "bit_to_ring":
            return select.bit_to_ring(r.builder, role, bit, (r.lanes,), ring), constant(u ^ v)
        x = r.rep(held_components(role, c01, c02, c12))
        value = (c01 + c02 + c12) % (1 << ring)
        return select.select(r.builder, bit, x), constant(value if u ^ v else 0)

    def secrets(place):
        words, bits = range(1 << ring), (0, 1)
        if place == q0:  # knows u, c01, c02
            return [[(1, v, 3, 2, c) for v in bits for c in words]]
        if place == q1:  # knows v, c01, c12
            return [[(u, v, 3, c, 1) for u in bits for c in words] for v in bits]
        return [[(u, v, c, 2, 3) for u in bits for c in words] for v in bits]

    # FixedRole picks the n-th candidate among the roles whose q0 holds the bit.
    choice = [r for r in ROLES if r[0] == q0].index(role)
    check(monkeypatch, ring, choice, record, secrets)


@pytest.mark.parametrize("role", ROLES)
def test_turn(monkeypatch, role):
    """A bit whose u moves from q0 to q1."""
    q0, _, _ = role

    def record(r, secret):
        u, v = secret
        return bits.turn(r.builder, role, r.pair_bit(role, u, v), (r.lanes,)), constant(u ^ v)

    def secrets(place):
        if place == q0:
            return [[(u, v) for v in (0, 1)] for u in (0, 1)]
        return [[(u, v) for u in (0, 1)] for v in (0, 1)]

    check(monkeypatch, 1, 0, record, secrets)


# --- comparison ----------------------------------------------------------------------------------

PLANS: list[Plan | OneRound] = [
    Plan((2,), (1,)),
    Plan((1, 1), (2,)),
    Plan((2, 1), (2,)),
    Plan((1, 1, 1), (3,)),
    Plan((1, 1), (1, 1)),
    Plan((1, 1, 1), (2, 1)),
]
PLANS += [OneRound((2,)), OneRound((1, 1)), OneRound((2, 1)), OneRound((1, 1, 1))]
SMALL = [p for p in PLANS if p.dealt_planes <= 4]


@pytest.mark.parametrize(
    ("plan", "sign"), [*((p, True) for p in PLANS), *((p, False) for p in SMALL)], ids=str
)
def test_comparison(monkeypatch, plan, sign):
    role = q0, q1, q2 = ("P1", "P2", "P0")
    k = plan.width
    ring = k + 1
    monkeypatch.setattr(comparison, "plan", lambda width, lanes, round_bytes: plan)

    def record(r, secret):
        a, b = secret
        pair = Pair(q0, r.source(q0, a), {q: r.source(q, b) for q in (q1, q2)}, ring)
        share = comparison.carry(r.builder, role, pair, k, sign=sign)
        low = (a % (1 << k)) + (b % (1 << k))
        return share, constant(((a + b) >> k) & 1 if sign else low >> k)

    def secrets(place):
        words, known = list(range(1 << ring)), [1, (1 << k) - 1]
        if (
            plan.dealt_planes > 4 or plan.levels == 2 or len(plan.blocks) > 2
        ):  # keep the largest enumerations short
            words, known = [0, (1 << ring) - 1], [(1 << k) - 1]
        if place == q0:
            return [[(a, b) for b in words] for a in known]
        return [[(a, b) for a in words] for b in known]

    check(monkeypatch, ring, 0, record, secrets, settings=1)


def test_a_leak_is_found(monkeypatch):
    """The check itself: a summand sent without its mask has another distribution."""

    def record(r, parts):
        masked = sharing.reshare(r.builder, r.add3(parts))
        r.builder.send(r.function.ops[0].result, "P2", "leak")
        return masked, constant(sum(parts) % 4)

    with pytest.raises(AssertionError):
        check(monkeypatch, 2, 0, record, additive(2, range(4), (0, 1)))


# --- owners --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", range(3))
def test_share_views(monkeypatch, role):
    """What the parties receive of a shared value is uniform, whatever it is."""
    from mpcc.protocols.base import OwnerClear

    def record(r, value):
        x = OwnerClear("client", r.source("client", value))
        return sharing.share(r.builder, x), constant(value)

    check(monkeypatch, 3, role, record, lambda place: [list(range(8))])


@pytest.mark.parametrize("kind", ["rep", "add3"])
def test_reveal_view(monkeypatch, kind):
    """The owner's view depends on the value alone, not on its components, and sums to it."""
    ring = 2
    views: dict[int, np.ndarray] = {}
    for parts in itertools.product(range(4), repeat=3):
        with any_ring(monkeypatch):
            probe = Recording(ring, 1)
            sharing.open_to(probe.builder, getattr(probe, kind)(parts), "client")
            lanes = 1 << unknown_bits(probe.streams(), "client")
            r = Recording(ring, lanes)
            value = sharing.open_to(r.builder, getattr(r, kind)(parts), "client")
        env = r.evaluate(coins_for(r.streams(), "client", lanes, np.random.default_rng(0)))
        np.testing.assert_array_equal(env[value], sum(parts) % 4)
        counts = np.bincount(r.view(env, "client")[0].astype(np.int64), minlength=64)
        assert (views.setdefault(sum(parts) % 4, counts) == counts).all()
    distinct = {v.tobytes() for v in views.values()}
    assert len(distinct) == 4
