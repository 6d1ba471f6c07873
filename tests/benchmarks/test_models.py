import hashlib

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper

from benchmarks import vision
from benchmarks.models import INPUT_NAME, NETWORKS, OUTPUT_NAME, sample_inputs

#: Of the file for seed 1 and batch 1: a change here makes older timings incomparable.
HASHES = {
    "A": "b52915e26fb04e7cddaf27c50f163aca064c767f1de29ad2b198919c7e99a016",
    "B": "c058a2e5711edf9418eb47d671721256695b2d3e0da43b279d8f10c69902f09e",
    "C": "143d52e8eb25de4a761a0914a0ac5951d1f8b06c03bcbe0d38b1eb372b3962c0",
}


def relu(x):
    return np.maximum(x, 0)


def conv(x, w, b):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, w) + b[:, None, None]


def maxpool(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))


def expected(name, weights, x):
    w1, b1, w2, b2, w3, b3, *rest = weights
    if name == "A":
        hidden = relu(relu(x @ w1.T + b1) @ w2.T + b2)
        return hidden @ w3.T + b3
    w4, b4 = rest
    features = maxpool(relu(conv(maxpool(relu(conv(x, w1, b1))), w2, b2)))
    return relu(features.reshape(len(x), -1) @ w3.T + b3) @ w4.T + b4


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("batch", [1, 3])
def test_network_computes_its_description(name, batch):
    network = NETWORKS[name](batch)
    (sample,) = sample_inputs(network)
    weights = [numpy_helper.to_array(w).astype(np.float64) for w in network.model.graph.initializer]
    session = onnxruntime.InferenceSession(network.serialized(), providers=["CPUExecutionProvider"])
    (logits,) = session.run([OUTPUT_NAME], sample)
    assert logits.shape == (batch, 10)
    assert np.allclose(logits, expected(name, weights, sample[INPUT_NAME]), atol=1e-4)
    assert np.ptp(logits) > 0.1


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_bytes_depend_on_the_seed_alone(name):
    make = NETWORKS[name]
    data = make().serialized()
    assert data == make().serialized()
    assert data != make(seed=2).serialized()
    assert hashlib.sha256(data).hexdigest() == HASHES[name]


def test_parameter_counts():
    sizes = {
        name: sum(int(np.prod(w.dims)) for w in make().model.graph.initializer)
        for name, make in NETWORKS.items()
    }
    assert sizes == {
        "A": 784 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10,
        "B": 16 * 25 + 16 + 16 * 16 * 25 + 16 + 256 * 100 + 100 + 100 * 10 + 10,
        "C": 20 * 25 + 20 + 50 * 20 * 25 + 50 + 800 * 500 + 500 + 500 * 10 + 10,
    }


def test_samples_are_seeded_and_in_range():
    network = NETWORKS["C"](batch=2)
    first, second = sample_inputs(network, 2, seed=5)
    (again,) = sample_inputs(network, 1, seed=5)
    assert np.array_equal(first[INPUT_NAME], again[INPUT_NAME])
    assert not np.array_equal(first[INPUT_NAME], second[INPUT_NAME])
    assert first[INPUT_NAME].shape == (2, 1, 28, 28)
    assert first[INPUT_NAME].dtype == np.float32
    assert first[INPUT_NAME].min() == 0
    assert first[INPUT_NAME].max() < 1


@pytest.mark.parametrize(
    ("make", "size", "weights"),
    [
        # Depth: convolutions and dense layers, downsampling shortcuts included.
        (vision.resnet18_small, 32, 17 + 3 + 1),
        (vision.vgg16_small, 32, 16),
        (vision.resnet50, 64, 49 + 4 + 1),
    ],
)
def test_deep_networks_have_their_depth_and_values_stay_sane(make, size, weights):
    model = make(size=size, width=1 / 8)
    ops = [node.op_type for node in model.graph.node]
    assert ops.count("Conv") + ops.count("Gemm") == weights
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(None, {vision.INPUT_NAME: vision.images(1, size, seed=3)})
    assert np.isfinite(logits).all()
    assert 0.1 < np.abs(logits).max() < 100
