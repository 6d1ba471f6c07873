"""Measures what units of local work and messages take on this machine (``mpcc bench --calibrate``).

Small programs run between three local processes with a trace. Times of operations give the
seconds per unit of work by :func:`mpcc.cost.speed.fit`; what a message costs is taken from the
whole runs: those values whose predicted times (:func:`mpcc.cost.timeline.timeline`) are nearest.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from mpcc import api
from mpcc.cost import PROFILES
from mpcc.cost.speed import Speeds, cache_file, fit, processor
from mpcc.cost.timeline import Workload, timeline
from mpcc.cost.work import Work, work_of
from mpcc.emit.graphdef import parse
from mpcc.files import atomic_write
from mpcc.ir.core import Module
from mpcc.ir.phi import FormatOptions
from mpcc.options import CompileOptions

__all__ = ["PROGRAMS", "calibrate"]

Array = npt.NDArray[Any]

_RUNS = 8
_WARM = 2
"""First runs touch memory for the first time."""

_PARTIES = 3

_TRIED: Mapping[str, tuple[float, ...]] = {
    unit: tuple(float(v) for v in np.geomspace(lo, hi, 16))
    for unit, lo, hi in (
        ("message", 0.5e-6, 50e-6),
        ("wake", 2e-6, 200e-6),
        ("payload", 0.1e-9, 4e-9),
    )
}
"""Seconds that are tried, from the least to the largest that a machine may take."""


# --- the programs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Program:
    """A layer or two, as ONNX nodes from x to y, in formats that are declared.

    Attributes:
        shape: of x.
        nodes: (operator, weight shapes, attributes), each taking the result of the one before.
        ring: 32 or 64.
    """

    shape: tuple[int, ...]
    nodes: tuple[tuple[str, tuple[tuple[int, ...], ...], Mapping[str, Any]], ...]
    ring: int = 64

    def model(self) -> bytes:
        """The ONNX file."""
        rng = np.random.default_rng(0)
        nodes, weights, last = [], [], "x"
        for i, (operator, shapes, attrs) in enumerate(self.nodes):
            names = [f"w{i}_{j}" for j in range(len(shapes))]
            for name, shape in zip(names, shapes, strict=True):
                array = rng.uniform(-0.1, 0.1, shape).astype(np.float32)
                weights.append(numpy_helper.from_array(array, name))
            given = [last, *names] if operator != "Mul" else [last, last]
            last = "y" if i == len(self.nodes) - 1 else f"v{i}"
            nodes.append(helper.make_node(operator, given, [last], **attrs))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "calibration", [x], [y], weights)
        opset = [helper.make_opsetid("", 20)]
        file: bytes = helper.make_model(
            graph, opset_imports=opset, ir_version=9
        ).SerializeToString()
        return file


_RELU: tuple[str, tuple[tuple[int, ...], ...], Mapping[str, Any]] = ("Relu", (), {})
_POOL = ("MaxPool", (), {"kernel_shape": [2, 2], "strides": [2, 2]})

PROGRAMS: Mapping[str, _Program] = {
    "dense, batch 1": _Program(
        (1, 512), (("Gemm", ((512, 256),), {}), _RELU, ("Gemm", ((256, 64),), {}), _RELU)
    ),
    "dense, batch 64": _Program(
        (64, 512), (("Gemm", ((512, 256),), {}), _RELU, ("Gemm", ((256, 64),), {}))
    ),
    "convolutions": _Program(
        (8, 3, 32, 32),
        (
            ("Conv", ((16, 3, 5, 5),), {"pads": [2, 2, 2, 2]}),
            _RELU,
            _POOL,
            ("Conv", ((32, 16, 3, 3),), {"pads": [1, 1, 1, 1]}),
            _RELU,
        ),
    ),
    "convolutions, 32 bits": _Program(
        (8, 3, 32, 32), (("Conv", ((16, 3, 5, 5),), {"pads": [2, 2, 2, 2]}), _RELU, _POOL), 32
    ),
    "relu": _Program((200_000,), (_RELU,)),
    "products": _Program((200_000,), (("Mul", (), {}),)),
    "softmax": _Program((64, 64), (("Softmax", (), {"axis": -1}),)),
    "gelu": _Program((64, 128), (("Gelu", (), {}),)),
}
"""What is run, by name."""


# --- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """One program, its operations with their times, and the time of a run."""

    workload: Workload
    samples: list[tuple[Work, float]]
    seconds: float


def _operations(trace: Mapping[str, Any], module: Module) -> list[tuple[Work, float]]:
    """(work, median seconds) of every operation of a party's runs."""
    times: dict[tuple[int, int], list[float]] = {}
    for event in trace["traceEvents"]:
        args = event.get("args", {})
        if event.get("cat") == "compute" and event["pid"] < _PARTIES and args["run"] >= _WARM:
            times.setdefault((event["pid"], args["op"]), []).append(event["dur"] * 1e-6)
    found = [
        (work_of(module.main.ops[op]), statistics.median(seconds))
        for (_, op), seconds in times.items()
    ]
    return [(work, seconds) for work, seconds in found if work and seconds > 0]


def _measure(program: _Program) -> _Measured:
    formats = FormatOptions(
        disclose="none",
        fraction_bits=10 if program.ring == 64 else 8,
        value_range=64.0,
        weight_range=0.5,
        input_ranges={"x": (-4.0, 4.0)},
        # Formats are declared here: how exact they are is no matter.
        max_error=1.0,
        ring=program.ring,
    )
    compiled = api.compile(program.model(), options=CompileOptions(formats=formats, local="none"))
    x = np.random.default_rng(1).uniform(-2.0, 2.0, program.shape).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="mpcc-calibrate-") as directory:
        path = Path(directory) / "trace.json"
        with api.Session(compiled.artifact, compiled.weights, trace=path) as session:
            runs = [session.run({"x": x}) for _ in range(_RUNS)]
            online = session.statistics(runs)["online_seconds"]
        trace = json.loads(path.read_text())
    module = parse(compiled.artifact.program)
    return _Measured(
        Workload.of(module), _operations(trace, module), statistics.median(online[_WARM:])
    )


def _messages(measured: list[_Measured], speeds: Mapping[str, float], cores: int) -> Speeds:
    """The speeds with those costs of messages that explain whole runs best.

    One cost after the other is set to the best of its list, until none changes.
    """

    def distance(seconds: Mapping[str, float]) -> float:
        made = Speeds(processor(), seconds)
        found = [
            math.log(timeline(m.workload, made, PROFILES["none"], cores).seconds / m.seconds)
            for m in measured
        ]
        return sum(x * x for x in found)

    best = {**speeds, **{unit: values[0] for unit, values in _TRIED.items()}}
    least = math.inf
    while True:
        before = least
        for unit, values in _TRIED.items():
            tried = [{**best, unit: value} for value in values]
            distances = [distance(t) for t in tried]
            if min(distances) < least:
                least = min(distances)
                best = tried[distances.index(least)]
        if least >= before:
            return Speeds(processor(), best)


def calibrate(progress: Callable[[str], None] = lambda step: None) -> tuple[Speeds, Path]:
    """Measure this machine and keep the result for this processor; takes about a minute.

    Other load on the machine makes everything look slower than it is.

    Args:
        progress: told the name of each step.

    Returns:
        The speeds, and the file that they were written to.

    Raises:
        MpccError: a run failed, or the file cannot be written.
    """
    measured = []
    for name, program in PROGRAMS.items():
        progress(name)
        measured.append(_measure(program))
    progress("fitting")
    speeds = fit([sample for m in measured for sample in m.samples])
    found = _messages(measured, speeds, len(os.sched_getaffinity(0)))
    path = cache_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(found.to_json().encode())
    return found, path
