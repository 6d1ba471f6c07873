"""Masks of minus infinity that are spelled out: made, padded, asked for."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.ops import tensor
from mpcc.ir.verify import verify
from tests.frontend.models import model, node

F = np.float32
FAR = {"far": np.array(-np.inf, F), "zero": np.array(0, F), "axes": np.array([-1])}
SCORES = np.random.default_rng(0).standard_normal((3, 4)).astype(F)

# A row that sees nothing gives zeros.
SOFTMAX = [
    node("Add", ["x", "mask"], ["sum"]),
    node("Softmax", ["sum"], ["weights"], axis=-1),
    node("ReduceMax", ["mask", "axes"], ["most"], keepdims=1),
    node("Equal", ["most", "far"], ["blind"]),
    node("Where", ["blind", "zero", "weights"], ["y"]),
]


def given(nodes, inputs, constants, **kinds):
    made = model(nodes, inputs, {"y": 2}, constants, 18)
    for info in made.graph.input:
        if info.name in kinds:
            info.type.tensor_type.elem_type = kinds[info.name]
    return made


def answers(made, inputs):
    """Ours and onnxruntime's, and the imported model."""
    imported = import_onnx(made.SerializeToString())
    verify(imported.module, DIALECTS["tensor"])
    have = real.run(imported.module, imported.constants, inputs)["y"]
    (want,) = onnxruntime.InferenceSession(made.SerializeToString()).run(None, inputs)
    return have, want, imported


def test_rows_that_a_secret_mask_hides_give_zeros():
    nodes = [node("Where", ["seen", "zero", "far"], ["mask"]), *SOFTMAX]
    made = given(nodes, {"x": (3, 4), "seen": (3, 4)}, FAR, seen=TensorProto.BOOL)
    seen = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]], bool)
    have, want, imported = answers(made, {"x": SCORES, "seen": seen})
    np.testing.assert_allclose(have, want, atol=1e-6)
    assert (have[1] == 0).all()
    # The model's number stays where it was, and everybody learns that it is minus infinity.
    assert [d.text(False) for d in imported.disclosed] == ["Equal: value -inf"]
    assert all(np.isfinite(a).all() for a in imported.constants.values())


def test_a_mask_that_is_padded():
    """The cache's further places are hidden, whatever the mask says of the others."""
    pads = {"pads": np.array([0, 1, 0, 2])}
    nodes = [
        node("Where", ["seen", "zero", "far"], ["short"]),
        node("Pad", ["short", "pads", "far"], ["mask"]),
        *SOFTMAX,
    ]
    inputs = {"x": (3, 7), "seen": (3, 4)}
    made = given(nodes, inputs, FAR | pads, seen=TensorProto.BOOL)
    seen = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]], bool)
    scores = np.random.default_rng(1).standard_normal((3, 7)).astype(F)
    have, want, _ = answers(made, {"x": scores, "seen": seen})
    np.testing.assert_allclose(have, want, atol=1e-6)
    assert (have[:, [0, 5, 6]] == 0).all()


def test_a_mask_of_numbers_is_never_minus_infinity():
    """What a client shares is finite: nothing is compared."""
    made = given(SOFTMAX, {"x": (3, 4), "mask": (3, 4)}, FAR)
    mask = np.random.default_rng(2).standard_normal((3, 4)).astype(F)
    have, want, imported = answers(made, {"x": SCORES, "mask": mask})
    np.testing.assert_allclose(have, want, atol=1e-6)
    kinds = {op.definition for op in imported.module.main.ops}
    assert not kinds & {tensor.Equal, tensor.Less, tensor.Where}


def test_a_constant_mask_is_decided_by_its_owner():
    seen = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]], bool)
    nodes = [node("Where", ["seen", "zero", "far"], ["mask"]), *SOFTMAX]
    made = given(nodes, {"x": (3, 4)}, FAR | {"seen": seen})
    have, want, imported = answers(made, {"x": SCORES})
    np.testing.assert_allclose(have, want, atol=1e-6)
    assert tensor.Less not in {op.definition for op in imported.module.main.ops}


def test_minus_infinity_elsewhere_is_refused():
    pads = {"pads": np.array([0, 1, 0, 1])}
    made = given([node("Pad", ["x", "pads", "far"], ["p"]), node("Relu", ["p"], ["y"])],
                 {"x": (3, 4)}, FAR | pads)  # fmt: skip
    with pytest.raises(MpccError, match="the constant far has elements that are not finite"):
        import_onnx(made.SerializeToString())
    # One that was computed is a weight like others, whatever it is.
    nodes = [node("Div", ["minus", "zero"], ["there"]), node("Equal", ["x", "there"], ["b"]),
             node("Cast", ["b"], ["y"], to=TensorProto.FLOAT)]  # fmt: skip
    made = given(nodes, {"x": (3, 4)}, FAR | {"minus": np.array(-1, F)})
    with pytest.raises(MpccError, match="not finite"):
        import_onnx(made.SerializeToString())
