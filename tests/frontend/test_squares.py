"""A root that is squared again is not computed."""

import numpy as np
import pytest

from mpcc.frontend import import_onnx
from mpcc.ir.interp import real
from tests.frontend.models import model, node

ROOT = [
    node("Mul", ["x", "x"], ["p"]),
    node("Sqrt", ["p"], ["r"]),
    node("Transpose", ["r"], ["t"], perm=[1, 0]),
]
TWO = {"two": np.float32(2)}


@pytest.mark.parametrize(
    ("last", "constants"),
    [
        (node("Mul", ["t", "t"], ["y"]), {}),
        (node("Pow", ["t", "two"], ["y"]), TWO),
        (node("ReduceL2", ["t"], ["y"], keepdims=0), {}),
    ],
)
def test_squares_of_roots(last, constants):
    found = import_onnx(
        model([*ROOT, last], {"x": (2, 3)}, constants=constants).SerializeToString()
    )
    names = [op.name for op in found.module.main.ops]
    # That of ReduceL2 itself stays.
    assert names.count("tensor.sqrt") == (last.op_type == "ReduceL2")
    x = np.arange(6.0).reshape(2, 3)
    want = x.T**2 if last.op_type != "ReduceL2" else np.sqrt((x**2).sum())
    np.testing.assert_allclose(real.run(found.module, found.constants, {"x": x})["y"], want)


def test_roots_of_other_uses_stay():
    nodes = [*ROOT, node("Add", ["t", "t"], ["s"]), node("Mul", ["s", "s"], ["y"])]
    found = import_onnx(model(nodes, {"x": (2, 3)}).SerializeToString())
    assert "tensor.sqrt" in [op.name for op in found.module.main.ops]
