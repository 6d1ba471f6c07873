"""Small ONNX models for the importer's tests."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Sizes, names of open dimensions, or None for open ones without a name.
Shape: TypeAlias = Sequence[int | str | None]

#: IR version for all; old enough for every onnxruntime, new enough for opset 21.
IR_VERSION = 10


def infos(arrays: Mapping[str, np.ndarray | Shape]) -> list[onnx.ValueInfoProto]:
    """Float inputs or outputs; a sequence is a shape, whose strings are open dimensions."""
    shapes = {k: v.shape if isinstance(v, np.ndarray) else v for k, v in arrays.items()}
    return [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in shapes.items()]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray | Shape],
    outputs: Sequence[str] | Mapping[str, int] = ("y",),
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 13,
    domains: Sequence[str] = (),
    types: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model; outputs have no declared shape, or that many open dimensions.

    They are of floats, unless ``types`` says otherwise.
    """
    ranks = outputs if isinstance(outputs, Mapping) else {}
    graph = helper.make_graph(
        list(nodes),
        "g",
        infos(inputs),
        [
            helper.make_tensor_value_info(
                o,
                (types or {}).get(o, TensorProto.FLOAT),
                [None] * ranks[o] if o in ranks else None,
            )
            for o in outputs
        ],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    made = helper.make_model(graph, opset_imports=opsets)
    made.ir_version = IR_VERSION
    return made


node = helper.make_node
