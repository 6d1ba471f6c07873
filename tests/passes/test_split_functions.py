"""Functions of many elements are split, and load the links alike."""

from fractions import Fraction

import numpy as np
import pytest

from mpcc.ir.interp.fixed import simulate
from mpcc.ir.ops import secure
from mpcc.ir.schedule import ONLINE, schedule
from mpcc.ir.types import COMPUTE_PLACES
from mpcc.passes.split_lanes import SplitLanes
from mpcc.protocols import Rep3, lower_program
from mpcc.protocols.roles import BALANCED
from tests.protocols.support import Program


def layer(elements, count, early):
    """A dense layer if ``early``, a function and its truncation."""
    p, rng = Program(), np.random.default_rng(count)
    x = p.input(rng.uniform(-1, 1, (elements // 8, 8)), 10, width=14)
    if early:
        w = p.weight(rng.integers(-99, 99, (8, 8)), 8, 7)
        x = p.op("truncate", p.op("matmul", x, w, width=26), amount=8, width=18)
    cos, sin = (tuple(int(v) for v in rng.integers(-999, 999, count)) for _ in range(2))
    angle = {"coefficient_frac": 12, "precision": 20, "period": 14, "width": 46}
    y = p.op("fourier", x, cos=cos, sin=sin, **angle)
    p.op("reveal", p.op("truncate", y, amount=30, width=16), name="y", owner="client")
    return p


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(("elements", "count", "parts"), [(4096, 8, 3), (16384, 16, 6)])
def test_links_are_loaded_alike(elements, count, parts, early):
    p = layer(elements, count, early)
    SplitLanes().run(p.module)
    assert len(list(p.module.main.walk(secure.Fourier.name))) == parts
    loads: dict[tuple[str, str], int] = {}
    for message in schedule(lower_program(p.module, Rep3()).party).messages:
        if message.phase == ONLINE and {message.source, message.to} <= set(COMPUTE_PLACES):
            link = message.source, message.to
            loads[link] = loads.get(link, 0) + message.nbytes
    assert Fraction(6 * max(loads.values()), sum(loads.values())) <= BALANCED


def test_a_few_elements_with_many_harmonics_are_large():
    """What is split is counted in words of messages, of which a harmonic has two."""
    few, many = layer(512, 1, False), layer(512, 16, False)
    assert not SplitLanes().run(few.module).modified
    assert SplitLanes().run(many.module).modified


def test_slices_compute_the_same():
    whole, cut = layer(4096, 8, False), layer(4096, 8, False)
    SplitLanes().run(cut.module)
    one, other = (simulate(p.module, {}, p.inputs).outputs["y"] for p in (whole, cut))
    np.testing.assert_array_equal(one, other)
