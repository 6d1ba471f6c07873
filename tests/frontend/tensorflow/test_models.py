"""Small networks of Keras: the same answers, in floating point and in fixed point."""

import re

import numpy as np
import pytest

from mpcc.frontend.tensorflow.loader import import_function, import_keras, import_saved_model
from mpcc.frontend.tensorflow.runtime import quiet
from mpcc.ir.interp import real
from mpcc.ir.ops import tensor
from tests.frontend.tensorflow.checks import answers, simulated, tensor_passes

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tensorflow")]


def traced(tf, model):
    """The model's function for one example, and an example."""
    specs = [tf.TensorSpec((1, *t.shape[1:]), t.dtype, name=t.name) for t in model.inputs]

    def run(*given):
        return model(list(given) if len(given) > 1 else given[0], training=False)

    function = tf.function(run, input_signature=specs).get_concrete_function()
    rng = np.random.default_rng(3)
    inputs = {
        s.name: rng.standard_normal(s.shape).astype(np.float32)
        if s.dtype.is_floating
        else rng.integers(0, 5, s.shape).astype(np.int32)
        for s in specs
    }
    return function, inputs


def weighted(tf, model):
    """The model with weights and statistics that are not those it is born with."""
    tf.keras.utils.set_random_seed(4)
    rng = np.random.default_rng(4)
    for variable in model.variables:
        if variable.dtype == "float32":
            wide = rng.standard_normal(variable.shape) / max(np.sqrt(variable.shape[-1]), 1)
            is_variance = "variance" in variable.path
            variable.assign(np.abs(wide) + 0.5 if is_variance else wide)
    return model


def cnn(tf):
    layers = tf.keras.layers
    x = given = tf.keras.Input((12, 12, 3), name="picture")
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    y = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    y = layers.DepthwiseConv2D(3, strides=2)(y)
    y = layers.BatchNormalization()(y)
    y = layers.Activation("swish")(y)
    s = layers.GlobalAveragePooling2D(keepdims=True)(y)
    s = layers.Conv2D(4, 1, activation="sigmoid")(s)
    y = layers.Multiply()([y, s])
    x = layers.Concatenate()([layers.MaxPooling2D()(x), y])
    x = layers.Conv2DTranspose(3, 3, strides=2, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.5)(x)
    return tf.keras.Model(given, layers.Dense(5, activation="softmax", name="answer")(x))


def test_a_convolutional_network_has_one_layout(tf):
    function, inputs = traced(tf, weighted(tf, cnn(tf)))
    imported = import_function(function)
    (want,) = answers(tf, function, inputs).values()
    have = real.run(imported.module, imported.constants, inputs)["output_0"]
    np.testing.assert_allclose(have, want, atol=1e-6)
    module, _ = tensor_passes(imported)
    found = [op.name for op in module.main.ops]
    # One in front of the first convolution, and none inside; norms and pads are folded.
    assert found.count(tensor.Transpose.name) == 1
    assert module.main.ops[1].name == tensor.Transpose.name
    assert tensor.Pad.name not in found
    assert found.count(tensor.Mul.name) == 1
    assert found.count(tensor.Conv.name) == 3
    fixed = simulated(imported, inputs)["output_0"]
    np.testing.assert_allclose(fixed, want, atol=2**-7)


def test_a_saved_model_has_its_own_names(tf, tmp_path):
    model = weighted(tf, cnn(tf))
    with quiet():
        model.export(tmp_path / "saved", verbose=False)
        model.save(tmp_path / "saved.keras")
        model.save(tmp_path / "saved.h5")
    function, inputs = traced(tf, model)
    (want,) = answers(tf, function, inputs).values()
    imported = import_saved_model(tmp_path / "saved", batch=1, owners={"answer/kernel": "public"})
    assert [(p.name, p.shape) for p in imported.inputs] == [("picture", (1, 12, 12, 3))]
    assert [(p.name, p.shape) for p in imported.outputs] == [("output_0", (1, 5))]
    assert imported.batched == {"picture"}
    owners = {
        op.attrs["name"]: op.attrs["owner"] for op in imported.module.main.walk("tensor.weight")
    }
    (kernel,) = (n for n in owners if n.startswith("answer") and "kernel" in n)
    assert owners.pop(kernel) == "public"
    assert set(owners.values()) == {"model"}
    have = real.run(imported.module, imported.constants, inputs)["output_0"]
    np.testing.assert_allclose(have, want, atol=1e-6)
    for name in ("saved.keras", "saved.h5"):
        again = import_keras(tmp_path / name, {"picture": (1, 12, 12, 3)})
        (port,) = again.outputs
        have = real.run(again.module, again.constants, inputs)[port.name]
        np.testing.assert_allclose(have, want, atol=1e-6)


def transformer(tf):
    layers = tf.keras.layers
    ids = tf.keras.Input((6,), dtype="int32", name="ids")
    x = layers.Embedding(5, 8)(ids)
    y = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.LayerNormalization()(x + y)
    y = layers.Dense(8, activation="gelu")(x)
    x = layers.LayerNormalization()(x + y)
    return tf.keras.Model(ids, layers.Dense(3)(layers.Flatten()(x)))


def test_a_transformer(tf):
    function, inputs = traced(tf, weighted(tf, transformer(tf)))
    imported = import_function(function)
    (want,) = answers(tf, function, inputs).values()
    have = real.run(imported.module, imported.constants, inputs)["output_0"]
    np.testing.assert_allclose(have, want, atol=2e-6)
    module, _ = tensor_passes(imported)
    found = [op.name for op in module.main.ops]
    # What is spelled in arithmetic is found again, and nothing is left of its spelling.
    assert found.count(tensor.Normalize.name) == 2
    assert found.count(tensor.Gelu.name) == 1
    assert found.count(tensor.Lookup.name) == 1
    assert not {tensor.Rsqrt.name, tensor.Erf.name} & set(found)
    fixed = simulated(imported, inputs)["output_0"]
    np.testing.assert_allclose(fixed, want, atol=2**-7)


def recurrent(tf, layer):
    layers = tf.keras.layers
    given = tf.keras.Input((5, 3), name="x")
    return tf.keras.Model(given, layers.Dense(2)(layer(layers)(given)))


LAYERS = {
    "lstm": lambda layers: layers.LSTM(4),
    "gru": lambda layers: layers.GRU(4),
    "gru, before the product": lambda layers: layers.GRU(4, reset_after=False),
    "rnn of all steps": lambda layers: layers.SimpleRNN(4, return_sequences=True),
    "both directions": lambda layers: layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
    "unrolled": lambda layers: layers.LSTM(4, unroll=True),
    "conv": lambda layers: layers.Conv1D(4, 3, padding="causal"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_sequences(tf, name):
    function, inputs = traced(tf, weighted(tf, recurrent(tf, LAYERS[name])))
    imported = import_function(function)
    (want,) = answers(tf, function, inputs).values()
    have = real.run(imported.module, imported.constants, inputs)["output_0"]
    np.testing.assert_allclose(have, want, atol=2e-6)
    # Every step has the same weights.
    names = list(imported.constants)
    assert not [n for n in names if re.search(r"/body/[0-9]", n)]
    if name == "lstm":
        fixed = simulated(imported, inputs)["output_0"]
        np.testing.assert_allclose(fixed, want, atol=2**-7)


def test_masked_steps(tf):
    """Steps that hold the mask's number alone are left out; which ones these are stays secret."""
    layers = tf.keras.layers
    given = tf.keras.Input((4, 3), name="x")
    x = layers.LSTM(4)(layers.Masking(0.0)(given))
    function, inputs = traced(tf, weighted(tf, tf.keras.Model(given, layers.Dense(2)(x))))
    inputs["x"][0, 2:] = 0.0
    imported = import_function(function)
    (want,) = answers(tf, function, inputs).values()
    have = real.run(imported.module, imported.constants, inputs)["output_0"]
    np.testing.assert_allclose(have, want, atol=2e-6)
    assert list(imported.module.main.walk(tensor.Where.name))
