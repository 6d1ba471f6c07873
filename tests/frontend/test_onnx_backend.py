"""ONNX's own operator tests (onnx.backend.test) for all operators that can be imported.

A case counts if its model has such operators only and an input of real numbers. Inputs of integers
and booleans become constants. Every case passes or is in EXCLUDED with the importer's reason.
"""

import warnings
from functools import cache

import numpy as np
import onnx

from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.frontend.onnx.loader import OPERATORS
from mpcc.ir.interp import real

_REASONS = {
    "its output mask is used": (
        "dropout_default_mask dropout_default_mask_ratio training_dropout_default_mask "
        "training_dropout_mask training_dropout_zero_ratio_mask"
    ),
    "training mode": ("training_dropout training_dropout_default training_dropout_zero_ratio"),
    "of a product of two computed matrices": ("gemm_all_attributes gemm_alpha"),
    "of a computed matrix": ("gemm_beta"),
    "a batch of matrices": ("matmul_1d_3d matmul_3d matmul_4d matmul_bcast"),
    "its output Indices is used": (
        "maxpool_with_argmax_2d_precomputed_pads maxpool_with_argmax_2d_precomputed_strides"
    ),
    "only two spatial axes": (
        "maxpool_1d_default maxpool_3d_default maxpool_3d_dilations "
        "maxpool_3d_dilations_use_ref_impl maxpool_3d_dilations_use_ref_impl_large"
    ),
    "dilated windows": ("maxpool_2d_dilations"),
    "dimensions must be positive": ("reshape_allowzero_reordered"),
    "is a constant of the model": (
        "shape shape_clip_end shape_clip_start shape_end_1 shape_end_negative_1 "
        "shape_example shape_start_1 shape_start_1_end_2 shape_start_1_end_negative_1 "
        "shape_start_greater_than_end shape_start_negative_1"
    ),
}
EXCLUDED = {f"test_{case}": reason for reason, names in _REASONS.items() for case in names.split()}
"""Case -> part of the reason that the importer gives."""


@cache
def cases():
    with warnings.catch_warnings():
        # The generators of other operators' cases divide by zero on purpose.
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        found = load_model_tests(kind="node")
    return {
        c.name: c
        for c in found
        if c.model is not None
        and {n.op_type for n in c.model.graph.node} <= OPERATORS.keys()
        and any(i.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for i in c.model.graph.input)
    }


def baked(case, data):
    """Bytes of the model with integer inputs as constants, and the real inputs."""
    made = onnx.ModelProto()
    made.CopyFrom(case.model)
    inputs = {}
    for info, array in zip(case.model.graph.input, data, strict=True):
        # A scalar operand of these operators is the value of a Pad or the ratio of a Dropout.
        scalar = np.ndim(array) == 0 and made.graph.node[0].op_type in ("Pad", "Dropout")
        if np.asarray(array).dtype == np.float32 and not scalar:
            inputs[info.name] = array
        else:
            made.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
    return made.SerializeToString(), inputs


def check(case) -> None:
    for data, want in case.data_sets:
        source, inputs = baked(case, data)
        imported = import_onnx(source)
        have = real.run(imported.module, imported.constants, inputs)
        for port, array in zip(imported.outputs, want, strict=True):
            assert have[port.name].shape == array.shape
            np.testing.assert_allclose(have[port.name], array, rtol=case.rtol, atol=1e-6)


def test_all_cases():
    passed, refused = set(), {}
    for name, case in cases().items():
        try:
            check(case)
            passed.add(name)
        except MpccError as error:
            refused[name] = str(error)
    for name, text in refused.items():
        assert name in EXCLUDED, f"{name}: {text}"
        assert EXCLUDED[name] in text
    assert passed | EXCLUDED.keys() == cases().keys()
    assert not passed & EXCLUDED.keys()
    assert len(passed) > 40
