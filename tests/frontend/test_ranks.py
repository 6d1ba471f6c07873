"""Functions of data with as many axes as a program can have."""

import numpy as np
import onnxruntime

import mpcc
from mpcc.frontend.ranks import folded
from mpcc.ir.limits import MAX_RANK
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions
from tests.frontend.models import model, node

SHAPE = (1, 2, 1, 2, 1, 2, 1, 3)
NODES = [
    node("Exp", ["x"], ["exp"]),
    node("Log", ["x"], ["log"]),
    node("Softmax", ["x"], ["softmax"], axis=3),
    node("LpNormalization", ["x"], ["unit"], axis=7),
    node("Div", ["x", "d"], ["quotient"]),
    node("Equal", ["x", "x"], ["same"]),
    node("Not", ["same"], ["other"]),
]


def test_functions_of_data_with_all_axes():
    assert len(SHAPE) == MAX_RANK
    outputs = ("exp", "log", "softmax", "unit", "quotient", "other")
    made = model(NODES, {"x": SHAPE, "d": (2, 1)}, outputs, types={"other": 9})
    # Its second last axis is one: the divisor makes the quotient larger than both.
    formats = FormatOptions(input_ranges={"x": (0.5, 4.0), "d": (0.5, 4.0)})
    options = CompileOptions(formats=formats, local="none")
    compiled = mpcc.compile(made.SerializeToString(), options=options)
    rng = np.random.default_rng(3)
    given = {
        "x": rng.uniform(0.5, 4.0, SHAPE).astype(np.float32),
        "d": rng.uniform(0.5, 4.0, (2, 1)).astype(np.float32),
    }
    found = mpcc.simulate(compiled.artifact, compiled.weights, given).outputs
    session = onnxruntime.InferenceSession(made.SerializeToString())
    for name, want in zip(outputs, session.run(list(outputs), given), strict=True):
        assert found[name].shape == want.shape
        np.testing.assert_allclose(found[name], want, atol=2e-3, err_msg=name)


def test_neighbouring_axes_are_merged():
    attrs = {"axes": (2, 3, 7), "center": False, "epsilon": 0.0, "exponent": 0}
    less = folded(tensor.Normalize, (2, 3, 4, 5, 6, 7, 8, 9), attrs)
    assert less is not None
    assert less.shape == (6, 20, 336, 9)
    assert less.attrs["axes"] == (1, 3)
    # Nothing can be merged, or need be.
    attrs["axes"] = (0, 2, 4, 6)
    assert folded(tensor.Normalize, (2,) * MAX_RANK, attrs) is None
    assert folded(tensor.Exp, (2,) * (MAX_RANK - 1), {}) is None
