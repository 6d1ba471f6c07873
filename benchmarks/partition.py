"""What owners save by computing before they share: ``python -m benchmarks.partition``.

Two models, each compiled with ``--local none`` and ``--local auto``: a classifier of texts whose
table of embeddings is public (the rest is the model owner's secret), and a network for pictures
that looks at a cut-out of a large one, at half the resolution. Bytes and rounds are exact, over all
links; they need no run and do not depend on the machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from mpcc import api
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions

__all__ = ["CASES", "Case", "Saved", "crop_model", "main", "saved", "token_model"]

OPSET = 17


def _model(
    nodes: list[onnx.NodeProto],
    given: onnx.ValueInfoProto,
    result: tuple[str, list[int]],
    weights: Mapping[str, np.ndarray],
) -> bytes:
    arrays = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    output = helper.make_tensor_value_info(result[0], TensorProto.FLOAT, result[1])
    graph = helper.make_graph(nodes, "partition", [given], [output], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def token_model(
    rows: int = 4096, width: int = 64, tokens: int = 32, prepared: bool = False
) -> bytes:
    """Tokens' embeddings, their sum, two dense layers.

    Args:
        rows: of the table ``table``.
        width: of a row.
        tokens: numbers in the input ``ids``.
        prepared: whether the model begins with the sum, as the input ``client.0``.
    """
    weights = {
        "table": _random(1, (rows, width)),
        "one": np.asarray([1], np.int64),
        "a": _random(2, (width, 32)),
        "b": _random(3, (32, 4)),
    }
    total = "client.0" if prepared else "sum"
    nodes = [
        helper.make_node("MatMul", [total, "a"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "b"], ["y"]),
    ]
    given = helper.make_tensor_value_info(total, TensorProto.FLOAT, [1, width])
    if prepared:
        del weights["table"], weights["one"]
    else:
        nodes[:0] = [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("ReduceSum", ["rows", "one"], ["sum"], keepdims=0),
        ]
        given = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, tokens])
    return _model(nodes, given, ("y", [1, 4]), weights)


def _random(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Weights that keep the size of what they are multiplied with, roughly."""
    scale = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * np.float32(scale)


def crop_model(size: int = 256, crop: int = 64, prepared: bool = False) -> bytes:
    """A cut-out of a picture, pooled, then a convolution, a pooling and a dense layer.

    Args:
        size: of the picture ``x`` [1, 3, size, size].
        crop: of the cut-out in its middle.
        prepared: whether the model begins behind the first pooling, with the input ``client.0``.
    """
    half, first = crop // 2, (size - crop) // 2
    flat = 8 * (half // 2) ** 2
    weights = {
        "k": _random(4, (8, 3, 3, 3)),
        "d": _random(5, (flat, 10)),
    }
    small = "client.0" if prepared else "small"
    nodes = [
        helper.make_node("Conv", [small, "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["y"]),
    ]
    shape = [1, 3, half, half] if prepared else [1, 3, size, size]
    name = small if prepared else "x"
    if not prepared:
        ends = {"s": [first] * 2, "e": [first + crop] * 2, "axes": [2, 3]}
        weights.update({n: np.asarray(v, np.int64) for n, v in ends.items()})
        nodes[:0] = [
            helper.make_node("Slice", ["x", "s", "e", "axes"], ["cut"]),
            helper.make_node("MaxPool", ["cut"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
        ]
    given = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    return _model(nodes, given, ("y", [1, 10]), weights)


@dataclass(frozen=True)
class Case:
    """A model and how it is compiled."""

    title: str
    model: bytes = field(repr=False)
    owners: Mapping[str, str]
    ranges: Mapping[str, tuple[float, float]]

    def compiled(self, local: str) -> api.Compiled:
        """The program, with or without what owners compute themselves."""
        formats = FormatOptions(input_ranges=self.ranges)
        options = CompileOptions(owners=self.owners, formats=formats, local=local)
        return api.compile(self.model, options=options)


def _cases() -> dict[str, Case]:
    return {
        "tokens": Case("public table of embeddings", token_model(), {"table": "public"}, {}),
        "crop": Case("cut-out of a large picture", crop_model(), {}, {"x": (0.0, 1.0)}),
    }


CASES = tuple(_cases())
"""Names of the models."""


@dataclass(frozen=True)
class Saved:
    """Bytes of a run over all links, and rounds, of one model without and with own computing."""

    title: str
    bytes: tuple[int, int]
    rounds: tuple[int, int]

    @property
    def ratio(self) -> float:
        """How many times fewer bytes."""
        return self.bytes[0] / self.bytes[1]


def saved(case: Case) -> Saved:
    """Compile a model both ways."""
    costs = [case.compiled(local).cost.cost for local in ("none", "auto")]
    figures = [cost.to_json([]) for cost in costs]
    sent = [sum(figure["bytes_sent"].values()) for figure in figures]
    return Saved(case.title, (sent[0], sent[1]), (figures[0]["rounds"], figures[1]["rounds"]))


def main(argv: list[str]) -> int:
    """Print the table; the exit code is 1 if a model saves less than half of its bytes."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.partition")
    made.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    chosen = made.parse_args(argv).cases or CASES
    table = Table("model", "bytes, none", "bytes, auto", "times fewer", "rounds")
    rows = [saved(case) for name, case in _cases().items() if name in chosen]
    for row in rows:
        rounds = f"{row.rounds[0]} -> {row.rounds[1]}"
        table.add_row(row.title, *map(str, row.bytes), f"{row.ratio:.1f}", rounds)
    Console().print(table)
    return int(any(row.ratio < 2 for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
