"""What each party receives looks uniform: chi-square over the bytes of every message.

Fixed seeds, so the outcome is fixed; the threshold is what a fresh seed would fail with probability
below 1e-9 per message (Wilson-Hilferty, 6 standard deviations), below 1e-6 for the whole file.
"""

import numpy as np
import pytest

from mpcc.protocols import Ref, Rep3
from tests.protocols.support import Program, execute

LANES = 1 << 15


def deviation(payload):
    """Standard deviations by which a byte histogram exceeds the uniform one (chi-square, 255)."""
    counts = np.bincount(payload, minlength=256)
    expected = payload.size / 256
    statistic = ((counts - expected) ** 2 / expected).sum()
    free = 255
    cube = (statistic / free) ** (1 / 3)
    return (cube - (1 - 2 / (9 * free))) / np.sqrt(2 / (9 * free))


def program(value):
    """All kinds of message, on lanes that all hold the same secret."""
    p = Program(64)
    raw = np.full((LANES, 1), value, np.int64)
    x, one = p.weight(raw, 12, 40), p.weight([[1]], 0, 1)
    y = p.op("matmul", x, one, width=40)
    y = p.op("truncate", y, amount=12, width=29)
    small = p.op("truncate", x, amount=12, rounding="exact", width=28)
    bit = p.op("negative", y)
    p.op("select", bit, y, width=29)
    z = p.op("matmul", x, one, width=40)
    p.op("select", p.op("negative", z), z, width=40)
    p.op("clamp", small, lo=-50, hi=50, width=6)
    p.op("add", p.op("mul", y, small, width=60), p.op("mul", y, y, width=60), width=61)
    p.op("negative", p.op("mul", small, small, width=57))
    other = p.op("negative", x)
    joined = p.op("concat", bit, other, axis=1)
    p.op("from_bit", joined)
    return p


@pytest.mark.parametrize("value", [0, 1, -1, (1 << 40) - 1, -(1 << 40) + 1])
def test_messages_are_uniform(value):
    outcome = execute(program(value), Rep3(), seed=abs(value) % 1000 + 1)
    messages = outcome.session.setup.messages + outcome.run.messages
    between = [m for m in messages if m.payload.size >= 4096]
    assert len(between) > 40
    worst = max(between, key=lambda m: deviation(m.payload))
    assert deviation(worst.payload) < 6, f"{worst.step} on {worst.link}"


def test_the_oracle_protocol_fails_this():
    """The check finds what is not masked."""
    outcome = execute(program(3), Ref())
    messages = outcome.session.setup.messages + outcome.run.messages
    assert max(deviation(m.payload) for m in messages if m.payload.size >= 4096) > 100


def test_traffic_does_not_depend_on_the_secret():
    """Sizes, order and depths of all messages are those of the program."""
    runs = [execute(program(v), Rep3(), seed=9).run.messages for v in (5, -5)]
    for a, b in zip(*runs, strict=True):
        assert (a.step, a.link, a.nbytes, a.depth) == (b.step, b.link, b.nbytes, b.depth)
