"""BlazeFace: formats found on some photographs hold on another, and nothing of the weights shows.

Slow: fetches the model (0.43 MB) and runs the float model and the simulator some thirty times.
"""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from examples.blazeface.model import INPUT_NAME, compare, detect, model_path, preprocess
from examples.blazeface.photographs import astronaut, calibration_inputs
from examples.blazeface.reference import run as onnxruntime_outputs
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.ir.interp import fixed
from mpcc.ir.ops import secure
from mpcc.ir.phi import FormatOptions
from mpcc.ir.text import print_module
from mpcc.ir.verify import verify
from mpcc.passes import pipeline
from mpcc.passes.analyse import analyse
from mpcc.passes.base import Manager, no_hook
from mpcc.passes.lower_tensor_to_secure import build_secure, encode_weights

pytestmark = pytest.mark.slow


def imported(source):
    found = import_onnx(source)
    return Manager(pipeline.TENSOR, no_hook).run(found.module), found.constants


@pytest.fixture(scope="module")
def compiled():
    module, constants = imported(str(model_path()))
    samples = [{INPUT_NAME: x[np.newaxis]} for x in calibration_inputs()]
    analysis = analyse(module, constants, samples)
    program = build_secure(module, analysis.phi)
    verify(program, secure.DIALECT)
    return analysis, program, encode_weights(constants, program)


@pytest.fixture(scope="module")
def photograph():
    image, _ = preprocess(astronaut())
    return image, onnxruntime_outputs(image)


@pytest.mark.parametrize("rounding", ["floor", "random", "worst"])
def test_outputs_are_within_a_hundredth_of_onnxruntime(compiled, photograph, rounding):
    _, program, weights = compiled
    image, want = photograph
    have = fixed.simulate(program, weights, {INPUT_NAME: image}, rounding, seed=1)
    assert not have.overflows
    assert have.outputs.keys() == want.keys()
    for name, array in want.items():
        assert np.abs(have.outputs[name] - array).max() <= 1e-2
    assert compare(detect(have.outputs), detect(want)).same


def test_fewer_bits_would_not_do(compiled, photograph):
    """The formats are not simply generous: 16 fraction bits miss the hundredth by far."""
    analysis, program, _ = compiled
    module, constants = imported(str(model_path()))
    coarse = type(analysis.phi)(
        **{
            **{f: getattr(analysis.phi, f) for f in analysis.phi.__dataclass_fields__},
            "frac": 16,
            "weight_frac": 16,
        }
    )
    program = build_secure(module, coarse)
    image, want = photograph
    have = fixed.run(
        program, encode_weights(constants, program), {INPUT_NAME: image}, "random", seed=1
    )
    assert max(np.abs(have[n] - want[n]).max() for n in want) > 1e-2


def test_phi_is_short_and_the_text_does_not_depend_on_the_weights(compiled):
    analysis, program, _ = compiled
    assert analysis.phi.size_bits < 400
    model = onnx.load(str(model_path()))
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            noise = rng.standard_normal(array.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(noise, tensor.name))
    other, _ = imported(model.SerializeToString())
    text = print_module(build_secure(other, analysis.phi, FormatOptions()))
    assert text == print_module(program)
