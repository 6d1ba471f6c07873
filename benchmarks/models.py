"""The benchmark networks A, B and C, made on the spot with seeded weights.

They are the networks that the papers of this field time, under the names of Keller and Sun 2022: A
is SecureML's (Mohassel and Zhang 2017, 784-128-128-10), B is MiniONN's (Liu et al. 2017, two 5x5
convolutions with 16 channels each, 256-100-10), C is the "LeNet" of Chameleon, SecureNN and Falcon
(two 5x5 convolutions with 20 and 50 channels, 800-500-10). The weights are
He-initialised, not trained: time, bytes and rounds do not depend on their values.

Model bytes are a function of the seed alone, so that results of two runs speak of the same program.

As a command it measures pretrained models (:mod:`benchmarks.real_models`), and those of TensorFlow
(:mod:`benchmarks.keras_models`)::

    python -m benchmarks.models [--docs] [NAME ...]

With ``--docs`` their rows in docs/models.md are written anew; those of others stay.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.pages import DOCS, rewrite

__all__ = ["NETWORKS", "Network", "network_a", "network_b", "network_c", "sample_inputs"]

OPSET = 13
#: Written into the file instead of the installed onnx package's newest, for equal bytes.
IR_VERSION = 8
INPUT_NAME = "image"
OUTPUT_NAME = "logits"

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """One benchmark network.

    Attributes:
        name: "A", "B" or "C".
        description: its layers, for tables.
        model: ONNX, one input ``image`` and one output ``logits`` of shape ``[batch, 10]``.
        input_shape: with the batch first.
    """

    name: str
    description: str
    model: onnx.ModelProto
    input_shape: tuple[int, ...]

    def serialized(self) -> bytes:
        """The ONNX file: the same bytes for the same seed and batch."""
        return self.model.SerializeToString(deterministic=True)


class _Builder:
    """Adds nodes one after the other; every node takes the last one's output."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.value = INPUT_NAME

    def node(self, op: str, *operands: str, **attributes: Any) -> None:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, [self.value, *operands], [name], name=name, **attributes)
        )
        self.value = name

    def weight(self, name: str, shape: tuple[int, ...], fan_in: int) -> str:
        """He et al. 2015: normal with variance 2 / fan_in."""
        values = self.generator.standard_normal(shape, np.float32)
        values *= np.float32(np.sqrt(2.0 / fan_in))
        return self._constant(name, values)

    def bias(self, name: str, size: int) -> str:
        """Small and not zero, so that a forgotten bias shows in the result."""
        values = self.generator.uniform(-0.1, 0.1, size).astype(np.float32)
        return self._constant(name, values)

    def dense(self, inputs: int, outputs: int) -> None:
        number = len(self.weights) // 2 + 1
        weight = self.weight(f"w{number}", (outputs, inputs), inputs)
        self.node("Gemm", weight, self.bias(f"b{number}", outputs), transB=1)

    def conv(self, inputs: int, outputs: int, kernel: int) -> None:
        number = len(self.weights) // 2 + 1
        shape = (outputs, inputs, kernel, kernel)
        weight = self.weight(f"w{number}", shape, inputs * kernel * kernel)
        bias = self.bias(f"b{number}", outputs)
        self.node("Conv", weight, bias, kernel_shape=[kernel, kernel], strides=[1, 1])

    def relu(self) -> None:
        self.node("Relu")

    def maxpool(self) -> None:
        self.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])

    def flatten(self) -> None:
        self.node("Flatten", axis=1)

    def _constant(self, name: str, values: FloatArray) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def finish(self, name: str, description: str, input_shape: tuple[int, ...]) -> Network:
        self.nodes[-1].output[0] = OUTPUT_NAME
        graph = helper.make_graph(
            self.nodes,
            f"network_{name}",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, input_shape)],
            [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [input_shape[0], 10])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        model.producer_name = "mpcc-benchmarks"
        onnx.checker.check_model(model, full_check=True)
        return Network(name, description, model, input_shape)


def network_a(batch: int = 1, seed: int = 1) -> Network:
    """784-128-relu-128-relu-10 on ``[batch, 784]``."""
    build = _Builder(seed)
    build.dense(784, 128)
    build.relu()
    build.dense(128, 128)
    build.relu()
    build.dense(128, 10)
    return build.finish("A", "784-128-relu-128-relu-10", (batch, 784))


def _two_convolutions(
    name: str, first: int, second: int, hidden: int, batch: int, seed: int
) -> Network:
    build = _Builder(seed)
    for inputs, outputs in ((1, first), (first, second)):
        build.conv(inputs, outputs, 5)
        build.relu()
        build.maxpool()
    build.flatten()
    build.dense(16 * second, hidden)
    build.relu()
    build.dense(hidden, 10)
    description = f"conv{first}@5x5-relu-maxpool2-conv{second}@5x5-relu-maxpool2-{hidden}-relu-10"
    return build.finish(name, description, (batch, 1, 28, 28))


def network_b(batch: int = 1, seed: int = 1) -> Network:
    """Conv 16@5x5, relu, maxpool 2, conv 16@5x5, relu, maxpool 2, 256-100, relu, 10.

    On ``[batch, 1, 28, 28]``; ONNX is channels first.
    """
    return _two_convolutions("B", 16, 16, 100, batch, seed)


def network_c(batch: int = 1, seed: int = 1) -> Network:
    """Conv 20@5x5, relu, maxpool 2, conv 50@5x5, relu, maxpool 2, 800-500, relu, 10.

    On ``[batch, 1, 28, 28]``; ONNX is channels first.
    """
    return _two_convolutions("C", 20, 50, 500, batch, seed)


#: By name; each takes ``batch`` and ``seed``.
NETWORKS = {"A": network_a, "B": network_b, "C": network_c}


def sample_inputs(network: Network, count: int = 1, seed: int = 1) -> list[dict[str, FloatArray]]:
    """Inputs by name in [0, 1], a third of the pixels exactly 0, like digits on a dark ground."""
    generator = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        image = generator.random(network.input_shape, np.float32)
        image[generator.random(network.input_shape) < 1 / 3] = 0
        samples.append({INPUT_NAME: image})
    return samples


PAGE = DOCS / "models.md"


def write_rows(header: str, rows: Mapping[str, str], order: Sequence[str], page: Path) -> None:
    """Put rows of the table of models in their places in the documentation.

    Args:
        header: the table's first two lines.
        rows: lines by what stands in their first cell.
        order: first cells in the order of the table; of those without a row the line that is
            there stays, lines of any other are dropped.
        page: of Markdown.

    Raises:
        PageError: the place is missing.
    """

    def new(old: str) -> str:
        lines = [line for line in old.splitlines() if line.startswith("|")]
        kept = {line.split("|")[1].strip(): line for line in lines}
        kept.update(rows)
        return "\n".join((header, *(kept[name] for name in order if name in kept)))

    rewrite(page, "real models", new)


def main() -> None:
    """Measure pretrained models and print their table."""
    from benchmarks import keras_models, real_models

    parser = argparse.ArgumentParser(description="Measure pretrained models.")
    known = {**real_models.MODELS, **keras_models.MODELS}
    parser.add_argument("names", nargs="*", help=f"of {', '.join(known)}; all")
    parser.add_argument("--docs", action="store_true", help="write the rows to docs/models.md")
    given = parser.parse_args()
    unknown = set(given.names) - set(known)
    if unknown:
        parser.error(f"no model {', '.join(unknown)}")
    found = []
    for name in given.names or known:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        found.append(real_models.measure(known[name]))
        if given.docs:
            rows = {found[-1].model.name: found[-1].row()}
            write_rows(real_models.HEADER, rows, [m.name for m in known.values()], PAGE)
    print(real_models.table(found))


if __name__ == "__main__":
    main()
