"""Graphs in the shape of MobileNetV2, ResNet-18 and U-Net with random weights, at small sizes."""

from dataclasses import dataclass

import pytest

from benchmarks import vision
from tests.models.support import classes, examine


@dataclass(frozen=True)
class Setting:
    """Arguments of the builder, samples per run, runs, and the error bound."""

    size: int
    width: float
    classes: int
    batch: int
    runs: int
    bound: float


SETTINGS = {
    "mobilenet-v2": Setting(32, 0.25, 10, 16, 16, 2.0**-7),
    "resnet-18": Setting(32, 0.125, 10, 16, 16, 2.0**-7),
    "unet": Setting(32, 1 / 16, 2, 4, 4, 2.0**-6),
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SETTINGS)
def test_random_weights(name, record_property):
    s = SETTINGS[name]
    model = vision.VISION[name](size=s.size, width=s.width, classes=s.classes, batch=s.batch)
    calibration = vision.images(4 * s.batch, s.size, seed=2).reshape(4, s.batch, 3, s.size, s.size)
    pictures = vision.images(s.runs * s.batch, s.size, seed=3)
    outcome = examine(
        model.SerializeToString(),
        {vision.INPUT_NAME: calibration},
        {vision.INPUT_NAME: pictures},
        s.batch,
        classes(),
        s.bound,
    )
    record_property("score", outcome.text(f"{name} in shape, random weights"))
    assert outcome.samples == len(pictures) * (s.size**2 if name == "unet" else 1)
