"""Models from file to file, and the command line as a process and in this one."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.models import INPUT_NAME, NETWORKS, sample_inputs
from examples.blazeface import model as blazeface
from examples.blazeface.prepare import prepare
from mpcc import cli

Arrays = dict[str, npt.NDArray[Any]]

MODELS = ["A", "C", pytest.param("blazeface", marks=pytest.mark.slow)]
ENGINES = ["native", "party-interpreter"]


@dataclass(frozen=True)
class Source:
    """A model with data, before compilation.

    Attributes:
        model: the ONNX file.
        data: one input, as ``--input`` takes it.
        calibration: samples, as ``--calibrate`` takes them.
        interval: of the input, as ``--input-range`` takes it.
    """

    name: str
    model: Path
    data: Path
    calibration: Path
    interval: str

    @property
    def inputs(self) -> Arrays:
        """The arrays of :attr:`data`."""
        return arrays(self.data)

    @property
    def options(self) -> list[str]:
        """Options of `mpcc compile`: A is proved, the others are observed."""
        ranges = ["--input-range", self.interval]
        return ranges if self.name == "A" else [*ranges, "--calibrate", str(self.calibration)]


@dataclass(frozen=True)
class Compiled:
    """What `mpcc compile` wrote and said."""

    source: Source
    artifact: Path
    said: subprocess.CompletedProcess[str]

    @property
    def weights(self) -> Path:
        """The weights file beside the artifact."""
        return self.artifact.with_suffix(".weights")

    @property
    def private(self) -> Path:
        """The private report beside the artifact."""
        return self.artifact.with_suffix(".private.json")


def arrays(path: Path) -> Arrays:
    """All arrays of a .npz file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def make_source(name: str, folder: Path) -> Source:
    """Writes one of :data:`MODELS` with its data."""
    if name == "blazeface":
        files = prepare(folder)
        interval = f"{blazeface.INPUT_NAME}=-1:1"
        return Source(name, files.model, files.image, files.calibration, interval)
    network = NETWORKS[name]()
    source = Source(
        name,
        folder / f"{name}.onnx",
        folder / f"{name}.npz",
        folder / f"{name}-calibration.npz",
        f"{INPUT_NAME}=0:1",
    )
    source.model.write_bytes(network.serialized())
    first, *others = sample_inputs(network, 4)
    np.savez(source.data, image=first[INPUT_NAME])
    np.savez(source.calibration, image=np.concatenate([x[INPUT_NAME] for x in others]))
    return source


def mpcc(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Calls mpcc as a process with a wide terminal; fails on a traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "mpcc", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
        **options,
    )
    assert "Traceback" not in result.stderr
    return result


@dataclass(frozen=True)
class Said:
    """Exit code and words of a command."""

    code: int
    out: str
    err: str


def call(*arguments: str | Path) -> Said:
    """Calls the command line in this process. An exception other than an exit passes through."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        mock.patch.object(sys, "argv", ["mpcc", *map(str, arguments)]),
        mock.patch.dict(os.environ, {"COLUMNS": "200"}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = 0 if end.code is None else end.code
    return Said(int(code), out.getvalue(), err.getvalue())


Compile = Callable[[str], Compiled]
"""Compiles one of :data:`MODELS` by name, once per test session."""
