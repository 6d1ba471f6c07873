"""Models of TensorFlow at small sizes: the table of docs/models.md has larger ones."""

import numpy as np
import pytest

from benchmarks import keras_models, real_models, same_network
from mpcc.frontend import import_model
from mpcc.frontend.tensorflow.runtime import quiet
from mpcc.ir.interp import real
from mpcc.ir.ops import tensor
from mpcc.verify_program import verify_artifact
from tests.frontend.tensorflow.checks import tensor_passes

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tensorflow")]


@pytest.fixture(autouse=True)
def silence():
    with quiet():
        yield


def examine(model, runs, record_property):
    """Compiled, verified, simulated: within the bound, and the float model's decisions."""
    data = model.model()
    run = model.reference(data)
    fed = real_models.float_runs(model, run)[: model.calibrated + runs]
    program = real_models.compiled(model, data, fed)
    assert verify_artifact(program.artifact).accepted
    have = real_models.simulated(model, program, fed)
    want = [run(inputs) for inputs in fed[model.calibrated :]]
    error = max(real_models.error_of(a, b) for a, b in zip(have, want, strict=True))
    agreement = model.agree(have, want)
    record_property(
        "score",
        f"{model.name}: error {error:.2g} of {model.bound:.2g}, "
        f"{agreement.equal} of {agreement.total} decisions ({model.decides}) equal",
    )
    assert error <= model.bound
    assert agreement.equal == agreement.total > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_moods_of_faces(record_property):
    """A file of Keras 2 as it was published."""
    examine(keras_models.moods(), 3, record_property)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_peptides(record_property):
    """Trained weights; the first three letters alone, so that fewer steps are written out."""
    examine(keras_models.binding(3), 8, record_property)


@pytest.mark.parametrize("name", keras_models.APPLICATIONS)
def test_applications(name):
    """Whole networks as Keras makes them: the same answers, in one layout."""
    model = keras_models.application(name, "", 32, runs=1)
    path = model.model()
    imported = import_model(path, model.shapes)
    (inputs, *_) = model.samples()
    (want,) = model.reference(path)(inputs).values()
    (have,) = real.run(imported.module, imported.constants, inputs).values()
    np.testing.assert_allclose(have, want, atol=1e-5)
    module, _ = tensor_passes(imported)
    found = [op.definition for op in module.main.ops]
    # One in front of the first convolution and none inside; every norm that follows a convolution
    # is part of it.
    assert found.count(tensor.Transpose) == 1
    assert found.count(tensor.Conv) >= int(keras_models.APPLICATIONS[name].split()[0])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_application_in_fixed_point(record_property):
    examine(keras_models.application("MobileNetV2", "", 32, 2, 3), 2, record_property)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "until"),
    [("ResNet50", "conv2_block1_out"), ("EfficientNetB0", "block1a_project_bn")],
)
def test_the_first_blocks_in_fixed_point(name, until, record_property):
    """Of networks that are too large for a test; the whole ones are rows of docs/models.md."""
    examine(keras_models.application(name, "", 32, 2, 6, until), 2, record_property)


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_one_network_in_three_formats():
    """They send the same, and differ in what is local alone."""
    found = same_network.programs()
    assert same_network.largest_distance(found) < 1e-3
    assert found["SavedModel"].rounds == found["ONNX"].rounds
    # As converted for TensorFlow Lite it takes a round more.
    assert found["TensorFlow Lite"].rounds - found["ONNX"].rounds in (0, 1)
    assert len({p.megabytes for p in found.values()}) == 1
    local = {"add", "broadcast", "reshape", "transpose", "weight"}
    assert set(same_network.compare(found)) <= {f"secure.{name}" for name in local}
