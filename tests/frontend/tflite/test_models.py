"""Whole models, converted by TensorFlow: imported, compiled, and as they were published."""

import sys

import numpy as np
import pytest

import mpcc
from benchmarks import real_models
from examples.real_inputs import fetch_file
from mpcc.frontend import import_model
from mpcc.ir.interp import real
from mpcc.ir.ops import tensor
from mpcc.verify_program import verify_artifact
from tests.frontend.tflite.checks import answers, compared, converted, made, operators

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tensorflow")]


def numbers(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def pictures(tf):
    """A small network of Keras with a batch that is left open."""
    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(1)
    return tf.keras.Sequential(
        [
            tf.keras.Input((12, 12, 3), name="picture"),
            layers.Conv2D(6, 3, padding="same"),
            layers.BatchNormalization(),
            layers.PReLU(alpha_initializer="uniform", shared_axes=(1, 2)),
            layers.DepthwiseConv2D(3, strides=2, activation="relu6"),
            layers.AveragePooling2D(2),
            layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
            layers.Flatten(),
            layers.Dense(5, activation="softmax", name="classes"),
        ]
    )


def test_a_network_of_keras(tf, pictures, tmp_path):
    data = converted(tf, pictures)
    assert "PRELU" in operators(data)
    given = {"picture": numbers(2, 12, 12, 3)}
    imported = compared(tf, data, tmp_path / "model.tflite", given, batch=2)
    assert [p.shape for p in imported.inputs] == [(2, 12, 12, 3)]
    assert imported.batched == {"picture"}
    assert not imported.notes
    # All that the model owns is secret, and no number of the architecture is.
    for op in imported.module.main.walk(tensor.Weight.name):
        assert op.attrs["owner"] == "model"


def test_weights_of_sixteen_bits(tf, pictures, tmp_path):
    def prepare(converter):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    data = converted(tf, pictures, prepare)
    assert "DEQUANTIZE" in operators(data)
    given = {"picture": numbers(1, 12, 12, 3)}
    compared(tf, data, tmp_path / "model.tflite", given, batch=1)


def test_weights_of_eight_bits(tf, tmp_path):
    """The numbers that they stand for; what TensorFlow Lite rounds beside them is not rounded."""
    matrix = numbers(64, 40)

    def prepare(converter):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]

    def run(x):
        return {"y": tf.matmul(x, matrix)}

    data = converted(tf, (run, {"x": (3, 64, "float32")}), prepare)
    given = {"x": numbers(3, 64, seed=2)}
    imported = compared(tf, data, tmp_path / "model.tflite", given, atol=0.02)
    assert "weights of 8 bits are taken as the real numbers" in imported.notes[0]
    (weight,) = imported.constants.values()
    assert 0 < np.abs(weight - matrix).max() < np.abs(matrix).max() / 200


@pytest.mark.parametrize("time_major", [False, True])
def test_recurrent_layers(tf, schema, tmp_path, time_major):
    """The LSTM that Keras 2 was converted to; Keras 3's is a loop."""
    steps, batch, features, units = 5, 2, 3, 4
    shape = (steps, batch, features) if time_major else (batch, steps, features)
    rng = np.random.default_rng(4)

    def weight(*sizes):
        return rng.standard_normal(sizes).astype(np.float32)

    tensors = [
        ("x", shape, "float32"),
        *((f"input {g}", (units, features), weight(units, features)) for g in "ifco"),
        *((f"state {g}", (units, units), weight(units, units)) for g in "ifco"),
        *((f"bias {g}", (units,), weight(units)) for g in "ifco"),
        ("h", (batch, units), "float32*"),
        ("c", (batch, units), "float32*"),
        ("y", (*shape[:2], units), "float32"),
    ]
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction, options.timeMajor = 4, time_major
    given = [*range(9), -1, -1, -1, *range(9, 13), -1, -1, 13, 14, -1, -1, -1, -1]
    nodes = [("UNIDIRECTIONAL_SEQUENCE_LSTM", given, [15], options)]
    path = tmp_path / "model.tflite"
    path.write_bytes(made(schema, tensors, nodes, [0], [15]))
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    x = weight(*shape)
    interpreter.set_tensor(0, x)
    interpreter.invoke()
    imported = import_model(path)
    have = real.run(imported.module, imported.constants, {"x": x})["y"]
    np.testing.assert_allclose(have, interpreter.get_tensor(15), atol=1e-5)
    assert "begin with zeros in every run" in imported.notes[0]


def test_norms(tf, tmp_path):
    """Keras spells them in arithmetic."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [tf.keras.Input((4, 6), name="x", batch_size=2), layers.LayerNormalization()]
    )
    given = {"x": numbers(2, 4, 6)}
    compared(tf, converted(tf, model), tmp_path / "model.tflite", given)


def test_from_the_file_to_an_answer(tf, pictures, tmp_path):
    """Compiled, accepted by the leak checker, and simulated within the error that was asked for."""
    path = tmp_path / "model.tflite"
    data = converted(tf, pictures)
    path.write_bytes(data)
    samples = numbers(4, 1, 12, 12, 3, seed=3)
    options = mpcc.CompileOptions(shapes={"picture": (1, 12, 12, 3)})
    program = mpcc.compile(path, options=options, calibration={"picture": samples[:3]})
    assert verify_artifact(program.artifact).accepted
    have = mpcc.simulate(program.artifact, program.weights, {"picture": samples[3]}).outputs
    (want,) = answers(tf, data, {"picture": samples[3]}).values()
    (found,) = have.values()
    assert np.abs(found - want).max() <= 2.0**-7


def test_it_needs_no_tensorflow(tf, pictures, tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(converted(tf, pictures))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert import_model(path, batch=1).constants


def test_a_published_model():
    """basic-pitch, which is published in this format too, with the answers of its ONNX file."""
    model = real_models.pitches()
    (sound,) = model.samples()[0].values()
    member = "basic_pitch/saved_models/icassp_2022/nmp.tflite"
    imported = import_model(fetch_file(real_models.PITCHES, member), {"input_2": sound.shape})
    have = real.run(imported.module, imported.constants, {"input_2": sound})
    want = model.reference(model.model())({"serving_default_input_2:0": sound})
    assert set(have) == {"contour", "note", "onset"}
    for i, name in enumerate(("contour", "note", "onset")):
        assert np.abs(have[name] - want[f"StatefulPartitionedCall:{i}"]).max() < 1e-3
