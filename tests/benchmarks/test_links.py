"""Networks that are timed load their six links alike: exact bytes, counted on the program."""

from fractions import Fraction

import pytest

import mpcc
from benchmarks.cases import CASES
from mpcc.emit.graphdef import parse
from mpcc.ir.schedule import ONLINE, schedule
from mpcc.ir.types import COMPUTE_PLACES

LEAST_MESSAGE = 1024
"""Messages below do not count: what they cost is their round."""


def loads(artifact):
    """Online bytes per link between parties, small messages left out."""
    found: dict[tuple[str, str], int] = {}
    for message in schedule(parse(artifact.program)).messages:
        if message.phase == ONLINE and {message.source, message.to} <= set(COMPUTE_PLACES):
            link = message.source, message.to
            counts = message.nbytes >= LEAST_MESSAGE
            found[link] = found.get(link, 0) + (message.nbytes if counts else 0)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["A128", "B1", "B128", "C1", "C128", "resnet18", "vgg16", "resnet50"]
)
def test_no_link_carries_much_more_than_the_mean(name):
    material = CASES[name].make()
    compiled = mpcc.compile(
        material.model,
        options=mpcc.CompileOptions(formats=material.formats),
        calibration=material.calibration or None,
    )
    carried = loads(compiled.artifact)
    assert len(carried) == 6
    assert Fraction(6 * max(carried.values()), sum(carried.values())) <= Fraction(11, 10)
