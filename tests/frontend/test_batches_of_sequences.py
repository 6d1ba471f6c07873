"""Several batch sizes of recurrent models: one program for each, over the same weights."""

import numpy as np
import onnxruntime
import pytest

import mpcc
from mpcc.errors import MpccError
from tests.frontend.models import model, node

RNG = np.random.default_rng(0)
HIDDEN = 2


def lstm():
    """An LSTM over [batch, 3, 2], whose state begins with zeros of the batch's size."""
    weights = {
        "w": RNG.uniform(-1, 1, (1, 4 * HIDDEN, 2)).astype(np.float32),
        "r": RNG.uniform(-1, 1, (1, 4 * HIDDEN, HIDDEN)).astype(np.float32),
        "g": RNG.uniform(-1, 1, (HIDDEN, 3)).astype(np.float32),
        "first": np.array([0]),
    }
    nodes = [
        node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        node("LSTM", ["steps", "w", "r"], ["", "h"], hidden_size=HIDDEN),
        node("Squeeze", ["h", "first"], ["last"]),
        node("MatMul", ["last", "g"], ["y"]),
    ]
    made = model(nodes, {"x": (1, 3, 2)}, {"y": 2}, weights, 14)
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return made.SerializeToString()


def examined(source, port, calibration, want, sizes=(1, 3)):
    """Programs for some sizes answer as the float model does."""
    made = mpcc.compile(source, batch=sizes, calibration={port: calibration})
    assert sorted(made.programs) == list(sizes)
    rows = calibration[:6]
    for size, program in made.programs.items():
        (first, *_) = program.artifact.inputs
        assert tuple(first["shape"]) == (size, *rows.shape[1:])
        assert program.weights.keys() == made.programs[sizes[0]].weights.keys()
        for start in range(0, 6, size):
            run = mpcc.simulate(
                program.artifact, program.weights, {port: rows[start : start + size]}, seed=start
            )
            (have,) = run.outputs.values()
            np.testing.assert_allclose(have, want[start : start + size], atol=2.0**-7)


def test_an_lstm_of_onnx():
    source = lstm()
    rows = RNG.uniform(-1, 1, (12, 3, 2)).astype(np.float32)
    (want,) = onnxruntime.InferenceSession(source).run(None, {"x": rows})
    examined(source, "x", rows, want)


@pytest.mark.tensorflow
@pytest.mark.xdist_group("tensorflow")
def test_an_lstm_of_keras(tmp_path):
    pytest.importorskip("tensorflow")
    from mpcc.frontend.tensorflow.runtime import quiet, tensorflow

    rows = RNG.uniform(-1, 1, (12, 3, 2)).astype(np.float32)
    with quiet():
        keras = tensorflow().keras
        keras.utils.set_random_seed(3)
        given = keras.Input((3, 2), name="x")
        network = keras.Model(given, keras.layers.Dense(3)(keras.layers.LSTM(HIDDEN)(given)))
        network.export(tmp_path / "saved", verbose=False)
        want = np.asarray(network(rows, training=False))
    # The first state is a constant with a row for every example.
    examined(tmp_path / "saved", "x", rows, want, sizes=(1, 2))
    with pytest.raises(MpccError, match="E-batch-weights"):
        mpcc.compile(tmp_path / "saved", batch=(2, 3), calibration={"x": rows})
