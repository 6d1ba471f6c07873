"""Writes the artifacts of the present format into ``tests/corpus/artifacts/<format>/``.

``python -m tests.corpus.make_artifacts``, once for every version of the format, when it is final;
a folder that exists is never written again, so that old files stay what an old mpcc wrote. What
must happen to the files of each version stands in ``tests/corpus/artifacts/outcomes.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from mpcc import api, compiler
from mpcc.artifact import FORMAT
from mpcc.ir.phi import FormatOptions

ARTIFACTS = Path(__file__).parent / "artifacts"


def tiny_conv() -> bytes:
    """Conv, ReLU, maximum pooling, dense: an ONNX file of 2x6x6 inputs."""
    rng = np.random.default_rng(4)
    weights = {
        "k": rng.uniform(-1, 1, (3, 2, 3, 3)),
        "b": rng.uniform(-1, 1, 3),
        "d": rng.uniform(-1, 1, (27, 4)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return bytes(model.SerializeToString(deterministic=True))


def tiny_rnn() -> bytes:
    """An RNN whose steps are functions where all that repeats is: an ONNX file of 8 steps of 2."""
    rng = np.random.default_rng(5)
    weights = {
        "w": rng.uniform(-0.5, 0.5, (1, 3, 2)),
        "r": rng.uniform(-0.5, 0.5, (1, 3, 3)),
    }
    graph = helper.make_graph(
        [helper.make_node("RNN", ["x", "w", "r"], ["", "y"], hidden_size=3)],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 3])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return bytes(model.SerializeToString(deterministic=True))


def rnn_input() -> dict[str, npt.NDArray[np.float32]]:
    """An input of :func:`tiny_rnn`, whose answer stands in ``rnn.npy``."""
    return {"x": np.linspace(-1, 1, 16, dtype=np.float32).reshape(8, 1, 2)}


def conv_input() -> dict[str, npt.NDArray[np.float32]]:
    """An input of :func:`tiny_conv`, whose answer stands in ``conv.npy``."""
    return {"x": np.linspace(-1, 1, 72, dtype=np.float32).reshape(1, 2, 6, 6)}


INPUTS: Mapping[str, Callable[[], dict[str, npt.NDArray[np.float32]]]] = {
    "conv": conv_input,
    "rnn": rnn_input,
}
"""By the name of the file whose answer is kept."""


def main() -> int:
    """Write the folder; returns the exit code."""
    folder = ARTIFACTS / str(FORMAT)
    if folder.exists():
        sys.stderr.write(f"{folder} exists; files of a version are written once\n")
        return 1
    folder.mkdir(parents=True)
    # Of the present format is what calls functions: with any size of models, this one does.
    compiler.MOST_WRITTEN_OUT = 0
    ranges = FormatOptions(input_ranges={"x": (-1, 1)})
    compiled = api.compile(tiny_rnn(), options=api.CompileOptions(formats=ranges))
    compiled.save(folder / "rnn.mpcc")
    (folder / "rnn.private.json").unlink()
    answer = api.simulate(compiled.artifact, compiled.weights, rnn_input(), rounding="floor")
    np.save(folder / "rnn.npy", answer.outputs["y"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
