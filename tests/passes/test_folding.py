"""What folding makes of whole networks: the same results, and no truncation to spare."""

from functools import cache

import numpy as np
import pytest

from benchmarks.vision import mobilenet_v2, resnet18, unet
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.ops import secure
from mpcc.ir.phi import FormatOptions
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.types import element_count
from mpcc.passes import pipeline
from mpcc.passes.base import Checkpoint, Event, Made, Manager, Result
from mpcc.passes.declared_formats import declared_phi
from mpcc.passes.lower_tensor_to_secure import build_secure
from mpcc.passes.lowerings.base import secure_type

NETWORKS = {
    "mobilenet-v2": lambda seed: mobilenet_v2(32, 0.25, 10, seed=seed),
    "resnet-18": lambda seed: resnet18(32, 0.125, 10, seed=seed),
    "unet": lambda seed: unet(16, 0.0625, 2, seed=seed),
}
TEXT = """module tensor {
  func @main() {
    %0 = tensor.input() {name = "x", shape = [2]} : tensor<2xf32, client>
    tensor.output(%0) {name = "y"}
  }
}"""
each_network = pytest.mark.parametrize("name", NETWORKS)


@cache
def folded(name, seed=1):
    """Imported model, its module before and after the tensor passes, and constants for both."""
    imported = import_onnx(NETWORKS[name](seed).SerializeToString())
    before = imported.module.clone()
    checkpoint = Checkpoint(DIALECTS)
    after = Manager(pipeline.TENSOR, checkpoint).run(imported.module)
    return before, after, imported.constants, checkpoint.constants(imported.constants)


def used(module, constants):
    return {
        op.attrs["name"]: constants[op.attrs["name"]] for op in module.main.walk("tensor.weight")
    }


@each_network
def test_results_stay(name):
    before, after, constants, more = folded(name)
    (x,) = before.main.walk("tensor.input")
    image = np.random.default_rng(2).random(x.attrs["shape"], np.float32)
    inputs = {x.attrs["name"]: image}
    want = real.run(before, used(before, constants), inputs)
    have = real.run(after, used(after, more), inputs)
    assert want.keys() == have.keys()
    for key, array in want.items():
        # Made weights are binary32.
        np.testing.assert_allclose(have[key], array, rtol=1e-4, atol=1e-4 * np.abs(array).max())


@each_network
def test_values_of_weights_do_not_show(name):
    """Other weights, the same program."""
    assert print_module(folded(name, 1)[1]) == print_module(folded(name, 2)[1])


@each_network
def test_nothing_is_truncated_twice(name):
    """Every truncation is of a product's own result, of a sum of such, or of what concat joins."""
    _, module, _, _ = folded(name)
    assert not list(module.main.walk("tensor.mul", "tensor.scale", "tensor.pad"))
    layers = list(module.main.walk("tensor.conv", "tensor.conv_transpose", "tensor.matmul"))
    (x,) = module.main.walk("tensor.input")
    options = FormatOptions(
        disclose="none",
        fraction_bits=12,
        value_range=127.0,
        weight_range=7.0,
        input_ranges={x.attrs["name"]: (-1.0, 1.0)},
    )
    program = build_secure(module, declared_phi(module, options), options)
    truncated = [
        element_count(secure_type(op.result).shape) for op in program.main.walk("secure.truncate")
    ]
    made = [element_count(op.result.type.shape) for op in layers]
    assert len(truncated) <= len(layers)
    assert sum(truncated) <= sum(made)
    assert not list(program.main.walk(secure.Mul.name, secure.Scale.name))


def test_made_weights_follow_renamed_ones():
    """A pass speaks of weights by the names that they have then."""
    checkpoint = Checkpoint({})
    module = parse_module(TEXT, DIALECTS)
    steps = (
        Result(module, True, renamed={"n": "first"}),
        Result(module, True, made=(Made("twice", ("n",), lambda a: 2 * a[0]),)),
        Result(module, True, made=(Made("sum", ("twice", "n"), lambda a: a[0] + a[1]),)),
        Result(module, True, renamed={"w0": "sum", "w1": "n"}),
    )
    for i, step in enumerate(steps):
        checkpoint(Event(i, "step", step, 0.0, ()))
    constants = checkpoint.constants({"first": np.array([1.5], np.float32)})
    assert checkpoint.renamed == {"w0": "sum", "w1": "first"}
    assert constants["sum"].dtype == np.float32
    assert constants["sum"].tolist() == [4.5]
