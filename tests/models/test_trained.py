"""Trained networks on real data: every prediction of the test split against onnxruntime."""

import numpy as np
import pytest

from tests.models import data, training
from tests.models.support import classes, examine

CALIBRATION = 64


def check(network, split, batch, record_property, name, accuracy):
    """Examine a trained network of [N, ...] pictures or rows with labels."""
    shape = (batch, *split.test.shape[1:])
    outputs = int(split.train_labels.max()) + 1
    model = network.to_onnx(shape, outputs)
    batches = CALIBRATION // batch or 1
    calibration = split.train[: batches * batch].reshape(batches, *shape)
    outcome = examine(
        model,
        {training.INPUT_NAME: calibration},
        {training.INPUT_NAME: split.test},
        batch,
        classes(),
    )
    record_property("score", outcome.text(name))
    assert outcome.samples == len(split.test)
    # It has learnt: otherwise equal predictions would say little.
    assert np.mean(network.predict(split.test) == split.test_labels) > accuracy


@pytest.mark.slow
def test_biopsies(record_property):
    split = data.biopsies()
    network = training.mlp((30, 32, 16, 2))
    network.fit(split.train, split.train_labels, epochs=60, batch=32)
    check(network, split, 142, record_property, "MLP on biopsies", 0.95)


@pytest.mark.slow
def test_digits(record_property):
    split = data.digits()
    network = training.cnn(8, (16, 32), 3, 64, pools=1)
    network.fit(split.train, split.train_labels, epochs=12, batch=32)
    check(network, split, 64, record_property, "CNN on digits", 0.95)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "channels", "hidden"), [("B", (16, 16), 100), ("C", (20, 50), 500)]
)
def test_fashion(name, channels, hidden, record_property):
    split = data.fashion()
    if split is None:
        pytest.skip("Fashion-MNIST is not installed: see docs/models.md")
    network = training.cnn(28, channels, 5, hidden)
    network.fit(split.train[:12000], split.train_labels[:12000], epochs=2)
    check(network, split, 100, record_property, f"network {name} on Fashion-MNIST", 0.8)
