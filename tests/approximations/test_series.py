"""The table of approximations: every stated error is proved again, and what is made can be made."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mpcc.approximations import FUNCTIONS, certify, entries, generate, series, tail_series
from mpcc.errors import MpccError
from tests.approximations.jets import CURVATURES

NAMES = sorted(FUNCTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_stated_errors_are_proved(name):
    found = entries(name)
    assert found
    for s in found:
        assert certify(s) <= s.error
        # Far from loose: users pay for what is claimed.
        x = np.linspace(s.lo, s.hi, 4001)
        seen = np.abs(s.evaluate(x) - FUNCTIONS[name].value(x)).max()
        assert seen <= s.error <= 1.2 * seen + 2.0**-29
        # What secure.fourier holds.
        assert max(map(abs, (*s.cos, *s.sin))) < 1 << 31
        assert len(s.cos) == len(s.sin) >= 1


def test_a_wrong_coefficient_is_noticed():
    s = series("gelu", -4.0, 4.0, 2.0**-17)
    cos = list(s.cos)
    cos[-1] += 1 << (s.frac - 12)
    assert certify(replace(s, cos=tuple(cos))) > 2.0**-13
    assert certify(replace(s, constant=s.constant + (1 << (s.frac - 12)))) > 2.0**-13


@pytest.mark.parametrize("name", NAMES)
def test_curvatures_are_proved(name):
    """By interval arithmetic on derivatives: |f''| on every cell of a partition."""
    function = FUNCTIONS[name]
    lo = max(function.lo, -20.0)
    hi = 2.0 if function.lo == 1.0 else min(function.hi, 20.0)
    ends = np.linspace(lo, hi, 40001)
    bound = CURVATURES[name](ends[:-1], ends[1:])
    assert bound <= function.curvature
    # And it is not far too large, which would waste time only.
    assert bound >= 0.5 * function.curvature


@pytest.mark.parametrize("name", [n for n in NAMES if FUNCTIONS[n].tails is not None])
def test_tails_are_close_to_their_lines(name):
    function = FUNCTIONS[name]
    r = np.linspace(1.0, 40.0, 2001)
    tails = function.tails
    assert tails is not None
    (left, down), (right, up) = tails.left, tails.right
    allowed = tails.error(r) * (1 + 1e-9) + 1e-13
    assert (np.abs(function.value(-r) - (left - down * r)) <= allowed).all()
    assert (np.abs(function.value(r) - (right + up * r)) <= allowed).all()
    assert (np.diff(tails.error(r)) <= 0).all()


@pytest.mark.parametrize("name", ["sigmoid", "gelu", "exp", "reciprocal"])
def test_the_cheapest_series_is_taken(name):
    lo, hi = {"exp": (-8.0, 0.0), "reciprocal": (1.0, 2.0)}.get(name, (-4.0, 4.0))
    terms = []
    for level in range(8, 24):
        s = series(name, lo, hi, 2.0**-level)
        assert s.error <= 2.0**-level
        assert s.lo <= lo
        assert hi <= s.hi
        better = [e for e in entries(name) if e.lo <= lo and hi <= e.hi and e.terms < s.terms]
        assert all(e.error > 2.0**-level for e in better)
        terms.append(s.terms)
    assert terms == sorted(terms)


def test_series_with_tails_end_where_these_are_close():
    tails = FUNCTIONS["gelu"].tails
    assert tails is not None
    for level in range(8, 25):
        s = tail_series("gelu", 2.0**-level)
        assert s.error <= 2.0**-level
        assert tails.error(np.asarray(s.hi)) <= 2.0**-level
    # More than the table has: as good as it gets.
    assert tail_series("gelu", 0.0).error <= 2.0**-24


def test_what_is_not_there_is_refused():
    with pytest.raises(MpccError, match="no approximation of 'zeta'"):
        series("zeta", 0.0, 1.0, 0.1)
    with pytest.raises(MpccError, match=r"no approximation of atan on \[-1000"):
        series("atan", -1000.0, 1000.0, 0.1)
    with pytest.raises(MpccError, match="log has no tails"):
        tail_series("log", 0.1)


@pytest.mark.parametrize(("name", "lo", "hi"), [("erf", -2.0, 2.0), ("exp", -4.0, 0.0)])
def test_the_generator_makes_what_is_committed(name, lo, hi):
    """As many harmonics and errors as small; the last digits may be another library's."""
    (levels,) = (ns for a, b, ns in generate.intervals(name) if (a, b) == (lo, hi))
    made = list(generate.of_interval(name, lo, hi, levels[:8]))
    known = [s for s in entries(name) if (s.lo, s.hi) == (lo, hi)][: len(made)]
    assert [s.terms for s in made] == [s.terms for s in known]
    for a, b in zip(made, known, strict=True):
        assert math.isclose(a.error, b.error, rel_tol=0.05)
