"""What tests of the TensorFlow importer have in common."""

import numpy as np

from mpcc.frontend.tensorflow.loader import import_function
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import fixed, real
from mpcc.ir.phi import FormatOptions
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify
from mpcc.passes import pipeline
from mpcc.passes.analyse import analyse
from mpcc.passes.base import Checkpoint, Manager
from mpcc.passes.lower_tensor_to_secure import encode_weights
from mpcc.passes.recognise import recognised


def concrete(tf, function, *specs):
    """A concrete function of arguments a, b, ...; a spec is a shape, or (shape, dtype)."""
    made = []
    for name, spec in zip("abcdefgh", specs, strict=False):
        shape, dtype = spec if spec and isinstance(spec[-1], str) else (spec, "float32")
        made.append(tf.TensorSpec(shape, dtype, name=name))
    return tf.function(function, input_signature=made).get_concrete_function()


def answers(tf, function, inputs):
    """The function's own answers by our names of outputs."""
    found = tf.nest.flatten(function(**{k: tf.constant(v) for k, v in inputs.items()}))
    structure = function.structured_outputs
    names = sorted(structure) if isinstance(structure, dict) else None
    return {
        names[i] if names else f"output_{i}": np.asarray(t.numpy()) for i, t in enumerate(found)
    }


def compared(tf, function, inputs, *, atol=2e-6, **options):
    """Import a function and compare it with itself on inputs; what was imported."""
    imported = import_function(function, **options)
    verify(imported.module, DIALECTS["tensor"])
    text = print_module(imported.module)
    assert print_module(parse_module(text, DIALECTS)) == text
    have = real.run(imported.module, imported.constants, inputs)
    want = answers(tf, function, inputs)
    assert have.keys() == want.keys() == {p.name for p in imported.outputs}
    for port in imported.outputs:
        assert have[port.name].shape == want[port.name].shape == port.shape
        scale = max(1.0, float(np.abs(want[port.name].astype(np.float64)).max(initial=0)))
        np.testing.assert_allclose(
            have[port.name].astype(np.float64), want[port.name], rtol=1e-5, atol=atol * scale
        )
    return imported


def tensor_passes(imported):
    """The module behind the passes of the tensor level, and its constants."""
    found = recognised(imported.module, imported.constants)
    checkpoint = Checkpoint(DIALECTS)
    # Passes change the module that they are given.
    module = parse_module(print_module(imported.module), DIALECTS)
    module = Manager(pipeline.to_tensor([f.row for f in found]), checkpoint).run(module)
    return module, checkpoint.constants(imported.constants)


def simulated(imported, inputs):
    """Answers of the fixed-point program, in formats that are calibrated with these inputs."""
    module, constants = tensor_passes(imported)
    options = FormatOptions()
    phi = analyse(module, constants, [inputs], options).phi
    secure = Manager(pipeline.to_secure(phi, options), Checkpoint(DIALECTS)).run(module)
    weights = encode_weights(constants, secure)
    return fixed.simulate(secure, weights, inputs, "random").outputs


def random(*shapes, seed=1):
    """Inputs a, b, ... of normal numbers."""
    rng = np.random.default_rng(seed)
    return {
        n: rng.standard_normal(s).astype(np.float32)
        for n, s in zip("abcdefgh", shapes, strict=False)
    }
