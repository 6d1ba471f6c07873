"""The float interpreter: errors, observation, and memory."""

import weakref

import numpy as np
import pytest

from mpcc.errors import MpccError
from mpcc.ir.core import Module
from mpcc.ir.interp import real
from mpcc.ir.ops import tensor
from tests.ir.samples import SAMPLES


def small() -> Module:
    module = Module("tensor")
    f = module.main
    x = f.append(tensor.Input, (), {"name": "x", "shape": (2, 3)}).result
    w = f.append(tensor.Weight, (), {"name": "w", "shape": (3, 2)}).result
    y = f.append(tensor.MatMul, (x, w), loc="fc").result
    y = f.append(tensor.Relu, (y,), loc="act").result
    f.append(tensor.Output, (y,), {"name": "y"})
    f.append(tensor.Output, (x,), {"name": "same"})
    return module


X, W = np.arange(6.0).reshape(2, 3) - 3, np.array([[1.0, -1.0], [0.5, 2.0], [-2.0, 1.0]])


def test_values():
    y = real.run(small(), {"w": W}, {"x": X})
    np.testing.assert_array_equal(y["y"], np.maximum(X @ W, 0))
    np.testing.assert_array_equal(y["same"], X)


def test_outputs_do_not_alias_inputs():
    x = X.copy()
    y = real.run(small(), {"w": W}, {"x": x})
    y["same"][:] = 7
    np.testing.assert_array_equal(x, X)


def test_dtype_is_what_was_asked_for():
    y = real.run(small(), {"w": W}, {"x": X}, dtype=np.float32)
    assert {a.dtype for a in y.values()} == {np.dtype(np.float32)}


def test_observe_sees_every_result_in_order():
    seen = []
    real.run(small(), {"w": W}, {"x": X}, lambda op, a: seen.append((op.name, op.loc, a.shape)))
    assert seen == [
        ("tensor.input", "", (2, 3)),
        ("tensor.weight", "", (3, 2)),
        ("tensor.matmul", "fc", (2, 2)),
        ("tensor.relu", "act", (2, 2)),
    ]


def test_dead_values_are_freed():
    module = Module("tensor")
    value = module.main.append(tensor.Input, (), {"name": "x", "shape": (8,)}).result
    for _ in range(6):
        value = module.main.append(tensor.Relu, (value,)).result
    module.main.append(tensor.Output, (value,), {"name": "y"})
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def observe(op, array):
        nonlocal most
        alive.append(weakref.ref(array))
        most = max(most, sum(r() is not None for r in alive))

    real.run(module, {}, {"x": np.ones(8, np.float32)}, observe)
    assert len(alive) == 7
    assert most == 2


def test_everything_wrong_with_the_arguments_is_said_at_once():
    with pytest.raises(MpccError) as caught:
        real.run(small(), {"w": W.T}, {"X": X, "z": X})
    found = [(d.code, d.what) for d in caught.value.diagnostics]
    assert found == [
        ("E-run-missing", "input x [2, 3] is not given"),
        ("E-run-shape", "constant w has shape [2, 3], the model needs [3, 2]"),
        ("E-run-unknown", "the model has no input X"),
        ("E-run-unknown", "the model has no input z"),
    ]


def test_another_level_is_refused():
    with pytest.raises(MpccError, match="E-run-level"):
        real.run(SAMPLES["secure"](), {}, {})
