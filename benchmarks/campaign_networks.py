"""Small networks to attack: each is a tensor module, its weights, and the range of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from benchmarks import models
from benchmarks.campaign_runs import Subject, formatted
from mpcc.frontend.onnx.loader import import_onnx
from mpcc.ir.core import Module
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.ops import tensor
from mpcc.passes import pipeline
from mpcc.passes.base import Checkpoint, Manager

__all__ = ["NETWORKS", "network"]

Array = npt.NDArray[Any]

_OPSET, _IR_VERSION = 17, 8
_FRAC, _WEIGHT_FRAC = 10, 10

LIMIT = 4.0
"""Inputs are within this."""

ENFORCED = 4096.0
"""Under ``guarded`` inputs are let in up to this: networks clamp what is beyond the samples."""


def _graph(
    nodes: list[onnx.NodeProto], weights: Mapping[str, Array], shape: tuple[int, ...]
) -> bytes:
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", floats, shape)],
        [helper.make_tensor_value_info("y", floats, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    opset = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION).SerializeToString()


def _random(*shape: int) -> Array:
    rng = np.random.default_rng(shape)
    return rng.normal(0, 1 / np.sqrt(shape[0]), shape).astype(np.float32)


def _residual(lanes: int) -> bytes:
    """Two convolutions beside the identity, twice."""
    nodes, x = [], "x"
    for n in "ab":
        nodes += [
            helper.make_node("Conv", [x, f"v{n}", f"c{n}"], [f"h{n}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"h{n}"], [f"r{n}"]),
            helper.make_node("Conv", [f"r{n}", f"w{n}"], [f"g{n}"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", [x, f"g{n}"], [f"s{n}"]),
            helper.make_node("Relu", [f"s{n}"], [f"x{n}"]),
        ]
        x = f"x{n}"
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["y"]))
    weights = {f"{k}{n}": _random(4, 4, 3, 3) * 0.7 for n in "ab" for k in "vw"}
    weights |= {f"c{n}": _random(4) for n in "ab"}
    return _graph(nodes, weights, (lanes, 4, 6, 6))


def _softmax(lanes: int) -> bytes:
    """A dense layer with a softmax."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=-1),
    ]
    return _graph(nodes, {"w": _random(16, 10) * 3, "b": _random(10)}, (lanes, 16))


def _attention(lanes: int) -> bytes:
    """One head over six positions of eight numbers."""
    nodes = [helper.make_node("MatMul", ["x", f"w{n}"], [n]) for n in "qkv"]
    nodes += [
        helper.make_node("Transpose", ["k"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
    ]
    return _graph(nodes, {f"w{n}": _random(8, 8) for n in "qkv"}, (lanes, 6, 8))


def _layer_norm(lanes: int) -> bytes:
    """A residual layer with GELU, normalised."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "s", "b"], ["n"], epsilon=1e-5),
        helper.make_node("MatMul", ["n", "w"], ["h"]),
        helper.make_node("Mul", ["h", "half"], ["i"]),
        helper.make_node("Div", ["h", "root"], ["j"]),
        helper.make_node("Erf", ["j"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["f"]),
        helper.make_node("Mul", ["i", "f"], ["g"]),
        helper.make_node("Add", ["g", "x"], ["r"]),
        helper.make_node("LayerNormalization", ["r", "s", "b"], ["y"], epsilon=1e-5),
    ]
    weights = {"s": 1 + _random(24), "b": _random(24, 1)[:, 0], "w": _random(24, 24)}
    weights |= {"half": np.float32(0.5), "one": np.float32(1), "root": np.float32(2**0.5)}
    return _graph(nodes, weights, (lanes, 24))


def _lstm(lanes: int) -> bytes:
    """Four steps over rows of five numbers, eight of state."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r", "b"], ["", "h"], hidden_size=8),
        helper.make_node("Squeeze", ["h", "axes"], ["y"]),
    ]
    weights = {"w": _random(32, 5)[None] * 3, "r": _random(32, 8)[None] * 3}
    weights |= {"b": _random(64)[None], "axes": np.array([0])}
    return _graph(nodes, weights, (lanes, 4, 5))


NETWORKS: Mapping[str, tuple[Callable[[int], bytes], int]] = {
    "A": (lambda lanes: models.NETWORKS["A"](lanes).serialized(), 8),
    "B": (lambda lanes: models.NETWORKS["B"](lanes).serialized(), 4),
    "residual": (_residual, 64),
    "softmax": (_softmax, 512),
    "attention": (_attention, 128),
    "layer norm": (_layer_norm, 256),
    "lstm": (_lstm, 128),
}
"""Name -> (model of a batch, rows of a batch)."""


def network(name: str, policy: str, lanes: int | None = None) -> Subject:
    """A network in formats of 10 fraction bits.

    Raises:
        MpccError, NoFitError: it does not fit them.
    """
    made, most = NETWORKS[name]
    imported = import_onnx(made(lanes or most))
    checkpoint = Checkpoint(DIALECTS)
    module: Module = Manager(pipeline.TENSOR, checkpoint).run(imported.module)
    constants = checkpoint.constants(imported.constants)
    inputs = {op.attrs["name"]: op.attrs["shape"] for op in module.main.walk(tensor.Input.name)}
    rng = np.random.default_rng(7)
    samples = []
    if policy == "guarded":
        samples = [{n: rng.uniform(-1, 1, s) for n, s in inputs.items()}]
    limit = ENFORCED if policy == "guarded" else LIMIT
    limits = dict.fromkeys(inputs, (-limit, limit))
    return formatted(module, constants, limits, _FRAC, _WEIGHT_FRAC, policy, samples)
