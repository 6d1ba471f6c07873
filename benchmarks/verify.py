"""Times the leak checker on programs of growing size, up to ResNet-50 at 224x224.

``python -m benchmarks.verify [--plot FILE.svg] [LAYERS ...]`` prints one row per program: matmul,
truncation and ReLU repeated LAYERS times, then networks of the shape of ResNet-26, -50 and -101,
then the ResNet-50 graph of the ``onnx`` package without its Softmax (``--real``: this one alone).
``verify`` is all that ``mpcc verify`` does after loading the file: decoding, rules a to e for five
observers, lowering both levels again, cost and formats. ``build`` is all of compilation but the
model owner's simulation of the accuracy, in formats that are declared: weights are never looked at.
Processor seconds. Time per op shows how near to linear it is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import onnx
import onnx.backend.test

from benchmarks.resnet import DEPTHS as RESNETS
from benchmarks.resnet import INPUT_NAME, resnet
from mpcc.artifact import Artifact
from mpcc.emit.graphdef import emit
from mpcc.errors import MpccError
from mpcc.frontend import import_onnx
from mpcc.ir.core import Module
from mpcc.ir.ops import tensor
from mpcc.ir.phi import FormatOptions
from mpcc.passes import pipeline
from mpcc.passes.base import Manager
from mpcc.passes.declared_formats import declared_phi
from mpcc.protocols import Rep3, lower_program
from mpcc.verify_program import verify_artifact
from mpcc.verify_program.derived import cost_of, outputs_of

__all__ = ["DEPTHS", "REAL", "Row", "main", "measure", "plot", "real_resnet50"]

DEPTHS = (10, 40, 160, 320)
FORMATS = FormatOptions(disclose="none", value_range=64.0)

REAL = "real R-50"
"""Name of the row of :func:`real_resnet50`."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Row:
    """One program.

    Attributes:
        name: the network.
        ops: local ops and messages that the checker looked at.
        layers: labelled layers of the program.
        build: seconds, reading the ONNX file included where there is one.
        verify: seconds.
    """

    name: str
    ops: int
    layers: int
    build: float
    verify: float


def _timed(action: Callable[[], Result]) -> tuple[Result, float]:
    start = time.process_time()
    result = action()
    return result, time.process_time() - start


def _deep(layers: int) -> Module:
    """Matmul and ReLU, over and over, as tensor IR."""
    module = Module("tensor")
    add = module.main.append
    x = add(tensor.Input, [], {"name": INPUT_NAME, "shape": (1, 4)}).result
    w = add(tensor.Weight, [], {"name": "w", "shape": (4, 4)}).result
    for i in range(layers):
        x = add(tensor.MatMul, [x, w], {}, f"dense_{i}").result
        x = add(tensor.Relu, [x], {}, f"relu_{i}").result
    add(tensor.Output, [x], {"name": "y"})
    return module


def real_resnet50() -> onnx.ModelProto:
    """The graph of a trained ResNet-50 (opset 9), up to its logits.

    It lies in the ``onnx`` package without its weights: each is one number, repeated.

    Raises:
        MpccError: this version of the package has no such file.
    """
    path = Path(onnx.backend.test.__file__).parent / "data" / "light" / "light_resnet50.onnx"
    if not path.is_file():
        raise MpccError.of("E-file-missing", "the onnx package has no such model", str(path))
    model = onnx.load(path)
    last = model.graph.node.pop()
    if last.op_type != "Softmax":
        raise MpccError.of("E-file-format", "the model does not end in a Softmax", str(path))
    model.graph.output[0].name = last.input[0]
    return model


def _build(module: Module) -> Artifact:
    module = Manager(pipeline.TENSOR).run(module)
    (name,) = (op.attrs["name"] for op in module.main.walk(tensor.Input.name))
    formats = replace(FORMATS, input_ranges={name: (-1, 1)})
    phi = declared_phi(module, formats)
    public = Manager(pipeline.PUBLISH).run(module)
    secure = Manager(pipeline.to_secure(phi, formats)).run(public)
    party = Manager(pipeline.to_party(lambda m: lower_program(m, Rep3()).party)).run(secure)
    return Artifact.create(
        tensor_module=public,
        secure_module=secure,
        program=emit(party),
        protocol="rep3",
        phi=phi.public(),
        formats=formats.public(),
        inputs=[op.attrs for op in secure.main.walk("secure.input")],
        outputs=outputs_of(public),
        cost=cost_of(party),
        version="0",
    )


def measure(name: str, module: Callable[[], Module]) -> Row:
    """Build and check one program; a program that is refused raises."""
    artifact, build = _timed(lambda: _build(module()))
    loaded = Artifact.from_bytes(artifact.to_bytes())
    report, seconds = _timed(lambda: verify_artifact(loaded))
    if not report.accepted:
        raise RuntimeError(f"a good program was refused: {report.all_problems[0]}")
    return Row(name, report.ops, len(loaded.cost["ops"]), build, seconds)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Seconds against ops, both axes logarithmic, with a line of constant time per op."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "mpcc"
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    figure, axes = plt.subplots(figsize=(6.4, 4))
    deep = [r for r in rows if r.name.startswith("dense")]
    nets = [r for r in rows if r not in deep]
    axes.plot([r.ops for r in deep], [r.verify for r in deep], "o-", label="dense + ReLU, repeated")
    axes.plot([r.ops for r in nets], [r.verify for r in nets], "s", label="networks, 224 x 224")
    for r in nets:
        axes.annotate(r.name, (r.ops, r.verify), textcoords="offset points", xytext=(6, -10))
    ops = sorted(r.ops for r in rows)
    each = sorted(r.verify / r.ops for r in rows)[len(rows) // 2]
    ends = [ops[0], ops[-1]]
    axes.plot(ends, [each * n for n in ends], ":", label=f"{each * 1e6:.0f} µs per op")
    axes.set(xscale="log", yscale="log", xlabel="ops of the opened program", ylabel="seconds")
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_title("mpcc verify, one core")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(argv: list[str]) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify")
    parser.add_argument("layers", nargs="*", type=int, default=list(DEPTHS))
    parser.add_argument("--resnet", nargs="*", type=int, default=sorted(RESNETS))
    parser.add_argument("--real", action="store_true", help="only the real graph")
    parser.add_argument("--plot", type=Path, help="write a picture, .svg or .png")
    options = parser.parse_args(argv)
    print(f"{'program':>12} {'ops':>8} {'layers':>7} {'build s':>8} {'verify s':>9} {'us/op':>7}")
    rows = []
    tasks: list[tuple[str, Callable[[], Module]]] = [
        (f"dense x {n}", lambda n=n: _deep(n))  # type: ignore[misc]
        for n in options.layers
    ]
    tasks += [
        (f"ResNet-{n}", lambda n=n: import_onnx(resnet(n)).module)  # type: ignore[misc]
        for n in options.resnet
    ]
    real = (REAL, lambda: import_onnx(real_resnet50().SerializeToString()).module)
    tasks = [real] if options.real else [*tasks, real]
    for name, module in tasks:
        row = measure(name, module)
        rows.append(row)
        each = 1e6 * row.verify / row.ops
        print(
            f"{row.name:>12} {row.ops:8} {row.layers:7} {row.build:8.2f} {row.verify:9.2f} "
            f"{each:7.0f}",
            flush=True,
        )
    if options.plot is not None and not options.real:
        plot(rows, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
